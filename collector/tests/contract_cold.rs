//! What every cold tier must do. A new implementation adds a module at the end and nothing else.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

mod services;

use collector::rollup::Rollup;
use collector::tiers::cold::bigquery::BigQueryCold;
use collector::tiers::cold::parquet::ParquetCold;
use collector::tiers::{Bucket, ColdTier, Day, Proof, Run, Runs, SeriesId, SeriesKey, StoredReading, TierError};
use futures::{StreamExt, TryStreamExt, stream};
use shared::ids::NodeId;
use shared::reading::{Held, MICROS_PER_SECOND, Quality, Timestamp};
use std::sync::Arc;

const HOUR: i64 = 3_600 * MICROS_PER_SECOND;
/// 2024-10-05, a day in the middle of a month.
const DAY: Day = Day(20_001);
const A: SeriesId = SeriesId(1);
const B: SeriesId = SeriesId(70_000);

fn key(series: SeriesId) -> Arc<SeriesKey> {
    let node = NodeId::new(format!("DIST_{series}").as_str()).unwrap();
    Arc::new(SeriesKey {
        node,
        metric: "flow_rate".into(),
        channel: if series == B { "inlet".into() } else { String::new() },
    })
}

fn reading(series: SeriesId, day: Day, after_start: i64, value: f64) -> StoredReading {
    let held = Held { value: Some(value), quality: Quality::GOOD, revision: 0 };
    StoredReading { series, at: day.start().plus_micros(after_start), held }
}

/// A reading every ten minutes, every ninth of them bad.
fn some(series: SeriesId, day: Day, value: f64) -> Vec<StoredReading> {
    let one = |n: i64| {
        let mut reading = reading(series, day, n * HOUR / 6, value + (n % 7) as f64 / 100.0);
        if n % 9 == 8 {
            reading.held = Held { value: None, quality: Quality::BAD_TIMEOUT, revision: 0 };
        }
        reading
    };
    (0..144).map(one).collect()
}

fn run(readings: &[StoredReading]) -> Run {
    Run { series: readings[0].series, key: key(readings[0].series), readings: readings.to_vec() }
}

/// As runs of at most 50 readings.
fn runs(readings: &[StoredReading]) -> Runs<'static> {
    let runs: Vec<_> = readings
        .chunk_by(|a, b| a.series == b.series)
        .flat_map(|of_one| of_one.chunks(50))
        .map(|some| Ok(run(some)))
        .collect();
    stream::iter(runs).boxed()
}

fn proof(readings: &[StoredReading]) -> Proof {
    let mut proof = Proof::default();
    readings.iter().for_each(|reading| proof.add(&run(std::slice::from_ref(reading))));
    proof
}

async fn all(tier: &impl ColdTier, day: Day) -> Vec<StoredReading> {
    let runs: Vec<Run> = tier.day(day).try_collect().await.unwrap();
    assert!(runs.iter().all(|run| run.key == key(run.series)), "names come back");
    runs.into_iter().flat_map(|run| run.readings).collect()
}

async fn holds(tier: &impl ColdTier, day: Day, readings: &[StoredReading]) {
    assert_eq!(all(tier, day).await, readings);
    assert_eq!(tier.proof(day).await.unwrap(), Some(proof(readings)));
}

async fn a_day_comes_back_as_it_was_given(tier: impl ColdTier) {
    assert_eq!((tier.proof(DAY).await.unwrap(), all(&tier, DAY).await), (None, vec![]));
    let rows = [some(A, DAY, 1.0), some(B, DAY, 0.1)].concat();
    assert_eq!(tier.replace_day(DAY, runs(&rows)).await.unwrap(), proof(&rows));
    holds(&tier, DAY, &rows).await;
    assert_eq!(tier.days(Day(0), Day::LAST).await.unwrap(), [DAY]);
    assert_eq!(tier.days(DAY.next(), Day::LAST).await.unwrap(), []);
}

async fn odd_values_and_times_come_back_bit_by_bit(tier: impl ColdTier) {
    let rows: Vec<_> = [f64::MIN_POSITIVE, f64::MAX, -1e-300, 0.1 + 0.2, 5e-324]
        .into_iter()
        .enumerate()
        .map(|(n, value)| StoredReading {
            held: Held { value: Some(value), quality: Quality(n as u8 * 50), revision: u32::MAX - n as u32 },
            ..reading(A, DAY, n as i64 * 7 + 1, 0.0)
        })
        .chain([reading(A, DAY, 24 * HOUR - 1, 1.0), reading(SeriesId(u32::MAX), DAY, 0, 2.0)])
        .collect();
    tier.replace_day(DAY, runs(&rows)).await.unwrap();
    holds(&tier, DAY, &rows).await;
}

async fn replacing_a_day_leaves_nothing_of_it_and_all_of_its_neighbours(tier: impl ColdTier) {
    let (before, after) = (Day(DAY.0 - 1), DAY.next());
    for day in [after, before, DAY] {
        tier.replace_day(day, runs(&[some(A, day, 1.0), some(B, day, 2.0)].concat())).await.unwrap();
    }
    let new = some(A, DAY, 3.0)[..10].to_vec();
    tier.replace_day(DAY, runs(&new)).await.unwrap();
    holds(&tier, DAY, &new).await;
    for day in [before, after] {
        holds(&tier, day, &[some(A, day, 1.0), some(B, day, 2.0)].concat()).await;
    }
    tier.replace_day(DAY, runs(&[])).await.unwrap();
    holds(&tier, DAY, &[]).await;
    assert_eq!(tier.days(before, after.next()).await.unwrap(), [before, DAY, after], "an empty day is held");
}

async fn merging_a_day_is_decided_by_the_rule(tier: impl ColdTier) {
    let there = some(A, DAY, 1.0);
    tier.merge_day(DAY, runs(&there)).await.unwrap();
    let corrected =
        StoredReading { held: Held { value: Some(9.0), quality: Quality::MANUAL, revision: 1 }, ..there[3] };
    let weaker = StoredReading { held: Held { value: None, quality: Quality::BAD_LINK, revision: 0 }, ..there[60] };
    let late = reading(A, DAY, 1, 5.0);
    let other = some(B, DAY, 2.0);
    let new = [vec![late, corrected, weaker], other.clone()].concat();
    let mut wanted = there.clone();
    wanted[3] = corrected;
    wanted.insert(1, late);
    wanted.extend(other);
    for _ in 0..2 {
        assert_eq!(tier.merge_day(DAY, runs(&new)).await.unwrap(), proof(&wanted), "again changes nothing");
        holds(&tier, DAY, &wanted).await;
    }
}

async fn what_is_not_a_day_is_refused_and_changes_nothing(tier: impl ColdTier) {
    let rows = some(A, DAY, 1.0);
    tier.replace_day(DAY, runs(&rows)).await.unwrap();
    let (a, b) = (reading(A, DAY, 0, 1.0), reading(B, DAY, 0, 1.0));
    let foreign = Run { readings: vec![b], ..run(&[a]) };
    let broken = Err(TierError::Unavailable { tier: "warm", why: "gone".into() });
    for (what, wrong) in [
        ("twice", vec![Ok(run(&[a, a]))]),
        ("out of order", vec![Ok(run(&[b])), Ok(run(&[a]))]),
        ("outside", vec![Ok(run(&[reading(A, DAY.next(), 0, 1.0)]))]),
        ("outside", vec![Ok(run(&[reading(A, DAY, -1, 1.0)]))]),
        ("another series", vec![Ok(foreign)]),
        ("gone", vec![Ok(run(&[a])), broken]),
    ] {
        let wrong = stream::iter(wrong).boxed();
        let error = tier.replace_day(DAY, wrong).await.unwrap_err().to_string();
        assert!(error.contains(what), "{what}: {error}");
        holds(&tier, DAY, &rows).await;
    }
    let error = tier.merge_day(DAY, stream::iter([Ok(run(&[a, a]))]).boxed()).await.unwrap_err();
    assert!(error.to_string().contains("twice"), "{error}");
    holds(&tier, DAY, &rows).await;
}

async fn a_range_goes_over_days_in_order(tier: impl ColdTier) {
    let days: Vec<Day> = (0..40).map(|n| Day(DAY.0 + n)).collect();
    for day in days.iter().rev().filter(|day| day.0 % 3 > 0) {
        tier.replace_day(*day, runs(&[some(A, *day, 1.0), some(B, *day, 2.0)].concat())).await.unwrap();
    }
    let wanted: Vec<_> = days.iter().filter(|day| day.0 % 3 > 0).flat_map(|day| some(B, *day, 2.0)).collect();
    let (from, to) = (DAY.start(), days[39].end());
    assert_eq!(tier.range(B, from, to, u32::MAX).await.unwrap(), wanted);
    assert_eq!(tier.range(B, from, to, 1_000).await.unwrap(), wanted[..1_000]);
    let (second, ninth) = (wanted[1].at, wanted[8].at);
    assert_eq!(tier.range(B, second, ninth, 100).await.unwrap(), wanted[1..8], "from is in, to is not");
    assert_eq!(tier.range(B, ninth, second, 100).await.unwrap(), []);
    assert_eq!(tier.range(SeriesId(5), from, to, 100).await.unwrap(), [], "another series");
    assert_eq!(tier.range(B, Timestamp(i64::MIN), Timestamp(i64::MAX), u32::MAX).await.unwrap(), wanted);
}

async fn the_last_reading_before_a_moment_may_be_days_ago(tier: impl ColdTier) {
    let (a, b) = (some(A, DAY, 1.0), some(B, Day(DAY.0 + 9), 2.0));
    tier.replace_day(DAY, runs(&a)).await.unwrap();
    tier.replace_day(Day(DAY.0 + 9), runs(&b)).await.unwrap();
    let later = Day(DAY.0 + 20).start();
    assert_eq!(a[143].held.value, None, "the last one is bad");
    assert_eq!(tier.last_before(A, later, false).await.unwrap(), Some(a[143]));
    assert_eq!(tier.last_before(A, later, true).await.unwrap(), Some(a[142]));
    assert_eq!(tier.last_before(A, a[20].at, false).await.unwrap(), Some(a[19]), "the moment itself isn't before it");
    assert_eq!(tier.last_before(A, a[0].at, false).await.unwrap(), None);
    assert_eq!(tier.last_before(B, later, false).await.unwrap(), Some(b[143]));
}

async fn sums_are_those_of_the_readings(tier: impl ColdTier) {
    let hold = 15 * 60 * MICROS_PER_SECOND;
    let days = [DAY, DAY.next()];
    for day in days {
        tier.replace_day(day, runs(&[some(A, day, 1.0), some(B, day, f64::from(day.0))].concat())).await.unwrap();
    }
    let readings: Vec<_> = days.iter().flat_map(|day| some(B, *day, f64::from(day.0))).collect();
    for bucket in [Bucket::FiveMinutes, Bucket::Hour] {
        for (from, to) in [(DAY.start(), days[1].end()), (readings[5].at, readings[200].at)] {
            let asked: Vec<_> = readings.iter().filter(|r| from <= r.at && r.at < to).collect();
            let wanted: Vec<_> = asked
                .chunk_by(|a, b| bucket.start_of(a.at) == bucket.start_of(b.at))
                .map(|w| (bucket.start_of(w[0].at), Rollup::of_all(w.iter().map(|r| (r.at, &r.held)), hold).unwrap()))
                .collect();
            assert_eq!(tier.aggregate(B, bucket, from, to, hold).await.unwrap(), wanted);
        }
    }
    assert_eq!(tier.aggregate(SeriesId(5), Bucket::Hour, DAY.start(), DAY.end(), hold).await.unwrap(), []);
}

async fn tidying_changes_no_row(tier: impl ColdTier) {
    // Two months, with a hole.
    let days: Vec<Day> = (0..50).filter(|n| *n != 7).map(|n| Day(DAY.0 + n)).collect();
    let rows = |day: Day| [some(A, day, 1.0), some(B, day, f64::from(day.0))].concat();
    for day in &days {
        tier.replace_day(*day, runs(&rows(*day))).await.unwrap();
    }
    let whole: Vec<_> = days.iter().flat_map(|day| some(B, *day, f64::from(day.0))).collect();
    let (from, to) = (DAY.start(), days[48].end());
    let last = Day(DAY.0 + 49);
    let files = tier.state().await.unwrap().files;
    tier.tidy(last.next()).await.unwrap();
    assert!(tier.state().await.unwrap().files <= files);
    assert_eq!(tier.days(DAY, last.next()).await.unwrap(), days);
    for day in &days {
        holds(&tier, *day, &rows(*day)).await;
    }
    assert_eq!(tier.range(B, from, to, u32::MAX).await.unwrap(), whole);
    // A late row, and a day that is made anew, in what was tidied.
    let late = reading(A, days[10], 1, 5.0);
    let mut merged = rows(days[10]);
    merged.insert(1, late);
    assert_eq!(tier.merge_day(days[10], runs(&[late])).await.unwrap(), proof(&merged));
    tier.replace_day(days[12], runs(&rows(days[12])[..7])).await.unwrap();
    for again in [false, true] {
        if again {
            tier.tidy(last.next()).await.unwrap();
        }
        holds(&tier, days[10], &merged).await;
        holds(&tier, days[12], &rows(days[12])[..7]).await;
        holds(&tier, days[11], &rows(days[11])).await;
        let without: Vec<_> = whole.iter().filter(|r| !days[12].contains(r.at)).copied().collect();
        assert_eq!(tier.range(B, from, to, u32::MAX).await.unwrap(), without);
    }
    let state = tier.state().await.unwrap();
    assert_eq!((state.days, state.first, state.last), (49, Some(DAY), Some(last)));
}

async fn what_is_written_at_a_time_is_all_there(tier: impl ColdTier) {
    let days: Vec<Day> = (0..10).map(|n| Day(DAY.0 + n)).collect();
    let replaced = days[1..].iter().map(|day| tier.replace_day(*day, runs(&some(A, *day, 1.0))));
    // And one day, row by row.
    let rows = some(A, DAY, 1.0)[..20].to_vec();
    let merged = rows.iter().map(|row| tier.merge_day(DAY, runs(std::slice::from_ref(row))));
    let tidied = tier.tidy(Day(DAY.0 + 60));
    let (replaced, merged, tidied) =
        futures::join!(futures::future::join_all(replaced), futures::future::join_all(merged), tidied);
    assert!(tidied.is_ok() && replaced.iter().chain(&merged).all(Result::is_ok));
    holds(&tier, DAY, &rows).await;
    for day in &days[1..] {
        holds(&tier, *day, &some(A, *day, 1.0)).await;
    }
}

async fn who_reads_while_a_day_is_replaced_sees_the_old_or_the_new_one(tier: impl ColdTier) {
    let tier = Arc::new(tier);
    let version = |n: i64| -> Vec<_> { some(A, DAY, n as f64)[..100].to_vec() };
    tier.replace_day(DAY, runs(&version(0))).await.unwrap();
    let writer = tokio::spawn({
        let tier = tier.clone();
        async move {
            for n in 1..=20 {
                tier.replace_day(DAY, runs(&version(n))).await.unwrap();
            }
        }
    });
    let mut seen = 0;
    while !writer.is_finished() {
        let got = tier.range(A, DAY.start(), DAY.end(), 1_000).await.unwrap();
        let n = got[0].held.value.unwrap() as i64;
        assert_eq!(got, version(n), "all of one version");
        assert!(n >= seen, "never back: {n} after {seen}");
        seen = n;
        let proved = tier.proof(DAY).await.unwrap();
        assert!((seen..=20).any(|n| proved == Some(proof(&version(n)))));
    }
    writer.await.unwrap();
    holds(&*tier, DAY, &version(20)).await;
}

macro_rules! every_promise {
    ($run:ident, $($arguments:tt)*) => {
        $run! { $($arguments)*;
            a_day_comes_back_as_it_was_given
            odd_values_and_times_come_back_bit_by_bit
            replacing_a_day_leaves_nothing_of_it_and_all_of_its_neighbours
            merging_a_day_is_decided_by_the_rule
            what_is_not_a_day_is_refused_and_changes_nothing
            a_range_goes_over_days_in_order
            the_last_reading_before_a_moment_may_be_days_ago
            sums_are_those_of_the_readings
            tidying_changes_no_row
            what_is_written_at_a_time_is_all_there
            who_reads_while_a_day_is_replaced_sees_the_old_or_the_new_one
        }
    };
}

macro_rules! each_by_itself {
    ($module:ident: $make:expr; $($test:ident)*) => {
        mod $module {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let (tier, _kept) = $make;
                super::$test(tier).await;
            })*
        }
    };
}

macro_rules! in_turn {
    ($make:expr; $($test:ident)*) => {
        $(println!("{}", stringify!($test));
        Box::pin($test($make)).await;)*
    };
}

fn parquet_folder() -> (impl ColdTier, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (ParquetCold::in_folder(folder.path()).unwrap(), folder)
}

/// As in S3, GCS or Azure: no folder, names that appear whole.
fn parquet_store() -> (impl ColdTier, ()) {
    let store = Arc::new(object_store::memory::InMemory::new());
    (ParquetCold::on(store, "memory", true), ())
}

every_promise!(each_by_itself, parquet_in_a_folder: parquet_folder());
every_promise!(each_by_itself, parquet_in_an_object_store: parquet_store());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parquet_in_s3_keeps_every_promise() {
    let server = services::s3::S3Server::start();
    let fresh = || Arc::into_inner(server.settings().open_files(std::path::Path::new("")).unwrap()).unwrap();
    every_promise!(in_turn, fresh());
    let objects = server.objects().await;
    assert!(!objects.is_empty() && objects.iter().all(|path| path.starts_with("archive/")), "{objects:?}");
    assert!(!objects.iter().any(|path| path.contains("/aside/")), "nothing is left aside: {objects:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bigquery_keeps_every_promise() {
    let server = services::bigquery::BigQuery::start().await;
    every_promise!(in_turn, BigQueryCold::new(&server.dataset()));
}
