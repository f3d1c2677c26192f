//! The program under test, with its own authority and folder.

use crate::GATEWAYS;
use crate::gateway::name;
use anyhow::{Context, Result, ensure};
use collector::ca::{Authority, Role};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

pub(crate) struct Site {
    folder: tempfile::TempDir,
    /// Goes to the end of the collector's configuration.
    extra: String,
    running: Option<(Child, SocketAddr, SocketAddr)>,
}

impl Site {
    /// On the disk of the current folder: a temporary one may lie in memory.
    pub(crate) fn new(gateways: usize) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("ingest-bench.").tempdir_in(".")?;
        let site = Self { folder, extra: String::new(), running: None };
        let (authority, _) = Authority::init(&site.data().join("ca"), &["localhost".into()])?;
        for n in 0..gateways {
            authority.issue(&name(n), Role::Gateway, &[], false)?;
        }
        Ok(site)
    }

    /// With more in its configuration.
    #[allow(dead_code)] // most benchmarks are of the default
    pub(crate) fn with(mut self, extra: String) -> Self {
        self.extra = extra;
        self
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn ca(&self, file: &str) -> PathBuf {
        self.data().join("ca").join(file)
    }

    pub(crate) fn ingest(&self) -> Result<SocketAddr> {
        Ok(self.running.as_ref().context("a running collector")?.1)
    }

    #[allow(dead_code)] // not every benchmark asks
    pub(crate) fn api(&self) -> Result<SocketAddr> {
        Ok(self.running.as_ref().context("a running collector")?.2)
    }

    /// Starts it and waits until it is up; its process id.
    pub(crate) fn start(&mut self) -> Result<u32> {
        let grants: String = (0..GATEWAYS).map(|n| format!("{} = ['*']\n", name(n))).collect();
        let config = self.folder.path().join("collector.toml");
        let text = format!(
            "data_dir = {:?}\n[ingest]\nlisten = '127.0.0.1:0'\n[api]\nlisten = '127.0.0.1:0'\n\
             [log]\nformat = 'json'\n[grants]\n{grants}{}",
            self.data(),
            self.extra
        );
        fs::write(&config, text)?;
        let here = std::env::current_exe()?;
        let program = here.parent().and_then(|p| p.parent()).context("a target folder")?.join("collector");
        ensure!(program.exists(), "{} is missing: cargo build --release -p collector", program.display());
        let mut command = Command::new(program);
        command.args(["run", "--config"]).arg(config).env_remove("POSTGRES_HOST").stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        let (id, stderr) = (child.id(), child.stderr.take().context("its log")?);
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let addresses = lines.find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(&line).ok()?;
            let address = |name: &str| line[name].as_str()?.trim_start_matches("http://").parse().ok();
            (line["message"] == "collector is up").then(|| Some((address("ingest")?, address("api")?))).flatten()
        });
        let (ingest, api) = addresses.context("the collector didn't come up")?;
        self.running = Some((child, ingest, api));
        // What it says from now on, where it is a warning or worse.
        std::thread::spawn(move || lines.filter(|l| !l.contains("\"INFO\"")).for_each(|line| eprintln!("{line}")));
        Ok(id)
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        if let Some((mut child, ..)) = self.running.take() {
            rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)?;
            ensure!(child.wait()?.success(), "the collector ended badly");
        }
        Ok(())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some((child, ..)) = &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
