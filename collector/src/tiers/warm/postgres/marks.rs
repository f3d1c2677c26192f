//! Marks of dirty buckets, without a new one with each flush.
//!
//! Marks are only taken away of buckets that ended by a moment that stands in `rollup_horizon`. It rises alone, when no
//! commit is under way: so a commit that has seen it knows that its process' earlier marks of later buckets still stand.
//! What is marked again all the same, by another collector or after a restart, stands there twice, which does no harm.

use super::PostgresWarm;
use super::fault::{Failure, failed};
use super::time::PgTime;
use crate::tiers::warm::rules::{self, Mark};
use crate::tiers::{Bucket, TierError};
use shared::reading::Timestamp;
use sqlx::{Executor as _, PgConnection, Row as _};
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Shared by commits until they end, as the epoch's is. With the moment goes what tells this table from one that was restored
/// or made anew.
const SHARE: &str = "SELECT pg_advisory_xact_lock_shared(7308, hashtext(current_schema())); \
    SELECT (SELECT until FROM rollup_horizon) AS until, \
        pg_postmaster_start_time()::text || ' ' || 'dirty_buckets'::regclass::oid AS table_is";
const ALONE: &str = "SELECT pg_advisory_xact_lock(7308, hashtext(current_schema()))";
/// Marks that are remembered: 100,000 series and the buckets that are written to at a time.
const MARKS_MAX: usize = 500_000;

/// What a process has marked.
#[derive(Debug, Default)]
pub(super) struct Marked(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    marks: HashSet<Mark>,
    /// Under which all of them stand.
    under: Option<Horizon>,
}

impl Memory {
    /// Whether it is of the same table.
    fn is_of(&self, under: &Horizon) -> bool {
        self.under.as_ref().is_some_and(|known| known.table == under.table)
    }
}

impl Marked {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what is committed.
    pub(super) fn note(&self, marks: &[Mark], under: &Horizon) {
        let mut memory = self.lock();
        if !memory.is_of(under) || memory.marks.len() > MARKS_MAX {
            memory.marks.clear();
        }
        if memory.under.as_ref() != Some(under) {
            memory.marks.retain(|(_, bucket)| under.stands(*bucket));
            memory.under = Some(under.clone());
        }
        memory.marks.extend(marks.iter().filter(|(_, bucket)| under.stands(*bucket)));
    }

    /// Those that don't stand there already.
    pub(super) fn missing(&self, marks: &[Mark], under: &Horizon) -> Vec<Mark> {
        let memory = self.lock();
        let there = |mark: &Mark| under.stands(mark.1) && memory.is_of(under) && memory.marks.contains(mark);
        marks.iter().filter(|mark| !there(mark)).copied().collect()
    }
}

/// Up to where marks may have been taken away.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Horizon {
    until: Timestamp,
    table: String,
}

impl Horizon {
    fn stands(&self, bucket: Timestamp) -> bool {
        bucket > rules::ended(self.until)
    }
}

/// In a transaction that marks: it doesn't rise before that ends. The lock and the look are two statements, the second of which
/// sees what was committed while the first waited.
pub(super) async fn hold(connection: &mut PgConnection) -> Result<Horizon, Failure> {
    let rows = connection.fetch_all(sqlx::raw_sql(SHARE)).await?;
    let row = rows.last().ok_or(sqlx::Error::RowNotFound)?;
    // Without it nothing is sure.
    let until = row.try_get::<Option<i64>, _>("until")?.unwrap_or(i64::MAX);
    Ok(Horizon { until: Timestamp(until), table: row.try_get("table_is")? })
}

impl PostgresWarm {
    /// Before marks of buckets that ended by then are taken away.
    pub(super) async fn may_take(&self, by: Timestamp) -> Result<(), TierError> {
        // All buckets end with their time: what lies between two ends is not worth a turn alone.
        let by = Bucket::FiveMinutes.start_of(PgTime::bounded(by).0);
        let sql = "SELECT until FROM rollup_horizon";
        let query = sqlx::query_scalar::<_, i64>(sql);
        let until = query.fetch_optional(&mut *self.writer().await?).await.map_err(failed)?;
        if until.is_some_and(|until| until >= by.0) {
            return Ok(());
        }
        let mut transaction = self.begin().await?;
        transaction.execute(ALONE).await.map_err(failed)?;
        let sql = "INSERT INTO rollup_horizon AS r (until) VALUES ($1) \
                   ON CONFLICT (one) DO UPDATE SET until = greatest(r.until, excluded.until)";
        let query = sqlx::query(sql).bind(by.0);
        query.execute(&mut *transaction).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiers::SeriesId;

    const FIVE: i64 = 300_000_000;

    fn horizon(until: i64, table: &str) -> Horizon {
        Horizon { until: Timestamp(until), table: table.into() }
    }

    #[test]
    fn a_mark_is_missing_once_it_may_be_taken_away_or_the_table_is_another() {
        let (marked, mark) = (Marked::default(), (SeriesId(1), Timestamp(FIVE)));
        let missing = |under: &Horizon| !marked.missing(&[mark], under).is_empty();
        assert!(missing(&horizon(0, "a")));
        marked.note(&[mark], &horizon(0, "a"));
        assert!(!missing(&horizon(0, "a")) && !missing(&horizon(2 * FIVE - 1, "a")));
        assert!(missing(&horizon(2 * FIVE, "a")), "its bucket has ended");
        assert!(missing(&horizon(0, "b")), "that is another table");
        marked.note(&[], &horizon(0, "b"));
        assert!(missing(&horizon(0, "a")), "forgotten for good");
        marked.note(&[mark], &horizon(2 * FIVE, "a"));
        assert!(missing(&horizon(0, "a")), "what may be gone is not remembered");
        marked.note(&[mark], &horizon(0, "a"));
        marked.note(&[], &horizon(2 * FIVE, "a"));
        assert!(missing(&horizon(0, "a")), "nor for longer than until then");
    }
}
