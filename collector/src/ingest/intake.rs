//! The way onto the disk: one thread appends for all sessions, so that everything that waits shares one fsync, and
//! decides what is a repetition.

use crate::ingest::answers::{Answers, one};
use crate::ingest::check::Refusal;
use crate::ingest::item::Item;
use crate::ingest::ledger::{ISLANDS_MAX, Ledger};
use crate::ingest::pressure::Pressure;
use bytes::Bytes;
use shared::ids::{GatewayId, Seq, StreamId};
use shared::ranges::SeqRanges;
use shared::reading::Timestamp;
use shared::spool::{Gap, Record, Spool, SpoolError};
use shared::wire::RejectReason;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// Most jobs that wait for the disk, all sessions together.
const JOBS_MAX: usize = 4_096;
/// Most bytes that wait for the disk, all sessions together.
const BYTES_MAX: usize = 64 << 20;
/// Most payload that is appended at once.
const APPEND_BYTES_MAX: usize = 1 << 20;

/// What a session wants on the disk.
pub struct Job {
    /// What it is.
    pub item: Item,
    /// The block's bytes; empty for the other kinds.
    pub bytes: Bytes,
    /// The time it covers, when that is UTC.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Who is told.
    pub answers: Arc<Answers>,
}

impl Job {
    /// What counts against the window.
    fn bytes_in_flight(&self) -> usize {
        self.bytes.len()
    }
}

struct Waiting {
    job: Job,
    _room: OwnedSemaphorePermit,
}

/// The sessions' end.
#[derive(Clone)]
pub struct Intake {
    jobs: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
}

/// The thread is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the intake has ended")]
pub struct Ended;

impl Intake {
    /// Hands a job over; waits while too much is under way. The answer comes through [`Job::answers`].
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn submit(&self, job: Job) -> Result<(), Ended> {
        let bytes = u32::try_from(job.bytes.len()).unwrap_or(u32::MAX).clamp(1, BYTES_MAX as u32);
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await.map_err(|_| Ended)?;
        self.jobs.send(Waiting { job, _room: room }).await.map_err(|_| Ended)
    }
}

/// Gaps that are on disk and not in the warm tier yet: every connection names them again.
#[derive(Debug, Default)]
pub struct OpenGaps(Mutex<HashSet<(GatewayId, StreamId, Seq, Seq)>>);

impl OpenGaps {
    /// Notes one; whether it is new.
    pub fn insert(&self, gateway: &GatewayId, stream: StreamId, gap: &Gap) -> bool {
        let key = (gateway.clone(), stream, gap.seqs.first, gap.seqs.last);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key)
    }
    /// Whether it is there.
    #[must_use]
    pub fn contains(&self, gateway: &GatewayId, stream: StreamId, gap: &Gap) -> bool {
        let key = (gateway.clone(), stream, gap.seqs.first, gap.seqs.last);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&key)
    }
    /// Forgets one.
    pub fn remove(&self, gateway: &GatewayId, stream: StreamId, gap: &Gap) {
        let key = (gateway.clone(), stream, gap.seqs.first, gap.seqs.last);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }
}

/// What the thread works with.
pub struct Desk {
    /// Where to.
    pub spool: Spool,
    /// What is there already.
    pub ledger: Arc<Ledger>,
    /// Gaps that are there already.
    pub gaps: Arc<OpenGaps>,
    /// Told when nothing can be stored.
    pub pressure: Arc<Pressure>,
    /// Told when something was.
    pub appended: Arc<watch::Sender<()>>,
}

impl Desk {
    /// Starts the thread; it ends when every [`Intake`] is dropped.
    #[must_use]
    pub fn open(self) -> (Intake, tokio::task::JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel(JOBS_MAX);
        let intake = Intake { jobs: sender, room: Arc::new(Semaphore::new(BYTES_MAX)) };
        (intake, tokio::task::spawn_blocking(move || self.work(receiver)))
    }

    fn work(self, mut jobs: mpsc::Receiver<Waiting>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut batch = vec![first];
            let mut bytes = batch[0].job.bytes.len();
            while bytes < APPEND_BYTES_MAX {
                let Ok(next) = jobs.try_recv() else { break };
                bytes += next.job.bytes.len();
                batch.push(next);
            }
            self.append(batch);
        }
    }

    /// One append for all; then everyone is told.
    fn append(&self, batch: Vec<Waiting>) {
        let (mut records, mut new, mut again) = (Vec::with_capacity(batch.len()), Vec::new(), Vec::new());
        let mut within = HashSet::new();
        for waiting in batch {
            if self.is_new(&waiting.job.item, &mut within) {
                let job = &waiting.job;
                records.push(Record { payload: job.item.to_payload(&job.bytes), span: job.span });
                new.push(waiting);
            } else {
                again.push(waiting);
            }
        }
        let started = std::time::Instant::now();
        match if records.is_empty() { Ok(Vec::new()) } else { self.spool.append(records) } {
            Ok(_) => {
                if !new.is_empty() {
                    metrics::histogram!("collector_spool_append_seconds").record(started.elapsed().as_secs_f64());
                    new.iter().for_each(|waiting| self.taken(&waiting.job));
                    self.appended.send_replace(());
                }
                again.iter().for_each(|waiting| self.repeated(&waiting.job));
            }
            Err(error) => {
                self.pressure.close(&error);
                // A repetition of something in this very batch failed with it.
                new.iter().for_each(|waiting| self.failed(&waiting.job, &error));
                again.iter().for_each(|waiting| self.repeated_unless(&waiting.job, &error));
            }
        }
    }

    fn is_new(&self, item: &Item, within: &mut HashSet<(GatewayId, StreamId, Seq)>) -> bool {
        match item {
            Item::Block { gateway, stream, seq, .. } => {
                !self.ledger.is_stored(gateway, *stream, *seq) && within.insert((gateway.clone(), *stream, *seq))
            }
            Item::Gap { gateway, stream, gap } => self.gaps.insert(gateway, *stream, gap),
            Item::ClockFix { .. } => true,
        }
    }

    fn taken(&self, job: &Job) {
        match &job.item {
            Item::Block { gateway, stream, seq, .. } => {
                metrics::counter!("collector_blocks_stored_total").increment(1);
                metrics::counter!("collector_block_bytes_stored_total").increment(job.bytes.len() as u64);
                let islands = self.ledger.mark_stored(gateway, *stream, &one(*seq));
                if islands > ISLANDS_MAX {
                    job.answers.give_up(format!(
                        "its stream {stream} has {islands} holes, at most {ISLANDS_MAX} are kept account of"
                    ));
                }
                job.answers.stored(&one(*seq), job.bytes_in_flight());
            }
            Item::Gap { gateway, stream, gap } => {
                metrics::counter!("collector_gaps_stored_total").increment(1);
                self.ledger.mark_seen(gateway, *stream, gap.seqs.last);
                job.answers.stored(&SeqRanges::from_iter([gap.seqs]), 0);
            }
            Item::ClockFix { .. } => {}
        }
    }

    fn repeated(&self, job: &Job) {
        match &job.item {
            Item::Block { gateway, stream, seq, .. } => {
                metrics::counter!("collector_blocks_repeated_total").increment(1);
                if self.ledger.is_committed(gateway, *stream, *seq) {
                    job.answers.committed(&one(*seq));
                }
                job.answers.stored(&one(*seq), job.bytes_in_flight());
            }
            Item::Gap { gap, .. } => job.answers.stored(&SeqRanges::from_iter([gap.seqs]), 0),
            Item::ClockFix { .. } => {}
        }
    }

    fn repeated_unless(&self, job: &Job, error: &SpoolError) {
        let there = match &job.item {
            Item::Block { gateway, stream, seq, .. } => self.ledger.is_stored(gateway, *stream, *seq),
            Item::Gap { gateway, stream, gap } => self.gaps.contains(gateway, *stream, gap),
            Item::ClockFix { .. } => true,
        };
        if there { self.repeated(job) } else { self.failed(job, error) }
    }

    fn failed(&self, job: &Job, error: &SpoolError) {
        match &job.item {
            Item::Block { seq, .. } => {
                job.answers.refused(&one(*seq), unavailable(&error.to_string()), job.bytes_in_flight());
            }
            item => {
                if let Item::Gap { gateway, stream, gap } = item {
                    self.gaps.remove(gateway, *stream, gap);
                }
                // Nothing in the protocol refuses these: the session tries again.
                job.answers.give_back(item.clone());
            }
        }
    }
}

/// The answer while nothing can be stored.
#[must_use]
pub fn unavailable(why: &str) -> Refusal {
    Refusal { reason: RejectReason::Unavailable, detail: format!("the collector can't store now: {why}"), retry: true }
}
