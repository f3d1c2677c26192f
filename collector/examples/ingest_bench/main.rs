//! What a collector takes in: readings/s acknowledged as stored, and readings/s that reach SQLite with rollups kept.
//!
//! `ingest_bench [--json] [MILLIONS]`, millions of readings in each of three parts, 6 by default. It runs the program
//! `collector` that was built beside it, with its default configuration, on the disk of the current folder, and talks
//! to it over mutual TLS on loopback, as gateways that send blocks of 500 readings:
//! 1. The table is filled before the collector starts, by SQL, and its rollups are brought up to date.
//! 2. *Stored*: all gateways send as fast as their windows let them, until the last block is acknowledged. What was
//!    stored is written to SQLite meanwhile, as always.
//! 3. *Sustained*: they send no faster than is committed, until the last reading is committed and the last rollup is
//!    right.
//!
//! In the end every reading is counted, in the table and in the rollups.

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
/// How far gateways run ahead of the commits in the last part: two transactions of the default size.
const AHEAD_READINGS: u64 = 100_000;

#[tokio::main]
async fn main() -> Result<()> {
    let (as_json, arguments) = figures::arguments();
    let millions: f64 = arguments.first().map_or(Ok(6.0), |text| text.parse()).context("MILLIONS is a number")?;
    let blocks = ((millions * 1e6) as u64).div_ceil((GATEWAYS * READINGS_EACH) as u64);
    let readings = blocks * (GATEWAYS * READINGS_EACH) as u64;
    let ticks = blocks * (READINGS_EACH / SERIES_EACH) as u64;
    let start = Timestamp::wall_clock().0 / MICROS_PER_SECOND - 3 * ticks as i64; // it ends now

    let mut site = Site::new(GATEWAYS)?;
    table::fill(&site, start, ticks).await?;
    let made = |part: u64| {
        let seconds = start + (part * ticks) as i64;
        (0..GATEWAYS).map(|n| gateway::blocks(n, blocks, seconds)).collect::<Result<Vec<_>>>()
    };
    let (first, second) = (made(1)?, made(2)?);
    let block_bytes = first[0][0].len();
    let pid = site.start()?;
    let mut gateways = Vec::new();
    for n in 0..GATEWAYS {
        gateways.push(Gateway::connect(&site, n).await?);
    }

    let (began, used) = (Instant::now(), figures::processor(pid));
    let stored_in = send(&mut gateways, first, Pace::Window).await?;
    let stored_cpu = figures::processor(pid) - used;
    for gateway in &mut gateways {
        gateway.wait_committed(blocks).await?;
    }
    table::wait_clean(&site).await?;
    let all_in = began.elapsed();

    let (began, used) = (Instant::now(), figures::processor(pid));
    send(&mut gateways, second, Pace::Ahead(AHEAD_READINGS / (GATEWAYS * READINGS_EACH) as u64)).await?;
    for gateway in &mut gateways {
        gateway.wait_committed(2 * blocks).await?;
    }
    let committed_in = began.elapsed();
    let dirty = table::wait_clean(&site).await?;
    let (clean_in, cpu) = (began.elapsed(), figures::processor(pid) - used);
    let (_, peak) = figures::memory(pid);
    table::count(&site, 3 * readings).await?;
    site.stop()?;

    let per_s = |time: Duration| readings as f64 / time.as_secs_f64();
    let under = format!(
        "{GATEWAYS} gateways over mutual TLS on loopback, {} series, blocks of {READINGS_EACH} readings ({block_bytes} bytes), \
         {} million readings a part, SQLite with as many before",
        GATEWAYS * SERIES_EACH,
        readings as f64 / 1e6
    );
    let found = [
        figure("stored (acknowledged, on disk)", per_s(stored_in), "readings/s", Budget::AtLeast(300_000.0)),
        figure("the same, until committed and rolled up", per_s(all_in), "readings/s", Budget::None),
        figure("  processor while storing", stored_cpu / stored_in.as_secs_f64() * 100.0, "% of a core", Budget::None),
        figure("sustained into SQLite, rollups right", per_s(clean_in), "readings/s", Budget::AtLeast(100_000.0)),
        figure("  of this: until committed", per_s(committed_in), "readings/s", Budget::None),
        figure("  buckets still dirty then", dirty as f64, "of 5 minutes", Budget::None),
        figure("  processor", cpu / readings as f64 * 1e6, "s per million", Budget::None),
        figure("collector's memory at most", peak as f64 / 1e6, "MB", Budget::None),
    ];
    figures::print(&under, &found, as_json);
    Ok(())
}

/// Sends everything; until the last block is acknowledged as stored.
async fn send(gateways: &mut [Gateway], blocks: Vec<Vec<bytes::Bytes>>, pace: Pace) -> Result<Duration> {
    let began = Instant::now();
    let sending = gateways.iter_mut().zip(blocks).map(|(gateway, blocks)| gateway.send(blocks, pace));
    futures::future::try_join_all(sending).await?;
    Ok(began.elapsed())
}
