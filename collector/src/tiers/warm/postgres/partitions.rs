//! Days of `readings` without TimescaleDB: a partition for each, made when its first reading comes, tomorrow's ahead.
//!
//! A reading never waits for its partition. When a day can't have one, because there are too many, because rows of it
//! already lie in `readings_other`, or because someone holds a lock, the day lies in `readings_other` for good.

use super::fault::{Failure, failed};
use super::{Layout, PostgresWarm};
use crate::tiers::{StoredReading, TierError};
use shared::reading::Timestamp;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use std::collections::BTreeSet;
use std::sync::PoisonError;

const DAY: i64 = 86_400_000_000;
/// Days of 2000-01-01 and 2100-01-01, since 1970: what is outside lies in `readings_past` and `readings_future`.
const DAYS: std::ops::Range<i64> = 10_957..47_482;
/// Most partitions: some four years. Beyond, planning gets slow.
const PARTITIONS_MAX: i64 = 1_500;

impl PostgresWarm {
    /// Makes the days of these readings, and the next one.
    pub(super) async fn make_days(&self, readings: &[StoredReading]) -> Result<(), TierError> {
        if self.ready().await? == Layout::Timescale {
            return Ok(());
        }
        let mut days: BTreeSet<i64> = readings.iter().map(|r| r.at.0.div_euclid(DAY)).collect();
        days.insert(Timestamp::wall_clock().0.div_euclid(DAY) + 1);
        {
            let known = self.days.lock().unwrap_or_else(PoisonError::into_inner);
            days.retain(|day| DAYS.contains(day) && !known.contains(day));
        }
        for day in days {
            self.make_day(day).await?;
            self.days.lock().unwrap_or_else(PoisonError::into_inner).insert(day);
        }
        Ok(())
    }

    async fn make_day(&self, day: i64) -> Result<(), TierError> {
        let mut transaction = self.begin().await?;
        match make(&mut transaction, day).await {
            Ok(made) => {
                transaction.commit().await.map_err(failed)?;
                if !made {
                    tracing::warn!(day = %Timestamp(day * DAY), "this day gets no partition of its own");
                }
                Ok(())
            }
            Err(failure) if failure.is_lock_timeout() => {
                tracing::warn!(day = %Timestamp(day * DAY), "no partition now: another session holds a lock");
                Ok(())
            }
            Err(failure) => Err(failure.into()),
        }
    }
}

/// Whether the day has its partition now.
async fn make(connection: &mut PgConnection, day: i64) -> Result<bool, Failure> {
    let name = name(day);
    connection.execute("SET LOCAL lock_timeout TO 2000").await?;
    // One collector at a time.
    connection.execute("SELECT pg_advisory_xact_lock(7306, hashtext(current_schema()))").await?;
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
    if lies_elsewhere || days.len() as i64 >= PARTITIONS_MAX {
        return Ok(false);
    }
    // Made apart and then attached, which lets readers and writers go on.
    let sql = format!(
        "CREATE TABLE {name} (LIKE readings INCLUDING DEFAULTS); \
         ALTER TABLE readings ATTACH PARTITION {name} FOR VALUES FROM ('{from}') TO ('{to}')"
    );
    connection.execute(AssertSqlSafe(sql)).await?;
    Ok(true)
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
    fn a_days_partition_has_its_date_in_its_name() {
        assert_eq!(name(0), "readings_19700101");
        assert_eq!(name(DAYS.start), "readings_20000101");
        assert_eq!(name(DAYS.end - 1), "readings_20991231");
    }
}
