//! From the spool to a collector: connects, for ever, and runs one session at a time.
//!
//! Collectors are tried in the order of the configuration, with growing, jittered pauses. While the clock isn't
//! trusted, certificates are checked at the latest time that is certain, and the collector tells what time it is.

mod credit;
mod lane;
mod later;
mod session;

use crate::catalogues::Catalogues;
use crate::clock::{Clock, Evidence};
use crate::config::{Uplink as Config, host_of};
use crate::live::Live;
use crate::registry::Registry;
use crate::vitals::{Loop, Vitals};
use futures::{SinkExt, StreamExt};
use shared::backoff::Backoff;
use shared::block;
use shared::ids::{Seq, StreamId};
use shared::ranges::SeqRanges;
use shared::reading::Timestamp;
use shared::spool::Spool;
use shared::wire::{ClockState, Codec, Hello, Message, VERSION_MAX, VERSION_MIN, WireError};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::codec::Framed;
use tokio_util::sync::CancellationToken;

/// How long one step of connecting may take.
const STEP_MAX: Duration = Duration::from_secs(20);
/// A session that lasted so long begins the pauses anew.
const PROVEN: Duration = Duration::from_secs(30);
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_LONGEST: Duration = Duration::from_secs(60);

type Connection = Framed<TlsStream<TcpStream>, Codec>;

/// The points of the present configuration, and their newest values.
#[derive(Clone, Debug, Default)]
pub struct Current {
    /// All points.
    pub registry: Arc<Registry>,
    /// Newest values on their way.
    pub live: Arc<Live>,
}

/// What a collector has on its disk of the present stream.
#[derive(Debug, Default)]
pub struct Delivered(Mutex<SeqRanges>);

impl Delivered {
    /// Replaces it.
    pub fn set(&self, seqs: SeqRanges) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = seqs;
    }
    /// Adds to it.
    pub fn add(&self, seqs: &SeqRanges) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(seqs);
    }
    /// As it is.
    #[must_use]
    pub fn get(&self) -> SeqRanges {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The lowest block of a spool that isn't among them.
    #[must_use]
    pub fn lowest_lacking(&self, spool: &Spool) -> Option<Seq> {
        let delivered = self.get();
        spool.held().iter().find_map(|range| delivered.missing_in(range).lowest())
    }

    /// First timestamp of that, if its time is known. Rare: it is read here and now.
    #[must_use]
    pub fn oldest_lacking(&self, spool: &Spool) -> Option<Timestamp> {
        let found = spool.peek(self.lowest_lacking(spool)?, 1, usize::MAX).ok()?;
        let header = block::read_header(&found.first()?.record.payload).ok()?;
        (header.base == block::TimeBase::Utc).then_some(header.first)
    }
}

/// What the uplink works with.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The queue on disk.
    pub spool: Spool,
    /// Catalogues that blocks refer to.
    pub catalogues: Arc<Catalogues>,
    /// Time.
    pub clock: Clock,
    /// Counters.
    pub vitals: Arc<Vitals>,
    /// Highest seq appended.
    pub appended: watch::Receiver<u64>,
    /// The points of now.
    pub current: watch::Receiver<Current>,
    /// What a collector has.
    pub delivered: Arc<Delivered>,
    /// Between `Live` messages; zero for none.
    pub live_interval: Duration,
}

/// Why there is no session, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// No connection.
    #[error("{what}: {why}")]
    Connect {
        /// What was tried.
        what: String,
        /// What it said.
        why: String,
    },
    /// A certificate of our own CA isn't valid before this time.
    #[error("the collector's certificate is valid only from {0} on; the clock here may be behind")]
    NotYetValid(Timestamp),
    /// What came over it.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It closed.
    #[error("the collector closed the connection")]
    Closed,
    /// It is silent.
    #[error("the collector said nothing for {} s", .0.as_secs())]
    Silent(Duration),
    /// It said something it may not say here.
    #[error("the collector said {0} where that means nothing")]
    OutOfPlace(&'static str),
    /// It knows more of our stream than we do.
    #[error(
        "the collector knows seq {known} of stream {stream}, but the spool ends at {ours}: the disk is an older image"
    )]
    OldImage {
        /// Ours.
        stream: StreamId,
        /// Its highest.
        known: Seq,
        /// Our highest.
        ours: Seq,
    },
    /// Our disk.
    #[error(transparent)]
    Spool(#[from] shared::spool::SpoolError),
}

/// Connects and forwards until `stop`.
pub async fn run(config: Config, parts: Parts, stop: CancellationToken) {
    let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_LONGEST);
    loop {
        for collector in &config.collectors {
            let acknowledged = || parts.vitals.acknowledged.load(Ordering::Relaxed);
            let (started, before) = (tokio::time::Instant::now(), acknowledged());
            let result = attempt(&config, collector, &parts, &stop).await;
            if stop.is_cancelled() {
                return;
            }
            note_end(&parts, collector, &result);
            // On a link that breaks every second, but not without a block, long pauses would be all there is.
            if started.elapsed() > PROVEN || acknowledged() > before {
                backoff.reset();
            }
            if let Err(UplinkError::OldImage { .. }) = result {
                start_new_stream(&parts).await;
            }
        }
        let pause = tokio::time::sleep(backoff.pause());
        if stop.run_until_cancelled(beating(&parts.vitals, pause)).await.is_none() {
            return;
        }
    }
}

fn note_end(parts: &Parts, collector: &str, result: &Result<(), UplinkError>) {
    parts.current.borrow().live.listen(false);
    let was_connected = parts.vitals.link().connected.is_some();
    let why = match result {
        Ok(()) => "ended".to_owned(),
        Err(error) => error.to_string(),
    };
    // The same complaint every minute for three weeks would be all that is left in the log.
    if was_connected || parts.vitals.link().last_error.as_deref() != Some(why.as_str()) {
        tracing::warn!(collector, why, "not connected");
    }
    parts.vitals.set_link(|link| {
        link.connected = None;
        link.since = parts.clock.utc().map(|at| at.to_string());
        link.last_error = Some(why);
    });
    parts.clock.try_certificates_at(match result {
        Err(UplinkError::NotYetValid(at)) => Some(*at),
        _ => None,
    });
}

async fn start_new_stream(parts: &Parts) {
    let spool = parts.spool.clone();
    match tokio::task::spawn_blocking(move || spool.new_stream()).await {
        Ok(Ok(stream)) => {
            parts.delivered.set(SeqRanges::new());
            tracing::warn!(%stream, "the spool is an older image of this gateway's disk; it goes on as a new stream");
        }
        Ok(Err(error)) => tracing::error!(%error, "can't start a new stream"),
        Err(error) => tracing::error!(%error, "can't start a new stream"),
    }
}

/// Waits, and shows that the loop is alive.
async fn beating<T>(vitals: &Vitals, wait: impl Future<Output = T>) -> T {
    tokio::pin!(wait);
    let mut beat = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            result = &mut wait => return result,
            _ = beat.tick() => vitals.beat(Loop::Uplink),
        }
    }
}

/// One connection to one collector, to its end.
async fn attempt(config: &Config, collector: &str, parts: &Parts, stop: &CancellationToken) -> Result<(), UplinkError> {
    let greeting = async {
        let mut connection = connect(config, collector, &parts.clock).await?;
        let (hello, sent_us) = (hello(parts), parts.clock.mono_us());
        let welcome = greet(&mut connection, hello.clone()).await?;
        Ok::<_, UplinkError>((connection, hello, welcome, sent_us))
    };
    let Some(greeted) = stop.run_until_cancelled(beating(&parts.vitals, greeting)).await else { return Ok(()) };
    let (connection, hello, welcome, sent_us) = greeted?;
    learn_time(parts, &welcome, sent_us).await;
    if welcome.highest_known > hello.highest {
        let (stream, known, ours) = (hello.stream, welcome.highest_known, hello.highest);
        return Err(UplinkError::OldImage { stream, known, ours });
    }
    tracing::info!(collector, id = welcome.collector, "connected");
    parts.vitals.set_link(|link| {
        link.connected = Some(collector.to_owned());
        link.since = parts.clock.utc().map(|at| at.to_string());
        link.last_error = None;
        link.refused = None;
        link.connections += 1;
    });
    session::run(connection, welcome, hello.highest, parts, stop).await
}

/// What a `Welcome` says.
pub(crate) struct Welcome {
    collector: String,
    stored: SeqRanges,
    committed: SeqRanges,
    highest_known: Seq,
    catalogues: Vec<shared::catalogue::CatalogueHash>,
    server_time: Timestamp,
    window_bytes: u32,
}

fn hello(parts: &Parts) -> Hello {
    let trusted = parts.clock.is_trusted();
    Hello {
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
        stream: parts.spool.stream(),
        highest: parts.spool.highest(),
        boot: parts.clock.boot(),
        clock: if trusted { ClockState::Trusted } else { ClockState::Untrusted },
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        now: parts.clock.at_least(),
    }
}

async fn greet(connection: &mut Connection, hello: Hello) -> Result<Welcome, UplinkError> {
    connection.send(Message::Hello(hello)).await?;
    let welcome = async {
        let hint = "; the collector's log says why it turns this gateway away: was its certificate revoked?";
        connection.next().await.transpose().map_err(|error| format!("{error}{hint}"))
    };
    match step("wait for Welcome", welcome).await? {
        Some(Message::Welcome {
            version,
            collector,
            stored,
            committed,
            highest_known,
            catalogues,
            server_time,
            window_bytes,
        }) => {
            if !(VERSION_MIN..=VERSION_MAX).contains(&version) {
                let why = format!("it wants protocol version {version}");
                return Err(UplinkError::Connect { what: "agree on a version".into(), why });
            }
            Ok(Welcome { collector, stored, committed, highest_known, catalogues, server_time, window_bytes })
        }
        Some(_) => Err(UplinkError::OutOfPlace("something else before Welcome")),
        None => Err(UplinkError::Closed),
    }
}

/// The connection is verified, so the collector's clock is evidence; the answer took half the round trip.
async fn learn_time(parts: &Parts, welcome: &Welcome, sent_us: i64) {
    let now_us = parts.clock.mono_us();
    let utc = welcome.server_time.plus_micros((now_us - sent_us) / 2);
    let clock = parts.clock.clone();
    let learnt =
        tokio::task::spawn_blocking(move || clock.ask_system() || clock.learn(utc, now_us, Evidence::Collector));
    if let Err(error) = learnt.await {
        tracing::error!(%error, "can't learn the time");
    }
}

/// One step of connecting, bounded in time and named.
async fn step<T>(what: &str, doing: impl Future<Output = Result<T, String>>) -> Result<T, UplinkError> {
    let failed = |why| UplinkError::Connect { what: what.to_owned(), why };
    match tokio::time::timeout(STEP_MAX, doing).await {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(failed(format!("no answer within {} s", STEP_MAX.as_secs()))),
    }
}

async fn connect(config: &Config, collector: &str, clock: &Clock) -> Result<Connection, UplinkError> {
    let failed = |what: &str, why: String| UplinkError::Connect { what: what.to_owned(), why };
    let host = host_of(collector).map_err(|why| failed("read the collector's address", why))?;
    // Read anew each time: a renewed certificate counts from the next connection on.
    let (paths, time) = (config.clone(), Arc::new(clock.clone()));
    let tls = tokio::task::spawn_blocking(move || shared::tls::client_config(&paths.ca, &paths.cert, &paths.key, time))
        .await
        .map_err(|error| failed("read the certificates", error.to_string()))?
        .map_err(|error| failed("read the certificates", error.to_string()))?;
    let what = format!("connect to {collector}");
    let tcp = step(&what, async { TcpStream::connect(collector).await.map_err(|e| e.to_string()) }).await?;
    let _ = tcp.set_nodelay(true); // only slower without
    let handshake = tokio::time::timeout(STEP_MAX, TlsConnector::from(tls).connect(host, tcp)).await;
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(not_yet_valid(&error).unwrap_or_else(|| failed(&what, error.to_string()))),
        Err(_) => return Err(failed(&what, format!("no TLS within {} s", STEP_MAX.as_secs()))),
    };
    Ok(Framed::new(stream, Codec::new()))
}

fn not_yet_valid(error: &std::io::Error) -> Option<UplinkError> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(rustls::CertificateError::NotValidYetContext { not_before, .. }) => {
            let seconds = i64::try_from(not_before.as_secs()).ok()?;
            Some(UplinkError::NotYetValid(Timestamp(seconds.saturating_mul(1_000_000))))
        }
        _ => None,
    }
}
