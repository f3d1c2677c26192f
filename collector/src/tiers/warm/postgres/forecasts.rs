//! Forecasts in PostgreSQL.

use super::PostgresWarm;
use super::fault::failed;
use super::rows::{get, number, series, strange, time};
use super::time::PgTime;
use crate::analytics::forecast::Scores;
use crate::analytics::store::{Forecast, ForecastStore};
use crate::tiers::warm::rules::{from_json, to_json};
use crate::tiers::{SeriesId, TierError, TierFuture};
use shared::reading::Timestamp;
use sqlx::postgres::PgRow;

fn forecast(row: &PgRow) -> Result<Forecast, TierError> {
    Ok(Forecast {
        series: series(row)?,
        origin: time(row, "origin")?,
        model: get(row, "model")?,
        trained_from: time(row, "trained_from")?,
        trained_to: time(row, "trained_to")?,
        made_at: time(row, "made_at")?,
        points: from_json(get(row, "points")?).map_err(strange)?,
        scores: get::<Option<&str>>(row, "score")?.map(from_json).transpose().map_err(strange)?,
    })
}

impl PostgresWarm {
    async fn keep_forecasts(&self, forecasts: &[Forecast], keep_from: Timestamp) -> Result<(), TierError> {
        let mut transaction = self.begin().await?;
        for one in forecasts {
            let sql = "INSERT INTO forecasts (series_id, origin, model, trained_from, trained_to, made_at, points, score) \
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (series_id, origin, model) DO UPDATE SET \
                       trained_from = excluded.trained_from, trained_to = excluded.trained_to, \
                       made_at = excluded.made_at, points = excluded.points, score = excluded.score";
            let query = sqlx::query(sql).bind(number(one.series)).bind(PgTime::bounded(one.origin)).bind(&one.model);
            let query = query.bind(PgTime::bounded(one.trained_from)).bind(PgTime::bounded(one.trained_to));
            let query = query.bind(PgTime::bounded(one.made_at)).bind(to_json(&one.points));
            query.bind(one.scores.as_ref().map(to_json)).execute(&mut *transaction).await.map_err(failed)?;
        }
        let prune = sqlx::query("DELETE FROM forecasts WHERE origin < $1").bind(PgTime::bounded(keep_from));
        prune.execute(&mut *transaction).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }
}

impl ForecastStore for PostgresWarm {
    fn put_forecasts<'a>(&'a self, forecasts: &'a [Forecast], keep_from: Timestamp) -> TierFuture<'a, ()> {
        Box::pin(self.keep_forecasts(forecasts, keep_from))
    }

    fn forecasts(&self, series: SeriesId, from: Timestamp, count_max: u32) -> TierFuture<'_, Vec<Forecast>> {
        Box::pin(async move {
            let sql =
                "SELECT * FROM forecasts WHERE series_id = $1 AND origin >= $2 ORDER BY origin DESC, model LIMIT $3";
            let query = sqlx::query(sql).bind(number(series)).bind(PgTime::bounded(from)).bind(i64::from(count_max));
            query.fetch_all(&mut *self.primary().await?).await.map_err(failed)?.iter().map(forecast).collect()
        })
    }

    fn scores(&self, series: SeriesId) -> TierFuture<'_, Vec<(String, Scores)>> {
        Box::pin(async move {
            let sql =
                "SELECT model, score FROM forecasts WHERE series_id = $1 AND score IS NOT NULL ORDER BY origin, model";
            let query = sqlx::query(sql).bind(number(series));
            let rows = query.fetch_all(&mut *self.primary().await?).await.map_err(failed)?;
            let scored = |row| Ok((get(row, "model")?, from_json(get(row, "score")?).map_err(strange)?));
            rows.iter().map(scored).collect()
        })
    }
}
