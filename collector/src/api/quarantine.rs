//! What was set aside: listed, and by a person's decision released into its series or dropped.

use super::entry::{author, known, said};
use super::params::Params;
use super::{Api, Problem, routes, views};
use crate::access::Principal;
use crate::tiers::warm::sqlite::QUARANTINE_ROWS_MAX;
use crate::tiers::{Audited, Flush, Quarantined, SeriesId, StoredReading};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::{Extension, Json};
use serde_json::{Value, json};
use shared::ids::GatewayId;
use std::collections::HashMap;

/// Rows of one transaction.
const ROWS: usize = 20_000;

pub(super) async fn list(State(api): State<Api>, params: Params) -> Result<Json<Value>, Problem> {
    let params = params.only(&["gateway", "limit"])?;
    let gateway = params.parsed::<GatewayId>("gateway", "gateway name")?;
    let limit = params.limit(routes::ITEMS, routes::ITEMS_MAX)?;
    let rows = api.sources.warm.quarantine(gateway.as_ref(), limit + 1).await?;
    Ok(routes::list(rows.iter().map(views::quarantined).collect(), limit))
}

const PARAMETERS: &[&str] = &["author", "reason", "gateway", "series", "because", "from", "to", "dry"];

/// Stores what fits: rows of series that are there now and that aren't in the future any more.
pub(super) async fn release(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    headers: HeaderMap,
    params: Params,
) -> Result<Json<Value>, Problem> {
    decide(&api, &who, &headers, params, "released").await
}

/// Throws away what fits.
pub(super) async fn drop(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    headers: HeaderMap,
    params: Params,
) -> Result<Json<Value>, Problem> {
    decide(&api, &who, &headers, params, "dropped").await
}

async fn decide(
    api: &Api,
    who: &Principal,
    headers: &HeaderMap,
    params: Params,
    what: &str,
) -> Result<Json<Value>, Problem> {
    let params = params.only(PARAMETERS)?;
    super::origin::same_origin(headers)?;
    let dry = params.flag("dry")?;
    let (who, reason) = (author(who, params.text("author"))?, said("reason", params.text("reason"))?);
    let chosen = chosen(api, &params).await?;
    let series: HashMap<String, SeriesId> =
        known(api).await?.into_values().map(|series| (series.key.to_string(), series.id)).collect();
    let now = (api.sources.now)();
    let latest = now.plus_micros(api.sources.future_max_us);
    let (mut left, mut done) = (HashMap::<&str, u64>::new(), 0_u64);
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
        let names = PARAMETERS.iter().filter(|name| !["author", "reason", "dry"].contains(name));
        let asked: serde_json::Map<String, Value> =
            names.filter_map(|name| Some(((*name).to_owned(), json!(params.text(name)?)))).collect();
        let detail = json!({ "reason": reason, "rows": count, what: asked });
        flush.audit.push(Audited { at: now, who: who.clone(), what: "quarantine".into(), detail });
        (api.sources.write)(flush).await?;
    }
    Ok(Json(json!({ "dry": dry, "chosen": chosen.len(), what: done, "left": left })))
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
