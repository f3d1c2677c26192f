//! Reports on the quality of data in SQLite.

use super::rows::{get, narrow};
use super::{SqliteWarm, failed};
use crate::analytics::quality::SeriesQuality;
use crate::tiers::warm::rules;
use crate::tiers::{QualityReport, SeriesId, TierError};
use shared::reading::Timestamp;
use sqlx::sqlite::SqliteRow;

fn report(row: &SqliteRow) -> Result<QualityReport, TierError> {
    Ok(QualityReport {
        day: get(row, "day")?,
        series: SeriesId(narrow(row, "series_id")?),
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
        made_at: Timestamp(get(row, "made_at")?),
    })
}

impl SqliteWarm {
    pub(super) async fn put_reports(&self, reports: &[QualityReport], keep_from: &str) -> Result<(), TierError> {
        let mut transaction = self.begin().await?;
        for report in reports {
            let quality = &report.quality;
            let sql = "INSERT OR REPLACE INTO quality_reports (day, series_id, good, uncertain, bad, manual, completeness, \
                       longest_gap_us, spacing_us, step, score, made_at, late) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
            let query = sqlx::query(sql).bind(&report.day).bind(report.series.0).bind(quality.good);
            let query = query.bind(quality.uncertain).bind(quality.bad).bind(quality.manual).bind(quality.completeness);
            let query = query.bind(quality.longest_gap_us).bind(quality.spacing_us).bind(quality.step);
            let query = query.bind(quality.score).bind(report.made_at.0).bind(quality.late);
            query.execute(&mut *transaction).await.map_err(failed)?;
        }
        for sql in ["DELETE FROM quality_reports WHERE day < ?", "DELETE FROM quality_days WHERE day < ?"] {
            sqlx::query(sql).bind(keep_from).execute(&mut *transaction).await.map_err(failed)?;
        }
        if let Some(from) = rules::start_of(keep_from) {
            let prune = sqlx::query("DELETE FROM late_hours WHERE hour < ?").bind(from.0);
            prune.execute(&mut *transaction).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    pub(super) async fn list_reports(&self, day: Option<&str>) -> Result<Vec<QualityReport>, TierError> {
        let sql = "SELECT * FROM quality_reports WHERE day = coalesce(?, (SELECT max(day) FROM quality_reports)) \
                   ORDER BY series_id";
        sqlx::query(sql).bind(day).fetch_all(self.reader().await?).await.map_err(failed)?.iter().map(report).collect()
    }

    pub(super) async fn list_quality_days(&self) -> Result<Vec<(String, u64)>, TierError> {
        let query = sqlx::query("SELECT day, version FROM quality_days ORDER BY day");
        let rows = query.fetch_all(self.reader().await?).await.map_err(failed)?;
        rows.iter().map(|row| Ok((get(row, "day")?, narrow(row, "version")?))).collect()
    }

    pub(super) async fn keep_quality_day(&self, day: &str, version: u64) -> Result<(), TierError> {
        let query = sqlx::query("INSERT OR REPLACE INTO quality_days (day, version) VALUES (?, ?)");
        query.bind(day).bind(version.cast_signed()).execute(self.writer().await?).await.map_err(failed)?;
        Ok(())
    }

    pub(super) async fn list_late(&self, from: Timestamp, to: Timestamp) -> Result<Vec<(SeriesId, u64)>, TierError> {
        let sql = "SELECT series_id, CAST(sum(readings) AS INTEGER) AS late FROM late_hours \
                   WHERE hour >= ? AND hour < ? GROUP BY series_id";
        let rows = sqlx::query(sql).bind(from.0).bind(to.0).fetch_all(self.reader().await?).await.map_err(failed)?;
        rows.iter().map(|row| Ok((SeriesId(narrow(row, "series_id")?), narrow(row, "late")?))).collect()
    }
}
