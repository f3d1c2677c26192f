//! What is put, sorted by bucket, series and hour. Pure.

use super::record::{self, HOUR, NEWEST, hour_of};
use crate::tiers::{SeriesId, StoredReading};
use shared::reading::Timestamp;
use std::collections::BTreeMap;

/// Series are dealt out to so many buckets: the keys of one lie together in a cluster. Never change it: the number is
/// part of where things lie.
pub(super) const BUCKETS: u32 = 64;
/// Most bytes of records in one call, so that none holds up Redis for long.
const BYTES_MAX: usize = 256 << 10;
/// Most runs in one call, likewise.
const RUNS_MAX: usize = 1_000;

/// The bucket of a series.
pub(super) fn bucket_of(series: SeriesId) -> u32 {
    series.0 % BUCKETS
}

/// Records of one series and hour.
#[derive(Debug, PartialEq)]
pub(super) struct Run {
    pub(super) series: SeriesId,
    pub(super) hour: i64,
    pub(super) records: Vec<u8>,
}

/// One call's worth, of one bucket.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Batch {
    pub(super) bucket: u32,
    pub(super) runs: Vec<Run>,
    pub(super) newest: Vec<(SeriesId, [u8; NEWEST])>,
}

/// Readings before `horizon` are only looked at for the newest.
pub(super) fn batches(readings: &[StoredReading], horizon: Timestamp) -> Vec<Batch> {
    let mut runs = BTreeMap::<(u32, SeriesId, i64), Vec<u8>>::new();
    for reading in readings.iter().filter(|r| r.at >= horizon) {
        let key = (bucket_of(reading.series), reading.series, hour_of(reading.at));
        record::push(runs.entry(key).or_default(), reading);
    }
    let mut batches: Vec<Batch> = newest(readings);
    let mut sizes = vec![0; batches.len()];
    let mut place: BTreeMap<u32, usize> = batches.iter().enumerate().map(|(n, batch)| (batch.bucket, n)).collect();
    for ((bucket, series, hour), records) in runs {
        let mut n = place[&bucket]; // whatever has a run has a newest value
        if !batches[n].runs.is_empty() && (sizes[n] + records.len() > BYTES_MAX || batches[n].runs.len() >= RUNS_MAX) {
            n = batches.len();
            batches.push(Batch { bucket, ..Batch::default() });
            sizes.push(0);
            place.insert(bucket, n);
        }
        sizes[n] += records.len();
        batches[n].runs.push(Run { series, hour, records });
    }
    batches
}

/// Only the newest values.
pub(super) fn newest(readings: &[StoredReading]) -> Vec<Batch> {
    let mut newest = BTreeMap::<(u32, SeriesId), [u8; NEWEST]>::new();
    for reading in readings {
        let key = record::newest(reading);
        let kept = newest.entry((bucket_of(reading.series), reading.series)).or_insert(key);
        *kept = key.max(*kept);
    }
    let mut batches: Vec<Batch> = Vec::new();
    for ((bucket, series), key) in newest {
        match batches.last_mut() {
            Some(batch) if batch.bucket == bucket => batch.newest.push((series, key)),
            _ => batches.push(Batch { bucket, newest: vec![(series, key)], ..Batch::default() }),
        }
    }
    batches
}

impl Run {
    /// Milliseconds until nobody asks for it any more.
    pub(super) fn time_to_live(&self, now: Timestamp, age: i64) -> i64 {
        let end = (self.hour + 1) * HOUR;
        // An hour longer, so that what is claimed at the horizon's edge is still there.
        ((end - now.0).saturating_add(age).saturating_add(HOUR) / 1000).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiers::hot::redis::record::WIDTH;
    use shared::reading::{Held, Quality};

    fn reading(series: u32, at: i64) -> StoredReading {
        let held = Held { value: Some(1.0), quality: Quality::GOOD, revision: 0 };
        StoredReading { series: SeriesId(series), at: Timestamp(at), held }
    }

    #[test]
    fn one_call_for_a_bucket_and_one_run_for_a_series_and_hour() {
        let other_bucket = reading(2, 5);
        let all =
            [reading(1, 0), reading(1, HOUR), reading(1 + BUCKETS, 3), other_bucket, reading(1, 1), reading(1, -1)];
        let batches = batches(&all, Timestamp(0));
        let shape = |b: &Batch| {
            let runs: Vec<_> = b.runs.iter().map(|r| (r.series.0, r.hour, r.records.len() / WIDTH)).collect();
            (b.bucket, runs, b.newest.len())
        };
        let shapes: Vec<_> = batches.iter().map(shape).collect();
        assert_eq!(shapes, [(1, vec![(1, 0, 2), (1, 1, 1), (1 + BUCKETS, 0, 1)], 2), (2, vec![(2, 0, 1)], 1)]);
        assert_eq!(record::from_newest(SeriesId(1), &batches[0].newest[0].1), Some(reading(1, HOUR)));
    }

    #[test]
    fn no_call_is_large() {
        let many: Vec<_> = (0..100_000).map(|n| reading(BUCKETS * (n % 7), i64::from(n) * 1_000_000)).collect();
        let batches = batches(&many, Timestamp(0));
        let sizes: Vec<usize> = batches.iter().map(|b| b.runs.iter().map(|r| r.records.len()).sum()).collect();
        assert!(sizes.iter().all(|s| *s <= BYTES_MAX) && sizes.len() > 3, "{sizes:?}");
        assert_eq!(sizes.iter().sum::<usize>(), 100_000 * WIDTH);
        assert_eq!(batches.iter().map(|b| b.newest.len()).sum::<usize>(), 7);
    }
}
