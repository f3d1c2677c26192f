//! How long questions take while 50,000 readings come in every second, and how large what they are asked of is.
//!
//! `latency_bench [--json] [--archive FOLDER] [PART…]`, parts are `embedded`, `production` and `sizes`, all by default.
//! It runs the program `collector` that was built beside it: *embedded* with memory and SQLite, *production* with Redis
//! and PostgreSQL, each on a file or server of its own on the disk of the current folder, both over the same archive.
//! 100 gateways send a block of 500 readings every second over mutual TLS, five moments of 100 series each, so that
//! 10,000 series change five times a second. Of the past there is, before the collector starts: an archive of a thousand
//! series at five minutes for a year, days that have left the warm tier; hourly rollups of 90 days and of three years; and
//! a day at 10 s of a hundred series, which a gateway sends. Questions go over HTTP, one after the other, and the time
//! counts until the last byte of the answer. Everything is on this machine.
//! With `--archive` the archive is made in that folder, or taken from there when it is there.
#![allow(clippy::unwrap_used)] // a tool for developers: what fails says where

mod archive;
mod ask;
#[path = "../../../shared/examples/figures/mod.rs"]
mod figures;
#[allow(dead_code)] // one benchmark uses a part
#[path = "../ingest_bench/gateway.rs"]
mod gateway;
mod load;
mod past;
mod rolled;
#[path = "../../tests/services/mod.rs"]
mod services;
#[path = "../ingest_bench/site.rs"]
mod site;
mod sizes;

use anyhow::{Context, Result, bail, ensure};
use collector::tiers::Day;
use figures::{Budget, Figure, figure};
use gateway::{Gateway, Pace, READINGS_EACH, SERIES_EACH};
use load::Load;
use services::postgres::Postgres;
use services::redis::Redis;
use shared::reading::{MICROS_PER_SECOND, Timestamp};
use site::Site;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

const GATEWAYS: usize = 100;
const SERIES: usize = GATEWAYS * SERIES_EACH;
/// Readings a second that come in meanwhile.
const RATE: f64 = (GATEWAYS * READINGS_EACH) as f64;
/// The step of the past day's readings, and how many a series has.
const STEP: i64 = 10 * MICROS_PER_SECOND;
const DAY_READINGS: i64 = 8_640;
/// The archive ends so many days ago: what is newer hasn't left the warm tier.
const KEPT_DAYS: i32 = 90;
/// Until the load counts as steady.
const SETTLE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(180);

struct Asked {
    json: bool,
    archive: Option<PathBuf>,
    parts: Vec<String>,
}

fn arguments() -> Result<Asked> {
    let (json, words) = figures::arguments();
    let mut asked = Asked { json, archive: None, parts: Vec::new() };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--archive" => asked.archive = Some(words.next().context("--archive: which folder?")?.into()),
            "embedded" | "production" | "sizes" => asked.parts.push(word),
            _ => bail!("'{word}' is none of embedded, production, sizes, --archive, --json"),
        }
    }
    Ok(asked)
}

#[tokio::main]
async fn main() -> Result<()> {
    let asked = arguments()?;
    let wants = |part: &str| asked.parts.is_empty() || asked.parts.iter().any(|word| word == part);
    let temporary = tempfile::Builder::new().prefix("latency-bench.").tempdir_in(".")?;
    let archive = asked.archive.clone().unwrap_or_else(|| temporary.path().join("archive"));
    let first = Day(Day::of(Timestamp::wall_clock()).0 - KEPT_DAYS - archive::DAYS);
    // What only says how large things are may run beside each other.
    let needed = (wants("embedded") || wants("production")) && !archive.join("aside").exists();
    let archiving = needed.then(|| tokio::spawn(archive::make(archive.clone(), first, asked.json)));
    if wants("sizes") {
        sizes::all(asked.json).await?;
    }
    if let Some(archiving) = archiving {
        archiving.await??;
    }
    let archive = || archive.canonicalize();
    if wants("embedded") {
        let found = embedded(&archive()?, first).await?;
        figures::print(&under("memory, SQLite and Parquet"), &found, asked.json);
    }
    if wants("production") {
        let found = production(&archive()?, first).await?;
        figures::print(&under("Redis, PostgreSQL and Parquet"), &found, asked.json);
    }
    Ok(())
}

fn under(tiers: &str) -> String {
    format!("questions to {tiers} while readings of {SERIES} series come in over mutual TLS, all on this machine")
}

async fn embedded(archive: &Path, first: Day) -> Result<Vec<Figure>> {
    // More than the default of 4 million: today's readings of the hundred series and what comes meanwhile.
    let site = site(archive, "[hot]\nreadings_max = 40000000\n")?;
    past::sqlite(&site.data().join("warm.sqlite"), first, Timestamp::wall_clock()).await?;
    measure(site, first).await
}

async fn production(archive: &Path, first: Day) -> Result<Vec<Figure>> {
    let settings = ["max_wal_size=4GB", "shared_buffers=512MB"];
    let (postgres, redis) = (Postgres::start_with("trust", &settings).await, Redis::start().await);
    let warm = postgres.database().await;
    let site = site(
        archive,
        &format!(
            "[warm]\nstore = 'postgres'\nhost = '127.0.0.1'\nport = {}\ndatabase = '{}'\nuser = 'postgres'\n\
             tls = 'off'\n[hot]\nstore = 'redis'\nhost = '{}'\n",
            warm.port,
            warm.database,
            redis.socket()
        ),
    )?;
    past::postgres(&warm, &postgres.options(&warm.database), first, Timestamp::wall_clock()).await?;
    measure(site, first).await
}

fn site(archive: &Path, tiers: &str) -> Result<Site> {
    Ok(Site::new(GATEWAYS)?.with(format!("{tiers}[cold]\nfolder = {archive:?}\n")))
}

async fn measure(mut site: Site, first: Day) -> Result<Vec<Figure>> {
    let pid = site.start()?;
    let api = site.api()?;
    // The readings of a day, whose first ones are a little older than what will be asked for.
    let blocks = (DAY_READINGS as usize * SERIES_EACH / READINGS_EACH) as u64;
    let begins = Timestamp::wall_clock().plus_micros(-DAY_READINGS * STEP);
    let mut gateway = Gateway::connect(&site, 0).await?;
    gateway.send(gateway::blocks(0, blocks, begins, STEP)?, Pace::Window).await?;
    gateway.wait_committed(blocks).await?;
    drop(gateway);
    wait_clean(api).await?;

    let load = Load::start(load::connect(&site, GATEWAYS).await?);
    tokio::time::sleep(SETTLE).await;
    let (began, used) = (load.mark(), figures::processor(pid));
    let mut found = Vec::new();
    for question in ask::questions(first, SERIES, SERIES_EACH as u32) {
        // Beside the gateways, not among them: whoever asks has a thread of its own.
        let asking = tokio::task::spawn_blocking(move || anyhow::Ok(question.ask(api)?.figures(&question)));
        found.extend(asking.await??);
    }
    let ended = load.mark();
    let seconds = ended.at.duration_since(began.at).as_secs_f64();
    let cpu = (figures::processor(pid) - used) / seconds * 100.0;
    let (_, peak) = figures::memory(pid);
    load.stop().await?;
    site.stop()?;
    let per_s = |from: u64, to: u64| (to - from) as f64 / seconds;
    let committed = per_s(began.committed, ended.committed);
    let mut all = vec![
        figure("readings stored meanwhile", per_s(began.stored, ended.stored), "readings/s", Budget::None),
        // Whole blocks are counted: a hundredth less is the edges.
        figure("readings committed meanwhile", committed, "readings/s", Budget::AtLeast(RATE * 0.99)),
        figure("  for so long", seconds, "s", Budget::None),
        figure("  collector's processor", cpu, "% of a core", Budget::None),
        figure("  collector's memory at most", peak as f64 / 1e6, "MB", Budget::None),
    ];
    all.extend(found);
    Ok(all)
}

/// Waits until only rollups of buckets that haven't ended, or have just now, are out of date.
async fn wait_clean(api: SocketAddr) -> Result<()> {
    let began = std::time::Instant::now();
    loop {
        let health: serde_json::Value = reqwest::get(format!("http://{api}/api/v1/health")).await?.json().await?;
        let dirty = health["tiers"]["warm"]["state"]["dirty_buckets"].as_u64();
        if dirty.is_some_and(|dirty| dirty <= 2 * SERIES_EACH as u64) {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "rollups are not right in time: {health}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
