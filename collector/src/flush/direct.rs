//! Readings that come from people and files: written at once, past the spool, with the same order of steps as a flush.

use super::{FlushError, Flusher};
use crate::tiers::{Audited, CommitReport, Flush, StoredReading, TierError};

/// Readings of one transaction.
const ROWS: usize = 50_000;

impl Flusher {
    /// Stores these and what is said about them, which stands with the first of them. When it returns they are committed;
    /// when it fails some may be, and trying again changes nothing about those.
    ///
    /// # Errors
    /// When the warm tier or the disk doesn't take them.
    pub async fn write(&self, readings: Vec<StoredReading>, audit: Vec<Audited>) -> Result<CommitReport, TierError> {
        let mut sum = CommitReport::default();
        let mut flush = Flush { audit, ..Flush::default() };
        let mut rest = readings.as_slice();
        loop {
            let (now, later) = rest.split_at(rest.len().min(ROWS));
            flush.readings = now.to_vec();
            let report = self.write_some(std::mem::take(&mut flush)).await?;
            sum.written += report.written;
            sum.unchanged += report.unchanged;
            sum.dirty += report.dirty;
            if later.is_empty() {
                return Ok(sum);
            }
            rest = later;
        }
    }

    async fn write_some(&self, flush: Flush) -> Result<CommitReport, TierError> {
        let _turn = self.followed.flushing.lock().await;
        let put = self.put_or_owe(flush.readings.clone()).await;
        put.map_err(|error| match error {
            FlushError::Tier(error) => error,
            other => TierError::Unavailable { tier: "disk", why: other.to_string() },
        })?;
        let touched = self.begin_days(flush.readings.iter()).await;
        let report = self.warm.commit(flush).await?;
        self.end_days(&touched).await;
        self.dirty.notify_one();
        Ok(report)
    }
}
