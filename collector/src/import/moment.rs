//! When a row was.

use super::dialect::DateOrder;
use super::{Mistake, Setting};
use jiff::civil::{Date, DateTime, Time};
use jiff::fmt::temporal::Pieces;
use jiff::tz::{AmbiguousOffset, TimeZone};
use shared::reading::{MICROS_PER_SECOND, Timestamp};

/// Rows may be as far apart as this for their order to say which hour it is.
const NEAR_HOURS: i64 = 26;
/// No clock of the world is further from UTC, seconds: Kiribati's.
const OFFSET_MAX: i32 = 14 * 3_600;
/// What is read.
const FORMS: &str = "2025-12-31 23:59:00, 31/12/2025 23:59, 2025-12-31T23:59:00+01:00, or seconds since 1970";

/// What a local time means that was twice, in the night in which clocks are set back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fold {
    /// Neither: it is refused.
    #[default]
    Refuse,
    /// The first time.
    Earlier,
    /// The second time.
    Later,
    /// What the order of rows says: the first while times grow, the second once they began again.
    Order,
}

/// By the order of rows, which of two moments it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Which {
    /// There is only one, or somebody said which.
    Only,
    /// The first, if the second comes, too: otherwise nobody knows.
    First,
    /// The second.
    Second,
}

impl Fold {
    fn choose(
        self,
        earlier: Timestamp,
        later: Timestamp,
        before: Option<Timestamp>,
    ) -> Result<(Timestamp, Which), Mistake> {
        match (self, before) {
            (Fold::Earlier, _) => Ok((earlier, Which::Only)),
            (Fold::Later, _) => Ok((later, Which::Only)),
            (Fold::Order, Some(before)) if before < earlier => Ok((earlier, Which::First)),
            (Fold::Order, Some(before)) if before < later => Ok((later, Which::Second)),
            (Fold::Order, Some(_)) => Err("that hour was twice, and rows aren't in the order of time here".into()),
            (Fold::Order, None) => {
                let why = "that hour was twice, and no row before it says which it is: earlier or later?";
                Err(Mistake::until(Setting::Fold, why))
            }
            (Fold::Refuse, _) => {
                let why = "that hour was twice when clocks were set back: earlier or later?";
                Err(Mistake::until(Setting::Fold, why))
            }
        }
    }
}

/// How times are read.
pub(super) struct Clock<'a> {
    pub(super) zone: Option<&'a TimeZone>,
    pub(super) fold: Fold,
    pub(super) dates: Option<DateOrder>,
}

impl Clock<'_> {
    /// The moment; `before` is the moment of the row before.
    pub(super) fn read(&self, text: &str, before: Option<Timestamp>) -> Result<(Timestamp, Which), Mistake> {
        if let Some(at) = unambiguous(text) {
            return Ok((at, Which::Only));
        }
        let civil = self.civil(text)?;
        let none = || Mistake::until(Setting::Zone, "a time without a time zone like Europe/Rome or UTC");
        let zone = self.zone.ok_or_else(none)?;
        let ambiguous = zone.to_ambiguous_zoned(civil);
        let micros = |zoned: Result<jiff::Zoned, jiff::Error>| {
            zoned
                .map(|zoned| Timestamp(zoned.timestamp().as_microsecond()))
                .map_err(|_| Mistake::from(format!("'{text}' is beyond the calendar")))
        };
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => Ok((micros(ambiguous.unambiguous())?, Which::Only)),
            AmbiguousOffset::Gap { .. } => Err("that hour was left out when clocks were set forward".into()),
            AmbiguousOffset::Fold { .. } => {
                let (earlier, later) = (micros(ambiguous.clone().earlier())?, micros(ambiguous.later())?);
                self.fold.choose(earlier, later, before)
            }
        }
    }

    /// Whether the next rows may be of an hour that is twice.
    pub(super) fn is_near_a_fold(&self, at: Timestamp) -> bool {
        let Some(zone) = self.zone else { return false };
        let Ok(at) = jiff::Timestamp::from_microsecond(at.0) else { return false };
        let near = |change: jiff::Timestamp| change.duration_since(at).as_hours().abs() <= NEAR_HOURS;
        zone.following(at).next().is_some_and(|change| near(change.timestamp()))
            || zone.preceding(at).next().is_some_and(|change| near(change.timestamp()))
    }

    /// `2025-12-31 23:59[:59[.9]]`, `31/12/2025 23:59`, with `T` or a blank, `.` as a separator of hours in no way.
    fn civil(&self, text: &str) -> Result<DateTime, Mistake> {
        let wrong = || Mistake::from(format!("'{text}' is no time like {FORMS}"));
        let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
        let date = self.date(date).map_err(|why| why.unwrap_or_else(wrong))?;
        if is_end_of_day(time.trim()) {
            return date.tomorrow().map(|next| next.to_datetime(Time::midnight())).map_err(|_| wrong());
        }
        Ok(date.to_datetime(time_of_day(time.trim()).ok_or_else(wrong)?))
    }

    /// `None`: it is no date at all.
    fn date(&self, text: &str) -> Result<Date, Option<Mistake>> {
        let mut parts = text.split(['-', '/', '.']).map(str::parse::<i16>);
        let (Some(Ok(a)), Some(Ok(b)), Some(Ok(c)), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(None);
        };
        let (year, month, day) = match self.dates {
            _ if a >= 1000 => (a, b, c),
            Some(DateOrder::Dmy) => (c, b, a),
            Some(DateOrder::Mdy) => (c, a, b),
            None => {
                let why = format!("'{text}' may be day/month or month/day: dmy or mdy?");
                return Err(Some(Mistake::until(Setting::Dates, why)));
            }
        };
        let small = |n: i16| i8::try_from(n).map_err(|_| None);
        if year < 1000 {
            return Err(Some(format!("'{text}' has a year of two digits").into()));
        }
        Date::new(year, small(month)?, small(day)?).map_err(|_| Some(format!("there is no day '{text}'").into()))
    }
}

/// RFC 3339, or seconds, milliseconds or microseconds since 1970 by their size.
fn unambiguous(text: &str) -> Option<Timestamp> {
    if let Ok(number) = text.parse::<i64>() {
        return match text.len() {
            9..=10 => Some(Timestamp(number.checked_mul(MICROS_PER_SECOND)?)),
            12..=13 => Some(Timestamp(number.checked_mul(1000)?)),
            15..=16 => Some(Timestamp(number)),
            _ => None,
        };
    }
    // `2025-12-31 23:59:00+01:00`, too, and with a blank before the offset.
    let joined = text.rsplit_once(' ').filter(|(_, offset)| offset.starts_with(['+', '-']));
    let joined = joined.map(|(at, offset)| format!("{}{offset}", at.trim_end()));
    let text = joined.as_deref().unwrap_or(text);
    let at: jiff::Timestamp = text.parse().ok()?;
    let is_somewhere = |offset: jiff::tz::Offset| offset.seconds().abs() <= OFFSET_MAX;
    let offset = Pieces::parse(text).ok()?.to_numeric_offset();
    offset.is_none_or(is_somewhere).then(|| Timestamp(at.as_microsecond()))
}

/// `24:00`, with or without seconds.
fn is_end_of_day(text: &str) -> bool {
    let zeros =
        |rest: &str| rest.starts_with("00") && rest.bytes().all(|byte| matches!(byte, b'0' | b':' | b'.' | b','));
    text.strip_prefix("24:").is_some_and(zeros)
}

fn time_of_day(text: &str) -> Option<Time> {
    let (whole, fraction) = text.split_once(['.', ',']).unwrap_or((text, ""));
    let mut parts = whole.split(':').map(str::parse::<i8>);
    let (hour, minute) = (parts.next()?.ok()?, parts.next()?.ok()?);
    let second = parts.next().unwrap_or(Ok(0)).ok()?;
    if parts.next().is_some() || fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos = if fraction.is_empty() { 0 } else { format!("{fraction:0<9}").parse().ok()? };
    Time::new(hour, minute, second, nanos).ok()
}
