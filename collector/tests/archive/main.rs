//! Days on their way into the archive and out of the warm tier: whatever comes when, and whatever is killed or lies,
//! no reading is lost, and rollups, cache, 'latest' and archive are right afterwards.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../services/mod.rs"]
mod services;
#[path = "../support/mod.rs"]
mod support;

mod crowd;
mod damaged;
mod faults;
mod hangs;
mod kill;
mod late;
mod lost;
mod older;
mod stops;
mod world;

use collector::etl::{Job, Progress};
use collector::tiers::Day;
use world::{FIRST, World};

#[tokio::test(flavor = "multi_thread")]
async fn closed_days_are_archived_and_old_ones_leave() {
    let mut world = World::new().await;
    world.store(0..40, 144).await;
    // An hour after the end of the last but one.
    world.set_clock(39, 1);
    let (progress, sync) = (Progress::default(), world.sync());
    let done = sync.run(&progress).await.unwrap();
    let words = "38 days archived; 28 files put together";
    assert_eq!((done.rows, done.detail.as_str()), (38 * 3 * 144, words), "the 39th isn't closed yet");
    assert_eq!((progress.now(), progress.rows_now()), ((38, 38), done.rows));
    world.set_clock(39, 2);
    assert_eq!(sync.run(&Progress::default()).await.unwrap().detail, "1 day archived");
    assert_eq!(sync.run(&Progress::default()).await.unwrap().detail, "no day has changed");
    world.archive_is_true(39).await;

    let cleanup = world.cleanup(10);
    let done = cleanup.run(&progress).await.unwrap();
    let words = "29 days left the warm tier, 12528 readings (2024-10-04 to 2024-11-01)";
    assert_eq!((done.rows, done.detail.as_str()), (29 * 3 * 144, words));
    assert_eq!(cleanup.followed_by(), None);
    assert_eq!(world.warm.complete_from().await.unwrap(), Day(FIRST.0 + 29).start());
    world.warm_is_true(40).await;
    world.rollups_are_true(40).await;
    world.answers_are_true(40).await;
    let done = cleanup.run(&progress).await.unwrap();
    assert_eq!(done.detail, "nothing left the warm tier");
}

/// Without a clock of its own a machine may start in another year, until somebody tells it the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_ahead_lets_nothing_leave_that_is_young() {
    let mut world = World::new().await;
    world.store(0..20, 50).await;
    world.set_clock(400, 3);
    lost::run(&world.sync()).await.unwrap();
    let left = lost::run(&world.cleanup(10)).await.unwrap();
    assert!(left.starts_with("10 days left the warm tier"), "{left}");
    world.store(20..21, 50).await;
    let left = lost::run(&world.cleanup(10)).await.unwrap();
    assert!(left.starts_with("1 day left the warm tier"), "{left}");
    world.answers_are_true(21).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_archive_nothing_is_exported_and_nothing_leaves() {
    let mut world = World::new().await;
    world.store(0..20, 10).await;
    world.set_clock(30, 3);
    world.cold = None;
    for job in [&world.sync() as &dyn Job, &world.cleanup(5)] {
        let done = job.run(&Progress::default()).await.unwrap();
        assert!(done.rows == 0 && done.detail.starts_with("there is no archive ([cold])"), "{done:?}");
    }
    world.warm_is_true(20).await;
}

/// What an archive held before this warm tier knew of it stays in it.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_archive_has_from_elsewhere_stays() {
    let mut world = World::new().await;
    world.store(0..2, 50).await;
    let older = world::some(&world.series, 0..2, 50);
    world.set_clock(2, 3);
    world.sync().run(&Progress::default()).await.unwrap();
    // Another warm tier, with the same series; of the first day it gets other readings.
    world.replace_warm().await;
    world.truth.clear();
    world.store(0..1, 144).await;
    world.sync().run(&Progress::default()).await.unwrap();
    world::learn(&mut world.truth, &older);
    world.archive_is_true(2).await;
    let done = world.cleanup(0).run(&Progress::default()).await.unwrap();
    assert!(done.detail.starts_with("1 day left"), "{}", done.detail);
    world.archive_is_true(2).await;
}
