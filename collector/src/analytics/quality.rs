//! How good a series' data of a stretch is: how much of the time its value is known, and how far it can be trusted.

use serde::Serialize;
use shared::reading::{Held, QualityClass, Timestamp};

/// Spacings that the typical one is found among; a series at one second has 86,400 a day.
const SPACINGS_MAX: usize = 200_000;

/// A series' report.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct SeriesQuality {
    /// Readings of quality good.
    pub good: u32,
    /// Readings of quality uncertain.
    pub uncertain: u32,
    /// Readings of quality bad: without value.
    pub bad: u32,
    /// Readings of quality manual.
    pub manual: u32,
    /// Readings that came late (`[ingest] late_after`), of blocks of gateways.
    pub late: u32,
    /// Share of the stretch in which the value is known, 0 to 1.
    pub completeness: f64,
    /// Longest time without a known value, microseconds.
    pub longest_gap_us: i64,
    /// Typical time from one reading to the next (the median), microseconds; `None` of fewer than two.
    pub spacing_us: Option<i64>,
    /// Smallest step from one value to the next that is no standstill, in the canonical unit.
    pub step: Option<f64>,
    /// 0 to 100: completeness, less half of the share of uncertain readings among those that have a value.
    pub score: f64,
}

impl SeriesQuality {
    /// Share of readings that came late, 0 to 1. What was sent twice counted twice, so that it may be more than there are.
    #[must_use]
    pub fn late_share(&self) -> f64 {
        let all = self.good.saturating_add(self.uncertain).saturating_add(self.bad).saturating_add(self.manual);
        if all == 0 { 0.0 } else { (f64::from(self.late) / f64::from(all)).min(1.0) }
    }
}

/// Measures a stretch, reading by reading, in ascending order of time.
#[derive(Clone, Debug)]
pub struct Measure {
    from: Timestamp,
    to: Timestamp,
    hold: i64,
    counts: [u32; 4],
    covered: i64,
    longest_gap: i64,
    /// Since when the value is not known.
    dark_since: Option<Timestamp>,
    /// The moment of the last reading, when it has a value.
    known_at: Option<Timestamp>,
    last_at: Option<Timestamp>,
    last_value: Option<f64>,
    spacings: Vec<i64>,
    step: Option<f64>,
}

impl Measure {
    /// Of `from <= at < to`. A value holds for `hold` microseconds at most (see [`crate::rollup::hold`]), that of
    /// the last reading `before` the stretch as well.
    #[must_use]
    pub fn new(from: Timestamp, to: Timestamp, hold: i64, before: Option<(Timestamp, Held)>) -> Self {
        let mut measure = Self {
            from,
            to,
            hold: hold.max(0),
            counts: [0; 4],
            covered: 0,
            longest_gap: 0,
            dark_since: Some(from),
            known_at: None,
            last_at: None,
            last_value: None,
            spacings: Vec::new(),
            step: None,
        };
        if let Some((at, held)) = before.filter(|(at, _)| *at < from) {
            measure.turn(at, &held);
        }
        measure
    }

    /// Takes the next reading of the stretch.
    pub fn push(&mut self, at: Timestamp, held: &Held) {
        let class = match held.quality.class() {
            QualityClass::Good => 0,
            QualityClass::Uncertain => 1,
            QualityClass::Bad => 2,
            QualityClass::Manual => 3,
        };
        self.counts[class] += 1;
        if let Some(last) = self.last_at.replace(at)
            && self.spacings.len() < SPACINGS_MAX
        {
            self.spacings.push(at.since(last));
        }
        if let Some(value) = held.value.filter(|_| held.quality.is_usable())
            && let Some(last) = self.last_value.replace(value)
            && value != last
        {
            let step = (value - last).abs();
            self.step = Some(self.step.map_or(step, |least| least.min(step)));
        }
        self.turn(at, held);
    }

    /// At `at` the value becomes known, or unknown.
    fn turn(&mut self, at: Timestamp, held: &Held) {
        self.pass(at);
        if held.value.is_some() && held.quality.is_usable() {
            if let Some(dark) = self.dark_since.take() {
                self.note_gap(dark, at);
            }
            self.known_at = Some(at);
        } else {
            self.dark_since.get_or_insert(at);
            self.known_at = None;
        }
    }

    /// Accounts for the time since the last reading.
    fn pass(&mut self, now: Timestamp) {
        let Some(known) = self.known_at else { return };
        let end = known.plus_micros(self.hold).min(now);
        self.covered += self.within(known, end);
        if end < now {
            self.dark_since.get_or_insert(end);
            self.known_at = None;
        }
    }

    fn note_gap(&mut self, dark: Timestamp, light: Timestamp) {
        self.longest_gap = self.longest_gap.max(self.within(dark, light));
    }

    /// How much of a stretch lies in what is measured.
    fn within(&self, begin: Timestamp, end: Timestamp) -> i64 {
        end.min(self.to).since(begin.max(self.from)).max(0)
    }

    /// The report.
    #[must_use]
    pub fn finish(mut self) -> SeriesQuality {
        self.pass(self.to);
        if let Some(dark) = self.dark_since {
            self.note_gap(dark, self.to);
        }
        let [good, uncertain, bad, manual] = self.counts;
        let length = self.to.since(self.from).max(1);
        let completeness = (self.covered as f64 / length as f64).clamp(0.0, 1.0);
        let usable = f64::from(good) + f64::from(uncertain) + f64::from(manual);
        let doubt = if usable > 0.0 { f64::from(uncertain) / usable } else { 0.0 };
        let middle = self.spacings.len() / 2;
        let spacing_us = (!self.spacings.is_empty()).then(|| *self.spacings.select_nth_unstable(middle).1);
        SeriesQuality {
            good,
            uncertain,
            bad,
            manual,
            late: 0, // readings don't say when they came
            completeness,
            longest_gap_us: self.longest_gap,
            spacing_us,
            step: self.step,
            score: 100.0 * completeness * (1.0 - doubt / 2.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shared::reading::Quality;

    const MINUTE: i64 = 60_000_000;
    const DAY: i64 = 24 * 60 * MINUTE;
    const HOLD: i64 = 3 * MINUTE;

    fn held(value: Option<f64>) -> Held {
        let quality = if value.is_some() { Quality::GOOD } else { Quality::BAD_TIMEOUT };
        Held { value, quality, revision: 0 }
    }

    fn measure(before: Option<(i64, Option<f64>)>, readings: &[(i64, Option<f64>)]) -> SeriesQuality {
        let before = before.map(|(at, value)| (Timestamp(at), held(value)));
        let mut measure = Measure::new(Timestamp(0), Timestamp(DAY), HOLD, before);
        readings.iter().for_each(|(at, value)| measure.push(Timestamp(*at), &held(*value)));
        measure.finish()
    }

    fn every_minute(minutes: std::ops::Range<i64>) -> Vec<(i64, Option<f64>)> {
        minutes.map(|minute| (minute * MINUTE, Some(5.0 + (minute % 3) as f64 * 0.25))).collect()
    }

    #[test]
    fn a_whole_day_is_whole() {
        let all = measure(None, &every_minute(0..1440));
        assert_eq!((all.good, all.completeness, all.longest_gap_us, all.score), (1440, 1.0, 0, 100.0));
        assert_eq!((all.spacing_us, all.step), (Some(MINUTE), Some(0.25)));
    }

    #[test]
    fn nothing_is_nothing() {
        let none = measure(None, &[]);
        assert_eq!((none.completeness, none.longest_gap_us, none.score, none.spacing_us), (0.0, DAY, 0.0, None));
    }

    #[test]
    fn a_hole_counts_from_when_the_value_can_no_longer_be_taken_to_hold() {
        let mut readings = every_minute(0..601);
        readings.extend(every_minute(720..1440)); // nothing from 10:00 to 12:00
        let hole = measure(None, &readings);
        assert_eq!(hole.longest_gap_us, 120 * MINUTE - HOLD);
        assert!((hole.completeness - (1.0 - 117.0 / 1440.0)).abs() < 1e-12);
    }

    #[test]
    fn bad_readings_are_no_values() {
        let mut readings = every_minute(0..1440);
        readings[600..660].iter_mut().for_each(|reading| reading.1 = None);
        let bad = measure(None, &readings);
        assert_eq!((bad.good, bad.bad, bad.longest_gap_us), (1380, 60, 60 * MINUTE));
        assert!((bad.completeness - 1380.0 / 1440.0).abs() < 1e-12);
    }

    #[test]
    fn what_was_known_before_holds_into_the_day_and_no_longer() {
        let before = measure(Some((-MINUTE, Some(1.0))), &[]);
        assert_eq!(before.longest_gap_us, DAY - 2 * MINUTE);
        assert_eq!(measure(Some((-HOLD - 1, Some(1.0))), &[]), measure(None, &[]));
        assert_eq!(measure(Some((-MINUTE, None)), &[]), measure(None, &[]));
        assert_eq!(before.good, 0, "it isn't one of the day's readings");
    }

    #[test]
    fn doubt_costs_half() {
        let mut measure = Measure::new(Timestamp(0), Timestamp(DAY), HOLD, None);
        for (at, value) in every_minute(0..1440) {
            measure.push(Timestamp(at), &Held { value, quality: Quality::UNCERTAIN_CLOCK, revision: 0 });
        }
        assert_eq!(measure.finish().score, 50.0);
    }

    proptest! {
        #[test]
        fn it_is_what_counting_every_minute_gives(kinds in prop::collection::vec(0u8..4, 1440)) {
            // 0, 1: a value; 2: bad; 3: nothing came
            let value = |kind: &u8| if *kind < 2 { Some(1.0) } else { None };
            let readings: Vec<_> = kinds.iter().enumerate().filter(|(_, kind)| **kind < 3)
                .map(|(minute, kind)| (minute as i64 * MINUTE, value(kind))).collect();
            let (mut left, mut known, mut dark, mut longest) = (0, 0, 0, 0);
            for kind in &kinds {
                left = match kind { 0 | 1 => HOLD / MINUTE, 2 => 0, _ => left };
                if left > 0 { known += 1; dark = 0 } else { dark += 1 }
                longest = longest.max(dark);
                left = (left - 1).max(0);
            }
            let measured = measure(None, &readings);
            prop_assert!((measured.completeness - known as f64 / 1440.0).abs() < 1e-9);
            prop_assert_eq!(measured.longest_gap_us, longest * MINUTE);
            prop_assert!((0.0..=100.0).contains(&measured.score));
        }
    }
}
