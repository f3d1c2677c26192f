//! The embedded warm tier when its file can't be used: the collector runs all the same, what comes waits in the spool, health
//! says why, and all of it is stored as soon as somebody has put it right. The file is never touched meanwhile.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

mod support;

use collector::access::Local;
use collector::tiers::warm;
use serde_json::Value;
use shared::block::TimeBase;
use shared::reading::Timestamp;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::*;

const NODE: &str = "DIST_001";

/// A collector that was stopped in order with one reading stored.
struct Bench {
    site: Site,
    at: i64,
}

impl Bench {
    async fn new() -> Self {
        let bench = Self { site: Site::new(&["STATION_7"], |_| {}), at: now() - 100 * SECOND };
        let collector = bench.site.start().await;
        let (mut client, hash) = Client::ready(&collector, "STATION_7", &[NODE]).await;
        client.block(1, block(hash, TimeBase::Utc, &[(0, bench.at, 1.0)])).await;
        client.wait_committed(seqs([1])).await;
        collector.stop().await;
        fs::copy(bench.file(), bench.copy()).unwrap();
        bench
    }

    fn file(&self) -> PathBuf {
        self.site.config.warm_file()
    }

    fn copy(&self) -> PathBuf {
        self.site.folder.path().join("copy.sqlite")
    }

    /// As a person does it.
    fn put_back(&self) {
        let aside = self.copy().with_extension("aside");
        fs::copy(self.copy(), &aside).unwrap();
        fs::rename(aside, self.file()).unwrap();
    }

    async fn execute(&self, sql: &str) -> SqliteConnection {
        let mut connection = SqliteConnectOptions::new().filename(self.file()).connect().await.unwrap();
        connection.execute(AssertSqlSafe(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        connection
    }

    async fn run_sql(&self, sql: &str) {
        self.execute(sql).await.close().await.unwrap();
    }

    /// What a command on this machine is told: while nobody knows who the users are strangers learn nothing.
    async fn health(&self) -> Value {
        let local = Local::read(&self.site.config.data_dir).unwrap();
        let asking = move || {
            let asked = ureq::get(format!("http://{}/api/v1/health", local.address));
            let mut answer = asked.header("Authorization", format!("Bearer {}", local.secret)).call().unwrap();
            serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
        };
        tokio::task::spawn_blocking(asking).await.unwrap()
    }

    /// Runs on it as it is now: nothing is lost, it is said what is wrong, and when it is put right all is well.
    async fn goes_on(&self, said: &[&str], put_right: impl AsyncFnOnce()) {
        let collector = within(Box::pin(self.site.try_start())).await.unwrap();
        let (mut client, hash) = Client::ready(&collector, "STATION_7", &[NODE]).await;
        client.block(2, block(hash, TimeBase::Utc, &[(0, self.at + SECOND, 2.0)])).await;
        client.wait_stored(seqs([2])).await;
        let is_told = until(async || {
            let health = self.health().await;
            let stuck = health["troubles"].as_array().is_some_and(|all| all.iter().any(|one| one["part"] == "flush"));
            health["status"] == "degraded" && stuck
        });
        assert!(is_told.await, "{}", self.health().await);
        let health = self.health().await;
        let error = health["tiers"]["warm"]["error"].as_str().unwrap_or_else(|| panic!("{health}"));
        for word in [said, &["warm.sqlite", "data_dir"]].concat() {
            assert!(error.contains(word), "{word}: {error}");
        }
        put_right().await;
        client.wait_committed(seqs([2])).await;
        let both = [(Timestamp(self.at), Some(1.0)), (Timestamp(self.at + SECOND), Some(2.0))];
        collector.wait_for_history(NODE, &both).await;
        assert!(until(async || self.health().await["status"] == "ok").await);
        collector.stop().await;
        // So that the next one begins the same way.
        self.put_back();
    }
}

fn sums(path: &Path) -> (Vec<u8>, u32) {
    (fs::read(path).unwrap(), fs::metadata(path).unwrap().permissions().mode())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_database_or_is_damaged_is_left_as_it_is() {
    let bench = Bench::new().await;
    let mut damaged = fs::read(bench.copy()).unwrap();
    damaged[100..2_000].fill(0xff);
    let large = vec![b'x'; 100_000];
    for (bytes, said) in [
        (&b"no database"[..], "none of ours; put a copy in its place"),
        (&large, "none of ours; put a copy in its place"),
        (&damaged, "damaged; put a copy in its place"),
    ] {
        fs::write(bench.file(), bytes).unwrap();
        fs::set_permissions(bench.file(), fs::Permissions::from_mode(0o640)).unwrap();
        let before = sums(&bench.file());
        bench
            .goes_on(&[said], async || {
                assert!(sums(&bench.file()) == before, "it was touched: {said}");
                bench.put_back();
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cant_be_opened_is_opened_as_soon_as_it_can() {
    let bench = Bench::new().await;
    fs::remove_file(bench.file()).unwrap();
    fs::create_dir(bench.file()).unwrap();
    bench
        .goes_on(&["it is no file"], async || {
            fs::remove_dir(bench.file()).unwrap();
            bench.put_back();
        })
        .await;
    // Locked by another process.
    let mut other =
        bench.execute("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; UPDATE hot_ledger SET epoch = epoch").await;
    bench
        .goes_on(&["database is locked", "another process holds it"], async || {
            other.execute("ROLLBACK").await.unwrap();
            other.close().await.unwrap();
        })
        .await;
}

/// What somebody does to the tables, what is said of it, and how it is put right; nothing: by a copy.
const ALTERED: [(&str, &str, Option<&str>); 8] = [
    ("DROP TABLE gaps", "table gaps is missing", None),
    ("ALTER TABLE quarantine DROP COLUMN reason", "column quarantine.reason is missing", None),
    ("ALTER TABLE series RENAME COLUMN unit TO units", "column series.unit is missing", None),
    ("DROP TABLE _sqlx_migrations", "_sqlx_migrations, which says who made it, is not", None),
    (
        "CREATE TRIGGER swallow BEFORE INSERT ON readings BEGIN SELECT RAISE(IGNORE); END",
        "trigger swallow on readings is none of ours and may swallow rows: DROP TRIGGER swallow",
        Some("DROP TRIGGER swallow"),
    ),
    (
        "CREATE UNIQUE INDEX once ON readings (series_id, value)",
        "index once of readings is none of ours and refuses rows: DROP INDEX once",
        Some("DROP INDEX once"),
    ),
    (
        "DROP INDEX etl_jobs_one_at_a_time",
        "CREATE UNIQUE INDEX etl_jobs_one_at_a_time ON etl_jobs (job) WHERE status = 'running'",
        Some("CREATE UNIQUE INDEX etl_jobs_one_at_a_time ON etl_jobs (job) WHERE status = 'running'"),
    ),
    (
        "INSERT INTO _sqlx_migrations VALUES (9000, 'of tomorrow', 0, 1, x'00', 0)",
        "a newer collector made them; update this one",
        Some("DELETE FROM _sqlx_migrations WHERE version = 9000"),
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_somebody_altered_are_not_written_to() {
    let bench = Bench::new().await;
    for (sql, said, put_right) in ALTERED {
        bench.run_sql(sql).await;
        let seen = warm::check(&bench.site.config.warm, &bench.file()).await;
        let seen = seen.map_or_else(|error| error.to_string(), |report| report.wrong.join("; "));
        assert!(seen.contains(said), "{sql}: {seen}");
        bench
            .goes_on(&[said], async || match put_right {
                Some(sql) => bench.run_sql(sql).await,
                None => bench.put_back(),
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_harms_nothing_keeps_nothing_waiting_and_the_command_line_tells_of_it() {
    let bench = Bench::new().await;
    let said = |arguments: &[&str]| {
        let config = bench.site.write_config("");
        let output = Command::new(process::PROGRAM).args(arguments).arg("-c").arg(config).output().unwrap();
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
    };
    assert!(said(&["migrate", "--check"]).1);
    bench.run_sql("ALTER TABLE readings ADD COLUMN note TEXT; CREATE VIEW mine AS SELECT * FROM readings").await;
    assert!(said(&["migrate", "--check"]).1, "{:?}", said(&["migrate", "--check"]));
    bench.run_sql("DROP INDEX parked_by_boot").await;
    let (missing, in_order) = said(&["migrate", "--check"]);
    assert!(missing.contains("CREATE INDEX parked_by_boot ON parked (gateway, boot)") && !in_order, "{missing}");
    let collector = bench.site.start().await;
    assert_eq!(collector.history(NODE).await, [(Timestamp(bench.at), Some(1.0))]);
    assert_eq!(collector.get("health").await["status"], "ok");
    collector.stop().await;
    bench.run_sql("CREATE TRIGGER swallow BEFORE INSERT ON readings BEGIN SELECT RAISE(IGNORE); END").await;
    for command in [&["migrate", "--check"][..], &["check"]] {
        let (seen, _) = said(command);
        assert!(seen.contains("trigger swallow on readings"), "{command:?}: {seen}");
    }
}
