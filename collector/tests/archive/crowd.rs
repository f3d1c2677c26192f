//! Everything at a time: readings come, early and late, days are archived and leave, people ask, and two collectors
//! want to do the same work.

use crate::services::postgres::Postgres;
use crate::services::timescale::TimescaleServer;
use crate::world::{FIRST, HOUR, World, reading};
use collector::etl::{Job, Pace, Planned, Progress, RunRefused, Scheduler};
use collector::history::{Points, Question, Resolution};
use collector::tiers::warm::postgres::PostgresWarm;
use collector::tiers::{Day, Flush, StoredReading, WarmTier};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const DAYS: i32 = 6;

/// Late readings of series C, a few at a time, into all days.
fn late(world: &World, rounds: usize) -> Vec<Vec<StoredReading>> {
    let c = &world.series[2];
    let one = |round: usize, day: i32| reading(c, day, HOUR / 2 + 1 + round as i64 * 7_000_000, round as f64);
    (0..rounds).map(|round| (0..DAYS).map(|day| one(round, day)).collect()).collect()
}

async fn nothing_is_lost(mut world: World, rounds: usize) {
    world.store(0..DAYS, 48).await;
    world.set_clock(DAYS, 3);
    let batches = late(&world, rounds);
    let (stored, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let storing = tokio::spawn({
        let (warm, stored, batches, over) = (world.warm.clone(), stored.clone(), batches.clone(), over.clone());
        async move {
            for readings in batches {
                warm.commit(Flush { readings, ..Flush::default() }).await.unwrap();
                stored.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
            over.store(true, Ordering::SeqCst);
        }
    });
    let asking = tokio::spawn({
        let (history, c, now) = (world.history(), world.series[2].clone(), world.now());
        let (stored, over, first) = (stored.clone(), over.clone(), batches[0].clone());
        async move {
            let (from, to) = (FIRST.start(), Day(FIRST.0 + DAYS).start());
            let mut asked = 0;
            while !over.load(Ordering::SeqCst) {
                let before = stored.load(Ordering::SeqCst);
                let (resolution, points_max) = (Resolution::Raw, 10_000);
                let question = Question { series: c.clone(), from, to, resolution, points_max, thin: None, now };
                let answer = history.ask(&question).await.unwrap();
                assert!(answer.degraded.is_empty(), "{:?}", answer.degraded);
                let Points::Raw(points) = answer.points else { panic!("buckets") };
                assert!(points.windows(2).all(|pair| pair[0].at < pair[1].at), "in order, once");
                // All that was stored when it was asked.
                let least = 48 * DAYS as usize + before * DAYS as usize;
                assert!(points.len() >= least, "{} readings of at least {least}", points.len());
                asked += 1;
            }
            assert!(first.len() == DAYS as usize && asked > 0);
        }
    });
    let (sync, cleanup) = (world.sync(), world.cleanup(0));
    let mut runs = 0;
    while !over.load(Ordering::SeqCst) || runs < 2 {
        let (synced, cleaned) = tokio::join!(async { sync.run(&Progress::default()).await }, async {
            cleanup.run(&Progress::default()).await
        });
        // What comes while it is read makes an export a failure at most, never a loss.
        synced.unwrap();
        cleaned.unwrap();
        runs += 1;
    }
    storing.await.unwrap();
    asking.await.unwrap();
    for readings in &batches {
        crate::world::learn(&mut world.truth, readings);
    }
    for _ in 0..2 {
        sync.run(&Progress::default()).await.unwrap();
        cleanup.run(&Progress::default()).await.unwrap();
    }
    assert_eq!(world.alarm.why(), None);
    assert_eq!(world.faulty.twice.load(Ordering::SeqCst), 0, "no day was written twice at a time");
    world.archive_is_true(DAYS).await;
    world.warm_is_true(DAYS).await;
    assert_eq!(world.warm.complete_from().await.unwrap(), Day(FIRST.0 + DAYS).start(), "all days have left");
    world.rollups_are_true(DAYS).await;
    world.answers_are_true(DAYS).await;
    world.latest_is_true().await;
    world.warm.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_on_sqlite() {
    nothing_is_lost(World::new().await, 150).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_on_postgresql() {
    let server = Postgres::start().await;
    let warm = PostgresWarm::open(&server.database().await).await.unwrap();
    nothing_is_lost(World::on(Arc::new(warm), tempfile::tempdir().unwrap()).await, 150).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_on_timescaledb() {
    let server = TimescaleServer::start();
    let warm = PostgresWarm::open(&server.schema()).await.unwrap();
    nothing_is_lost(World::on(Arc::new(warm), tempfile::tempdir().unwrap()).await, 20).await;
}

/// Both collectors are told to archive, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn two_collectors_never_archive_a_day_twice_at_a_time() {
    let server = Postgres::start().await;
    let warm: Arc<dyn WarmTier> = Arc::new(PostgresWarm::open(&server.database().await).await.unwrap());
    let mut world = World::on(warm.clone(), tempfile::tempdir().unwrap()).await;
    world.store(0..DAYS, 48).await;
    world.set_clock(DAYS, 3);
    let scheduler = |owner: &str| {
        let planned = vec![Planned { job: Arc::new(world.sync()), schedule: None }];
        let now = world.now();
        Scheduler::new(warm.clone(), planned, owner.into(), Arc::new(move || now), Pace::default())
    };
    let two = [scheduler("a"), scheduler("b")];
    let (mut begun, mut refused) = (0, 0);
    for round in 0..60 {
        let late = reading(&world.series[0], round % DAYS, 1 + i64::from(round), 1.0);
        world.put(&[late]).await;
        for scheduler in &two {
            match scheduler.start("daily_sync").await {
                Ok(_) => begun += 1,
                Err(RunRefused::Running(_)) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(begun > 0 && refused > 0, "{begun} {refused}");
    let idle = async || {
        let runs = warm.jobs().runs(Some("daily_sync"), 1).await.unwrap();
        runs[0].status != collector::etl::store::Status::Running
    };
    assert!(crate::support::until(idle).await);
    world.sync().run(&Progress::default()).await.unwrap();
    assert_eq!(world.faulty.twice.load(Ordering::SeqCst), 0);
    world.archive_is_true(DAYS).await;
}
