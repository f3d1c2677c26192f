//! What people and programs ask over HTTP: JSON, the live feed and the dashboard. All is reading, besides
//! starting a job and what people enter.
//!
//! Beyond loopback everyone must say who it is, and over TLS, unless the configuration says that something in front sees to
//! that. On loopback a request whose `Host` is not this machine is refused: otherwise any web page could read through a
//! person's browser (DNS rebinding).
//! Errors are RFC 9457 problem details that name the parameter at fault. Every answer is bounded.

mod access;
mod anomalies;
mod dashboard;
mod directory;
mod download;
mod entry;
mod export;
mod forecasts;
mod jobs;
mod live;
mod origin;
mod params;
mod people;
mod problem;
mod quality;
mod quarantine;
mod routes;
mod sql;
pub mod tls;
mod views;

pub use problem::Problem;

use crate::access::Access;
use crate::config::Places;
use crate::etl::Scheduler;
use crate::history::History;
use crate::sql::Sql;
use crate::tiers::hot::days::DayCache;
use crate::tiers::{ColdTier, CommitReport, Flush, HotTier, TierFuture, WarmTier};
use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{delete, get, post};
use axum::serve::{IncomingStream, Listener};
use directory::Directory;
use shared::ids::GatewayId;
use shared::reading::Timestamp;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tls::TlsListener;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::compression::CompressionLayer;

/// Most requests that are worked on at a time.
const REQUESTS_MAX: usize = 64;
/// Most answers that are files of any length.
const EXPORTS_MAX: usize = 4;
/// Most snapshots of the live feed that are looked up at a time.
const SNAPSHOTS_MAX: usize = 8;
/// How long a request waits for its turn.
const TURN_WITHIN: Duration = Duration::from_secs(5);
/// How long one may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long open requests may take after the stop.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// What the rest of the collector knows of a gateway right now, as JSON; `None` when it was never connected.
pub type Presence = Arc<dyn Fn(&GatewayId) -> Option<serde_json::Value> + Send + Sync>;

/// Stores what comes past the spool.
pub type Write = Arc<dyn Fn(Flush) -> TierFuture<'static, CommitReport> + Send + Sync>;

/// What the answers are made from.
#[derive(Clone)]
pub struct Sources {
    /// The warm tier.
    pub warm: Arc<dyn WarmTier>,
    /// The hot tier.
    pub hot: Arc<dyn HotTier>,
    /// Regular work.
    pub jobs: Arc<Scheduler>,
    /// Rollups of past days.
    pub days: Option<Arc<DayCache>>,
    /// What the configuration says about nodes.
    pub places: Arc<Places>,
    /// The archive, when there is one.
    pub cold: Option<Arc<dyn ColdTier>>,
    /// Asks the archive by SQL, when it is one of files.
    pub sql: Option<Arc<Sql>>,
    /// Who is connected.
    pub presence: Presence,
    /// Who may do what.
    pub access: Arc<Access>,
    /// It is asked over TLS: cookies are for TLS only.
    pub secure: bool,
    /// Other hosts than this machine's loopback may be asked for.
    pub any_host: bool,
    /// Stores what people enter.
    pub write: Write,
    /// Readings further ahead of the clock are refused, microseconds.
    pub future_max_us: i64,
    /// What can't go on at the moment: which part, and why.
    pub troubles: Arc<dyn Fn() -> Vec<(&'static str, String)> + Send + Sync>,
    /// The text of `/metrics`.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// The clock.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

/// Why there is no API.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Its certificate or key can't be used.
    #[error("[api] {0}")]
    Tls(#[from] shared::tls::TlsError),
    /// The address is taken, or isn't this machine's.
    #[error("[api] listen = \"{address}\": {source}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The listener broke.
    #[error("API: {0}")]
    Serve(#[from] io::Error),
}

#[derive(Clone)]
struct Api {
    sources: Sources,
    history: History,
    started: Timestamp,
    directory: Arc<Directory>,
    busy: Arc<Semaphore>,
    exports: Arc<Semaphore>,
    snapshots: Arc<Semaphore>,
    clients: Arc<Semaphore>,
    stop: CancellationToken,
}

/// Binds an address; port 0 takes a free one.
///
/// # Errors
/// When it can't be bound.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ApiError> {
    TcpListener::bind(address).await.map_err(|source| ApiError::Bind { address, source })
}

/// The peer's address, of either kind of listener.
#[derive(Clone, Copy, Debug)]
pub struct Peer(SocketAddr);

impl Connected<IncomingStream<'_, TcpListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self(*stream.remote_addr())
    }
}

impl Connected<IncomingStream<'_, TlsListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// Answers until `stop`, and what is under way for a few seconds more.
///
/// # Errors
/// When the listener breaks.
pub async fn serve<L>(listener: L, sources: Sources, stop: CancellationToken) -> Result<(), ApiError>
where
    L: Listener<Addr = SocketAddr>,
    Peer: for<'a> Connected<IncomingStream<'a, L>>,
{
    let stopped = stop.clone();
    let service = router(sources, stop.clone()).into_make_service_with_connect_info::<Peer>();
    let server = axum::serve(listener, service).with_graceful_shutdown(async move { stop.cancelled().await });
    // A client that holds its connection open doesn't hold up the stop.
    let overdue = async {
        stopped.cancelled().await;
        tokio::time::sleep(DRAIN_WITHIN).await;
    };
    tokio::select! {
        outcome = async { server.await } => outcome?,
        () = overdue => {}
    }
    Ok(())
}

fn router(sources: Sources, stop: CancellationToken) -> Router {
    let api = Api {
        history: History::new(sources.warm.clone(), sources.hot.clone())
            .with_days(sources.days.clone())
            .with_cold(sources.cold.clone()),
        started: (sources.now)(),
        directory: Arc::new(Directory::new(sources.warm.clone())),
        busy: Arc::new(Semaphore::new(REQUESTS_MAX)),
        exports: Arc::new(Semaphore::new(EXPORTS_MAX)),
        snapshots: Arc::new(Semaphore::new(SNAPSHOTS_MAX)),
        clients: Arc::new(Semaphore::new(live::CLIENTS_MAX)),
        stop,
        sources,
    };
    dashboard::routes()
        .route("/api/v1/health", get(routes::health))
        .route("/api/v1/nodes", get(routes::nodes))
        .route("/api/v1/series", get(routes::series))
        .route("/api/v1/latest", get(routes::latest))
        .route("/api/v1/history", get(routes::history))
        .route("/api/v1/gaps", get(routes::gaps))
        .route("/api/v1/gateways", get(routes::gateways))
        .route("/api/v1/quarantine", get(quarantine::list))
        .route("/api/v1/parked", get(routes::parked))
        .route("/api/v1/quality", get(quality::quality))
        .route("/api/v1/forecasts", get(forecasts::forecasts))
        .route("/api/v1/anomalies", get(anomalies::list))
        .route("/api/v1/anomalies/{id}/acknowledge", post(anomalies::acknowledge))
        .route("/api/v1/anomalies/{id}/comment", post(anomalies::comment))
        .route("/api/v1/anomalies/{id}/close", post(anomalies::close))
        .route("/api/v1/jobs", get(jobs::list))
        .route("/api/v1/jobs/runs", get(jobs::runs))
        .route("/api/v1/jobs/{name}/run", post(jobs::start))
        .route("/api/v1/readings", post(entry::enter))
        .route("/api/v1/import", post(entry::import))
        .route("/api/v1/export", get(export::export))
        .route("/api/v1/quarantine/release", post(quarantine::release))
        .route("/api/v1/quarantine/drop", post(quarantine::drop))
        .route("/api/v1/sql", post(sql::sql))
        .route("/api/v1/audit", get(entry::audit))
        .route("/api/v1/users", get(people::users).post(people::add))
        .route("/api/v1/users/{name}", post(people::change).delete(people::remove))
        .route("/api/v1/tokens", get(people::tokens).post(people::make))
        .route("/api/v1/tokens/{name}", delete(people::revoke))
        .layer(DefaultBodyLimit::max(entry::BODY_BYTES_MAX))
        .route("/api/v1/login", post(access::login))
        .route("/api/v1/logout", post(access::logout))
        .route("/api/v1/me", get(access::me))
        .route("/api/v1/live", get(live::live))
        .route("/metrics", get(routes::metrics))
        .fallback(async |request: Request| Problem::no_such_path(request.uri().path()))
        .method_not_allowed_fallback(async |request: Request| Problem::method(request.method().as_str()))
        .layer(from_fn_with_state(api.clone(), guard))
        .layer(map_response(dashboard::secured))
        .layer(CompressionLayer::new())
        .with_state(api)
}

/// Refuses what is not meant for this machine, and bounds how much is under way and for how long.
async fn guard(State(api): State<Api>, mut request: Request, next: Next) -> Result<Response, Problem> {
    let host = request.headers().get("host").and_then(|h| h.to_str().ok()).unwrap_or_default();
    if !api.sources.any_host && !is_this_machine(host) {
        return Err(Problem::host(host));
    }
    access::admit(&api, &mut request).await?;
    let Ok(Ok(_turn)) = tokio::time::timeout(TURN_WITHIN, api.busy.acquire()).await else {
        return Err(Problem::busy());
    };
    let path = request.uri().path().to_owned();
    tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await.map_err(|_| Problem::too_slow(&path))
}

/// `localhost`, `127.0.0.1:8080`, `[::1]:8080`.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, _port)) => name,
        None => host.split_once(':').map_or(host, |(name, _port)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests;
