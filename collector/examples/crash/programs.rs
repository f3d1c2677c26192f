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
    /// The first, and the second where there are two.
    Collector(usize),
}

/// What is to be other than usual.
#[derive(Default)]
pub(crate) struct Extra {
    /// Goes to the end of the agent's configuration.
    pub(crate) agent: String,
    /// And of each collector's.
    pub(crate) collector: String,
    /// Whether there is a second collector.
    pub(crate) two: bool,
}

/// A collector.
struct Seat {
    name: &'static str,
    ingest: SocketAddr,
    api: SocketAddr,
    child: Option<Child>,
}

/// Where everything runs.
pub(crate) struct Site {
    folder: PathBuf,
    programs: PathBuf,
    /// Between the agent and the first collector.
    pub(crate) proxy: Proxy,
    page: SocketAddr,
    agent: Option<Child>,
    collectors: Vec<Seat>,
}

impl Site {
    /// Certificates, configurations, all programs.
    pub(crate) async fn start(folder: &Path, modbus: u16, mqtt: u16, extra: &Extra) -> Result<Self> {
        let here = std::env::current_exe()?;
        let programs = here.parent().and_then(Path::parent).context("a target folder")?.to_owned();
        for program in ["edge-agent", "collector"] {
            let path = programs.join(program);
            ensure!(path.exists(), "{} is missing: cargo build --workspace --bins", path.display());
        }
        let seat = |name| Ok::<_, anyhow::Error>(Seat { name, ingest: free_port()?, api: free_port()?, child: None });
        let names: &[&str] = if extra.two { &["collector", "second"] } else { &["collector"] };
        let collectors = names.iter().map(|name| seat(*name)).collect::<Result<Vec<_>>>()?;
        let (proxy, page) = (Proxy::start(collectors[0].ingest).await?, free_port()?);
        for seat in &collectors {
            fs::write(folder.join(format!("{}.toml", seat.name)), collector_config(folder, seat) + &extra.collector)?;
        }
        let doors: Vec<u16> = [proxy.port].into_iter().chain(collectors[1..].iter().map(|c| c.ingest.port())).collect();
        fs::write(folder.join("agent.toml"), agent_config(folder, &doors, page, modbus, mqtt) + &extra.agent)?;
        let mut site = Self { folder: folder.into(), programs, proxy, page, agent: None, collectors };
        site.authority(&["ca", "init"])?;
        site.authority(&["ca", "issue", "STATION_7"])?;
        // Apart from what a collector may lose.
        fs::rename(folder.join("collector/ca"), folder.join("ca"))?;
        for which in 0..site.collectors.len() {
            site.restart(Victim::Collector(which))?;
        }
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

    pub(crate) fn collector_data(&self, which: usize) -> PathBuf {
        self.folder.join(self.collectors[which].name)
    }

    /// Where the first collector answers.
    pub(crate) fn api(&self) -> SocketAddr {
        self.collectors[0].api
    }

    /// How many collectors there are.
    pub(crate) fn collectors(&self) -> usize {
        self.collectors.len()
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
            Victim::Collector(which) => &mut self.collectors[which].child,
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
        let (program, name) = match which {
            Victim::Agent => ("edge-agent", "agent"),
            Victim::Collector(which) => ("collector", self.collectors[which].name),
        };
        let config = format!("{name}.toml");
        let log = OpenOptions::new().create(true).append(true).open(self.folder.join(format!("{name}.log")))?;
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
            for seat in &self.collectors {
                if let Ok(gateways) = get(format!("http://{}/api/v1/gateways", seat.api)).await
                    && gateways.to_string().contains("\"connected\":true")
                {
                    return Ok(());
                }
            }
            ensure!(Instant::now() < until, "agent and collector don't find each other; see {}", self.folder.display());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// An answer of the API.
    pub(crate) async fn get(&self, path: &str) -> Result<serde_json::Value> {
        get(format!("http://{}/api/v1/{path}", self.collectors[0].api)).await
    }

    /// What the agent says of itself.
    pub(crate) async fn agent_status(&self) -> Result<serde_json::Value> {
        get(format!("http://{}/status", self.page)).await
    }
}

async fn get(url: String) -> Result<serde_json::Value> {
    Ok(serde_json::from_str(&fetch(url).await?)?)
}

/// The text at an address.
pub(crate) async fn fetch(url: String) -> Result<String> {
    tokio::task::spawn_blocking(move || {
        Ok(ureq::get(&url).call()?.body_mut().with_config().limit(64 << 20).read_to_string()?)
    })
    .await?
}

impl Drop for Site {
    fn drop(&mut self) {
        let collectors = self.collectors.iter_mut().map(|seat| &mut seat.child);
        for child in collectors.chain([&mut self.agent]).flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn collector_config(folder: &Path, seat: &Seat) -> String {
    let (folder, Seat { name, ingest, api, .. }) = (folder.display(), seat);
    format!(
        "data_dir = '{folder}/{name}'\n\
         [ingest]\nlisten = '{ingest}'\nca = '{folder}/ca/ca.pem'\ncert = '{folder}/ca/server.pem'\n\
         key = '{folder}/ca/server.key'\nrevoked = '{folder}/ca/revoked'\n\
         [api]\nlisten = '{api}'\n[buffer]\nflush_interval = '700ms'\n[grants]\nSTATION_7 = ['*']\n"
    )
}

fn agent_config(folder: &Path, doors: &[u16], page: SocketAddr, modbus: u16, mqtt: u16) -> String {
    let collectors: Vec<String> = doors.iter().map(|port| format!("localhost:{port}")).collect();
    let folder = folder.display();
    format!(
        "data_dir = '{folder}/agent'\n\
         [uplink]\ncollectors = {collectors:?}\nca = '{folder}/ca/ca.pem'\n\
         cert = '{folder}/ca/STATION_7.pem'\nkey = '{folder}/ca/STATION_7.key'\n\
         [batch]\nage_max = '500ms'\n[http]\nlisten = '{page}'\n[clock]\ntrust = 'system'\n\
         [[modbus]]\nname = 'bus'\ntransport = 'tcp'\naddress = '127.0.0.1:{modbus}'\n\
         [[modbus.device]]\nname = 'meter'\nunit = 1\nnode = 'PUMP_001'\ninterval = '100ms'\n\
         [[modbus.device.point]]\nmetric = 'total_volume'\nregister = 'holding'\naddress = 0\ntype = 'u32'\n\
         [[mqtt]]\nname = 'broker'\naddress = '127.0.0.1:{mqtt}'\nclient_id = 'crash-agent'\n\
         [[mqtt.subscription]]\ntopic = 'site/{{node}}/flow'\nqos = 1\npayload = 'json'\ntimestamp = 'ts'\n\
         point = [{{ metric = 'flow_rate', value = 'v' }}]\n"
    )
}
