//! What is out of the ordinary, and what people decide about it.

use super::document::{Conflict, NotFound};
use super::entry::{author, said};
use super::extract::{Named as Path, Sent};
use super::parameters::{Anomalies as OfAnomalies, Named, NewestPage, Series, Touching};
use super::params::Params;
use super::routes::{Answered, DoubtfulList, ITEMS, ITEMS_MAX, chosen};
use super::{Api, Problem};
use crate::access::Principal;
use crate::analytics::anomaly::{Kind, Severity};
use crate::analytics::store::{Action, Anomaly, Judgement, Note, State as Standing, Wanted};
use crate::tiers::{Audited, Flush, SeriesId, SeriesInfo};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::ids::NodeId;
use shared::reading::Timestamp;
use std::collections::HashMap;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::{IntoParams, ToSchema};

/// Something out of the ordinary.
#[derive(Serialize, ToSchema)]
#[schema(as = Anomaly)]
pub(in crate::api) struct View {
    /// Its number.
    id: i64,
    series: SeriesId,
    /// The series' names; null when it isn't there any more.
    node: Option<NodeId>,
    metric: Option<String>,
    channel: Option<String>,
    unit: Option<String>,
    /// What is wrong.
    kind: Kind,
    /// Since when.
    start: Timestamp,
    /// Up to when it was seen.
    last: Timestamp,
    /// When it was over; null while it goes on.
    end: Option<Timestamp>,
    /// How bad it is at the worst.
    severity: Severity,
    /// What was expected then, in the series' unit.
    expected: Option<f64>,
    /// What was seen then.
    seen: Option<f64>,
    /// In words.
    detail: String,
    /// How far people are with it.
    state: Standing,
    /// A person says that it is how things are now.
    normal: bool,
    /// What people said about it, oldest first.
    notes: Vec<Note>,
}

impl View {
    pub(in crate::api) fn of(series: Option<&SeriesInfo>, one: Anomaly) -> Self {
        Self {
            id: one.number,
            series: one.series,
            node: series.map(|series| series.key.node.clone()),
            metric: series.map(|series| series.key.metric.clone()),
            channel: series.map(|series| series.key.channel.clone()),
            unit: series.map(|series| series.unit.clone()),
            kind: one.kind,
            start: one.start,
            last: one.last,
            end: one.end,
            severity: one.severity,
            expected: one.expected,
            seen: one.seen,
            detail: one.detail,
            state: one.state,
            normal: one.normal,
            notes: one.notes,
        }
    }
}

/// Anomalies
///
/// What is out of the ordinary, the latest first; and what people said about it. While the warm tier is away, those that
/// aren't closed.
#[utoipa::path(get, path = "/api/v1/anomalies", operation_id = "anomalies", tag = "Analytics",
    params(OfAnomalies, Series, Named, Touching, NewestPage::<ITEMS, ITEMS_MAX>),
    responses((status = 200, body = DoubtfulList<View>, description = "The anomalies.")))]
pub(super) async fn list(State(api): State<Api>, params: Params) -> Answered<DoubtfulList<View>> {
    let now = (api.sources.now)();
    let page = params.newest::<2>(ITEMS, ITEMS_MAX)?;
    let one_of = |name: &str, known: String| Problem::parameter(name, format!("it is one of {known}"));
    let kinds = || Kind::ALL.map(Kind::as_str).join(", ");
    let kind = params.text("kind").map(|text| Kind::parse(text).ok_or_else(|| one_of("kind", kinds())));
    let states = || "open, acknowledged, closed".to_owned();
    let state = params.text("state").map(|text| Standing::parse(text).ok_or_else(|| one_of("state", states())));
    let severities = || Severity::ALL.map(Severity::as_str).join(", ");
    let severity = params.text("severity");
    let severity = severity.map(|text| Severity::parse(text).ok_or_else(|| one_of("severity", severities())));
    let (series, doubt) = chosen(&api, &params).await?;
    let all = Wanted::all(page.needed());
    let some = ["series", "node", "metric", "channel"].iter().any(|name| params.text(name).is_some());
    let wanted = Wanted {
        series: some.then(|| series.iter().map(|series| series.id).collect()),
        kind: kind.transpose()?,
        state: state.transpose()?,
        severity: severity.transpose()?,
        before: page.behind.map(|[start, number]| (Timestamp(start), number)),
        from: params.moment("from", now)?.unwrap_or(all.from),
        to: params.moment("to", now)?.unwrap_or(all.to),
        ..all
    };
    let (found, lacks) = api.sources.anomalies.find(&wanted).await?;
    let series: HashMap<SeriesId, &SeriesInfo> = series.iter().map(|series| (series.id, series)).collect();
    let view = |one: Anomaly| View::of(series.get(&one.series).copied(), one);
    let degraded = doubt.into_iter().chain(lacks).collect();
    let list = page.of(found.into_iter().map(view), |one| [one.start.0, one.id]);
    Ok(Json(DoubtfulList { list, degraded }))
}

/// An anomaly
///
/// With what people said about it.
#[utoipa::path(get, path = "/api/v1/anomalies/{id}", operation_id = "anomaly", tag = "Analytics", params(Number),
    responses((status = 200, body = View, description = "The anomaly."), NotFound))]
pub(super) async fn one(State(api): State<Api>, Path(id): Path<i64>) -> Answered<View> {
    shown(&api, find(&api, id).await?).await
}

/// What is said about an anomaly.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AnomalyComment, example = json!({ "comment": "a burst in Via Roma, closed off" }))]
struct Form {
    /// Who says it; only where nobody has to log in.
    #[schema(max_length = 500)]
    author: Option<String>,
    /// In words.
    #[schema(min_length = 1, max_length = 500)]
    comment: String,
    /// With a close: it is how things are now, and teaches what is usual.
    #[serde(default)]
    normal: bool,
}

/// An anomaly's number, in the path.
struct Number;

impl IntoParams for Number {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(i64::MAX));
        let number = ParameterBuilder::new().name("id").parameter_in(ParameterIn::Path).schema(Some(number));
        vec![number.description(Some("The anomaly's number.")).example(Some(json!(1))).required(Required::True).build()]
    }
}

/// Acknowledge an anomaly
///
/// Somebody looks after it.
#[utoipa::path(post, path = "/api/v1/anomalies/{id}/acknowledge", tag = "Analytics", params(Number), request_body = Form,
    responses((status = 200, body = View, description = "The anomaly as it is now."), NotFound, Conflict))]
pub(super) async fn acknowledge(
    api: State<Api>,
    who: Extension<Principal>,
    id: Path<i64>,
    headers: HeaderMap,
    body: Sent,
) -> Answered<View> {
    judge(&api, &who, Action::Acknowledge, id.0, &headers, &body).await
}

/// Comment on an anomaly
///
/// Something is to be said about it.
#[utoipa::path(post, path = "/api/v1/anomalies/{id}/comment", tag = "Analytics", params(Number), request_body = Form,
    responses((status = 200, body = View, description = "The anomaly as it is now."), NotFound, Conflict))]
pub(super) async fn comment(
    api: State<Api>,
    who: Extension<Principal>,
    id: Path<i64>,
    headers: HeaderMap,
    body: Sent,
) -> Answered<View> {
    judge(&api, &who, Action::Comment, id.0, &headers, &body).await
}

/// Close an anomaly
///
/// It is dealt with; with `normal` it is how things are now, and teaches what is usual.
#[utoipa::path(post, path = "/api/v1/anomalies/{id}/close", tag = "Analytics", params(Number), request_body = Form,
    responses((status = 200, body = View, description = "The anomaly as it is now."), NotFound, Conflict))]
pub(super) async fn close(
    api: State<Api>,
    who: Extension<Principal>,
    id: Path<i64>,
    headers: HeaderMap,
    body: Sent,
) -> Answered<View> {
    judge(&api, &who, Action::Close, id.0, &headers, &body).await
}

async fn judge(api: &Api, who: &Principal, what: Action, id: i64, headers: &HeaderMap, body: &Sent) -> Answered<View> {
    super::origin::same_origin(headers)?;
    let form: Form = body.json()?;
    let who = author(who, form.author.as_deref())?;
    let comment = said("comment", Some(&form.comment))?.to_owned();
    if form.normal && what != Action::Close {
        return Err(Problem::body("normal: only what is closed can be how things are now"));
    }
    let already = |state: Standing| Problem::conflict(format!("anomaly {id} is {} already", state.as_str()));
    let standing = find(api, id).await?.state;
    let can = match what {
        Action::Comment => true,
        Action::Acknowledge => standing == Standing::Open,
        Action::Close => standing != Standing::Closed,
    };
    if !can {
        return Err(already(standing));
    }
    let at = (api.sources.now)();
    let detail = json!({ "anomaly": id, "action": what, "comment": comment, "normal": form.normal });
    let audit = vec![Audited { at, who: who.clone(), what: "anomaly".into(), detail }];
    let judgements = vec![Judgement { anomaly: id, note: Note { at, who, what, comment }, normal: form.normal }];
    let flush = Flush { judgements, audit, ..Flush::default() };
    let done = api.sources.anomalies.change((api.sources.write)(flush)).await?;
    let one = find(api, id).await?;
    // Somebody else did at the same time.
    if done.too_late.is_some() {
        return Err(already(one.state));
    }
    shown(api, one).await
}

async fn shown(api: &Api, one: Anomaly) -> Answered<View> {
    let series = api.sources.warm.series(None).await?;
    let series = series.iter().find(|series| series.id == one.series);
    Ok(Json(View::of(series, one)))
}

async fn find(api: &Api, id: i64) -> Result<Anomaly, Problem> {
    let wanted = Wanted { number: Some(id), ..Wanted::all(1) };
    let found = api.sources.warm.anomalies().find_anomalies(&wanted).await?.pop();
    found.ok_or_else(|| Problem::unknown(format!("there is no anomaly {id}")))
}
