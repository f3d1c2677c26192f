//! TimescaleDB compiled to WebAssembly, on Node: its semantics, not its speed. One session behind all connections, so
//! each test gets a schema of its own and takes its turn.

use super::Service;
use super::postgres::settings;
use collector::tiers::warm::settings::WarmSettings;
use rustix::process::Signal;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

/// A server with one database.
#[derive(Debug)]
pub struct TimescaleServer {
    _service: Service,
    pub port: u16,
    schemas: AtomicU32,
}

impl TimescaleServer {
    pub fn start() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services/timescale");
        assert!(folder.join("node_modules").exists(), "TimescaleDB: run scripts/install-test-services");
        let script = folder.join("server.mjs");
        let mut service = Service::start(&["node", script.to_str().unwrap(), "0"], None, Signal::TERM, Stdio::piped());
        let mut line = String::new();
        BufReader::new(service.child().stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("port ").and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("TimescaleDB said {line:?} instead of its port"));
        Self { _service: service, port, schemas: AtomicU32::new(0) }
    }

    /// Settings for a new, empty schema.
    pub fn schema(&self) -> WarmSettings {
        let number = self.schemas.fetch_add(1, Ordering::Relaxed);
        WarmSettings { schema: format!("test_{number}"), connections: 2, ..settings(self.port, "postgres") }
    }
}
