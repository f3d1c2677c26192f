//! Rows of inboxes that could not be taken: listed, and by a person's decision let go.

use super::Api;
use super::document::Conflict;
use super::entry::{author, said};
use super::parameters::{Change, Page, Rejects};
use super::params::{List, Params};
use super::routes::{Answered, ITEMS, ITEMS_MAX};
use crate::access::Principal;
use crate::inbox::store::{InboxNews, Rejected};
use crate::tiers::{Audited, Flush};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::{Extension, Json};
use serde::Serialize;
use serde_json::json;
use shared::ids::GatewayId;
use utoipa::ToSchema;

/// Rows of one transaction.
const ROWS: usize = 2_000;

/// Rejected rows
///
/// Rows of inboxes that are no readings, and why; the newest first. They wait until somebody drops them.
#[utoipa::path(get, path = "/api/v1/inbox/rejects", tag = "Entry", params(Page::<ITEMS, ITEMS_MAX>),
    responses((status = 200, body = List<Rejected>, description = "The rows.")))]
pub(super) async fn rejects(State(api): State<Api>, params: Params) -> Answered<List<Rejected>> {
    let page = params.page(ITEMS, ITEMS_MAX)?;
    let rows = api.sources.warm.inbox().rejected(page.needed()).await?;
    Ok(Json(page.of(rows)))
}

/// What came of it.
#[derive(Serialize, ToSchema)]
#[schema(as = InboxDecision)]
pub(super) struct Dropped {
    /// Nothing was changed: it was only asked what would be.
    dry: bool,
    /// Rows that were let go.
    dropped: usize,
}

/// Drop rejected rows
///
/// Those that fit are told no more. Ours are gone then; those of other producers' tables stay there, and are known.
#[utoipa::path(post, path = "/api/v1/inbox/drop", operation_id = "drop_rejects", tag = "Entry", params(Change, Rejects),
    responses((status = 200, body = Dropped, description = "What was done."), Conflict))]
pub(super) async fn drop(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    headers: HeaderMap,
    params: Params,
) -> Answered<Dropped> {
    super::origin::same_origin(&headers)?;
    let dry = params.flag("dry")?;
    let (who, reason) = (author(&who, params.text("author"))?, said("reason", params.text("reason"))?);
    let (source, because) = (params.parsed::<GatewayId>("source", "producer's name")?, params.text("because"));
    let mut rows = api.sources.warm.inbox().rejected(u32::MAX).await?;
    rows.retain(|row| {
        source.as_ref().is_none_or(|source| row.source == *source)
            && because.is_none_or(|because| row.reason.starts_with(because))
    });
    for some in rows.chunks(ROWS).filter(|_| !dry) {
        let chosen = json!({ "source": source, "because": because });
        let detail = json!({ "reason": reason, "rows": some.len(), "dropped": chosen });
        let audit = vec![Audited { at: (api.sources.now)(), who: who.clone(), what: "inbox".into(), detail }];
        let inbox = InboxNews { dropped: some.to_vec(), ..InboxNews::default() };
        (api.sources.write)(Flush { inbox, audit, ..Flush::default() }).await?;
    }
    Ok(Json(Dropped { dry, dropped: rows.len() }))
}
