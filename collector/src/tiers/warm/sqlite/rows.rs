//! Rows of the tables as our own types, and SQL for many rows at once.

use super::{TierError, broken, failed};
use crate::rollup::{Rollup, Sample, Usable};
use crate::tiers::{SeriesId, SeriesKey, StoredReading};
use shared::ids::{GatewayId, NodeId, Seq, StreamId};
use shared::reading::{Held, Quality, Timestamp};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

/// A column by name; a missing or mistyped one is our own error.
pub(super) fn get<'r, T>(row: &'r SqliteRow, column: &'static str) -> Result<T, TierError>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(column).map_err(failed)
}

/// A number that is stored wider than it is.
pub(super) fn narrow<T: TryFrom<i64>>(row: &SqliteRow, column: &'static str) -> Result<T, TierError> {
    let wide: i64 = get(row, column)?;
    T::try_from(wide).map_err(|_| broken(format!("column {column} holds {wide}")))
}

/// value, quality and revision.
pub(super) fn held(row: &SqliteRow) -> Result<Held, TierError> {
    let quality = Quality(narrow(row, "quality")?);
    Ok(Held { value: get(row, "value")?, quality, revision: narrow(row, "revision")? })
}

/// A row of `readings`. By place instead of by name: this is the one that is read by the million.
pub(super) fn reading(row: &SqliteRow) -> Result<StoredReading, TierError> {
    let wide = |at: usize| row.try_get::<i64, _>(at).map_err(failed);
    let out_of_range = |what| broken(format!("readings.{what} is out of range"));
    Ok(StoredReading {
        series: SeriesId(u32::try_from(wide(0)?).map_err(|_| out_of_range("series_id"))?),
        at: Timestamp(wide(1)?),
        held: Held {
            value: row.try_get(2).map_err(failed)?,
            quality: Quality(u8::try_from(wide(3)?).map_err(|_| out_of_range("quality"))?),
            revision: u32::try_from(wide(4)?).map_err(|_| out_of_range("revision"))?,
        },
    })
}

/// The gateway column.
pub(super) fn gateway(row: &SqliteRow) -> Result<GatewayId, TierError> {
    GatewayId::new(&get::<String>(row, "gateway")?).map_err(broken)
}

/// The stream column: the number's bits as a signed integer.
pub(super) fn stream(row: &SqliteRow) -> Result<StreamId, TierError> {
    Ok(StreamId(get::<i64>(row, "stream")?.cast_unsigned()))
}

/// A seq column.
pub(super) fn seq(row: &SqliteRow, column: &'static str) -> Result<Seq, TierError> {
    narrow(row, column).map(Seq)
}

/// node, metric and channel.
pub(super) fn key(row: &SqliteRow) -> Result<SeriesKey, TierError> {
    let node = NodeId::new(&get::<String>(row, "node")?).map_err(broken)?;
    Ok(SeriesKey { node, metric: get(row, "metric")?, channel: get(row, "channel")? })
}

/// A seq for a column.
pub(super) fn wide(seq: Seq) -> i64 {
    i64::try_from(seq.0).unwrap_or(i64::MAX)
}

/// The columns of a rollup after series_id and bucket.
pub(super) const ROLLUP_COLUMNS: &str = "good, uncertain, bad, manual, begins, ends, \
    min, max, sum, first_ts, first, last_ts, last, integral, covered, delta, resets";

/// A rollup as it is read: its whole numbers as one list, since each column costs more on its way out of SQLite than to be found
/// there; years of hours are thousands of rows. What isn't there is empty.
pub(super) const ROLLUP: &str = "concat_ws(',', bucket, good, uncertain, bad, manual, begins, ends, \
    ifnull(first_ts, ''), ifnull(last_ts, ''), ifnull(covered, ''), ifnull(resets, '')), \
    min, max, sum, first, last, integral, delta";

/// A row of [`ROLLUP`].
pub(super) fn rollup(row: &SqliteRow) -> Result<(Timestamp, Rollup), TierError> {
    let list: &str = row.try_get(0).map_err(failed)?;
    let mut list = list.split(',').map(|text| text.parse::<i64>().ok());
    let mut next = || list.next().flatten();
    let sure = |moment: Option<i64>| moment.map(Timestamp).ok_or_else(|| broken("a rollup without a time"));
    let count = |count: Option<i64>| {
        let count = count.unwrap_or_default();
        u32::try_from(count).map_err(|_| broken(format!("a rollup counts {count}")))
    };
    // A sum beyond all numbers is stored as NULL.
    let number = |at: usize| Ok::<_, TierError>(row.try_get::<Option<f64>, _>(at).map_err(failed)?.unwrap_or(f64::NAN));
    let start = sure(next())?;
    let (good, uncertain, bad, manual) = (count(next())?, count(next())?, count(next())?, count(next())?);
    let (begins, ends) = (sure(next())?, sure(next())?);
    let (first, last, covered, resets) = (next(), next(), next(), next());
    let usable = match (first, last) {
        (Some(first), Some(last)) => Some(Usable {
            min: number(1)?,
            max: number(2)?,
            sum: number(3)?,
            first: Sample { at: Timestamp(first), value: number(4)? },
            last: Sample { at: Timestamp(last), value: number(5)? },
            integral: number(6)?,
            covered: covered.unwrap_or_default(),
            delta: number(7)?,
            resets: count(resets)?,
        }),
        _ => None,
    };
    Ok((start, Rollup { good, uncertain, bad, manual, begins, ends, usable }))
}

/// How many rows go into one statement: few sizes, so that few statements are prepared.
const SIZES: [usize; 4] = [512, 64, 8, 1];

/// One statement for each of the sizes.
pub(super) struct Batched([String; 4]);

impl Batched {
    /// `prefix (?, ?), (?, ?) suffix` with `columns` question marks in each pair of brackets.
    pub(super) fn new(prefix: &str, columns: usize, suffix: &str) -> Self {
        let row = format!("({})", vec!["?"; columns].join(", "));
        Self(SIZES.map(|size| format!("{prefix} {} {suffix}", vec![row.as_str(); size].join(", "))))
    }

    /// Cuts rows into pieces, each with its statement.
    pub(super) fn pieces<'a, T>(&'static self, mut rows: &'a [T]) -> impl Iterator<Item = (&'static str, &'a [T])> {
        std::iter::from_fn(move || {
            let place = SIZES.iter().position(|size| *size <= rows.len())?;
            let (piece, rest) = rows.split_at(SIZES[place]);
            rows = rest;
            Some((self.0[place].as_str(), piece))
        })
    }
}
