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
use tokio_util::sync::CancellationToken;

/// After an error of the disk.
const PAUSE: Duration = Duration::from_secs(1);

/// Records of the spool whose readings the hot tier has.
#[derive(Debug, Default)]
pub struct Followed {
    records: Mutex<Records>,
    /// Held by a flush from the look at what the hot tier has until the commit.
    pub(super) flushing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Records {
    held: SeqRanges,
    /// Counts how often the hot tier lost something.
    losses: u64,
}

impl Followed {
    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn losses(&self) -> u64 {
        self.lock().losses
    }

    /// Notes what was put since that many losses; what was put before another one may be gone again.
    fn note(&self, records: &SeqRanges, losses: u64) {
        let mut followed = self.lock();
        if followed.losses == losses {
            followed.held.extend(records);
        }
    }

    /// Whether the hot tier has it.
    #[must_use]
    pub fn has(&self, record: Seq) -> bool {
        self.lock().held.contains(record)
    }

    /// Forgets what is committed.
    pub fn forget(&self, records: &SeqRanges) {
        let mut followed = self.lock();
        records.iter().for_each(|range| followed.held.remove(range));
    }

    /// The hot tier lost something: whatever is not committed when this returns is put again, before it is committed.
    pub async fn begin_again(&self) {
        let _no_flush = self.flushing.lock().await;
        let mut followed = self.lock();
        followed.held = SeqRanges::new();
        followed.losses += 1;
    }
}

impl Flusher {
    /// Puts what comes into the hot tier, until `stop`.
    pub async fn follow(&self, mut appended: watch::Receiver<()>, stop: CancellationToken) {
        let (mut next, mut losses) = (Seq::FIRST, 0);
        loop {
            if self.followed.losses() != losses {
                losses = self.followed.losses();
                next = Seq::FIRST;
            }
            match self.read(next).await {
                Ok(raws) if raws.is_empty() => {
                    if !matches!(stop.run_until_cancelled(appended.changed()).await, Some(Ok(()))) {
                        return;
                    }
                }
                Ok(raws) => {
                    next = raws.last().map_or(next, |raw| raw.record.next());
                    self.put_ahead(raws).await;
                }
                Err(error) => {
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
        let losses = self.followed.losses();
        let (mut records, mut readings) = (SeqRanges::new(), Vec::new());
        for raw in raws {
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
            self.followed.note(&records, losses);
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
