use super::*;
use crate::etl::schedule::zone;
use proptest::prelude::*;

fn rome() -> TimeZone {
    zone("Europe/Rome").unwrap()
}

/// Values of so many hours before `to`, each said by the hour of the week.
fn before(to: Timestamp, hours: i64, value: impl Fn(usize, i64) -> Option<f64>) -> Vec<Sample> {
    let sample = |n: i64| {
        let at = to.plus_micros((n - hours) * HOUR);
        Some(Sample { at, value: value(hour_of_week(at, &rome()).unwrap(), n)? })
    };
    (0..hours).filter_map(sample).collect()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn ordered(points: &[Point]) -> bool {
    points.iter().all(|p| {
        let all = [p.low90, p.low50, p.value, p.high50, p.high90];
        all.iter().all(|v| v.is_finite()) && all.is_sorted()
    })
}

#[test]
fn what_repeats_every_week_is_foretold_exactly_over_both_changes_of_the_clock() {
    // The day before the clock goes on, and the day before it goes back.
    for origin in ["2026-03-28T23:00:00Z", "2026-10-24T22:00:00Z", "2026-07-01T22:00:00Z"] {
        let weekly = |hour: usize, _| Some(10.0 + (hour % 24) as f64 + if hour >= 120 { 5.0 } else { 0.0 });
        let points = forecast(&before(at(origin), 56 * 24 + 2, weekly), at(origin), &rome());
        assert_eq!(points.len(), 168, "{origin}");
        for point in &points {
            let expected = weekly(hour_of_week(point.at, &rome()).unwrap(), 0).unwrap();
            assert_eq!((point.value, point.low90, point.high90), (expected, expected, expected), "{}", point.at);
        }
        let came: Vec<_> = points.iter().map(|p| Sample { at: p.at, value: p.value + 1.0 }).collect();
        let scores = score(&points, &came).unwrap();
        assert_eq!((scores.day.hours, scores.week.hours), (24, 168));
        assert_eq!((scores.week.mae(), scores.week.within90), (Some(1.0), 0));
    }
}

#[test]
fn a_wild_week_moves_nothing() {
    let origin = at("2026-06-01T22:00:00Z");
    let wild = |hour: usize, n: i64| Some(if (300..468).contains(&n) { 1e6 } else { hour as f64 });
    let points = forecast(&before(origin, 56 * 24, wild), origin, &rome());
    assert!(points.iter().all(|p| p.value == hour_of_week(p.at, &rome()).unwrap() as f64));
}

#[test]
fn little_is_known_at_first_and_then_hours_of_all_days_count() {
    let origin = at("2026-06-01T22:00:00Z");
    assert_eq!(forecast(&before(origin, 48, |_, _| Some(1.0)), origin, &rome()), []);
    assert_eq!(forecast(&before(origin, 96, |_, _| Some(1.0)), origin, &rome()).len(), 168);
    assert_eq!(forecast(&[], origin, &rome()), []);
}

#[test]
fn what_comes_after_the_origin_teaches_nothing() {
    let origin = at("2026-06-01T22:00:00Z");
    let known = before(origin, 56 * 24, |hour, n| Some((hour * 7 % 13) as f64 + (n % 5) as f64));
    let mut all = known.clone();
    all.extend((0..48).map(|n| Sample { at: origin.plus_micros(n * HOUR), value: 999.0 }));
    assert_eq!(forecast(&all, origin, &rome()), forecast(&known, origin, &rome()));
}

/// What chance says: of hours like those it learned from, half and nine of ten lie within.
#[test]
fn intervals_hold_what_they_promise() {
    let origin = at("2026-06-01T22:00:00Z");
    // A fixed sequence without pattern (a linear congruential generator).
    let noise = |n: i64| ((n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695) >> 33) % 1_000) as f64;
    let value = |hour: usize, n: i64| Some(5_000.0 + hour as f64 * 10.0 + noise(n * n + n));
    let points = forecast(&before(origin, 56 * 24, value), origin, &rome());
    let came: Vec<_> = points
        .iter()
        .enumerate()
        .map(|(n, p)| Sample {
            at: p.at,
            value: value(hour_of_week(p.at, &rome()).unwrap(), 5_000 + n as i64).unwrap(),
        })
        .collect();
    let scores = score(&points, &came).unwrap();
    let (half, most) = (f64::from(scores.week.within50) / 168.0, f64::from(scores.week.within90) / 168.0);
    assert!((0.35..=0.65).contains(&half) && (0.8..=0.98).contains(&most), "{half} {most}");
}

#[test]
fn a_level_that_drifts_widens_the_intervals() {
    let origin = at("2026-06-01T22:00:00Z");
    let noise = |n: i64| (n * 7_919 % 11) as f64 / 11.0;
    let still = forecast(&before(origin, 56 * 24, |_, n| Some(50.0 + noise(n))), origin, &rome());
    let drifting = |_, n: i64| Some(50.0 + noise(n) + n as f64 / 168.0);
    let wide = forecast(&before(origin, 56 * 24, drifting), origin, &rome());
    let came: Vec<_> =
        wide.iter().zip(1_344..).map(|(p, n)| Sample { at: p.at, value: drifting(0, n).unwrap() }).collect();
    assert!(wide[0].high90 - wide[0].low90 > 2.0 * (still[0].high90 - still[0].low90));
    assert!(score(&wide, &came).unwrap().week.within90 > 84, "it goes on as it went");
}

#[test]
fn little_known_is_said_by_wide_intervals() {
    let near = |z: f64, freedom, expected: f64| (student(z, freedom) / expected - 1.0).abs() < 0.002;
    // Table of Student's distribution.
    assert!(near(NORMAL[1], 6.0, 1.943) && near(NORMAL[0], 6.0, 0.718) && near(NORMAL[1], 3.0, 2.353));
    assert!(near(NORMAL[1], 1e9, NORMAL[1]) && student(NORMAL[1], 1.0) > 5.9);
}

proptest! {
    /// Constant, gapped, wild, of any size: ordered, finite, or nothing.
    #[test]
    fn any_series_gives_a_sane_answer(
        start in -10_000_000i64..10_000_000,
        values in prop::collection::vec(prop::option::weighted(0.7, prop_oneof![
            Just(0.0), Just(5.0), -1e3..1e3f64, Just(f64::MAX), Just(f64::MIN), Just(f64::MIN_POSITIVE)]), 0..1500),
    ) {
        let origin = Timestamp(start * HOUR);
        let hours: Vec<_> = values.iter().rev().enumerate()
            .filter_map(|(n, v)| Some(Sample { at: origin.plus_micros(-(n as i64 + 1) * HOUR), value: (*v)? })).collect();
        let points = forecast(&hours, origin, &rome());
        prop_assert!(ordered(&points));
        if let Some(scores) = score(&points, &hours.iter().map(|h| Sample { at: Timestamp(h.at.0 + 1000 * HOUR), ..*h }).collect::<Vec<_>>()) {
            prop_assert!(scores.week.within50 <= scores.week.within90 && scores.week.off >= 0.0);
        }
    }

    #[test]
    fn a_constant_stays_what_it_is(value in -1e12f64..1e12, hours in 100i64..1400) {
        let origin = at("2026-10-24T22:00:00Z");
        for point in forecast(&before(origin, hours, |_, _| Some(value)), origin, &rome()) {
            prop_assert_eq!((point.value, point.low90, point.high90), (value, value, value));
        }
    }
}
