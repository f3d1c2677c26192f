//! How fast a file comes in and goes out: rows/s of `collector import` into a collector with its default configuration, of
//! `collector export` out of it as CSV and Parquet, and the most memory that the programs take.
//!
//! `import_bench [--json] [MILLIONS]`: millions of rows, 10 by default, of a long file (time, node, metric, value) with 1,000
//! series every 10 s, a month old. It runs the program `collector` that was built beside it, on the disk of the current folder.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a tool for developers: what fails says where

#[path = "../../shared/examples/figures/mod.rs"]
mod figures;

use collector::ca::Authority;
use figures::{Budget, figure};
use shared::reading::Timestamp;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SERIES: u64 = 1_000;
const STEP: i64 = 10_000_000;
/// The file begins so long ago, microseconds.
const MONTH: i64 = 30 * 86_400_000_000;
/// Between looks at the memory.
const LOOK_EVERY: Duration = Duration::from_millis(20);

fn main() {
    let (as_json, arguments) = figures::arguments();
    let millions: f64 = arguments.first().map_or(10.0, |text| text.parse().unwrap());
    let rows = (millions * 1e6) as u64;
    let folder = tempfile::tempdir_in(".").unwrap();
    let (file, config) = (folder.path().join("rows.csv"), folder.path().join("collector.toml"));
    write(&file, rows);
    let data = folder.path().join("data");
    Authority::init(&data.join("ca"), &["localhost".into()]).unwrap();
    let text = format!("data_dir = {data:?}\n[ingest]\nlisten = '127.0.0.1:0'\n[api]\nlisten = '127.0.0.1:0'\n");
    std::fs::write(&config, text).unwrap();
    let mut running = start(&config);
    let words = |words: &[&str], file: &Path| [words, &[file.to_str().unwrap()]].concat().join("\n");
    let (took, peak) = run(&config, &words(&["import", "--create", "--json"], &file));
    let (_, collectors_peak) = figures::memory(running.id());
    let export = |name: &str| {
        let file = folder.path().join(name);
        let (took, peak) = run(&config, &words(&["export", "--from", "now-31d", "--out"], &file));
        (rows as f64 / took, peak as f64 / 1e6, std::fs::metadata(&file).unwrap().len())
    };
    let ((csv, csv_peak, _), (parquet, parquet_peak, parquet_bytes)) = (export("out.csv"), export("out.parquet"));
    let (_, last_peak) = figures::memory(running.id());
    running.kill().unwrap();
    running.wait().unwrap();
    let bytes = std::fs::metadata(&file).unwrap().len();
    let under = format!("a file of {rows} rows and {} MB into a collector, SQLite", bytes / 1_000_000);
    let found = [
        figure("import: read, stored, on disk", rows as f64 / took, "rows/s", Budget::AtLeast(100_000.0)),
        figure("  took", took, "s", Budget::None),
        figure("  memory of `collector import` at most", peak as f64 / 1e6, "MB", Budget::AtMost(300.0)),
        figure("  memory of the collector at most", collectors_peak as f64 / 1e6, "MB", Budget::AtMost(300.0)),
        figure("export: all of it out again, as CSV", csv, "readings/s", Budget::AtLeast(500_000.0)),
        figure("  as Parquet", parquet, "readings/s", Budget::AtLeast(500_000.0)),
        figure("  bytes a reading in Parquet", parquet_bytes as f64 / rows as f64, "B", Budget::None),
        figure("  memory of `collector export` at most", csv_peak.max(parquet_peak), "MB", Budget::AtMost(300.0)),
        figure(
            "  memory of the collector at most, import included",
            last_peak as f64 / 1e6,
            "MB",
            Budget::AtMost(300.0),
        ),
    ];
    figures::print(&under, &found, as_json);
}

fn write(file: &Path, rows: u64) {
    let mut out = BufWriter::new(File::create(file).unwrap());
    writeln!(out, "time,node,metric,value").unwrap();
    let start = Timestamp::wall_clock().0 / STEP * STEP - MONTH;
    for row in 0..rows {
        let (series, step) = (row % SERIES, row / SERIES);
        let at = Timestamp(start + step as i64 * STEP);
        writeln!(out, "{at},DIST_{series:04},flow_rate,{}.{:02}", series % 90, (row * 7919) % 100).unwrap();
    }
    out.into_inner().unwrap().sync_all().unwrap();
}

fn program() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    here.parent().unwrap().parent().unwrap().join("collector")
}

/// A collector that is up.
fn start(config: &Path) -> Child {
    let mut command = Command::new(program());
    command.args(["run", "--config"]).arg(config).env_remove("POSTGRES_HOST").stdout(Stdio::null());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("collector is up")), "the collector didn't come up");
    std::thread::spawn(move || lines.for_each(drop));
    child
}

/// How long a command of these words, line by line, took, and the most memory of the program, bytes.
fn run(config: &Path, words: &str) -> (f64, u64) {
    let mut command = Command::new(program());
    command.args(words.lines()).arg("--config").arg(config);
    let began = Instant::now();
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{words}");
            return (began.elapsed().as_secs_f64(), peak);
        }
        peak = peak.max(figures::memory(child.id()).1);
        std::thread::sleep(LOOK_EVERY);
    }
}
