//! What the archive takes and gives: days, rows, and the proof that they are there.

use crate::tiers::{SeriesId, SeriesKey, StoredReading, TierError};
use futures::TryStreamExt;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize, Serializer};
use shared::reading::{Held, Timestamp};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use twox_hash::XxHash64;
use utoipa::ToSchema;

/// Microseconds in a day.
pub const MICROS_PER_DAY: i64 = 86_400_000_000;
/// 1970-01-01 in Julian days.
const EPOCH_JULIAN: i32 = 2_440_588;

/// A UTC day, counted from 1970-01-01; to others it is its date, like `2026-01-31`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, ToSchema)]
#[schema(value_type = String, format = Date, example = "2026-01-31")]
pub struct Day(pub i32);

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl Day {
    /// The first day that has a date of four digits.
    pub const FIRST: Day = Day(-719_162);
    /// The last one.
    pub const LAST: Day = Day(2_932_896);

    /// The day a moment lies in; moments that no calendar reaches lie in the first or the last.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        let days = at.0.div_euclid(MICROS_PER_DAY).clamp(Self::FIRST.0.into(), Self::LAST.0.into());
        Self(days as i32)
    }

    /// Its first moment.
    #[must_use]
    pub fn start(self) -> Timestamp {
        Timestamp(i64::from(self.0) * MICROS_PER_DAY)
    }

    /// The first moment after it.
    #[must_use]
    pub fn end(self) -> Timestamp {
        self.next().start()
    }

    /// The day after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The days that touch `[from, to)`: the first, and the first that doesn't any more.
    #[must_use]
    pub fn touching(from: Timestamp, to: Timestamp) -> (Self, Self) {
        if to <= from {
            (Self::of(from), Self::of(from))
        } else {
            (Self::of(from), Self::of(to.plus_micros(-1)).next())
        }
    }

    /// Whether a moment lies in it.
    #[must_use]
    pub fn contains(self, at: Timestamp) -> bool {
        self.start() <= at && at < self.end()
    }

    pub(super) fn date(self) -> Option<time::Date> {
        time::Date::from_julian_day(self.0 + EPOCH_JULIAN).ok()
    }

    pub(super) fn from_date(date: time::Date) -> Self {
        Self(date.to_julian_day() - EPOCH_JULIAN)
    }
}

impl fmt::Display for Day {
    /// `2026-01-31`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.date() {
            Some(date) => write!(f, "{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day()),
            None => write!(f, "day {}", self.0),
        }
    }
}

/// A text that is no day.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("'{0}' is no day like 2026-01-31")]
pub struct NoDay(String);

impl FromStr for Day {
    type Err = NoDay;
    /// Reads `2026-01-31`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let format = time::macros::format_description!("[year]-[month]-[day]");
        time::Date::parse(text, format).map(Self::from_date).map_err(|_| NoDay(text.chars().take(60).collect()))
    }
}

/// Readings of one series, ascending.
#[derive(Clone, PartialEq, Debug)]
pub struct Run {
    /// Its number.
    pub series: SeriesId,
    /// Its name, so that the archive can be read without any other table.
    pub key: Arc<SeriesKey>,
    /// What it said and when.
    pub readings: Vec<StoredReading>,
}

/// A day's rows: runs ascending by series, and within a series by time, no moment twice. A run may be as short as the
/// giver likes; the taker holds a few at a time, so a day of any size takes the same memory.
pub type Runs<'a> = BoxStream<'a, Result<Run, TierError>>;

/// What a day consists of: two days with the same proof hold the same rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Proof {
    /// How many.
    pub rows: u64,
    /// The hashes of all rows, XORed, so that their order doesn't matter.
    pub xor: u64,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows, hash {:016x}", self.rows, self.xor)
    }
}

impl Proof {
    /// Counts a run in.
    pub fn add(&mut self, run: &Run) {
        let name = name_hash(run.series, &run.key);
        self.rows += run.readings.len() as u64;
        self.xor = run.readings.iter().fold(self.xor, |xor, r| xor ^ row_hash(name, r.at, &r.held));
    }

    /// Of all rows of a stream.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn of(mut runs: Runs<'_>) -> Result<Self, TierError> {
        let mut proof = Self::default();
        while let Some(run) = runs.try_next().await? {
            proof.add(&run);
        }
        Ok(proof)
    }

    /// Counts what another proof stands for in; the two must not have a row in common.
    pub fn join(&mut self, other: Self) {
        self.rows += other.rows;
        self.xor ^= other.xor;
    }
}

/// The hash of a series' number and name: XXH64 (seed 0) of the number, little-endian, and the three parts of the name, each followed
/// by a zero byte, which no name contains.
#[must_use]
pub fn name_hash(series: SeriesId, key: &SeriesKey) -> u64 {
    let mut bytes = series.0.to_le_bytes().to_vec();
    for part in [key.node.as_str(), &key.metric, &key.channel] {
        bytes.extend_from_slice(part.as_bytes());
        bytes.push(0);
    }
    XxHash64::oneshot(0, &bytes)
}

/// The hash of a row: XXH64, seeded with [`name_hash`], of timestamp, value bits, revision, quality and whether there
/// is a value, little-endian, 22 bytes. It is computed wherever a day is proved and stored only where rows can't be
/// read back cheaply.
#[must_use]
pub fn row_hash(name: u64, at: Timestamp, held: &Held) -> u64 {
    let mut bytes = [0; 22];
    bytes[..8].copy_from_slice(&at.0.to_le_bytes());
    bytes[8..16].copy_from_slice(&held.value.unwrap_or(0.0).to_bits().to_le_bytes());
    bytes[16..20].copy_from_slice(&held.revision.to_le_bytes());
    bytes[20] = held.quality.0;
    bytes[21] = u8::from(held.value.is_some());
    XxHash64::oneshot(name, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::ids::NodeId;
    use shared::reading::Quality;

    #[test]
    fn days_have_dates() {
        let day: Day = "2024-02-29".parse().unwrap();
        assert_eq!(
            (day, day.to_string().as_str(), day.next().to_string().as_str()),
            (Day(19_782), "2024-02-29", "2024-03-01")
        );
        assert_eq!(Day::of(Timestamp(-1)), Day(-1));
        assert!(day.contains(day.start()) && !day.contains(day.end()));
        assert_eq!((Day::FIRST.to_string().as_str(), Day::LAST.to_string().as_str()), ("0001-01-01", "9999-12-31"));
        assert_eq!(Day::of(Timestamp(i64::MAX)), Day::LAST);
    }

    #[test]
    fn days_are_shown_as_dates() {
        let state = crate::tiers::ColdState { first: Some(Day(19_782)), ..Default::default() };
        assert_eq!(serde_json::to_value(state).unwrap()["first"], "2024-02-29");
    }

    #[test]
    fn the_days_of_a_stretch_end_before_its_end() {
        let day = Day(20_000);
        assert_eq!(Day::touching(day.start(), day.end()), (day, day.next()));
        assert_eq!(Day::touching(day.start(), day.end().plus_micros(1)), (day, Day(20_002)));
        assert_eq!(Day::touching(day.start(), day.start()), (day, day));
    }

    #[test]
    fn every_part_of_a_row_is_in_its_hash() {
        let key = |node: &str, metric: &str, channel: &str| SeriesKey {
            node: NodeId::new(node).unwrap(),
            metric: metric.into(),
            channel: channel.into(),
        };
        let held = Held { value: Some(1.5), quality: Quality::GOOD, revision: 0 };
        let name = name_hash(SeriesId(1), &key("A", "flow", ""));
        let hashes = [
            row_hash(name, Timestamp(7), &held),
            row_hash(name, Timestamp(8), &held),
            row_hash(name, Timestamp(7), &Held { value: Some(1.25), ..held }),
            row_hash(name, Timestamp(7), &Held { value: Some(0.0), ..held }),
            row_hash(name, Timestamp(7), &Held { value: None, ..held }),
            row_hash(name, Timestamp(7), &Held { quality: Quality::MANUAL, ..held }),
            row_hash(name, Timestamp(7), &Held { revision: 1, ..held }),
            row_hash(name_hash(SeriesId(2), &key("A", "flow", "")), Timestamp(7), &held),
            row_hash(name_hash(SeriesId(1), &key("A", "flo", "w")), Timestamp(7), &held),
            row_hash(name_hash(SeriesId(1), &key("B", "flow", "")), Timestamp(7), &held),
        ];
        assert_eq!(hashes.iter().collect::<std::collections::BTreeSet<_>>().len(), hashes.len());
        // The same by another implementation of XXH64. It must never change: archived days are proved by it.
        assert_eq!(hashes[0], 0x582e_96a3_bab8_a3f3);
    }
}
