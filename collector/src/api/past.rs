//! The past of series.

use super::document::NotFound;
use super::parameters::{Named, SeveralSeries, Shown, Stretch};
use super::params::Params;
use super::routes::chosen;
use super::{Api, Problem, views};
use crate::history::{PIXELS_MAX, POINTS_MAX, Question, Resolution, Thin, Way};
use crate::tiers::{SeriesId, SeriesInfo};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde::Serialize;
use utoipa::ToSchema;

/// Points when the request doesn't say how many.
pub(super) const POINTS: u32 = 2_000;
/// Most series whose history is asked for at once.
const SERIES_MAX: usize = 64;
/// Series of one request that are worked on at a time.
const SERIES_AT_ONCE: usize = 4;

/// The past of one series, or of several.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = HistoryAnswer)]
enum Answer {
    One(Box<views::History>),
    Several(Several),
}

/// The past of several series.
#[derive(Serialize, ToSchema)]
#[schema(as = Histories)]
struct Several {
    /// In the order of the question.
    items: Vec<OneOfSeveral>,
}

/// The past of one of them, or why it can't be told.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = HistoryOrFailure)]
enum OneOfSeveral {
    Found(Box<views::History>),
    Failed(Failed),
}

/// Why the past of one of several series can't be told.
#[derive(Serialize, ToSchema)]
#[schema(as = HistoryFailure)]
struct Failed {
    series: SeriesId,
    error: String,
}

/// History
///
/// The past of one series, given by number or by node, metric and channel; of several in one answer when `series` has
/// more than one number; as a file of any length with `format=csv`. Points are readings as they are, or buckets of 5
/// minutes, an hour or a UTC day. `auto` takes the finest that fits into `limit`, or into a chart `pixels` wide: readings are
/// then brought down to their lows and highs. When there are more points than `limit`, `next` says from where to go on.
#[utoipa::path(get, path = "/api/v1/history", tag = "Readings", params(SeveralSeries, Named, Stretch, Shown),
    responses(
        (status = 200, description = "The points, with what there is to know about them.",
            content((Answer = "application/json"), (String = "text/csv; charset=utf-8"))),
        NotFound,
    ))]
pub(super) async fn history(State(api): State<Api>, params: Params) -> Result<Response, Problem> {
    let now = (api.sources.now)();
    let (from, to) = params.stretch(now)?;
    let word = params.text("resolution").unwrap_or("auto");
    let resolution = Resolution::parse(word)
        .ok_or_else(|| Problem::parameter("resolution", format!("it is one of {}", Resolution::WORDS.join(", "))))?;
    let points_max = params.limit(POINTS, POINTS_MAX)?;
    let thin = thin(&params, resolution)?;
    let as_csv = match params.text("format") {
        None | Some("json") => false,
        Some("csv") => true,
        Some(_) => return Err(Problem::parameter("format", "it is json or csv")),
    };
    let question = |series| Question { series, from, to, resolution, points_max, thin, now };
    if let Some(numbers) = params.text("series").filter(|text| text.contains(',')) {
        if as_csv {
            return Err(Problem::parameter("series", "one series at a time is written as CSV"));
        }
        let questions = several(&api, numbers).await?.into_iter().map(question);
        let answers = questions.map(|question| {
            let api = &api;
            async move {
                match api.history.ask(&question).await {
                    Ok(answer) => OneOfSeveral::Found(Box::new(views::History::of(&question.series, &answer))),
                    Err(error) => OneOfSeveral::Failed(Failed { series: question.series.id, error: error.to_string() }),
                }
            }
        });
        let items = futures::stream::iter(answers).buffered(SERIES_AT_ONCE).collect().await;
        return Ok(Json(Answer::Several(Several { items })).into_response());
    }
    let question = question(one(&api, &params).await?);
    if as_csv {
        return super::download::history(&api, question).await;
    }
    let answer = api.history.ask(&question).await?;
    Ok(Json(Answer::One(Box::new(views::History::of(&question.series, &answer)))).into_response())
}

/// The series of a list like `1,7,12`.
async fn several(api: &Api, numbers: &str) -> Result<Vec<SeriesInfo>, Problem> {
    let known = api.directory.get().await?;
    let series = |number: &str| {
        let wrong = || Problem::parameter("series", "it is a number, or several with commas between them");
        let id = number.trim().parse().map(SeriesId).map_err(|_| wrong())?;
        known.one(id).cloned().ok_or_else(|| Problem::no_such("series", "series", &id.to_string()))
    };
    let all = numbers.split(',').map(series).collect::<Result<Vec<_>, _>>()?;
    if all.len() > SERIES_MAX {
        return Err(Problem::parameter("series", format!("at most {SERIES_MAX} at a time")));
    }
    Ok(all)
}

/// Readings brought down to a screen, when `pixels` says how wide it is.
fn thin(params: &Params, resolution: Resolution) -> Result<Option<Thin>, Problem> {
    let way = params.text("thin").map(|word| {
        let wrong = || Problem::parameter("thin", format!("it is one of {}", Way::WORDS.join(", ")));
        Way::parse(word).ok_or_else(wrong)
    });
    let way = way.transpose()?;
    let Some(pixels) = params.parsed::<u32>("pixels", "number of pixels")? else {
        return match way {
            Some(_) => Err(Problem::parameter("pixels", "it must be given with 'thin'")),
            None => Ok(None),
        };
    };
    if !(1..=PIXELS_MAX).contains(&pixels) {
        return Err(Problem::parameter("pixels", format!("1 to {PIXELS_MAX} are possible")));
    }
    if matches!(resolution, Resolution::Buckets(_)) {
        return Err(Problem::parameter("pixels", "it is for readings: with resolution raw or auto"));
    }
    Ok(Some(Thin { pixels, way: way.unwrap_or_default() }))
}

/// The one series that is meant: by its number, or by node and metric, with an empty channel unless one is given.
async fn one(api: &Api, params: &Params) -> Result<SeriesInfo, Problem> {
    let by_number = params.text("series").is_some();
    if !by_number && params.text("node").is_none() {
        return Err(Problem::parameter("series", "either 'series' or 'node' and 'metric' must be given"));
    }
    if !by_number && params.text("metric").is_none() {
        return Err(Problem::parameter("metric", "it must be given with 'node'"));
    }
    let (mut found, _) = chosen(api, params).await?;
    if !by_number && params.text("channel").is_none() {
        let channels: Vec<String> = found.iter().map(|series| format!("'{}'", series.key.channel)).collect();
        found.retain(|series| series.key.channel.is_empty());
        if found.is_empty() && !channels.is_empty() {
            let detail = format!("it must be given here, one of {}", channels.join(", "));
            return Err(Problem::parameter("channel", detail));
        }
    }
    let words = |names: &[&str]| {
        let given: Vec<String> = names.iter().filter_map(|n| Some(format!("{n}={}", params.text(n)?))).collect();
        given.join(" ")
    };
    let parameter = if by_number { "series" } else { "node" };
    let unknown = || Problem::no_such("series", parameter, &words(&["series", "node", "metric", "channel"]));
    found.into_iter().next().ok_or_else(unknown)
}
