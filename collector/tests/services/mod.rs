//! Real services for tests: each is started on a free loopback port in a temporary folder, and ends with the test,
//! however that ends.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)] // no test binary needs all of them

pub mod bigquery;
pub mod disk;
pub mod meddler;
pub mod postgres;
pub mod redis;
pub mod s3;
pub mod timescale;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program that ends with us.
#[derive(Debug)]
pub struct Service {
    child: Child,
    stop: rustix::process::Signal,
}

impl Service {
    /// Starts it as `user`, when we are root and it must not be.
    pub fn start(command: &[&str], user: Option<&str>, stop: rustix::process::Signal, stdout: Stdio) -> Self {
        // setpriv becomes the program: its pid is the program's, and the kernel ends that even when we are killed.
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--pdeathsig", if stop == rustix::process::Signal::QUIT { "QUIT" } else { "TERM" }]);
        if let Some(user) = user.filter(|_| is_root()) {
            setpriv.args(["--reuid", user, "--regid", user, "--clear-groups"]);
        }
        let child =
            setpriv.arg("--").args(command).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::inherit()).spawn();
        Self { child: child.unwrap_or_else(|e| panic!("{}: {e}", command[0])), stop }
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed()).unwrap();
        let _ = rustix::process::kill_process(pid, signal);
    }

    /// kill -9, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// kill -9 of it and of its children, and waits until all are gone.
    pub fn kill_all(&mut self) {
        let id = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        let children: Vec<i32> = children.split_whitespace().map(|child| child.parse().unwrap()).collect();
        self.kill();
        for child in children.iter().filter_map(|child| rustix::process::Pid::from_raw(*child)) {
            let _ = rustix::process::kill_process(child, rustix::process::Signal::KILL);
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while children.iter().any(|child| std::path::Path::new(&format!("/proc/{child}")).exists()) {
            assert!(Instant::now() < deadline, "a child doesn't end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.signal(self.stop);
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
    }
}

pub fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Asks again until it is true.
pub async fn eventually(what: &str, within: Duration, mut ask: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !ask().await {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
