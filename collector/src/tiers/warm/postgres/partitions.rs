//! Days of `readings` without TimescaleDB: a partition for each, made when its first reading comes, tomorrow's ahead.
//!
//! A reading never waits for its partition. When a day can't have one, because there are too many, because rows of it
//! already lie in `readings_other`, or because someone holds a lock, the day lies in `readings_other` for good. Locks
//! may be long, as a nightly dump's is; so tomorrow's partition is tried for all day.
//!
//! A partition that a person detached is attached again when something comes for its day: alone, that would pass for
//! all of the day. What can't be attached is told, and the day isn't archived without it.

use super::fault::{Failure, failed};
use super::{Layout, PostgresWarm};
use crate::tiers::{StoredReading, TierError};
use shared::reading::Timestamp;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const DAY: i64 = 86_400_000_000;
/// Days of 2000-01-01 and 2100-01-01, since 1970: what is outside lies in `readings_past` and `readings_future`.
const DAYS: std::ops::Range<i64> = 10_957..47_482;
/// When another session's lock was in the way of tomorrow's partition.
const AGAIN_AFTER: Duration = Duration::from_secs(300);

/// What is known of days.
#[derive(Debug, Default)]
pub(super) struct Days {
    /// Those that have their partition, or will never have one.
    settled: BTreeSet<i64>,
    /// Those that a person detached, once their partition is to be had again.
    doubted: BTreeSet<i64>,
    /// Tomorrow's is not tried before.
    again_at: Option<Instant>,
}

impl Days {
    /// Of the days of readings, and the one ahead, those to be made.
    fn wanting(&self, mut days: BTreeSet<i64>, ahead: i64) -> BTreeSet<i64> {
        if self.again_at.is_none_or(|again| Instant::now() >= again) {
            days.insert(ahead);
        }
        days.retain(|day| DAYS.contains(day) && !self.settled.contains(day));
        days
    }

    /// What was detached since it was settled is to be attached again; that is tried once.
    fn doubt(&mut self, detached: &[i64]) {
        self.doubted.retain(|day| detached.contains(day));
        for day in detached {
            if self.doubted.insert(*day) {
                self.settled.remove(day);
            }
        }
    }
}

impl PostgresWarm {
    /// Makes the days of these readings, and the next one.
    pub(super) async fn make_days(&self, readings: &[StoredReading]) -> Result<(), TierError> {
        if self.ready().await? == Layout::Timescale {
            return Ok(());
        }
        let day = |reading: &StoredReading| reading.at.0.div_euclid(DAY);
        let needed: BTreeSet<i64> = readings.chunk_by(|a, b| day(a) == day(b)).map(|same| day(&same[0])).collect();
        let ahead = Timestamp::wall_clock().0.div_euclid(DAY) + 1;
        // Nobody puts away what was written an hour ago.
        if needed.first().is_some_and(|oldest| *oldest < ahead - 2) {
            let detached = detached(&mut *self.writer().await?).await?;
            self.settled_days().doubt(&detached);
        }
        let wanting = self.settled_days().wanting(needed.clone(), ahead);
        // The newest first: should they be too many, what is read most has its own.
        for day in wanting.into_iter().rev() {
            let decided = self.make_day(day).await?;
            let mut days = self.settled_days();
            if decided || needed.contains(&day) {
                days.settled.insert(day);
            } else {
                days.again_at = Some(Instant::now() + AGAIN_AFTER);
            }
        }
        Ok(())
    }

    fn settled_days(&self) -> MutexGuard<'_, Days> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The day's partition was dropped; should something come for it, it gets another one.
    pub(super) fn forget_day(&self, day: i64) {
        self.settled_days().settled.remove(&day);
    }

    /// Whether it is decided; not so while another session holds a lock.
    async fn make_day(&self, day: i64) -> Result<bool, TierError> {
        let mut transaction = self.begin().await?;
        match make(&mut transaction, day, self.partitions_max).await {
            Ok(made) => {
                transaction.commit().await.map_err(failed)?;
                if !made {
                    tracing::warn!(day = %Timestamp(day * DAY), "this day gets no partition of its own");
                }
                Ok(true)
            }
            Err(failure) if failure.is_of_tables() => {
                let why = TierError::from(failure);
                tracing::warn!(day = %Timestamp(day * DAY), %why, "its readings go to readings_other: {} is in the way", name(day));
                Ok(true)
            }
            Err(failure) if failure.is_lock_timeout() => {
                tracing::warn!(day = %Timestamp(day * DAY), "no partition now: another session holds a lock");
                Ok(false)
            }
            Err(failure) => Err(failure.into()),
        }
    }
}

/// Whether the day has its partition now.
async fn make(connection: &mut PgConnection, day: i64, partitions_max: usize) -> Result<bool, Failure> {
    let name = name(day);
    connection.execute("SET LOCAL lock_timeout TO 2000").await?;
    // One collector at a time; and what attaching will need is taken first: whoever looks first and waits for more then is in
    // the way of who removes a day, and that one in ours.
    connection.execute("SELECT pg_advisory_xact_lock(7306, hashtext(current_schema()))").await?;
    connection.execute("LOCK TABLE ONLY readings IN SHARE UPDATE EXCLUSIVE MODE").await?;
    let days: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
         WHERE i.inhparent = 'readings'::regclass",
    )
    .fetch_all(&mut *connection)
    .await?;
    if days.contains(&name) {
        return Ok(true);
    }
    let (from, to) = (Timestamp(day * DAY), Timestamp((day + 1) * DAY));
    let sql = format!("SELECT EXISTS (SELECT FROM readings_other WHERE ts >= '{from}' AND ts < '{to}')");
    let lies_elsewhere: bool = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *connection).await?;
    if lies_elsewhere || days.len() >= partitions_max {
        return Ok(false);
    }
    if detached(connection).await?.contains(&day) {
        tracing::warn!("table {name} was detached; it is attached again, since readings came for its day");
    } else {
        // Made apart and then attached, which lets readers and writers go on.
        let sql = format!("CREATE TABLE {name} (LIKE readings INCLUDING DEFAULTS)");
        connection.execute(AssertSqlSafe(sql)).await?;
    }
    connection.execute(AssertSqlSafe(attach(day))).await?;
    Ok(true)
}

fn attach(day: i64) -> String {
    let (name, from, to) = (name(day), Timestamp(day * DAY), Timestamp((day + 1) * DAY));
    format!("ALTER TABLE readings ATTACH PARTITION {name} FOR VALUES FROM ('{from}') TO ('{to}')")
}

/// Days that are here by the account, whose table isn't attached: what it holds doesn't show.
pub(super) async fn detached(connection: &mut PgConnection) -> Result<Vec<i64>, TierError> {
    let sql = "SELECT d.day::bigint FROM archive_days AS d JOIN pg_class AS c \
                   ON c.relname = 'readings_' || to_char(DATE '1970-01-01' + d.day, 'YYYYMMDD') \
               WHERE d.raw = 'here' AND c.relkind IN ('r', 'p', 'f') \
                   AND c.relnamespace = current_schema()::regnamespace \
                   AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid \
                                   AND i.inhparent = 'readings'::regclass AND NOT i.inhdetachpending) \
               ORDER BY d.day";
    sqlx::query_scalar(sql).fetch_all(connection).await.map_err(failed)
}

/// What to do about a day's table that isn't attached.
pub(super) fn to_be_attached(day: i64) -> String {
    let (name, attach) = (name(day), attach(day));
    format!(
        "table {name} isn't attached, and what it holds doesn't show: {attach}; where readings_other has rows of that day \
         already, INSERT INTO readings SELECT * FROM {name} ON CONFLICT DO NOTHING and rename it; rename it, if it is not to \
         show"
    )
}

/// Whether a day has its partition.
pub(super) async fn is_there(connection: &mut PgConnection, day: i64) -> Result<bool, TierError> {
    let sql = "SELECT EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
               WHERE i.inhparent = 'readings'::regclass AND c.relname = $1)";
    sqlx::query_scalar(sql).bind(name(day)).fetch_one(connection).await.map_err(failed)
}

/// Drops a day's partition.
pub(super) async fn drop(connection: &mut PgConnection, day: i64) -> Result<(), TierError> {
    let sql = format!("DROP TABLE {}", name(day));
    connection.execute(AssertSqlSafe(sql)).await.map_err(failed)?;
    Ok(())
}

/// `readings_20261124`.
fn name(day: i64) -> String {
    let date = time::OffsetDateTime::from_unix_timestamp(day * 86_400).map_or(time::Date::MIN, |t| t.date());
    format!("readings_{:04}{:02}{:02}", date.year(), u8::from(date.month()), date.day())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tomorrow_is_tried_again_and_what_is_settled_is_not() {
        let mut days = Days { settled: [20_000].into(), ..Days::default() };
        assert_eq!(days.wanting([19_999, 20_000, 5].into(), 20_001), [19_999, 20_001].into());
        days.again_at = Some(Instant::now() + AGAIN_AFTER);
        assert_eq!(days.wanting([20_000].into(), 20_001), [].into());
        days.again_at = Some(Instant::now());
        assert_eq!(days.wanting([20_000].into(), 20_001), [20_001].into());
    }

    #[test]
    fn a_day_that_was_detached_is_tried_once_each_time() {
        let mut days = Days { settled: [19_999, 20_000, 20_001].into(), ..Days::default() };
        let wanting = |days: &Days| days.wanting([19_999, 20_000].into(), 20_001);
        days.doubt(&[20_000]);
        assert_eq!(wanting(&days), [20_000].into());
        days.settled.insert(20_000);
        days.doubt(&[20_000]);
        assert_eq!(wanting(&days), [].into(), "it can't be attached");
        days.doubt(&[]);
        days.doubt(&[20_000]);
        assert_eq!(wanting(&days), [20_000].into(), "somebody attached it, and detached it again");
    }

    #[test]
    fn a_days_partition_has_its_date_in_its_name() {
        assert_eq!(name(0), "readings_19700101");
        assert_eq!(name(DAYS.start), "readings_20000101");
        assert_eq!(name(DAYS.end - 1), "readings_20991231");
    }
}
