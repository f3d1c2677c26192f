//! What is expected of a series, hour by hour, and how right that was.
//!
//! The value is the median of the same hour of the week over the last eight weeks, a baseline that is hard to beat on
//! public water data (Battle of the Water Demand Forecasting, WDSA/CCWI 2024). The intervals are empirical: quantiles of
//! what the same rule missed, each hour of the training foretold from those before it, so that drift shows in them. Eight
//! weeks are few, and the hours of one are wrong together: quantiles are widened as Student's are beside the normal ones.

use super::robust::{insert, median, quantile, sorted};
use super::week::{Alike, Profile, hour_of_week};
use crate::rollup::Sample;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use shared::reading::Timestamp;
use std::collections::HashMap;
use utoipa::ToSchema;

/// The model's name.
pub const MODEL: &str = "median8w";
/// Hours of the long forecast, and of the short one within it.
pub const HOURS: i64 = 168;
/// Hours of the short forecast.
pub const HOURS_DAY: i64 = 24;
/// How far back is looked, microseconds.
pub const TRAINING: i64 = 8 * 7 * 24 * HOUR;

const HOUR: i64 = 3_600_000_000;
/// Misses from which quantiles can be taken.
const MISSES_MIN: usize = 20;

/// What is expected of an hour.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = ForecastPoint)]
pub struct Point {
    /// The hour's start.
    pub at: Timestamp,
    /// The expected value: an average of gauges, a growth of counters, in the series' unit.
    pub value: f64,
    /// With a chance of 50 % it is between these two.
    pub low50: f64,
    /// See `low50`.
    pub high50: f64,
    /// With a chance of 90 % it is between these two.
    pub low90: f64,
    /// See `low90`.
    pub high90: f64,
}

/// The hours from `origin` on, from what was before it; none while too little is known (about three days).
#[must_use]
pub fn forecast(hours: &[Sample], origin: Timestamp, zone: &TimeZone) -> Vec<Point> {
    let within = origin.plus_micros(-TRAINING)..origin;
    let mut hours: Vec<Sample> = hours.iter().filter(|hour| within.contains(&hour.at)).copied().collect();
    hours.sort_unstable_by_key(|hour| hour.at);
    let profile = Profile::of(&hours, zone);
    let misses = Misses::of(&hours, &profile, zone);
    let never_negative = hours.iter().all(|hour| hour.value >= 0.0);
    let floor = if never_negative { 0.0 } else { f64::MIN };
    let point = |n: i64| {
        let at = origin.plus_micros(n * HOUR);
        let alike = profile.alike(at)?.values();
        let value = median(alike)?;
        // The first was foretold by nothing, and a mean takes a degree of freedom.
        let freedom = alike.len().saturating_sub(2).max(1) as f64;
        let [low90, low50, high50, high90] =
            misses.quantiles(at, zone, freedom)?.map(|miss| (value + miss).clamp(floor, f64::MAX));
        Some(Point { at, value, low50, high50, low90, high90 })
    };
    (0..HOURS).filter_map(point).collect()
}

/// By how much the rule missed, for each hour of the day.
struct Misses {
    by_hour: Vec<Vec<f64>>,
    all: Vec<f64>,
}

/// Where 75 and 95 % of normal values end, in standard deviations.
const NORMAL: [f64; 2] = [0.674_489_75, 1.644_853_63];

impl Misses {
    /// Of hours in the order of time.
    fn of(hours: &[Sample], profile: &Profile, zone: &TimeZone) -> Self {
        let mut by_hour = vec![Vec::new(); 24];
        // Hours alike that were before, ascending by value: of the week's hours, and after them of the day's.
        let mut before = vec![Vec::new(); 168 + 24];
        for Sample { at, value } in hours {
            let Some(hour) = hour_of_week(*at, zone) else { continue };
            let alike = match profile.alike(*at) {
                Some(Alike::Weekly(_)) => &mut before[hour],
                Some(Alike::Daily(_)) => &mut before[168 + hour % 24],
                None => continue,
            };
            by_hour[hour % 24].extend(median(alike).map(|foretold| value - foretold));
            insert(alike, *value);
        }
        Self { all: sorted(by_hour.iter().flatten().copied()), by_hour: by_hour.into_iter().map(sorted).collect() }
    }

    /// At 5, 25, 75 and 95 %, around 0, with so many degrees of freedom.
    fn quantiles(&self, at: Timestamp, zone: &TimeZone, freedom: f64) -> Option<[f64; 4]> {
        let own = &self.by_hour[hour_of_week(at, zone)? % 24];
        let misses = if own.len() >= MISSES_MIN { own } else { &self.all };
        if misses.len() < MISSES_MIN {
            return None;
        }
        let [half, most] = NORMAL.map(|normal| student(normal, freedom) / normal);
        let at = |q, wider: f64| wider * quantile(misses, q).unwrap_or(0.0);
        Some([at(0.05, most).min(0.0), at(0.25, half).min(0.0), at(0.75, half).max(0.0), at(0.95, most).max(0.0)])
    }
}

/// Student's quantile beside a normal one (Abramowitz & Stegun 26.7.5); within 5 % for one degree of freedom, and far
/// better for more.
fn student(z: f64, freedom: f64) -> f64 {
    let terms = [
        z.powi(3) + z,
        5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z,
        3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z,
        79.0 * z.powi(9) + 776.0 * z.powi(7) + 1482.0 * z.powi(5) - 1920.0 * z.powi(3) - 945.0 * z,
    ];
    let parts = terms.into_iter().zip([4.0, 96.0, 384.0, 92_160.0]).zip(1..);
    z + parts.map(|((term, of), power)| term / (of * freedom.powi(power))).sum::<f64>()
}

/// How right forecasts were, as sums, so that they can be added.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Score {
    /// Hours that were foretold and came.
    pub hours: u32,
    /// Sum of what they were off by, in the series' unit.
    pub off: f64,
    /// Hours that came within the 50 % interval.
    pub within50: u32,
    /// Hours that came within the 90 % interval.
    pub within90: u32,
}

impl Score {
    /// Counts another one's in.
    pub fn add(&mut self, other: &Score) {
        self.hours += other.hours;
        self.off = (self.off + other.off).min(f64::MAX);
        self.within50 += other.within50;
        self.within90 += other.within90;
    }

    /// The mean absolute error.
    #[must_use]
    pub fn mae(&self) -> Option<f64> {
        Some(self.off / f64::from(self.hours)).filter(|mae| mae.is_finite())
    }
}

/// How right a forecast was in its first day and in all of it.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Scores {
    /// Its first 24 hours.
    pub day: Score,
    /// All of its hours.
    pub week: Score,
}

/// Compares a forecast with what came; `None` when nothing of it came yet.
#[must_use]
pub fn score(points: &[Point], came: &[Sample]) -> Option<Scores> {
    let came: HashMap<i64, f64> = came.iter().map(|hour| (hour.at.0, hour.value)).collect();
    let first = points.first()?.at;
    let mut scores = Scores::default();
    for point in points {
        let Some(seen) = came.get(&point.at.0) else { continue };
        let one = Score {
            hours: 1,
            off: (seen - point.value).abs().min(f64::MAX),
            within50: u32::from((point.low50..=point.high50).contains(seen)),
            within90: u32::from((point.low90..=point.high90).contains(seen)),
        };
        scores.week.add(&one);
        if point.at.since(first) < HOURS_DAY * HOUR {
            scores.day.add(&one);
        }
    }
    (scores.week.hours > 0).then_some(scores)
}

#[cfg(test)]
mod tests;
