//! Days without TimescaleDB.

use super::*;
use collector::etl::ledger::{Export, Leave, Raw};
use collector::tiers::{Day, Proof};
use futures::TryStreamExt as _;
use services::postgres::Postgres;
use sqlx::Executor as _;

const DAY: i64 = 86_400 * SECOND;

async fn partitions(server: &Postgres, settings: &WarmSettings) -> Vec<String> {
    let sql = "SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY inhrelid::regclass::text) \
               FROM pg_inherits WHERE inhparent = 'readings'::regclass";
    ask(server, settings, sql).await.split(' ').map(str::to_owned).collect()
}

async fn in_other(server: &Postgres, settings: &WarmSettings) -> String {
    ask(server, settings, "SELECT count(*) FROM readings_other").await
}

#[tokio::test]
async fn late_and_future_readings_have_their_days_and_all_can_be_asked_for() {
    let server = Postgres::start().await;
    let settings = server.database().await;
    let tier = PostgresWarm::open(&settings).await.unwrap();
    let series = series(&tier, &["A"]).await[0];
    let today = support::now() / DAY * DAY;
    // Long ago, in 1999, three weeks late, today, next week, and beyond 2100.
    let times = [-40_000 * DAY, 946_684_799 * SECOND, today - 21 * DAY, today, today + 7 * DAY, 50_000 * DAY];
    let readings: Vec<_> = times.iter().map(|at| good(series, *at, 1.0)).collect();
    assert_eq!(put(&tier, readings.clone()).await.written, 6);
    assert_eq!(put(&tier, readings.clone()).await.written, 0);
    let all = tier.range(series, Timestamp(i64::MIN), Timestamp(i64::MAX), 100).await.unwrap();
    assert_eq!(all, readings);
    assert_eq!(tier.latest(&[series]).await.unwrap(), readings[5..]);
    let name = |at: i64| format!("readings_{}", Timestamp(at).to_string()[..10].replace('-', ""));
    let mut wanted: Vec<_> = [today - 21 * DAY, today, today + DAY, today + 7 * DAY].map(name).to_vec();
    wanted.extend(["readings_future", "readings_other", "readings_past"].map(str::to_owned));
    assert_eq!(partitions(&server, &settings).await, wanted);
    while tier.refresh_rollups(100).await.unwrap() > 0 {}
    assert_eq!(ask(&server, &settings, "SELECT count(*) FROM rollup_5m").await, "6");
}

#[tokio::test]
async fn someone_who_reads_everything_for_long_keeps_nobody_from_storing() {
    let server = Postgres::start().await;
    let settings = server.database().await;
    let tier = PostgresWarm::open(&settings).await.unwrap();
    let series = series(&tier, &["A"]).await[0];
    let today = support::now() / DAY * DAY;
    // As a dump does.
    let mut reader = server.options(&settings.database).connect().await.unwrap();
    reader.execute("BEGIN; LOCK TABLE readings IN ACCESS SHARE MODE").await.unwrap();
    assert_eq!(put(&tier, vec![good(series, today, 1.0)]).await.written, 1);
    assert_eq!(in_other(&server, &settings).await, "1");
    reader.execute("COMMIT").await.unwrap();
    // That day stays where it is; others have theirs.
    put(&tier, vec![good(series, today + SECOND, 1.0), good(series, today - DAY, 1.0)]).await;
    assert_eq!(in_other(&server, &settings).await, "2");
    let next = PostgresWarm::open(&settings).await.unwrap();
    put(&next, vec![good(series, today + 2 * SECOND, 1.0), good(series, today + DAY, 1.0)]).await;
    assert_eq!(in_other(&server, &settings).await, "3");
    assert_eq!(partitions(&server, &settings).await.len(), 3 + 2);
}

#[tokio::test]
async fn days_are_bounded() {
    let server = Postgres::start().await;
    let settings = server.database().await;
    let tier = PostgresWarm::open(&settings).await.unwrap().with_partitions_max(6);
    let series = series(&tier, &["A"]).await[0];
    let today = support::now() / DAY * DAY;
    let readings = (0..5).map(|n| good(series, today - n * DAY, 1.0)).collect();
    assert_eq!(put(&tier, readings).await.written, 5);
    assert_eq!(partitions(&server, &settings).await.len(), 6, "the three that are always there among them");
    assert_eq!(in_other(&server, &settings).await, "3", "the oldest have none of their own");
}

/// As if the archive had all of it.
async fn let_leave(tier: &PostgresWarm, day: Day) {
    let entry = tier.days().days(day, day.next()).await.unwrap().remove(0);
    let (before, version, warm) = (entry.exported, entry.version, Proof { rows: 1, xor: 1 });
    assert!(tier.days().exported(Export { day, before, version, warm, cold: warm }).await.unwrap());
    assert_eq!(tier.days().leave(day, version).await.unwrap(), Leave::Yes);
}

#[tokio::test]
async fn a_day_that_has_left_has_no_partition_and_the_views_keep_its_rollups() {
    let server = Postgres::start().await;
    let settings = server.database().await;
    let tier = PostgresWarm::open(&settings).await.unwrap();
    let series = series(&tier, &["A"]).await[0];
    let start = support::now() / DAY * DAY - 100 * DAY;
    let day = Day::of(Timestamp(start));
    put(&tier, (0..600).map(|n| good(series, start + n * SECOND, 1.0)).collect()).await;
    put(&tier, vec![good(series, start + DAY, 1.0)]).await;
    while tier.refresh_rollups(100).await.unwrap() > 0 {}
    let views = async || {
        let five = "SELECT string_agg(n_pressure::text, ' ' ORDER BY bucket) FROM sensor_readings_5min";
        let hour = "SELECT string_agg(n_pressure::text, ' ' ORDER BY bucket) FROM sensor_readings_hourly";
        (ask(&server, &settings, five).await, ask(&server, &settings, hour).await)
    };
    let before = views().await;
    assert_eq!(before, ("300 300 1".into(), "600 1".into()));
    let_leave(&tier, day).await;
    // As a dump does: the day stays until the dump is over.
    let mut reader = server.options(&settings.database).connect().await.unwrap();
    reader.execute("BEGIN; LOCK TABLE readings IN ACCESS SHARE MODE").await.unwrap();
    let error = tier.days().clear(day).await.unwrap_err().to_string();
    assert!(error.contains("another session holds a lock"), "{error}");
    let raw = async || tier.days().days(day, day.next()).await.unwrap()[0].raw;
    assert_eq!((raw().await, partitions(&server, &settings).await.len()), (Raw::Leaving, 3 + 3));
    reader.execute("COMMIT").await.unwrap();
    assert!(tier.days().clear(day).await.unwrap());
    assert_eq!((raw().await, partitions(&server, &settings).await.len()), (Raw::Gone, 3 + 2));
    assert_eq!(views().await, before);
    // Something comes for it: it has a partition again until it is archived, and the views wait for that.
    put(&tier, vec![good(series, start + 1, 5.0)]).await;
    assert_eq!(partitions(&server, &settings).await.len(), 3 + 3);
    assert_eq!(views().await, before);
    assert_eq!(tier.refresh_rollups(100).await.unwrap(), 0);
}

/// As who puts old data away by hand does it.
async fn detach(server: &Postgres, settings: &WarmSettings, name: &str) {
    server.execute(&settings.database, &format!("ALTER TABLE readings DETACH PARTITION {name}")).await;
}

#[tokio::test]
async fn a_day_that_was_detached_is_told_and_attached_again_when_something_comes_for_it() {
    let server = Postgres::start().await;
    let settings = server.database().await;
    let tier = PostgresWarm::open(&settings).await.unwrap();
    let series = series(&tier, &["A"]).await[0];
    let start = support::now() / DAY * DAY - 10 * DAY;
    let day = Day::of(Timestamp(start));
    let name = format!("readings_{}", day.to_string().replace('-', ""));
    let mut stored = vec![good(series, start, 1.0)];
    put(&tier, stored.clone()).await;
    let held = async |tier: &PostgresWarm| tier.range(series, day.start(), day.end(), 100).await.unwrap();
    let told = async || PostgresWarm::check(&settings).await.unwrap().missing;
    assert_eq!(told().await, [""; 0]);
    // By one that had made it, and by one that never saw it.
    for tier in [tier, PostgresWarm::open(&settings).await.unwrap()] {
        detach(&server, &settings, &name).await;
        let missing = told().await.join("; ");
        let how = format!("table {name} isn't attached, and what it holds doesn't show: ALTER TABLE readings ATTACH");
        assert!(missing.starts_with(&how), "{missing}");
        let exported = tier.days().rows(day).try_next().await.unwrap_err().to_string();
        assert!(exported.contains(&how), "a part of a day isn't archived as all of it: {exported}");
        stored.push(good(series, start + stored.len() as i64 * SECOND, 2.0));
        put(&tier, stored[stored.len() - 1..].to_vec()).await;
        assert_eq!(held(&tier).await, stored);
        assert_eq!((told().await, in_other(&server, &settings).await.as_str()), (vec![], "0"));
        assert!(tier.days().rows(day).try_next().await.is_ok());
    }
    // What says how to attach it can be done.
    detach(&server, &settings, &name).await;
    let told_first = told().await.remove(0);
    let attach = told_first.split_once("ALTER TABLE").unwrap().1.split_once(';').unwrap().0;
    server.execute(&settings.database, &format!("ALTER TABLE{attach}")).await;
    assert_eq!(told().await, [""; 0]);
}

#[tokio::test]
async fn what_comes_for_a_day_that_cannot_be_attached_is_stored_and_holds_nobody_up() {
    let server = Postgres::start().await;
    let settings = server.database().await;
    let tier = PostgresWarm::open(&settings).await.unwrap();
    let series = series(&tier, &["A"]).await[0];
    let today = support::now() / DAY * DAY;
    let start = today - 10 * DAY;
    let day = Day::of(Timestamp(start));
    let name = format!("readings_{}", day.to_string().replace('-', ""));
    put(&tier, vec![good(series, start, 1.0)]).await;
    detach(&server, &settings, &name).await;
    server.execute(&settings.database, &format!("ALTER TABLE {name} ADD COLUMN note text")).await;
    for (tier, first) in [(tier, 1), (PostgresWarm::open(&settings).await.unwrap(), 3)] {
        for n in first..first + 2 {
            put(&tier, vec![good(series, start + n * SECOND, 2.0), good(series, today + n * SECOND, 2.0)]).await;
        }
        let exported = tier.days().rows(day).try_next().await.unwrap_err().to_string();
        assert!(exported.contains(&format!("table {name} isn't attached")), "{exported}");
    }
    assert_eq!(in_other(&server, &settings).await, "4");
    // As is told: its rows are put in, and it is renamed.
    assert_eq!(PostgresWarm::check(&settings).await.unwrap().missing.len(), 1);
    let sql = format!(
        "ALTER TABLE {name} DROP COLUMN note; INSERT INTO readings SELECT * FROM {name} ON CONFLICT DO NOTHING; \
                       ALTER TABLE {name} RENAME TO old"
    );
    server.execute(&settings.database, &sql).await;
    let next = PostgresWarm::open(&settings).await.unwrap();
    assert_eq!(next.range(series, day.start(), day.end(), 100).await.unwrap().len(), 5);
    assert!(PostgresWarm::check(&settings).await.unwrap().is_in_order());
}
