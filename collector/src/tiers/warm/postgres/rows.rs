//! Rows of the tables as our own types.

use super::fault::{failed, unavailable};
use super::time::PgTime;
use crate::rollup::{Rollup, Sample, Usable};
use crate::tiers::{SeriesId, SeriesKey, StoredReading, TierError};
use shared::ids::{GatewayId, NodeId, Seq, StreamId};
use shared::reading::{Held, Quality, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use std::borrow::Cow;

/// A row holds what can't be: someone wrote to the tables.
pub(super) fn strange(what: impl std::fmt::Display) -> TierError {
    unavailable(format!("{what}: a row was altered; mend or delete it"))
}

/// A column by name; a missing or mistyped one is our own error.
pub(super) fn get<'r, T>(row: &'r PgRow, column: &'static str) -> Result<T, TierError>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(column).map_err(failed)
}

/// A number that is stored wider than it is.
pub(super) fn narrow<T: TryFrom<i64>>(row: &PgRow, column: &'static str) -> Result<T, TierError> {
    let wide: i64 = get(row, column)?;
    T::try_from(wide).map_err(|_| strange(format!("column {column} holds {wide}")))
}

/// A `timestamptz`.
pub(super) fn time(row: &PgRow, column: &'static str) -> Result<Timestamp, TierError> {
    Ok(get::<PgTime>(row, column)?.0)
}

/// The `series_id` column.
pub(super) fn series(row: &PgRow) -> Result<SeriesId, TierError> {
    let number: i32 = get(row, "series_id")?;
    Ok(SeriesId(u32::try_from(number).map_err(|_| strange(format!("series_id {number}")))?))
}

/// A series' number for a column. The database gives out no higher ones.
pub(super) fn number(series: SeriesId) -> i32 {
    i32::try_from(series.0).unwrap_or(-1)
}

/// value, quality and revision.
pub(super) fn held(row: &PgRow) -> Result<Held, TierError> {
    let quality: i16 = get(row, "quality")?;
    let quality = Quality(u8::try_from(quality).map_err(|_| strange(format!("quality {quality}")))?);
    Ok(Held { value: get(row, "value")?, quality, revision: narrow(row, "revision")? })
}

/// series_id, ts, value, quality and revision of `readings`. By place instead of by name: this is the one that is read by the million.
pub(super) fn reading(row: &PgRow) -> Result<StoredReading, TierError> {
    let (series, quality, revision): (i32, i16, i64) =
        (row.try_get(0).map_err(failed)?, row.try_get(3).map_err(failed)?, row.try_get(4).map_err(failed)?);
    let out_of_range =
        |_| strange(format!("a reading with series_id {series}, quality {quality}, revision {revision}"));
    Ok(StoredReading {
        series: SeriesId(u32::try_from(series).map_err(out_of_range)?),
        at: row.try_get::<PgTime, _>(1).map_err(failed)?.0,
        held: Held {
            value: row.try_get(2).map_err(failed)?,
            quality: Quality(u8::try_from(quality).map_err(out_of_range)?),
            revision: u32::try_from(revision).map_err(out_of_range)?,
        },
    })
}

/// The gateway column.
pub(super) fn gateway(row: &PgRow) -> Result<GatewayId, TierError> {
    GatewayId::new(get::<&str>(row, "gateway")?).map_err(strange)
}

/// The stream column: the number's bits as a signed integer.
pub(super) fn stream(row: &PgRow) -> Result<StreamId, TierError> {
    Ok(StreamId(get::<i64>(row, "stream")?.cast_unsigned()))
}

/// A seq column.
pub(super) fn seq(row: &PgRow, column: &'static str) -> Result<Seq, TierError> {
    narrow(row, column).map(Seq)
}

/// node, metric and channel.
pub(super) fn key(row: &PgRow) -> Result<SeriesKey, TierError> {
    let node = NodeId::new(get::<&str>(row, "node")?).map_err(strange)?;
    Ok(SeriesKey { node, metric: get(row, "metric")?, channel: get(row, "channel")? })
}

/// A seq for a column.
pub(super) fn wide(seq: Seq) -> i64 {
    i64::try_from(seq.0).unwrap_or(i64::MAX)
}

/// A text for a column: PostgreSQL stores no NUL.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

/// The columns of a rollup after series_id and bucket.
pub(super) const ROLLUP: [&str; 17] = [
    "good",
    "uncertain",
    "bad",
    "manual",
    "begins",
    "ends",
    "min",
    "max",
    "sum",
    "first_ts",
    "first",
    "last_ts",
    "last",
    "integral",
    "covered",
    "delta",
    "resets",
];

/// A row of `rollup_5m` or `rollup_1h`: its bucket and its content.
pub(super) fn rollup(row: &PgRow) -> Result<(Timestamp, Rollup), TierError> {
    let moment = |column| Ok::<_, TierError>(get::<Option<PgTime>>(row, column)?.map(|time| time.0));
    let usable = match (moment("first_ts")?, moment("last_ts")?) {
        (Some(first), Some(last)) => Some(Usable {
            min: get(row, "min")?,
            max: get(row, "max")?,
            sum: get(row, "sum")?,
            first: Sample { at: first, value: get(row, "first")? },
            last: Sample { at: last, value: get(row, "last")? },
            integral: get(row, "integral")?,
            covered: get(row, "covered")?,
            delta: get(row, "delta")?,
            resets: narrow(row, "resets")?,
        }),
        _ => None,
    };
    let rollup = Rollup {
        good: narrow(row, "good")?,
        uncertain: narrow(row, "uncertain")?,
        bad: narrow(row, "bad")?,
        manual: narrow(row, "manual")?,
        begins: time(row, "begins")?,
        ends: time(row, "ends")?,
        usable,
    };
    Ok((time(row, "bucket")?, rollup))
}
