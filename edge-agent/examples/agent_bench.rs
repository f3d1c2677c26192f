//! What the agent costs: memory, processor, writes to the disk and bytes on the wire, with a thousand points read
//! once a second in ten requests of a hundred, from a Modbus server in this process; and its memory with a million
//! readings waiting. `agent_bench [--json] [SECONDS]`; it runs the program `edge-agent` that was built beside it, with
//! the environment of systemd/edge-agent.service.

#[path = "../../shared/examples/figures/disk.rs"]
mod disk;
#[path = "../../shared/examples/figures/mod.rs"]
mod figures;

use anyhow::{Context, Result, ensure};
use disk::Disk;
use edge_agent::catalogues::Catalogues;
use figures::{Budget, figure};
use futures::{SinkExt, StreamExt, future};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use shared::block::{BlockBuilder, Row, TimeBase};
use shared::catalogue::{Catalogue, Class, Entry, PointNo};
use shared::ids::{NodeId, Seq};
use shared::metric::Kind;
use shared::ranges::SeqRanges;
use shared::reading::{Quality, Timestamp};
use shared::spool::{Options, Record, Spool, WhenFull};
use shared::wire::{Codec, Message};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_modbus::server::tcp::{Server, accept_tcp_connection};
use tokio_modbus::{ExceptionCode, Request, Response};
use tokio_util::codec::Framed;

const REQUESTS: usize = 10;
const POINTS_EACH: usize = 100;
const SETTLING: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<()> {
    let (as_json, arguments) = figures::arguments();
    let seconds: u64 = arguments.first().map_or(Ok(60), |text| text.parse()).context("SECONDS is a number")?;
    let dir = tempfile::Builder::new().prefix("agent-bench.").tempdir_in(".")?;
    certificates(dir.path())?;
    let modbus = serve_modbus().await?;
    let (collector, wire) = serve_collector(dir.path()).await?;

    let disk = Disk::mount(dir.path(), 512 << 20);
    let data = disk.as_ref().map_or(dir.path(), Disk::path).join("data");
    let agent = Agent::start(dir.path(), &data, modbus, collector)?;
    tokio::time::sleep(SETTLING).await;
    let written = || disk.as_ref().map_or_else(|_| agent.write_bytes(), |disk| Ok(disk.written()));
    let (cpu_before, written_before, sent_before) = (agent.cpu_s(), written()?, wire.snapshot());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (cpu_after, written_after, sent_after) = (agent.cpu_s(), written()?, wire.snapshot());
    let rss = agent.rss_mb();
    agent.stop()?;
    let cpu = (cpu_after - cpu_before) / seconds as f64;
    let per_day = (written_after - written_before) as f64 / seconds as f64 * 86_400.0;
    let [readings, blocks, all, count] = [0, 1, 2, 3].map(|at| (sent_after[at] - sent_before[at]) as f64);
    ensure!(readings > 0.0, "nothing was delivered");
    let how = match &disk {
        Ok(_) => "sectors of an ext4 on a loop device".to_owned(),
        Err(why) => format!("write_bytes of the process, which exaggerates: no loop mounts here ({why})"),
    };
    let under =
        format!("agent with 1,000 points at 1 s, blocks of at most 10 s, connected over TLS, {seconds} s; disk: {how}");
    let found = [
        figure("memory (RSS)", rss, "MB", Budget::AtMost(20.0)),
        figure("processor", cpu * 100.0, "% of a core", Budget::AtMost(1.0)),
        figure("written to the disk", per_day / 1e6, "MB a day", Budget::None),
        figure("readings delivered", readings / seconds as f64, "readings/s", Budget::None),
        figure("readings in a block", readings / count, "readings", Budget::None),
        figure("in blocks", blocks / readings, "bytes a reading", Budget::None),
        figure("newest values besides", (all - blocks) / readings, "bytes a reading", Budget::None),
    ];
    figures::print(&under, &found, as_json);

    let waiting = tempfile::Builder::new().prefix("agent-bench.").tempdir_in(".")?;
    certificates(waiting.path())?;
    let data = waiting.path().join("data");
    fill(&data, 1_000_000)?;
    let agent = Agent::start(waiting.path(), &data, modbus, 1)?; // nobody listens on port 1
    tokio::time::sleep(SETTLING * 2).await;
    let found = [figure("memory (RSS)", agent.rss_mb(), "MB", Budget::AtMost(30.0))];
    figures::print("agent with a million readings waiting, no collector", &found, as_json);
    agent.stop()?;

    let size = fs::metadata(program()?)?.len() as f64 / 1e6;
    let found = [figure("edge-agent, stripped", size, "MB", Budget::AtMost(10.0))];
    figures::print("program", &found, as_json);
    Ok(())
}

fn program() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let program = here.parent().and_then(Path::parent).context("a target folder")?.join("edge-agent");
    ensure!(program.exists(), "{} is missing: cargo build --release -p edge-agent", program.display());
    Ok(program)
}

struct Agent {
    child: Child,
}

impl Agent {
    fn start(dir: &Path, data: &Path, modbus: u16, collector: u16) -> Result<Self> {
        let config = dir.join("agent.toml");
        fs::write(&config, configuration(dir, data, modbus, collector))?;
        let mut command = Command::new(program()?);
        command.envs([
            ("MALLOC_ARENA_MAX", "1"),
            ("MALLOC_TRIM_THRESHOLD_", "65536"),
            ("MALLOC_MMAP_THRESHOLD_", "65536"),
        ]);
        Ok(Self { child: command.arg("run").arg("--config").arg(config).spawn()? })
    }

    fn rss_mb(&self) -> f64 {
        figures::memory(self.child.id()).0 as f64 / 1e6
    }

    fn cpu_s(&self) -> f64 {
        figures::processor(self.child.id())
    }

    fn write_bytes(&self) -> Result<u64> {
        let io = fs::read_to_string(format!("/proc/{}/io", self.child.id()))?;
        Ok(figures::number_after(&io, "write_bytes:"))
    }

    fn stop(mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(dir: &Path, data: &Path, modbus: u16, collector: u16) -> String {
    let (folder, data) = (dir.display(), data.display());
    let mut text = format!(
        "data_dir = '{data}'\n[uplink]\ncollectors = ['localhost:{collector}']\nca = '{folder}/ca.pem'\n\
         cert = '{folder}/gateway.pem'\nkey = '{folder}/gateway.key'\n[http]\nlisten = '127.0.0.1:0'\n\
         [log]\nlevel = 'error'\n[[modbus]]\nname = 'bench'\ntransport = 'tcp'\naddress = '127.0.0.1:{modbus}'\n"
    );
    for unit in 1..=REQUESTS {
        text += &format!("[[modbus.device]]\nname = 'd{unit}'\nunit = {unit}\nnode = 'NODE_{unit}'\ninterval = '1s'\n");
        for point in 0..POINTS_EACH {
            text += &format!(
                "[[modbus.device.point]]\nmetric = 'pressure'\nchannel = 'p{point}'\nregister = 'holding'\n\
                 address = {point}\ntype = 'u16'\nscale = 0.01\nresolution = 0.01\n"
            );
        }
    }
    text
}

/// Registers that wander by a few steps around a level, as a pressure does.
struct Registers(AtomicU64);

impl tokio_modbus::server::Service for Registers {
    type Request = Request<'static>;
    type Response = Response;
    type Exception = ExceptionCode;
    type Future = future::Ready<Result<Response, ExceptionCode>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        let turn = self.0.fetch_add(1, Ordering::Relaxed);
        future::ready(match request {
            Request::ReadHoldingRegisters(first, count) => {
                let wander =
                    |n: u16| ((u64::from(n) << 32 | turn).wrapping_mul(6_364_136_223_846_793_005) >> 61) as u16;
                let words = (0..count).map(|n| 400 + first + n + wander(n)).collect();
                Ok(Response::ReadHoldingRegisters(words))
            }
            _ => Err(ExceptionCode::IllegalFunction),
        })
    }
}

async fn serve_modbus() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        let service = Arc::new(Registers(AtomicU64::new(0)));
        let connected = |stream, address| {
            let service = service.clone();
            async move { accept_tcp_connection(stream, address, |_| Ok(Some(service.clone()))) }
        };
        Server::new(listener).serve(&connected, |error| eprintln!("modbus: {error}")).await
    });
    Ok(port)
}

/// Readings in blocks, bytes of blocks, bytes of all messages, blocks.
#[derive(Default)]
struct Wire([AtomicU64; 4]);

impl Wire {
    fn snapshot(&self) -> [u64; 4] {
        [0, 1, 2, 3].map(|at: usize| self.0[at].load(Ordering::Relaxed))
    }
}

/// A collector that takes everything and keeps nothing.
async fn serve_collector(dir: &Path) -> Result<(u16, Arc<Wire>)> {
    let file = |name: &str| dir.join(name);
    let tls = shared::tls::server_config(&file("ca.pem"), &file("server.pem"), &file("server.key"))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (port, wire) = (listener.local_addr()?.port(), Arc::new(Wire::default()));
    let counted = wire.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(tls) = tokio_rustls::TlsAcceptor::from(tls.clone()).accept(tcp).await else { continue };
            let mut connection = Framed::new(tls, Codec::new());
            let welcome = Message::Welcome {
                version: 1,
                collector: "bench".into(),
                stored: SeqRanges::new(),
                committed: SeqRanges::new(),
                highest_known: Seq(0),
                catalogues: Vec::new(),
                server_time: Timestamp::wall_clock(),
                window_bytes: 1 << 20,
            };
            let _ = connection.send(welcome).await;
            while let Some(Ok(message)) = connection.next().await {
                counted.0[2].fetch_add(shared::wire::encode(&message).len() as u64, Ordering::Relaxed);
                let Message::Block { seq, bytes } = message else { continue };
                let Ok(header) = shared::block::read_header(&bytes) else { continue };
                counted.0[0].fetch_add(header.readings.into(), Ordering::Relaxed);
                counted.0[1].fetch_add(bytes.len() as u64, Ordering::Relaxed);
                counted.0[3].fetch_add(1, Ordering::Relaxed);
                let seqs: SeqRanges = [seq].into_iter().collect();
                let _ = connection.send(Message::Stored(seqs.clone())).await;
                let _ = connection.send(Message::Committed(seqs)).await;
            }
        }
    });
    Ok((port, wire))
}

/// A spool with so many readings, in small blocks as a station of twenty points leaves them.
fn fill(data: &Path, readings: i64) -> Result<()> {
    const EACH: i64 = 100;
    let entries = (0..20).map(|n| {
        Ok(Entry {
            node: NodeId::new("NODE")?,
            metric: "pressure".into(),
            channel: format!("p{n}"),
            kind: Kind::Gauge,
            unit: "bar".into(),
            resolution_exp: Some(-2),
            interval_ms: 10_000,
            silence_ms_max: 0,
            class: Class::Raw,
        })
    });
    let catalogue = Catalogue::new(entries.collect::<Result<_>>()?)?;
    fs::create_dir_all(data)?;
    Catalogues::open(&data.join("catalogues"))?.keep(&catalogue)?;
    let options = Options { bytes_max: 256 << 20, disk_free_min: 0, when_full: WhenFull::DropOldest };
    let (spool, _) = Spool::open(&data.join("spool"), options)?;
    let mut records = Vec::new();
    for block in 0..readings / EACH {
        let mut builder = BlockBuilder::new(TimeBase::Utc);
        for n in 0..EACH {
            let (point, tick) = (PointNo((n % 20) as u32), block * EACH / 20 + n / 20);
            let noise = ((block * EACH + n) as u64).wrapping_mul(6_364_136_223_846_793_005) >> 61;
            let (at, value) = (Timestamp(1_800_000_000_000_000 + tick * 10_000_000), Some(4.0 + noise as f64 * 0.01));
            ensure!(builder.push(Row { point, at, value, quality: Quality::GOOD }, Some(-2)), "a small block has room");
        }
        let block = builder.finish(catalogue.hash()).context("a block")?;
        records.push(Record { payload: block.bytes, span: Some((block.header.first, block.header.last)) });
        if records.len() == 500 {
            spool.append(std::mem::take(&mut records))?;
        }
    }
    spool.append(records)?;
    Ok(())
}

fn certificates(dir: &Path) -> Result<()> {
    let name = |text: &str| {
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, text);
        name
    };
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = name("bench CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(dir.join("ca.pem"), params.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(params, key);
    for (file, host) in [("server", "localhost"), ("gateway", "gateway")] {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![host.to_owned()])?;
        params.distinguished_name = name(file);
        fs::write(dir.join(format!("{file}.pem")), params.signed_by(&key, &issuer)?.pem())?;
        fs::write(dir.join(format!("{file}.key")), key.serialize_pem())?;
    }
    Ok(())
}
