//! What every hot tier must do. A new implementation adds a module at the end and nothing else.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

use collector::tiers::{HotTier, Newest, SeriesId, StoredReading};
use shared::reading::{Held, MICROS_PER_SECOND, Quality, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

mod services;

const HOUR: i64 = 3_600 * MICROS_PER_SECOND;
/// When the tier under test is made; it was told that it is complete from then on.
const START: i64 = 1_800_000_000 * MICROS_PER_SECOND;
const A: SeriesId = SeriesId(1);
const B: SeriesId = SeriesId(2);

/// A tier, and the clock it looks at.
struct Bench<T> {
    tier: T,
    now: Arc<AtomicI64>,
    /// What it runs on, if anything.
    _service: Option<services::redis::Redis>,
}

impl<T> Bench<T> {
    fn pass(&self, micros: i64) {
        self.now.fetch_add(micros, Ordering::SeqCst);
    }
}

fn reading(series: SeriesId, after_start: i64, value: f64) -> StoredReading {
    let held = Held { value: Some(value), quality: Quality::GOOD, revision: 0 };
    StoredReading { series, at: Timestamp(START + after_start), held }
}

fn at(after_start: i64) -> Timestamp {
    Timestamp(START + after_start)
}

async fn readings_come_back_ascending_whatever_the_order(bench: Bench<impl HotTier>) {
    let all: Vec<_> = (0..50).map(|n| reading(A, n * 1000, n as f64)).collect();
    let mut shuffled = all.clone();
    shuffled.sort_by_key(|r| ((r.at.0 - START) * 7919) % 50_021);
    bench.tier.put(&shuffled[..20]).await.unwrap();
    bench.tier.put(&shuffled[10..]).await.unwrap();
    assert_eq!(bench.tier.range(A, at(0), at(HOUR)).await.unwrap().unwrap(), all);
    let part = bench.tier.range(A, at(5_000), at(7_000)).await.unwrap().unwrap();
    assert_eq!(part, all[5..7], "from is in, to is not");
    assert_eq!(bench.tier.range(B, at(0), at(HOUR)).await.unwrap(), Some(vec![]), "another series");
}

async fn conflicts_are_decided_by_the_rule(bench: Bench<impl HotTier>) {
    let good = reading(A, 0, 1.0);
    let correction = StoredReading { held: Held { value: Some(5.0), quality: Quality::MANUAL, revision: 1 }, ..good };
    let bad = StoredReading { held: Held { value: None, quality: Quality::BAD_TIMEOUT, revision: 0 }, ..good };
    for order in [[good, correction, bad], [correction, bad, good], [bad, good, correction]] {
        bench.tier.put(&order).await.unwrap();
        assert_eq!(bench.tier.range(A, at(0), at(1)).await.unwrap().unwrap(), [correction]);
        assert_eq!(bench.tier.latest(&[A]).await.unwrap(), [correction]);
    }
}

async fn latest_never_goes_back_in_time(bench: Bench<impl HotTier>) {
    bench.tier.put(&[reading(A, 5_000, 5.0)]).await.unwrap();
    bench.tier.put(&[reading(A, 4_000, 4.0), reading(A, -40 * HOUR, 0.0)]).await.unwrap();
    assert_eq!(bench.tier.latest(&[B, A]).await.unwrap(), [reading(A, 5_000, 5.0)]);
    bench.tier.put_live(&[reading(A, 3_000, 3.0), reading(A, 6_000, 6.0)]).await.unwrap();
    assert_eq!(bench.tier.latest(&[A]).await.unwrap(), [reading(A, 6_000, 6.0)]);
}

async fn live_values_are_no_history(bench: Bench<impl HotTier>) {
    bench.tier.put_live(&[reading(A, 1_000, 1.0)]).await.unwrap();
    assert_eq!(bench.tier.range(A, at(0), at(HOUR)).await.unwrap(), Some(vec![]));
}

async fn what_was_before_it_is_never_claimed(bench: Bench<impl HotTier>) {
    bench.tier.put(&[reading(A, -HOUR, 1.0), reading(A, 0, 2.0)]).await.unwrap();
    assert_eq!(bench.tier.range(A, at(-2 * HOUR), at(HOUR)).await.unwrap(), None);
    assert_eq!(bench.tier.range(A, at(-1), at(HOUR)).await.unwrap(), None);
    assert_eq!(bench.tier.complete_from(A).await.unwrap(), Some(at(0)));
    assert_eq!(bench.tier.range(A, at(0), at(HOUR)).await.unwrap().unwrap(), [reading(A, 0, 2.0)]);
}

async fn after_a_day_readings_go_and_nothing_older_is_claimed(bench: Bench<impl HotTier>) {
    bench.tier.put(&[reading(A, 0, 1.0), reading(B, HOUR, 1.0)]).await.unwrap();
    bench.pass(24 * HOUR + HOUR / 2);
    assert_eq!(bench.tier.range(A, at(0), at(HOUR)).await.unwrap(), None);
    let within = bench.tier.range(B, at(HOUR), at(2 * HOUR)).await.unwrap().unwrap();
    assert_eq!(within, [reading(B, HOUR, 1.0)]);
    assert_eq!(bench.tier.state().await.unwrap().readings, 1);
    assert_eq!(bench.tier.latest(&[A]).await.unwrap(), [reading(A, 0, 1.0)], "latest stays");
    bench.tier.put(&[reading(A, 10_000, 1.0)]).await.unwrap();
    assert_eq!(bench.tier.state().await.unwrap().readings, 1, "too old to be kept");
}

async fn what_it_calls_complete_can_be_asked_for_a_moment_later(bench: Bench<impl HotTier>) {
    bench.tier.put(&[reading(A, 20 * HOUR, 1.0)]).await.unwrap();
    bench.pass(30 * HOUR);
    let from = bench.tier.complete_from(A).await.unwrap().unwrap();
    bench.pass(10 * MICROS_PER_SECOND);
    let found = bench.tier.range(A, from, at(30 * HOUR)).await.unwrap();
    assert_eq!(found, Some(vec![reading(A, 20 * HOUR, 1.0)]), "the horizon moves on all the time");
}

async fn what_passed_it_by_is_not_claimed(bench: Bench<impl HotTier>) {
    bench.tier.put(&[reading(A, 0, 1.0), reading(A, 5_000, 2.0)]).await.unwrap();
    bench.tier.forget(at(4_000)).await.unwrap();
    assert_eq!(bench.tier.range(A, at(0), at(HOUR)).await.unwrap(), None);
    assert_eq!(bench.tier.range(A, at(4_000), at(HOUR)).await.unwrap().unwrap(), [reading(A, 5_000, 2.0)]);
}

async fn a_newest_value_is_sure_only_when_nothing_newer_can_be_stored(bench: Bench<impl HotTier>) {
    bench.tier.put(&[reading(A, 5_000, 1.0), reading(B, -HOUR, 2.0)]).await.unwrap();
    let newest = bench.tier.newest(&[A, SeriesId(3), B]).await.unwrap();
    assert_eq!(newest.readings, [reading(A, 5_000, 1.0), reading(B, -HOUR, 2.0)]);
    assert!(newest.unsure.ends_with(&[SeriesId(3), B]), "{newest:?}: of before its start it wasn't told");
    bench.tier.forget(at(6_000)).await.unwrap();
    let newest = bench.tier.newest(&[A]).await.unwrap();
    assert_eq!(newest, Newest { readings: vec![reading(A, 5_000, 1.0)], unsure: vec![A] }, "one may have passed it by");
}

async fn a_newest_value_that_came_since_its_start_is_sure_while_it_is_kept(bench: Bench<impl HotTier>) {
    bench.tier.put(&[reading(A, 0, 1.0), reading(B, 0, 1.0)]).await.unwrap();
    assert_eq!(bench.tier.newest(&[A, B]).await.unwrap().unsure, []);
    bench.pass(25 * HOUR);
    assert_eq!(bench.tier.newest(&[A, B]).await.unwrap().unsure, [A, B], "what ran out may be late, and not here");
}

async fn what_was_evicted_is_not_claimed(bench: Bench<impl HotTier>) {
    // The tier under test holds 1,000 readings at most.
    let many: Vec<_> = (0..3_000).map(|n| reading(A, n * 1000, n as f64)).collect();
    bench.tier.put(&[reading(B, 0, 7.0)]).await.unwrap();
    for batch in many.chunks(100) {
        bench.tier.put(batch).await.unwrap();
    }
    let state = bench.tier.state().await.unwrap();
    assert!(state.readings <= 1_000 && state.evicted >= 2_000, "{state:?}");
    assert_eq!(bench.tier.range(A, at(0), at(HOUR)).await.unwrap(), None);
    let from = bench.tier.complete_from(A).await.unwrap().unwrap();
    let kept = bench.tier.range(A, from, at(HOUR)).await.unwrap().unwrap();
    assert_eq!(kept, many.iter().filter(|r| r.at >= from).copied().collect::<Vec<_>>());
    assert!(kept.len() > 500);
    assert_eq!(
        bench.tier.range(B, at(0), at(HOUR)).await.unwrap().unwrap(),
        [reading(B, 0, 7.0)],
        "the neighbour stays"
    );
    bench.tier.put(&[reading(A, 0, 0.0)]).await.unwrap();
    assert_eq!(bench.tier.range(A, at(0), at(HOUR)).await.unwrap(), None, "a late one proves nothing");
}

async fn what_is_about_to_be_committed_is_not_claimed_until_it_is_put(bench: Bench<impl HotTier>) {
    bench.tier.put(&[reading(A, 1_000, 1.0), reading(B, 1_000, 1.0)]).await.unwrap();
    let asked = async |from| bench.tier.range(A, at(from), at(HOUR)).await.unwrap();
    let new = [reading(A, 500, 5.0)];
    for committed in [&new[..0], &new] {
        let doubt = bench.tier.doubt(&new).await.unwrap();
        assert_eq!(asked(0).await, None);
        assert_eq!(asked(501).await.unwrap(), [reading(A, 1_000, 1.0)], "of later nothing is in doubt");
        assert!(bench.tier.complete_from(A).await.unwrap() > Some(at(500)));
        assert!(bench.tier.range(B, at(0), at(HOUR)).await.unwrap().is_some(), "another series");
        // What comes meanwhile isn't lost.
        bench.tier.put(&[reading(A, 100, 0.1)]).await.unwrap();
        bench.tier.put_after(committed, doubt).await.unwrap();
        let there = asked(0).await.unwrap();
        assert_eq!(there, [&[reading(A, 100, 0.1)], committed, &[reading(A, 1_000, 1.0)]].concat());
    }
    // A newest value isn't sure while a newer one is about to be.
    let newest = [reading(A, 2_000, 2.0)];
    let doubt = bench.tier.doubt(&newest).await.unwrap();
    assert_eq!(bench.tier.newest(&[A]).await.unwrap().unsure, [A]);
    bench.tier.put_after(&newest, doubt).await.unwrap();
    assert_eq!(bench.tier.newest(&[A]).await.unwrap(), Newest { readings: newest.to_vec(), unsure: vec![] });
}

async fn what_nobody_came_back_for_stays_in_doubt(bench: Bench<impl HotTier>) {
    let (first, second) = ([reading(A, 500, 1.0)], [reading(A, 400, 2.0)]);
    let left = bench.tier.doubt(&first).await.unwrap();
    let doubt = bench.tier.doubt(&second).await.unwrap();
    bench.tier.put_after(&second, doubt.clone()).await.unwrap();
    assert_eq!(bench.tier.range(A, at(0), at(HOUR)).await.unwrap(), None, "the first is in doubt still");
    bench.tier.put_after(&first, left.clone()).await.unwrap();
    assert_eq!(bench.tier.range(A, at(0), at(HOUR)).await.unwrap(), Some(vec![second[0], first[0]]));
    // Who comes back late takes back nothing of others.
    let other = bench.tier.doubt(&first).await.unwrap();
    bench.tier.put_after(&[], doubt).await.unwrap();
    assert_eq!(bench.tier.range(A, at(0), at(HOUR)).await.unwrap(), None);
    bench.tier.put_after(&[], other).await.unwrap();
}

async fn what_is_withdrawn_shows_nowhere_and_all_else_is_right(bench: Bench<impl HotTier>) {
    let good = [reading(A, 1_000, 1.0), reading(A, 2_000, 2.0), reading(B, 3_000, 3.0)];
    let refused = [reading(A, 2_500, 6.0), reading(A, 3_000, 6.0)];
    bench.tier.put(&[&good[..], &refused].concat()).await.unwrap();
    bench.tier.withdraw(&refused).await.unwrap();
    assert_eq!(bench.tier.latest(&[A, B]).await.unwrap(), good[1..]);
    let proved = bench.tier.range(A, at(0), at(HOUR)).await.unwrap();
    assert!(proved.as_deref().is_none_or(|found| *found == good[..2]), "{proved:?}");
    assert_eq!(bench.tier.range(B, at(0), at(HOUR)).await.unwrap(), Some(vec![good[2]]), "another series");
    // What is late is no newest value, or it isn't sure of that.
    bench.tier.put(&[reading(A, 1_500, 1.5)]).await.unwrap();
    let newest = bench.tier.newest(&[A]).await.unwrap();
    assert!(newest.readings == good[1..2] || newest.unsure == [A], "{newest:?}");
    bench.tier.put(&[reading(A, 4_000, 4.0)]).await.unwrap();
    assert_eq!(bench.tier.range(A, at(3_001), at(HOUR)).await.unwrap(), Some(vec![reading(A, 4_000, 4.0)]));
    let newest = bench.tier.newest(&[A, B]).await.unwrap();
    assert_eq!(newest, Newest { readings: vec![reading(A, 4_000, 4.0), good[2]], unsure: vec![] });
}

async fn what_is_withdrawn_leaves_what_it_had_won_against(bench: Bench<impl HotTier>) {
    let good = reading(A, 1_000, 1.0);
    let refused = StoredReading { held: Held { value: Some(6.0), quality: Quality::MANUAL, revision: 7 }, ..good };
    let stored = StoredReading { held: Held { value: Some(1.0), quality: Quality::MANUAL, revision: 1 }, ..good };
    bench.tier.put(&[good, refused, stored]).await.unwrap();
    bench.tier.withdraw(&[refused]).await.unwrap();
    let proved = bench.tier.range(A, at(0), at(HOUR)).await.unwrap();
    assert!(proved.as_ref().is_none_or(|found| *found == [stored]), "{proved:?}");
    let newest = bench.tier.newest(&[A]).await.unwrap();
    assert!(newest.readings == [stored] || newest.readings.is_empty() && newest.unsure == [A], "{newest:?}");
    // Once more, and of a series that it never heard of: nothing happens.
    bench.tier.withdraw(&[refused, reading(B, 1_000, 1.0)]).await.unwrap();
    assert_eq!(bench.tier.newest(&[A]).await.unwrap().readings, newest.readings);
}

async fn subscribers_see_stored_and_live_values(bench: Bench<impl HotTier>) {
    let mut feed = bench.tier.subscribe();
    bench.tier.put(&[reading(A, 0, 1.0)]).await.unwrap();
    bench.tier.put_live(&[reading(B, 0, 2.0)]).await.unwrap();
    assert_eq!(feed.recv().await.unwrap()[..], [reading(A, 0, 1.0)]);
    assert_eq!(feed.recv().await.unwrap()[..], [reading(B, 0, 2.0)]);
}

macro_rules! contract {
    ($make:expr; $($test:ident)*) => {
        $(#[tokio::test]
        async fn $test() {
            super::$test($make).await;
        })*
    };
}

macro_rules! whole_contract {
    ($make:expr) => {
        contract! { $make;
            readings_come_back_ascending_whatever_the_order
            conflicts_are_decided_by_the_rule
            latest_never_goes_back_in_time
            live_values_are_no_history
            what_was_before_it_is_never_claimed
            after_a_day_readings_go_and_nothing_older_is_claimed
            what_it_calls_complete_can_be_asked_for_a_moment_later
            what_passed_it_by_is_not_claimed
            a_newest_value_is_sure_only_when_nothing_newer_can_be_stored
            a_newest_value_that_came_since_its_start_is_sure_while_it_is_kept
            what_was_evicted_is_not_claimed
            what_is_about_to_be_committed_is_not_claimed_until_it_is_put
            what_nobody_came_back_for_stays_in_doubt
            what_is_withdrawn_shows_nowhere_and_all_else_is_right
            what_is_withdrawn_leaves_what_it_had_won_against
            subscribers_see_stored_and_live_values
        }
    };
}

mod memory {
    use super::*;
    use collector::tiers::hot::memory::MemoryHot;

    fn bench() -> Bench<MemoryHot> {
        let now = Arc::new(AtomicI64::new(START));
        let clock = now.clone();
        let tier = MemoryHot::new(Timestamp(START), 1_000, Arc::new(move || Timestamp(clock.load(Ordering::SeqCst))));
        Bench { tier, now, _service: None }
    }

    whole_contract!(bench());
}

mod redis {
    use super::*;
    use collector::tiers::hot::redis::RedisHot;
    use collector::tiers::hot::settings::HotSettings;

    async fn bench() -> Bench<RedisHot> {
        let service = services::redis::Redis::start().await;
        let now = Arc::new(AtomicI64::new(START));
        let clock = now.clone();
        let settings = HotSettings { readings_max: Some(1_000), ..service.settings() };
        let clock = Arc::new(move || Timestamp(clock.load(Ordering::SeqCst)));
        let tier = RedisHot::new(&settings, 600 * MICROS_PER_SECOND, clock).unwrap();
        // There is nothing to fill it with, so it has all; and that from START on.
        let seen = tier.look().await.unwrap();
        tier.fill(&seen, &[], &services::redis::Nothing).await.unwrap();
        tier.forget(Timestamp(START)).await.unwrap();
        Bench { tier, now, _service: Some(service) }
    }

    whole_contract!(bench().await);
}
