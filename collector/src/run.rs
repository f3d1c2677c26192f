//! The running collector: parse → build → bind → say so → wait → drain.

use crate::api;
use crate::config::Config;
use crate::flush::{Fixes, Flusher, Followed, Rules, keep_rollups};
use crate::ingest::accept::{Door, Limits};
use crate::ingest::aside::{Aside, Bounds};
use crate::ingest::catalogues::Catalogues;
use crate::ingest::intake::{Desk, OpenGaps};
use crate::ingest::ledger::Ledger;
use crate::ingest::pressure::Pressure;
use crate::ingest::sessions::Sessions;
use crate::ingest::{Ingest, heard, restore};
use crate::resolve::Resolver;
use crate::revocation;
use crate::tiers::hot::guarded::Guarded;
use crate::tiers::hot::memory::MemoryHot;
use crate::tiers::warm;
use crate::tiers::{HotTier, SeriesId, StoredReading, TierError, WarmTier};
use shared::notify;
use shared::reading::Timestamp;
use shared::spool::{Options, Spool, SpoolError, WhenFull};
use shared::tls::TlsError;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Most readings in memory, 32 bytes each.
const HOT_READINGS_MAX: usize = 4_000_000;
/// Batches of newest values that wait for the hot tier; more are dropped and counted.
const LIVE_MAX: usize = 1_024;
/// Refused blocks that are written to disk at a time.
const ASIDE_TURNS: usize = 2;
/// Series whose newest value is fetched at once after the start.
const WARM_UP_SERIES: usize = 1_000;
/// Sessions, and then the last commit, may take so long to end.
const DRAIN_WITHIN: Duration = Duration::from_secs(20);

/// Why the collector doesn't run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file or folder.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The address for gateways can't be had.
    #[error("[ingest] listen = \"{address}\": {source}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Certificates.
    #[error("{0}; `collector ca init` makes an authority and a certificate")]
    Tls(#[from] TlsError),
    /// The API.
    #[error(transparent)]
    Api(#[from] api::ApiError),
    /// The queue on disk.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A tier.
    #[error(transparent)]
    Tier(#[from] TierError),
    /// A part that should run as long as the collector ended.
    #[error("{0} has ended by itself; this is a mistake in the program")]
    Ended(&'static str),
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> RunError + '_ {
    move |source| RunError::File { path: path.into(), source }
}

/// Runs until `stop`, and then until everything that was taken in is on disk.
///
/// # Errors
/// When it can't start, or a part of it breaks.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), RunError> {
    let running = Running::start(config, stop).await?;
    notify::ready();
    running.wait().await
}

/// A collector that takes in and answers.
pub struct Running {
    /// Where gateways connect.
    pub ingest: SocketAddr,
    /// Where it is asked.
    pub api: SocketAddr,
    stop: CancellationToken,
    /// Ends the parts that must outlive the sessions.
    last: CancellationToken,
    warm: Arc<dyn WarmTier>,
    door: JoinHandle<()>,
    api_task: JoinHandle<Result<(), api::ApiError>>,
    intake: JoinHandle<()>,
    flusher: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
}

impl Running {
    /// Starts everything; both addresses are bound when it returns. With port 0 a free one is taken.
    ///
    /// # Errors
    /// When something is missing or can't be used.
    pub async fn start(config: Config, stop: CancellationToken) -> Result<Self, RunError> {
        // Whatever happens below, nothing that was started stays behind.
        let stop = stop.child_token();
        let guard = stop.clone().drop_guard();
        let running = Box::pin(start(&config, stop)).await?;
        guard.disarm();
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            ingest = %running.ingest,
            api = %format_args!("http://{}", running.api),
            data = %config.data_dir.display(),
            "collector is up"
        );
        Ok(running)
    }

    /// Waits for the stop, then until everything is on disk.
    ///
    /// # Errors
    /// When a part broke.
    pub async fn wait(mut self) -> Result<(), RunError> {
        let broken = tokio::select! {
            biased; // a part that ends because of the stop is not broken
            () = self.stop.cancelled() => None,
            _ = &mut self.door => Some(RunError::Ended("ingest")),
            outcome = &mut self.api_task => Some(match outcome {
                Ok(Err(error)) => error.into(),
                _ => RunError::Ended("the API"),
            }),
            _ = &mut self.intake => Some(RunError::Ended("the intake")),
            _ = &mut self.flusher => Some(RunError::Ended("the flusher")),
        };
        notify::stopping();
        self.stop.cancel();
        let drained = tokio::time::timeout(DRAIN_WITHIN, self.drain(broken.is_none())).await;
        if drained.is_err() {
            tracing::warn!("not everything ended in time; what is stored is committed after the next start");
        }
        tracing::info!("collector is down");
        broken.map_or(Ok(()), Err)
    }

    /// In the order of the data: sessions, intake, flusher, tiers.
    async fn drain(&mut self, whole: bool) {
        if whole {
            let _ = (&mut self.door).await;
            let _ = (&mut self.intake).await;
        }
        self.last.cancel();
        if whole {
            let _ = (&mut self.flusher).await;
        }
        for task in &mut self.others {
            let _ = task.await;
        }
        if whole {
            let _ = (&mut self.api_task).await;
        }
        self.warm.close().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        self.last.cancel();
    }
}

/// The stores on this disk.
struct Stores {
    spool: Spool,
    warm: Arc<dyn WarmTier>,
    hot: Arc<Guarded>,
    catalogues: Arc<Catalogues>,
    aside: Arc<Aside>,
    ledger: Arc<Ledger>,
    gaps: Arc<OpenGaps>,
}

async fn open_stores(config: &Config) -> Result<Stores, RunError> {
    let folder = |name: &str| config.data_dir.join(name);
    std::fs::create_dir_all(&config.data_dir).map_err(file_error(&config.data_dir))?;
    let options = Options {
        bytes_max: config.spool.bytes_max.as_u64(),
        disk_free_min: config.spool.disk_free_min.as_u64(),
        when_full: WhenFull::Refuse,
    };
    let spool_dir = folder("spool");
    let opening = tokio::task::spawn_blocking(move || restore::open(&spool_dir, options)).await;
    let (spool, ledger, gaps) = opening.map_err(|_| RunError::Ended("the opening of the spool"))??;
    let warm_file = folder("warm.sqlite");
    let warm = warm::open(&config.warm, &warm_file).await?;
    let complete_from = complete_from(&*warm, config.ingest.future_max.0).await;
    let memory = Arc::new(MemoryHot::new(complete_from, HOT_READINGS_MAX, Arc::new(Timestamp::wall_clock)));
    let owed = folder("hot.owed");
    let hot = Arc::new(Guarded::new(memory, &owed).map_err(file_error(&owed))?);
    let catalogues = Catalogues::open(&folder("catalogues")).map_err(file_error(&folder("catalogues")))?;
    let aside = Aside::open(&folder("rejected"), Bounds::default()).map_err(file_error(&folder("rejected")))?;
    let (catalogues, aside) = (Arc::new(catalogues), Arc::new(aside));
    Ok(Stores { spool, warm, hot, catalogues, aside, ledger: Arc::new(ledger), gaps: Arc::new(gaps) })
}

/// From when on all readings can only have come through the hot tier of this run: everything that is committed is
/// older, and what is in the spool comes through it now.
async fn complete_from(warm: &dyn WarmTier, future_max: Duration) -> Timestamp {
    let newest = async {
        let mut newest = Timestamp(i64::MIN);
        let series: Vec<SeriesId> = warm.series(None).await?.iter().map(|s| s.id).collect();
        for some in series.chunks(WARM_UP_SERIES) {
            newest = warm.latest(some).await?.iter().map(|reading| reading.at).fold(newest, Timestamp::max);
        }
        Ok::<_, TierError>(newest.plus_micros(1))
    };
    let surely = Timestamp::wall_clock().plus_micros(micros(future_max));
    newest.await.unwrap_or(surely).min(surely)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

async fn start(config: &Config, stop: CancellationToken) -> Result<Running, RunError> {
    let metrics = shared::telemetry::metrics();
    let tls = shared::tls::server_config(&config.ca(), &config.cert(), &config.key())?;
    let revoked = revocation::watch(config.revoked(), stop.clone()).map_err(file_error(&config.revoked()))?;
    let api_listener = api::bind(config.api.listen).await?;
    let address = config.ingest.listen;
    let listener = TcpListener::bind(address).await.map_err(|source| RunError::Bind { address, source })?;
    let bound =
        |listener: &TcpListener, of| listener.local_addr().map_err(|source| RunError::Bind { address: of, source });
    let (ingest_at, api_at) = (bound(&listener, address)?, bound(&api_listener, config.api.listen)?);
    let stores = open_stores(config).await?;
    let Stores { spool, warm, hot, catalogues, aside, ledger, gaps } = stores;
    let warm_tier = warm.clone();

    let last = CancellationToken::new();
    let appended = Arc::new(watch::channel(()).0);
    let (resolver, fixes) = (Arc::new(Resolver::default()), Arc::new(Fixes::default()));
    let (sessions, pressure) = (Arc::new(Sessions::default()), Arc::new(Pressure::default()));
    let (seen, dirty) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (live, live_queue) = mpsc::channel(LIVE_MAX);
    let flusher = Arc::new(Flusher {
        spool: spool.clone(),
        warm: warm_tier.clone(),
        hot: hot.clone(),
        followed: Followed::default(),
        catalogues: catalogues.clone(),
        resolver: resolver.clone(),
        fixes: fixes.clone(),
        grants: config.grants.clone(),
        ledger: ledger.clone(),
        sessions: sessions.clone(),
        aside: aside.clone(),
        gaps: gaps.clone(),
        dirty: dirty.clone(),
        rules: Rules {
            rows: config.buffer.flush_rows,
            interval: config.buffer.flush_interval.0,
            future_max: config.ingest.future_max.0,
        },
    });
    let desk = Desk {
        spool: spool.clone(),
        ledger: ledger.clone(),
        gaps,
        pressure: pressure.clone(),
        appended: appended.clone(),
    };
    let (intake, intake_task) = desk.open();
    let ingest = Arc::new(Ingest {
        collector: host_name(),
        grants: config.grants.clone(),
        catalogues,
        ledger,
        sessions: sessions.clone(),
        aside,
        aside_turns: Semaphore::new(ASIDE_TURNS),
        resolver,
        fixes,
        warm: warm_tier.clone(),
        intake,
        pressure: pressure.clone(),
        live,
        seen: seen.clone(),
        future_max: config.ingest.future_max.0,
        idle_timeout: config.ingest.idle_timeout.0,
    });
    let sources = api::Sources {
        warm: warm_tier.clone(),
        hot: hot.clone(),
        presence: presence(sessions.clone()),
        metrics: Arc::new({
            let spool = spool.clone();
            move || {
                gauge_spool(&spool);
                metrics.render()
            }
        }),
        now: Arc::new(Timestamp::wall_clock),
    };
    let limits = Limits {
        connections_max: config.ingest.connections_max,
        handshakes_max: config.ingest.handshakes_max,
        handshake_timeout: config.ingest.handshake_timeout.0,
    };
    let door = Door { ingest, tls: TlsAcceptor::from(tls), revoked, limits };

    let (following, flushing) = (flusher.clone(), flusher);
    let others = vec![
        tokio::spawn({
            let (appended, last) = (appended.subscribe(), last.clone());
            async move { following.follow(appended, last).await }
        }),
        tokio::spawn(keep_rollups(warm_tier.clone(), dirty, last.clone())),
        tokio::spawn(heard::keep(sessions, warm_tier.clone(), seen, last.clone())),
        tokio::spawn(put_live(hot.clone(), live_queue, last.clone())),
        tokio::spawn(warm_up(warm_tier, hot, last.clone())),
        tokio::spawn({
            let stop = stop.clone();
            async move { pressure.relieve(&spool, stop).await }
        }),
        tokio::spawn(notify::watchdog(stop.clone(), || true)),
    ];
    let flusher = tokio::spawn({
        let (appended, last) = (appended.subscribe(), last.clone());
        async move { flushing.run(appended, last).await }
    });
    Ok(Running {
        ingest: ingest_at,
        api: api_at,
        warm,
        door: tokio::spawn(door.keep(listener, stop.clone())),
        api_task: tokio::spawn(api::serve(api_listener, sources, stop.clone())),
        intake: intake_task,
        flusher,
        others,
        stop,
        last,
    })
}

fn host_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

fn presence(sessions: Arc<Sessions>) -> api::Presence {
    Arc::new(move |gateway| serde_json::to_value(sessions.seen(gateway)?).ok())
}

fn gauge_spool(spool: &Spool) {
    let usage = spool.usage();
    metrics::gauge!("collector_spool_bytes").set(usage.bytes as f64);
    metrics::gauge!("collector_spool_bytes_max").set(usage.bytes_max as f64);
    metrics::gauge!("collector_spool_records").set(usage.records as f64);
    metrics::counter!("collector_spool_records_appended_total").absolute(usage.appended_total);
    metrics::counter!("collector_spool_records_lost_total").absolute(usage.lost_total);
}

/// Newest values on their way to the hot tier; what is too slow loses some of them.
async fn put_live(hot: Arc<Guarded>, mut queue: mpsc::Receiver<Vec<StoredReading>>, stop: CancellationToken) {
    while let Some(Some(readings)) = stop.run_until_cancelled(queue.recv()).await {
        if let Err(error) = hot.put_live(&readings).await {
            tracing::debug!(%error, "newest values are not shown");
        }
    }
}

/// The newest value of every series, so that 'latest' is fast from the start. What the hot tier can prove complete
/// begins with the start: what was before is asked of the warm tier.
async fn warm_up(warm: Arc<dyn WarmTier>, hot: Arc<Guarded>, stop: CancellationToken) {
    let work = async {
        let series: Vec<SeriesId> = warm.series(None).await?.iter().map(|s| s.id).collect();
        for some in series.chunks(WARM_UP_SERIES) {
            hot.put_live(&warm.latest(some).await?).await?;
        }
        Ok::<_, TierError>(series.len())
    };
    match stop.run_until_cancelled(work).await {
        Some(Ok(series)) => tracing::debug!(series, "newest values are in the hot tier"),
        Some(Err(error)) => tracing::warn!(%error, "newest values are not in the hot tier yet"),
        None => {}
    }
}
