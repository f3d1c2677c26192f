//! What stands at the moments of readings that someone brings: a file or a table doesn't change it, unless it has a higher
//! revision.

use crate::tiers::{SeriesId, TierError, WarmTier};
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
    /// Asked of the warm tier, and only of series that have something as new.
    ///
    /// # Errors
    /// When it can't say.
    pub async fn of(
        warm: &dyn WarmTier,
        wanted: impl IntoIterator<Item = (SeriesId, Timestamp)>,
    ) -> Result<Self, TierError> {
        let mut moments = BTreeMap::<SeriesId, Vec<Timestamp>>::new();
        for (series, at) in wanted {
            moments.entry(series).or_default().push(at);
        }
        let ids: Vec<SeriesId> = moments.keys().copied().collect();
        let mut standing = HashMap::new();
        for newest in warm.latest(&ids).await? {
            let Some(mut wanted) = moments.remove(&newest.series) else { continue };
            wanted.sort_unstable();
            for stretch in wanted.chunk_by(|a, b| b.since(*a) <= APART) {
                let (from, to) = (stretch[0], stretch[stretch.len() - 1].plus_micros(1));
                if newest.at < from {
                    break;
                }
                let rows = warm.range(newest.series, from, to, STRETCH_MAX).await?;
                // What wasn't asked for isn't kept, so that memory follows the question.
                let rows = rows.into_iter().filter(|row| stretch.binary_search(&row.at).is_ok());
                standing.extend(rows.map(|row| ((row.series, row.at), row.held)));
            }
        }
        Ok(Self(standing))
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
        if *there == held {
            return Ok(Standing::Same);
        }
        if there.revision >= held.revision {
            let value = there.value.map_or_else(|| there.quality.to_string(), |value| value.to_string());
            let next = there.revision.saturating_add(1);
            return Err(format!("{value} stands at {at} already: revision {next} overrules it (--revision {next})"));
        }
        *there = held;
        Ok(Standing::New)
    }
}
