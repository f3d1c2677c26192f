//! A gateway comes back after three weeks, and one after a hundred days.

use crate::world::{HOUR, World, reading};
use collector::etl::{Job, Progress};
use collector::history::{Points, Question, Resolution, Width};
use collector::tiers::hot::days::{DayCache, MemoryDays};
use collector::tiers::{Day, Flush, StoredReading};
use shared::reading::Timestamp;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::support::faulty::faulty;
use crate::world::{FIRST, learn};
use collector::history::{History, POINTS_MAX};
use collector::run::Tiers;
use collector::tiers::hot::memory::MemoryHot;

/// What was kept for a while of a day of series C, and a correction of one that was there.
fn kept(world: &World, day: i32) -> Vec<StoredReading> {
    let c = &world.series[2];
    let mut kept: Vec<_> =
        (0..500).map(|n| reading(c, day, 7 * HOUR + n * 30_000_000, f64::from(day) * 10.0)).collect();
    let mut correction = reading(&world.series[0], day, 0, -1.0);
    correction.held.revision = 1;
    kept.push(correction);
    kept
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_right_after_three_weeks_and_after_a_hundred_days() {
    let mut world = World::new().await;
    world.store(0..120, 48).await;
    world.set_clock(120, 3);
    world.sync().run(&Progress::default()).await.unwrap();
    world.cleanup(90).run(&Progress::default()).await.unwrap();
    let cache = Arc::new(DayCache::new(Arc::new(MemoryDays::default())));
    let history = world.history().with_days(Some(cache.clone()));
    let ask = async |world: &World, day: i32| {
        let (from, to) = (Day(FIRST.0 + day).start(), Day(FIRST.0 + day).end());
        let resolution = Resolution::Buckets(Width::Hour);
        let series = world.series[2].clone();
        let question = Question { series, from, to, resolution, points_max: 100, thin: None, now: world.now() };
        let answer = history.ask(&question).await.unwrap();
        assert!(answer.degraded.is_empty(), "{:?}", answer.degraded);
        let Points::Buckets(_, points) = answer.points else { panic!("readings") };
        let count: u64 = points.iter().filter_map(|point| point.rollup).map(|rollup| rollup.count()).sum();
        let largest = points.iter().filter_map(|point| point.rollup?.usable).map(|u| u.max).fold(f64::MIN, f64::max);
        (count, largest, answer.recomputed)
    };
    let reported = async |world: &World, day: i32| {
        world.reports().run(&Progress::default()).await.unwrap();
        let reports = world.warm.quality(Some(&Day(FIRST.0 + day).to_string())).await.unwrap();
        let quality = reports.iter().find(|report| report.series == world.series[2].id).unwrap().quality;
        u64::from(quality.good + quality.bad)
    };
    for (day, has_left) in [(99, false), (20, true)] {
        assert_eq!(reported(&world, day).await, 48);
        // It is asked for before, so that it is in the cache.
        let before = f64::from(day) + 1.5;
        assert_eq!(ask(&world, day).await, (48, before, 0));
        let readings = kept(&world, day);
        // As the flusher does it.
        let touched = cache.begin(&readings, world.now()).await;
        world.warm.commit(Flush { readings: readings.clone(), ..Flush::default() }).await.unwrap();
        cache.end(&touched).await;
        learn(&mut world.truth, &readings);
        let after = f64::from(day) * 10.0;
        let (count, largest, recomputed) = ask(&world, day).await;
        assert_eq!((count, largest), (48 + 500 - 9, after), "some are of moments that were there");
        assert!(recomputed > 0, "from readings, of both tiers");
        world.answers_are_true(120).await;
        world.latest_is_true().await;

        let written = world.faulty.written.load(Ordering::SeqCst);
        let done = world.sync().run(&Progress::default()).await.unwrap();
        let words = if has_left {
            "no day has changed; late readings merged into 1 day that had left"
        } else {
            "1 day archived"
        };
        assert!(done.detail.starts_with(words), "{}", done.detail);
        if has_left {
            assert_eq!(done.rows, 501, "what came, and no more");
        }
        assert_eq!(world.faulty.written.load(Ordering::SeqCst), written + 1, "one day, once");
        world.archive_is_true(120).await;
        world.warm_is_true(120).await;
        world.rollups_are_true(120).await;
        world.answers_are_true(120).await;
        world.latest_is_true().await;
        assert_eq!(ask(&world, day).await, (count, largest, 0));
        assert_eq!(ask(&world, day).await, (count, largest, 0), "from the cache");
        assert_eq!(reported(&world, day).await, count, "wherever its readings are");
    }
    // And a station that was silent since: its newest reading has left long ago.
    let mut silent = reading(&world.series[2], 119, 23 * HOUR + 1, 1.0);
    silent.at = Timestamp(silent.at.0 + 1);
    world.put(&[silent, reading(&world.series[0], 299, 0, 1.0)]).await;
    world.set_clock(300, 3);
    world.sync().run(&Progress::default()).await.unwrap();
    let done = world.cleanup(90).run(&Progress::default()).await.unwrap();
    assert!(done.detail.starts_with("90 days left"), "{}", done.detail);
    world.latest_is_true().await;
    world.answers_are_true(120).await;
}

/// Days leave at the worst moment: when a question is under way.
#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_while_it_is_asked_for_is_found() {
    let mut world = World::new().await;
    world.store(0..10, 48).await;
    world.set_clock(10, 3);
    world.sync().run(&Progress::default()).await.unwrap();
    let hot = Arc::new(MemoryHot::new(Day::LAST.start(), 1_000, Arc::new(Timestamp::wall_clock)));
    let tiers = Tiers { warm: world.warm.clone(), hot, redis: None, cold: world.cold.clone(), sql: None };
    let (tiers, warm, _) = faulty(tiers);
    let history = History::new(tiers.warm, tiers.hot).with_cold(tiers.cold);
    for keep_days in [6, 3] {
        let cleanup = world.cleanup(keep_days);
        let leaves = async move { drop(cleanup.run(&Progress::default()).await.unwrap()) };
        *warm.before_range.lock().unwrap() = Some(Box::pin(leaves));
        let (series, now) = (world.series[1].clone(), world.now());
        let (from, to, resolution) = (FIRST.start(), Day(FIRST.0 + 10).start(), Resolution::Raw);
        let question = Question { series, from, to, resolution, points_max: POINTS_MAX, thin: None, now };
        let answer = history.ask(&question).await.unwrap();
        assert!(answer.degraded.is_empty(), "{:?}", answer.degraded);
        let Points::Raw(points) = answer.points else { panic!("buckets") };
        assert_eq!(points.len(), 480, "{keep_days} days are kept");
    }
}
