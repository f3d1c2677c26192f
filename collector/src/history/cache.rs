//! Rollups of past days, from the cache where they are there.

use super::History;
use crate::tiers::hot::days::{DAY, DayCache, ToKeep};
use crate::tiers::{Bucket, Rollups, SeriesId, TierError};
use shared::reading::Timestamp;
use std::sync::Arc;

/// A stretch of more days is asked of the warm tier: it takes no longer than so many look-ups.
const DAYS_MAX: i64 = 400;

/// A stretch that the warm tier is asked for, and which days of it may be kept, under which version.
#[derive(Default)]
struct Gap {
    span: Option<(Timestamp, Timestamp)>,
    days: Vec<(i64, u64)>,
}

impl History {
    /// With a cache. Whoever commits must tell it, too.
    #[must_use]
    pub fn with_days(self, days: Option<Arc<DayCache>>) -> Self {
        Self { days, ..self }
    }

    /// What the warm tier says of these buckets.
    pub(super) async fn rollups(
        &self,
        series: SeriesId,
        base: Bucket,
        (from, to): (Timestamp, Timestamp),
        now: Timestamp,
    ) -> Result<Rollups, TierError> {
        let (first, last) = (from.0.div_euclid(DAY), to.plus_micros(-1).0.div_euclid(DAY));
        let Some(cache) = self.days.as_deref().filter(|_| from < to && last - first < DAYS_MAX) else {
            return self.warm.rollups(series, base, from, to).await;
        };
        cache.ask(series);
        let is_whole = |day: &i64| from.0 <= day * DAY && (day + 1) * DAY <= to.0;
        let whole: Vec<i64> = (first..=last).filter(is_whole).collect();
        let mut found = cache.find(series, &whole, base, now).await.into_iter();
        let (mut rollups, mut gap) = (Rollups::default(), Gap::default());
        for day in first..=last {
            let of_day = if is_whole(&day) { found.next().unwrap_or(Err(None)) } else { Err(None) };
            match of_day {
                Ok(kept) => {
                    self.close(cache, series, base, &mut gap, &mut rollups).await?;
                    rollups.clean.extend(kept);
                }
                Err(version) => {
                    let begins = gap.span.map_or(from.max(Timestamp(day * DAY)), |(begins, _)| begins);
                    gap.span = Some((begins, to.min(Timestamp((day + 1) * DAY))));
                    gap.days.extend(version.map(|version| (day, version)));
                }
            }
        }
        self.close(cache, series, base, &mut gap, &mut rollups).await?;
        Ok(rollups)
    }

    /// Asks the warm tier for a stretch, and keeps the days of which nothing is out of date.
    async fn close(
        &self,
        cache: &DayCache,
        series: SeriesId,
        base: Bucket,
        gap: &mut Gap,
        rollups: &mut Rollups,
    ) -> Result<(), TierError> {
        let Gap { span: Some((from, to)), mut days } = std::mem::take(gap) else { return Ok(()) };
        // A replica may not have yet what gave a day its version.
        if !days.is_empty() && self.warm.catch_up().await.is_err() {
            days.clear();
        }
        let found = self.warm.rollups(series, base, from, to).await?;
        let right = |(day, version): (i64, u64)| {
            let is_dirty = found.dirty.iter().any(|start| start.0.div_euclid(DAY) == day);
            let before = |end: i64| found.clean.partition_point(|(start, _)| start.0.div_euclid(DAY) < end);
            (!is_dirty).then(|| ToKeep { day, version, what: &found.clean[before(day)..before(day + 1)] })
        };
        cache.keep(series, base, &days.into_iter().filter_map(right).collect::<Vec<_>>()).await;
        rollups.clean.extend(found.clean);
        rollups.dirty.extend(found.dirty);
        Ok(())
    }
}
