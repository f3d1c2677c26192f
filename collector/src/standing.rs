//! What stands at the moments of readings that someone brings: a file or a table doesn't change it, unless it has a higher
//! revision.

use crate::tiers::{ColdTier, Day, SeriesId, StoredReading, TierError, WarmTier};
use shared::reading::{Held, Timestamp};
use std::collections::{BTreeMap, HashMap};

/// Readings of a stretch that are looked at.
const STRETCH_MAX: u32 = 200_000;
/// Moments that are further apart, microseconds, are looked up one by one.
const APART: i64 = 3_600 * 1_000_000;

/// What becomes of a reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It is new, or overrules what stands.
    New,
    /// Just that stands already.
    Same,
}

/// What stands at the moments that were asked for.
#[derive(Debug)]
pub struct Moments(HashMap<(SeriesId, Timestamp), Held>);

impl Moments {
    /// Asked of the warm tier, of days that have left it also of the archive, and only of series that have something as
    /// new.
    ///
    /// # Errors
    /// When a tier can't say.
    pub async fn of(
        warm: &dyn WarmTier,
        cold: Option<&dyn ColdTier>,
        wanted: impl IntoIterator<Item = (SeriesId, Timestamp)>,
    ) -> Result<Self, TierError> {
        let mut moments = BTreeMap::<SeriesId, Vec<Timestamp>>::new();
        for (series, at) in wanted {
            moments.entry(series).or_default().push(at);
        }
        let ids: Vec<SeriesId> = moments.keys().copied().collect();
        let (mut standing, mut old) = (Self(HashMap::new()), Vec::new());
        for newest in warm.latest(&ids).await? {
            let Some(mut wanted) = moments.remove(&newest.series) else { continue };
            wanted.sort_unstable();
            wanted.truncate(wanted.partition_point(|at| *at <= newest.at));
            for stretch in wanted.chunk_by(|a, b| b.since(*a) <= APART) {
                let (from, to) = ends(stretch);
                standing.keep(stretch, warm.range(newest.series, from, to, STRETCH_MAX).await?);
            }
            old.push((newest.series, wanted));
        }
        let Some(cold) = cold else { return Ok(standing) };
        // Asked for after the readings were: what leaves in between is found in both.
        let left = warm.complete_from().await?;
        for (series, mut wanted) in old {
            wanted.truncate(wanted.partition_point(|at| *at < left));
            for day in wanted.chunk_by(|a, b| Day::of(*a) == Day::of(*b)) {
                let (from, to) = ends(day);
                standing.keep(day, cold.range(series, from, to, STRETCH_MAX).await?);
            }
        }
        Ok(standing)
    }

    /// What wasn't asked for isn't kept, so that memory follows the question.
    fn keep(&mut self, asked: &[Timestamp], rows: Vec<StoredReading>) {
        for row in rows.into_iter().filter(|row| asked.binary_search(&row.at).is_ok()) {
            let held = self.0.entry((row.series, row.at)).or_insert(row.held);
            if row.held.wins_over(held) {
                *held = row.held;
            }
        }
    }

    /// Notes a reading.
    ///
    /// # Errors
    /// In words, when another one stands at its moment with as high a revision.
    pub fn take(&mut self, series: SeriesId, at: Timestamp, held: Held) -> Result<Standing, String> {
        let Some(there) = self.0.get_mut(&(series, at)) else {
            self.0.insert((series, at), held);
            return Ok(Standing::New);
        };
        // Files and tables say of a quality no more than its class.
        if (there.value, there.revision, there.quality.class()) == (held.value, held.revision, held.quality.class()) {
            return Ok(Standing::Same);
        }
        if there.revision >= held.revision {
            let value = there.value.map_or_else(|| there.quality.to_string(), |value| value.to_string());
            let next = there.revision.saturating_add(1);
            return Err(format!("{value} stands at {at} already: revision {next} overrules it"));
        }
        *there = held;
        Ok(Standing::New)
    }
}

/// From the first of some moments to just after the last.
fn ends(moments: &[Timestamp]) -> (Timestamp, Timestamp) {
    let (first, last) = (moments.first(), moments.last());
    (first.copied().unwrap_or(Timestamp(0)), last.map_or(Timestamp(0), |last| last.plus_micros(1)))
}
