//! An embedded installation moved to PostgreSQL and another archive.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

#[path = "services/mod.rs"]
mod services;
#[path = "support/mod.rs"]
mod support;

use collector::config::Config;
use collector::etl::ledger::{DayEntry, Export};
use collector::moving::{self, Archived, MoveError};
use collector::rollup::Rollup;
use collector::run::{RunError, Tiers};
use collector::tiers::cold::parquet::ParquetCold;
use collector::tiers::warm::postgres::PostgresWarm;
use collector::tiers::warm::settings::{Store, WarmSettings};
use collector::tiers::warm::sqlite::SqliteWarm;
use collector::tiers::*;
use services::postgres::Postgres;
use services::timescale::TimescaleServer;
use shared::ids::{GatewayId, NodeId};
use shared::reading::{Held, Quality, Timestamp};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

/// 2024-10-04
const FIRST: Day = Day(20_000);
const HOUR: i64 = 3_600_000_000;
const DAYS: i32 = 4;

/// An embedded installation, and where it is to go.
struct Installation {
    _folder: tempfile::TempDir,
    from: Config,
    to: Config,
}

impl Installation {
    async fn new(target: WarmSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut from = Config { data_dir: folder.path().join("data"), ..Config::default() };
        from.warm.store = Some(Store::Sqlite);
        std::fs::create_dir_all(&from.data_dir).unwrap();
        let mut to = from.clone();
        to.warm = WarmSettings { store: Some(Store::Postgres), ..target };
        to.cold.folder = Some(folder.path().join("new archive"));
        let made = Self { _folder: folder, from, to };
        made.fill().await;
        made
    }

    async fn old(&self) -> SqliteWarm {
        SqliteWarm::open(&self.from.warm_file()).await.unwrap()
    }

    /// Readings of some days, the first of which is in the archive, and a row in every table.
    async fn fill(&self) {
        let warm = self.old().await;
        let gateway = GatewayId::new("STATION_7").unwrap();
        let made = warm.series_for(&gateway, support::catalogue(&["A", "B"]).entries()).await.unwrap();
        let series: Vec<SeriesId> = made.into_iter().map(Result::unwrap).collect();
        let readings: Vec<_> = (0..DAYS).flat_map(|day| series.iter().flat_map(move |s| of_day(*s, day))).collect();
        warm.commit(Flush { readings, ..Flush::default() }).await.unwrap();
        while warm.refresh_rollups(1_000).await.unwrap() > 0 {}
        let cold = ParquetCold::in_folder(self.from.cold_dir()).unwrap();
        let proof = cold.replace_day(FIRST, warm.days().rows(FIRST)).await.unwrap();
        let DayEntry { version, exported: before, .. } = warm.days().days(FIRST, FIRST.next()).await.unwrap()[0];
        warm.days().exported(Export { day: FIRST, before, version, warm: proof, cold: proof }).await.unwrap();
        warm.close().await;
        let mut connection = SqliteConnectOptions::new().filename(self.from.warm_file()).connect().await.unwrap();
        for table in tables(&mut connection).await {
            let full: bool = number(&mut connection, &format!("SELECT count(*) FROM {table}")).await > 0;
            if !full {
                add_row(&mut connection, &table).await;
            }
        }
    }

    async fn go(&self) -> Result<(warm::transfer::Moved, Archived), MoveError> {
        moving::move_all(&self.from, &self.to, &mut |_, _, _| ()).await
    }
}

fn of_day(series: SeriesId, day: i32) -> impl Iterator<Item = StoredReading> {
    (0..144i64).map(move |n| {
        // The last digit of a double must come over.
        let value = (n % 9 != 8).then_some(f64::from(day) + n as f64 / 3.0);
        let quality = if value.is_some() { Quality::GOOD } else { Quality::BAD_TIMEOUT };
        let at = Day(FIRST.0 + day).start().plus_micros(n * HOUR / 6 + 1);
        StoredReading { series, at, held: Held { value, quality, revision: 0 } }
    })
}

async fn number(connection: &mut SqliteConnection, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(connection).await.unwrap()
}

async fn tables(connection: &mut SqliteConnection) -> Vec<String> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*' AND name NOT GLOB '_*'";
    sqlx::query_scalar(sql).fetch_all(connection).await.unwrap()
}

/// A row with something in every column that says nothing to anybody.
async fn add_row(connection: &mut SqliteConnection, table: &str) {
    let sql = format!("SELECT name, type FROM pragma_table_info('{table}')");
    let columns = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut *connection).await.unwrap();
    let value = |row: &sqlx::sqlite::SqliteRow| match (row.get::<&str, _>(0), row.get::<&str, _>(1)) {
        ("status", _) => "'done'",
        ("role", _) => "'operator'",
        ("raw", _) => "'gone'",
        ("normal" | "one", _) => "1",
        (_, "INTEGER") => "7",
        (_, "REAL") => "1.0 / 3.0",
        (_, "BLOB") => "x'00ff7e'",
        _ => "'it''s \"ü\" \\ {1}'",
    };
    let values: Vec<&str> = columns.iter().map(value).collect();
    let sql = format!("INSERT INTO {table} VALUES ({})", values.join(", "));
    sqlx::query(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

async fn rollups(tier: &impl WarmTier, series: SeriesId) -> Vec<(Timestamp, Rollup)> {
    let (from, to) = (FIRST.start(), Day(FIRST.0 + DAYS).start());
    tier.rollups(series, Bucket::FiveMinutes, from, to).await.unwrap().clean
}

/// All of it is there, and goes on.
async fn same(installation: &Installation) {
    let (old, new) = (installation.old().await, PostgresWarm::open(&installation.to.warm).await.unwrap());
    assert_eq!(old.series(None).await.unwrap(), new.series(None).await.unwrap());
    for day in (0..DAYS).map(|day| Day(FIRST.0 + day)) {
        let (before, after) = (Proof::of(old.days().rows(day)).await, Proof::of(new.days().rows(day)).await);
        assert_eq!(before.unwrap(), after.unwrap(), "{day}");
    }
    for series in old.series(None).await.unwrap() {
        let before = rollups(&old, series.id).await;
        assert_eq!(before, rollups(&new, series.id).await);
        assert!(before.len() > 100);
    }
    let all = (Day::FIRST, Day::LAST.next());
    assert_eq!(old.days().days(all.0, all.1).await.unwrap(), new.days().days(all.0, all.1).await.unwrap());
    let numbers = old.series(None).await.unwrap().iter().map(|series| series.id).max();
    let gateway = GatewayId::new("STATION_7").unwrap();
    let made = new.series_for(&gateway, support::catalogue(&["NEW"]).entries()).await.unwrap();
    assert!(made[0].as_ref().ok().copied() > numbers, "numbers go on");
    let cold = ParquetCold::in_folder(installation.to.cold.folder.clone().unwrap()).unwrap();
    assert_eq!(cold.proof(FIRST).await.unwrap(), Some(Proof::of(old.days().rows(FIRST)).await.unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_over_and_the_old_place_is_closed() {
    let server = Postgres::start().await;
    let installation = Installation::new(server.database().await).await;
    let refused = Tiers::open(&installation.to).await.err().unwrap();
    assert!(matches!(refused, RunError::LeftBehind { .. }), "{refused}");
    assert!(refused.to_string().contains("warm.sqlite holds 2 series, 2 users and tokens, and"), "{refused}");
    let (moved, archived) = installation.go().await.unwrap();
    assert_eq!((moved.days, moved.readings, archived), (4, 2 * 4 * 144, Archived { days: 1, readings: 2 * 144 }));
    let mut connection = SqliteConnectOptions::new().filename(installation.from.warm_file()).connect().await.unwrap();
    let mut rows = 0;
    for table in
        tables(&mut connection).await.iter().filter(|t| !["readings", "etl_leader", "hot_ledger"].contains(&t.as_str()))
    {
        let count = number(&mut connection, &format!("SELECT count(*) FROM {table}")).await;
        let mut there = server.options(&installation.to.warm.database).connect().await.unwrap();
        let sql = format!("SELECT count(*) FROM {table}");
        let found: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut there).await.unwrap();
        assert!(count > 0 && found == count, "{table}: {found} instead of {count}");
        rows += count;
    }
    assert_eq!(moved.rows, rows.cast_unsigned());
    same(&installation).await;

    let refused = Tiers::open(&installation.from).await.err().unwrap();
    assert!(matches!(refused, RunError::Moved { .. }), "{refused}");
    assert!(refused.to_string().contains("warm.sqlite holds was moved to PostgreSQL 127.0.0.1"), "{refused}");
    let again = installation.go().await.unwrap_err().to_string();
    assert!(again.starts_with("it was moved to PostgreSQL 127.0.0.1"), "{again}");
    let kept = moving::abandon(&installation.from.data_dir).unwrap_err().to_string();
    assert!(kept.contains("what came since then is only there"), "{kept}");
    Tiers::open(&installation.to).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_where_it_was_stopped() {
    let server = Postgres::start().await;
    let installation = Installation::new(server.database().await).await;
    let (mut stops, mut heard) = (0, BTreeSet::new());
    loop {
        // Dropped each time it begins with something that it never began with before.
        let new = AtomicBool::new(false);
        let mut hear = |what: &str, _: u64, _: u64| {
            new.fetch_or(heard.insert(what.to_owned()), Ordering::Relaxed);
        };
        let mut work = std::pin::pin!(moving::move_all(&installation.from, &installation.to, &mut hear));
        let ended = poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if new.load(Ordering::Relaxed) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        if let Some(done) = ended.await {
            done.unwrap();
            break;
        }
        stops += 1;
    }
    assert!(stops > 20, "{stops} stops");
    assert!(moving::Note::read(&installation.from.data_dir).unwrap().done);
    same(&installation).await;
}

/// Stopped between a day's last row and the look at what is there of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_wasnt_compared_before_is_compared_then() {
    let server = Postgres::start().await;
    let installation = Installation::new(server.database().await).await;
    let second = format!("readings of {}", FIRST.next());
    let begun = AtomicBool::new(false);
    let mut hear = |what: &str, _: u64, _: u64| begun.store(what == second, Ordering::Relaxed);
    let mut work = Box::pin(moving::move_all(&installation.from, &installation.to, &mut hear));
    poll_fn(|context| {
        assert!(work.as_mut().poll(context).is_pending());
        if begun.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    drop(work);
    let lost =
        "DELETE FROM moved WHERE what LIKE '%compared'; DELETE FROM readings WHERE ts = (SELECT min(ts) FROM readings)";
    server.execute(&installation.to.warm.database, lost).await;
    let refused = installation.go().await.unwrap_err().to_string();
    assert!(refused.contains("readings of 2024-10-04: 288 rows"), "{refused}");
}

/// The new database dies, and a person calls it again when that is back.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_the_new_database_has_all_of_it_in_the_end() {
    let mut server = Postgres::start().await;
    let installation = Installation::new(server.database().await).await;
    let (mut kills, mut heard) = (0, BTreeSet::new());
    loop {
        // Killed in the middle of days and of some tables, and once more when nothing is left but to tidy up.
        let mut hear = |what: &str, done: u64, total: u64| {
            let is_last = what.starts_with("archive") && done == total;
            let in_a_day = what.starts_with("readings of") && done > 0;
            if heard.insert((what.to_owned(), done)) && (heard.len() % 11 == 0 || in_a_day || is_last) {
                server.kill();
                kills += 1;
            }
        };
        let moving = Box::pin(moving::move_all(&installation.from, &installation.to, &mut hear));
        match support::within(moving).await {
            Ok(_) => break,
            Err(error) => assert!(error.to_string().contains("PostgreSQL"), "{error}"),
        }
        server.restart().await;
        if moving::Note::read(&installation.from.data_dir).is_some_and(|note| note.done) {
            break;
        }
    }
    assert!(kills > 8, "it was killed {kills} times");
    same(&installation).await;
    Tiers::open(&installation.to).await.unwrap();
}

/// A table may have hundreds of millions of rows.
#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_within_a_table_too() {
    let server = Postgres::start().await;
    let installation = Installation::new(server.database().await).await;
    let mut connection = SqliteConnectOptions::new().filename(installation.from.warm_file()).connect().await.unwrap();
    let many = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 50000) \
                INSERT INTO late_hours SELECT 1, n * 3600000000, 1 FROM n";
    sqlx::query(many).execute(&mut connection).await.unwrap();
    let (mut stops, mut began_at) = (0, Vec::new());
    loop {
        let (far, first) = (AtomicBool::new(false), AtomicBool::new(true));
        let began = &mut began_at;
        let mut hear = |what: &str, done: u64, _: u64| {
            if what == "late_hours" {
                if first.swap(false, Ordering::Relaxed) {
                    began.push(done);
                }
                far.fetch_or(done >= began.last().unwrap() + 21_000, Ordering::Relaxed);
            }
        };
        let mut work = std::pin::pin!(moving::move_all(&installation.from, &installation.to, &mut hear));
        let ended = poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if far.load(Ordering::Relaxed) && stops < 2 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        if let Some(done) = ended.await {
            done.unwrap();
            break;
        }
        stops += 1;
    }
    assert_eq!((stops, began_at), (2, vec![0, 20_000, 40_000]));
    let mut there = server.options(&installation.to.warm.database).connect().await.unwrap();
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM late_hours").fetch_one(&mut there).await.unwrap();
    assert_eq!(count, 50_001, "with the one that was there");
    same(&installation).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_moves_into_timescaledb() {
    let server = TimescaleServer::start();
    let installation = Installation::new(server.schema()).await;
    installation.go().await.unwrap();
    same(&installation).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_move_is_nobodys() {
    let server = Postgres::start().await;
    let installation = Installation::new(server.database().await).await;
    let begun = AtomicBool::new(false);
    let mut hear = |what: &str, _: u64, _: u64| begun.store(what.starts_with("readings of"), Ordering::Relaxed);
    {
        let mut work = std::pin::pin!(moving::move_all(&installation.from, &installation.to, &mut hear));
        poll_fn(|context| {
            assert!(work.as_mut().poll(context).is_pending());
            if begun.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let meanwhile = moving::abandon(&installation.from.data_dir).unwrap_err().to_string();
        assert!(meanwhile.contains("is under way"), "{meanwhile}");
    }
    let refused = Tiers::open(&installation.to).await.err().unwrap();
    assert!(matches!(refused, RunError::Moving(_)) && refused.to_string().contains("isn't finished"), "{refused}");
    assert!(moving::abandon(&installation.from.data_dir).unwrap());
    Tiers::open(&installation.from).await.unwrap();
    // Much may have changed since: what came over counts no more.
    let stale = installation.go().await.unwrap_err().to_string();
    assert!(stale.contains("part of another move is in this database"), "{stale}");
    assert_eq!(moving::Note::read(&installation.from.data_dir), None, "nothing was begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_moved_while_the_archive_is_not_there() {
    let server = Postgres::start().await;
    let installation = Installation::new(server.database().await).await;
    std::fs::remove_dir_all(installation.from.cold_dir()).unwrap();
    let refused = installation.go().await.unwrap_err().to_string();
    assert!(refused.contains("doesn't have 1 day that were archived there (2024-10-04)"), "{refused}");
    assert_eq!(moving::Note::read(&installation.from.data_dir), None, "nothing was begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_holds_something_else_is_left_alone() {
    let server = Postgres::start().await;
    let installation = Installation::new(server.database().await).await;
    let there = ParquetCold::in_folder(installation.to.cold.folder.clone().unwrap()).unwrap();
    // Of another installation, whose series has the number of one of ours.
    let run = |day: Day| {
        let held = Held { value: Some(999.0), quality: Quality::GOOD, revision: 0 };
        let key = SeriesKey { node: NodeId::new("ZZ").unwrap(), metric: "flow_rate".into(), channel: String::new() };
        let readings = vec![StoredReading { series: SeriesId(1), at: day.start(), held }];
        futures::StreamExt::boxed(futures::stream::iter([Ok(Run { series: SeriesId(1), key: key.into(), readings })]))
    };
    for day in [Day(FIRST.0 - 7), FIRST] {
        let proof = there.replace_day(day, run(day)).await.unwrap();
        let refused = installation.go().await.unwrap_err().to_string();
        assert!(refused.contains(&format!("the first is {day}")) && refused.contains("[cold]"), "{refused}");
        assert_eq!(moving::Note::read(&installation.from.data_dir), None, "nothing was begun");
        assert_eq!(there.proof(day).await.unwrap(), Some(proof), "nothing was replaced");
        std::fs::remove_dir_all(installation.to.cold.folder.clone().unwrap()).unwrap();
    }
    // What was brought there by hand before is no obstacle.
    let here = ParquetCold::in_folder(installation.from.cold_dir()).unwrap();
    let there = ParquetCold::in_folder(installation.to.cold.folder.clone().unwrap()).unwrap();
    there.replace_day(FIRST, here.day(FIRST)).await.unwrap();
    installation.go().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn configurations_that_do_not_fit_are_refused_in_words() {
    let server = Postgres::start().await;
    let installation = Installation::new(server.database().await).await;
    let refused =
        async |from: &Config, to: &Config| moving::move_all(from, to, &mut |_, _, _| ()).await.unwrap_err().to_string();
    let elsewhere = Config { data_dir: "/elsewhere".into(), ..installation.to.clone() };
    assert!(refused(&installation.from, &elsewhere).await.starts_with("data_dir must stay"));
    assert!(refused(&installation.from, &installation.from).await.contains("isn't \"postgres\""));
    assert!(refused(&installation.to, &installation.to).await.contains("only an embedded installation"));
    assert_eq!(moving::Note::read(&installation.from.data_dir), None, "nothing was begun");
}
