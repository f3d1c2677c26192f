//! What every cache of past days must do, and that answers are the same with it as without.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

mod services;

use collector::history::{History, POINTS_MAX, Question, Resolution, Width};
use collector::tiers::hot::days::{DAY, DayCache, Days, Kept, MemoryDays, SeriesDay, ToKeep};
use collector::tiers::hot::memory::MemoryHot;
use collector::tiers::hot::redis::{RedisDays, RedisHot};
use collector::tiers::warm::sqlite::SqliteWarm;
use collector::tiers::{Bucket, Flush, SeriesId, SeriesInfo, StoredReading, TierError, TierFuture, WarmTier};
use proptest::prelude::*;
use shared::catalogue::{Class, Entry};
use shared::ids::{GatewayId, NodeId};
use shared::metric::Kind;
use shared::reading::{Held, Quality, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const A: SeriesDay = SeriesDay { series: SeriesId(1), day: 20_000 };
const NEXT: SeriesDay = SeriesDay { day: 20_001, ..A };
const OTHER: SeriesDay = SeriesDay { series: SeriesId(2), ..A };
const BUCKET: Bucket = Bucket::Hour;

async fn find_in(days: &impl Days, of: SeriesDay, bucket: Bucket) -> Result<Kept, TierError> {
    Ok(days.find(of.series, &[of.day], bucket).await?.remove(0))
}

async fn find(days: &impl Days, of: SeriesDay) -> Kept {
    find_in(days, of, BUCKET).await.unwrap()
}

async fn version(days: &impl Days, of: SeriesDay) -> u64 {
    match find(days, of).await {
        Kept::Nothing(version) => version,
        other => panic!("{other:?}"),
    }
}

async fn keep(days: &impl Days, of: SeriesDay, bytes: &[u8]) {
    let version = version(days, of).await;
    keep_under(days, of, version, bytes).await;
}

async fn keep_under(days: &impl Days, SeriesDay { series, day }: SeriesDay, version: u64, bytes: &[u8]) {
    days.keep(series, BUCKET, &[ToKeep { day, version, what: bytes.to_vec() }]).await.unwrap();
}

async fn what_is_kept_is_found(days: impl Days) {
    keep(&days, A, b"a").await;
    keep(&days, NEXT, b"").await;
    assert_eq!(find(&days, A).await, Kept::Day(b"a".to_vec()));
    assert_eq!(find(&days, NEXT).await, Kept::Day(vec![]));
    assert!(matches!(find_in(&days, A, Bucket::FiveMinutes).await.unwrap(), Kept::Nothing(_)), "another width");
}

async fn many_days_are_kept_and_found_in_their_order(days: impl Days) {
    let all: Vec<i64> = (0..100).map(|n| A.day - n).collect();
    let found = days.find(A.series, &all, BUCKET).await.unwrap();
    let version = |kept: &Kept| if let Kept::Nothing(version) = kept { *version } else { panic!("{kept:?}") };
    let every_other = all.iter().zip(&found).step_by(2);
    let to_keep =
        every_other.map(|(day, kept)| ToKeep { day: *day, version: version(kept), what: day.to_be_bytes().into() });
    days.keep(A.series, BUCKET, &to_keep.collect::<Vec<_>>()).await.unwrap();
    for (n, (day, kept)) in all.iter().zip(days.find(A.series, &all, BUCKET).await.unwrap()).enumerate() {
        match n % 2 {
            0 => assert_eq!(kept, Kept::Day(day.to_be_bytes().into())),
            _ => assert_eq!(kept, found[n]),
        }
    }
}

async fn exactly_what_changed_is_thrown_out(days: impl Days) {
    for of in [A, NEXT, OTHER] {
        keep(&days, of, b"x").await;
    }
    days.begin(&[A]).await.unwrap();
    assert_eq!(find(&days, A).await, Kept::Changing);
    days.end(&[A]).await.unwrap();
    assert!(matches!(find(&days, A).await, Kept::Nothing(_)));
    for of in [NEXT, OTHER] {
        assert_eq!(find(&days, of).await, Kept::Day(b"x".to_vec()));
    }
}

async fn what_was_read_before_a_change_is_not_kept_after_it(days: impl Days) {
    let before = version(&days, A).await;
    days.begin(&[A]).await.unwrap();
    keep_under(&days, A, before, b"old").await;
    assert_eq!(find(&days, A).await, Kept::Changing);
    days.end(&[A]).await.unwrap();
    keep_under(&days, A, before, b"old").await;
    let after = version(&days, A).await;
    assert_ne!(after, before);
    keep_under(&days, A, before, b"old").await;
    assert_eq!(find(&days, A).await, Kept::Nothing(after));
}

async fn all_can_be_thrown_out(days: impl Days) {
    keep(&days, A, b"x").await;
    let before = version(&days, NEXT).await;
    days.drop_all().await.unwrap();
    assert_ne!(version(&days, NEXT).await, before);
    assert!(matches!(find(&days, A).await, Kept::Nothing(_)));
}

macro_rules! whole_contract {
    ($make:expr) => {
        whole_contract! { $make;
            what_is_kept_is_found
            many_days_are_kept_and_found_in_their_order
            exactly_what_changed_is_thrown_out
            what_was_read_before_a_change_is_not_kept_after_it
            all_can_be_thrown_out
        }
    };
    ($make:expr; $($test:ident)*) => {
        $(#[tokio::test]
        async fn $test() {
            let (days, _service) = $make;
            super::$test(days).await;
        })*
    };
}

mod memory {
    use super::*;
    whole_contract!((MemoryDays::default(), ()));
}

fn on(service: &services::redis::Redis) -> (RedisDays, RedisHot) {
    let hot = RedisHot::new(&service.settings(), 0, Arc::new(Timestamp::wall_clock)).unwrap();
    (hot.days(), hot)
}

mod redis {
    use super::*;

    async fn bench() -> (RedisDays, (RedisHot, services::redis::Redis)) {
        let service = services::redis::Redis::start().await;
        let (days, hot) = on(&service);
        (days, (hot, service))
    }

    whole_contract!(bench().await);
}

#[tokio::test]
async fn a_redis_that_came_back_with_an_old_copy_shows_nothing_of_it() {
    let mut service = services::redis::Redis::start_with(&["--save", ""]).await;
    let (days, _hot) = on(&service);
    keep(&days, A, b"old").await;
    service.command::<()>(&["SAVE"]).await;
    days.begin(&[A]).await.unwrap();
    days.end(&[A]).await.unwrap();
    service.kill();
    service.restart().await;
    services::eventually(
        "it is connected again",
        std::time::Duration::from_secs(20),
        async || matches!(find_in(&days, A, BUCKET).await, Ok(found) if matches!(found, Kept::Nothing(_))),
    )
    .await;
}

/// Doesn't answer on command.
struct Flaky {
    inner: MemoryDays,
    away: AtomicBool,
}

impl Flaky {
    fn answers<'a, T: Send + 'a>(&'a self, call: impl FnOnce() -> TierFuture<'a, T>) -> TierFuture<'a, T> {
        if self.away.load(Ordering::SeqCst) {
            return Box::pin(async { Err(TierError::Unavailable { tier: "days", why: "the test says so".into() }) });
        }
        call()
    }
}

impl Days for Flaky {
    fn find<'a>(&'a self, series: SeriesId, days: &'a [i64], bucket: Bucket) -> TierFuture<'a, Vec<Kept>> {
        self.answers(|| self.inner.find(series, days, bucket))
    }
    fn keep<'a>(&'a self, series: SeriesId, bucket: Bucket, days: &'a [ToKeep<Vec<u8>>]) -> TierFuture<'a, ()> {
        self.answers(|| self.inner.keep(series, bucket, days))
    }
    fn begin<'a>(&'a self, days: &'a [SeriesDay]) -> TierFuture<'a, ()> {
        self.answers(|| self.inner.begin(days))
    }
    fn end<'a>(&'a self, days: &'a [SeriesDay]) -> TierFuture<'a, ()> {
        self.answers(|| self.inner.end(days))
    }
    fn drop_all(&self) -> TierFuture<'_, ()> {
        self.answers(|| self.inner.drop_all())
    }
}

struct Bench {
    warm: Arc<SqliteWarm>,
    cache: Arc<DayCache>,
    flaky: Arc<Flaky>,
    series: Vec<SeriesInfo>,
    with: History,
    without: History,
    now: Timestamp,
    _folder: tempfile::TempDir,
}

const FIRST_DAY: i64 = 20_000;
const DAYS: i64 = 4;

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let warm = Arc::new(SqliteWarm::open(&folder.path().join("w")).await.unwrap());
        let entry = |node: &str| Entry {
            node: NodeId::new(node).unwrap(),
            metric: "pressure".into(),
            channel: String::new(),
            kind: Kind::Gauge,
            unit: "bar".into(),
            resolution_exp: None,
            interval_ms: 600_000,
            silence_ms_max: 0,
            class: Class::Raw,
        };
        warm.series_for(&GatewayId::new("G").unwrap(), &[entry("A"), entry("B")]).await.unwrap();
        let series = warm.series(None).await.unwrap();
        let now = Timestamp((FIRST_DAY + DAYS) * DAY + DAY / 2);
        let hot = Arc::new(MemoryHot::new(now, 10, Arc::new(move || now)));
        let flaky = Arc::new(Flaky { inner: MemoryDays::default(), away: AtomicBool::new(false) });
        let cache = Arc::new(DayCache::new(flaky.clone()));
        let without = History::new(warm.clone(), hot);
        let with = without.clone().with_days(Some(cache.clone()));
        Self { warm, cache, flaky, series, with, without, now, _folder: folder }
    }

    fn reading(&self, series: usize, minute: i64, value: f64) -> StoredReading {
        let held = Held { value: Some(value), quality: Quality::GOOD, revision: 0 };
        let at = Timestamp(FIRST_DAY * DAY + minute * 60_000_000);
        StoredReading { series: self.series[series].id, at, held }
    }

    /// As the flusher does it.
    async fn commit(&self, readings: Vec<StoredReading>) {
        let touched = self.cache.begin(&readings, self.now).await;
        self.warm.commit(Flush { readings, ..Flush::default() }).await.unwrap();
        self.cache.end(&touched).await;
    }

    async fn same_answers(&self, series: usize, from: i64, to: i64, width: Width) {
        let minute = |minute: i64| Timestamp(FIRST_DAY * DAY + minute * 60_000_000);
        let question = Question {
            series: self.series[series].clone(),
            from: minute(from),
            to: minute(to),
            resolution: Resolution::Buckets(width),
            points_max: POINTS_MAX,
            thin: None,
            now: self.now,
        };
        let (with, without) = (self.with.ask(&question).await.unwrap(), self.without.ask(&question).await.unwrap());
        assert_eq!((with.points, with.coverage), (without.points, without.coverage));
    }
}

#[tokio::test]
async fn late_data_of_an_outage_shows_once_the_cache_is_back() {
    let bench = Bench::new().await;
    bench.commit((0..DAYS * 24).map(|n| bench.reading(0, n * 60, n as f64)).collect()).await;
    while bench.warm.refresh_rollups(100).await.unwrap() > 0 {}
    let whole = DAYS * 24 * 60;
    bench.same_answers(0, 0, whole, Width::Hour).await;
    let found = bench.cache.find(bench.series[0].id, &[FIRST_DAY], Bucket::Hour, bench.now).await;
    assert!(found[0].is_ok(), "it is kept");
    bench.flaky.away.store(true, Ordering::SeqCst);
    bench.commit(vec![bench.reading(0, 30, 1e6)]).await;
    while bench.warm.refresh_rollups(100).await.unwrap() > 0 {}
    bench.same_answers(0, 0, whole, Width::Hour).await;
    bench.flaky.away.store(false, Ordering::SeqCst);
    bench.same_answers(0, 0, whole, Width::Hour).await;
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(usize, i64, u8)>),
    Refresh,
    Away(bool),
    Ask(usize, i64, i64, Width),
}

fn step() -> impl Strategy<Value = Step> {
    let minute = -60i64..(DAYS + 1) * 24 * 60;
    let width = prop_oneof![Just(Width::FiveMinutes), Just(Width::Hour), Just(Width::Day)];
    prop_oneof![
        4 => prop::collection::vec((0..2usize, minute.clone(), any::<u8>()), 1..6).prop_map(Step::Commit),
        3 => Just(Step::Refresh),
        1 => any::<bool>().prop_map(Step::Away),
        6 => (0..2usize, minute, 1..3 * 24 * 60i64, width).prop_map(|(s, from, length, w)| Step::Ask(s, from, from + length, w)),
    ]
}

#[test]
fn answers_are_the_same_with_the_cache_as_without() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config = ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() };
    proptest::test_runner::TestRunner::new(config)
        .run(&prop::collection::vec(step(), 1..60), |steps| {
            runtime.block_on(async {
                let bench = Bench::new().await;
                for step in steps {
                    match step {
                        Step::Commit(what) => {
                            let readings = what.into_iter().map(|(s, m, v)| bench.reading(s, m, f64::from(v)));
                            bench.commit(readings.collect()).await;
                        }
                        Step::Refresh => while bench.warm.refresh_rollups(100).await.unwrap() > 0 {},
                        Step::Away(away) => bench.flaky.away.store(away, Ordering::SeqCst),
                        Step::Ask(series, from, to, width) => bench.same_answers(series, from, to, width).await,
                    }
                }
            });
            Ok(())
        })
        .unwrap();
}
