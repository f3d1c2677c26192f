//! What jobs read of series: rollups that are right, and one value for each hour.

use crate::analytics::hours::{Carried, hourly};
use crate::rollup::{Rollup, Sample, hold};
use crate::tiers::{Bucket, SeriesInfo, StoredReading, TierError, WarmTier};
use shared::reading::Timestamp;
use std::collections::BTreeMap;

/// Readings that are read at once.
const PAGE: u32 = 10_000;

/// The rollups of buckets that start in `from <= start < to`; those that are out of date are summed up from readings.
pub(super) async fn sums(
    warm: &dyn WarmTier,
    series: &SeriesInfo,
    bucket: Bucket,
    (from, to): (Timestamp, Timestamp),
) -> Result<BTreeMap<Timestamp, Rollup>, TierError> {
    let stored = warm.rollups(series.id, bucket, from, to).await?;
    let mut sums: BTreeMap<Timestamp, Rollup> = stored.clean.into_iter().collect();
    let hold = hold(series.interval_ms, series.silence_ms_max);
    // Neighbours are read in one go.
    for run in stored.dirty.chunk_by(|a, b| b.since(*a) == bucket.micros()) {
        let (mut next, end) = (run[0], run[run.len() - 1].plus_micros(bucket.micros()));
        loop {
            let page = warm.range(series.id, next, end, PAGE).await?;
            for StoredReading { at, held, .. } in &page {
                let one = Rollup::of(*at, held);
                sums.entry(bucket.start_of(*at)).and_modify(|sum| *sum = sum.then(&one, hold)).or_insert(one);
            }
            match page.last() {
                Some(last) if page.len() == PAGE as usize => next = last.at.plus_micros(1),
                _ => break,
            }
        }
    }
    Ok(sums)
}

/// The value of each full hour of `[from, to)` for which there is one.
pub(super) async fn hours(
    warm: &dyn WarmTier,
    series: &SeriesInfo,
    (from, to): (Timestamp, Timestamp),
) -> Result<Vec<Sample>, TierError> {
    let from = Bucket::Hour.start_of(from);
    let sums = sums(warm, series, Bucket::Hour, (from, to)).await?;
    let sample = |reading: StoredReading| {
        let value = reading.held.value.filter(|_| reading.held.quality.is_usable())?;
        Some(Sample { at: reading.at, value })
    };
    let open = warm.last_before(series.id, from, false).await?.and_then(sample);
    let before = if open.is_some() { open } else { warm.last_before(series.id, from, true).await?.and_then(sample) };
    let hold = hold(series.interval_ms, series.silence_ms_max);
    Ok(hourly(series.kind, hold, (from, to), &sums, Carried { open, before }))
}
