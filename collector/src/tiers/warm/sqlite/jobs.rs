//! Jobs and their runs in SQLite. All collectors of a file are on one machine: its clock is theirs.

use super::rows::{get, narrow};
use super::{SqliteWarm, audit, broken, failed};
use crate::etl::store::{Finished, JobRun, JobStore, RUNS_KEPT, RunNo, Status, TERM_MIN, Why};
use crate::tiers::{Audited, TierError, TierFuture};
use shared::reading::{Timestamp, micros};
use sqlx::sqlite::SqliteRow;
use std::time::Duration;

fn run(row: &SqliteRow) -> Result<JobRun, TierError> {
    let status: String = get(row, "status")?;
    Ok(JobRun {
        number: RunNo(get(row, "number")?),
        job: get(row, "job")?,
        due: get::<Option<i64>>(row, "due")?.map(Timestamp),
        attempt: narrow(row, "attempt")?,
        owner: get(row, "owner")?,
        status: Status::parse(&status).ok_or_else(|| broken(format!("etl_jobs.status is '{status}'")))?,
        started_at: Timestamp(get(row, "started_at")?),
        finished_at: get::<Option<i64>>(row, "finished_at")?.map(Timestamp),
        steps_done: narrow(row, "steps_done")?,
        steps: narrow(row, "steps")?,
        rows: get::<Option<i64>>(row, "rows")?.and_then(|rows| rows.try_into().ok()),
        detail: get(row, "detail")?,
        error: get(row, "error")?,
    })
}

impl SqliteWarm {
    async fn begin_run(
        &self,
        job: &str,
        why: Why,
        owner: &str,
        wanted: Option<&Audited>,
    ) -> Result<Option<RunNo>, TierError> {
        let mut transaction = self.begin().await?;
        if let Why::Due(due) = why {
            let raise = sqlx::query("UPDATE etl_marks SET due = ?2 WHERE job = ?1 AND due < ?2").bind(job).bind(due.0);
            if raise.execute(&mut *transaction).await.map_err(failed)?.rows_affected() == 0 {
                return Ok(None);
            }
        }
        let (due, attempt) = why.due_and_attempt();
        let begin = "INSERT INTO etl_jobs (job, due, attempt, owner, status, started_at, alive_at) \
                     VALUES (?1, ?2, ?3, ?4, 'running', ?5, ?5) ON CONFLICT DO NOTHING RETURNING number";
        let begin = sqlx::query_scalar::<_, i64>(begin).bind(job).bind(due.map(|at| at.0)).bind(attempt).bind(owner);
        let number = begin.bind(Timestamp::wall_clock().0).fetch_optional(&mut *transaction).await.map_err(failed)?;
        let Some(number) = number else { return Ok(None) };
        let prune = "DELETE FROM etl_jobs WHERE job = ?1 AND number <= \
                     (SELECT number FROM etl_jobs WHERE job = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)";
        sqlx::query(prune).bind(job).bind(RUNS_KEPT).execute(&mut *transaction).await.map_err(failed)?;
        audit::put(&mut transaction, wanted.map_or(&[], std::slice::from_ref)).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(Some(RunNo(number)))
    }
}

impl JobStore for SqliteWarm {
    fn lead<'a>(&'a self, owner: &'a str, term: Duration) -> TierFuture<'a, bool> {
        Box::pin(async move {
            let now = Timestamp::wall_clock().0;
            let sql = "INSERT INTO etl_leader (one, owner, until) VALUES (1, ?1, ?2) ON CONFLICT (one) DO UPDATE \
                       SET owner = excluded.owner, until = excluded.until \
                       WHERE etl_leader.owner = excluded.owner OR etl_leader.until NOT BETWEEN ?3 AND ?4";
            let query = sqlx::query(sql).bind(owner).bind(now.saturating_add(micros(term))).bind(now);
            let query = query.bind(now.saturating_add(micros(term.max(TERM_MIN))));
            Ok(query.execute(self.writer().await?).await.map_err(failed)?.rows_affected() == 1)
        })
    }

    fn marks(&self) -> TierFuture<'_, Vec<(String, Timestamp)>> {
        Box::pin(async move {
            let query = sqlx::query_as::<_, (String, i64)>("SELECT job, due FROM etl_marks");
            let rows = query.fetch_all(self.reader().await?).await.map_err(failed)?;
            Ok(rows.into_iter().map(|(job, due)| (job, Timestamp(due))).collect())
        })
    }

    fn mark_new<'a>(&'a self, job: &'a str, due: Timestamp) -> TierFuture<'a, ()> {
        Box::pin(async move {
            let query = sqlx::query("INSERT INTO etl_marks (job, due) VALUES (?, ?) ON CONFLICT DO NOTHING");
            query.bind(job).bind(due.0).execute(self.writer().await?).await.map_err(failed)?;
            Ok(())
        })
    }

    fn mark_back<'a>(&'a self, job: &'a str, due: Timestamp) -> TierFuture<'a, ()> {
        Box::pin(async move {
            let query = sqlx::query("UPDATE etl_marks SET due = ?1 WHERE job = ?2 AND due > ?1");
            query.bind(due.0).bind(job).execute(self.writer().await?).await.map_err(failed)?;
            Ok(())
        })
    }

    fn begin<'a>(
        &'a self,
        job: &'a str,
        why: Why,
        owner: &'a str,
        wanted: Option<&'a Audited>,
    ) -> TierFuture<'a, Option<RunNo>> {
        Box::pin(self.begin_run(job, why, owner, wanted))
    }

    fn alive(&self, run: RunNo, steps_done: u64, steps: u64, rows: u64) -> TierFuture<'_, bool> {
        Box::pin(async move {
            let sql = "UPDATE etl_jobs SET alive_at = ?, steps_done = ?, steps = ?, rows = ? \
                       WHERE number = ? AND status = 'running'";
            let query = sqlx::query(sql).bind(Timestamp::wall_clock().0).bind(steps_done.cast_signed());
            let query = query.bind(steps.cast_signed()).bind(rows.cast_signed()).bind(run.0);
            Ok(query.execute(self.writer().await?).await.map_err(failed)?.rows_affected() == 1)
        })
    }

    fn finish(&self, run: RunNo, how: Finished) -> TierFuture<'_, ()> {
        Box::pin(async move {
            let sql = "UPDATE etl_jobs SET status = ?1, finished_at = ?2, rows = ?3, detail = ?4, error = ?5, \
                       steps_done = CASE ?1 WHEN 'done' THEN steps ELSE steps_done END \
                       WHERE number = ?6 AND status = 'running'";
            let query = sqlx::query(sql).bind(how.status.as_str()).bind(Timestamp::wall_clock().0);
            let query = query.bind(how.rows.cast_signed()).bind(how.detail).bind(how.error).bind(run.0);
            query.execute(self.writer().await?).await.map_err(failed)?;
            Ok(())
        })
    }

    fn bury(&self, silent: Duration) -> TierFuture<'_, u32> {
        Box::pin(async move {
            let now = Timestamp::wall_clock().0;
            let sql = "UPDATE etl_jobs SET status = 'interrupted', finished_at = ?1, \
                       error = 'it gave no sign of life any more: its collector died, or lost touch' \
                       WHERE status = 'running' AND (alive_at < ?2 OR alive_at > ?1 + ?3)";
            // A sign from the future comes from before a step of the clock.
            let query = sqlx::query(sql).bind(now).bind(now.saturating_sub(micros(silent))).bind(micros(silent));
            Ok(query.execute(self.writer().await?).await.map_err(failed)?.rows_affected() as u32)
        })
    }

    fn runs<'a>(&'a self, job: Option<&'a str>, count_max: u32) -> TierFuture<'a, Vec<JobRun>> {
        Box::pin(async move {
            let sql = "SELECT * FROM etl_jobs WHERE ?1 IS NULL OR job = ?1 ORDER BY number DESC LIMIT ?2";
            let query = sqlx::query(sql).bind(job).bind(count_max);
            query.fetch_all(self.reader().await?).await.map_err(failed)?.iter().map(run).collect()
        })
    }
}
