//! Days without TimescaleDB.

use super::*;
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
