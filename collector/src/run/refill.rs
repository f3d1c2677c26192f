//! Fills the hot tier from the warm one in the background: after the start, whenever Redis came back or lost something,
//! and when the job `cache_refresh` asks for it. Questions are answered meanwhile.

use crate::flush::Followed;
use crate::tiers::hot::days::Days;
use crate::tiers::hot::guarded::Guarded;
use crate::tiers::hot::redis::{Filled, RedisHot, Source};
use crate::tiers::{SeriesId, StoredReading, TierError, WarmTier};
use futures::future::BoxFuture;
use shared::backoff::Backoff;
use shared::reading::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Losses that come together are made good together.
const GATHER: Duration = Duration::from_secs(1);
/// Between looks at whether a collector committed past it; so long it may lack what another one, which can't reach it,
/// stores.
const LOOK: Duration = Duration::from_secs(1);

pub(super) struct Refill {
    pub(super) redis: Arc<RedisHot>,
    pub(super) hot: Arc<Guarded>,
    /// What is cached beside it: days, and what is active.
    pub(super) kept: Option<Arc<dyn Days>>,
    pub(super) warm: Arc<dyn WarmTier>,
    pub(super) followed: Arc<Followed>,
    /// Wakes whoever follows the spool.
    pub(super) appended: Arc<watch::Sender<()>>,
    /// One at a time.
    pub(super) turn: tokio::sync::Mutex<()>,
}

/// The warm tier, to fill from.
struct FromWarm(Arc<dyn WarmTier>);

impl Source for FromWarm {
    fn range(
        &self,
        series: SeriesId,
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<StoredReading>, TierError>> {
        self.0.range(series, from, to, u32::MAX)
    }
}

impl Refill {
    pub(super) async fn keep(&self) {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
        while let Err(error) = self.adopt().await {
            tracing::debug!(%error, "the hot tier is not asked yet");
            tokio::time::sleep(backoff.pause()).await;
        }
        let mut lost = self.redis.lost();
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        loop {
            lost.mark_unchanged();
            let pause = match self.fill().await {
                Ok((true, _)) => {
                    backoff.reset();
                    None
                }
                Ok((false, _)) => Some(backoff.pause()),
                Err(error) => {
                    tracing::debug!(%error, "the hot tier is not filled yet");
                    Some(backoff.pause())
                }
            };
            if !self.wait(&mut lost, pause).await {
                return;
            }
        }
    }

    /// Waits until something is lost or owed, or the pause is over; false when the tier is gone.
    async fn wait(&self, lost: &mut watch::Receiver<u64>, pause: Option<Duration>) -> bool {
        let until = pause.map(|pause| Instant::now() + pause);
        while until.is_none_or(|until| Instant::now() < until) {
            let look = Instant::now() + LOOK;
            tokio::select! {
                () = tokio::time::sleep_until(until.map_or(look, |until| until.min(look))) => {
                    // What it is owed raises what it can prove: then it lacks something.
                    if self.settle().await.unwrap_or(false) {
                        return true;
                    }
                }
                changed = lost.changed() => {
                    tokio::time::sleep(GATHER).await;
                    return changed.is_ok();
                }
            }
        }
        true
    }

    /// It is asked only when it is this warm tier's, and has been told what it missed.
    async fn adopt(&self) -> Result<(), TierError> {
        self.settle().await?;
        self.redis.adopt(&self.warm.hot().account().await?.id).await
    }

    /// Whatever collectors committed past it, it forgets what is before that, and the caches too; whether there was any.
    async fn settle(&self) -> Result<bool, TierError> {
        let Some(until) = self.warm.hot().account().await?.owed else { return Ok(false) };
        self.hot.make_forget(until).await?;
        if let Some(kept) = &self.kept {
            kept.drop_all().await?;
        }
        self.warm.hot().settle(until).await?;
        Ok(true)
    }

    /// Whether it is done, otherwise something was lost meanwhile; and how many readings went there.
    pub(super) async fn fill(&self) -> Result<(bool, u64), TierError> {
        let _turn = self.turn.lock().await;
        self.settle().await?;
        let seen = self.redis.look().await?;
        if !seen.lacks {
            return Ok((true, 0));
        }
        let started = Instant::now();
        // From here on whatever the hot tier lost before that look is in the warm tier, or is put again, by everybody.
        self.followed.begin(self.warm.hot().begin_epoch().await?);
        self.appended.send_replace(());
        let series: Vec<SeriesId> = self.warm.series(None).await?.iter().map(|s| s.id).collect();
        let source = FromWarm(self.warm.clone());
        let Filled { readings, buckets, left, full } = self.redis.fill(&seen, &series, &source).await?;
        metrics::counter!("collector_hot_filled_total").increment(readings);
        let seconds = started.elapsed().as_secs();
        tracing::info!(readings, buckets, left, full, seconds, "the hot tier is filled from the warm tier");
        Ok((full || left == 0, readings))
    }
}
