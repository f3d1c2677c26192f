//! Looking through a generation, and building a sound one from what a damaged one still has.

use super::book::hull;
use super::generation::Generation;
use super::shelf::{self, Place};
use super::{Fault, Record, record};
use crate::reading::Timestamp;
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What is looked for in a generation.
pub(super) struct Wanted {
    /// Positions that must be there, ascending.
    pub(super) known: Vec<RangeInclusive<u64>>,
    /// Positions that may be there: written, perhaps never acknowledged.
    pub(super) possible: Option<RangeInclusive<u64>>,
    /// Whether to look through the raw file even when sled sees no fault: nothing says what must be there.
    pub(super) suspicious: bool,
}

impl Wanted {
    fn has(&self, position: u64) -> bool {
        self.possible.as_ref().is_some_and(|r| r.contains(&position)) || self.must_have(position)
    }
    /// Whether nothing is missing in these.
    pub(super) fn all_in(&self, records: &BTreeMap<u64, Record>) -> bool {
        self.known.iter().cloned().flatten().all(|position| records.contains_key(&position))
    }
    /// Those of the positions that nothing says must be there.
    pub(super) fn only_possible(&self, positions: impl Iterator<Item = u64>) -> Vec<u64> {
        positions.filter(|p| !self.must_have(*p)).collect()
    }
    fn must_have(&self, position: u64) -> bool {
        let at = self.known.partition_point(|r| *r.end() < position);
        self.known.get(at).is_some_and(|r| r.contains(&position))
    }
    fn count(&self) -> u64 {
        self.known.iter().map(|r| r.end() - r.start() + 1).sum()
    }
}

/// What was found.
pub(super) enum Found {
    /// All that is wanted is there; with the positions that were only possible.
    Sound(Generation, Vec<u64>),
    /// It reads well, and yet not all that is wanted is there, nor in the raw file; these are left.
    Incomplete(Generation, BTreeMap<u64, Record>),
    /// Something is wrong; these records are left.
    Damaged { why: String, records: BTreeMap<u64, Record>, from_raw: u64 },
}

/// Opens a generation and checks every wanted record. An error is one of the machine, not of the data.
///
/// The raw file is read first and what it has is kept until sled has shown that it has it too: opening a damaged
/// sled can wipe segments that are still whole.
pub(super) fn inspect(place: &Place, wanted: &Wanted) -> Result<Found, Fault> {
    let mut records = BTreeMap::new();
    scan_raw(&place.path.join("db"), place.id, |position, record| {
        if wanted.has(position) {
            records.insert(position, record);
        }
    });
    let mut given = Vec::new();
    let read = Generation::open(&place.path, place.id).and_then(|generation| {
        generation.each(|position, record| {
            if wanted.has(position) {
                given.push(position);
                records.entry(position).or_insert(record);
            }
        })?;
        Ok(generation)
    });
    let possible = wanted.only_possible(given.iter().copied());
    let missing = wanted.count() - (given.len() - possible.len()) as u64;
    let from_raw = (records.len() - given.len()) as u64;
    let why = match read {
        Ok(generation) if missing == 0 && (from_raw == 0 || !wanted.suspicious) => {
            return Ok(Found::Sound(generation, possible));
        }
        Ok(generation) if from_raw == 0 => return Ok(Found::Incomplete(generation, records)),
        Ok(_) => format!("sled lacks {} records", missing.max(from_raw)),
        Err(Fault::Damaged(why)) => why,
        Err(io) => {
            // Nothing can be repaired now; what is whole can be read, and drained to make room.
            let whole = wanted.all_in(&records);
            let possible = wanted.only_possible(records.keys().copied());
            return if whole {
                Ok(Found::Sound(Generation::raw(&place.path, place.id, records), possible))
            } else {
                Err(io)
            };
        }
    };
    Ok(Found::Damaged { why, records, from_raw })
}

/// Finds whole records in the raw file; parts that the disk can't read are skipped.
fn scan_raw(path: &Path, id: u64, mut found: impl FnMut(u64, Record)) {
    const STEP: usize = 1 << 20;
    const OVERLAP: usize = record::HEAD + super::RECORD_BYTES_MAX;
    let Ok(file) = File::open(path) else { return };
    let Ok(len) = file.metadata().map(|m| m.len()) else { return };
    let mut window = vec![0; STEP + OVERLAP];
    let mut at = 0;
    while at < len {
        let size = (len - at).min(window.len() as u64) as usize;
        let window = &mut window[..size];
        if file.read_exact_at(window, at).is_err() {
            window.fill(0);
            for (n, page) in window.chunks_mut(4096).enumerate() {
                if file.read_exact_at(page, at + n as u64 * 4096).is_err() {
                    page.fill(0);
                }
            }
        }
        record::scan(id, window, &mut found);
        at += STEP as u64;
    }
}

/// Makes a sound generation of these records and puts it in the place of the old ones.
pub(super) fn rebuild(
    dir: &Path,
    place: &Place,
    old: &[&Place],
    records: &BTreeMap<u64, Record>,
    keep_old: bool,
) -> Result<Vec<PathBuf>, Fault> {
    let draft = place.draft();
    let made = (|| {
        let generation = Generation::create(&draft, place.id)?;
        let mut left = records.iter().peekable();
        while left.peek().is_some() {
            generation.put_at(left.by_ref().take(256).map(|(position, record)| (*position, record)))?;
        }
        Ok(())
    })();
    if let Err(fault) = made {
        let _ = std::fs::remove_dir_all(&draft);
        return Err(match fault {
            Fault::Damaged(why) => Fault::Io(std::io::Error::other(why)),
            io => io,
        });
    }
    let until = old.iter().map(|p| p.first).max().unwrap_or(place.first);
    let fix = place.fix(until);
    let swapped = std::fs::rename(&draft, &fix).and_then(|()| super::ledger::sync_dir(dir)).and_then(|()| {
        let old: Vec<_> = old.iter().map(|p| p.path.clone()).collect();
        shelf::swap_in(dir, &fix, place, &old, keep_old)
    });
    swapped.map_err(Fault::Io)
}

/// The time between what is left before and after a missing stretch of positions.
pub(super) fn bracket(
    records: &BTreeMap<u64, Record>,
    missing: &RangeInclusive<u64>,
) -> Option<(Timestamp, Timestamp)> {
    let before = records.range(..missing.start()).rev().find_map(|(_, r)| r.span)?.1;
    let after = records.range(missing.end() + 1..).find_map(|(_, r)| r.span)?.0;
    hull(Some((before.min(after), before.max(after))), None)
}
