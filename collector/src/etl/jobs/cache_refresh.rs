//! Every hour: the caches get what they lack. The hot tier is filled from the warm one, and rollups of past days are looked up
//! before someone asks for them.

use crate::etl::{Job, JobError, Now, Outcome, Progress};
use crate::tiers::cold::lost::counted;
use crate::tiers::hot::days::{DAY, DayCache, SeriesDay, ToKeep};
use crate::tiers::{Bucket, SeriesId, TierError, TierFuture, WarmTier};
use futures::future::BoxFuture;
use shared::reading::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Days that are looked up in one run: half of what fits into memory, so that questions have room, too.
const DAYS_MAX: usize = 1_000;
/// So many days back: what charts show beside today.
const DAYS_BACK: i64 = 8;

/// Fills the hot tier; gives how many readings went there.
pub type Fill = Arc<dyn Fn() -> TierFuture<'static, u64> + Send + Sync>;

/// The job.
pub struct CacheRefresh {
    /// Where everything is.
    pub warm: Arc<dyn WarmTier>,
    /// Fills the hot tier.
    pub fill: Fill,
    /// Rollups of past days, if they are cached.
    pub days: Option<Arc<DayCache>>,
    /// The clock.
    pub now: Now,
}

/// What is looked up, the most wanted first: hours of all series day by day, then yesterday's five minutes.
fn plan(series: &[SeriesId], now: Timestamp) -> Vec<(SeriesDay, Bucket)> {
    let today = now.0.div_euclid(DAY);
    let hours = (1..=DAYS_BACK).map(|back| (back, Bucket::Hour));
    let widths = hours.chain([(1, Bucket::FiveMinutes)]);
    let all = widths.flat_map(|(back, width)| {
        series.iter().map(move |series| (SeriesDay { series: *series, day: today - back }, width))
    });
    all.take(DAYS_MAX).collect()
}

/// Those that were asked for most often come first.
fn by_demand(mut series: Vec<SeriesId>, asked: &HashMap<SeriesId, u64>) -> Vec<SeriesId> {
    series.sort_by_key(|series| (std::cmp::Reverse(asked.get(series).copied().unwrap_or(0)), *series));
    series
}

impl CacheRefresh {
    async fn look_up(&self, cache: &DayCache, progress: &Progress) -> Result<u64, TierError> {
        let series = self.warm.series(None).await?.into_iter().map(|series| series.id).collect();
        let now = (self.now)();
        let wanted = plan(&by_demand(series, &cache.asked()), now);
        progress.of(wanted.len() as u64);
        let mut kept = 0;
        for (of, bucket) in wanted {
            if let Some(Err(Some(version))) = cache.look(of.series, &[of.day], bucket, now).await.pop() {
                let (from, to) = (Timestamp(of.day * DAY), Timestamp((of.day + 1) * DAY));
                self.warm.catch_up().await?; // to what gave it that version
                let found = self.warm.rollups(of.series, bucket, from, to).await?;
                if found.dirty.is_empty() {
                    cache.keep(of.series, bucket, &[ToKeep { day: of.day, version, what: &found.clean }]).await;
                    kept += 1;
                }
            }
            progress.step();
        }
        Ok(kept)
    }

    async fn work(&self, progress: &Progress) -> Result<Outcome, JobError> {
        let filled = (self.fill)().await;
        let kept = match &self.days {
            Some(cache) => self.look_up(cache, progress).await?,
            None => 0,
        };
        metrics::counter!("collector_cache_days_refreshed_total").increment(kept);
        let readings = filled?;
        let detail = format!("{readings} readings into the hot tier, {} of rollups looked up", counted(kept));
        Ok(Outcome { rows: readings, detail })
    }
}

impl Job for CacheRefresh {
    fn name(&self) -> &'static str {
        "cache_refresh"
    }
    fn what(&self) -> &'static str {
        "fill the hot tier, and look up past days of rollups before someone asks"
    }
    fn limit(&self) -> Duration {
        Duration::from_secs(3_600)
    }
    fn run<'a>(&'a self, progress: &'a Progress) -> BoxFuture<'a, Result<Outcome, JobError>> {
        Box::pin(self.work(progress))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_wanted_come_first_and_it_ends() {
        let asked = HashMap::from([(SeriesId(3), 9), (SeriesId(2), 1)]);
        let order = by_demand(vec![SeriesId(1), SeriesId(2), SeriesId(3)], &asked);
        assert_eq!(order, [SeriesId(3), SeriesId(2), SeriesId(1)]);
        let found = plan(&order, Timestamp(10 * DAY + 5));
        assert_eq!(found.len(), 3 * 9);
        assert_eq!(found[0], (SeriesDay { series: SeriesId(3), day: 9 }, Bucket::Hour));
        assert_eq!(found[26], (SeriesDay { series: SeriesId(1), day: 9 }, Bucket::FiveMinutes));
        let many: Vec<SeriesId> = (0..5_000).map(SeriesId).collect();
        assert_eq!(plan(&many, Timestamp(10 * DAY)).len(), DAYS_MAX);
    }
}
