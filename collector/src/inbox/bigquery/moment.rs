//! Moments of a table: microseconds, and the text that stands for them everywhere else. Of a column without a zone both are
//! what a clock on the wall showed.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use shared::reading::Timestamp;

/// The moments that both BigQuery and we can say.
const FIRST: i64 = -62_135_596_800_000_000;
const LAST: i64 = 253_402_207_200_000_000 - 1;

/// As BigQuery shows it; texts sort as moments do.
pub(super) fn text(micros: i64, is_local: bool) -> String {
    let at = jiff::Timestamp::from_microsecond(micros.clamp(FIRST, LAST)).unwrap_or_default();
    let civil = TimeZone::UTC.to_datetime(at).to_string().replace('T', " ");
    if is_local { civil } else { civil + "+00" }
}

/// The moment that a text stands for.
pub(super) fn micros(text: &str) -> Option<i64> {
    let civil: DateTime = text.trim_end_matches("+00").parse().ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp().as_microsecond())
}

/// As a constant of the column's type, so that partitions are pruned by it.
pub(super) fn constant(micros: i64, is_local: bool) -> String {
    let kind = if is_local { "DATETIME" } else { "TIMESTAMP" };
    format!("{kind} '{}'", text(micros, is_local))
}

/// What a table has for a moment; `zone` is that of a column without one.
pub(super) fn there(at: Timestamp, zone: Option<&TimeZone>) -> i64 {
    let Some(zone) = zone else { return at.0 };
    let Ok(at) = jiff::Timestamp::from_microsecond(at.0) else { return at.0 };
    let civil = zone.to_datetime(at).to_zoned(TimeZone::UTC);
    civil.map_or(at.as_microsecond(), |civil| civil.timestamp().as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: i64 = 1_772_359_200_000_000;

    #[test]
    fn texts_sort_as_moments_do_and_lead_back() {
        for is_local in [false, true] {
            let texts = [FIRST, -1, 0, AT, AT + 1, AT + 500_000, AT + 999_999, AT + 1_000_000, LAST];
            let texts = texts.map(|micros| (micros, text(micros, is_local)));
            assert!(texts.is_sorted_by(|(_, a), (_, b)| a < b), "{texts:?}");
            assert!(texts.iter().all(|(micros, text)| super::micros(text) == Some(*micros)), "{texts:?}");
        }
        assert_eq!(text(AT, false), "2026-03-01 10:00:00+00");
        assert_eq!(constant(AT + 500_000, false), "TIMESTAMP '2026-03-01 10:00:00.5+00'");
        assert_eq!(constant(i64::MIN, true), "DATETIME '0001-01-01 00:00:00'");
        assert_eq!((micros(""), micros("soon")), (None, None));
    }

    #[test]
    fn a_column_without_a_zone_has_what_a_clock_showed() {
        let rome = TimeZone::get("Europe/Rome").unwrap();
        assert_eq!(there(Timestamp(AT), None), AT);
        assert_eq!(there(Timestamp(AT), Some(&rome)), AT + 3_600_000_000);
    }
}
