//! What was set aside: listed, and by a person's decision released into its series or dropped.

use super::document::Conflict;
use super::entry::{author, known, said};
use super::parameters::{Aside, Change, Gateway, Page};
use super::params::{List, Params};
use super::routes::{Answered, ITEMS, ITEMS_MAX};
use super::{Api, Problem, views};
use crate::access::Principal;
use crate::tiers::warm::sqlite::QUARANTINE_ROWS_MAX;
use crate::tiers::{Audited, Flush, Quarantined, SeriesId, StoredReading};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::{Extension, Json};
use serde::Serialize;
use serde_json::{Value, json};
use shared::ids::GatewayId;
use std::collections::HashMap;
use utoipa::ToSchema;

/// Rows of one transaction.
const ROWS: usize = 20_000;

/// What was set aside
///
/// Readings that were not stored, and why: from the future, of a series that another gateway owns, impossible. The newest
/// first.
#[utoipa::path(get, path = "/api/v1/quarantine", operation_id = "quarantine", tag = "Operations", params(Gateway, Page::<ITEMS, ITEMS_MAX>),
    responses((status = 200, body = List<views::SetAside>, description = "The readings.")))]
pub(super) async fn list(State(api): State<Api>, params: Params) -> Answered<List<views::SetAside>> {
    let gateway = params.parsed::<GatewayId>("gateway", "gateway name")?;
    let page = params.page(ITEMS, ITEMS_MAX)?;
    let rows = api.sources.warm.quarantine(gateway.as_ref(), page.needed()).await?;
    Ok(Json(page.of(rows.iter().map(views::SetAside::of))))
}

/// What narrows the choice.
const CHOICE: &[&str] = &["gateway", "series", "because", "from", "to"];

/// What came of it.
#[derive(Serialize, ToSchema)]
#[schema(as = QuarantineDecision)]
pub(super) struct Decision {
    /// Nothing was changed: it was only asked what would be.
    dry: bool,
    /// Rows that fit what was asked.
    chosen: usize,
    /// Rows that were stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    released: Option<u64>,
    /// Rows that were thrown away.
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped: Option<u64>,
    /// Rows that stay, by reason.
    left: HashMap<&'static str, u64>,
}

/// Release what was set aside
///
/// Stores what fits, as far as its series is there now and it isn't in the future any more.
#[utoipa::path(post, path = "/api/v1/quarantine/release", operation_id = "release", tag = "Entry", params(Change, Gateway, Aside),
    responses((status = 200, body = Decision, description = "What was done."), Conflict))]
pub(super) async fn release(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    headers: HeaderMap,
    params: Params,
) -> Answered<Decision> {
    decide(&api, &who, &headers, params, "released").await
}

/// Drop what was set aside
///
/// Throws away what fits, for good.
#[utoipa::path(post, path = "/api/v1/quarantine/drop", tag = "Entry", params(Change, Gateway, Aside),
    responses((status = 200, body = Decision, description = "What was done."), Conflict))]
pub(super) async fn drop(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    headers: HeaderMap,
    params: Params,
) -> Answered<Decision> {
    decide(&api, &who, &headers, params, "dropped").await
}

async fn decide(api: &Api, who: &Principal, headers: &HeaderMap, params: Params, what: &str) -> Answered<Decision> {
    super::origin::same_origin(headers)?;
    let dry = params.flag("dry")?;
    let (who, reason) = (author(who, params.text("author"))?, said("reason", params.text("reason"))?);
    let chosen = chosen(api, &params).await?;
    let series: HashMap<String, SeriesId> =
        known(api).await?.into_values().map(|series| (series.key.to_string(), series.id)).collect();
    let now = (api.sources.now)();
    let latest = now.plus_micros(api.sources.future_max_us);
    let (mut left, mut done) = (HashMap::<&'static str, u64>::new(), 0_u64);
    for rows in chosen.chunks(ROWS) {
        let mut flush = Flush::default();
        for row in rows {
            if what == "released" {
                match series.get(&row.series) {
                    None => *left.entry("its series isn't there").or_default() += 1,
                    Some(_) if row.at > latest => *left.entry("it still is in the future").or_default() += 1,
                    Some(series) => {
                        flush.readings.push(StoredReading { series: *series, at: row.at, held: row.held });
                        flush.unquarantine.push(row.clone());
                    }
                }
            } else {
                flush.unquarantine.push(row.clone());
            }
        }
        let count = flush.unquarantine.len() as u64;
        done += count;
        if dry || count == 0 {
            continue;
        }
        let asked: serde_json::Map<String, Value> =
            CHOICE.iter().filter_map(|name| Some(((*name).to_owned(), json!(params.text(name)?)))).collect();
        let detail = json!({ "reason": reason, "rows": count, what: asked });
        flush.audit.push(Audited { at: now, who: who.clone(), what: "quarantine".into(), detail });
        (api.sources.write)(flush).await?;
    }
    let done = |of: &str| (of == what).then_some(done);
    Ok(Json(Decision { dry, chosen: chosen.len(), released: done("released"), dropped: done("dropped"), left }))
}

/// The rows that gateway, series, reason and time leave over.
async fn chosen(api: &Api, params: &Params) -> Result<Vec<Quarantined>, Problem> {
    let now = (api.sources.now)();
    let gateway = params.parsed::<GatewayId>("gateway", "gateway name")?;
    let (from, to) = (params.moment("from", now)?, params.moment("to", now)?);
    let mut rows = api.sources.warm.quarantine(gateway.as_ref(), QUARANTINE_ROWS_MAX).await?;
    rows.retain(|row| {
        params.text("series").is_none_or(|series| row.series == series)
            && params.text("because").is_none_or(|because| row.reason.starts_with(because))
            && from.is_none_or(|from| row.at >= from)
            && to.is_none_or(|to| row.at < to)
    });
    Ok(rows)
}
