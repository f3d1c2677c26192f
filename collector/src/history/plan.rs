//! Which resolution answers a question. Pure.

use super::Question;
use crate::tiers::Bucket;
use shared::reading::Timestamp;

/// How fine an answer is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Resolution {
    /// The finest that fits into the number of points.
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
                let (length, most) = (question.to.since(question.from), i64::from(question.points_max));
                if length / interval <= most {
                    return None;
                }
                let fits = |w: &Width| w.count(question.from, question.to) <= u64::from(question.points_max);
                Some(Width::ALL.into_iter().find(fits).unwrap_or(Width::Day))
            }
        }
    }
}
