//! A series' readings by the page, for reading many.
//!
//! A row costs far more on its way out of SQLite (a lock, and memory for each of its columns) than to be found there. So a
//! page comes as one row: three lists, which SQLite joins. A value is in its list as a whole number of millionths, which is
//! what SQLite writes and we read quickest, and nothing of it is lost: that the number means just this value is asked of each
//! in the same query. A page with values of more digits comes row by row.

use super::{broken, failed};
use crate::tiers::{SeriesId, StoredReading, TierError};
use futures::TryStreamExt as _;
use shared::reading::{Held, Quality, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

/// Readings of a page at most.
pub(super) const PAGE: u32 = 8 * 1024;
/// Nothing is older, and what lies after it is a number that fits.
const EARLIEST: i64 = -(1 << 60);
/// Parts of a value's list.
const PARTS: f64 = 1e6;
/// Few columns, because each costs: quality and revision are one number.
const ROWS: &str = "SELECT ts, value, revision * 256 + quality FROM readings \
    WHERE series_id = ?1 AND ts >= ?2 AND ts < ?3 ORDER BY ts LIMIT ?4";
const LISTS: &str = "SELECT group_concat(ts - ?2), group_concat(coalesce(n, '')), group_concat(more), \
    min(value IS NULL OR n / 1e6 = value) FROM ( \
        SELECT ts, value, CAST(round(value * 1e6) AS INTEGER) AS n, revision * 256 + quality AS more FROM readings \
        WHERE series_id = ?1 AND ts >= ?2 AND ts < ?3 ORDER BY ts LIMIT ?4)";

/// The first readings with `from <= ts < end`, ascending, `max` at most.
pub(super) async fn page(
    connection: &mut SqliteConnection,
    series: SeriesId,
    from: i64,
    end: i64,
    max: u32,
) -> Result<Vec<StoredReading>, TierError> {
    let from = from.max(EARLIEST);
    let lists = sqlx::query(LISTS).bind(series.0).bind(from).bind(end).bind(max);
    let row = lists.fetch_one(&mut *connection).await.map_err(failed)?;
    match row.try_get::<Option<bool>, _>(3).map_err(failed)? {
        None => Ok(Vec::new()),
        Some(true) => split(&row, series, from),
        Some(false) => rows(connection, series, from, end, max).await,
    }
}

fn split(row: &SqliteRow, series: SeriesId, from: i64) -> Result<Vec<StoredReading>, TierError> {
    let list = |at: usize| row.try_get::<&str, _>(at).map_err(failed).map(|list| list.split(','));
    let wrong = || broken(format!("a list of readings of series {series} is no list of numbers"));
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok()).ok_or_else(wrong);
    let (mut values, mut more) = (list(1)?, list(2)?);
    let mut readings = Vec::with_capacity(PAGE as usize);
    for at in list(0)? {
        let value = match values.next() {
            Some("") => None,
            parts => Some(number(parts)? as f64 / PARTS),
        };
        let at = from.saturating_add(number(Some(at))?);
        readings.push(reading(series, at, value, number(more.next())?)?);
    }
    Ok(readings)
}

async fn rows(
    connection: &mut SqliteConnection,
    series: SeriesId,
    from: i64,
    end: i64,
    max: u32,
) -> Result<Vec<StoredReading>, TierError> {
    let mut rows = sqlx::query(ROWS).bind(series.0).bind(from).bind(end).bind(max).fetch(connection);
    let mut readings = Vec::new();
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        let value = row.try_get(1).map_err(failed)?;
        let (at, more) = (row.try_get(0).map_err(failed)?, row.try_get(2).map_err(failed)?);
        readings.push(reading(series, at, value, more)?);
    }
    Ok(readings)
}

fn reading(series: SeriesId, at: i64, value: Option<f64>, more: i64) -> Result<StoredReading, TierError> {
    let out_of_range = |_| broken(format!("readings.quality or revision of series {series} is out of range"));
    let (quality, revision) = (Quality((more & 0xff) as u8), u32::try_from(more >> 8).map_err(out_of_range)?);
    Ok(StoredReading { series, at: Timestamp(at), held: Held { value, quality, revision } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::{Connection as _, Executor as _};

    /// Whether all values of a page have few digits or one has many: what comes is what is there, bit by bit.
    #[tokio::test]
    async fn a_page_is_what_is_there() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let table =
            "CREATE TABLE readings (series_id INTEGER, ts INTEGER, value REAL, quality INTEGER, revision INTEGER)";
        connection.execute(table).await.unwrap();
        let few = [Some(0.1), None, Some(-20.37), Some(123_456_789.654_321), Some(0.0)];
        let many = [Some(0.1), None, Some(1.0 / 3.0), Some(f64::MAX), Some(f64::MIN_POSITIVE)];
        for (series, values) in [(1, few), (2, many)] {
            for (n, value) in values.into_iter().enumerate() {
                let sql = "INSERT INTO readings VALUES (?, ?, ?, ?, ?)";
                let query = sqlx::query(sql).bind(series).bind(n as i64 * 10).bind(value).bind(128).bind(n as i64);
                query.execute(&mut connection).await.unwrap();
            }
            let found = page(&mut connection, SeriesId(series), 10, 40, PAGE).await.unwrap();
            let expected: Vec<_> = (1..4_usize)
                .map(|n| {
                    let held = Held { value: values[n], quality: Quality(128), revision: n as u32 };
                    StoredReading { series: SeriesId(series), at: Timestamp(n as i64 * 10), held }
                })
                .collect();
            assert_eq!(found, expected);
            let first = page(&mut connection, SeriesId(series), i64::MIN, i64::MAX, 2).await.unwrap();
            assert_eq!(first.iter().map(|reading| reading.at.0).collect::<Vec<_>>(), [0, 10]);
        }
        assert_eq!(page(&mut connection, SeriesId(3), 0, 40, PAGE).await.unwrap(), []);
    }
}
