//! A mosquitto that a test starts on a free port in a temporary folder, and its publisher.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The broker; it ends when this is dropped.
pub(crate) struct Mosquitto {
    child: Child,
    log: Receiver<String>,
    said: Vec<String>,
    folder: TempDir,
    pub(crate) port: u16,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port()
}

impl Mosquitto {
    /// One that lets everybody in and keeps sessions on disk.
    pub(crate) fn start() -> Self {
        Self::with("allow_anonymous true", |_| {})
    }

    /// One with these lines more; `prepare` may put files into its folder, which is `@` in the lines.
    pub(crate) fn with(lines: &str, prepare: impl FnOnce(&std::path::Path)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        prepare(folder.path());
        let (port, place) = (free_port(), folder.path().display().to_string());
        let lines = lines.replace('@', &place);
        let config = format!(
            "listener {port} 127.0.0.1\npersistence true\npersistence_location {place}/\nuser root\n\
             log_dest stderr\nlog_type all\nset_tcp_nodelay true\n{lines}\n"
        );
        std::fs::write(folder.path().join("mosquitto.conf"), config).expect("a config");
        let (child, log) = launch(&folder);
        let broker = Self { child, log, said: Vec::new(), folder, port };
        broker.wait_open();
        broker
    }

    fn wait_open(&self) {
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < until, "mosquitto doesn't listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it as an administrator would: it saves its sessions.
    pub(crate) fn stop(&mut self) {
        let asked = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(asked.is_ok_and(|status| status.success()));
        self.child.wait().expect("mosquitto ends");
    }

    /// Starts it again after [`Mosquitto::stop`], in the same place.
    pub(crate) fn start_again(&mut self) {
        (self.child, self.log) = launch(&self.folder);
        self.wait_open();
    }

    /// Waits for a line of its log that has all of `parts`, from now on or since the last call.
    pub(crate) async fn saw(&mut self, parts: &[&str]) {
        let until = Instant::now() + PATIENCE;
        loop {
            self.said.extend(self.log.try_iter());
            let found = self.said.iter().position(|line| parts.iter().all(|part| line.contains(part)));
            if let Some(index) = found {
                self.said.drain(..=index);
                return;
            }
            assert!(Instant::now() < until, "mosquitto never said {parts:?} but\n{}", self.said.join("\n"));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How many lines of its log since the last [`Mosquitto::saw`] have all of `parts`.
    pub(crate) fn count(&mut self, parts: &[&str]) -> usize {
        self.said.extend(self.log.try_iter());
        self.said.iter().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }

    /// Publishes with mosquitto_pub; at QoS 1 and 2 the broker has it then. False when that failed.
    pub(crate) fn try_publish(&self, topic: &str, payload: &str, more: &[&str]) -> bool {
        let port = self.port.to_string();
        let mut command = Command::new("mosquitto_pub");
        command.args(["-h", "127.0.0.1", "-p", &port, "-t", topic, "-s"]).args(more);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("mosquitto_pub starts");
        let written = child.stdin.take().expect("piped").write_all(payload.as_bytes());
        child.wait().expect("mosquitto_pub ends").success() && written.is_ok()
    }

    /// As [`Mosquitto::try_publish`], and it must work.
    pub(crate) fn publish(&self, topic: &str, payload: &str, more: &[&str]) {
        assert!(self.try_publish(topic, payload, more), "publishing {topic} failed");
    }
}

fn launch(folder: &TempDir) -> (Child, Receiver<String>) {
    let program =
        if std::path::Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
    let mut command = Command::new(program);
    command.arg("-c").arg(folder.path().join("mosquitto.conf")).stderr(Stdio::piped()).stdout(Stdio::null());
    let started = command.spawn();
    let mut child = started.unwrap_or_else(|error| panic!("mosquitto can't be started, run `make test-deps`: {error}"));
    let (sender, log) = channel();
    let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
    (child, log)
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
