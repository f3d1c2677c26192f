//! The two programs, as children that can be killed and started again on their data.

use crate::proxy::Proxy;
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than the longest pause between two attempts of the agent.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Victim {
    Agent,
    Collector,
}

/// Where everything runs.
pub(crate) struct Site {
    folder: PathBuf,
    programs: PathBuf,
    pub(crate) proxy: Proxy,
    pub(crate) api: SocketAddr,
    page: SocketAddr,
    agent: Option<Child>,
    collector: Option<Child>,
}

impl Site {
    /// Certificates, configurations, both programs. `more` goes to the end of the agent's configuration.
    pub(crate) async fn start(folder: &Path, modbus: u16, mqtt: u16, more: &str) -> Result<Self> {
        let here = std::env::current_exe()?;
        let programs = here.parent().and_then(Path::parent).context("a target folder")?.to_owned();
        for program in ["edge-agent", "collector"] {
            let path = programs.join(program);
            ensure!(path.exists(), "{} is missing: cargo build --workspace --bins", path.display());
        }
        let (ingest, api, page) = (free_port()?, free_port()?, free_port()?);
        let proxy = Proxy::start(ingest).await?;
        fs::write(folder.join("collector.toml"), collector_config(folder, ingest, api))?;
        fs::write(folder.join("agent.toml"), agent_config(folder, proxy.port, page, modbus, mqtt) + more)?;
        let mut site = Self { folder: folder.into(), programs, proxy, api, page, agent: None, collector: None };
        site.authority(&["ca", "init"])?;
        site.authority(&["ca", "issue", "STATION_7"])?;
        site.restart(Victim::Collector)?;
        site.restart(Victim::Agent)?;
        Ok(site)
    }

    fn authority(&self, words: &[&str]) -> Result<()> {
        let mut command = Command::new(self.programs.join("collector"));
        let config = self.folder.join("collector.toml");
        let output = command.args(words).arg("--config").arg(config).output()?;
        ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    pub(crate) fn collector_data(&self) -> PathBuf {
        self.folder.join("collector")
    }

    /// Memory of the agent, bytes.
    pub(crate) fn agent_rss(&self) -> Result<u64> {
        let pid = self.agent.as_ref().context("a running agent")?.id();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// What the agent's spool takes on the disk, bytes.
    pub(crate) fn agent_spool(&self) -> u64 {
        fn size(path: &Path) -> u64 {
            let Ok(entries) = fs::read_dir(path) else { return 0 };
            entries
                .flatten()
                .map(|e| e.metadata().map_or(0, |m| if m.is_dir() { size(&e.path()) } else { m.len() }))
                .sum()
        }
        size(&self.folder.join("agent/spool"))
    }

    fn child(&mut self, which: Victim) -> &mut Option<Child> {
        match which {
            Victim::Agent => &mut self.agent,
            Victim::Collector => &mut self.collector,
        }
    }

    /// kill -9.
    pub(crate) fn kill(&mut self, which: Victim) -> Result<()> {
        if let Some(mut child) = self.child(which).take() {
            if let Some(status) = child.try_wait()? {
                bail!("{which:?} ended by itself: {status}; see {}", self.folder.display());
            }
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    pub(crate) fn restart(&mut self, which: Victim) -> Result<()> {
        let (program, config) = match which {
            Victim::Agent => ("edge-agent", "agent.toml"),
            Victim::Collector => ("collector", "collector.toml"),
        };
        let log = OpenOptions::new().create(true).append(true).open(self.folder.join(format!("{program}.log")))?;
        let mut command = Command::new(self.programs.join(program));
        command.arg("run").arg("--config").arg(self.folder.join(config)).stdin(Stdio::null());
        command.stdout(File::try_clone(&log)?).stderr(log);
        // As systemd/edge-agent.service sets them: glibc keeps an arena per thread and gives little back.
        command.envs([
            ("MALLOC_ARENA_MAX", "1"),
            ("MALLOC_TRIM_THRESHOLD_", "65536"),
            ("MALLOC_MMAP_THRESHOLD_", "65536"),
        ]);
        *self.child(which) = Some(command.spawn()?);
        Ok(())
    }

    /// Until the collector answers and has heard the agent.
    pub(crate) async fn wait_until_up(&self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Ok(gateways) = self.get("gateways").await
                && gateways.to_string().contains("\"connected\":true")
            {
                return Ok(());
            }
            ensure!(Instant::now() < until, "agent and collector don't find each other; see {}", self.folder.display());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// An answer of the API.
    pub(crate) async fn get(&self, path: &str) -> Result<serde_json::Value> {
        get(format!("http://{}/api/v1/{path}", self.api)).await
    }

    /// What the agent says of itself.
    pub(crate) async fn agent_status(&self) -> Result<serde_json::Value> {
        get(format!("http://{}/status", self.page)).await
    }
}

async fn get(url: String) -> Result<serde_json::Value> {
    tokio::task::spawn_blocking(move || {
        let text = ureq::get(&url).call()?.body_mut().with_config().limit(64 << 20).read_to_string()?;
        Ok(serde_json::from_str(&text)?)
    })
    .await?
}

impl Drop for Site {
    fn drop(&mut self) {
        for child in [&mut self.agent, &mut self.collector].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn collector_config(folder: &Path, ingest: SocketAddr, api: SocketAddr) -> String {
    format!(
        "data_dir = '{}/collector'\n[ingest]\nlisten = '{ingest}'\n[api]\nlisten = '{api}'\n\
         [buffer]\nflush_interval = '700ms'\n[grants]\nSTATION_7 = ['*']\n",
        folder.display()
    )
}

fn agent_config(folder: &Path, collector: u16, page: SocketAddr, modbus: u16, mqtt: u16) -> String {
    let folder = folder.display();
    format!(
        "data_dir = '{folder}/agent'\n\
         [uplink]\ncollectors = ['localhost:{collector}']\nca = '{folder}/collector/ca/ca.pem'\n\
         cert = '{folder}/collector/ca/STATION_7.pem'\nkey = '{folder}/collector/ca/STATION_7.key'\n\
         [batch]\nage_max = '500ms'\n[http]\nlisten = '{page}'\n[clock]\ntrust = 'system'\n\
         [[modbus]]\nname = 'bus'\ntransport = 'tcp'\naddress = '127.0.0.1:{modbus}'\n\
         [[modbus.device]]\nname = 'meter'\nunit = 1\nnode = 'PUMP_001'\ninterval = '100ms'\n\
         [[modbus.device.point]]\nmetric = 'total_volume'\nregister = 'holding'\naddress = 0\ntype = 'u32'\n\
         [[mqtt]]\nname = 'broker'\naddress = '127.0.0.1:{mqtt}'\nclient_id = 'crash-agent'\n\
         [[mqtt.subscription]]\ntopic = 'site/{{node}}/flow'\nqos = 1\npayload = 'json'\ntimestamp = 'ts'\n\
         point = [{{ metric = 'flow_rate', value = 'v' }}]\n"
    )
}
