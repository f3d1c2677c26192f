//! The account of archive days: of each UTC day, whether the archive has what the warm tier has. It lies in the warm
//! tier and changes in the same transactions as its readings do.
//!
//! A day has a version, which grows with every flush that changes a reading of it. An export takes the version before
//! it begins to read and notes it in the end: what came meanwhile has made the day's version greater, so it is never
//! taken for exported. A day whose readings the archive was proved to have may *leave*: from then on the archive answers
//! for it. What comes later for it is kept like everything else, is merged into the archive, and only then removed.

use crate::tiers::{Day, Proof, Runs, SeriesId, StoredReading, TierFuture};
use shared::reading::Timestamp;

/// Where the readings of a day are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Raw {
    /// All of them are in the warm tier.
    Here,
    /// The archive answers for them; they are being removed.
    Leaving,
    /// The archive answers for them; in the warm tier is only what came since.
    Gone,
}

impl Raw {
    /// As it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Raw::Here => "here",
            Raw::Leaving => "leaving",
            Raw::Gone => "gone",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Raw::Here, Raw::Leaving, Raw::Gone].into_iter().find(|raw| raw.as_str() == text)
    }
}

/// A day's account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DayEntry {
    /// Which.
    pub day: Day,
    /// Grows with every flush that changes a reading of it.
    pub version: u64,
    /// The version that the archive has; 0: none.
    pub exported: u64,
    /// What was read from the warm tier for that.
    pub warm: Option<Proof>,
    /// What was read back from the archive.
    pub cold: Option<Proof>,
    /// What the archive has once a merge that was begun is in place; as `cold` when none was, `None` when that isn't known.
    pub next: Option<Proof>,
    /// When that was.
    pub exported_at: Option<Timestamp>,
    /// Where its readings are.
    pub raw: Raw,
}

impl DayEntry {
    /// Whether something came that the archive doesn't have.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.exported < self.version
    }

    /// Whether it may leave with this version: all of it is here, nothing came since, and the archive has it.
    #[must_use]
    pub fn may_leave(&self, version: u64) -> bool {
        self.raw == Raw::Here && self.version == version && self.exported == version
    }

    /// Whether it is leaving or gone, and nothing came since this version.
    #[must_use]
    pub fn has_left(&self, version: u64) -> bool {
        self.raw != Raw::Here && self.version == version
    }

    /// Whether the archive may have this of a day that has left: what was noted last, or what a merge that was stopped before it
    /// was noted has made of it.
    #[must_use]
    pub fn may_be(&self, there: Proof) -> bool {
        self.next.is_none() || [self.cold, self.next].contains(&Some(there))
    }

    /// Whether the archive's day consists of what was here and of nothing else, so that it may be replaced.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.exported > 0 && self.warm == self.cold
    }
}

/// Days that the archive was proved to have, ascending.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ArchivedDays {
    /// All of them.
    pub days: Vec<Day>,
    /// Those of which something came that the archive doesn't have yet.
    pub behind: Vec<Day>,
}

impl FromIterator<(Day, bool)> for ArchivedDays {
    /// From each day, and whether the archive is behind in it.
    fn from_iter<T: IntoIterator<Item = (Day, bool)>>(all: T) -> Self {
        let mut found = Self::default();
        for (day, is_behind) in all {
            found.days.push(day);
            found.behind.extend(is_behind.then_some(day));
        }
        found
    }
}

/// A merge that will be in place in a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Merge {
    /// Into which day, which has left.
    pub day: Day,
    /// The version that the archive has before.
    pub before: u64,
    /// What was read from the archive for it.
    pub there: Proof,
    /// What the archive has then.
    pub merged: Proof,
}

/// What an export found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Export {
    /// Of which day.
    pub day: Day,
    /// The version that the archive had before.
    pub before: u64,
    /// The version that it has now.
    pub version: u64,
    /// What was read from the warm tier.
    pub warm: Proof,
    /// What was read back from the archive.
    pub cold: Proof,
}

/// Whether a day leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leave {
    /// It does: from now on the archive answers for it.
    Yes,
    /// It isn't as it was any more: something came.
    Changed,
    /// Some of its rollups are out of date; they are made from its readings.
    Dirty,
}

/// The account of days. Every method may be called by several tasks at once.
pub trait DayLedger: Send + Sync {
    /// The days with `from <= day < to` that something is known of, ascending.
    fn days(&self, from: Day, to: Day) -> TierFuture<'_, Vec<DayEntry>>;

    /// The days that the archive was proved to have, whether they have left or not.
    fn archived(&self) -> TierFuture<'_, ArchivedDays> {
        Box::pin(async move {
            let all = self.days(Day::FIRST, Day::LAST.next()).await?;
            Ok(all.iter().filter(|entry| entry.exported > 0).map(|entry| (entry.day, entry.is_dirty())).collect())
        })
    }

    /// The readings of a day that are in the warm tier. What is committed meanwhile may be among them or not; what was
    /// before is.
    fn rows(&self, day: Day) -> Runs<'_>;

    /// Notes an export; false when another one was noted meanwhile. What came late for a day that has left is leaving
    /// then, unless more has come.
    fn exported(&self, export: Export) -> TierFuture<'_, bool>;

    /// Notes a merge before it is in place, so that what it leaves is known even if it is stopped then; false when another one
    /// was noted meanwhile.
    fn merging(&self, merge: Merge) -> TierFuture<'_, bool>;

    /// Counts a day as changed because the archive doesn't have what it should of this version; false when it isn't
    /// as it was any more.
    fn doubt(&self, day: Day, version: u64) -> TierFuture<'_, bool>;

    /// Lets a day leave, if that is its version and the archive has it.
    fn leave(&self, day: Day, version: u64) -> TierFuture<'_, Leave>;

    /// Removes the readings of a day that is leaving; false when something came for it, which must be merged first.
    fn clear(&self, day: Day) -> TierFuture<'_, bool>;

    /// 5 minute buckets of a day that has left whose rollups are out of date: of at most `series_max` series above
    /// `after`, ascending.
    fn stale(
        &self,
        day: Day,
        after: Option<SeriesId>,
        series_max: u32,
    ) -> TierFuture<'_, Vec<(SeriesId, Vec<Timestamp>)>>;

    /// Makes the rollups of these buckets of a day that has left from `readings`, which are all there are in them,
    /// if the day still has this version; otherwise false.
    fn renew<'a>(
        &'a self,
        day: Day,
        version: u64,
        series: SeriesId,
        buckets: &'a [Timestamp],
        readings: &'a [StoredReading],
    ) -> TierFuture<'a, bool>;
}
