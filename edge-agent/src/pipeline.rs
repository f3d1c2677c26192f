//! From sources to the disk: what is worth sending goes into blocks, blocks into the spool, and who waits is told.
//!
//! Invariants: a sender is told only after the spool has every reading it sent; a reading is written when it is as old
//! as configured at the latest, and full blocks wait for that moment too, since each write costs the card several
//! pages whatever its size; at most one append is under way, and what is cut meanwhile goes with the next one; while the disk refuses, blocks wait in memory, and beyond a bound
//! the oldest are given up and counted. It ends when the last source has gone, with everything written.

use crate::batch::{Batcher, Limits, Moment, Outcome};
use crate::catalogues::Catalogues;
use crate::clock::Clock;
use crate::live::Live;
use crate::overflow::Overflow;
use crate::registry::Registry;
use crate::report::Filter;
use crate::sample::Batch;
use crate::vitals::{Loop, Vitals, count};
use bytes::Bytes;
use shared::backoff::Backoff;
use shared::block::{Encoded, TimeBase};
use shared::catalogue::Catalogue;
use shared::spool::{Record, Spool, SpoolError};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Above this many cut blocks that wait for the disk, sources wait too.
const BLOCKS_WAITING: usize = 64;
/// So many full blocks are written before they are old.
const BLOCKS_AT_ONCE: usize = 16;
/// While the disk refuses, this many blocks are kept in memory, 3 MB at most.
const BLOCKS_KEPT_MAX: usize = 512;
/// A sender that waits is told within this and the disk's time for one flush.
const PROMPT_US: i64 = 120_000;
/// So many waiting senders are as many as a broker leaves open (mosquitto: 20): nothing more comes before they are told.
const WAITING_MAX: usize = 16;
/// Tries to write what is left at the end, a pause apart.
const LAST_TRIES: u32 = 5;
const BEAT: Duration = Duration::from_secs(1);

/// What outlives a change of configuration, as the pipeline needs it.
#[derive(Clone, Debug)]
pub struct Sinks {
    /// Where blocks go.
    pub spool: Spool,
    /// Where the catalogues go that blocks refer to.
    pub catalogues: Arc<Catalogues>,
    /// Makes room before an append, when that is needed.
    pub overflow: Arc<Overflow>,
    /// Told after each append.
    pub appended: watch::Sender<u64>,
    /// Counters.
    pub vitals: Arc<Vitals>,
}

/// Readings cut into blocks that go to the disk together, and who waits for them.
struct Cut {
    blocks: Vec<Encoded>,
    catalogue: Arc<Catalogue>,
    waiting: Vec<oneshot::Sender<()>>,
}

/// What is being written, and the append under way.
type Writing = Option<(VecDeque<Cut>, JoinHandle<Result<(), SpoolError>>)>;

/// The task between sources and spool.
pub struct Pipeline {
    inbox: mpsc::Receiver<Batch>,
    registry: Arc<Registry>,
    clock: Clock,
    live: Arc<Live>,
    sinks: Sinks,
    filter: Filter,
    batcher: Batcher,
    /// Whose readings are in an open block.
    waiting: Vec<oneshot::Sender<()>>,
    queue: VecDeque<Cut>,
    /// The queue is to be written.
    write_now: bool,
    /// When the oldest reading that is in no append came, microseconds since boot.
    oldest_us: Option<i64>,
    age_us_max: i64,
    writing: Writing,
    backoff: Backoff,
    not_before: Option<Instant>,
}

impl Pipeline {
    /// A pipeline that reads `inbox`; blocks are cut by `limits`' count and age.
    #[must_use]
    pub fn new(
        inbox: mpsc::Receiver<Batch>,
        registry: Arc<Registry>,
        clock: Clock,
        live: Arc<Live>,
        sinks: Sinks,
        readings_max: usize,
        age_max: Duration,
    ) -> Self {
        let limits = Limits { readings_max, age_us_max: age_max.as_micros() as i64, prompt_us_max: PROMPT_US };
        let batcher = Batcher::new(limits, clock.boot());
        Self {
            inbox,
            registry,
            clock,
            live,
            sinks,
            filter: Filter::default(),
            batcher,
            waiting: Vec::new(),
            queue: VecDeque::new(),
            write_now: false,
            oldest_us: None,
            age_us_max: limits.age_us_max,
            writing: None,
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(30)),
            not_before: None,
        }
    }

    /// Works until the last source has gone and everything is on disk.
    pub async fn run(mut self) {
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut open = true;
        let mut tries_left = LAST_TRIES;
        while open || !self.queue.is_empty() || self.writing.is_some() {
            self.start_writing(tries_left > 0);
            if !open && tries_left == 0 && self.writing.is_none() {
                break;
            }
            let due = self.due_us();
            let (clock, not_before) = (self.clock.clone(), self.not_before);
            tokio::select! {
                batch = self.inbox.recv(), if open && self.has_room() => match batch {
                    Some(batch) => self.take(batch),
                    None => {
                        open = false;
                        self.cut_all();
                    }
                },
                () = clock.sleep_until(due.unwrap_or_default()), if due.is_some() => self.cut_all(),
                written = wait(&mut self.writing) => {
                    let failed = self.written(written);
                    tries_left -= u32::from(!open && failed);
                }
                () = sleep_until(not_before), if not_before.is_some() => self.not_before = None,
                _ = beat.tick() => {}
            }
            self.sinks.vitals.beat(Loop::Pipeline);
        }
        self.queue.drain(..).for_each(|cut| give_up(&self.sinks.vitals, &cut));
    }

    fn has_room(&self) -> bool {
        self.sinks.vitals.disk_error().is_some() || self.blocks_queued() < BLOCKS_WAITING
    }

    fn blocks_queued(&self) -> usize {
        self.queue.iter().map(|cut| cut.blocks.len()).sum()
    }

    fn take(&mut self, batch: Batch) {
        count(&self.sinks.vitals.readings, "edge_readings_total", batch.samples.len() as u64);
        let (mut rows, mut kept) = (Vec::with_capacity(batch.samples.len()), false);
        let catalogue = self.registry.catalogue();
        let moment = Moment {
            now_us: self.clock.mono_us(),
            offset_us: self.clock.offset_us(),
            doubtful: self.clock.is_doubtful(),
            catalogue: &catalogue,
        };
        for sample in &batch.samples {
            if !self.filter.wants(self.registry.exception_rule(sample.point), sample) {
                count(&self.sinks.vitals.held_back, "edge_readings_held_back_total", 1);
                continue;
            }
            match self.batcher.add(sample, moment) {
                Outcome::Utc(row) => rows.push(row),
                Outcome::SinceBoot | Outcome::Repeated => {}
                Outcome::Unknown => {
                    tracing::error!(point = sample.point.0, "a source names a point that nobody registered");
                    continue;
                }
            }
            kept = true;
        }
        if kept {
            self.oldest_us.get_or_insert(moment.now_us);
        }
        self.live.put(&rows);
        match batch.done {
            Some(done) if kept => {
                self.waiting.push(done);
                self.batcher.hurry(moment.now_us);
                if self.waiting.len() >= WAITING_MAX {
                    self.cut_all();
                }
            }
            Some(done) => drop(done.send(())),
            None => {}
        }
        self.collect(&catalogue);
    }

    /// When what was read must go to the disk.
    fn due_us(&self) -> Option<i64> {
        let old = self.oldest_us.filter(|_| !self.write_now).map(|at| at.saturating_add(self.age_us_max));
        self.batcher.due_us().into_iter().chain(old).min()
    }

    /// Everything that was read goes to the disk with one append: who waits may have readings in both open blocks.
    fn cut_all(&mut self) {
        let catalogue = self.registry.catalogue();
        self.batcher.cut_all(&catalogue);
        self.collect(&catalogue);
        self.write_now = !self.queue.is_empty();
    }

    /// Queues what was cut. Who waits is told with the cut after which no block is open.
    fn collect(&mut self, catalogue: &Arc<Catalogue>) {
        let blocks = self.batcher.take();
        let waiting = if self.batcher.is_empty() { std::mem::take(&mut self.waiting) } else { Vec::new() };
        if !blocks.is_empty() || !waiting.is_empty() {
            self.queue.push_back(Cut { blocks, catalogue: Arc::clone(catalogue), waiting });
        }
        self.write_now |= self.blocks_queued() >= BLOCKS_AT_ONCE;
        while self.blocks_queued() > BLOCKS_KEPT_MAX {
            let Some(oldest) = self.queue.pop_front() else { break };
            give_up(&self.sinks.vitals, &oldest);
        }
    }

    fn start_writing(&mut self, allowed: bool) {
        if !self.write_now || self.writing.is_some() || self.not_before.is_some() || !allowed {
            return;
        }
        self.write_now = false;
        self.oldest_us = (!self.batcher.is_empty()).then(|| self.clock.mono_us());
        let cuts = std::mem::take(&mut self.queue);
        let catalogues: Vec<Arc<Catalogue>> = cuts.iter().map(|cut| Arc::clone(&cut.catalogue)).collect();
        let records = cuts.iter().flat_map(|cut| cut.blocks.iter().map(record)).collect();
        let sinks = self.sinks.clone();
        let task = tokio::task::spawn_blocking(move || write(&sinks, &catalogues, records));
        self.writing = Some((cuts, task));
    }

    /// True when the disk refused.
    fn written(&mut self, (cuts, result): (VecDeque<Cut>, Result<(), SpoolError>)) -> bool {
        let vitals = &self.sinks.vitals;
        match result {
            Ok(()) => {
                if vitals.disk_error().is_some() {
                    tracing::info!("the spool can be written again");
                    vitals.set_disk_error(None);
                }
                self.backoff.reset();
                let readings = cuts.iter().flat_map(|cut| &cut.blocks).map(|b| u64::from(b.header.readings)).sum();
                count(&vitals.spooled, "edge_readings_spooled_total", readings);
                for done in cuts.into_iter().flat_map(|cut| cut.waiting) {
                    let _ = done.send(()); // who no longer waits will be sent the same again
                }
                false
            }
            Err(error) => {
                if vitals.disk_error().is_none() {
                    tracing::error!(%error, "the spool can't be written; readings wait in memory");
                }
                metrics::counter!("edge_spool_write_failures_total").increment(1);
                vitals.set_disk_error(Some(error.to_string()));
                let newer = std::mem::replace(&mut self.queue, cuts);
                self.queue.extend(newer);
                self.write_now = true;
                self.not_before = Some(Instant::now() + self.backoff.pause());
                true
            }
        }
    }
}

fn give_up(vitals: &Vitals, cut: &Cut) {
    let readings: u64 = cut.blocks.iter().map(|block| u64::from(block.header.readings)).sum();
    count(&vitals.lost, "edge_readings_lost_total", readings);
    tracing::error!(readings, "readings are lost: the spool could not be written for too long");
}

fn record(block: &Encoded) -> Record {
    let span = (block.header.base == TimeBase::Utc).then_some((block.header.first, block.header.last));
    // A copy of its own: the builder's buffer may be larger.
    Record { payload: Bytes::copy_from_slice(&block.bytes), span }
}

fn write(sinks: &Sinks, catalogues: &[Arc<Catalogue>], records: Vec<Record>) -> Result<(), SpoolError> {
    let failed = |source| SpoolError::Io { what: "keep the catalogue".into(), source: Arc::new(source) };
    let mut kept = None;
    for catalogue in catalogues.iter().filter(|catalogue| !catalogue.entries().is_empty()) {
        if kept != Some(catalogue.hash()) {
            sinks.catalogues.keep(catalogue).map_err(failed)?;
            kept = Some(catalogue.hash());
        }
    }
    // Catalogues that nothing on disk needs any more go while nothing is on disk.
    if let Some(kept) = kept.filter(|_| sinks.catalogues.len() > 1 && sinks.spool.held().is_empty()) {
        let one = catalogues.iter().all(|catalogue| catalogue.hash() == kept);
        if one {
            sinks.catalogues.keep_only(kept);
        }
    }
    // One step frees more than one append takes; when it fails the spool's own rule is still there.
    if let Err(error) = sinks.overflow.relieve(1) {
        tracing::warn!(%error, "no room can be made in the spool");
    }
    let seqs = sinks.spool.append(records)?;
    if let Some(last) = seqs.last() {
        sinks.appended.send_replace(last.0);
    }
    Ok(())
}

/// Waits for the append under way; for ever when there is none.
async fn wait(writing: &mut Writing) -> (VecDeque<Cut>, Result<(), SpoolError>) {
    let result = match writing {
        Some((_, task)) => task.await,
        None => std::future::pending().await,
    };
    let cuts = writing.take().map(|(cuts, _)| cuts).unwrap_or_default();
    let panicked = |error| SpoolError::Io {
        what: "write to the spool".into(),
        source: Arc::new(std::io::Error::other(format!("{error}"))),
    };
    (cuts, result.unwrap_or_else(|error| Err(panicked(error))))
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
