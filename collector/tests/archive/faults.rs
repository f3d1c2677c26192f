//! The archive says 'done', and isn't.

use crate::support::faulty::Lie;
use crate::support::until;
use crate::world::{FIRST, World};
use collector::etl::store::Status;
use collector::etl::{Job, JobError, Pace, Planned, Progress, Scheduler};
use collector::tiers::{ColdTier as _, Day};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What it says that it did; of a cleanup that was refused something it counts as an error.
async fn run(job: &dyn Job) -> String {
    match job.run(&Progress::default()).await {
        Ok(done) => done.detail,
        Err(JobError::Other(why)) => why,
        Err(error) => panic!("{error}"),
    }
}

/// A month in the archive that did something to it.
async fn with(lie: Option<Lie>) -> World {
    let mut world = World::new().await;
    world.store(0..30, 50).await;
    world.set_clock(30, 3);
    *world.faulty.lie.lock().unwrap() = lie;
    assert_eq!(run(&world.sync()).await, "30 days archived");
    *world.faulty.lie.lock().unwrap() = None;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_which_the_archive_lost_or_altered_rows_stays_and_is_archived_again() {
    for (lie, why) in [(Lie::Loses, "the archive has 149 rows"), (Lie::Alters, "the archive has 150 rows, hash ")] {
        let mut world = with(Some(lie)).await;
        let cleanup = world.cleanup(25);
        let said = run(&cleanup).await;
        assert!(said.starts_with("nothing left the warm tier; to be archived again, and not removed: 5: "), "{said}");
        assert!(said.contains(" (2024-10-04)"), "{said}");
        assert!(said.contains(why) && said.contains(" instead of 150 rows, hash "), "{said}");
        let alarm = world.alarm.why().unwrap();
        assert!(alarm.contains("2024-10-04") && alarm.contains(why), "{alarm}");
        assert_eq!(cleanup.followed_by(), Some("daily_sync"));
        world.warm_is_true(30).await;
        // It is repaired: those five, and no other.
        assert_eq!(run(&world.sync()).await, "5 days archived");
        world.archive_is_true(5).await;
        let said = run(&cleanup).await;
        assert!(said.starts_with("5 days left the warm tier, 750 readings"), "{said}");
        assert_eq!((world.alarm.why(), cleanup.followed_by()), (None, None));
        world.warm_is_true(30).await;
        world.store(30..31, 50).await;
        world.rollups_are_true(31).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_is_missing_or_damaged_stays_and_is_archived_again() {
    let world = with(None).await;
    let file = |day: i32| {
        let name = format!("day-{}.", Day(FIRST.0 + day));
        let all = std::fs::read_dir(world.folder.path().join("cold")).unwrap().map(|f| f.unwrap().path());
        all.into_iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&name)).unwrap()
    };
    std::fs::remove_file(file(1)).unwrap();
    let mut bytes = std::fs::read(file(3)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file(3), bytes).unwrap();
    let cleanup = world.cleanup(25);
    let said = run(&cleanup).await;
    assert!(said.starts_with("3 days left the warm tier, 450 readings"), "others go: {said}");
    assert!(said.contains("to be archived again, and not removed: 2: ") && said.contains("damaged"), "{said}");
    assert!(
        said.contains("the archive doesn't have it any more: 150 rows") && said.contains(" (2024-10-05)"),
        "{said}"
    );
    assert_eq!(run(&world.sync()).await, "2 days archived");
    world.archive_is_true(30).await;
    assert!(run(&cleanup).await.starts_with("2 days left"), "now they go, too");
    world.answers_are_true(30).await;
}

/// Someone wrote to the warm tier's tables by hand: no flush, so no version.
#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_was_altered_here_stays() {
    use sqlx::ConnectOptions as _;
    let world = with(None).await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(world.folder.path().join("warm.sqlite"));
    let mut connection = options.connect().await.unwrap();
    let sql = "UPDATE readings SET value = 77 WHERE series_id = ? AND ts = ?";
    let query = sqlx::query(sql).bind(world.series[0].id.0).bind(FIRST.start().0);
    assert_eq!(query.execute(&mut connection).await.unwrap().rows_affected(), 1);
    let cleanup = world.cleanup(29);
    let said = run(&cleanup).await;
    assert!(said.contains("to be archived again, and not removed: 1: 150 rows, hash "), "{said}");
    assert_eq!(run(&world.sync()).await, "1 day archived");
    assert!(run(&cleanup).await.starts_with("1 day left"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_away_is_a_failure_and_nothing_leaves() {
    let mut world = with(None).await;
    world.store(0..1, 60).await;
    world.faulty.away.store(true, Ordering::SeqCst);
    for job in [&world.sync() as &dyn Job, &world.cleanup(5)] {
        let error = job.run(&Progress::default()).await.unwrap_err();
        assert!(error.to_string().contains("not available"), "{error}");
        assert!(matches!(error, JobError::Tier(_) | JobError::Other(_)));
    }
    assert!(world.alarm.why().is_some());
    world.warm_is_true(30).await;
    world.faulty.away.store(false, Ordering::SeqCst);
    assert_eq!(run(&world.sync()).await, "1 day archived");
    assert_eq!(world.alarm.why(), None);
    world.archive_is_true(30).await;
    assert_eq!(world.faulty.days(Day::FIRST, Day::LAST).await.unwrap().len(), 30);
    world.warm.close().await;
}

/// Nobody has to start the repair.
#[tokio::test(flavor = "multi_thread")]
async fn what_cleanup_finds_is_repaired_at_once() {
    let world = with(Some(Lie::Loses)).await;
    let jobs: [Arc<dyn Job>; 2] = [Arc::new(world.cleanup(25)), Arc::new(world.sync())];
    let planned = jobs.map(|job| Planned { job, schedule: None }).to_vec();
    let now = world.now();
    let scheduler = Scheduler::new(world.warm.clone(), planned, "a".into(), Arc::new(move || now), Pace::default());
    scheduler.start("cleanup").await.unwrap();
    let repaired = async || {
        let runs = scheduler.runs(Some("daily_sync"), 1).await.unwrap();
        runs.first().is_some_and(|run| run.status == Status::Done)
    };
    assert!(until(repaired).await);
    let runs = scheduler.runs(None, 10).await.unwrap();
    let said: Vec<_> = runs.iter().map(|run| (run.job.as_str(), run.rows)).collect();
    assert_eq!(said, [("daily_sync", Some(750)), ("cleanup", Some(0))]);
    assert!(runs[1].detail.as_deref().unwrap().contains("the archive has 149 rows"), "it is written down: {runs:?}");
    world.archive_is_true(5).await;
}
