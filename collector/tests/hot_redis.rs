//! The hot tier in Redis, with Redis emptied, restarted, restored, and robbed of keys: it says nothing then, and never
//! anything wrong.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

mod services;

use collector::tiers::hot::redis::{Before, RedisHot, Source};
use collector::tiers::hot::settings::HotSettings;
use collector::tiers::{HotTier, SeriesId, StoredReading, TierError};
use futures::future::BoxFuture;
use proptest::prelude::*;
use services::eventually;
use services::redis::Redis;
use shared::reading::{Held, MICROS_PER_SECOND, Quality, Timestamp, sanitise};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const MINUTE: i64 = 60 * MICROS_PER_SECOND;
const HOUR: i64 = 60 * MINUTE;
const START: i64 = 500_000 * HOUR + 20 * MINUTE;
const FUTURE_MAX: i64 = 10 * MINUTE;

struct Bench {
    redis: Redis,
    settings: HotSettings,
    now: Arc<AtomicI64>,
}

impl Bench {
    async fn new(arguments: &[&str]) -> Self {
        let redis = Redis::start_with(arguments).await;
        let settings = redis.settings();
        Self { redis, settings, now: Arc::new(AtomicI64::new(START)) }
    }

    fn tier(&self) -> RedisHot {
        self.tier_after(Timestamp(START - 1))
    }

    /// As a collector starts it whose newest reading is that.
    fn tier_after(&self, newest: Timestamp) -> RedisHot {
        let now = self.now.clone();
        let before = Before { complete_from: newest.plus_micros(1), future_max: FUTURE_MAX };
        let now = Arc::new(move || Timestamp(now.load(Ordering::SeqCst)));
        RedisHot::new(&self.settings, before, now).unwrap()
    }
}

fn reading(series: u32, at: i64, value: f64) -> StoredReading {
    let held = Held { value: Some(value), quality: Quality::GOOD, revision: 0 };
    StoredReading { series: SeriesId(series), at: Timestamp(at), held }
}

/// Everything that was ever put; also stands for the warm tier.
#[derive(Default)]
struct Truth(BTreeMap<(SeriesId, Timestamp), Held>);

impl Truth {
    fn put(&mut self, readings: &[StoredReading]) {
        for r in readings {
            let held = self.0.entry((r.series, r.at)).or_insert(r.held);
            if r.held.wins_over(held) {
                *held = r.held;
            }
        }
    }

    fn between(&self, series: SeriesId, from: Timestamp, to: Timestamp) -> Vec<StoredReading> {
        let found = self.0.range((series, from)..(series, to.max(from)));
        found.map(|(&(series, at), &held)| StoredReading { series, at, held }).collect()
    }
}

impl Source for Truth {
    fn range(
        &self,
        series: SeriesId,
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<StoredReading>, TierError>> {
        let found = self.between(series, from, to);
        Box::pin(async move { Ok(found) })
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Series, minutes after now, microseconds, and what.
    Put(Vec<(u32, i64, i64, Held)>),
    Again,
    Pass(i64),
    FlushAll,
    Save,
    Restart,
    Delete(usize),
    Append(usize),
    Forget(i64),
    Fill,
    /// A second collector, or the same after a restart.
    Reopen,
    Ask(u32, i64, i64),
}

fn held() -> impl Strategy<Value = Held> {
    let quality = prop_oneof![3 => Just(0u8), 1 => any::<u8>()];
    (0..5i32, quality, prop_oneof![5 => Just(0u32), 1 => 1..3u32]).prop_map(|(value, quality, revision)| {
        let (value, quality) = sanitise(Some(f64::from(value)), Quality(quality));
        Held { value, quality, revision }
    })
}

fn step() -> impl Strategy<Value = Step> {
    // Few series, two of them in one bucket; few microseconds, so that moments meet.
    let series = prop_oneof![Just(1u32), Just(65), Just(2)];
    let put = prop::collection::vec((series.clone(), -1_600i64..10, 0i64..3, held()), 1..12);
    prop_oneof![
        8 => put.prop_map(Step::Put),
        1 => Just(Step::Again),
        2 => (0i64..600).prop_map(Step::Pass),
        1 => Just(Step::FlushAll),
        1 => Just(Step::Save),
        1 => Just(Step::Restart),
        3 => any::<usize>().prop_map(Step::Delete),
        1 => any::<usize>().prop_map(Step::Append),
        1 => (-600i64..10).prop_map(Step::Forget),
        2 => Just(Step::Fill),
        1 => Just(Step::Reopen),
        8 => (series, -1_500i64..10, 1i64..1_500).prop_map(|(s, from, length)| Step::Ask(s, from, length)),
    ]
}

struct Run {
    bench: Bench,
    tier: RedisHot,
    truth: Truth,
    last: Vec<StoredReading>,
    answered: u32,
}

impl Run {
    /// As often as it takes: the connection may have to come back first, and what failed may have been done.
    async fn put(&mut self, readings: Vec<StoredReading>) {
        self.truth.put(&readings);
        eventually("it is put", Duration::from_secs(20), async || self.tier.put(&readings).await.is_ok()).await;
        self.last = readings;
    }

    async fn any_key(&self, pattern: &str, n: usize) -> Option<String> {
        let mut keys: Vec<String> = self.bench.redis.command(&["KEYS", pattern]).await;
        keys.sort();
        (!keys.is_empty()).then(|| keys.swap_remove(n % keys.len()))
    }

    async fn take(&mut self, step: Step) {
        let now = self.bench.now.load(Ordering::SeqCst);
        match step {
            Step::Put(what) => {
                let reading = |(series, minutes, micros, held): (u32, i64, i64, Held)| StoredReading {
                    series: SeriesId(series),
                    at: Timestamp((now / MINUTE + minutes) * MINUTE + micros),
                    held,
                };
                self.put(what.into_iter().map(reading).collect()).await;
            }
            Step::Again => self.put(self.last.clone()).await,
            Step::Pass(minutes) => {
                self.bench.now.fetch_add(minutes * MINUTE, Ordering::SeqCst);
            }
            Step::FlushAll => self.bench.redis.command::<()>(&["FLUSHALL"]).await,
            Step::Save => self.bench.redis.command::<()>(&["SAVE"]).await,
            Step::Restart => {
                self.bench.redis.kill();
                self.bench.redis.restart().await;
            }
            Step::Delete(n) => {
                if let Some(key) = self.any_key("*", n).await {
                    self.bench.redis.command::<()>(&["DEL", &key]).await;
                }
            }
            Step::Append(n) => {
                if let Some(key) = self.any_key("*:d:*", n).await {
                    self.bench.redis.command::<()>(&["APPEND", &key, "thirteen byte"]).await;
                }
            }
            Step::Forget(minutes) => {
                let before = Timestamp(now + minutes * MINUTE);
                let forgotten = async || self.tier.forget(before).await.is_ok();
                eventually("it is forgotten", Duration::from_secs(20), forgotten).await;
            }
            Step::Fill => {
                let all = [SeriesId(1), SeriesId(2), SeriesId(65)];
                let filled = async || self.tier.fill(&all, &self.truth).await.is_ok();
                eventually("it is filled", Duration::from_secs(20), filled).await;
            }
            Step::Reopen => {
                let newest = self.truth.0.keys().map(|(_, at)| *at).max().unwrap_or(Timestamp(START));
                self.tier = self.bench.tier_after(newest);
            }
            Step::Ask(series, from, length) => {
                let from = Timestamp(now + from * MINUTE);
                self.ask(SeriesId(series), from, from.plus_micros(length * MINUTE)).await;
                if let Ok(Some(from)) = self.tier.complete_from(SeriesId(series)).await {
                    self.ask(SeriesId(series), from, Timestamp(now + HOUR)).await;
                }
            }
        }
    }

    async fn ask(&mut self, series: SeriesId, from: Timestamp, to: Timestamp) {
        if let Ok(Some(found)) = self.tier.range(series, from, to).await {
            assert_eq!(found, self.truth.between(series, from, to), "{series} {from} {to}");
            self.answered += 1;
        }
    }
}

/// Whatever happens to Redis, an answer is right.
#[test]
fn an_answer_is_right_whatever_happens_to_redis() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let answered = std::cell::Cell::new(0);
    let steps = prop::collection::vec(step(), 1..60);
    let config = ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() };
    proptest::test_runner::TestRunner::new(config)
        .run(&steps, |steps| {
            runtime.block_on(async {
                let bench = Bench::new(&["--save", "", "--appendonly", "no"]).await;
                let tier = bench.tier();
                let mut run =
                    Run { bench, tier, truth: Truth::default(), last: vec![reading(1, START, 0.0)], answered: 0 };
                for step in steps {
                    run.take(step).await;
                }
                answered.set(answered.get() + run.answered);
            });
            Ok(())
        })
        .unwrap();
    assert!(answered.get() > 100, "it says nothing at all too often: {}", answered.get());
}

#[tokio::test]
async fn a_filled_tier_answers_for_the_whole_day_and_holds_nothing_twice() {
    let bench = Bench::new(&["--save", ""]).await;
    let tier = bench.tier();
    let mut truth = Truth::default();
    let old: Vec<_> = (1..=24 * 60).map(|n| reading(1 + n as u32 % 3, START - n * MINUTE, n as f64)).collect();
    let new: Vec<_> = (0..60).map(|n| reading(1, START + n * MINUTE, n as f64)).collect();
    truth.put(&old);
    truth.put(&new);
    tier.put(&new).await.unwrap();
    assert!(tier.lacks().await.unwrap());
    let series = [SeriesId(1), SeriesId(2), SeriesId(3)];
    let filled = tier.fill(&series, &truth).await.unwrap();
    assert_eq!((filled.readings, filled.left), (old.len() as u64, 0));
    assert!(!tier.lacks().await.unwrap());
    let (from, to) = (Timestamp(START - 24 * HOUR), Timestamp(START + HOUR));
    for series in series {
        let found = tier.range(series, from, to).await.unwrap();
        assert_eq!(found, Some(truth.between(series, from, to)));
    }
    tier.forget(Timestamp(START + 30 * MINUTE)).await.unwrap();
    assert_eq!(tier.range(SeriesId(1), from, to).await.unwrap(), None);
    let again = tier.fill(&series, &truth).await.unwrap();
    assert_eq!((again.readings, again.left), (0, 0), "all of it is there already");
    assert!(tier.range(SeriesId(1), from, to).await.unwrap().is_some());
}

#[tokio::test]
async fn a_reading_takes_less_than_twenty_bytes() {
    let bench = Bench::new(&["--save", ""]).await;
    let tier = bench.tier();
    tier.put(&[reading(1, START, 0.0)]).await.unwrap();
    let used = async || -> i64 {
        let info: String = bench.redis.command(&["INFO", "memory"]).await;
        let line = info.lines().find_map(|l| l.strip_prefix("used_memory:")).unwrap();
        line.trim().parse().unwrap()
    };
    let before = used().await;
    // 200 series, each ten seconds, in pieces as they come from agents: 3 hours and the first reading of a fourth.
    let (series, hours) = (200, 3);
    let hour = START.div_euclid(HOUR) * HOUR + HOUR;
    for piece in 0..=hours * 60 {
        let of_piece = if piece == hours * 60 { 0..1 } else { 0..6 };
        let readings: Vec<_> = (0..series)
            .flat_map(|s| of_piece.clone().map(move |n| (s, hour + piece * MINUTE + n * 10 * MICROS_PER_SECOND)))
            .map(|(s, at)| reading(s, at, at as f64))
            .collect();
        tier.put(&readings).await.unwrap();
    }
    let per_reading = (used().await - before) as f64 / f64::from(series * hours as u32 * 360);
    eprintln!("{per_reading:.1} bytes per reading");
    assert!(per_reading <= 20.0, "{per_reading}");
}

#[tokio::test]
async fn every_collectors_subscribers_see_each_value_once() {
    let bench = Bench::new(&["--save", ""]).await;
    let (a, b) = (bench.tier(), bench.tier());
    let channel = format!("{}:feed", bench.settings.prefix);
    eventually("both listen", Duration::from_secs(20), async || {
        let (_, count): (String, u32) = bench.redis.command(&["PUBSUB", "NUMSUB", &channel]).await;
        count == 2
    })
    .await;
    let (mut at_a, mut at_b) = (a.subscribe(), b.subscribe());
    let (x, y) = (reading(1, START, 1.0), reading(2, START, 2.0));
    a.put(&[x]).await.unwrap();
    assert_eq!(at_b.recv().await.unwrap()[..], [x]);
    b.put_live(&[y]).await.unwrap();
    assert_eq!(at_b.recv().await.unwrap()[..], [y]);
    assert_eq!(at_a.recv().await.unwrap()[..], [x]);
    assert_eq!(at_a.recv().await.unwrap()[..], [y]);
    assert_eq!(b.range(SeriesId(1), Timestamp(START), Timestamp(START + HOUR)).await.unwrap(), Some(vec![x]));
    assert!(at_a.try_recv().is_err() && at_b.try_recv().is_err(), "each once");
}

#[tokio::test]
async fn full_memory_is_an_error_that_names_the_setting() {
    let bench = Bench::new(&["--save", "", "--maxmemory", "1mb", "--maxmemory-policy", "noeviction"]).await;
    let tier = bench.tier();
    let many: Vec<_> = (0..200_000).map(|n| reading(n % 50, START + i64::from(n) * 1_000, 1.0)).collect();
    let mut outcome = Ok(());
    for some in many.chunks(5_000) {
        outcome = outcome.and(tier.put(some).await);
    }
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("maxmemory") && error.contains("readings_max"), "{error}");
    let from = Timestamp(START);
    if let Some(found) = tier.range(SeriesId(1), from, Timestamp(START + HOUR)).await.unwrap() {
        // What failed was not promised; what is there is right.
        assert!(found.iter().all(|r| many.contains(r)));
    }
}

#[tokio::test]
async fn readings_of_another_warm_tier_never_show() {
    let bench = Bench::new(&["--save", ""]).await;
    let (from, to) = (Timestamp(START), Timestamp(START + HOUR));
    let one = reading(1, START, 1.0);
    let first = bench.tier().unadopted();
    first.adopt(Some("first")).await.unwrap();
    first.put(&[one]).await.unwrap();
    assert_eq!(first.range(SeriesId(1), from, to).await.unwrap(), Some(vec![one]));
    let again = bench.tier().unadopted();
    assert_eq!(again.range(SeriesId(1), from, to).await.unwrap(), None, "nobody knows yet whose it is");
    assert_eq!(again.latest(&[SeriesId(1)]).await.unwrap(), []);
    again.adopt(Some("first")).await.unwrap();
    assert_eq!(again.range(SeriesId(1), from, to).await.unwrap(), Some(vec![one]));
    for other in [Some("other"), None] {
        let tier = bench.tier().unadopted();
        tier.adopt(other).await.unwrap();
        assert_eq!(tier.range(SeriesId(1), from, to).await.unwrap(), Some(vec![]));
        assert_eq!(tier.latest(&[SeriesId(1)]).await.unwrap(), []);
        tier.put(&[one]).await.unwrap();
    }
}

#[tokio::test]
async fn wrong_settings_are_named() {
    use collector::tiers::hot::redis::probe;
    use collector::tiers::warm::settings::Secret;
    let ask = |settings: HotSettings| async { tokio::task::spawn_blocking(move || probe(&settings)).await.unwrap() };
    let error = |outcome: Result<String, TierError>| outcome.unwrap_err().to_string();

    let lossy = Redis::start_with(&["--save", "", "--maxmemory-policy", "allkeys-lru"]).await;
    let why = error(ask(lossy.settings()).await);
    assert!(why.contains("maxmemory-policy noeviction"), "{why}");

    let locked = Redis::start_with(&["--save", ""]).await;
    locked.command::<()>(&["CONFIG", "SET", "requirepass", "only for tests"]).await;
    let right = HotSettings { password: Some(Secret::new("only for tests")), ..locked.settings() };
    assert!(ask(right.clone()).await.unwrap().contains("version"));
    let without = HotSettings { password: None, ..right.clone() };
    let wrong = HotSettings { password: Some(Secret::new("sesame")), ..right.clone() };
    for settings in [without, wrong] {
        let why = error(ask(settings.clone()).await);
        assert!(why.contains("REDIS_PASSWORD") && !why.contains("sesame"), "{why}");
        let before = Before { complete_from: Timestamp(START), future_max: FUTURE_MAX };
        let tier = RedisHot::new(&settings, before, Arc::new(|| Timestamp(START))).unwrap();
        let why = tier.put(&[reading(1, START, 1.0)]).await.unwrap_err().to_string();
        assert!(why.contains("REDIS_PASSWORD") && !why.contains("sesame"), "{why}");
    }
    let missing = HotSettings { password_file: Some("/nowhere".into()), password: None, ..right };
    let why = error(ask(missing).await);
    assert!(why.contains("password_file = \"/nowhere\""), "{why}");
}
