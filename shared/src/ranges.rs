//! A set of seqs as sorted, disjoint, non-adjacent inclusive ranges.
//!
//! Used for what is released, stored, committed, or missing: nearly always one long range and a few islands.

use crate::ids::Seq;
use serde::{Deserialize, Serialize};

/// An inclusive stretch of seqs; `first <= last`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct SeqRange {
    /// First seq of the stretch.
    pub first: Seq,
    /// Last seq of the stretch, itself included.
    pub last: Seq,
}

impl SeqRange {
    /// The stretch from `first` to `last`, both included.
    #[must_use]
    pub fn new(first: Seq, last: Seq) -> Self {
        debug_assert!(first <= last, "a range runs forward");
        Self { first, last }
    }
    /// The stretch of one seq.
    #[must_use]
    pub fn one(seq: Seq) -> Self {
        Self::new(seq, seq)
    }
    /// How many seqs it has.
    #[must_use]
    pub fn count(&self) -> u64 {
        (self.last.0 - self.first.0).saturating_add(1)
    }
}

/// A set of seqs. Its size is the number of islands, not of members.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<SeqRange>", into = "Vec<SeqRange>")]
pub struct SeqRanges(Vec<SeqRange>);

impl SeqRanges {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a stretch in; joins what touches.
    pub fn insert(&mut self, range: SeqRange) {
        let from = self.0.partition_point(|r| r.last.0.saturating_add(1) < range.first.0);
        let to = self.0.partition_point(|r| r.first.0 <= range.last.0.saturating_add(1));
        let first = self.0.get(from).filter(|_| from < to).map_or(range.first, |r| r.first.min(range.first));
        let last = if from < to { self.0[to - 1].last.max(range.last) } else { range.last };
        self.0.splice(from..to, [SeqRange { first, last }]);
    }

    /// Puts one seq in.
    pub fn insert_one(&mut self, seq: Seq) {
        self.insert(SeqRange::one(seq));
    }

    /// Puts all of another set in.
    pub fn extend(&mut self, other: &SeqRanges) {
        for range in &other.0 {
            self.insert(*range);
        }
    }

    /// Takes a stretch out.
    pub fn remove(&mut self, range: SeqRange) {
        let mut kept = Vec::with_capacity(self.0.len() + 1);
        for r in self.0.drain(..) {
            if r.last < range.first || r.first > range.last {
                kept.push(r);
                continue;
            }
            if r.first < range.first {
                kept.push(SeqRange { first: r.first, last: Seq(range.first.0 - 1) });
            }
            if r.last > range.last {
                kept.push(SeqRange { first: range.last.next(), last: r.last });
            }
        }
        self.0 = kept;
    }

    /// Whether the seq is in.
    #[must_use]
    pub fn contains(&self, seq: Seq) -> bool {
        let at = self.0.partition_point(|r| r.last < seq);
        self.0.get(at).is_some_and(|r| r.first <= seq)
    }

    /// What of `range` is not in this set.
    #[must_use]
    pub fn missing_in(&self, range: SeqRange) -> SeqRanges {
        let mut missing = SeqRanges(vec![range]);
        for r in &self.0 {
            missing.remove(*r);
        }
        missing
    }

    /// The stretches, ascending.
    #[must_use]
    pub fn as_slice(&self) -> &[SeqRange] {
        &self.0
    }
    /// The stretches, ascending.
    pub fn iter(&self) -> impl Iterator<Item = SeqRange> + '_ {
        self.0.iter().copied()
    }
    /// How many islands there are.
    #[must_use]
    pub fn islands(&self) -> usize {
        self.0.len()
    }
    /// How many seqs are in.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(SeqRange::count).fold(0, u64::saturating_add)
    }
    /// Whether nothing is in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// The lowest seq in the set.
    #[must_use]
    pub fn lowest(&self) -> Option<Seq> {
        self.0.first().map(|r| r.first)
    }
    /// The highest seq in the set.
    #[must_use]
    pub fn highest(&self) -> Option<Seq> {
        self.0.last().map(|r| r.last)
    }
}

impl FromIterator<SeqRange> for SeqRanges {
    fn from_iter<T: IntoIterator<Item = SeqRange>>(ranges: T) -> Self {
        let mut set = SeqRanges::new();
        for range in ranges {
            set.insert(range);
        }
        set
    }
}

impl FromIterator<Seq> for SeqRanges {
    fn from_iter<T: IntoIterator<Item = Seq>>(seqs: T) -> Self {
        seqs.into_iter().map(SeqRange::one).collect()
    }
}

impl From<SeqRanges> for Vec<SeqRange> {
    fn from(set: SeqRanges) -> Self {
        set.0
    }
}

/// A list of ranges that came from outside and isn't sorted, disjoint and forward.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("seq ranges are not ascending, disjoint and from 1")]
pub struct RangesError;

impl TryFrom<Vec<SeqRange>> for SeqRanges {
    type Error = RangesError;
    fn try_from(ranges: Vec<SeqRange>) -> Result<Self, RangesError> {
        let forward = ranges.iter().all(|r| r.first.0 >= 1 && r.first <= r.last);
        let apart = ranges.windows(2).all(|w| w[0].last.0.saturating_add(1) < w[1].first.0);
        if forward && apart { Ok(Self(ranges)) } else { Err(RangesError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn members(set: &SeqRanges) -> BTreeSet<u64> {
        set.iter().flat_map(|r| r.first.0..=r.last.0).collect()
    }

    proptest! {
        #[test]
        fn behaves_like_a_set_of_numbers(ops in prop::collection::vec((any::<bool>(), 1u64..60, 0u64..12), 0..60)) {
            let (mut set, mut model) = (SeqRanges::new(), BTreeSet::new());
            for (insert, first, len) in ops {
                let range = SeqRange::new(Seq(first), Seq(first + len));
                if insert {
                    set.insert(range);
                    model.extend(first..=first + len);
                } else {
                    set.remove(range);
                    model.retain(|n| !(first..=first + len).contains(n));
                }
                prop_assert_eq!(&members(&set), &model);
                prop_assert_eq!(SeqRanges::try_from(set.as_slice().to_vec()), Ok(set.clone()));
                let window = SeqRange::new(Seq(10), Seq(40));
                let missing: BTreeSet<u64> = (10..=40).filter(|n| !model.contains(n)).collect();
                prop_assert_eq!(members(&set.missing_in(window)), missing);
                for n in 1..80 {
                    prop_assert_eq!(set.contains(Seq(n)), model.contains(&n));
                }
            }
        }
    }
}
