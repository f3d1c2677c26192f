//! Answers in buckets: stored rollups, and readings where a rollup isn't there yet.

use super::{Answer, BucketPoint, History, Notes, Points, Question, Width, merge, share};
use crate::rollup::{Rollup, Span, hold};
use crate::tiers::{Bucket, SeriesId, StoredReading, TierError};
use shared::reading::Timestamp;
use std::collections::BTreeMap;

/// Dirty buckets that are read at once, so that memory stays bounded however long the stretch is.
const AT_ONCE: usize = 12;

type Sums = BTreeMap<Timestamp, Rollup>;

impl History {
    pub(super) async fn buckets(&self, question: &Question, width: Width) -> Result<Answer, TierError> {
        let series = question.series.id;
        let hold = hold(question.series.interval_ms, question.series.silence_ms_max);
        let from = width.start_of(question.from);
        let wanted = width.count(question.from, question.to);
        let truncated = wanted > u64::from(question.points_max);
        let count = wanted.min(u64::from(question.points_max)) as i64;
        let to = from.plus_micros(count.saturating_mul(width.micros()));
        let mut notes = Notes::default();

        let mut sums = Sums::new();
        let base = width.base();
        let seam = match self.hot_part(series, (from, to), &mut notes).await {
            Some((begins, newer)) => {
                // The bucket the hot tier's part begins in is made from readings of both.
                let seam = base.start_of(begins);
                let older = self.before_hot(series, (seam, begins), &mut notes).await;
                sum_up(&mut sums, base, &merge(older, newer), hold);
                seam
            }
            None => to,
        };
        if from < seam {
            match self.sums_of_warm(series, base, (from, seam), hold, question.now, &mut notes).await {
                Ok(older) => {
                    notes.warm = true;
                    sums.extend(older);
                }
                Err(error) if notes.hot => notes.degraded.push(format!("{error}: what is before {seam} is missing")),
                Err(error) => return Err(error),
            }
        }
        let (mut open, mut before) = self.carried_in(&question.series, from, &mut notes).await;
        let sums = widen(sums, width, hold);
        let mut points = Vec::new();
        let mut covered = 0;
        for n in 0..count {
            let start = from.plus_micros(n * width.micros());
            let end = start.plus_micros(width.micros()).min(question.now).max(start);
            let rollup = sums.get(&start).copied();
            let span = Span::new((start, end), rollup.as_ref(), open, before, hold);
            if let Some(rollup) = &rollup {
                open = rollup.open();
                before = rollup.usable.map(|u| u.last).or(before);
            }
            covered += span.covered;
            if rollup.is_some() || span.covered > 0 {
                points.push(BucketPoint { start, rollup, span });
            }
        }
        Ok(Answer {
            points: Points::Buckets(width, points),
            from,
            to,
            truncated,
            tiers: notes.tiers(),
            coverage: share(covered, to.min(question.now).since(from)),
            recomputed: notes.recomputed,
            degraded: notes.degraded,
        })
    }

    /// The warm tier's readings of the bucket in which the hot tier's part begins.
    async fn before_hot(
        &self,
        series: SeriesId,
        (from, to): (Timestamp, Timestamp),
        notes: &mut Notes,
    ) -> Vec<StoredReading> {
        if from >= to {
            return Vec::new();
        }
        match self.warm.range(series, from, to, u32::MAX).await {
            Ok(readings) => {
                notes.warm = true;
                readings
            }
            Err(error) => {
                notes.degraded.push(format!("{error}: what is from {from} to {to} is missing"));
                Vec::new()
            }
        }
    }

    /// Stored rollups, and dirty buckets summed up from their readings.
    async fn sums_of_warm(
        &self,
        series: SeriesId,
        base: Bucket,
        (from, to): (Timestamp, Timestamp),
        hold: i64,
        now: Timestamp,
        notes: &mut Notes,
    ) -> Result<Sums, TierError> {
        let stored = self.rollups(series, base, (from, to), now).await?;
        let mut sums: Sums = stored.clean.into_iter().collect();
        for run in stored.dirty.chunk_by(|a, b| b.since(*a) == base.micros()).flat_map(|run| run.chunks(AT_ONCE)) {
            let end = run[run.len() - 1].plus_micros(base.micros());
            let readings = self.warm.range(series, run[0], end, u32::MAX).await?;
            sum_up(&mut sums, base, &readings, hold);
            notes.recomputed = notes.recomputed.saturating_add(run.len() as u32);
        }
        Ok(sums)
    }
}

fn sum_up(sums: &mut Sums, base: Bucket, readings: &[StoredReading], hold: i64) {
    for within in readings.chunk_by(|a, b| base.start_of(a.at) == base.start_of(b.at)) {
        if let Some(sum) = Rollup::of_all(within.iter().map(|r| (r.at, &r.held)), hold) {
            sums.insert(base.start_of(within[0].at), sum);
        }
    }
}

/// Base buckets merged into those that were asked for.
fn widen(sums: Sums, width: Width, hold: i64) -> Sums {
    let mut wide = Sums::new();
    for (start, sum) in sums {
        wide.entry(width.start_of(start)).and_modify(|kept| *kept = kept.then(&sum, hold)).or_insert(sum);
    }
    wide
}
