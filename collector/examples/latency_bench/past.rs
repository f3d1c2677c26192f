//! What the warm tier holds before the collector starts: series, their rollups, and which days have left for the archive.

use crate::archive;
use crate::rolled::{HOUR, Rolled, SUMS, series, sqlite_hours};
use anyhow::Result;
use collector::tiers::warm::postgres::PostgresWarm;
use collector::tiers::warm::settings::WarmSettings;
use collector::tiers::warm::sqlite::SqliteWarm;
use collector::tiers::{Day, WarmTier as _};
use shared::reading::{MICROS_PER_SECOND, Timestamp};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use std::path::Path;

/// How many series have hourly rollups of 90 days, and how many of 3 years; the first ones.
pub(crate) const MONTHS: Rolled = Rolled { series: 500, hours: 90 * 24 };
pub(crate) const YEARS: Rolled = Rolled { series: 50, hours: 3 * 365 * 24 };

/// The last whole hour that is rolled up ends a day before now, so that no reading of today touches one.
fn stretches(now: Timestamp) -> [(Rolled, i64); 2] {
    let end = (now.0 / HOUR - 25) * HOUR;
    // Those with three years come first, and the ninety days are of the others.
    [(YEARS, end - i64::from(YEARS.hours) * HOUR), (MONTHS, end - i64::from(MONTHS.hours) * HOUR)]
}

pub(crate) async fn sqlite(file: &Path, first: Day, now: Timestamp) -> Result<()> {
    let tier = SqliteWarm::open(file).await?;
    series(&tier).await?;
    tier.close().await;
    let mut table = SqliteConnectOptions::new().filename(file).connect().await?;
    for (of, begins) in stretches(now) {
        sqlite_hours(&mut table, of, begins).await?;
    }
    let sql = "WITH RECURSIVE d(n) AS (VALUES (?1) UNION ALL SELECT n + 1 FROM d LIMIT ?2) \
               INSERT INTO archive_days (day, version, exported, raw) SELECT n, 1, 1, 'gone' FROM d";
    sqlx::query(sql).bind(first.0).bind(archive::DAYS).execute(&mut table).await?;
    table.close().await?;
    Ok(())
}

pub(crate) async fn postgres(
    settings: &WarmSettings,
    server: &PgConnectOptions,
    first: Day,
    now: Timestamp,
) -> Result<()> {
    let tier = PostgresWarm::open(settings).await?;
    series(&tier).await?;
    tier.close().await;
    let mut table = server.connect().await?;
    for (of, begins) in stretches(now) {
        let sums = SUMS.replace("{start}", "b").replace("{last}", "b + INTERVAL '3590 s'");
        let sql = format!(
            "INSERT INTO rollup_1h (series_id, bucket, good, uncertain, bad, manual, begins, ends, \
                 min, max, sum, first_ts, first, last_ts, last, integral, covered, delta, resets) \
             SELECT series_id, b, {sums} FROM series CROSS JOIN \
                 (SELECT to_timestamp({}) + n * INTERVAL '1 h' AS b FROM generate_series(0, {} - 1) AS n) AS hour \
             WHERE series_id <= {} ORDER BY series_id, b ON CONFLICT DO NOTHING",
            begins / MICROS_PER_SECOND,
            of.hours,
            of.series
        );
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut table).await?;
    }
    let sql = "INSERT INTO archive_days (day, version, exported, raw) \
               SELECT n, 1, 1, 'gone' FROM generate_series($1, $1 + $2 - 1) AS n";
    sqlx::query(sql).bind(first.0).bind(archive::DAYS).execute(&mut table).await?;
    sqlx::query("ANALYZE").execute(&mut table).await?;
    table.close().await?;
    Ok(())
}
