//! What can happen to files: kills, damage, leftovers.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

use collector::tiers::cold::parquet::ParquetCold;
use collector::tiers::{ColdTier, Day, Proof, Run, Runs, SeriesId, SeriesKey, StoredReading};
use futures::{StreamExt, stream};
use shared::ids::NodeId;
use shared::reading::{Held, Quality};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// 2024-10-01.
const DAY: Day = Day(19_997);
const SECOND: i64 = 1_000_000;

/// Three series, one reading a minute, all with the value `value` in the first of them.
fn rows(day: Day, value: f64) -> Vec<Run> {
    let run = |series: u32| {
        let key = SeriesKey {
            node: NodeId::new(format!("N{series}").as_str()).unwrap(),
            metric: "level".into(),
            channel: String::new(),
        };
        let reading = |n: i64| StoredReading {
            series: SeriesId(series),
            at: day.start().plus_micros(n * 60 * SECOND),
            held: Held {
                value: Some(value + f64::from(series) * (n % 10) as f64),
                quality: Quality::GOOD,
                revision: 0,
            },
        };
        Run { series: SeriesId(series), key: Arc::new(key), readings: (0..1440).map(reading).collect() }
    };
    (0..3).map(run).collect()
}

fn runs(day: Day, value: f64) -> Runs<'static> {
    stream::iter(rows(day, value).into_iter().map(Ok)).boxed()
}

fn proof(day: Day, value: f64) -> Proof {
    let mut proof = Proof::default();
    rows(day, value).iter().for_each(|run| proof.add(run));
    proof
}

fn open(folder: &Path) -> ParquetCold {
    ParquetCold::in_folder(folder).unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).filter(|p| p.is_file()).collect();
    files.sort();
    files
}

/// More than one row group, and of each series more than a page.
#[tokio::test]
async fn what_is_found_in_many_pages_is_what_was_written() {
    const SERIES: u32 = 30;
    const STEP: i64 = 9_500_000;
    let (folder, day) = (tempfile::tempdir().unwrap(), Day(20_000));
    let of = |series: u32| {
        let held = |n| Held { value: Some(f64::from(series) + f64::from(n % 7)), quality: Quality::GOOD, revision: 0 };
        let at = |n: i32| day.start().plus_micros(i64::from(n) * STEP);
        (0..9_000).map(|n| StoredReading { series: SeriesId(series), at: at(n), held: held(n) }).collect::<Vec<_>>()
    };
    let run = |series: u32| {
        let key = SeriesKey {
            node: NodeId::new(&format!("N{series}")).unwrap(),
            metric: "level".into(),
            channel: String::new(),
        };
        Run { series: SeriesId(series), key: Arc::new(key), readings: of(series) }
    };
    let tier = open(folder.path());
    tier.replace_day(day, stream::iter((1..=SERIES).map(|series| Ok(run(series)))).boxed()).await.unwrap();
    for series in [1, 2, 14, 15, 29, 30, 31] {
        let all = if series > SERIES { Vec::new() } else { of(series) };
        for (from, to) in [(0, 9_000), (0, 1), (8_191, 8_193), (4_000, 4_500), (8_999, 9_500), (9_000, 9_001)] {
            let (from, to) = (day.start().plus_micros(from * STEP), day.start().plus_micros(to * STEP));
            let wanted: Vec<_> = all.iter().filter(|r| from <= r.at && r.at < to).copied().collect();
            // The second time from the footer that was kept.
            for _ in 0..2 {
                assert_eq!(
                    tier.range(SeriesId(series), from, to, u32::MAX).await.unwrap(),
                    wanted,
                    "{series} {from} {to}"
                );
            }
        }
    }
}

#[tokio::test]
async fn what_a_crash_left_behind_is_not_read_and_goes_with_the_next_write() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).replace_day(DAY, runs(DAY, 1.0)).await.unwrap();
    let aside = folder.path().join("aside");
    fs::write(aside.join("v9-77.parquet"), b"half of a day").unwrap();
    fs::write(aside.join("v9-78.parquet#1"), b"less than that").unwrap();
    fs::write(folder.path().join("notes.txt"), b"not ours").unwrap();
    let tier = open(folder.path());
    assert_eq!(tier.proof(DAY).await.unwrap(), Some(proof(DAY, 1.0)));
    tier.replace_day(DAY, runs(DAY, 2.0)).await.unwrap();
    assert_eq!(files(&aside).len(), 0, "{:?}", files(&aside));
    assert_eq!(files(folder.path()).len(), 2, "one day and the notes: {:?}", files(folder.path()));
    assert_eq!(tier.proof(DAY).await.unwrap(), Some(proof(DAY, 2.0)));
}

#[tokio::test]
async fn an_older_version_that_was_not_removed_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let tier = open(folder.path());
    tier.replace_day(DAY, runs(DAY, 1.0)).await.unwrap();
    let old = files(folder.path()).remove(0);
    let bytes = fs::read(&old).unwrap();
    tier.replace_day(DAY, runs(DAY, 2.0)).await.unwrap();
    fs::write(&old, bytes).unwrap();
    assert_eq!(open(folder.path()).proof(DAY).await.unwrap(), Some(proof(DAY, 2.0)));
    assert_eq!(tier.range(SeriesId(0), DAY.start(), DAY.end(), 9_999).await.unwrap().len(), 1440);
}

#[tokio::test]
async fn a_damaged_file_is_named_and_gives_no_data() {
    let folder = tempfile::tempdir().unwrap();
    let tier = open(folder.path());
    tier.replace_day(DAY, runs(DAY, 1.0)).await.unwrap();
    tier.replace_day(DAY.next(), runs(DAY.next(), 1.0)).await.unwrap();
    let file = files(folder.path()).remove(0);
    let name = file.file_name().unwrap().to_str().unwrap().to_owned();
    let whole = fs::read(&file).unwrap();
    let mut damages: Vec<(String, Vec<u8>)> = (0..whole.len())
        .step_by(whole.len() / 23)
        .map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            (format!("a bit at {at} of {}", whole.len()), bytes)
        })
        .collect();
    damages.push(("cut".into(), whole[..whole.len() / 2].to_vec()));
    damages.push(("empty".into(), Vec::new()));
    damages.push(("zeroes".into(), vec![0; whole.len()]));
    for (what, bytes) in damages {
        fs::write(&file, bytes).unwrap();
        // The one that has read it before, and one that never has.
        for tier in [&tier, &open(folder.path())] {
            let error = tier.range(SeriesId(1), DAY.start(), DAY.end(), 10).await.unwrap_err().to_string();
            assert!(error.contains(&name) && error.contains("damaged"), "{what}: {error}");
            assert!(tier.proof(DAY).await.is_err(), "{what}");
            assert!(tier.merge_day(DAY, runs(DAY, 2.0)).await.is_err(), "{what}");
            let other = tier.range(SeriesId(1), DAY.end(), DAY.next().end(), 10).await.unwrap();
            assert_eq!(other.len(), 10, "its neighbour is read all the same");
        }
    }
    tier.replace_day(DAY, runs(DAY, 3.0)).await.unwrap();
    assert_eq!(tier.proof(DAY).await.unwrap(), Some(proof(DAY, 3.0)), "replacing it cures it");
}

/// Set for the process that is killed: the folder it writes in.
const WRITE_IN: &str = "COLD_PARQUET_WRITE_IN";

/// No test by itself: what the process does that is killed.
#[tokio::test]
async fn writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(WRITE_IN) else { return };
    let tier = open(Path::new(&folder));
    for n in 1..10_000 {
        for day in [DAY, DAY.next()] {
            tier.replace_day(day, runs(day, f64::from(n))).await.unwrap();
        }
        tier.tidy(Day(DAY.0 + 40)).await.unwrap();
        println!("{n} is done");
    }
}

#[tokio::test]
async fn killed_at_any_moment_each_day_is_whole_and_no_older_than_what_was_done() {
    let folder = tempfile::tempdir().unwrap();
    for day in [DAY, DAY.next()] {
        open(folder.path()).replace_day(day, runs(day, 0.0)).await.unwrap();
    }
    for round in 0..8_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writes_until_it_is_killed", "--nocapture"])
            .env(WRITE_IN, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Killed after so many bytes of what it says, and a little later each time.
        let mut said = vec![0; 120 + round as usize * 7];
        child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        std::thread::sleep(Duration::from_millis(round * 3));
        child.kill().unwrap();
        let mut rest = String::new();
        child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
        child.wait().unwrap();
        let said = String::from_utf8(said).unwrap() + &rest;
        let done = said.lines().rev().find_map(|l| l.strip_suffix(" is done")?.parse::<u32>().ok()).unwrap();
        let tier = open(folder.path());
        for day in [DAY, DAY.next()] {
            let proved = tier.proof(day).await.unwrap();
            assert!((done..=done + 1).any(|n| proved == Some(proof(day, f64::from(n)))), "round {round}, {done} done");
        }
    }
}
