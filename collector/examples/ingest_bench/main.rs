//! What a collector takes in: readings/s acknowledged as stored, and readings/s that reach SQLite with rollups kept.
//!
//! `ingest_bench [--json] [MILLIONS]`, millions of readings that reach SQLite, 6 by default. It runs the program
//! `collector` that was built beside it, with its default configuration, on the disk of the current folder, and talks
//! to it over mutual TLS on loopback, as gateways that send blocks of 500 readings:
//! - *Stored*: five times as many, as fast as the gateways' windows let them, until the last block is acknowledged. What
//!   was stored is written to SQLite meanwhile, as always; it is not waited for.
//! - *Sustained*: a collector of its own, whose table holds as many readings before, with rollups. The gateways send no
//!   faster than is committed, until the last reading is committed and the last rollup is right. Then all are counted, in
//!   the table and in the rollups.

#[path = "../../../shared/examples/figures/mod.rs"]
mod figures;
mod gateway;
mod site;
mod table;

use anyhow::{Context, Result};
use figures::{Budget, figure};
use gateway::{Gateway, Pace, READINGS_EACH, SERIES_EACH};
use shared::reading::{MICROS_PER_SECOND, Timestamp};
use site::Site;
use std::time::{Duration, Instant};

const GATEWAYS: usize = 8;
/// How far gateways run ahead of the commits: two transactions of the default size.
const AHEAD_READINGS: u64 = 100_000;
const STORED_TIMES: u64 = 5;

#[tokio::main]
async fn main() -> Result<()> {
    let (as_json, arguments) = figures::arguments();
    let millions: f64 = arguments.first().map_or(Ok(6.0), |text| text.parse()).context("MILLIONS is a number")?;
    let blocks = ((millions * 1e6) as u64).div_ceil((GATEWAYS * READINGS_EACH) as u64);
    let (stored, bytes) = store(STORED_TIMES * blocks).await?;
    let under = format!(
        "{GATEWAYS} gateways over mutual TLS on loopback, {} series, blocks of {READINGS_EACH} readings ({bytes} bytes)",
        GATEWAYS * SERIES_EACH,
    );
    figures::print(&under, &stored, as_json);
    let under = format!("the same, {millions} million readings into SQLite with as many before");
    figures::print(&under, &sustain(blocks).await?, as_json);
    Ok(())
}

/// Seconds of readings in so many blocks of a gateway.
fn seconds(blocks: u64) -> i64 {
    (blocks * (READINGS_EACH / SERIES_EACH) as u64) as i64
}

/// So many blocks of each gateway, all points at each second from `start` on.
fn blocks_from(start: i64, blocks: u64) -> Result<Vec<Vec<bytes::Bytes>>> {
    let start = Timestamp(start * MICROS_PER_SECOND);
    (0..GATEWAYS).map(|n| gateway::blocks(n, blocks, start, MICROS_PER_SECOND)).collect()
}

async fn connect(site: &Site) -> Result<Vec<Gateway>> {
    let mut gateways = Vec::new();
    for n in 0..GATEWAYS {
        gateways.push(Gateway::connect(site, n).await?);
    }
    Ok(gateways)
}

fn now() -> i64 {
    Timestamp::wall_clock().0 / MICROS_PER_SECOND
}

/// As fast as it goes onto the disk; and the bytes of a block.
async fn store(blocks: u64) -> Result<(Vec<figures::Figure>, usize)> {
    let made = blocks_from(now() - seconds(blocks), blocks)?;
    let bytes = made[0][0].len();
    let mut site = Site::new(GATEWAYS)?;
    let pid = site.start()?;
    let mut gateways = connect(&site).await?;
    let used = figures::processor(pid);
    let took = send(&mut gateways, made, Pace::Window).await?.as_secs_f64();
    let cpu = figures::processor(pid) - used;
    let readings = (blocks as usize * GATEWAYS * READINGS_EACH) as f64;
    let found = vec![
        figure("stored (acknowledged, on disk)", readings / took, "readings/s", Budget::AtLeast(300_000.0)),
        figure("  measured", took, "s", Budget::None),
        figure("  processor, commits meanwhile included", cpu / took * 100.0, "% of a core", Budget::None),
    ];
    Ok((found, bytes))
}

/// No faster than it reaches SQLite.
async fn sustain(blocks: u64) -> Result<Vec<figures::Figure>> {
    let start = now() - 2 * seconds(blocks);
    let mut site = Site::new(GATEWAYS)?;
    table::fill(&site, start, seconds(blocks)).await?;
    let made = blocks_from(start + seconds(blocks), blocks)?;
    let pid = site.start()?;
    let mut gateways = connect(&site).await?;
    let (began, used) = (Instant::now(), figures::processor(pid));
    send(&mut gateways, made, Pace::Ahead(AHEAD_READINGS / (GATEWAYS * READINGS_EACH) as u64)).await?;
    for gateway in &mut gateways {
        gateway.wait_committed(blocks).await?;
    }
    let committed_in = began.elapsed();
    let dirty = table::wait_clean(&site).await?;
    let (clean_in, cpu) = (began.elapsed(), figures::processor(pid) - used);
    let (_, peak) = figures::memory(pid);
    drop(gateways);
    let readings = blocks * (GATEWAYS * READINGS_EACH) as u64;
    table::count(&site, 2 * readings).await?;
    site.stop()?;
    let per_s = |time: Duration| readings as f64 / time.as_secs_f64();
    Ok(vec![
        figure("sustained, until the last rollup is right", per_s(clean_in), "readings/s", Budget::AtLeast(100_000.0)),
        figure("  of this: until committed", per_s(committed_in), "readings/s", Budget::None),
        figure("  buckets still dirty then", dirty as f64, "of 5 minutes", Budget::None),
        figure("  processor", cpu / readings as f64 * 1e6, "s per million", Budget::None),
        figure("  collector's memory at most", peak as f64 / 1e6, "MB", Budget::None),
    ])
}

/// Sends everything; until the last block is acknowledged as stored.
async fn send(gateways: &mut [Gateway], blocks: Vec<Vec<bytes::Bytes>>, pace: Pace) -> Result<Duration> {
    let began = Instant::now();
    let sending = gateways.iter_mut().zip(blocks).map(|(gateway, blocks)| gateway.send(blocks, pace));
    futures::future::try_join_all(sending).await?;
    Ok(began.elapsed())
}
