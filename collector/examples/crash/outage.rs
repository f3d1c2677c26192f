//! Three weeks without a connection, in a minute: a station's readings come with their own timestamps of that time, as
//! fast as the agent takes them, into a spool that is too small for them. Then the link is back, with 128 kbit/s.

use crate::programs::{Extra, Site};
use crate::proxy::Weather;
use crate::sources::{Sources, publish_past};
use crate::verdict::history;
use anyhow::{Context, Result, ensure};
use shared::reading::Timestamp;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const DAYS: i64 = 21;
/// Between the readings of a point.
const STEP_US: i64 = 40_000_000;
/// Points with noise in every bit, and totals.
const GAUGES: usize = 18;
const TOTALS: usize = 2;
const SPOOL: &str = "16MiB";
const SPOOL_BYTES: u64 = 16 << 20;
const LINK_BYTES_PER_S: u32 = 16_000;
/// How long the slow link is watched.
const WATCHED: Duration = Duration::from_secs(20);
/// Far above the two seconds that are wanted, since this machine may do other things too; the figures are printed.
const AGE_S_MAX: f64 = 10.0;
const PATIENCE: Duration = Duration::from_secs(180);

fn station() -> String {
    let mut text = format!(
        "[spool]\nbytes_max = '{SPOOL}'\n[[mqtt.subscription]]\ntopic = 'past/{{node}}'\nqos = 1\npayload = 'json'\n\
         timestamp = 'ts'\npoint = [\n"
    );
    for n in 0..GAUGES {
        text += &format!("{{ metric = 'flow_rate', channel = 'c{n}', value = 'v[{n}]' }},\n");
    }
    for n in 0..TOTALS {
        let at = GAUGES + n;
        text += &format!("{{ metric = 'total_volume', channel = 't{n}', value = 'v[{at}]', class = 'total' }},\n");
    }
    text + "]\n"
}

pub(crate) async fn run(folder: &std::path::Path) -> Result<()> {
    let mut sources = Sources::start(folder).await?;
    let extra = Extra { agent: station(), ..Extra::default() };
    let site = Site::start(folder, sources.modbus_port, sources.mqtt_port, &extra).await?;
    site.wait_until_up().await.context("at the start")?;
    sources.begin(&site).await?;
    site.proxy.set(Weather { refuse: true, ..Weather::default() });
    site.proxy.cut();

    let steps = DAYS * 86_400_000_000 / STEP_US;
    let first = Timestamp::wall_clock().plus_micros(-DAYS * 86_400_000_000);
    let memory = without_connection(&site, &sources, first, steps).await?;
    println!("three weeks, {} readings, spool of {SPOOL}: {memory}", steps * (GAUGES + TOTALS) as i64);

    site.proxy.set(Weather { bytes_per_s: LINK_BYTES_PER_S, ..Weather::default() });
    site.wait_until_up().await.context("over the slow link")?;
    slow_link(&site).await?;

    site.proxy.set(Weather::default());
    totals_are_whole(&site, first, steps).await?;
    outline_and_gaps(&site, first).await
}

/// What the memory did, from when the first of the readings were taken to when the last one was on the disk.
async fn without_connection(site: &Site, sources: &Sources, first: Timestamp, steps: i64) -> Result<String> {
    let all = steps as u64 * (GAUGES + TOTALS) as u64;
    let publishing = tokio::spawn(publish_past(sources.mqtt_port, first, STEP_US, steps, GAUGES + TOTALS));
    let (mut early, mut most, mut disk, mut taken) = (0, 0, 0, 0);
    let started = Instant::now();
    while taken < all {
        ensure!(started.elapsed() < PATIENCE * 3, "{taken} of {all} readings got into the agent");
        tokio::time::sleep(Duration::from_millis(100)).await;
        taken = site.agent_status().await?["readings"]["spooled"].as_u64().context("a count")?;
        let rss = site.agent_rss()?;
        if taken < all / 5 {
            early = early.max(rss);
        }
        (most, disk) = (most.max(rss), disk.max(site.agent_spool()));
    }
    publishing.await??;
    let mb = |bytes: u64| bytes as f64 / 1e6;
    ensure!(most < early + (12 << 20), "memory grew from {:.1} to {:.1} MB", mb(early), mb(most));
    ensure!(disk < SPOOL_BYTES + (2 << 20), "the spool took {:.1} MB", mb(disk));
    let rate = all as f64 / started.elapsed().as_secs_f64();
    Ok(format!(
        "{rate:.0} readings/s, memory {:.1} MB in the first fifth, {:.1} MB at most, disk {:.1} MB at most",
        mb(early),
        mb(most),
        mb(disk)
    ))
}

/// Newest values stay new while the backlog drains.
async fn slow_link(site: &Site) -> Result<()> {
    let before = waiting_blocks(site).await?;
    let (until, mut ages) = (Instant::now() + WATCHED, Vec::new());
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let latest = site.get("latest?node=PUMP_001").await?;
        let age = latest["items"][0]["age_s"].as_f64().context("the polled point has a newest value")?;
        // The first is what was last said before the outage.
        if !ages.is_empty() || age < AGE_S_MAX {
            ages.push(age);
        }
    }
    ages.sort_by(f64::total_cmp);
    let at = |part: f64| ages.get((ages.len() as f64 * part) as usize).copied().unwrap_or(f64::NAN);
    let after = waiting_blocks(site).await?;
    println!(
        "at 128 kbit/s for {} s: newest value {:.2} s old (median), {:.2} s (p99), {:.2} s (most); {} of {before} blocks drained",
        WATCHED.as_secs(),
        at(0.5),
        at(0.99),
        at(0.9999),
        before.saturating_sub(after),
    );
    ensure!(ages.len() > 50, "newest values came late: only {} of them", ages.len());
    ensure!(at(0.9999) < AGE_S_MAX, "a newest value was {:.1} s old", at(0.9999));
    ensure!(after < before, "the backlog doesn't drain");
    Ok(())
}

async fn waiting_blocks(site: &Site) -> Result<u64> {
    site.agent_status().await?["spool"]["blocks"].as_u64().context("a count")
}

async fn totals_are_whole(site: &Site, first: Timestamp, steps: i64) -> Result<()> {
    let expected: BTreeSet<Timestamp> = (0..steps).map(|n| first.plus_micros(n * STEP_US)).collect();
    for n in 0..TOTALS {
        let until = Instant::now() + PATIENCE;
        loop {
            let stored = history(site, "STATION", &format!("total_volume&channel=t{n}")).await?;
            let missing = expected.iter().filter(|at| !stored.contains_key(at)).count();
            if missing == 0 {
                break;
            }
            ensure!(Instant::now() < until, "total t{n}: {missing} of {steps} readings are missing");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    println!("totals: all {} readings are there", steps * TOTALS as i64);
    Ok(())
}

/// Of raw points every day has its lowest, highest and last; what was given up is a gap with its reason.
async fn outline_and_gaps(site: &Site, first: Timestamp) -> Result<()> {
    let mut kept = 0;
    for n in 0..GAUGES {
        let stored = history(site, "STATION", &format!("flow_rate&channel=c{n}")).await?;
        for day in 0..DAYS {
            let (from, to) = (first.plus_micros(day * 86_400_000_000), first.plus_micros((day + 1) * 86_400_000_000));
            let readings = stored.range(from..to).count();
            ensure!(readings >= 3, "c{n}, day {day}: only {readings} readings are left");
        }
        kept += stored.len();
    }
    let gaps = site.get("gaps").await?;
    let gaps = gaps["items"].as_array().context("gaps")?;
    let reasons: BTreeSet<&str> = gaps.iter().filter_map(|gap| gap["reason"].as_str()).collect();
    let blocks: u64 = gaps.iter().filter_map(|gap| gap["blocks"].as_u64()).sum();
    println!("raw points: {kept} readings are left; {} gaps of {blocks} blocks, {reasons:?}", gaps.len());
    ensure!(reasons == BTreeSet::from(["thinned"]), "what is missing was thinned, and nothing else happened");
    ensure!(gaps.iter().all(|gap| gap["from"].is_string()), "a gap says when");
    Ok(())
}
