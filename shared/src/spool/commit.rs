//! Appending: whoever comes first writes for all that wait, with one flush.

use super::generation::Generation;
use super::shelf::{self, Place};
use super::store::{Store, Writer, locked};
use super::{GapReason, RECORD_BYTES_MAX, Record, SpoolError, WhenFull, record};
use crate::ids::Seq;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Most payload one flush carries, unless a single caller brings more.
const COMMIT_BYTES_MAX: usize = 1 << 20;
/// Disk bytes per payload byte, rounded up: sled's pages, their rewriting, and snapshots.
const DISK_PER_PAYLOAD: u64 = 2;
/// What an empty generation may take.
const GENERATION_OVERHEAD: u64 = 1 << 20;

/// Who waits for a flush, in order of arrival.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Vec<Arc<Request>>,
    /// Whether somebody is writing, or has been told to.
    led: bool,
}

/// One append under way.
struct Request {
    records: Vec<Record>,
    payload: usize,
    turn: Mutex<Turn>,
    turned: Condvar,
}

enum Turn {
    Wait,
    /// Write for all that wait, oneself first.
    Lead,
    Done(Result<Seq, SpoolError>),
}

impl Request {
    fn turn_to(&self, turn: Turn) {
        *locked(&self.turn) = turn;
        self.turned.notify_one();
    }

    /// The result, or `None` when it is this one's turn to lead.
    fn wait(&self) -> Option<Result<Seq, SpoolError>> {
        let mut turn = locked(&self.turn);
        loop {
            match std::mem::replace(&mut *turn, Turn::Wait) {
                Turn::Done(result) => return Some(result),
                Turn::Lead => return None,
                Turn::Wait => turn = self.turned.wait(turn).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// What a leader owes the others, whatever happens to it: an answer, and the next leader.
struct Leading<'a> {
    store: &'a Store,
    batch: Vec<Arc<Request>>,
}

impl Leading<'_> {
    fn answer(&mut self, done: &Result<Seq, SpoolError>) {
        let mut next = done.as_ref().copied().unwrap_or(Seq(0));
        for request in self.batch.drain(..) {
            let first = next;
            next = Seq(next.0 + request.records.len() as u64);
            request.turn_to(Turn::Done(done.clone().map(|_| first)));
        }
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        self.answer(&Err(SpoolError::io("write to the spool", std::io::Error::other("the writer panicked"))));
        let mut queue = locked(&self.store.queue);
        match queue.waiting.first() {
            Some(next) => next.turn_to(Turn::Lead),
            None => queue.led = false,
        }
    }
}

impl Store {
    pub(super) fn append(&self, records: Vec<Record>) -> Result<Vec<Seq>, SpoolError> {
        if let Some(large) = records.iter().find(|r| r.payload.len() > RECORD_BYTES_MAX) {
            return Err(SpoolError::TooLarge { bytes: large.payload.len() });
        }
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let count = records.len() as u64;
        let payload = records.iter().map(|r| r.payload.len() + record::HEAD).sum();
        let request = Arc::new(Request { records, payload, turn: Mutex::new(Turn::Wait), turned: Condvar::new() });
        let lead = {
            let mut queue = locked(&self.queue);
            queue.waiting.push(request.clone());
            !std::mem::replace(&mut queue.led, true)
        };
        let done = if lead { None } else { request.wait() };
        let result = done.or_else(|| {
            self.lead();
            request.wait()
        });
        let first = result.unwrap_or(Err(SpoolError::Full))?;
        Ok((first.0..first.0 + count).map(Seq).collect())
    }

    fn lead(&self) {
        let mut writer = locked(&self.writer);
        let mut leading = Leading { store: self, batch: self.next_batch() };
        let done = self.commit(&mut writer, &leading.batch);
        leading.answer(&done);
    }

    fn next_batch(&self) -> Vec<Arc<Request>> {
        let mut queue = locked(&self.queue);
        let mut bytes = 0;
        let fits = queue.waiting.iter().take_while(|r| {
            let first = bytes == 0;
            bytes += r.payload;
            first || bytes <= COMMIT_BYTES_MAX
        });
        let count = fits.count();
        queue.waiting.drain(..count).collect()
    }

    /// Durable when it returns; the seq of the first record.
    fn commit(&self, writer: &mut Writer, batch: &[Arc<Request>]) -> Result<Seq, SpoolError> {
        let payload = batch.iter().map(|r| r.payload as u64).sum();
        let count: u64 = batch.iter().map(|r| r.records.len() as u64).sum();
        self.make_room(writer, payload)?;
        let (first, generation) = self.tail(writer)?;
        // Taken before they are written: a position that may be on disk is never used for something else.
        let position = {
            let mut state = self.state();
            let position = state.next_position;
            state.next_position += count;
            position
        };
        let records = batch.iter().flat_map(|r| &r.records);
        if let Err(fault) = generation.put(position, records) {
            // sled's errors stick: the next append starts a fresh generation
            drop(generation);
            self.close_tail(writer);
            return Err(fault.into_error("write to the spool"));
        }
        writer.payload += payload;
        let bytes = shelf::folder_bytes(generation.path());
        let (seq, version) = self.change(|state| {
            if let Some(place) = state.shelf.get_mut(&first) {
                place.bytes = bytes;
            }
            state.book.extend(position, count, Some(GapReason::WriteFailed))
        });
        self.persist(version)?;
        Ok(seq)
    }

    /// The generation to write to: the open one, or a fresh one at the start, after an error, when it is full.
    fn tail(&self, writer: &mut Writer) -> Result<(u64, Arc<Generation>), SpoolError> {
        if writer.payload >= self.generation_bytes {
            self.close_tail(writer);
            self.sweep()?;
        }
        if let Some(tail) = &writer.generation {
            return Ok(tail.clone());
        }
        let place = {
            let mut state = self.state();
            let (number, first) = (state.next_number, state.next_position);
            state.next_number += 1;
            // Should making it fail and leave a folder, the next one must not begin at the same position.
            state.next_position += 1;
            Place::new(&self.dir, number, first, super::random_id())
        };
        let generation = Generation::create(&place.path, place.id).map_err(|fault| {
            let _ = std::fs::remove_dir_all(&place.path);
            fault.into_error("start a part of the spool")
        })?;
        let tail = (place.first, Arc::new(generation));
        let mut state = self.state();
        state.next_position = place.first;
        state.shelf.insert(place.first, place);
        state.tail = Some(tail.clone());
        writer.generation = Some(tail.clone());
        Ok(tail)
    }

    fn make_room(&self, writer: &mut Writer, payload: u64) -> Result<(), SpoolError> {
        loop {
            let fresh = writer.generation.is_none() || writer.payload >= self.generation_bytes;
            let need = payload * DISK_PER_PAYLOAD + if fresh { GENERATION_OVERHEAD } else { 0 };
            let (used, aside) = {
                let state = self.state();
                (state.bytes(), state.aside.len())
            };
            let over = used + self.aside_bytes() + need > self.options.bytes_max
                || (self.options.disk_free_min > 0
                    && self.disk_free().is_some_and(|free| free < self.options.disk_free_min.saturating_add(need)));
            if !over {
                return Ok(());
            }
            if aside > 0 {
                shelf::bound_aside(&mut self.state().aside, aside - 1);
                continue;
            }
            self.close_idle_tail(writer, 1);
            self.sweep()?;
            if self.state().bytes() < used {
                continue;
            }
            if self.options.when_full == WhenFull::Refuse || !self.drop_oldest(writer)? {
                return Err(SpoolError::Full);
            }
        }
    }

    pub(super) fn aside_bytes(&self) -> u64 {
        let aside = self.state().aside.clone();
        aside.iter().map(|path| shelf::folder_bytes(path)).sum()
    }

    pub(super) fn disk_free(&self) -> Option<u64> {
        let stat = rustix::fs::statvfs(&self.dir).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Gives up the oldest generation; whether there was one.
    fn drop_oldest(&self, writer: &mut Writer) -> Result<bool, SpoolError> {
        let Some(first) = self.state().shelf.keys().next().copied() else { return Ok(false) };
        let held = {
            let state = self.state();
            state.book.held_at(first, state.last_of(first))
        };
        let gaps: Vec<_> = held.into_iter().map(|seqs| self.gap_of(seqs, GapReason::Overflow)).collect();
        if writer.generation.as_ref().is_some_and(|(f, _)| *f == first) {
            self.close_tail(writer);
        }
        self.change(|state| {
            for gap in gaps {
                for seqs in state.book.held_in(gap.seqs) {
                    state.book.totals.dropped += seqs.count();
                    state.book.record_gap(super::Gap { seqs, ..gap });
                }
            }
        });
        self.sweep()?;
        Ok(true)
    }
}
