//! The demo: a small water network, its sensors, a real agent and a real collector between which everything goes
//! over mutual TLS, and a table of what the collector's API says.
//!
//! ```text
//! network ─► registers ──Modbus TCP, RTU──┐
//!        └─► messages ──MQTT broker───────┴─► edge-agent ──TLS──► collector ──HTTP──► table
//! ```
//!
//! On a fresh data folder the network has a past (`past.rs`), which goes in by `collector import` while all runs.
//!
//! `--check SECONDS` compares, instead of showing: every newest value and the history with what the sensors held.
//! `--sensors-only` is for agents and brokers elsewhere, as in docker-compose.yml.

/// A line on standard output; nobody may be reading it any more, as behind `head`.
macro_rules! say {
    ($($part:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($part)*);
    }};
}

#[cfg(test)]
mod agreement;
mod api;
mod bring;
mod check;
mod demand;
mod field;
mod form;
mod held;
mod judge;
mod kept;
mod modbus;
mod mqtt;
mod network;
mod noise;
mod past;
mod programs;
mod screen;
mod sensors;
mod setup;
mod show;
mod table;

use anyhow::Context;
use api::Client;
use bring::Past;
use clap::Parser;
use field::Field;
use jiff::tz::TimeZone;
use network::{START_S, Settings, Tear};
use programs::Program;
use setup::{GATEWAY, Place, Ports, loopback};
use shared::reading::Timestamp;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long a program may take until it answers.
const UP_WITHIN: Duration = Duration::from_secs(60);

/// A small water network, read by a real agent, sent to a real collector, shown as its API tells it.
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Arguments {
    /// Where everything is written; it goes on there when started again. Default: target/demo.
    #[arg(long)]
    data: Option<PathBuf>,
    /// How many of the network's seconds pass in one: at 60 a day takes 24 minutes. Times are never touched by it, so that
    /// only at 1 there can be a past.
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// How far back the network is known on a fresh data folder: readings of every sensor, brought in while all runs.
    #[arg(long, default_value = "9w", value_parser = humantime::parse_duration, value_name = "TIME")]
    past: Duration,
    /// The same of the flow into the districts.
    #[arg(long, default_value = "2y", value_parser = humantime::parse_duration, value_name = "TIME")]
    flow_past: Duration,
    /// Begin with nothing.
    #[arg(long, conflicts_with_all = ["past", "flow_past"])]
    no_past: bool,
    /// Of everything that is random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// When a pipe bursts in DIST_002.
    #[arg(long, default_value = "90s", value_parser = humantime::parse_duration, value_name = "TIME")]
    burst_after: Duration,
    /// How long it takes to repair it.
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration, value_name = "TIME")]
    burst_for: Duration,
    /// Take any free ports, even if the usual ones are free.
    #[arg(long)]
    any_ports: bool,
    /// In a pipe: how often the newest values are printed.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration, value_name = "TIME")]
    every: Duration,
    /// Compare for so many seconds, print the figures, and end: with 0 when all is as promised, else with 1.
    #[arg(long, value_name = "SECONDS")]
    check: Option<u32>,
    /// With --check: readings of all series must be there so soon after the programs are up.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration, value_name = "TIME", requires = "check")]
    seen_within: Duration,
    /// With --check: the newest values may be so far behind the sensors.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration, value_name = "TIME", requires = "check")]
    behind_max: Duration,
    /// Only the sensors, for agents elsewhere: Modbus TCP on this address, and nothing on a serial line.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["check", "data", "any_ports"], requires = "broker")]
    sensors_only: Option<SocketAddr>,
    /// With --sensors-only: the broker, host:port, that MQTT sensors publish to; login from MQTT_USER and MQTT_PASSWORD.
    #[arg(long, value_name = "BROKER", requires = "sensors_only")]
    broker: Option<String>,
}

impl Arguments {
    /// The network that begins now.
    fn network(&self, now: Timestamp, zone: &TimeZone) -> Settings {
        let after = self.burst_after.as_secs_f64();
        let tears = [Tear::burst((after, after + self.burst_for.as_secs_f64())), Tear::NEVER];
        let starts_s = if self.is_real() { kept::model_s(now, zone) } else { START_S };
        Settings { seed: self.seed, speed: self.speed, starts_s, tears }
    }

    /// Whether the network's day is a day.
    fn is_real(&self) -> bool {
        self.speed == 1.0
    }

    /// The network's past: a new one on a fresh folder, the one that is there, or none, which is said.
    fn past(&self, place: &Place, zone: &TimeZone) -> anyhow::Result<Option<Past>> {
        if let Some(past) = Past::earlier(place) {
            return Ok(Some(past));
        }
        let why = match () {
            () if self.no_past || self.past.is_zero() => "none is wanted",
            () if !self.is_real() => "the network is faster than the clock, so that no day before is like today",
            () if !bring::is_fresh(place) => "this data folder began without one; take another with --data",
            () => return Ok(Some(Past::make(place, self.seed, zone, &bring::span(self.past, self.flow_past))?)),
        };
        say!("past: {why}: charts, forecasts and anomalies begin with nothing");
        Ok(None)
    }
}

fn speed(text: &str) -> Result<f64, String> {
    let number = text.parse().map_err(|_| "it is no number".to_owned())?;
    if (0.1..=3_600.0).contains(&number) { Ok(number) } else { Err("from 0.1 to 3600 is possible".into()) }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match (arguments.sensors_only, &arguments.broker) {
        (Some(modbus), Some(broker)) => sensors_only(&arguments, modbus, broker).await,
        _ => demo(arguments).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(arguments: Arguments) -> anyhow::Result<()> {
    let stop = asked_to_stop()?;
    tokio::pin!(stop);
    let place = Place::take(arguments.data.clone())?;
    let (ports, notes) = Ports::choose(arguments.any_ports)?;
    notes.iter().for_each(|note| say!("{note}"));
    let (_, zone) = setup::zone();
    let past = tokio::task::block_in_place(|| arguments.past(&place, &zone))?;
    let mut simulators = JoinSet::new();
    let field = simulate(&arguments, &place, &ports, &zone, &mut simulators).await?;
    let line = place.line();
    say!(
        "sensors: Modbus TCP 127.0.0.1:{}, Modbus RTU {}, MQTT 127.0.0.1:{}",
        ports.modbus,
        line.display(),
        ports.mqtt
    );

    let (mut collector, collector_config) = start_collector(&place, &ports).await?;
    let config = place.configure("agent.toml", &ports)?;
    let mut agent = start("edge-agent", &place, &config, ports.status, "/health").await?;
    let up = Instant::now();
    let client = Client::new(ports.api);
    let (tell, stage) = watch::channel(bring::Stage::default());
    let past = async {
        match past {
            Some(past) => past.bring_in(&client, &place, &collector_config, &tell).await,
            None => std::future::pending().await,
        }
    };
    let work = async {
        match arguments.check {
            Some(seconds) => {
                let (seen_within, behind_max) = (arguments.seen_within, arguments.behind_max);
                let demands = check::Demands { span: Duration::from_secs(seconds.into()), seen_within, behind_max };
                check::run(&client, &field, up, demands).await
            }
            None => show::run(&client, &field, &arguments, (&place, &ports), stage).await,
        }
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        () = past => Ok(()),
        () = &mut stop => Ok(()),
        told = collector.died() => Err(anyhow::anyhow!(told)),
        told = agent.died() => Err(anyhow::anyhow!(told)),
        ended = simulators.join_next() => Err(anyhow::anyhow!("a simulator ended: {ended:?}")),
    };
    // The agent first: what it has read last still reaches the collector.
    let (agent, collector) = (agent.stop().await, collector.stop().await);
    outcome?;
    say!("stopped: {}, {}; it goes on from {} when started again", agent?, collector?, place.data.display());
    Ok(())
}

/// The field alone, until it is asked to end.
async fn sensors_only(arguments: &Arguments, modbus: SocketAddr, broker: &str) -> anyhow::Result<()> {
    let stop = asked_to_stop()?;
    let Some((host, port)) = broker.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?))) else {
        anyhow::bail!("--broker {broker}: host:port is needed");
    };
    let units = Arc::default();
    let (now, (_, zone)) = (Timestamp::wall_clock(), setup::zone());
    let (field, pace) = Field::new(arguments.network(now, &zone), kept::unknown(now), &units, now);
    let listener = TcpListener::bind(modbus).await.with_context(|| format!("Modbus TCP on {modbus}"))?;
    let login = std::env::var("MQTT_USER").ok().zip(std::env::var("MQTT_PASSWORD").ok());
    let publishers = mqtt::Publishers::connect(host, port, login.as_ref());
    say!("sensors: Modbus TCP on {modbus}, MQTT to {broker}");
    let mut simulators = JoinSet::new();
    simulators.spawn(modbus::serve_tcp(listener, units.clone()));
    simulators.spawn(pace.run(field, units, publishers, None));
    tokio::select! {
        () = stop => Ok(()),
        ended = simulators.join_next() => Err(anyhow::anyhow!("a simulator ended: {ended:?}")),
    }
}

/// Done when a person or the system asks for the end.
fn asked_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    let [mut interrupt, mut terminate, mut hangup] =
        [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

/// Starts network, Modbus units, broker and MQTT sensors.
async fn simulate(
    arguments: &Arguments,
    place: &Place,
    ports: &Ports,
    zone: &TimeZone,
    simulators: &mut JoinSet<std::io::Result<()>>,
) -> anyhow::Result<Arc<Field>> {
    let (units, now, kept) = (Arc::default(), Timestamp::wall_clock(), place.kept());
    let from = kept.load().map_or_else(|| kept::unknown(now), |moment| moment.at(now, arguments.seed, zone));
    let (field, pace) = Field::new(arguments.network(now, zone), from, &units, now);
    let listener = TcpListener::bind(loopback(ports.modbus)).await.context("Modbus TCP")?;
    let wire = modbus::Wire::new(&place.line()).with_context(|| place.line().display().to_string())?;
    mqtt::start_broker(loopback(ports.mqtt)).await?;
    let publishers = mqtt::Publishers::connect("127.0.0.1", ports.mqtt, None);
    simulators.spawn(modbus::serve_tcp(listener, units.clone()));
    simulators.spawn(wire.serve(units.clone()));
    simulators.spawn(pace.run(field.clone(), units, publishers, Some(kept)));
    Ok(field)
}

/// Starts the collector; on a fresh data folder it makes its authority and the agent's certificate first.
async fn start_collector(place: &Place, ports: &Ports) -> anyhow::Result<(Program, PathBuf)> {
    let config = place.configure("collector.toml", ports)?;
    let program = place.program("collector");
    let text = config.to_string_lossy();
    let ca = place.data.join("collector/ca");
    if !ca.join("ca.pem").exists() {
        programs::run(&program, &["ca", "init", "--config", &text, "--host", "127.0.0.1"]).await?;
    }
    if !ca.join(GATEWAY).with_extension("pem").exists() {
        programs::run(&program, &["ca", "issue", GATEWAY, "--config", &text]).await?;
        say!("certificates: made by `collector ca init` and `collector ca issue {GATEWAY}` in {}", ca.display());
    }
    let collector = start("collector", place, &config, ports.api, "/api/v1/health").await?;
    Ok((collector, config))
}

/// Starts a program and waits until it answers.
async fn start(name: &'static str, place: &Place, config: &Path, port: u16, path: &str) -> anyhow::Result<Program> {
    let began = Instant::now();
    let mut program = Program::start(name, &place.program(name), config, place.log(name))?;
    let client = Client::new(port);
    let up = async {
        while !client.is_up(path).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = up => {}
        told = program.died() => anyhow::bail!(told),
        () = tokio::time::sleep(UP_WITHIN) => {
            let address = client.address(path);
            anyhow::bail!("{name} doesn't answer at {address} within {UP_WITHIN:?}; see {}", place.log(name).display());
        }
    }
    say!("{name}: up after {:.2} s, its log is {}", began.elapsed().as_secs_f64(), place.log(name).display());
    Ok(program)
}
