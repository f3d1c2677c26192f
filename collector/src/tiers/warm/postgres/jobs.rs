//! Jobs and their runs in PostgreSQL. Its clock decides: those of several collectors may disagree.

use super::fault::failed;
use super::rows::{get, narrow, strange};
use super::time::PgTime;
use super::{PostgresWarm, audit};
use crate::etl::store::{Finished, JobRun, JobStore, RUNS_KEPT, RunNo, Status, TERM_MIN, Why};
use crate::tiers::{Audited, TierError, TierFuture};
use shared::reading::Timestamp;
use sqlx::postgres::PgRow;
use std::time::Duration;

fn run(row: &PgRow) -> Result<JobRun, TierError> {
    let status: String = get(row, "status")?;
    Ok(JobRun {
        number: RunNo(get(row, "number")?),
        job: get(row, "job")?,
        due: get::<Option<PgTime>>(row, "due")?.map(|at| at.0),
        attempt: get::<i32>(row, "attempt")?.cast_unsigned(),
        owner: get(row, "owner")?,
        status: Status::parse(&status).ok_or_else(|| strange(format!("etl_jobs.status is '{status}'")))?,
        started_at: get::<PgTime>(row, "started_at")?.0,
        finished_at: get::<Option<PgTime>>(row, "finished_at")?.map(|at| at.0),
        steps_done: narrow(row, "steps_done")?,
        steps: narrow(row, "steps")?,
        rows: get::<Option<i64>>(row, "rows")?.and_then(|rows| rows.try_into().ok()),
        detail: get(row, "detail")?,
        error: get(row, "error")?,
    })
}

impl PostgresWarm {
    async fn begin_run(
        &self,
        job: &str,
        why: Why,
        owner: &str,
        wanted: Option<&Audited>,
    ) -> Result<Option<RunNo>, TierError> {
        let mut transaction = self.begin().await?;
        if let Why::Due(due) = why {
            let raise = sqlx::query("UPDATE etl_marks SET due = $2 WHERE job = $1 AND due < $2").bind(job);
            let raised = raise.bind(PgTime::bounded(due)).execute(&mut *transaction).await.map_err(failed)?;
            if raised.rows_affected() == 0 {
                return Ok(None);
            }
        }
        let (due, attempt) = why.due_and_attempt();
        let begin = "INSERT INTO etl_jobs (job, due, attempt, owner, status, started_at, alive_at) \
                     VALUES ($1, $2, $3, $4, 'running', clock_timestamp(), clock_timestamp()) \
                     ON CONFLICT DO NOTHING RETURNING number";
        let begin = sqlx::query_scalar::<_, i64>(begin).bind(job).bind(due.map(PgTime::bounded));
        let begin = begin.bind(attempt.cast_signed()).bind(owner);
        let Some(number) = begin.fetch_optional(&mut *transaction).await.map_err(failed)? else { return Ok(None) };
        let prune = "DELETE FROM etl_jobs WHERE job = $1 AND number <= \
                     (SELECT number FROM etl_jobs WHERE job = $1 ORDER BY number DESC LIMIT 1 OFFSET $2)";
        let prune = sqlx::query(prune).bind(job).bind(i64::from(RUNS_KEPT));
        prune.execute(&mut *transaction).await.map_err(failed)?;
        audit::put(&mut transaction, wanted.map_or(&[], std::slice::from_ref)).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(Some(RunNo(number)))
    }

    /// Runs one statement of its own; gives how many rows it changed.
    async fn change(
        &self,
        query: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
    ) -> Result<u64, TierError> {
        let mut transaction = self.begin().await?;
        let changed = query.execute(&mut *transaction).await.map_err(failed)?.rows_affected();
        transaction.commit().await.map_err(failed)?;
        Ok(changed)
    }
}

impl JobStore for PostgresWarm {
    fn lead<'a>(&'a self, owner: &'a str, term: Duration) -> TierFuture<'a, bool> {
        Box::pin(async move {
            let sql = "INSERT INTO etl_leader AS l (one, owner, until) \
                       VALUES (1, $1, clock_timestamp() + make_interval(secs => $2)) ON CONFLICT (one) DO UPDATE \
                       SET owner = excluded.owner, until = excluded.until \
                       WHERE l.owner = excluded.owner OR l.until NOT BETWEEN clock_timestamp() \
                           AND clock_timestamp() + make_interval(secs => $3)";
            let query = sqlx::query(sql).bind(owner).bind(term.as_secs_f64()).bind(term.max(TERM_MIN).as_secs_f64());
            Ok(self.change(query).await? == 1)
        })
    }

    fn marks(&self) -> TierFuture<'_, Vec<(String, Timestamp)>> {
        Box::pin(async move {
            let query = sqlx::query_as::<_, (String, PgTime)>("SELECT job, due FROM etl_marks");
            let rows = query.fetch_all(&mut *self.primary().await?).await.map_err(failed)?;
            Ok(rows.into_iter().map(|(job, due)| (job, due.0)).collect())
        })
    }

    fn mark_new<'a>(&'a self, job: &'a str, due: Timestamp) -> TierFuture<'a, ()> {
        Box::pin(async move {
            let query = sqlx::query("INSERT INTO etl_marks (job, due) VALUES ($1, $2) ON CONFLICT DO NOTHING");
            self.change(query.bind(job).bind(PgTime::bounded(due))).await?;
            Ok(())
        })
    }

    fn mark_back<'a>(&'a self, job: &'a str, due: Timestamp) -> TierFuture<'a, ()> {
        Box::pin(async move {
            let query = sqlx::query("UPDATE etl_marks SET due = $1 WHERE job = $2 AND due > $1");
            self.change(query.bind(PgTime::bounded(due)).bind(job)).await?;
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
            let sql = "UPDATE etl_jobs SET alive_at = clock_timestamp(), steps_done = $1, steps = $2, rows = $3 \
                       WHERE number = $4 AND status = 'running'";
            let query = sqlx::query(sql).bind(steps_done.cast_signed()).bind(steps.cast_signed());
            let query = query.bind(rows.cast_signed()).bind(run.0);
            Ok(self.change(query).await? == 1)
        })
    }

    fn finish(&self, run: RunNo, how: Finished) -> TierFuture<'_, ()> {
        Box::pin(async move {
            let sql = "UPDATE etl_jobs SET status = $1, finished_at = clock_timestamp(), rows = $2, detail = $3, \
                       error = $4, steps_done = CASE $1 WHEN 'done' THEN steps ELSE steps_done END \
                       WHERE number = $5 AND status = 'running'";
            let query = sqlx::query(sql).bind(how.status.as_str()).bind(how.rows.cast_signed());
            self.change(query.bind(how.detail).bind(how.error).bind(run.0)).await?;
            Ok(())
        })
    }

    fn bury(&self, silent: Duration) -> TierFuture<'_, u32> {
        Box::pin(async move {
            let sql = "UPDATE etl_jobs SET status = 'interrupted', finished_at = clock_timestamp(), \
                       error = 'it gave no sign of life any more: its collector died, or lost touch' \
                       WHERE status = 'running' AND (alive_at < clock_timestamp() - make_interval(secs => $1) \
                                                     OR alive_at > clock_timestamp() + make_interval(secs => $1))";
            // A sign from the future comes from before a step of the clock.
            Ok(self.change(sqlx::query(sql).bind(silent.as_secs_f64())).await? as u32)
        })
    }

    fn runs<'a>(&'a self, job: Option<&'a str>, count_max: u32) -> TierFuture<'a, Vec<JobRun>> {
        Box::pin(async move {
            let sql = "SELECT * FROM etl_jobs WHERE $1::text IS NULL OR job = $1 ORDER BY number DESC LIMIT $2";
            let query = sqlx::query(sql).bind(job).bind(i64::from(count_max));
            query.fetch_all(&mut *self.primary().await?).await.map_err(failed)?.iter().map(run).collect()
        })
    }
}
