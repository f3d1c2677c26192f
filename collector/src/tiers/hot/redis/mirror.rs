//! What this process knows of a bucket's newest values: a copy, and its version.
//!
//! Each call that changes the newest values says which version it made. Whoever put applies the same change to the copy when
//! that is the version before, so the copy stays what Redis holds without being read again; what other collectors changed
//! shows as versions that are missing. Redis is asked for the version each time, so a copy is never believed that is older
//! than what Redis had when it was asked. Pure.

use super::record;
use crate::tiers::{SeriesId, StoredReading};
use std::collections::{BTreeMap, HashMap};

/// Changes that wait for an earlier one; more are given up together with the copy.
const WAITING_MAX: usize = 16;

/// What was put of newest values.
pub(super) type Offered = Vec<(SeriesId, [u8; record::NEWEST])>;

/// A version of a bucket's newest values. The root's identity tells versions of one root from those of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Version {
    pub(super) born: u64,
    pub(super) count: u64,
}

/// The copy of one bucket.
#[derive(Default)]
pub(super) struct Mirror {
    version: Version,
    /// Newest values, `None` where there is none. Of series that are not here nothing is known.
    known: HashMap<SeriesId, Option<StoredReading>>,
    /// Changes by the version that they were made to.
    waiting: BTreeMap<u64, Offered>,
}

impl Mirror {
    /// Takes over what was read of some series at a version.
    pub(super) fn learn(&mut self, version: Version, read: impl Iterator<Item = (SeriesId, Option<StoredReading>)>) {
        if version.born == self.version.born && version.count < self.version.count {
            return; // what is known is newer
        }
        if version != self.version {
            self.known.clear();
        }
        if version.born != self.version.born {
            self.waiting.clear();
        }
        self.version = version;
        self.known.extend(read);
        self.catch_up();
    }

    /// Takes over a change of this process's that made that version.
    pub(super) fn change(&mut self, made: Version, offered: Offered) {
        let Some(before) = made.count.checked_sub(1) else { return };
        if made.born != self.version.born || before < self.version.count {
            return;
        }
        self.waiting.insert(before, offered);
        if self.waiting.len() > WAITING_MAX {
            *self = Self::default();
        }
        self.catch_up();
    }

    fn catch_up(&mut self) {
        self.waiting = self.waiting.split_off(&self.version.count);
        while let Some(offered) = self.waiting.remove(&self.version.count) {
            self.version.count += 1;
            offered.iter().for_each(|(series, key)| self.apply(*series, key));
        }
    }

    fn apply(&mut self, series: SeriesId, key: &[u8]) {
        let Some(held) = self.known.get_mut(&series) else { return };
        if held.is_none_or(|held| record::newest(&held)[..] < *key) {
            *held = record::from_newest(series, key);
        }
    }

    /// Whether it is worth asking for the version: all of them are known, and as far as is known nobody else changed any.
    pub(super) fn covers(&self, series: &[SeriesId]) -> bool {
        self.waiting.is_empty() && series.iter().all(|id| self.known.contains_key(id))
    }

    /// The newest values of those series when Redis is at `version`; `None` when that isn't known.
    pub(super) fn newest(&self, version: Version, series: &[SeriesId]) -> Option<Vec<Option<StoredReading>>> {
        if version.born != self.version.born || version.count > self.version.count {
            return None;
        }
        series.iter().map(|id| self.known.get(id).copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shared::reading::{Held, Quality, Timestamp};

    /// What happens to a bucket of three series, whose newest values have versions.
    #[derive(Clone, Debug)]
    enum Step {
        /// This process or another one puts; the answer may be heard later.
        Put { series: u32, at: i64, ours: bool },
        /// The oldest or the newest answer that wasn't heard yet is.
        Hear { oldest: bool },
        /// The newest values of some are read.
        Read { few: bool },
        /// Redis lost it all.
        Lose,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..3u32, 0..20i64, prop::bool::weighted(0.8)).prop_map(|(series, at, ours)| Step::Put { series, at, ours }),
            6 => any::<bool>().prop_map(|oldest| Step::Hear { oldest }),
            2 => any::<bool>().prop_map(|few| Step::Read { few }),
            1 => Just(Step::Lose),
        ]
    }

    fn reading(series: u32, at: i64) -> StoredReading {
        let held = Held { value: Some(at as f64), quality: Quality::GOOD, revision: 0 };
        StoredReading { series: SeriesId(series), at: Timestamp(at), held }
    }

    proptest! {
        #[test]
        fn what_it_says_of_a_version_is_at_least_that(steps in prop::collection::vec(step(), 0..120)) {
            let (mut mirror, mut truth, mut version) = (Mirror::default(), HashMap::<u32, i64>::new(), Version { born: 1, count: 0 });
            let mut unheard = Vec::new();
            let all = [SeriesId(0), SeriesId(1), SeriesId(2)];
            for step in steps {
                match step {
                    Step::Put { series, at, ours } => {
                        if truth.get(&series).is_none_or(|held| *held < at) {
                            truth.insert(series, at);
                            version.count += 1;
                            if ours {
                                unheard.push((version, vec![(SeriesId(series), record::newest(&reading(series, at)))]));
                            }
                        }
                    }
                    Step::Hear { oldest } if !unheard.is_empty() => {
                        let (made, offered) = unheard.remove(if oldest { 0 } else { unheard.len() - 1 });
                        mirror.change(made, offered);
                    }
                    Step::Hear { .. } => {}
                    Step::Read { few } => {
                        let read = all[..if few { 2 } else { 3 }].iter();
                        let value = |id: &SeriesId| (*id, truth.get(&id.0).map(|at| reading(id.0, *at)));
                        mirror.learn(version, read.map(value));
                    }
                    Step::Lose => {
                        truth.clear();
                        version = Version { born: version.born + 1, count: 0 };
                    }
                }
                // Nothing happens between asking for the version and looking here, so it must be exactly that.
                for count in 1..=3 {
                    if let Some(said) = mirror.newest(version, &all[..count]) {
                        let truth: Vec<_> = all[..count].iter().map(|id| truth.get(&id.0).map(|at| reading(id.0, *at))).collect();
                        prop_assert_eq!(said, truth);
                    }
                }
            }
        }
    }

    #[test]
    fn own_changes_keep_it_up_to_date_in_whatever_order_they_are_heard() {
        let (id, mut mirror) = (SeriesId(0), Mirror::default());
        let version = |count| Version { born: 1, count };
        let put = |at| vec![(id, record::newest(&reading(0, at)))];
        mirror.learn(version(3), [(id, None)].into_iter());
        mirror.change(version(5), put(8));
        assert_eq!(mirror.newest(version(5), &[id]), None, "one is missing");
        mirror.change(version(4), put(7));
        assert_eq!(mirror.newest(version(5), &[id]), Some(vec![Some(reading(0, 8))]));
        mirror.change(version(7), put(9));
        assert_eq!(mirror.newest(version(7), &[id]), None, "somebody else made the sixth");
        mirror.learn(version(6), [(id, Some(reading(0, 8)))].into_iter());
        assert_eq!(mirror.newest(version(7), &[id]), Some(vec![Some(reading(0, 9))]));
        assert_eq!(mirror.newest(version(7), &[SeriesId(1)]), None, "nobody ever asked for it");
        assert_eq!(mirror.newest(Version { born: 2, count: 1 }, &[id]), None, "another root");
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut mirror = Mirror::default();
        mirror.learn(Version { born: 1, count: 1 }, [(SeriesId(0), None)].into_iter());
        for count in 3..1_000 {
            mirror.change(Version { born: 1, count }, vec![(SeriesId(0), record::newest(&reading(0, count as i64)))]);
            assert!(mirror.waiting.len() <= WAITING_MAX);
        }
    }
}
