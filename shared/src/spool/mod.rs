//! The durable queue both sides use: numbered records that survive `kill -9` and power cuts at any byte.
//!
//! # What it promises
//! - `append` returns when the records are on the disk. What returned is given out by `peek` until it is released,
//!   or it becomes a [`Gap`]: nothing goes silently.
//! - Seqs run from 1 without holes; none is ever used for two records of one stream. When that can't be promised
//!   any more (the ledger is lost), the spool starts a new stream by itself and says so.
//! - It opens whatever happened to its files. Damage is salvaged as far as records are whole, the rest is counted
//!   and becomes a gap, the damaged part is kept aside, bounded. A record that comes out is the one that went in.
//! - Disk and memory are bounded. When it is full it drops the oldest part, as a gap, or refuses.
//! - A failed write leaves earlier records alone, and the records of that append may or may not appear later:
//!   delivery is at least once.
//!
//! # How it lies on the disk
//! ```text
//! DIR/lock                       held while open
//! DIR/ledger                     the account, in two slots with CRC, written in turn (`ledger`)
//! DIR/gen-NUMBER-FIRST-ID/       one generation: a sled of about 4 MB, from position FIRST (`generation`)
//! DIR/new-… fix-… del-… bad-…    being made, replacing, being removed, set aside (`shelf`)
//! ```
//! The account (`book`) has the stream, the highest seq, where seqs lie (`Segment`), what is released or missing,
//! and the gaps. A record (`record`) proves by itself that it is whole and in its place.
//!
//! # What makes sled safe here
//! `flush()` of sled 0.34 is not power-cut safe on Linux and a damaged sled panics or silently forgets, so:
//! 1. Order of an append: insert, `flush`, `fdatasync` of sled's file, ledger with the new highest seq, `fdatasync`,
//!    return. So the ledger names only seqs that are on the disk, and a seq it names that isn't found was lost.
//! 2. Every start writes to a fresh generation; full and emptied ones are removed whole, since sled gives nothing back.
//!    Small ones that many starts leave are folded into one.
//! 3. A generation is checked record by record when it is opened: the last at the start, the others when a reader
//!    comes to them. What is missing is looked for in the raw file (`salvage`), and a sound generation is built beside
//!    the damaged one before it takes its place.
//! 4. A generation is removed, and a gap recorded, only after both slots of the ledger account for it.
//! 5. An IO error such as a full disk is no damage: nothing is set aside, the sled is dropped, the next append starts a
//!    fresh one, and the positions of the failed write are never used again. What sled can't open for want of room is
//!    read from the raw file, so that a full disk can drain.
//! 6. The raw file is read before sled opens it: opening a damaged sled can wipe what is still whole.
//!
//! Calls block; async callers use `spawn_blocking`.

mod book;
mod commit;
mod generation;
mod ledger;
mod open;
mod record;
mod salvage;
mod shelf;
mod store;

use crate::ids::{Seq, StreamId};
use crate::ranges::{SeqRange, SeqRanges};
use crate::reading::Timestamp;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::{Store, locked};

/// Why a stretch of seqs will never arrive.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum GapReason {
    /// The spool was full: the oldest blocks were dropped.
    Overflow,
    /// The spool was full: the block was replaced by a thinned one.
    Thinned,
    /// The disk lost or damaged it.
    Damage,
    /// The disk could not be written.
    WriteFailed,
    /// The collector refused it for good, or set readings of it aside and had no room for them any more.
    Rejected,
}

/// A stretch that is known to be missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gap {
    /// Which seqs.
    pub seqs: SeqRange,
    /// From when to when, where it is known.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Why.
    pub reason: GapReason,
}

/// What is appended: a payload and the time it covers.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// At most [`RECORD_BYTES_MAX`] bytes, opaque to the spool.
    pub payload: Bytes,
    /// First and last timestamp inside, when it is UTC: a gap takes its time from here.
    pub span: Option<(Timestamp, Timestamp)>,
}

/// A record that is held.
#[derive(Clone, PartialEq, Debug)]
pub struct Stored {
    /// Its number.
    pub seq: Seq,
    /// Its content.
    pub record: Record,
}

/// Largest payload: larger sled values become blob files, which are never fsynced.
pub const RECORD_BYTES_MAX: usize = 7 * 1000;

/// What to do when there is no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WhenFull {
    /// Give up the oldest part: a gap.
    #[default]
    DropOldest,
    /// Refuse to append.
    Refuse,
}

/// The bounds of a spool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Most bytes it takes on the disk, [`BYTES_MIN`] at least.
    pub bytes_max: u64,
    /// Bytes of the disk it leaves free; with 0 it doesn't look, and a full disk is an error of `append`.
    pub disk_free_min: u64,
    /// What to do when either bound is met.
    pub when_full: WhenFull,
}

/// Smallest bound of a spool: a few generations must fit.
pub const BYTES_MIN: u64 = 8 << 20;

impl Default for Options {
    fn default() -> Self {
        Options { bytes_max: 256 << 20, disk_free_min: 8 << 20, when_full: WhenFull::DropOldest }
    }
}

/// What opening found.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct OpenReport {
    /// Whether a stream was started: there was no spool, or its ledger was lost.
    pub new_stream: bool,
    /// Records that only the raw file still had.
    pub salvaged: u64,
    /// What turned out to be missing.
    pub lost: Vec<Gap>,
    /// Damaged parts that are kept for a person to look at.
    pub set_aside: Vec<PathBuf>,
}

/// How a spool stands. Totals count over restarts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Its bound.
    pub bytes_max: u64,
    /// Records held.
    pub records: u64,
    /// Gaps that nobody has collected yet.
    pub gaps: u64,
    /// Damaged parts kept aside.
    pub set_aside: u64,
    /// Records ever appended.
    pub appended_total: u64,
    /// Records ever released.
    pub released_total: u64,
    /// Records given up for room.
    pub dropped_total: u64,
    /// Records given up by the caller.
    pub given_up_total: u64,
    /// Records lost to damage.
    pub lost_total: u64,
    /// Records that only the raw file still had.
    pub salvaged_total: u64,
}

/// Why a spool did not do as asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SpoolError {
    /// No room, and the oldest must not be dropped or there is nothing to drop.
    #[error("the spool is full")]
    Full,
    /// The payload is too large for a record.
    #[error("a record of {bytes} bytes doesn't fit: at most {RECORD_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Another process has it open.
    #[error("the spool {dir} is in use by another process")]
    InUse {
        /// Its folder.
        dir: String,
    },
    /// The machine failed.
    #[error("could not {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What it said.
        #[source]
        source: Arc<io::Error>,
    },
}

impl SpoolError {
    fn io(what: &str, source: io::Error) -> SpoolError {
        SpoolError::Io { what: what.to_owned(), source: Arc::new(source) }
    }
}

/// What went wrong inside a generation.
#[derive(Debug)]
enum Fault {
    /// The machine: try again later.
    Io(io::Error),
    /// The data.
    Damaged(String),
}

impl Fault {
    fn into_error(self, what: &str) -> SpoolError {
        match self {
            Fault::Io(e) => SpoolError::io(what, e),
            Fault::Damaged(why) => SpoolError::io(what, io::Error::other(why)),
        }
    }
}

fn random_id() -> u64 {
    StreamId::random().0
}

/// A durable queue. Clones are handles to the same one.
#[derive(Clone)]
pub struct Spool {
    store: Arc<Store>,
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool").field("dir", &self.store.dir).finish_non_exhaustive()
    }
}

impl Spool {
    /// Opens the spool in a folder, or makes one.
    ///
    /// # Errors
    /// When another process has it open, or the disk can't be read or written. Damage is no error.
    pub fn open(dir: &Path, options: Options) -> Result<(Spool, OpenReport), SpoolError> {
        let options = Options { bytes_max: options.bytes_max.max(BYTES_MIN), ..options };
        let (store, report) = open::open(dir, options)?;
        Ok((Spool { store: Arc::new(store) }, report))
    }

    /// Which stream its seqs belong to.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        self.store.state().book.stream
    }

    /// Appends records in their order; durable when it returns. Callers at the same time share one flush.
    ///
    /// # Errors
    /// When there is no room, a record is too large, or the disk can't be written. In the last case the records
    /// may still appear, once, under seqs of their own.
    pub fn append(&self, records: Vec<Record>) -> Result<Vec<Seq>, SpoolError> {
        self.store.append(records)
    }

    /// Held records from `from` on, ascending. At least one, if there is any and `count_max` isn't 0, however large.
    ///
    /// # Errors
    /// When the disk can't be read. Damage is no error: what is lost becomes a gap and is passed over.
    pub fn peek(&self, from: Seq, count_max: usize, bytes_max: usize) -> Result<Vec<Stored>, SpoolError> {
        let mut taken = Taken::new(count_max, bytes_max);
        let mut at = from;
        while let Some((run, position, home)) = self.store.next_run(at, Seq(u64::MAX)) {
            for offset in 0..run.count() {
                at = Seq(run.first.0 + offset);
                match self.record(at, position + offset, home)? {
                    Some(record) if taken.full_with(&record) => return Ok(taken.records),
                    Some(record) => taken.records.push(Stored { seq: at, record }),
                    None => {
                        // released meanwhile, rebuilt, or lost: look again from here
                        taken.look_again()?;
                        break;
                    }
                }
                at = at.next();
            }
            if taken.done() {
                break;
            }
        }
        Ok(taken.records)
    }

    /// Held records before `before`, newest first. Otherwise as [`Spool::peek`].
    ///
    /// # Errors
    /// As [`Spool::peek`].
    pub fn peek_back(&self, before: Seq, count_max: usize, bytes_max: usize) -> Result<Vec<Stored>, SpoolError> {
        let mut taken = Taken::new(count_max, bytes_max);
        let mut before = before;
        while let Some((run, position, home)) = self.store.run_before(before) {
            for offset in (0..run.count()).rev() {
                let seq = Seq(run.first.0 + offset);
                match self.record(seq, position + offset, home)? {
                    Some(record) if taken.full_with(&record) => return Ok(taken.records),
                    Some(record) => taken.records.push(Stored { seq, record }),
                    None => {
                        taken.look_again()?;
                        break;
                    }
                }
                before = seq;
            }
            if taken.done() {
                break;
            }
        }
        Ok(taken.records)
    }

    /// `None` when it isn't held any more or has to be looked for again.
    fn record(&self, seq: Seq, position: u64, home: Option<u64>) -> Result<Option<Record>, SpoolError> {
        let Some(first) = home else {
            self.store.gap_the_homeless(seq)?;
            return Ok(None);
        };
        let Some(generation) = self.store.load(first)? else { return Ok(None) };
        match generation.get(position) {
            Ok(Some(record)) => Ok(Some(record)),
            Err(Fault::Io(e)) => Err(SpoolError::io("read the spool", e)),
            Ok(None) | Err(Fault::Damaged(_)) => {
                drop(generation);
                // after a check of the whole generation the record is there, or it is a gap
                self.store.recheck(first)?;
                Ok(None)
            }
        }
    }

    /// Forgets records for good; durable when it returns. Seqs that aren't held are passed over.
    ///
    /// # Errors
    /// When the disk can't be written. The records are released nevertheless, until a restart.
    pub fn release(&self, seqs: &SeqRanges) -> Result<(), SpoolError> {
        let (_, version) = self.store.change(|state| state.book.release(seqs));
        self.store.persist(version)?;
        self.tidy()
    }

    /// Removes what holds nothing.
    fn tidy(&self) -> Result<(), SpoolError> {
        if let Ok(mut writer) = self.store.writer.try_lock() {
            self.store.close_idle_tail(&mut writer, self.store.generation_bytes / 4);
        }
        self.store.sweep()
    }

    /// Gives up what is held between two seqs: gaps for this reason, durable when it returns. The answer covers
    /// all of them; `None` when nothing there was held.
    ///
    /// # Errors
    /// When the disk can't be written.
    pub fn give_up(&self, range: SeqRange, reason: GapReason) -> Result<Option<Gap>, SpoolError> {
        let held = self.store.state().book.held_in(range);
        let gaps: Vec<Gap> = held.into_iter().map(|seqs| self.store.gap_of(seqs, reason)).collect();
        let (whole, _) = self.store.change(|state| {
            let mut whole: Option<Gap> = None;
            for gap in gaps {
                for seqs in state.book.held_in(gap.seqs) {
                    let gap = Gap { seqs, ..gap };
                    state.book.totals.given_up += seqs.count();
                    state.book.record_gap(gap);
                    whole = Some(whole.map_or(gap, |whole| Gap {
                        seqs: SeqRange::new(whole.seqs.first, seqs.last),
                        span: book::hull(whole.span, gap.span),
                        reason,
                    }));
                }
            }
            whole
        });
        if whole.is_some() {
            self.store.persist_twice()?;
            self.tidy()?;
        }
        Ok(whole)
    }

    /// What is missing, ascending, until it is forgotten.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        self.store.state().book.gaps.clone()
    }

    /// Forgets gaps, or the part of them that lies in these seqs: somebody else keeps the record of them now.
    ///
    /// # Errors
    /// When the disk can't be written.
    pub fn forget_gaps(&self, seqs: &SeqRanges) -> Result<(), SpoolError> {
        let (_, version) = self.store.change(|state| state.book.forget_gaps(seqs));
        self.store.persist(version)
    }

    /// The highest seq ever given in this stream, 0 when none.
    #[must_use]
    pub fn highest(&self) -> Seq {
        Seq(self.store.state().book.highest)
    }

    /// What is held: neither released nor missing.
    #[must_use]
    pub fn held(&self) -> SeqRanges {
        self.store.state().book.held()
    }

    /// How it stands.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let aside = self.store.aside_bytes();
        let state = self.store.state();
        let totals = state.book.totals;
        Usage {
            bytes: state.bytes() + aside + ledger::BYTES,
            bytes_max: self.store.options.bytes_max,
            records: state.book.held_count(),
            gaps: state.book.gaps.len() as u64,
            set_aside: state.aside.len() as u64,
            appended_total: totals.appended,
            released_total: totals.released,
            dropped_total: totals.dropped,
            given_up_total: totals.given_up,
            lost_total: totals.lost,
            salvaged_total: totals.salvaged,
        }
    }

    /// Starts a fresh stream: what is held and what is missing is numbered from 1 in its order. Nothing is copied.
    ///
    /// # Errors
    /// When the disk can't be written; the stream may have changed nevertheless.
    pub fn new_stream(&self) -> Result<StreamId, SpoolError> {
        let _writer = locked(&self.store.writer);
        let (stream, _) = self.store.change(|state| {
            state.book.renumber();
            state.book.stream
        });
        self.store.persist_twice()?;
        Ok(stream)
    }
}

/// The bounds of one answer.
struct Taken {
    records: Vec<Stored>,
    count_max: usize,
    bytes_max: usize,
    bytes: usize,
    looked_again: u32,
}

/// More often in one answer, the machine gives different answers to the same question.
const LOOK_AGAIN_MAX: u32 = 1000;

impl Taken {
    fn new(count_max: usize, bytes_max: usize) -> Self {
        Taken { records: Vec::new(), count_max, bytes_max, bytes: 0, looked_again: 0 }
    }
    fn look_again(&mut self) -> Result<(), SpoolError> {
        self.looked_again += 1;
        let error = || SpoolError::io("read the spool", io::Error::other("a record comes and goes"));
        if self.looked_again > LOOK_AGAIN_MAX { Err(error()) } else { Ok(()) }
    }
    fn done(&self) -> bool {
        self.records.len() >= self.count_max
    }
    fn full_with(&mut self, record: &Record) -> bool {
        self.bytes += record.payload.len();
        self.done() || (!self.records.is_empty() && self.bytes > self.bytes_max)
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
