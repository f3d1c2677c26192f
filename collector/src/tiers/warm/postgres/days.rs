//! The account of archive days in PostgreSQL.
//!
//! A flush changes it last of all, after its readings; whoever removes a day locks out flushes first and looks at the
//! account then. So no reading is removed that the archive doesn't have.

use super::fault::{Failure, failed};
use super::pools::Use;
use super::rows::{self, get, narrow, number, strange};
use super::time::PgTime;
use super::{Layout, PostgresWarm, named, partitions, pools};
use crate::etl::ledger::{ArchivedDays, DayEntry, DayLedger, Export, Leave, Merge, Raw};
use crate::tiers::warm::rules;
use crate::tiers::warm::settings::WarmSettings;
use crate::tiers::{Day, Proof, Runs, SeriesId, StoredReading, TierError, TierFuture};
use futures::channel::mpsc;
use futures::stream::{self, StreamExt as _};
use shared::reading::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Runs that are read ahead.
const AHEAD: usize = 4;

/// For each series of the day, so that its readings are found by their key.
static KEEP_LATEST: LazyLock<String> = LazyLock::new(|| {
    format!(
        "INSERT INTO left_latest (series_id, ts, value, quality, revision) \
         SELECT r.* FROM series AS s CROSS JOIN LATERAL ( \
             SELECT series_id, ts, value, quality, revision FROM readings \
             WHERE series_id = s.series_id AND ts >= $1 AND ts < $2 ORDER BY ts DESC LIMIT 1) AS r \
         ON CONFLICT (series_id) DO UPDATE SET ts = excluded.ts, value = excluded.value, \
             quality = excluded.quality, revision = excluded.revision \
         WHERE excluded.ts > left_latest.ts OR excluded.ts = left_latest.ts AND {} > {}",
        rules::rank("excluded"),
        rules::rank("left_latest")
    )
});

fn entry(row: &PgRow) -> Result<DayEntry, TierError> {
    let proof = |rows, xor| {
        let both = get::<Option<i64>>(row, rows)?.zip(get::<Option<i64>>(row, xor)?);
        Ok::<_, TierError>(both.map(|(rows, xor)| Proof { rows: rows.cast_unsigned(), xor: xor.cast_unsigned() }))
    };
    let raw: &str = get(row, "raw")?;
    Ok(DayEntry {
        day: Day(get(row, "day")?),
        version: narrow(row, "version")?,
        exported: narrow(row, "exported")?,
        warm: proof("warm_rows", "warm_xor")?,
        cold: proof("cold_rows", "cold_xor")?,
        next: proof("next_rows", "next_xor")?,
        exported_at: get::<Option<PgTime>>(row, "exported_at")?.map(|at| at.0),
        raw: Raw::parse(raw).ok_or_else(|| strange(format!("archive_days.raw is '{raw}'")))?,
    })
}

/// A day's account; nobody changes it before the transaction ends.
async fn lock(connection: &mut PgConnection, day: Day) -> Result<Option<DayEntry>, Failure> {
    let query = sqlx::query("SELECT * FROM archive_days WHERE day = $1 FOR UPDATE").bind(day.0);
    Ok(query.fetch_optional(connection).await?.as_ref().map(entry).transpose()?)
}

async fn set_raw(connection: &mut PgConnection, day: Day, raw: Raw) -> Result<(), Failure> {
    let query = sqlx::query("UPDATE archive_days SET raw = $1 WHERE day = $2").bind(raw.as_str()).bind(day.0);
    query.execute(connection).await?;
    Ok(())
}

async fn keep_latest(connection: &mut PgConnection, day: Day) -> Result<(), Failure> {
    let query = sqlx::query(KEEP_LATEST.as_str()).bind(PgTime::bounded(day.start())).bind(PgTime::bounded(day.end()));
    query.execute(connection).await?;
    Ok(())
}

/// Says that these days, ascending, have changed.
pub(super) async fn touch(connection: &mut PgConnection, days: &[Day]) -> Result<(), Failure> {
    if days.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO archive_days AS d (day, version) SELECT day, 1 FROM unnest($1::integer[]) AS day \
               ORDER BY day ON CONFLICT (day) DO UPDATE SET version = d.version + 1";
    let days: Vec<i32> = days.iter().map(|day| day.0).collect();
    sqlx::query(sql).bind(days).execute(connection).await?;
    Ok(())
}

impl PostgresWarm {
    /// Reads which days were archived, without looking whether the tables are in order.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn archived(settings: &WarmSettings) -> Result<ArchivedDays, TierError> {
        let read = async {
            let mut connection = pools::connect(settings, Use::Read).await?;
            let sql = "SELECT day, version > exported FROM archive_days WHERE exported > 0 ORDER BY day";
            let days: Vec<(i32, bool)> = sqlx::query_as(sql).fetch_all(&mut connection).await.map_err(failed)?;
            connection.close().await.map_err(failed)?;
            Ok(days.into_iter().map(|(day, is_behind)| (Day(day), is_behind)).collect())
        };
        read.await.map_err(|error| named(settings, error))
    }

    async fn list_days(&self, from: Day, to: Day) -> Result<Vec<DayEntry>, TierError> {
        let query = sqlx::query("SELECT * FROM archive_days WHERE day >= $1 AND day < $2 ORDER BY day");
        let rows = query.bind(from.0).bind(to.0).fetch_all(&mut *self.newest().await?).await.map_err(failed)?;
        rows.iter().map(entry).collect()
    }

    async fn note_export(&self, export: Export) -> Result<bool, Failure> {
        let Export { day, before, version, warm, cold } = export;
        let mut transaction = self.begin().await?;
        let Some(entry) = lock(&mut transaction, day).await? else { return Ok(false) };
        if entry.exported != before || entry.version < version {
            return Ok(false);
        }
        if entry.has_left(version) {
            keep_latest(&mut transaction, day).await?;
            set_raw(&mut transaction, day, Raw::Leaving).await?;
        }
        let sql = "UPDATE archive_days SET exported = $1, warm_rows = $2, warm_xor = $3, cold_rows = $4, \
                   cold_xor = $5, next_rows = $4, next_xor = $5, exported_at = clock_timestamp() WHERE day = $6";
        let query = sqlx::query(sql).bind(version.cast_signed());
        let query = query.bind(warm.rows.cast_signed()).bind(warm.xor.cast_signed());
        let query = query.bind(cold.rows.cast_signed()).bind(cold.xor.cast_signed()).bind(day.0);
        query.execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn let_leave(&self, day: Day, version: u64) -> Result<Leave, Failure> {
        let mut transaction = self.begin().await?;
        if !lock(&mut transaction, day).await?.is_some_and(|entry| entry.may_leave(version)) {
            return Ok(Leave::Changed);
        }
        let query = sqlx::query_scalar("SELECT EXISTS (SELECT FROM dirty_buckets WHERE bucket >= $1 AND bucket < $2)");
        let query = query.bind(PgTime::bounded(day.start())).bind(PgTime::bounded(day.end()));
        if query.fetch_one(&mut *transaction).await? {
            return Ok(Leave::Dirty);
        }
        keep_latest(&mut transaction, day).await?;
        set_raw(&mut transaction, day, Raw::Leaving).await?;
        transaction.commit().await?;
        self.tell_replica().await;
        Ok(Leave::Yes)
    }

    async fn remove_day(&self, day: Day) -> Result<bool, Failure> {
        let layout = self.ready().await?;
        let mut transaction = self.begin().await?;
        transaction.execute("SET LOCAL lock_timeout TO 2000").await?;
        let own = layout == Layout::Timescale || partitions::is_there(&mut transaction, day.0.into()).await?;
        if own {
            // No flush is under way after this: each holds a lock on it until it has changed the account, too.
            let mode = if layout == Layout::Timescale { "SHARE ROW EXCLUSIVE" } else { "ACCESS EXCLUSIVE" };
            let sql = format!("LOCK TABLE ONLY readings IN {mode} MODE");
            transaction.execute(AssertSqlSafe(sql)).await?;
        }
        match lock(&mut transaction, day).await? {
            Some(entry) if entry.raw == Raw::Leaving && !entry.is_dirty() => {}
            Some(entry) => return Ok(entry.raw == Raw::Gone && !entry.is_dirty()),
            None => return Ok(false),
        }
        let (from, to) = (day.start(), day.end());
        match layout {
            Layout::Timescale => {
                let sql = format!(
                    "SELECT drop_chunks('readings', older_than => TIMESTAMPTZ '{to}', newer_than => TIMESTAMPTZ '{from}')"
                );
                transaction.execute(AssertSqlSafe(sql)).await?;
            }
            Layout::Plain if own => partitions::drop(&mut transaction, day.0.into()).await?,
            Layout::Plain => {}
        }
        let query = sqlx::query("DELETE FROM readings WHERE ts >= $1 AND ts < $2");
        let query = query.bind(PgTime::bounded(from)).bind(PgTime::bounded(to));
        query.execute(&mut *transaction).await?;
        set_raw(&mut transaction, day, Raw::Gone).await?;
        transaction.commit().await?;
        self.forget_day(day.0.into());
        self.tell_replica().await;
        Ok(true)
    }

    async fn list_stale(
        &self,
        day: Day,
        after: Option<SeriesId>,
        series_max: u32,
    ) -> Result<Vec<(SeriesId, Vec<Timestamp>)>, TierError> {
        let sql = "SELECT DISTINCT d.series_id, d.bucket FROM dirty_buckets AS d JOIN ( \
                       SELECT DISTINCT series_id FROM dirty_buckets \
                       WHERE series_id > $1 AND bucket >= $2 AND bucket < $3 \
                       ORDER BY series_id LIMIT $4) AS s USING (series_id) \
                   WHERE d.bucket >= $2 AND d.bucket < $3";
        let query = sqlx::query(sql).bind(after.map_or(-1, number));
        let query = query.bind(PgTime::bounded(day.start())).bind(PgTime::bounded(day.end()));
        let query = query.bind(i64::from(series_max));
        let mut stale = BTreeMap::<SeriesId, std::collections::BTreeSet<Timestamp>>::new();
        for row in query.fetch_all(&mut *self.primary().await?).await.map_err(failed)? {
            stale.entry(rows::series(&row)?).or_default().insert(rows::time(&row, "bucket")?);
        }
        Ok(stale.into_iter().map(|(series, buckets)| (series, buckets.into_iter().collect())).collect())
    }

    async fn renew_rollups(
        &self,
        day: Day,
        version: u64,
        series: SeriesId,
        buckets: &[Timestamp],
        readings: &[StoredReading],
    ) -> Result<bool, Failure> {
        self.may_take(day.end()).await?;
        let mut transaction = self.begin().await?;
        if !lock(&mut transaction, day).await?.is_some_and(|entry| entry.has_left(version)) {
            return Ok(false);
        }
        let sql = "DELETE FROM dirty_buckets WHERE series_id = $1 AND bucket = ANY($2)";
        let query = sqlx::query(sql).bind(number(series));
        let query = query.bind(buckets.iter().map(|bucket| PgTime(*bucket)).collect::<Vec<_>>());
        query.execute(&mut *transaction).await?;
        self.renew_series(&mut transaction, series, buckets, readings).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Where the days end that have left; asked of the primary, which knows it first.
    pub(super) async fn first_held(&self) -> Result<Timestamp, TierError> {
        let query = sqlx::query_scalar("SELECT max(day) FROM archive_days WHERE raw <> 'here'");
        let last: Option<i32> = query.fetch_one(&mut *self.newest().await?).await.map_err(failed)?;
        Ok(last.map_or(Timestamp(i64::MIN), |day| Day(day).end()))
    }
}

impl DayLedger for PostgresWarm {
    fn days(&self, from: Day, to: Day) -> TierFuture<'_, Vec<DayEntry>> {
        self.soon(Box::pin(self.list_days(from, to)))
    }

    fn rows(&self, day: Day) -> Runs<'_> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let reading = stream::once(self.send_day(day, sender));
        let fault = reading.filter_map(|read| std::future::ready(read.err().map(Err)));
        stream::select(receiver.map(Ok), fault).boxed()
    }

    fn exported(&self, export: Export) -> TierFuture<'_, bool> {
        self.within(pools::PATIENCE, Box::pin(self.again(move || self.note_export(export))))
    }

    fn merging(&self, merge: Merge) -> TierFuture<'_, bool> {
        self.soon(Box::pin(async move {
            let Merge { day, before, there, merged } = merge;
            let mut transaction = self.begin().await?;
            let sql = "UPDATE archive_days SET cold_rows = $1, cold_xor = $2, next_rows = $3, next_xor = $4 \
                       WHERE day = $5 AND exported = $6 AND raw <> 'here'";
            let query = sqlx::query(sql).bind(there.rows.cast_signed()).bind(there.xor.cast_signed());
            let query = query.bind(merged.rows.cast_signed()).bind(merged.xor.cast_signed());
            let query = query.bind(day.0).bind(before.cast_signed());
            let noted = query.execute(&mut *transaction).await.map_err(failed)?.rows_affected();
            transaction.commit().await.map_err(failed)?;
            Ok(noted == 1)
        }))
    }

    fn doubt(&self, day: Day, version: u64) -> TierFuture<'_, bool> {
        self.soon(Box::pin(async move {
            let mut transaction = self.begin().await?;
            let sql = "UPDATE archive_days SET version = version + 1 WHERE day = $1 AND version = $2 AND exported = $2";
            let query = sqlx::query(sql).bind(day.0).bind(version.cast_signed());
            let changed = query.execute(&mut *transaction).await.map_err(failed)?.rows_affected();
            transaction.commit().await.map_err(failed)?;
            Ok(changed == 1)
        }))
    }

    fn leave(&self, day: Day, version: u64) -> TierFuture<'_, Leave> {
        self.within(pools::PATIENCE, Box::pin(self.again(move || self.let_leave(day, version))))
    }

    fn clear(&self, day: Day) -> TierFuture<'_, bool> {
        self.within(pools::PATIENCE, Box::pin(self.again(move || self.remove_day(day))))
    }

    fn stale(
        &self,
        day: Day,
        after: Option<SeriesId>,
        series_max: u32,
    ) -> TierFuture<'_, Vec<(SeriesId, Vec<Timestamp>)>> {
        self.soon(Box::pin(self.list_stale(day, after, series_max)))
    }

    fn renew<'a>(
        &'a self,
        day: Day,
        version: u64,
        series: SeriesId,
        buckets: &'a [Timestamp],
        readings: &'a [StoredReading],
    ) -> TierFuture<'a, bool> {
        self.within(
            pools::PATIENCE,
            Box::pin(self.again(move || self.renew_rollups(day, version, series, buckets, readings))),
        )
    }
}
