//! What every warm tier must do. A new implementation adds a module at the end and nothing else.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

use collector::access::{Hash, PeopleChange, Role, Token, User};
use collector::alerts::Told;
use collector::analytics::anomaly::{Kind as Wrong, Severity};
use collector::analytics::store::{Action, Anomaly, Judgement, Note, State, Wanted};
use collector::rollup::Rollup;
use collector::tiers::warm::postgres::{Layout, PostgresWarm};
use collector::tiers::warm::settings::WarmSettings;
use collector::tiers::{
    AuditWanted, Audited, Bucket, Flush, GatewayGap, Heard, HotAccount, HotTurn, LateHour, LateReadings, Parked,
    Quarantined, SeriesId, SeriesKey, SeriesRefused, StoredReading, StreamSeqs, TierError, WarmTier,
};
use proptest::prelude::*;
use shared::catalogue::{Catalogue, Class, Entry};
use shared::ids::{BootId, GatewayId, NodeId, Seq, StreamId};
use shared::metric::Kind;
use shared::ranges::{SeqRange, SeqRanges};
use shared::reading::{Held, MICROS_PER_SECOND, Quality, Timestamp, sanitise};
use shared::spool::{Gap, GapReason};
use shared::wire::Fix;
use std::collections::BTreeMap;
use std::sync::Arc;

mod services;

/// A full hour.
const START: i64 = 500_000 * 3_600 * MICROS_PER_SECOND;
const MINUTE: i64 = 60 * MICROS_PER_SECOND;
const HOUR: i64 = 60 * MINUTE;
/// The streams' numbers use the highest bit.
const STREAM: StreamId = StreamId(u64::MAX - 6);

fn gateway() -> GatewayId {
    GatewayId::new("STATION_7").unwrap()
}

fn entry(node: &str, metric: &str, kind: Kind, unit: &str) -> Entry {
    Entry {
        node: NodeId::new(node).unwrap(),
        metric: metric.into(),
        channel: String::new(),
        kind,
        unit: unit.into(),
        resolution_exp: Some(-2),
        interval_ms: 10_000,
        silence_ms_max: 0,
        class: Class::Raw,
    }
}

fn flow(node: &str) -> Entry {
    entry(node, "flow_rate", Kind::Gauge, "L/s")
}

fn at(after_start: i64) -> Timestamp {
    Timestamp(START + after_start)
}

fn seqs(first: u64, last: u64) -> SeqRanges {
    [SeqRange::new(Seq(first), Seq(last))].into_iter().collect()
}

fn settled(first: u64, last: u64) -> Vec<StreamSeqs> {
    vec![StreamSeqs { gateway: gateway(), stream: STREAM, seqs: seqs(first, last) }]
}

fn gap(first: u64, last: u64, reason: GapReason) -> GatewayGap {
    let span = Some((at(first as i64 * MINUTE), at(last as i64 * MINUTE)));
    let gap = Gap { seqs: SeqRange::new(Seq(first), Seq(last)), span, reason };
    GatewayGap { gateway: gateway(), stream: STREAM, gap }
}

fn good(series: SeriesId, after_start: i64, value: f64) -> StoredReading {
    StoredReading {
        series,
        at: at(after_start),
        held: Held { value: Some(value), quality: Quality::GOOD, revision: 0 },
    }
}

async fn one_series(tier: &impl WarmTier) -> SeriesId {
    tier.series_for(&gateway(), &[flow("DIST_001")]).await.unwrap()[0].clone().unwrap()
}

async fn put(tier: &impl WarmTier, readings: &[StoredReading]) -> collector::tiers::CommitReport {
    tier.commit(Flush { readings: readings.to_vec(), ..Flush::default() }).await.unwrap()
}

async fn all(tier: &impl WarmTier, series: SeriesId) -> Vec<StoredReading> {
    tier.range(series, Timestamp(i64::MIN), Timestamp(i64::MAX), u32::MAX).await.unwrap()
}

async fn refresh_all(tier: &impl WarmTier) {
    while tier.refresh_rollups(3).await.unwrap() > 0 {}
}

async fn a_series_keeps_its_number_and_its_owner(tier: impl WarmTier) {
    let entries = [flow("DIST_001"), entry("DIST_001", "pressure", Kind::Gauge, "bar"), flow("DIST_002")];
    let first = tier.series_for(&gateway(), &entries).await.unwrap();
    let numbers: std::collections::BTreeSet<_> = first.iter().map(|n| n.clone().unwrap()).collect();
    assert_eq!(numbers.len(), 3);
    let slower = Entry { interval_ms: 60_000, ..entries[2].clone() };
    let again = [slower, entries[0].clone(), flow("DIST_003")];
    let second = tier.series_for(&gateway(), &again).await.unwrap();
    assert_eq!((&second[0], &second[1]), (&first[2], &first[0]));
    let other = GatewayId::new("STATION_8").unwrap();
    let theirs = tier.series_for(&other, &[flow("DIST_001"), flow("DIST_009")]).await.unwrap();
    assert!(matches!(&theirs[0], Err(SeriesRefused::Owned { owner, .. }) if *owner == gateway()), "{theirs:?}");
    assert!(theirs[1].is_ok(), "one refusal costs nothing else");
    let changed = tier.series_for(&gateway(), &[entry("DIST_001", "flow_rate", Kind::Counter, "L/s")]).await.unwrap();
    assert!(matches!(&changed[0], Err(SeriesRefused::Changed { .. })), "{changed:?}");
    let nodes: Vec<String> = tier.nodes().await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(nodes, ["DIST_001", "DIST_002", "DIST_003", "DIST_009"]);
    let listed = tier.series(Some(&NodeId::new("DIST_002").unwrap())).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].id, listed[0].interval_ms), (first[2].clone().unwrap(), 60_000));
    assert_eq!(tier.series(None).await.unwrap().len(), 5);
    let key = entries[0].clone();
    let key = SeriesKey { node: key.node, metric: key.metric, channel: key.channel };
    tier.hand_over(&key, &other, &gateway()).await.unwrap();
    tier.hand_over(&key, &gateway(), &other).await.unwrap();
    let theirs = tier.series_for(&other, &entries).await.unwrap();
    assert_eq!(theirs[0], first[0], "its number stays");
    assert!(theirs[1].is_err() && theirs[2].is_err(), "only what was handed over");
    assert!(tier.series_for(&gateway(), &entries[..1]).await.unwrap()[0].is_err());
}

async fn the_version_of_series_changes_with_them_and_with_nothing_else(tier: impl WarmTier) {
    let (first, other) = (flow("DIST_001"), GatewayId::new("STATION_8").unwrap());
    let key = SeriesKey { node: first.node.clone(), metric: first.metric.clone(), channel: first.channel.clone() };
    let mut seen = vec![tier.series_version().await.unwrap()];
    let slower = Entry { interval_ms: 60_000, ..first.clone() };
    for entries in [vec![first.clone()], vec![first.clone(), flow("DIST_002")], vec![slower.clone()]] {
        let entries = &entries[..];
        tier.series_for(&gateway(), entries).await.unwrap();
        seen.push(tier.series_version().await.unwrap());
    }
    tier.hand_over(&key, &gateway(), &other).await.unwrap();
    seen.push(tier.series_version().await.unwrap());
    assert_eq!(seen.iter().collect::<std::collections::BTreeSet<_>>().len(), seen.len(), "{seen:?}");
    let series = tier.series_for(&other, &[slower]).await.unwrap()[0].clone().unwrap();
    put(&tier, &[good(series, 0, 1.0)]).await;
    refresh_all(&tier).await;
    assert_eq!(tier.series_version().await.unwrap(), seen[4]);
}

async fn readings_come_back_as_they_were(tier: impl WarmTier) {
    let series = one_series(&tier).await;
    let values = [0.1 + 0.2, f64::MIN_POSITIVE, -1e300, f64::MAX, 5e-324, 0.0];
    let mut readings: Vec<_> = values.iter().enumerate().map(|(n, v)| good(series, n as i64 - 3, *v)).collect();
    readings.push(StoredReading {
        series,
        at: at(7),
        held: Held { value: None, quality: Quality::BAD_TIMEOUT, revision: u32::MAX },
    });
    let report = put(&tier, &readings).await;
    assert_eq!((report.written, report.unchanged), (7, 0));
    assert_eq!(all(&tier, series).await, readings);
    assert_eq!(tier.range(series, at(-2), at(0), 10).await.unwrap(), readings[1..3], "from is in, to is not");
    assert_eq!(tier.range(series, at(-9), at(9), 2).await.unwrap(), readings[..2], "bounded");
    assert_eq!(tier.last_before(series, at(7), false).await.unwrap(), Some(readings[5]));
    assert_eq!(tier.last_before(series, at(8), false).await.unwrap(), Some(readings[6]));
    assert_eq!(tier.last_before(series, at(8), true).await.unwrap(), Some(readings[5]), "a bad one has no value");
    assert_eq!(tier.last_before(series, at(-3), false).await.unwrap(), None);
    // A server says what its statistics say, which may not have seen them yet.
    assert!(tier.count_readings().await.unwrap() <= 7);
}

async fn repeating_a_flush_changes_nothing(tier: impl WarmTier) {
    let series = one_series(&tier).await;
    let readings: Vec<_> = (0..1_300).map(|n| good(series, n * MICROS_PER_SECOND, n as f64)).collect();
    let flush = Flush {
        readings: readings.clone(),
        settled: settled(1, 9),
        gaps: vec![gap(5, 5, GapReason::Rejected), gap(20, 29, GapReason::Overflow)],
        ..Flush::default()
    };
    assert_eq!(tier.commit(flush.clone()).await.unwrap().written, 1_300);
    refresh_all(&tier).await;
    let report = tier.commit(flush).await.unwrap();
    assert_eq!((report.written, report.unchanged, report.dirty), (0, 1_300, 0));
    assert_eq!(all(&tier, series).await, readings);
    assert_eq!(tier.committed(&gateway(), STREAM).await.unwrap(), (seqs(1, 9), Seq(29)));
    let gaps = tier.gaps(None, None, 10).await.unwrap();
    assert_eq!(gaps, [gap(20, 29, GapReason::Overflow), gap(5, 5, GapReason::Rejected)]);
}

async fn what_comes_late_is_counted_once(tier: impl WarmTier) {
    let numbers = tier.series_for(&gateway(), &[flow("A"), flow("B")]).await.unwrap();
    let [a, b] = [0, 1].map(|n: usize| numbers[n].clone().unwrap());
    let hour = |series, hour: i64, readings| LateHour { series, hour: at(hour * HOUR), readings };
    let block = |seq, hours| LateReadings { block: Some((gateway(), STREAM, Seq(seq))), hours };
    let late = vec![
        block(1, vec![hour(a, 0, 3), hour(b, 0, 1), hour(a, 0, 2)]),
        block(2, vec![hour(a, 1, 7)]),
        LateReadings { block: None, hours: vec![hour(b, 0, 10)] },
    ];
    tier.commit(Flush { settled: settled(1, 2), late: late.clone(), ..Flush::default() }).await.unwrap();
    let found = async |from: i64, to: i64| {
        let mut found = tier.late(at(from * HOUR), at(to * HOUR)).await.unwrap();
        found.sort_unstable();
        found
    };
    assert_eq!(found(0, 1).await, [(a, 5), (b, 11)]);
    assert_eq!(found(1, 2).await, [(a, 7)]);
    // The blocks are there already, but for one.
    let again = vec![late[0].clone(), block(3, vec![hour(a, 0, 1)])];
    tier.commit(Flush { settled: settled(1, 3), late: again, ..Flush::default() }).await.unwrap();
    assert_eq!(found(0, 9).await, [(a, 13), (b, 11)]);
    assert_eq!(found(9, 10).await, []);
}

async fn latest_never_goes_back_in_time(tier: impl WarmTier) {
    let numbers = tier.series_for(&gateway(), &[flow("A"), flow("B"), flow("C")]).await.unwrap();
    let [a, b, c] = [0, 1, 2].map(|n: usize| numbers[n].clone().unwrap());
    put(&tier, &[good(a, 5, 5.0), good(b, 1, 1.0)]).await;
    put(&tier, &[good(a, 4, 4.0), good(b, 2, 2.0)]).await;
    let mut latest = tier.latest(&[a, b, c]).await.unwrap();
    latest.sort_by_key(|r| r.series);
    assert_eq!(latest, [good(a, 5, 5.0), good(b, 2, 2.0)]);
    assert_eq!(tier.latest(&[]).await.unwrap(), []);
}

async fn gaps_shrink_when_the_data_turns_up(tier: impl WarmTier) {
    let report = |gaps: Vec<GatewayGap>| Flush { gaps, ..Flush::default() };
    tier.commit(Flush { settled: settled(1, 3), ..Flush::default() }).await.unwrap();
    tier.commit(report(vec![gap(2, 10, GapReason::Overflow)])).await.unwrap();
    let known = async || -> Vec<SeqRange> {
        let mut known: Vec<_> = tier.gaps(None, None, 100).await.unwrap().iter().map(|g| g.gap.seqs).collect();
        known.sort();
        known
    };
    assert_eq!(known().await, seqs(4, 10).as_slice(), "what is here is not missing");
    tier.commit(report(vec![gap(8, 12, GapReason::Damage)])).await.unwrap();
    assert_eq!(known().await, [SeqRange::new(Seq(4), Seq(10)), SeqRange::new(Seq(11), Seq(12))], "not missing twice");
    tier.commit(Flush { settled: settled(6, 7), ..Flush::default() }).await.unwrap();
    let left = [SeqRange::new(Seq(4), Seq(5)), SeqRange::new(Seq(8), Seq(10)), SeqRange::new(Seq(11), Seq(12))];
    assert_eq!(known().await, left);
    tier.commit(Flush { settled: settled(1, 20), ..Flush::default() }).await.unwrap();
    assert_eq!(known().await, []);
    let streams = tier.streams(Some(&gateway())).await.unwrap();
    assert_eq!(streams.len(), 1);
    assert_eq!((&streams[0].committed, streams[0].highest), (&seqs(1, 20), Seq(20)));
    let other = StreamId(1);
    assert_eq!(tier.committed(&gateway(), other).await.unwrap(), (SeqRanges::new(), Seq(0)));
    // A new stream beside one that is known.
    let both = [settled(21, 21), vec![StreamSeqs { gateway: gateway(), stream: other, seqs: seqs(1, 1) }]].concat();
    tier.commit(Flush { settled: both, ..Flush::default() }).await.unwrap();
    assert_eq!(tier.committed(&gateway(), STREAM).await.unwrap(), (seqs(1, 21), Seq(21)));
    assert_eq!(tier.committed(&gateway(), other).await.unwrap(), (seqs(1, 1), Seq(1)));
}

async fn gaps_are_found_by_gateway_and_time(tier: impl WarmTier) {
    let timeless =
        GatewayGap { gap: Gap { span: None, ..gap(50, 50, GapReason::Damage).gap }, ..gap(1, 1, GapReason::Damage) };
    let gaps = vec![gap(1, 2, GapReason::Overflow), gap(10, 12, GapReason::Overflow), timeless.clone()];
    tier.commit(Flush { gaps: gaps.clone(), ..Flush::default() }).await.unwrap();
    let found = tier.gaps(Some(&gateway()), Some((at(11 * MINUTE), at(HOUR))), 10).await.unwrap();
    assert_eq!(found, [timeless.clone(), gaps[1].clone()]);
    assert_eq!(tier.gaps(Some(&GatewayId::new("OTHER").unwrap()), None, 10).await.unwrap(), []);
    assert_eq!(tier.gaps(None, None, 2).await.unwrap().len(), 2);
}

async fn the_first_word_on_a_boots_clock_holds(tier: impl WarmTier) {
    let (known, lost) = (BootId([1; 16]), BootId([2; 16]));
    assert_eq!(tier.clock_fix(&gateway(), known).await.unwrap(), None);
    let fix = Fix::Known { offset_us: -5 };
    assert_eq!(tier.put_clock_fix(&gateway(), known, fix).await.unwrap(), fix);
    assert_eq!(tier.put_clock_fix(&gateway(), known, Fix::Known { offset_us: 7 }).await.unwrap(), fix);
    assert_eq!(tier.clock_fix(&gateway(), known).await.unwrap(), Some(fix));
    let bounds = Fix::Unknown { not_before: at(0), not_after: at(HOUR) };
    assert_eq!(tier.put_clock_fix(&gateway(), lost, bounds).await.unwrap(), bounds);
    assert_eq!(tier.clock_fix(&GatewayId::new("OTHER").unwrap(), known).await.unwrap(), None);
}

async fn blocks_wait_for_their_clock(tier: impl WarmTier) {
    let block = |seq, boot| Parked {
        gateway: gateway(),
        stream: STREAM,
        seq: Seq(seq),
        boot: BootId([boot; 16]),
        received: at(0),
        bytes: vec![seq as u8; 100],
    };
    let flush = Flush { park: vec![block(1, 1), block(2, 2), block(3, 1)], settled: settled(1, 3), ..Flush::default() };
    tier.commit(flush.clone()).await.unwrap();
    tier.commit(flush).await.unwrap();
    let waiting = tier.parked(Some(&gateway()), Some(BootId([1; 16])), 10).await.unwrap();
    assert_eq!(waiting, [block(1, 1), block(3, 1)]);
    assert_eq!(tier.parked(None, None, 2).await.unwrap().len(), 2);
    let series = one_series(&tier).await;
    let unpark = vec![(gateway(), STREAM, Seq(1)), (gateway(), STREAM, Seq(3))];
    tier.commit(Flush { readings: vec![good(series, 0, 1.0)], unpark, ..Flush::default() }).await.unwrap();
    assert_eq!(tier.parked(None, None, 10).await.unwrap(), [block(2, 2)]);
    assert_eq!(tier.state().await.unwrap().parked, 1);
}

async fn what_the_hot_tier_lost_or_missed_is_agreed_on(tier: impl WarmTier) {
    let series = one_series(&tier).await;
    let flush = |n: i64, epoch, missed: Option<i64>| {
        let hot = Some(HotTurn { epoch, missed: missed.map(at) });
        Flush { readings: vec![good(series, n, 1.0)], hot, ..Flush::default() }
    };
    let fresh = tier.hot().account().await.unwrap();
    assert!(fresh.id.len() >= 32, "{fresh:?}");
    assert_eq!(fresh, HotAccount { id: fresh.id.clone(), epoch: 1, owed: None });
    tier.commit(flush(0, 1, None)).await.unwrap();
    assert_eq!(tier.hot().begin_epoch().await.unwrap(), 2);
    let late = tier.commit(flush(1, 1, Some(5))).await;
    assert!(matches!(late, Err(TierError::Overtaken { epoch: 2 })), "{late:?}");
    assert_eq!(all(&tier, series).await, [good(series, 0, 1.0)], "nothing of it is stored");
    assert_eq!(tier.hot().account().await.unwrap().owed, None, "nor owed");
    let set_back = tier.commit(flush(1, 3, None)).await;
    assert!(matches!(&set_back, Err(TierError::Unavailable { why, .. }) if why.contains("restart")), "{set_back:?}");
    let owed = async || tier.hot().account().await.unwrap().owed;
    tier.commit(flush(1, 2, Some(50))).await.unwrap();
    let account = tier.hot().account().await.unwrap();
    assert_eq!(account, HotAccount { epoch: 2, owed: Some(at(50)), ..fresh.clone() });
    // Whatever is owed since is not settled with what was.
    tier.commit(flush(2, 2, Some(30))).await.unwrap();
    tier.hot().settle(at(50)).await.unwrap();
    assert_eq!(owed().await, Some(at(50).plus_micros(1)));
    tier.hot().settle(at(50).plus_micros(1)).await.unwrap();
    assert_eq!(tier.hot().account().await.unwrap(), HotAccount { epoch: 2, ..fresh });
    tier.hot().owe().await.unwrap();
    let first = owed().await.unwrap();
    assert!(first < at(0), "no reading");
    tier.hot().owe().await.unwrap();
    tier.hot().settle(first).await.unwrap();
    assert_eq!(owed().await, Some(first.plus_micros(1)));
    tier.hot().settle(first.plus_micros(1)).await.unwrap();
    assert_eq!(owed().await, None);
    assert_eq!(all(&tier, series).await.len(), 3);
}

async fn what_makes_room_in_quarantine_is_missing(tier: impl WarmTier) {
    // The tier under test keeps 100 rows at most; each block has two.
    let row = |seq: u64, second: i64| Quarantined {
        gateway: gateway(),
        stream: STREAM,
        seq: Seq(seq),
        series: "DIST_001/flow_rate".into(),
        at: at(10 * seq as i64 + second),
        held: Held { value: Some(1.5), quality: Quality::GOOD, revision: 0 },
        reason: "future".into(),
        received: at(0),
    };
    let block = |seq| [row(seq, 0), row(seq, 1)];
    let missing = |first, last, to| {
        let span = Some((at(10 * first as i64), at(to)));
        let gap = Gap { span, seqs: SeqRange::new(Seq(first), Seq(last)), reason: GapReason::Rejected };
        GatewayGap { gateway: gateway(), stream: STREAM, gap }
    };
    let gaps = async || tier.gaps(None, None, 10).await.unwrap();
    let first = Flush { quarantine: (1..=50).flat_map(block).collect(), settled: settled(1, 50), ..Flush::default() };
    tier.commit(first.clone()).await.unwrap();
    tier.commit(first).await.unwrap();
    assert_eq!(gaps().await, []);
    let more = Flush { quarantine: (51..=60).flat_map(block).collect(), settled: settled(51, 60), ..Flush::default() };
    assert_eq!(tier.commit(more).await.unwrap().quarantine_dropped, 20);
    assert_eq!(gaps().await, [missing(1, 10, 101)]);
    assert_eq!(tier.committed(&gateway(), STREAM).await.unwrap(), (seqs(1, 60), Seq(60)));
    // Another's readings take the room, one by one, and it is one loss.
    let other = |n| Quarantined { gateway: GatewayId::new("STATION_9").unwrap(), ..row(n, 0) };
    for (n, to) in [(1, 110), (2, 111)] {
        tier.commit(Flush { quarantine: vec![other(n)], ..Flush::default() }).await.unwrap();
        assert_eq!(gaps().await, [missing(1, 11, to)]);
    }
    // Sent once more, blocks are missing no longer, and others are.
    let again = Flush { quarantine: (1..=5).flat_map(block).collect(), settled: settled(1, 5), ..Flush::default() };
    tier.commit(again).await.unwrap();
    let left = gaps().await;
    let ends = (left[0].gap.seqs, left[0].gap.span.map(|span| span.1));
    assert_eq!((left.len(), ends), (1, (SeqRange::new(Seq(6), Seq(16)), Some(at(161)))), "{left:?}");
    // More than there is room for at once.
    let flood =
        Flush { quarantine: (61..=120).flat_map(block).collect(), settled: settled(61, 120), ..Flush::default() };
    assert_eq!(tier.commit(flood).await.unwrap().quarantine_dropped, 120);
    let lost: u64 = gaps().await.iter().filter(|gap| gap.gateway == gateway()).map(|gap| gap.gap.seqs.count()).sum();
    assert_eq!((lost, tier.state().await.unwrap().quarantined), (70, 100));
    assert!(gaps().await.iter().any(|gap| gap.gateway != gateway() && gap.gap.seqs == SeqRange::new(Seq(1), Seq(2))));
}

async fn what_is_set_aside_is_listed_and_bounded(tier: impl WarmTier) {
    // The tier under test keeps 100 rows at most.
    let row = |seq: u64| Quarantined {
        gateway: gateway(),
        stream: STREAM,
        seq: Seq(seq),
        series: "DIST_001/flow_rate".into(),
        at: at(seq as i64),
        held: Held { value: Some(1.5), quality: Quality::GOOD, revision: 0 },
        reason: "future".into(),
        received: at(0),
    };
    let flush = Flush { quarantine: (1..=80).map(row).collect(), ..Flush::default() };
    assert_eq!(tier.commit(flush.clone()).await.unwrap().quarantine_dropped, 0);
    assert_eq!(tier.commit(flush).await.unwrap().quarantine_dropped, 0);
    assert_eq!(tier.state().await.unwrap().quarantined, 80, "repeated, not doubled");
    let more = Flush { quarantine: (81..=130).map(row).collect(), ..Flush::default() };
    assert_eq!(tier.commit(more).await.unwrap().quarantine_dropped, 30);
    assert_eq!(tier.quarantine(Some(&gateway()), 2).await.unwrap(), [row(130), row(129)]);
    let series = one_series(&tier).await;
    let said = |what: &str| Audited {
        at: at(7),
        who: "M. Rossi".into(),
        what: what.into(),
        detail: serde_json::json!({ "reason": "the clock was right, \"ours\" was not" }),
    };
    let release = Flush {
        readings: vec![good(series, 130, 1.5)],
        unquarantine: vec![row(130), row(7)],
        audit: vec![said("first"), said("second")],
        ..Flush::default()
    };
    tier.commit(release).await.unwrap();
    assert_eq!(tier.quarantine(None, 1).await.unwrap(), [row(129)]);
    assert_eq!(tier.state().await.unwrap().quarantined, 99, "the other one wasn't there any more");
    assert_eq!(all(&tier, series).await, [good(series, 130, 1.5)]);
    let all = AuditWanted::all(5);
    let audit = async |wanted: AuditWanted| tier.audit(&wanted).await.unwrap();
    let whats = async |wanted| audit(wanted).await.into_iter().map(|(_, one)| one.what).collect::<Vec<_>>();
    let found = audit(all.clone()).await;
    assert_eq!((&found[0].1, &found[1].1, found.len()), (&said("second"), &said("first"), 2));
    assert_eq!(whats(AuditWanted::all(1)).await, ["second"]);
    assert_eq!(whats(AuditWanted { before: Some(found[0].0), ..all.clone() }).await, ["first"]);
    assert_eq!(whats(AuditWanted { what: Some("second".into()), ..all.clone() }).await, ["second"]);
    assert_eq!(whats(AuditWanted { who: Some("M. Rossi".into()), ..all.clone() }).await.len(), 2);
    assert_eq!(whats(AuditWanted { who: Some("m. rossi".into()), ..all }).await.len(), 0);
}

async fn of_those_who_decide_at_once_one_does(tier: impl WarmTier) {
    let series = one_series(&tier).await;
    let anomaly = Anomaly {
        number: 0,
        series,
        kind: Wrong::Stuck,
        start: at(1),
        last: at(2),
        end: None,
        severity: Severity::Warning,
        expected: None,
        seen: None,
        detail: String::new(),
        state: State::Open,
        normal: false,
        notes: Vec::new(),
    };
    tier.anomalies().put_anomalies(&[anomaly], at(0)).await.unwrap();
    let number = tier.anomalies().find_anomalies(&Wanted::all(1)).await.unwrap()[0].number;
    let decide = |n: i64, what: Action| {
        let who = format!("operator {n}");
        let audit =
            vec![Audited { at: at(n), who: who.clone(), what: "anomaly".into(), detail: serde_json::json!({}) }];
        let note = Note { at: at(n), who, what, comment: "I go there".into() };
        Flush { judgements: vec![Judgement { anomaly: number, note, normal: false }], audit, ..Flush::default() }
    };
    let decided = async |what: Action, from: i64| {
        let all = (from..from + 6).map(|n| tier.commit(decide(n, what)));
        let all = futures::future::join_all(all).await.into_iter().map(Result::unwrap).collect::<Vec<_>>();
        assert!(all.iter().all(|report| report.too_late.is_none_or(|one| one == number)), "{all:?}");
        all.iter().filter(|report| report.too_late.is_none()).count()
    };
    assert_eq!(decided(Action::Acknowledge, 10).await, 1);
    assert_eq!(decided(Action::Close, 20).await, 1);
    assert_eq!(decided(Action::Comment, 30).await, 6, "of comments there may be any number");
    let found = tier.anomalies().find_anomalies(&Wanted::all(1)).await.unwrap().remove(0);
    assert_eq!((found.state, found.notes.len()), (State::Closed, 8));
    assert_eq!(tier.audit(&AuditWanted::all(20)).await.unwrap().len(), 8, "who was too late did nothing");
    let again = found.notes.iter().find(|note| note.what == Action::Close).unwrap().clone();
    let again =
        Flush { judgements: vec![Judgement { anomaly: number, note: again, normal: false }], ..Flush::default() };
    assert_eq!(tier.commit(again).await.unwrap().too_late, None, "a commit that is repeated");
}

async fn who_may_come_in_changes_together_with_its_note(tier: impl WarmTier) {
    let user = |name: &str| User { name: name.into(), role: Role::Admin, password: Hash("$".into()), changed: at(1) };
    let token = Token { name: "grafana".into(), role: Role::Viewer, hash: "h".into(), made: at(2), ends: None };
    let noted = |detail| Audited { at: at(1), who: "rossi".into(), what: "access".into(), detail };
    let change = |people: Vec<PeopleChange>| Flush {
        people,
        audit: vec![noted(serde_json::json!({ "did": "it" }))],
        ..Flush::default()
    };
    let made = ["rossi", "bianchi"].map(|name| PeopleChange::PutUser(user(name)));
    tier.commit(change(made.into())).await.unwrap();
    let gone = vec![PeopleChange::RemoveUser("rossi".into()), PeopleChange::PutToken(token.clone())];
    tier.commit(change(gone)).await.unwrap();
    assert_eq!(tier.access().users().await.unwrap(), [user("bianchi")]);
    assert_eq!(tier.access().tokens().await.unwrap(), [token]);
    assert_eq!(tier.audit(&AuditWanted::all(9)).await.unwrap().len(), 2);
}

async fn who_may_come_in_is_kept_and_taken_away(tier: impl WarmTier) {
    let user = |name: &str, role, password: &str| User {
        name: name.into(),
        role,
        password: Hash(password.into()),
        changed: at(1),
    };
    let store = tier.access();
    store.put_user(&user("rossi", Role::Operator, "$argon2id$1")).await.unwrap();
    store.put_user(&user("bianchi", Role::Admin, "$argon2id$2")).await.unwrap();
    store.put_user(&user("rossi", Role::Viewer, "$argon2id$3")).await.unwrap();
    let (first, second) = (user("bianchi", Role::Admin, "$argon2id$2"), user("rossi", Role::Viewer, "$argon2id$3"));
    assert_eq!(store.users().await.unwrap(), [first.clone(), second]);
    assert!(store.remove_user("rossi").await.unwrap() && !store.remove_user("rossi").await.unwrap());
    assert_eq!(store.users().await.unwrap(), [first]);
    let token = |name: &str, ends| Token {
        name: name.into(),
        role: Role::Viewer,
        hash: format!("{name}'s"),
        made: at(2),
        ends,
    };
    store.put_token(&token("grafana", None)).await.unwrap();
    store.put_token(&token("grafana", Some(at(3)))).await.unwrap();
    store.put_token(&token("scada", None)).await.unwrap();
    assert_eq!(store.tokens().await.unwrap(), [token("grafana", Some(at(3))), token("scada", None)]);
    assert!(store.remove_token("scada").await.unwrap() && !store.remove_token("scada").await.unwrap());
}

async fn catalogues_are_kept_for_good(tier: impl WarmTier) {
    let catalogue = Catalogue::new(vec![flow("DIST_001")]).unwrap();
    assert!(tier.catalogue(catalogue.hash()).await.unwrap().is_none());
    tier.put_catalogue(&gateway(), &catalogue).await.unwrap();
    tier.put_catalogue(&GatewayId::new("OTHER").unwrap(), &catalogue).await.unwrap();
    assert_eq!(*tier.catalogue(catalogue.hash()).await.unwrap().unwrap(), catalogue);
}

async fn gateways_are_known_since_they_were_heard(tier: impl WarmTier) {
    one_series(&tier).await;
    let heard =
        |after: i64, version: Option<&str>, status| Heard { at: at(after), version: version.map(Into::into), status };
    let status = serde_json::json!({ "points": 3 });
    tier.gateway_heard(&gateway(), heard(5, Some("1.0"), Some(status.clone()))).await.unwrap();
    tier.gateway_heard(&gateway(), heard(9, None, None)).await.unwrap();
    tier.gateway_heard(&gateway(), heard(7, None, None)).await.unwrap();
    tier.commit(Flush { gaps: vec![gap(1, 1, GapReason::Damage)], ..Flush::default() }).await.unwrap();
    let known = tier.gateways().await.unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!((known[0].first_heard, known[0].last_heard), (at(5), at(9)));
    assert_eq!((known[0].version.as_deref(), &known[0].status), (Some("1.0"), &Some(status)));
    assert_eq!((known[0].series, known[0].gaps), (1, 1));
}

async fn a_late_reading_makes_its_bucket_dirty_until_it_is_right_again(tier: impl WarmTier) {
    let series = one_series(&tier).await;
    let minutes: Vec<_> = (0..120).map(|n| good(series, n * MINUTE, n as f64)).collect();
    put(&tier, &minutes).await;
    let before = tier.rollups(series, Bucket::FiveMinutes, at(0), at(2 * HOUR)).await.unwrap();
    assert_eq!((before.clean.len(), before.dirty.len()), (0, 24));
    assert_eq!(tier.refresh_rollups(10).await.unwrap(), 10, "bounded");
    refresh_all(&tier).await;
    let clean = tier.rollups(series, Bucket::Hour, at(0), at(2 * HOUR)).await.unwrap();
    assert_eq!((clean.clean.len(), clean.dirty.len()), (2, 0));
    put(&tier, &[good(series, 61 * MINUTE + 1, -7.0)]).await;
    let stale = tier.rollups(series, Bucket::Hour, at(0), at(2 * HOUR)).await.unwrap();
    assert_eq!((stale.clean, stale.dirty), (clean.clean[..1].to_vec(), vec![at(HOUR)]));
    let first_hour = tier.rollups(series, Bucket::FiveMinutes, at(0), at(HOUR)).await.unwrap();
    assert_eq!((first_hour.clean.len(), first_hour.dirty.len()), (12, 0), "its neighbours stay clean");
    refresh_all(&tier).await;
    let right = tier.rollups(series, Bucket::Hour, at(0), at(2 * HOUR)).await.unwrap();
    assert_eq!(right.dirty, []);
    assert_eq!(right.clean[1].1.usable.unwrap().min, -7.0);
    assert_eq!(right.clean[1].1.count(), 61);
}

async fn no_bucket_waits_for_ever_while_another_gets_dirty_again(tier: impl WarmTier) {
    let series = one_series(&tier).await;
    let minutes: Vec<_> = (0..30).map(|n| good(series, n * MINUTE, n as f64)).collect();
    put(&tier, &minutes).await;
    for n in 0..3 {
        assert_eq!(tier.refresh_rollups(2).await.unwrap(), 2);
        put(&tier, &[good(series, MINUTE + n + 1, 5.0)]).await; // in the first of six
    }
    let first = |dirty: Vec<Timestamp>| assert_eq!(dirty, [at(0)], "all others had their turn");
    first(tier.rollups(series, Bucket::FiveMinutes, at(0), at(HOUR)).await.unwrap().dirty);
    assert_eq!(tier.refresh_rollups(2).await.unwrap(), 1, "behind the last is the first again");
    assert_eq!(tier.refresh_rollups(2).await.unwrap(), 0);
    assert_eq!(tier.rollups(series, Bucket::FiveMinutes, at(0), at(HOUR)).await.unwrap().dirty, []);
}

async fn a_bucket_that_has_not_ended_is_left_for_later(tier: impl WarmTier) {
    let series = one_series(&tier).await;
    put(&tier, &[good(series, 0, 1.0), good(series, 5 * MINUTE, 2.0)]).await;
    assert_eq!(tier.refresh_ended(at(10 * MINUTE - 1), 10).await.unwrap(), 1);
    put(&tier, &[good(series, 6 * MINUTE, 3.0), good(series, MINUTE, 4.0)]).await;
    let dirty = tier.rollups(series, Bucket::FiveMinutes, at(0), at(HOUR)).await.unwrap().dirty;
    assert_eq!(dirty, [at(0), at(5 * MINUTE)], "the first once more");
    assert_eq!(tier.refresh_ended(at(10 * MINUTE), 10).await.unwrap(), 2);
    let found = tier.rollups(series, Bucket::FiveMinutes, at(0), at(HOUR)).await.unwrap();
    assert_eq!(found.dirty, []);
    let sums = found.clean.iter().map(|(start, sum)| (*start, sum.usable.unwrap().sum));
    assert_eq!(sums.collect::<Vec<_>>(), [(at(0), 5.0), (at(5 * MINUTE), 5.0)]);
}

/// A few series and moments, so that conflicts are common.
fn arrivals() -> impl Strategy<Value = Vec<(usize, i64, Held)>> {
    let value = prop_oneof![
        Just(None),
        Just(Some(-0.0)),
        (-4i32..4).prop_map(|v| Some(f64::from(v) / 2.0)),
        any::<f64>().prop_map(Some)
    ];
    // Mostly good: readings that differ in nothing but the value must be common, or the last tie-break goes untested.
    let quality = prop_oneof![
        4 => Just(Quality::GOOD),
        2 => prop::sample::select(Quality::NAMED.to_vec()),
        1 => any::<u8>().prop_map(Quality)
    ];
    let held = (value, quality, prop_oneof![3 => Just(0u32), 1 => 1u32..3]).prop_map(|(value, quality, revision)| {
        let (value, quality) = sanitise(value, quality);
        Held { value, quality, revision }
    });
    prop::collection::vec((0usize..2, 0i64..8, held), 1..60)
}

/// The rule as Rust says it.
fn expected(arrivals: &[(usize, i64, Held)]) -> BTreeMap<(usize, i64), Held> {
    let mut kept = BTreeMap::new();
    for (series, step, held) in arrivals {
        let kept = kept.entry((*series, step * 2 * MINUTE)).or_insert(*held);
        if held.wins_over(kept) {
            *kept = *held;
        }
    }
    kept
}

/// Everything is committed in batches of `batch`, refreshed at every third, and compared with the rule.
async fn any_order_leaves_what_the_rule_says(tier: &impl WarmTier, arrivals: &[(usize, i64, Held)], batch: usize) {
    let numbers = tier.series_for(&gateway(), &[flow("A"), flow("B")]).await.unwrap();
    let numbers = [0, 1].map(|n: usize| numbers[n].clone().unwrap());
    let reading = |(series, step, held): &(usize, i64, Held)| StoredReading {
        series: numbers[*series],
        at: at(step * 2 * MINUTE),
        held: *held,
    };
    for (n, part) in arrivals.chunks(batch).enumerate() {
        put(tier, &part.iter().map(reading).collect::<Vec<_>>()).await;
        if n % 3 == 2 {
            refresh_all(tier).await;
        }
    }
    refresh_all(tier).await;
    let kept = expected(arrivals);
    for (n, series) in numbers.into_iter().enumerate() {
        let wanted: Vec<_> = kept
            .iter()
            .filter(|((s, _), _)| *s == n)
            .map(|((_, after), held)| StoredReading { series, at: at(*after), held: *held })
            .collect();
        let stored = all(tier, series).await;
        assert_eq!(stored, wanted);
        for (a, b) in stored.iter().zip(&wanted) {
            assert_eq!(a.held.value.map(f64::to_bits), b.held.value.map(f64::to_bits));
        }
        let hold = collector::rollup::hold(10_000, 0);
        let rollups = tier.rollups(series, Bucket::FiveMinutes, at(0), at(HOUR)).await.unwrap();
        let mut fresh = BTreeMap::new();
        for reading in &wanted {
            let one = Rollup::of(reading.at, &reading.held);
            let bucket = Bucket::FiveMinutes.start_of(reading.at);
            fresh.entry(bucket).and_modify(|sum: &mut Rollup| *sum = sum.then(&one, hold)).or_insert(one);
        }
        assert_eq!(rollups.dirty, []);
        // By their text: sums of the largest numbers are infinite, and infinity less infinity equals nothing.
        assert_eq!(format!("{:?}", rollups.clean), format!("{:?}", fresh.into_iter().collect::<Vec<_>>()));
    }
}

/// Every promise, handed to a macro that makes something of it.
async fn what_was_told_is_kept_by_channel(tier: impl WarmTier) {
    let told = |title: &str, gone: Option<i64>| Told {
        severity: Severity::Critical,
        title: title.into(),
        since: Timestamp(START),
        at: Timestamp(START + 1),
        gone: gone.map(Timestamp),
        until: None,
    };
    let (one, other) = (("anomaly/1".to_owned(), told("it's wrong", None)), ("job/x".to_owned(), told("ü", None)));
    let store = tier.alerts();
    store
        .note_told("mail", &[(one.0.clone(), Some(one.1.clone())), (other.0.clone(), Some(other.1.clone()))])
        .await
        .unwrap();
    assert_eq!(store.told("mail").await.unwrap(), BTreeMap::from([one.clone(), other.clone()]));
    assert!(store.told("webhook").await.unwrap().is_empty());
    let gone = told("it's wrong", Some(START + 2));
    store.note_told("mail", &[(one.0.clone(), Some(gone.clone())), (other.0, None)]).await.unwrap();
    assert_eq!(store.told("mail").await.unwrap(), BTreeMap::from([(one.0, gone)]));
}

macro_rules! every_promise {
    ($with:ident, $make:expr) => {
        $with! { $make;
            a_series_keeps_its_number_and_its_owner
            the_version_of_series_changes_with_them_and_with_nothing_else
            readings_come_back_as_they_were
            repeating_a_flush_changes_nothing
            latest_never_goes_back_in_time
            gaps_shrink_when_the_data_turns_up
            gaps_are_found_by_gateway_and_time
            the_first_word_on_a_boots_clock_holds
            blocks_wait_for_their_clock
            what_is_set_aside_is_listed_and_bounded
            what_makes_room_in_quarantine_is_missing
            what_the_hot_tier_lost_or_missed_is_agreed_on
            who_may_come_in_is_kept_and_taken_away
            who_may_come_in_changes_together_with_its_note
            of_those_who_decide_at_once_one_does
            what_was_told_is_kept_by_channel
            catalogues_are_kept_for_good
            gateways_are_known_since_they_were_heard
            a_late_reading_makes_its_bucket_dirty_until_it_is_right_again
            no_bucket_waits_for_ever_while_another_gets_dirty_again
            a_bucket_that_has_not_ended_is_left_for_later
            what_comes_late_is_counted_once
        }
    };
}

/// A test for each, for tiers that are quickly made.
macro_rules! each_alone {
    ($make:expr; $($test:ident)*) => {
        $(#[tokio::test]
        async fn $test() {
            let bench = $make.await;
            super::$test(bench.tier).await;
        })*
    };
}

/// One after the other, for tiers on a server that is started once.
macro_rules! in_turn {
    ($make:expr; $($test:ident)*) => {
        $(
            eprintln!("    {}", stringify!($test));
            let tier = $make.await;
            super::$test(tier).await;
        )*
    };
}

/// Any order of arrival leaves the same, `cases` times; `$tier` gives an empty tier.
fn any_order_of_arrival_gives_the_same<T: WarmTier>(
    runtime: &tokio::runtime::Runtime,
    cases: u32,
    empty: impl AsyncFn() -> Arc<T>,
) {
    let shuffled = arrivals().prop_flat_map(|a| (Just(a.clone()), Just(a).prop_shuffle()));
    let config =
        ProptestConfig { cases, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() };
    let run = |((first, second), batch): ((Vec<_>, Vec<_>), usize)| {
        runtime.block_on(async {
            for order in [first, second] {
                any_order_leaves_what_the_rule_says(&*empty().await, &order, batch).await;
            }
        });
        Ok(())
    };
    proptest::test_runner::TestRunner::new(config).run(&(shuffled, 1usize..20), run).unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

mod sqlite {
    use super::*;
    use collector::tiers::warm::sqlite::SqliteWarm;

    /// A tier, and the folder it lies in.
    struct Bench {
        tier: SqliteWarm,
        _folder: tempfile::TempDir,
    }

    async fn bench() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let tier = SqliteWarm::open(&folder.path().join("warm.sqlite")).await.unwrap().with_quarantine_max(100);
        Bench { tier, _folder: folder }
    }

    every_promise!(each_alone, bench());

    #[test]
    fn any_order_of_arrival_gives_the_same_stored_state() {
        let folders = std::cell::RefCell::new(Vec::new());
        any_order_of_arrival_gives_the_same(&runtime(), 48, async || {
            let bench = bench().await;
            folders.borrow_mut().push(bench._folder);
            Arc::new(bench.tier)
        });
    }

    #[tokio::test]
    async fn what_was_committed_is_there_after_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("warm.sqlite");
        let tier = SqliteWarm::open(&path).await.unwrap();
        let series = one_series(&tier).await;
        put(&tier, &[good(series, 0, 1.0)]).await;
        tier.close().await;
        let tier = SqliteWarm::open(&path).await.unwrap();
        assert_eq!(one_series(&tier).await, series);
        assert_eq!(all(&tier, series).await, [good(series, 0, 1.0)]);
    }

    #[tokio::test]
    async fn a_file_that_is_none_of_ours_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("warm.sqlite");
        std::fs::write(&path, vec![b'x'; 8192]).unwrap();
        let error = SqliteWarm::open(&path).await.unwrap_err().to_string();
        assert!(error.contains("warm.sqlite") && error.contains("not a database"), "{error}");
    }
}

/// Empties all tables, which is faster than making them.
async fn empty(settings: &WarmSettings, connection: &mut sqlx::PgConnection) {
    use sqlx::Executor as _;
    let sql = "SELECT string_agg(format('%I.%I', schemaname, tablename), ', ') FROM pg_tables \
               WHERE schemaname = $1 AND tablename NOT IN ('_sqlx_migrations', 'hot_ledger') AND tablename !~ '^readings_'";
    let tables: String = sqlx::query_scalar(sql).bind(&settings.schema).fetch_one(&mut *connection).await.unwrap();
    let sql = format!("TRUNCATE {tables} RESTART IDENTITY");
    connection.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
}

async fn tier_of(settings: WarmSettings, layout: Layout) -> PostgresWarm {
    let tier = PostgresWarm::open(&settings).await.unwrap().with_quarantine_max(100);
    assert_eq!(tier.ready().await.unwrap(), layout);
    tier
}

mod plain_postgresql {
    use super::*;
    use sqlx::ConnectOptions as _;

    #[test]
    fn plain_postgresql_keeps_every_promise() {
        let runtime = runtime();
        let server = runtime.block_on(services::postgres::Postgres::start());
        let fresh = async || tier_of(server.database().await, Layout::Plain).await;
        runtime.block_on(async {
            every_promise!(in_turn, fresh());
        });
        let settings = runtime.block_on(server.database());
        let tier = Arc::new(runtime.block_on(tier_of(settings.clone(), Layout::Plain)));
        any_order_of_arrival_gives_the_same(&runtime, 48, async || {
            empty(&settings, &mut server.options(&settings.database).connect().await.unwrap()).await;
            tier.clone()
        });
    }
}

mod timescaledb {
    use super::*;
    use sqlx::ConnectOptions as _;

    #[test]
    fn timescaledb_keeps_every_promise() {
        let runtime = runtime();
        let server = services::timescale::TimescaleServer::start();
        let fresh = async || tier_of(server.schema(), Layout::Timescale).await;
        runtime.block_on(async {
            every_promise!(in_turn, fresh());
        });
        let settings = server.schema();
        let options = sqlx::postgres::PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(server.port);
        let options = options.username("postgres").database("postgres");
        let tier = Arc::new(runtime.block_on(tier_of(settings.clone(), Layout::Timescale)));
        any_order_of_arrival_gives_the_same(&runtime, 8, async || {
            empty(&settings, &mut options.connect().await.unwrap()).await;
            tier.clone()
        });
    }
}
