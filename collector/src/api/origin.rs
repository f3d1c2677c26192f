//! A page of another site must not do anything through a person's browser, which names that site in `Origin`.

use super::Problem;
use axum::http::{HeaderMap, header};

/// Refuses what a page of another site asks. Programs name no origin.
pub(super) fn same_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let own = origin.split_once("://").map(|(_, host)| host);
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    if own.is_some() && own == host { Ok(()) } else { Err(Problem::origin(origin)) }
}
