//! The hot tier in Redis, with Redis emptied, restarted, restored, and robbed of keys: it says nothing then, and never
//! anything wrong.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

mod services;

use collector::tiers::hot::days::{Days as _, Kept, SeriesDay, ToKeep};
use collector::tiers::hot::redis::{RedisHot, Seen, Source};
use collector::tiers::hot::settings::HotSettings;
use collector::tiers::hot::shelf::{Kind, Shelf as _};
use collector::tiers::{Bucket, Doubt, HotTier, SeriesId, StoredReading, TierError};
use futures::future::BoxFuture;
use proptest::prelude::*;
use services::eventually;
use services::redis::{Nothing, Redis};
use shared::reading::{Held, MICROS_PER_SECOND, Quality, Timestamp, sanitise};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const MINUTE: i64 = 60 * MICROS_PER_SECOND;
const HOUR: i64 = 60 * MINUTE;
const START: i64 = 500_000 * HOUR + 20 * MINUTE;
const FUTURE_MAX: i64 = 10 * MINUTE;
/// A value that nothing else has.
const REFUSED: f64 = 666.0;

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

    /// As a collector starts it.
    fn tier(&self) -> RedisHot {
        let now = self.now.clone();
        let now = Arc::new(move || Timestamp(now.load(Ordering::SeqCst)));
        RedisHot::new(&self.settings, FUTURE_MAX, now).unwrap()
    }

    /// One that has all there is from START on: nothing.
    async fn empty_tier(&self) -> RedisHot {
        let tier = self.tier();
        fill(&tier, &[], &Nothing).await;
        tier.forget(Timestamp(START)).await.unwrap();
        tier
    }
}

/// Gives how many readings were put, and how many buckets were not filled.
async fn fill(tier: &RedisHot, series: &[SeriesId], source: &dyn Source) -> (u64, u32) {
    let filled = tier.fill(&tier.look().await.unwrap(), series, source).await.unwrap();
    (filled.readings, filled.left)
}

fn reading(series: u32, at: i64, value: f64) -> StoredReading {
    let held = Held { value: Some(value), quality: Quality::GOOD, revision: 0 };
    StoredReading { series: SeriesId(series), at: Timestamp(at), held }
}

/// Stands for the warm tier.
#[derive(Clone, Default)]
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

/// Two collectors, 0 and 1, share the tiers.
#[derive(Clone, Debug)]
enum Step {
    /// Readings come to a collector and go into the hot tier: series, minutes after now, microseconds, and what.
    Put(usize, Vec<(u32, i64, i64, Held)>),
    Again(usize),
    /// What it put, and hasn't committed, it commits.
    Commit(usize),
    /// It can't reach Redis, and commits what it put, and that: series and minutes after now.
    CommitPast(usize, u32, i64),
    /// It is about to commit that, which nobody has: series and minutes after now.
    Doubt(usize, u32, i64),
    /// What it was about to commit.
    Enter(usize, Entered),
    /// That comes to it, and the warm tier refuses it: series and minutes after now.
    Refuse(usize, u32, i64),
    /// It is told what others owe, and makes the tier forget.
    Settle(usize),
    Pass(i64),
    FlushAll,
    Save,
    Restart,
    Delete(usize),
    Append(usize),
    Look(usize),
    Fill(usize),
    /// It restarts, or another one takes its place: what it hadn't committed comes again.
    Reopen(usize),
    Ask(usize, u32, i64, i64),
}

#[derive(Clone, Copy, Debug)]
enum Entered {
    Done,
    Refused,
    /// It is committed, and nobody puts it.
    Died,
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
    let who = 0..2usize;
    prop_oneof![
        8 => (who.clone(), put).prop_map(|(who, what)| Step::Put(who, what)),
        1 => who.clone().prop_map(Step::Again),
        6 => who.clone().prop_map(Step::Commit),
        1 => (who.clone(), series.clone(), -1_600i64..10).prop_map(|(who, s, at)| Step::CommitPast(who, s, at)),
        4 => (who.clone(), series.clone(), -1_600i64..10).prop_map(|(who, s, at)| Step::Doubt(who, s, at)),
        4 => (who.clone(), prop_oneof![4 => Just(Entered::Done), 1 => Just(Entered::Refused), 1 => Just(Entered::Died)])
            .prop_map(|(who, how)| Step::Enter(who, how)),
        3 => (who.clone(), series.clone(), -1_600i64..10).prop_map(|(who, s, at)| Step::Refuse(who, s, at)),
        1 => who.clone().prop_map(Step::Settle),
        2 => (0i64..600).prop_map(Step::Pass),
        1 => Just(Step::FlushAll),
        1 => Just(Step::Save),
        1 => Just(Step::Restart),
        3 => any::<usize>().prop_map(Step::Delete),
        1 => any::<usize>().prop_map(Step::Append),
        3 => who.clone().prop_map(Step::Look),
        4 => who.clone().prop_map(Step::Fill),
        1 => who.clone().prop_map(Step::Reopen),
        10 => (who, series, -1_500i64..10, 1i64..1_500).prop_map(|(who, s, from, length)| Step::Ask(who, s, from, length)),
    ]
}

struct Collector {
    tier: RedisHot,
    /// Put, in which epoch, and not committed.
    pending: Vec<(Vec<StoredReading>, u64)>,
    /// Doubted, in which epoch, and not committed.
    doubted: Option<(StoredReading, Doubt, u64)>,
    epoch: u64,
    seen: Option<Seen>,
}

struct Run {
    bench: Bench,
    collectors: Vec<Collector>,
    warm: Truth,
    /// Everything that ever came.
    came: Vec<StoredReading>,
    epoch: u64,
    owed: Option<Timestamp>,
    last: Vec<StoredReading>,
    answered: u32,
}

impl Run {
    async fn new(bench: Bench) -> Self {
        let collector = |tier| Collector { tier, pending: vec![], doubted: None, epoch: 1, seen: None };
        let collectors = vec![collector(bench.empty_tier().await), collector(bench.tier())];
        let last = vec![reading(1, START, 0.0)];
        Self { bench, collectors, warm: Truth::default(), came: vec![], epoch: 1, owed: None, last, answered: 0 }
    }

    /// As often as it takes: the connection may have to come back first, and what failed may have been done.
    async fn put(&mut self, who: usize, readings: Vec<StoredReading>) {
        let collector = &mut self.collectors[who];
        let epoch = collector.epoch;
        let put = async || collector.tier.put(&readings).await.is_ok();
        eventually("it is put", Duration::from_secs(20), put).await;
        collector.pending.push((readings.clone(), epoch));
        self.came.extend(&readings);
        self.last = readings;
    }

    /// As the flusher does it.
    async fn commit(&mut self, who: usize) {
        let pending = std::mem::take(&mut self.collectors[who].pending);
        for (readings, epoch) in pending {
            if epoch != self.epoch {
                self.collectors[who].epoch = self.epoch;
                self.put(who, readings.clone()).await;
            }
            self.warm.put(&readings);
        }
        self.collectors[who].pending.clear();
    }

    fn commit_past(&mut self, who: usize, reading: StoredReading) {
        let pending = std::mem::take(&mut self.collectors[who].pending);
        let all: Vec<_> = pending.into_iter().flat_map(|(readings, _)| readings).chain([reading]).collect();
        self.came.push(reading);
        self.warm.put(&all);
        self.owed = all.iter().map(|r| r.at.plus_micros(1)).max().max(self.owed);
    }

    async fn doubt(&mut self, who: usize, reading: StoredReading) {
        let collector = &mut self.collectors[who];
        let epoch = collector.epoch;
        let mut doubt = None;
        let doubted = async || {
            doubt = collector.tier.doubt(&[reading]).await.ok();
            doubt.is_some()
        };
        eventually("it is doubted", Duration::from_secs(20), doubted).await;
        collector.doubted = doubt.map(|doubt| (reading, doubt, epoch));
    }

    async fn enter(&mut self, who: usize, how: Entered) {
        let Some((reading, doubt, epoch)) = self.collectors[who].doubted.take() else { return };
        if epoch != self.epoch {
            self.collectors[who].epoch = self.epoch;
            let _ = self.collectors[who].tier.put_after(&[], doubt).await;
            return self.doubt(who, reading).await;
        }
        let mut put = vec![];
        if !matches!(how, Entered::Refused) {
            self.came.push(reading);
            self.warm.put(&[reading]);
            put.push(reading);
        }
        if !matches!(how, Entered::Died) {
            let _ = self.collectors[who].tier.put_after(&put, doubt).await;
        }
    }

    async fn refuse(&mut self, who: usize, reading: StoredReading) {
        let tier = &self.collectors[who].tier;
        let refused = async || tier.put(&[reading]).await.is_ok() && tier.withdraw(&[reading]).await.is_ok();
        eventually("it is withdrawn", Duration::from_secs(20), refused).await;
    }

    async fn settle(&mut self, who: usize) {
        if let Some(owed) = self.owed.take() {
            let tier = &self.collectors[who].tier;
            let forgotten = async || tier.forget(owed).await.is_ok();
            eventually("it is forgotten", Duration::from_secs(20), forgotten).await;
        }
    }

    /// From what it saw at its last look, or sees now.
    async fn fill(&mut self, who: usize) {
        self.settle(who).await;
        let collector = &mut self.collectors[who];
        let seen = match collector.seen.take() {
            Some(seen) => seen,
            None => match collector.tier.look().await {
                Ok(seen) => seen,
                Err(_) => return, // the connection comes back
            },
        };
        self.epoch += 1;
        collector.epoch = self.epoch;
        let _ = collector.tier.fill(&seen, &[SeriesId(1), SeriesId(2), SeriesId(65)], &self.warm).await;
    }

    async fn any_key(&self, pattern: &str, n: usize) -> Option<String> {
        let mut keys: Vec<String> = self.bench.redis.command(&["KEYS", pattern]).await;
        keys.sort();
        (!keys.is_empty()).then(|| keys.swap_remove(n % keys.len()))
    }

    async fn take(&mut self, step: Step) {
        self.happen(step).await;
        for who in 0..self.collectors.len() {
            self.ask_newest(who).await;
        }
    }

    async fn happen(&mut self, step: Step) {
        let now = self.bench.now.load(Ordering::SeqCst);
        match step {
            Step::Put(who, what) => {
                let reading = |(series, minutes, micros, held): (u32, i64, i64, Held)| StoredReading {
                    series: SeriesId(series),
                    at: Timestamp((now / MINUTE + minutes) * MINUTE + micros),
                    held,
                };
                self.put(who, what.into_iter().map(reading).collect()).await;
            }
            Step::Again(who) => self.put(who, self.last.clone()).await,
            Step::Commit(who) => self.commit(who).await,
            Step::CommitPast(who, series, minutes) => {
                self.commit_past(who, reading(series, now + minutes * MINUTE, 9.0))
            }
            Step::Doubt(who, series, minutes) => {
                // Of a value that nothing else has: refused, it is nowhere.
                let value = 1_000.0 + self.answered as f64 + self.came.len() as f64;
                self.doubt(who, reading(series, (now / MINUTE + minutes) * MINUTE, value)).await;
            }
            Step::Enter(who, how) => self.enter(who, how).await,
            Step::Refuse(who, series, minutes) => {
                let held = Held { value: Some(REFUSED), quality: Quality::GOOD, revision: (minutes % 2 != 0).into() };
                let at = Timestamp((now / MINUTE + minutes) * MINUTE);
                self.refuse(who, StoredReading { series: SeriesId(series), at, held }).await;
            }
            Step::Settle(who) => self.settle(who).await,
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
            Step::Look(who) => {
                let collector = &mut self.collectors[who];
                collector.seen = collector.tier.look().await.ok();
            }
            Step::Fill(who) => self.fill(who).await,
            Step::Reopen(who) => {
                let tier = self.bench.tier();
                let lost = std::mem::replace(
                    &mut self.collectors[who],
                    Collector { tier, pending: vec![], doubted: None, epoch: 0, seen: None },
                );
                for (readings, _) in lost.pending {
                    self.put(who, readings).await;
                }
            }
            Step::Ask(who, series, from, length) => {
                let from = Timestamp(now + from * MINUTE);
                self.ask(who, SeriesId(series), from, from.plus_micros(length * MINUTE)).await;
                let whole = self.collectors[who].tier.complete_from(SeriesId(series)).await;
                if let Ok(Some(from)) = whole {
                    self.ask(who, SeriesId(series), from, Timestamp(now + HOUR)).await;
                }
            }
        }
    }

    /// What is sure to be newest is, and nothing shows that was refused.
    async fn ask_newest(&mut self, who: usize) {
        let all = [SeriesId(1), SeriesId(2), SeriesId(65)];
        let tier = &self.collectors[who].tier;
        let (Ok(newest), Ok(held)) = (tier.newest(&all).await, tier.latest(&all).await) else { return };
        assert_eq!(newest.readings, held, "what it knows itself is what lies there");
        assert!(held.iter().all(|r| r.held.value != Some(REFUSED)), "{held:?}");
        if self.owed.is_some() {
            return;
        }
        for series in all.iter().filter(|series| !newest.unsure.contains(series)) {
            let shown = newest.readings.iter().find(|r| r.series == *series).map(|r| r.at);
            let stored = self.warm.between(*series, Timestamp(0), Timestamp(i64::MAX)).last().map(|r| r.at);
            assert!(shown >= stored, "{series}: {shown:?} is shown, {stored:?} is committed");
            self.answered += 1;
        }
    }

    /// What is committed is there, and nothing that never came. While something is owed nobody knows.
    async fn ask(&mut self, who: usize, series: SeriesId, from: Timestamp, to: Timestamp) {
        let Ok(Some(found)) = self.collectors[who].tier.range(series, from, to).await else { return };
        if self.owed.is_some() {
            return;
        }
        let held: BTreeMap<_, _> = found.iter().map(|r| (r.at, r.held)).collect();
        assert_eq!(held.len(), found.len(), "each once");
        for stored in self.warm.between(series, from, to) {
            let shown = held.get(&stored.at);
            let right = shown.is_some_and(|shown| *shown == stored.held || shown.wins_over(&stored.held));
            assert!(right, "{series} {from} {to}: {stored:?} is committed, {shown:?} is shown");
        }
        for shown in found {
            assert!(self.came.contains(&shown), "{shown:?} never came");
        }
        self.answered += 1;
    }
}

/// Whatever happens to Redis, an answer is right.
#[test]
fn an_answer_is_right_whatever_happens_to_redis() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let answered = std::cell::Cell::new(0);
    let steps = prop::collection::vec(step(), 1..60);
    let config = ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
    proptest::test_runner::TestRunner::new(config)
        .run(&steps, |steps| {
            runtime.block_on(async {
                let bench = Bench::new(&["--save", "", "--appendonly", "no"]).await;
                let mut run = Run::new(bench).await;
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
async fn newest_values_that_it_knows_are_not_read_again() {
    let bench = Bench::new(&["--save", ""]).await;
    let (tier, other) = (bench.empty_tier().await, bench.tier());
    let series: Vec<_> = (1..=1_000).map(SeriesId).collect();
    let all = |at: i64| -> Vec<_> { (1..=1_000).map(|series| reading(series, START + at, at as f64)).collect() };
    tier.put(&all(1)).await.unwrap();
    assert_eq!(tier.newest(&series).await.unwrap().readings, all(1));
    let told = async || -> u64 {
        let info: String = bench.redis.command(&["INFO", "stats"]).await;
        let line = info.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:")).unwrap();
        line.trim().parse().unwrap()
    };
    tier.put(&all(2)).await.unwrap();
    tier.put_live(&all(3)).await.unwrap();
    let before = told().await;
    assert_eq!(tier.newest(&series).await.unwrap().readings, all(3));
    let bytes = told().await - before;
    assert!(bytes < 1_000 * 24, "{bytes} bytes say more than 64 versions");
    other.put(&all(4)[..100]).await.unwrap();
    let mixed = [&all(4)[..100], &all(3)[100..]].concat();
    assert_eq!(tier.newest(&series).await.unwrap().readings, mixed, "what another one put is read");
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
    assert!(tier.look().await.unwrap().lacks);
    let series = [SeriesId(1), SeriesId(2), SeriesId(3)];
    assert_eq!(fill(&tier, &series, &truth).await, (old.len() as u64, 0));
    assert!(!tier.look().await.unwrap().lacks);
    let (from, to) = (Timestamp(START - 24 * HOUR), Timestamp(START + HOUR));
    for series in series {
        let found = tier.range(series, from, to).await.unwrap();
        assert_eq!(found, Some(truth.between(series, from, to)));
    }
    tier.forget(Timestamp(START + 30 * MINUTE)).await.unwrap();
    assert_eq!(tier.range(SeriesId(1), from, to).await.unwrap(), None);
    assert_eq!(fill(&tier, &series, &truth).await, (0, 0), "all of it is there already");
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
    let (a, b) = (bench.empty_tier().await, bench.tier());
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

/// The words of a key between braces, which say where in a cluster it lies.
fn tag(word: &str) -> Option<&str> {
    Some(word.split_once('{')?.1.split_once('}')?.0)
}

/// Everything the tier and what is beside it can do.
async fn all_there_is(tier: &RedisHot) {
    let day = |series| SeriesDay { series: SeriesId(series), day: 7 };
    let (shelf, days, series) = (tier.shelf(), tier.days(), [SeriesId(1), SeriesId(2), SeriesId(3)]);
    tier.belong_to("this one").await.unwrap();
    tier.adopt();
    let many: Vec<_> = (0..900).map(|n| reading(1 + n % 3, START + i64::from(n) * MINUTE / 8, 1.0)).collect();
    tier.put(&many).await.unwrap();
    tier.put_live(&[reading(2, START + 3 * HOUR, 2.0), reading(3, START, 2.0)]).await.unwrap();
    fill(tier, &series, &Nothing).await;
    tier.range(SeriesId(1), Timestamp(START), Timestamp(START + HOUR)).await.unwrap();
    tier.latest(&series).await.unwrap();
    tier.newest(&series).await.unwrap();
    tier.complete_from(SeriesId(1)).await.unwrap();
    tier.forget(Timestamp(START)).await.unwrap();
    let doubt = tier.doubt(&many).await.unwrap();
    tier.put_after(&many, doubt).await.unwrap();
    tier.state().await.unwrap();
    days.begin(&[day(1), day(2)]).await.unwrap();
    days.end(&[day(1), day(2)]).await.unwrap();
    let SeriesDay { series: of, day: one } = day(1);
    if let Kept::Nothing(version) = days.find(of, &[one], Bucket::Hour).await.unwrap()[0] {
        days.keep(of, Bucket::Hour, &[ToKeep { day: one, version, what: vec![1] }]).await.unwrap();
    }
    days.drop_all().await.unwrap();
    for kind in [Kind::Session, Kind::Attempt] {
        shelf.set(kind, "key", b"value", Duration::from_secs(60)).await.unwrap();
        shelf.get(kind, "key").await.unwrap();
        shelf.all(kind).await.unwrap();
        shelf.remove(kind, "key").await.unwrap();
    }
}

/// A cluster refuses commands and scripts whose keys lie in several places.
#[tokio::test]
async fn no_command_and_no_script_touches_two_places_of_a_cluster() {
    let bench = Bench::new(&["--save", ""]).await;
    let settings = HotSettings { readings_max: Some(500), ..bench.settings.clone() };
    let now = bench.now.clone();
    let tier = RedisHot::new(&settings, FUTURE_MAX, Arc::new(move || Timestamp(now.load(Ordering::SeqCst)))).unwrap();
    let seen = bench.redis.watched(all_there_is(&tier)).await;
    let (mut of_script, mut scripts) = (None, std::collections::BTreeSet::new());
    for (by_script, words) in &seen {
        if !by_script {
            of_script = None;
            scripts.extend(words.get(1).filter(|_| words[0].eq_ignore_ascii_case("EVALSHA")));
        }
        // The prefix is an argument of every script.
        let keys = words.iter().filter(|word| word.starts_with(&settings.prefix));
        let tags: Vec<&str> = keys.filter_map(|key| tag(key)).collect();
        assert!(tags.windows(2).all(|two| two[0] == two[1]), "{words:?}");
        if let (true, Some(tag)) = (by_script, tags.first()) {
            assert_eq!(of_script.get_or_insert(*tag), tag, "{words:?}");
        }
    }
    assert!(scripts.len() >= 12, "of thirteen scripts only {} ran", scripts.len());
    assert!(seen.iter().any(|(by_script, _)| *by_script), "what scripts do is seen");
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
    let (from, to, id) = (Timestamp(START), Timestamp(START + HOUR), SeriesId(1));
    let of = async |warm: &str| {
        let tier = bench.tier().unadopted();
        tier.put(&[reading(1, START, 9.0)]).await.unwrap(); // nobody knows whose that is
        assert_eq!(tier.range(id, from, to).await.unwrap(), None);
        assert_eq!(tier.latest(&[id]).await.unwrap(), []);
        tier.belong_to(warm).await.unwrap();
        tier.adopt();
        tier
    };
    let (one, two) = ([reading(1, START, 1.0)], [reading(1, START + MINUTE, 2.0)]);
    let (first, other) = (of("first").await, of("other").await);
    for (tier, put) in [(&first, one), (&other, two)] {
        fill(tier, &[], &Nothing).await;
        tier.put(&put).await.unwrap();
    }
    for (tier, put) in [(&first, one), (&other, two), (&of("first").await, one)] {
        assert_eq!(tier.range(id, from, to).await.unwrap(), Some(put.to_vec()));
        assert_eq!(tier.latest(&[id]).await.unwrap(), put);
        assert_eq!(tier.newest(&[id]).await.unwrap().readings, put);
    }
    let mut heard = first.subscribe();
    other.put_live(&[reading(1, START + 2 * MINUTE, 3.0)]).await.unwrap();
    first.put_live(&[reading(1, START + 3 * MINUTE, 4.0)]).await.unwrap();
    assert_eq!(heard.recv().await.unwrap()[..], [reading(1, START + 3 * MINUTE, 4.0)]);
}

#[tokio::test]
async fn newest_values_that_are_lost_are_found_to_be_and_put_again() {
    let bench = Bench::new(&["--save", ""]).await;
    let tier = bench.empty_tier().await;
    tier.put(&[reading(3, START, 1.0), reading(67, START, 2.0)]).await.unwrap();
    let series = [SeriesId(3), SeriesId(67)];
    assert_eq!(tier.newest(&series).await.unwrap().unsure, []);
    let mut lost = tier.lost();
    lost.mark_unchanged();
    bench.redis.command::<()>(&["DEL", &format!("{}:{{03}}:latest", bench.settings.prefix)]).await;
    let newest = tier.newest(&series).await.unwrap();
    assert_eq!(newest.unsure, series, "{newest:?}");
    assert!(lost.has_changed().unwrap(), "so that it is filled");
    assert!(tier.look().await.unwrap().lacks);
    // As whoever is told to puts again what isn't committed.
    tier.put(&[reading(3, START, 1.0), reading(67, START, 2.0)]).await.unwrap();
    fill(&tier, &series, &Nothing).await;
    assert_eq!(tier.newest(&series).await.unwrap().unsure, [], "it is sure again");
}

#[tokio::test]
async fn a_refused_login_is_tried_again_with_the_password_as_it_is_then() {
    let bench = Bench::new(&["--save", ""]).await;
    let admin = async |password: &str, words: &[&str]| {
        let client = redis::Client::open(format!("unix://{}?pass={password}", bench.redis.socket())).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let done: redis::RedisResult<redis::Value> =
            redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await;
        done.unwrap();
    };
    bench.redis.command::<()>(&["CONFIG", "SET", "requirepass", "first"]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "first").unwrap();
    let settings = HotSettings { password_file: Some(file.clone()), ..bench.settings.clone() };
    let tier = RedisHot::new(&settings, FUTURE_MAX, Arc::new(|| Timestamp(START))).unwrap();
    let one = [reading(1, START, 1.0)];
    tier.put(&one).await.unwrap();
    admin("first", &["CONFIG", "SET", "requirepass", "second"]).await;
    admin("second", &["CLIENT", "KILL", "TYPE", "normal"]).await;
    let refused = async || tier.put(&one).await.is_err_and(|error| error.to_string().contains("password_file"));
    eventually("it is refused", Duration::from_secs(20), refused).await;
    std::fs::write(&file, "second").unwrap();
    eventually("it is let in", Duration::from_secs(20), async || tier.put(&one).await.is_ok()).await;
    assert_eq!(tier.latest(&[SeriesId(1)]).await.unwrap(), one);
}

/// As Sentinel does it: the server is the same process, but what it holds is what another one held.
#[tokio::test]
async fn a_server_that_was_a_replica_in_between_proves_nothing() {
    let (port, other_port) = (services::free_port().to_string(), services::free_port().to_string());
    let bench = Bench::new(&["--save", "", "--port", &port]).await;
    let other = Redis::start_with(&["--save", "", "--port", &other_port]).await;
    let tier = bench.empty_tier().await;
    let (from, to) = (Timestamp(START), Timestamp(START + HOUR));
    let follow = async |redis: &Redis, port: &str| {
        redis.command::<()>(&["REPLICAOF", "127.0.0.1", port]).await;
        let up = async || redis.command::<String>(&["INFO", "replication"]).await.contains("master_link_status:up");
        eventually("it is a copy", Duration::from_secs(20), up).await;
    };
    follow(&other, &port).await; // this alone gives the first one another id
    let held = [reading(1, START, 1.0)];
    tier.put(&held).await.unwrap();
    fill(&tier, &[SeriesId(1)], &Truth(held.iter().map(|r| ((r.series, r.at), r.held)).collect())).await;
    assert_eq!(tier.range(SeriesId(1), from, to).await.unwrap().as_deref(), Some(&held[..]));
    other.command::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    tier.put(&[reading(1, START + MINUTE, 2.0)]).await.unwrap();
    follow(&bench.redis, &other_port).await;
    bench.redis.command::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    assert_eq!(tier.range(SeriesId(1), from, to).await.unwrap(), None);
    assert_eq!(tier.newest(&[SeriesId(1)]).await.unwrap().unsure, [SeriesId(1)]);
}

/// Another collector's commits are nothing that one knows of which just started.
#[tokio::test]
async fn who_meets_an_empty_redis_claims_nothing_of_what_was_before() {
    let bench = Bench::new(&["--save", ""]).await;
    let (a, b) = (bench.empty_tier().await, bench.tier());
    let (from, to) = (Timestamp(START), Timestamp(START + HOUR));
    a.put(&[reading(1, START, 1.0)]).await.unwrap();
    bench.redis.command::<()>(&["FLUSHALL"]).await;
    assert_eq!(b.range(SeriesId(1), from, to).await.unwrap(), None);
    b.put(&[reading(1, START + MINUTE, 2.0)]).await.unwrap();
    for tier in [&a, &b] {
        assert_eq!(tier.range(SeriesId(1), from, to).await.unwrap(), None);
    }
}

/// What is lost or owed while someone fills makes the filling void, however high the floor was.
#[tokio::test]
async fn a_filling_sees_what_is_forgotten_meanwhile() {
    let bench = Bench::new(&["--save", ""]).await;
    let (a, b) = (bench.tier(), bench.tier());
    a.put(&[reading(1, START, 1.0)]).await.unwrap();
    let seen = a.look().await.unwrap();
    b.forget(Timestamp(START - HOUR)).await.unwrap();
    let filled = a.fill(&seen, &[SeriesId(1)], &Nothing).await.unwrap();
    assert_eq!((filled.buckets, filled.left), (0, 64));
    assert_eq!(a.range(SeriesId(1), Timestamp(START), Timestamp(START + HOUR)).await.unwrap(), None);
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
        let tier = RedisHot::new(&settings, FUTURE_MAX, Arc::new(|| Timestamp(START))).unwrap();
        let why = tier.put(&[reading(1, START, 1.0)]).await.unwrap_err().to_string();
        assert!(why.contains("REDIS_PASSWORD") && !why.contains("sesame"), "{why}");
    }
    let missing = HotSettings { password_file: Some("/nowhere".into()), password: None, ..right };
    let why = error(ask(missing).await);
    assert!(why.contains("password_file = \"/nowhere\""), "{why}");
}

#[tokio::test]
async fn over_tls_the_server_proves_its_name() {
    use collector::ca::Authority;
    use collector::tiers::hot::redis::probe;
    let folder = tempfile::tempdir().unwrap();
    let [ours, theirs] = ["ours", "theirs"].map(|name| folder.path().join(name));
    Authority::init(&ours, &["localhost".into()]).unwrap();
    Authority::init(&theirs, &["localhost".into()]).unwrap();
    let port = services::free_port();
    let file = |name: &str| ours.join(name).display().to_string();
    let (number, cert, key, ca) = (port.to_string(), file("server.pem"), file("server.key"), file("ca.pem"));
    let options = ["--tls-port", &number, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
    let redis = Redis::start_with(&[&options[..], &["--tls-auth-clients", "no", "--save", ""]].concat()).await;
    let settings = HotSettings {
        host: "localhost".into(),
        port,
        tls: true,
        tls_ca: Some(ours.join("ca.pem")),
        ..redis.settings()
    };
    let tier = |settings: &HotSettings| RedisHot::new(settings, FUTURE_MAX, Arc::new(|| Timestamp(START))).unwrap();
    let one = reading(1, START, 1.0);
    let right = tier(&settings);
    right.put(&[one]).await.unwrap();
    assert_eq!(right.latest(&[SeriesId(1)]).await.unwrap(), [one]);
    let asked = settings.clone();
    assert!(tokio::task::spawn_blocking(move || probe(&asked)).await.unwrap().unwrap().contains("version"));
    let stranger = HotSettings { tls_ca: Some(theirs.join("ca.pem")), ..settings.clone() };
    let other_name = HotSettings { host: "127.0.0.1".into(), ..settings.clone() };
    for wrong in [stranger, other_name] {
        let why = tier(&wrong).put(&[one]).await.unwrap_err().to_string();
        assert!(why.contains("tls_ca"), "{why}");
    }
    let nowhere = HotSettings { tls_ca: Some("/nowhere".into()), ..settings };
    let why = RedisHot::new(&nowhere, FUTURE_MAX, Arc::new(|| Timestamp(START))).err().unwrap().to_string();
    assert!(why.contains("tls_ca = \"/nowhere\""), "{why}");
}
