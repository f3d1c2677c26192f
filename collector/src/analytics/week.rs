//! Which hours are alike: those of the same weekday and hour in a time zone. In the night in which an hour comes twice
//! both are that hour; in the night that lacks one, none is.

use super::robust::sorted;
use crate::rollup::Sample;
use jiff::tz::TimeZone;
use shared::reading::Timestamp;

/// Hours of a week.
const HOURS: usize = 168;
/// Values that are needed to say what is usual.
const ENOUGH: usize = 3;

/// The hour of the week, 0 is Monday from midnight on; `None` beyond the calendar.
#[must_use]
pub fn hour_of_week(at: Timestamp, zone: &TimeZone) -> Option<usize> {
    let local = zone.to_datetime(jiff::Timestamp::from_microsecond(at.0).ok()?);
    let (day, hour) = (local.weekday().to_monday_zero_offset(), local.hour());
    Some(usize::try_from(day).ok()? * 24 + usize::try_from(hour).ok()?)
}

/// The values of hours that are alike, ascending.
#[derive(Clone, Debug)]
pub struct Profile {
    weekly: Vec<Vec<f64>>,
    daily: Vec<Vec<f64>>,
    zone: TimeZone,
}

/// What is known of an hour.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Alike<'a> {
    /// Values of that hour of the week.
    Weekly(&'a [f64]),
    /// Values of that hour of all days: there are not enough weeks yet.
    Daily(&'a [f64]),
}

impl<'a> Alike<'a> {
    /// The values, ascending.
    #[must_use]
    pub fn values(self) -> &'a [f64] {
        match self {
            Alike::Weekly(values) | Alike::Daily(values) => values,
        }
    }
}

impl Profile {
    /// From one value for each hour.
    #[must_use]
    pub fn of(hours: &[Sample], zone: &TimeZone) -> Self {
        let (mut weekly, mut daily) = (vec![Vec::new(); HOURS], vec![Vec::new(); 24]);
        for Sample { at, value } in hours {
            if let Some(hour) = hour_of_week(*at, zone) {
                weekly[hour].push(*value);
                daily[hour % 24].push(*value);
            }
        }
        let order = |groups: Vec<Vec<f64>>| groups.into_iter().map(sorted).collect();
        Self { weekly: order(weekly), daily: order(daily), zone: zone.clone() }
    }

    /// The values of hours like this one; `None` while there are too few.
    #[must_use]
    pub fn alike(&self, at: Timestamp) -> Option<Alike<'_>> {
        let hour = hour_of_week(at, &self.zone)?;
        let (weekly, daily) = (&self.weekly[hour], &self.daily[hour % 24]);
        match (weekly.len() >= ENOUGH, daily.len() >= ENOUGH) {
            (true, _) => Some(Alike::Weekly(weekly)),
            (_, true) => Some(Alike::Daily(daily)),
            _ => None,
        }
    }
}
