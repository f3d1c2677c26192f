//! Tiers that fail on command: injected faults around the real ones.

use collector::access::AccessStore;
use collector::analytics::store::{Anomaly, AnomalyStore, Wanted};
use collector::etl::ledger::{DayEntry, DayLedger, Export, Leave, Merge};
use collector::inbox::store::InboxStore;
use collector::rollup::Rollup;
use collector::run::Tiers;
use collector::tiers::*;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use shared::catalogue::{Catalogue, CatalogueHash, Entry};
use shared::ids::Seq;
use shared::ids::{BootId, GatewayId, NodeId, StreamId};
use shared::ranges::SeqRanges;
use shared::reading::Timestamp;
use shared::wire::Fix;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::broadcast;

/// Wraps the tiers of a configuration.
pub fn faulty(tiers: Tiers) -> (Tiers, Arc<FaultyWarm>, Arc<FaultyHot>) {
    let warm = Arc::new(FaultyWarm::around(tiers.warm));
    let hot = Arc::new(FaultyHot { inner: tiers.hot, away: AtomicBool::new(false), forgotten: Mutex::default() });
    (Tiers { warm: warm.clone(), hot: hot.clone(), redis: tiers.redis, cold: tiers.cold, sql: tiers.sql }, warm, hot)
}

fn unavailable() -> TierError {
    TierError::Unavailable { tier: "faulty tier", why: "the test says so".into() }
}

pub struct FaultyWarm {
    inner: Arc<dyn WarmTier>,
    /// Nothing answers.
    pub away: AtomicBool,
    /// So many commits are done, and their answer is lost.
    pub loses_answers: AtomicU64,
    /// A commit with such a value is refused for its content.
    pub refuses: Mutex<Vec<f64>>,
    /// Commits that were done.
    pub commits: AtomicU64,
    /// What happens once, just before readings of a stretch are read.
    pub before_range: Mutex<Option<BoxFuture<'static, ()>>>,
}

impl FaultyWarm {
    /// One that works as yet.
    pub fn around(inner: Arc<dyn WarmTier>) -> Self {
        Self {
            inner,
            away: AtomicBool::new(false),
            loses_answers: AtomicU64::new(0),
            refuses: Mutex::default(),
            commits: AtomicU64::new(0),
            before_range: Mutex::default(),
        }
    }

    fn answers<'a, T: Send + 'a>(&'a self, call: TierFuture<'a, T>) -> TierFuture<'a, T> {
        if self.away.load(Ordering::SeqCst) { Box::pin(async { Err(unavailable()) }) } else { call }
    }
}

impl WarmTier for FaultyWarm {
    fn commit(&self, flush: Flush) -> TierFuture<'_, CommitReport> {
        let refused = flush
            .readings
            .iter()
            .filter_map(|r| r.held.value)
            .find(|value| self.refuses.lock().unwrap().contains(value));
        if let Some(value) = refused {
            return Box::pin(async move { Err(TierError::Broken { tier: "faulty tier", why: format!("no {value}") }) });
        }
        if self.away.load(Ordering::SeqCst) {
            return Box::pin(async { Err(unavailable()) });
        }
        Box::pin(async move {
            let report = self.inner.commit(flush).await?;
            self.commits.fetch_add(1, Ordering::SeqCst);
            let lost = self.loses_answers.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            if lost.is_ok() { Err(unavailable()) } else { Ok(report) }
        })
    }
    fn late(&self, from: Timestamp, to: Timestamp) -> TierFuture<'_, Vec<(SeriesId, u64)>> {
        self.answers(self.inner.late(from, to))
    }
    fn inbox(&self) -> &dyn InboxStore {
        self.inner.inbox()
    }
    fn hot(&self) -> &dyn HotLedger {
        self.inner.hot()
    }
    fn access(&self) -> &dyn AccessStore {
        self.inner.access()
    }
    fn audit<'a>(&'a self, wanted: &'a AuditWanted) -> TierFuture<'a, Vec<(i64, Audited)>> {
        self.answers(self.inner.audit(wanted))
    }
    fn hand_over<'a>(&'a self, series: &'a SeriesKey, from: &'a GatewayId, to: &'a GatewayId) -> TierFuture<'a, ()> {
        self.answers(self.inner.hand_over(series, from, to))
    }
    fn series_for<'a>(
        &'a self,
        gateway: &'a GatewayId,
        entries: &'a [Entry],
    ) -> TierFuture<'a, Vec<Result<SeriesId, SeriesRefused>>> {
        self.answers(self.inner.series_for(gateway, entries))
    }
    fn series_changes(&self) -> u64 {
        self.inner.series_changes()
    }
    fn series_version(&self) -> TierFuture<'_, String> {
        self.answers(self.inner.series_version())
    }
    fn committed<'a>(&'a self, gateway: &'a GatewayId, stream: StreamId) -> TierFuture<'a, (SeqRanges, Seq)> {
        self.answers(self.inner.committed(gateway, stream))
    }
    fn streams<'a>(&'a self, gateway: Option<&'a GatewayId>) -> TierFuture<'a, Vec<StreamInfo>> {
        self.answers(self.inner.streams(gateway))
    }
    fn put_catalogue<'a>(&'a self, gateway: &'a GatewayId, catalogue: &'a Catalogue) -> TierFuture<'a, ()> {
        self.answers(self.inner.put_catalogue(gateway, catalogue))
    }
    fn catalogue(&self, hash: CatalogueHash) -> TierFuture<'_, Option<Arc<Catalogue>>> {
        self.answers(self.inner.catalogue(hash))
    }
    fn put_clock_fix<'a>(&'a self, gateway: &'a GatewayId, boot: BootId, fix: Fix) -> TierFuture<'a, Fix> {
        self.answers(self.inner.put_clock_fix(gateway, boot, fix))
    }
    fn clock_fix<'a>(&'a self, gateway: &'a GatewayId, boot: BootId) -> TierFuture<'a, Option<Fix>> {
        self.answers(self.inner.clock_fix(gateway, boot))
    }
    fn parked<'a>(
        &'a self,
        gateway: Option<&'a GatewayId>,
        boot: Option<BootId>,
        count_max: u32,
    ) -> TierFuture<'a, Vec<Parked>> {
        self.answers(self.inner.parked(gateway, boot, count_max))
    }
    fn gaps<'a>(
        &'a self,
        gateway: Option<&'a GatewayId>,
        span: Option<(Timestamp, Timestamp)>,
        count_max: u32,
    ) -> TierFuture<'a, Vec<GatewayGap>> {
        self.answers(self.inner.gaps(gateway, span, count_max))
    }
    fn quarantine<'a>(&'a self, gateway: Option<&'a GatewayId>, count_max: u32) -> TierFuture<'a, Vec<Quarantined>> {
        self.answers(self.inner.quarantine(gateway, count_max))
    }
    fn latest<'a>(&'a self, series: &'a [SeriesId]) -> TierFuture<'a, Vec<StoredReading>> {
        self.answers(self.inner.latest(series))
    }
    fn range(
        &self,
        series: SeriesId,
        from: Timestamp,
        to: Timestamp,
        count_max: u32,
    ) -> TierFuture<'_, Vec<StoredReading>> {
        self.answers(Box::pin(async move {
            let before = self.before_range.lock().unwrap().take();
            if let Some(before) = before {
                before.await;
            }
            self.inner.range(series, from, to, count_max).await
        }))
    }
    fn catch_up(&self) -> TierFuture<'_, ()> {
        self.answers(self.inner.catch_up())
    }
    fn last_before(&self, series: SeriesId, before: Timestamp, usable: bool) -> TierFuture<'_, Option<StoredReading>> {
        self.answers(self.inner.last_before(series, before, usable))
    }
    fn complete_from(&self) -> TierFuture<'_, Timestamp> {
        self.answers(self.inner.complete_from())
    }
    fn rollups(&self, series: SeriesId, bucket: Bucket, from: Timestamp, to: Timestamp) -> TierFuture<'_, Rollups> {
        self.answers(self.inner.rollups(series, bucket, from, to))
    }
    fn refresh_ended(&self, by: Timestamp, buckets_max: u32) -> TierFuture<'_, u32> {
        self.answers(self.inner.refresh_ended(by, buckets_max))
    }
    fn nodes(&self) -> TierFuture<'_, Vec<NodeId>> {
        self.answers(self.inner.nodes())
    }
    fn series<'a>(&'a self, node: Option<&'a NodeId>) -> TierFuture<'a, Vec<SeriesInfo>> {
        self.answers(self.inner.series(node))
    }
    fn gateway_heard<'a>(&'a self, gateway: &'a GatewayId, heard: Heard) -> TierFuture<'a, ()> {
        self.answers(self.inner.gateway_heard(gateway, heard))
    }
    fn gateways(&self) -> TierFuture<'_, Vec<GatewayInfo>> {
        self.answers(self.inner.gateways())
    }
    fn put_quality<'a>(&'a self, reports: &'a [QualityReport], keep_from: &'a str) -> TierFuture<'a, ()> {
        self.answers(self.inner.put_quality(reports, keep_from))
    }
    fn quality_days(&self) -> TierFuture<'_, Vec<(String, u64)>> {
        self.answers(self.inner.quality_days())
    }
    fn note_quality_day<'a>(&'a self, day: &'a str, version: u64) -> TierFuture<'a, ()> {
        self.answers(self.inner.note_quality_day(day, version))
    }
    fn quality<'a>(&'a self, day: Option<&'a str>) -> TierFuture<'a, Vec<QualityReport>> {
        self.answers(self.inner.quality(day))
    }
    fn jobs(&self) -> &dyn collector::etl::store::JobStore {
        self.inner.jobs()
    }
    fn days(&self) -> &dyn DayLedger {
        self
    }
    fn forecasts(&self) -> &dyn collector::analytics::store::ForecastStore {
        self.inner.forecasts()
    }
    fn alerts(&self) -> &dyn collector::alerts::AlertStore {
        self.inner.alerts()
    }

    fn anomalies(&self) -> &dyn AnomalyStore {
        self
    }
    fn fault(&self) -> Option<String> {
        self.inner.fault()
    }
    fn state(&self) -> TierFuture<'_, WarmState> {
        self.answers(self.inner.state())
    }
    fn count_readings(&self) -> TierFuture<'_, u64> {
        self.answers(self.inner.count_readings())
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}

impl AnomalyStore for FaultyWarm {
    fn put_anomalies<'a>(&'a self, anomalies: &'a [Anomaly], keep_from: Timestamp) -> TierFuture<'a, ()> {
        self.answers(self.inner.anomalies().put_anomalies(anomalies, keep_from))
    }
    fn find_anomalies<'a>(&'a self, wanted: &'a Wanted) -> TierFuture<'a, Vec<Anomaly>> {
        self.answers(self.inner.anomalies().find_anomalies(wanted))
    }
}

impl DayLedger for FaultyWarm {
    fn days(&self, from: Day, to: Day) -> TierFuture<'_, Vec<DayEntry>> {
        self.answers(self.inner.days().days(from, to))
    }
    fn rows(&self, day: Day) -> Runs<'_> {
        match self.away.load(Ordering::SeqCst) {
            true => stream::iter([Err(unavailable())]).boxed(),
            false => self.inner.days().rows(day),
        }
    }
    fn exported(&self, export: Export) -> TierFuture<'_, bool> {
        self.answers(self.inner.days().exported(export))
    }
    fn merging(&self, merge: Merge) -> TierFuture<'_, bool> {
        self.answers(self.inner.days().merging(merge))
    }
    fn doubt(&self, day: Day, version: u64) -> TierFuture<'_, bool> {
        self.answers(self.inner.days().doubt(day, version))
    }
    fn leave(&self, day: Day, version: u64) -> TierFuture<'_, Leave> {
        self.answers(self.inner.days().leave(day, version))
    }
    fn clear(&self, day: Day) -> TierFuture<'_, bool> {
        self.answers(self.inner.days().clear(day))
    }
    fn stale(
        &self,
        day: Day,
        after: Option<SeriesId>,
        series_max: u32,
    ) -> TierFuture<'_, Vec<(SeriesId, Vec<Timestamp>)>> {
        self.answers(self.inner.days().stale(day, after, series_max))
    }
    fn renew<'a>(
        &'a self,
        day: Day,
        version: u64,
        series: SeriesId,
        buckets: &'a [Timestamp],
        readings: &'a [StoredReading],
    ) -> TierFuture<'a, bool> {
        self.answers(self.inner.days().renew(day, version, series, buckets, readings))
    }
}

pub struct FaultyHot {
    inner: Arc<dyn HotTier>,
    /// Nothing answers.
    pub away: AtomicBool,
    /// What it was told to forget.
    pub forgotten: Mutex<Vec<Timestamp>>,
}

impl FaultyHot {
    fn answers<'a, T: Send + 'a>(&'a self, call: impl FnOnce() -> TierFuture<'a, T>) -> TierFuture<'a, T> {
        if self.away.load(Ordering::SeqCst) { Box::pin(async { Err(unavailable()) }) } else { call() }
    }
}

impl HotTier for FaultyHot {
    fn put<'a>(&'a self, readings: &'a [StoredReading]) -> TierFuture<'a, ()> {
        self.answers(|| self.inner.put(readings))
    }
    fn put_live<'a>(&'a self, readings: &'a [StoredReading]) -> TierFuture<'a, ()> {
        self.answers(|| self.inner.put_live(readings))
    }
    fn latest<'a>(&'a self, series: &'a [SeriesId]) -> TierFuture<'a, Vec<StoredReading>> {
        self.answers(|| self.inner.latest(series))
    }
    fn newest<'a>(&'a self, series: &'a [SeriesId]) -> TierFuture<'a, Newest> {
        self.answers(|| self.inner.newest(series))
    }
    fn complete_from(&self, series: SeriesId) -> TierFuture<'_, Option<Timestamp>> {
        self.answers(|| self.inner.complete_from(series))
    }
    fn range(&self, series: SeriesId, from: Timestamp, to: Timestamp) -> TierFuture<'_, Option<Vec<StoredReading>>> {
        self.answers(|| self.inner.range(series, from, to))
    }
    fn forget(&self, before: Timestamp) -> TierFuture<'_, ()> {
        self.answers(|| {
            self.forgotten.lock().unwrap().push(before);
            self.inner.forget(before)
        })
    }
    fn doubt<'a>(&'a self, readings: &'a [StoredReading]) -> TierFuture<'a, Doubt> {
        self.answers(|| self.inner.doubt(readings))
    }
    fn withdraw<'a>(&'a self, readings: &'a [StoredReading]) -> TierFuture<'a, ()> {
        self.answers(|| self.inner.withdraw(readings))
    }
    fn leave(&self, doubt: Doubt) {
        self.inner.leave(doubt);
    }
    fn put_after<'a>(&'a self, readings: &'a [StoredReading], doubt: Doubt) -> TierFuture<'a, ()> {
        self.answers(|| self.inner.put_after(readings, doubt))
    }
    fn subscribe(&self) -> broadcast::Receiver<Arc<[StoredReading]>> {
        self.inner.subscribe()
    }
    fn state(&self) -> TierFuture<'_, HotState> {
        self.answers(|| self.inner.state())
    }
    fn fault(&self) -> Option<String> {
        self.inner.fault()
    }
}

/// What becomes of a day after it was written and proved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    /// A row is gone.
    Loses,
    /// A row has another value.
    Alters,
}

/// An archive that fails on command.
pub struct FaultyCold {
    pub inner: Arc<dyn ColdTier>,
    /// Nothing answers.
    pub away: AtomicBool,
    /// It answers that a day is there, and then this becomes of it.
    pub lie: Mutex<Option<Lie>>,
    /// Days that are being written.
    writing: Mutex<BTreeSet<Day>>,
    /// How often a day was written while it was being written.
    pub twice: AtomicU64,
    /// Days that were written.
    pub written: AtomicU64,
}

/// A day that is being written, until it isn't any more.
struct Writing<'a>(&'a FaultyCold, Day);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.writing.lock().unwrap().remove(&self.1);
    }
}

impl FaultyCold {
    pub fn new(inner: Arc<dyn ColdTier>) -> Arc<Self> {
        let (lie, writing) = (Mutex::default(), Mutex::default());
        Arc::new(Self { inner, away: false.into(), lie, writing, twice: 0.into(), written: 0.into() })
    }

    fn write<'a>(&'a self, day: Day, written: TierFuture<'a, Proof>) -> TierFuture<'a, Proof> {
        self.answers(Box::pin(async move {
            if !self.writing.lock().unwrap().insert(day) {
                self.twice.fetch_add(1, Ordering::SeqCst);
            }
            let _writing = Writing(self, day);
            let proof = written.await?;
            self.written.fetch_add(1, Ordering::SeqCst);
            let lie = *self.lie.lock().unwrap();
            if let Some(lie) = lie {
                let mut runs: Vec<Run> = self.inner.day(day).try_collect().await?;
                if let Some(row) = runs.last_mut().and_then(|run| run.readings.last_mut()) {
                    row.held.value = Some(-12_345.0);
                }
                if lie == Lie::Loses {
                    runs.last_mut().and_then(|run| run.readings.pop());
                }
                self.inner.replace_day(day, stream::iter(runs.into_iter().map(Ok)).boxed()).await?;
            }
            Ok(proof)
        }))
    }

    fn answers<'a, T: Send + 'a>(&'a self, call: TierFuture<'a, T>) -> TierFuture<'a, T> {
        if self.away.load(Ordering::SeqCst) { Box::pin(async { Err(unavailable()) }) } else { call }
    }
}

impl ColdTier for FaultyCold {
    fn replace_day<'a>(&'a self, day: Day, runs: Runs<'a>) -> TierFuture<'a, Proof> {
        self.write(day, self.inner.replace_day(day, runs))
    }
    fn merge_day<'a>(&'a self, day: Day, runs: Runs<'a>) -> TierFuture<'a, Proof> {
        self.write(day, self.inner.merge_day(day, runs))
    }
    fn proof(&self, day: Day) -> TierFuture<'_, Option<Proof>> {
        self.answers(self.inner.proof(day))
    }
    fn day(&self, day: Day) -> Runs<'_> {
        self.inner.day(day)
    }
    fn days(&self, from: Day, to: Day) -> TierFuture<'_, Vec<Day>> {
        self.answers(self.inner.days(from, to))
    }
    fn place(&self) -> String {
        self.inner.place()
    }
    fn check(&self, days: Vec<Day>) -> TierFuture<'_, ()> {
        self.answers(self.inner.check(days))
    }
    fn damage(&self) -> TierFuture<'_, Vec<Damage>> {
        self.answers(self.inner.damage())
    }
    fn changes(&self) -> Option<tokio::sync::watch::Receiver<()>> {
        self.inner.changes()
    }
    fn range(
        &self,
        series: SeriesId,
        from: Timestamp,
        to: Timestamp,
        count_max: u32,
    ) -> TierFuture<'_, Vec<StoredReading>> {
        self.answers(self.inner.range(series, from, to, count_max))
    }
    fn last_before(&self, series: SeriesId, before: Timestamp, usable: bool) -> TierFuture<'_, Option<StoredReading>> {
        self.answers(self.inner.last_before(series, before, usable))
    }
    fn aggregate(
        &self,
        series: SeriesId,
        bucket: Bucket,
        from: Timestamp,
        to: Timestamp,
        hold_micros: i64,
    ) -> TierFuture<'_, Vec<(Timestamp, Rollup)>> {
        self.answers(self.inner.aggregate(series, bucket, from, to, hold_micros))
    }
    fn tidy(&self, before: Day) -> TierFuture<'_, u32> {
        self.answers(self.inner.tidy(before))
    }
    fn state(&self) -> TierFuture<'_, ColdState> {
        self.answers(self.inner.state())
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}
