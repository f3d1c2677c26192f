//! The folders of a spool: their names, their sizes, what is set aside.
//!
//! | name | what |
//! |---|---|
//! | `gen-NUMBER-FIRST-ID` | a generation: its number, its first position, its random identity |
//! | `new-…` | one being made; worthless after a crash |
//! | `fix-NUMBER-FIRST-ID-UNTIL` | a complete one that replaces those whose first position is FIRST to UNTIL |
//! | `bad-…` | a damaged one, kept for a person to look at, bounded |
//! | `del-…` | one being removed |

use super::ledger::sync_dir;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// At most so many damaged folders are kept.
const ASIDE_MAX: usize = 4;
/// At most so many bytes of them.
const ASIDE_BYTES_MAX: u64 = 32 << 20;

/// Where a generation lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) number: u64,
    pub(super) first: u64,
    pub(super) id: u64,
    pub(super) path: PathBuf,
    /// Bytes it takes on the disk.
    pub(super) bytes: u64,
}

/// What lies in the folder of a spool.
#[derive(Default, Debug)]
pub(super) struct Listing {
    pub(super) generations: BTreeMap<u64, Place>,
    pub(super) aside: Vec<PathBuf>,
}

fn tail_of(number: u64, first: u64, id: u64) -> String {
    format!("{number:08}-{first:020}-{id:016x}")
}

impl Place {
    pub(super) fn new(dir: &Path, number: u64, first: u64, id: u64) -> Place {
        let path = dir.join(format!("gen-{}", tail_of(number, first, id)));
        Place { number, first, id, path, bytes: 0 }
    }
    pub(super) fn draft(&self) -> PathBuf {
        self.path.with_file_name(format!("new-{}", tail_of(self.number, self.first, self.id)))
    }
    pub(super) fn fix(&self, until: u64) -> PathBuf {
        self.path.with_file_name(format!("fix-{}-{until:020}", tail_of(self.number, self.first, self.id)))
    }
    pub(super) fn measure(&mut self) {
        self.bytes = folder_bytes(&self.path);
    }
}

/// `NUMBER-FIRST-ID` and what follows.
fn parse(dir: &Path, name: &str) -> Option<(Place, Option<u64>)> {
    let mut parts = name.split('-').skip(1);
    let number = parts.next()?.parse().ok()?;
    let first: u64 = parts.next()?.parse().ok().filter(|first| *first > 0)?;
    let id = u64::from_str_radix(parts.next()?, 16).ok()?;
    let until = parts.next().and_then(|until| until.parse().ok());
    Some((Place::new(dir, number, first, id), until))
}

/// Bytes a folder takes on the disk.
pub(super) fn folder_bytes(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return fs::metadata(path).map_or(0, |m| m.blocks() * 512) };
    entries
        .flatten()
        .filter_map(|entry| entry.metadata().ok().map(|m| (entry, m)))
        .map(|(entry, m)| m.blocks() * 512 + if m.is_dir() { folder_bytes(&entry.path()) } else { 0 })
        .sum()
}

/// Takes a folder away: under another name first, so that a crash leaves no half of it under its own.
pub(super) fn remove(dir: &Path, path: &Path) -> io::Result<()> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let doomed = dir.join(format!("del-{name}"));
    fs::rename(path, &doomed)?;
    sync_dir(dir)?;
    if let Err(e) = fs::remove_dir_all(&doomed) {
        tracing::warn!(path = %doomed.display(), error = %e, "an emptied part of the spool is still there; tried again at the next start");
    }
    Ok(())
}

/// Sets a file or folder aside under a name that is free.
pub(super) fn set_aside(dir: &Path, path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let free = (0u32..).map(|n| dir.join(format!("bad-{n:04}-{name}"))).find(|p| !p.exists());
    let aside = free.unwrap_or_else(|| dir.join(format!("bad-{name}")));
    fs::rename(path, &aside)?;
    sync_dir(dir)?;
    Ok(aside)
}

/// Keeps the set-aside bounded: the oldest go.
pub(super) fn bound_aside(aside: &mut Vec<PathBuf>, keep: usize) {
    aside.sort_by_key(|path| fs::metadata(path).and_then(|m| m.modified()).ok());
    let keep = keep.min(ASIDE_MAX);
    while aside.len() > keep || aside.iter().map(|p| folder_bytes(p)).sum::<u64>() > ASIDE_BYTES_MAX {
        let oldest = aside.remove(0);
        let gone = if oldest.is_dir() { fs::remove_dir_all(&oldest) } else { fs::remove_file(&oldest) };
        tracing::warn!(path = %oldest.display(), ok = gone.is_ok(), "removed what was set aside, to keep it bounded");
    }
}

/// Puts a complete replacement in the place of what it replaces. Safe to repeat.
pub(super) fn swap_in(
    dir: &Path,
    fix: &Path,
    place: &Place,
    old: &[PathBuf],
    keep_old: bool,
) -> io::Result<Vec<PathBuf>> {
    let mut aside = Vec::new();
    for path in old.iter().filter(|path| path.exists()) {
        if keep_old {
            aside.push(set_aside(dir, path)?);
        } else {
            remove(dir, path)?;
        }
    }
    fs::rename(fix, &place.path)?;
    sync_dir(dir)?;
    Ok(aside)
}

/// Lists the folder, after finishing what a crash left half done.
pub(super) fn list(dir: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let mut fixes = Vec::new();
    let mut places: Vec<Place> = Vec::new();
    for entry in fs::read_dir(dir)?.flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        match name.split('-').next().unwrap_or_default() {
            "gen" => match parse(dir, &name) {
                Some((place, None)) if place.path == path => places.push(place),
                _ => listing.aside.push(set_aside(dir, &path)?),
            },
            "fix" => match parse(dir, &name) {
                Some((place, Some(until))) => fixes.push((path, place, until)),
                _ => listing.aside.push(set_aside(dir, &path)?),
            },
            "bad" => listing.aside.push(path),
            "new" | "del" if path.is_dir() => {
                let _ = fs::remove_dir_all(&path);
            }
            _ => {}
        }
    }
    for (fix, place, until) in fixes {
        let (old, rest): (Vec<_>, Vec<_>) = places.into_iter().partition(|p| (place.first..=until).contains(&p.first));
        places = rest;
        let old: Vec<_> = old.into_iter().map(|p| p.path).collect();
        listing.aside.extend(swap_in(dir, &fix, &place, &old, place.first == until)?);
        places.push(place);
    }
    places.sort_by_key(|p| (p.first, std::cmp::Reverse(p.number)));
    for mut place in places {
        place.measure();
        match listing.generations.entry(place.first) {
            Entry::Vacant(free) => {
                free.insert(place);
            }
            // a copy somebody made: two can't both be right
            Entry::Occupied(_) => listing.aside.push(set_aside(dir, &place.path)?),
        }
    }
    Ok(listing)
}
