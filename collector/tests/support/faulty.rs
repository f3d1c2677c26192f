//! Tiers that fail on command: injected faults around the real ones.

use collector::rollup::Rollup;
use collector::run::Tiers;
use collector::tiers::*;
use futures::future::BoxFuture;
use shared::catalogue::{Catalogue, CatalogueHash, Entry};
use shared::ids::Seq;
use shared::ids::{BootId, GatewayId, NodeId, StreamId};
use shared::ranges::SeqRanges;
use shared::reading::Timestamp;
use shared::wire::Fix;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use tokio::sync::broadcast;

/// Wraps the tiers of a configuration.
pub fn faulty(tiers: Tiers) -> (Tiers, Arc<FaultyWarm>, Arc<FaultyHot>) {
    let warm = Arc::new(FaultyWarm {
        inner: tiers.warm,
        away: AtomicBool::new(false),
        loses_answers: AtomicU64::new(0),
        refuses: Mutex::default(),
        commits: AtomicU64::new(0),
        complete_from: AtomicI64::new(i64::MIN),
    });
    let hot = Arc::new(FaultyHot { inner: tiers.hot, away: AtomicBool::new(false), forgotten: Mutex::default() });
    (Tiers { warm: warm.clone(), hot: hot.clone(), redis: tiers.redis, cold: tiers.cold }, warm, hot)
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
    /// What is older was taken out of it by the test.
    pub complete_from: AtomicI64,
}

impl FaultyWarm {
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
    fn audit(&self, count_max: u32) -> TierFuture<'_, Vec<Audited>> {
        self.answers(self.inner.audit(count_max))
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
        self.answers(self.inner.range(series, from, to, count_max))
    }
    fn last_before(&self, series: SeriesId, before: Timestamp, usable: bool) -> TierFuture<'_, Option<StoredReading>> {
        self.answers(self.inner.last_before(series, before, usable))
    }
    fn complete_from(&self) -> TierFuture<'_, Timestamp> {
        self.answers(Box::pin(async move {
            Ok(self.inner.complete_from().await?.max(Timestamp(self.complete_from.load(Ordering::SeqCst))))
        }))
    }
    fn rollups(&self, series: SeriesId, bucket: Bucket, from: Timestamp, to: Timestamp) -> TierFuture<'_, Rollups> {
        self.answers(self.inner.rollups(series, bucket, from, to))
    }
    fn refresh_rollups(&self, buckets_max: u32) -> TierFuture<'_, u32> {
        self.answers(self.inner.refresh_rollups(buckets_max))
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
    fn quality<'a>(&'a self, day: Option<&'a str>) -> TierFuture<'a, Vec<QualityReport>> {
        self.answers(self.inner.quality(day))
    }
    fn jobs(&self) -> &dyn collector::etl::store::JobStore {
        self.inner.jobs()
    }
    fn state(&self) -> TierFuture<'_, WarmState> {
        self.answers(self.inner.state())
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
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
    fn subscribe(&self) -> broadcast::Receiver<Arc<[StoredReading]>> {
        self.inner.subscribe()
    }
    fn state(&self) -> TierFuture<'_, HotState> {
        self.answers(|| self.inner.state())
    }
}

/// An archive that fails on command.
pub struct FaultyCold {
    pub inner: Arc<dyn ColdTier>,
    /// Nothing answers.
    pub away: AtomicBool,
}

impl FaultyCold {
    fn answers<'a, T: Send + 'a>(&'a self, call: TierFuture<'a, T>) -> TierFuture<'a, T> {
        if self.away.load(Ordering::SeqCst) { Box::pin(async { Err(unavailable()) }) } else { call }
    }
}

impl ColdTier for FaultyCold {
    fn replace_day<'a>(&'a self, day: Day, runs: Runs<'a>) -> TierFuture<'a, Proof> {
        self.answers(self.inner.replace_day(day, runs))
    }
    fn merge_day<'a>(&'a self, day: Day, runs: Runs<'a>) -> TierFuture<'a, Proof> {
        self.answers(self.inner.merge_day(day, runs))
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
