//! Reports on the quality of data in PostgreSQL.

use super::PostgresWarm;
use super::fault::failed;
use super::rows::{get, narrow};
use super::time::PgTime;
use crate::analytics::quality::SeriesQuality;
use crate::tiers::{QualityReport, SeriesId, TierError};
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
                       longest_gap_us, spacing_us, step, score, made_at) \
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
                       ON CONFLICT (day, series_id) DO UPDATE SET good = excluded.good, uncertain = excluded.uncertain, \
                       bad = excluded.bad, manual = excluded.manual, completeness = excluded.completeness, \
                       longest_gap_us = excluded.longest_gap_us, spacing_us = excluded.spacing_us, \
                       step = excluded.step, score = excluded.score, made_at = excluded.made_at";
            let query = sqlx::query(sql).bind(&report.day).bind(report.series.0.cast_signed());
            let query = query.bind(i64::from(quality.good)).bind(i64::from(quality.uncertain));
            let query = query.bind(i64::from(quality.bad)).bind(i64::from(quality.manual)).bind(quality.completeness);
            let query = query.bind(quality.longest_gap_us).bind(quality.spacing_us).bind(quality.step);
            let query = query.bind(quality.score).bind(PgTime::bounded(report.made_at));
            query.execute(&mut *transaction).await.map_err(failed)?;
        }
        let prune = sqlx::query("DELETE FROM quality_reports WHERE day < $1").bind(keep_from);
        prune.execute(&mut *transaction).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    pub(super) async fn list_reports(&self, day: Option<&str>) -> Result<Vec<QualityReport>, TierError> {
        let sql = "SELECT * FROM quality_reports WHERE day = coalesce($1, (SELECT max(day) FROM quality_reports)) \
                   ORDER BY series_id";
        let query = sqlx::query(sql).bind(day);
        query.fetch_all(&mut *self.primary().await?).await.map_err(failed)?.iter().map(report).collect()
    }
}
