//! The hot tier in Redis, shared by all collectors.
//!
//! A series' readings of one hour are one string that records are appended to (`record`), expiring by itself. What
//! is proved is written down beside them and checked by the same script that reads them (`lua/common.lua`): a server
//! that was emptied, restarted, failed over, or lost or changed single keys makes the proof fail, and then the warm
//! tier is asked. Records may stand several times; readers settle that by the rule of conflicts. Newest values are in
//! hashes that only go forward in time. Live values travel by publish and subscribe.
//!
//! All keys of a bucket of series have one hash tag, every script touches one bucket, and no command more than one
//! key, so a cluster can hold them.

mod adopt;
mod batch;
mod days;
mod doubt;
mod evict;
mod feed;
mod fill;
mod link;
mod mirror;
mod newest;
mod record;
mod shelf;
mod withdraw;

pub use days::RedisDays;
pub use fill::{Filled, Seen, Source};
pub use link::probe;
pub use shelf::RedisShelf;

use crate::tiers::hot::memory::Now;
use crate::tiers::hot::settings::HotSettings;
use crate::tiers::{Doubt, HotState, HotTier, Newest, SeriesId, StoredReading, TierError, TierFuture};
use batch::{BUCKETS, Batch, bucket_of};
use feed::Feed;
use futures::future::try_join_all;
use futures::{StreamExt as _, TryStreamExt as _};
use link::Link;
use mirror::{Mirror, Version};
use record::{HOUR, hour_of};
use redis::{Script, ScriptInvocation};
use shared::reading::Timestamp;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::atomic::{self, AtomicBool};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{broadcast, watch};

const TIER: &str = "hot tier (Redis)";
/// Whoever asks from when on this is complete has so long to ask for it, microseconds: the horizon moves on meanwhile.
const TIME_TO_ASK: i64 = 60 * 1_000_000;
/// Where readings go while it isn't known whose they are: to nobody. What lies there is never read.
const NOBODYS: &str = "nobody";
/// Most records of one series and hour: a reading each millisecond. 47 MB.
const HOUR_MAX: u32 = 3_600_000;
/// The largest moment that a number in Lua holds exactly; it is in the year 2255.
const EXACT_MAX: i64 = 1 << 53;

/// The tier.
pub struct RedisHot {
    inner: Arc<Inner>,
    feed: Feed,
}

struct Inner {
    link: Link,
    /// First part of all keys, as it is set,
    configured: String,
    /// and with whose readings they are; `None` while that isn't known.
    prefix: watch::Sender<Option<String>>,
    now: Now,
    age: i64,
    readings_max: u64,
    /// Readings lie no further ahead of the clock than this, microseconds.
    future_max: i64,
    scripts: Scripts,
    buckets: Mutex<Vec<Bucket>>,
    /// Counts how often something that was proved is so no more.
    lost: watch::Sender<u64>,
    /// Whether what lies there is known to be ours.
    adopted: AtomicBool,
    /// What is wrong with the server.
    fault: Mutex<Option<String>>,
}

/// What this process knows of a bucket.
#[derive(Default)]
struct Bucket {
    /// Identity of its root; 0: not met yet.
    born: u64,
    /// Its records, when last heard.
    records: u64,
    mirror: Mirror,
}

struct Scripts {
    put: Script,
    latest: Script,
    newest: Script,
    range: Script,
    floor: Script,
    forget: Script,
    cut: Script,
    doubt: Script,
    trust: Script,
    look: Script,
    withdraw: Script,
    lower: Script,
    shelf: Script,
    days: Script,
}

impl Scripts {
    fn new() -> Self {
        let script = |code: &str| Script::new(&[include_str!("lua/common.lua"), code].concat());
        Self {
            put: script(include_str!("lua/put.lua")),
            latest: script(include_str!("lua/latest.lua")),
            newest: script(include_str!("lua/newest.lua")),
            range: script(include_str!("lua/range.lua")),
            floor: script(include_str!("lua/floor.lua")),
            forget: script(include_str!("lua/forget.lua")),
            cut: script(include_str!("lua/cut.lua")),
            doubt: script(include_str!("lua/doubt.lua")),
            trust: script(include_str!("lua/trust.lua")),
            look: script(include_str!("lua/look.lua")),
            withdraw: script(include_str!("lua/withdraw.lua")),
            lower: script(include_str!("lua/lower.lua")),
            shelf: Script::new(include_str!("lua/shelf.lua")),
            days: script(include_str!("lua/days.lua")),
        }
    }
}

impl RedisHot {
    /// The tier on that server, which need not be there yet; readings lie at most `future_max` microseconds ahead of
    /// the clock. It proves nothing of what is before that until it is filled. Must be called on a runtime.
    ///
    /// # Errors
    /// When the settings can't be used.
    pub fn new(settings: &HotSettings, future_max: i64, now: Now) -> Result<Self, TierError> {
        let inner = Arc::new(Inner {
            link: Link::new(settings)?,
            configured: settings.prefix.clone(),
            prefix: watch::channel(Some(settings.prefix.clone())).0,
            now,
            age: settings.age(),
            readings_max: settings.readings_max(),
            future_max,
            scripts: Scripts::new(),
            buckets: Mutex::new((0..BUCKETS).map(|_| Bucket::default()).collect()),
            lost: watch::channel(0).0,
            adopted: AtomicBool::new(true),
            fault: Mutex::default(),
        });
        let feed = Feed::start(inner.clone());
        Ok(Self { inner, feed })
    }

    /// Opens the connection that questions are asked over, on the runtime that this is called on.
    ///
    /// # Errors
    /// When Redis can't be reached.
    pub async fn be_asked(&self) -> Result<(), TierError> {
        self.inner.link.command(&redis::cmd("PING")).await
    }

    /// Changes whenever the tier can prove less than before by accident: Redis was emptied, restarted, came back.
    #[must_use]
    pub fn lost(&self) -> watch::Receiver<u64> {
        self.inner.lost.subscribe()
    }
}

/// An identity that nobody else has; never 0.
fn identity() -> u64 {
    use ring::rand::{SecureRandom, SystemRandom};
    let mut bytes = [0; 8];
    // Without random bytes the clock will do: it only has to differ from other times on the same server.
    if SystemRandom::new().fill(&mut bytes).is_err() {
        bytes = Timestamp::wall_clock().0.to_le_bytes();
    }
    (u64::from_le_bytes(bytes) >> 12).max(1) // exact in Lua
}

impl Inner {
    /// First part of a bucket's keys.
    fn bucket_prefix(&self, bucket: u32) -> String {
        match self.prefix.borrow().as_deref() {
            Some(prefix) => format!("{prefix}:{{{bucket:02}}}:"),
            None => format!("{}:{NOBODYS}:{{{bucket:02}}}:", self.configured),
        }
    }

    /// First part of all keys.
    ///
    /// # Errors
    /// While it isn't known.
    fn known_prefix(&self) -> Result<String, TierError> {
        let unknown = || TierError::Unavailable { tier: TIER, why: "the warm tier didn't say yet whose it is".into() };
        self.prefix.borrow().clone().ok_or_else(unknown)
    }

    fn call<'a>(&self, script: &'a Script, bucket: u32) -> ScriptInvocation<'a> {
        let prefix = self.bucket_prefix(bucket);
        let mut call = script.key(format!("{prefix}root"));
        call.arg(prefix);
        call
    }

    fn horizon(&self) -> Timestamp {
        (self.now)().plus_micros(-self.age)
    }

    /// What nothing before is proved in a root that is made now: whoever else uses this Redis may have committed
    /// anything up to now.
    fn floor_at_birth(&self) -> i64 {
        (self.now)().plus_micros(self.future_max).plus_micros(1).0.clamp(0, EXACT_MAX)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a script said of a bucket.
    fn note(&self, bucket: u32, born: u64, records: Option<u64>) {
        let (before, is_other) = {
            let mut buckets = self.lock();
            let known = &mut buckets[bucket as usize];
            let before = known.born;
            known.born = born;
            known.records = records.unwrap_or(known.records);
            (before, before != 0 && before != born)
        };
        if is_other {
            tracing::debug!(bucket, before, born, "Redis lost readings; they are asked of the warm tier");
            self.lose();
        }
    }

    fn lose(&self) {
        self.lost.send_modify(|count| *count += 1);
    }

    async fn put(&self, readings: &[StoredReading]) -> Result<(), TierError> {
        let batches = batch::batches(readings, self.horizon());
        // Those of one bucket one after the other, so that the first of them makes the root.
        let mut rounds = BTreeMap::<usize, Vec<Batch>>::new();
        let mut seen = BTreeMap::<u32, usize>::new();
        for batch in batches {
            let round = seen.entry(batch.bucket).and_modify(|n| *n += 1).or_default();
            rounds.entry(*round).or_default().push(batch);
        }
        for round in rounds.into_values() {
            few_at_once(round.into_iter().map(|batch| self.put_batch(batch))).await?;
        }
        self.make_room().await
    }

    async fn put_batch(&self, batch: Batch) -> Result<(), TierError> {
        let now = (self.now)();
        let mut call = self.call(&self.scripts.put, batch.bucket);
        call.arg(identity()).arg(self.floor_at_birth()).arg(hour_of(self.horizon())).arg(HOUR_MAX);
        call.arg(batch.runs.len());
        for run in &batch.runs {
            call.arg(run.series.0).arg(run.hour).arg(run.time_to_live(now, self.age)).arg(&run.records[..]);
        }
        add_newest(&mut call, &batch);
        let (born, records, changed, count): (u64, u64, bool, u64) = self.link.tell(&call).await?;
        self.note(batch.bucket, born, Some(records));
        self.note_newest(batch.bucket, Version { born, count }, changed, batch.newest);
        Ok(())
    }

    async fn put_live(&self, readings: &[StoredReading]) -> Result<(), TierError> {
        self.link.not_quiet()?; // they may as well be lost
        self.tell_newest(readings).await
    }

    async fn tell_newest(&self, readings: &[StoredReading]) -> Result<(), TierError> {
        let put = async |batch: Batch| {
            let mut call = self.call(&self.scripts.latest, batch.bucket);
            add_newest(&mut call, &batch);
            let (born, changed, count): (u64, bool, u64) = self.link.tell(&call).await?;
            self.note_newest(batch.bucket, Version { born, count }, changed, batch.newest);
            Ok::<_, TierError>(())
        };
        few_at_once(batch::newest(readings).into_iter().map(put)).await
    }

    fn is_adopted(&self) -> bool {
        self.adopted.load(atomic::Ordering::Acquire)
    }

    async fn latest(&self, series: &[SeriesId]) -> Result<Vec<StoredReading>, TierError> {
        if !self.is_adopted() {
            return Ok(Vec::new());
        }
        let ask = async |(bucket, ids): (u32, Vec<SeriesId>)| {
            let mut command = redis::cmd("HMGET");
            command.arg(format!("{}latest", self.bucket_prefix(bucket)));
            ids.iter().for_each(|id| {
                command.arg(id.0);
            });
            let found: Vec<Option<Vec<u8>>> = self.link.command(&command).await?;
            let found = ids.iter().zip(found).filter_map(|(id, key)| record::from_newest(*id, &key?));
            Ok::<_, TierError>(found.map(|reading| (reading.series, reading)).collect::<Vec<_>>())
        };
        let found: BTreeMap<_, _> =
            try_join_all(by_bucket(series).into_iter().map(ask)).await?.into_iter().flatten().collect();
        Ok(series.iter().filter_map(|id| found.get(id).copied()).collect())
    }

    async fn complete_from(&self, series: SeriesId) -> Result<Option<Timestamp>, TierError> {
        if !self.is_adopted() {
            return Ok(None);
        }
        let mut call = self.call(&self.scripts.floor, bucket_of(series));
        call.arg(series.0);
        let mut floor: Option<i64> = self.link.ask(&call).await?;
        if floor.is_none() && self.meet(bucket_of(series)).await? {
            floor = self.link.ask(&call).await?;
        }
        Ok(floor.map(|floor| Timestamp(floor).max(self.horizon().plus_micros(TIME_TO_ASK))))
    }

    /// Makes the root of a bucket if nothing was ever put there; otherwise it lost something.
    async fn meet(&self, bucket: u32) -> Result<bool, TierError> {
        let is_new = self.lock()[bucket as usize].born == 0;
        if is_new {
            self.look(bucket).await?;
        } else {
            self.lose();
        }
        Ok(is_new)
    }

    async fn range(
        &self,
        series: SeriesId,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Option<Vec<StoredReading>>, TierError> {
        if from < self.horizon() || !self.is_adopted() {
            return Ok(None);
        }
        let mut call = self.call(&self.scripts.range, bucket_of(series));
        let last = hour_of(to.plus_micros(-1)).clamp(0, EXACT_MAX / HOUR);
        call.arg(series.0).arg(from.0.clamp(0, EXACT_MAX)).arg(hour_of(from).max(0)).arg(last);
        let mut found: Vec<Vec<u8>> = self.link.ask(&call).await?;
        if found.is_empty() && self.meet(bucket_of(series)).await? {
            found = self.link.ask(&call).await?;
        }
        let Some((floor, hours)) = found.split_first() else { return Ok(None) };
        let floor: Option<i64> = number(floor);
        if floor.is_none_or(|floor| floor > from.0) {
            return Ok(None);
        }
        let Some(mut readings) = readings_of(series, hours) else { return Ok(None) };
        readings.retain(|r| r.at >= from && r.at < to);
        record::settle(&mut readings);
        Ok(Some(readings))
    }

    async fn forget(&self, before: Timestamp) -> Result<(), TierError> {
        let forget = async |bucket| {
            let mut call = self.call(&self.scripts.forget, bucket);
            call.arg(identity()).arg(self.floor_at_birth()).arg(before.0.clamp(0, EXACT_MAX));
            let born: u64 = self.link.tell(&call).await?;
            self.note(bucket, born, None);
            Ok::<_, TierError>(())
        };
        try_join_all((0..BUCKETS).map(forget)).await?;
        self.lose();
        Ok(())
    }

    async fn state(&self) -> Result<HotState, TierError> {
        let horizon = self.horizon();
        let of_bucket = async |bucket| {
            let prefix = self.bucket_prefix(bucket);
            let (mut root, mut latest) = (redis::cmd("HGETALL"), redis::cmd("HLEN"));
            root.arg(format!("{prefix}root"));
            latest.arg(format!("{prefix}latest"));
            let root: BTreeMap<String, String> = self.link.command(&root).await?;
            let series: u64 = self.link.command(&latest).await?;
            Ok::<_, TierError>(state_of(&root, series, horizon))
        };
        let states = try_join_all((0..BUCKETS).map(of_bucket)).await?;
        Ok(states.into_iter().fold(HotState::default(), |sum, of| HotState {
            series: sum.series + of.series,
            readings: sum.readings + of.readings,
            evicted: sum.evicted + of.evicted,
            bytes: None,
        }))
    }
}

/// What is put goes over one connection, whose calls Redis works off in one go: of those that are on their way, who asks
/// waits for all.
const PUT_AT_ONCE: usize = 4;

async fn few_at_once(puts: impl Iterator<Item = impl Future<Output = Result<(), TierError>>>) -> Result<(), TierError> {
    futures::stream::iter(puts).buffer_unordered(PUT_AT_ONCE).try_collect().await
}

fn by_bucket(series: &[SeriesId]) -> BTreeMap<u32, Vec<SeriesId>> {
    let mut buckets = BTreeMap::<u32, Vec<SeriesId>>::new();
    for id in series {
        buckets.entry(bucket_of(*id)).or_default().push(*id);
    }
    buckets
}

/// Reads hour and records, ...; `None`: they are none of ours.
fn readings_of(series: SeriesId, hours: &[Vec<u8>]) -> Option<Vec<StoredReading>> {
    let mut readings = Vec::new();
    for of in hours.chunks(2) {
        record::read(series, number(&of[0])?, of.get(1)?, &mut readings)?;
    }
    Some(readings)
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn add_newest(call: &mut ScriptInvocation<'_>, batch: &Batch) {
    for (series, key) in &batch.newest {
        call.arg(series.0).arg(&key[..]);
    }
}

/// The records of an hour that a root speaks of.
fn hours_of(root: &BTreeMap<String, String>) -> impl Iterator<Item = (i64, u64)> {
    root.iter().filter_map(|(field, count)| Some((field.strip_prefix('h')?.parse().ok()?, count.parse().ok()?)))
}

/// Of the hour that is just running out, the part that is left counts.
fn state_of(root: &BTreeMap<String, String>, series: u64, horizon: Timestamp) -> HotState {
    let count = |(hour, count): (i64, u64)| match hour.cmp(&hour_of(horizon)) {
        Ordering::Less => 0,
        Ordering::Equal => {
            let left = HOUR - horizon.0.rem_euclid(HOUR);
            (u128::from(count) * u128::from(left.unsigned_abs()) / HOUR as u128) as u64
        }
        Ordering::Greater => count,
    };
    let evicted = root.get("evicted").and_then(|n| n.parse().ok()).unwrap_or(0);
    HotState { series, readings: hours_of(root).map(count).sum(), evicted, bytes: None }
}

impl HotTier for RedisHot {
    fn put<'a>(&'a self, readings: &'a [StoredReading]) -> TierFuture<'a, ()> {
        Box::pin(async move {
            self.inner.put(readings).await?;
            self.feed.publish(readings).await;
            Ok(())
        })
    }

    fn put_live<'a>(&'a self, readings: &'a [StoredReading]) -> TierFuture<'a, ()> {
        Box::pin(async move {
            let put = self.inner.put_live(readings).await;
            self.feed.publish(readings).await;
            put
        })
    }

    fn latest<'a>(&'a self, series: &'a [SeriesId]) -> TierFuture<'a, Vec<StoredReading>> {
        Box::pin(self.inner.latest(series))
    }

    fn newest<'a>(&'a self, series: &'a [SeriesId]) -> TierFuture<'a, Newest> {
        Box::pin(self.inner.newest(series))
    }

    fn complete_from(&self, series: SeriesId) -> TierFuture<'_, Option<Timestamp>> {
        Box::pin(self.inner.complete_from(series))
    }

    fn range(&self, series: SeriesId, from: Timestamp, to: Timestamp) -> TierFuture<'_, Option<Vec<StoredReading>>> {
        Box::pin(self.inner.range(series, from, to))
    }

    fn forget(&self, before: Timestamp) -> TierFuture<'_, ()> {
        Box::pin(self.inner.forget(before))
    }

    fn doubt<'a>(&'a self, readings: &'a [StoredReading]) -> TierFuture<'a, Doubt> {
        Box::pin(self.inner.doubt(readings))
    }

    fn put_after<'a>(&'a self, readings: &'a [StoredReading], doubt: Doubt) -> TierFuture<'a, ()> {
        Box::pin(async move {
            let put = self.inner.put_after(readings, &doubt).await;
            if put.is_err() {
                self.leave(doubt); // what it has not got is filled in
            }
            self.feed.publish(readings).await;
            put
        })
    }

    fn leave(&self, doubt: Doubt) {
        if !doubt.0.is_empty() {
            self.inner.lose();
        }
    }

    fn withdraw<'a>(&'a self, readings: &'a [StoredReading]) -> TierFuture<'a, ()> {
        Box::pin(async move {
            let gone = self.inner.withdraw(readings).await;
            if gone.is_err() {
                self.inner.lose(); // what is in doubt is filled in
            }
            gone
        })
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<[StoredReading]>> {
        self.feed.subscribe()
    }

    fn fault(&self) -> Option<String> {
        self.inner.fault().clone()
    }

    fn state(&self) -> TierFuture<'_, HotState> {
        Box::pin(async move {
            let state = self.inner.state().await?;
            Ok(HotState { bytes: self.inner.link.memory().await, ..state })
        })
    }
}
