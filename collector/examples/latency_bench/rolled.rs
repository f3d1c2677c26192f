//! Series and their rollups in a database of a collector that hasn't started yet: what months of readings leave.

use crate::GATEWAYS;
use crate::gateway::{catalogue, name};
use anyhow::Result;
use collector::tiers::WarmTier;
use shared::ids::GatewayId;
use shared::reading::MICROS_PER_SECOND;
use sqlx::sqlite::SqliteConnection;

/// An hour, microseconds.
pub(crate) const HOUR: i64 = 3_600 * MICROS_PER_SECOND;

/// An hour's rollup from 360 readings; the moments are its start and its last reading.
pub(crate) const SUMS: &str =
    "360, 0, 0, 0, {start}, {last}, 4.0, 4.07, 1452.6, {start}, 4.01, {last}, 4.05, 14485.5, 3590000000, 0.04, 0";

/// How many series have hourly rollups, the first ones, and how many hours of them.
#[derive(Clone, Copy)]
pub(crate) struct Rolled {
    pub(crate) series: u32,
    pub(crate) hours: i32,
}

/// Those of all gateways.
pub(crate) async fn series(tier: &dyn WarmTier) -> Result<()> {
    for n in 0..GATEWAYS {
        for series in tier.series_for(&GatewayId::new(&name(n))?, catalogue(n)?.entries()).await? {
            series.map_err(|refused| anyhow::anyhow!("{refused}"))?;
        }
    }
    Ok(())
}

/// Their hours in SQLite, from `begins` on.
pub(crate) async fn sqlite_hours(table: &mut SqliteConnection, of: Rolled, begins: i64) -> Result<()> {
    let sums = SUMS.replace("{start}", "b").replace("{last}", "b + 3590000000");
    let sql = format!(
        "WITH RECURSIVE hour(b) AS (VALUES ({begins}) UNION ALL SELECT b + {HOUR} FROM hour LIMIT {}) \
         INSERT OR IGNORE INTO rollup_1h SELECT series_id, b, {sums} FROM series CROSS JOIN hour \
         WHERE series_id <= {} ORDER BY series_id, b",
        of.hours, of.series
    );
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(table).await?;
    Ok(())
}
