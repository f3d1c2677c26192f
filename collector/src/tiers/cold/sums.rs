//! Readings summed up by bucket as they come.

use crate::rollup::Rollup;
use crate::tiers::{Bucket, StoredReading};
use shared::reading::Timestamp;

/// The sums of ascending readings of one series.
pub(super) struct Sums {
    bucket: Bucket,
    hold_micros: i64,
    sums: Vec<(Timestamp, Rollup)>,
}

impl Sums {
    /// By `bucket`; a value holds for `hold_micros` at most.
    pub(super) fn new(bucket: Bucket, hold_micros: i64) -> Self {
        Self { bucket, hold_micros, sums: Vec::new() }
    }

    pub(super) fn add(&mut self, readings: &[StoredReading]) {
        for reading in readings {
            let (start, one) = (self.bucket.start_of(reading.at), Rollup::of(reading.at, &reading.held));
            match self.sums.last_mut() {
                Some((last, sum)) if *last == start => *sum = sum.then(&one, self.hold_micros),
                _ => self.sums.push((start, one)),
            }
        }
    }

    /// All of them, ascending by start.
    pub(super) fn all(self) -> Vec<(Timestamp, Rollup)> {
        self.sums
    }
}
