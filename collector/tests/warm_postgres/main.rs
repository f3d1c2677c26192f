//! The warm tier on real PostgreSQL and TimescaleDB, beyond what every warm tier promises: faults, people who alter
//! tables, several collectors, days, late data, a replica, and the command that makes the tables.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

#[path = "../services/mod.rs"]
mod services;
#[path = "../support/mod.rs"]
mod support;

mod collectors;
mod days;
mod faults;
mod killed;
mod migrate;
mod outage;
mod replica;
mod timescale;

use collector::tiers::warm::postgres::PostgresWarm;
use collector::tiers::warm::settings::WarmSettings;
use collector::tiers::{Flush, SeriesId, StoredReading, WarmTier};
use shared::block::TimeBase;
use shared::catalogue::CatalogueHash;
use shared::ids::GatewayId;
use shared::reading::{Held, Quality, Timestamp};
use sqlx::{AssertSqlSafe, ConnectOptions as _};
use support::SECOND;

fn gateway() -> GatewayId {
    GatewayId::new("STATION_7").unwrap()
}

fn good(series: SeriesId, at: i64, value: f64) -> StoredReading {
    StoredReading { series, at: Timestamp(at), held: Held { value: Some(value), quality: Quality::GOOD, revision: 0 } }
}

async fn put(tier: &PostgresWarm, readings: Vec<StoredReading>) -> collector::tiers::CommitReport {
    tier.commit(Flush { readings, ..Flush::default() }).await.unwrap()
}

/// The numbers of the pressures of these nodes.
async fn series(tier: &impl WarmTier, nodes: &[&str]) -> Vec<SeriesId> {
    let numbers = tier.series_for(&gateway(), support::catalogue(nodes).entries()).await.unwrap();
    numbers.into_iter().map(Result::unwrap).collect()
}

/// One value that SQL gives, as text.
async fn ask(server: &services::postgres::Postgres, settings: &WarmSettings, sql: &str) -> String {
    let mut connection = server.options(&settings.database).connect().await.unwrap();
    let answer: Option<String> =
        sqlx::query_scalar(AssertSqlSafe(format!("SELECT ({sql})::text"))).fetch_one(&mut connection).await.unwrap();
    answer.unwrap_or_default()
}

/// Readings of a block of [`full_block`].
const BLOCK: i64 = 100;

/// A block of a hundred readings, whose times and values follow from its number.
fn full_block(hash: CatalogueHash, start: i64, seq: u64) -> Vec<u8> {
    let first = (seq as i64 - 1) * BLOCK;
    let readings: Vec<_> = (first..first + BLOCK).map(|n| (0, start + n * SECOND, n as f64)).collect();
    support::block(hash, TimeBase::Utc, &readings)
}
