//! `collector migrate`, as a person meets it.

use super::*;
use serde_json::Value;
use services::postgres::{PASSWORD, Postgres};
use std::process::{Command, Output};
use support::Site;
use support::process::PROGRAM;

/// The program on a database, configured by the reference's variables alone.
struct Bench {
    site: Site,
    variables: Vec<(&'static str, String)>,
}

impl Bench {
    fn new(settings: &WarmSettings) -> Self {
        let variables = vec![
            ("POSTGRES_HOST", settings.host.clone()),
            ("POSTGRES_PORT", settings.port.to_string()),
            ("POSTGRES_DB", settings.database.clone()),
            ("POSTGRES_USER", settings.user.clone()),
            ("POSTGRES_PASSWORD", PASSWORD.to_owned()),
        ];
        Self { site: Site::new(&[], |_| {}), variables }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.iter_mut().find(|v| v.0 == name).unwrap().1 = value.to_owned();
    }

    fn run(&self, arguments: &[&str], more: &str) -> Output {
        let config = self.site.write_config(more);
        let mut command = Command::new(PROGRAM);
        command.args(arguments).arg("--config").arg(config).envs(self.variables.iter().cloned());
        let output = command.output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!said.contains(PASSWORD) && !said.contains("wrong one"), "a secret is shown: {said}");
        output
    }

    /// Its JSON, and its exit code.
    fn json(&self, arguments: &[&str], more: &str) -> (Value, i32) {
        let output = self.run(&[&["migrate", "--json"], arguments].concat(), more);
        (serde_json::from_slice(&output.stdout).unwrap(), output.status.code().unwrap())
    }

    fn error(&self, arguments: &[&str], more: &str) -> String {
        let (answer, code) = self.json(arguments, more);
        assert_eq!((code, &answer["in_order"]), (1, &Value::Bool(false)), "{answer}");
        answer["error"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }
}

#[tokio::test]
async fn tables_are_made_and_what_someone_altered_is_named() {
    let server = Postgres::start().await;
    let settings = server.database().await;
    let bench = Bench::new(&settings);
    let (before, code) = bench.json(&["--check"], "");
    assert_eq!(code, 1);
    assert_eq!((&before["pending"][0], &before["pending"][1]), (&"0001 warm".into(), &"0002 readings".into()));
    assert_eq!(ask(&server, &settings, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").await, "0");
    let (made, code) = bench.json(&[], "");
    assert_eq!((code, &made["ran"], &made["store"]), (0, &before["pending"], &"plain PostgreSQL".into()), "{made}");
    let (again, code) = bench.json(&[], "");
    assert_eq!((code, &again["ran"]), (0, &serde_json::json!([])), "{again}");
    let output = bench.run(&["migrate", "--check"], "");
    assert!(String::from_utf8_lossy(&output.stdout).contains("as they should be"));

    let alter = "DROP VIEW sensor_readings_daily; DROP VIEW sensor_readings_hourly; DROP VIEW usable_hourly; \
                 ALTER TABLE gaps DROP COLUMN reason; DROP TABLE etl_marks; ALTER TABLE rollup_1h ALTER COLUMN sum TYPE numeric; \
                 ALTER TABLE series DROP CONSTRAINT series_node_metric_channel_key; DROP TABLE readings_future";
    server.execute(&settings.database, alter).await;
    let (altered, code) = bench.json(&["--check"], "");
    assert_eq!(code, 1);
    let wrong = serde_json::json!([
        "table etl_marks is missing",
        "gaps.reason is missing",
        "rollup_1h.sum is numeric? instead of double precision?",
        "(node, metric, channel) of series must be unique",
        "table readings_future is missing"
    ]);
    assert_eq!(altered["wrong"], wrong);
    let missing = ["view sensor_readings_hourly is missing", "view sensor_readings_daily is missing"];
    assert_eq!(altered["missing"], serde_json::json!(missing));
    let refused = bench.error(&[], "");
    assert!(refused.contains("gaps.reason is missing") && refused.contains(&settings.database), "{refused}");
}

#[tokio::test]
async fn a_schema_of_a_newer_or_another_program_is_left_alone() {
    let server = Postgres::start().await;
    let settings = server.database().await;
    let bench = Bench::new(&settings);
    assert_eq!(bench.json(&[], "").1, 0);
    server.execute(&settings.database, "UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 2").await;
    let (other, code) = bench.json(&["--check"], "");
    assert!(
        code == 1 && other["wrong"][0].as_str().unwrap().starts_with("migration 0002 readings was run by"),
        "{other}"
    );
    assert!(bench.error(&[], "").contains("migration 0002 was run by another build"));
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (99, 'from the future', true, '\\x00', 0)";
    server.execute(&settings.database, newer).await;
    for arguments in [&["--check"][..], &[]] {
        let error = bench.error(arguments, "");
        assert!(error.contains("of version 99") && error.contains("newer collector"), "{error}");
    }
}

/// Whatever `run` couldn't work with, or would lose by, is told before.
#[tokio::test]
async fn what_run_could_not_work_with_is_told() {
    let server = Postgres::start().await;
    let made = server.database().await;
    assert_eq!(Bench::new(&made).json(&[], "").1, 0);
    server.execute("postgres", "CREATE ROLE guest LOGIN PASSWORD 'only for tests'").await;
    let cases: [(&str, &[&str]); 11] = [
        ("ALTER TABLE series ALTER series_id DROP IDENTITY", &["series.series_id has lost its default"]),
        ("ALTER TABLE etl_jobs ALTER number DROP IDENTITY", &["etl_jobs.number has lost its default"]),
        ("DROP INDEX etl_jobs_one_at_a_time", &["CREATE UNIQUE INDEX etl_jobs_one_at_a_time ON etl_jobs (job) WHERE"]),
        ("DROP INDEX dirty_buckets_by_series", &["CREATE INDEX dirty_buckets_by_series"]),
        (
            "UPDATE _sqlx_migrations SET success = false WHERE version = 22",
            &["migration 0022 is noted as not finished"],
        ),
        (
            "DROP TABLE _sqlx_migrations",
            &["table alerts_told is there, but _sqlx_migrations", "[warm] schema", "POSTGRES_DB"],
        ),
        ("ALTER TABLE gaps SET UNLOGGED", &["table gaps is UNLOGGED", "SET LOGGED"]),
        (
            "CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS 'begin return null; end'; \
             CREATE TRIGGER greedy BEFORE INSERT ON readings FOR EACH ROW EXECUTE FUNCTION t()",
            &["trigger greedy on readings", "drop it"],
        ),
        ("ALTER TABLE readings ADD CONSTRAINT few CHECK (value < 100)", &["constraint few of readings", "(value < "]),
        ("ALTER TABLE audit ENABLE ROW LEVEL SECURITY", &["table audit has row level security"]),
        ("ALTER DATABASE {} SET default_transaction_read_only = on", &["takes no writes", "POSTGRES_HOST"]),
    ];
    for (n, (alter, says)) in cases.into_iter().enumerate() {
        let name = format!("altered_{n}");
        server.execute("postgres", &format!("CREATE DATABASE {name} TEMPLATE {}", made.database)).await;
        server.execute(&name, &alter.replace("{}", &name)).await;
        let (answer, code) = Bench::new(&server.settings(&name)).json(&["--check"], "");
        assert_eq!((code, &answer["in_order"]), (1, &Value::Bool(false)), "{alter}: {answer}");
        for words in says {
            assert!(answer.to_string().contains(words), "{alter}: {answer}");
        }
    }
    let mut bench = Bench::new(&made);
    bench.set("POSTGRES_USER", "guest");
    for (grant, says) in [
        ("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest", "user guest may not create tables in schema public"),
        ("GRANT CREATE ON SCHEMA public TO guest", "user guest lacks INSERT UPDATE DELETE on table series"),
        ("GRANT ALL ON ALL TABLES IN SCHEMA public TO guest", "table readings belongs to another user"),
    ] {
        server.execute(&made.database, grant).await;
        let (answer, code) = bench.json(&["--check"], "");
        let wrong = answer["wrong"].to_string();
        assert!(code == 1 && wrong.contains(says) && wrong.contains("POSTGRES_USER"), "{grant}: {answer}");
    }
    bench.set("POSTGRES_DB", &server.database().await.database);
    let (answer, code) = bench.json(&["--check"], "");
    assert!(code == 1 && answer["wrong"].to_string().contains("may not create tables"), "{answer}");
    assert_eq!(Bench::new(&made).json(&["--check"], "").1, 0, "and for its own user all is well");
}

#[tokio::test]
async fn what_is_in_the_way_is_named_by_its_setting() {
    let server = Postgres::start_with("scram-sha-256", &["fsync=off"]).await;
    let settings = server.database().await;
    let mut bench = Bench::new(&settings);
    let error = bench.error(&["--check"], "[warm]\ntimescaledb = 'required'");
    assert!(error.contains("timescaledb = \"required\"") && error.contains("doesn't have the extension"), "{error}");
    bench.set("POSTGRES_PASSWORD", "the wrong one");
    let error = bench.error(&["--check"], "");
    assert!(error.contains("POSTGRES_PASSWORD") && error.contains(&server.port.to_string()), "{error}");
    bench.set("POSTGRES_PASSWORD", PASSWORD);
    bench.set("POSTGRES_DB", "nowhere");
    let error = bench.error(&[], "");
    assert!(error.contains("POSTGRES_DB") && error.contains("nowhere"), "{error}");
    server.execute("postgres", "CREATE DATABASE old ENCODING 'LATIN1' TEMPLATE template0").await;
    bench.set("POSTGRES_DB", "old");
    let error = bench.error(&[], "");
    assert!(error.contains("LATIN1") && error.contains("POSTGRES_DB"), "{error}");
    server.execute("postgres", "CREATE ROLE guest LOGIN PASSWORD 'only for tests'").await;
    bench.set("POSTGRES_DB", &settings.database);
    bench.set("POSTGRES_USER", "guest");
    let error = bench.error(&[], "");
    assert!(error.contains("permission denied") && error.contains("POSTGRES_USER"), "{error}");
    let closed = services::free_port().to_string();
    bench.set("POSTGRES_PORT", &closed);
    let error = bench.error(&[], "");
    assert!(error.contains("POSTGRES_PORT") && error.contains(&closed), "{error}");
    bench.set("POSTGRES_PORT", "many");
    let output = bench.run(&["migrate", "--check"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("POSTGRES_PORT = many"));
}

#[tokio::test]
async fn collectors_that_start_at_once_make_the_tables_once() {
    let server = Postgres::start().await;
    let settings = WarmSettings { schema: "telemetry".into(), ..server.database().await };
    let starts = (0..6).map(|_| PostgresWarm::open(&settings));
    for tier in futures::future::join_all(starts).await {
        tier.unwrap().close().await;
    }
    let once = "SELECT count(*) = max(version) - min(version) + 1 FROM telemetry._sqlx_migrations WHERE version < 3";
    assert_eq!(ask(&server, &settings, once).await, "true");
}

#[tokio::test]
async fn sqlite_is_looked_at_and_made_alike() {
    let mut bench = Bench::new(&WarmSettings::default());
    bench.set("POSTGRES_HOST", "");
    let file = bench.site.config.warm_file();
    let (before, code) = bench.json(&["--check"], "");
    assert_eq!((code, &before["store"], file.exists()), (1, &"SQLite".into(), false), "{before}");
    assert_eq!(bench.json(&[], "").1, 0);
    let (after, code) = bench.json(&["--check"], "");
    assert_eq!((code, &after["pending"], &after["ran"]), (0, &serde_json::json!([]), &serde_json::json!([])));
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file);
    let mut connection = options.connect().await.unwrap();
    let sql = "ALTER TABLE gaps ADD COLUMN note TEXT; DROP TABLE parked; \
               INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
               VALUES (99, 'from the future', true, x'00', 0)";
    let parts: Vec<&str> = sql.split("; ").collect();
    for part in &parts[..2] {
        sqlx::query(AssertSqlSafe(*part)).execute(&mut connection).await.unwrap();
    }
    let (altered, code) = bench.json(&["--check"], "");
    assert_eq!(code, 1);
    assert_eq!(altered["wrong"], serde_json::json!(["table parked is missing"]), "a column more harms nothing");
    let missing = altered["missing"].to_string();
    assert!(missing.contains("CREATE INDEX parked_by_boot ON parked (gateway, boot)"), "{missing}");
    sqlx::query(AssertSqlSafe(parts[2])).execute(&mut connection).await.unwrap();
    for arguments in [&["--check"][..], &[]] {
        assert!(bench.error(arguments, "").contains("a newer collector made them"));
    }
}
