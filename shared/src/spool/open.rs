//! Opening, whatever happened before.

use super::book::Book;
use super::ledger::{Ledger, sync_dir};
use super::salvage;
use super::shelf::{self, Place};
use super::store::{State, Store};
use super::{OpenReport, Options, SpoolError};
use crate::ids::Seq;
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::path::Path;

/// So many small generations at the end are folded into one.
const FOLD_COUNT: usize = 8;
/// At most so many at once: it takes memory.
const FOLD_MAX: usize = 32;
/// What a generation with hardly anything in it takes.
const SMALL_MIN: u64 = 768 << 10;

pub(super) fn open(dir: &Path, options: Options) -> Result<(Store, OpenReport), SpoolError> {
    let failed = |e| SpoolError::io("open the spool", e);
    std::fs::create_dir_all(dir).map_err(failed)?;
    if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
        let _ = sync_dir(parent); // not ours to read, perhaps
    }
    let lock = lock(dir)?;
    let mut listing = shelf::list(dir).map_err(failed)?;
    let (ledger, book, new_stream) = match Ledger::load(dir).map_err(failed)? {
        Some((ledger, book)) => (ledger, book, false),
        None => {
            let path = dir.join("ledger");
            if path.exists() {
                tracing::error!(path = %path.display(), "the spool's ledger is lost: a new stream is started");
                listing.aside.push(shelf::set_aside(dir, &path).map_err(failed)?);
            }
            let book = Book::new();
            (Ledger::create(dir, &book).map_err(failed)?, book, true)
        }
    };
    shelf::bound_aside(&mut listing.aside, usize::MAX);
    let before = book.totals;
    let store = Store::new(dir.to_owned(), options, lock, ledger, State::new(book, listing));
    let gaps_before = store.state().book.gaps.clone();
    store.gap_the_homeless(Seq::FIRST)?;
    adopt(&store, new_stream)?;
    check_beside_holes(&store)?;
    store.sweep()?;
    fold(&store)?;
    let (report, _) = store.change(|state| OpenReport {
        new_stream,
        salvaged: state.book.totals.salvaged - before.salvaged,
        lost: state.book.gaps.iter().filter(|gap| !gaps_before.contains(gap)).copied().collect(),
        set_aside: state.aside.clone(),
    });
    Ok((store, report))
}

fn lock(dir: &Path) -> Result<File, SpoolError> {
    let path = dir.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|e| SpoolError::io("lock the spool", e))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(SpoolError::InUse { dir: dir.display().to_string() }),
        Err(e) => Err(SpoolError::io("lock the spool", e.into())),
    }
}

/// Takes in what was written and perhaps never acknowledged: records beyond the account. All, when the ledger is new.
fn adopt(store: &Store, new_stream: bool) -> Result<(), SpoolError> {
    let (beyond, candidates) = {
        let state = store.state();
        let beyond = if new_stream { 0 } else { state.book.last_position };
        let firsts = state.shelf.keys().copied();
        (beyond, firsts.filter(|first| state.last_of(*first) > beyond).collect::<Vec<_>>())
    };
    for first in candidates {
        let mut positions = store.adopt(first, beyond, new_stream)?;
        positions.sort_unstable();
        if positions.is_empty() {
            continue;
        }
        let (_, version) = store.change(|state| {
            for run in positions.chunk_by(|a, b| a + 1 == *b) {
                state.book.extend(run[0], run.len() as u64, None);
            }
            state.next_position = state.next_position.max(positions[positions.len() - 1] + 1);
        });
        store.persist(version)?;
    }
    Ok(())
}

/// A generation whose successor is missing, or whose file is, is checked now: others are when a reader gets there.
fn check_beside_holes(store: &Store) -> Result<(), SpoolError> {
    let doubtful: Vec<u64> = {
        let state = store.state();
        let places: Vec<&Place> = state.shelf.values().collect();
        let beside_hole = |i: usize| places.get(i + 1).is_some_and(|next| next.number > places[i].number + 1);
        let hollow = |place: &Place| std::fs::metadata(place.path.join("db")).map_or(0, |m| m.len()) == 0;
        let held = |place: &Place| !state.book.held_at(place.first, state.last_of(place.first)).is_empty();
        let doubtful = places.iter().enumerate().filter(|(i, p)| held(p) && (beside_hole(*i) || hollow(p)));
        doubtful.map(|(_, p)| p.first).collect()
    };
    for first in doubtful {
        store.load(first)?;
    }
    Ok(())
}

/// Many starts leave many small generations, each with the overhead of a whole one: the newest of them become one.
fn fold(store: &Store) -> Result<(), SpoolError> {
    let limit = store.generation_bytes;
    let candidates: Vec<u64> = {
        let state = store.state();
        let newest = state.shelf.values().rev().take_while(|p| p.bytes <= (limit / 2).max(SMALL_MIN));
        newest.take(FOLD_MAX).map(|p| p.first).collect()
    };
    if candidates.len() < FOLD_COUNT {
        return Ok(());
    }
    let (mut records, mut payload, mut run) = (BTreeMap::new(), 0, Vec::new());
    for first in candidates {
        let Some(generation) = store.load(first)? else { continue };
        let (held, place) = {
            let state = store.state();
            (state.held_positions(first, state.last_of(first)), state.shelf.get(&first).cloned())
        };
        for position in held.into_iter().flatten() {
            match generation.get(position) {
                Ok(Some(record)) => {
                    payload += record.payload.len() as u64;
                    records.insert(position, record);
                }
                // leave all as it is: a reader will find and repair it
                Ok(None) | Err(_) => return Ok(()),
            };
        }
        run.extend(place);
        if payload > limit {
            break;
        }
    }
    let Some(oldest) = run.last().filter(|_| run.len() >= FOLD_COUNT && !records.is_empty()) else { return Ok(()) };
    let mut place = Place::new(&store.dir, oldest.number, oldest.first, super::random_id());
    store.close_sealed();
    let old: Vec<&Place> = run.iter().collect();
    if let Err(fault) = salvage::rebuild(&store.dir, &place, &old, &records, false) {
        let error = fault.into_error("fold small parts of the spool");
        if !old.iter().all(|p| p.path.exists()) {
            return Err(error); // half done: the next start finishes it
        }
        tracing::warn!(%error, "small parts of the spool are left as they are");
        return Ok(());
    }
    place.measure();
    store.change(|state| {
        for old in &run {
            state.shelf.remove(&old.first);
        }
        state.shelf.insert(place.first, place);
    });
    Ok(())
}
