use super::*;
use proptest::prelude::*;
use shared::reading::{Quality, sanitise};

const HOLD: i64 = 30_000_000;

fn run() -> impl Strategy<Value = Vec<(Timestamp, Held)>> {
    let value = prop_oneof![Just(None), (-1000i32..1000).prop_map(|v| Some(f64::from(v)))];
    let quality = prop::sample::select(Quality::NAMED.to_vec());
    prop::collection::btree_map(0i64..600, (value, quality), 0..60).prop_map(|readings| {
        let held = |(value, quality)| {
            let (value, quality) = sanitise(value, quality);
            Held { value, quality, revision: 0 }
        };
        readings.into_iter().map(|(at, reading)| (Timestamp(at * 1_000_000), held(reading))).collect()
    })
}

fn of(run: &[(Timestamp, Held)]) -> Option<Rollup> {
    Rollup::of_all(run.iter().map(|(at, held)| (*at, held)), HOLD)
}

/// The obvious way: what held in each second of the stretch.
fn second_by_second(run: &[(Timestamp, Held)], from: i64, to: i64) -> (f64, i64) {
    let mut sum = (0.0, 0);
    for second in from..to {
        let at = Timestamp(second * 1_000_000);
        let last = run.iter().rfind(|(t, _)| *t <= at);
        if let Some((t, Held { value: Some(value), .. })) = last
            && at.since(*t) < HOLD
        {
            sum = (sum.0 + value, sum.1 + 1_000_000);
        }
    }
    sum
}

proptest! {
    /// Whole numbers keep every sum exact, so that equal is equal.
    #[test]
    fn merging_the_rollups_of_parts_gives_the_rollup_of_the_whole(run in run(), cut in 0i64..600) {
        let at = run.partition_point(|(t, _)| t.0 < cut * 1_000_000);
        let merged = match (of(&run[..at]), of(&run[at..])) {
            (Some(a), Some(b)) => Some(a.then(&b, HOLD)),
            (a, b) => a.or(b),
        };
        prop_assert_eq!(merged, of(&run));
    }

    #[test]
    fn spans_agree_with_looking_at_every_second(run in run(), from in 0i64..600, length in 1i64..300) {
        let to = from + length;
        let (a, b) = (Timestamp(from * 1_000_000), Timestamp(to * 1_000_000));
        let (start, end) = (run.partition_point(|(t, _)| *t < a), run.partition_point(|(t, _)| *t < b));
        let open = of(&run[..start]).and_then(|r| r.open());
        let span = Span::new((a, b), of(&run[start..end]).as_ref(), open, None, HOLD);
        prop_assert_eq!((span.integral, span.covered), second_by_second(&run, from, to));
    }

    #[test]
    fn counts_and_extremes_are_those_of_the_readings(run in run()) {
        let Some(rollup) = of(&run) else { return Ok(()) };
        let values: Vec<f64> = run.iter().filter_map(|(_, held)| held.value).collect();
        prop_assert_eq!(rollup.count(), run.len() as u64);
        prop_assert_eq!(rollup.count_usable(), values.len() as u64);
        prop_assert_eq!(rollup.usable.map(|u| u.min), values.iter().copied().reduce(f64::min));
        prop_assert_eq!(rollup.usable.map(|u| u.max), values.iter().copied().reduce(f64::max));
        prop_assert_eq!(rollup.usable.map(|u| u.sum), values.iter().copied().reduce(|a, b| a + b));
    }

    /// The increases of neighbouring stretches add up to the increase of the whole, whatever the cut.
    #[test]
    fn a_counters_growth_is_neither_lost_nor_doubled_at_the_cut(values in prop::collection::vec(0u32..1000, 2..40), cut in 1usize..40) {
        let run: Vec<_> = values.iter().enumerate().map(|(n, v)| {
            (Timestamp(n as i64 * 1_000_000), Held { value: Some(f64::from(*v)), quality: Quality::GOOD, revision: 0 })
        }).collect();
        let cut = cut.min(run.len() - 1);
        let (a, b) = (of(&run[..cut]).unwrap(), of(&run[cut..]).unwrap());
        let span = |inside: &Rollup, before| Span::new((inside.begins, inside.ends), Some(inside), None, before, HOLD);
        let sum = span(&a, None).increase.unwrap() + span(&b, a.usable.map(|u| u.last)).increase.unwrap();
        prop_assert_eq!(Some(sum), of(&run).unwrap().usable.map(|u| u.delta));
    }
}

fn good(second: i64, value: f64) -> (Timestamp, Held) {
    (Timestamp(second * 1_000_000), Held { value: Some(value), quality: Quality::GOOD, revision: 0 })
}

#[test]
fn a_counter_that_was_reset_keeps_growing() {
    let rollup = of(&[good(0, 90.0), good(10, 100.0), good(20, 3.0), good(30, 5.0)]).unwrap();
    let usable = rollup.usable.unwrap();
    assert_eq!((usable.delta, usable.resets), (15.0, 1));
}

#[test]
fn silence_beyond_the_hold_is_not_covered() {
    let usable = of(&[good(0, 2.0), good(100, 4.0)]).unwrap().usable.unwrap();
    assert_eq!((usable.integral, usable.covered), (60.0, HOLD));
}

#[test]
fn how_long_a_value_holds_follows_from_the_catalogue() {
    assert_eq!(hold(10_000, 0), 30_000_000);
    assert_eq!(hold(10_000, 600_000), 660_000_000);
    assert_eq!(hold(0, 0), HOLD_UNKNOWN);
    assert_eq!(hold(u32::MAX, u32::MAX), HOLD_MAX);
}
