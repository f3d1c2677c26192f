//! The account of a spool, pure: which seqs exist, where they lie, which are accounted for, what is missing.
//!
//! A *position* is where a record lies: it counts up for the life of the folder and never comes back. A *seq* is
//! what others call the record. They differ after a write failed (positions are skipped, seqs are not) and after
//! a new stream was started (seqs begin at 1 again, records stay where they are). `segments` maps one to the other.

use super::{Gap, GapReason};
use crate::ids::{Seq, StreamId};
use crate::ranges::{SeqRange, SeqRanges};
use crate::reading::Timestamp;
use serde::{Deserialize, Serialize};

/// More islands are kept in memory only: after a crash what lies beyond is sent once more.
pub(super) const ISLANDS_MAX: usize = 1000;
/// More gaps are joined with their nearest neighbour.
pub(super) const GAPS_MAX: usize = 500;
/// More segments would not fit the ledger.
pub(super) const SEGMENTS_MAX: usize = 1000;

/// `count` seqs from `seq` lie at as many positions from `position`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Segment {
    pub(super) seq: u64,
    pub(super) position: u64,
    pub(super) count: u64,
}

/// Counters that outlive a restart.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(super) struct Totals {
    pub(super) appended: u64,
    pub(super) released: u64,
    pub(super) dropped: u64,
    pub(super) given_up: u64,
    pub(super) lost: u64,
    pub(super) salvaged: u64,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Book {
    pub(super) stream: StreamId,
    /// Highest seq given, 0 when none.
    pub(super) highest: u64,
    /// The last position the account knows: what lies beyond was written and perhaps never acknowledged.
    pub(super) last_position: u64,
    /// Ascending in seq and in position.
    pub(super) segments: Vec<Segment>,
    /// Released, or missing with a gap.
    pub(super) accounted: SeqRanges,
    /// Ascending by first seq.
    pub(super) gaps: Vec<Gap>,
    pub(super) totals: Totals,
}

impl Book {
    pub(super) fn new() -> Self {
        Book {
            stream: StreamId::random(),
            highest: 0,
            last_position: 0,
            segments: Vec::new(),
            accounted: SeqRanges::new(),
            gaps: Vec::new(),
            totals: Totals::default(),
        }
    }

    /// The copy that goes to disk: bounded.
    pub(super) fn bounded(&self) -> Book {
        let mut book = self.clone();
        if book.accounted.islands() > ISLANDS_MAX {
            book.accounted = self.accounted.iter().take(ISLANDS_MAX).collect();
        }
        book
    }

    /// What comes from disk: sound, or nothing.
    pub(super) fn checked(self) -> Option<Book> {
        let ascending = |a: &Segment, b: &Segment| {
            a.seq.checked_add(a.count).is_some_and(|end| end <= b.seq)
                && a.position.checked_add(a.count).is_some_and(|end| end <= b.position)
        };
        let sound = self.segments.windows(2).all(|w| ascending(&w[0], &w[1]))
            && self.segments.iter().all(|s| s.seq >= 1 && s.count >= 1)
            && self.segments.last().is_none_or(|s| s.seq.saturating_add(s.count - 1) <= self.highest)
            && self.gaps.iter().all(|g| g.seqs.first.0 >= 1 && g.seqs.first <= g.seqs.last)
            && self.accounted.highest().is_none_or(|s| s.0 <= self.highest)
            && self.segments.last().is_none_or(|s| s.position + s.count - 1 <= self.last_position)
            && self.highest < u64::MAX / 2
            && self.last_position < u64::MAX / 2;
        sound.then_some(self)
    }

    pub(super) fn all(&self) -> Option<SeqRange> {
        (self.highest > 0).then(|| SeqRange::new(Seq::FIRST, Seq(self.highest)))
    }

    /// What of `range` is held: given, and neither released nor missing. Ascending.
    pub(super) fn held_in(&self, range: SeqRange) -> Vec<SeqRange> {
        let mut held = Vec::new();
        let (mut at, last) = (range.first.0.max(1), range.last.0.min(self.highest));
        let islands = self.accounted.as_slice();
        let skip = islands.partition_point(|r| r.last.0 < at);
        for island in &islands[skip..] {
            if island.first.0 > last {
                break;
            }
            if island.first.0 > at {
                held.push(SeqRange::new(Seq(at), Seq(island.first.0 - 1)));
            }
            at = island.last.0 + 1;
        }
        if at <= last {
            held.push(SeqRange::new(Seq(at), Seq(last)));
        }
        held
    }

    /// The first run of held seqs at or after `from`.
    pub(super) fn first_held(&self, from: Seq) -> Option<SeqRange> {
        let islands = self.accounted.as_slice();
        let mut first = from.0.max(1);
        let at = islands.partition_point(|r| r.last.0 < first);
        let mut next = islands.get(at);
        if let Some(island) = next.filter(|r| r.first.0 <= first) {
            first = island.last.0 + 1;
            next = islands.get(at + 1);
        }
        let last = next.map_or(self.highest, |r| r.first.0 - 1);
        (first <= last).then(|| SeqRange::new(Seq(first), Seq(last)))
    }

    /// The last run of held seqs before `before`.
    pub(super) fn last_held(&self, before: Seq) -> Option<SeqRange> {
        let islands = self.accounted.as_slice();
        let mut last = before.0.saturating_sub(1).min(self.highest);
        let mut at = islands.partition_point(|r| r.first.0 <= last);
        if let Some(island) = at.checked_sub(1).map(|i| islands[i]).filter(|r| r.last.0 >= last) {
            last = island.first.0 - 1;
            at -= 1;
        }
        let first = at.checked_sub(1).map_or(1, |i| islands[i].last.0 + 1);
        (first <= last && last > 0).then(|| SeqRange::new(Seq(first), Seq(last)))
    }

    pub(super) fn held(&self) -> SeqRanges {
        self.all().map(|all| self.held_in(all).into_iter().collect()).unwrap_or_default()
    }

    pub(super) fn held_count(&self) -> u64 {
        self.highest.saturating_sub(self.accounted.count())
    }

    pub(super) fn position_of(&self, seq: Seq) -> Option<u64> {
        let at = self.segments.partition_point(|s| s.seq <= seq.0).checked_sub(1)?;
        let segment = self.segments[at];
        (seq.0 - segment.seq < segment.count).then(|| segment.position + (seq.0 - segment.seq))
    }

    /// The seqs that lie between two positions, both included.
    pub(super) fn seqs_at(&self, first: u64, last: u64) -> Vec<SeqRange> {
        let from = self.segments.partition_point(|s| s.position + s.count <= first);
        let inside = self.segments[from..].iter().take_while(|s| s.position <= last);
        inside
            .map(|s| {
                let low = first.max(s.position) - s.position;
                let high = last.min(s.position + s.count - 1) - s.position;
                SeqRange::new(Seq(s.seq + low), Seq(s.seq + high))
            })
            .collect()
    }

    /// The held seqs that lie between two positions.
    pub(super) fn held_at(&self, first: u64, last: u64) -> Vec<SeqRange> {
        self.seqs_at(first, last).into_iter().flat_map(|r| self.held_in(r)).collect()
    }

    /// Gives seqs to `count` records that lie from `position` on; returns the first. When the map is full, the
    /// positions skipped since the last record get seqs too: missing for `filler`, or else released.
    pub(super) fn extend(&mut self, position: u64, count: u64, filler: Option<GapReason>) -> Seq {
        if self.segments.len() >= SEGMENTS_MAX {
            self.prune();
        }
        let full = self.segments.len() >= SEGMENTS_MAX;
        let mut seq = self.highest + 1;
        match self.segments.last_mut() {
            Some(s) if s.seq + s.count == seq && (full || s.position + s.count == position) => {
                let skipped = position - (s.position + s.count);
                s.count += skipped + count;
                seq += skipped;
                if skipped > 0 {
                    self.highest += skipped;
                    let seqs = SeqRange::new(Seq(seq - skipped), Seq(seq - 1));
                    match filler {
                        Some(reason) => self.record_gap(Gap { seqs, span: None, reason }),
                        None => self.accounted.insert(seqs),
                    }
                }
            }
            _ => self.segments.push(Segment { seq, position, count }),
        }
        self.highest += count;
        self.last_position = self.last_position.max(position + count - 1);
        self.totals.appended += count;
        Seq(seq)
    }

    /// Marks as released; returns how many were held.
    pub(super) fn release(&mut self, ranges: &SeqRanges) -> u64 {
        let before = self.held_count();
        for range in ranges.iter() {
            for held in self.held_in(range) {
                self.accounted.insert(held);
            }
        }
        let released = before - self.held_count();
        self.totals.released += released;
        self.prune();
        released
    }

    /// Forgets where things lie that nobody asks for any more.
    pub(super) fn prune(&mut self) {
        let lowest = match self.accounted.as_slice().first() {
            Some(island) if island.first == Seq::FIRST => island.last.0 + 1,
            _ => 1,
        };
        let dead = self.segments.partition_point(|s| s.seq + s.count <= lowest);
        self.segments.drain(..dead);
    }

    /// Records what is missing, joined with what it touches when the reason is the same.
    pub(super) fn record_gap(&mut self, gap: Gap) {
        self.accounted.insert(gap.seqs);
        let at = self.gaps.partition_point(|g| g.seqs.first < gap.seqs.first);
        self.gaps.insert(at, gap);
        if at + 1 < self.gaps.len() {
            self.join_gaps(at, false);
        }
        if at > 0 {
            self.join_gaps(at - 1, false);
        }
        while self.gaps.len() > GAPS_MAX {
            let distance = |w: &[Gap]| w[1].seqs.first.0.saturating_sub(w[0].seqs.last.0);
            let nearest = self.gaps.windows(2).enumerate().min_by_key(|(_, w)| distance(w)).map_or(0, |(i, _)| i);
            self.join_gaps(nearest, true);
        }
        self.prune();
    }

    fn join_gaps(&mut self, at: usize, force: bool) {
        let (a, b) = (self.gaps[at], self.gaps[at + 1]);
        let touch = b.seqs.first.0 <= a.seqs.last.0.saturating_add(1) && a.reason == b.reason;
        if !touch && !force {
            return;
        }
        let seqs = SeqRange::new(a.seqs.first.min(b.seqs.first), a.seqs.last.max(b.seqs.last));
        self.gaps[at] = Gap { seqs, span: hull(a.span, b.span), reason: a.reason };
        self.gaps.remove(at + 1);
    }

    pub(super) fn forget_gaps(&mut self, ranges: &SeqRanges) {
        let gaps = std::mem::take(&mut self.gaps);
        for gap in gaps {
            let mut left: SeqRanges = std::iter::once(gap.seqs).collect();
            for range in ranges.iter() {
                left.remove(range);
            }
            self.gaps.extend(left.iter().map(|seqs| Gap { seqs, ..gap }));
        }
    }

    /// A fresh stream: held records and gaps are numbered from 1 in their order; nothing moves.
    pub(super) fn renumber(&mut self) {
        let mut fresh = Book { last_position: self.last_position, ..Book::new() };
        // (old range, the gap it is)
        let mut kept: Vec<(SeqRange, Option<Gap>)> = self.held().iter().map(|r| (r, None)).collect();
        kept.extend(self.gaps.iter().map(|g| (g.seqs, Some(*g))));
        kept.sort_by_key(|(range, _)| *range);
        for (range, gap) in kept {
            let count = range.count();
            if let Some(gap) = gap {
                let seqs = SeqRange::new(Seq(fresh.highest + 1), Seq(fresh.highest + count));
                fresh.highest += count;
                fresh.record_gap(Gap { seqs, ..gap });
                continue;
            }
            for s in &self.segments {
                let (first, last) = (range.first.0.max(s.seq), range.last.0.min(s.seq + s.count - 1));
                if first <= last {
                    fresh.extend(s.position + (first - s.seq), last - first + 1, None);
                }
            }
        }
        fresh.totals = self.totals;
        *self = fresh;
    }
}

/// The span that covers both.
pub(super) fn hull(
    a: Option<(Timestamp, Timestamp)>,
    b: Option<(Timestamp, Timestamp)>,
) -> Option<(Timestamp, Timestamp)> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (one, None) | (None, one) => one,
    }
}
