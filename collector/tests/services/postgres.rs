//! PostgreSQL as Debian packages it.

use super::disk::SmallDisk;
use super::{Service, eventually, free_port, is_root};
use collector::tiers::warm::settings::{Secret, Timescale, Tls, WarmSettings};
use rustix::process::Signal;
use shared::config::HumanDuration;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub const PASSWORD: &str = "only for tests";

/// A server with one superuser, `postgres`.
#[derive(Debug)]
pub struct Postgres {
    service: Option<Service>,
    folder: tempfile::TempDir,
    settings: Vec<String>,
    /// Where its data is.
    data: PathBuf,
    pub port: u16,
    databases: AtomicU32,
}

/// Where the newest server's programs are.
pub fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL: run scripts/install-test-services");
    let bin = |entry: std::io::Result<std::fs::DirEntry>| entry.ok().map(|e| e.path().join("bin"));
    let mut bins: Vec<PathBuf> = versions.filter_map(bin).filter(|bin| bin.join("postgres").exists()).collect();
    bins.sort();
    bins.pop().expect("PostgreSQL: run scripts/install-test-services")
}

/// Runs one of its programs as the user that it wants.
pub fn run(program: &str, arguments: &[&str]) {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]);
    }
    command.arg("--").arg(programs().join(program)).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes an empty cluster.
fn init(folder: &Path, data: &Path, arguments: &[&str]) {
    let secret = folder.join("password");
    std::fs::write(&secret, PASSWORD).unwrap();
    let secret = format!("--pwfile={}", secret.display());
    let all = ["-U", "postgres", &secret, "-E", "UTF8", "--locale=C", "-N", "-D", data.to_str().unwrap()];
    run("initdb", &[&all[..], arguments].concat());
}

/// A folder that belongs to the server's user.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("postgres-").tempdir().unwrap();
    if is_root() {
        let owned = Command::new("chown").arg("postgres:postgres").arg(folder.path()).status().unwrap();
        assert!(owned.success());
    }
    folder
}

impl Postgres {
    /// A fresh server that asks for no password. Without fsync: nothing here pulls the plug.
    pub async fn start() -> Self {
        Self::start_with("trust", &["fsync=off", "full_page_writes=off"]).await
    }

    pub async fn start_with(authentication: &str, settings: &[&str]) -> Self {
        Self::start_in(Self::made(authentication), settings).await
    }

    /// A server all of whose data lies on a small disk, its log in small pieces.
    pub async fn start_on(disk: &SmallDisk) -> Self {
        let (folder, data) = (folder(), disk.path().join("data"));
        init(folder.path(), &data, &["-A", "trust", "--wal-segsize=1"]);
        Self::started(folder, data, &["fsync=off"]).await
    }

    /// A folder with an empty cluster in it.
    fn made(authentication: &str) -> tempfile::TempDir {
        let folder = folder();
        init(folder.path(), &folder.path().join("data"), &["-A", authentication]);
        folder
    }

    /// A server on a folder that has `data` in it.
    pub async fn start_in(folder: tempfile::TempDir, settings: &[&str]) -> Self {
        let data = folder.path().join("data");
        Self::started(folder, data, settings).await
    }

    async fn started(folder: tempfile::TempDir, data: PathBuf, settings: &[&str]) -> Self {
        let settings = settings.iter().map(|s| (*s).to_owned()).collect();
        let mut server =
            Self { service: None, folder, settings, data, port: free_port(), databases: AtomicU32::new(0) };
        server.restart().await;
        server
    }

    /// Starts it again after [`Self::kill`], and waits until it answers.
    pub async fn restart(&mut self) {
        self.service = None;
        let (program, port) = (programs().join("postgres"), self.port.to_string());
        let (data, log) = (self.data.to_str().unwrap(), self.folder.path().join("log"));
        let mut command = vec![program.to_str().unwrap(), "-D", data, "-p", &port, "-k", ""];
        command.extend(["-c", "listen_addresses=127.0.0.1", "-c", "logging_collector=off", "-c", "max_connections=40"]);
        for setting in &self.settings {
            command.extend(["-c", setting]);
        }
        let script = format!("exec \"$@\" 2>>{}", log.display());
        let shell: Vec<&str> = [&["sh", "-c", &script, "sh"], &command[..]].concat();
        self.service = Some(Service::start(&shell, Some("postgres"), Signal::QUIT, Stdio::null()));
        let answers = async || self.admin("postgres").await.is_ok();
        eventually("PostgreSQL answers", Duration::from_secs(60), answers).await;
    }

    /// kill -9 of the server and of all its sessions.
    pub fn kill(&mut self) {
        self.service.as_mut().unwrap().kill_all();
    }

    pub fn signal(&self, signal: Signal) {
        self.service.as_ref().unwrap().signal(signal);
    }

    pub fn options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username("postgres")
            .password(PASSWORD)
            .database(database)
    }

    async fn admin(&self, database: &str) -> Result<PgConnection, sqlx::Error> {
        self.options(database).connect().await
    }

    /// Runs SQL as the superuser.
    pub async fn execute(&self, database: &str, sql: &str) {
        let mut connection = self.admin(database).await.unwrap();
        connection.execute(AssertSqlSafe(sql)).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        connection.close().await.unwrap();
    }

    /// Settings for a new, empty database.
    pub async fn database(&self) -> WarmSettings {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.execute("postgres", &format!("CREATE DATABASE {name}")).await;
        self.settings(&name)
    }

    pub fn settings(&self, database: &str) -> WarmSettings {
        settings(self.port, database)
    }
}

/// Settings for a server on this machine.
pub fn settings(port: u16, database: &str) -> WarmSettings {
    WarmSettings {
        host: "127.0.0.1".into(),
        port,
        database: database.into(),
        user: "postgres".into(),
        password: Some(Secret::new(PASSWORD)),
        tls: Tls::Off,
        timescaledb: Timescale::Auto,
        connect_timeout: HumanDuration(Duration::from_secs(10)),
        ..WarmSettings::default()
    }
}
