//! Readings go into the hot tier as soon as they are on disk, ahead of the warm tier's transactions. What can't be
//! put yet is left to the flusher, which commits nothing that the hot tier has neither got nor been told to forget.

use super::Flusher;
use super::piece::{self, Content, Parsed, Raw};
use crate::tiers::HotTier;
use shared::block::TimeBase;
use shared::ids::Seq;
use shared::ranges::SeqRanges;
use shared::spool::SpoolError;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A hot tier that isn't in this process is told not more often than this: a call costs it much, however little it brings.
pub const TOLD_EVERY: Duration = Duration::from_millis(100);
/// After an error of the disk.
const PAUSE: Duration = Duration::from_secs(1);

/// Records of the spool whose readings the hot tier has, and those that it mustn't get.
#[derive(Debug, Default)]
pub struct Followed {
    records: Mutex<Records>,
    /// One flush at a time.
    pub(super) flushing: tokio::sync::Mutex<()>,
    /// Held from when records are read until they are put.
    following: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Records {
    held: SeqRanges,
    /// Something of these is refused; they are still in the spool.
    refused: SeqRanges,
    /// The hot tier's epoch in which they were put there; 0: not known yet.
    epoch: u64,
}

impl Followed {
    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In which what is put now is put.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    /// Notes what was put in an epoch; what was put in an earlier one may be gone again.
    fn note(&self, records: &SeqRanges, epoch: u64) {
        let mut followed = self.lock();
        if followed.epoch == epoch {
            followed.held.extend(records);
        }
    }

    /// Whether the hot tier has it.
    #[must_use]
    pub fn has(&self, record: Seq) -> bool {
        self.lock().held.contains(record)
    }

    /// Something of a record is refused: from when this returns nobody puts it ahead, and nobody is about to.
    pub(super) async fn refuse(&self, record: Seq) {
        self.lock().refused.insert_one(record);
        drop(self.following.lock().await);
    }

    fn is_refused(&self, record: Seq) -> bool {
        self.lock().refused.contains(record)
    }

    /// Forgets what is committed.
    pub fn forget(&self, records: &SeqRanges) {
        let mut followed = self.lock();
        for range in records.iter() {
            followed.held.remove(range);
            followed.refused.remove(range);
        }
    }

    /// The hot tier lost something, and this epoch has begun: whatever is not committed is put again.
    pub fn begin(&self, epoch: u64) {
        let mut followed = self.lock();
        if followed.epoch < epoch {
            (followed.held, followed.epoch) = (SeqRanges::new(), epoch);
        }
    }
}

impl Flusher {
    /// Puts what comes into the hot tier, until `stop`.
    pub async fn follow(&self, mut appended: watch::Receiver<()>, stop: CancellationToken) {
        let (mut next, mut epoch) = (Seq::FIRST, 0);
        loop {
            if self.followed.epoch() != epoch {
                epoch = self.followed.epoch();
                next = Seq::FIRST;
            }
            let following = self.followed.following.lock().await;
            match self.read(next).await {
                Ok(raws) if raws.is_empty() => {
                    drop(following);
                    if !matches!(stop.run_until_cancelled(appended.changed()).await, Some(Ok(()))) {
                        return;
                    }
                }
                Ok(raws) => {
                    let began = Instant::now();
                    next = raws.last().map_or(next, |raw| raw.record.next());
                    self.put_ahead(raws).await;
                    drop(following);
                    if self.hot_is_shared {
                        stop.run_until_cancelled(tokio::time::sleep_until(began + TOLD_EVERY)).await;
                    }
                }
                Err(error) => {
                    drop(following);
                    tracing::error!(%error, "can't follow what is stored");
                    if stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                        return;
                    }
                }
            }
            if stop.is_cancelled() {
                return;
            }
        }
    }

    async fn put_ahead(&self, raws: Vec<Raw>) {
        if self.hot.is_down() {
            return; // the flusher finds out when it is back
        }
        let epoch = self.followed.epoch();
        let (mut records, mut readings) = (SeqRanges::new(), Vec::new());
        for raw in raws {
            // What is refused the flusher puts and withdraws.
            if self.followed.is_refused(raw.record) {
                continue;
            }
            // Times that need a clock fix are the flusher's business, and so is everything out of order.
            let utc = matches!(&raw.parsed, Parsed::Block { block: Ok(block), catalogue: Some(_), .. }
                if block.header.base == TimeBase::Utc);
            if !utc {
                continue;
            }
            let record = raw.record;
            if let Ok(piece) = self.prepare(raw).await
                && let Content::Rows { sorted, .. } = piece.content
            {
                records.insert_one(record);
                readings.extend(sorted.readings);
            }
        }
        if readings.is_empty() || self.hot.put(&readings).await.is_ok() {
            self.followed.note(&records, epoch);
        }
    }

    /// Reads and decodes off the runtime.
    pub(super) async fn read(&self, from: Seq) -> Result<Vec<Raw>, SpoolError> {
        let (spool, catalogues) = (self.spool.clone(), self.catalogues.clone());
        let reading = tokio::task::spawn_blocking(move || piece::read(&spool, &catalogues, from));
        reading.await.unwrap_or_else(|error| {
            let source = std::io::Error::other(error.to_string());
            Err(SpoolError::Io { what: "read the spool".into(), source: std::sync::Arc::new(source) })
        })
    }
}
