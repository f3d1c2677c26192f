//! A year of a thousand series at five minutes, in Parquet, as `daily_sync` leaves it: days that were written, read back
//! and proved, then put together by month. Values are L-Town's shape: a daily wave, noise, two decimals; each series has
//! its own level and range.

use crate::GATEWAYS;
use crate::figures::{self, Budget, figure};
use crate::gateway::catalogue;
use anyhow::{Result, ensure};
use collector::tiers::cold::parquet::ParquetCold;
use collector::tiers::{ColdTier, Day, Run, Runs, SeriesId, SeriesKey, StoredReading};
use futures::{StreamExt, TryStreamExt, stream};
use shared::catalogue::Entry;
use shared::reading::{Held, MICROS_PER_SECOND, Quality};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

pub(crate) const SERIES: u32 = 1_000;
/// A year, and a day before it.
pub(crate) const DAYS: i32 = 366;
const STEP_S: i64 = 300;
const READINGS: u64 = SERIES as u64 * DAYS as u64 * (86_400 / STEP_S) as u64;
/// Days that are written at a time.
const AT_ONCE: usize = 2;
/// As long after it a month is put together at the earliest, days.
const SETTLED: i32 = 62;

/// A plain generator, so that every run measures the same data.
fn noise(seed: u64) -> f64 {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
}

/// A day of a series, a reading every so many seconds.
pub(crate) fn readings(series: SeriesId, day: Day, step_s: i64) -> Vec<StoredReading> {
    let SeriesId(number) = series;
    let (level, range) = (5.0 + f64::from(number % 97), 1.0 + f64::from(number % 13));
    let one = |n: i64| {
        let phase = (n * step_s) as f64 / 86_400.0 * std::f64::consts::TAU;
        let own = noise(u64::from(number) << 40 | (i64::from(day.0) * 86_400 + n) as u64);
        let value = level + range * phase.sin() + range * 0.3 * own;
        let held = Held { value: Some((value * 100.0).round() / 100.0), quality: Quality::GOOD, revision: 0 };
        StoredReading { series, at: day.start().plus_micros(n * step_s * MICROS_PER_SECOND), held }
    };
    (0..86_400 / step_s).map(one).collect()
}

fn runs(keys: &Arc<[Arc<SeriesKey>]>, day: Day) -> Runs<'static> {
    let keys = keys.clone();
    let run = move |n: u32| {
        let series = SeriesId(n + 1);
        Run { series, key: keys[n as usize].clone(), readings: readings(series, day, STEP_S) }
    };
    stream::iter((0..SERIES).map(move |n| Ok(run(n)))).boxed()
}

/// Fills a folder with the days from `first` on; the series have the numbers from 1 on.
pub(crate) async fn make(folder: PathBuf, first: Day, as_json: bool) -> Result<()> {
    let entries = (0..GATEWAYS).map(|n| Ok(catalogue(n)?.entries().to_vec())).collect::<Result<Vec<_>>>()?.concat();
    let key =
        |e: &Entry| Arc::new(SeriesKey { node: e.node.clone(), metric: e.metric.clone(), channel: e.channel.clone() });
    let keys: Arc<[_]> = entries.iter().take(SERIES as usize).map(key).collect();
    let tier = Arc::new(ParquetCold::in_folder(folder)?);
    let began = Instant::now();
    let write = |n| {
        let (tier, day) = (tier.clone(), Day(first.0 + n));
        let runs = runs(&keys, day);
        async move { Ok(tokio::spawn(async move { tier.replace_day(day, runs).await }).await??.rows) }
    };
    let written = stream::iter(0..DAYS).map(write).buffer_unordered(AT_ONCE);
    let rows: u64 = written.try_fold(0, |sum, rows| async move { anyhow::Ok(sum + rows) }).await?;
    ensure!(rows == READINGS, "{rows} readings were archived, not {READINGS}");
    let wrote = began.elapsed().as_secs_f64();
    let began = Instant::now();
    tier.tidy(Day(first.0 + DAYS + SETTLED)).await?;
    let (tidied, state) = (began.elapsed().as_secs_f64(), tier.state().await?);
    tier.close().await;
    let bytes = state.bytes.unwrap_or(u64::MAX) as f64 / READINGS as f64;
    let found = [
        figure("days written, read back, proved", READINGS as f64 / wrote, "readings/s", Budget::None),
        figure("  then put together by month", READINGS as f64 / tidied, "readings/s", Budget::None),
        figure("  files afterwards", state.files as f64, "", Budget::None),
        figure("a reading in the archive", bytes, "bytes", Budget::AtMost(2.0)),
    ];
    figures::print(&format!("archive of {SERIES} series at 5 min for {DAYS} days in Parquet"), &found, as_json);
    Ok(())
}
