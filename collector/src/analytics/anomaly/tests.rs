use super::*;
use crate::analytics::hours::{Carried, hourly};
use crate::analytics::store::{Anomaly, State};
use crate::etl::schedule::zone;
use crate::rollup::Rollup;
use crate::tiers::{Bucket, SeriesId};
use jiff::tz::TimeZone;
use proptest::prelude::*;
use shared::metric;
use shared::reading::{Held, Quality};
use std::collections::BTreeMap;

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const HOLD: i64 = 15 * MINUTE;

fn rome() -> TimeZone {
    zone("Europe/Rome").unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Wall clock in Rome: weekday and hour of the day.
fn wall(at: Timestamp) -> (i8, f64) {
    let local = rome().to_datetime(jiff::Timestamp::from_microsecond(at.0).unwrap());
    (local.weekday().to_monday_zero_offset(), f64::from(local.hour()) + f64::from(local.minute()) / 60.0)
}

/// A district: low at night, high in the morning, more on Saturday and Sunday, rounded as a meter rounds.
fn district(at: Timestamp) -> f64 {
    let (day, hour) = wall(at);
    let weekend = if day >= 5 { 2.5 } else { 0.0 };
    let value = 10.0 + weekend - 6.0 * (hour / 24.0 * std::f64::consts::TAU).cos();
    (value * 100.0).round() / 100.0
}

/// What is found at `now` in a series of one reading every five minutes; `None` is a bad one.
fn look_at(
    (metric, kind): (&str, metric::Kind),
    now: Timestamp,
    days: i64,
    alarmed: &[(Timestamp, Timestamp)],
    value: impl Fn(Timestamp) -> Option<Option<f64>>,
) -> Vec<Finding> {
    let (mut fine, mut coarse) = (BTreeMap::<Timestamp, Rollup>::new(), BTreeMap::<Timestamp, Rollup>::new());
    let mut last = None;
    for n in (1..days * 288).rev() {
        let at = Timestamp((now.0 / (5 * MINUTE) - n) * 5 * MINUTE);
        let Some(value) = value(at) else { continue };
        let quality = if value.is_some() { Quality::GOOD } else { Quality::BAD_TIMEOUT };
        let one = Rollup::of(at, &Held { value, quality, revision: 0 });
        last = one.open().or(last);
        for (sums, start) in [(&mut fine, at), (&mut coarse, Bucket::Hour.start_of(at))] {
            sums.entry(start).and_modify(|sum| *sum = sum.then(&one, HOLD)).or_insert(one);
        }
    }
    let full = Bucket::Hour.start_of(now);
    let hours = hourly(kind, HOLD, (full.plus_micros(-57 * DAY), full), &coarse, Carried::default());
    let from = Bucket::Hour.start_of(now.plus_micros(-TEACHING - WINDOW));
    let buckets: Vec<_> = fine.range(from..).map(|(start, sum)| (*start, *sum)).collect();
    detect(&Look {
        metric,
        kind,
        hold: Some(HOLD),
        now,
        zone: &rome(),
        buckets: &buckets,
        hours: &hours,
        last,
        refused: &[],
        alarmed,
    })
}

const FLOW: (&str, metric::Kind) = ("flow_rate", metric::Kind::Gauge);
const VOLUME: (&str, metric::Kind) = ("total_volume", metric::Kind::Counter);

/// What is told.
fn opened(found: Vec<Finding>) -> Vec<Finding> {
    found.into_iter().filter(|one| one.opens).collect()
}

fn kinds(found: &[Finding]) -> Vec<Kind> {
    found.iter().map(|one| one.kind).collect()
}

fn sane(found: &[Finding]) -> bool {
    found
        .iter()
        .all(|one| one.start <= one.last && [one.expected, one.seen].iter().flatten().all(|value| value.is_finite()))
}

#[test]
fn what_repeats_is_never_out_of_the_ordinary() {
    for now in [
        "2026-03-29T00:40:00Z",
        "2026-03-29T10:00:00Z",
        "2026-03-30T02:10:00Z",
        "2026-10-25T09:00:00Z",
        "2026-10-26T05:00:00Z",
        "2026-07-04T23:59:00Z",
    ] {
        for days in [1, 3, 8, 9, 10, 14, 22, 60] {
            let found = look_at(FLOW, at(now), days, &[], |at| Some(Some(district(at))));
            assert_eq!(found, [], "{now}, {days} days");
            let total = look_at(VOLUME, at(now), days, &[], |at| Some(Some((at.0 / MINUTE) as f64 % 3_000.0)));
            assert_eq!(total, [], "{now}, {days} days of a counter that starts again");
            assert_eq!(
                opened(look_at(FLOW, at(now), days, &[], |_| Some(Some(4.25)))),
                [],
                "{now}, {days} days of a constant"
            );
        }
    }
}

#[test]
fn a_burst_is_seen_by_its_step_its_hours_and_its_night() {
    let (now, begins) = (at("2026-06-10T06:20:00Z"), at("2026-06-09T20:30:00Z"));
    let burst = |at: Timestamp| Some(Some(district(at) + if at >= begins { 12.0 } else { 0.0 }));
    for days in [14, 60] {
        let found = look_at(FLOW, now, days, &[], burst);
        assert_eq!(kinds(&found), [Kind::Profile, Kind::RateOfChange, Kind::NightFlow], "{days} days: {found:#?}");
        let hours = &found[0];
        assert_eq!((hours.ongoing, hours.last), (true, at("2026-06-10T06:00:00Z")));
        assert!(hours.start <= at("2026-06-09T21:00:00Z"), "{hours:?}");
        assert_eq!((found[1].ongoing, found[1].start), (false, begins));
        assert_eq!((found[2].severity, found[2].start), (Severity::Critical, at("2026-06-10T00:00:00Z")));
        assert!((found[2].seen.unwrap() - found[2].expected.unwrap() - 12.0).abs() < 1.0, "{:?}", found[2]);
    }
}

#[test]
fn what_is_alarmed_teaches_nothing() {
    let (now, begins) = (at("2026-06-20T06:20:00Z"), at("2026-06-09T20:30:00Z"));
    let burst = |at: Timestamp| Some(Some(district(at) + if at >= begins { 12.0 } else { 0.0 }));
    let found = look_at(FLOW, now, 20, &[(begins, now)], burst);
    assert!(kinds(&found).contains(&Kind::Profile) && kinds(&found).contains(&Kind::NightFlow), "{found:#?}");
    let learned = look_at(FLOW, now, 20, &[], burst);
    assert_eq!(learned, [], "without an alarm it is usual after a while");
}

#[test]
fn a_value_that_stands_still_is_stuck_and_a_silent_one_silent() {
    let (now, since) = (at("2026-06-10T06:20:00Z"), at("2026-06-10T01:00:00Z"));
    let stuck = look_at(("pressure", metric::Kind::Gauge), now, 20, &[], |at| Some(Some(district(at.min(since)))));
    let one = stuck.iter().find(|one| one.kind == Kind::Stuck).unwrap();
    assert_eq!((one.start, one.ongoing, one.opens), (since, true, true));
    let silent = look_at(FLOW, now, 20, &[], |at| (at < since).then(|| Some(district(at))));
    assert_eq!(kinds(&silent), [Kind::Silence]);
    assert_eq!((silent[0].start, silent[0].last, silent[0].ongoing), (since.plus_micros(-5 * MINUTE), now, true));
    let bad = look_at(FLOW, now, 20, &[], |at| Some((at < since).then(|| district(at))));
    assert_eq!(kinds(&bad), [Kind::Silence], "bad readings are no values");
    let back =
        look_at(FLOW, now, 20, &[], |at| (at < since || at >= since.plus_micros(HOUR)).then(|| Some(district(at))));
    assert_eq!((kinds(&back), back[0].last), (vec![Kind::Silence], since.plus_micros(HOUR)));
    assert!(!back[0].ongoing);
}

#[test]
fn a_value_that_cant_be_is_out_of_range() {
    let now = at("2026-06-10T06:20:00Z");
    let wild = |at: Timestamp| Some(Some(if at >= now.plus_micros(-HOUR) { 1e5 } else { 5.0 }));
    let found = look_at(FLOW, now, 3, &[], wild);
    let one = found.iter().find(|one| one.kind == Kind::OutOfRange).unwrap();
    assert_eq!((one.severity, one.seen, one.ongoing), (Severity::Critical, Some(1e5), true));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Constant, missing, bad, gapped, wild, of any length: no panic, no NaN.
    #[test]
    fn any_series_gives_a_sane_answer(
        seed in 0u64..1000, days in 1i64..12, hour in 0i64..200, bad in 0u64..4, gap in 0u64..4, wild in 0u64..3,
        counter in any::<bool>(),
    ) {
        let now = Timestamp(at("2026-10-20T00:00:00Z").0 + hour * HOUR + 7 * MINUTE);
        let chance = |at: Timestamp, salt: u64| {
            let mixed = (at.0 as u64 / (37 * MINUTE as u64)).wrapping_add(seed).wrapping_mul(salt | 0x9e37_79b9_7f4a_7c15);
            (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40
        };
        let found = look_at(if counter { VOLUME } else { FLOW }, now, days, &[], |at| {
            if chance(at, 3) % 4 < gap { return None; }
            if chance(at, 5) % 4 < bad { return Some(None); }
            let value = match chance(at, 7) % 5 { 0 => 0.0, 1 => f64::MAX, 2 => -1e308, 3 => 1e-300, _ => 5.0 };
            Some(Some(if wild > 0 { value } else { 3.0 }))
        });
        prop_assert!(sane(&found), "{found:?}");
    }
}

// --- settling

fn finding(kind: Kind, start: i64, last: i64, ongoing: bool) -> Finding {
    Finding {
        kind,
        start: Timestamp(start),
        last: Timestamp(last),
        ongoing,
        opens: true,
        severity: Severity::Warning,
        expected: Some(1.0),
        seen: Some(2.0),
        detail: "x".into(),
    }
}

fn stored(mut all: Vec<Anomaly>, number: i64) -> Anomaly {
    assert_eq!(all.len(), 1, "{all:?}");
    Anomaly { number, ..all.remove(0) }
}

#[test]
fn an_ongoing_one_is_continued_ended_and_not_repeated() {
    let series = SeriesId(1);
    let first = stored(settle(series, &[], &[finding(Kind::Profile, 0, HOUR, true)]), 7);
    assert_eq!((first.end, first.state), (None, State::Open));
    assert_eq!(
        settle(series, std::slice::from_ref(&first), &[finding(Kind::Profile, 0, HOUR, true)]),
        [],
        "nothing new"
    );
    let worse =
        Finding { seen: Some(9.0), severity: Severity::Critical, ..finding(Kind::Profile, HOUR, 3 * HOUR, true) };
    let second = stored(settle(series, &[first], &[worse]), 7);
    assert_eq!((second.start.0, second.last.0, second.end, second.seen), (0, 3 * HOUR, None, Some(9.0)));
    let better =
        stored(settle(series, std::slice::from_ref(&second), &[finding(Kind::Profile, 2 * HOUR, 5 * HOUR, true)]), 7);
    assert_eq!((better.seen, better.severity, better.last.0), (Some(9.0), Severity::Critical, 5 * HOUR));
    let over = stored(settle(series, &[better], &[]), 7);
    assert_eq!(over.end, Some(Timestamp(5 * HOUR)));
    assert_eq!(settle(series, std::slice::from_ref(&over), &[]), []);
    let again = settle(series, std::slice::from_ref(&over), &[finding(Kind::Profile, 20 * HOUR, 21 * HOUR, true)]);
    assert_eq!(stored(again, 8).start.0, 20 * HOUR, "later it is another one");
    let other = settle(series, &[over], &[finding(Kind::Stuck, 5 * HOUR, 6 * HOUR, true)]);
    assert_eq!(stored(other, 9).kind, Kind::Stuck);
}

#[test]
fn a_closed_one_that_goes_on_stays_closed_and_what_is_unsure_opens_nothing() {
    let series = SeriesId(1);
    let first = stored(settle(series, &[], &[finding(Kind::Stuck, 0, HOUR, true)]), 7);
    let closed = Anomaly { state: State::Closed, ..first };
    let unsure = Finding { opens: false, ..finding(Kind::Stuck, 0, 2 * HOUR, true) };
    let on = stored(settle(series, &[closed], std::slice::from_ref(&unsure)), 7);
    assert_eq!((on.state, on.last.0), (State::Closed, 2 * HOUR));
    assert_eq!(settle(series, &[], &[unsure]), []);
}
