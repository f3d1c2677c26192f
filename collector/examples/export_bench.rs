//! How fast a day goes into the archive: readings/s from the warm tier into a Parquet file that was read back and proved,
//! and the most memory that takes. Then how fast `cleanup` proves and removes it.
//!
//! `export_bench [--json] [PART] [postgres]`: a day of 1,000 series at 10 s, 8.64 million readings, or that part of it;
//! out of SQLite, or out of a PostgreSQL as Debian packages it, with fsync, in a temporary folder. The disk is that of
//! the current folder. The work is done by this program, started again: its memory is the export's alone.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a tool for developers: what fails says where

#[path = "../../shared/examples/figures/mod.rs"]
mod figures;
#[path = "../tests/services/mod.rs"]
mod services;

use collector::etl::jobs::cleanup::Cleanup;
use collector::etl::jobs::daily_sync::DailySync;
use collector::etl::{Job, Progress};
use collector::tiers::cold::parquet::ParquetCold;
use collector::tiers::warm::postgres::PostgresWarm;
use collector::tiers::warm::sqlite::SqliteWarm;
use collector::tiers::{ColdTier, Day, Flush, StoredReading, WarmTier};
use figures::{Budget, figure};
use services::postgres::{Postgres, settings};
use shared::catalogue::{Class, Entry};
use shared::ids::{GatewayId, NodeId};
use shared::metric::Kind;
use shared::reading::{Held, MICROS_PER_SECOND, Quality};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

const SERIES: usize = 1_000;
const STEP: i64 = 10 * MICROS_PER_SECOND;
const PER_DAY: i64 = 8_640;
/// 2024-10-04.
const DAY: Day = Day(20_000);
/// Readings of each series that come together, as they come: all series, five minutes.
const TOGETHER: i64 = 30;
/// How the work is named among the arguments.
const WORK: &str = "--work";

#[tokio::main]
async fn main() {
    let all: Vec<String> = std::env::args().skip(1).collect();
    if let [what, folder, port] = all.as_slice()
        && what == WORK
    {
        return work(Path::new(folder), port.parse().unwrap()).await;
    }
    let (as_json, arguments) = figures::arguments();
    let part: f64 = arguments.iter().find_map(|a| a.parse().ok()).unwrap_or(1.0);
    let server = match arguments.iter().any(|a| a == "postgres") {
        true => Some(Postgres::start_with("trust", &["max_wal_size=8GB", "shared_buffers=256MB"]).await),
        false => None,
    };
    let port = server.as_ref().map_or(0, |server| server.port);
    let folder = tempfile::tempdir_in(".").unwrap();
    let warm = open(folder.path(), port).await;
    let series = ((SERIES as f64 * part.min(1.0)).round() as usize).max(1);
    let readings = fill(&*warm, series).await;
    warm.close().await;
    let path = folder.path().to_str().unwrap();
    let mut worker = Command::new(std::env::current_exe().unwrap());
    let done = worker.args([WORK, path, &port.to_string()]).stderr(Stdio::inherit()).output().unwrap();
    assert!(done.status.success(), "the work failed");
    let said = String::from_utf8(done.stdout).unwrap();
    let numbers: Vec<f64> = said.split_whitespace().map(|number| number.parse().unwrap()).collect();
    let [export, export_mb, cleanup, cleanup_mb, bytes] = numbers[..] else { panic!("{said}") };
    let of = if port == 0 { "SQLite" } else { "PostgreSQL" };
    let under = format!("a day of {series} series every 10 s, {readings} readings, out of {of} into Parquet, fsync on");
    let found = [
        figure("export: read, written, read back, proved", readings / export, "readings/s", Budget::AtLeast(500_000.0)),
        figure("  took", export, "s", Budget::None),
        figure("  memory at most", export_mb, "MB", Budget::AtMost(300.0)),
        figure("  bytes per reading", bytes / readings, "", Budget::AtMost(2.0)),
        figure("cleanup: both proved, removed", readings / cleanup, "readings/s", Budget::None),
        figure("  memory at most", cleanup_mb, "MB", Budget::AtMost(300.0)),
    ];
    figures::print(&under, &found, as_json);
}

async fn open(folder: &Path, port: u16) -> Arc<dyn WarmTier> {
    match port {
        0 => Arc::new(SqliteWarm::open(&folder.join("warm.sqlite")).await.unwrap()),
        port => Arc::new(PostgresWarm::open(&settings(port, "postgres")).await.unwrap()),
    }
}

/// As it comes: all series, a while at a time. Two decimals, a slow wave.
async fn fill(warm: &dyn WarmTier, series: usize) -> f64 {
    let entry = |n: usize| Entry {
        node: NodeId::new(format!("DIST_{n:04}").as_str()).unwrap(),
        metric: "flow_rate".into(),
        channel: String::new(),
        kind: Kind::Gauge,
        unit: "L/s".into(),
        resolution_exp: Some(-2),
        interval_ms: 10_000,
        silence_ms_max: 0,
        class: Class::Raw,
    };
    let entries: Vec<Entry> = (0..series).map(entry).collect();
    let numbers = warm.series_for(&GatewayId::new("STATION_7").unwrap(), &entries).await.unwrap();
    let numbers: Vec<_> = numbers.into_iter().map(Result::unwrap).collect();
    for first in (0..PER_DAY).step_by(TOGETHER as usize) {
        let mut readings = Vec::with_capacity(series * TOGETHER as usize);
        for (n, number) in numbers.iter().enumerate() {
            for step in first..first + TOGETHER {
                let wave = (step as f64 / PER_DAY as f64 * std::f64::consts::TAU).sin() * 4.0;
                let value = 20.0 + n as f64 % 50.0 + wave + ((step * 7 + n as i64) % 13) as f64 / 10.0;
                let held = Held { value: Some((value * 100.0).round() / 100.0), quality: Quality::GOOD, revision: 0 };
                readings.push(StoredReading { series: *number, at: DAY.start().plus_micros(step * STEP), held });
            }
        }
        warm.commit(Flush { readings, ..Flush::default() }).await.unwrap();
        while warm.refresh_rollups(1_000).await.unwrap() > 0 {}
    }
    (series as i64 * PER_DAY) as f64
}

/// Exports, then removes; prints seconds and megabytes of both, and the archive's bytes.
async fn work(folder: &Path, port: u16) {
    let warm = open(folder, port).await;
    let archive = Arc::new(ParquetCold::in_folder(folder.join("cold")).unwrap());
    let cold: Option<Arc<dyn ColdTier>> = Some(archive.clone());
    let now: Arc<dyn Fn() -> _ + Send + Sync> = Arc::new(|| Day(DAY.0 + 2).start());
    let sync =
        DailySync { warm: warm.clone(), cold: cold.clone(), inbox: None, now: now.clone(), alarm: Arc::default() };
    let cleanup = Cleanup::new(warm.clone(), cold, 0, now, Arc::default());
    let mut said = Vec::new();
    for job in [&sync as &dyn Job, &cleanup] {
        let began = Instant::now();
        let done = job.run(&Progress::default()).await.unwrap();
        assert!(done.rows > 0, "{}", done.detail);
        let (_, peak) = figures::memory(std::process::id());
        said.extend([began.elapsed().as_secs_f64(), peak as f64 / 1e6]);
    }
    said.push(archive.state().await.unwrap().bytes.unwrap() as f64);
    println!("{}", said.iter().map(f64::to_string).collect::<Vec<_>>().join(" "));
    warm.close().await;
}
