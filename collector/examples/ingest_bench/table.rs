//! The collector's table, looked at from outside.

use crate::GATEWAYS;
use crate::gateway::{catalogue, name};
use crate::site::Site;
use anyhow::{Result, ensure};
use collector::tiers::warm;
use shared::ids::GatewayId;
use shared::reading::MICROS_PER_SECOND;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Row};
use std::path::PathBuf;
use std::time::Duration;

/// Buckets in one transaction.
const SLICE: u32 = 512;

fn path(site: &Site) -> PathBuf {
    site.data().join("warm.sqlite")
}

async fn open(site: &Site) -> Result<SqliteConnection> {
    Ok(SqliteConnectOptions::new().filename(path(site)).connect().await?)
}

/// A reading of every series at each of so many seconds from `start` on, with rollups.
pub(crate) async fn fill(site: &Site, start: i64, seconds: i64) -> Result<()> {
    let tier = warm::open(&collector::config::Config::default().warm, &path(site)).await?;
    for n in 0..GATEWAYS {
        let entries = catalogue(n)?.entries().to_vec();
        for series in tier.series_for(&GatewayId::new(&name(n))?, &entries).await? {
            series.map_err(|refused| anyhow::anyhow!("{refused}"))?;
        }
    }
    let mut table = open(site).await?;
    let readings = "WITH RECURSIVE tick(n) AS (VALUES (0) UNION ALL SELECT n + 1 FROM tick WHERE n + 1 < ?) \
         INSERT INTO readings SELECT series_id, (? + n) * ?, 4.0 + (n * 7919 + series_id) % 8 / 100.0, 0, 0 \
         FROM series CROSS JOIN tick ORDER BY series_id, n";
    let query = sqlx::query(readings).bind(seconds).bind(start).bind(MICROS_PER_SECOND);
    query.execute(&mut table).await?;
    let marks =
        "INSERT INTO dirty_buckets SELECT DISTINCT series_id, ts - ts % 300000000 FROM readings ORDER BY series_id, ts";
    sqlx::query(marks).execute(&mut table).await?;
    while tier.refresh_rollups(SLICE).await? > 0 {}
    tier.close().await;
    Ok(())
}

/// Waits until no bucket is dirty; how many there were at first.
pub(crate) async fn wait_clean(site: &Site) -> Result<i64> {
    let mut table = open(site).await?;
    let mut first = None;
    loop {
        let dirty: i64 = sqlx::query("SELECT count(*) FROM dirty_buckets").fetch_one(&mut table).await?.try_get(0)?;
        let first = *first.get_or_insert(dirty);
        if dirty == 0 {
            return Ok(first);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Every reading is there, once, and so it is in the rollups.
pub(crate) async fn count(site: &Site, expected: u64) -> Result<()> {
    let mut table = open(site).await?;
    for sql in ["SELECT count(*) FROM readings", "SELECT sum(good) FROM rollup_5m", "SELECT sum(good) FROM rollup_1h"] {
        let found: i64 = sqlx::query(sql).fetch_one(&mut table).await?.try_get(0)?;
        ensure!(found as u64 == expected, "{sql}: {found}, but {expected} were sent");
    }
    Ok(())
}
