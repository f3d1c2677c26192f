//! What is out of the ordinary, and what people decide about it.

use super::entry::{author, said};
use super::params::Params;
use super::{Api, Problem, routes, views};
use crate::access::Principal;
use crate::analytics::anomaly::Kind;
use crate::analytics::store::{Action, Anomaly, Judgement, Note, State as Standing, Wanted};
use crate::tiers::{Audited, Flush, SeriesId, SeriesInfo};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;

const KNOWN: &[&str] = &["state", "kind", "series", "node", "metric", "channel", "from", "to", "limit"];

pub(super) async fn list(State(api): State<Api>, params: Params) -> Result<Json<Value>, Problem> {
    let params = params.only(KNOWN)?;
    let now = (api.sources.now)();
    let limit = params.limit(routes::ITEMS, routes::ITEMS_MAX)?;
    let one_of = |name: &str, known: String| Problem::parameter(name, format!("it is one of {known}"));
    let kinds = || Kind::ALL.map(Kind::as_str).join(", ");
    let kind = params.text("kind").map(|text| Kind::parse(text).ok_or_else(|| one_of("kind", kinds())));
    let states = || "open, acknowledged, closed".to_owned();
    let state = params.text("state").map(|text| Standing::parse(text).ok_or_else(|| one_of("state", states())));
    let (series, _) = routes::chosen(&api, &params).await?;
    let all = Wanted::all(limit + 1);
    let chosen = ["series", "node", "metric", "channel"].iter().any(|name| params.text(name).is_some());
    let wanted = Wanted {
        series: chosen.then(|| series.iter().map(|series| series.id).collect()),
        kind: kind.transpose()?,
        state: state.transpose()?,
        from: params.moment("from", now)?.unwrap_or(all.from),
        to: params.moment("to", now)?.unwrap_or(all.to),
        ..all
    };
    let found = api.sources.warm.anomalies().find_anomalies(&wanted).await?;
    let series: HashMap<SeriesId, &SeriesInfo> = series.iter().map(|series| (series.id, series)).collect();
    let items = found.iter().filter_map(|one| Some(view(series.get(&one.series)?, one))).collect();
    Ok(routes::list(items, limit))
}

fn view(series: &SeriesInfo, one: &Anomaly) -> Value {
    let mut view = views::name(series);
    // The kind is that of the anomaly here.
    let fields = [
        ("id", json!(one.number)),
        ("kind", json!(one.kind)),
        ("start", json!(one.start)),
        ("last", json!(one.last)),
        ("end", json!(one.end)),
        ("severity", json!(one.severity)),
        ("expected", json!(one.expected)),
        ("seen", json!(one.seen)),
        ("detail", json!(one.detail)),
        ("state", json!(one.state)),
        ("normal", json!(one.normal)),
        ("notes", json!(one.notes)),
    ];
    view.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    Value::Object(view)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    author: Option<String>,
    comment: String,
    /// With a close: it is how things are now, and teaches what is usual.
    #[serde(default)]
    normal: bool,
}

pub(super) async fn acknowledge(
    api: State<Api>,
    who: Extension<Principal>,
    id: Path<i64>,
    headers: HeaderMap,
    params: Params,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    judge(&api, &who, Action::Acknowledge, *id, &headers, params, &body).await
}

pub(super) async fn comment(
    api: State<Api>,
    who: Extension<Principal>,
    id: Path<i64>,
    headers: HeaderMap,
    params: Params,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    judge(&api, &who, Action::Comment, *id, &headers, params, &body).await
}

pub(super) async fn close(
    api: State<Api>,
    who: Extension<Principal>,
    id: Path<i64>,
    headers: HeaderMap,
    params: Params,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    judge(&api, &who, Action::Close, *id, &headers, params, &body).await
}

async fn judge(
    api: &Api,
    who: &Principal,
    what: Action,
    id: i64,
    headers: &HeaderMap,
    params: Params,
    body: &[u8],
) -> Result<Json<Value>, Problem> {
    params.only(&[])?;
    super::origin::same_origin(headers)?;
    let form: Form = serde_json::from_slice(body).map_err(|error| Problem::body(format!("the body: {error}")))?;
    let who = author(who, form.author.as_deref())?;
    let comment = said("comment", Some(&form.comment))?.to_owned();
    if form.normal && what != Action::Close {
        return Err(Problem::body("normal: only what is closed can be how things are now"));
    }
    let standing = find(api, id).await?.state;
    let can = match what {
        Action::Comment => true,
        Action::Acknowledge => standing == Standing::Open,
        Action::Close => standing != Standing::Closed,
    };
    if !can {
        return Err(Problem::conflict(format!("anomaly {id} is {} already", standing.as_str())));
    }
    let at = (api.sources.now)();
    let detail = json!({ "anomaly": id, "action": what, "comment": comment, "normal": form.normal });
    let audit = vec![Audited { at, who: who.clone(), what: "anomaly".into(), detail }];
    let judgements = vec![Judgement { anomaly: id, note: Note { at, who, what, comment }, normal: form.normal }];
    (api.sources.write)(Flush { judgements, audit, ..Flush::default() }).await?;
    let one = find(api, id).await?;
    let series = api.sources.warm.series(None).await?;
    let series = series.iter().find(|series| series.id == one.series);
    Ok(Json(series.map_or_else(|| json!(one), |series| view(series, &one))))
}

async fn find(api: &Api, id: i64) -> Result<Anomaly, Problem> {
    let wanted = Wanted { number: Some(id), ..Wanted::all(1) };
    let found = api.sources.warm.anomalies().find_anomalies(&wanted).await?.pop();
    found.ok_or_else(|| Problem::unknown(format!("there is no anomaly {id}")))
}
