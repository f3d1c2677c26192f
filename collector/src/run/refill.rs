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
/// After so long without a filling the next loss is the first one again.
const CALM: Duration = Duration::from_secs(300);

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
        let mut pace = Pace::default();
        loop {
            lost.mark_unchanged();
            let done = self.fill().await;
            if let Err(error) = &done {
                tracing::debug!(%error, "the hot tier is not filled yet");
            }
            let next = pace.next(done, Instant::now());
            if !self.wait(&mut lost, next).await {
                return;
            }
        }
    }

    /// Waits until something is lost or owed and it may be filled again, or it must be; false when the tier is gone.
    async fn wait(&self, lost: &mut watch::Receiver<u64>, Next { not_before, mut due }: Next) -> bool {
        while due.is_none_or(|due| Instant::now() < due) {
            let look = Instant::now() + LOOK;
            let wanted = tokio::select! {
                () = tokio::time::sleep_until(due.map_or(look, |due| due.min(look))) => {
                    self.hot.try_again().await;
                    // What it is owed raises what it can prove: then it lacks something.
                    self.settle().await.unwrap_or(false).then(Instant::now)
                }
                changed = lost.changed() => match changed {
                    Ok(()) => Some(Instant::now() + GATHER),
                    Err(_) => return false,
                },
            };
            let wanted = wanted.map(|at| at.max(not_before));
            due = [due, wanted].into_iter().flatten().min();
        }
        true
    }

    /// It is asked only when it is this warm tier's, and has been told what it missed.
    async fn adopt(&self) -> Result<(), TierError> {
        self.redis.belong_to(&self.warm.hot().account().await?.id).await?;
        self.settle().await?;
        self.redis.adopt();
        Ok(())
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

    /// `None`: it lacked nothing.
    pub(super) async fn fill(&self) -> Result<Option<Filled>, TierError> {
        let _turn = self.turn.lock().await;
        self.settle().await?;
        let seen = self.redis.look().await?;
        if !seen.lacks {
            return Ok(None);
        }
        let started = Instant::now();
        // From here on whatever the hot tier lost before that look is in the warm tier, or is put again, by everybody.
        self.followed.begin(self.warm.hot().begin_epoch().await?);
        self.appended.send_replace(());
        let series: Vec<SeriesId> = self.warm.series(None).await?.iter().map(|s| s.id).collect();
        let source = FromWarm(self.warm.clone());
        let filled = self.redis.fill(&seen, &series, &source).await?;
        let Filled { readings, buckets, left, full } = filled;
        metrics::counter!("collector_hot_filled_total").increment(readings);
        let seconds = started.elapsed().as_secs();
        tracing::info!(readings, buckets, left, full, seconds, "the hot tier is filled from the warm tier");
        Ok(Some(filled))
    }
}

/// When it is filled the next time.
struct Next {
    /// Whatever is lost meanwhile.
    not_before: Instant,
    /// At the latest; `None`: when something is lost.
    due: Option<Instant>,
}

/// How soon it may be filled again. Every filling reads a day out of the warm tier: a server that drops what it was just
/// given must not make that go round and round.
struct Pace {
    filled: Backoff,
    failed: Backoff,
    last: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        let backoff = || Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        Self { filled: backoff(), failed: backoff(), last: None }
    }
}

impl Pace {
    fn next(&mut self, done: Result<Option<Filled>, TierError>, now: Instant) -> Next {
        match done {
            // It was away: what comes back is filled at once.
            Err(_) => Next { not_before: now, due: Some(now + self.failed.pause()) },
            Ok(None) => Next { not_before: now, due: None },
            Ok(Some(Filled { left, full, .. })) => {
                self.failed.reset();
                if self.last.is_none_or(|last| now - last > CALM) {
                    self.filled.reset();
                }
                self.last = Some(now);
                let again = now + self.filled.pause();
                Next { not_before: again, due: (left > 0 && !full).then_some(again) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fillings_that_follow_each_other_take_their_time() {
        let mut pace = Pace::default();
        let filled = || Ok(Some(Filled { readings: 1, ..Filled::default() }));
        let began = Instant::now();
        let mut now = began;
        for _ in 0..20 {
            let Next { not_before, due } = pace.next(filled(), now);
            assert_eq!(due, None);
            now = not_before;
        }
        assert!(now - began > Duration::from_secs(300), "{:?}", now - began);
        assert_eq!(pace.next(Ok(None), now).not_before, now, "nothing was read");
        now += CALM + Duration::from_secs(1);
        assert!(pace.next(filled(), now).not_before - now < Duration::from_secs(3), "it was long ago");
    }
}
