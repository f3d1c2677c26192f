//! Newest values on their way to the collector: neither durable nor acknowledged, so that 'latest' doesn't wait for
//! a block. Bounded by the number of points.

use shared::block::Row;
use shared::catalogue::PointNo;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Newest values that no collector was told yet.
#[derive(Debug, Default)]
pub struct Live {
    wanted: AtomicBool,
    rows: Mutex<BTreeMap<PointNo, Row>>,
}

impl Live {
    /// Somebody listens, or nobody does: then nothing is kept.
    pub fn listen(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Relaxed);
        if !wanted {
            self.rows.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// Notes newest values.
    pub fn put(&self, rows: &[Row]) {
        if rows.is_empty() || !self.wanted.load(Ordering::Relaxed) {
            return;
        }
        let mut newest = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            let held = newest.entry(row.point).or_insert(*row);
            if held.at <= row.at {
                *held = *row;
            }
        }
    }

    /// Takes up to `count_max` of them.
    #[must_use]
    pub fn take(&self, count_max: usize) -> Vec<Row> {
        let mut newest = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| newest.pop_first().map(|(_, row)| row)).take(count_max).collect()
    }
}
