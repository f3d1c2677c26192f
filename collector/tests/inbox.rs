//! Inboxes: what other producers leave in tables becomes readings by the rules of everything else, once, whatever is killed.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

mod services;
mod support;

use collector::etl::Progress;
use collector::flush::Write;
use collector::grants::Grants;
use collector::inbox::settings::ForeignInbox;
use collector::inbox::store::{InboxNews, Rejected};
use collector::inbox::{Inbox, Reach, Taken};
use collector::resolve::Timely;
use collector::tiers::warm::postgres::PostgresWarm;
use collector::tiers::warm::sqlite::SqliteWarm;
use collector::tiers::{Flush, SeriesInfo, WarmTier};
use services::postgres::{Postgres, settings};
use shared::ids::GatewayId;
use shared::reading::{Quality, Timestamp};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use support::{SECOND, Site, until};

/// 2026-03-01T10:00:00Z.
const START: i64 = 1_772_359_200 * SECOND;
const DATABASE: &str = "postgres";
const SCADA: &str =
    "name = 'scada'\ntable = 'plant.readings'\ncolumns = { flow = 'flow_rate [m3/h]', press = 'pressure' }";

/// A day after the start.
fn now() -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
    Arc::new(|| Timestamp(START + 86_400 * SECOND))
}

fn inbox(warm: &Arc<dyn WarmTier>, tables: &[&str]) -> Inbox {
    let grants: Grants = toml::from_str("inbox = ['DIST_*']\nscada = ['PUMP_*']").unwrap();
    let tables: Vec<ForeignInbox> = tables.iter().map(|text| toml::from_str(text).unwrap()).collect();
    let into = warm.clone();
    let write: Write = Arc::new(move |flush| {
        let into = into.clone();
        Box::pin(async move { into.commit(flush).await })
    });
    let timely = Timely { future_max: Duration::from_secs(600), late_after: Duration::from_secs(900) };
    Inbox::new((warm.clone(), None), write, grants, tables, timely, now())
}

async fn take(inbox: &Inbox, reach: Reach) -> Taken {
    inbox.take(reach, &Progress::default()).await
}

async fn series(warm: &dyn WarmTier, name: &str) -> SeriesInfo {
    let all = warm.series(None).await.unwrap();
    all.into_iter().find(|series| series.key.to_string() == name).unwrap_or_else(|| panic!("there is no {name}"))
}

/// How many of a series' readings came late.
async fn late(warm: &dyn WarmTier, name: &str) -> u64 {
    let id = series(warm, name).await.id;
    let all = warm.late(Timestamp(0), Timestamp(i64::MAX)).await.unwrap();
    all.iter().find(|(series, _)| *series == id).map_or(0, |(_, count)| *count)
}

/// Values of a series, by seconds since the start.
async fn values(warm: &dyn WarmTier, name: &str) -> Vec<(i64, Option<f64>, Quality)> {
    let id = series(warm, name).await.id;
    let rows = warm.range(id, Timestamp(0), Timestamp(i64::MAX), u32::MAX).await.unwrap();
    rows.iter().map(|row| ((row.at.0 - START) / SECOND, row.held.value, row.held.quality)).collect()
}

// --- our own table

const ROWS: &str = "INSERT INTO inbox (node, metric, channel, ts, value, unit, quality, revision) VALUES
    ('DIST_001', 'flow_rate', '', '2026-03-01T10:00:00Z', 36, 'm3/h', NULL, NULL),
    ('DIST_001', 'flow_rate', '', '2026-03-01T10:01:00Z', 0.1, NULL, 'uncertain', NULL),
    ('DIST_001', 'flow_rate', '', '2026-03-01T10:02:00Z', NULL, NULL, 'bad', NULL),
    ('DIST_001', 'flow_rate', '', '2026-03-01T10:03:00Z', NULL, NULL, NULL, NULL),
    ('DIST_001', 'flow_rate', '', '2026-03-01T10:04:00Z', 99999, NULL, NULL, NULL),
    ('DIST_001', 'flow_rate', '', '2026-03-01T10:05:00Z', 1, 'bar', NULL, NULL),
    ('DIST_001', 'flowrate', '', '2026-03-01T10:06:00Z', 1, NULL, NULL, NULL),
    ('DIST 1\n', 'flow_rate', '', '2026-03-01T10:07:00Z', 1, NULL, NULL, NULL),
    ('DIST_002', 'pressure', 'inlet', '2026-03-01T10:00:00Z', 4.25, NULL, NULL, NULL),
    ('PUMP_1', 'pressure', '', '2026-03-01T10:00:00Z', 4, NULL, NULL, NULL),
    ('DIST_002', 'pressure', 'inlet', '2030-01-01T00:00:00Z', 4, NULL, NULL, NULL)";

async fn rows_are_taken_by_the_rules(warm: Arc<dyn WarmTier>, mut insert: impl AsyncFnMut(&str)) {
    let inbox = inbox(&warm, &[]);
    assert_eq!(take(&inbox, Reach::Short).await, Taken::default());
    insert(ROWS).await;
    let taken = take(&inbox, Reach::Short).await;
    assert_eq!((taken.rows, taken.stored, taken.quarantined, taken.rejected), (11, 4, 2, 5), "{taken:?}");
    let flow = [
        (0, Some(10.0), Quality::GOOD),
        (60, Some(0.1), Quality::UNCERTAIN_SENSOR),
        (120, None, Quality::BAD_SENSOR_FAULT),
    ];
    assert_eq!(values(&*warm, "DIST_001/flow_rate").await, flow);
    let made = series(&*warm, "DIST_001/flow_rate").await;
    assert_eq!((made.gateway.as_str(), made.interval_ms), ("inbox", 60_000));
    let aside: Vec<_> = warm.quarantine(None, 10).await.unwrap();
    let mut aside: Vec<_> =
        aside.iter().map(|row| (row.gateway.as_str(), row.series.as_str(), row.reason.as_str())).collect();
    aside.sort_unstable();
    assert_eq!(
        aside,
        [("inbox", "DIST_002/pressure/inlet", "future"), ("inbox", "PUMP_1/pressure", "not granted: PUMP_1")]
    );
    let rejected = warm.inbox().rejected(10).await.unwrap();
    let reasons = [
        "99999 L/s is no flow_rate",
        "can't be read in 'bar'",
        "there is no metric 'flowrate'",
        "is no node",
        "'' is no value, and the quality isn't bad",
    ];
    for why in reasons {
        assert!(rejected.iter().any(|row| row.reason.contains(why)), "{why}: {rejected:?}");
    }
    assert!(rejected.iter().any(|row| row.text.contains("DIST_001,flowrate,,1")), "{rejected:?}");

    assert_eq!(take(&inbox, Reach::Short).await, Taken::default(), "all of it is done with");
    // What stands isn't changed by a row that says otherwise, whichever is larger, unless it has a higher revision.
    insert(
        "INSERT INTO inbox (node, metric, ts, value, revision) VALUES
        ('DIST_001', 'flow_rate', '2026-03-01T10:00:00Z', 10, NULL),
        ('DIST_001', 'flow_rate', '2026-03-01T10:00:00Z', 11, NULL),
        ('DIST_001', 'flow_rate', '2026-03-01T10:01:00Z', 0.05, 1)",
    )
    .await;
    let taken = take(&inbox, Reach::Short).await;
    assert_eq!((taken.rows, taken.stored, taken.rejected), (3, 1, 1), "{taken:?}");
    assert_eq!(values(&*warm, "DIST_001/flow_rate").await[..2], [flow[0], (60, Some(0.05), Quality::GOOD)]);
    assert!(warm.inbox().rejected(1).await.unwrap()[0].reason.starts_with("10 stands at 2026-03-01T10:00:00Z already"));
    let late = (late(&*warm, "DIST_001/flow_rate").await, late(&*warm, "DIST_002/pressure/inlet").await);
    assert_eq!(late, (3, 1), "a day late; neither a repetition nor a correction is");
    assert_eq!(series(&*warm, "DIST_001/flow_rate").await.interval_ms, 60_000, "few rows say nothing about that");
}

async fn sqlite_file(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).busy_timeout(Duration::from_secs(10)).connect().await.unwrap()
}

#[tokio::test]
async fn rows_are_taken_by_the_rules_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("warm.sqlite");
    let warm: Arc<dyn WarmTier> = Arc::new(SqliteWarm::open(&path).await.unwrap());
    let mut other = sqlite_file(&path).await;
    rows_are_taken_by_the_rules(warm.clone(), async |sql: &str| {
        other.execute(AssertSqlSafe(sql)).await.unwrap();
    })
    .await;
    let zero = "INSERT INTO inbox (node, metric, ts, value, quality) VALUES \
                ('DIST_009', 'level', '2026-03-01T10:00:00Z', 3, char(0)), \
                ('DIST_009' || char(0), 'level', '2026-03-01T10:00:00Z', 3, NULL), ('', '', '', NULL, NULL)";
    other.execute(zero).await.unwrap();
    let taken = take(&inbox(&warm, &[]), Reach::Short).await;
    assert_eq!((taken.rows, taken.stored, taken.rejected), (3, 0, 3), "a byte that is zero is not nothing: {taken:?}");
}

#[tokio::test]
async fn rows_are_taken_by_the_rules_in_postgresql() {
    let server = Postgres::start().await;
    let warm: Arc<dyn WarmTier> = Arc::new(PostgresWarm::open(&settings(server.port, DATABASE)).await.unwrap());
    rows_are_taken_by_the_rules(warm, async |sql: &str| server.execute(DATABASE, sql).await).await;
}

/// `fill` leaves as many rejects as may wait.
async fn rejects_wait_until_they_are_dropped(warm: Arc<dyn WarmTier>, fill: &str, mut execute: impl AsyncFnMut(&str)) {
    const BAD: &str = "INSERT INTO inbox (node, metric, ts, value) VALUES ('DIST_001', 'flowrate', '0', 1)";
    let inbox = inbox(&warm, &[]);
    let drop_all = async || {
        let dropped = warm.inbox().rejected(u32::MAX).await.unwrap();
        let news = InboxNews { dropped, ..InboxNews::default() };
        warm.commit(Flush { inbox: news, ..Flush::default() }).await.unwrap();
    };
    let waiting = async || warm.inbox().rejects(&GatewayId::new("inbox").unwrap()).await.unwrap();
    execute(&fill.replace("'inbox'", "'another'")).await;
    execute(BAD).await;
    let taken = take(&inbox, Reach::Short).await;
    assert_eq!((taken.rejected, taken.failed.len()), (1, 0), "another's are no reason: {taken:?}");
    drop_all().await;
    execute(fill).await;
    execute(BAD).await;
    let taken = take(&inbox, Reach::Short).await;
    assert!(taken.failed.len() == 1 && taken.failed[0].contains("collector inbox drop"), "{taken:?}");
    assert_eq!(warm.inbox().waiting(i64::MIN, 10).await.unwrap().len(), 1, "it waits where it is");
    drop_all().await;
    assert_eq!(waiting().await, 0);
    let taken = take(&inbox, Reach::Short).await;
    assert_eq!((taken.rejected, taken.failed.len(), waiting().await), (1, 0, 1), "{taken:?}");
    drop_all().await;
    execute(BAD).await;
    assert_eq!(take(&inbox, Reach::Short).await.rejected, 1);
    assert_eq!(waiting().await, 1, "a row of ours is a new one, and nowhere else");
    drop_all().await;
    let theirs = Rejected {
        source: GatewayId::new("scada").unwrap(),
        at: Timestamp(START),
        reason: "no node".into(),
        text: "2026-03-01 10:00:00+00,,pressure,,7,".into(),
    };
    let tell = async |theirs: Rejected| {
        let news = InboxNews { rejected: vec![theirs], ..InboxNews::default() };
        warm.commit(Flush { inbox: news, ..Flush::default() }).await.unwrap();
    };
    tell(theirs.clone()).await;
    drop_all().await;
    tell(theirs).await;
    assert_eq!(warm.inbox().rejected(10).await.unwrap(), [], "one of theirs is still there, and known");
}

#[tokio::test]
async fn rejects_wait_until_they_are_dropped_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("warm.sqlite");
    let warm: Arc<dyn WarmTier> = Arc::new(SqliteWarm::open(&path).await.unwrap());
    let mut other = sqlite_file(&path).await;
    let fill = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) \
                INSERT INTO inbox_rejects (source, at, reason, line) SELECT 'inbox', 0, 'old', 'line ' || i FROM n";
    rejects_wait_until_they_are_dropped(warm, fill, async |sql: &str| {
        other.execute(AssertSqlSafe(sql)).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn rejects_wait_until_they_are_dropped_in_postgresql() {
    let server = Postgres::start().await;
    let warm: Arc<dyn WarmTier> = Arc::new(PostgresWarm::open(&settings(server.port, DATABASE)).await.unwrap());
    let fill = "INSERT INTO inbox_rejects (source, at, reason, line) \
                SELECT 'inbox', to_timestamp(0), 'old', 'line ' || i FROM generate_series(1, 10000) AS n (i)";
    rejects_wait_until_they_are_dropped(warm, fill, async |sql: &str| server.execute(DATABASE, sql).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_collector_takes_what_is_there_and_tells_what_it_could_not() {
    let site = Site::new(&[], |config| config.grants = toml::from_str("inbox = ['*']").unwrap());
    let collector = site.start().await;
    let mut other = sqlite_file(&site.config.warm_file()).await;
    other
        .execute(
            "INSERT INTO inbox (node, metric, ts, value) VALUES ('DIST_001', 'pressure', '1772359200000000', 4.5), \
        ('DIST_001', 'pressure', 'soon', 4)",
        )
        .await
        .unwrap();
    let jobs = collector.get("jobs").await;
    assert!(jobs["items"].as_array().unwrap().iter().any(|job| job["job"] == "realtime_sync"), "{jobs}");
    let address = format!("http://{}/api/v1/jobs/realtime_sync/run", collector.api);
    tokio::task::spawn_blocking(move || ureq::post(address).send_empty().unwrap()).await.unwrap();
    collector.wait_for_history("DIST_001", &[(Timestamp(START), Some(4.5))]).await;
    let rejects = collector.get("inbox/rejects").await;
    assert_eq!(rejects["items"][0]["source"], "inbox");
    assert!(rejects["items"][0]["reason"].as_str().unwrap().contains("'soon' is no time"), "{rejects}");
    let config = site.write_config("");
    let shown = support::process::collector(&["inbox", "rejects", "-c", config.to_str().unwrap()]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("\n  'soon' is no time") && shown.contains("\n  soon,DIST_001,pressure,,4,"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let said = |arguments: &[&str]| {
        let all = [&["inbox"], arguments, &["-c", config.to_str().unwrap()]].concat();
        let out = support::process::collector(&all);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let file = said(&["rejects", "--csv"]);
    assert!(file.starts_with("source,at,reason,line\ninbox,2026-") && file.contains("\"soon,DIST_001,"), "{file}");
    let drop = ["drop", "--source", "inbox", "--because", "'soon'", "--author", "M. Rossi", "--reason", "a test"];
    assert_eq!(said(&[&drop[..], &["--dry-run"]].concat()), "would be dropped  1 rows\n");
    assert_eq!(said(&drop), "dropped  1 rows\n");
    assert_eq!(said(&["rejects"]), "no row waits\n");
    let audit = collector.get("audit").await;
    assert_eq!((&audit["items"][0]["who"], &audit["items"][0]["detail"]["rows"]), (&"M. Rossi".into(), &1.into()));
    let done = until(async || collector.get("jobs/runs?job=realtime_sync").await["items"][0]["status"] == "done");
    assert!(done.await);
    let counted = "collector_inbox_readings_total{source=\"inbox\",outcome=\"stored\"} 1";
    assert!(collector.metrics().await.contains(counted));
    collector.stop().await;
}

// --- theirs

#[test]
fn check_names_tables_that_can_not_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("collector.toml");
    std::fs::write(&path, format!("data_dir = '{}'\n[[inbox]]\n{SCADA}\n", folder.path().display())).unwrap();
    let checked = support::process::collector(&["check", "-c", path.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(said.contains("scada: table plant.readings can't be read: [warm] is SQLite"), "{said}");
    let wrong = format!("[[inbox]]\n{}", SCADA.replace("m3/h", "bar"));
    std::fs::write(&path, wrong).unwrap();
    let checked = support::process::collector(&["check", "-c", path.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(
        checked.status.code() == Some(2) && said.contains("inbox.scada.columns.flow = \"flow_rate [bar]\""),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn check_looks_at_tables_if_it_can() {
    let server = Postgres::start().await;
    plant(&server, "timestamptz").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("collector.toml");
    let said = |port: u16| {
        let gone = SCADA.replace("scada", "old").replace("plant.readings", "plant.gone");
        let text = format!(
            "data_dir = '{}'\n[warm]\nstore = 'postgres'\nhost = '127.0.0.1'\nport = {port}\nuser = 'postgres'\n\
             database = '{DATABASE}'\ntls = 'off'\n[grants]\nscada = ['*']\nold = ['*']\n[[inbox]]\n{SCADA}\n[[inbox]]\n{gone}\n",
            folder.path().display()
        );
        std::fs::write(&path, text).unwrap();
        String::from_utf8(support::process::collector(&["check", "-c", path.to_str().unwrap()]).stdout).unwrap()
    };
    let looked = said(server.port);
    assert!(looked.contains("inbox.old.table: there is no table plant.gone"), "{looked}");
    assert!(looked.contains("scada: table plant.readings is read"), "{looked}");
    let away = said(1);
    assert!(away.contains("tables can't be looked at") && !away.contains("no table"), "{away}");
}

async fn plant(server: &Postgres, time: &str) {
    let sql = format!(
        "CREATE SCHEMA plant; CREATE TABLE plant.readings (timestamp {time}, node_id text, flow real, press numeric, note text)"
    );
    server.execute(DATABASE, &sql).await;
}

#[tokio::test]
async fn a_foreign_table_is_read_on_from_where_each_node_was() {
    let server = Postgres::start().await;
    let warm: Arc<dyn WarmTier> = Arc::new(PostgresWarm::open(&settings(server.port, DATABASE)).await.unwrap());
    plant(&server, "timestamptz").await;
    let insert =
        async |rows: &str| server.execute(DATABASE, &format!("INSERT INTO plant.readings VALUES {rows}")).await;
    insert(
        "('2026-03-01 10:00:00+00', 'PUMP_1', 36, 4.5, 'x'), ('2026-03-01 11:00:00+00', 'PUMP_1', 72, NULL, NULL), \
        ('2026-03-01 10:00:00+00', 'PUMP_2', NULL, 3.25, ''), ('2026-03-01 10:00:00+00', 'Pump 3', 1, 1, ''), \
        ('2031-03-01 10:00:00+00', 'PUMP_1', 1, NULL, ''), ('2026-03-01 11:00:00+00', 'DIST_001', 1, NULL, ''), \
        (NULL, 'PUMP_1', 3, NULL, ''), ('2026-03-01 10:00:00+00', NULL, NULL, 7, ''), \
        ('2026-03-01 10:00:00+00', 'PUMP_2', 'NaN', NULL, ''), ('infinity', 'PUMP_2', 2, NULL, ''), \
        ('2026-03-01 10:00:00+00', 'PUMP_1', NULL, NULL, '')",
    )
    .await;
    let inbox = inbox(&warm, &[SCADA]);
    let taken = take(&inbox, Reach::Short).await;
    assert_eq!(taken.failed, Vec::<String>::new());
    assert_eq!((taken.rows, taken.stored, taken.quarantined, taken.rejected), (11, 4, 1, 7), "{taken:?}");
    let rejects = warm.inbox().rejected(100).await.unwrap();
    for (why, row) in [
        ("2031-03-01T10:00:00Z is in the future", "2031-03-01 10:00:00+00,PUMP_1,flow_rate,,1,m3/h"),
        ("'' is no time", ",PUMP_1,flow_rate,,3,m3/h"),
        ("no node", "2026-03-01 10:00:00+00,,pressure,,7,"),
        ("'NaN' is no value", "2026-03-01 10:00:00+00,PUMP_2,flow_rate,,NaN,m3/h"),
        ("'infinity' is no time", "infinity,PUMP_2,flow_rate,,2,m3/h"),
    ] {
        let listed = rejects.iter().any(|one| one.reason.contains(why) && one.text.starts_with(row));
        assert!(listed, "{why}: {rejects:?}");
    }
    let good = |second: i64, value: f64| (second, Some(value), Quality::GOOD);
    assert_eq!(values(&*warm, "PUMP_1/flow_rate").await, [good(0, 10.0), good(3_600, 20.0)]);
    assert_eq!(late(&*warm, "PUMP_1/flow_rate").await, 0, "what was there before is history");
    assert_eq!(values(&*warm, "PUMP_2/pressure").await, [good(0, 3.25)]);

    // New rows; one that comes late, one that comes much too late, one of a node that lagged behind, a new node.
    insert(
        "('2026-03-01 12:00:00+00', 'PUMP_1', 3.6, NULL, ''), ('2026-03-01 10:30:00+00', 'PUMP_1', 36, NULL, ''), \
        ('2026-02-27 10:00:00+00', 'PUMP_1', 36, NULL, ''), ('2026-03-01 10:01:00+00', 'PUMP_2', NULL, 3, ''), \
        ('2026-01-01 10:00:00+00', 'PUMP_4', NULL, 3, '')",
    )
    .await;
    let taken = take(&inbox, Reach::Short).await;
    assert_eq!((taken.stored, taken.failed.len()), (4, 0), "{taken:?}");
    let flow = [good(0, 10.0), good(1_800, 10.0), good(3_600, 20.0), good(7_200, 1.0)];
    assert_eq!(values(&*warm, "PUMP_1/flow_rate").await, flow);
    assert_eq!((late(&*warm, "PUMP_1/flow_rate").await, late(&*warm, "PUMP_4/pressure").await), (2, 0));
    assert_eq!(take(&inbox, Reach::Short).await.stored, 0, "nothing is new");
    assert_eq!(take(&inbox, Reach::Long).await.stored, 1, "further back");
    assert_eq!(values(&*warm, "PUMP_1/flow_rate").await[0].0, -2 * 86_400);

    let rejects = warm.inbox().rejected(100).await.unwrap();
    assert_eq!(rejects.len(), 7, "each is told once, however often it is read: {rejects:?}");
    server.execute(DATABASE, "UPDATE plant.readings SET flow = 30 WHERE flow = 3.6::real").await;
    assert_eq!(take(&inbox, Reach::Short).await.rejected, 8);
    assert_eq!(
        warm.inbox().rejected(100).await.unwrap()[0].text,
        "2026-03-01T12:00:00Z,PUMP_1/flow_rate,8.333333333333334"
    );
}

#[tokio::test]
async fn a_table_may_have_a_row_for_each_reading() {
    let server = Postgres::start().await;
    let warm: Arc<dyn WarmTier> = Arc::new(PostgresWarm::open(&settings(server.port, DATABASE)).await.unwrap());
    let rows = "CREATE TABLE long (timestamp timestamptz, node_id text, what text, v real, u text); INSERT INTO long VALUES \
        ('2026-03-01 10:00:00+00', 'PUMP_1', 'PORTATA', 36, NULL), ('2026-03-01 10:00:00+00', 'PUMP_1', 'pressure', 45, 'mH2O'), \
        ('2026-03-01 10:01:00+00', 'PUMP_1', 'PORTATA', 72, NULL), ('2026-03-01 10:01:00+00', 'PUMP_1', 'LIVELLO', 1, NULL), \
        ('2026-03-01 10:01:00+00', 'PUMP_1', 'pressure', NULL, NULL)";
    server.execute(DATABASE, rows).await;
    let table = "name = 'scada'\ntable = 'long'\nmetric = 'what'\nvalue = 'v'\nunit = 'u'\ncolumns = { PORTATA = 'flow_rate [m3/h]' }";
    let inbox = inbox(&warm, &[table]);
    let taken = take(&inbox, Reach::Short).await;
    assert_eq!((taken.rows, taken.stored, taken.rejected, taken.failed.len()), (5, 3, 2, 0), "{taken:?}");
    let good = |second: i64, value: f64| (second, Some(value), Quality::GOOD);
    assert_eq!(values(&*warm, "PUMP_1/flow_rate").await, [good(0, 10.0), good(60, 20.0)]);
    let pressure = values(&*warm, "PUMP_1/pressure").await;
    assert!(pressure.len() == 1 && (pressure[0].1.unwrap() - 4.413).abs() < 0.001, "{pressure:?}");
    let rejects = warm.inbox().rejected(10).await.unwrap();
    for why in ["there is no metric 'LIVELLO'", "'' is no value"] {
        assert!(rejects.iter().any(|one| one.reason.contains(why)), "{why}: {rejects:?}");
    }
    assert_eq!(take(&inbox, Reach::Long).await.stored, 0, "once");
}

#[tokio::test]
async fn what_is_not_there_is_named_and_everything_else_is_taken() {
    let server = Postgres::start().await;
    let warm: Arc<dyn WarmTier> = Arc::new(PostgresWarm::open(&settings(server.port, DATABASE)).await.unwrap());
    plant(&server, "timestamp without time zone").await;
    server.execute(DATABASE, "INSERT INTO plant.readings VALUES ('2026-03-01 11:00:00', 'PUMP_1', 36, NULL, '')").await;
    server
        .execute(
            DATABASE,
            "INSERT INTO inbox (node, metric, ts, value) VALUES ('DIST_001', 'level', '2026-03-01 10:00:00+00', 3)",
        )
        .await;
    let of = |name: &str, rest: &str| format!("name = '{name}'\ncolumns = {{ flow = 'flow_rate [m3/h]' }}\n{rest}");
    let tables = [
        of("a", "table = 'plant.gone'"),
        of("b", "table = 'plant.readings'\nnode = 'station'"),
        of("c", "table = 'plant.readings'\nquality = 'flag'"),
        of("d", "table = 'plant.readings'\ntime = 'note'"),
        of("e", "table = 'plant.readings'"),
        of("f", "table = 'plant.readings; DROP TABLE inbox'"),
        of("scada", "table = 'plant.readings'\nzone = 'Europe/Rome'"),
    ];
    let taken = take(&inbox(&warm, &tables.each_ref().map(String::as_str)), Reach::Short).await;
    for (said, wanted) in taken.failed.iter().zip([
        "inbox.a.table: there is no table plant.gone",
        "inbox.b.node: plant.readings has no column station",
        "inbox.c.quality: plant.readings has no column flag",
        "inbox.d.time: column note is text, and must be a timestamp",
        "inbox.e.zone: column timestamp has no time zone",
        "inbox.f.table: there is no table",
    ]) {
        assert!(said.contains(wanted), "{said}");
    }
    assert_eq!((taken.failed.len(), taken.stored), (6, 2), "{taken:?}");
    assert_eq!(values(&*warm, "PUMP_1/flow_rate").await, [(0, Some(10.0), Quality::GOOD)], "11 o'clock in Rome");
    assert_eq!(values(&*warm, "DIST_001/level").await.len(), 1);

    let sqlite = tempfile::tempdir().unwrap();
    let warm: Arc<dyn WarmTier> = Arc::new(SqliteWarm::open(&sqlite.path().join("warm.sqlite")).await.unwrap());
    let taken = take(&inbox(&warm, &[SCADA]), Reach::Short).await;
    assert!(taken.failed[0].contains("inbox.scada.table") && taken.failed[0].contains("[warm] is SQLite"), "{taken:?}");
}

// --- kill -9

const PORT: &str = "INBOX_WORKER_PORT";
const ROUNDS: i64 = 8;
const NODES: i64 = 6;
/// Rows of a node in a round, in each table.
const PER_ROUND: i64 = 400;

/// What is killed: this same test, run to take what is there, again and again until it is over.
#[tokio::test(flavor = "multi_thread")]
async fn worker_that_is_killed() {
    let Ok(port) = std::env::var(PORT) else { return };
    let warm: Arc<dyn WarmTier> =
        Arc::new(PostgresWarm::open(&settings(port.parse().unwrap(), DATABASE)).await.unwrap());
    let inbox = inbox(&warm, &[SCADA]);
    println!("\nat work");
    loop {
        let taken = take(&inbox, Reach::Long).await;
        assert!(taken.failed.is_empty(), "{taken:?}");
    }
}

/// Ends with us.
struct Worker(Child);

impl Worker {
    fn start(port: u16) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["worker_that_is_killed", "--exact", "--nocapture"]).env(PORT, port.to_string());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "at work"), "it has ended before its work began");
        Self(child)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Ok(Some(status)) = self.0.try_wait() {
            eprintln!("it has ended by itself: {status}");
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_when_every_row_is_there_once() {
    let server = Postgres::start().await;
    let warm: Arc<dyn WarmTier> = Arc::new(PostgresWarm::open(&settings(server.port, DATABASE)).await.unwrap());
    plant(&server, "timestamptz").await;
    let (from, rows) = ("'2026-03-01 10:00:00+00'::timestamptz", PER_ROUND);
    for round in 0..ROUNDS {
        let first = round * rows;
        // Some of every round's rows are not granted: they are set aside, once.
        let many = format!("generate_series({first}, {first} + {rows} - 1) AS s, generate_series(0, {NODES}) AS n");
        let node = |name: &str| format!("CASE n WHEN {NODES} THEN 'OTHER' ELSE '{name}_' || n END");
        let when = format!("{from} + s * interval '1 second'");
        let theirs = format!("INSERT INTO plant.readings SELECT {when}, {}, s, NULL, '' FROM {many}", node("PUMP"));
        let ours = format!(
            "INSERT INTO inbox (node, metric, ts, value) SELECT {}, 'level', {when}, s % 100 FROM {many}",
            node("DIST")
        );
        server.execute(DATABASE, &theirs).await;
        server.execute(DATABASE, &ours).await;
        let worker = Worker::start(server.port);
        tokio::time::sleep(Duration::from_millis((round as u64 * 37) % 150)).await; // how long it lives
        drop(worker);
    }
    let inbox = inbox(&warm, &[SCADA]);
    let taken = take(&inbox, Reach::Long).await;
    assert_eq!((taken.failed.len(), taken.rejected), (0, 0), "{taken:?}");
    assert_eq!(take(&inbox, Reach::Long).await.stored, 0);
    assert_eq!(warm.inbox().waiting(i64::MIN, 10).await.unwrap(), []);
    for n in 0..NODES {
        let theirs: fn(i64) -> f64 = |s| s as f64 / 3.6;
        let ours: fn(i64) -> f64 = |s| (s % 100) as f64;
        let tables = [(format!("PUMP_{n}/flow_rate"), theirs), (format!("DIST_{n}/level"), ours)];
        for (name, value) in tables {
            let found = values(&*warm, &name).await;
            assert_eq!(found.len() as i64, ROUNDS * rows, "{name}");
            for (n, (second, found, _)) in found.iter().enumerate() {
                let wanted = value(n as i64);
                assert!(*second == n as i64 && (found.unwrap() - wanted).abs() < 1e-9, "{name}: {second} {found:?}");
            }
        }
    }
    let aside = warm.quarantine(None, 100_000).await.unwrap();
    assert_eq!(aside.len() as i64, 2 * ROUNDS * rows);
}
