//! What the collector stores in: the tiers, and what lies beside them on this disk.

use super::{RunError, file_error};
use crate::config::Config;
use crate::ingest::aside::{Aside, Bounds};
use crate::ingest::catalogues::Catalogues;
use crate::ingest::intake::OpenGaps;
use crate::ingest::ledger::Ledger;
use crate::ingest::restore;
use crate::moving;
use crate::sql::{Expected, Sql};
use crate::tiers::hot::days::{Days, MemoryDays};
use crate::tiers::hot::guarded::Guarded;
use crate::tiers::hot::memory::MemoryHot;
use crate::tiers::hot::redis::RedisHot;
use crate::tiers::hot::settings::Store;
use crate::tiers::warm::sqlite::SqliteWarm;
use crate::tiers::{ColdTier, HotTier, SeriesId, TierError, WarmTier, cold, warm};
use shared::reading::{Timestamp, micros};
use shared::spool::{Options, Spool, WhenFull};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// The start waits so long for the connections that questions go over.
const ASKED_WITHIN: Duration = Duration::from_millis(500);
/// Series whose newest value is asked for at once.
const SERIES_AT_ONCE: usize = 1_000;

/// Where readings go.
pub struct Tiers {
    /// The last 90 days.
    pub warm: Arc<dyn WarmTier>,
    /// The last 24 hours.
    pub hot: Arc<dyn HotTier>,
    /// The hot tier itself when it is in Redis: it is filled from the warm tier.
    pub redis: Option<Arc<RedisHot>>,
    /// Whole days, for good.
    pub cold: Option<Arc<dyn ColdTier>>,
    /// Asks them by SQL, when they are files.
    pub sql: Option<Arc<Sql>>,
}

impl Tiers {
    /// Those of the configuration.
    ///
    /// # Errors
    /// When one can't be opened.
    pub async fn open(config: &Config) -> Result<Self, RunError> {
        Self::open_for(config, &Handle::current()).await
    }

    /// As [`Tiers::open`], for questions that are answered on that runtime.
    pub(super) async fn open_for(config: &Config, answers: &Handle) -> Result<Self, RunError> {
        std::fs::create_dir_all(&config.data_dir).map_err(file_error(&config.data_dir))?;
        moved(config)?;
        left_behind(config).await?;
        let warm = warm::open(&config.warm, &config.warm_file()).await?;
        let asked = warm.clone();
        open_on(answers, async move { asked.be_asked().await }).await;
        let (cold, sql): (Arc<dyn ColdTier>, _) = match config.cold.store() {
            cold::settings::Store::BigQuery => (config.cold.open(&config.cold_dir())?, None),
            cold::settings::Store::Parquet => {
                let files = config.cold.open_files(&config.cold_dir())?;
                let sql = Sql::new(files.clone(), config.sql)?.expecting(archived(warm.clone()));
                (files, Some(Arc::new(sql)))
            }
        };
        let cold = Some(cold);
        let now = Arc::new(Timestamp::wall_clock);
        match config.hot.store() {
            Store::Memory => {
                let complete_from = complete_from(&*warm, config.ingest.future_max.0).await;
                let readings_max = usize::try_from(config.hot.readings_max()).unwrap_or(usize::MAX);
                let hot = MemoryHot::new(complete_from, readings_max, now).with_age(config.hot.age());
                Ok(Self { warm, hot: Arc::new(hot), redis: None, cold, sql })
            }
            Store::Redis => {
                let hot = {
                    let _here = answers.enter(); // what waits for Redis has as much of the processor as answers then
                    RedisHot::new(&config.hot, micros(config.ingest.future_max.0), now)?.unadopted()
                };
                let hot = Arc::new(hot);
                let asked = hot.clone();
                open_on(answers, async move { asked.be_asked().await }).await;
                Ok(Self { warm, hot: hot.clone(), redis: Some(hot), cold, sql })
            }
        }
    }
}

/// Opens connections on the runtime that answers, before anybody else needs one. A server that is away isn't waited for: then
/// they are opened when it is back.
async fn open_on(answers: &Handle, opening: impl Future<Output = Result<(), TierError>> + Send + 'static) {
    let _ = tokio::time::timeout(ASKED_WITHIN, answers.spawn(opening)).await;
}

/// What was archived; nothing while the warm tier can't say.
fn archived(warm: Arc<dyn WarmTier>) -> Expected {
    Arc::new(move || {
        let warm = warm.clone();
        Box::pin(async move { warm.days().archived().await.unwrap_or_default() })
    })
}

/// Whether the data is still where the configuration says.
///
/// # Errors
/// When `collector move` has taken it elsewhere, or hasn't finished to.
pub fn moved(config: &Config) -> Result<(), RunError> {
    let embedded = config.warm.store() == warm::settings::Store::Sqlite;
    match moving::Note::read(&config.data_dir) {
        Some(note) if embedded => Err(RunError::Moved { file: config.warm_file(), to: note.place }),
        Some(note) if !note.done => Err(RunError::Moving(note.place)),
        _ => Ok(()),
    }
}

/// Whether PostgreSQL is used while SQLite's file holds what nobody has taken there.
///
/// # Errors
/// When it does: its history would be gone, and whoever had to log in wouldn't have to.
pub async fn left_behind(config: &Config) -> Result<(), RunError> {
    let file = config.warm_file();
    let embedded = config.warm.store() == warm::settings::Store::Sqlite;
    if embedded || moving::Note::read(&config.data_dir).is_some() {
        return Ok(());
    }
    match SqliteWarm::held(&file).await {
        Some(what) => Err(RunError::LeftBehind { file, what }),
        None => Ok(()),
    }
}

impl Tiers {
    /// Where things are kept under versions, so that everybody who commits can be seen by all: in memory only when nobody
    /// else commits.
    pub(super) fn kept(&self, config: &Config) -> Option<Arc<dyn Days>> {
        match &self.redis {
            Some(redis) => Some(Arc::new(redis.days())),
            None if config.warm.store() == warm::settings::Store::Sqlite => Some(Arc::new(MemoryDays::default())),
            None => None,
        }
    }
}

/// From when on all readings can only have come through the hot tier of this run: everything that is committed is
/// older, and what is in the spool comes through it now.
async fn complete_from(warm: &dyn WarmTier, future_max: Duration) -> Timestamp {
    let newest = async {
        let mut newest = Timestamp(i64::MIN);
        let series: Vec<SeriesId> = warm.series(None).await?.iter().map(|s| s.id).collect();
        for some in series.chunks(SERIES_AT_ONCE) {
            newest = warm.latest(some).await?.iter().map(|reading| reading.at).fold(newest, Timestamp::max);
        }
        Ok::<_, TierError>(newest.plus_micros(1))
    };
    let surely = Timestamp::wall_clock().plus_micros(micros(future_max));
    newest.await.unwrap_or(surely).min(surely)
}

/// The newest value of every series goes into the hot tier, so that 'latest' is fast from the start. What it can prove
/// complete begins later: what was before is asked of the warm tier. Gives how many there were.
pub(super) async fn put_newest(warm: &dyn WarmTier, hot: &Guarded) -> Result<u64, TierError> {
    let series: Vec<SeriesId> = warm.series(None).await?.iter().map(|s| s.id).collect();
    let mut count = 0;
    for some in series.chunks(SERIES_AT_ONCE) {
        let newest = warm.latest(some).await?;
        hot.put_live(&newest).await?;
        count += newest.len() as u64;
    }
    Ok(count)
}

/// [`put_newest`] at the start.
pub(super) async fn warm_up(warm: Arc<dyn WarmTier>, hot: Arc<Guarded>) {
    match put_newest(&*warm, &hot).await {
        Ok(series) => tracing::debug!(series, "newest values are in the hot tier"),
        Err(error) => tracing::warn!(%error, "newest values are not in the hot tier yet"),
    }
}

/// What lies on this disk beside the tiers.
pub(super) struct Disk {
    pub(super) spool: Spool,
    pub(super) ledger: Arc<Ledger>,
    pub(super) gaps: Arc<OpenGaps>,
    pub(super) catalogues: Arc<Catalogues>,
    pub(super) aside: Arc<Aside>,
}

impl Disk {
    pub(super) async fn open(config: &Config) -> Result<Self, RunError> {
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
        let catalogues = Catalogues::open(&folder("catalogues")).map_err(file_error(&folder("catalogues")))?;
        let aside = Aside::open(&folder("rejected"), Bounds::default()).map_err(file_error(&folder("rejected")))?;
        Ok(Self {
            spool,
            ledger: Arc::new(ledger),
            gaps: Arc::new(gaps),
            catalogues: Arc::new(catalogues),
            aside: Arc::new(aside),
        })
    }
}
