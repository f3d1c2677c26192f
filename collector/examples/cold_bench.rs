//! What the archive costs: `cargo run --release -p collector --example cold_bench -- [SERIES] [DAYS] [SECONDS]`
//!
//! A year of a thousand series at five minutes by default: bytes per reading, rate of writing and proving, and how
//! long a series' range takes, before and after the months are put together. Values are L-Town's shape: a daily wave,
//! noise, two decimals; each series has its own level and range.
#![allow(clippy::unwrap_used)] // a tool for developers

use collector::tiers::cold::parquet::ParquetCold;
use collector::tiers::{Bucket, ColdTier, Day, Run, Runs, SeriesId, SeriesKey, StoredReading};
use futures::{StreamExt, stream};
use shared::ids::NodeId;
use shared::reading::{Held, Quality};
use std::sync::Arc;
use std::time::{Duration, Instant};

const DAY: Day = Day(20_000);

/// A plain generator, so that every run measures the same data.
fn noise(seed: u64) -> f64 {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
}

fn run(series: u32, day: Day, seconds: i64) -> Run {
    let (level, range) = (5.0 + f64::from(series % 97), 1.0 + f64::from(series % 13));
    let key = SeriesKey {
        node: NodeId::new(format!("DIST_{series:03}").as_str()).unwrap(),
        metric: "flow_rate".into(),
        channel: String::new(),
    };
    let one = |n: i64| {
        let phase = (n * seconds) as f64 / 86_400.0 * std::f64::consts::TAU;
        let wave = level
            + range * phase.sin()
            + range * 0.3 * noise(u64::from(series) << 40 | (i64::from(day.0) * 86_400 + n) as u64);
        let held = Held { value: Some((wave * 100.0).round() / 100.0), quality: Quality::GOOD, revision: 0 };
        StoredReading { series: SeriesId(series), at: day.start().plus_micros(n * seconds * 1_000_000), held }
    };
    Run { series: SeriesId(series), key: Arc::new(key), readings: (0..86_400 / seconds).map(one).collect() }
}

fn runs(series: u32, day: Day, seconds: i64) -> Runs<'static> {
    stream::iter((0..series).map(move |n| Ok(run(n, day, seconds)))).boxed()
}

/// Peak memory of this process, MB.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap_or(0) / 1024
}

async fn timed<F: Future<Output = usize>>(what: &str, times: u32, ask: impl Fn(u32) -> F) {
    let mut took: Vec<Duration> = Vec::new();
    let mut rows = 0;
    for n in 0..times {
        let begun = Instant::now();
        rows = ask(n).await;
        took.push(begun.elapsed());
    }
    took.sort();
    let at = |share: f64| took[((took.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e3;
    println!("  {what:<44} p50 {:>8.1} ms  p99 {:>8.1} ms  ({rows} rows)", at(0.5), at(0.99));
}

async fn questions(tier: &ParquetCold, series: u32, days: i32) {
    let (from, to) = (DAY.start(), Day(DAY.0 + days).start());
    let which = |n: u32| SeriesId(n.wrapping_mul(7919) % series);
    let middle = Day(DAY.0 + days / 2);
    timed("one series, one day", 50, async |n| {
        tier.range(which(n), middle.start(), middle.end(), u32::MAX).await.unwrap().len()
    })
    .await;
    timed("one series, everything", 50, async |n| tier.range(which(n), from, to, u32::MAX).await.unwrap().len()).await;
    timed("one series, everything by the hour", 20, async |n| {
        tier.aggregate(which(n), Bucket::Hour, from, to, 900_000_000).await.unwrap().len()
    })
    .await;
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<i64>().expect("a number"));
    let mut next = |default| arguments.next().unwrap_or(default);
    let (series, days, seconds) = (next(1_000) as u32, next(365) as i32, next(300));
    let folder = tempfile::tempdir().unwrap();
    let tier = ParquetCold::in_folder(folder.path()).unwrap();
    let readings = i64::from(series) * i64::from(days) * 86_400 / seconds;
    println!(
        "{series} series, {days} days, every {seconds} s: {readings} readings; debug build: {}",
        cfg!(debug_assertions)
    );

    let begun = Instant::now();
    for n in 0..days {
        tier.replace_day(Day(DAY.0 + n), runs(series, Day(DAY.0 + n), seconds)).await.unwrap();
    }
    let rate = readings as f64 / begun.elapsed().as_secs_f64();
    let bytes = |state: collector::tiers::ColdState| state.bytes.unwrap() as f64 / readings as f64;
    let state = tier.state().await.unwrap();
    println!(
        "written, read back, proved: {rate:.0} readings/s; {:.2} bytes per reading in {} files; peak {} MB",
        bytes(state),
        state.files,
        peak_mb()
    );
    let begun = Instant::now();
    tier.proof(DAY).await.unwrap().unwrap();
    println!("proof of a day: {:.0} ms", begun.elapsed().as_secs_f64() * 1e3);
    questions(&tier, series, days).await;

    let begun = Instant::now();
    tier.tidy(Day(DAY.0 + days + 31)).await.unwrap();
    let state = tier.state().await.unwrap();
    println!(
        "tidied in {:.1} s: {:.2} bytes per reading in {} files; peak {} MB",
        begun.elapsed().as_secs_f64(),
        bytes(state),
        state.files,
        peak_mb()
    );
    questions(&tier, series, days).await;
}
