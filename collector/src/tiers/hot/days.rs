//! Days of a series' rollups that were asked for, kept until something of the day changes.
//!
//! Every (series, day) has a version. Whoever commits readings of a past day says so before (`begin`): from then on
//! nothing of that day is taken from here or kept; and after (`end`): the day has a new version, which nobody has kept
//! anything under. Whoever reads takes the version first and keeps what it found under that one. So what is found here
//! is what the warm tier would say, and late data throws out exactly the days it touched.
//!
//! One trait, one contract suite (`tests/contract_days.rs`), memory and Redis.

use crate::rollup::Rollup;
use crate::tiers::{Bucket, SeriesId, StoredReading, TierError, TierFuture};
use shared::reading::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A day in microseconds.
pub const DAY: i64 = 24 * 3_600 * 1_000_000;
/// A day is kept from so long after its end on: clocks of collectors differ, and it hardly changes then.
const SETTLED: i64 = 2 * 3_600 * 1_000_000;
/// Most days in memory; of five minutes a day takes about 50 KB.
const DAYS_MAX: usize = 2_000;

/// A day of a series, counted from 1970 in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SeriesDay {
    /// The series.
    pub series: SeriesId,
    /// The day.
    pub day: i64,
}

/// Beside all days: what is active, see [`crate::anomalies`]. No series has this number.
pub const ACTIVE: SeriesDay = SeriesDay { series: SeriesId(u32::MAX), day: 0 };

/// What is known of a day.
#[derive(Clone, PartialEq, Debug)]
pub enum Kept {
    /// Its rollups, as they are now.
    Day(Vec<u8>),
    /// Nothing yet: what is read from now on may be kept under this version.
    Nothing(u64),
    /// It is being changed: nothing may be kept.
    Changing,
}

/// A day of a series that is to be kept, and under which version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ToKeep<T> {
    /// The day, counted from 1970 in UTC.
    pub day: i64,
    /// As it was found.
    pub version: u64,
    /// What is kept.
    pub what: T,
}

/// Where days are kept. What is given back is only ever what was kept under the version that still holds.
pub trait Days: Send + Sync + 'static {
    /// What is known of days of a series, in their order.
    fn find<'a>(&'a self, series: SeriesId, days: &'a [i64], bucket: Bucket) -> TierFuture<'a, Vec<Kept>>;

    /// Keeps days of a series, each if that is still its version.
    fn keep<'a>(&'a self, series: SeriesId, bucket: Bucket, days: &'a [ToKeep<Vec<u8>>]) -> TierFuture<'a, ()>;

    /// Something of these days is about to change.
    fn begin<'a>(&'a self, days: &'a [SeriesDay]) -> TierFuture<'a, ()>;

    /// It has changed.
    fn end<'a>(&'a self, days: &'a [SeriesDay]) -> TierFuture<'a, ()>;

    /// Throws out everything.
    fn drop_all(&self) -> TierFuture<'_, ()>;
}

/// The past days that a commit changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Touched {
    days: Vec<SeriesDay>,
    /// Whether all who look for them there see that they change.
    pub told: bool,
}

/// Days, and whether they can be trusted: what could not be told to them makes them useless until they are empty.
pub struct DayCache {
    days: Arc<dyn Days>,
    /// Counts what could not be told.
    faults: AtomicU64,
    /// So many of them are made good.
    healed: AtomicU64,
    /// How often each series was asked for.
    asked: Mutex<HashMap<SeriesId, u64>>,
}

impl DayCache {
    /// Nothing of before is trusted.
    #[must_use]
    pub fn new(days: Arc<dyn Days>) -> Self {
        Self { days, faults: AtomicU64::new(1), healed: AtomicU64::new(0), asked: Mutex::default() }
    }

    /// The faults up to now, all of them made good; `None` when that can't be.
    async fn healed(&self) -> Option<u64> {
        let faults = self.faults.load(Ordering::SeqCst);
        if self.healed.load(Ordering::SeqCst) < faults {
            self.days.drop_all().await.ok()?;
            self.healed.fetch_max(faults, Ordering::SeqCst);
        }
        Some(faults)
    }

    fn note<T>(&self, told: &Result<T, TierError>) {
        if told.is_err() {
            self.faults.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Before a commit. Gives what [`DayCache::end`] is told when it succeeded; when it failed, nobody knows what became
    /// of it, and these days are not kept until it was repeated. [`Touched::told`] is whether others know.
    pub async fn begin<'a>(&self, readings: impl IntoIterator<Item = &'a StoredReading>, now: Timestamp) -> Touched {
        let days = past(readings, now);
        if days.is_empty() {
            return Touched { days, told: true };
        }
        let begun = self.days.begin(&days).await;
        self.note(&begun);
        Touched { days, told: begun.is_ok() }
    }

    /// After a commit that succeeded.
    pub async fn end(&self, touched: &Touched) {
        if !touched.days.is_empty() {
            self.note(&self.days.end(&touched.days).await);
        }
    }

    /// Notes that someone asks for a series.
    pub fn ask(&self, series: SeriesId) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        *asked.entry(series).or_default() += 1;
    }

    /// How often each series was asked for.
    #[must_use]
    pub fn asked(&self) -> HashMap<SeriesId, u64> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The rollups of days that someone asks for; of past ones it is counted whether they are there.
    pub async fn find(&self, series: SeriesId, days: &[i64], bucket: Bucket, now: Timestamp) -> Vec<Found> {
        let found = self.look(series, days, bucket, now).await;
        let settled = days.iter().zip(&found).filter(|(day, _)| is_settled(**day, now)).map(|(_, found)| found.is_ok());
        let (hits, misses): (Vec<_>, Vec<_>) = settled.partition(|hit| *hit);
        for (outcome, count) in [("hit", hits.len()), ("miss", misses.len())] {
            metrics::counter!("collector_cache_lookups_total", "outcome" => outcome).increment(count as u64);
        }
        found
    }

    /// The rollups of days, in their order.
    pub async fn look(&self, series: SeriesId, days: &[i64], bucket: Bucket, now: Timestamp) -> Vec<Found> {
        let settled: Vec<i64> = days.iter().copied().filter(|day| is_settled(*day, now)).collect();
        let mut found = self.look_settled(series, &settled, bucket).await.into_iter();
        let of_day = |day: &i64| if is_settled(*day, now) { found.next().unwrap_or(Err(None)) } else { Err(None) };
        days.iter().map(of_day).collect()
    }

    async fn look_settled(&self, series: SeriesId, days: &[i64], bucket: Bucket) -> Vec<Found> {
        if days.is_empty() {
            return Vec::new();
        }
        let Some(faults) = self.healed().await else { return Vec::new() };
        let Ok(found) = self.days.find(series, days, bucket).await else { return Vec::new() };
        // What could not be told while this was looked for makes it worthless.
        if self.faults.load(Ordering::SeqCst) != faults {
            return Vec::new();
        }
        let read = |kept| match kept {
            Kept::Day(bytes) => postcard::from_bytes(&bytes).map_err(|_| None),
            Kept::Nothing(version) => Err(Some(version)),
            Kept::Changing => Err(None),
        };
        found.into_iter().map(read).collect()
    }

    /// Keeps days' rollups, none of which is out of date.
    pub async fn keep(&self, series: SeriesId, bucket: Bucket, days: &[ToKeep<&[(Timestamp, Rollup)]>]) {
        let written = |of: &ToKeep<&[(Timestamp, Rollup)]>| {
            let what = postcard::to_allocvec(of.what).ok()?;
            Some(ToKeep { day: of.day, version: of.version, what })
        };
        let days: Vec<_> = days.iter().filter_map(written).collect();
        if !days.is_empty()
            && let Err(error) = self.days.keep(series, bucket, &days).await
        {
            tracing::debug!(%error, "days of rollups are not cached");
        }
    }
}

/// A day's rollups; or, when they are not there, the version under which they may be kept, if they may.
pub type Found = Result<Vec<(Timestamp, Rollup)>, Option<u64>>;

fn is_settled(day: i64, now: Timestamp) -> bool {
    (day + 1).saturating_mul(DAY).saturating_add(SETTLED) <= now.0
}

/// The past days among these readings' days.
fn past<'a>(readings: impl IntoIterator<Item = &'a StoredReading>, now: Timestamp) -> Vec<SeriesDay> {
    let today = now.0.div_euclid(DAY);
    let days = readings.into_iter().map(|r| SeriesDay { series: r.series, day: r.at.0.div_euclid(DAY) });
    days.filter(|of| of.day < today).collect::<BTreeSet<_>>().into_iter().collect()
}

/// In this process's memory: right only where nobody else commits.
#[derive(Default)]
pub struct MemoryDays {
    table: Mutex<Table>,
    versions: AtomicU64,
}

#[derive(Default)]
struct Table {
    versions: BTreeMap<SeriesDay, Option<u64>>,
    days: BTreeMap<(SeriesDay, bool), (u64, Vec<u8>)>,
}

impl Table {
    fn clear(&mut self) {
        self.days.clear();
        self.versions.retain(|_, version| version.is_none());
    }
}

impl MemoryDays {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self) -> u64 {
        self.versions.fetch_add(1, Ordering::Relaxed)
    }
}

impl Table {
    fn find(&mut self, of: SeriesDay, bucket: Bucket, fresh: impl FnOnce() -> u64) -> Kept {
        if self.versions.len() >= 4 * DAYS_MAX {
            self.clear();
        }
        let version = *self.versions.entry(of).or_insert_with(|| Some(fresh()));
        match (version, self.days.get(&(of, bucket == Bucket::Hour))) {
            (None, _) => Kept::Changing,
            (Some(version), Some((kept, bytes))) if *kept == version => Kept::Day(bytes.clone()),
            (Some(version), _) => Kept::Nothing(version),
        }
    }

    fn keep(&mut self, of: SeriesDay, bucket: Bucket, version: u64, bytes: &[u8]) {
        if self.days.len() >= DAYS_MAX {
            // Whoever is looking at these days finds them again; a version that is gone is never used again.
            self.clear();
        } else if self.versions.get(&of) == Some(&Some(version)) {
            self.days.insert((of, bucket == Bucket::Hour), (version, bytes.to_vec()));
        }
    }
}

impl Days for MemoryDays {
    fn find<'a>(&'a self, series: SeriesId, days: &'a [i64], bucket: Bucket) -> TierFuture<'a, Vec<Kept>> {
        let mut table = self.lock();
        let find = |day: &i64| table.find(SeriesDay { series, day: *day }, bucket, || self.fresh());
        let found = days.iter().map(find).collect();
        Box::pin(async { Ok(found) })
    }

    fn keep<'a>(&'a self, series: SeriesId, bucket: Bucket, days: &'a [ToKeep<Vec<u8>>]) -> TierFuture<'a, ()> {
        let mut table = self.lock();
        for ToKeep { day, version, what } in days {
            table.keep(SeriesDay { series, day: *day }, bucket, *version, what);
        }
        Box::pin(async { Ok(()) })
    }

    fn begin<'a>(&'a self, days: &'a [SeriesDay]) -> TierFuture<'a, ()> {
        let mut table = self.lock();
        for of in days {
            table.versions.insert(*of, None);
            table.days.remove(&(*of, false));
            table.days.remove(&(*of, true));
        }
        Box::pin(async { Ok(()) })
    }

    fn end<'a>(&'a self, days: &'a [SeriesDay]) -> TierFuture<'a, ()> {
        let mut table = self.lock();
        for of in days {
            table.versions.remove(of); // the next to ask gets a fresh one
        }
        Box::pin(async { Ok(()) })
    }

    fn drop_all(&self) -> TierFuture<'_, ()> {
        self.lock().clear();
        Box::pin(async { Ok(()) })
    }
}
