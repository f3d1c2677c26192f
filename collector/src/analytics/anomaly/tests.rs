use super::*;
use crate::analytics::hours::{Carried, hourly};
use crate::analytics::store::{Anomaly, State};
use crate::etl::schedule::zone;
use crate::rollup::Rollup;
use crate::tiers::{Bucket, SeriesId, SeriesInfo, SeriesKey};
use jiff::tz::TimeZone;
use proptest::prelude::*;
use shared::ids::{GatewayId, NodeId};
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
    all_of((metric, kind), now, days, alarmed, value).findings
}

fn all_of(
    (metric, kind): (&str, metric::Kind),
    now: Timestamp,
    days: i64,
    alarmed: &[(Timestamp, Timestamp)],
    value: impl Fn(Timestamp) -> Option<Option<f64>>,
) -> Found {
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
    let lost: i64 = alarmed.iter().map(|(from, to)| to.since(*from)).sum();
    let hours = hourly(kind, HOLD, (full.plus_micros(-57 * DAY - lost), full), &coarse, Carried::default());
    let from = Bucket::Hour.start_of(now.plus_micros(-TEACHING - WINDOW));
    let buckets: Vec<_> = fine.range(from..).map(|(start, sum)| (*start, *sum)).collect();
    let look = Look {
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
    };
    detect(&look, &Taught::of(&look))
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
    let until = since.plus_micros(4 * HOUR);
    let still = |at: Timestamp| Some(Some(district(if at < until { at.min(since) } else { at })));
    let over = look_at(("pressure", metric::Kind::Gauge), now, 20, &[], still);
    let one = over.iter().find(|one| one.kind == Kind::Stuck).unwrap();
    assert_eq!((one.start, one.last, one.ongoing), (since, until.plus_micros(-5 * MINUTE), false));
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

/// With a clock that no finding reaches beyond.
fn settled(series: SeriesId, known: &[Anomaly], found: &[Finding]) -> Vec<Anomaly> {
    settle(series, known, &seen(found), Timestamp(i64::MAX))
}

/// All kinds were looked for.
fn seen(findings: &[Finding]) -> Found {
    Found { findings: findings.to_vec(), unjudged: Vec::new() }
}

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
    let first = stored(settled(series, &[], &[finding(Kind::Profile, 0, HOUR, true)]), 7);
    assert_eq!((first.end, first.state), (None, State::Open));
    assert_eq!(
        settled(series, std::slice::from_ref(&first), &[finding(Kind::Profile, 0, HOUR, true)]),
        [],
        "nothing new"
    );
    let worse =
        Finding { seen: Some(9.0), severity: Severity::Critical, ..finding(Kind::Profile, HOUR, 3 * HOUR, true) };
    let second = stored(settled(series, &[first], &[worse]), 7);
    assert_eq!((second.start.0, second.last.0, second.end, second.seen), (0, 3 * HOUR, None, Some(9.0)));
    let better =
        stored(settled(series, std::slice::from_ref(&second), &[finding(Kind::Profile, 2 * HOUR, 5 * HOUR, true)]), 7);
    assert_eq!((better.seen, better.severity, better.last.0), (Some(9.0), Severity::Critical, 5 * HOUR));
    let over = stored(settled(series, &[better], &[]), 7);
    assert_eq!(over.end, Some(Timestamp(5 * HOUR)));
    assert_eq!(settled(series, std::slice::from_ref(&over), &[]), []);
    let again = settled(series, std::slice::from_ref(&over), &[finding(Kind::Profile, 20 * HOUR, 21 * HOUR, true)]);
    assert_eq!(stored(again, 8).start.0, 20 * HOUR, "later it is another one");
    let other = settled(series, &[over], &[finding(Kind::Stuck, 5 * HOUR, 6 * HOUR, true)]);
    assert_eq!(stored(other, 9).kind, Kind::Stuck);
}

#[test]
fn what_reaches_beyond_the_clock_is_not_over() {
    let first = stored(settled(SeriesId(1), &[], &[finding(Kind::OutOfRange, 0, HOUR, true)]), 7);
    let known = std::slice::from_ref(&first);
    assert_eq!(
        settle(SeriesId(1), known, &seen(&[]), Timestamp(HOUR - 1)),
        [],
        "its bucket is open: what is seen may be on its way"
    );
    assert_eq!(stored(settle(SeriesId(1), known, &seen(&[]), Timestamp(HOUR)), 7).end, Some(Timestamp(HOUR)));
    assert_eq!(add(SeriesId(1), known, &[]), [], "nor is it when only some of it was looked at");
}

#[test]
fn what_nothing_can_be_said_of_is_not_over() {
    let first = stored(settled(SeriesId(1), &[], &[finding(Kind::Profile, 0, HOUR, true)]), 7);
    let nothing = Found { unjudged: vec![Kind::Profile], ..seen(&[]) };
    assert_eq!(settle(SeriesId(1), &[first], &nothing, Timestamp(9 * HOUR)), []);
}

/// A leak that isn't mended is one, however long it is known: what was before it goes on teaching.
#[test]
fn a_leak_of_a_quarter_of_a_year_is_not_how_things_are() {
    let now = at("2026-06-12T10:07:00Z");
    let since = now.plus_micros(-90 * DAY);
    let leaking = |at: Timestamp| Some(Some(district(at) + if at >= since { 9.0 } else { 0.0 }));
    let kinds = |found: &Found| found.findings.iter().map(|one| (one.kind, one.ongoing)).collect::<Vec<_>>();
    let found = all_of(FLOW, now, 150, &[(since, now)], leaking);
    assert_eq!(kinds(&found), [(Kind::Profile, true), (Kind::NightFlow, true)]);
    // Nothing is known of what was before: nobody says that it is over.
    let found = all_of(FLOW, now, 80, &[(since, now)], leaking);
    assert_eq!((kinds(&found), found.unjudged), (vec![], vec![Kind::Profile, Kind::NightFlow]));
}

#[test]
fn a_closed_one_that_goes_on_stays_closed_and_what_is_unsure_opens_nothing() {
    let series = SeriesId(1);
    let first = stored(settled(series, &[], &[finding(Kind::Stuck, 0, HOUR, true)]), 7);
    let closed = Anomaly { state: State::Closed, ..first };
    let unsure = Finding { opens: false, ..finding(Kind::Stuck, 0, 2 * HOUR, true) };
    let on = stored(settled(series, &[closed], std::slice::from_ref(&unsure)), 7);
    assert_eq!((on.state, on.last.0), (State::Closed, 2 * HOUR));
    assert_eq!(settled(series, &[], &[unsure]), []);
}

// --- live

fn series(metric: &str, kind: metric::Kind, interval_ms: u32) -> SeriesInfo {
    SeriesInfo {
        id: SeriesId(1),
        key: SeriesKey { node: NodeId::new("DIST_001").unwrap(), metric: metric.into(), channel: String::new() },
        kind,
        unit: "1".into(),
        gateway: GatewayId::new("STATION_7").unwrap(),
        resolution_exp: None,
        interval_ms,
        silence_ms_max: 0,
    }
}

/// What the job finds at `now` in these readings, which begin long before.
fn by_the_job(of: &SeriesInfo, readings: &[(Timestamp, Held)], now: Timestamp) -> (Vec<Finding>, Taught) {
    let hold = crate::rollup::hold(of.interval_ms, of.silence_ms_max);
    let mut sums = BTreeMap::<Timestamp, Rollup>::new();
    let mut refused = Vec::new();
    for (at, held) in readings.iter().filter(|(at, _)| *at <= now) {
        let (start, one) = (Bucket::FiveMinutes.start_of(*at), Rollup::of(*at, held));
        sums.entry(start).and_modify(|sum| *sum = sum.then(&one, hold)).or_insert(one);
        if held.quality == Quality::BAD_OUT_OF_RANGE && !refused.contains(&start) {
            refused.push(start);
        }
    }
    let buckets: Vec<_> = sums.into_iter().collect();
    let last = buckets.iter().rev().find_map(|(_, sum)| sum.usable.map(|usable| usable.last));
    let look = Look {
        metric: &of.key.metric,
        kind: of.kind,
        hold: Some(hold),
        now,
        zone: &rome(),
        buckets: &buckets,
        hours: &[],
        last,
        refused: &refused,
        alarmed: &[],
    };
    let taught = Taught::of(&look);
    (detect(&look, &taught).findings, taught)
}

fn good(value: f64) -> Held {
    Held { value: Some(value), quality: Quality::GOOD, revision: 0 }
}

/// Nine days and six hours of a district, one reading a minute.
fn past(now: Timestamp) -> Vec<(Timestamp, Held)> {
    let minutes = (1..=9 * 24 * 60 + 360).rev().map(|n| now.plus_micros(-n * MINUTE));
    minutes.map(|at| (at, good(district(at)))).collect()
}

/// The kinds that newest values can say anything of.
fn at_once(found: Vec<Finding>) -> Vec<Finding> {
    let kinds = [Kind::OutOfRange, Kind::RateOfChange, Kind::Stuck];
    found.into_iter().filter(|one| kinds.contains(&one.kind)).collect()
}

#[test]
fn a_value_that_cant_be_is_found_with_it_and_its_end_ten_minutes_later() {
    let of = series("pressure", metric::Kind::Gauge, 1_000);
    let mut watch = Watch::new(&of);
    let start = at("2026-06-10T06:21:10Z");
    assert_eq!(watch.take(start, &good(4.0)), []);
    let found = watch.take(start.plus_micros(1), &good(9_000.0));
    assert_eq!((kinds(&found), found[0].seen, found[0].ongoing), (vec![Kind::OutOfRange], Some(9_000.0), true));
    assert_eq!((found[0].start, found[0].last), (at("2026-06-10T06:20:00Z"), at("2026-06-10T06:25:00Z")));
    assert_eq!(watch.take(start.plus_micros(2), &good(9_500.0)), [], "once in five minutes");
    assert_eq!(watch.take(start.plus_micros(1), &good(-9.0)), [], "what isn't newer was here already");
    let worst = watch.take(start.plus_micros(5 * MINUTE), &good(4.0));
    assert_eq!((worst.len(), worst[0].seen, worst[0].ongoing), (1, Some(9_500.0), true), "and the worst of it");
    let over = watch.take(start.plus_micros(10 * MINUTE), &good(4.0));
    assert_eq!((over.len(), over[0].last, over[0].ongoing), (1, at("2026-06-10T06:25:00Z"), false));
    assert_eq!(watch.take(start.plus_micros(15 * MINUTE), &good(4.0)), []);
    let refused = Held { value: None, quality: Quality::BAD_OUT_OF_RANGE, revision: 0 };
    let found = watch.take(start.plus_micros(16 * MINUTE), &refused);
    assert_eq!((kinds(&found), found[0].seen), (vec![Kind::OutOfRange], None), "the gateway says so itself");
}

#[test]
fn a_step_is_found_as_soon_as_nothing_that_follows_can_undo_it() {
    let (of, now) = (series("flow_rate", metric::Kind::Gauge, 60_000), at("2026-06-10T06:20:00Z"));
    let history = past(now);
    let (_, taught) = by_the_job(&of, &history, now);
    let mut watch = Watch::new(&of);
    watch.learn(taught);
    let minute = |n: i64| now.plus_micros(n * MINUTE);
    assert_eq!(watch.take(minute(0), &good(district(minute(0)))), []);
    let found = watch.take(minute(1), &good(district(minute(1)) + 30.0));
    assert_eq!(kinds(&found), [Kind::RateOfChange], "two of five readings, and it is far beyond");
    assert!(found[0].seen.unwrap() < found[0].expected.unwrap() + 30.0, "as far as is certain: {found:?}");
    let mut untaught = Watch::new(&of);
    for n in 0..20 {
        assert_eq!(untaught.take(minute(n), &good(if n < 10 { 1.0 } else { 99.0 })), [], "nobody knows what is usual");
    }
}

#[test]
fn a_standstill_of_hours_is_found_while_it_lasts() {
    let (of, now) = (series("pressure", metric::Kind::Gauge, 60_000), at("2026-06-10T06:20:00Z"));
    let (_, taught) = by_the_job(&of, &past(now), now);
    let mut watch = Watch::new(&of);
    watch.learn(taught);
    let found: Vec<(i64, Finding)> = (0..300)
        .flat_map(|n| {
            watch.take(now.plus_micros(n * MINUTE), &good(district(now))).into_iter().map(move |one| (n, one))
        })
        .collect();
    assert_eq!((found[0].0, found[0].1.kind, found[0].1.start), (181, Kind::Stuck, now), "{found:#?}");
    assert!(found.len() < 30, "once in five minutes: {}", found.len());
    let moved = watch.take(now.plus_micros(305 * MINUTE), &good(district(now) + 0.05));
    let over = watch.take(now.plus_micros(310 * MINUTE), &good(district(now) + 0.06));
    let ended: Vec<_> = moved.iter().chain(&over).filter(|one| !one.ongoing).collect();
    assert_eq!((ended.len(), ended[0].kind), (1, Kind::Stuck), "{moved:?} {over:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Hours of a district with levels that jump, values that can't be, refusals, standstills and holes: what was stored by
    /// the live watch is what the job stores, each once, whoever comes first.
    #[test]
    fn newest_values_and_the_job_say_the_same(
        jumps in prop::collection::vec((0i64..480, -40.0f64..40.0), 0..5),
        wild in prop::collection::vec((0i64..480, prop::bool::ANY), 0..4),
        still in (0i64..480, 0i64..300),
        hole in (0i64..480, 0i64..120),
        interval_min in 1i64..6,
    ) {
        let of = series("flow_rate", metric::Kind::Gauge, u32::try_from(interval_min * 60_000).unwrap());
        let now = at("2026-06-10T06:20:00Z");
        let mut all: Vec<_> = past(now).into_iter().filter(|(at, _)| at.0 / MINUTE % interval_min == 0).collect();
        let (_, taught) = by_the_job(&of, &all, now);
        let mut watch = Watch::new(&of);
        watch.learn(taught);
        let (mut live, mut number) = (Vec::<Anomaly>::new(), 0);
        let mut note = |known: &mut Vec<Anomaly>, changed: Vec<Anomaly>| for mut one in changed {
            if one.number == 0 {
                number += 1;
                one.number = number;
                known.push(one);
            } else if let Some(old) = known.iter_mut().find(|old| old.number == one.number) {
                *old = one;
            }
        };
        for minute in (0..490).filter(|minute| (now.0 / MINUTE + minute) % interval_min == 0) {
            if (hole.0..hole.0 + hole.1).contains(&minute) { continue; }
            let moment = now.plus_micros(minute * MINUTE);
            let frozen = (still.0..still.0 + still.1).contains(&minute);
            let at_day = if frozen { now.plus_micros(still.0 * MINUTE) } else { moment };
            let level: f64 = jumps.iter().filter(|(from, _)| *from <= minute && !frozen).map(|(_, by)| by).sum();
            let held = match wild.iter().find(|(when, _)| *when / interval_min == minute / interval_min) {
                Some((_, true)) => good(60_000.0),
                Some((_, false)) => Held { value: None, quality: Quality::BAD_OUT_OF_RANGE, revision: 0 },
                None => good(district(at_day) + level),
            };
            all.push((moment, held));
            let found = watch.take(moment, &held);
            let before = live.len();
            let changed = add(SeriesId(1), &live, &found);
            note(&mut live, changed);
            prop_assert!(live.len() <= before + found.len());
        }
        let end = now.plus_micros(490 * MINUTE);
        let (found, _) = by_the_job(&of, &all, end);
        let found: Vec<Finding> = opened(at_once(found)).into_iter().filter(|one| one.last > now).collect();
        let alone = settled(SeriesId(1), &[], &found);
        // Of the last bucket newest values say nothing for good before the next one begins.
        let over = end.plus_micros(-5 * MINUTE);
        let found: Vec<Finding> = found.into_iter().filter(|one| one.start < over).collect();
        let both = add(SeriesId(1), &live, &found);
        let new: Vec<_> = both.iter().filter(|one| one.number == 0).collect();
        prop_assert!(new.is_empty(), "the job would open {new:#?}\nbeside {live:#?}");
        for one in live.iter().filter(|one| one.start < over) {
            let near = |other: &&Anomaly| other.kind == one.kind
                && other.start <= one.last.plus_micros(grace(one.kind)) && one.start <= other.last.plus_micros(grace(one.kind));
            // A standstill that ended is none of the job's any more: it looks at the last one only.
            let known = one.kind == Kind::Stuck || alone.iter().any(|other| near(&other));
            prop_assert!(known, "only newest values say {one:#?}\nthe job {alone:#?}");
        }
    }
}
