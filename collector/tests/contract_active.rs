//! What everybody is told of active anomalies, whichever hot tier keeps them. A new implementation adds a module at the end
//! and nothing else.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

mod services;
mod support;

use collector::analytics::anomaly::{Finding, Found, Kind, Severity};
use collector::analytics::store::{Action, Judgement, Note, State, Wanted};
use collector::anomalies::Anomalies;
use collector::tiers::hot::days::{Days, MemoryDays};
use collector::tiers::warm::sqlite::SqliteWarm;
use collector::tiers::{Flush, SeriesId, WarmTier};
use shared::reading::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use support::faulty::FaultyWarm;

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;

/// Two collectors on the same tiers; the second one's warm tier fails on command.
struct Bench<S> {
    warm: Arc<dyn WarmTier>,
    flaky: Arc<FaultyWarm>,
    one: Anomalies,
    other: Anomalies,
    service: S,
    _folder: tempfile::TempDir,
}

async fn bench<S>((days, service): (Arc<dyn Days>, S)) -> Bench<S> {
    let folder = tempfile::tempdir().unwrap();
    let warm: Arc<dyn WarmTier> = Arc::new(SqliteWarm::open(&folder.path().join("w")).await.unwrap());
    let flaky = Arc::new(FaultyWarm::around(warm.clone()));
    let one = Anomalies::new(warm.clone(), Some(days.clone()));
    let other = Anomalies::new(flaky.clone(), Some(days));
    Bench { warm, flaky, one, other, service, _folder: folder }
}

fn found(kind: Kind, start: i64) -> Finding {
    Finding {
        kind,
        start: Timestamp(start),
        last: Timestamp(start + 5 * MINUTE),
        ongoing: true,
        opens: true,
        severity: Severity::Warning,
        expected: Some(1.5),
        seen: Some(7.0),
        detail: "far too much".into(),
    }
}

impl<S> Bench<S> {
    /// The first collector finds something in each series of these.
    async fn find(&self, kind: Kind, start: i64, series: impl IntoIterator<Item = u32>) {
        let found: BTreeMap<_, _> = series.into_iter().map(|n| (SeriesId(n), vec![found(kind, start)])).collect();
        self.one.turn().await.add(&found, Timestamp(start)).await.unwrap();
    }

    /// At the first collector someone decides.
    async fn judge(&self, anomaly: i64, what: Action) {
        let note = Note { at: Timestamp(9 * HOUR), who: "M. Rossi".into(), what, comment: "seen".into() };
        let judgements = vec![Judgement { anomaly, note, normal: false }];
        self.one.change(self.warm.commit(Flush { judgements, ..Flush::default() })).await.unwrap();
    }

    /// Both say what the warm tier says, whatever is asked; gives how many there are.
    async fn agree(&self) -> usize {
        let mut count = 0;
        for state in [Some(State::Open), Some(State::Acknowledged), Some(State::Closed), None] {
            let all = Wanted { state, ..Wanted::all(1_000) };
            for wanted in [
                all.clone(),
                Wanted { count_max: 2, ..all.clone() },
                Wanted { kind: Some(Kind::Stuck), ..all.clone() },
                Wanted { series: Some(vec![SeriesId(2), SeriesId(9)]), ..all.clone() },
                Wanted { from: Timestamp(2 * HOUR), to: Timestamp(20 * HOUR), ..all.clone() },
                Wanted { number: Some(1), ..all },
            ] {
                let truth = self.warm.anomalies().find_anomalies(&wanted).await.unwrap();
                count = count.max(truth.len());
                let truth = (truth, None);
                assert_eq!(self.one.find(&wanted).await.unwrap(), truth, "{wanted:?}");
                assert_eq!(self.other.find(&wanted).await.unwrap(), truth, "{wanted:?}");
            }
        }
        count
    }
}

async fn whoever_asks_is_told_what_the_warm_tier_says<S>(bench: Bench<S>) {
    assert_eq!(bench.agree().await, 0);
    bench.find(Kind::Stuck, HOUR, 1..=3).await;
    assert_eq!(bench.agree().await, 3);
    bench.find(Kind::OutOfRange, 3 * HOUR, 2..=4).await;
    bench.agree().await;
    bench.judge(1, Action::Acknowledge).await;
    bench.judge(2, Action::Comment).await;
    bench.agree().await;
    bench.judge(1, Action::Close).await;
    assert_eq!(bench.agree().await, 6);
    // What is found again goes on, what isn't is over: as the job has it.
    let known = bench.one.turn().await.known(SeriesId(2), Timestamp(0), 10).await.unwrap();
    let again = Finding { last: Timestamp(4 * HOUR), ..found(Kind::OutOfRange, 3 * HOUR) };
    let again = Found { findings: vec![again], unjudged: Vec::new() };
    let stored = bench.one.turn().await.settle(SeriesId(2), &known, &again, Timestamp(9 * HOUR)).await.unwrap();
    assert_eq!((stored.changed, stored.opened), (2, 0));
    assert_eq!(bench.agree().await, 6);
}

async fn active_ones_are_told_while_the_warm_tier_is_away<S>(bench: Bench<S>) {
    bench.agree().await;
    bench.find(Kind::Stuck, HOUR, 1..=3).await;
    let active = bench.one.active().await.unwrap().0;
    assert_eq!(active.len(), 3);
    bench.flaky.away.store(true, Ordering::SeqCst);
    let open = Wanted { state: Some(State::Open), ..Wanted::all(10) };
    assert_eq!(bench.other.find(&open).await.unwrap(), (active.clone(), None));
    let (all, lacks) = bench.other.find(&Wanted::all(10)).await.unwrap();
    assert_eq!(all, active);
    assert!(lacks.unwrap().ends_with("closed anomalies are missing"), "they are in the warm tier alone");
    let of_one = Wanted { series: Some(vec![SeriesId(2)]), ..Wanted::all(10) };
    assert_eq!(bench.other.find(&of_one).await.unwrap().0.len(), 1, "what is wanted of them");
    bench.judge(1, Action::Close).await;
    assert!(bench.other.find(&open).await.is_err(), "what was kept holds no more");
    assert_eq!(bench.one.find(&open).await.unwrap().0.len(), 2);
    assert_eq!(bench.other.find(&open).await.unwrap().0.len(), 2, "and is there again once someone has asked");
}

async fn more_than_can_be_kept_are_told_all_the_same<S>(bench: Bench<S>) {
    bench.find(Kind::Stuck, HOUR, 1..=1_200).await;
    let (active, whole) = bench.one.active().await.unwrap();
    assert_eq!((active.len(), whole), (1_000, false));
    let open = Wanted { state: Some(State::Open), ..Wanted::all(5_000) };
    assert_eq!(bench.one.find(&open).await.unwrap().0.len(), 1_200);
}

async fn whoever_watches_is_told_what_changes<S>(bench: Bench<S>) {
    let stop = tokio_util::sync::CancellationToken::new();
    let other = Arc::new(bench.other);
    let keeping = tokio::spawn(other.clone().keep(stop.clone()));
    let mut watch = other.watch();
    let count = |all: &Option<collector::anomalies::Standing>| all.as_ref().map(|all| all.active.len());
    support::within(watch.wait_for(|all| count(all) == Some(0))).await.unwrap();
    let found: BTreeMap<_, _> = [(SeriesId(1), vec![found(Kind::Stuck, HOUR)])].into();
    bench.one.turn().await.add(&found, Timestamp(HOUR)).await.unwrap();
    support::within(watch.wait_for(|all| count(all) == Some(1))).await.unwrap();
    stop.cancel();
    support::within(keeping).await.unwrap();
}

/// Several collectors that share no hot tier keep nothing there, and ask every second.
#[tokio::test]
async fn where_nothing_can_be_kept_active_ones_are_told_as_they_were_when_it_was_last_asked() {
    let bench = bench((Arc::new(MemoryDays::default()) as Arc<dyn Days>, ())).await;
    let alone = Anomalies::new(bench.flaky.clone(), None);
    bench.find(Kind::Stuck, HOUR, 1..=2).await;
    bench.flaky.away.store(true, Ordering::SeqCst);
    assert!(alone.find(&Wanted::all(10)).await.is_err(), "it never was");
    bench.flaky.away.store(false, Ordering::SeqCst);
    alone.look().await;
    bench.flaky.away.store(true, Ordering::SeqCst);
    for state in [Some(State::Open), None] {
        let (all, lacks) = alone.find(&Wanted { state, ..Wanted::all(10) }).await.unwrap();
        assert_eq!(all.len(), 2);
        assert!(lacks.unwrap().contains("as they were"));
    }
}

macro_rules! whole_contract {
    ($make:expr) => {
        whole_contract! { $make;
            whoever_asks_is_told_what_the_warm_tier_says
            active_ones_are_told_while_the_warm_tier_is_away
            more_than_can_be_kept_are_told_all_the_same
            whoever_watches_is_told_what_changes
        }
    };
    ($make:expr; $($test:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $test() {
            super::$test(super::bench($make).await).await;
        })*
    };
}

mod memory {
    use super::{Arc, Days, MemoryDays};
    whole_contract!((Arc::new(MemoryDays::default()) as Arc<dyn Days>, ()));
}

mod redis {
    use super::*;
    use collector::tiers::hot::redis::RedisHot;
    use services::redis::Redis;

    async fn days(service: Redis) -> (Arc<dyn Days>, (RedisHot, Redis)) {
        let hot = RedisHot::new(&service.settings(), 0, Arc::new(Timestamp::wall_clock)).unwrap();
        (Arc::new(hot.days()), (hot, service))
    }

    whole_contract!(days(Redis::start().await).await);

    /// What changes while Redis is away is no secret when it is back with what it had before.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_it_missed_is_not_hidden_when_it_is_back() {
        let on_disk = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"];
        let mut bench = super::bench(days(Redis::start_with(&on_disk).await).await).await;
        bench.find(Kind::Stuck, HOUR, 1..=2).await;
        bench.agree().await;
        bench.service.1.kill();
        bench.judge(1, Action::Close).await;
        bench.agree().await;
        bench.service.1.restart().await;
        let back = async || {
            bench.agree().await;
            let before = bench.flaky.away.swap(true, Ordering::SeqCst);
            let open = Wanted { state: Some(State::Open), ..Wanted::all(10) };
            let kept = bench.other.find(&open).await.is_ok();
            bench.flaky.away.store(before, Ordering::SeqCst);
            kept
        };
        assert!(support::until(back).await, "it is kept there again");
    }
}
