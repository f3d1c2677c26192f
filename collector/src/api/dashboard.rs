//! The dashboard: files of `dashboard/`, part of the program, so that there is nothing else to install. A debug build reads
//! them from there at each request: a page is changed, and seen, without building.

use super::{Api, etag, page};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

/// A file, where it is asked for, and what it is.
struct File {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

/// A browser that was here comes over TLS only, for a month: not for longer than somebody takes who gives TLS up again.
const TLS_ONLY: &str = "max-age=2592000";
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const MANIFEST: &str = "application/manifest+json";
const TEXT: &str = "text/plain; charset=utf-8";

macro_rules! file {
    ($path:literal, $kind:expr) => {
        File {
            path: concat!("/", $path),
            kind: $kind,
            bytes: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/dashboard/", $path)),
        }
    };
}

/// All of them; a test compares this with the folder.
const FILES: &[File] = &[
    file!("index.html", HTML),
    file!("app.css", CSS),
    file!("icon.svg", SVG),
    file!("app.webmanifest", MANIFEST),
    file!("app.js", SCRIPT),
    file!("access.js", SCRIPT),
    file!("alerts.js", SCRIPT),
    file!("anomalies.js", SCRIPT),
    file!("anomaly.js", SCRIPT),
    file!("anomaly-words.js", SCRIPT),
    file!("api.js", SCRIPT),
    file!("aside.js", SCRIPT),
    file!("audit.js", SCRIPT),
    file!("chart.js", SCRIPT),
    file!("chart-axes.js", SCRIPT),
    file!("chart-layers.js", SCRIPT),
    file!("chart-marks.js", SCRIPT),
    file!("csv-pieces.js", SCRIPT),
    file!("docs.html", HTML),
    file!("docs.css", CSS),
    file!("docs.js", SCRIPT),
    file!("dom.js", SCRIPT),
    file!("entry.js", SCRIPT),
    file!("entry-file.js", SCRIPT),
    file!("entry-reading.js", SCRIPT),
    file!("forecasts.js", SCRIPT),
    file!("format.js", SCRIPT),
    file!("forms.js", SCRIPT),
    file!("gestures.js", SCRIPT),
    file!("live.js", SCRIPT),
    file!("login.js", SCRIPT),
    file!("map.js", SCRIPT),
    file!("network.js", SCRIPT),
    file!("node.js", SCRIPT),
    file!("node-layers.js", SCRIPT),
    file!("operations.js", SCRIPT),
    file!("overview.js", SCRIPT),
    file!("password.js", SCRIPT),
    file!("session.js", SCRIPT),
    file!("span.js", SCRIPT),
    file!("spark.js", SCRIPT),
    file!("texts.js", SCRIPT),
    file!("usual.js", SCRIPT),
    file!("zone.js", SCRIPT),
    file!("vendor/uPlot.esm.js", SCRIPT),
    file!("vendor/uPlot.min.css", CSS),
    file!("vendor/uPlot.LICENSE", TEXT),
];

/// `/`, `/api/docs` and every file that they need.
pub(super) fn routes() -> Router<Api> {
    let mut router = Router::new().route("/", get(page::index)).route("/api/docs", get(page::docs));
    for file in FILES.iter().filter(|file| file.kind != HTML) {
        let answer = move |headers: HeaderMap| async move { answer(file, current(file), &headers) };
        router = router.route(file.path, get(answer));
    }
    router
}

/// The text of a file.
pub(super) fn text(path: &str) -> Cow<'static, [u8]> {
    FILES.iter().find(|file| file.path == path).map(current).unwrap_or_default()
}

/// What was built in, or in a debug build what is in the folder now.
fn current(file: &File) -> Cow<'static, [u8]> {
    #[cfg(debug_assertions)]
    if let Ok(bytes) = std::fs::read(format!("{}/dashboard{}", env!("CARGO_MANIFEST_DIR"), file.path)) {
        return bytes.into();
    }
    file.bytes.into()
}

/// Files keep their names when they change, so browsers ask each time.
fn answer(file: &File, bytes: Cow<'static, [u8]>, headers: &HeaderMap) -> Response {
    let tag = etag::tag(&bytes);
    let about = [(header::ETAG, tag.as_str()), (header::CACHE_CONTROL, "no-cache")];
    if etag::known(headers, &tag) {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    let takes = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = [(header::CONTENT_TYPE, file.kind), (header::VARY, "accept-encoding")];
    let takes = takes.split(',').any(|one| one.trim() == "gzip");
    match takes.then(|| packed(file, &tag, &bytes)).flatten() {
        Some(packed) => (about, kind, [(header::CONTENT_ENCODING, "gzip")], packed).into_response(),
        None => (about, kind, bytes).into_response(),
    }
}

/// A file packed as well as can be, once for each change of it; `None` when that can't be.
fn packed(file: &File, tag: &str, bytes: &[u8]) -> Option<Bytes> {
    static PACKED: Mutex<Option<HashMap<&str, (String, Bytes)>>> = Mutex::new(None);
    let mut all = PACKED.lock().unwrap_or_else(PoisonError::into_inner);
    let all = all.get_or_insert_default();
    if let Some((_, packed)) = all.get(file.path).filter(|(known, _)| known == tag) {
        return Some(packed.clone());
    }
    let mut out = GzEncoder::new(Vec::new(), Compression::best());
    out.write_all(bytes).ok()?;
    let packed = Bytes::from(out.finish().ok()?);
    all.insert(file.path, (tag.to_owned(), packed.clone()));
    Some(packed)
}

/// What a browser may do with our answers: only what comes from here is run, shown or asked; nobody frames it; text is
/// never taken for markup by a script (trusted types), so that a name from a gateway stays a name.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// Adds what every answer says to browsers.
pub(super) async fn secured(State(api): State<Api>, mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if api.sources.tls {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(TLS_ONLY));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn files(folder: &Path, under: &str, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = format!("{under}/{}", entry.file_name().to_str().unwrap());
            if entry.path().is_dir() { files(&entry.path(), &name, found) } else { assert!(found.insert(name)) }
        }
    }

    #[test]
    fn every_file_of_the_folder_is_served() {
        let mut found = BTreeSet::new();
        files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboard"), "", &mut found);
        assert_eq!(found, FILES.iter().map(|file| file.path.to_owned()).collect());
    }

    #[test]
    fn an_unchanged_file_travels_once() {
        let file = FILES.iter().find(|file| file.path == "/app.css").unwrap();
        let with = |known: &str| HeaderMap::from_iter([(header::IF_NONE_MATCH, known.parse().unwrap())]);
        let status = |headers: &HeaderMap| answer(file, file.bytes.into(), headers).status();
        let tag = etag::tag(file.bytes);
        assert_eq!(status(&HeaderMap::new()), StatusCode::OK);
        assert_eq!(status(&with("W/\"0\"")), StatusCode::OK);
        assert_eq!(status(&with(&format!("W/\"0\", {tag}"))), StatusCode::NOT_MODIFIED);
    }
}
