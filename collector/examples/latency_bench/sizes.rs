//! Bytes of a reading where readings are packed: in Redis as they come, and in TimescaleDB after it has compressed them.

use crate::archive;
use crate::figures::{self, Budget, Figure, figure, number_after};
use crate::gateway::{catalogue, name};
use crate::services::redis::Redis;
use crate::services::timescale::TimescaleServer;
use anyhow::{Context, Result, ensure};
use collector::tiers::hot::redis::RedisHot;
use collector::tiers::warm::postgres::PostgresWarm;
use collector::tiers::{Day, Flush, HotTier, SeriesId, StoredReading, WarmTier};
use shared::ids::GatewayId;
use shared::reading::{Held, MICROS_PER_SECOND, Quality, Timestamp};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use std::sync::Arc;

const REDIS: &str =
    "Redis: 10,000 series at 10 s for 3 hours, a minute at a time, each hour takes as much as any other of 24";
const TIMESCALE: &str = "TimescaleDB (compiled to WebAssembly): a day of 50 series at 10 s, compressed by its policy";

const SERIES: u32 = 10_000;
const HOURS: i64 = 3;
const MINUTE: i64 = 60 * MICROS_PER_SECOND;
const STEP: i64 = 10 * MICROS_PER_SECOND;

pub(crate) async fn all(as_json: bool) -> Result<()> {
    figures::print(REDIS, &redis().await?, as_json);
    figures::print(TIMESCALE, &timescale().await?, as_json);
    Ok(())
}

async fn redis() -> Result<Vec<Figure>> {
    let server = Redis::start().await;
    let hot = RedisHot::new(&server.settings(), 10 * MINUTE, Arc::new(Timestamp::wall_clock))?;
    let used = async || number_after(&server.command::<String>(&["INFO", "memory"]).await, "used_memory:");
    hot.forget(Timestamp(0)).await?; // makes its roots and loads its scripts
    let empty = used().await;
    let end = Timestamp::wall_clock().0 / (60 * MINUTE) * 60 * MINUTE;
    for minute in 0..HOURS * 60 {
        let from = end - HOURS * 60 * MINUTE + minute * MINUTE;
        let reading = |series: u32, n: i64| {
            let value = Some(f64::from(series % 97) + ((n * 7 + i64::from(series) + minute) % 13) as f64 / 100.0);
            let held = Held { value, quality: Quality::GOOD, revision: 0 };
            StoredReading { series: SeriesId(series), at: Timestamp(from + n * STEP), held }
        };
        let readings: Vec<_> = (1..=SERIES).flat_map(|series| (0..6).map(move |n| reading(series, n))).collect();
        hot.put(&readings).await?;
    }
    let full = used().await;
    let readings = hot.state().await?.readings;
    let sent = SERIES as u64 * HOURS as u64 * 360;
    ensure!(readings == sent, "{readings} readings are in Redis, not {sent}");
    Ok(vec![
        figure(
            "memory of a reading, with all overhead",
            (full - empty) as f64 / readings as f64,
            "bytes",
            Budget::AtMost(20.0),
        ),
        figure("  readings", readings as f64, "", Budget::None),
    ])
}

/// The day that is compressed lies so long back.
const DAYS_AGO: i32 = 10;
const COMPRESSED: usize = 50;
const FLUSH: usize = 50_000;

async fn timescale() -> Result<Vec<Figure>> {
    let server = TimescaleServer::start();
    let settings = server.schema();
    let tier = PostgresWarm::open(&settings).await?;
    let catalogue = catalogue(0)?;
    let series: Vec<SeriesId> = tier
        .series_for(&GatewayId::new(&name(0))?, &catalogue.entries()[..COMPRESSED])
        .await?
        .into_iter()
        .collect::<Result<_, _>>()?;
    let day = Day(Day::of(Timestamp::wall_clock()).0 - DAYS_AGO);
    let readings: Vec<_> =
        series.iter().flat_map(|series| archive::readings(*series, day, STEP / MICROS_PER_SECOND)).collect();
    for some in readings.chunks(FLUSH) {
        tier.commit(Flush { readings: some.to_vec(), ..Flush::default() }).await?;
    }
    tier.close().await;
    let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(server.port).username("postgres");
    let mut connection = options.database("postgres").connect().await?;
    // The policy's own work: nothing works in the background here.
    let sql = "SELECT job_id::bigint FROM timescaledb_information.jobs WHERE hypertable_schema = $1 \
               AND hypertable_name = 'readings' AND proc_name IN ('policy_compression', 'policy_columnstore')";
    let job: i64 = sqlx::query_scalar(sql).bind(&settings.schema).fetch_one(&mut connection).await?;
    connection.execute(AssertSqlSafe(format!("CALL run_job({job})"))).await?;
    let sql = "SELECT sum(before_compression_total_bytes)::bigint, sum(after_compression_total_bytes)::bigint \
               FROM hypertable_compression_stats(to_regclass($1))";
    let table = format!("{}.readings", settings.schema);
    let (before, after): (Option<i64>, Option<i64>) =
        sqlx::query_as(sql).bind(table).fetch_one(&mut connection).await?;
    let of_one =
        |bytes: Option<i64>| Ok::<_, anyhow::Error>(bytes.context("a compressed day")? as f64 / readings.len() as f64);
    Ok(vec![
        figure("a reading on disk, compressed", of_one(after)?, "bytes", Budget::AtMost(10.0)),
        figure("  before", of_one(before)?, "bytes", Budget::None),
        figure("  readings", readings.len() as f64, "", Budget::None),
    ])
}
