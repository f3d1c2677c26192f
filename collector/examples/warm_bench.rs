//! How much of raw binary COPY's speed is left when readings go through the warm tier's `commit`, on plain PostgreSQL.
//!
//! Both write flushes of the same shape into the same table with the same key, in turn, in one run: the tier with its
//! sorting, dirty marks and account of blocks in one transaction; COPY with rows that were sorted and encoded before
//! the clock started. The server is the newest that Debian's packages installed, with fsync, in a temporary folder.
//!
//! `warm_bench [--json] [FLUSHES]`
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a tool for developers: what fails says where

#[path = "../../shared/examples/figures/mod.rs"]
mod figures;
#[path = "../tests/services/mod.rs"]
mod services;

use collector::tiers::warm::postgres::PostgresWarm;
use collector::tiers::{Flush, SeriesId, StoredReading, StreamSeqs, WarmTier};
use figures::{Budget, figure};
use services::postgres::Postgres;
use shared::catalogue::{Class, Entry};
use shared::ids::{GatewayId, NodeId, Seq, StreamId};
use shared::metric::Kind;
use shared::reading::{Held, MICROS_PER_SECOND, Quality, Timestamp};
use sqlx::{ConnectOptions as _, PgConnection};
use std::time::{Duration, Instant};

const GATEWAYS: usize = 20;
const SERIES_EACH: usize = 50;
/// Of each series in a flush, 10 s apart.
const READINGS_EACH: usize = 50;
const ROWS: usize = GATEWAYS * SERIES_EACH * READINGS_EACH;
/// Readings of a block.
const BLOCK: usize = 500;
const STEP: i64 = 10 * MICROS_PER_SECOND;
/// The wire's and PostgreSQL's count of time begin so far apart, microseconds.
const EPOCH: i64 = 946_684_800_000_000;

#[tokio::main]
async fn main() {
    let (as_json, arguments) = figures::arguments();
    let flushes: usize = arguments.first().map_or(40, |n| n.parse().expect("how many flushes?"));
    let settings = ["max_wal_size=8GB", "shared_buffers=256MB", "checkpoint_timeout=1h"];
    let server = Postgres::start_with("trust", &settings).await;
    let warm_settings = server.database().await;
    let tier = PostgresWarm::open(&warm_settings).await.unwrap();
    let gateways: Vec<GatewayId> = (0..GATEWAYS).map(|n| GatewayId::new(&format!("STATION_{n}")).unwrap()).collect();
    let (ours, theirs) = (series(&tier, &gateways, "DIST").await, series(&tier, &gateways, "RAW").await);
    let mut raw = server.options(&warm_settings.database).connect().await.unwrap();
    // Days are made by commits; both find them there.
    let start = Timestamp(Timestamp::wall_clock().0 / 86_400_000_000 * 86_400_000_000);
    let (mut by_commit, mut by_copy) = (Vec::new(), Vec::new());
    for n in 0..=flushes {
        let from = start.plus_micros(n as i64 * READINGS_EACH as i64 * STEP);
        let flush = flush(&gateways, &ours, from, n as u64);
        let bytes = encoded(&theirs, from);
        let (commit, copy) = if n % 2 == 0 {
            let commit = commit(&tier, flush).await;
            (commit, copy(&mut raw, &bytes).await)
        } else {
            let copy = copy(&mut raw, &bytes).await;
            (commit(&tier, flush).await, copy)
        };
        // The first one makes partitions, connections and plans.
        if n > 0 {
            by_commit.push(commit);
            by_copy.push(copy);
        }
    }
    let total = |times: &[Duration]| times.iter().sum::<Duration>().as_secs_f64();
    let rate = |times: &[Duration]| (ROWS * flushes) as f64 / total(times);
    let (commit_rate, copy_rate) = (rate(&by_commit), rate(&by_copy));
    let ratio = total(&by_copy) / total(&by_commit);
    let (commit_ms, copy_ms) = (median(&mut by_commit), median(&mut by_copy));
    let started = Instant::now();
    let mut buckets = 0;
    loop {
        match tier.refresh_rollups(1_000).await.unwrap() {
            0 => break,
            done => buckets += done,
        }
    }
    let rolled_up = (ROWS * (flushes + 1)) as f64 / started.elapsed().as_secs_f64();
    let under = format!(
        "{flushes} flushes of {ROWS} readings ({} series) into PostgreSQL, blocks of {BLOCK}, fsync on, {buckets} buckets",
        ours.len()
    );
    let found = [
        figure("raw binary COPY", copy_rate, "readings/s", Budget::None),
        figure("  a flush, median", copy_ms, "ms", Budget::None),
        figure("commit of the tier", commit_rate, "readings/s", Budget::None),
        figure("  a flush, median", commit_ms, "ms", Budget::None),
        figure("commit's part of COPY's speed", ratio, "", Budget::AtLeast(0.9)),
        figure("  by the medians", copy_ms / commit_ms, "", Budget::None),
        figure("rollups afterwards", rolled_up, "readings/s", Budget::None),
    ];
    figures::print(&under, &found, as_json);
    tier.close().await;
}

async fn series(tier: &PostgresWarm, gateways: &[GatewayId], prefix: &str) -> Vec<SeriesId> {
    let mut all = Vec::new();
    for (g, gateway) in gateways.iter().enumerate() {
        let entry = |n: usize| Entry {
            node: NodeId::new(&format!("{prefix}_{g}_{n}")).unwrap(),
            metric: "flow_rate".into(),
            channel: String::new(),
            kind: Kind::Gauge,
            unit: "L/s".into(),
            resolution_exp: Some(-2),
            interval_ms: 10_000,
            silence_ms_max: 0,
            class: Class::Raw,
        };
        let entries: Vec<Entry> = (0..SERIES_EACH).map(entry).collect();
        all.extend(tier.series_for(gateway, &entries).await.unwrap().into_iter().map(Result::unwrap));
    }
    all
}

fn value(series: usize, step: usize) -> f64 {
    20.0 + series as f64 / 100.0 + ((step * 7 + series) % 13) as f64 / 10.0
}

/// As it comes of the spool: block by block of each gateway, all its points at one moment after the other.
fn flush(gateways: &[GatewayId], series: &[SeriesId], from: Timestamp, number: u64) -> Flush {
    let mut flush = Flush::default();
    for (gateway, (g, own)) in gateways.iter().zip(series.chunks(SERIES_EACH).enumerate()) {
        for step in 0..READINGS_EACH {
            for (n, series) in own.iter().enumerate() {
                let held = Held { value: Some(value(g * SERIES_EACH + n, step)), quality: Quality::GOOD, revision: 0 };
                flush.readings.push(StoredReading { series: *series, at: from.plus_micros(step as i64 * STEP), held });
            }
        }
        let blocks = (SERIES_EACH * READINGS_EACH / BLOCK) as u64;
        let seqs = (1..=blocks).map(|block| Seq(number * blocks + block)).collect();
        flush.settled.push(StreamSeqs { gateway: gateway.clone(), stream: StreamId(g as u64), seqs });
    }
    flush
}

/// The same rows for COPY, in the order of the key.
fn encoded(series: &[SeriesId], from: Timestamp) -> Vec<u8> {
    let mut bytes = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for (n, series) in series.iter().enumerate() {
        for step in 0..READINGS_EACH {
            bytes.extend_from_slice(&5i16.to_be_bytes());
            let at = from.plus_micros(step as i64 * STEP).0 - EPOCH;
            let fields: [&[u8]; 5] = [
                &series.0.to_be_bytes(),
                &0i16.to_be_bytes(),
                &at.to_be_bytes(),
                &value(n, step).to_be_bytes(),
                &0i64.to_be_bytes(),
            ];
            for field in fields {
                bytes.extend_from_slice(&(field.len() as i32).to_be_bytes());
                bytes.extend_from_slice(field);
            }
        }
    }
    bytes.extend_from_slice(&(-1i16).to_be_bytes());
    bytes
}

async fn commit(tier: &PostgresWarm, flush: Flush) -> Duration {
    let started = Instant::now();
    let report = tier.commit(flush).await.unwrap();
    let took = started.elapsed();
    assert_eq!(report.written, ROWS as u64);
    took
}

async fn copy(connection: &mut PgConnection, bytes: &[u8]) -> Duration {
    let started = Instant::now();
    let sql = "COPY readings (series_id, quality, ts, value, revision) FROM STDIN (FORMAT binary)";
    let mut copy = connection.copy_in_raw(sql).await.unwrap();
    copy.send(bytes).await.unwrap();
    let rows = copy.finish().await.unwrap();
    let took = started.elapsed();
    assert_eq!(rows, ROWS as u64);
    took
}

/// Milliseconds.
fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}
