//! What series are expected to be, and how right that was so far.

use super::params::Params;
use super::{Api, Problem, views};
use crate::analytics::forecast::{HOURS, HOURS_DAY, Score, Scores};
use crate::analytics::store::Forecast;
use crate::tiers::SeriesInfo;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use shared::metric::Kind;
use shared::reading::Timestamp;
use std::collections::BTreeMap;

/// Series when the request doesn't say how many, and at most: each has a hundred points and more.
const SERIES: u32 = 20;
const SERIES_MAX: u32 = 200;

pub(super) async fn forecasts(State(api): State<Api>, params: Params) -> Result<Json<Value>, Problem> {
    let params = params.only(&["series", "node", "metric", "channel", "limit"])?;
    let limit = params.limit(SERIES, SERIES_MAX)?;
    let mut items = Vec::new();
    for series in super::routes::chosen(&api, &params).await?.0 {
        let store = api.sources.warm.forecasts();
        let Some(newest) = store.forecasts(series.id, Timestamp(i64::MIN), 1).await?.pop() else { continue };
        items.push(view(&series, &newest, &store.scores(series.id).await?));
        if items.len() > limit as usize {
            break;
        }
    }
    Ok(super::routes::list(items, limit))
}

fn view(series: &SeriesInfo, forecast: &Forecast, scores: &[(String, Scores)]) -> Value {
    let mut view = views::name(series);
    let says = if series.kind == Kind::Counter { "increase" } else { "average" };
    let fields = [
        ("says", json!(says)),
        ("model", json!(forecast.model)),
        ("origin", json!(forecast.origin)),
        ("trained", json!({ "from": forecast.trained_from, "to": forecast.trained_to })),
        ("made_at", json!(forecast.made_at)),
        ("points", json!(forecast.points)),
        ("accuracy", accuracy(scores)),
    ];
    view.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    Value::Object(view)
}

/// For each model and horizon: over how many hours, how far off on the average, and which share came within.
fn accuracy(scores: &[(String, Scores)]) -> Value {
    let mut models = BTreeMap::<&str, (u32, Scores)>::new();
    for (model, scores) in scores {
        let (count, sum) = models.entry(model).or_default();
        *count += 1;
        sum.day.add(&scores.day);
        sum.week.add(&scores.week);
    }
    let one = |model: &str, forecasts: u32, hours: i64, score: &Score| {
        let share = |within: u32| (score.hours > 0).then(|| f64::from(within) / f64::from(score.hours));
        json!({
            "model": model, "horizon_h": hours, "forecasts": forecasts, "hours": score.hours, "mae": score.mae(),
            "within_50": share(score.within50), "within_90": share(score.within90),
        })
    };
    let both = |(model, (count, sum)): (&str, (u32, Scores))| {
        [one(model, count, HOURS_DAY, &sum.day), one(model, count, HOURS, &sum.week)]
    };
    models.into_iter().flat_map(both).collect()
}
