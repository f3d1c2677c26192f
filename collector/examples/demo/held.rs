//! What each sensor held, and since when: the simulators' own record, to compare with what the API says. Pure.
//! Times are the wall clock's, values in canonical units; bounded per sensor.

use shared::reading::Timestamp;
use std::collections::VecDeque;

/// Changes remembered per sensor: more than an hour of one a second.
const CHANGES_MAX: usize = 4_096;

/// The record.
#[derive(Debug)]
pub(crate) struct Record {
    began: Timestamp,
    sensors: Vec<VecDeque<(Timestamp, f64)>>,
}

impl Record {
    /// For so many sensors, nothing known yet.
    pub(crate) fn new(sensors: usize) -> Self {
        Self { began: Timestamp(i64::MAX), sensors: vec![VecDeque::new(); sensors] }
    }

    /// When the first value was noted.
    pub(crate) fn began(&self) -> Timestamp {
        self.began
    }

    /// When the last value was noted.
    pub(crate) fn newest(&self) -> Timestamp {
        self.sensors.iter().filter_map(|held| Some(held.back()?.0)).max().unwrap_or(self.began)
    }

    /// From `at` on, all sensors hold these values.
    pub(crate) fn note(&mut self, at: Timestamp, values: impl Iterator<Item = f64>) {
        self.began = self.began.min(at);
        for (held, value) in self.sensors.iter_mut().zip(values) {
            if held.len() == CHANGES_MAX {
                held.pop_front();
            }
            held.push_back((at, value));
        }
    }

    /// What a sensor held at some time in `from..=to`, each with its beginning.
    pub(crate) fn during(
        &self,
        sensor: usize,
        from: Timestamp,
        to: Timestamp,
    ) -> impl Iterator<Item = (Timestamp, f64)> {
        let held = &self.sensors[sensor];
        let first = held.partition_point(|(at, _)| *at <= from).saturating_sub(1);
        held.range(first..).copied().take_while(move |(at, _)| *at <= to)
    }

    /// How long before `now` the sensor last held this value, in microseconds; 0 while it holds it, `None` when it
    /// never did.
    pub(crate) fn behind(&self, sensor: usize, now: Timestamp, same: impl Fn(f64) -> bool) -> Option<i64> {
        let mut until = now;
        for &(from, value) in self.sensors[sensor].iter().rev().filter(|(from, _)| *from <= now) {
            if same(value) {
                return Some(now.since(until));
            }
            until = from;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let mut record = Record::new(1);
        for (at, value) in [(10, 1.0), (20, 2.0), (30, 3.0)] {
            record.note(Timestamp(at), std::iter::once(value));
        }
        record
    }

    #[track_caller]
    fn during(from: i64, to: i64, expected: &[f64]) {
        let found: Vec<f64> = record().during(0, Timestamp(from), Timestamp(to)).map(|(_, value)| value).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_value_is_held_until_the_next_one() {
        during(0, 9, &[]);
        during(12, 19, &[1.0]);
        during(12, 20, &[1.0, 2.0]);
        during(30, 99, &[3.0]);
    }

    #[test]
    fn a_value_is_behind_by_the_time_since_it_was_replaced() {
        let behind = |now, value| record().behind(0, Timestamp(now), |held| held == value);
        assert_eq!(behind(35, 3.0), Some(0));
        assert_eq!(behind(35, 2.0), Some(5));
        assert_eq!(behind(35, 1.0), Some(15));
        assert_eq!(behind(25, 2.0), Some(0));
        assert_eq!(behind(35, 4.0), None);
    }

    #[test]
    fn the_record_is_bounded() {
        let mut record = Record::new(1);
        (0..10_000).for_each(|n| record.note(Timestamp(n), std::iter::once(n as f64)));
        assert_eq!(record.sensors[0].len(), CHANGES_MAX);
        assert_eq!(record.behind(0, Timestamp(10_000), |value| value == 1.0), None);
    }
}
