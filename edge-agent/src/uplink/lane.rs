//! One lane of blocks on their way: which seqs it goes through, what of them was read from the disk, and its credit.

use super::credit::Credit;
use crate::catalogues::Catalogues;
use bytes::Bytes;
use shared::block;
use shared::catalogue::CatalogueHash;
use shared::ids::Seq;
use shared::ranges::{SeqRange, SeqRanges};
use shared::spool::{Spool, SpoolError};
use std::collections::VecDeque;

/// Blocks that are read ahead at a time.
const READ_COUNT: usize = 64;
/// Bytes that are read ahead at a time.
const READ_BYTES: usize = 128 << 10;
/// Peeks of one reading, so that it ends.
const LOOKS_MAX: usize = 256;

/// A block that can be sent.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    pub(super) seq: Seq,
    pub(super) bytes: Bytes,
    /// The catalogue it needs; `None` when its header can't be read.
    pub(super) catalogue: Option<CatalogueHash>,
}

/// A stretch of seqs that is worked off in their order.
#[derive(Debug)]
pub(super) struct Lane {
    next: Seq,
    last: Seq,
    /// Nothing is left up to `last`.
    dry: bool,
    pub(super) ready: VecDeque<Ready>,
    pub(super) credit: Credit,
}

/// What was read for a lane.
pub(super) struct Loaded {
    ready: Vec<Ready>,
    next: Seq,
    dry: bool,
    /// Catalogues that the blocks need and the collector wasn't seen to have.
    pub(super) catalogues: Vec<(CatalogueHash, Option<Bytes>)>,
}

impl Lane {
    pub(super) fn new(first: Seq, last: Seq) -> Self {
        Self { next: first, last, dry: first > last, ready: VecDeque::new(), credit: Credit::default() }
    }

    /// More seqs exist now.
    pub(super) fn extend(&mut self, last: Seq) {
        if last > self.last {
            self.last = last;
            self.dry = false;
        }
    }

    /// Whether more should be read from the disk; from where to where.
    pub(super) fn wants(&self) -> Option<SeqRange> {
        let hungry = !self.dry && self.ready.len() < READ_COUNT / 2 && self.next <= self.last;
        hungry.then(|| SeqRange::new(self.next, self.last))
    }

    /// Takes what was read.
    pub(super) fn feed(&mut self, loaded: Loaded) {
        self.ready.extend(loaded.ready);
        self.next = loaded.next;
        // What was appended while it was read counts as not looked at.
        self.dry = loaded.dry && self.next > self.last;
    }
}

/// Reads the next blocks of `range` that aren't in `settled`. Blocks on the disk.
pub(super) fn load(
    spool: &Spool,
    catalogues: &Catalogues,
    range: SeqRange,
    settled: &SeqRanges,
    known: &[CatalogueHash],
) -> Result<Loaded, SpoolError> {
    let mut loaded = Loaded { ready: Vec::new(), next: range.first, dry: false, catalogues: Vec::new() };
    let mut bytes = 0;
    for _ in 0..LOOKS_MAX {
        let Some(from) = first_open(settled, loaded.next, range.last) else {
            loaded.next = range.last.next();
            loaded.dry = true;
            break;
        };
        let run = spool.peek(from, READ_COUNT, READ_BYTES)?;
        if run.is_empty() {
            loaded.next = range.last.next();
            loaded.dry = true;
            break;
        }
        for stored in run {
            if stored.seq > range.last {
                loaded.next = range.last.next();
                loaded.dry = true;
                break;
            }
            loaded.next = stored.seq.next();
            if settled.contains(stored.seq) {
                continue;
            }
            bytes += stored.record.payload.len();
            let catalogue = block::read_header(&stored.record.payload).ok().map(|header| header.catalogue);
            loaded.ready.push(Ready { seq: stored.seq, bytes: stored.record.payload, catalogue });
        }
        if loaded.dry || bytes >= READ_BYTES || loaded.ready.len() >= READ_COUNT {
            break;
        }
    }
    let mut needed: Vec<CatalogueHash> = loaded.ready.iter().filter_map(|ready| ready.catalogue).collect();
    needed.sort_unstable();
    needed.dedup();
    needed.retain(|hash| !known.contains(hash));
    loaded.catalogues = needed.into_iter().map(|hash| (hash, catalogues.bytes(hash))).collect();
    Ok(loaded)
}

fn first_open(settled: &SeqRanges, from: Seq, last: Seq) -> Option<Seq> {
    if from > last {
        return None;
    }
    let inside = settled.iter().find(|range| range.first <= from && from <= range.last);
    let open = inside.map_or(from, |range| range.last.next());
    (open <= last).then_some(open)
}
