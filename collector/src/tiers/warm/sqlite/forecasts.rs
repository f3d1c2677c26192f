//! Forecasts in SQLite.

use super::rows::{get, narrow};
use super::{SqliteWarm, broken, failed};
use crate::analytics::forecast::Scores;
use crate::analytics::store::{Forecast, ForecastStore};
use crate::tiers::warm::rules::{from_json, to_json};
use crate::tiers::{SeriesId, TierError, TierFuture};
use shared::reading::Timestamp;
use sqlx::sqlite::SqliteRow;

fn forecast(row: &SqliteRow) -> Result<Forecast, TierError> {
    Ok(Forecast {
        series: SeriesId(narrow(row, "series_id")?),
        origin: Timestamp(get(row, "origin")?),
        model: get(row, "model")?,
        trained_from: Timestamp(get(row, "trained_from")?),
        trained_to: Timestamp(get(row, "trained_to")?),
        made_at: Timestamp(get(row, "made_at")?),
        points: from_json(get(row, "points")?).map_err(broken)?,
        scores: get::<Option<&str>>(row, "score")?.map(from_json).transpose().map_err(broken)?,
    })
}

impl SqliteWarm {
    async fn keep_forecasts(&self, forecasts: &[Forecast], keep_from: Timestamp) -> Result<(), TierError> {
        let mut transaction = self.begin().await?;
        for one in forecasts {
            let sql = "INSERT OR REPLACE INTO forecasts (series_id, origin, model, trained_from, trained_to, made_at, \
                       points, score) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
            let query = sqlx::query(sql).bind(one.series.0).bind(one.origin.0).bind(&one.model);
            let query = query.bind(one.trained_from.0).bind(one.trained_to.0).bind(one.made_at.0);
            let query = query.bind(to_json(&one.points)).bind(one.scores.as_ref().map(to_json));
            query.execute(&mut *transaction).await.map_err(failed)?;
        }
        let prune = sqlx::query("DELETE FROM forecasts WHERE origin < ?").bind(keep_from.0);
        prune.execute(&mut *transaction).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }
}

impl ForecastStore for SqliteWarm {
    fn put_forecasts<'a>(&'a self, forecasts: &'a [Forecast], keep_from: Timestamp) -> TierFuture<'a, ()> {
        Box::pin(self.keep_forecasts(forecasts, keep_from))
    }

    fn forecasts(&self, series: SeriesId, from: Timestamp, count_max: u32) -> TierFuture<'_, Vec<Forecast>> {
        Box::pin(async move {
            let sql = "SELECT * FROM forecasts WHERE series_id = ? AND origin >= ? ORDER BY origin DESC, model LIMIT ?";
            let query = sqlx::query(sql).bind(series.0).bind(from.0).bind(count_max);
            query.fetch_all(self.reader().await?).await.map_err(failed)?.iter().map(forecast).collect()
        })
    }

    fn scores(&self, series: SeriesId) -> TierFuture<'_, Vec<(String, Scores)>> {
        Box::pin(async move {
            let sql =
                "SELECT model, score FROM forecasts WHERE series_id = ? AND score IS NOT NULL ORDER BY origin, model";
            let rows = sqlx::query(sql).bind(series.0).fetch_all(self.reader().await?).await.map_err(failed)?;
            let scored = |row| Ok((get(row, "model")?, from_json(get(row, "score")?).map_err(broken)?));
            rows.iter().map(scored).collect()
        })
    }
}
