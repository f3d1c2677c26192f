//! Rollups: brought up to date from dirty buckets, and read.
//!
//! The hour is merged from its twelve 5 minute rollups. Only 5 minute buckets are marked; an hour is dirty while one
//! of them is. A refresh takes away the marks it has seen before it reads the readings: what is committed after that
//! brings marks of its own. Refreshes take turns, so that an older sum never overwrites a newer one.

use super::PostgresWarm;
use super::fault::failed;
use super::rows::{self, ROLLUP, number};
use super::time::PgTime;
use crate::rollup::{HOLD_UNKNOWN, Rollup};
use crate::tiers::warm::rules::{self, Mark};
use crate::tiers::{Bucket, Rollups, SeriesId, StoredReading, TierError};
use shared::reading::Timestamp;
use sqlx::PgConnection;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// Buckets that are refreshed in one transaction: it bounds the readings held in memory.
const BUCKETS_MAX: u32 = 1_000;

/// A stretch of one series.
type Stretch = (SeriesId, Timestamp, Timestamp);
/// A bucket's new rollup; `None` when it has no readings.
type Fresh = (SeriesId, Timestamp, Option<Rollup>);

/// What differs between the two tables.
struct Table {
    upsert: String,
    delete: String,
    select: String,
    parts: String,
}

impl Table {
    fn new(name: &str) -> Self {
        let columns = ROLLUP.join(", ");
        let update: Vec<String> = ROLLUP.iter().map(|column| format!("{column} = excluded.{column}")).collect();
        Self {
            upsert: format!(
                "INSERT INTO {name} (series_id, bucket, {columns}) SELECT * FROM unnest( \
                 $1::integer[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], \
                 $7::timestamptz[], $8::timestamptz[], $9::float8[], $10::float8[], $11::float8[], \
                 $12::timestamptz[], $13::float8[], $14::timestamptz[], $15::float8[], $16::float8[], $17::bigint[], \
                 $18::float8[], $19::bigint[]) \
                 ON CONFLICT (series_id, bucket) DO UPDATE SET {}",
                update.join(", ")
            ),
            delete: format!(
                "DELETE FROM {name} AS r USING unnest($1::integer[], $2::timestamptz[]) AS n(series_id, bucket) \
                 WHERE r.series_id = n.series_id AND r.bucket = n.bucket"
            ),
            select: format!(
                "SELECT series_id, bucket, {columns} FROM {name} \
                 WHERE series_id = $1 AND bucket >= $2 AND bucket < $3 ORDER BY bucket"
            ),
            // OFFSET 0 keeps the planner from reading everything; the outer bounds let it look at few days only.
            parts: format!(
                "SELECT r.* FROM unnest($1::integer[], $2::timestamptz[], $3::timestamptz[]) AS w(series_id, a, b) \
                 CROSS JOIN LATERAL (SELECT series_id, bucket, {columns} FROM {name} \
                     WHERE series_id = w.series_id AND bucket >= w.a AND bucket < w.b \
                     AND bucket >= $4 AND bucket < $5 OFFSET 0) AS r \
                 ORDER BY r.series_id, r.bucket"
            ),
        }
    }
}

static FIVE_MINUTES: LazyLock<Table> = LazyLock::new(|| Table::new("rollup_5m"));
static HOUR: LazyLock<Table> = LazyLock::new(|| Table::new("rollup_1h"));

fn table(bucket: Bucket) -> &'static Table {
    match bucket {
        Bucket::FiveMinutes => &FIVE_MINUTES,
        Bucket::Hour => &HOUR,
    }
}

impl PostgresWarm {
    pub(super) async fn refresh_dirty(&self, by: Timestamp, buckets_max: u32) -> Result<u32, TierError> {
        let buckets_max = buckets_max.min(BUCKETS_MAX);
        self.may_take(by).await?;
        let after = self.round.place();
        let done = self.refresh_after(after, by, buckets_max).await?;
        if done > 0 || after.is_none() { Ok(done) } else { self.refresh_after(None, by, buckets_max).await }
    }

    async fn refresh_after(&self, after: Option<Mark>, by: Timestamp, buckets_max: u32) -> Result<u32, TierError> {
        let mut transaction = self.begin().await?;
        let sql = "SELECT pg_try_advisory_xact_lock(7307, hashtext(current_schema()))";
        let mine: bool = sqlx::query_scalar(sql).fetch_one(&mut *transaction).await.map_err(failed)?;
        if !mine {
            return Ok(0); // another collector is at it
        }
        let dirty = take_marks(&mut transaction, after, rules::ended(by), buckets_max).await?;
        let count = dirty.values().map(Vec::len).sum::<usize>();
        let last = dirty.last_key_value().and_then(|(series, buckets)| Some((*series, *buckets.last()?)));
        let last = last.filter(|_| count == buckets_max as usize);
        if dirty.is_empty() {
            self.round.came_to(None);
            transaction.rollback().await.map_err(failed)?; // now: dropped, it would keep the lock for a while
            return Ok(0);
        }
        let series: Vec<SeriesId> = dirty.keys().copied().collect();
        let holds = Self::holds_of(&mut transaction, &series).await?;
        let hold = |series: &SeriesId| holds.get(series).copied().unwrap_or(HOLD_UNKNOWN);
        let readings = readings_of(&mut transaction, &dirty).await?;
        let mut fresh: Vec<Fresh> = Vec::new();
        for (series, buckets) in &dirty {
            let readings = readings.get(series).map_or(&[][..], Vec::as_slice);
            let sums = rules::sum_up(buckets, readings, hold(series));
            fresh.extend(sums.into_iter().map(|(bucket, sum)| (*series, bucket, sum)));
        }
        keep(&mut transaction, &dirty, &fresh, hold).await?;
        transaction.commit().await.map_err(failed)?;
        self.round.came_to(last);
        Ok(fresh.len() as u32)
    }

    /// Makes rollups of one series from readings, which are all there are in these buckets.
    pub(super) async fn renew_series(
        &self,
        connection: &mut PgConnection,
        series: SeriesId,
        buckets: &[Timestamp],
        readings: &[StoredReading],
    ) -> Result<(), TierError> {
        let hold = Self::holds_of(connection, &[series]).await?.get(&series).copied().unwrap_or(HOLD_UNKNOWN);
        let sums = rules::sum_up(buckets, readings, hold);
        let fresh: Vec<Fresh> = sums.into_iter().map(|(bucket, sum)| (series, bucket, sum)).collect();
        keep(connection, &BTreeMap::from([(series, buckets.to_vec())]), &fresh, |_| hold).await
    }

    pub(super) async fn find_rollups(
        &self,
        series: SeriesId,
        bucket: Bucket,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Rollups, TierError> {
        if to <= from {
            return Ok(Rollups::default());
        }
        let mut connection = self.reader().await?;
        // First the marks, then the rollups: a bucket that isn't marked has a rollup that was right at that moment,
        // or by now a newer one.
        let query = sqlx::query_scalar(
            "SELECT bucket FROM dirty_buckets WHERE series_id = $1 AND bucket >= $2 AND bucket < $3",
        );
        // The marks of the last bucket lie up to its end.
        let end = bucket.start_of(Timestamp(to.0.saturating_sub(1))).plus_micros(bucket.micros());
        let query = query.bind(number(series)).bind(PgTime::bounded(from)).bind(PgTime::bounded(end));
        let marks: Vec<PgTime> = query.fetch_all(&mut *connection).await.map_err(failed)?;
        let dirty: BTreeSet<Timestamp> =
            marks.iter().map(|mark| bucket.start_of(mark.0)).filter(|start| *start >= from && *start < to).collect();
        let query = sqlx::query(table(bucket).select.as_str()).bind(number(series));
        let query = query.bind(PgTime::bounded(from)).bind(PgTime::bounded(to));
        let found = query.fetch_all(&mut *connection).await.map_err(failed)?;
        let mut clean = found.iter().map(rows::rollup).collect::<Result<Vec<_>, _>>()?;
        clean.retain(|(start, _)| !dirty.contains(start));
        Ok(Rollups { clean, dirty: dirty.into_iter().collect() })
    }
}

/// Writes the new rollups of buckets, and of the hours they lie in.
async fn keep(
    connection: &mut PgConnection,
    dirty: &BTreeMap<SeriesId, Vec<Timestamp>>,
    fresh: &[Fresh],
    hold: impl Fn(&SeriesId) -> i64,
) -> Result<(), TierError> {
    write(connection, Bucket::FiveMinutes, fresh).await?;
    let hours: BTreeMap<SeriesId, BTreeSet<Timestamp>> =
        dirty.iter().map(|(series, buckets)| (*series, rules::hours_of(buckets))).collect();
    let parts = parts_of(connection, &hours).await?;
    let mut merged: Vec<Fresh> = Vec::new();
    for (series, hours) in &hours {
        let parts = parts.get(series).map_or(&[][..], Vec::as_slice);
        let sums = rules::merge_hours(hours, parts, hold(series));
        merged.extend(sums.into_iter().map(|(hour, sum)| (*series, hour, sum)));
    }
    write(connection, Bucket::Hour, &merged).await
}

/// Takes away the marks of some buckets and gives these, each once.
async fn take_marks(
    connection: &mut PgConnection,
    after: Option<Mark>,
    newest: Timestamp,
    buckets_max: u32,
) -> Result<BTreeMap<SeriesId, Vec<Timestamp>>, TierError> {
    let query = sqlx::query(
        // What belongs to days that have left can't be made from what is here.
        "WITH chosen AS MATERIALIZED ( \
             SELECT DISTINCT series_id, bucket FROM dirty_buckets AS d WHERE (series_id, bucket) > ($2, $3) \
             AND bucket <= $4 AND NOT EXISTS ( \
                 SELECT FROM archive_days AS a WHERE a.raw <> 'here' \
                 AND a.day = (d.bucket AT TIME ZONE 'UTC')::date - DATE '1970-01-01') \
             ORDER BY 1, 2 LIMIT $1) \
         DELETE FROM dirty_buckets AS d USING chosen AS s \
         WHERE d.series_id = s.series_id AND d.bucket = s.bucket RETURNING d.series_id, d.bucket",
    );
    let (series, bucket) = after.map_or((-1, Timestamp(i64::MIN)), |(series, bucket)| (number(series), bucket));
    let query = query.bind(i64::from(buckets_max)).bind(series).bind(PgTime::bounded(bucket));
    let query = query.bind(PgTime::bounded(newest));
    let rows = query.fetch_all(connection).await.map_err(failed)?;
    let mut dirty = BTreeMap::<SeriesId, BTreeSet<Timestamp>>::new();
    for row in &rows {
        dirty.entry(rows::series(row)?).or_default().insert(rows::time(row, "bucket")?);
    }
    Ok(dirty.into_iter().map(|(series, buckets)| (series, buckets.into_iter().collect())).collect())
}

/// Binds stretches as three arrays, and the bounds of all of them.
fn bind_stretches<'q>(
    sql: &'static str,
    stretches: &[Stretch],
) -> sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments> {
    let first = stretches.iter().map(|s| s.1).min().unwrap_or(Timestamp(0));
    let end = stretches.iter().map(|s| s.2).max().unwrap_or(Timestamp(0));
    sqlx::query(sql)
        .bind(stretches.iter().map(|s| number(s.0)).collect::<Vec<_>>())
        .bind(stretches.iter().map(|s| PgTime::bounded(s.1)).collect::<Vec<_>>())
        .bind(stretches.iter().map(|s| PgTime::bounded(s.2)).collect::<Vec<_>>())
        .bind(PgTime::bounded(first))
        .bind(PgTime::bounded(end))
}

/// Stretches of neighbouring buckets of one length.
fn stretches<'a>(series: SeriesId, buckets: impl Iterator<Item = &'a Timestamp>, step: i64) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    for bucket in buckets {
        match stretches.last_mut() {
            Some((_, _, end)) if end == bucket => *end = bucket.plus_micros(step),
            _ => stretches.push((series, *bucket, bucket.plus_micros(step))),
        }
    }
    stretches
}

async fn readings_of(
    connection: &mut PgConnection,
    dirty: &BTreeMap<SeriesId, Vec<Timestamp>>,
) -> Result<BTreeMap<SeriesId, Vec<StoredReading>>, TierError> {
    let sql = "SELECT r.* FROM unnest($1::integer[], $2::timestamptz[], $3::timestamptz[]) AS w(series_id, a, b) \
               CROSS JOIN LATERAL (SELECT series_id, ts, value, quality, revision FROM readings \
                   WHERE series_id = w.series_id AND ts >= w.a AND ts < w.b AND ts >= $4 AND ts < $5 OFFSET 0) AS r \
               ORDER BY r.series_id, r.ts";
    let step = Bucket::FiveMinutes.micros();
    let stretches: Vec<Stretch> = dirty.iter().flat_map(|(s, buckets)| stretches(*s, buckets.iter(), step)).collect();
    let mut readings = BTreeMap::<SeriesId, Vec<StoredReading>>::new();
    for row in bind_stretches(sql, &stretches).fetch_all(connection).await.map_err(failed)? {
        let reading = rows::reading(&row)?;
        readings.entry(reading.series).or_default().push(reading);
    }
    Ok(readings)
}

async fn parts_of(
    connection: &mut PgConnection,
    hours: &BTreeMap<SeriesId, BTreeSet<Timestamp>>,
) -> Result<BTreeMap<SeriesId, Vec<(Timestamp, Rollup)>>, TierError> {
    let step = Bucket::Hour.micros();
    let stretches: Vec<Stretch> = hours.iter().flat_map(|(s, hours)| stretches(*s, hours.iter(), step)).collect();
    let mut parts = BTreeMap::<SeriesId, Vec<(Timestamp, Rollup)>>::new();
    for row in bind_stretches(FIVE_MINUTES.parts.as_str(), &stretches).fetch_all(connection).await.map_err(failed)? {
        parts.entry(rows::series(&row)?).or_default().push(rows::rollup(&row)?);
    }
    Ok(parts)
}

async fn write(connection: &mut PgConnection, bucket: Bucket, fresh: &[Fresh]) -> Result<(), TierError> {
    let gone: Vec<&Fresh> = fresh.iter().filter(|(.., rollup)| rollup.is_none()).collect();
    if !gone.is_empty() {
        let query = sqlx::query(table(bucket).delete.as_str())
            .bind(gone.iter().map(|(series, ..)| number(*series)).collect::<Vec<_>>())
            .bind(gone.iter().map(|(_, bucket, _)| PgTime(*bucket)).collect::<Vec<_>>());
        query.execute(&mut *connection).await.map_err(failed)?;
    }
    let there: Vec<(SeriesId, Timestamp, Rollup)> =
        fresh.iter().filter_map(|(series, bucket, rollup)| Some((*series, *bucket, (*rollup)?))).collect();
    if there.is_empty() {
        return Ok(());
    }
    let (keys, sums): (Vec<_>, Vec<Rollup>) = there.into_iter().map(|(series, at, sum)| ((series, at), sum)).unzip();
    let wide = |column: fn(&Rollup) -> u32| sums.iter().map(|r| i64::from(column(r))).collect::<Vec<_>>();
    let usable = |column: fn(&crate::rollup::Usable) -> f64| {
        sums.iter().map(|r| r.usable.as_ref().map(column)).collect::<Vec<Option<f64>>>()
    };
    let moment = |column: fn(&crate::rollup::Usable) -> Timestamp| {
        sums.iter().map(|r| r.usable.as_ref().map(|u| PgTime(column(u)))).collect::<Vec<Option<PgTime>>>()
    };
    let count = |column: fn(&crate::rollup::Usable) -> i64| {
        sums.iter().map(|r| r.usable.as_ref().map(column)).collect::<Vec<Option<i64>>>()
    };
    let query = sqlx::query(table(bucket).upsert.as_str())
        .bind(keys.iter().map(|key| number(key.0)).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| PgTime(key.1)).collect::<Vec<_>>())
        .bind(wide(|r| r.good))
        .bind(wide(|r| r.uncertain))
        .bind(wide(|r| r.bad))
        .bind(wide(|r| r.manual))
        .bind(sums.iter().map(|r| PgTime(r.begins)).collect::<Vec<_>>())
        .bind(sums.iter().map(|r| PgTime(r.ends)).collect::<Vec<_>>())
        .bind(usable(|u| u.min))
        .bind(usable(|u| u.max))
        .bind(usable(|u| u.sum))
        .bind(moment(|u| u.first.at))
        .bind(usable(|u| u.first.value))
        .bind(moment(|u| u.last.at))
        .bind(usable(|u| u.last.value))
        .bind(usable(|u| u.integral))
        .bind(count(|u| u.covered))
        .bind(usable(|u| u.delta))
        .bind(count(|u| i64::from(u.resets)));
    query.execute(connection).await.map_err(failed)?;
    Ok(())
}
