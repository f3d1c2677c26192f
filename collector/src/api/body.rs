//! What a request sends is read before it has a turn: whoever is slow holds up nobody else. How much and how long depends on
//! who sends it, and there are only so many large ones at a time.

use super::entry::BODY_BYTES_MAX;
use super::{Api, Problem, TURN_WITHIN};
use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::http::header;
use bytes::BytesMut;
use futures::StreamExt as _;
use std::time::Duration;
use tokio::sync::SemaphorePermit;

/// Most bytes of somebody who isn't known: a name and a password.
pub(super) const STRANGERS_MAX: usize = 2_000;
/// What is longer, or may be, is large.
const LARGE: u64 = 64 << 10;
/// Most large ones at a time.
pub(super) const LARGE_MAX: usize = 16;
/// How long one may take to come.
const WITHIN: Duration = Duration::from_secs(10);
/// And a piece of a file: a minute at a megabit a second.
const FILE_WITHIN: Duration = Duration::from_secs(120);

/// What is known of who sends it, and what.
#[derive(Clone, Copy)]
pub(super) enum Sender {
    /// Nobody knows.
    Stranger,
    /// Somebody who may send it.
    Known,
    /// Somebody who brings a file.
    Importer,
}

/// The request with all of its body, and its place among the large ones.
pub(super) async fn whole(
    api: &Api,
    request: Request,
    from: Sender,
) -> Result<(Request, Option<SemaphorePermit<'_>>), Problem> {
    if request.body().is_end_stream() {
        return Ok((request, None));
    }
    let (most, within) = match from {
        Sender::Stranger => (STRANGERS_MAX, WITHIN),
        Sender::Known => (BODY_BYTES_MAX, WITHIN),
        Sender::Importer => (BODY_BYTES_MAX, FILE_WITHIN),
    };
    // Who says beforehand that it is too much needn't send it.
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > most as u64) {
        return Err(Problem::too_large(most));
    }
    let large = most as u64 > LARGE && length.is_none_or(|length| length > LARGE);
    let place = match large {
        false => None,
        true => match tokio::time::timeout(TURN_WITHIN, api.bodies.acquire()).await {
            Ok(Ok(place)) => Some(place),
            _ => return Err(Problem::busy()),
        },
    };
    let (head, body) = request.into_parts();
    let sent = tokio::time::timeout(within, collected(body, most)).await.map_err(|_| Problem::slow_body(within))??;
    Ok((Request::from_parts(head, Body::from(sent)), place))
}

async fn collected(body: Body, most: usize) -> Result<Bytes, Problem> {
    let (mut pieces, mut all) = (body.into_data_stream(), BytesMut::new());
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| Problem::body(format!("the body: {error}")))?;
        if all.len() + piece.len() > most {
            return Err(Problem::too_large(most));
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}
