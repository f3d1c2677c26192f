//! Tiers whose clock the test sets, and what they should hold.

#![allow(unreachable_pub)] // of modules of a test

use crate::support::faulty::FaultyCold;
use collector::anomalies::Anomalies;
use collector::etl::jobs::Alarm;
use collector::etl::jobs::cleanup::Cleanup;
use collector::etl::jobs::daily_sync::DailySync;
use collector::etl::jobs::data_quality::DataQuality;
use collector::etl::ledger::Raw;
use collector::history::{History, POINTS_MAX, Points, Question, Resolution};
use collector::rollup::{Rollup, hold};
use collector::tiers::cold::parquet::ParquetCold;
use collector::tiers::hot::memory::MemoryHot;
use collector::tiers::warm::sqlite::SqliteWarm;
use collector::tiers::*;
use futures::TryStreamExt as _;
use jiff::tz::TimeZone;
use shared::catalogue::{Class, Entry};
use shared::ids::{GatewayId, NodeId};
use shared::metric::Kind;
use shared::reading::{Held, Quality, Timestamp};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

pub const HOUR: i64 = 3_600_000_000;
/// 2024-10-04: the days of a test count from here.
pub const FIRST: Day = Day(20_000);

pub type Truth = BTreeMap<(SeriesId, Timestamp), Held>;

pub struct World {
    pub warm: Arc<dyn WarmTier>,
    pub cold: Option<Arc<dyn ColdTier>>,
    pub faulty: Arc<FaultyCold>,
    pub series: Vec<SeriesInfo>,
    pub truth: Truth,
    pub alarm: Arc<Alarm>,
    clock: Arc<AtomicI64>,
    pub folder: tempfile::TempDir,
}

pub fn open_cold(folder: &Path) -> Arc<ParquetCold> {
    Arc::new(ParquetCold::in_folder(folder.join("cold")).unwrap())
}

pub async fn open_warm(folder: &Path) -> Arc<dyn WarmTier> {
    Arc::new(SqliteWarm::open(&folder.join("warm.sqlite")).await.unwrap())
}

/// Two gauges and a counter.
async fn series(warm: &dyn WarmTier) -> Vec<SeriesInfo> {
    let entry = |(node, kind): (&str, Kind)| Entry {
        node: NodeId::new(node).unwrap(),
        metric: if kind == Kind::Counter { "total_volume".into() } else { "pressure".into() },
        channel: String::new(),
        kind,
        unit: if kind == Kind::Counter { "m³".into() } else { "bar".into() },
        resolution_exp: None,
        interval_ms: 600_000,
        silence_ms_max: 0,
        class: Class::Raw,
    };
    let entries = [("A", Kind::Gauge), ("B", Kind::Counter), ("C", Kind::Gauge)].map(entry);
    warm.series_for(&GatewayId::new("STATION_7").unwrap(), &entries).await.unwrap();
    warm.series(None).await.unwrap()
}

pub fn reading(series: &SeriesInfo, day: i32, after_start: i64, value: f64) -> StoredReading {
    let held = Held { value: Some(value), quality: Quality::GOOD, revision: 0 };
    StoredReading { series: series.id, at: Day(FIRST.0 + day).start().plus_micros(after_start), held }
}

/// `count` readings of each series and day, evenly spread; some of them bad.
pub fn some(series: &[SeriesInfo], days: std::ops::Range<i32>, count: i64) -> Vec<StoredReading> {
    let one = |series: &SeriesInfo, day: i32, n: i64| {
        let mut one = reading(series, day, n * 24 * HOUR / count, f64::from(day) + (n % 7) as f64 / 4.0);
        if n % 11 == 10 {
            one.held = Held { value: None, quality: Quality::BAD_TIMEOUT, revision: 0 };
        }
        one
    };
    let days = days.flat_map(|day| series.iter().map(move |series| (series, day)));
    days.flat_map(|(series, day)| (0..count).map(move |n| one(series, day, n))).collect()
}

/// Takes readings in by the rule.
pub fn learn(truth: &mut Truth, readings: &[StoredReading]) {
    for reading in readings {
        let held = truth.entry((reading.series, reading.at)).or_insert(reading.held);
        if reading.held.wins_over(held) {
            *held = reading.held;
        }
    }
}

/// The sums of buckets, from parts in ascending order.
fn sums(parts: impl Iterator<Item = (Timestamp, Rollup)>, width: Bucket, hold: i64) -> Vec<(Timestamp, Rollup)> {
    let mut sums: Vec<(Timestamp, Rollup)> = Vec::new();
    for (at, part) in parts {
        match sums.last_mut() {
            Some((start, sum)) if *start == width.start_of(at) => *sum = sum.then(&part, hold),
            _ => sums.push((width.start_of(at), part)),
        }
    }
    sums
}

pub async fn refresh_all(warm: &dyn WarmTier) {
    while warm.refresh_rollups(1_000).await.unwrap() > 0 {}
}

impl World {
    /// On SQLite.
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let warm = open_warm(folder.path()).await;
        Self::on(warm, folder).await
    }

    pub async fn on(warm: Arc<dyn WarmTier>, folder: tempfile::TempDir) -> Self {
        let faulty = FaultyCold::new(open_cold(folder.path()));
        let series = series(&*warm).await;
        let clock = Arc::new(AtomicI64::new(FIRST.start().0));
        let (cold, alarm, truth) = (Some(faulty.clone() as Arc<dyn ColdTier>), Arc::default(), Truth::new());
        Self { warm, cold, faulty, series, truth, alarm, clock, folder }
    }

    /// Another one, empty, with the same series.
    pub async fn replace_warm(&mut self) {
        self.warm.close().await;
        self.warm = Arc::new(SqliteWarm::open(&self.folder.path().join("other.sqlite")).await.unwrap());
        self.series = series(&*self.warm).await;
    }

    /// So many hours into a day.
    pub fn set_clock(&self, day: i32, hours: i64) {
        self.clock.store(Day(FIRST.0 + day).start().0 + hours * HOUR, Ordering::SeqCst);
    }

    pub fn now(&self) -> Timestamp {
        Timestamp(self.clock.load(Ordering::SeqCst))
    }

    fn hands(&self) -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
        let clock = self.clock.clone();
        Arc::new(move || Timestamp(clock.load(Ordering::SeqCst)))
    }

    pub fn sync(&self) -> DailySync {
        let (warm, cold, now) = (self.warm.clone(), self.cold.clone(), self.hands());
        DailySync { warm, cold, inbox: None, now, alarm: self.alarm.clone() }
    }

    pub fn cleanup(&self, keep_days: u32) -> Cleanup {
        Cleanup::new(self.warm.clone(), self.cold.clone(), keep_days, self.hands(), self.alarm.clone())
    }

    pub fn reports(&self) -> DataQuality {
        let (warm, cold, anomalies) = (self.warm.clone(), self.cold.clone(), Anomalies::new(self.warm.clone(), None));
        DataQuality { warm, cold, anomalies: Arc::new(anomalies), zone: TimeZone::UTC, now: self.hands() }
    }

    pub fn history(&self) -> History {
        let hot = Arc::new(MemoryHot::new(Day::LAST.start(), 1_000, self.hands())); // it knows nothing
        History::new(self.warm.clone(), hot).with_cold(self.cold.clone())
    }

    pub async fn put(&mut self, readings: &[StoredReading]) {
        learn(&mut self.truth, readings);
        self.warm.commit(Flush { readings: readings.to_vec(), ..Flush::default() }).await.unwrap();
    }

    pub async fn store(&mut self, days: std::ops::Range<i32>, count: i64) {
        let readings = some(&self.series, days, count);
        self.put(&readings).await;
    }

    fn true_of(&self, series: SeriesId, from: Timestamp, to: Timestamp) -> Vec<StoredReading> {
        let range = self.truth.range((series, from)..(series, to));
        range.map(|((series, at), held)| StoredReading { series: *series, at: *at, held: *held }).collect()
    }

    fn true_day(&self, day: Day) -> Vec<StoredReading> {
        self.series.iter().flat_map(|s| self.true_of(s.id, day.start(), day.end())).collect()
    }

    /// The first days, row by row.
    pub async fn archive_is_true(&self, days: i32) {
        for day in (0..days).map(|day| Day(FIRST.0 + day)) {
            let runs: Vec<Run> = self.faulty.inner.day(day).try_collect().await.unwrap();
            let mut found: Vec<_> = runs.into_iter().flat_map(|run| run.readings).collect();
            found.sort_by_key(|reading| (reading.series, reading.at));
            let mut wanted = self.true_day(day);
            wanted.sort_by_key(|reading| (reading.series, reading.at));
            assert!(found == wanted, "{day}: {} rows instead of {}", found.len(), wanted.len());
        }
    }

    /// Days that have left are empty, all others are whole.
    pub async fn warm_is_true(&self, days: i32) {
        let ledger = self.warm.days().days(FIRST, Day(FIRST.0 + days)).await.unwrap();
        for entry in ledger {
            assert_ne!(entry.raw, Raw::Leaving, "{entry:?}");
            let wanted = if entry.raw == Raw::Gone { Vec::new() } else { self.true_day(entry.day) };
            let mut found = Vec::new();
            for series in &self.series {
                let (from, to) = (entry.day.start(), entry.day.end());
                found.extend(self.warm.range(series.id, from, to, u32::MAX).await.unwrap());
            }
            assert!(found == wanted, "{}: {} rows instead of {}", entry.day, found.len(), wanted.len());
        }
    }

    /// All of them, whether their readings are there or not.
    pub async fn rollups_are_true(&self, days: i32) {
        let (from, to) = (FIRST.start(), Day(FIRST.0 + days).start());
        refresh_all(&*self.warm).await;
        for series in &self.series {
            let hold = hold(series.interval_ms, series.silence_ms_max);
            // An hour is the sum of its twelve parts: so floating point rounds alike.
            let parts = self.true_of(series.id, from, to).into_iter().map(|r| (r.at, Rollup::of(r.at, &r.held)));
            let five = sums(parts, Bucket::FiveMinutes, hold);
            let hours = sums(five.iter().copied(), Bucket::Hour, hold);
            for (width, wanted) in [(Bucket::FiveMinutes, five), (Bucket::Hour, hours)] {
                let found = self.warm.rollups(series.id, width, from, to).await.unwrap();
                assert_eq!(found.dirty, []);
                assert!(found.clean == wanted, "{width:?} of {}", series.key);
            }
        }
    }

    /// Every reading comes back, once and in order, and nothing is said to be missing.
    pub async fn answers_are_true(&self, days: i32) {
        let history = self.history();
        for series in &self.series {
            let (mut from, to) = (FIRST.start(), Day(FIRST.0 + days).start());
            let wanted = self.true_of(series.id, from, to);
            let mut found = Vec::new();
            while from < to {
                let (resolution, points_max) = (Resolution::Raw, POINTS_MAX);
                let series = series.clone();
                let question = Question { series, from, to, resolution, points_max, thin: None, now: self.now() };
                let answer = history.ask(&question).await.unwrap();
                assert!(answer.degraded.is_empty(), "{:?}", answer.degraded);
                let Points::Raw(points) = answer.points else { panic!("buckets") };
                found.extend(points);
                from = answer.to;
            }
            assert!(found == wanted, "{}: {} readings instead of {}", series.key, found.len(), wanted.len());
        }
    }

    /// The newest reading of each series.
    pub async fn latest_is_true(&self) {
        let ids: Vec<SeriesId> = self.series.iter().map(|series| series.id).collect();
        let mut found = self.warm.latest(&ids).await.unwrap();
        found.sort_by_key(|reading| reading.series);
        let newest = |id: &SeriesId| {
            let last = self.truth.range((*id, Timestamp(i64::MIN))..=(*id, Timestamp(i64::MAX))).next_back();
            last.map(|((series, at), held)| StoredReading { series: *series, at: *at, held: *held })
        };
        let mut wanted: Vec<_> = ids.iter().filter_map(newest).collect();
        wanted.sort_by_key(|reading| reading.series);
        assert_eq!(found, wanted);
    }
}
