//! The account of archive days in SQLite.

use super::page::{PAGE, page};
use super::rows::{self, get, narrow};
use super::{SqliteWarm, broken, failed, named, rollups};
use crate::etl::ledger::{ArchivedDays, DayEntry, DayLedger, Export, Leave, Merge, Raw};
use crate::tiers::cold::rows::MICROS_PER_DAY;
use crate::tiers::warm::rules;
use crate::tiers::{Day, Proof, Run, Runs, SeriesId, SeriesKey, StoredReading, TierError, TierFuture};
use futures::TryStreamExt as _;
use futures::stream::{self, StreamExt as _};
use shared::reading::Timestamp;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{ConnectOptions as _, Connection as _, Sqlite, SqliteConnection};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, LazyLock};

/// Readings that are removed in one transaction: a commit that waits has its turn after it.
const SLICE: u64 = 50_000;

const HELD: &str = "SELECT (SELECT count(*) FROM series), (SELECT count(*) FROM users) + (SELECT count(*) FROM tokens)";
const ARCHIVED: &str = "SELECT day, version > exported FROM archive_days WHERE exported > 0 ORDER BY day";

static KEEP_LATEST: LazyLock<String> = LazyLock::new(|| {
    format!(
        "INSERT INTO left_latest (series_id, ts, value, quality, revision) \
         SELECT series_id, ts, value, quality, revision FROM readings \
         WHERE series_id = ?1 AND ts >= ?2 AND ts < ?3 ORDER BY ts DESC LIMIT 1 \
         ON CONFLICT (series_id) DO UPDATE SET ts = excluded.ts, value = excluded.value, \
             quality = excluded.quality, revision = excluded.revision \
         WHERE excluded.ts > left_latest.ts OR excluded.ts = left_latest.ts AND {} > {}",
        rules::rank("excluded"),
        rules::rank("left_latest")
    )
});

fn entry(row: &SqliteRow) -> Result<DayEntry, TierError> {
    let proof = |rows, xor| {
        let both = get::<Option<i64>>(row, rows)?.zip(get::<Option<i64>>(row, xor)?);
        Ok::<_, TierError>(both.map(|(rows, xor)| Proof { rows: rows.cast_unsigned(), xor: xor.cast_unsigned() }))
    };
    let raw: String = get(row, "raw")?;
    Ok(DayEntry {
        day: Day(narrow(row, "day")?),
        version: narrow(row, "version")?,
        exported: narrow(row, "exported")?,
        warm: proof("warm_rows", "warm_xor")?,
        cold: proof("cold_rows", "cold_xor")?,
        next: proof("next_rows", "next_xor")?,
        exported_at: get::<Option<i64>>(row, "exported_at")?.map(Timestamp),
        raw: Raw::parse(&raw).ok_or_else(|| broken(format!("archive_days.raw is '{raw}'")))?,
    })
}

async fn find(connection: &mut SqliteConnection, day: Day) -> Result<Option<DayEntry>, TierError> {
    let query = sqlx::query("SELECT * FROM archive_days WHERE day = ?").bind(day.0);
    query.fetch_optional(connection).await.map_err(failed)?.as_ref().map(entry).transpose()
}

async fn set_raw(connection: &mut SqliteConnection, day: Day, raw: Raw) -> Result<(), TierError> {
    let query = sqlx::query("UPDATE archive_days SET raw = ? WHERE day = ?").bind(raw.as_str()).bind(day.0);
    query.execute(connection).await.map_err(failed)?;
    Ok(())
}

/// Says that these days have changed.
pub(super) async fn touch(connection: &mut SqliteConnection, days: &BTreeSet<Day>) -> Result<(), TierError> {
    for day in days {
        let sql = "INSERT INTO archive_days (day, version) VALUES (?, 1) \
                   ON CONFLICT (day) DO UPDATE SET version = version + 1";
        sqlx::query(sql).bind(day.0).execute(&mut *connection).await.map_err(failed)?;
    }
    Ok(())
}

/// Where a stream of a day's readings is.
struct Cursor {
    connection: PoolConnection<Sqlite>,
    series: std::vec::IntoIter<(SeriesId, Arc<SeriesKey>)>,
    /// The series at hand, and from when on.
    at: Option<(SeriesId, Arc<SeriesKey>, i64)>,
    end: i64,
}

impl Cursor {
    async fn next(&mut self, begin: i64) -> Result<Option<Run>, TierError> {
        loop {
            let (series, key, from) = match self.at.take() {
                Some(at) => at,
                None => match self.series.next() {
                    Some((series, key)) => (series, key, begin),
                    None => return Ok(None),
                },
            };
            let readings = page(&mut self.connection, series, from, self.end, PAGE).await?;
            if readings.len() == PAGE as usize {
                let next = readings.last().map_or(self.end, |last| last.at.0.saturating_add(1));
                self.at = Some((series, key.clone(), next));
            }
            if !readings.is_empty() {
                return Ok(Some(Run { series, key, readings }));
            }
        }
    }
}

/// What a file answers that may be in use, or not be there; nothing is changed.
async fn rows_of<T>(path: &Path, sql: &'static str) -> Result<Vec<T>, sqlx::Error>
where
    T: for<'r> sqlx::FromRow<'r, SqliteRow> + Send + Unpin,
{
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut connection = SqliteConnectOptions::new().filename(path).read_only(true).connect().await?;
    let rows = sqlx::query_as(sql).fetch_all(&mut connection).await?;
    connection.close().await.map(|()| rows)
}

impl SqliteWarm {
    /// Reads which days of a file were archived; none when it isn't there.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn archived(path: &Path) -> Result<ArchivedDays, TierError> {
        let days = rows_of::<(i32, bool)>(path, ARCHIVED).await.map_err(|error| named(path, failed(error)))?;
        Ok(days.into_iter().map(|(day, is_behind)| (Day(day), is_behind)).collect())
    }

    /// What a file holds that would be missed, in words; `None` when there is nothing, or nothing that can be read.
    pub async fn held(path: &Path) -> Option<String> {
        let (series, people) = rows_of::<(u32, u32)>(path, HELD).await.ok()?.pop()?;
        (series + people > 0).then(|| format!("{series} series, {people} users and tokens"))
    }

    async fn cursor(&self, day: Day) -> Result<Cursor, TierError> {
        let mut connection = self.reader().await?.acquire().await.map_err(failed)?;
        let query = sqlx::query("SELECT series_id, node, metric, channel FROM series ORDER BY series_id");
        let all = query.fetch_all(&mut *connection).await.map_err(failed)?;
        let named = |row| Ok((SeriesId(narrow(row, "series_id")?), Arc::new(rows::key(row)?)));
        let series = all.iter().map(named).collect::<Result<Vec<_>, TierError>>()?.into_iter();
        Ok(Cursor { connection, series, at: None, end: day.end().0 })
    }

    async fn note_export(&self, export: Export) -> Result<bool, TierError> {
        let Export { day, before, version, warm, cold } = export;
        let sql = "UPDATE archive_days SET exported = ?1, warm_rows = ?2, warm_xor = ?3, cold_rows = ?4, \
                   cold_xor = ?5, next_rows = ?4, next_xor = ?5, exported_at = ?6, \
                   raw = CASE WHEN raw = 'gone' AND version = ?1 THEN 'leaving' ELSE raw END \
                   WHERE day = ?7 AND exported = ?8 AND version >= ?1";
        let query = sqlx::query(sql).bind(version.cast_signed());
        let query = query.bind(warm.rows.cast_signed()).bind(warm.xor.cast_signed());
        let query = query.bind(cold.rows.cast_signed()).bind(cold.xor.cast_signed());
        let query = query.bind(Timestamp::wall_clock().0).bind(day.0).bind(before.cast_signed());
        Ok(query.execute(self.writer().await?).await.map_err(failed)?.rows_affected() == 1)
    }

    async fn let_leave(&self, day: Day, version: u64) -> Result<Leave, TierError> {
        let mut transaction = self.begin().await?;
        if !find(&mut transaction, day).await?.is_some_and(|entry| entry.may_leave(version)) {
            return Ok(Leave::Changed);
        }
        let query = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM dirty_buckets WHERE bucket >= ? AND bucket < ?)");
        let query = query.bind(day.start().0).bind(day.end().0);
        if query.fetch_one(&mut *transaction).await.map_err(failed)? {
            return Ok(Leave::Dirty);
        }
        set_raw(&mut transaction, day, Raw::Leaving).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(Leave::Yes)
    }

    /// In slices, each a transaction that makes sure that nothing came which the archive doesn't have.
    async fn remove_day(&self, day: Day) -> Result<bool, TierError> {
        let query = sqlx::query_scalar("SELECT series_id FROM series ORDER BY series_id");
        let series: Vec<i64> = query.fetch_all(self.reader().await?).await.map_err(failed)?;
        let mut series = series.into_iter();
        loop {
            let mut transaction = self.begin().await?;
            match find(&mut transaction, day).await? {
                Some(entry) if entry.raw == Raw::Leaving && !entry.is_dirty() => {}
                Some(entry) => return Ok(entry.raw == Raw::Gone && !entry.is_dirty()),
                None => return Ok(false),
            }
            let mut removed = 0;
            while removed < SLICE
                && let Some(one) = series.next()
            {
                removed += remove(&mut transaction, one, day).await?;
            }
            let over = removed < SLICE;
            if over {
                set_raw(&mut transaction, day, Raw::Gone).await?;
            }
            transaction.commit().await.map_err(failed)?;
            if over {
                return Ok(true);
            }
        }
    }

    async fn list_stale(
        &self,
        day: Day,
        after: Option<SeriesId>,
        series_max: u32,
    ) -> Result<Vec<(SeriesId, Vec<Timestamp>)>, TierError> {
        let sql = "SELECT d.series_id, d.bucket FROM dirty_buckets AS d JOIN ( \
                       SELECT DISTINCT series_id FROM dirty_buckets WHERE series_id > ?1 AND bucket >= ?2 AND bucket < ?3 \
                       ORDER BY series_id LIMIT ?4) AS s USING (series_id) \
                   WHERE d.bucket >= ?2 AND d.bucket < ?3 ORDER BY d.series_id, d.bucket";
        let query = sqlx::query(sql).bind(after.map_or(-1, |series| i64::from(series.0)));
        let query = query.bind(day.start().0).bind(day.end().0).bind(series_max);
        let mut stale = BTreeMap::<SeriesId, Vec<Timestamp>>::new();
        for row in query.fetch_all(self.reader().await?).await.map_err(failed)? {
            let series = SeriesId(narrow(&row, "series_id")?);
            stale.entry(series).or_default().push(Timestamp(get(&row, "bucket")?));
        }
        Ok(stale.into_iter().collect())
    }

    async fn renew_rollups(
        &self,
        day: Day,
        version: u64,
        series: SeriesId,
        buckets: &[Timestamp],
        readings: &[StoredReading],
    ) -> Result<bool, TierError> {
        let mut transaction = self.begin().await?;
        if !find(&mut transaction, day).await?.is_some_and(|entry| entry.has_left(version)) {
            return Ok(false);
        }
        let hold = Self::hold_of(&mut transaction, series).await?;
        let fresh = rules::sum_up(buckets, readings, hold);
        rollups::keep(&mut transaction, series, buckets, &fresh, hold).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(true)
    }

    pub(super) async fn first_held(&self) -> Result<Timestamp, TierError> {
        let query = sqlx::query_scalar("SELECT max(day) FROM archive_days WHERE raw <> 'here'");
        let last: Option<i64> = query.fetch_one(self.reader().await?).await.map_err(failed)?;
        Ok(last.map_or(Timestamp(i64::MIN), |day| Timestamp((day + 1).saturating_mul(MICROS_PER_DAY))))
    }
}

/// Gives how many readings of the series it removed.
async fn remove(connection: &mut SqliteConnection, series: i64, day: Day) -> Result<u64, TierError> {
    let (from, to) = (day.start().0, day.end().0);
    let keep = sqlx::query(KEEP_LATEST.as_str()).bind(series).bind(from).bind(to);
    keep.execute(&mut *connection).await.map_err(failed)?;
    let delete = sqlx::query("DELETE FROM readings WHERE series_id = ? AND ts >= ? AND ts < ?");
    let delete = delete.bind(series).bind(from).bind(to);
    Ok(delete.execute(connection).await.map_err(failed)?.rows_affected())
}

impl DayLedger for SqliteWarm {
    fn days(&self, from: Day, to: Day) -> TierFuture<'_, Vec<DayEntry>> {
        Box::pin(async move {
            let query = sqlx::query("SELECT * FROM archive_days WHERE day >= ? AND day < ? ORDER BY day");
            let rows = query.bind(from.0).bind(to.0).fetch_all(self.reader().await?).await.map_err(failed)?;
            rows.iter().map(entry).collect()
        })
    }

    fn rows(&self, day: Day) -> Runs<'_> {
        let begin = day.start().0;
        let runs = async move {
            let cursor = self.cursor(day).await?;
            Ok::<_, TierError>(stream::try_unfold(cursor, move |mut cursor| async move {
                Ok(cursor.next(begin).await?.map(|run| (run, cursor)))
            }))
        };
        stream::once(runs).try_flatten().boxed()
    }

    fn exported(&self, export: Export) -> TierFuture<'_, bool> {
        Box::pin(self.note_export(export))
    }

    fn merging(&self, merge: Merge) -> TierFuture<'_, bool> {
        Box::pin(async move {
            let Merge { day, before, there, merged } = merge;
            let sql = "UPDATE archive_days SET cold_rows = ?1, cold_xor = ?2, next_rows = ?3, next_xor = ?4 \
                       WHERE day = ?5 AND exported = ?6 AND raw <> 'here'";
            let query = sqlx::query(sql).bind(there.rows.cast_signed()).bind(there.xor.cast_signed());
            let query = query.bind(merged.rows.cast_signed()).bind(merged.xor.cast_signed());
            let query = query.bind(day.0).bind(before.cast_signed());
            Ok(query.execute(self.writer().await?).await.map_err(failed)?.rows_affected() == 1)
        })
    }

    fn doubt(&self, day: Day, version: u64) -> TierFuture<'_, bool> {
        Box::pin(async move {
            let sql = "UPDATE archive_days SET version = version + 1 WHERE day = ?1 AND version = ?2 AND exported = ?2";
            let query = sqlx::query(sql).bind(day.0).bind(version.cast_signed());
            Ok(query.execute(self.writer().await?).await.map_err(failed)?.rows_affected() == 1)
        })
    }

    fn leave(&self, day: Day, version: u64) -> TierFuture<'_, Leave> {
        Box::pin(self.let_leave(day, version))
    }

    fn clear(&self, day: Day) -> TierFuture<'_, bool> {
        Box::pin(self.remove_day(day))
    }

    fn stale(
        &self,
        day: Day,
        after: Option<SeriesId>,
        series_max: u32,
    ) -> TierFuture<'_, Vec<(SeriesId, Vec<Timestamp>)>> {
        Box::pin(self.list_stale(day, after, series_max))
    }

    fn renew<'a>(
        &'a self,
        day: Day,
        version: u64,
        series: SeriesId,
        buckets: &'a [Timestamp],
        readings: &'a [StoredReading],
    ) -> TierFuture<'a, bool> {
        Box::pin(self.renew_rollups(day, version, series, buckets, readings))
    }
}
