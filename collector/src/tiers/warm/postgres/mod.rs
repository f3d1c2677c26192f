//! The warm tier in PostgreSQL 15 or newer, with TimescaleDB 2.17 or newer when it is there.
//!
//! It is not needed for the start: tables are made or brought up to date when the server is first reached. Until then
//! every call says what is wrong, and what comes waits in the spool. The tables are in `migrations/postgres`.

mod access;
mod alerts;
mod anomalies;
mod audit;
mod away;
mod commit;
mod copy;
mod copy_out;
mod days;
mod fault;
mod fitness;
mod forecasts;
mod foreign;
mod hot;
mod inbox;
mod jobs;
mod lists;
mod marks;
mod partitions;
mod pools;
mod quality;
mod reads;
mod receive;
mod replica;
mod rollups;
mod rows;
mod schema;
mod series;
mod shape;
mod streams;
mod time;

pub use schema::Layout;

use super::super::*;
use super::SchemaReport;
use super::rules::Round;
use super::settings::WarmSettings;
use away::Server;
use fault::{Failure, failed, unavailable};
use pools::Use;
use shared::ids::{BootId, GatewayId, NodeId, Seq, StreamId};
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPool;
use sqlx::{Connection as _, Postgres};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::OnceCell;

/// Most rows that are kept aside.
pub const QUARANTINE_ROWS_MAX: u32 = 100_000;
/// Most partitions by day, when TimescaleDB isn't there: some four years. Beyond, planning gets slow.
pub const PARTITIONS_MAX: usize = 1_500;
/// On top of a statement's own limit, for a server that can't be reached any more.
const GRACE: Duration = Duration::from_secs(5);

/// The tier.
#[derive(Debug)]
pub struct PostgresWarm {
    settings: WarmSettings,
    /// Of `write` and `read`.
    primary: Server,
    write: PgPool,
    read: PgPool,
    replica: Option<replica::Replica>,
    layout: OnceCell<Layout>,
    partitions: Mutex<partitions::Days>,
    /// Whether the last flush met keys that were there.
    expects_conflicts: AtomicBool,
    quarantine_max: u32,
    partitions_max: usize,
    series_changes: AtomicU64,
    /// Of refreshing rollups.
    round: Round,
    /// Dirty buckets that need no further mark.
    marked: marks::Marked,
}

impl PostgresWarm {
    /// Takes the settings; the server isn't asked yet.
    ///
    /// # Errors
    /// When the password file can't be read.
    pub fn new(settings: &WarmSettings) -> Result<Self, TierError> {
        let options = pools::options(settings)?;
        let replica = settings.replica.as_deref().map(|place| {
            let options = pools::replica_options(options.clone(), place);
            replica::Replica::new(place, pools::pool(settings, options, Use::Read))
        });
        Ok(Self {
            primary: Server::new(options.clone(), settings.connect_timeout.0),
            write: pools::pool(settings, options.clone(), Use::Write),
            read: pools::pool(settings, options, Use::Read),
            replica,
            layout: OnceCell::new(),
            partitions: Mutex::default(),
            expects_conflicts: AtomicBool::new(false),
            quarantine_max: QUARANTINE_ROWS_MAX,
            partitions_max: PARTITIONS_MAX,
            series_changes: AtomicU64::new(0),
            round: Round::default(),
            marked: marks::Marked::default(),
            settings: settings.clone(),
        })
    }

    /// Takes the settings, reaches the server and brings the tables up to date.
    ///
    /// # Errors
    /// When any of it fails; the text names the setting.
    pub async fn open(settings: &WarmSettings) -> Result<Self, TierError> {
        let tier = Self::new(settings)?;
        tier.ready().await?;
        Ok(tier)
    }

    /// Looks at the tables and changes nothing.
    ///
    /// # Errors
    /// When the server can't be asked, or a newer collector made the tables.
    pub async fn check(settings: &WarmSettings) -> Result<SchemaReport, TierError> {
        let look = async {
            let mut connection = pools::connect(settings, Use::Read).await?;
            schema::look(&mut connection, settings).await
        };
        look.await.map_err(|error| named(settings, error))
    }

    /// Looks whether the read replica can be asked, if there is to be one.
    ///
    /// # Errors
    /// When it can't.
    pub async fn check_replica(settings: &WarmSettings) -> Result<(), TierError> {
        match &settings.replica {
            Some(place) => replica::look(settings, place).await.map_err(|error| match error {
                TierError::Unavailable { tier, why } => TierError::Unavailable { tier, why: format!("{place}: {why}") },
                other => other,
            }),
            None => Ok(()),
        }
    }

    /// Makes sure that the tables are there and as they should be; gives how readings are kept.
    ///
    /// # Errors
    /// When the server can't be reached or the tables can't be used; the text names the setting.
    pub async fn ready(&self) -> Result<Layout, TierError> {
        if let Some(layout) = self.layout.get() {
            return Ok(*layout);
        }
        self.primary.unless_away(self.known_layout()).await.map_err(|error| named(&self.settings, error))
    }

    async fn known_layout(&self) -> Result<Layout, TierError> {
        self.layout.get_or_try_init(|| self.bring_up()).await.copied()
    }

    fn bring_up(&self) -> TierFuture<'_, Layout> {
        Box::pin(async move {
            let mut connection = pools::connect(&self.settings, Use::Migrate).await?;
            let layout = schema::bring_up(&mut connection, &self.settings).await?;
            connection.close().await.map_err(failed)?;
            Ok(layout)
        })
    }

    /// Keeps at most this many rows aside.
    #[must_use]
    pub fn with_quarantine_max(mut self, rows: u32) -> Self {
        self.quarantine_max = rows;
        self
    }

    /// Makes at most this many partitions by day.
    #[must_use]
    pub fn with_partitions_max(mut self, partitions: usize) -> Self {
        self.partitions_max = partitions;
        self
    }

    /// Before a commit: it isn't held up by what others found a while ago.
    async fn try_again(&self) -> Result<(), TierError> {
        let connect = async {
            self.known_layout().await?;
            self.write.acquire().await.map_err(failed)
        };
        self.primary.try_again(connect).await
    }

    /// A connection that writes.
    async fn writer(&self) -> Result<PoolConnection<Postgres>, TierError> {
        self.ready().await?;
        self.primary.unless_away(async { self.write.acquire().await.map_err(failed) }).await
    }

    /// A transaction that writes.
    async fn begin(&self) -> Result<sqlx::Transaction<'static, Postgres>, TierError> {
        self.ready().await?;
        self.primary.unless_away(Box::pin(async { self.write.begin().await.map_err(failed) })).await
    }

    /// A connection that reads what is certainly the newest.
    async fn primary(&self) -> Result<PoolConnection<Postgres>, TierError> {
        self.ready().await?;
        self.primary.unless_away(Box::pin(async { self.read.acquire().await.map_err(failed) })).await
    }

    /// A connection for questions about readings: to the replica, when it is up to date.
    async fn reader(&self) -> Result<PoolConnection<Postgres>, TierError> {
        self.ready().await?;
        if let Some(replica) = &self.replica
            && let Some(connection) = replica.caught_up(self.primary()).await
        {
            return Ok(connection);
        }
        self.primary().await
    }

    /// A connection for what must be as new as can be had: to the primary, and while that is away to the replica that has
    /// all it had.
    async fn newest(&self) -> Result<PoolConnection<Postgres>, TierError> {
        let primary = self.primary().await;
        if let (Err(TierError::Unavailable { .. }), Some(replica)) = (&primary, &self.replica)
            && let Some(connection) = replica.caught_up(self.primary()).await
        {
            return Ok(connection);
        }
        primary
    }

    /// Does it again when another transaction got into its way.
    async fn again<T, F: Future<Output = Result<T, Failure>>>(&self, work: impl Fn() -> F) -> Result<T, TierError> {
        let mut tries = 0;
        loop {
            match work().await {
                Err(failure) if failure.may_be_tried_again(tries) => {
                    tries += 1;
                    fault::pause(tries).await;
                }
                done => return Ok(done?),
            }
        }
    }

    async fn tell_replica(&self) {
        if let Some(replica) = &self.replica {
            replica.committed(self.primary()).await;
        }
    }

    async fn look_at_replica(&self) -> Option<ReplicaState> {
        Some(self.replica.as_ref()?.look(self.primary()).await)
    }

    /// Gives up on a server that says nothing any more.
    fn within<'a, T: Send + 'a>(&'a self, patience: u32, work: TierFuture<'a, T>) -> TierFuture<'a, T> {
        let limit = self.settings.connect_timeout.0 * 2 + self.settings.statement_timeout.0 * patience + GRACE;
        Box::pin(async move {
            tokio::time::timeout(limit, work)
                .await
                .unwrap_or_else(|_| Err(named(&self.settings, unavailable("the server doesn't answer any more"))))
        })
    }

    fn soon<'a, T: Send + 'a>(&'a self, work: TierFuture<'a, T>) -> TierFuture<'a, T> {
        self.within(1, work)
    }
}

/// Says which server.
fn named(settings: &WarmSettings, error: TierError) -> TierError {
    let WarmSettings { host, port, database, .. } = settings;
    match error {
        TierError::Unavailable { tier, why } => {
            TierError::Unavailable { tier, why: format!("{host}:{port}/{database}: {why}") }
        }
        other => other,
    }
}

impl WarmTier for PostgresWarm {
    fn series_for<'a>(
        &'a self,
        gateway: &'a GatewayId,
        entries: &'a [Entry],
    ) -> TierFuture<'a, Vec<Result<SeriesId, SeriesRefused>>> {
        self.within(pools::PATIENCE, Box::pin(self.find_or_make_series(gateway, entries)))
    }

    fn hand_over<'a>(&'a self, series: &'a SeriesKey, from: &'a GatewayId, to: &'a GatewayId) -> TierFuture<'a, ()> {
        Box::pin(self.change_owner(series, from, to))
    }

    fn series_changes(&self) -> u64 {
        self.series_changes.load(Ordering::Acquire)
    }

    fn series_version(&self) -> TierFuture<'_, String> {
        self.soon(Box::pin(self.version_of_series()))
    }

    fn commit(&self, flush: Flush) -> TierFuture<'_, CommitReport> {
        self.within(pools::PATIENCE, Box::pin(self.commit_flush(flush)))
    }

    fn committed<'a>(&'a self, gateway: &'a GatewayId, stream: StreamId) -> TierFuture<'a, (SeqRanges, Seq)> {
        self.soon(Box::pin(self.find_committed(gateway, stream)))
    }

    fn streams<'a>(&'a self, gateway: Option<&'a GatewayId>) -> TierFuture<'a, Vec<StreamInfo>> {
        self.soon(Box::pin(self.list_streams(gateway)))
    }

    fn put_catalogue<'a>(&'a self, gateway: &'a GatewayId, catalogue: &'a Catalogue) -> TierFuture<'a, ()> {
        self.soon(Box::pin(self.keep_catalogue(gateway, catalogue)))
    }

    fn catalogue(&self, hash: CatalogueHash) -> TierFuture<'_, Option<Arc<Catalogue>>> {
        self.soon(Box::pin(self.find_catalogue(hash)))
    }

    fn put_clock_fix<'a>(&'a self, gateway: &'a GatewayId, boot: BootId, fix: Fix) -> TierFuture<'a, Fix> {
        self.soon(Box::pin(self.keep_clock_fix(gateway, boot, fix)))
    }

    fn clock_fix<'a>(&'a self, gateway: &'a GatewayId, boot: BootId) -> TierFuture<'a, Option<Fix>> {
        self.soon(Box::pin(self.find_clock_fix(gateway, boot)))
    }

    fn parked<'a>(
        &'a self,
        gateway: Option<&'a GatewayId>,
        boot: Option<BootId>,
        count_max: u32,
    ) -> TierFuture<'a, Vec<Parked>> {
        self.soon(Box::pin(self.list_parked(gateway, boot, count_max)))
    }

    fn gaps<'a>(
        &'a self,
        gateway: Option<&'a GatewayId>,
        span: Option<(Timestamp, Timestamp)>,
        count_max: u32,
    ) -> TierFuture<'a, Vec<GatewayGap>> {
        self.soon(Box::pin(self.list_gaps(gateway, span, count_max)))
    }

    fn quarantine<'a>(&'a self, gateway: Option<&'a GatewayId>, count_max: u32) -> TierFuture<'a, Vec<Quarantined>> {
        self.soon(Box::pin(self.list_quarantine(gateway, count_max)))
    }

    fn latest<'a>(&'a self, series: &'a [SeriesId]) -> TierFuture<'a, Vec<StoredReading>> {
        self.soon(Box::pin(self.find_latest(series)))
    }

    fn range(
        &self,
        series: SeriesId,
        from: Timestamp,
        to: Timestamp,
        count_max: u32,
    ) -> TierFuture<'_, Vec<StoredReading>> {
        self.soon(Box::pin(self.find_range(series, from, to, count_max)))
    }

    fn catch_up(&self) -> TierFuture<'_, ()> {
        self.soon(Box::pin(async move {
            match &self.replica {
                Some(replica) => replica.catch_up(self.primary()).await,
                None => Ok(()),
            }
        }))
    }

    fn last_before(&self, series: SeriesId, before: Timestamp, usable: bool) -> TierFuture<'_, Option<StoredReading>> {
        self.soon(Box::pin(self.find_last_before(series, before, usable)))
    }

    fn complete_from(&self) -> TierFuture<'_, Timestamp> {
        self.soon(Box::pin(self.first_held()))
    }

    fn rollups(&self, series: SeriesId, bucket: Bucket, from: Timestamp, to: Timestamp) -> TierFuture<'_, Rollups> {
        self.soon(Box::pin(self.find_rollups(series, bucket, from, to)))
    }

    fn refresh_ended(&self, by: Timestamp, buckets_max: u32) -> TierFuture<'_, u32> {
        self.within(pools::PATIENCE, Box::pin(self.refresh_dirty(by, buckets_max)))
    }

    fn be_asked(&self) -> TierFuture<'_, ()> {
        self.soon(Box::pin(async move {
            let all = (0..self.settings.connections).map(|_| self.primary());
            futures::future::try_join_all(all).await.map(drop)
        }))
    }

    fn nodes(&self) -> TierFuture<'_, Vec<NodeId>> {
        self.soon(Box::pin(self.list_nodes()))
    }

    fn series<'a>(&'a self, node: Option<&'a NodeId>) -> TierFuture<'a, Vec<SeriesInfo>> {
        self.soon(Box::pin(self.list_series(node)))
    }

    fn gateway_heard<'a>(&'a self, gateway: &'a GatewayId, heard: Heard) -> TierFuture<'a, ()> {
        self.soon(Box::pin(self.note_heard(gateway, heard)))
    }

    fn gateways(&self) -> TierFuture<'_, Vec<GatewayInfo>> {
        self.soon(Box::pin(self.list_gateways()))
    }

    fn access(&self) -> &dyn AccessStore {
        self
    }

    fn audit<'a>(&'a self, wanted: &'a AuditWanted) -> TierFuture<'a, Vec<(i64, Audited)>> {
        Box::pin(self.list_audit(wanted))
    }

    fn put_quality<'a>(&'a self, reports: &'a [QualityReport], keep_from: &'a str) -> TierFuture<'a, ()> {
        Box::pin(self.put_reports(reports, keep_from))
    }

    fn quality_days(&self) -> TierFuture<'_, Vec<(String, u64)>> {
        Box::pin(self.list_quality_days())
    }

    fn note_quality_day<'a>(&'a self, day: &'a str, version: u64) -> TierFuture<'a, ()> {
        Box::pin(self.keep_quality_day(day, version))
    }

    fn late(&self, from: Timestamp, to: Timestamp) -> TierFuture<'_, Vec<(SeriesId, u64)>> {
        self.soon(Box::pin(self.list_late(from, to)))
    }

    fn quality<'a>(&'a self, day: Option<&'a str>) -> TierFuture<'a, Vec<QualityReport>> {
        Box::pin(self.list_reports(day))
    }

    fn inbox(&self) -> &dyn InboxStore {
        self
    }

    fn hot(&self) -> &dyn HotLedger {
        self
    }

    fn jobs(&self) -> &dyn JobStore {
        self
    }

    fn days(&self) -> &dyn DayLedger {
        self
    }

    fn forecasts(&self) -> &dyn ForecastStore {
        self
    }

    fn anomalies(&self) -> &dyn AnomalyStore {
        self
    }

    fn alerts(&self) -> &dyn AlertStore {
        self
    }

    fn state(&self) -> TierFuture<'_, WarmState> {
        self.soon(Box::pin(async {
            let (counted, replica) = futures::join!(self.count_everything(), self.look_at_replica());
            Ok(WarmState { replica, ..counted? })
        }))
    }

    fn fault(&self) -> Option<String> {
        self.replica.as_ref()?.fault()
    }

    fn count_readings(&self) -> TierFuture<'_, u64> {
        self.soon(Box::pin(self.estimate_readings()))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.read.close().await;
            self.write.close().await;
            if let Some(replica) = &self.replica {
                replica.close().await;
            }
        })
    }
}
