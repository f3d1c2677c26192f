//! What every account of archive days must do. A new implementation adds a module at the end and nothing else.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

use collector::etl::ledger::{DayEntry, Export, Leave, Merge, Raw};
use collector::rollup::{Rollup, hold};
use collector::tiers::warm::postgres::{Layout, PostgresWarm};
use collector::tiers::warm::settings::WarmSettings;
use collector::tiers::warm::sqlite::SqliteWarm;
use collector::tiers::{Bucket, Day, Flush, Proof, Run, SeriesId, StoredReading, WarmTier};
use futures::TryStreamExt as _;
use shared::catalogue::{Class, Entry};
use shared::ids::{GatewayId, NodeId};
use shared::metric::Kind;
use shared::reading::{Held, MICROS_PER_SECOND, Quality, Timestamp};

mod services;

const MINUTE: i64 = 60 * MICROS_PER_SECOND;
const HOUR: i64 = 60 * MINUTE;
/// 2024-10-05.
const DAY: Day = Day(20_001);

async fn series(tier: &impl WarmTier, nodes: &[&str]) -> Vec<SeriesId> {
    let entry = |node: &&str| Entry {
        node: NodeId::new(node).unwrap(),
        metric: "flow_rate".into(),
        channel: "inlet".into(),
        kind: Kind::Gauge,
        unit: "L/s".into(),
        resolution_exp: None,
        interval_ms: 60_000,
        silence_ms_max: 0,
        class: Class::Raw,
    };
    let entries: Vec<Entry> = nodes.iter().map(entry).collect();
    let numbers = tier.series_for(&GatewayId::new("STATION_7").unwrap(), &entries).await.unwrap();
    numbers.into_iter().map(Result::unwrap).collect()
}

fn good(series: SeriesId, day: Day, after_start: i64, value: f64) -> StoredReading {
    let held = Held { value: Some(value), quality: Quality::GOOD, revision: 0 };
    StoredReading { series, at: day.start().plus_micros(after_start), held }
}

fn minutes(series: SeriesId, day: Day, value: f64) -> Vec<StoredReading> {
    (0..1_440).map(|n| good(series, day, n * MINUTE, value + (n % 10) as f64)).collect()
}

async fn put(tier: &impl WarmTier, readings: &[StoredReading]) {
    tier.commit(Flush { readings: readings.to_vec(), ..Flush::default() }).await.unwrap();
}

async fn entry(tier: &impl WarmTier, day: Day) -> DayEntry {
    tier.days().days(day, day.next()).await.unwrap().remove(0)
}

async fn runs(tier: &impl WarmTier, day: Day) -> Vec<Run> {
    tier.days().rows(day).try_collect().await.unwrap()
}

async fn rows(tier: &impl WarmTier, day: Day) -> Vec<StoredReading> {
    runs(tier, day).await.into_iter().flat_map(|run| run.readings).collect()
}

async fn proof(tier: &impl WarmTier, day: Day) -> Proof {
    let mut proof = Proof::default();
    runs(tier, day).await.iter().for_each(|run| proof.add(run));
    proof
}

/// As if the archive had it: notes what is here as exported.
async fn export(tier: &impl WarmTier, day: Day) -> bool {
    let DayEntry { exported: before, version, .. } = entry(tier, day).await;
    let warm = proof(tier, day).await;
    tier.days().exported(Export { day, before, version, warm, cold: warm }).await.unwrap()
}

async fn refresh_all(tier: &impl WarmTier) {
    while tier.refresh_rollups(100).await.unwrap() > 0 {}
}

async fn a_days_version_grows_with_what_changes_it(tier: impl WarmTier) {
    let a = series(&tier, &["A"]).await[0];
    assert_eq!(tier.days().days(Day::FIRST, Day::LAST).await.unwrap(), []);
    assert_eq!(tier.complete_from().await.unwrap(), Timestamp(i64::MIN));
    put(&tier, &[good(a, DAY, 0, 1.0), good(a, DAY, 24 * HOUR - 1, 1.0), good(a, Day(-400), -1, 1.0)]).await;
    let days = tier.days().days(Day::FIRST, Day::LAST).await.unwrap();
    let fresh = |day| DayEntry {
        day,
        version: 1,
        exported: 0,
        warm: None,
        cold: None,
        next: None,
        exported_at: None,
        raw: Raw::Here,
    };
    assert_eq!(days, [fresh(Day(-401)), fresh(DAY)], "a day ends with its last microsecond, before 1970 as well");
    put(&tier, &[good(a, DAY, 0, 1.0)]).await;
    let loser = StoredReading {
        held: Held { value: None, quality: Quality::BAD_TIMEOUT, revision: 0 },
        ..good(a, DAY, 0, 0.0)
    };
    put(&tier, &[loser]).await;
    assert_eq!(entry(&tier, DAY).await.version, 1, "what changes nothing changes no version");
    let winner = StoredReading {
        held: Held { value: Some(2.0), quality: Quality::MANUAL, revision: 1 },
        ..good(a, DAY, 0, 0.0)
    };
    put(&tier, &[winner, good(a, DAY.next(), 0, 1.0)]).await;
    let days = tier.days().days(DAY, Day(DAY.0 + 2)).await.unwrap();
    assert_eq!(days.iter().map(|day| (day.day, day.version)).collect::<Vec<_>>(), [(DAY, 2), (DAY.next(), 1)]);
    tier.commit(Flush::default()).await.unwrap();
    assert_eq!(tier.days().days(DAY, Day(DAY.0 + 2)).await.unwrap(), days);
    assert_eq!(tier.days().days(DAY.next(), DAY.next()).await.unwrap(), []);
}

async fn a_days_readings_come_in_order_with_their_names(tier: impl WarmTier) {
    let numbers = series(&tier, &["B", "A", "C"]).await;
    let (mut wanted, mut day) = (Vec::new(), Vec::new());
    for (n, number) in numbers.iter().enumerate().take(2) {
        // More than comes in one run.
        let many: Vec<_> = (0..20_000).map(|i| good(*number, DAY, i * 4 * MICROS_PER_SECOND, n as f64 + 0.1)).collect();
        day.extend(many);
    }
    let odd = [f64::MIN_POSITIVE, f64::MAX, -1e-300, 5e-324];
    for (n, value) in odd.into_iter().enumerate() {
        let held = Held { value: Some(value), quality: Quality(255 - n as u8), revision: u32::MAX - n as u32 };
        day.push(StoredReading { held, ..good(numbers[2], DAY, n as i64, 0.0) });
    }
    let bad = Held { value: None, quality: Quality::BAD_TIMEOUT, revision: 0 };
    day.push(StoredReading { held: bad, ..good(numbers[2], DAY, 24 * HOUR - 1, 0.0) });
    let around = [good(numbers[0], DAY, -1, 7.0), good(numbers[0], DAY.next(), 0, 7.0)];
    put(&tier, &[&day[..], &around].concat()).await;
    wanted.extend(day);
    wanted.sort_by_key(|reading| (reading.series, reading.at));
    let runs = runs(&tier, DAY).await;
    for run in &runs {
        let named = tier.series(None).await.unwrap().into_iter().find(|s| s.id == run.series).unwrap();
        assert_eq!(*run.key, named.key);
        assert!(!run.readings.is_empty() && run.readings.iter().all(|reading| reading.series == run.series));
    }
    let found: Vec<_> = runs.into_iter().flat_map(|run| run.readings).collect();
    assert_eq!(found.len(), wanted.len());
    for (a, b) in found.iter().zip(&wanted) {
        // Values that quality forbids are stored as the tier stores them: compare with what it gives.
        assert_eq!((a.series, a.at, a.held.revision), (b.series, b.at, b.held.revision));
    }
    for number in numbers {
        let range = tier.range(number, DAY.start(), DAY.end(), u32::MAX).await.unwrap();
        assert_eq!(found.iter().filter(|r| r.series == number).copied().collect::<Vec<_>>(), range);
    }
    assert_eq!(rows(&tier, Day(DAY.0 + 5)).await, []);
}

async fn what_comes_during_an_export_is_not_taken_for_exported(tier: impl WarmTier) {
    let a = series(&tier, &["A"]).await[0];
    put(&tier, &[good(a, DAY, 0, 1.0)]).await;
    let before = entry(&tier, DAY).await;
    let read = proof(&tier, DAY).await;
    put(&tier, &[good(a, DAY, 1, 1.0)]).await;
    let export = |before: u64, version: u64| Export { day: DAY, before, version, warm: read, cold: read };
    assert!(tier.days().exported(export(0, before.version)).await.unwrap());
    let after = entry(&tier, DAY).await;
    assert!(after.is_dirty() && after.is_ours(), "{after:?}");
    assert_eq!((after.exported, after.version, after.warm, after.cold), (1, 2, Some(read), Some(read)));
    assert!(after.exported_at.is_some());
    assert!(!tier.days().exported(export(0, 2)).await.unwrap(), "another export was noted meanwhile");
    assert!(!tier.days().exported(export(1, 3)).await.unwrap(), "nobody can have that version");
    assert_eq!(entry(&tier, DAY).await, after);
    assert!(tier.days().exported(export(1, 2)).await.unwrap());
    assert!(!entry(&tier, DAY).await.is_dirty());
    let nowhere = Export { day: DAY.next(), ..export(0, 1) };
    assert!(!tier.days().exported(nowhere).await.unwrap(), "a day without readings");
    assert!(!tier.days().doubt(DAY, 1).await.unwrap(), "it was said of an older version");
    assert!(!entry(&tier, DAY).await.is_dirty());
    assert!(tier.days().doubt(DAY, 2).await.unwrap());
    assert_eq!(entry(&tier, DAY).await.version, 3);
    assert!(!tier.days().doubt(DAY, 3).await.unwrap(), "that was never exported");
}

async fn a_day_leaves_only_as_it_was_archived(tier: impl WarmTier) {
    let numbers = series(&tier, &["A", "B"]).await;
    let (a, b) = (numbers[0], numbers[1]);
    let day = [minutes(a, DAY, 1.0), minutes(b, DAY, 2.0)].concat();
    let neighbours = [minutes(a, Day(DAY.0 - 1), 3.0), minutes(a, DAY.next(), 4.0)].concat();
    put(&tier, &[&day[..], &neighbours].concat()).await;
    assert_eq!(tier.days().leave(DAY, 1).await.unwrap(), Leave::Changed, "it was never exported");
    assert!(!tier.days().clear(DAY).await.unwrap(), "and doesn't leave");
    assert!(export(&tier, DAY).await);
    assert_eq!(tier.days().leave(DAY, 1).await.unwrap(), Leave::Dirty, "its rollups aren't made");
    refresh_all(&tier).await;
    assert_eq!(tier.days().leave(DAY, 2).await.unwrap(), Leave::Changed, "another version");
    put(&tier, &[good(a, DAY, 1, 9.0)]).await;
    assert_eq!(tier.days().leave(DAY, 1).await.unwrap(), Leave::Changed, "something came");
    assert!(export(&tier, DAY).await);
    refresh_all(&tier).await;
    let rollups = async |bucket| tier.rollups(a, bucket, DAY.start(), DAY.end()).await.unwrap();
    let before = (rollups(Bucket::FiveMinutes).await, rollups(Bucket::Hour).await);
    assert_eq!((before.0.clean.len(), before.0.dirty.len(), before.1.clean.len()), (288, 0, 24));
    assert_eq!(tier.days().leave(DAY, 2).await.unwrap(), Leave::Yes);
    assert_eq!(tier.days().leave(DAY, 2).await.unwrap(), Leave::Changed, "once");
    assert_eq!((entry(&tier, DAY).await.raw, tier.complete_from().await.unwrap()), (Raw::Leaving, DAY.end()));
    assert!(tier.days().clear(DAY).await.unwrap());
    assert!(tier.days().clear(DAY).await.unwrap(), "again changes nothing");
    assert_eq!((entry(&tier, DAY).await.raw, rows(&tier, DAY).await), (Raw::Gone, vec![]));
    assert_eq!((rollups(Bucket::FiveMinutes).await, rollups(Bucket::Hour).await), before, "rollups stay");
    for around in [Day(DAY.0 - 1), DAY.next()] {
        assert_eq!(rows(&tier, around).await.len(), 1_440, "its neighbours stay");
    }
    let latest = tier.latest(&[a, b]).await.unwrap();
    let at = |series| latest.iter().find(|r| r.series == series).copied();
    assert_eq!(at(a), neighbours.last().copied());
    assert_eq!(at(b), day.last().copied(), "what has left is still the newest");
    refresh_all(&tier).await;
    assert_eq!(rollups(Bucket::Hour).await, before.1);
}

async fn what_a_merge_makes_of_a_day_is_noted_before(tier: impl WarmTier) {
    let a = series(&tier, &["A"]).await[0];
    put(&tier, &minutes(a, DAY, 1.0)).await;
    refresh_all(&tier).await;
    export(&tier, DAY).await;
    let there = proof(&tier, DAY).await;
    let merged = Proof { rows: there.rows + 1, xor: !there.xor };
    let merge = Merge { day: DAY, before: 1, there, merged };
    assert!(!tier.days().merging(merge).await.unwrap(), "it hasn't left");
    assert_eq!(tier.days().leave(DAY, 1).await.unwrap(), Leave::Yes);
    let exported = entry(&tier, DAY).await;
    assert_eq!((exported.cold, exported.next), (Some(there), Some(there)));
    assert!(exported.may_be(there) && !exported.may_be(merged));
    assert!(!tier.days().merging(Merge { before: 2, ..merge }).await.unwrap(), "another one was noted meanwhile");
    assert_eq!(entry(&tier, DAY).await, exported);
    assert!(tier.days().merging(merge).await.unwrap());
    assert_eq!(entry(&tier, DAY).await, DayEntry { next: Some(merged), ..exported });
    assert!(tier.days().merging(Merge { there: merged, merged: there, ..merge }).await.unwrap());
    assert_eq!(entry(&tier, DAY).await, DayEntry { cold: Some(merged), ..exported });
}

async fn what_comes_for_a_day_that_has_left_waits_for_the_archive(tier: impl WarmTier) {
    let numbers = series(&tier, &["A", "B"]).await;
    let (a, b) = (numbers[0], numbers[1]);
    let mut truth = minutes(a, DAY, 1.0);
    put(&tier, &truth).await;
    refresh_all(&tier).await;
    export(&tier, DAY).await;
    assert_eq!(tier.days().leave(DAY, 1).await.unwrap(), Leave::Yes);
    // It comes between leaving and being removed.
    let late = [good(a, DAY, 61 * MINUTE + 1, -5.0), good(a, DAY, 24 * HOUR - 1, -6.0), good(b, DAY, 5, -7.0)];
    put(&tier, &late[..1]).await;
    assert!(!tier.days().clear(DAY).await.unwrap(), "the archive hasn't got it");
    assert!(rows(&tier, DAY).await.contains(&late[0]));
    assert!(export(&tier, DAY).await);
    assert!(tier.days().clear(DAY).await.unwrap());
    assert_eq!(rows(&tier, DAY).await, []);
    // And after that.
    put(&tier, &late[1..]).await;
    assert_eq!(rows(&tier, DAY).await, late[1..], "only what came late");
    let now = entry(&tier, DAY).await;
    assert_eq!((now.raw, now.is_dirty()), (Raw::Gone, true));
    assert_eq!(tier.refresh_rollups(100).await.unwrap(), 0, "nothing is made from some of a day's readings");
    let five = Bucket::FiveMinutes;
    let stale = tier.days().stale(DAY, None, 10).await.unwrap();
    let bucket = |at: Timestamp| five.start_of(at);
    let wanted = [(a, vec![bucket(late[0].at), bucket(late[1].at)]), (b, vec![bucket(late[2].at)])];
    assert_eq!(stale, wanted);
    assert_eq!(tier.days().stale(DAY, None, 1).await.unwrap(), wanted[..1]);
    assert_eq!(tier.days().stale(DAY, Some(a), 10).await.unwrap(), wanted[1..]);
    assert_eq!(tier.days().stale(DAY.next(), None, 10).await.unwrap(), []);
    assert_eq!(tier.rollups(a, five, DAY.start(), DAY.end()).await.unwrap().dirty, wanted[0].1);
    truth.extend(late);
    truth.sort_by_key(|reading| (reading.series, reading.at));
    for (series, buckets) in &wanted {
        let of = |r: &&StoredReading| r.series == *series && buckets.contains(&bucket(r.at));
        let readings: Vec<_> = truth.iter().filter(of).copied().collect();
        assert!(!tier.days().renew(DAY, now.version - 1, *series, buckets, &readings).await.unwrap());
        assert!(tier.days().renew(DAY, now.version, *series, buckets, &readings).await.unwrap());
    }
    assert_eq!(tier.days().stale(DAY, None, 10).await.unwrap(), []);
    for series in [a, b] {
        for width in [five, Bucket::Hour] {
            let mine = truth.iter().filter(|r| r.series == series).copied().collect::<Vec<_>>();
            let sum = |some: &[StoredReading]| {
                let rollup = Rollup::of_all(some.iter().map(|r| (r.at, &r.held)), hold(60_000, 0)).unwrap();
                (width.start_of(some[0].at), rollup)
            };
            let sums: Vec<_> = mine.chunk_by(|x, y| width.start_of(x.at) == width.start_of(y.at)).map(sum).collect();
            let found = tier.rollups(series, width, DAY.start(), DAY.end()).await.unwrap();
            assert_eq!(found.dirty, []);
            assert_eq!(found.clean.len(), sums.len());
            for (found, wanted) in found.clean.iter().zip(&sums) {
                assert_eq!((found.0, found.1.count()), (wanted.0, wanted.1.count()));
                let (found, wanted) = (found.1.usable.unwrap(), wanted.1.usable.unwrap());
                assert_eq!((found.min, found.max, found.last), (wanted.min, wanted.max, wanted.last));
                assert!((found.integral - wanted.integral).abs() < 1e-6);
            }
        }
    }
    assert!(export(&tier, DAY).await);
    assert_eq!(entry(&tier, DAY).await.raw, Raw::Leaving);
    assert!(tier.days().clear(DAY).await.unwrap());
    let mut latest = tier.latest(&[a, b]).await.unwrap();
    latest.sort_by_key(|reading| reading.series);
    assert_eq!(latest, late[1..], "late ones are the newest, though all have left");
    // A day that nobody knew when others left is whole in itself, and complete_from says nothing of it.
    let older = Day(DAY.0 - 50);
    put(&tier, &[good(a, older, 0, 1.0)]).await;
    assert_eq!((entry(&tier, older).await.raw, tier.complete_from().await.unwrap()), (Raw::Here, DAY.end()));
    assert_eq!(tier.latest(&[a]).await.unwrap(), late[1..2], "and the newest stays the newest");
}

/// Every promise, handed to a macro that makes something of it.
macro_rules! every_promise {
    ($with:ident, $make:expr) => {
        $with! { $make;
            a_days_version_grows_with_what_changes_it
            a_days_readings_come_in_order_with_their_names
            what_comes_during_an_export_is_not_taken_for_exported
            a_day_leaves_only_as_it_was_archived
            what_a_merge_makes_of_a_day_is_noted_before
            what_comes_for_a_day_that_has_left_waits_for_the_archive
        }
    };
}

macro_rules! each_alone {
    ($make:expr; $($test:ident)*) => {
        $(#[tokio::test]
        async fn $test() {
            let (tier, _folder) = $make.await;
            super::$test(tier).await;
        })*
    };
}

/// One after the other, for tiers on a server that is started once.
macro_rules! in_turn {
    ($make:expr; $($test:ident)*) => {
        $(
            eprintln!("    {}", stringify!($test));
            $test($make.await).await;
        )*
    };
}

async fn tier_of(settings: WarmSettings, layout: Layout) -> PostgresWarm {
    let tier = PostgresWarm::open(&settings).await.unwrap();
    assert_eq!(tier.ready().await.unwrap(), layout);
    tier
}

mod sqlite {
    use super::*;
    use sqlx::ConnectOptions as _;
    use sqlx::migrate::Migrator;
    use sqlx::sqlite::SqliteConnectOptions;

    async fn made() -> (SqliteWarm, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (SqliteWarm::open(&folder.path().join("warm.sqlite")).await.unwrap(), folder)
    }

    every_promise!(each_alone, made());

    /// A file of before there was an account: all its days are still to be archived.
    #[tokio::test]
    async fn days_of_before_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("warm.sqlite");
        let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
        let mut connection = options.connect().await.unwrap();
        let all = Migrator::new(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite")))
            .await
            .unwrap();
        let before = all.iter().filter(|migration| migration.version < 11).cloned().collect();
        Migrator::with_migrations(before).run_direct(None, &mut connection, false).await.unwrap();
        for bucket in [DAY.start().0, DAY.end().0 - 300_000_000, -300_000_000, -86_400_000_000, 0] {
            let sql = "INSERT INTO dirty_buckets (series_id, bucket) VALUES (1, ?)";
            sqlx::query(sql).bind(bucket).execute(&mut connection).await.unwrap();
        }
        let tier = SqliteWarm::open(&file).await.unwrap();
        let days = tier.days().days(Day::FIRST, Day::LAST).await.unwrap();
        assert!(days.iter().all(|day| day.is_dirty() && day.raw == Raw::Here));
        assert_eq!(days.iter().map(|day| day.day).collect::<Vec<_>>(), [Day(-1), Day(0), DAY]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_postgresql_keeps_every_promise() {
    let server = services::postgres::Postgres::start().await;
    let fresh = async || tier_of(server.database().await, Layout::Plain).await;
    every_promise!(in_turn, fresh());
}

#[tokio::test(flavor = "multi_thread")]
async fn timescaledb_keeps_every_promise() {
    let server = services::timescale::TimescaleServer::start();
    let fresh = async || tier_of(server.schema(), Layout::Timescale).await;
    every_promise!(in_turn, fresh());
}
