//! Jobs that are dropped wherever they wait, one step later each time: the next run goes on from there.

use crate::world::{FIRST, World, reading, refresh_all};
use collector::etl::ledger::{Leave, Raw};
use collector::etl::{Job, Progress};
use collector::tiers::Day;
use std::future::poll_fn;
use std::task::Poll;

const DAYS: i32 = 6;

/// Drops the work after it has waited so often.
async fn stopped<F: Future>(work: F, after: u32) -> Option<F::Output> {
    let mut work = std::pin::pin!(work);
    let mut left = after;
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// Runs a job, each time a few steps further, until it comes to its end; gives how often it was stopped, and how often a
/// day was leaving then.
async fn in_steps(world: &World, job: &dyn Job, step: u32) -> (u32, u32) {
    let (mut stops, mut leaving) = (0, 0);
    while stopped(job.run(&Progress::default()), stops * step).await.transpose().unwrap().is_none() {
        let days = world.warm.days().days(FIRST, Day(FIRST.0 + DAYS)).await.unwrap();
        leaving += u32::from(days.iter().any(|day| day.raw == Raw::Leaving));
        stops += 1;
    }
    (stops, leaving)
}

/// Lets a day leave and removes nothing: as a crash between the two leaves it, which stops hit by luck only.
async fn begin_to_leave(world: &World, day: i32) {
    refresh_all(&*world.warm).await;
    let days = world.warm.days();
    let entry = days.days(Day(FIRST.0 + day), Day(FIRST.0 + day + 1)).await.unwrap()[0];
    assert_eq!(days.leave(entry.day, entry.version).await.unwrap(), Leave::Yes);
}

#[tokio::test]
async fn wherever_it_is_stopped_it_goes_on_from_there() {
    let mut world = World::new().await;
    world.store(0..DAYS, 30).await;
    let (mut stops, mut leaving) = (0, 0);
    for round in 1..DAYS - 1 {
        world.set_clock(round + 1, 3);
        // One day more is closed, another one has changed, which left in the round before.
        let late = reading(&world.series[0], (round - 3).max(0), 1 + i64::from(round), 1.0);
        world.put(&[late]).await;
        stops += in_steps(&world, &world.sync(), 25).await.0;
        if round == 3 {
            begin_to_leave(&world, round - 2).await;
        }
        let stopped = in_steps(&world, &world.cleanup(2), 2).await;
        (stops, leaving) = (stops + stopped.0, leaving + stopped.1);
    }
    assert!(leaving > 0 && stops > 10, "{leaving} times a day was leaving, {stops} stops");
    world.set_clock(DAYS, 3);
    world.sync().run(&Progress::default()).await.unwrap();
    world.cleanup(1).run(&Progress::default()).await.unwrap();
    world.archive_is_true(DAYS).await;
    world.warm_is_true(DAYS).await;
    world.rollups_are_true(DAYS).await;
    world.answers_are_true(DAYS).await;
    world.latest_is_true().await;
    println!("{stops} stops; {leaving} times a day was leaving");
}
