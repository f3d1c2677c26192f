//! kill -9 at random moments of export and cleanup, of who does it or of the database, over a month into which readings come
//! late: in the end the archive is the truth row by row, the warm tier holds exactly what it should, and rollups are those of
//! the readings.
//!
//! `ARCHIVE_KILL_ROUNDS=500 cargo test -p collector --test archive kill` for more rounds, `ARCHIVE_KILL_SEED` for
//! another fate.

use crate::services::postgres::{Postgres, settings};
use crate::support::{until as until_so, within};
use crate::world::{FIRST, HOUR, World, open_cold, open_warm, reading, refresh_all, some};
use collector::etl::jobs::cleanup::Cleanup;
use collector::etl::jobs::daily_sync::DailySync;
use collector::etl::{Job, Progress};
use collector::tiers::warm::postgres::PostgresWarm;
use collector::tiers::{ColdTier, Day};
use shared::reading::Timestamp;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const FOLDER: &str = "ARCHIVE_WORKER_FOLDER";
const DAY: &str = "ARCHIVE_WORKER_DAY";
/// PostgreSQL's, when it isn't SQLite.
const PORT: &str = "ARCHIVE_WORKER_PORT";
/// Which job is first.
const TURN: &str = "ARCHIVE_WORKER_TURN";
const DATABASE: &str = "postgres";
const ROUNDS: u64 = 50;
/// A month.
const DAYS: i32 = 31;
/// Days that readings stay in the warm tier.
const KEPT: u32 = 10;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What is killed: this same test, run with a folder to work on, again and again until it is over.
#[tokio::test(flavor = "multi_thread")]
async fn worker_that_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let now = Day(FIRST.0 + number(DAY, 0) as i32).start().plus_micros(3 * HOUR);
    let now: Arc<dyn Fn() -> Timestamp + Send + Sync> = Arc::new(move || now);
    let folder = Path::new(&folder);
    let warm = match number(PORT, 0) {
        0 => open_warm(folder).await,
        port => Arc::new(PostgresWarm::open(&settings(port as u16, DATABASE)).await.unwrap()),
    };
    let cold = open_cold(folder);
    let cold: Option<Arc<dyn ColdTier>> = Some(cold);
    let sync =
        DailySync { warm: warm.clone(), cold: cold.clone(), inbox: None, now: now.clone(), alarm: Arc::default() };
    let cleanup = Cleanup::new(warm, cold, KEPT, now, Arc::default());
    let jobs = [&sync as &dyn Job, &cleanup];
    println!("\nat work");
    for turn in number(TURN, 0).. {
        // What is stored meanwhile by another process may keep SQLite busy; all else is a mistake.
        match jobs[turn as usize % 2].run(&Progress::default()).await {
            Ok(_) => {}
            Err(error) if error.to_string().contains("locked") => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Ends with us.
struct Worker(Child);

impl Worker {
    fn start(folder: &Path, day: i32, port: u16, turn: u64) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["kill::worker_that_is_killed", "--exact", "--nocapture"]);
        command.env(FOLDER, folder).env(DAY, day.to_string()).env(PORT, port.to_string());
        command.env(TURN, turn.to_string());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "at work"), "it has ended before its work began");
        Self(child)
    }

    fn kill(mut self) {
        if let Ok(Some(status)) = self.0.try_wait() {
            panic!("it has ended by itself: {status}");
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A plain generator (xorshift), so that a seed is a fate.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_when_nothing_is_lost_on_sqlite() {
    all_is_right_in_the_end(World::new().await, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_when_nothing_is_lost_on_postgresql() {
    let server = Postgres::start().await;
    let warm = Arc::new(PostgresWarm::open(&settings(server.port, DATABASE)).await.unwrap());
    all_is_right_in_the_end(World::on(warm, tempfile::tempdir().unwrap()).await, server.port).await;
}

async fn all_is_right_in_the_end(mut world: World, port: u16) {
    let (rounds, seed) = (number("ARCHIVE_KILL_ROUNDS", ROUNDS), number("ARCHIVE_KILL_SEED", 20_241_004));
    let mut dice = Dice(seed.max(1));
    let (mut stored, mut half_written, mut too_late) = (0, 0, 0);
    for round in 0..rounds {
        // The month goes on, and something comes late for days anywhere in it.
        let until = (DAYS * (round as i32 + 1) / rounds as i32).max(1);
        let readings = some(&world.series, stored..until, 200);
        world.put(&readings).await;
        stored = until;
        if round % 3 == 1 {
            // Nobody is in the way of this one, so that days have left when something comes for them.
            world.set_clock(until, 3);
            world.sync().run(&Progress::default()).await.unwrap();
            world.cleanup(KEPT).run(&Progress::default()).await.unwrap();
        }
        let left = world.warm.complete_from().await.unwrap();
        let worker = Worker::start(world.folder.path(), until, port, dice.roll(2));
        let stop = tokio::time::Instant::now() + Duration::from_millis(dice.roll(400));
        while tokio::time::Instant::now() < stop {
            let (series, day) = (&world.series[dice.roll(3) as usize].clone(), dice.roll(until as u64) as i32);
            let at = dice.roll(24 * 3_600) as i64 * 1_000_000 + 1;
            let late: Vec<_> = (0..40).map(|n| reading(series, day, at + n * 1_000, dice.roll(9) as f64)).collect();
            let late: Vec<_> = late.into_iter().filter(|r| Day(FIRST.0 + day).contains(r.at)).collect();
            too_late += u32::from(late[0].at < left);
            world.put(&late).await;
            tokio::time::sleep(Duration::from_millis(dice.roll(60))).await;
        }
        worker.kill();
        let aside = std::fs::read_dir(world.folder.path().join("cold/aside")).unwrap().count();
        half_written += u32::from(aside > 0);
    }
    println!(
        "{rounds} rounds, seed {seed}; killed while a day was written: {half_written}; late for days that had left: {too_late}"
    );
    assert!(too_late > 0);
    all_is_right(&mut world).await;
}

/// The jobs of a process that lives on.
#[tokio::test(flavor = "multi_thread")]
async fn whenever_postgresql_is_killed_jobs_say_so_and_the_next_run_goes_on() {
    let mut server = Postgres::start().await;
    let warm = Arc::new(PostgresWarm::open(&settings(server.port, DATABASE)).await.unwrap());
    let mut world = World::on(warm, tempfile::tempdir().unwrap()).await;
    let (rounds, seed) = (number("ARCHIVE_KILL_ROUNDS", 10), number("ARCHIVE_KILL_SEED", 20_241_004));
    let mut dice = Dice(seed.max(1));
    let (mut stored, mut failed) = (0, [0, 0]);
    for round in 0..rounds {
        let until = (DAYS * (round as i32 + 1) / rounds as i32).max(1);
        let mut readings = some(&world.series, stored..until, 200);
        let (series, day) = (&world.series[dice.roll(3) as usize], dice.roll(until as u64) as i32);
        readings.push(reading(series, day, dice.roll(24 * 3_600) as i64 * 1_000_000 + 1, dice.roll(9) as f64));
        world.put(&readings).await;
        refresh_all(&*world.warm).await; // cleanup would wait for that
        stored = until;
        world.set_clock(until, 3);
        let jobs = [Box::new(world.sync()) as Box<dyn Job>, Box::new(world.cleanup(KEPT))];
        let working = tokio::spawn(async move {
            let mut ended = Vec::new();
            for job in jobs {
                ended.push(job.run(&Progress::default()).await.map_err(|error| error.to_string()));
            }
            ended
        });
        // The first job takes some 30 ms, the second one longer.
        tokio::time::sleep(Duration::from_millis(dice.roll(if round % 2 == 0 { 40 } else { 300 }))).await;
        server.kill();
        server.restart().await;
        for (job, ended) in within(working).await.unwrap().into_iter().enumerate() {
            let Err(why) = ended else { continue };
            failed[job] += 1;
            assert!(why.contains("PostgreSQL"), "{why}");
        }
        let alarm = world.alarm.why().unwrap_or_default();
        assert!(alarm.is_empty() || alarm.contains("PostgreSQL"), "it says nothing about the archive: {alarm}");
        assert!(until_so(async || world.warm.complete_from().await.is_ok()).await, "it is back");
    }
    println!("{rounds} rounds, seed {seed}; daily_sync failed {}, cleanup {}", failed[0], failed[1]);
    assert!(failed[0] + failed[1] > 0, "it was never killed in the middle");
    all_is_right(&mut world).await;
    assert_eq!(world.alarm.why(), None);
}

async fn all_is_right(world: &mut World) {
    world.set_clock(DAYS, 3);
    for _ in 0..2 {
        world.sync().run(&Progress::default()).await.unwrap();
        let cleanup = world.cleanup(KEPT);
        let done = cleanup.run(&Progress::default()).await.unwrap();
        assert_eq!(cleanup.followed_by(), None, "{}", done.detail);
    }
    world.archive_is_true(DAYS).await;
    world.warm_is_true(DAYS).await;
    let left = Day(FIRST.0 + DAYS - KEPT as i32).start();
    assert_eq!(world.warm.complete_from().await.unwrap(), left, "what is older has left");
    world.rollups_are_true(DAYS).await;
    world.answers_are_true(DAYS).await;
    world.latest_is_true().await;
}
