//! Everything together: opens what is on disk, starts sources, pipeline and uplink, and ends them in order.
//!
//! What lies on disk and the uplink live as long as the program; sources and pipeline are a *generation* that a new
//! configuration replaces. A configuration that is wrong, or that only a restart can follow, changes nothing.

use crate::catalogues::Catalogues;
use crate::clock::{Clock, ClockError, Trust};
use crate::config::Config;
use crate::http::{self, HttpError};
use crate::live::Live;
use crate::overflow::Overflow;
use crate::pipeline::{Pipeline, Sinks};
use crate::registry::{Registry, RegistryError};
use crate::sources::{modbus, mqtt};
use crate::status::Status;
use crate::uplink::{self, Current, Delivered, Parts};
use crate::vitals::{Loop, Vitals};
use shared::config::ConfigError;
use shared::notify;
use shared::spool::{Options, Spool, SpoolError, WhenFull};
use shared::telemetry::{self, TelemetryError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Batches between sources and pipeline.
const BATCHES_MAX: usize = 256;
/// How long the pipeline may take to write what is left.
const DRAIN_MAX: Duration = Duration::from_secs(15);
/// How long the uplink may take to send what was written last.
const LAST_WORDS_MAX: Duration = Duration::from_secs(3);
/// Between looks at the spool's size and the system's clock.
const HOUSEKEEPING: Duration = Duration::from_secs(5);
/// Runs of blocks that are thinned at one look.
const RELIEF_STEPS: usize = 4;
/// Between writings of the latest certain time: each costs flash.
const FLOOR_EVERY: u32 = 120;
/// A loop that didn't turn for so long stands still.
const STALLED_S: u64 = 60;

/// Why the agent doesn't run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration can't be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It can be read, and is wrong.
    #[error("{}:\n  {}", path.display(), found.join("\n  "))]
    Mistakes {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it, a line each.
        found: Vec<String>,
    },
    /// Only a restart can follow it.
    #[error("{0} changed: that needs a restart")]
    NeedsRestart(&'static str),
    /// Logs.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// Something on disk.
    #[error("{}: {source}", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The clock's records.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The points.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The brokers.
    #[error(transparent)]
    Mqtt(#[from] mqtt::SpawnError),
    /// The status page.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A task panicked.
    #[error("a task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl RunError {
    /// Whether the person who wrote the configuration can mend it.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(
            self,
            RunError::Config(_)
                | RunError::Mistakes { .. }
                | RunError::Telemetry(_)
                | RunError::Registry(_)
                | RunError::Mqtt(_)
        )
    }
}

/// Reads and checks a configuration.
///
/// # Errors
/// With every mistake that was found.
pub fn configuration(path: &Path) -> Result<Config, RunError> {
    let (config, found) = Config::load_and_check(path)?;
    if found.is_empty() { Ok(config) } else { Err(RunError::Mistakes { path: path.into(), found }) }
}

/// What lives as long as the program.
struct Base {
    clock: Clock,
    spool: Spool,
    catalogues: Arc<Catalogues>,
    vitals: Arc<Vitals>,
    delivered: Arc<Delivered>,
    overflow: Arc<Overflow>,
    appended: watch::Sender<u64>,
    current: watch::Sender<Current>,
}

/// Runs until `stop`. Each value of `reload` asks for the configuration to be read again.
///
/// # Errors
/// When it can't start. Once it runs, nothing from outside ends it.
pub async fn run(path: &Path, stop: CancellationToken, reload: mpsc::Receiver<()>) -> Result<(), RunError> {
    run_by(path, Clock::open, stop, reload).await
}

/// As [`run`], by a clock that the caller opens in its folder: a test has a boot in 1970 so.
///
/// # Errors
/// As [`run`].
pub async fn run_by(
    path: &Path,
    clock: impl FnOnce(&Path, Trust) -> Result<Clock, ClockError> + Send + 'static,
    stop: CancellationToken,
    mut reload: mpsc::Receiver<()>,
) -> Result<(), RunError> {
    let mut config = configuration(path)?;
    telemetry::init(config.log.format, &config.log.level)?;
    let metrics = telemetry::metrics();
    let base = Arc::new(open(config.clone(), clock).await?);
    let listener = http::bind(config.http.listen).await?;
    let mut generation = Generation::start(&base, &config)?;
    let mut sender = Sending::start(&base, &config);
    let name = shared::tls::own_name(&config.uplink.cert).map_or_else(|e| e.to_string(), |n| n.to_string());
    let address = listener.local_addr().unwrap_or(config.http.listen);
    let status = Status {
        gateway: name.clone(),
        clock: base.clock.clone(),
        spool: base.spool.clone(),
        delivered: base.delivered.clone(),
        vitals: base.vitals.clone(),
        current: base.current.subscribe(),
    };
    let ending = CancellationToken::new();
    let page = tokio::spawn(http::serve(listener, status, move || metrics.render(), ending.clone()));
    let keeper = tokio::spawn(keep_house(base.clone(), ending.clone()));
    let vitals = base.vitals.clone();
    let alive = move || [Loop::Pipeline, Loop::Uplink].iter().all(|which| vitals.stalled_s(*which) < STALLED_S);
    let dog = tokio::spawn(notify::watchdog(ending.clone(), alive));
    let points = base.current.borrow().registry.len();
    tracing::info!(gateway = name, version = env!("CARGO_PKG_VERSION"), points, status = %address, "running");
    notify::ready();

    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            asked = reload.recv() => {
                if asked.is_none() {
                    stop.cancelled().await;
                    break;
                }
                match replace(&base, path, &config, &mut generation, &mut sender).await {
                    Ok(new) => config = new,
                    Err(error) => tracing::error!(%error, "the new configuration is not taken; the old one goes on"),
                }
            }
        }
    }
    notify::stopping();
    generation.end().await;
    sender.end(&base).await;
    ending.cancel();
    let clock = base.clock.clone();
    tokio::task::spawn_blocking(move || clock.keep_floor()).await?;
    for task in [page, keeper, dog] {
        task.await?;
    }
    tracing::info!("stopped");
    Ok(())
}

/// Opens everything that is on disk. Damage is no error.
async fn open(
    config: Config,
    clock: impl FnOnce(&Path, Trust) -> Result<Clock, ClockError> + Send + 'static,
) -> Result<Base, RunError> {
    tokio::task::spawn_blocking(move || {
        let dir = &config.data_dir;
        let disk = |path: PathBuf| move |source| RunError::Disk { path, source };
        std::fs::create_dir_all(dir).map_err(disk(dir.clone()))?;
        let clock = clock(&dir.join("clock"), config.clock.trust)?;
        clock.ask_system();
        let bytes_max = config.spool_bytes_max();
        let options = Options { bytes_max, when_full: WhenFull::DropOldest, ..Options::default() };
        let (spool, report) = Spool::open(&dir.join("spool"), options)?;
        if !report.lost.is_empty() || report.salvaged > 0 || !report.set_aside.is_empty() {
            let lost: u64 = report.lost.iter().map(|gap| gap.seqs.count()).sum();
            let aside = report.set_aside.len();
            tracing::error!(salvaged = report.salvaged, lost, aside, "the spool was damaged and has been repaired");
        }
        let usage = spool.usage();
        tracing::info!(stream = %spool.stream(), blocks = usage.records, bytes_max, "spool is open");
        let catalogues = dir.join("catalogues");
        let catalogues = Arc::new(Catalogues::open(&catalogues).map_err(disk(catalogues.clone()))?);
        let (appended, current) = (watch::Sender::new(spool.highest().0), watch::Sender::new(Current::default()));
        let (vitals, delivered) = (Arc::default(), Arc::<Delivered>::default());
        let overflow = Arc::new(Overflow::new(spool.clone(), catalogues.clone(), delivered.clone()));
        Ok(Base { clock, spool, catalogues, vitals, delivered, overflow, appended, current })
    })
    .await?
}

/// Sources and pipeline of one configuration.
struct Generation {
    stop: CancellationToken,
    sources: Vec<JoinHandle<()>>,
    pipeline: JoinHandle<()>,
}

impl Generation {
    fn start(base: &Base, config: &Config) -> Result<Self, RunError> {
        let (outlet, inbox) = mpsc::channel(BATCHES_MAX);
        let (registry, live, stop) = (Registry::new(), Arc::new(Live::default()), CancellationToken::new());
        let links = modbus::config::resolve(&config.modbus)
            .map_err(|mistakes| RunError::Mistakes { path: "modbus".into(), found: vec![mistakes.to_string()] })?;
        let brokers = mqtt::config::resolve(&config.mqtt)
            .map_err(|mistakes| RunError::Mistakes { path: "mqtt".into(), found: vec![mistakes.to_string()] })?;
        let mut sources = modbus::spawn(links, registry.clone(), outlet.clone(), base.clock.clone(), stop.clone())?;
        let listeners = mqtt::spawn(brokers, registry.clone(), outlet, base.clock.clone(), stop.clone());
        sources.extend(listeners.inspect_err(|_| stop.cancel())?);
        let sinks = Sinks {
            spool: base.spool.clone(),
            catalogues: base.catalogues.clone(),
            overflow: base.overflow.clone(),
            appended: base.appended.clone(),
            vitals: base.vitals.clone(),
        };
        let (count, age) = (config.batch.readings_max, config.batch.age_max.0);
        let pipeline = Pipeline::new(inbox, registry.clone(), base.clock.clone(), live.clone(), sinks, count, age);
        let pipeline = tokio::spawn(pipeline.run());
        base.current.send_replace(Current { registry, live });
        Ok(Self { stop, sources, pipeline })
    }

    /// Ends sources, then writes what they brought.
    async fn end(self) {
        self.stop.cancel();
        for source in self.sources {
            if let Err(error) = source.await {
                tracing::error!(%error, "a source failed");
            }
        }
        match tokio::time::timeout(DRAIN_MAX, self.pipeline).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the pipeline failed"),
            Err(_) => tracing::error!("the disk is too slow to write the last readings"),
        }
    }
}

/// The task that forwards.
struct Sending {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Sending {
    fn start(base: &Base, config: &Config) -> Self {
        let stop = CancellationToken::new();
        let parts = Parts {
            spool: base.spool.clone(),
            catalogues: base.catalogues.clone(),
            clock: base.clock.clone(),
            vitals: base.vitals.clone(),
            appended: base.appended.subscribe(),
            current: base.current.subscribe(),
            delivered: base.delivered.clone(),
            live_interval: config.batch.live_interval.0,
        };
        let task = tokio::spawn(uplink::run(config.uplink.clone(), parts, stop.clone()));
        Self { stop, task }
    }

    /// Ends it; the last blocks are sent first if that is quickly done. Nothing depends on it.
    async fn end(self, base: &Base) {
        let connected = || base.vitals.link().connected.is_some();
        let undelivered = || base.delivered.lowest_lacking(&base.spool).is_some();
        let last_words = async {
            while connected() && undelivered() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = tokio::time::timeout(LAST_WORDS_MAX, last_words).await;
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the uplink failed");
        }
    }
}

/// Follows a new configuration, or leaves everything as it is.
async fn replace(
    base: &Arc<Base>,
    path: &Path,
    old: &Config,
    generation: &mut Generation,
    sender: &mut Sending,
) -> Result<Config, RunError> {
    let path = path.to_owned();
    let new = tokio::task::spawn_blocking(move || configuration(&path)).await??;
    for (changed, what) in [
        (new.data_dir != old.data_dir, "data_dir"),
        (new.http.listen != old.http.listen, "[http] listen"),
        (new.spool.bytes_max != old.spool.bytes_max, "[spool] bytes_max"),
        (new.clock.trust != old.clock.trust, "[clock] trust"),
    ] {
        if changed {
            return Err(RunError::NeedsRestart(what));
        }
    }
    // Two generations never poll one line: the old one ends first. Points were checked by `configuration`.
    let fresh = Generation { stop: CancellationToken::new(), sources: Vec::new(), pipeline: tokio::spawn(async {}) };
    std::mem::replace(generation, fresh).end().await;
    *generation = match Generation::start(base, &new) {
        Ok(started) => started,
        Err(error) => {
            *generation = Generation::start(base, old)?;
            return Err(error);
        }
    };
    std::mem::replace(sender, Sending::start(base, &new)).end(base).await;
    tracing::info!(points = base.current.borrow().registry.len(), "the new configuration is followed");
    Ok(new)
}

/// Looks after clock and spool until `stop`.
async fn keep_house(base: Arc<Base>, stop: CancellationToken) {
    let mut turn = 0u32;
    let mut tick = tokio::time::interval(HOUSEKEEPING);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        turn = turn.wrapping_add(1);
        let (base, keep_floor) = (base.clone(), turn.is_multiple_of(FLOOR_EVERY));
        let work = tokio::task::spawn_blocking(move || {
            base.clock.ask_system();
            crate::status::disk_bytes_per_day(base.vitals.uptime_s());
            if keep_floor {
                base.clock.keep_floor();
            }
            if let Err(error) = base.overflow.relieve(RELIEF_STEPS) {
                tracing::error!(%error, "no room can be made in the spool");
            }
            base.appended.send_replace(base.spool.highest().0);
        });
        if let Err(error) = work.await {
            tracing::error!(%error, "housekeeping failed");
        }
    }
}
