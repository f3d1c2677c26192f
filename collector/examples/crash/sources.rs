//! A Modbus device whose register counts its readings, and MQTT sensors at a real broker that never repeat themselves.

use anyhow::{Context, Result, ensure};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use shared::reading::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_modbus::server::tcp::{Server, accept_tcp_connection};
use tokio_modbus::{ExceptionCode, Request, Response};
use tokio_util::sync::CancellationToken;

/// Sensors.
pub(crate) const NODES: [&str; 4] = ["DIST_001", "DIST_002", "DIST_003", "RES_001"];
/// Between messages of all sensors together.
const PACE: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(60);

/// What was acknowledged: by sensor, its values by their timestamps; and the Modbus values that were asked for.
#[derive(Default)]
pub(crate) struct Sent {
    pub(crate) mqtt: BTreeMap<&'static str, BTreeMap<Timestamp, f64>>,
    pub(crate) modbus: BTreeSet<u32>,
}

impl Sent {
    pub(crate) fn count(&self) -> usize {
        self.mqtt.values().map(BTreeMap::len).sum()
    }
}

/// Everything that runs.
pub(crate) struct Sources {
    pub(crate) modbus_port: u16,
    pub(crate) mqtt_port: u16,
    _broker: Broker,
    served: Arc<Mutex<BTreeSet<u32>>>,
    stop: CancellationToken,
    publishing: tokio::task::JoinHandle<Result<BTreeMap<&'static str, BTreeMap<Timestamp, f64>>>>,
}

impl Sources {
    pub(crate) async fn start(folder: &Path) -> Result<Self> {
        let broker = Broker::start(folder)?;
        let (modbus_port, served) = serve_modbus().await?;
        let (stop, mqtt_port) = (CancellationToken::new(), broker.port);
        let publishing = tokio::spawn(publish(mqtt_port, stop.clone()));
        Ok(Self { modbus_port, mqtt_port, _broker: broker, served, stop, publishing })
    }

    /// Ends the sensors once the broker has everything. The broker goes on, for the agent has to fetch the rest.
    pub(crate) async fn stop_sending(&mut self) -> Result<Sent> {
        self.stop.cancel();
        let mqtt =
            tokio::time::timeout(PATIENCE, &mut self.publishing).await.context("the broker is too slow")???;
        let modbus = self.served.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Sent { mqtt, modbus })
    }
}

/// Publishes until `stop`, then waits until the broker has acknowledged all of it.
async fn publish(port: u16, stop: CancellationToken) -> Result<BTreeMap<&'static str, BTreeMap<Timestamp, f64>>> {
    let mut options = MqttOptions::new("crash-sensors", "127.0.0.1", port);
    options.set_clean_session(false).set_inflight(20);
    let (client, mut events) = AsyncClient::new(options, 100);
    let acknowledged = Arc::new(AtomicU64::new(0));
    let counted = acknowledged.clone();
    let listening = tokio::spawn(async move {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::PubAck(_))) => drop(counted.fetch_add(1, Ordering::SeqCst)),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    });
    let mut sent: BTreeMap<&'static str, BTreeMap<Timestamp, f64>> = BTreeMap::new();
    let (mut number, mut pace) = (0u64, tokio::time::interval(PACE));
    while stop.run_until_cancelled(pace.tick()).await.is_some() {
        number += 1;
        let node = NODES[number as usize % NODES.len()];
        let (at, value) = (Timestamp::wall_clock(), number as f64 / 8.0);
        let payload = format!("{{\"ts\": {}, \"v\": {value}}}", at.0);
        client.publish(format!("site/{node}/flow"), QoS::AtLeastOnce, false, payload).await?;
        let earlier = sent.entry(node).or_default().insert(at, value);
        ensure!(earlier.is_none(), "two readings of one sensor at {at}");
    }
    while acknowledged.load(Ordering::SeqCst) < number {
        ensure!(!listening.is_finished(), "the broker went away");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    listening.abort();
    Ok(sent)
}

/// A register that says how often it was read.
struct Counter {
    reads: AtomicU32,
    served: Arc<Mutex<BTreeSet<u32>>>,
}

impl tokio_modbus::server::Service for Counter {
    type Request = Request<'static>;
    type Response = Response;
    type Exception = ExceptionCode;
    type Future = std::future::Ready<Result<Response, ExceptionCode>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        std::future::ready(match request {
            Request::ReadHoldingRegisters(0, 2) => {
                let number = self.reads.fetch_add(1, Ordering::SeqCst) + 1;
                self.served.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
                Ok(Response::ReadHoldingRegisters(vec![(number >> 16) as u16, number as u16]))
            }
            _ => Err(ExceptionCode::IllegalDataAddress),
        })
    }
}

async fn serve_modbus() -> Result<(u16, Arc<Mutex<BTreeSet<u32>>>)> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let served = Arc::new(Mutex::new(BTreeSet::new()));
    let counter = Arc::new(Counter { reads: AtomicU32::new(0), served: served.clone() });
    tokio::spawn(async move {
        let connected = |stream, address| {
            let counter = counter.clone();
            async move { accept_tcp_connection(stream, address, |_| Ok(Some(counter.clone()))) }
        };
        // A client that is killed is no news.
        Server::new(listener).serve(&connected, |_| {}).await
    });
    Ok((port, served))
}

/// mosquitto, in memory, with queues that don't end.
struct Broker {
    child: Child,
    port: u16,
}

impl Broker {
    fn start(folder: &Path) -> Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = folder.join("mosquitto.conf");
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nuser root\n");
        std::fs::write(&config, text)?;
        let found = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto"].into_iter().find(|path| Path::new(path).exists());
        let program = found.context("mosquitto is missing: run `make test-deps`")?;
        let mut command = Command::new(program);
        let child = command.arg("-c").arg(config).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let broker = Self { child, port };
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(Instant::now() < until, "mosquitto doesn't start");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(broker)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
