//! Compares what the API says with what the sources know.

use crate::programs::Site;
use crate::sources::{NODES, Sent};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shared::reading::Timestamp;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long the backlog may take to arrive.
const ARRIVES_WITHIN: Duration = Duration::from_secs(120);

/// Waits until everything has arrived, then looks for what is too much.
///
/// # Errors
/// With what is missing, altered, doubled or made up.
pub(crate) async fn judge(site: &mut Site, sent: &Sent) -> Result<()> {
    let until = Instant::now() + ARRIVES_WITHIN;
    let mut missing = usize::MAX;
    while missing > 0 {
        if Instant::now() > until {
            return tell_missing(site, sent).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let Ok(counts) = missing_of(site, sent).await else { continue };
        missing = counts;
    }
    for node in NODES {
        let (stored, sent) = (history(site, node, "flow_rate").await?, &sent.mqtt[node]);
        ensure!(stored.len() == sent.len(), "{node}: {} readings are stored, {} were sent", stored.len(), sent.len());
    }
    let counted = history(site, "PUMP_001", "total_volume").await?;
    let values: Vec<u32> = counted.values().map(|value| *value as u32).collect();
    ensure!(values.windows(2).all(|w| w[0] < w[1]), "polled values are doubled or out of order");
    let said = sent.polled();
    let unread: Vec<&u32> = values.iter().filter(|value| !said.contains(value)).collect();
    ensure!(unread.is_empty(), "stored, but the device never said so: {unread:?}");
    ensure!(!values.is_empty(), "nothing polled was stored");
    println!("stored, each once: {} MQTT values; {} of {} polled ones", sent.count(), values.len(), said.len());
    Ok(())
}

async fn missing_of(site: &Site, sent: &Sent) -> Result<usize> {
    let mut missing = 0;
    for node in NODES {
        let stored = history(site, node, "flow_rate").await?;
        missing += sent.mqtt[node].iter().filter(|(at, value)| stored.get(*at) != Some(*value)).count();
    }
    Ok(missing)
}

async fn tell_missing(site: &Site, sent: &Sent) -> Result<()> {
    for node in NODES {
        let stored = history(site, node, "flow_rate").await?;
        let lost: Vec<_> = sent.mqtt[node].iter().filter(|(at, v)| stored.get(*at) != Some(*v)).collect();
        ensure!(
            lost.is_empty(),
            "{node}: {} acknowledged values are missing, the first at {:?}",
            lost.len(),
            lost.first()
        );
    }
    Ok(())
}

/// All readings of a series that have a value. `metric` may be followed by a channel, as in a query.
pub(crate) async fn history(site: &Site, node: &str, metric: &str) -> Result<BTreeMap<Timestamp, f64>> {
    let mut all = BTreeMap::new();
    let mut from = "2020-01-01T00:00:00Z".to_owned();
    loop {
        let path = format!(
            "history?node={node}&metric={metric}&from={from}&to=2100-01-01T00:00:00Z&resolution=raw&limit=10000"
        );
        let answer = site.get(&path).await?;
        for point in answer["points"].as_array().context("points")? {
            let at: Timestamp = point["at"].as_str().context("a time")?.parse()?;
            if let Some(value) = point["value"].as_f64() {
                ensure!(all.insert(at, value).is_none(), "{node} {metric}: two readings at {at}");
            }
        }
        if answer["truncated"] != Value::Bool(true) {
            return Ok(all);
        }
        from = answer["to"].as_str().context("an end")?.to_owned();
    }
}
