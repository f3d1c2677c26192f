//! A hot tier whose promise of completeness is kept when it fails.
//!
//! Readings that it could not take are stored in the warm tier nevertheless. The moment before which it may lack
//! something is then kept in a file, durably and before those readings are committed; until the tier was told to
//! forget what is before it, it proves nothing. So neither its outage nor a crash meanwhile shows as a hole.

use crate::tiers::{HotState, HotTier, SeriesId, StoredReading, TierError, TierFuture};
use shared::reading::Timestamp;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;

/// A tier that doesn't answer a `put` within this is taken for dead.
const PUT_WITHIN: Duration = Duration::from_secs(2);
const TIER: &str = "hot tier";
/// Stands for: nothing is owed.
const NOTHING: i64 = i64::MIN;

/// The guarded tier.
pub struct Guarded {
    inner: Arc<dyn HotTier>,
    file: PathBuf,
    /// Readings before this may have passed it by; [`NOTHING`] when none did.
    owed: AtomicI64,
    down: AtomicBool,
    writing: Mutex<()>,
}

impl Guarded {
    /// Guards `inner`; what it is owed lies in `file`.
    ///
    /// # Errors
    /// When the file is there and can't be read.
    pub fn new(inner: Arc<dyn HotTier>, file: &Path) -> io::Result<Self> {
        let owed = match fs::read_to_string(file) {
            // One that can't be understood was being written: everything may be missing.
            Ok(text) => text.trim().parse().unwrap_or(i64::MAX),
            Err(error) if error.kind() == io::ErrorKind::NotFound => NOTHING,
            Err(error) => return Err(error),
        };
        Ok(Self {
            inner,
            file: file.into(),
            owed: AtomicI64::new(owed),
            down: AtomicBool::new(false),
            writing: Mutex::default(),
        })
    }

    /// Whether it failed last time.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Notes, durably, that these were not taken and will be committed nevertheless. Blocking.
    ///
    /// # Errors
    /// When the file can't be written: then they must not be committed yet.
    pub fn passed_by(&self, readings: &[StoredReading]) -> io::Result<()> {
        let Some(last) = readings.iter().map(|r| r.at).max() else { return Ok(()) };
        let owed = last.0.saturating_add(1);
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.owed.load(Ordering::Acquire) < owed {
            let mut file = fs::File::create(&self.file)?;
            writeln!(file, "{owed}")?;
            file.sync_all()?;
            self.owed.store(owed, Ordering::Release);
        }
        Ok(())
    }

    /// Whether there is something that it may lack and was not told to forget yet.
    #[must_use]
    pub fn owes(&self) -> bool {
        self.owed.load(Ordering::Acquire) != NOTHING
    }

    /// Tells it to forget what it may lack, without waiting for the next `put`.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub async fn recover(&self) -> Result<(), TierError> {
        if self.owes() { self.watched(self.settle()).await } else { Ok(()) }
    }

    async fn settle(&self) -> Result<(), TierError> {
        let owed = self.owed.load(Ordering::Acquire);
        if owed == NOTHING {
            return Ok(());
        }
        self.inner.forget(Timestamp(owed)).await?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.owed.load(Ordering::Acquire) == owed {
            match fs::remove_file(&self.file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    // It will be forgotten once more after the next start, which costs little.
                    tracing::warn!(file = %self.file.display(), %error, "can't be removed");
                }
                _ => {}
            }
            self.owed.store(NOTHING, Ordering::Release);
        }
        Ok(())
    }

    async fn watched<T>(&self, call: impl Future<Output = Result<T, TierError>>) -> Result<T, TierError> {
        let outcome = tokio::time::timeout(PUT_WITHIN, call).await;
        let outcome =
            outcome.unwrap_or_else(|_| Err(TierError::Unavailable { tier: TIER, why: "it doesn't answer".into() }));
        let was_down = self.down.swap(outcome.is_err(), Ordering::Relaxed);
        match (&outcome, was_down) {
            (Err(error), false) => {
                metrics::gauge!("collector_hot_up").set(0.0);
                tracing::error!(%error, "readings go to the warm tier at once until it is back");
            }
            (Ok(_), true) => {
                metrics::gauge!("collector_hot_up").set(1.0);
                tracing::info!("the hot tier is back");
            }
            _ => {}
        }
        outcome
    }
}

impl HotTier for Guarded {
    fn put<'a>(&'a self, readings: &'a [StoredReading]) -> TierFuture<'a, ()> {
        Box::pin(self.watched(async move {
            self.settle().await?;
            self.inner.put(readings).await
        }))
    }

    fn put_live<'a>(&'a self, readings: &'a [StoredReading]) -> TierFuture<'a, ()> {
        self.inner.put_live(readings)
    }

    fn latest<'a>(&'a self, series: &'a [SeriesId]) -> TierFuture<'a, Vec<StoredReading>> {
        self.inner.latest(series)
    }

    fn complete_from(&self, series: SeriesId) -> TierFuture<'_, Option<Timestamp>> {
        if self.owed.load(Ordering::Acquire) != NOTHING {
            return Box::pin(async { Ok(None) });
        }
        self.inner.complete_from(series)
    }

    fn range(&self, series: SeriesId, from: Timestamp, to: Timestamp) -> TierFuture<'_, Option<Vec<StoredReading>>> {
        if self.owed.load(Ordering::Acquire) != NOTHING {
            return Box::pin(async { Ok(None) });
        }
        self.inner.range(series, from, to)
    }

    fn forget(&self, before: Timestamp) -> TierFuture<'_, ()> {
        self.inner.forget(before)
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<[StoredReading]>> {
        self.inner.subscribe()
    }

    fn state(&self) -> TierFuture<'_, HotState> {
        self.inner.state()
    }
}
