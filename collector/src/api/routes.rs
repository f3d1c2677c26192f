//! The questions that can be asked.

use super::params::{Params, in_order};
use super::{Api, Problem, views};
use crate::access::Principal;
use crate::history::{PIXELS_MAX, POINTS_MAX, Question, Resolution, Thin, Way};
use crate::tiers::{Parked, SeriesId, SeriesInfo, TierError};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures::StreamExt;
use serde_json::{Value, json};
use shared::ids::{GatewayId, NodeId};
use std::collections::{BTreeMap, BTreeSet, HashMap};

type Answered = Result<Json<Value>, Problem>;

/// Items in a list when the request doesn't say how many.
pub(super) const ITEMS: u32 = 1_000;
/// Most items in a list.
pub(super) const ITEMS_MAX: u32 = 10_000;
/// Parked blocks that are looked at: each may have six kilobytes.
const PARKED_MAX: u32 = 2_000;
/// Points when the request doesn't say how many.
const POINTS: u32 = 2_000;
/// Most series whose history is asked for at once.
const SERIES_MAX: usize = 64;
/// Series of one request that are worked on at a time.
const SERIES_AT_ONCE: usize = 4;

/// `{"items": […], "truncated": false}`: the list, and whether there are more than were asked for.
pub(super) fn list(mut items: Vec<Value>, limit: u32) -> Json<Value> {
    let truncated = items.len() > limit as usize;
    items.truncate(limit as usize);
    Json(json!({ "items": items, "truncated": truncated }))
}

/// Always 200: the collector answers. `status` says whether all of it does; why not, to those it knows.
pub(super) async fn health(State(api): State<Api>, who: Option<Extension<Principal>>, params: Params) -> Answered {
    params.only(&[])?;
    let cold = async {
        match &api.sources.cold {
            Some(cold) => cold.state().await.map(Some),
            None => Ok(None),
        }
    };
    let (warm, hot, cold) =
        futures::join!(timed(api.sources.warm.state()), timed(api.sources.hot.state()), timed(cold));
    let troubles = (api.sources.troubles)();
    let ok = warm.0.is_ok() && hot.0.is_ok() && cold.0.is_ok() && troubles.is_empty();
    if who.is_none() {
        return Ok(Json(json!({ "status": if ok { "ok" } else { "degraded" } })));
    }
    let now = (api.sources.now)();
    Ok(Json(json!({
        "status": if ok { "ok" } else { "degraded" },
        "version": env!("CARGO_PKG_VERSION"),
        "now": now.to_string(),
        "uptime_s": now.since(api.started) / 1_000_000,
        "tiers": { "warm": tier(warm), "hot": tier(hot), "cold": tier(cold) },
        "troubles": troubles.iter().map(|(part, why)| json!({ "part": part, "error": why })).collect::<Vec<_>>(),
    })))
}

/// What came, and how long it took, milliseconds.
async fn timed<T>(call: impl Future<Output = Result<T, TierError>>) -> (Result<T, TierError>, f64) {
    let began = std::time::Instant::now();
    (call.await, began.elapsed().as_secs_f64() * 1e3)
}

fn tier<T: serde::Serialize>((state, ms): (Result<T, TierError>, f64)) -> Value {
    match state {
        Ok(state) => json!({ "ok": true, "answered_in_ms": ms, "state": state }),
        Err(error) => json!({ "ok": false, "answered_in_ms": ms, "error": error.to_string() }),
    }
}

pub(super) async fn nodes(State(api): State<Api>, params: Params) -> Answered {
    let params = params.only(&["limit"])?;
    let limit = params.limit(ITEMS, ITEMS_MAX)?;
    let mut nodes = BTreeMap::<&NodeId, (u32, BTreeSet<&str>)>::new();
    let known = api.directory.get().await?;
    for series in known.all() {
        let (count, metrics) = nodes.entry(&series.key.node).or_default();
        *count += 1;
        metrics.insert(&series.key.metric);
    }
    let view = |(node, (count, metrics))| {
        let mut view = json!({ "node": node, "series": count, "metrics": metrics });
        if let Some(place) = api.sources.places.get(node) {
            view["place"] = json!(place);
        }
        view
    };
    let Json(mut answer) = list(nodes.into_iter().map(view).collect(), limit);
    answer["degraded"] = json!(known.doubt.iter().collect::<Vec<_>>());
    Ok(Json(answer))
}

/// The series that node, metric, channel and series leave over, and what may be wrong with that.
pub(super) async fn chosen(api: &Api, params: &Params) -> Result<(Vec<SeriesInfo>, Option<String>), Problem> {
    let node = params.parsed::<NodeId>("node", "node name")?;
    let id = params.parsed::<u32>("series", "series number")?;
    let known = api.directory.get().await?;
    let fits = |series: &&SeriesInfo| {
        node.as_ref().is_none_or(|node| series.key.node == *node)
            && params.text("metric").is_none_or(|metric| series.key.metric == metric)
            && params.text("channel").is_none_or(|channel| series.key.channel == channel)
            && id.is_none_or(|id| series.id == SeriesId(id))
    };
    Ok((known.all().iter().filter(fits).cloned().collect(), known.doubt))
}

pub(super) async fn series(State(api): State<Api>, params: Params) -> Answered {
    let params = params.only(&["series", "node", "metric", "channel", "limit"])?;
    let limit = params.limit(ITEMS, ITEMS_MAX)?;
    let (series, doubt) = chosen(&api, &params).await?;
    let Json(mut answer) = list(series.iter().map(views::series).collect(), limit);
    answer["degraded"] = json!(doubt.iter().collect::<Vec<_>>());
    Ok(Json(answer))
}

pub(super) async fn latest(State(api): State<Api>, params: Params) -> Answered {
    let params = params.only(&["series", "node", "metric", "channel", "limit"])?;
    let limit = params.limit(ITEMS, ITEMS_MAX)?;
    let (series, doubt) = chosen(&api, &params).await?;
    let ids: Vec<SeriesId> = series.iter().map(|s| s.id).collect();
    let (readings, mut degraded) = api.history.latest(&ids).await?;
    degraded.extend(doubt);
    let readings: HashMap<SeriesId, _> = readings.into_iter().map(|r| (r.series, r)).collect();
    let now = (api.sources.now)();
    let items = series.iter().filter_map(|s| Some(views::latest(s, readings.get(&s.id)?, now))).collect();
    let Json(mut answer) = list(items, limit);
    answer["now"] = json!(now.to_string());
    answer["degraded"] = json!(degraded);
    Ok(Json(answer))
}

/// The past of one series; of several in one answer when `series` names more than one; as a file with `format=csv`.
pub(super) async fn history(State(api): State<Api>, params: Params) -> Result<Response, Problem> {
    let params = params.only(&[
        "series",
        "node",
        "metric",
        "channel",
        "from",
        "to",
        "resolution",
        "limit",
        "pixels",
        "thin",
        "format",
    ])?;
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
                    Ok(answer) => views::history(&question.series, &answer),
                    Err(error) => json!({ "series": question.series.id, "error": error.to_string() }),
                }
            }
        });
        let items: Vec<Value> = futures::stream::iter(answers).buffered(SERIES_AT_ONCE).collect().await;
        return Ok(Json(json!({ "items": items })).into_response());
    }
    let question = question(one(&api, &params).await?);
    if as_csv {
        return super::download::history(&api, question).await;
    }
    let answer = api.history.ask(&question).await?;
    Ok(Json(views::history(&question.series, &answer)).into_response())
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

pub(super) async fn gaps(State(api): State<Api>, params: Params) -> Answered {
    let params = params.only(&["gateway", "from", "to", "limit"])?;
    let now = (api.sources.now)();
    let gateway = params.parsed::<GatewayId>("gateway", "gateway name")?;
    let (from, to) = (params.moment("from", now)?, params.moment("to", now)?);
    let span = match (from, to) {
        (None, None) => None,
        (from, to) => {
            let earliest = shared::reading::Timestamp(i64::MIN);
            let latest = shared::reading::Timestamp(i64::MAX);
            Some((from.unwrap_or(earliest), to.unwrap_or(latest)))
        }
    };
    if let Some((from, to)) = span {
        in_order(from, to)?;
    }
    let limit = params.limit(ITEMS, ITEMS_MAX)?;
    let gaps = api.sources.warm.gaps(gateway.as_ref(), span, limit + 1).await?;
    Ok(list(gaps.iter().map(views::gap).collect(), limit))
}

pub(super) async fn gateways(State(api): State<Api>, params: Params) -> Answered {
    let params = params.only(&["limit"])?;
    let limit = params.limit(ITEMS, ITEMS_MAX)?;
    let gateways = api.sources.warm.gateways().await?;
    let view = |info| views::gateway(info, (api.sources.presence)(&info.gateway));
    Ok(list(gateways.iter().map(view).collect(), limit))
}

/// Blocks whose boot's clock isn't known, by boot, and between which moments it ran if it never learned the time.
pub(super) async fn parked(State(api): State<Api>, params: Params) -> Answered {
    let params = params.only(&["gateway", "limit"])?;
    let gateway = params.parsed::<GatewayId>("gateway", "gateway name")?;
    let limit = params.limit(ITEMS, ITEMS)?;
    let blocks = api.sources.warm.parked(gateway.as_ref(), None, PARKED_MAX).await?;
    let mut boots = BTreeMap::<_, Vec<Parked>>::new();
    let more = blocks.len() == PARKED_MAX as usize;
    for block in blocks {
        boots.entry((block.gateway.clone(), block.boot)).or_default().push(block);
    }
    let mut items = Vec::with_capacity(boots.len());
    for ((gateway, boot), blocks) in boots {
        let fix = api.sources.warm.clock_fix(&gateway, boot).await?;
        items.push(views::parked(&gateway, boot, &blocks, fix));
    }
    let Json(mut answer) = list(items, limit);
    answer["truncated"] = json!(more || answer["truncated"] == true);
    Ok(Json(answer))
}

pub(super) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], (api.sources.metrics)())
}
