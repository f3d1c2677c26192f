//! When a job is due: a cron pattern in a time zone.
//!
//! At a change of the clock a fixed time that is skipped is due when the clock goes on, and one that comes twice is due
//! the first time; what is due every so many minutes or hours goes on as time itself does (Vixie cron's rules, as
//! croner has them).

use croner::Cron;
use jiff::Zoned;
use jiff::tz::TimeZone;
use shared::reading::Timestamp;
use std::fmt;
use std::str::FromStr as _;

/// A cron pattern in a time zone.
#[derive(Clone)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

/// Why a schedule can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The time zone isn't known.
    #[error("that is no time zone; one is named like \"Europe/Rome\" or \"UTC\"")]
    Zone,
    /// The pattern can't be read.
    #[error("that is no cron pattern (minute hour day month weekday, like \"0 2 * * *\"): {0}")]
    Pattern(String),
}

/// Finds a time zone by its name.
///
/// # Errors
/// When there is none of that name.
pub fn zone(name: &str) -> Result<TimeZone, ScheduleError> {
    TimeZone::get(name).map_err(|_| ScheduleError::Zone)
}

impl Schedule {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it can't be read, or is never due.
    pub fn parse(pattern: &str, zone: TimeZone) -> Result<Self, ScheduleError> {
        let cron = Cron::from_str(pattern).map_err(|error| ScheduleError::Pattern(error.to_string()))?;
        let schedule = Self { cron, zone };
        // Such as the 30th of February.
        schedule
            .next_after(Timestamp(0))
            .map(|_| schedule)
            .ok_or_else(|| ScheduleError::Pattern("it is never due".into()))
    }

    /// The last time it was due, `now` included; `None` before any calendar.
    #[must_use]
    pub fn last_due(&self, now: Timestamp) -> Option<Timestamp> {
        let found = self.cron.find_previous_occurrence(&self.local(now)?, true).ok()?;
        Some(timestamp(&found))
    }

    /// The next time it is due, later than `now`.
    #[must_use]
    pub fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        let found = self.cron.find_next_occurrence(&self.local(now)?, false).ok()?;
        Some(timestamp(&found))
    }

    fn local(&self, at: Timestamp) -> Option<Zoned> {
        Some(jiff::Timestamp::from_microsecond(at.0).ok()?.to_zoned(self.zone.clone()))
    }
}

fn timestamp(at: &Zoned) -> Timestamp {
    Timestamp(at.timestamp().as_microsecond())
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.cron.pattern, self.zone.iana_name().unwrap_or("UTC"))
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rome(pattern: &str) -> Schedule {
        Schedule::parse(pattern, zone("Europe/Rome").unwrap()).unwrap()
    }

    /// Every time it is due between two moments.
    fn due(pattern: &str, from: &str, to: &str) -> Vec<String> {
        let (schedule, mut at, to) =
            (rome(pattern), from.parse::<Timestamp>().unwrap(), to.parse::<Timestamp>().unwrap());
        let mut all = Vec::new();
        while let Some(next) = schedule.next_after(at).filter(|next| *next <= to) {
            all.push(next.to_string());
            at = next;
        }
        all
    }

    #[test]
    fn a_fixed_time_comes_once_in_the_night_that_lacks_an_hour() {
        // 2026-03-29, 02:00 to 03:00 is missing.
        for pattern in ["0 2 * * *", "30 2 * * *"] {
            let all = due(pattern, "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z");
            assert_eq!(all, ["2026-03-29T01:00:00Z"], "{pattern}");
        }
    }

    #[test]
    fn a_fixed_time_comes_once_in_the_night_that_has_an_hour_twice() {
        // 2026-10-25, 02:00 to 03:00 comes twice.
        assert_eq!(due("0 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z"), ["2026-10-25T00:00:00Z"]);
        assert_eq!(due("30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z"), ["2026-10-25T00:30:00Z"]);
    }

    #[test]
    fn what_is_due_every_so_often_goes_on_as_time_does() {
        for (from, to) in
            [("2026-03-28T22:00:00Z", "2026-03-29T04:00:00Z"), ("2026-10-24T22:00:00Z", "2026-10-25T04:00:00Z")]
        {
            assert_eq!(due("0 * * * *", from, to).len(), 6, "{from}");
            assert_eq!(due("*/15 * * * *", from, to).len(), 24, "{from}");
            assert_eq!(due("*/5 * * * *", from, to).len(), 72, "{from}");
        }
    }

    #[test]
    fn a_leap_day_is_a_day() {
        assert_eq!(due("0 2 29 2 *", "2026-01-01T00:00:00Z", "2029-01-01T00:00:00Z"), ["2028-02-29T01:00:00Z"]);
        assert_eq!(due("0 2 * * *", "2028-02-28T12:00:00Z", "2028-03-01T12:00:00Z").len(), 2);
    }

    #[test]
    fn last_and_next_meet_at_every_minute_of_a_year() {
        for pattern in ["0 2 * * *", "30 2 * * *", "*/15 * * * *", "0 * * * *", "0 3 * * 0"] {
            let schedule = rome(pattern);
            let start: Timestamp = "2026-01-01T00:00:30Z".parse().unwrap();
            for minute in (0..365 * 24 * 60).step_by(173) {
                let now = start.plus_micros(minute * 60_000_000);
                let last = schedule.last_due(now).unwrap();
                let next = schedule.next_after(now).unwrap();
                assert!(last <= now && now < next, "{pattern} at {now}: {last} {next}");
                assert_eq!(schedule.next_after(last), Some(next), "{pattern} at {now}");
                assert_eq!(schedule.last_due(next), Some(next), "{pattern} at {now}");
            }
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert!(zone("Europe/Roma").unwrap_err().to_string().contains("Europe/Rome"));
        for pattern in ["daily", "61 2 * * *", "", "0 2 30 2 *"] {
            let error = Schedule::parse(pattern, TimeZone::UTC).unwrap_err().to_string();
            assert!(error.starts_with("that is no cron pattern"), "{pattern}: {error}");
        }
    }
}
