//! The order of every commit: the hot tier gets the readings, or the commit says that it didn't; the caches of their days
//! are told; then the warm tier has them. When the hot tier lost something meanwhile, all of it once more.

use super::piece::Piece;
use super::{FlushError, Flusher};
use crate::tiers::hot::days::Touched;
use crate::tiers::{CommitReport, Flush, HotTier as _, HotTurn, StoredReading, TierError};
use shared::reading::Timestamp;

impl Flusher {
    /// Commits pieces of which the hot tier may have some already.
    pub(super) async fn commit_in_turn(&self, pieces: &[Piece]) -> Result<(), FlushError> {
        let all = || pieces.iter().flat_map(|piece| piece.content.readings());
        loop {
            let missing = pieces.iter().filter(|piece| !self.followed.has(piece.record));
            let missing: Vec<_> = missing.flat_map(|piece| piece.content.readings()).copied().collect();
            let (turn, touched) = self.begin(&missing, all).await;
            match self.commit(pieces, turn).await {
                Err(FlushError::Tier(TierError::Overtaken { epoch })) => self.overtaken(epoch).await?,
                Err(error) => return Err(error),
                Ok(()) => {
                    self.end(touched).await;
                    return Ok(());
                }
            }
        }
    }

    /// Commits a flush, none of whose readings the hot tier has.
    pub(super) async fn store(&self, mut flush: Flush) -> Result<CommitReport, TierError> {
        loop {
            let (turn, touched) = self.begin(&flush.readings, || flush.readings.iter()).await;
            flush.hot = Some(turn);
            match self.warm.commit(flush.clone()).await {
                Err(TierError::Overtaken { epoch }) => self.overtaken(epoch).await?,
                Err(error) => return Err(error),
                Ok(report) => {
                    self.end(touched).await;
                    return Ok(report);
                }
            }
        }
    }

    /// Puts what is missing, of all that will be committed.
    async fn begin<'a, I: Iterator<Item = &'a StoredReading>>(
        &self,
        missing: &[StoredReading],
        all: impl Fn() -> I,
    ) -> (HotTurn, Option<Touched>) {
        let epoch = self.followed.epoch(); // before the put
        let put = missing.is_empty() || self.hot.put(missing).await.is_ok();
        let touched = match &self.days {
            Some(days) => Some(days.begin(all(), Timestamp::wall_clock()).await),
            None => None,
        };
        let missed = if put && touched.as_ref().is_none_or(|touched| touched.told) {
            None
        } else {
            all().map(|reading| reading.at).max().map(|last| last.plus_micros(1))
        };
        if let Some(until) = missed {
            self.hot.pass_by(until);
        }
        (HotTurn { epoch, missed }, touched)
    }

    async fn end(&self, touched: Option<Touched>) {
        if let (Some(days), Some(touched)) = (&self.days, touched) {
            days.end(&touched).await;
        }
    }
}
