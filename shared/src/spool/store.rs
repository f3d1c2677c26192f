//! The state behind the handle, and the steps that keep disk and account in line.
//!
//! Locks are taken in this order and never the other way: `writer`, `loader`, `ledger`, `state`. `state` is hardly
//! ever held over IO; `queue` is a leaf.

use super::book::Book;
use super::generation::Generation;
use super::ledger::Ledger;
use super::salvage::{self, Found, Wanted};
use super::shelf::{self, Place};
use super::{Gap, GapReason, Options, SpoolError};
use crate::ids::Seq;
use crate::ranges::{SeqRange, SeqRanges};
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Sealed generations that stay open for reading: the head, and one for readers from the other end.
const OPEN_MAX: usize = 2;

pub(super) struct State {
    pub(super) book: Book,
    /// Counts changes of `book`.
    pub(super) version: u64,
    /// By first position.
    pub(super) shelf: BTreeMap<u64, Place>,
    pub(super) tail: Option<(u64, Arc<Generation>)>,
    open: Vec<(u64, Arc<Generation>)>,
    pub(super) next_position: u64,
    pub(super) next_number: u64,
    pub(super) aside: Vec<PathBuf>,
}

impl State {
    pub(super) fn new(book: Book, listing: shelf::Listing) -> State {
        let shelf = listing.generations;
        let past = shelf.last_key_value().map_or(0, |(first, _)| *first).max(book.last_position);
        let next_number = shelf.values().map(|p| p.number).max().unwrap_or(0) + 1;
        State {
            book,
            version: 1,
            shelf,
            tail: None,
            open: Vec::new(),
            next_position: past + 1,
            next_number,
            aside: listing.aside,
        }
    }

    /// The generation a position lies in, if it is there.
    pub(super) fn home(&self, position: u64) -> Option<u64> {
        self.shelf.range(..=position).next_back().map(|(first, _)| *first)
    }

    /// The last position a generation may have.
    pub(super) fn last_of(&self, first: u64) -> u64 {
        self.shelf.range(first + 1..).next().map_or(u64::MAX, |(next, _)| next - 1)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.shelf.values().map(|p| p.bytes).sum()
    }

    pub(super) fn held_positions(&self, first: u64, last: u64) -> Vec<RangeInclusive<u64>> {
        let held = self.book.held_at(first, last).into_iter();
        held.filter_map(|r| Some(self.book.position_of(r.first)?..=self.book.position_of(r.last)?)).collect()
    }
}

impl State {
    /// Gaps for wanted positions that are not among the records left.
    fn gap_what_misses(&mut self, wanted: &Wanted, records: &BTreeMap<u64, super::Record>) {
        for known in &wanted.known {
            let mut at = *known.start();
            let there = records.range(known.clone()).map(|(p, _)| *p);
            for position in there.chain([known.end() + 1]) {
                if position > at {
                    let hole = at..=position - 1;
                    let span = salvage::bracket(records, &hole);
                    for seqs in self.book.held_at(*hole.start(), *hole.end()) {
                        self.book.totals.lost += seqs.count();
                        self.book.record_gap(Gap { seqs, span, reason: GapReason::Damage });
                    }
                }
                at = position + 1;
            }
        }
    }
}

/// The open tail.
pub(super) struct Writer {
    pub(super) generation: Option<(u64, Arc<Generation>)>,
    pub(super) payload: u64,
}

pub(super) struct Store {
    pub(super) dir: PathBuf,
    pub(super) options: Options,
    /// Payload after which a generation is closed: small against the spool, so that dropping one drops little.
    pub(super) generation_bytes: u64,
    pub(super) queue: Mutex<super::commit::Queue>,
    pub(super) writer: Mutex<Writer>,
    loader: Mutex<()>,
    /// With the version that is on disk.
    ledger: Mutex<(Ledger, u64)>,
    state: Mutex<State>,
    /// Held as long as the store lives: no other process may open it.
    _lock: File,
}

/// A panic elsewhere leaves every structure here whole, since none is changed in parts.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    pub(super) fn new(dir: PathBuf, options: Options, lock: File, ledger: Ledger, state: State) -> Store {
        Store {
            dir,
            options,
            generation_bytes: (options.bytes_max / 16).clamp(128 << 10, 4 << 20),
            queue: Mutex::default(),
            writer: Mutex::new(Writer { generation: None, payload: 0 }),
            loader: Mutex::new(()),
            ledger: Mutex::new((ledger, 0)),
            state: Mutex::new(state),
            _lock: lock,
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Changes the account in memory; returns the version that has the change.
    pub(super) fn change<T>(&self, what: impl FnOnce(&mut State) -> T) -> (T, u64) {
        let mut state = self.state();
        let result = what(&mut state);
        state.version += 1;
        (result, state.version)
    }

    /// Returns when the account with this version is on disk; whoever comes first writes for all that wait.
    pub(super) fn persist(&self, version: u64) -> Result<(), SpoolError> {
        let mut ledger = locked(&self.ledger);
        if ledger.1 >= version { Ok(()) } else { self.write_ledger(&mut ledger) }
    }

    /// Writes both slots: what this account says must not be forgotten even if one slot is damaged.
    pub(super) fn persist_twice(&self) -> Result<(), SpoolError> {
        let mut ledger = locked(&self.ledger);
        self.write_ledger(&mut ledger)?;
        self.write_ledger(&mut ledger)
    }

    fn write_ledger(&self, ledger: &mut (Ledger, u64)) -> Result<(), SpoolError> {
        let (book, version) = {
            let state = self.state();
            (state.book.bounded(), state.version)
        };
        ledger.0.write(&book).map_err(|e| SpoolError::io("write the spool's ledger", e))?;
        ledger.1 = version;
        Ok(())
    }

    fn opened(&self, first: u64) -> Option<Arc<Generation>> {
        let mut state = self.state();
        if let Some((_, tail)) = state.tail.as_ref().filter(|(f, _)| *f == first) {
            return Some(tail.clone());
        }
        let at = state.open.iter().position(|(f, _)| *f == first)?;
        let entry = state.open.remove(at);
        state.open.push(entry.clone());
        Some(entry.1)
    }

    fn keep_open(state: &mut State, first: u64, generation: &Arc<Generation>) {
        state.open.push((first, generation.clone()));
        if state.open.len() > OPEN_MAX {
            state.open.remove(0);
        }
    }

    /// Opens a generation and checks it once; what is missing in it becomes a gap. `None` when it is gone.
    pub(super) fn load(&self, first: u64) -> Result<Option<Arc<Generation>>, SpoolError> {
        if let Some(generation) = self.opened(first) {
            return Ok(Some(generation));
        }
        let _loader = locked(&self.loader);
        if let Some(generation) = self.opened(first) {
            return Ok(Some(generation));
        }
        self.check(first, None, false).map(|(generation, _)| generation)
    }

    /// Looks again at a generation that gave a bad answer while it was open.
    pub(super) fn recheck(&self, first: u64) -> Result<(), SpoolError> {
        let mut writer = locked(&self.writer);
        let _loader = locked(&self.loader);
        self.close_tail_if(&mut writer, first);
        self.state().open.retain(|(f, _)| *f != first);
        self.check(first, None, false).map(|_| ())
    }

    /// As `load`, for a generation that may have records beyond the account; returns the positions of those.
    pub(super) fn adopt(&self, first: u64, beyond: u64, suspicious: bool) -> Result<Vec<u64>, SpoolError> {
        let _loader = locked(&self.loader);
        self.check(first, Some(beyond), suspicious).map(|(_, possible)| possible)
    }

    /// With the loader lock held.
    #[allow(clippy::type_complexity)]
    fn check(
        &self,
        first: u64,
        beyond: Option<u64>,
        suspicious: bool,
    ) -> Result<(Option<Arc<Generation>>, Vec<u64>), SpoolError> {
        let (place, wanted) = {
            let state = self.state();
            let Some(place) = state.shelf.get(&first).cloned() else { return Ok((None, Vec::new())) };
            let last = state.last_of(first);
            let possible = beyond.map(|beyond| first.max(beyond + 1)..=last);
            (place, Wanted { known: state.held_positions(first, last), possible, suspicious })
        };
        match salvage::inspect(&place, &wanted).map_err(|f| f.into_error("read the spool"))? {
            Found::Sound(generation, possible) => {
                let generation = Arc::new(generation);
                let bytes = shelf::folder_bytes(&place.path);
                let mut state = self.state();
                Self::keep_open(&mut state, first, &generation);
                if let Some(place) = state.shelf.get_mut(&first) {
                    place.bytes = bytes;
                }
                Ok((Some(generation), possible))
            }
            Found::Incomplete(generation, records) => {
                tracing::error!(path = %place.path.display(), left = records.len(), "a part of the spool lost records");
                let generation = Arc::new(generation);
                self.change(|state| {
                    state.gap_what_misses(&wanted, &records);
                    Self::keep_open(state, first, &generation);
                });
                self.persist_twice()?;
                Ok((Some(generation), wanted.only_possible(records.into_keys())))
            }
            Found::Damaged { why, records, from_raw } => {
                tracing::error!(path = %place.path.display(), why, left = records.len(), "a part of the spool is damaged");
                self.replace(&place, &wanted, records, from_raw)
            }
        }
    }

    #[allow(clippy::type_complexity)]
    fn replace(
        &self,
        place: &Place,
        wanted: &Wanted,
        records: BTreeMap<u64, super::Record>,
        from_raw: u64,
    ) -> Result<(Option<Arc<Generation>>, Vec<u64>), SpoolError> {
        let first = place.first;
        let mut fresh = Place::new(&self.dir, place.number, first, super::random_id());
        let mut aside = Vec::new();
        if !records.is_empty() {
            match salvage::rebuild(&self.dir, &fresh, &[place], &records, true) {
                Ok(paths) => aside = paths,
                // no room to repair it now; where nothing is missing it can be read, and drained to make room
                Err(_) if place.path.exists() && wanted.all_in(&records) => {
                    let possible = wanted.only_possible(records.keys().copied());
                    let generation = Arc::new(Generation::raw(&place.path, place.id, records));
                    Self::keep_open(&mut self.state(), first, &generation);
                    return Ok((Some(generation), possible));
                }
                Err(fault) => return Err(fault.into_error("rebuild a part of the spool")),
            }
        } else if wanted.known.is_empty() && !wanted.suspicious {
            // the crash came while it was being made: nothing of worth was ever in it
            shelf::remove(&self.dir, &place.path).map_err(|e| SpoolError::io("remove an empty part", e))?;
        } else if place.path.exists() {
            aside.push(shelf::set_aside(&self.dir, &place.path).map_err(|e| SpoolError::io("set a part aside", e))?);
        }
        fresh.measure();
        self.change(|state| {
            state.aside.extend(aside);
            shelf::bound_aside(&mut state.aside, usize::MAX);
            state.book.totals.salvaged += from_raw;
            state.gap_what_misses(wanted, &records);
            if records.is_empty() {
                state.shelf.remove(&first);
            } else {
                state.shelf.insert(first, fresh.clone());
            }
        });
        self.persist_twice()?;
        let possible = wanted.only_possible(records.keys().copied());
        if records.is_empty() {
            return Ok((None, possible));
        }
        let generation = Generation::open(&fresh.path, fresh.id).map_err(|f| f.into_error("open a rebuilt part"))?;
        let generation = Arc::new(generation);
        Self::keep_open(&mut self.state(), first, &generation);
        Ok((Some(generation), possible))
    }

    /// A gap for each held seq that has no generation to lie in.
    pub(super) fn gap_the_homeless(&self, from: Seq) -> Result<(), SpoolError> {
        let (found, _) = self.change(|state| {
            let lowest = state.shelf.keys().next().copied();
            let homed: SeqRanges =
                lowest.map(|first| state.book.seqs_at(first, u64::MAX).into_iter().collect()).unwrap_or_default();
            let held = state.book.held_in(SeqRange::new(from, Seq(state.book.highest.max(from.0))));
            let lost: Vec<_> = held.into_iter().flat_map(|r| Vec::from(homed.missing_in(r))).collect();
            for seqs in &lost {
                state.book.totals.lost += seqs.count();
                state.book.record_gap(Gap { seqs: *seqs, span: None, reason: GapReason::Damage });
            }
            !lost.is_empty()
        });
        if found { self.persist_twice() } else { Ok(()) }
    }

    /// Closes what is open for reading.
    pub(super) fn close_sealed(&self) {
        self.state().open.clear();
    }

    /// Seals the tail; with the writer lock held.
    pub(super) fn close_tail(&self, writer: &mut Writer) {
        writer.generation = None;
        writer.payload = 0;
        self.state().tail = None;
    }

    /// Seals the tail when nothing in it is held and it has grown to `payload_min`.
    pub(super) fn close_idle_tail(&self, writer: &mut Writer, payload_min: u64) {
        let Some((first, _)) = &writer.generation else { return };
        let idle = {
            let state = self.state();
            state.book.held_at(*first, u64::MAX).is_empty()
        };
        if idle && writer.payload >= payload_min {
            self.close_tail(writer);
        }
    }

    fn close_tail_if(&self, writer: &mut Writer, first: u64) {
        if writer.generation.as_ref().is_some_and(|(f, _)| *f == first) {
            self.close_tail(writer);
        }
    }

    /// Removes sealed generations that hold nothing any more. What they held is accounted for on disk, twice.
    pub(super) fn sweep(&self) -> Result<(), SpoolError> {
        let empty = |state: &State| -> Vec<u64> {
            let tail = state.tail.as_ref().map(|(first, _)| *first);
            let sealed = state.shelf.keys().copied().filter(|first| Some(*first) != tail);
            sealed.filter(|first| state.book.held_at(*first, state.last_of(*first)).is_empty()).collect()
        };
        if empty(&self.state()).is_empty() {
            return Ok(());
        }
        let _loader = locked(&self.loader);
        let doomed = empty(&self.state());
        self.persist_twice()?;
        for first in doomed {
            self.discard(first)?;
        }
        Ok(())
    }

    /// With the loader lock held.
    fn discard(&self, first: u64) -> Result<(), SpoolError> {
        let place = {
            let mut state = self.state();
            state.open.retain(|(f, _)| *f != first);
            state.shelf.remove(&first)
        };
        match place {
            Some(place) if place.path.exists() => shelf::remove(&self.dir, &place.path).map_err(|e| {
                self.state().shelf.insert(first, place);
                SpoolError::io("remove an emptied part of the spool", e)
            }),
            _ => Ok(()),
        }
    }

    /// The gap that `seqs` leaves, with the time its records cover as far as they can be read. Repairs nothing:
    /// the writer lock may be held.
    pub(super) fn gap_of(&self, seqs: SeqRange, reason: GapReason) -> Gap {
        let (mut span, mut at) = (None, seqs.first);
        while let Some((run, position, home)) = self.next_run(at, seqs.last) {
            at = run.last.next();
            let Some(Ok(Some(generation))) = home.map(|first| self.load(first)) else { continue };
            for offset in 0..run.count() {
                let Ok(record) = generation.get(position + offset) else { break };
                span = super::book::hull(span, record.and_then(|r| r.span));
            }
        }
        Gap { seqs, span, reason }
    }

    /// The run of held seqs at or after `from`, up to `last`, with the generation its first lies in.
    pub(super) fn next_run(&self, from: Seq, last: Seq) -> Option<(SeqRange, u64, Option<u64>)> {
        let state = self.state();
        let run = state.book.first_held(from).filter(|run| run.first <= last)?;
        let run = SeqRange::new(run.first, run.last.min(last));
        Some(Self::within_generation(&state, run, false))
    }

    /// The run of held seqs before `before`, with its generation.
    pub(super) fn run_before(&self, before: Seq) -> Option<(SeqRange, u64, Option<u64>)> {
        let state = self.state();
        let run = state.book.last_held(before)?;
        Some(Self::within_generation(&state, run, true))
    }

    /// Cuts a run to one segment and one generation, from its start or its end; with the position of its first.
    fn within_generation(state: &State, run: SeqRange, from_end: bool) -> (SeqRange, u64, Option<u64>) {
        let edge = if from_end { run.last } else { run.first };
        let Some(position) = state.book.position_of(edge) else {
            return (SeqRange::one(edge), 0, None);
        };
        let Some(home) = state.home(position) else {
            return (SeqRange::one(edge), position, None);
        };
        let inside =
            state.book.seqs_at(home, state.last_of(home)).into_iter().find(|r| r.first <= edge && edge <= r.last);
        let inside = inside.unwrap_or(SeqRange::one(edge));
        let cut = SeqRange::new(run.first.max(inside.first), run.last.min(inside.last));
        let first_position = state.book.position_of(cut.first).unwrap_or(position);
        (cut, first_position, Some(home))
    }
}
