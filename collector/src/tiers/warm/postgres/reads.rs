//! Questions about readings. They go to the replica while it is up to date.
//!
//! Without knowing where to look, the last reading before a moment would be sought in every day, back to the first.
//! But every reading's 5 minute bucket has a rollup or is dirty, and these are quickly found.

use super::PostgresWarm;
use super::fault::failed;
use super::rows::{self, number};
use super::time::PgTime;
use crate::tiers::warm::rules;
use crate::tiers::{Bucket, SeriesId, StoredReading, TierError};
use shared::reading::Timestamp;
use sqlx::PgConnection;

/// How far back is looked before the buckets are asked, microseconds.
const NEAR: i64 = 3_600_000_000;
/// Dirty buckets may have no usable reading: so many are looked into, then everything.
const CANDIDATES_MAX: u32 = 16;

impl PostgresWarm {
    pub(super) async fn find_range(
        &self,
        series: SeriesId,
        from: Timestamp,
        to: Timestamp,
        count_max: u32,
    ) -> Result<Vec<StoredReading>, TierError> {
        let query = sqlx::query(
            "SELECT series_id, ts, value, quality, revision FROM readings \
             WHERE series_id = $1 AND ts >= $2 AND ts < $3 ORDER BY ts LIMIT $4",
        );
        let query = query.bind(number(series)).bind(PgTime::bounded(from)).bind(PgTime::bounded(to));
        let rows = query.bind(i64::from(count_max)).fetch_all(&mut *self.reader().await?).await.map_err(failed)?;
        rows.iter().map(rows::reading).collect()
    }

    pub(super) async fn find_last_before(
        &self,
        series: SeriesId,
        before: Timestamp,
        usable: bool,
    ) -> Result<Option<StoredReading>, TierError> {
        let mut connection = self.reader().await?;
        let mut end = before;
        let mut from = Bucket::FiveMinutes.start_of(before.plus_micros(-NEAR));
        for _ in 0..CANDIDATES_MAX {
            if let Some(found) = last_within(&mut connection, series, from, end, usable).await? {
                return Ok(Some(found));
            }
            end = from;
            match last_bucket(&mut connection, series, end, usable).await? {
                Some(bucket) => from = bucket,
                None => return Ok(None),
            }
        }
        last_within(&mut connection, series, Timestamp(i64::MIN), end, usable).await
    }

    pub(super) async fn find_latest(&self, series: &[SeriesId]) -> Result<Vec<StoredReading>, TierError> {
        let numbers: Vec<i32> = series.iter().copied().map(number).collect();
        // OFFSET 0 keeps the planner from turning the look-ups of some series into a reading of everything.
        let sql = "SELECT r.series_id, r.ts, r.value, r.quality, r.revision \
                   FROM unnest($1::integer[]) AS w(series_id) \
                   CROSS JOIN LATERAL (SELECT greatest( \
                       (SELECT bucket FROM rollup_5m WHERE series_id = w.series_id ORDER BY bucket DESC LIMIT 1), \
                       (SELECT bucket FROM dirty_buckets WHERE series_id = w.series_id ORDER BY bucket DESC LIMIT 1) \
                   ) AS bucket OFFSET 0) AS b \
                   CROSS JOIN LATERAL (SELECT * FROM readings \
                       WHERE series_id = w.series_id AND ts >= b.bucket AND ts < b.bucket + INTERVAL '5 minutes' \
                       ORDER BY ts DESC LIMIT 1) AS r \
                   UNION ALL \
                   SELECT series_id, ts, value, quality, revision FROM left_latest WHERE series_id = ANY($1)";
        let rows = sqlx::query(sql).bind(numbers).fetch_all(&mut *self.reader().await?).await.map_err(failed)?;
        Ok(rules::newest(rows.iter().map(rows::reading).collect::<Result<_, _>>()?))
    }
}

async fn last_within(
    connection: &mut PgConnection,
    series: SeriesId,
    from: Timestamp,
    to: Timestamp,
    usable: bool,
) -> Result<Option<StoredReading>, TierError> {
    let query = sqlx::query(
        "SELECT series_id, ts, value, quality, revision FROM readings \
         WHERE series_id = $1 AND ts >= $2 AND ts < $3 AND (NOT $4 OR value IS NOT NULL) ORDER BY ts DESC LIMIT 1",
    );
    let query = query.bind(number(series)).bind(PgTime::bounded(from)).bind(PgTime::bounded(to)).bind(usable);
    query.fetch_optional(connection).await.map_err(failed)?.as_ref().map(rows::reading).transpose()
}

/// The last bucket that starts before a bucket's start and has, or if it is dirty may have, what is looked for.
async fn last_bucket(
    connection: &mut PgConnection,
    series: SeriesId,
    before: Timestamp,
    usable: bool,
) -> Result<Option<Timestamp>, TierError> {
    let query = sqlx::query_scalar(
        "SELECT greatest( \
             (SELECT bucket FROM rollup_5m WHERE series_id = $1 AND bucket < $2 AND (NOT $3 OR first_ts IS NOT NULL) \
              ORDER BY bucket DESC LIMIT 1), \
             (SELECT bucket FROM dirty_buckets WHERE series_id = $1 AND bucket < $2 ORDER BY bucket DESC LIMIT 1))",
    );
    let query = query.bind(number(series)).bind(PgTime::bounded(before)).bind(usable);
    let bucket: Option<PgTime> = query.fetch_one(connection).await.map_err(failed)?;
    Ok(bucket.map(|bucket| bucket.0))
}
