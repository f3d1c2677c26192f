//! Answers in buckets: stored rollups, and readings where they are not right.

use super::around::around;
use super::older::{Archived, Older, Said};
use super::{Answer, BucketPoint, CarriedIn, History, Notes, Points, Question, Width, share};
use crate::rollup::{Rollup, Span, hold};
use crate::tiers::{Bucket, Rollups, SeriesId, StoredReading, TierError, merge};
use shared::reading::Timestamp;
use std::collections::BTreeMap;

/// Dirty buckets that are read at once, so that memory stays bounded however long the stretch is.
const AT_ONCE: usize = 12;

type Sums = BTreeMap<Timestamp, Rollup>;

impl History {
    pub(super) async fn buckets(&self, question: &Question, width: Width) -> Result<Answer, TierError> {
        let hold = hold(question.series.interval_ms, question.series.silence_ms_max);
        let from = width.start_of(question.from);
        let wanted = width.count(question.from, question.to);
        let truncated = wanted > u64::from(question.points_max);
        let count = wanted.min(u64::from(question.points_max)) as i64;
        let to = from.plus_micros(count.saturating_mul(width.micros()));
        let mut notes = Notes::default();

        let (sums, carried) = futures::join!(
            self.sums(question, width.base(), (from, to), &mut notes),
            self.carried_in(&question.series, from)
        );
        let CarriedIn { mut open, mut before } = notes.hear(carried);
        let sums = widen(sums?, |at| width.start_of(at), hold);
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
            thinned_from: None,
            coverage: share(covered, to.min(question.now).since(from)),
            recomputed: notes.recomputed,
            degraded: notes.degraded,
        })
    }

    /// The sums of a stretch that begins and ends with a bucket.
    async fn sums(
        &self,
        question: &Question,
        base: Bucket,
        (from, to): (Timestamp, Timestamp),
        notes: &mut Notes,
    ) -> Result<Sums, TierError> {
        let series = question.series.id;
        let hold = hold(question.series.interval_ms, question.series.silence_ms_max);
        let mut sums = Sums::new();
        let seam = match self.hot_part(series, (from, to), notes).await {
            Some((begins, newer)) => {
                // The bucket the hot tier's part begins in is made from readings of both.
                let seam = base.start_of(begins);
                let older = if seam < begins {
                    self.older(series, (seam, begins), u32::MAX, notes).await?.readings
                } else {
                    Vec::new()
                };
                sum_up(&mut sums, base, &merge(older, newer), hold);
                seam
            }
            None => to,
        };
        if from < seam {
            sums.extend(self.sums_of_older(series, base, (from, seam), hold, question.now, notes).await?);
        }
        Ok(sums)
    }

    /// Stored rollups, which outlive the readings they were made from, and what is out of date summed up anew. When the
    /// warm tier is down, the archive sums up what it has.
    async fn sums_of_older(
        &self,
        series: SeriesId,
        base: Bucket,
        (from, to): (Timestamp, Timestamp),
        hold: i64,
        now: Timestamp,
        notes: &mut Notes,
    ) -> Result<Sums, TierError> {
        let Rollups { clean, dirty } = match self.rollups(series, base, (from, to), now).await {
            Ok(stored) => stored,
            Err(error) => {
                let cold = self.archived_sums(series, base, (from, to), hold).await;
                return Ok(match self.said::<(), _>(Err(error), cold, (from, to, to), notes)? {
                    Said::Cold(cold) => cold.found.into_iter().collect(),
                    Said::Warm(..) | Said::Nothing => Sums::new(),
                });
            }
        };
        notes.warm |= from < to;
        let mut sums: Sums = clean.into_iter().collect();
        for run in in_runs(&dirty, base) {
            if let Some(anew) = self.sums_of_dirty(series, base, run, hold, now, notes).await? {
                sums.extend(anew);
                notes.recomputed = notes.recomputed.saturating_add(run.len() as u32);
            }
        }
        Ok(sums)
    }

    /// Neighbouring buckets summed up from their readings; hours from their 5 minutes, of which most are right. `None`
    /// when some of the readings are not to be had: a sum of the others would be a wrong number.
    async fn sums_of_dirty(
        &self,
        series: SeriesId,
        base: Bucket,
        buckets: &[Timestamp],
        hold: i64,
        now: Timestamp,
        notes: &mut Notes,
    ) -> Result<Option<Sums>, TierError> {
        let parts = match base {
            Bucket::FiveMinutes => Ok(Rollups { clean: Vec::new(), dirty: buckets.to_vec() }),
            Bucket::Hour => self.rollups(series, Bucket::FiveMinutes, stretch(buckets, base), now).await,
        };
        let Rollups { clean, dirty } = match parts {
            Ok(parts) => parts,
            Err(error) => {
                let (from, to) = stretch(buckets, base);
                notes.lacks(format!("{error}: what is between {from} and {to} is missing"));
                return Ok(None);
            }
        };
        let mut sums: Sums = clean.into_iter().collect();
        for run in in_runs(&dirty, Bucket::FiveMinutes) {
            let run = stretch(run, Bucket::FiveMinutes);
            let Older { readings, whole } = self.older(series, run, u32::MAX, notes).await?;
            if !whole {
                return Ok(None);
            }
            sum_up(&mut sums, Bucket::FiveMinutes, &readings, hold);
        }
        Ok(Some(widen(sums, |at| base.start_of(at), hold)))
    }

    async fn archived_sums(
        &self,
        series: SeriesId,
        base: Bucket,
        (from, to): (Timestamp, Timestamp),
        hold: i64,
    ) -> Result<Archived<Vec<(Timestamp, Rollup)>>, TierError> {
        let Some(cold) = self.cold.as_ref().filter(|_| from < to) else { return Ok(self.no_archive(from, to)) };
        let sums = around((from, to), u32::MAX, |from, to, _| cold.aggregate(series, base, from, to, hold));
        let (found, days) = futures::join!(sums, self.held_days(from, to, None));
        Ok(Archived::of(found?, days?, None))
    }
}

/// Runs of neighbouring buckets that are read at once.
fn in_runs(buckets: &[Timestamp], base: Bucket) -> impl Iterator<Item = &[Timestamp]> {
    buckets.chunk_by(move |a, b| b.since(*a) == base.micros()).flat_map(|run| run.chunks(AT_ONCE))
}

/// Where a run begins and where it ends.
fn stretch(run: &[Timestamp], base: Bucket) -> (Timestamp, Timestamp) {
    (run[0], run[run.len() - 1].plus_micros(base.micros()))
}

fn sum_up(sums: &mut Sums, base: Bucket, readings: &[StoredReading], hold: i64) {
    for within in readings.chunk_by(|a, b| base.start_of(a.at) == base.start_of(b.at)) {
        if let Some(sum) = Rollup::of_all(within.iter().map(|r| (r.at, &r.held)), hold) {
            sums.insert(base.start_of(within[0].at), sum);
        }
    }
}

/// Buckets merged into wider ones.
fn widen(sums: Sums, start_of: impl Fn(Timestamp) -> Timestamp, hold: i64) -> Sums {
    let mut wide = Sums::new();
    for (start, sum) in sums {
        wide.entry(start_of(start)).and_modify(|kept| *kept = kept.then(&sum, hold)).or_insert(sum);
    }
    wide
}
