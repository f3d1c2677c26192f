//! How things are: nodes, series, newest values, and the collector itself.

use super::parameters::{Named, Page, Series as OfSeries};
use super::params::{List, Params};
use super::{Api, Problem, etag, freshness, views};
use crate::access::Principal;
use crate::alerts;
use crate::analytics::anomaly::Severity;
use crate::config::Place;
use crate::costs::{Costs, Use};
use crate::etl::store::{self, JobRun};
use crate::tiers::{ColdState, HotState, SeriesId, SeriesInfo, TierError, WarmState};
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use serde::Serialize;
use shared::ids::NodeId;
use shared::reading::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash as _;
use utoipa::ToSchema;

pub(super) type Answered<T> = Result<Json<T>, Problem>;

/// Items in a list when the request doesn't say how many.
pub(super) const ITEMS: u32 = 1_000;
/// Most items in a list.
pub(super) const ITEMS_MAX: u32 = 10_000;

/// How the collector is. Besides `status` it is for those it knows.
#[derive(Default, Serialize, ToSchema)]
pub(super) struct Health {
    /// Whether all of it works.
    status: Status,
    /// The program's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    /// The time by its clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    now: Option<Timestamp>,
    /// Seconds since it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime_s: Option<i64>,
    /// How its tiers are.
    #[serde(skip_serializing_if = "Option::is_none")]
    tiers: Option<Tiers>,
    /// How the last run of each job ended, by any collector; empty while the warm tier can't say.
    #[serde(skip_serializing_if = "Option::is_none")]
    etl_jobs: Option<Vec<Ended>>,
    /// What can't go on at the moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    troubles: Option<Vec<Trouble>>,
}

/// How a run ended.
#[derive(Serialize, ToSchema)]
#[schema(as = EndedRun)]
struct Ended {
    job: &'static str,
    status: store::Status,
    finished_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Default, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = HealthStatus)]
enum Status {
    #[default]
    Ok,
    Degraded,
}

/// How the tiers are.
#[derive(Serialize, ToSchema)]
struct Tiers {
    warm: Tier<WarmState>,
    hot: Tier<HotState>,
    cold: Tier<Option<ColdState>>,
}

/// How a tier is.
#[derive(Serialize, ToSchema)]
struct Tier<T> {
    /// It answers.
    ok: bool,
    /// And how quickly, milliseconds.
    answered_in_ms: f64,
    /// What it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<T>,
    /// Why it doesn't answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What can't go on.
#[derive(Serialize, ToSchema)]
struct Trouble {
    /// Which part, or which job failed the last time.
    part: &'static str,
    /// How bad it is.
    severity: Severity,
    /// Why.
    error: String,
}

/// How the collector is
///
/// Always 200 when it answers at all; `status` says whether all of it does. Why not is said to those it knows.
#[utoipa::path(get, path = "/api/v1/health", tag = "Operations", responses((status = 200, body = Health, description = "It lives.")))]
pub(super) async fn health(State(api): State<Api>, who: Option<Extension<Principal>>) -> Answered<Health> {
    let cold = async {
        match &api.sources.cold {
            Some(cold) => cold.state().await.map(Some),
            None => Ok(None),
        }
    };
    let (warm, hot, cold, last) = futures::join!(
        timed(api.sources.warm.state()),
        timed(api.sources.hot.state()),
        timed(cold),
        api.sources.jobs.last()
    );
    let mut raised = (api.sources.troubles)();
    raised.retain(|(part, _)| hot.ok || *part != "hot"); // that it is away is said above
    // While the warm tier is away, which is said above, nobody knows.
    let last = last.unwrap_or_default();
    let ended = |(job, run): &(&'static str, JobRun)| Ended { job, status: run.status, finished_at: run.finished_at };
    let etl_jobs = last.iter().map(ended).collect();
    let troubles = troubles(raised, last.into_iter().filter(|(_, run)| run.status == store::Status::Failed));
    let ok = warm.ok && hot.ok && cold.ok && troubles.is_empty();
    let status = if ok { Status::Ok } else { Status::Degraded };
    if who.is_none() {
        return Ok(Json(Health { status, ..Health::default() }));
    }
    let now = (api.sources.now)();
    Ok(Json(Health {
        status,
        version: Some(env!("CARGO_PKG_VERSION")),
        now: Some(now),
        uptime_s: Some(now.since(api.started) / 1_000_000),
        tiers: Some(Tiers { warm, hot, cold }),
        etl_jobs: Some(etl_jobs),
        troubles: Some(troubles),
    }))
}

/// What can't go on, and the jobs that failed, of which nothing was said yet.
fn troubles(raised: Vec<(&'static str, String)>, failed: impl Iterator<Item = (&'static str, JobRun)>) -> Vec<Trouble> {
    let trouble = |(part, error)| Trouble { part, severity: alerts::severity(part), error };
    let mut all: Vec<Trouble> = raised.into_iter().map(trouble).collect();
    for (part, run) in failed {
        if !all.iter().any(|trouble| trouble.part == part) {
            let error = run.error.unwrap_or_else(|| "its last run failed".into());
            all.push(Trouble { part, severity: Severity::Warning, error });
        }
    }
    all
}

/// Asks a tier how it is.
async fn timed<T>(call: impl Future<Output = Result<T, TierError>>) -> Tier<T> {
    let began = std::time::Instant::now();
    let came = call.await;
    let answered_in_ms = began.elapsed().as_secs_f64() * 1e3;
    match came {
        Ok(state) => Tier { ok: true, answered_in_ms, state: Some(state), error: None },
        Err(error) => Tier { ok: false, answered_in_ms, state: None, error: Some(error.to_string()) },
    }
}

/// What it costs
///
/// In a month, by the prices of the configuration, against keeping everything in BigQuery and asking it there.
#[utoipa::path(get, path = "/api/v1/costs", tag = "Operations",
    responses((status = 200, body = Costs, description = "The costs of a month.")))]
pub(super) async fn costs(State(api): State<Api>) -> Answered<Costs> {
    let cold = async {
        match &api.sources.cold {
            Some(cold) => cold.state().await.map(|state| state.bytes),
            None => Ok(None),
        }
    };
    let (warm, cold) = futures::try_join!(api.sources.warm.state(), cold)?;
    let used = Use {
        warm_bytes: warm.bytes.unwrap_or(0),
        cold_bytes: cold.unwrap_or(0),
        questions: questions(&(api.sources.metrics)()),
        seconds: (api.sources.now)().since(api.started) as f64 / 1e6,
    };
    Ok(Json(api.sources.paid.costs(&used)))
}

/// How many questions history has answered, by its own metric.
fn questions(metrics: &str) -> u64 {
    let count = format!("{}_count", crate::history::SECONDS);
    let counts = metrics.lines().filter(|line| line.starts_with(&count));
    counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

/// A list, and what may be wrong with it.
#[derive(Serialize, ToSchema)]
pub(super) struct DoubtfulList<T> {
    #[serde(flatten)]
    pub(super) list: List<T>,
    /// What may be missing, in words; empty when nothing is.
    pub(super) degraded: Vec<String>,
}

/// A node.
#[derive(Serialize, ToSchema)]
pub(super) struct Node {
    /// Its name.
    node: NodeId,
    /// How many series it has.
    series: u32,
    /// What is measured there.
    metrics: BTreeSet<String>,
    /// What the configuration says about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
}

/// Nodes
///
/// Every place where something is measured, by name.
#[utoipa::path(get, path = "/api/v1/nodes", tag = "Readings", params(Page::<ITEMS, ITEMS_MAX>),
    responses((status = 200, body = DoubtfulList<Node>, description = "The nodes.")))]
pub(super) async fn nodes(State(api): State<Api>, params: Params) -> Answered<DoubtfulList<Node>> {
    let page = params.page(ITEMS, ITEMS_MAX)?;
    let mut nodes = BTreeMap::<&NodeId, (u32, BTreeSet<String>)>::new();
    let known = api.directory.get().await?;
    for series in known.all() {
        let (count, metrics) = nodes.entry(&series.key.node).or_default();
        *count += 1;
        metrics.insert(series.key.metric.clone());
    }
    let place = |node: &NodeId| api.sources.places.get(node).cloned();
    let view =
        |(node, (series, metrics)): (&NodeId, _)| Node { node: node.clone(), series, metrics, place: place(node) };
    Ok(Json(DoubtfulList { list: page.of(nodes.into_iter().map(view)), degraded: known.doubt.into_iter().collect() }))
}

/// Whether node, metric, channel and series leave a series over.
fn choice(params: &Params) -> Result<impl Fn(&SeriesInfo) -> bool, Problem> {
    let node = params.parsed::<NodeId>("node", "node name")?;
    let id = params.parsed::<u32>("series", "series number")?;
    Ok(move |series: &SeriesInfo| {
        node.as_ref().is_none_or(|node| series.key.node == *node)
            && params.text("metric").is_none_or(|metric| series.key.metric == metric)
            && params.text("channel").is_none_or(|channel| series.key.channel == channel)
            && id.is_none_or(|id| series.id == SeriesId(id))
    })
}

/// The series that node, metric, channel and series leave over, and what may be wrong with that.
pub(super) async fn chosen(api: &Api, params: &Params) -> Result<(Vec<SeriesInfo>, Option<String>), Problem> {
    let fits = choice(params)?;
    let known = api.directory.get().await?;
    Ok((known.all().iter().filter(|series| fits(series)).cloned().collect(), known.doubt))
}

/// Series
///
/// What is measured: node, metric and channel, with unit, kind, and how often a value comes.
#[utoipa::path(get, path = "/api/v1/series", tag = "Readings", params(OfSeries, Named, Page::<ITEMS, ITEMS_MAX>),
    responses((status = 200, body = DoubtfulList<views::Series>, description = "The series.")))]
pub(super) async fn series(State(api): State<Api>, params: Params) -> Answered<DoubtfulList<views::Series>> {
    let page = params.page(ITEMS, ITEMS_MAX)?;
    let (series, doubt) = chosen(&api, &params).await?;
    let list = page.of(series.iter().map(views::Series::of));
    Ok(Json(DoubtfulList { list, degraded: doubt.into_iter().collect() }))
}

/// Newest values.
#[derive(Serialize, ToSchema)]
pub(super) struct Newest {
    #[serde(flatten)]
    list: DoubtfulList<views::Latest>,
    /// The time by the collector's clock.
    now: Timestamp,
    /// Of the names of all series.
    #[serde(skip)]
    names: u64,
}

impl Newest {
    /// What it is known by: the time goes on, and is nothing new.
    fn tag(&self) -> String {
        let DoubtfulList { list, degraded } = &self.list;
        etag::of(|hasher| {
            (self.names, list.truncated, degraded).hash(hasher);
            list.items.iter().for_each(|item| item.lasting(hasher));
        })
    }
}

/// The newest values that are asked for.
pub(super) async fn newest(State(api): State<Api>, params: Params) -> Answered<Newest> {
    let page = params.page(ITEMS, ITEMS_MAX)?;
    let fits = choice(&params)?;
    let known = api.directory.get().await?; // thousands, which are not to be copied
    let series: Vec<_> = known.named().filter(|(series, _)| fits(series)).collect();
    let ids: Vec<SeriesId> = series.iter().map(|(series, _)| series.id).collect();
    let (readings, mut degraded) = api.history.latest(&ids).await?;
    degraded.extend(known.doubt.clone());
    let now = (api.sources.now)();
    let mut readings = readings.iter().peekable(); // in the order of `ids`
    let all = series.iter().filter_map(|named| {
        let reading = readings.next_if(|reading| reading.series == named.0.id)?;
        Some(views::Latest::of(*named, reading, now))
    });
    Ok(Json(Newest { list: DoubtfulList { list: page.of(all), degraded }, now, names: known.tag }))
}

/// Newest values
///
/// The newest reading of each series that has one, and whether it still says anything about now. As they arrive they come
/// by WebSocket: see `/api/v1/live`. For its `ETag` neither `now` nor `age_s` counts: with 304 they are in the header `Date`,
/// and since `at`.
#[utoipa::path(get, path = "/api/v1/latest", tag = "Readings", params(OfSeries, Named, Page::<ITEMS, ITEMS_MAX>),
    responses((status = 200, body = Newest, description = "The newest values.")))]
pub(super) async fn latest(api: State<Api>, params: Params) -> Result<impl IntoResponse, Problem> {
    let newest = newest(api, params).await?;
    Ok(([(header::ETAG, newest.0.tag())], newest))
}

/// Figures for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "Operations",
    responses((status = 200, body = String, content_type = "text/plain; version=0.0.4", description = "The figures.")))]
pub(super) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    let text = (api.sources.metrics)() + &freshness::figures(&api).await;
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
