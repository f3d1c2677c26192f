//! The account of a stream: which seqs are committed, which are known to be missing. Pure decisions, the same for
//! every database.

use crate::tiers::{Flush, GatewayGap};
use shared::ids::{GatewayId, Seq, StreamId};
use shared::ranges::{SeqRange, SeqRanges};
use shared::spool::{Gap, GapReason};
use std::collections::BTreeMap;

/// What a flush says about one stream.
#[derive(Default)]
pub(super) struct StreamNews {
    pub settled: SeqRanges,
    pub gaps: Vec<Gap>,
}

impl StreamNews {
    /// From the lowest to the highest seq that is spoken of.
    pub(super) fn touches(&self) -> Option<SeqRange> {
        let gaps = self.gaps.iter().map(|gap| gap.seqs);
        self.settled.iter().chain(gaps).reduce(|a, b| SeqRange::new(a.first.min(b.first), a.last.max(b.last)))
    }
}

/// The streams of a flush, in an order that all commits share: so they never wait for each other crosswise.
pub(super) fn by_stream(flush: &Flush) -> BTreeMap<(GatewayId, StreamId), StreamNews> {
    let mut streams = BTreeMap::<_, StreamNews>::new();
    for settled in &flush.settled {
        let news = streams.entry((settled.gateway.clone(), settled.stream)).or_default();
        news.settled.extend(&settled.seqs);
    }
    for GatewayGap { gateway, stream, gap } in &flush.gaps {
        streams.entry((gateway.clone(), *stream)).or_default().gaps.push(*gap);
    }
    streams
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
    /// settled and missing at once.
    fn add_gap(&mut self, gap: &Gap) {
        self.highest = self.highest.max(gap.seqs.last);
        let mut known = if gap.reason == GapReason::Rejected { SeqRanges::new() } else { self.committed.clone() };
        for other in self.gaps.values() {
            known.insert(other.seqs);
        }
        for seqs in known.missing_in(gap.seqs).iter() {
            self.gaps.insert(seqs.first, Gap { seqs, ..*gap });
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
