//! A Modbus device whose register counts its readings, and MQTT sensors at a real broker that never repeat themselves.

use crate::programs::Site;
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
use tokio::task::JoinHandle;
use tokio_modbus::server::tcp::{Server, accept_tcp_connection};
use tokio_modbus::{ExceptionCode, Request, Response};
use tokio_util::sync::CancellationToken;

/// Sensors.
pub(crate) const NODES: [&str; 4] = ["DIST_001", "DIST_002", "DIST_003", "RES_001"];
/// Between messages of all sensors together.
const PACE: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(60);

/// What was acknowledged: by sensor, its values by their timestamps; and what the device has said, which goes on.
pub(crate) struct Sent {
    pub(crate) mqtt: ByNode,
    served: Arc<Mutex<BTreeSet<u32>>>,
}

impl Sent {
    pub(crate) fn count(&self) -> usize {
        self.mqtt.values().map(BTreeMap::len).sum()
    }

    /// What the device has said until now.
    pub(crate) fn polled(&self) -> BTreeSet<u32> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Everything that runs.
pub(crate) struct Sources {
    pub(crate) modbus_port: u16,
    pub(crate) mqtt_port: u16,
    _broker: Broker,
    served: Arc<Mutex<BTreeSet<u32>>>,
    stop: CancellationToken,
    publishing: Option<JoinHandle<Result<ByNode>>>,
}

/// Values by their timestamps, by sensor.
type ByNode = BTreeMap<&'static str, BTreeMap<Timestamp, f64>>;

impl Sources {
    pub(crate) async fn start(folder: &Path) -> Result<Self> {
        let broker = Broker::start(folder)?;
        let (modbus_port, served) = serve_modbus().await?;
        let mqtt_port = broker.port;
        Ok(Self { modbus_port, mqtt_port, _broker: broker, served, stop: CancellationToken::new(), publishing: None })
    }

    /// Begins to send once the agent listens: the broker keeps nothing for a session that doesn't exist yet.
    pub(crate) async fn begin(&mut self, site: &Site) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while site.get("latest?node=PROBE").await?["items"].as_array().is_none_or(Vec::is_empty) {
            ensure!(Instant::now() < until, "nothing that is published arrives");
            publish_once(self.mqtt_port, "site/PROBE/flow").await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.publishing = Some(tokio::spawn(publish(self.mqtt_port, self.stop.clone())));
        Ok(())
    }

    /// Ends the sensors once the broker has everything. The broker goes on, for the agent has to fetch the rest.
    pub(crate) async fn stop_sending(&mut self) -> Result<Sent> {
        self.stop.cancel();
        let publishing = self.publishing.take().context("somebody sends")?;
        let mqtt = tokio::time::timeout(PATIENCE, publishing).await.context("the broker is too slow")???;
        Ok(Sent { mqtt, served: self.served.clone() })
    }
}

/// Publishes until `stop`, then waits until the broker has acknowledged all of it.
async fn publish(port: u16, stop: CancellationToken) -> Result<ByNode> {
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
    let mut sent = ByNode::new();
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

/// One message, acknowledged.
async fn publish_once(port: u16, topic: &str) -> Result<()> {
    let (client, mut events) = AsyncClient::new(MqttOptions::new("probe", "127.0.0.1", port), 10);
    let payload = format!("{{\"ts\": {}, \"v\": 1}}", Timestamp::wall_clock().0);
    client.publish(topic, QoS::AtLeastOnce, false, payload).await?;
    while !matches!(events.poll().await?, Event::Incoming(Packet::PubAck(_))) {}
    Ok(())
}

/// Publishes `steps` messages of `points` values each, as fast as the broker takes them, and waits for its word on all.
pub(crate) async fn publish_past(port: u16, first: Timestamp, step_us: i64, steps: i64, points: usize) -> Result<()> {
    let mut options = MqttOptions::new("past-sensors", "127.0.0.1", port);
    options.set_inflight(100);
    let (client, mut events) = AsyncClient::new(options, 100);
    let sending = tokio::spawn(async move {
        for n in 0..steps {
            let noise = |p: usize| ((n as u64 * 64 + p as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12) as f64 / 1e12;
            let values: Vec<f64> = (0..points).map(|p| if p + 2 < points { noise(p) } else { n as f64 }).collect();
            let payload = serde_json::json!({ "ts": first.plus_micros(n * step_us).0, "v": values }).to_string();
            client.publish("past/STATION", QoS::AtLeastOnce, false, payload).await?;
        }
        anyhow::Ok(client)
    });
    let mut acknowledged = 0;
    while acknowledged < steps {
        let event = tokio::time::timeout(PATIENCE, events.poll()).await.context("the broker says nothing")??;
        acknowledged += i64::from(matches!(event, Event::Incoming(Packet::PubAck(_))));
    }
    sending.await??;
    Ok(())
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
