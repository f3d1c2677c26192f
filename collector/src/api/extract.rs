//! What a request brings, refused as a problem when it can't be used.

use super::Problem;
use super::entry::BODY_BYTES_MAX;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse as _;
use flate2::read::MultiGzDecoder;
use serde::de::DeserializeOwned;
use std::io::Read as _;
use tokio::sync::Semaphore;

/// Bodies that are unpacked at a time: what takes few bytes to send takes many here.
static UNPACKING: Semaphore = Semaphore::const_new(2);

/// The body, unpacked when it is packed on its way (`Content-Encoding: gzip`).
pub(super) struct Sent(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Sent {
    type Rejection = Problem;
    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let packed = is_packed(request.headers())?;
        let sent = Bytes::from_request(request, state).await.map_err(|rejected| {
            let why = rejected.body_text();
            match rejected.into_response().status() {
                StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(BODY_BYTES_MAX),
                _ => Problem::body(why),
            }
        })?;
        Ok(Self(if packed { unpacked(sent).await? } else { sent }))
    }
}

/// Whether the body is packed on its way.
fn is_packed(headers: &HeaderMap) -> Result<bool, Problem> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).into_iter();
    let encoding = encodings.next().map_or("identity", |encoding| encoding.to_str().unwrap_or("?")).trim();
    match encoding.to_ascii_lowercase().as_str() {
        _ if encodings.next().is_some() => Err(Problem::encoding("several")),
        "identity" => Ok(false),
        "gzip" | "x-gzip" => Ok(true),
        _ => Err(Problem::encoding(encoding)),
    }
}

/// What was packed with gzip; as much as could be sent plain.
pub(super) async fn unpacked(packed: Bytes) -> Result<Bytes, Problem> {
    let work = move || {
        let (mut plain, most) = (Vec::new(), BODY_BYTES_MAX as u64 + 1);
        MultiGzDecoder::new(packed.as_ref()).take(most).read_to_end(&mut plain).map(|_| plain)
    };
    let _turn = UNPACKING.acquire().await; // never closed; an error would only mean no turn
    let plain = tokio::task::spawn_blocking(work).await.map_err(|error| Problem::body(error.to_string()))?;
    let plain = plain.map_err(|error| Problem::body(format!("it is no whole gzip file: {error}")))?;
    if plain.len() > BODY_BYTES_MAX { Err(Problem::too_large(BODY_BYTES_MAX)) } else { Ok(plain.into()) }
}

impl Sent {
    /// As JSON.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.0).map_err(|error| Problem::body(format!("the body: {error}")))
    }
}

/// What stands in the path: one part of it.
pub(super) struct Named<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(part)| Self(part)).map_err(|rejected| Problem::unknown(rejected.body_text()))
    }
}
