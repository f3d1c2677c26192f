//! The hot tier in this process's memory.
//!
//! It starts empty, so what it can prove begins after its start: a reading that is later than that can only have
//! come through [`HotTier::put`]. Invariants: a series' readings are ascending and unique by time; nothing before
//! its floor is held; nothing at or after the floor was ever left out; the total is bounded.

use crate::tiers::{Doubt, Doubted, HotState, HotTier, Newest, SeriesId, StoredReading, TierFuture};
use shared::reading::{Held, Timestamp};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;

/// How long readings stay if nothing else is said, microseconds.
pub const AGE_MAX: i64 = 24 * 3_600 * 1_000_000;
/// Whoever asks from when on this is complete has so long to ask for it, microseconds: the horizon moves on meanwhile.
const TIME_TO_ASK: i64 = 60 * 1_000_000;
/// Batches that a slow subscriber may be behind.
const FEED_BATCHES: usize = 1_024;

/// What the tier knows of the time; tests bring their own.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The tier.
pub struct MemoryHot {
    now: Now,
    age: i64,
    readings_max: usize,
    held: Mutex<Table>,
    feed: broadcast::Sender<Arc<[StoredReading]>>,
}

struct Table {
    series: HashMap<SeriesId, Series>,
    /// Nothing before this can be proved for any series.
    floor: Timestamp,
    readings: usize,
    evicted: u64,
}

#[derive(Default)]
struct Series {
    latest: Option<(Timestamp, Held)>,
    readings: VecDeque<(Timestamp, Held)>,
    floor: Option<Timestamp>,
    /// Before this readings may have been committed that are not held yet; unlike the floor it keeps none out.
    doubted: Option<Timestamp>,
}

impl MemoryHot {
    /// An empty tier. `complete_from`: no reading at or after this was stored before the tier was there; the start of
    /// the program and how far readings may lie in the future. `readings_max` bounds the memory, at 32 bytes each.
    #[must_use]
    pub fn new(complete_from: Timestamp, readings_max: usize, now: Now) -> Self {
        let table = Table { series: HashMap::new(), floor: complete_from, readings: 0, evicted: 0 };
        Self { now, age: AGE_MAX, readings_max, held: Mutex::new(table), feed: broadcast::channel(FEED_BATCHES).0 }
    }

    /// Keeps readings for so long, microseconds.
    #[must_use]
    pub fn with_age(self, age: i64) -> Self {
        Self { age, ..self }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, readings: &[StoredReading]) {
        if !readings.is_empty() && self.feed.receiver_count() > 0 {
            let _ = self.feed.send(readings.into());
        }
    }

    fn horizon(&self) -> Timestamp {
        (self.now)().plus_micros(-self.age)
    }
}

/// The moment after the last reading of each series that lies at or after `horizon`: of what is older nothing is proved
/// anyway.
pub(super) fn ends(readings: &[StoredReading], horizon: Timestamp) -> BTreeMap<SeriesId, Timestamp> {
    let mut ends = BTreeMap::new();
    for reading in readings.iter().filter(|reading| reading.at >= horizon) {
        let end = ends.entry(reading.series).or_insert(reading.at);
        *end = reading.at.plus_micros(1).max(*end);
    }
    ends
}

impl Table {
    fn floor_of(&self, series: SeriesId, horizon: Timestamp) -> Timestamp {
        let own = self.series.get(&series).and_then(|s| s.floor.max(s.doubted)).unwrap_or(self.floor);
        own.max(self.floor).max(horizon)
    }

    fn doubt(&mut self, series: SeriesId, until: Timestamp) -> Doubted {
        let doubted = &mut self.series.entry(series).or_default().doubted;
        let before = *doubted;
        let since = before.map_or(until, |before| until.max(before.plus_micros(1)));
        *doubted = Some(since);
        Doubted { series, before, since }
    }

    /// Unless it was doubted again.
    fn trust(&mut self, of: &Doubted) {
        if let Some(series) = self.series.get_mut(&of.series).filter(|series| series.doubted == Some(of.since)) {
            series.doubted = of.before;
        }
    }

    fn put(&mut self, reading: &StoredReading, horizon: Timestamp) {
        let floor = self.floor.max(horizon);
        let series = self.series.entry(reading.series).or_default();
        series.offer_latest(reading);
        let before = series.readings.len();
        series.expire(floor);
        if reading.at >= floor.max(series.floor.unwrap_or(floor)) {
            series.insert(reading.at, reading.held);
        }
        self.readings = self.readings - before + series.readings.len();
    }

    /// What is refused may have won against another reading of its moment, which is gone: nothing is proved up to there.
    fn withdraw(&mut self, refused: &[StoredReading], horizon: Timestamp) {
        for reading in refused {
            if let Some(series) = self.series.get_mut(&reading.series) {
                series.take_out(reading);
                series.floor = series.floor.max(Some(reading.at.plus_micros(1)));
            }
        }
        self.expire_all(horizon);
    }

    /// Makes room: the longest series gives up its oldest quarter, and can prove less from then on.
    fn evict(&mut self, readings_max: usize) {
        while self.readings > readings_max {
            let Some(longest) = self.series.values_mut().max_by_key(|s| s.readings.len()) else { return };
            let count = longest.readings.len().div_ceil(4);
            if count == 0 {
                return;
            }
            if let Some((last, _)) = longest.readings.drain(..count).next_back() {
                longest.floor = Some(last.plus_micros(1));
            }
            self.readings -= count;
            self.evicted += count as u64;
        }
    }

    fn expire_all(&mut self, horizon: Timestamp) {
        let floor = self.floor.max(horizon);
        self.series.values_mut().for_each(|s| s.expire(s.floor.unwrap_or(floor).max(floor)));
        self.readings = self.series.values().map(|s| s.readings.len()).sum();
    }
}

impl Series {
    fn offer_latest(&mut self, reading: &StoredReading) {
        let newer =
            self.latest.is_none_or(|(at, held)| reading.at > at || reading.at == at && reading.held.wins_over(&held));
        if newer {
            self.latest = Some((reading.at, reading.held));
        }
    }

    fn insert(&mut self, at: Timestamp, held: Held) {
        let place = match self.readings.back() {
            Some((last, _)) if *last >= at => self.readings.partition_point(|(t, _)| *t < at),
            _ => self.readings.len(),
        };
        match self.readings.get_mut(place) {
            Some((t, kept)) if *t == at => {
                if held.wins_over(kept) {
                    *kept = held;
                }
            }
            _ => self.readings.insert(place, (at, held)),
        }
    }

    fn take_out(&mut self, refused: &StoredReading) {
        let there = (refused.at, refused.held);
        self.readings.retain(|held| *held != there);
        if self.latest == Some(there) {
            self.latest = self.readings.back().copied();
        }
    }

    fn expire(&mut self, floor: Timestamp) {
        while self.readings.front().is_some_and(|(at, _)| *at < floor) {
            self.readings.pop_front();
        }
    }
}

impl HotTier for MemoryHot {
    fn put<'a>(&'a self, readings: &'a [StoredReading]) -> TierFuture<'a, ()> {
        self.put_after(readings, Doubt::default())
    }

    fn put_live<'a>(&'a self, readings: &'a [StoredReading]) -> TierFuture<'a, ()> {
        {
            let mut table = self.lock();
            for reading in readings {
                table.series.entry(reading.series).or_default().offer_latest(reading);
            }
        }
        self.publish(readings);
        Box::pin(async { Ok(()) })
    }

    fn latest<'a>(&'a self, series: &'a [SeriesId]) -> TierFuture<'a, Vec<StoredReading>> {
        let table = self.lock();
        let newest = |id: &SeriesId| {
            let (at, held) = table.series.get(id)?.latest?;
            Some(StoredReading { series: *id, at, held })
        };
        let found = series.iter().filter_map(newest).collect();
        Box::pin(async { Ok(found) })
    }

    fn newest<'a>(&'a self, series: &'a [SeriesId]) -> TierFuture<'a, Newest> {
        let (table, horizon) = (self.lock(), self.horizon());
        let mut newest = Newest::default();
        for id in series {
            let latest = table.series.get(id).and_then(|of| of.latest);
            newest.readings.extend(latest.map(|(at, held)| StoredReading { series: *id, at, held }));
            // Whatever lies at or after the floor was put here.
            if latest.is_none_or(|(at, _)| at < table.floor_of(*id, horizon)) {
                newest.unsure.push(*id);
            }
        }
        Box::pin(async { Ok(newest) })
    }

    fn complete_from(&self, series: SeriesId) -> TierFuture<'_, Option<Timestamp>> {
        let floor = self.lock().floor_of(series, self.horizon().plus_micros(TIME_TO_ASK));
        Box::pin(async move { Ok(Some(floor)) })
    }

    fn range(&self, series: SeriesId, from: Timestamp, to: Timestamp) -> TierFuture<'_, Option<Vec<StoredReading>>> {
        let table = self.lock();
        let found = (from >= table.floor_of(series, self.horizon())).then(|| {
            let Some(held) = table.series.get(&series).map(|s| &s.readings) else { return Vec::new() };
            let start = held.partition_point(|(at, _)| *at < from);
            let within = held.range(start..).take_while(|(at, _)| *at < to);
            within.map(|&(at, held)| StoredReading { series, at, held }).collect()
        });
        Box::pin(async { Ok(found) })
    }

    fn forget(&self, before: Timestamp) -> TierFuture<'_, ()> {
        let mut table = self.lock();
        table.floor = table.floor.max(before);
        table.expire_all(self.horizon());
        Box::pin(async { Ok(()) })
    }

    fn doubt<'a>(&'a self, readings: &'a [StoredReading]) -> TierFuture<'a, Doubt> {
        let mut table = self.lock();
        let doubted = ends(readings, self.horizon()).into_iter().map(|(series, until)| table.doubt(series, until));
        let doubt = Doubt(doubted.collect());
        Box::pin(async { Ok(doubt) })
    }

    fn put_after<'a>(&'a self, readings: &'a [StoredReading], doubt: Doubt) -> TierFuture<'a, ()> {
        let horizon = self.horizon();
        {
            let mut table = self.lock();
            for reading in readings {
                table.put(reading, horizon);
            }
            doubt.0.iter().for_each(|of| table.trust(of));
            if table.readings > self.readings_max {
                table.expire_all(horizon);
                table.evict(self.readings_max);
            }
        }
        self.publish(readings);
        Box::pin(async { Ok(()) })
    }

    fn withdraw<'a>(&'a self, readings: &'a [StoredReading]) -> TierFuture<'a, ()> {
        let mut table = self.lock();
        table.withdraw(readings, self.horizon());
        Box::pin(async { Ok(()) })
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<[StoredReading]>> {
        self.feed.subscribe()
    }

    fn state(&self) -> TierFuture<'_, HotState> {
        let mut table = self.lock();
        table.expire_all(self.horizon());
        let state = HotState {
            series: table.series.len() as u64,
            readings: table.readings as u64,
            evicted: table.evicted,
            bytes: Some((table.readings * size_of::<(Timestamp, Held)>()) as u64),
        };
        Box::pin(async move { Ok(state) })
    }
}
