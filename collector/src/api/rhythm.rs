//! How often values of the series come that files make, which says how long one holds. A file says it piece by piece, and
//! its beginning may say little, so it is found out anew from what is there and what is added.

use super::Problem;
use super::entry::Target;
use crate::import::{self, Named};
use crate::tiers::{SeriesId, SeriesInfo, SeriesKey, StoredReading, TierError, WarmTier};
use shared::catalogue::Entry;
use shared::ids::GatewayId;
use shared::reading::Timestamp;
use std::collections::{BTreeMap, HashMap};

/// Who owns the series that files make.
const OWNER: &str = "import";
/// Readings of a series that are looked at, the oldest.
const SAMPLE: u32 = 1_000;
/// Fewer steps between readings don't change what was found out.
const ENOUGH: usize = 24;

/// Makes the series of readings that have none, which stand under a number that nobody has, and puts right how often those
/// of others come that files made.
pub(super) async fn settle(
    warm: &dyn WarmTier,
    known: &HashMap<SeriesKey, SeriesInfo>,
    named: &[Named],
    targets: &[Target],
    readings: &mut [StoredReading],
) -> Result<(), Problem> {
    let owner = GatewayId::new(OWNER).map_err(|error| Problem::body(error.to_string()))?;
    let mut times = BTreeMap::<SeriesId, Vec<Timestamp>>::new();
    for reading in readings.iter() {
        times.entry(reading.series).or_default().push(reading.at);
    }
    let (mut numbers, mut entries) = (Vec::new(), Vec::new());
    for (named, target) in named.iter().zip(targets) {
        let Some((number, times)) = target.as_ref().ok().and_then(|id| times.remove_entry(id)) else { continue };
        let entry = match known.get(&named.key) {
            None => Some(named.entry(import::interval_ms(times).0)),
            Some(series) if series.gateway == owner => mended(warm, series, named, times).await?,
            Some(_) => None,
        };
        if let Some(entry) = entry {
            numbers.push(number);
            entries.push(entry);
        }
    }
    if entries.is_empty() {
        return Ok(());
    }
    let made = warm.series_for(&owner, &entries).await?.into_iter();
    let made = made.collect::<Result<Vec<SeriesId>, _>>().map_err(|refused| Problem::conflict(refused.to_string()))?;
    let made: HashMap<SeriesId, SeriesId> = numbers.into_iter().zip(made).collect();
    for reading in readings {
        reading.series = made.get(&reading.series).copied().unwrap_or(reading.series);
    }
    Ok(())
}

/// A series whose values come at other intervals than was thought.
async fn mended(
    warm: &dyn WarmTier,
    series: &SeriesInfo,
    named: &Named,
    times: Vec<Timestamp>,
) -> Result<Option<Entry>, TierError> {
    let (before, now) = (series.interval_ms, import::interval_ms(times.clone()).0);
    if before != 0 && (now == 0 || alike(before, now)) {
        return Ok(None);
    }
    let there = warm.range(series.id, Timestamp(0), Timestamp(i64::MAX), SAMPLE).await?;
    let all = there.iter().map(|reading| reading.at).chain(times).collect();
    let (interval_ms, steps) = import::interval_ms(all);
    if interval_ms == 0 || before != 0 && (steps < ENOUGH || alike(before, interval_ms)) {
        return Ok(None);
    }
    let (silence_ms_max, resolution_exp) = (series.silence_ms_max, series.resolution_exp);
    Ok(Some(Entry { silence_ms_max, resolution_exp, ..named.entry(interval_ms) }))
}

/// Less than a half apart, as clocks that wander make them.
fn alike(one: u32, other: u32) -> bool {
    one.max(other) - one.min(other) <= one.min(other) / 2
}
