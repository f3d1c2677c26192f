//! What series are expected to be, and how right that was so far.

use super::Api;
use super::parameters::{Named, Page, Series};
use super::params::{List, Params};
use super::routes::{Answered, chosen};
use super::views::SeriesName;
use crate::analytics::forecast::{HOURS, HOURS_DAY, Point, Score, Scores};
use crate::analytics::store::Forecast;
use crate::tiers::SeriesInfo;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use shared::metric::Kind;
use shared::reading::Timestamp;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Series when the request doesn't say how many, and at most: each has a hundred points and more.
const SERIES: u32 = 20;
const SERIES_MAX: u32 = 200;

/// What a series is expected to be.
#[derive(Serialize, ToSchema)]
#[schema(as = SeriesForecast)]
pub(super) struct OfSeries {
    #[serde(flatten)]
    name: SeriesName,
    /// What is foretold of each hour: its `average`, or of counters its `increase`.
    says: &'static str,
    /// The model's name.
    model: String,
    /// The first hour.
    origin: Timestamp,
    /// What the model learned from.
    trained: Span,
    /// When it was made.
    made_at: Timestamp,
    /// The hours, 24 and 7 days ahead.
    points: Vec<Point>,
    /// How right forecasts of this series were so far.
    accuracy: Vec<Accuracy>,
}

/// From when to when.
#[derive(Serialize, ToSchema)]
struct Span {
    from: Timestamp,
    to: Timestamp,
}

/// How right a model was.
#[derive(Serialize, ToSchema)]
#[schema(as = ForecastAccuracy)]
struct Accuracy {
    model: String,
    /// How many hours ahead.
    horizon_h: i64,
    /// Over how many forecasts,
    forecasts: u32,
    /// and over how many hours.
    hours: u32,
    /// How far off it was on the average, in the series' unit.
    mae: Option<f64>,
    /// Which part came within the interval of 50 %.
    within_50: Option<f64>,
    /// Which part came within the interval of 90 %.
    within_90: Option<f64>,
}

/// Forecasts
///
/// What every series is expected to be in the next 24 hours and 7 days, hour by hour, with intervals of 50 and 90 %; and
/// how right that was so far.
#[utoipa::path(get, path = "/api/v1/forecasts", tag = "Analytics", params(Series, Named, Page::<SERIES, SERIES_MAX>),
    responses((status = 200, body = List<OfSeries>, description = "The newest forecast of each series that has one.")))]
pub(super) async fn forecasts(State(api): State<Api>, params: Params) -> Answered<List<OfSeries>> {
    let page = params.page(SERIES, SERIES_MAX)?;
    let store = api.sources.warm.forecasts();
    let mut newest = Vec::new();
    for series in chosen(&api, &params).await?.0 {
        let Some(forecast) = store.forecasts(series.id, Timestamp(i64::MIN), 1).await?.pop() else { continue };
        newest.push((series, forecast));
        if newest.len() >= page.needed() as usize {
            break;
        }
    }
    let list = page.of(newest);
    let mut items = Vec::with_capacity(list.items.len());
    for (series, forecast) in &list.items {
        items.push(OfSeries::new(series, forecast, &store.scores(series.id).await?));
    }
    Ok(Json(list.with(items)))
}

impl OfSeries {
    fn new(series: &SeriesInfo, forecast: &Forecast, scores: &[(String, Scores)]) -> Self {
        Self {
            name: SeriesName::of(series),
            says: if series.kind == Kind::Counter { "increase" } else { "average" },
            model: forecast.model.clone(),
            origin: forecast.origin,
            trained: Span { from: forecast.trained_from, to: forecast.trained_to },
            made_at: forecast.made_at,
            points: forecast.points.clone(),
            accuracy: accuracy(scores),
        }
    }
}

/// For each model and horizon.
fn accuracy(scores: &[(String, Scores)]) -> Vec<Accuracy> {
    let mut models = BTreeMap::<&str, (u32, Scores)>::new();
    for (model, scores) in scores {
        let (count, sum) = models.entry(model).or_default();
        *count += 1;
        sum.day.add(&scores.day);
        sum.week.add(&scores.week);
    }
    let one = |model: &str, forecasts: u32, horizon_h: i64, score: &Score| {
        let share = |within: u32| (score.hours > 0).then(|| f64::from(within) / f64::from(score.hours));
        Accuracy {
            model: model.into(),
            horizon_h,
            forecasts,
            hours: score.hours,
            mae: score.mae(),
            within_50: share(score.within50),
            within_90: share(score.within90),
        }
    };
    let both = |(model, (count, sum)): (&str, (u32, Scores))| {
        [one(model, count, HOURS_DAY, &sum.day), one(model, count, HOURS, &sum.week)]
    };
    models.into_iter().flat_map(both).collect()
}
