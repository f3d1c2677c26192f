//! One value for each hour of a series.

use crate::rollup::{HOLD_UNKNOWN, Rollup, Sample, Span};
use crate::tiers::Bucket;
use shared::metric::Kind;
use shared::reading::Timestamp;
use std::collections::BTreeMap;

const HOUR: i64 = 3_600_000_000;

/// What holds when a stretch begins.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Carried {
    /// The value that still holds.
    pub open: Option<Sample>,
    /// The last usable value.
    pub before: Option<Sample>,
}

/// The value of each full hour of `[from, to)` for which there is one: a gauge's average over the time it is known, a
/// counter's growth. A gauge's hour of which less than half is known has none, since a few minutes may be unlike the rest of
/// it; where nobody knows how long values hold, that can't be said. An hour in which a counter was reset has none, because
/// nobody knows what it missed; nor has one whose growth may be that of a longer silence. States have none.
#[must_use]
pub fn hourly(
    kind: Kind,
    hold: i64,
    (from, to): (Timestamp, Timestamp),
    sums: &BTreeMap<Timestamp, Rollup>,
    carried: Carried,
) -> Vec<Sample> {
    let Carried { mut open, mut before } = carried;
    let (mut start, mut values) = (Bucket::Hour.start_of(from), Vec::new());
    while start.plus_micros(HOUR) <= to && kind != Kind::State {
        let end = start.plus_micros(HOUR);
        let inside = sums.get(&start);
        let span = Span::new((start, end), inside, open, before, hold);
        let value = match kind {
            Kind::Gauge if hold != HOLD_UNKNOWN && span.covered < HOUR / 2 => None,
            Kind::Gauge => span.average().or_else(|| mean(inside?)),
            Kind::Counter => grown(&span, inside, before, hold),
            Kind::State => None,
        };
        values.extend(value.filter(|value| value.is_finite()).map(|value| Sample { at: start, value }));
        if let Some(inside) = inside {
            open = inside.open();
            before = inside.usable.map(|usable| usable.last).or(before);
        }
        start = end;
    }
    values
}

/// Of readings that hold for no time: the last moment of an hour.
fn mean(inside: &Rollup) -> Option<f64> {
    inside.usable.map(|usable| usable.sum / inside.count_usable() as f64)
}

fn grown(span: &Span, inside: Option<&Rollup>, before: Option<Sample>, hold: i64) -> Option<f64> {
    let first = inside?.usable?.first;
    let near = first.at.since(before?.at) <= hold.max(HOUR);
    span.increase.filter(|_| near && span.resets == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::reading::{Held, Quality};

    const MINUTE: i64 = 60_000_000;

    fn hours(kind: Kind, hold: i64, readings: &[(i64, Option<f64>)], hours: i64) -> Vec<(i64, f64)> {
        let held = |value: Option<f64>| Held {
            value,
            quality: if value.is_some() { Quality::GOOD } else { Quality::BAD_TIMEOUT },
            revision: 0,
        };
        let mut sums = BTreeMap::<Timestamp, Rollup>::new();
        for (minute, value) in readings {
            let at = Timestamp(minute * MINUTE);
            let one = Rollup::of(at, &held(*value));
            sums.entry(Bucket::Hour.start_of(at)).and_modify(|sum| *sum = sum.then(&one, hold)).or_insert(one);
        }
        let span = (Timestamp(0), Timestamp(hours * HOUR));
        let all = hourly(kind, hold, span, &sums, Carried::default());
        all.into_iter().map(|sample| (sample.at.0 / HOUR, sample.value)).collect()
    }

    #[test]
    fn a_gauge_is_averaged_over_the_time_it_is_known() {
        let readings = [(0, Some(1.0)), (20, Some(3.0)), (40, None), (119, Some(4.0)), (150, None)];
        let known = [(0, 2.0), (2, 4.0)]; // of the second hour a minute
        assert_eq!(hours(Kind::Gauge, 40 * MINUTE, &readings, 4), known);
        assert_eq!(hours(Kind::State, 40 * MINUTE, &readings, 4), []);
        // One value an hour, and nobody knows that.
        assert_eq!(hours(Kind::Gauge, HOLD_UNKNOWN, &[(0, Some(1.0)), (60, Some(2.0))], 2), [(0, 1.0), (1, 2.0)]);
    }

    #[test]
    fn a_counter_grows_and_what_nobody_knows_is_left_out() {
        let mut readings: Vec<_> = (0..60).map(|n| (n * 10, Some(n as f64))).collect();
        assert_eq!(hours(Kind::Counter, 5 * MINUTE, &readings, 10), (1..10).map(|n| (n, 6.0)).collect::<Vec<_>>());
        readings[20..].iter_mut().for_each(|reading| reading.1 = reading.1.map(|v| v - 20.0)); // reset at 3:20
        readings.drain(36..50); // silent from 6:00 to 8:20
        assert_eq!(hours(Kind::Counter, 5 * MINUTE, &readings, 10), [(1, 6.0), (2, 6.0), (4, 6.0), (5, 6.0), (9, 6.0)]);
    }

    #[test]
    fn of_nothing_there_is_nothing() {
        assert_eq!(hours(Kind::Gauge, 5 * MINUTE, &[], 24), []);
        assert_eq!(hours(Kind::Gauge, 5 * MINUTE, &[(5, None), (65, None)], 24), []);
    }
}
