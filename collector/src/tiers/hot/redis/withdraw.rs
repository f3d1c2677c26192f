//! Readings that were put and then refused. Their series are doubted meanwhile: a newest value that goes leaves the one
//! before it to be found, and whoever dies in between leaves that to a filling.

use super::Inner;
use super::batch::{Batch, batches, bucket_of};
use super::record::{self, HOUR};
use crate::tiers::{SeriesId, StoredReading, TierError};
use futures::future::try_join_all;
use std::collections::BTreeSet;

impl Inner {
    pub(super) async fn withdraw(&self, readings: &[StoredReading]) -> Result<(), TierError> {
        let doubt = self.doubt(readings).await?;
        let batches = batches(readings, self.horizon());
        try_join_all(batches.iter().map(|batch| self.take_out(batch, readings))).await?;
        let series: BTreeSet<SeriesId> = readings.iter().map(|reading| reading.series).collect();
        let left = try_join_all(series.into_iter().map(|id| self.newest_held(id))).await?;
        // Putting it again changes nothing but the newest value.
        let left: Vec<_> = left.into_iter().flatten().collect();
        self.put_after(&left, &doubt).await
    }

    async fn take_out(&self, batch: &Batch, refused: &[StoredReading]) -> Result<(), TierError> {
        let mut call = self.call(&self.scripts.withdraw, batch.bucket);
        call.arg(batch.runs.len());
        for run in &batch.runs {
            call.arg(run.series.0).arg(run.hour).arg(&run.records[..]);
        }
        for reading in refused.iter().filter(|reading| bucket_of(reading.series) == batch.bucket) {
            call.arg(reading.series.0).arg(&record::newest(reading)[..]);
        }
        self.link.tell(&call).await
    }

    async fn newest_held(&self, series: SeriesId) -> Result<Option<StoredReading>, TierError> {
        let until = (self.now)().plus_micros(self.future_max + HOUR);
        let held = self.held(series, (self.horizon(), until)).await?;
        Ok(held.into_iter().max_by_key(record::newest))
    }
}
