//! `--check`: measures what the demo promises, and compares every value with what its sensor held.

use super::api::{Client, Item, Latest};
use super::field::Field;
use super::held::Record;
use super::judge::{self, Tally};
use super::sensors::SENSORS;
use super::table::find;
use anyhow::{bail, ensure};
use shared::reading::Timestamp;
use std::time::{Duration, Instant};

/// Between looks at the newest values.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long the history may take to be complete, once everything was sent.
const HISTORY_WITHIN: Duration = Duration::from_secs(60);
/// So long after the stretch nearly every sensor says something else, microseconds.
const AFTER_US: i64 = 2_000_000;
/// Of what is wrong, so much is printed.
const FAULTS_SHOWN: usize = 20;
/// Series that must be seen are given up after this.
const SEEN_WITHIN: Duration = Duration::from_secs(120);

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demands {
    /// How long values are compared.
    pub(crate) span: Duration,
    /// Since the programs are up, until all series are seen.
    pub(crate) seen_within: Duration,
    /// How far 'latest' may be behind the sensor.
    pub(crate) behind_max: Duration,
}

/// Checks everything, prints the figures, and says whether they are as demanded.
///
/// # Errors
/// With what isn't as demanded.
pub(crate) async fn run(client: &Client, field: &Field, up: Instant, demands: Demands) -> anyhow::Result<()> {
    let began = field.record().began();
    let (first, all) = wait_for_all(client, began, up).await?;
    say!(
        "check: first readings through the API {:.2} s after the programs were up, all {} series after {:.2} s (at most {:?})",
        first.as_secs_f64(),
        SENSORS.len(),
        all.as_secs_f64(),
        demands.seen_within
    );
    let from = Timestamp::wall_clock();
    let tally = watch(client, field, began, demands.span).await?;
    let to = Timestamp::wall_clock();
    say!("check: 'latest': {tally} (at most {:?})", demands.behind_max);
    let past = history(client, field, from, to).await?;
    say!("check: history of {:.1} s: {past}", to.since(from) as f64 / 1e6);
    let mut wrong: Vec<String> = tally.faults().chain(past.faults()).collect();
    if all > demands.seen_within {
        wrong.push(format!("all series were seen after {all:.2?}, later than {:?}", demands.seen_within));
    }
    if tally.behind_us > demands.behind_max.as_micros() as i64 {
        wrong.push(format!("'latest' was {} ms behind, more than {:?}", tally.behind_us / 1_000, demands.behind_max));
    }
    wrong.iter().take(FAULTS_SHOWN).for_each(|fault| say!("check: wrong: {fault}"));
    ensure!(wrong.is_empty(), "the check failed: {} things are wrong", wrong.len());
    say!("check: passed");
    Ok(())
}

/// Until a reading of this run is there, and until one of every series is.
async fn wait_for_all(client: &Client, began: Timestamp, up: Instant) -> anyhow::Result<(Duration, Duration)> {
    let mut first = None;
    loop {
        let latest = client.latest().await?;
        let fresh = |item: &Item| item.at >= began && item.held.good().is_some();
        let missing: Vec<_> = SENSORS.iter().filter(|sensor| !find(&latest.items, sensor).is_some_and(fresh)).collect();
        if missing.len() < SENSORS.len() && first.is_none() {
            first = Some(up.elapsed());
        }
        if let (Some(first), true) = (first, missing.is_empty()) {
            return Ok((first, up.elapsed()));
        }
        if up.elapsed() > SEEN_WITHIN {
            let names: Vec<String> = missing.iter().map(|sensor| sensor.to_string()).collect();
            bail!("after {SEEN_WITHIN:?} there is no good reading of {}", names.join(", "));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Compares newest values for a while.
async fn watch(client: &Client, field: &Field, began: Timestamp, span: Duration) -> anyhow::Result<Tally> {
    let (mut tally, until) = (Tally::default(), Instant::now() + span);
    while Instant::now() < until {
        let Latest { items, degraded } = client.latest().await?;
        let now = Timestamp::wall_clock();
        ensure!(degraded.is_empty(), "the API is degraded: {}", degraded.join("; "));
        compare(&mut tally, &field.record(), &items, began, now);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(tally)
}

fn compare(tally: &mut Tally, record: &Record, items: &[Item], began: Timestamp, now: Timestamp) {
    for (number, sensor) in SENSORS.iter().enumerate() {
        match find(items, sensor) {
            Some(item) => judge::latest(tally, record, (number, sensor), item, began, now),
            None => tally.wrong.push(format!("{sensor} is no longer in 'latest'")),
        }
    }
}

/// Waits until the stretch is complete, then compares it.
async fn history(client: &Client, field: &Field, from: Timestamp, to: Timestamp) -> anyhow::Result<judge::Past> {
    let until = Instant::now() + HISTORY_WITHIN;
    let mut past = judge::Past::default();
    while field.record().newest() < to.plus_micros(AFTER_US) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    // Complete, when something is known of what comes after it. Of what doesn't change nothing comes: it has travelled with
    // what does.
    for (number, sensor) in SENSORS.iter().enumerate() {
        while judge::changed_since(&field.record(), number, to) {
            let series = (sensor.node, sensor.metric, sensor.channel);
            let after = client.history(series, (to, to.plus_micros(3_600_000_000))).await?;
            if !after.points.is_empty() {
                break;
            }
            ensure!(Instant::now() < until, "after {HISTORY_WITHIN:?} the history of {sensor} ends before {to}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    for (number, sensor) in SENSORS.iter().enumerate() {
        let series = (sensor.node, sensor.metric, sensor.channel);
        let answer = client.history(series, (from, to)).await?;
        ensure!(answer.degraded.is_empty(), "the API is degraded: {}", answer.degraded.join("; "));
        let record: &Record = &field.record();
        judge::history(&mut past, record, (number, sensor), &answer.points, from, to);
    }
    Ok(past)
}
