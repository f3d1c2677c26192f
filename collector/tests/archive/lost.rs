//! The archive's folder isn't mounted, or some of its files are gone.

#![allow(unreachable_pub)] // of modules of a test

use crate::support::{Site, until};
use crate::world::{FIRST, World};
use collector::etl::ledger::{ArchivedDays, Raw};
use collector::etl::lost::Lost;
use collector::etl::{Job, Progress};
use collector::sql::{Sql, SqlError, SqlSettings};
use collector::tiers::warm::sqlite::SqliteWarm;
use collector::tiers::{ColdTier, Day, TierError, WarmTier};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub async fn run(job: &dyn Job) -> Result<String, String> {
    job.run(&Progress::default()).await.map(|done| done.detail).map_err(|error| error.to_string())
}

async fn missing(warm: &dyn WarmTier, cold: &dyn ColdTier) -> Result<Vec<Day>, TierError> {
    Ok(Lost::look(warm, cold).await?.missing)
}

async fn left(warm: &dyn WarmTier) -> Vec<Day> {
    let all = warm.days().days(Day::FIRST, Day::LAST.next()).await.unwrap();
    all.into_iter().filter(|entry| entry.raw != Raw::Here).map(|entry| entry.day).collect()
}

/// Over the world's archive, which must have these days.
fn sql<F>(world: &World, archived: impl Fn() -> F + Send + Sync + 'static) -> Sql
where
    F: Future<Output = ArchivedDays> + Send + 'static,
{
    let sql = Sql::new(crate::world::open_cold(world.folder.path()), SqlSettings::default()).unwrap();
    sql.expecting(Arc::new(move || Box::pin(archived())))
}

/// Thirty days, of which five have left.
pub async fn five_have_left(world: &mut World) {
    world.store(0..30, 50).await;
    world.set_clock(30, 3);
    run(&world.sync()).await.unwrap();
    run(&world.cleanup(25)).await.unwrap();
    assert_eq!(left(&*world.warm).await, (0..5).map(|day| Day(FIRST.0 + day)).collect::<Vec<_>>());
}

/// Moves files of the first days away; gives from where and to where.
fn take_away(world: &World, days: i32) -> Vec<(PathBuf, PathBuf)> {
    let (cold, away) = (world.folder.path().join("cold"), world.folder.path().join("away"));
    std::fs::create_dir_all(&away).unwrap();
    let is_of = |path: &Path, day: i32| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(&format!("day-{}.", Day(FIRST.0 + day)))
    };
    let files = std::fs::read_dir(cold).unwrap().map(|file| file.unwrap().path());
    let moved: Vec<_> = files
        .filter(|path| (0..days).any(|day| is_of(path, day)))
        .map(|path| (path.clone(), away.join(path.file_name().unwrap())))
        .collect();
    moved.iter().for_each(|(from, to)| std::fs::rename(from, to).unwrap());
    moved
}

/// They haven't left: SQL would have been wrong for years.
#[tokio::test(flavor = "multi_thread")]
async fn archived_days_that_are_lost_are_told_and_archived_again() {
    let mut world = World::new().await;
    world.store(0..30, 50).await;
    world.set_clock(30, 3);
    run(&world.sync()).await.unwrap();
    take_away(&world, 2);
    assert_eq!(missing(&*world.warm, &*world.faulty).await.unwrap(), [FIRST, FIRST.next()]);
    let archived = world.warm.days().archived().await.unwrap();
    let sql = sql(&world, move || std::future::ready(archived.clone()));
    assert!(sql.ask("SELECT count(*) FROM readings", None).await.is_err());
    assert_eq!(run(&world.sync()).await.unwrap(), "2 days archived");
    assert_eq!(missing(&*world.warm, &*world.faulty).await.unwrap(), []);
    let behind = sql.ask("SELECT count(*) FROM readings", None).await.unwrap().behind;
    assert_eq!(behind, []);
    world.archive_is_true(30).await;
}

/// Whoever looks at the archive alone must know what isn't in it yet.
#[tokio::test(flavor = "multi_thread")]
async fn days_of_which_something_came_late_are_named_by_sql() {
    let mut world = World::new().await;
    world.store(0..3, 50).await;
    world.set_clock(3, 3);
    run(&world.sync()).await.unwrap();
    let warm = world.warm.clone();
    let sql = sql(&world, move || {
        let warm = warm.clone();
        async move { warm.days().archived().await.unwrap() }
    });
    let behind = async || sql.ask("SELECT count(*) FROM readings", None).await.unwrap().behind;
    assert_eq!(behind().await, []);
    world.store(1..2, 60).await;
    assert_eq!(behind().await, [FIRST.next()]);
    run(&world.sync()).await.unwrap();
    assert_eq!(behind().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn days_that_are_gone_are_told_and_nothing_is_put_in_their_place() {
    let mut world = World::new().await;
    five_have_left(&mut world).await;
    let files = take_away(&world, 2);
    assert_eq!(missing(&*world.warm, &*world.faulty).await.unwrap(), [FIRST, FIRST.next()]);
    // What comes late for one of them stays in the database.
    world.store(0..1, 60).await;
    let said = run(&world.sync()).await.unwrap_err();
    let place = world.folder.path().join("cold").display().to_string();
    assert!(
        said.contains(&format!("{place} doesn't have 2 days")) && said.contains("(2024-10-04, 2024-10-05)"),
        "{said}"
    );
    assert!(said.contains("2024-10-04: ") && said.contains("it has left, and"), "{said}");
    assert_eq!(world.alarm.why().map(|why| why.contains("doesn't have 2 days")), Some(true));
    assert!(!world.faulty.has(FIRST).await.unwrap(), "nobody would miss the rest of it");
    // Whoever asks for these days is told; others are answered.
    let left = ArchivedDays { days: left(&*world.warm).await, behind: vec![FIRST] };
    let sql = sql(&world, move || std::future::ready(left.clone()));
    for text in ["SELECT count(*) FROM readings", "SELECT value FROM readings WHERE ts < '2024-10-05'"] {
        let refused = sql.ask(text, None).await.err();
        assert!(
            matches!(&refused, Some(SqlError::Tier(why)) if why.to_string().contains("doesn't have")),
            "{refused:?}"
        );
    }
    assert!(sql.ask("SELECT value FROM readings WHERE ts >= '2024-10-06'", None).await.is_ok());
    for (from, to) in files {
        std::fs::rename(to, from).unwrap();
    }
    assert_eq!(run(&world.sync()).await.unwrap(), "no day has changed; late readings merged into 1 day that had left");
    assert_eq!(world.alarm.why(), None);
    world.archive_is_true(30).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_not_mounted_is_known_from_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let cold = folder.path().join("cold");
    let site = Site::new(&[], |config| config.cold.folder = Some(cold.clone()));
    let warm: Arc<dyn WarmTier> = Arc::new(SqliteWarm::open(&site.config.warm_file()).await.unwrap());
    let mut world = World::on(warm, folder).await;
    five_have_left(&mut world).await;
    world.warm.close().await;
    std::fs::remove_dir_all(&cold).unwrap();
    let said = format!("{} doesn't have 30 days", cold.display());

    let config = site.write_config(&format!("[cold]\nfolder = '{}'\n", cold.display()));
    let arguments = ["sql", "SELECT count(*) FROM readings", "-c", config.to_str().unwrap()];
    let stopped = crate::support::process::collector(&arguments);
    let error = String::from_utf8(stopped.stderr).unwrap();
    assert!(!stopped.status.success() && error.contains(&said), "{error}");

    let collector = site.start().await;
    let told = until(async || {
        let health = collector.get("health").await;
        let troubles = health["troubles"].as_array().unwrap().clone();
        let archive = troubles.iter().find(|trouble| trouble["part"] == "archive");
        health["status"] == "degraded"
            && archive.is_some_and(|trouble| trouble["error"].as_str().unwrap().contains(&said))
    });
    assert!(told.await);
    let address = format!("http://{}/api/v1/sql", collector.api);
    let asked = tokio::task::spawn_blocking(move || ureq::post(address).send("SELECT count(*) FROM readings"));
    assert!(matches!(asked.await.unwrap(), Err(ureq::Error::StatusCode(503))));
    collector.stop().await;
}
