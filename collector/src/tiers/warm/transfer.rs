//! All that SQLite holds, moved into PostgreSQL.
//!
//! Tables go by name: each has a twin with the same columns, so that a new one needs no word here. Readings go by day,
//! each of which is read back and compared. A day is all or nothing, a table goes in pieces, in the order in which SQLite
//! reads it; what has come over isn't moved again.

use super::postgres::PostgresWarm;
use super::sqlite::SqliteWarm;
use crate::tiers::{Day, Proof, TierError, WarmTier as _};

/// A value as text; `None` is NULL. Bytes are hexadecimal digits.
pub(super) type Cell = Option<String>;

/// A table and its columns.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<String>,
}

/// Not moved: readings go by day; who leads, and what the hot tier has, is settled anew.
const NOT_AS_TABLES: [&str; 3] = ["readings", "etl_leader", "hot_ledger"];

/// What was moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Moved {
    /// Days with readings.
    pub days: u64,
    /// Readings.
    pub readings: u64,
    /// Rows of all other tables.
    pub rows: u64,
}

/// The tables, in the order in which they go.
async fn tables(from: &SqliteWarm) -> Result<Vec<Table>, TierError> {
    let mut tables = from.tables().await?;
    tables.sort_by_key(|table| table.name != "series"); // readings are read by its names
    tables.retain(|table| !NOT_AS_TABLES.contains(&&*table.name));
    Ok(tables)
}

/// Makes the target ready for the move of this name, or finds that it was begun.
///
/// # Errors
/// When the target can't be used, or holds something else, part of another move too.
pub async fn prepare(from: &SqliteWarm, to: &PostgresWarm, id: &str) -> Result<(), TierError> {
    to.expect(&tables(from).await?, id).await
}

/// Moves everything; `progress` hears of each step what it is, how many rows of how many it has.
///
/// # Errors
/// When a tier fails, the target holds something else, or what came over isn't what was there; called again, it goes on.
pub async fn transfer(
    from: &SqliteWarm,
    to: &PostgresWarm,
    progress: &mut (dyn FnMut(&str, u64, u64) + Send),
) -> Result<Moved, TierError> {
    let mut moved = Moved::default();
    for table in &tables(from).await? {
        let total = from.count(table).await?;
        let mut done = to.part_of(table).await?;
        progress(&table.name, done, total);
        moved.rows += match to.has_come(&table.name).await? {
            Some(before) => before.rows,
            None => {
                let before = done;
                let step = |rows| {
                    done += rows;
                    progress(&table.name, done, total);
                };
                to.receive_table(table, before, from.rows_of(table, before), step).await?
            }
        };
    }
    for entry in from.days().days(Day::FIRST, Day::LAST.next()).await? {
        let rows = one_day(from, to, entry.day, progress).await?;
        moved.days += u64::from(rows > 0);
        moved.readings += rows;
    }
    Ok(moved)
}

/// Nothing is to be moved any more: the target forgets what it noted meanwhile.
///
/// # Errors
/// When it can't.
pub async fn finish(to: &PostgresWarm) -> Result<(), TierError> {
    to.all_has_come().await
}

/// Gives how many readings it has.
async fn one_day(
    from: &SqliteWarm,
    to: &PostgresWarm,
    day: Day,
    progress: &mut (dyn FnMut(&str, u64, u64) + Send),
) -> Result<u64, TierError> {
    let what = format!("readings of {day}");
    let compared = format!("{what}, compared");
    if let Some(before) = to.has_come(&compared).await? {
        return Ok(before.rows);
    }
    let mut done = 0;
    progress(&what, done, 0);
    let step = |rows| {
        done += rows;
        progress(&what, done, 0);
    };
    let sent = match to.has_come(&what).await? {
        Some(before) => before, // it was stopped then
        None => to.receive_day(day, &what, from.days().rows(day), step).await?,
    };
    let there = Proof::of(to.days().rows(day)).await?;
    if there == sent {
        to.note(&compared, sent).await?;
        return Ok(sent.rows);
    }
    let why = format!("{what}: {sent} were sent, {there} are there; someone else writes into this database");
    Err(TierError::Unavailable { tier: "warm tier (PostgreSQL)", why })
}
