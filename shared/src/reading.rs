//! A reading: what a series said at one moment, and how far it can be trusted.
//!
//! The rule that decides between two values for one (series, timestamp) lives here, since every tier must
//! decide alike whatever came first.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

/// UTC microseconds since 1970-01-01: the number in formats for programs, RFC 3339 in those for people, like JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, format = DateTime, examples("2026-03-01T12:00:00Z")))]
pub struct Timestamp(pub i64);

/// Microseconds in a second.
pub const MICROS_PER_SECOND: i64 = 1_000_000;

/// A duration in microseconds, saturating.
#[must_use]
pub fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl Timestamp {
    /// The system's wall clock. Only the clock module of a program should ask it.
    #[must_use]
    pub fn wall_clock() -> Self {
        use std::time::{SystemTime, UNIX_EPOCH};
        let since = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => micros(after),
            Err(before) => -micros(before.duration()),
        };
        Timestamp(since)
    }

    /// Microseconds from `earlier` to `self`, saturating.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This moment shifted by microseconds, saturating.
    #[must_use]
    pub fn plus_micros(self, micros: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(micros))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with as many digits as needed; the bare number where no calendar reaches.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rfc3339() {
            Some(text) => f.pad(text.as_str()),
            None => write!(f, "{}us", self.0),
        }
    }
}

/// A moment as text.
struct Rfc3339 {
    text: [u8; 27],
    length: usize,
}

impl Rfc3339 {
    fn as_str(&self) -> &str {
        self.text.get(..self.length).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }
}

impl Timestamp {
    /// By hand, since answers have thousands of them: a tenth of the time.
    fn rfc3339(self) -> Option<Rfc3339> {
        let (seconds, micros) = (self.0.div_euclid(MICROS_PER_SECOND), self.0.rem_euclid(MICROS_PER_SECOND));
        let at = time::OffsetDateTime::from_unix_timestamp(seconds).ok()?;
        let (year, month, day) = at.to_calendar_date();
        let year = u32::try_from(year).ok().filter(|year| *year <= 9_999)?;
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let mut put = |digits: std::ops::Range<usize>, mut number: u32| {
            for digit in text[digits].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        };
        put(0..4, year);
        put(5..7, u8::from(month).into());
        put(8..10, day.into());
        put(11..13, at.hour().into());
        put(14..16, at.minute().into());
        put(17..19, at.second().into());
        put(20..26, micros as u32); // below a million
        let digits = text[20..26].iter().rposition(|digit| *digit != b'0');
        let end = digits.map_or(19, |last| 20 + last + 1);
        text[end] = b'Z';
        Some(Rfc3339 { text, length: end + 1 })
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no moment.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("'{0}' is no time like 2026-03-01T00:00:00Z or 2026-03-01T01:00:00+01:00")]
pub struct NoTime(String);

impl NoTime {
    /// Characters of it that are shown.
    const SHOWN: usize = 60;
}

impl std::str::FromStr for Timestamp {
    type Err = NoTime;
    /// Reads RFC 3339, any offset.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let at = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339);
        let at = at.map_err(|_| NoTime(text.chars().take(NoTime::SHOWN).collect()))?;
        Ok(Timestamp((at.unix_timestamp_nanos() / 1000) as i64))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.serialize_i64(self.0);
        }
        match self.rfc3339() {
            Some(text) => serializer.serialize_str(text.as_str()),
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return i64::deserialize(deserializer).map(Timestamp);
        }
        let text = String::deserialize(deserializer)?;
        let beyond_calendar = text.strip_suffix("us").and_then(|micros| micros.parse().ok());
        beyond_calendar.map_or_else(|| text.parse().map_err(serde::de::Error::custom), |micros| Ok(Timestamp(micros)))
    }
}

/// The four levels of trust, worst last in the order of [`QualityClass::rank`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Quality))]
pub enum QualityClass {
    /// As the sensor said it.
    Good,
    /// A value, with a doubt that [`Quality::reason`] names.
    Uncertain,
    /// No usable value.
    Bad,
    /// Entered or corrected by a person.
    Manual,
}

impl QualityClass {
    /// Higher wins a conflict: good > manual > uncertain > bad.
    #[must_use]
    pub fn rank(self) -> u8 {
        match self {
            QualityClass::Good => 3,
            QualityClass::Manual => 2,
            QualityClass::Uncertain => 1,
            QualityClass::Bad => 0,
        }
    }
}

/// One byte: the class in the two high bits (good 0, uncertain 1, bad 2, manual 3), the reason in the low six.
///
/// The byte is stored and sent as it is; a reason this version doesn't know is kept and shown by number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quality(pub u8);

macro_rules! qualities {
    ($($(#[$doc:meta])* $name:ident = $class:literal, $reason:literal, $text:literal;)*) => {
        impl Quality {
            $($(#[$doc])* pub const $name: Quality = Quality($class << 6 | $reason);)*

            /// The reason in words; `None` for plain good and manual.
            #[must_use]
            pub fn reason(self) -> Option<&'static str> {
                if self.0 & 0x3f == 0 {
                    return None;
                }
                match self {
                    $(Quality::$name => Some($text),)*
                    _ => Some("unknown reason"),
                }
            }

            /// Every quality that has a name.
            pub const NAMED: &[Quality] = &[$(Quality::$name),*];
        }
    };
}
qualities! {
    /// As the sensor said it.
    GOOD = 0, 0, "good";
    /// The gateway's clock was in doubt: the timestamp may be off.
    UNCERTAIN_CLOCK = 1, 1, "clock";
    /// The value was limited to the point's range.
    UNCERTAIN_CLAMPED = 1, 2, "clamped";
    /// The value was put in for one that was missing.
    UNCERTAIN_SUBSTITUTED = 1, 3, "substituted";
    /// An MQTT redelivery without a timestamp of its own: the reading may stand twice.
    UNCERTAIN_REDELIVERED = 1, 4, "redelivered";
    /// An integer beyond 2^53, rounded to the nearest double.
    UNCERTAIN_PRECISION = 1, 5, "precision";
    /// The device itself says the value is doubtful.
    UNCERTAIN_SENSOR = 1, 6, "sensor doubtful";
    /// The device didn't answer in time.
    BAD_TIMEOUT = 2, 1, "timeout";
    /// The device answered with an exception.
    BAD_EXCEPTION = 2, 2, "device exception";
    /// The payload could not be read.
    BAD_PAYLOAD = 2, 3, "bad payload";
    /// The value is outside the point's range.
    BAD_OUT_OF_RANGE = 2, 4, "out of range";
    /// The value is NaN or infinite.
    BAD_NOT_A_NUMBER = 2, 5, "not a number";
    /// The device itself says the value is wrong.
    BAD_SENSOR_FAULT = 2, 6, "sensor fault";
    /// The link is down: connection refused, port gone, broker away.
    BAD_LINK = 2, 7, "link down";
    /// A person found it wrong, and nobody knows the right value.
    BAD_WITHDRAWN = 2, 8, "withdrawn";
    /// Entered by a person.
    MANUAL = 3, 0, "manual";
}

impl Quality {
    /// The level of trust.
    #[must_use]
    pub fn class(self) -> QualityClass {
        match self.0 >> 6 {
            0 => QualityClass::Good,
            1 => QualityClass::Uncertain,
            2 => QualityClass::Bad,
            _ => QualityClass::Manual,
        }
    }

    /// Whether a value of this quality takes part in sums and averages.
    #[must_use]
    pub fn is_usable(self) -> bool {
        self.class() != QualityClass::Bad
    }
}

impl fmt::Display for Quality {
    /// `good`, `bad (timeout)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = match self.class() {
            QualityClass::Good => "good",
            QualityClass::Uncertain => "uncertain",
            QualityClass::Bad => "bad",
            QualityClass::Manual => "manual",
        };
        match self.reason() {
            Some(reason) => f.pad(&format!("{class} ({reason})")),
            None => f.pad(class),
        }
    }
}

impl fmt::Debug for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A value and its quality made consistent: no NaN or infinity as a number, no bad reading with one, one zero.
#[must_use]
pub fn sanitise(value: Option<f64>, quality: Quality) -> (Option<f64>, Quality) {
    match value {
        _ if quality.class() == QualityClass::Bad => (None, quality),
        Some(v) if !v.is_finite() => (None, Quality::BAD_NOT_A_NUMBER),
        Some(v) => (Some(v + 0.0), quality), // -0.0 + 0.0 is 0.0: one zero, so that equal is equal on the bits
        None => (None, Quality::BAD_PAYLOAD),
    }
}

/// What a tier holds for one (series, timestamp).
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Held {
    /// The value in the metric's canonical unit; `None` when bad.
    pub value: Option<f64>,
    /// How far it can be trusted.
    pub quality: Quality,
    /// 0 from a sensor; each correction by a person has a higher one.
    pub revision: u32,
}

impl Held {
    /// `Greater` when `self` wins over `other`: higher revision, then good > manual > uncertain > bad,
    /// then the lower quality byte, then a value over none, then the larger value.
    ///
    /// A total order on sanitised readings, so any order of arrival leaves the same winner. It is written so
    /// that SQL can say the same with plain comparisons.
    #[must_use]
    pub fn contest(&self, other: &Held) -> Ordering {
        self.revision
            .cmp(&other.revision)
            .then(self.quality.class().rank().cmp(&other.quality.class().rank()))
            .then(other.quality.0.cmp(&self.quality.0))
            .then_with(|| match (self.value, other.value) {
                (Some(a), Some(b)) => a.total_cmp(&b),
                (a, b) => a.is_some().cmp(&b.is_some()),
            })
    }

    /// Whether this one replaces `other`.
    #[must_use]
    pub fn wins_over(&self, other: &Held) -> bool {
        self.contest(other) == Ordering::Greater
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// By the library of calendars.
    fn text_of(micros: i64) -> String {
        let at = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000).ok();
        at.and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok())
            .unwrap_or(format!("{micros}us"))
    }

    fn held() -> impl Strategy<Value = Held> {
        let value = prop_oneof![
            Just(None),
            Just(Some(0.0)),
            Just(Some(-0.0)),
            Just(Some(f64::NAN)),
            any::<f64>().prop_map(Some)
        ];
        (value, any::<u8>(), 0u32..3).prop_map(|(value, quality, revision)| {
            let (value, quality) = sanitise(value, Quality(quality));
            Held { value, quality, revision }
        })
    }

    proptest! {
        #[test]
        fn a_timestamp_is_text_for_people_and_a_number_for_programs(
            micros in prop_oneof![
                any::<i64>(),
                -62_300_000_000_000_000..253_500_000_000_000_000i64,
                (-62_300_000_000..253_500_000_000i64).prop_map(|seconds| seconds * 1_000_000),
                (-62_300_000_000_000..253_500_000_000_000i64).prop_map(|millis| millis * 1_000),
            ]
        ) {
            let at = Timestamp(micros);
            let json = serde_json::to_string(&at).unwrap();
            prop_assert_eq!(&json, &format!("\"{at}\""));
            prop_assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), at);
            prop_assert_eq!(at.to_string(), text_of(micros));
            prop_assert_eq!(postcard::to_stdvec(&at).unwrap(), postcard::to_stdvec(&micros).unwrap());
        }

        #[test]
        fn any_order_of_arrival_leaves_the_same_winner(
            (all, shuffled) in prop::collection::vec(held(), 1..12)
                .prop_flat_map(|v| (Just(v.clone()), Just(v).prop_shuffle()))
        ) {
            let store = |arrivals: &[Held]| arrivals.iter().copied().reduce(|kept, new| if new.wins_over(&kept) { new } else { kept });
            prop_assert_eq!(store(&all), store(&shuffled));
        }

        #[test]
        fn no_stored_number_is_nan_or_infinite(value in any::<f64>(), quality in any::<u8>()) {
            let (value, quality) = sanitise(Some(value), Quality(quality));
            prop_assert!(value.is_none_or(f64::is_finite));
            prop_assert_eq!(value.is_none(), quality.class() == QualityClass::Bad);
        }
    }

    #[test]
    fn good_beats_manual_of_the_same_revision_and_a_correction_beats_good() {
        let sensor = Held { value: Some(1.0), quality: Quality::GOOD, revision: 0 };
        let entry = Held { value: Some(2.0), quality: Quality::MANUAL, revision: 0 };
        let correction = Held { revision: 1, ..entry };
        assert!(sensor.wins_over(&entry));
        assert!(correction.wins_over(&sensor));
    }

    #[test]
    fn a_moment_reads_and_writes_as_rfc_3339() {
        let at: Timestamp = "2026-03-29T02:30:00.25+01:00".parse().unwrap();
        assert_eq!(at.to_string(), "2026-03-29T01:30:00.25Z");
    }

    #[test]
    fn what_is_no_moment_is_told_with_how_to_write_one() {
        let like = "is no time like 2026-03-01T00:00:00Z or 2026-03-01T01:00:00+01:00";
        let refused = "yesterdayy".parse::<Timestamp>().unwrap_err().to_string();
        assert_eq!(refused, format!("'yesterdayy' {like}"));
        let refused = serde_json::from_str::<Timestamp>("\"2026-13-01T00:00:00Z\"").unwrap_err().to_string();
        assert!(refused.starts_with(&format!("'2026-13-01T00:00:00Z' {like}")), "{refused}");
        let long = "x".repeat(1_000).parse::<Timestamp>().unwrap_err().to_string();
        assert!(long.len() < 200, "{long}");
    }
}
