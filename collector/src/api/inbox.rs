//! Rows of inboxes that could not be taken.

use super::Api;
use super::parameters::Page;
use super::params::{List, Params};
use super::routes::{Answered, ITEMS, ITEMS_MAX};
use crate::inbox::store::Rejected;
use axum::Json;
use axum::extract::State;

/// Rejected rows
///
/// Rows of inboxes that are no readings, and why; the newest first.
#[utoipa::path(get, path = "/api/v1/inbox/rejects", tag = "Entry", params(Page::<ITEMS, ITEMS_MAX>),
    responses((status = 200, body = List<Rejected>, description = "The rows.")))]
pub(super) async fn rejects(State(api): State<Api>, params: Params) -> Answered<List<Rejected>> {
    let page = params.page(ITEMS, ITEMS_MAX)?;
    let rows = api.sources.warm.inbox().rejected(page.needed()).await?;
    Ok(Json(page.of(rows)))
}
