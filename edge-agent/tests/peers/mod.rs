//! Foreign programs that the tests talk to, started and stopped by the test that needs them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// The Python that has pymodbus: `$TEST_PYTHON`, or the one that `make test` makes at the root.
pub(crate) fn python() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    let given = std::env::var_os("TEST_PYTHON").map(PathBuf::from);
    let found = given.into_iter().chain([root.join(".venv/bin/python"), root.join("target/test-venv/bin/python")]);
    let python = found.into_iter().find(|python| python.exists()).unwrap_or_else(|| {
        panic!("no Python with pymodbus: run `make test-deps`, or name one that has it in TEST_PYTHON")
    });
    let asked = Command::new(&python).args(["-c", "import pymodbus, serial"]).output().expect("python runs");
    assert!(
        asked.status.success(),
        "{} has no pymodbus and pyserial: run `make test-deps`\n{}",
        python.display(),
        String::from_utf8_lossy(&asked.stderr)
    );
    python
}

/// A script of this folder; it ends when this is dropped.
pub(crate) struct Peer {
    child: Child,
    lines: Receiver<String>,
    /// What it said before it was ready.
    pub(crate) said: Vec<String>,
    /// What it said with `ready`.
    pub(crate) port: String,
}

impl Peer {
    /// Starts a script and waits until it is ready.
    pub(crate) fn start(script: &str, arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(script);
        let mut command = Command::new(python());
        command.arg(script).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the peer starts");
        let lines = lines_of(child.stdout.take().expect("piped"));
        // Made before anything can fail, so that the child is ended in every case.
        let mut peer = Self { child, lines, said: Vec::new(), port: String::new() };
        loop {
            let line = peer.lines.recv_timeout(PATIENCE).expect("the peer gets ready; its complaint is above");
            match line.strip_prefix("ready ") {
                Some(port) => peer.port = port.to_owned(),
                None => peer.said.push(line),
            }
            if !peer.port.is_empty() {
                return peer;
            }
        }
    }

    /// What it said since.
    pub(crate) fn later(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// Ends it and waits for that.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.end();
    }
}

fn lines_of(output: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Two ends of a serial line without a wire.
pub(crate) struct PtyPair {
    socat: Child,
    _folder: tempfile::TempDir,
    /// One end.
    pub(crate) near: String,
    /// The other.
    pub(crate) far: String,
}

impl PtyPair {
    /// Made by socat.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let end = |name: &str| folder.path().join(name).display().to_string();
        let (near, far) = (end("near"), end("far"));
        let pty = |path: &str| format!("pty,raw,echo=0,link={path}");
        let started = Command::new("socat").arg(pty(&near)).arg(pty(&far)).spawn();
        let socat = started.unwrap_or_else(|error| panic!("socat can't be started, run `make test-deps`: {error}"));
        let pair = Self { socat, _folder: folder, near, far };
        let until = Instant::now() + PATIENCE;
        while !(Path::new(&pair.near).exists() && Path::new(&pair.far).exists()) {
            assert!(Instant::now() < until, "socat made no pty pair");
            std::thread::sleep(Duration::from_millis(10));
        }
        pair
    }
}

impl Drop for PtyPair {
    fn drop(&mut self) {
        let _ = self.socat.kill();
        let _ = self.socat.wait();
    }
}
