//! A message's own timestamp. Pure: no IO, no clock.

use super::raw::TimeUnit;
use crate::clock::BUILT;
use serde_json::Value;
use shared::reading::Timestamp;

/// Ten years, in microseconds.
const TEN_YEARS_US: i64 = 10 * 365 * 86_400 * 1_000_000;
/// Earlier than ten years before this program was built is no reading that waited: it is a sensor that lost its
/// time and says 1970, 1980 or 2000.
pub const EARLIEST: Timestamp = Timestamp(BUILT.0 - TEN_YEARS_US);
/// 9999-12-31T23:59:59Z, the end of what RFC 3339 can say. What is merely in the future goes through: the
/// collector, whose clock is better than ours, sets it aside.
pub const LATEST: Timestamp = Timestamp(253_402_300_799_000_000);

/// What a message says about its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// This.
    Own(Timestamp),
    /// Nothing: the time of arrival counts.
    None,
    /// Nothing that can be used, and why; the time of arrival counts, with a doubt.
    Unusable(String),
}

impl Stamp {
    /// A timestamp in microseconds, when it is one that a sensor with a right clock could have said.
    #[must_use]
    pub fn of_micros(micros: i128) -> Self {
        match i64::try_from(micros).map(Timestamp) {
            Ok(at) if (EARLIEST..=LATEST).contains(&at) => Stamp::Own(at),
            Ok(at) => Stamp::Unusable(format!("the timestamp {at} is none that a set clock says")),
            Err(_) => Stamp::Unusable(format!("the timestamp {micros}us is beyond all time")),
        }
    }

    /// A timestamp in JSON.
    #[must_use]
    pub fn of_json(value: &Value, unit: TimeUnit) -> Self {
        let micros = match value {
            Value::Number(number) => of_number(&number.to_string(), unit),
            Value::String(text) => of_text(text.trim(), unit),
            _ => None,
        };
        micros.map_or_else(|| Stamp::Unusable("the timestamp can't be read".into()), Stamp::of_micros)
    }
}

fn of_text(text: &str, unit: TimeUnit) -> Option<i128> {
    if matches!(unit, TimeUnit::Auto | TimeUnit::Rfc3339)
        && let Ok(at) = text.parse::<Timestamp>()
    {
        return Some(at.0.into());
    }
    of_number(text, unit)
}

/// Whole numbers exactly, others as far as a double reaches: to the microsecond in this century.
fn of_number(text: &str, unit: TimeUnit) -> Option<i128> {
    let whole = text.parse::<i64>().ok().map(i128::from);
    let number = text.parse::<f64>().ok().filter(|number| number.abs() < 1e20)?;
    let per_micro = |nanos: i128| match whole {
        Some(whole) => (whole * nanos).div_euclid(1000),
        None => (number * (nanos as f64 / 1000.0)).round() as i128,
    };
    let nanos = match (unit, number.abs()) {
        (TimeUnit::Rfc3339, _) => return None,
        (TimeUnit::S, _) => 1_000_000_000,
        (TimeUnit::Ms, _) => 1_000_000,
        (TimeUnit::Us, _) => 1000,
        (TimeUnit::Ns, _) => 1,
        (TimeUnit::Auto, size) if size < 1e11 => 1_000_000_000,
        (TimeUnit::Auto, size) if size < 1e14 => 1_000_000,
        (TimeUnit::Auto, size) if size < 1e17 => 1000,
        (TimeUnit::Auto, _) => 1,
    };
    Some(per_micro(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// 2026-01-02T03:04:05.678901Z
    const AT: i64 = 1_767_323_045_678_901;

    #[track_caller]
    fn check(value: Value, unit: TimeUnit, micros: i64) {
        assert_eq!(Stamp::of_json(&value, unit), Stamp::Own(Timestamp(micros)), "{value} as {unit:?}");
    }

    #[test]
    fn every_unit_is_read_as_a_number_and_as_text() {
        check(json!(1_767_323_045), TimeUnit::S, AT - 678_901);
        check(json!(1_767_323_045.678_901), TimeUnit::S, AT);
        check(json!(1_767_323_045_678_i64), TimeUnit::Ms, AT - 901);
        check(json!("1767323045678.901"), TimeUnit::Ms, AT);
        check(json!(AT), TimeUnit::Us, AT);
        check(json!("1767323045678901999"), TimeUnit::Ns, AT);
        check(json!("2026-01-02T04:04:05.678901+01:00"), TimeUnit::Rfc3339, AT);
    }

    #[test]
    fn auto_goes_by_the_size() {
        check(json!(1_767_323_045), TimeUnit::Auto, AT - 678_901);
        check(json!(1_767_323_045_678_i64), TimeUnit::Auto, AT - 901);
        check(json!(AT), TimeUnit::Auto, AT);
        check(json!(AT * 1000), TimeUnit::Auto, AT);
        check(json!("2026-01-02T03:04:05.678901Z"), TimeUnit::Auto, AT);
    }

    #[test]
    fn a_sensor_that_lost_its_time_has_none_and_the_future_goes_through() {
        for lost in
            [json!(0), json!(-1), json!("1970-01-01T00:00:12Z"), json!(315_964_800), json!("2000-01-01T00:00:00Z")]
        {
            assert!(matches!(Stamp::of_json(&lost, TimeUnit::Auto), Stamp::Unusable(_)), "{lost}");
        }
        check(json!("2090-01-01T00:00:00Z"), TimeUnit::Auto, 3_786_912_000_000_000);
    }

    #[test]
    fn what_is_no_timestamp_says_so() {
        for (value, unit) in [
            (json!("yesterday"), TimeUnit::Auto),
            (json!("2026-01-02T03:04:05"), TimeUnit::Auto), // no offset: whose morning is it?
            (json!(null), TimeUnit::Auto),
            (json!([1]), TimeUnit::S),
            (json!("nan"), TimeUnit::S),
            (json!(1e300), TimeUnit::S),
            (json!(1_767_323_045), TimeUnit::Rfc3339),
            (json!(1_767_323_045_678_i64), TimeUnit::S),
        ] {
            assert!(matches!(Stamp::of_json(&value, unit), Stamp::Unusable(_)), "{value}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_no_own_time_is_out_of_bounds(text in "[-+0-9.eETZ:]{0,30}", number in any::<f64>()) {
            for unit in [TimeUnit::Auto, TimeUnit::S, TimeUnit::Ns, TimeUnit::Rfc3339] {
                for value in [json!(text), json!(number)] {
                    if let Stamp::Own(at) = Stamp::of_json(&value, unit) {
                        prop_assert!((EARLIEST..=LATEST).contains(&at));
                    }
                }
            }
        }
    }
}
