//! The archive's files are put back from a copy that is older than what was merged into them since.

use crate::lost::{five_have_left, run};
use crate::world::{FIRST, HOUR, World, reading};
use collector::etl::ledger::{DayEntry, Merge};
use collector::tiers::{ColdTier as _, StoredReading};
use futures::TryStreamExt as _;
use std::path::Path;

/// Puts the files of `from` beside those of `to`.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let files = std::fs::read_dir(from).unwrap().map(|file| file.unwrap().path()).filter(|path| path.is_file());
    for file in files {
        std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

/// A correction of the first day, and one that came late for it.
fn late(world: &World, minute: i64, value: f64) -> Vec<StoredReading> {
    let mut correction = reading(&world.series[0], 0, 0, value);
    correction.held.revision = minute as u32;
    vec![correction, reading(&world.series[2], 0, HOUR + minute, value)]
}

async fn first(world: &World) -> DayEntry {
    world.warm.days().days(FIRST, FIRST.next()).await.unwrap()[0]
}

async fn waiting(world: &World) -> u64 {
    let runs: Vec<_> = world.warm.days().rows(FIRST).try_collect().await.unwrap();
    runs.iter().map(|run| run.readings.len() as u64).sum()
}

async fn all_is_true(world: &World) {
    assert_eq!(world.alarm.why(), None);
    world.archive_is_true(30).await;
    world.warm_is_true(30).await;
    world.rollups_are_true(30).await;
    world.answers_are_true(30).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_merged_onto_an_older_copy() {
    let mut world = World::new().await;
    five_have_left(&mut world).await;
    let [cold, older, newest] = ["cold", "older", "newest"].map(|name| world.folder.path().join(name));
    copy(&cold, &older);
    world.put(&late(&world, 1, -1.0)).await;
    run(&world.sync()).await.unwrap();
    copy(&cold, &newest);
    let noted = first(&world).await;

    std::fs::remove_dir_all(&cold).unwrap();
    copy(&older, &cold);
    world.put(&late(&world, 2, -2.0)).await;
    let proof = world.faulty.proof(FIRST).await.unwrap();
    for _ in 0..2 {
        let said = run(&world.sync()).await.unwrap_err();
        let wanted = format!("2024-10-04: archive: what {} has of it isn't what was archived there", cold.display());
        assert!(said.contains(&wanted) && said.contains("(150 readings instead of 151)"), "{said}");
        assert!(said.contains("Put the newest one back"), "{said}");
        assert!(world.alarm.why().is_some_and(|why| why.contains("isn't what was archived")));
        assert_eq!((world.faulty.proof(FIRST).await.unwrap(), waiting(&world).await), (proof, 2));
        assert_eq!((first(&world).await.cold, first(&world).await.next), (noted.cold, noted.next));
    }
    // Other days go on.
    world.put(&[reading(&world.series[2], 1, HOUR + 1, 5.0)]).await;
    assert!(run(&world.sync()).await.unwrap_err().contains("late readings merged into 1 day"));

    copy(&newest, &cold);
    assert_eq!(run(&world.sync()).await.unwrap(), "no day has changed; late readings merged into 1 day that had left");
    all_is_true(&world).await;
}

/// In place, and not noted: more comes before it is begun again.
#[tokio::test(flavor = "multi_thread")]
async fn a_merge_that_was_stopped_before_it_was_noted_is_no_other_copy() {
    let mut world = World::new().await;
    five_have_left(&mut world).await;
    for minute in 1..3 {
        world.put(&late(&world, minute, -1.0)).await;
        let (entry, before) = (first(&world).await, world.faulty.proof(FIRST).await.unwrap().unwrap());
        let merged = world.faulty.merge_day(FIRST, world.warm.days().rows(FIRST)).await.unwrap();
        assert!(!entry.may_be(merged));
        let merge = Merge { day: FIRST, before: entry.exported, there: before, merged };
        assert!(world.warm.days().merging(merge).await.unwrap());
        let entry = first(&world).await;
        assert!(entry.is_dirty() && entry.may_be(before) && entry.may_be(merged));
    }
    world.put(&late(&world, 3, -3.0)).await;
    assert_eq!(run(&world.sync()).await.unwrap(), "no day has changed; late readings merged into 1 day that had left");
    all_is_true(&world).await;
    let entry = first(&world).await;
    assert_eq!((entry.cold, entry.next), (entry.next, world.faulty.proof(FIRST).await.unwrap()));
}
