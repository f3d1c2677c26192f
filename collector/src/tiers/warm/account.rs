//! The account of a stream: which seqs are committed, which are known to be missing. Pure decisions, the same for
//! every database.

use crate::tiers::{Flush, GatewayGap};
use shared::ids::{GatewayId, Seq, StreamId};
use shared::ranges::{SeqRange, SeqRanges};
use shared::reading::Timestamp;
use shared::spool::{Gap, GapReason};
use std::collections::BTreeMap;

/// What is said about streams, in an order that all commits share: so they never wait for each other crosswise.
pub(super) type Streams = BTreeMap<(GatewayId, StreamId), StreamNews>;

/// A reading that made room in quarantine: whose, in which block, and when it was.
pub(super) type Dropped = (GatewayId, StreamId, Seq, Timestamp);

/// What a flush says about one stream.
#[derive(Clone, Default)]
pub(super) struct StreamNews {
    pub settled: SeqRanges,
    pub gaps: Vec<Gap>,
}

impl StreamNews {
    /// From the lowest to the highest seq that is spoken of, and the one before a gap, which may go on with it.
    pub(super) fn touches(&self) -> Option<SeqRange> {
        let gaps = self.gaps.iter().map(|gap| SeqRange::new(Seq(gap.seqs.first.0.saturating_sub(1)), gap.seqs.last));
        self.settled.iter().chain(gaps).reduce(|a, b| SeqRange::new(a.first.min(b.first), a.last.max(b.last)))
    }
}

/// The streams of a flush.
pub(super) fn by_stream(flush: &Flush) -> Streams {
    let mut streams = Streams::new();
    for settled in &flush.settled {
        let news = streams.entry((settled.gateway.clone(), settled.stream)).or_default();
        news.settled.extend(&settled.seqs);
    }
    add_gaps(&mut streams, flush.gaps.iter().cloned());
    streams
}

/// Says of streams that something is missing.
pub(super) fn add_gaps(streams: &mut Streams, gaps: impl IntoIterator<Item = GatewayGap>) {
    for GatewayGap { gateway, stream, gap } in gaps {
        streams.entry((gateway, stream)).or_default().gaps.push(gap);
    }
}

/// What made room in quarantine is missing from its blocks, which were settled with it.
pub(super) fn missing(mut dropped: Vec<Dropped>) -> Vec<GatewayGap> {
    dropped.sort_unstable();
    let mut gaps = Vec::<GatewayGap>::new();
    for (gateway, stream, seq, at) in dropped {
        let gap = Gap { seqs: SeqRange::one(seq), span: Some((at, at)), reason: GapReason::Rejected };
        match gaps.last_mut() {
            Some(last) if (&last.gateway, last.stream) == (&gateway, stream) && goes_on(&last.gap, &gap) => {
                last.gap = joined(&last.gap, &gap);
            }
            _ => gaps.push(GatewayGap { gateway, stream, gap }),
        }
    }
    gaps
}

/// Whether a gap begins in another or right after it, and is one of the same kind.
fn goes_on(one: &Gap, next: &Gap) -> bool {
    let meets = one.seqs.first <= next.seqs.first && next.seqs.first.0 <= one.seqs.last.0.saturating_add(1);
    meets && one.reason == next.reason && one.span.is_some() && next.span.is_some()
}

fn joined(one: &Gap, next: &Gap) -> Gap {
    let seqs = SeqRange::new(one.seqs.first, one.seqs.last.max(next.seqs.last));
    let span = one.span.zip(next.span).map(|(a, b)| (a.0.min(b.0), a.1.max(b.1)));
    Gap { seqs, span, reason: one.reason }
}

/// A stream's account while a flush changes it.
#[derive(Debug)]
pub(super) struct Account {
    pub committed: SeqRanges,
    /// The highest seq known; 0 for none.
    pub highest: Seq,
    /// What the flush settles for the first time.
    pub newly: SeqRanges,
    before: BTreeMap<Seq, Gap>,
    gaps: BTreeMap<Seq, Gap>,
}

impl Account {
    /// As it is stored; `gaps` are at least those that the flush touches.
    pub(super) fn new(committed: SeqRanges, highest: Seq, gaps: impl IntoIterator<Item = Gap>) -> Self {
        let before: BTreeMap<Seq, Gap> = gaps.into_iter().map(|gap| (gap.seqs.first, gap)).collect();
        Self { committed, highest, newly: SeqRanges::new(), gaps: before.clone(), before }
    }

    /// Takes in what a flush says: first what came, then what is missing.
    pub(super) fn take(&mut self, news: &StreamNews) {
        self.settle(&news.settled);
        for gap in &news.gaps {
            self.add_gap(gap);
        }
    }

    /// Blocks are committed; gaps that they turn out not to be missing from shrink.
    fn settle(&mut self, seqs: &SeqRanges) {
        let Some(top) = seqs.highest() else { return };
        seqs.iter().for_each(|range| self.newly.extend(&self.committed.missing_in(range)));
        self.committed.extend(seqs);
        self.highest = self.highest.max(top);
        for gap in std::mem::take(&mut self.gaps).into_values() {
            for left in seqs.missing_in(gap.seqs).iter() {
                self.gaps.insert(left.first, Gap { seqs: left, ..gap });
            }
        }
    }

    /// Something is missing: of the stretch, what is neither committed nor in a known gap. A rejected block is
    /// settled and missing at once, and more of one may be missing than was known.
    fn add_gap(&mut self, gap: &Gap) {
        self.highest = self.highest.max(gap.seqs.last);
        let mut known = if gap.reason == GapReason::Rejected { SeqRanges::new() } else { self.committed.clone() };
        for other in self.gaps.values_mut() {
            if goes_on(other, gap) && gap.seqs.last <= other.seqs.last {
                *other = joined(other, gap);
            }
            known.insert(other.seqs);
        }
        for seqs in known.missing_in(gap.seqs).iter() {
            self.put_gap(Gap { seqs, ..*gap });
        }
    }

    /// What is lost block by block is one gap, or a long loss would be as many as it has blocks.
    fn put_gap(&mut self, gap: Gap) {
        match self.gaps.range_mut(..gap.seqs.first).next_back() {
            Some((_, before)) if goes_on(before, &gap) => *before = joined(before, &gap),
            _ => drop(self.gaps.insert(gap.seqs.first, gap)),
        }
    }

    /// The first seqs of stored gaps that are no more, or are no more the same.
    pub(super) fn gone(&self) -> impl Iterator<Item = Seq> + '_ {
        self.before.iter().filter(|(first, gap)| self.gaps.get(first) != Some(gap)).map(|(first, _)| *first)
    }

    /// Gaps that aren't stored yet, or not the same.
    pub(super) fn fresh(&self) -> impl Iterator<Item = &Gap> + '_ {
        self.gaps.iter().filter(|(first, gap)| self.before.get(first) != Some(gap)).map(|(_, gap)| gap)
    }
}
