//! The scheduler: what is kept of jobs is kept alike by every store, jobs run once whatever happens, and what they
//! did can be asked for.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

mod services;
mod support;

use collector::analytics::store::{State, Wanted};
use collector::anomalies::Anomalies;
use collector::etl::jobs::cache_refresh::{CacheRefresh, Fill};
use collector::etl::jobs::data_quality::{DataQuality, bounds};
use collector::etl::schedule::{Schedule, zone};
use collector::etl::store::{Finished, JobStore, Status, Why};
use collector::etl::{Job, JobError, Outcome, Pace, Planned, Progress, RunRefused, Scheduler};
use collector::tiers::hot::days::{DayCache, MemoryDays};
use collector::tiers::warm::postgres::PostgresWarm;
use collector::tiers::warm::sqlite::SqliteWarm;
use collector::tiers::{AuditWanted, Audited, Bucket, Flush, StoredReading, WarmTier};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use services::postgres::Postgres;
use shared::block::TimeBase;
use shared::ids::GatewayId;
use shared::reading::{Held, Quality, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use support::process::collector as program;
use support::{Client, PATIENCE, SECOND, Site, block, seqs, until, within};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

const DAY: i64 = 86_400 * SECOND;
const NEVER_SILENT: Duration = Duration::from_secs(3_600);

// --- what every store must do

/// That someone wants a job.
fn wanted() -> Audited {
    Audited { at: Timestamp(DAY), who: "rossi".into(), what: "job".into(), detail: json!({ "job": "other" }) }
}

async fn keeps_what_came_of_jobs(warm: &dyn WarmTier) {
    let store = warm.jobs();
    let (first, second) = (Timestamp(1_000 * DAY), Timestamp(1_001 * DAY));
    assert_eq!(store.marks().await.unwrap(), []);
    assert_eq!(store.begin("tidy", Why::Due(first), "a", None).await.unwrap(), None, "without a mark nothing is due");
    store.mark_new("tidy", Timestamp(0)).await.unwrap();
    store.mark_new("tidy", second).await.unwrap();
    assert_eq!(store.marks().await.unwrap(), [("tidy".to_owned(), Timestamp(0))], "the first mark stays");

    let run = store.begin("tidy", Why::Due(first), "a", None).await.unwrap().unwrap();
    assert_eq!(store.begin("tidy", Why::Due(second), "b", None).await.unwrap(), None, "one at a time");
    assert_eq!(store.marks().await.unwrap(), [("tidy".to_owned(), first)], "what didn't begin is still due");
    let hand = async |job| store.begin(job, Why::Hand, "b", Some(&wanted())).await.unwrap();
    assert_eq!(hand("tidy").await, None, "one at a time, by hand as well");
    let audit = async || {
        let all = warm.audit(&AuditWanted::all(10)).await.unwrap();
        all.into_iter().map(|(_, one)| one).collect::<Vec<_>>()
    };
    assert_eq!(audit().await, [], "nothing was done");
    assert!(hand("other").await.is_some(), "another job is another matter");
    assert_eq!(audit().await, [wanted()]);
    assert!(store.alive(run, 3, 10, 5).await.unwrap());
    let runs = store.runs(Some("tidy"), 10).await.unwrap();
    assert_eq!((runs.len(), runs[0].steps_done, runs[0].steps, runs[0].status), (1, 3, 10, Status::Running));
    assert_eq!(runs[0].rows, Some(5), "so far");
    assert_eq!((runs[0].due, runs[0].attempt, runs[0].owner.as_str()), (Some(first), 1, "a"));

    let done = Finished { status: Status::Done, rows: 7, detail: "tidied".into(), error: None };
    store.finish(run, done).await.unwrap();
    assert!(!store.alive(run, 4, 10, 6).await.unwrap(), "it is over");
    let runs = store.runs(Some("tidy"), 10).await.unwrap();
    assert_eq!((runs[0].status, runs[0].rows, runs[0].steps_done), (Status::Done, Some(7), 10));
    assert!(runs[0].finished_at >= Some(runs[0].started_at) && runs[0].detail.as_deref() == Some("tidied"));
    assert_eq!(store.begin("tidy", Why::Due(first), "b", None).await.unwrap(), None, "that was begun");

    let again = store.begin("tidy", Why::Again { due: Some(first), attempt: 2 }, "b", None).await.unwrap().unwrap();
    assert!(again > run);
    assert_eq!(store.bury(NEVER_SILENT).await.unwrap(), 0);
    assert_eq!(store.bury(Duration::ZERO).await.unwrap(), 2, "all that gave no sign since");
    let runs = store.runs(None, 10).await.unwrap();
    assert_eq!((runs[0].number, runs[0].status, runs[0].attempt), (again, Status::Interrupted, 2));
    let late = Finished { status: Status::Done, rows: 1, detail: String::new(), error: None };
    store.finish(again, late).await.unwrap();
    assert_eq!(store.runs(Some("tidy"), 1).await.unwrap()[0].status, Status::Interrupted, "buried is buried");
    assert_eq!(store.runs(None, 2).await.unwrap().len(), 2);

    store.mark_back("tidy", second).await.unwrap();
    assert_eq!(store.marks().await.unwrap(), [("tidy".to_owned(), first)], "back only");
    store.mark_back("tidy", Timestamp(0)).await.unwrap();
    assert!(store.begin("tidy", Why::Due(first), "b", None).await.unwrap().is_some(), "it is done again");
}

async fn one_leads_at_a_time(store: &dyn JobStore) {
    let long = Duration::from_secs(600);
    assert!(store.lead("a", long).await.unwrap());
    assert!(!store.lead("b", long).await.unwrap());
    assert!(store.lead("a", Duration::ZERO).await.unwrap(), "it is renewed, and ended");
    assert!(until(async || store.lead("b", long).await.unwrap()).await, "another takes over");
    assert!(!store.lead("a", long).await.unwrap());
    assert!(store.lead("b", long * 1_000).await.unwrap(), "by a clock that is ahead");
    let short = Duration::from_secs(50);
    assert!(store.lead("a", short).await.unwrap(), "it is right again");
    assert!(!store.lead("b", Duration::ZERO).await.unwrap(), "whoever stops ends no other's lead");
}

#[tokio::test]
async fn sqlite_keeps_what_came_of_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let warm = SqliteWarm::open(&folder.path().join("warm.sqlite")).await.unwrap();
    keeps_what_came_of_jobs(&warm).await;
    one_leads_at_a_time(warm.jobs()).await;
}

#[tokio::test]
async fn postgresql_keeps_what_came_of_jobs() {
    let server = Postgres::start().await;
    let settings = server.database().await;
    let warm = PostgresWarm::open(&settings).await.unwrap();
    keeps_what_came_of_jobs(&warm).await;
    one_leads_at_a_time(warm.jobs()).await;
    server.execute(&settings.database, "ALTER TABLE audit RENAME TO gone").await;
    assert!(warm.jobs().begin("third", Why::Hand, "a", Some(&wanted())).await.is_err());
    assert_eq!(warm.jobs().runs(Some("third"), 1).await.unwrap(), [], "what can't be noted doesn't begin");
}

// --- two collectors

/// A job that counts how often it is at work at a time, and ends when it may.
struct Counting {
    at_work: AtomicU64,
    most: AtomicU64,
    runs: AtomicU64,
    may_end: Semaphore,
}

impl Counting {
    fn new() -> Arc<Self> {
        let zero = AtomicU64::default;
        Arc::new(Self { at_work: zero(), most: zero(), runs: zero(), may_end: Semaphore::new(0) })
    }
}

/// Says when the work is over, however it ends.
struct AtWork<'a>(&'a AtomicU64);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Shared(Arc<Counting>);

impl Job for Shared {
    fn name(&self) -> &'static str {
        "counting"
    }
    fn what(&self) -> &'static str {
        "counts"
    }
    fn limit(&self) -> Duration {
        Duration::from_secs(60)
    }
    fn run<'a>(&'a self, progress: &'a Progress) -> BoxFuture<'a, Result<Outcome, JobError>> {
        Box::pin(async move {
            progress.of(1);
            self.0.runs.fetch_add(1, Ordering::SeqCst);
            let now = self.0.at_work.fetch_add(1, Ordering::SeqCst) + 1;
            let _at_work = AtWork(&self.0.at_work);
            self.0.most.fetch_max(now, Ordering::SeqCst);
            self.0.may_end.acquire().await.unwrap().forget();
            progress.step();
            Ok(Outcome { rows: 1, detail: "counted".into() })
        })
    }
}

struct Two {
    job: Arc<Counting>,
    clock: Arc<AtomicI64>,
    warm: Arc<dyn WarmTier>,
    schedulers: Vec<(Arc<Scheduler>, CancellationToken, tokio::task::JoinHandle<()>)>,
}

/// Two collectors on one store, whose clock the test turns; the job is due every hour.
fn two(warm: Arc<dyn WarmTier>, silent: Duration) -> Two {
    let (job, clock) = (Counting::new(), Arc::new(AtomicI64::new(1_000 * DAY + SECOND)));
    let pace = Pace {
        tick: Duration::from_millis(20),
        term: Duration::from_millis(200),
        sign: Duration::from_millis(50),
        silent,
    };
    let start = |owner: &str| {
        let hands = clock.clone();
        let schedule = Schedule::parse("0 * * * *", zone("Europe/Rome").unwrap()).unwrap();
        let planned = vec![Planned { job: Arc::new(Shared(job.clone())), schedule: Some(schedule) }];
        let now = Arc::new(move || Timestamp(hands.load(Ordering::SeqCst)));
        let (scheduler, stop) =
            (Scheduler::new(warm.clone(), planned, owner.into(), now, pace), CancellationToken::new());
        let task = tokio::spawn(scheduler.clone().run(stop.clone()));
        (scheduler, stop, task)
    };
    let schedulers = vec![start("a"), start("b")];
    Two { job, clock, warm, schedulers }
}

impl Two {
    async fn marked(&self) {
        assert!(until(async || !self.warm.jobs().marks().await.unwrap().is_empty()).await, "nobody leads");
    }
    async fn runs(&self, count: u64) {
        let begun = until(async || self.job.runs.load(Ordering::SeqCst) == count).await;
        assert!(begun, "{} runs, not {count}", self.job.runs.load(Ordering::SeqCst));
    }
    async fn ended(&self, status: Status) {
        let ended = until(async || self.warm.jobs().runs(None, 1).await.unwrap()[0].status == status).await;
        assert!(ended, "{:?}", self.warm.jobs().runs(None, 1).await);
    }
}

async fn two_collectors_do_everything_once(warm: Arc<dyn WarmTier>) {
    let two = two(warm, NEVER_SILENT);
    two.marked().await;
    for hour in 1..=5 {
        two.clock.fetch_add(3_600 * SECOND, Ordering::SeqCst);
        two.runs(hour).await;
        let refused = two.schedulers[hour as usize % 2].0.start("counting").await.unwrap_err();
        assert!(matches!(refused, RunRefused::Running("counting")), "{refused}");
        two.job.may_end.add_permits(1);
        two.ended(Status::Done).await;
    }
    two.clock.fetch_add(48 * 3_600 * SECOND, Ordering::SeqCst);
    two.job.may_end.add_permits(100);
    two.runs(6).await;
    two.ended(Status::Done).await;
    two.schedulers[1].0.start("counting").await.unwrap();
    two.runs(7).await;
    two.ended(Status::Done).await;
    let runs = two.warm.jobs().runs(None, 100).await.unwrap();
    assert_eq!(runs.len(), 7, "two days that were missed are caught up by one run: {runs:?}");
    assert_eq!(two.job.most.load(Ordering::SeqCst), 1, "never two at a time");
    assert!(runs.iter().all(|run| run.attempt == 1 && run.rows == Some(1)));
    assert_eq!(runs.iter().filter(|run| run.due.is_none()).count(), 1, "one was started by hand");
    let unknown = two.schedulers[0].0.start("countign").await.unwrap_err().to_string();
    assert_eq!(unknown, "there is no job 'countign'; there are counting");
    for (_, stop, task) in two.schedulers {
        stop.cancel();
        within(task).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_collectors_on_one_postgresql_do_everything_once() {
    let server = Postgres::start().await;
    two_collectors_do_everything_once(Arc::new(PostgresWarm::open(&server.database().await).await.unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schedulers_on_one_file_do_everything_once() {
    let folder = tempfile::tempdir().unwrap();
    let warm = SqliteWarm::open(&folder.path().join("warm.sqlite")).await.unwrap();
    two_collectors_do_everything_once(Arc::new(warm)).await;
}

/// The one that is at work is stopped dead: nothing of it runs any more, and it says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn when_the_leader_dies_another_takes_over_and_begins_again_what_it_did() {
    let server = Postgres::start().await;
    let warm = Arc::new(PostgresWarm::open(&server.database().await).await.unwrap());
    let dying = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let second = warm.clone();
    let (two, leader) = {
        let mut two = dying.spawn(async move { two(second, Duration::from_millis(400)) }).await.unwrap();
        two.marked().await;
        // Which of them leads is left to chance: both die, and a third takes over.
        let (job, clock) = (two.job.clone(), two.clock.clone());
        clock.fetch_add(3_600 * SECOND, Ordering::SeqCst);
        two.runs(1).await;
        let leader = two.warm.jobs().runs(None, 1).await.unwrap().remove(0);
        assert_eq!((leader.status, leader.due.is_some()), (Status::Running, true));
        two.schedulers.clear();
        assert_eq!(job.at_work.load(Ordering::SeqCst), 1);
        (two, leader)
    };
    tokio::task::spawn_blocking(move || dying.shutdown_timeout(PATIENCE)).await.unwrap();
    let survivors = self::two(warm.clone(), Duration::from_millis(400));
    survivors.clock.store(two.clock.load(Ordering::SeqCst), Ordering::SeqCst);
    survivors.runs(1).await;
    let runs = warm.jobs().runs(None, 10).await.unwrap();
    assert_eq!((runs[1].number, runs[1].status), (leader.number, Status::Interrupted), "{runs:?}");
    assert_eq!((runs[0].due, runs[0].attempt), (leader.due, 2), "{runs:?}");
    survivors.job.may_end.add_permits(1);
    survivors.ended(Status::Done).await;
}

/// A run that can't say any more that it lives must be over before another one may be begun.
#[tokio::test(flavor = "multi_thread")]
async fn when_the_database_dies_a_run_ends_and_is_begun_again_when_that_is_back() {
    let mut server = Postgres::start().await;
    let warm = Arc::new(PostgresWarm::open(&server.database().await).await.unwrap());
    let two = two(warm.clone(), Duration::from_millis(400));
    two.marked().await;
    for (n, run) in [1, 3, 5].into_iter().enumerate() {
        two.clock.fetch_add(3_600 * SECOND, Ordering::SeqCst);
        two.runs(run).await;
        server.kill();
        assert!(until(async || two.job.at_work.load(Ordering::SeqCst) == 0).await, "it ends itself");
        server.restart().await;
        two.runs(run + 1).await;
        two.job.may_end.add_permits(1);
        two.ended(Status::Done).await;
        let runs = warm.jobs().runs(None, 10).await.unwrap();
        assert_eq!((runs.len(), runs[1].status), (2 * (n + 1), Status::Interrupted), "{runs:?}");
        assert_eq!((runs[0].due, runs[0].attempt), (runs[1].due, 2), "{runs:?}");
    }
    assert_eq!(two.job.most.load(Ordering::SeqCst), 1, "never two at a time");
}

/// A job that panics, fails, or takes too long is a run that says so, and nothing else is touched.
#[tokio::test]
async fn a_job_that_panics_or_fails_says_so() {
    struct Bad(&'static str);
    impl Job for Bad {
        fn name(&self) -> &'static str {
            self.0
        }
        fn what(&self) -> &'static str {
            "goes wrong"
        }
        fn limit(&self) -> Duration {
            Duration::from_millis(50)
        }
        fn run<'a>(&'a self, _: &'a Progress) -> BoxFuture<'a, Result<Outcome, JobError>> {
            Box::pin(async move {
                match self.0 {
                    "panics" => panic!("on purpose"),
                    "fails" => Err(JobError::Other("no room".into())),
                    _ => std::future::pending().await,
                }
            })
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let warm: Arc<dyn WarmTier> = Arc::new(SqliteWarm::open(&folder.path().join("warm.sqlite")).await.unwrap());
    let planned = ["panics", "fails", "hangs"].map(|name| Planned { job: Arc::new(Bad(name)), schedule: None });
    let scheduler =
        Scheduler::new(warm.clone(), planned.to_vec(), "a".into(), Arc::new(Timestamp::wall_clock), Pace::default());
    for (name, error) in
        [("panics", "a mistake in the program"), ("fails", "no room"), ("hangs", "not done within 50ms")]
    {
        scheduler.start(name).await.unwrap();
        let ended = async || warm.jobs().runs(Some(name), 1).await.unwrap()[0].status == Status::Failed;
        assert!(until(ended).await, "{name}");
        let run = warm.jobs().runs(Some(name), 1).await.unwrap().remove(0);
        assert!(run.error.as_deref().unwrap().contains(error), "{run:?}");
    }
}

// --- the whole way

#[tokio::test(flavor = "multi_thread")]
async fn a_report_on_the_quality_of_data_is_made_by_hand_and_served() {
    let site = Site::new(&["STATION_7"], |_| {});
    let collector = site.start().await;
    let (mut client, catalogue) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    // Yesterday in Rome, an hour of it, once a second.
    let rome = zone("Europe/Rome").unwrap();
    let yesterday = jiff::Zoned::now().with_time_zone(rome.clone()).date().yesterday().unwrap();
    let yesterday = bounds(yesterday, &rome).unwrap().0.plus_micros(10 * 3_600 * SECOND);
    let readings: Vec<_> = (0..3_600).map(|n| (0, yesterday.0 + n * SECOND, 3.0 + (n % 2) as f64)).collect();
    for (seq, some) in readings.chunks(200).enumerate() {
        client.block(seq as u64 + 1, block(catalogue, TimeBase::Utc, some)).await;
    }
    client.wait_committed(seqs(1..=18)).await;
    // Through the program, as a person does it.
    let api = collector.api.to_string();
    let config = site.folder.path().join("cli.toml");
    std::fs::write(&config, format!("[api]\nlisten = '{api}'\n")).unwrap();
    let config = config.to_str().unwrap().to_owned();
    let jobs = move |words: &[&str]| {
        let all: Vec<String> =
            ["jobs"].iter().chain(words).map(|w| (*w).to_owned()).chain(["-c".into(), config.clone()]).collect();
        tokio::task::spawn_blocking(move || program(&all.iter().map(String::as_str).collect::<Vec<_>>()))
    };
    let none = jobs(&["history"]).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&none.stdout), "nothing has run yet\n");
    let run = jobs(&["run", "data_quality"]).await.unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.contains("DIST_001") && said.starts_with("done"), "{said}");
    assert!(!said.contains('\u{1b}') && !said.contains('\r'), "no bar in a pipe: {said:?}");
    let list: Value = serde_json::from_slice(&jobs(&["list", "--json"]).await.unwrap().stdout).unwrap();
    let job = &list["items"][0];
    assert_eq!(
        (&job["job"], &job["last"]["status"], &job["last"]["rows"]),
        (&json!("data_quality"), &json!("done"), &json!(1))
    );
    assert_eq!(job["schedule"], "30 3 * * * Europe/Rome");
    assert!(job["next"].as_str().unwrap().parse::<Timestamp>().unwrap() > Timestamp::wall_clock());
    let wrong = jobs(&["run", "data_qualiti"]).await.unwrap();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("there is no job 'data_qualiti'; there are data_quality"));

    let quality = collector.get("quality").await;
    let report = &quality["items"][0];
    let hours = |day: &str| day.parse::<jiff::civil::Date>().unwrap();
    let day = hours(quality["day"].as_str().unwrap());
    let length = (bounds(day, &rome).unwrap().1.0 - yesterday.0) as f64; // it wasn't there before
    let known = (3_599 + 3) as f64 * SECOND as f64; // the last value holds for three intervals
    assert!((report["completeness"].as_f64().unwrap() - known / length).abs() < 1e-9, "{report}");
    assert_eq!(
        (&report["count"]["good"], &report["spacing_s"], &report["step"]),
        (&json!(3_600), &json!(1.0), &json!(1.0))
    );
    assert_eq!((&report["late"], &report["late_share"]), (&json!(3_600), &json!(1.0)), "they came a day late");
    assert_eq!(quality["nodes"][0]["node"], "DIST_001");
    let csv = support::http(collector.api, "/api/v1/quality?format=csv").await;
    assert!(csv.starts_with("day,node,metric,channel,unit,score") && csv.lines().count() == 2, "{csv}");
    collector.stop().await;
}

fn reports(warm: &Arc<dyn WarmTier>, now: Timestamp) -> DataQuality {
    let anomalies = Arc::new(Anomalies::new(warm.clone(), None));
    let zone = zone("Europe/Rome").unwrap();
    DataQuality { warm: warm.clone(), cold: None, anomalies, zone, now: Arc::new(move || now) }
}

/// More readings than are read at once, over the night in which an hour comes twice; then some that come late.
#[tokio::test]
async fn reports_read_a_day_page_by_page_and_follow_what_comes_late() {
    let folder = tempfile::tempdir().unwrap();
    let warm: Arc<dyn WarmTier> = Arc::new(SqliteWarm::open(&folder.path().join("warm.sqlite")).await.unwrap());
    let now: Timestamp = "2026-10-26T03:00:00Z".parse().unwrap();
    let job = reports(&warm, now);
    let empty = job.run(&Progress::default()).await.unwrap();
    assert_eq!((empty.rows, empty.detail.as_str()), (0, "no series had readings by yesterday"));

    let (gateway, catalogue) = (GatewayId::new("STATION_7").unwrap(), support::catalogue(&["DIST_001"]));
    let series = warm.series_for(&gateway, catalogue.entries()).await.unwrap().remove(0).unwrap();
    let from: Timestamp = "2026-10-24T22:00:00Z".parse().unwrap(); // midnight in Rome
    let reading = |n: i64| StoredReading {
        series,
        at: from.plus_micros(n * 2 * SECOND),
        held: Held { value: Some(1.0), quality: Quality::GOOD, revision: 0 },
    };
    let (half, whole) = (22_500, 45_000); // every two seconds of 25 hours
    let store = async |range: std::ops::Range<i64>| {
        let flush = Flush { readings: range.map(reading).collect(), ..Flush::default() };
        warm.commit(flush).await.unwrap();
        let progress = Progress::default();
        assert_eq!(job.run(&progress).await.unwrap().rows, 1, "of days before its first it has none");
        assert_eq!(progress.now(), (3, 3));
        let reports = warm.quality(None).await.unwrap();
        assert_eq!(reports.len(), 1);
        assert_eq!(reports[0].day, "2026-10-25");
        reports[0].quality
    };
    let first = store(0..half).await;
    assert_eq!(first.good, half as u32);
    assert!((first.completeness - 0.5).abs() < 0.001, "{first:?}");
    let second = store(half..whole).await;
    assert_eq!((second.good, second.completeness, second.longest_gap_us), (whole as u32, 1.0, 0));
    assert_eq!(warm.quality(Some("2026-10-24")).await.unwrap().len(), 0);
}

/// A page of another site can't start a job through a person's browser.
/// A file of three weeks, the last of them ten days ago, in which is a step, and a standstill of eight hours.
#[tokio::test]
async fn what_comes_by_a_file_is_reported_and_looked_at_by_the_same_rules() {
    const STEP: i64 = 300 * SECOND;
    let folder = tempfile::tempdir().unwrap();
    let warm: Arc<dyn WarmTier> = Arc::new(SqliteWarm::open(&folder.path().join("warm.sqlite")).await.unwrap());
    let [now, from, odd] = ["2026-10-26T03:00:00Z", "2026-09-25T00:00:00Z", "2026-10-12T00:00:00Z"]
        .map(|at| at.parse::<Timestamp>().unwrap());
    let job = reports(&warm, now);
    let (gateway, catalogue) = (GatewayId::new("STATION_7").unwrap(), support::catalogue(&["DIST_001"]));
    let series = warm.series_for(&gateway, catalogue.entries()).await.unwrap().remove(0).unwrap();
    let reading = |n: i64| {
        let at = from.plus_micros(n * STEP);
        let value = match at.since(odd) / STEP {
            100..103 => 90.0,
            150..246 => 12.0,
            _ => 10.0 + (n % 7) as f64 / 4.0,
        };
        StoredReading { series, at, held: Held { value: Some(value), quality: Quality::GOOD, revision: 0 } }
    };
    let put = async |readings: Vec<StoredReading>| {
        warm.commit(Flush { readings, ..Flush::default() }).await.unwrap();
    };
    put((0..21 * 288).map(reading).collect()).await;
    let done = job.run(&Progress::default()).await.unwrap();
    assert_eq!(done.rows, 3 + 22, "of Rome's days, and the last three: {}", done.detail);
    let of = async |day: &str| warm.quality(Some(day)).await.unwrap().first().map(|report| report.quality);
    assert_eq!(of("2026-10-12").await.map(|quality| quality.good), Some(288));
    let found = warm.anomalies().find_anomalies(&Wanted::all(10)).await.unwrap();
    let mut kinds: Vec<_> = found.iter().map(|one| (one.kind.as_str(), one.state, one.end.is_some())).collect();
    kinds.sort_unstable_by_key(|(kind, ..)| *kind);
    assert_eq!(
        kinds,
        [("rate_of_change", State::Closed, true), ("stuck", State::Closed, true)],
        "nobody can do anything any more: {found:#?}"
    );

    assert_eq!(job.run(&Progress::default()).await.unwrap().rows, 3, "nothing has changed");
    put(vec![reading(21 * 288 + 40)]).await;
    assert_eq!(job.run(&Progress::default()).await.unwrap().rows, 3 + 2, "the days that a UTC day is of");
    assert_eq!(of("2026-10-16").await.map(|quality| quality.good), Some(25), "two hours of it, and what came");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sites_page_starts_nothing_and_who_starts_a_job_is_noted() {
    let site = Site::new(&[], |_| {});
    let collector = site.start().await;
    let url = format!("http://{}/api/v1/jobs/data_quality/run", collector.api);
    let (own, host) = (format!("http://{}", collector.api), collector.api.to_string());
    let post = move |origin: &str| {
        let (url, origin, host) = (url.clone(), origin.to_owned(), host.clone());
        tokio::task::spawn_blocking(move || {
            let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
            agent.post(&url).header("Origin", &origin).header("Host", &host).send_empty().unwrap().status().as_u16()
        })
    };
    assert_eq!(post("https://evil.example").await.unwrap(), 403);
    assert_eq!(post("null").await.unwrap(), 403);
    assert_eq!(collector.get("audit").await["items"], json!([]));
    assert_eq!(post(&own).await.unwrap(), 202);
    let audit = collector.get("audit").await;
    let one = &audit["items"][0];
    assert_eq!(
        (&one["who"], &one["what"], &one["detail"]["job"]),
        (&json!("local"), &json!("job"), &json!("data_quality"))
    );
    collector.stop().await;
}

/// Rollups of past days are in the cache before someone asks, and what comes late throws out its day only.
#[tokio::test]
async fn past_days_are_looked_up_before_someone_asks() {
    let folder = tempfile::tempdir().unwrap();
    let warm: Arc<dyn WarmTier> = Arc::new(SqliteWarm::open(&folder.path().join("warm.sqlite")).await.unwrap());
    let (gateway, catalogue) = (GatewayId::new("STATION_7").unwrap(), support::catalogue(&["DIST_001"]));
    let series = warm.series_for(&gateway, catalogue.entries()).await.unwrap().remove(0).unwrap();
    let now = Timestamp(20_500 * DAY + 12 * 3_600 * SECOND);
    let put = async |day: i64, value: f64| {
        let held = Held { value: Some(value), quality: Quality::GOOD, revision: 0 };
        let reading = StoredReading { series, at: Timestamp((20_500 - day) * DAY + value as i64 * SECOND), held };
        warm.commit(Flush { readings: vec![reading], ..Flush::default() }).await.unwrap();
        while warm.refresh_rollups(100).await.unwrap() > 0 {}
        reading
    };
    for day in 0..9 {
        put(day, 1.0).await;
    }
    let cache = Arc::new(DayCache::new(Arc::new(MemoryDays::default())));
    let fill: Fill = Arc::new(|| Box::pin(async { Ok(7) }));
    let (days, clock): (_, collector::etl::Now) = (Some(cache.clone()), Arc::new(move || now));
    let job = CacheRefresh { warm: warm.clone(), fill, days, now: clock };
    let done = job.run(&Progress::default()).await.unwrap();
    assert_eq!(
        done.detail, "7 readings into the hot tier, 9 days of rollups looked up",
        "of eight days hours, of one five minutes"
    );
    let found = async |day: i64| cache.find(series, &[20_500 - day], Bucket::Hour, now).await.remove(0);
    for day in 1..9 {
        let day_of = |day: i64| Timestamp((20_500 - day) * DAY);
        let wanted = warm.rollups(series, Bucket::Hour, day_of(day), day_of(day - 1)).await.unwrap().clean;
        assert_eq!(found(day).await, Ok(wanted));
    }
    assert!(found(9).await.is_err());
    let touched = cache.begin([&put(3, 2.0).await], now).await;
    cache.end(&touched).await;
    assert!(found(3).await.is_err() && found(2).await.is_ok());
    let done = job.run(&Progress::default()).await.unwrap();
    assert_eq!(done.detail, "7 readings into the hot tier, 1 day of rollups looked up");
    assert_eq!(found(3).await.unwrap()[0].1.good, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_of_a_job_whose_last_run_failed() {
    let site = Site::new(&[], |_| {});
    let warm = SqliteWarm::open(&site.config.warm_file()).await.unwrap();
    let run = warm.jobs().begin("cleanup", Why::Hand, "another", None).await.unwrap().unwrap();
    let failed = Finished { status: Status::Failed, rows: 0, detail: String::new(), error: Some("no space".into()) };
    warm.jobs().finish(run, failed).await.unwrap();
    warm.close().await;
    let collector = site.start().await;
    let health = collector.get("health").await;
    let told = json!([{ "part": "cleanup", "severity": "warning", "error": "no space" }]);
    assert_eq!((&health["status"], &health["troubles"]), (&json!("degraded"), &told));
    let mut ended = health["etl_jobs"].as_array().unwrap().iter().map(|run| (&run["job"], &run["status"]));
    assert!(ended.any(|run| run == (&json!("cleanup"), &json!("failed"))), "{health}");
    assert_eq!(collector.post("jobs/cleanup/run", Value::Null).await.0, 202);
    assert!(until(async || collector.get("health").await["troubles"] == json!([])).await, "until one has not");
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_are_told_every_change_of_what_is_at_work_and_how_it_ends() {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    let site = Site::new(&[], |_| {});
    let collector = site.start().await;
    let config = site.folder.path().join("cli.toml");
    std::fs::write(&config, format!("[api]\nlisten = '{}'\n", collector.api)).unwrap();
    let watch = || {
        let mut command = tokio::process::Command::new(support::process::PROGRAM);
        command.args(["jobs", "watch", "--json", "--config"]).arg(&config).kill_on_drop(true);
        command.stdout(std::process::Stdio::piped());
        command
    };
    let idle = within(watch().output()).await.unwrap();
    assert!(idle.status.success() && idle.stdout.is_empty(), "{idle:?}");

    let warm = SqliteWarm::open(&site.config.warm_file()).await.unwrap();
    let store = warm.jobs();
    let run = store.begin("tidy", Why::Hand, "elsewhere", None).await.unwrap().unwrap();
    let mut watching = watch().spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut told =
        async || -> Option<Value> { Some(serde_json::from_str(&within(lines.next_line()).await.unwrap()?).unwrap()) };
    let far =
        |run: Option<Value>| run.map(|run| (run["status"].clone(), run["steps_done"].clone(), run["job"].clone()));
    assert_eq!(far(told().await), Some((json!("running"), json!(0), json!("tidy"))));
    assert!(store.alive(run, 3, 10, 5).await.unwrap());
    assert_eq!(far(told().await), Some((json!("running"), json!(3), json!("tidy"))));
    let failed = Finished { status: Status::Failed, rows: 5, detail: String::new(), error: Some("no room".into()) };
    store.finish(run, failed).await.unwrap();
    let last = told().await.unwrap();
    assert_eq!((&last["status"], &last["error"]), (&json!("failed"), &json!("no room")), "{last}");
    assert_eq!(told().await, None);
    assert!(within(watching.wait()).await.unwrap().success(), "watching went well");
    warm.close().await;
    collector.stop().await;
}
