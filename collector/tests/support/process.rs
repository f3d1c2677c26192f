//! The real program, started with a temporary configuration, and killed as hard as a test wants.

use super::Site;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Where cargo built it.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_collector");

/// Runs it to its end.
pub fn collector(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).env_remove("COLLECTOR_CONFIG").output().unwrap()
}

/// A running one; killed when it is dropped.
pub struct Process {
    pub ingest: SocketAddr,
    pub api: SocketAddr,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reading: Option<JoinHandle<()>>,
}

impl Site {
    /// Writes the configuration down for the real program; what is given is appended.
    pub fn write_config(&self, more: &str) -> PathBuf {
        let path = self.folder.path().join("collector.toml");
        let config = &self.config;
        let grants: String = config.grants.iter().map(|(gateway, nodes)| format!("{gateway} = {nodes:?}\n")).collect();
        let text = format!(
            "data_dir = {:?}\n[ingest]\nlisten = '{}'\nidle_timeout = '{}'\n[api]\nlisten = '{}'\n[spool]\nbytes_max = {}\n\
             [buffer]\nflush_rows = {}\nflush_interval = '{}'\n[log]\nformat = 'json'\nlevel = 'info'\n[grants]\n{grants}{more}\n",
            config.data_dir,
            config.ingest.listen,
            config.ingest.idle_timeout,
            config.api.listen,
            config.spool.bytes_max.as_u64(),
            config.buffer.flush_rows,
            config.buffer.flush_interval,
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Starts the real program and waits until it is up.
    pub fn spawn(&self) -> Process {
        let config = self.write_config("");
        let mut child = Command::new(PROGRAM)
            .args(["run", "--config"])
            .arg(config)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let (log, (up, is_up)) = (Arc::new(Mutex::new(Vec::new())), mpsc::channel());
        let (lines, stderr) = (Arc::clone(&log), BufReader::new(child.stderr.take().unwrap()));
        let reading = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some(addresses) = addresses(&line) {
                    let _ = up.send(addresses);
                }
                lines.lock().unwrap().push(line);
            }
        });
        match is_up.recv_timeout(super::PATIENCE) {
            Ok((ingest, api)) => Process { ingest, api, child, log, reading: Some(reading) },
            Err(error) => {
                let _ = child.kill();
                panic!("the collector didn't come up ({error}): {:#?}", log.lock().unwrap());
            }
        }
    }
}

/// From the line that says it is up.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let text = |name: &str| line[name].as_str();
    if text("message") != Some("collector is up") {
        return None;
    }
    Some((text("ingest")?.parse().ok()?, text("api")?.strip_prefix("http://")?.parse().ok()?))
}

impl Process {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; its exit code, and all it said.
    pub fn terminate(mut self) -> (ExitStatus, Vec<String>) {
        let id = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let deadline = Instant::now() + super::PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.reading.take().unwrap().join().unwrap();
                return (status, self.log());
            }
            assert!(Instant::now() < deadline, "it doesn't end: {:#?}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same questions and gateways for a process as for a collector in this process.
pub fn process_client(site: &Site, process: &Process) -> super::Collector {
    super::Collector::at(process.ingest, process.api, site.config.ca_dir())
}
