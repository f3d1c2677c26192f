//! What both databases decide alike: how a flush is prepared, how rollups are summed up, who may write a series.

use crate::analytics::store::{Anomaly, Note};
use crate::rollup::Rollup;
use crate::tiers::{Bucket, LateHour, LateReadings, SeriesId, SeriesInfo, SeriesRefused, StoredReading};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::catalogue::Entry;
use shared::ids::{GatewayId, Seq, StreamId};
use shared::metric::Kind;
use shared::ranges::SeqRanges;
use shared::reading::{Held, Timestamp, sanitise};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A flush's readings in the order of the table, which is several times faster, with values as the rule expects them
/// and one for each key. Also, how many lost against another of the same flush.
pub(super) fn prepare(mut readings: Vec<StoredReading>) -> (Vec<StoredReading>, u64) {
    for reading in &mut readings {
        let (value, quality) = sanitise(reading.held.value, reading.held.quality);
        reading.held = Held { value, quality, ..reading.held };
    }
    let came = readings.len();
    // Each series' readings mostly come in order: in two steps it takes less than half as long.
    readings.sort_by_key(|reading| reading.series);
    for same in readings.chunk_by_mut(|a, b| a.series == b.series) {
        same.sort_by(|a, b| a.at.cmp(&b.at).then_with(|| b.held.contest(&a.held)));
    }
    readings.dedup_by_key(|r| (r.series, r.at));
    let lost = came - readings.len();
    (readings, lost as u64)
}

/// A dirty bucket.
pub(super) type Mark = (SeriesId, Timestamp);

/// Behind which dirty bucket a round of refreshing goes on; `None`: it begins anew.
#[derive(Debug, Default)]
pub(super) struct Round(Mutex<Option<Mark>>);

impl Round {
    fn lock(&self) -> MutexGuard<'_, Option<Mark>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn place(&self) -> Option<Mark> {
        *self.lock()
    }

    /// The last one that was done, if there may be more behind it.
    pub(super) fn came_to(&self, last: Option<Mark>) {
        *self.lock() = last;
    }
}

/// The last 5 minute bucket, or a moment within it, that has ended by then.
pub(super) fn ended(by: Timestamp) -> Timestamp {
    by.plus_micros(-Bucket::FiveMinutes.micros())
}

/// The 5 minute buckets of readings that are sorted.
pub(super) fn buckets_of(readings: &[StoredReading]) -> Vec<Mark> {
    let mut buckets = Vec::<Mark>::new();
    for reading in readings {
        let mark = (reading.series, Bucket::FiveMinutes.start_of(reading.at));
        if buckets.last() != Some(&mark) {
            buckets.push(mark);
        }
    }
    buckets
}

/// The blocks of streams that a flush settles for the first time.
pub(super) type Fresh = BTreeMap<(GatewayId, StreamId), SeqRanges>;

/// How many readings of each hour came late, in the order of the table; those of blocks that were there already don't
/// count again.
pub(super) fn late(late: &[LateReadings], fresh: &Fresh) -> Vec<LateHour> {
    let is_new = |block: &(GatewayId, StreamId, Seq)| {
        fresh.get(&(block.0.clone(), block.1)).is_some_and(|seqs| seqs.contains(block.2))
    };
    let mut hours = BTreeMap::<(SeriesId, Timestamp), u32>::new();
    for some in late.iter().filter(|some| some.block.as_ref().is_none_or(is_new)) {
        for one in &some.hours {
            let sum = hours.entry((one.series, one.hour)).or_default();
            *sum = sum.saturating_add(one.readings);
        }
    }
    hours.into_iter().map(|((series, hour), readings)| LateHour { series, hour, readings }).collect()
}

/// The first moment of a day like `2026-03-29`, UTC.
pub(super) fn start_of(day: &str) -> Option<Timestamp> {
    let midnight = day.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp(midnight.timestamp().as_microsecond()))
}

/// The newest reading of each series; of those of one moment the one that wins.
pub(super) fn newest(mut readings: Vec<StoredReading>) -> Vec<StoredReading> {
    readings.sort_by(|a, b| (a.series, b.at).cmp(&(b.series, a.at)).then_with(|| b.held.contest(&a.held)));
    readings.dedup_by_key(|reading| reading.series);
    readings
}

/// The rule of [`Held::contest`], said in SQL: of two rows of `readings` the one whose rank is greater wins. Revision,
/// then class (good 0 > manual 3 > uncertain 1 > bad 2, in the two high bits), then the lower quality byte, then a
/// value over none, then the larger value.
pub(super) fn rank(row: &str) -> String {
    format!(
        "({row}.revision, CASE {row}.quality >> 6 WHEN 0 THEN 3 WHEN 3 THEN 2 WHEN 1 THEN 1 ELSE 0 END, \
         -{row}.quality, {row}.value IS NOT NULL, coalesce({row}.value, 0.0))"
    )
}

/// The rollup of each bucket, from one series' readings in ascending order.
pub(super) fn sum_up(buckets: &[Timestamp], readings: &[StoredReading], hold: i64) -> Vec<(Timestamp, Option<Rollup>)> {
    let within = |bucket: &Timestamp| {
        let end = bucket.plus_micros(Bucket::FiveMinutes.micros());
        let range = readings.partition_point(|r| r.at < *bucket)..readings.partition_point(|r| r.at < end);
        (*bucket, Rollup::of_all(readings[range].iter().map(|r| (r.at, &r.held)), hold))
    };
    buckets.iter().map(within).collect()
}

/// The hours that buckets lie in.
pub(super) fn hours_of(buckets: &[Timestamp]) -> BTreeSet<Timestamp> {
    buckets.iter().map(|bucket| Bucket::Hour.start_of(*bucket)).collect()
}

/// The rollup of each hour, from all of its series' 5 minute rollups in ascending order.
pub(super) fn merge_hours(
    hours: &BTreeSet<Timestamp>,
    parts: &[(Timestamp, Rollup)],
    hold: i64,
) -> Vec<(Timestamp, Option<Rollup>)> {
    let merged = |hour: &Timestamp| {
        let end = hour.plus_micros(Bucket::Hour.micros());
        let range = parts.partition_point(|p| p.0 < *hour)..parts.partition_point(|p| p.0 < end);
        (*hour, parts[range].iter().map(|(_, part)| *part).reduce(|sum, next| sum.then(&next, hold)))
    };
    hours.iter().map(merged).collect()
}

/// The series' number, or why `gateway` may not write it.
pub(super) fn judge(found: &SeriesInfo, gateway: &GatewayId, entry: &Entry) -> Result<SeriesId, SeriesRefused> {
    if found.gateway != *gateway {
        return Err(SeriesRefused::Owned { key: found.key.clone(), owner: found.gateway.clone() });
    }
    if found.kind != entry.kind || found.unit != entry.unit {
        let words = |kind: Kind, unit: &str| format!("{kind:?} in {unit}").to_lowercase();
        return Err(SeriesRefused::Changed {
            key: found.key.clone(),
            stored: words(found.kind, &found.unit),
            offered: words(entry.kind, &entry.unit),
        });
    }
    Ok(found.id)
}

/// Whether what may change of a series did.
pub(super) fn is_stale(found: &SeriesInfo, entry: &Entry) -> bool {
    (found.resolution_exp, found.interval_ms, found.silence_ms_max)
        != (entry.resolution_exp, entry.interval_ms, entry.silence_ms_max)
}

/// What is stored as JSON in a column of its own: finite numbers and names, so that it never fails.
pub(super) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// What was stored so; what was altered is an error.
pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text)
}

/// Gives each anomaly what was said about it.
pub(super) fn hand_out(anomalies: &mut [Anomaly], notes: Vec<(i64, Note)>) {
    let places: HashMap<i64, usize> = anomalies.iter().enumerate().map(|(n, one)| (one.number, n)).collect();
    for (number, note) in notes {
        if let Some(place) = places.get(&number) {
            anomalies[*place].notes.push(note);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shared::reading::Quality;

    proptest! {
        #[test]
        fn of_each_key_the_winner_is_left_in_order(came in prop::collection::vec((0..4u32, 0..6i64, 0..3u32, 0..3u8), 0..60)) {
            let reading = |(series, at, revision, value)| StoredReading {
                series: SeriesId(series),
                at: Timestamp(at),
                held: Held { value: Some(f64::from(value)), quality: Quality::GOOD, revision },
            };
            let came: Vec<_> = came.into_iter().map(reading).collect();
            let mut winners = BTreeMap::<(SeriesId, Timestamp), Held>::new();
            for one in &came {
                let best = winners.entry((one.series, one.at)).or_insert(one.held);
                if one.held.contest(best).is_gt() {
                    *best = one.held;
                }
            }
            let expected: Vec<_> = winners.into_iter().map(|((series, at), held)| StoredReading { series, at, held }).collect();
            let lost = (came.len() - expected.len()) as u64;
            prop_assert_eq!(prepare(came), (expected, lost));
        }
    }
}
