//! Fills the hot tier from the warm one in the background: after the start, whenever Redis came back or lost something,
//! and when the job `cache_refresh` asks for it. Questions are answered meanwhile.

use crate::flush::Followed;
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
/// Between looks at whether it was told all that it missed.
const LOOK: Duration = Duration::from_secs(5);

pub(super) struct Refill {
    pub(super) redis: Arc<RedisHot>,
    pub(super) hot: Arc<Guarded>,
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
                    if self.hot.owes() {
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

    /// A warm tier is known by who was first heard, and when.
    async fn adopt(&self) -> Result<(), TierError> {
        let gateways = self.warm.gateways().await?;
        let first = gateways.iter().min_by_key(|g| (g.first_heard, &g.gateway));
        let warm = first.map(|g| format!("{} {}", g.gateway, g.first_heard.0));
        self.redis.adopt(warm.as_deref()).await
    }

    /// Whether it is done, otherwise something was lost meanwhile; and how many readings went there.
    pub(super) async fn fill(&self) -> Result<(bool, u64), TierError> {
        let _turn = self.turn.lock().await;
        self.hot.recover().await?;
        if !self.redis.lacks().await? {
            return Ok((true, 0));
        }
        let started = Instant::now();
        let series: Vec<SeriesId> = self.warm.series(None).await?.iter().map(|s| s.id).collect();
        // From here on whatever the hot tier lost is in the warm tier, or is put again.
        self.followed.begin_again().await;
        self.appended.send_replace(());
        let Filled { readings, buckets, left, full } = self.redis.fill(&series, &FromWarm(self.warm.clone())).await?;
        metrics::counter!("collector_hot_filled_total").increment(readings);
        let seconds = started.elapsed().as_secs();
        tracing::info!(readings, buckets, left, full, seconds, "the hot tier is filled from the warm tier");
        Ok((full || left == 0, readings))
    }
}
