//! What hasn't changed travels once.

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use std::hash::Hasher as _;
use twox_hash::XxHash64;

/// A tag of what `feed` puts in. Weak: what travels is compressed or not.
pub(super) fn of(feed: impl FnOnce(&mut XxHash64)) -> String {
    let mut hasher = XxHash64::with_seed(0);
    feed(&mut hasher);
    format!("W/\"{:016x}\"", hasher.finish())
}

/// A tag of these bytes.
pub(super) fn tag(bytes: &[u8]) -> String {
    of(|hasher| hasher.write(bytes))
}

/// Whether who asks has it already.
pub(super) fn known(headers: &HeaderMap, tag: &str) -> bool {
    let asked = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    asked.split(',').any(|known| known.trim() == tag)
}

/// Tags answers in JSON, and leaves away those that are known. A browser keeps them, and asks each time.
pub(super) async fn tagged(request: Request, next: Next) -> Response {
    let asked = (request.method() == Method::GET).then(|| request.headers().clone());
    let response = next.run(request).await;
    match asked {
        Some(asked) if is_whole_json(&response) => tag_it(&asked, response).await,
        _ => response,
    }
}

fn is_whole_json(response: &Response) -> bool {
    let json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    let whole = response.body().size_hint().exact().is_some();
    response.status() == StatusCode::OK && json && whole
}

async fn tag_it(asked: &HeaderMap, response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    // It is in memory already.
    let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    // An answer may say itself what of it counts.
    let own = head.headers.get(header::ETAG).and_then(|tag| Some(tag.to_str().ok()?.to_owned()));
    let tag = own.unwrap_or_else(|| tag(&bytes));
    let same = known(asked, &tag);
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        head.headers.insert(header::ETAG, tag);
    }
    head.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if !same {
        return Response::from_parts(head, bytes.into());
    }
    head.status = StatusCode::NOT_MODIFIED;
    head.headers.remove(header::CONTENT_TYPE);
    head.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(head, Body::empty())
}
