//! Reports on the quality of data in PostgreSQL.

use super::PostgresWarm;
use super::fault::failed;
use super::rows::{get, narrow, series};
use super::time::PgTime;
use crate::analytics::quality::SeriesQuality;
use crate::tiers::warm::rules;
use crate::tiers::{QualityReport, SeriesId, TierError};
use shared::reading::Timestamp;
use sqlx::postgres::PgRow;

fn report(row: &PgRow) -> Result<QualityReport, TierError> {
    Ok(QualityReport {
        day: get(row, "day")?,
        series: SeriesId(get::<i32>(row, "series_id")?.cast_unsigned()),
        quality: SeriesQuality {
            good: narrow(row, "good")?,
            uncertain: narrow(row, "uncertain")?,
            bad: narrow(row, "bad")?,
            manual: narrow(row, "manual")?,
            late: narrow(row, "late")?,
            completeness: get(row, "completeness")?,
            longest_gap_us: get(row, "longest_gap_us")?,
            spacing_us: get(row, "spacing_us")?,
            step: get(row, "step")?,
            score: get(row, "score")?,
        },
        made_at: get::<PgTime>(row, "made_at")?.0,
    })
}

impl PostgresWarm {
    pub(super) async fn put_reports(&self, reports: &[QualityReport], keep_from: &str) -> Result<(), TierError> {
        let mut transaction = self.begin().await?;
        for report in reports {
            let quality = &report.quality;
            let sql = "INSERT INTO quality_reports (day, series_id, good, uncertain, bad, manual, completeness, \
                       longest_gap_us, spacing_us, step, score, made_at, late) \
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
                       ON CONFLICT (day, series_id) DO UPDATE SET good = excluded.good, uncertain = excluded.uncertain, \
                       bad = excluded.bad, manual = excluded.manual, completeness = excluded.completeness, \
                       longest_gap_us = excluded.longest_gap_us, spacing_us = excluded.spacing_us, \
                       step = excluded.step, score = excluded.score, made_at = excluded.made_at, late = excluded.late";
            let query = sqlx::query(sql).bind(&report.day).bind(report.series.0.cast_signed());
            let query = query.bind(i64::from(quality.good)).bind(i64::from(quality.uncertain));
            let query = query.bind(i64::from(quality.bad)).bind(i64::from(quality.manual)).bind(quality.completeness);
            let query = query.bind(quality.longest_gap_us).bind(quality.spacing_us).bind(quality.step);
            let query = query.bind(quality.score).bind(PgTime::bounded(report.made_at)).bind(i64::from(quality.late));
            query.execute(&mut *transaction).await.map_err(failed)?;
        }
        for sql in ["DELETE FROM quality_reports WHERE day < $1", "DELETE FROM quality_days WHERE day < $1"] {
            sqlx::query(sql).bind(keep_from).execute(&mut *transaction).await.map_err(failed)?;
        }
        if let Some(from) = rules::start_of(keep_from) {
            let prune = sqlx::query("DELETE FROM late_hours WHERE hour < $1").bind(PgTime::bounded(from));
            prune.execute(&mut *transaction).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    pub(super) async fn list_reports(&self, day: Option<&str>) -> Result<Vec<QualityReport>, TierError> {
        let sql = "SELECT * FROM quality_reports WHERE day = coalesce($1, (SELECT max(day) FROM quality_reports)) \
                   ORDER BY series_id";
        let query = sqlx::query(sql).bind(day);
        query.fetch_all(&mut *self.primary().await?).await.map_err(failed)?.iter().map(report).collect()
    }

    pub(super) async fn list_quality_days(&self) -> Result<Vec<(String, u64)>, TierError> {
        let query = sqlx::query("SELECT day, version FROM quality_days ORDER BY day");
        let rows = query.fetch_all(&mut *self.primary().await?).await.map_err(failed)?;
        rows.iter().map(|row| Ok((get(row, "day")?, narrow(row, "version")?))).collect()
    }

    pub(super) async fn keep_quality_day(&self, day: &str, version: u64) -> Result<(), TierError> {
        let mut transaction = self.begin().await?;
        let sql = "INSERT INTO quality_days (day, version) VALUES ($1, $2) \
                   ON CONFLICT (day) DO UPDATE SET version = excluded.version";
        let query = sqlx::query(sql).bind(day).bind(version.cast_signed());
        query.execute(&mut *transaction).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    pub(super) async fn list_late(&self, from: Timestamp, to: Timestamp) -> Result<Vec<(SeriesId, u64)>, TierError> {
        let sql = "SELECT series_id, sum(readings)::bigint AS late FROM late_hours \
                   WHERE hour >= $1 AND hour < $2 GROUP BY series_id";
        let query = sqlx::query(sql).bind(PgTime::bounded(from)).bind(PgTime::bounded(to));
        let rows = query.fetch_all(&mut *self.primary().await?).await.map_err(failed)?;
        rows.iter().map(|row| Ok((series(row)?, narrow(row, "late")?))).collect()
    }
}
