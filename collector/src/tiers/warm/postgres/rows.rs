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

/// Place of `bucket` in a row of series_id, bucket and the columns above.
const BUCKET: usize = 1;

/// A row of series_id, bucket and the columns above. By place, as readings are: years of hours are thousands of them.
pub(super) fn rollup(row: &PgRow) -> Result<(Timestamp, Rollup), TierError> {
    let at = |place: usize| BUCKET + place;
    let moment =
        |place| Ok::<_, TierError>(row.try_get::<Option<PgTime>, _>(at(place)).map_err(failed)?.map(|time| time.0));
    let sure = |place| moment(place)?.ok_or_else(|| strange("a rollup without a time"));
    let number = |place| row.try_get::<f64, _>(at(place)).map_err(failed);
    let whole = |place| row.try_get::<i64, _>(at(place)).map_err(failed);
    let count = |place| {
        let count = whole(place)?;
        u32::try_from(count).map_err(|_| strange(format!("a rollup counts {count}")))
    };
    let usable = match (moment(10)?, moment(12)?) {
        (Some(first), Some(last)) => Some(Usable {
            min: number(7)?,
            max: number(8)?,
            sum: number(9)?,
            first: Sample { at: first, value: number(11)? },
            last: Sample { at: last, value: number(13)? },
            integral: number(14)?,
            covered: whole(15)?,
            delta: number(16)?,
            resets: count(17)?,
        }),
        _ => None,
    };
    let (good, uncertain, bad, manual) = (count(1)?, count(2)?, count(3)?, count(4)?);
    let rollup = Rollup { good, uncertain, bad, manual, begins: sure(5)?, ends: sure(6)?, usable };
    Ok((sure(0)?, rollup))
}
