//! A file of the archive isn't what was written any more.

use crate::lost::{five_have_left, run};
use crate::support::{Site, process, until};
use crate::world::{FIRST, HOUR, World, reading};
use collector::etl::jobs::Alarm;
use collector::etl::lost::{Lost, watch};
use collector::history::{Answer, POINTS_MAX, Points, Question, Resolution, Width};
use collector::tiers::warm::sqlite::SqliteWarm;
use collector::tiers::{ColdTier as _, Day, Run, SeriesInfo, WarmTier};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

fn day(n: i32) -> Day {
    Day(FIRST.0 + n)
}

/// The file of a day that has one for itself.
fn file_of(folder: &Path, of: Day) -> PathBuf {
    let name = format!("day-{of}.");
    let mut all = std::fs::read_dir(folder.join("cold")).unwrap().map(|file| file.unwrap().path());
    all.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&name)).unwrap()
}

/// A bit flips; gives the file's name and what it was.
fn damage(folder: &Path, of: Day) -> (PathBuf, Vec<u8>) {
    let file = file_of(folder, of);
    let whole = std::fs::read(&file).unwrap();
    let mut bytes = whole.clone();
    bytes[whole.len() / 2] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    (file, whole)
}

async fn ask(world: &World, series: &SeriesInfo, days: std::ops::Range<i32>, resolution: Resolution) -> Answer {
    let (from, to) = (day(days.start).start(), day(days.end).start());
    let (series, now) = (series.clone(), world.now());
    let question = Question { series, from, to, resolution, points_max: POINTS_MAX, thin: None, now };
    world.history().ask(&question).await.unwrap()
}

/// How many readings there are of each day.
fn by_day(answer: &Answer) -> Vec<usize> {
    let Points::Raw(points) = &answer.points else { panic!("buckets") };
    points.chunk_by(|a, b| Day::of(a.at) == Day::of(b.at)).map(<[_]>::len).collect()
}

fn says(answer: &Answer, file: &Path, days: &str) -> bool {
    let said = answer.degraded.iter().filter(|why| why.contains(&*file.to_string_lossy()) && why.contains(days));
    said.count() == 1
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_lacks_the_damaged_day_and_nothing_else() {
    let mut world = World::new().await;
    five_have_left(&mut world).await;
    let (file, _) = damage(world.folder.path(), day(2));
    let series = world.series[0].clone();
    let all = ask(&world, &series, 0..7, Resolution::Raw).await;
    assert_eq!(by_day(&all), [50, 50, 50, 50, 50, 50], "{:?}", all.degraded);
    assert!(says(&all, &file, "2024-10-06") && all.degraded.len() == 1, "{:?}", all.degraded);
    let within = ask(&world, &series, 2..3, Resolution::Raw).await;
    assert!(by_day(&within).is_empty() && says(&within, &file, "2024-10-06"), "{within:?}");
    let before = ask(&world, &series, 0..2, Resolution::Raw).await;
    assert_eq!((by_day(&before), before.degraded), (vec![50, 50], vec![]));
    // The database doesn't answer: the archive does, for all but that day.
    world.warm.close().await;
    let alone = ask(&world, &series, 0..7, Resolution::Buckets(Width::Day)).await;
    let Points::Buckets(_, points) = &alone.points else { panic!("readings") };
    let found: Vec<Day> = points.iter().filter(|p| p.rollup.is_some()).map(|p| Day::of(p.start)).collect();
    assert_eq!(found, [0, 1, 3, 4, 5, 6].map(day));
    assert!(says(&alone, &file, "2024-10-06"), "{:?}", alone.degraded);
}

/// A late reading makes its bucket's sum out of date; of the others that belong to it nobody can tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_needs_the_damaged_day_is_left_out() {
    let mut world = World::new().await;
    five_have_left(&mut world).await;
    let (file, whole) = damage(world.folder.path(), day(2));
    let series = world.series[0].clone();
    let hour = |answer: &Answer, n: i64| {
        let Points::Buckets(_, points) = &answer.points else { panic!("readings") };
        points.iter().find(|p| p.start == day(2).start().plus_micros(n * HOUR)).and_then(|point| point.rollup)
    };
    let before = ask(&world, &series, 2..3, Resolution::Buckets(Width::Hour)).await;
    assert!(hour(&before, 0).is_some());
    world.put(&[reading(&series, 2, 60_000_000, 900.0)]).await;
    let late = ask(&world, &series, 2..3, Resolution::Buckets(Width::Hour)).await;
    assert_eq!(hour(&late, 0), None, "not the late reading alone");
    assert_eq!(hour(&late, 1), hour(&before, 1));
    assert!(says(&late, &file, "2024-10-06"), "{:?}", late.degraded);
    std::fs::write(&file, whole).unwrap();
    let cured = ask(&world, &series, 2..3, Resolution::Buckets(Width::Hour)).await;
    let rollup = hour(&cured, 0).unwrap();
    assert!(rollup.good > 1 && cured.degraded.is_empty(), "{rollup:?} {:?}", cured.degraded);
}

/// Nobody has read them: they are looked through as long as something can be done about it.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_day_that_the_database_has_is_archived_again() {
    let mut world = World::new().await;
    world.store(0..10, 50).await;
    world.set_clock(10, 3);
    run(&world.sync()).await.unwrap();
    damage(world.folder.path(), day(3));
    assert_eq!(run(&world.sync()).await.unwrap(), "1 day archived");
    world.archive_is_true(10).await;
    assert_eq!(Lost::look(&*world.warm, &*world.faulty).await.unwrap().words(), None);
    assert_eq!(run(&world.sync()).await.unwrap(), "no day has changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_day_that_has_left_is_told_until_it_is_put_back() {
    let mut world = World::new().await;
    five_have_left(&mut world).await;
    let (file, whole) = damage(world.folder.path(), day(2));
    let (alarm, stop) = (Arc::<Alarm>::default(), CancellationToken::new());
    let watching = tokio::spawn(watch(world.warm.clone(), world.faulty.clone(), alarm.clone(), stop.clone()));
    assert_eq!(alarm.why(), None);
    ask(&world, &world.series[0], 0..7, Resolution::Raw).await;
    assert!(until(async || alarm.why().is_some()).await, "as soon as a read has met with it");
    let said = alarm.why().unwrap();
    for part in [file.to_str().unwrap(), "(2024-10-06; the database doesn't have 2024-10-06 any more)", "put a copy"] {
        assert!(said.contains(part), "{said}");
    }
    // What comes late for it waits in the database, what comes for others doesn't.
    world.store(1..3, 60).await;
    let failed = run(&world.sync()).await.unwrap_err();
    assert!(failed.contains("2024-10-06: ") && failed.contains("merged into 1 day"), "{failed}");
    std::fs::write(&file, whole).unwrap();
    ask(&world, &world.series[0], 0..7, Resolution::Raw).await;
    assert!(until(async || alarm.why().is_none()).await, "and as soon as a read has found it sound");
    assert_eq!(run(&world.sync()).await.unwrap(), "no day has changed; late readings merged into 1 day that had left");
    world.archive_is_true(30).await;
    stop.cancel();
    watching.await.unwrap();
}

/// Each month is put together by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_doesnt_keep_other_months_apart() {
    let mut world = World::new().await;
    world.store(0..27, 10).await;
    world.set_clock(27, 3);
    run(&world.sync()).await.unwrap();
    crate::world::refresh_all(&*world.warm).await;
    run(&world.cleanup(0)).await.unwrap();
    let (file, _) = damage(world.folder.path(), day(5));
    world.store(27..65, 10).await;
    world.set_clock(70, 3);
    // It is met when its month is to be put together, and told from then on.
    assert_eq!(run(&world.sync()).await.unwrap(), "38 days archived; 30 files put together");
    let said = run(&world.sync()).await.unwrap_err();
    assert!(said.contains(file.to_str().unwrap()) && said.contains("no day has changed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_over_it_says_which_file_and_day() {
    let folder = tempfile::tempdir().unwrap();
    let cold = folder.path().join("cold");
    let site = Site::new(&[], |config| config.cold.folder = Some(cold.clone()));
    let warm: Arc<dyn WarmTier> = Arc::new(SqliteWarm::open(&site.config.warm_file()).await.unwrap());
    let mut world = World::on(warm, folder).await;
    world.store(0..5, 3_600).await;
    world.set_clock(5, 3);
    run(&world.sync()).await.unwrap();
    crate::world::refresh_all(&*world.warm).await;
    run(&world.cleanup(0)).await.unwrap();
    world.warm.close().await;
    let (file, _) = damage(world.folder.path(), day(3));
    let collector = site.start().await;
    let config = site.write_config(&format!("[cold]\nfolder = '{}'\n", cold.display()));
    let export = async |from: Day, out: Option<&str>| {
        let (config, from) = (config.clone(), from.to_string());
        let out: Vec<String> = out.map(|out| ["--out".into(), out.into()]).into_iter().flatten().collect();
        tokio::task::spawn_blocking(move || {
            let arguments = ["export", "-c", config.to_str().unwrap(), "--from", &from, "--to", "2024-10-09"];
            let out: Vec<&str> = out.iter().map(String::as_str).collect();
            process::collector(&[&arguments[..], &out].concat())
        })
        .await
        .unwrap()
    };
    let csv = world.folder.path().join("out.csv");
    let parquet = world.folder.path().join("out.parquet");
    // Refused at the start, or broken off on the way.
    for (from, out) in [(day(3), None), (day(0), None), (day(0), csv.to_str()), (day(0), parquet.to_str())] {
        let done = export(from, out).await;
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(!done.status.success(), "{said}");
        assert!(said.contains(file.to_str().unwrap()) && said.contains("2024-10-07"), "{said}");
        assert!(out.is_none_or(|out| !Path::new(out).exists()));
    }
    let history = |more: &str| {
        let path = format!("history?series={}&from=2024-10-07&to=2024-10-08&resolution=raw{more}", world.series[0].id);
        format!("http://{}/api/v1/{path}", collector.api)
    };
    let (json, text) = (history(""), history("&format=csv"));
    let (json, text) =
        tokio::task::spawn_blocking(move || (ureq::get(json).call(), ureq::get(text).call())).await.unwrap();
    let answer: serde_json::Value = serde_json::from_str(&json.unwrap().body_mut().read_to_string().unwrap()).unwrap();
    assert!(answer["degraded"][0].as_str().unwrap().contains("2024-10-07"), "{answer}");
    assert!(matches!(text, Err(ureq::Error::StatusCode(503))), "a file has no place to say that");
    collector.stop().await;
}

/// An archive's days that this database never had are another installation's, whose series have other numbers.
#[tokio::test(flavor = "multi_thread")]
async fn days_that_never_left_this_database_are_not_shown() {
    let mut world = World::new().await;
    five_have_left(&mut world).await;
    let series = world.series[0].clone();
    let whole = ask(&world, &series, 0..7, Resolution::Raw).await;
    let foreign = vec![reading(&series, -20, 0, 999.0)];
    let run = Run { series: series.id, key: std::sync::Arc::new(series.key.clone()), readings: foreign };
    let runs = futures::StreamExt::boxed(futures::stream::iter([Ok(run)]));
    world.faulty.replace_day(day(-20), runs).await.unwrap();
    let all = ask(&world, &series, -30..7, Resolution::Raw).await;
    assert_eq!(by_day(&all), by_day(&whole), "{:?}", all.degraded);
    assert!(all.degraded.len() == 1 && all.degraded[0].contains("never archived"), "{:?}", all.degraded);
    let before = ask(&world, &series, -10..0, Resolution::Buckets(Width::Day)).await;
    assert!(!format!("{:?}", before.points).contains("999"), "nor as what went on: {before:?}");
}
