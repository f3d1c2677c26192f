//! An emulator of BigQuery's API on DuckDB, from PyPI: its semantics, not its speed or its bills. It has one session behind
//! all requests and mixes up the answers of two that come at once, so they take their turn.

use super::meddler::Meddler;
use super::{Service, eventually, free_port};
use collector::tiers::cold::bigquery::settings::BigQuerySettings;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A server that keeps everything in memory.
#[derive(Debug)]
pub struct BigQuery {
    _service: Service,
    _folder: tempfile::TempDir,
    /// In front of it.
    pub port: u16,
    datasets: AtomicU32,
}

impl BigQuery {
    pub async fn start() -> Self {
        let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv");
        let program = venv.join("bin/bqemulator");
        assert!(program.exists(), "{} is missing: run make test-deps", program.display());
        let folder = tempfile::Builder::new().prefix("bigquery-").tempdir().unwrap();
        lay_extension(&venv, folder.path());
        let (port, path) = (free_port(), |name: &str| folder.path().join(name).display().to_string());
        let script = format!("exec \"$@\" >{} 2>&1", path("log"));
        let environment = [
            format!("HOME={}", folder.path().display()),
            format!("BQEMU_UPLOAD_STAGING_DIR={}", path("uploads")),
            "BQEMU_ENABLE_FORMAT_EXTENSIONS=false".into(),
        ];
        let arguments =
            ["start", "--ephemeral", "--log-level", "warning", "--grpc-port", "0", "--rest-port", &port.to_string()]
                .map(str::to_owned);
        let command: Vec<String> = ["sh", "-c", &script, "sh", "env"]
            .map(str::to_owned)
            .into_iter()
            .chain(environment)
            .chain([program.display().to_string()])
            .chain(arguments)
            .collect();
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let service = Service::start(&command, None, Signal::TERM, Stdio::null());
        let url = format!("http://127.0.0.1:{port}/bigquery/v2/projects/test/datasets");
        let answers = async || reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success());
        eventually("BigQuery's emulator answers", Duration::from_secs(60), answers).await;
        let port = Meddler::start(port).await.port;
        Self { _service: service, _folder: folder, port, datasets: AtomicU32::new(0) }
    }

    /// Makes something, or begins a job; panics when that doesn't work.
    pub async fn post(&self, path: &str, body: Value) {
        let url = format!("http://127.0.0.1:{}/bigquery/v2/projects/test/{path}", self.port);
        let answer: Value = reqwest::Client::new().post(url).json(&body).send().await.unwrap().json().await.unwrap();
        assert!(answer["status"]["errorResult"].is_null() && answer["error"].is_null(), "{answer}");
    }

    pub async fn run(&self, sql: &str) {
        self.post("jobs", json!({ "configuration": { "query": { "query": sql, "useLegacySql": false } } })).await;
    }

    /// Settings for a dataset that isn't there yet.
    pub fn dataset(&self) -> BigQuerySettings {
        let number = self.datasets.fetch_add(1, Ordering::Relaxed);
        settings(self.port, &format!("test_{number}"))
    }
}

/// Settings for a server on this machine.
pub fn settings(port: u16, dataset: &str) -> BigQuerySettings {
    BigQuerySettings {
        project: "test".into(),
        dataset: dataset.into(),
        endpoint: Some(format!("http://127.0.0.1:{port}")),
        ..BigQuerySettings::default()
    }
}

/// DuckDB looks for an extension under its home, and would fetch it otherwise. PyPI has it, too.
fn lay_extension(venv: &Path, home: &Path) {
    let entries = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let found = entries(venv.join("lib"))
        .flat_map(|python| entries(python.join("site-packages/duckdb_extension_spatial/extensions")))
        .find(|version| version.join("spatial.duckdb_extension").exists())
        .expect("duckdb-extension-spatial: run make test-deps");
    let machine = if cfg!(target_arch = "aarch64") { "linux_arm64" } else { "linux_amd64" };
    let version = found.file_name().unwrap();
    let folder = home.join(".duckdb/extensions").join(version).join(machine);
    std::fs::create_dir_all(&folder).unwrap();
    let extension = std::fs::canonicalize(found.join("spatial.duckdb_extension")).unwrap();
    std::os::unix::fs::symlink(extension, folder.join("spatial.duckdb_extension")).unwrap();
}
