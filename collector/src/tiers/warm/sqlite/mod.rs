//! The warm tier in one SQLite file.
//!
//! One connection writes, several read: in WAL mode neither waits for the other. `synchronous = FULL`: a commit is
//! on the disk when it returns. The tables are in `migrations/sqlite`.
//!
//! The file is not needed for the start: until it can be used every call says what is wrong, and what comes waits in the
//! spool. Nothing is ever repaired or removed.

mod access;
mod account;
mod alerts;
mod anomalies;
mod audit;
mod commit;
mod days;
mod forecasts;
mod give;
mod hot;
mod inbox;
mod jobs;
mod lists;
mod opening;
mod page;
mod quality;
mod rollups;
mod rows;
mod schema;
mod series;
mod shape;

use super::super::*;
use super::rules::Round;
use opening::Opening;
use shared::ids::{BootId, GatewayId, NodeId, Seq, StreamId};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// When so many readings may come a page is quicker than rows; more would take much memory at once, and who asks for them
/// looks whether there are any.
const MANY: std::ops::RangeInclusive<u32> = 1_000..=20_000;
const TIER: &str = "warm tier (SQLite)";
/// Connections that only read.
const READERS: u32 = 4;
/// How long a statement waits for another process's lock.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// Rows that the thread of a connection reads ahead: with sqlx's default of 50 it and its reader wake each other all
/// the time when a rollup reads its readings.
const ROWS_AHEAD: usize = 4_096;
/// Most rows that are kept aside.
pub const QUARANTINE_ROWS_MAX: u32 = 100_000;

/// The tier.
#[derive(Debug)]
pub struct SqliteWarm {
    path: PathBuf,
    opening: Opening,
    write: SqlitePool,
    read: SqlitePool,
    quarantine_max: u32,
    series_changes: AtomicU64,
    /// Of refreshing rollups.
    round: Round,
}

impl SqliteWarm {
    /// Takes the path; the file isn't looked at yet. Must be called on a runtime.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(LOCK_WAIT)
            .row_buffer_size(ROWS_AHEAD)
            .pragma("cache_size", "-32768") // 32 MiB for each connection
            .pragma("temp_store", "memory");
        // A commit that waits for a slice of the rollups is nothing to warn of.
        let one = SqlitePoolOptions::new().max_connections(1).acquire_slow_threshold(LOCK_WAIT);
        let some = SqlitePoolOptions::new().max_connections(READERS).idle_timeout(None).max_lifetime(None);
        Self {
            path: path.into(),
            opening: Opening::new(path, options.clone()),
            write: one.connect_lazy_with(options.clone()),
            read: some.connect_lazy_with(options.pragma("query_only", "on")),
            quarantine_max: QUARANTINE_ROWS_MAX,
            series_changes: AtomicU64::new(0),
            round: Round::default(),
        }
    }

    /// Opens the file, which is made when it is missing, and brings its tables up to date.
    ///
    /// # Errors
    /// When it can't be opened, is no SQLite file, was altered, or was written by a newer version.
    pub async fn open(path: &Path) -> Result<Self, TierError> {
        let tier = Self::new(path);
        tier.opening.once().await?;
        Ok(tier)
    }

    /// Waits until it is known whether the file can be used, or for so long. One that can't is tried again from now on.
    ///
    /// # Errors
    /// Why it can't, or can't yet; the text names the file.
    pub async fn ready_within(&self, longest: Duration) -> Result<(), TierError> {
        self.opening.ready_within(longest).await
    }

    /// Connections that read.
    async fn reader(&self) -> Result<&SqlitePool, TierError> {
        self.opening.ready().await?;
        Ok(&self.read)
    }

    /// The connection that writes.
    async fn writer(&self) -> Result<&SqlitePool, TierError> {
        self.opening.ready().await?;
        Ok(&self.write)
    }

    /// Keeps at most this many rows aside.
    #[must_use]
    pub fn with_quarantine_max(mut self, rows: u32) -> Self {
        self.quarantine_max = rows;
        self
    }

    /// The only transaction that writes.
    async fn begin(&self) -> Result<sqlx::Transaction<'static, sqlx::Sqlite>, TierError> {
        let begun = self.writer().await?.begin_with("BEGIN IMMEDIATE").await;
        // A full disk ends a transaction in SQLite's own way. sqlx's rollback fails then, and it takes the connection to
        // be within that transaction for ever: another one is needed.
        if matches!(begun, Err(sqlx::Error::InvalidSavePointStatement | sqlx::Error::BeginFailed)) {
            let connection = self.writer().await?.acquire().await.map_err(failed)?;
            connection.close().await.map_err(failed)?;
            return self.writer().await?.begin_with("BEGIN IMMEDIATE").await.map_err(failed);
        }
        begun.map_err(failed)
    }
}

/// Hashes of passwords are in it. SQLite gives the files beside it the same mode.
fn for_its_owner_only(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let file = std::fs::File::options().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
}

/// Says which file.
fn named(path: &Path, error: TierError) -> TierError {
    let said = |why: String| format!("{}, in data_dir: {why}", path.display());
    match error {
        TierError::Unavailable { tier, why } => TierError::Unavailable { tier, why: said(why) },
        TierError::Broken { tier, why } => TierError::Broken { tier, why: said(why) },
        other => other,
    }
}

const ALTERED: &str = ": a table was altered; compare with `collector migrate --check`";

/// What SQLite said, as our own error, and what to do about it. Whatever it is, what should be stored waits.
fn failed(error: sqlx::Error) -> TierError {
    let advice = match &error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => ALTERED,
        sqlx::Error::Database(told) if is_of_altered(told.message()) => ALTERED,
        sqlx::Error::Database(told) => told.code().and_then(|code| code.parse().ok()).map_or("", advice),
        _ => "",
    };
    TierError::Unavailable { tier: TIER, why: format!("{error}{advice}") }
}

fn is_of_altered(message: &str) -> bool {
    ["no such table", "no such column"].iter().any(|begin| message.starts_with(begin)) || message.contains("no column")
}

/// By SQLite's result code, of which the lowest byte says what it is.
fn advice(code: i32) -> &'static str {
    match code & 0xff {
        5 | 6 => ": another process holds it; end that",
        8 | 14 => ": this user must be able to read and write it, and the folder",
        10 => ": the disk doesn't work as it should, or is full",
        11 => ": it is damaged; put a copy in its place, or what `sqlite3 warm.sqlite .recover` saves of it",
        13 => ": make room on the disk",
        26 => ": it is none of ours; put a copy in its place, or move it away, and an empty one is made",
        _ => "",
    }
}

fn broken(why: impl std::fmt::Display) -> TierError {
    TierError::Broken { tier: TIER, why: why.to_string() }
}

impl WarmTier for SqliteWarm {
    fn series_for<'a>(
        &'a self,
        gateway: &'a GatewayId,
        entries: &'a [Entry],
    ) -> TierFuture<'a, Vec<Result<SeriesId, SeriesRefused>>> {
        Box::pin(self.find_or_make_series(gateway, entries))
    }

    fn hand_over<'a>(&'a self, series: &'a SeriesKey, from: &'a GatewayId, to: &'a GatewayId) -> TierFuture<'a, ()> {
        Box::pin(self.change_owner(series, from, to))
    }

    fn series_changes(&self) -> u64 {
        self.series_changes.load(Ordering::Acquire)
    }

    fn series_version(&self) -> TierFuture<'_, String> {
        Box::pin(async {
            let changes = self.series_changes(); // nobody else writes to the file
            let count: i64 = sqlx::query_scalar("SELECT count(*) FROM series")
                .fetch_one(self.reader().await?)
                .await
                .map_err(failed)?;
            Ok(format!("{count} {changes}"))
        })
    }

    fn commit(&self, flush: Flush) -> TierFuture<'_, CommitReport> {
        Box::pin(self.commit_flush(flush))
    }

    fn committed<'a>(&'a self, gateway: &'a GatewayId, stream: StreamId) -> TierFuture<'a, (SeqRanges, Seq)> {
        Box::pin(async move {
            let mut connection = self.reader().await?.acquire().await.map_err(failed)?;
            account::load(&mut connection, gateway, stream).await
        })
    }

    fn streams<'a>(&'a self, gateway: Option<&'a GatewayId>) -> TierFuture<'a, Vec<StreamInfo>> {
        Box::pin(self.list_streams(gateway))
    }

    fn put_catalogue<'a>(&'a self, gateway: &'a GatewayId, catalogue: &'a Catalogue) -> TierFuture<'a, ()> {
        Box::pin(async move {
            sqlx::query("INSERT INTO catalogues (hash, gateway, bytes) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
                .bind(catalogue.hash().0.to_vec())
                .bind(gateway.as_str())
                .bind(catalogue.to_bytes())
                .execute(self.writer().await?)
                .await
                .map_err(failed)?;
            Ok(())
        })
    }

    fn catalogue(&self, hash: CatalogueHash) -> TierFuture<'_, Option<Arc<Catalogue>>> {
        Box::pin(async move {
            let query = sqlx::query("SELECT bytes FROM catalogues WHERE hash = ?").bind(hash.0.to_vec());
            let Some(row) = query.fetch_optional(self.reader().await?).await.map_err(failed)? else { return Ok(None) };
            let bytes: Vec<u8> = row.try_get(0).map_err(failed)?;
            let catalogue = Catalogue::from_bytes(&bytes).map_err(|e| broken(format!("catalogue {hash}: {e}")))?;
            Ok(Some(Arc::new(catalogue)))
        })
    }

    fn put_clock_fix<'a>(&'a self, gateway: &'a GatewayId, boot: BootId, fix: Fix) -> TierFuture<'a, Fix> {
        Box::pin(self.keep_clock_fix(gateway, boot, fix))
    }

    fn clock_fix<'a>(&'a self, gateway: &'a GatewayId, boot: BootId) -> TierFuture<'a, Option<Fix>> {
        Box::pin(self.find_clock_fix(gateway, boot))
    }

    fn parked<'a>(
        &'a self,
        gateway: Option<&'a GatewayId>,
        boot: Option<BootId>,
        count_max: u32,
    ) -> TierFuture<'a, Vec<Parked>> {
        Box::pin(self.list_parked(gateway, boot, count_max))
    }

    fn gaps<'a>(
        &'a self,
        gateway: Option<&'a GatewayId>,
        span: Option<(Timestamp, Timestamp)>,
        count_max: u32,
    ) -> TierFuture<'a, Vec<GatewayGap>> {
        Box::pin(self.list_gaps(gateway, span, count_max))
    }

    fn quarantine<'a>(&'a self, gateway: Option<&'a GatewayId>, count_max: u32) -> TierFuture<'a, Vec<Quarantined>> {
        Box::pin(self.list_quarantine(gateway, count_max))
    }

    fn latest<'a>(&'a self, series: &'a [SeriesId]) -> TierFuture<'a, Vec<StoredReading>> {
        Box::pin(self.find_latest(series))
    }

    fn range(
        &self,
        series: SeriesId,
        from: Timestamp,
        to: Timestamp,
        count_max: u32,
    ) -> TierFuture<'_, Vec<StoredReading>> {
        Box::pin(async move {
            if MANY.contains(&count_max) {
                let mut connection = self.reader().await?.acquire().await.map_err(failed)?;
                return page::page(&mut connection, series, from.0, to.0, count_max).await;
            }
            let query = sqlx::query(
                "SELECT series_id, ts, value, quality, revision FROM readings \
                 WHERE series_id = ? AND ts >= ? AND ts < ? ORDER BY ts LIMIT ?",
            );
            let query = query.bind(series.0).bind(from.0).bind(to.0).bind(count_max);
            query.fetch_all(self.reader().await?).await.map_err(failed)?.iter().map(rows::reading).collect()
        })
    }

    fn last_before(&self, series: SeriesId, before: Timestamp, usable: bool) -> TierFuture<'_, Option<StoredReading>> {
        Box::pin(async move {
            let query = sqlx::query(
                "SELECT series_id, ts, value, quality, revision FROM readings \
                 WHERE series_id = ? AND ts < ? AND (NOT ? OR value IS NOT NULL) ORDER BY ts DESC LIMIT 1",
            );
            let row = query
                .bind(series.0)
                .bind(before.0)
                .bind(usable)
                .fetch_optional(self.reader().await?)
                .await
                .map_err(failed)?;
            row.as_ref().map(rows::reading).transpose()
        })
    }

    fn complete_from(&self) -> TierFuture<'_, Timestamp> {
        Box::pin(self.first_held())
    }

    fn rollups(&self, series: SeriesId, bucket: Bucket, from: Timestamp, to: Timestamp) -> TierFuture<'_, Rollups> {
        Box::pin(self.find_rollups(series, bucket, from, to))
    }

    fn refresh_ended(&self, by: Timestamp, buckets_max: u32) -> TierFuture<'_, u32> {
        Box::pin(self.refresh_dirty(by, buckets_max))
    }

    fn be_asked(&self) -> TierFuture<'_, ()> {
        Box::pin(async move {
            let pool = self.reader().await?;
            let all = (0..READERS).map(|_| pool.acquire());
            futures::future::try_join_all(all).await.map(drop).map_err(failed)
        })
    }

    fn nodes(&self) -> TierFuture<'_, Vec<NodeId>> {
        Box::pin(self.list_nodes())
    }

    fn series<'a>(&'a self, node: Option<&'a NodeId>) -> TierFuture<'a, Vec<SeriesInfo>> {
        Box::pin(self.list_series(node))
    }

    fn gateway_heard<'a>(&'a self, gateway: &'a GatewayId, heard: Heard) -> TierFuture<'a, ()> {
        Box::pin(self.note_heard(gateway, heard))
    }

    fn gateways(&self) -> TierFuture<'_, Vec<GatewayInfo>> {
        Box::pin(self.list_gateways())
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
        Box::pin(self.list_late(from, to))
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
        Box::pin(self.count_everything())
    }

    fn count_readings(&self) -> TierFuture<'_, u64> {
        Box::pin(async {
            let row = sqlx::query("SELECT count(*) AS readings FROM readings").fetch_one(self.reader().await?).await;
            rows::narrow(&row.map_err(failed)?, "readings")
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.opening.close();
            self.read.close().await;
            self.write.close().await;
        })
    }
}
