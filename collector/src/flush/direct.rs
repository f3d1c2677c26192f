//! Readings that come from people and files: written at once, past the spool. Only what is committed is shown.

use super::Flusher;
use crate::tiers::{CommitReport, Flush, TierError, TierFuture};
use std::sync::Arc;

/// Stores what comes past the spool.
pub type Write = Arc<dyn Fn(Flush) -> TierFuture<'static, CommitReport> + Send + Sync>;

/// Readings of one transaction.
const ROWS: usize = 50_000;

impl Flusher {
    /// [`Flusher::write`] for those who needn't know the flusher.
    #[must_use]
    pub fn writing(self: &Arc<Self>) -> Write {
        let flusher = Arc::clone(self);
        Arc::new(move |flush| {
            let flusher = Arc::clone(&flusher);
            Box::pin(async move { flusher.write(flush).await })
        })
    }

    /// Stores a flush that no block is settled by. Its readings go first, in transactions of some size, and everything else
    /// with the last of them. When it returns all is committed; when it fails some may be, and trying again changes nothing
    /// about that.
    ///
    /// # Errors
    /// When the warm tier or the disk doesn't take it.
    pub async fn write(&self, mut flush: Flush) -> Result<CommitReport, TierError> {
        let mut sum = CommitReport::default();
        let mut readings = std::mem::take(&mut flush.readings);
        while readings.len() > ROWS {
            let later = readings.split_off(ROWS);
            let readings = std::mem::replace(&mut readings, later);
            sum.add(self.write_some(Flush { readings, ..Flush::default() }).await?);
        }
        sum.add(self.write_some(Flush { readings, ..flush }).await?);
        Ok(sum)
    }

    async fn write_some(&self, flush: Flush) -> Result<CommitReport, TierError> {
        let _turn = self.followed.flushing.lock().await;
        let report = self.store(flush).await?;
        self.dirty.notify_one();
        Ok(report)
    }
}
