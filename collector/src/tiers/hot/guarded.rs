//! A hot tier whose promise of completeness is kept when it fails.
//!
//! Readings that it could not take are stored in the warm tier nevertheless, which notes in the same transaction that
//! something is owed ([`crate::tiers::HotLedger`]). From then on this one proves nothing here, until it was told to
//! forget what is before that. So neither its outage nor a crash meanwhile shows as a hole. What it holds and the warm tier
//! refused it is told as soon as it answers.

use crate::tiers::{Doubt, HotState, HotTier, Newest, SeriesId, StoredReading, TierError, TierFuture};
use shared::reading::Timestamp;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;

/// A tier that doesn't answer a `put` within this is taken for dead.
const PUT_WITHIN: Duration = Duration::from_secs(2);
const TIER: &str = "hot tier";
/// Most refused readings that wait for it to be back; of more the oldest stay there until they are a day old.
const REFUSED_MAX: usize = 65_536;
/// Stands for: nothing is owed.
const NOTHING: i64 = i64::MIN;

/// The guarded tier.
pub struct Guarded {
    inner: Arc<dyn HotTier>,
    /// Readings before this may have passed it by, from here; [`NOTHING`] when none did.
    owed: AtomicI64,
    /// What the warm tier refused, and may be there still.
    refused: Mutex<Vec<StoredReading>>,
    /// Why it took nothing the last time.
    down: Mutex<Option<String>>,
    /// What it holds is not all there is.
    silent: AtomicBool,
}

impl Guarded {
    /// Guards `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn HotTier>) -> Self {
        let (owed, silent) = (AtomicI64::new(NOTHING), AtomicBool::new(false));
        Self { inner, owed, refused: Mutex::default(), down: Mutex::default(), silent }
    }

    /// Whether it failed last time.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.lock().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it says nothing of what is stored.
    pub fn say_nothing(&self) {
        self.silent.store(true, Ordering::Release);
    }

    /// Whether it was told to.
    #[must_use]
    pub fn says_nothing(&self) -> bool {
        self.silent.load(Ordering::Acquire)
    }

    fn may_prove(&self) -> bool {
        !self.says_nothing() && self.owed.load(Ordering::Acquire) == NOTHING
    }

    /// Readings before `until` will be committed, and it was not told all of them: from now on it is not asked here.
    pub fn pass_by(&self, until: Timestamp) {
        self.owed.fetch_max(until.0, Ordering::AcqRel);
    }

    /// Tells it to forget what is before `until`, and what passed it by from here.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub async fn make_forget(&self, until: Timestamp) -> Result<(), TierError> {
        self.pass_by(until);
        self.watched(self.settle()).await
    }

    /// When it took nothing the last time: whether it does now. Without it nobody finds out while nothing comes.
    pub async fn try_again(&self) {
        if self.is_down() {
            let _ = self.watched(self.inner.forget(Timestamp(0))).await; // which forgets nothing
        }
    }

    fn refused(&self) -> MutexGuard<'_, Vec<StoredReading>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn settle(&self) -> Result<(), TierError> {
        let refused = std::mem::take(&mut *self.refused());
        if !refused.is_empty()
            && let Err(error) = self.inner.withdraw(&refused).await
        {
            self.withdraw_later(refused);
            return Err(error);
        }
        let owed = self.owed.load(Ordering::Acquire);
        if owed != NOTHING {
            self.inner.forget(Timestamp(owed)).await?;
            // What passed by meanwhile is owed still.
            let _ = self.owed.compare_exchange(owed, NOTHING, Ordering::AcqRel, Ordering::Relaxed);
        }
        Ok(())
    }

    fn withdraw_later(&self, readings: impl IntoIterator<Item = StoredReading>) {
        let mut refused = self.refused();
        refused.extend(readings);
        let too_many = refused.len().saturating_sub(REFUSED_MAX);
        if too_many > 0 {
            refused.drain(..too_many);
            metrics::counter!("collector_hot_refused_left_total").increment(too_many as u64);
            tracing::error!(too_many, "readings that were set aside may show for a day once the hot tier is back");
        }
    }

    async fn watched<T>(&self, call: impl Future<Output = Result<T, TierError>>) -> Result<T, TierError> {
        self.noted(within(call).await)
    }

    /// Notes whether it is down.
    fn noted<T>(&self, outcome: Result<T, TierError>) -> Result<T, TierError> {
        let why = outcome.as_ref().err().map(ToString::to_string);
        let was_down = std::mem::replace(&mut *self.lock(), why).is_some();
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

async fn within<T>(call: impl Future<Output = Result<T, TierError>>) -> Result<T, TierError> {
    let outcome = tokio::time::timeout(PUT_WITHIN, call).await;
    outcome.unwrap_or_else(|_| Err(TierError::Unavailable { tier: TIER, why: "it doesn't answer".into() }))
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
        if self.says_nothing() {
            return Box::pin(async { Ok(Vec::new()) });
        }
        self.inner.latest(series)
    }

    fn newest<'a>(&'a self, series: &'a [SeriesId]) -> TierFuture<'a, Newest> {
        if self.may_prove() {
            return self.inner.newest(series);
        }
        Box::pin(async { Ok(Newest { readings: self.latest(series).await?, unsure: series.to_vec() }) })
    }

    fn complete_from(&self, series: SeriesId) -> TierFuture<'_, Option<Timestamp>> {
        if !self.may_prove() {
            return Box::pin(async { Ok(None) });
        }
        self.inner.complete_from(series)
    }

    fn range(&self, series: SeriesId, from: Timestamp, to: Timestamp) -> TierFuture<'_, Option<Vec<StoredReading>>> {
        if !self.may_prove() {
            return Box::pin(async { Ok(None) });
        }
        self.inner.range(series, from, to)
    }

    fn forget(&self, before: Timestamp) -> TierFuture<'_, ()> {
        self.inner.forget(before)
    }

    fn doubt<'a>(&'a self, readings: &'a [StoredReading]) -> TierFuture<'a, Doubt> {
        Box::pin(async move {
            let doubt = within(async {
                self.settle().await?;
                self.inner.doubt(readings).await
            });
            match doubt.await {
                Ok(nothing) if nothing.0.is_empty() => Ok(nothing), // it may not even have been asked
                doubt => self.noted(doubt),
            }
        })
    }

    fn put_after<'a>(&'a self, readings: &'a [StoredReading], doubt: Doubt) -> TierFuture<'a, ()> {
        if readings.is_empty() && doubt.0.is_empty() {
            return Box::pin(async { Ok(()) });
        }
        Box::pin(self.watched(self.inner.put_after(readings, doubt)))
    }

    fn leave(&self, doubt: Doubt) {
        self.inner.leave(doubt);
    }

    fn withdraw<'a>(&'a self, readings: &'a [StoredReading]) -> TierFuture<'a, ()> {
        Box::pin(async move {
            let down = self.lock().clone(); // who has waited for it once needn't do so for each block
            let gone = match down {
                Some(why) => Err(TierError::Unavailable { tier: TIER, why }),
                None => {
                    let settled = async {
                        self.settle().await?;
                        self.inner.withdraw(readings).await
                    };
                    self.watched(settled).await
                }
            };
            if gone.is_err() {
                self.withdraw_later(readings.iter().copied());
            }
            gone
        })
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<[StoredReading]>> {
        self.inner.subscribe()
    }

    fn state(&self) -> TierFuture<'_, HotState> {
        self.inner.state()
    }

    fn fault(&self) -> Option<String> {
        self.inner.fault().or_else(|| self.lock().clone())
    }
}
