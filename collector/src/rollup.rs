//! Rollups: what is kept of a run of readings. Pure arithmetic: no store, no clock.
//!
//! A rollup sums up one series' readings in time order. It is a function of these readings alone, so a bucket's
//! rollup depends on no other bucket, a late reading makes exactly one bucket dirty, and merging the rollups of
//! neighbouring buckets gives the rollup of all their readings.
//!
//! A value holds from its reading to the next one, but no longer than `hold`: beyond that nobody knows. A bad
//! reading ends it. So a sensor that was silent for a day counts for `hold` and not for the day.

use serde::{Deserialize, Serialize};
use shared::reading::{Held, QualityClass, Timestamp};

/// A usable value and its moment.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// What, in the canonical unit.
    pub value: f64,
}

/// The sum of a run of readings.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Rollup {
    /// Readings of quality good.
    pub good: u32,
    /// Readings of quality uncertain.
    pub uncertain: u32,
    /// Readings of quality bad: without value.
    pub bad: u32,
    /// Readings of quality manual.
    pub manual: u32,
    /// Moment of the first reading, bad ones included.
    pub begins: Timestamp,
    /// Moment of the last reading, bad ones included.
    pub ends: Timestamp,
    /// What can be said of the usable ones; `None` when there are none.
    pub usable: Option<Usable>,
}

/// The sum of the usable readings of a run.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Usable {
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Sum of the values.
    pub sum: f64,
    /// The first.
    pub first: Sample,
    /// The last.
    pub last: Sample,
    /// Value × seconds it held, between the first and the last reading of the run.
    pub integral: f64,
    /// Microseconds for which the value is known, between the first and the last reading of the run.
    pub covered: i64,
    /// Growth of a counter between the first and the last usable reading, resets allowed for.
    pub delta: f64,
    /// How often the counter fell: each time it is taken to have started again from zero.
    pub resets: u32,
}

/// Longest time a value is taken to hold, microseconds.
pub const HOLD_MAX: i64 = 24 * 3_600 * 1_000_000;
/// How long it holds when the catalogue says nothing about how often it comes, microseconds.
pub const HOLD_UNKNOWN: i64 = 15 * 60 * 1_000_000;

/// How long a series' value holds, microseconds: its maximum silence and one interval on top, or three intervals.
#[must_use]
pub fn hold(interval_ms: u32, silence_ms_max: u32) -> i64 {
    let (interval, silence) = (i64::from(interval_ms) * 1000, i64::from(silence_ms_max) * 1000);
    let hold = if silence > 0 { silence + interval.max(silence / 10) } else { interval * 3 };
    if hold == 0 { HOLD_UNKNOWN } else { hold.min(HOLD_MAX) }
}

/// The same; `None` when nobody knows how often a value comes.
#[must_use]
pub fn known_hold(interval_ms: u32, silence_ms_max: u32) -> Option<i64> {
    (interval_ms > 0 || silence_ms_max > 0).then(|| hold(interval_ms, silence_ms_max))
}

/// Growth of a counter from one reading to the next, and whether it was reset between them.
#[must_use]
pub fn growth(from: f64, to: f64) -> (f64, bool) {
    if to >= from { (to - from, false) } else { (to.max(0.0), true) }
}

/// What a held value adds over `micros`: value × seconds, and the part of it that is known.
#[must_use]
pub fn held_for(value: f64, micros: i64, hold: i64) -> (f64, i64) {
    let known = micros.clamp(0, hold.max(0));
    (value * (known as f64 / 1e6), known)
}

impl Rollup {
    /// The rollup of a single reading.
    #[must_use]
    pub fn of(at: Timestamp, held: &Held) -> Self {
        let class = held.quality.class();
        let one = |c| u32::from(class == c);
        let usable = held.value.filter(|_| held.quality.is_usable()).map(|value| Usable {
            min: value,
            max: value,
            sum: value,
            first: Sample { at, value },
            last: Sample { at, value },
            integral: 0.0,
            covered: 0,
            delta: 0.0,
            resets: 0,
        });
        Self {
            good: one(QualityClass::Good),
            uncertain: one(QualityClass::Uncertain),
            bad: one(QualityClass::Bad),
            manual: one(QualityClass::Manual),
            begins: at,
            ends: at,
            usable,
        }
    }

    /// The rollup of readings in ascending order of time; `None` of none.
    #[must_use]
    pub fn of_all<'a>(readings: impl IntoIterator<Item = (Timestamp, &'a Held)>, hold: i64) -> Option<Self> {
        readings.into_iter().map(|(at, held)| Self::of(at, held)).reduce(|sum, next| sum.then(&next, hold))
    }

    /// The rollup of this run and a later one.
    #[must_use]
    pub fn then(&self, later: &Self, hold: i64) -> Self {
        let usable = match (self.usable, later.usable) {
            (None, only) => only,
            (Some(mut a), None) => {
                a.extend_to(self.ends, later.begins, hold);
                Some(a)
            }
            (Some(mut a), Some(b)) => {
                a.extend_to(self.ends, later.begins, hold);
                let (step, reset) = growth(a.last.value, b.first.value);
                Some(Usable {
                    min: a.min.min(b.min),
                    max: a.max.max(b.max),
                    sum: a.sum + b.sum,
                    first: a.first,
                    last: b.last,
                    integral: a.integral + b.integral,
                    covered: a.covered + b.covered,
                    delta: a.delta + step + b.delta,
                    resets: a.resets.saturating_add(b.resets).saturating_add(u32::from(reset)),
                })
            }
        };
        Self {
            good: self.good.saturating_add(later.good),
            uncertain: self.uncertain.saturating_add(later.uncertain),
            bad: self.bad.saturating_add(later.bad),
            manual: self.manual.saturating_add(later.manual),
            begins: self.begins,
            ends: later.ends,
            usable,
        }
    }

    /// All readings.
    #[must_use]
    pub fn count(&self) -> u64 {
        u64::from(self.good) + u64::from(self.uncertain) + u64::from(self.bad) + u64::from(self.manual)
    }

    /// Readings with a value.
    #[must_use]
    pub fn count_usable(&self) -> u64 {
        self.count() - u64::from(self.bad)
    }

    /// The value that still holds after the last reading; `None` when that was bad.
    #[must_use]
    pub fn open(&self) -> Option<Sample> {
        self.usable.map(|u| u.last).filter(|last| last.at == self.ends)
    }
}

impl Usable {
    /// Lets the last value hold until `next`, if it was still open at `ends`.
    fn extend_to(&mut self, ends: Timestamp, next: Timestamp, hold: i64) {
        if self.last.at == ends {
            let (integral, covered) = held_for(self.last.value, next.since(ends), hold);
            self.integral += integral;
            self.covered += covered;
        }
    }
}

/// What is known of a stretch of time as a whole: a bucket's rollup with the values that hold into and out of it.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Span {
    /// Value × seconds it held.
    pub integral: f64,
    /// Microseconds for which the value is known.
    pub covered: i64,
    /// Growth of a counter, from the last usable reading before the stretch on.
    pub increase: Option<f64>,
    /// How often the counter fell.
    pub resets: u32,
}

impl Span {
    /// The stretch `[from, to)`, whose readings are summed up in `inside`. `open` is the value that holds when it
    /// begins, `before` the last usable one before it.
    #[must_use]
    pub fn new(
        (from, to): (Timestamp, Timestamp),
        inside: Option<&Rollup>,
        open: Option<Sample>,
        before: Option<Sample>,
        hold: i64,
    ) -> Self {
        let mut span = Span::default();
        if let Some(open) = open {
            // The value began to hold earlier: only what of its time reaches into the stretch counts.
            let until = inside.map_or(to, |r| r.begins).min(open.at.plus_micros(hold));
            span.add(open.value, until.since(from), hold);
        }
        let Some(inside) = inside else { return span };
        if let Some(usable) = inside.usable {
            span.integral += usable.integral;
            span.covered += usable.covered;
            if let Some(last) = inside.open() {
                span.add(last.value, to.since(last.at), hold);
            }
            let (step, reset) = before.map_or((0.0, false), |b| growth(b.value, usable.first.value));
            span.increase = Some(step + usable.delta);
            span.resets = usable.resets.saturating_add(u32::from(reset));
        }
        span
    }

    fn add(&mut self, value: f64, micros: i64, hold: i64) {
        let (integral, covered) = held_for(value, micros, hold);
        self.integral += integral;
        self.covered += covered;
    }

    /// The average over the time for which the value is known.
    #[must_use]
    pub fn average(&self) -> Option<f64> {
        (self.covered > 0).then(|| self.integral / (self.covered as f64 / 1e6))
    }
}

#[cfg(test)]
mod tests;
