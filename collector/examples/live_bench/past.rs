//! What the database of a network that runs for months holds when its dashboards are opened: weeks of hours of every series, a
//! report on the quality of yesterday, some anomalies.

use crate::SERIES;
use crate::rolled::{HOUR, Rolled, series, sqlite_hours};
use anyhow::Result;
use collector::analytics::anomaly::{Kind, Severity};
use collector::analytics::quality::Measure;
use collector::analytics::store::{Anomaly, State};
use collector::tiers::warm::sqlite::SqliteWarm;
use collector::tiers::{Day, QualityReport, SeriesId, WarmTier as _};
use shared::reading::Timestamp;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use std::path::Path;

/// Eight weeks, as forecasts need them. The lines of the overview are the last day of it.
pub(crate) const HOURS: i32 = 8 * 7 * 24;
/// Open anomalies.
const ANOMALIES: u32 = 40;

/// Fills the database of a collector that hasn't started yet.
pub(crate) async fn fill(file: &Path, now: Timestamp) -> Result<()> {
    let tier = SqliteWarm::open(file).await?;
    series(&tier).await?;
    tier.put_quality(&reports(now), "2000-01-01").await?;
    let open: Vec<Anomaly> = (1..=ANOMALIES).map(|n| anomaly(SeriesId(n * 7), now)).collect();
    tier.anomalies().put_anomalies(&open, Timestamp(0)).await?;
    tier.close().await;
    let mut table = SqliteConnectOptions::new().filename(file).connect().await?;
    // The hour that is open begins with what is sent.
    let begins = (now.0 / HOUR - i64::from(HOURS)) * HOUR;
    sqlite_hours(&mut table, Rolled { series: SERIES as u32, hours: HOURS }, begins).await?;
    Ok(table.close().await?)
}

/// Of yesterday.
fn reports(now: Timestamp) -> Vec<QualityReport> {
    let yesterday = Day::of(now.plus_micros(-24 * HOUR));
    let quality = Measure::new(yesterday.start(), yesterday.end(), HOUR, None).finish();
    let report = |n| QualityReport { day: yesterday.to_string(), series: SeriesId(n), quality, made_at: now };
    (1..=SERIES as u32).map(report).collect()
}

/// One of an hour last night.
fn anomaly(series: SeriesId, now: Timestamp) -> Anomaly {
    let (start, end) = (now.plus_micros(-6 * HOUR), now.plus_micros(-5 * HOUR));
    Anomaly {
        number: 0,
        series,
        kind: Kind::Profile,
        start,
        last: end,
        end: Some(end),
        severity: Severity::Warning,
        expected: Some(4.03),
        seen: Some(9.2),
        detail: "an hour of 9.20, usual is 4.03".into(),
        state: State::Open,
        normal: false,
        notes: Vec::new(),
    }
}
