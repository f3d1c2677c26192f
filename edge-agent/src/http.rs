//! The local page: `/health`, `/metrics`, `/status`. Loopback only, since nothing here asks who is there; read only.

use crate::status::Status;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Anybody could read it there.
    #[error("[http] listen = \"{0}\": only a loopback address is allowed, like 127.0.0.1:9101")]
    NotLoopback(SocketAddr),
    /// The address is taken.
    #[error("[http] listen = \"{address}\": {source}; is another agent running?")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Binds the address.
///
/// # Errors
/// When it is not on loopback, or taken.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, HttpError> {
    if !address.ip().is_loopback() {
        return Err(HttpError::NotLoopback(address));
    }
    TcpListener::bind(address).await.map_err(|source| HttpError::Bind { address, source })
}

struct Page {
    status: Status,
    metrics: Box<dyn Fn() -> String + Send + Sync>,
}

/// Answers until `stop`.
pub async fn serve(
    listener: TcpListener,
    status: Status,
    metrics: impl Fn() -> String + Send + Sync + 'static,
    stop: CancellationToken,
) {
    let page = Arc::new(Page { status, metrics: Box::new(metrics) });
    let router = Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics_text))
        .route("/status", get(whole))
        .layer(from_fn(guard))
        .with_state(page);
    let ended = stop.clone();
    let server = axum::serve(listener, router).with_graceful_shutdown(async move { ended.cancelled().await });
    tokio::select! {
        result = async { server.await } => {
            if let Err(error) = result {
                tracing::error!(%error, "the local status page broke");
            }
        }
        () = async { stop.cancelled().await; tokio::time::sleep(std::time::Duration::from_secs(1)).await } => {}
    }
}

/// A page in a browser on this machine must not read here under another name (DNS rebinding).
async fn guard(request: Request, next: Next) -> Response {
    let host = request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, _)) => name,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    if name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()) {
        return next.run(request).await;
    }
    (StatusCode::MISDIRECTED_REQUEST, "this address is for this machine only\n").into_response()
}

async fn health(State(page): State<Arc<Page>>) -> Response {
    let healthy = page.status.is_healthy();
    let code = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let link = page.status.vitals.link();
    let body = serde_json::json!({
        "healthy": healthy,
        "connected": link.connected,
        "clock_trusted": page.status.clock.is_trusted(),
        "disk_error": page.status.vitals.disk_error(),
    });
    (code, Json(body)).into_response()
}

async fn metrics_text(State(page): State<Arc<Page>>) -> Response {
    page.status.set_gauges();
    ([("content-type", "text/plain; version=0.0.4")], (page.metrics)()).into_response()
}

async fn whole(State(page): State<Arc<Page>>) -> Response {
    Json(page.status.view()).into_response()
}
