//! The running collector: parse → build → bind → say so → wait → drain.

mod descriptors;
mod doors;
mod refill;
mod stores;
mod wiring;

pub use stores::{Tiers, left_behind, moved};

use crate::api;
use crate::config::Config;
use crate::etl::lost;
use crate::flush::{TOLD_EVERY, keep_rollups};
use crate::ingest::accept::Door;
use crate::ingest::heard;
use crate::revocation;
use crate::tiers::hot::guarded::Guarded;
use crate::tiers::hot::memory::Now;
use crate::tiers::{HotTier, StoredReading, TierError, WarmTier};
use shared::notify;
use shared::reading::Timestamp;
use shared::spool::SpoolError;
use shared::tls::TlsError;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use stores::{Disk, warm_up};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use wiring::Wiring;

/// Batches of newest values that wait for the hot tier; more are dropped and counted.
const LIVE_MAX: usize = 1_024;
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
    /// SQLite's file is no longer where the data is.
    #[error(
        "what {} holds was moved to {to}, or is on its way there: start with the configuration that names it, or give \
         the move up with `collector move --abandon`", file.display()
    )]
    Moved {
        /// SQLite's file.
        file: PathBuf,
        /// Where to.
        to: String,
    },
    /// The embedded tier's data isn't where the configuration says.
    #[error(
        "{} holds {what}, and [warm] (or POSTGRES_HOST) names PostgreSQL, which knows nothing of it: `collector move --to` with \
         this configuration, called with the one of before, takes all of it there; to begin anew take that file away", file.display()
    )]
    LeftBehind {
        /// SQLite's file.
        file: PathBuf,
        /// What of it would be missed.
        what: String,
    },
    /// Not all of the data is where the configuration says.
    #[error(
        "the move to {0} isn't finished: call `collector move` again, which goes on, or give it up with `collector move \
         --abandon`"
    )]
    Moving(String),
    /// What a setting names can't be used.
    #[error(transparent)]
    Setting(#[from] crate::config::ValueError),
    /// What can't be planned.
    #[error(transparent)]
    Jobs(#[from] crate::etl::jobs::SettingsError),
    /// A part that should run as long as the collector ended.
    #[error("{0} has ended by itself; this is a mistake in the program")]
    Ended(&'static str),
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> RunError + '_ {
    move |source| RunError::File { path: path.into(), source }
}

/// Runs until `stop`, and then until everything that was taken in is on disk. Questions are answered on the runtime `answers`,
/// which may have more of the processor than this one.
///
/// # Errors
/// When it can't start, or a part of it breaks.
pub async fn run(config: Config, answers: Handle, stop: CancellationToken) -> Result<(), RunError> {
    let tiers = Tiers::open_for(&config, &answers).await?;
    let running = Running::start_apart(config, tiers, answers, Arc::new(Timestamp::wall_clock), stop).await?;
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
    door: JoinHandle<()>,
    api_task: JoinHandle<Result<(), api::ApiError>>,
    intake: JoinHandle<()>,
    flusher: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
    warm: Arc<dyn WarmTier>,
}

impl Running {
    /// Starts everything; both addresses are bound when it returns. With port 0 a free one is taken.
    ///
    /// # Errors
    /// When something is missing or can't be used.
    pub async fn start(config: Config, stop: CancellationToken) -> Result<Self, RunError> {
        let tiers = Tiers::open(&config).await?;
        Self::start_on(config, tiers, stop).await
    }

    /// As [`Running::start`], on tiers that are open already.
    ///
    /// # Errors
    /// When something is missing or can't be used.
    pub async fn start_on(config: Config, tiers: Tiers, stop: CancellationToken) -> Result<Self, RunError> {
        Self::start_by(config, tiers, Arc::new(Timestamp::wall_clock), stop).await
    }

    /// As [`Running::start_on`], with another clock than this machine's.
    ///
    /// # Errors
    /// When something is missing or can't be used.
    pub async fn start_by(config: Config, tiers: Tiers, now: Now, stop: CancellationToken) -> Result<Self, RunError> {
        Self::start_apart(config, tiers, Handle::current(), now, stop).await
    }

    async fn start_apart(
        config: Config,
        tiers: Tiers,
        answers: Handle,
        now: Now,
        stop: CancellationToken,
    ) -> Result<Self, RunError> {
        // Whatever fails below, nothing that was started stays behind.
        let stop = stop.child_token();
        let guard = stop.clone().drop_guard();
        let running = Box::pin(start(&config, tiers, answers, now, stop)).await?;
        guard.disarm();
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            ingest = %running.ingest,
            api = %format_args!("{}://{}", if config.api_identity().is_some() { "https" } else { "http" }, running.api),
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
            let _ = (&mut self.api_task).await;
        }
        for task in &mut self.others {
            let _ = task.await;
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

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), RunError> {
    let failed = |source| RunError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

async fn start(
    config: &Config,
    tiers: Tiers,
    answers: Handle,
    now: Now,
    stop: CancellationToken,
) -> Result<Running, RunError> {
    descriptors::raise();
    let tls = shared::tls::server_config(&config.ca(), &config.cert(), &config.key())?;
    let revoked = revocation::watch(config.revoked(), stop.clone()).map_err(file_error(&config.revoked()))?;
    let (listener, ingest_at) = listen(config.ingest.listen).await?;
    let asked = doors::Asked::open(config).await?;
    let api_at = asked.address;
    let kept = tiers.kept(config);
    let hot = Arc::new(Guarded::new(tiers.hot));
    let mut wiring = Wiring::new(config, Disk::open(config).await?, tiers.warm, hot.clone(), kept, tiers.cold);
    wiring.sql = tiers.sql;
    wiring.now = now;

    let flusher = Arc::new(wiring.flusher());
    let refill = tiers.redis.clone().map(|redis| Arc::new(wiring.refill(redis)));
    let scheduler = wiring.scheduler(&flusher, refill.clone())?;
    let alerts = wiring.alerts(scheduler.clone())?;

    // From here on nothing fails.
    let access = asked.access(wiring.warm.clone(), tiers.redis.as_deref());
    access.look_up().await;
    let sources = wiring.sources(scheduler.clone(), &flusher, access, descriptors::for_api(config)); // starts the counting, too
    let watching = wiring.live(scheduler.clone());
    let (live, live_queue) = mpsc::channel(LIVE_MAX);
    let live_every = if tiers.redis.is_some() { TOLD_EVERY } else { Duration::ZERO };
    let (intake, intake_task) = wiring.desk().open();
    let door = Door {
        ingest: Arc::new(wiring.ingest(intake, live)),
        tls: TlsAcceptor::from(tls),
        revoked,
        limits: wiring.limits(),
    };
    let last = CancellationToken::new();
    let (following, appended, following_stop) = (flusher.clone(), wiring.appended.subscribe(), last.clone());
    let alone = wiring.may_not_be_alone().then(|| (flusher.clone(), last.clone()));
    let (granting, granting_stop) = (flusher.clone(), last.clone());
    let (flushing, flushing_stop, appended_too) = (flusher, last.clone(), wiring.appended.subscribe());
    let (pressure, spool, relief_stop) = (wiring.pressure.clone(), wiring.disk.spool.clone(), stop.clone());
    let (warm, warm_up_stop) = (wiring.warm.clone(), last.clone());
    let mut others = vec![
        tokio::spawn(async move { following.follow(appended, following_stop).await }),
        tokio::spawn(async move { granting.regrant(granting_stop).await }),
        tokio::spawn(keep_rollups(warm.clone(), wiring.dirty.clone(), last.clone())),
        tokio::spawn(heard::keep(wiring.sessions.clone(), warm.clone(), wiring.seen.clone(), last.clone())),
        tokio::spawn(put_live(hot.clone(), live_queue, live_every, last.clone())),
        tokio::spawn(async move { warm_up_stop.run_until_cancelled(warm_up(warm, hot)).await.unwrap_or(()) }),
        tokio::spawn(async move { pressure.relieve(&spool, relief_stop).await }),
        tokio::spawn(scheduler.run(last.clone())),
        tokio::spawn(watching.run(stop.clone())),
        tokio::spawn(wiring.anomalies.clone().keep(stop.clone())),
        tokio::spawn(notify::watchdog(stop.clone(), || true)),
    ];
    if let Some((flusher, stop)) = alone {
        others.push(tokio::spawn(async move { flusher.stay_alone(stop).await }));
    }
    if let Some(cold) = wiring.cold.clone() {
        let (warm, alarm) = (wiring.warm.clone(), wiring.alarms.archive.clone());
        others.push(tokio::spawn(lost::watch(warm, cold, alarm, last.clone())));
    }
    if let Some(alerts) = alerts {
        others.push(tokio::spawn(alerts.run(last.clone())));
    }
    if let Some(refill) = refill {
        let refill_stop = last.clone();
        others.push(tokio::spawn(async move {
            refill_stop.run_until_cancelled(refill.keep()).await.unwrap_or(());
        }));
    }
    Ok(Running {
        ingest: ingest_at,
        api: api_at,
        door: tokio::spawn(door.keep(listener, stop.clone())),
        api_task: answers.spawn(asked.serve(sources, stop.clone())),
        intake: intake_task,
        flusher: tokio::spawn(async move { flushing.run(appended_too, flushing_stop).await }),
        others,
        warm: wiring.warm,
        stop,
        last,
    })
}

/// Newest values on their way to the hot tier, those that wait together, and so often; what is too slow loses some of them.
async fn put_live(
    hot: Arc<Guarded>,
    mut queue: mpsc::Receiver<Vec<StoredReading>>,
    every: Duration,
    stop: CancellationToken,
) {
    let mut waiting = Vec::new();
    while stop.run_until_cancelled(queue.recv_many(&mut waiting, LIVE_MAX)).await.is_some_and(|count| count > 0) {
        let next = Instant::now() + every;
        let readings: Vec<_> = waiting.drain(..).flatten().collect();
        if let Err(error) = hot.put_live(&readings).await {
            tracing::debug!(%error, "newest values are not shown");
        }
        stop.run_until_cancelled(tokio::time::sleep_until(next)).await;
    }
}
