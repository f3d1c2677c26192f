//! Which resolution answers a question, and which tier which part of it. Pure.

use super::Question;
use crate::tiers::{Bucket, Day};
use shared::reading::Timestamp;

/// How fine an answer is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Resolution {
    /// The finest that fits into the number of points, or on the screen.
    #[default]
    Auto,
    /// Readings as they are.
    Raw,
    /// Buckets of that width.
    Buckets(Width),
}

/// The widths of buckets that can be asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Width {
    /// Five minutes.
    FiveMinutes,
    /// An hour.
    Hour,
    /// A day, UTC.
    Day,
}

/// How often readings are expected when the catalogue doesn't say, microseconds.
const INTERVAL_UNKNOWN: i64 = 10_000_000;

/// Readings that are expected at most when a stretch is brought down to a screen instead of being answered by buckets.
const READINGS_THINNED: i64 = 100_000;

impl Width {
    /// All of them, finest first.
    pub const ALL: [Width; 3] = [Width::FiveMinutes, Width::Hour, Width::Day];

    /// As it is written in a question.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Width::FiveMinutes => "5m",
            Width::Hour => "1h",
            Width::Day => "1d",
        }
    }

    /// Its length in microseconds.
    #[must_use]
    pub fn micros(self) -> i64 {
        match self {
            Width::FiveMinutes => Bucket::FiveMinutes.micros(),
            Width::Hour => Bucket::Hour.micros(),
            Width::Day => 24 * Bucket::Hour.micros(),
        }
    }

    /// The stored rollups it is made from.
    #[must_use]
    pub fn base(self) -> Bucket {
        match self {
            Width::FiveMinutes => Bucket::FiveMinutes,
            Width::Hour | Width::Day => Bucket::Hour,
        }
    }

    /// The start of the bucket a moment lies in.
    #[must_use]
    pub fn start_of(self, at: Timestamp) -> Timestamp {
        Timestamp(at.0.div_euclid(self.micros()).saturating_mul(self.micros()))
    }

    /// How many buckets touch `[from, to)`.
    #[must_use]
    pub fn count(self, from: Timestamp, to: Timestamp) -> u64 {
        if to <= from {
            return 0;
        }
        let last = to.plus_micros(-1).0.div_euclid(self.micros());
        last.abs_diff(from.0.div_euclid(self.micros())) + 1
    }
}

impl Resolution {
    /// All that can be asked for, as they are written.
    pub const WORDS: [&str; 5] = ["auto", "raw", "5m", "1h", "1d"];

    /// Reads one of [`Resolution::WORDS`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "auto" => Some(Resolution::Auto),
            "raw" => Some(Resolution::Raw),
            _ => Width::ALL.into_iter().find(|w| w.as_str() == word).map(Resolution::Buckets),
        }
    }

    /// The width of the answer's buckets; `None` for readings.
    pub(super) fn settle(self, question: &Question) -> Option<Width> {
        match self {
            Resolution::Raw => None,
            Resolution::Buckets(width) => Some(width),
            Resolution::Auto => {
                let interval = match i64::from(question.series.interval_ms) * 1000 {
                    0 => INTERVAL_UNKNOWN,
                    interval => interval,
                };
                let length = question.to.since(question.from);
                // For a screen, readings are brought down to it as long as that doesn't take too many of them.
                let (readings_max, buckets_max) = match question.thin {
                    Some(thin) => (READINGS_THINNED, u64::from(question.points_max.min(2 * thin.pixels))),
                    None => (i64::from(question.points_max), u64::from(question.points_max)),
                };
                if length / interval <= readings_max {
                    return None;
                }
                let fits = |w: &Width| w.count(question.from, question.to) <= buckets_max;
                Some(Width::ALL.into_iter().find(fits).unwrap_or(Width::Day))
            }
        }
    }
}

/// The days of `first..end` that are not among `days`, in words.
pub(super) fn missing(days: &[Day], first: Day, end: Day) -> Option<String> {
    let mut next = first;
    let mut stretches = Vec::new();
    for held in days.iter().copied().filter(|day| (first..end).contains(day)).chain([end]) {
        if next < held {
            stretches.push((next, Day(held.0 - 1)));
        }
        next = held.next();
    }
    in_words(&stretches)
}

/// Those of `wanted`, ascending, that are not among `days`, in words.
pub(super) fn lacking(wanted: &[Day], days: &[Day]) -> Option<String> {
    let lacking: Vec<Day> = wanted.iter().filter(|day| days.binary_search(day).is_err()).copied().collect();
    let stretch = |days: &[Day]| (days[0], days[days.len() - 1]);
    in_words(&lacking.chunk_by(|a, b| a.next() == *b).map(stretch).collect::<Vec<_>>())
}

/// The first few stretches of days, first and last, and how many there are besides.
fn in_words(stretches: &[(Day, Day)]) -> Option<String> {
    const MOST: usize = 5;
    let stretch =
        |(first, last): &(Day, Day)| if first == last { first.to_string() } else { format!("{first} to {last}") };
    let words: Vec<String> = stretches.iter().take(MOST).map(stretch).collect();
    let more = match stretches.len().saturating_sub(MOST) {
        0 => String::new(),
        more => format!(" and {more} more stretches"),
    };
    (!stretches.is_empty()).then(|| words.join(", ") + &more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_days_are_named() {
        let days = [19_997, 19_999, 20_000, 20_004].map(Day);
        assert_eq!(missing(&days, Day(19_997), Day(20_005)).as_deref(), Some("2024-10-02, 2024-10-05 to 2024-10-07"));
        assert_eq!(missing(&days, Day(19_999), Day(20_001)), None);
        assert_eq!(missing(&days, Day(20_004), Day(20_006)).as_deref(), Some("2024-10-09"));
        assert_eq!(missing(&days, Day(20_004), Day(20_004)), None);
        assert_eq!(lacking(&days, &days), None);
        assert_eq!(
            lacking(&[19_998, 20_001, 20_002, 20_004].map(Day), &days).as_deref(),
            Some("2024-10-02, 2024-10-05 to 2024-10-06")
        );
        let scattered: Vec<Day> = (0..20).step_by(2).map(Day).collect();
        assert!(missing(&scattered, Day(0), Day(20)).unwrap().ends_with("and 5 more stretches"));
    }
}
