//! A collector in this process, and a scripted gateway that talks to it over real TLS with certificates of its own
//! authority.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)] // every test file uses a part

pub mod faulty;
pub mod process;

use collector::ca::{Authority, Role};
use collector::config::Config;
use collector::run::{RunError, Running, Tiers};
use collector::tiers::hot::memory::Now;
use futures::{SinkExt, StreamExt};
use rustls_pki_types::ServerName;
use serde_json::Value;
use shared::block::{BlockBuilder, Row, TimeBase};
use shared::catalogue::{Catalogue, CatalogueHash, Class, Entry, PointNo};
use shared::ids::{BootId, NodeId, Seq, StreamId};
use shared::metric::Kind;
use shared::ranges::SeqRanges;
use shared::reading::{Quality, Timestamp};
use shared::wire::{ClockState, Codec, Hello, Message, RejectReason};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;
use tokio_util::codec::Framed;
use tokio_util::sync::CancellationToken;

/// Longer than anything here should take; only a test that fails waits so long.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const SECOND: i64 = 1_000_000;
pub const STREAM: StreamId = StreamId(0x5eed);

/// A folder with an authority, certificates for some gateways, and a configuration with free ports.
pub struct Site {
    pub folder: tempfile::TempDir,
    pub config: Config,
}

impl Site {
    /// Gateways may write every node, unless `change` says otherwise.
    pub fn new(gateways: &[&str], change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut text = String::from("[ingest]\nlisten = '127.0.0.1:0'\n[api]\nlisten = '127.0.0.1:0'\n[grants]\n");
        gateways.iter().for_each(|gateway| text += &format!("{gateway} = ['*']\n"));
        let mut config: Config = toml::from_str(&text).unwrap();
        config.data_dir = folder.path().join("data");
        config.buffer.flush_interval = Duration::from_millis(100).into();
        change(&mut config);
        let (authority, _) = Authority::init(&config.ca_dir(), &["localhost".into()]).unwrap();
        for gateway in gateways {
            authority.issue(gateway, Role::Gateway, &[], false).unwrap();
        }
        Self { folder, config }
    }

    pub fn ca(&self, file: &str) -> PathBuf {
        self.config.ca_dir().join(file)
    }

    pub async fn start(&self) -> Collector {
        self.try_start().await.unwrap()
    }

    /// On tiers that fail on command.
    pub async fn start_faulty(&self) -> (Collector, Arc<faulty::FaultyWarm>, Arc<faulty::FaultyHot>) {
        let (tiers, warm, hot) = faulty::faulty(Tiers::open(&self.config).await.unwrap());
        (self.start_on(tiers).await.unwrap(), warm, hot)
    }

    pub async fn try_start(&self) -> Result<Collector, RunError> {
        self.start_on(Tiers::open(&self.config).await?).await
    }

    pub async fn start_on(&self, tiers: Tiers) -> Result<Collector, RunError> {
        let stop = CancellationToken::new();
        let running = Running::start_on(self.config.clone(), tiers, stop.clone()).await?;
        Ok(self.around(running, stop))
    }

    /// With a clock that the test turns.
    pub async fn start_by(&self, clock: Now) -> Collector {
        let (tiers, stop) = (Tiers::open(&self.config).await.unwrap(), CancellationToken::new());
        self.around(Running::start_by(self.config.clone(), tiers, clock, stop.clone()).await.unwrap(), stop)
    }

    fn around(&self, running: Running, stop: CancellationToken) -> Collector {
        let (ingest, api) = (running.ingest, running.api);
        Collector { ingest, api, ca: self.config.ca_dir(), stop, running: Some(tokio::spawn(running.wait())) }
    }
}

/// A running one.
pub struct Collector {
    pub ingest: SocketAddr,
    pub api: SocketAddr,
    pub ca: PathBuf,
    pub stop: CancellationToken,
    running: Option<JoinHandle<Result<(), RunError>>>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Collector {
    /// One that runs elsewhere.
    pub fn at(ingest: SocketAddr, api: SocketAddr, ca: PathBuf) -> Self {
        Self { ingest, api, ca, stop: CancellationToken::new(), running: None }
    }

    /// Stops in order and waits for it.
    pub async fn stop(mut self) {
        self.stop.cancel();
        within(self.running.take().unwrap()).await.unwrap().unwrap();
    }

    pub async fn get(&self, path: &str) -> Value {
        let body = http(self.api, &format!("/api/v1/{path}")).await;
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"))
    }

    /// Status and answer.
    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let address = format!("http://{}/api/v1/{path}", self.api);
        let asking = move || {
            let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
            let mut answer = agent.post(address).send(body.to_string().as_bytes()).unwrap();
            (answer.status().as_u16(), serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap())
        };
        tokio::task::spawn_blocking(asking).await.unwrap()
    }

    pub async fn metrics(&self) -> String {
        http(self.api, "/metrics").await
    }

    /// Values of a series, oldest first, as (microseconds, value).
    pub async fn history(&self, node: &str) -> Vec<(Timestamp, Option<f64>)> {
        let path = format!(
            "history?node={node}&metric=pressure&from=2020-01-01T00:00:00Z&to=2100-01-01T00:00:00Z&resolution=raw&limit=10000"
        );
        let answer = self.get(&path).await;
        let Some(points) = answer["points"].as_array() else { return Vec::new() };
        points.iter().map(|p| (p["at"].as_str().unwrap().parse().unwrap(), p["value"].as_f64())).collect()
    }

    pub async fn wait_for_history(&self, node: &str, expected: &[(Timestamp, Option<f64>)]) {
        let mut last = Vec::new();
        let found = until(async || {
            last = self.history(node).await;
            last == expected
        });
        if !found.await {
            panic!("history of {node} is {last:?}, expected {expected:?}");
        }
    }
}

/// The body of an answer.
pub async fn http(address: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it took too long")
}

/// Asks until it is so; false when it isn't for too long.
pub async fn until(mut condition: impl AsyncFnMut() -> bool) -> bool {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition().await {
        if tokio::time::Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}

/// The catalogue of these nodes' pressures.
pub fn catalogue(nodes: &[&str]) -> Catalogue {
    let entry = |node: &&str| Entry {
        node: NodeId::new(node).unwrap(),
        metric: "pressure".into(),
        channel: String::new(),
        kind: Kind::Gauge,
        unit: "bar".into(),
        resolution_exp: None,
        interval_ms: 1_000,
        silence_ms_max: 0,
        class: Class::Raw,
    };
    Catalogue::new(nodes.iter().map(entry).collect()).unwrap()
}

/// A block of readings (point, time, value).
pub fn block(hash: CatalogueHash, base: TimeBase, readings: &[(u32, i64, f64)]) -> Vec<u8> {
    let mut builder = BlockBuilder::new(base);
    for (point, at, value) in readings {
        let row = Row { point: PointNo(*point), at: Timestamp(*at), value: Some(*value), quality: Quality::GOOD };
        assert!(builder.push(row, None));
    }
    builder.finish(hash).unwrap().bytes.to_vec()
}

pub fn now() -> i64 {
    Timestamp::wall_clock().0
}

pub fn seqs(all: impl IntoIterator<Item = u64>) -> SeqRanges {
    all.into_iter().map(Seq).collect()
}

pub fn hello(stream: StreamId, highest: u64) -> Hello {
    Hello {
        version_min: 1,
        version_max: 1,
        stream,
        highest: Seq(highest),
        boot: BootId([7; 16]),
        clock: ClockState::Trusted,
        agent_version: "0.1.0-test".into(),
        now: Timestamp::wall_clock(),
    }
}

/// What came of a connection.
pub type Tls = TlsStream<TcpStream>;

pub async fn tls(ingest: SocketAddr, ca: &Path, cert: &Path, key: &Path) -> std::io::Result<Tls> {
    let time = Arc::new(rustls::time_provider::DefaultTimeProvider);
    let config = shared::tls::client_config(ca, cert, key, time).unwrap();
    let tcp = TcpStream::connect(ingest).await?;
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(config).connect(name, tcp).await
}

/// A gateway, line by line.
pub struct Client {
    pub wire: Framed<Tls, Codec>,
    pub welcome: Option<Message>,
    /// What was heard and not asked for yet.
    stored: SeqRanges,
    committed: SeqRanges,
    rejects: Vec<(SeqRanges, RejectReason, String, bool)>,
    windows: Vec<u32>,
}

impl Client {
    /// TLS only.
    pub async fn dial(to: &Collector, gateway: &str) -> Self {
        let (ca, cert, key) =
            (to.ca.join("ca.pem"), to.ca.join(format!("{gateway}.pem")), to.ca.join(format!("{gateway}.key")));
        let tls = within(tls(to.ingest, &ca, &cert, &key)).await.unwrap();
        Self {
            wire: Framed::new(tls, Codec::new()),
            welcome: None,
            stored: SeqRanges::new(),
            committed: SeqRanges::new(),
            rejects: Vec::new(),
            windows: Vec::new(),
        }
    }

    /// With `Hello` and `Welcome`.
    pub async fn connect(to: &Collector, gateway: &str, hello: Hello) -> Self {
        let mut client = Self::dial(to, gateway).await;
        client.send(Message::Hello(hello)).await;
        let welcome = within(client.wire.next()).await.expect("closed instead of Welcome").unwrap();
        assert!(matches!(welcome, Message::Welcome { .. }), "{welcome:?}");
        client.welcome = Some(welcome);
        client
    }

    /// With a catalogue of these nodes, too.
    pub async fn ready(to: &Collector, gateway: &str, nodes: &[&str]) -> (Self, CatalogueHash) {
        let mut client = Self::connect(to, gateway, hello(STREAM, 0)).await;
        let catalogue = catalogue(nodes);
        client.send(Message::Catalogue { bytes: catalogue.to_bytes().into() }).await;
        (client, catalogue.hash())
    }

    pub async fn send(&mut self, message: Message) {
        within(self.wire.send(message)).await.unwrap();
    }

    pub async fn block(&mut self, seq: u64, bytes: Vec<u8>) {
        self.send(Message::Block { seq: Seq(seq), bytes: bytes.into() }).await;
    }

    /// Takes one message in; false when the connection is over.
    async fn hear(&mut self) -> bool {
        match within(self.wire.next()).await {
            Some(Ok(Message::Stored(seqs))) => self.stored.extend(&seqs),
            Some(Ok(Message::Committed(seqs))) => self.committed.extend(&seqs),
            Some(Ok(Message::Reject { seqs, reason, detail, retry })) => {
                self.rejects.push((seqs, reason, detail, retry));
            }
            Some(Ok(Message::Window { bytes })) => self.windows.push(bytes),
            Some(Ok(Message::Heartbeat { .. })) => {}
            Some(Ok(other)) => panic!("{other:?} from a collector"),
            Some(Err(_)) | None => return false,
        }
        true
    }

    pub async fn wait_stored(&mut self, expected: SeqRanges) {
        while !expected.iter().all(|range| self.stored.missing_in(range).is_empty()) {
            assert!(self.hear().await, "closed; stored {:?}", self.stored);
        }
    }

    pub async fn wait_committed(&mut self, expected: SeqRanges) {
        while !expected.iter().all(|range| self.committed.missing_in(range).is_empty()) {
            assert!(self.hear().await, "closed; committed {:?}", self.committed);
        }
    }

    pub async fn wait_reject(&mut self) -> (SeqRanges, RejectReason, String, bool) {
        while self.rejects.is_empty() {
            assert!(self.hear().await, "closed instead of a reject");
        }
        self.rejects.remove(0)
    }

    /// Waits until this seq is stored or anything is refused; gives what is refused.
    pub async fn answered(&mut self, seq: u64) -> Vec<(SeqRanges, RejectReason, String, bool)> {
        while !self.stored.contains(Seq(seq)) && self.rejects.is_empty() {
            assert!(self.hear().await, "closed instead of an answer");
        }
        std::mem::take(&mut self.rejects)
    }

    pub async fn wait_window(&mut self) -> u32 {
        while self.windows.is_empty() {
            assert!(self.hear().await, "closed instead of a window");
        }
        self.windows.remove(0)
    }

    pub async fn wait_closed(&mut self) {
        while self.hear().await {}
    }

    /// What `Welcome` said: stored, committed, highest, catalogues.
    pub fn welcome(&self) -> (SeqRanges, SeqRanges, u64, Vec<CatalogueHash>) {
        let Some(Message::Welcome { stored, committed, highest_known, catalogues, .. }) = &self.welcome else {
            panic!("no Welcome yet");
        };
        (stored.clone(), committed.clone(), highest_known.0, catalogues.clone())
    }
}

/// TLS of someone who shows no certificate.
pub async fn anonymous(ingest: SocketAddr, ca: &Path) -> Tls {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(ingest).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    within(tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp)).await.unwrap()
}

/// What an agent says of itself.
pub fn status() -> shared::wire::Status {
    shared::wire::Status {
        now: Timestamp::wall_clock(),
        points: 12,
        points_bad: 3,
        spool_bytes: 4_096,
        spool_records: 5,
        oldest_unsent: None,
        uptime_s: 60,
        clock: ClockState::Trusted,
        version: "0.1.0-test".into(),
    }
}
