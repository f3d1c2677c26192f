//! Rollups: brought up to date from dirty buckets, and read.
//!
//! The hour is merged from its twelve 5 minute rollups. Only 5 minute buckets are marked; an hour is dirty while one
//! of them is.

use super::rows::{self, Batched, ROLLUP, ROLLUP_COLUMNS, get, narrow};
use super::{SqliteWarm, failed};
use crate::rollup::Rollup;
use crate::tiers::warm::rules::{self, Mark};
use crate::tiers::{Bucket, Rollups, SeriesId, TierError};
use shared::reading::Timestamp;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite, SqliteConnection};
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// What differs between the two tables.
struct Table {
    insert: Batched,
    delete: &'static str,
    select: String,
}

impl Table {
    fn new(name: &str, delete: &'static str) -> Self {
        let prefix = format!("INSERT OR REPLACE INTO {name} (series_id, bucket, {ROLLUP_COLUMNS}) VALUES");
        let select =
            format!("SELECT {ROLLUP} FROM {name} WHERE series_id = ? AND bucket >= ? AND bucket < ? ORDER BY bucket");
        Self { insert: Batched::new(&prefix, 19, ""), delete, select }
    }
}

static FIVE_MINUTES: LazyLock<Table> =
    LazyLock::new(|| Table::new("rollup_5m", "DELETE FROM rollup_5m WHERE series_id = ? AND bucket = ?"));
static HOUR: LazyLock<Table> =
    LazyLock::new(|| Table::new("rollup_1h", "DELETE FROM rollup_1h WHERE series_id = ? AND bucket = ?"));

fn table(bucket: Bucket) -> &'static Table {
    match bucket {
        Bucket::FiveMinutes => &FIVE_MINUTES,
        Bucket::Hour => &HOUR,
    }
}

type Query<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

impl SqliteWarm {
    pub(super) async fn refresh_dirty(&self, by: Timestamp, buckets_max: u32) -> Result<u32, TierError> {
        let after = self.round.place();
        let done = self.refresh_after(after, by, buckets_max).await?;
        if done > 0 || after.is_none() { Ok(done) } else { self.refresh_after(None, by, buckets_max).await }
    }

    async fn refresh_after(&self, after: Option<Mark>, by: Timestamp, buckets_max: u32) -> Result<u32, TierError> {
        let mut transaction = self.begin().await?;
        // What belongs to days that have left can't be made from what is here.
        let query = sqlx::query(
            "SELECT series_id, bucket FROM dirty_buckets AS d WHERE (series_id, bucket) > (?, ?) AND bucket <= ? AND NOT EXISTS ( \
                 SELECT 1 FROM archive_days AS a WHERE a.raw <> 'here' AND a.day = \
                     (d.bucket - CASE WHEN d.bucket < 0 THEN 86399999999 ELSE 0 END) / 86400000000) \
             ORDER BY series_id, bucket LIMIT ?",
        );
        let (series, bucket) = after.map_or((-1, i64::MIN), |(series, bucket)| (i64::from(series.0), bucket.0));
        let query = query.bind(series).bind(bucket).bind(rules::ended(by).0).bind(buckets_max);
        let dirty = query.fetch_all(&mut *transaction).await.map_err(failed)?;
        let dirty = dirty.iter().map(|row| Ok((SeriesId(narrow(row, "series_id")?), Timestamp(get(row, "bucket")?))));
        let dirty: Vec<Mark> = dirty.collect::<Result<_, TierError>>()?;
        for of_one in dirty.chunk_by(|a, b| a.0 == b.0) {
            let buckets: Vec<Timestamp> = of_one.iter().map(|(_, bucket)| *bucket).collect();
            refresh_series(&mut transaction, of_one[0].0, &buckets).await?;
        }
        transaction.commit().await.map_err(failed)?;
        self.round.came_to(dirty.last().filter(|_| dirty.len() == buckets_max as usize).copied());
        Ok(dirty.len() as u32)
    }

    pub(super) async fn find_rollups(
        &self,
        series: SeriesId,
        bucket: Bucket,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Rollups, TierError> {
        // One snapshot, so that a bucket is never taken for clean that isn't.
        let mut transaction = self.reader().await?.begin().await.map_err(failed)?;
        let marks = sqlx::query(
            "SELECT bucket FROM dirty_buckets WHERE series_id = ? AND bucket >= ? AND bucket < ? ORDER BY bucket",
        );
        // The marks of the last bucket lie up to its end.
        let end = Timestamp(to.0.saturating_sub(1)).max(from);
        let end = if to <= from { from } else { bucket.start_of(end).plus_micros(bucket.micros()) };
        let marks = marks.bind(series.0).bind(from.0).bind(end.0).fetch_all(&mut *transaction).await.map_err(failed)?;
        let mut dirty = BTreeSet::new();
        for row in &marks {
            let start = bucket.start_of(Timestamp(get(row, "bucket")?));
            if start >= from && start < to {
                dirty.insert(start);
            }
        }
        let mut clean = load(&mut transaction, series, bucket, from, to).await?;
        transaction.commit().await.map_err(failed)?;
        clean.retain(|(start, _)| !dirty.contains(start));
        Ok(Rollups { clean, dirty: dirty.into_iter().collect() })
    }
}

async fn load(
    connection: &mut SqliteConnection,
    series: SeriesId,
    bucket: Bucket,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<(Timestamp, Rollup)>, TierError> {
    let query = sqlx::query(table(bucket).select.as_str()).bind(series.0).bind(from.0).bind(to.0);
    query.fetch_all(connection).await.map_err(failed)?.iter().map(rows::rollup).collect()
}

async fn refresh_series(
    connection: &mut SqliteConnection,
    series: SeriesId,
    buckets: &[Timestamp],
) -> Result<(), TierError> {
    let hold = SqliteWarm::hold_of(connection, series).await?;
    let step = Bucket::FiveMinutes.micros();
    let mut fresh = Vec::with_capacity(buckets.len());
    // Neighbouring buckets are read in one go.
    for run in buckets.chunk_by(|a, b| b.since(*a) == step) {
        let (from, to) = (run[0], run[run.len() - 1].plus_micros(step));
        let query = sqlx::query(
            "SELECT series_id, ts, value, quality, revision FROM readings \
             WHERE series_id = ? AND ts >= ? AND ts < ? ORDER BY ts",
        );
        let found = query.bind(series.0).bind(from.0).bind(to.0).fetch_all(&mut *connection).await.map_err(failed)?;
        let readings = found.iter().map(rows::reading).collect::<Result<Vec<_>, _>>()?;
        fresh.extend(rules::sum_up(run, &readings, hold));
    }
    keep(connection, series, buckets, &fresh, hold).await
}

/// Writes the new rollups of buckets and of their hours, and takes away their marks.
pub(super) async fn keep(
    connection: &mut SqliteConnection,
    series: SeriesId,
    buckets: &[Timestamp],
    fresh: &[(Timestamp, Option<Rollup>)],
    hold: i64,
) -> Result<(), TierError> {
    write(connection, Bucket::FiveMinutes, series, fresh).await?;
    let mut merged = Vec::new();
    for hour in rules::hours_of(buckets) {
        let to = hour.plus_micros(Bucket::Hour.micros());
        let parts = load(connection, series, Bucket::FiveMinutes, hour, to).await?;
        merged.extend(rules::merge_hours(&BTreeSet::from([hour]), &parts, hold));
    }
    write(connection, Bucket::Hour, series, &merged).await?;
    for bucket in buckets {
        let query = sqlx::query("DELETE FROM dirty_buckets WHERE series_id = ? AND bucket = ?");
        query.bind(series.0).bind(bucket.0).execute(&mut *connection).await.map_err(failed)?;
    }
    Ok(())
}

async fn write(
    connection: &mut SqliteConnection,
    bucket: Bucket,
    series: SeriesId,
    rollups: &[(Timestamp, Option<Rollup>)],
) -> Result<(), TierError> {
    let table = table(bucket);
    for (start, _) in rollups.iter().filter(|(_, rollup)| rollup.is_none()) {
        let query = sqlx::query(table.delete).bind(series.0).bind(start.0);
        query.execute(&mut *connection).await.map_err(failed)?;
    }
    let there: Vec<(Timestamp, Rollup)> = rollups.iter().filter_map(|(at, rollup)| Some((*at, (*rollup)?))).collect();
    for (sql, piece) in table.insert.pieces(&there) {
        let mut query = sqlx::query(sql);
        for (start, rollup) in piece {
            query = bind(query.bind(series.0).bind(start.0), rollup);
        }
        query.execute(&mut *connection).await.map_err(failed)?;
    }
    Ok(())
}

fn bind<'q>(query: Query<'q>, rollup: &Rollup) -> Query<'q> {
    let u = rollup.usable;
    let query = query.bind(rollup.good).bind(rollup.uncertain).bind(rollup.bad).bind(rollup.manual);
    let query = query.bind(rollup.begins.0).bind(rollup.ends.0);
    let query = query.bind(u.map(|u| u.min)).bind(u.map(|u| u.max)).bind(u.map(|u| u.sum));
    let query = query.bind(u.map(|u| u.first.at.0)).bind(u.map(|u| u.first.value));
    let query = query.bind(u.map(|u| u.last.at.0)).bind(u.map(|u| u.last.value));
    let query = query.bind(u.map(|u| u.integral)).bind(u.map(|u| u.covered));
    query.bind(u.map(|u| u.delta)).bind(u.map(|u| u.resets))
}
