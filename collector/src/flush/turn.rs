//! The order of every commit: the hot tier gets the readings, or the commit says that it didn't; the caches of their days
//! are told; then the warm tier has them. What isn't in the spool is put into the hot tier last, and doubted first. When the
//! hot tier lost something meanwhile, all of it once more.

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

    /// Commits a flush that is nowhere else yet: the hot tier gets it afterwards, since what is refused must not show. Until
    /// then it proves nothing of that time, here and to other collectors.
    pub(super) async fn store(&self, mut flush: Flush) -> Result<CommitReport, TierError> {
        loop {
            let epoch = self.followed.epoch(); // before the doubt
            let doubt = self.hot.doubt(&flush.readings).await.ok();
            let (turn, touched) = self.tell(epoch, doubt.is_some(), || flush.readings.iter()).await;
            flush.hot = Some(turn);
            let stored = self.warm.commit(flush.clone()).await;
            let put: Option<&[StoredReading]> = match &stored {
                Ok(_) => Some(&flush.readings),
                Err(TierError::Overtaken { .. } | TierError::Broken { .. }) => Some(&[]),
                Err(_) => None,
            };
            match (put, doubt) {
                (Some(put), Some(doubt)) => drop(self.hot.put_after(put, doubt).await), // what it doesn't take stays in doubt
                (None, Some(doubt)) => self.hot.leave(doubt),
                (_, None) => {}
            }
            match stored {
                Err(TierError::Overtaken { epoch }) => self.overtaken(epoch).await?,
                Err(error) => return Err(error),
                Ok(report) => {
                    self.end(touched).await;
                    self.quarantine.count(&report);
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
        self.tell(epoch, put, all).await
    }

    /// Tells the caches; whether they and the hot tier, `told`, know of all that will be committed is the turn.
    async fn tell<'a, I: Iterator<Item = &'a StoredReading>>(
        &self,
        epoch: u64,
        told: bool,
        all: impl Fn() -> I,
    ) -> (HotTurn, Option<Touched>) {
        let touched = match &self.days {
            Some(days) => Some(days.begin(all(), Timestamp::wall_clock()).await),
            None => None,
        };
        let missed = if told && touched.as_ref().is_none_or(|touched| touched.told) {
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
