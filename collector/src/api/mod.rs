//! What people and programs ask over HTTP: JSON, the live feed and the dashboard. All is reading, besides
//! starting a job and what people enter.
//!
//! Beyond loopback everyone must say who it is, and over TLS, unless the configuration says that something in front sees to
//! that. On loopback a request whose `Host` is not this machine is refused: otherwise any web page could read through a
//! person's browser (DNS rebinding).
//! Errors are RFC 9457 problem details that name the parameter at fault. Every answer is bounded.

mod access;
mod anomalies;
mod body;
mod dashboard;
mod directory;
mod document;
mod download;
mod entry;
mod etag;
mod export;
mod extract;
mod forecasts;
mod freshness;
mod gateways;
mod inbox;
mod jobs;
mod live;
mod origin;
mod page;
mod parameters;
mod params;
mod past;
mod peer;
mod people;
mod problem;
mod quality;
mod quarantine;
mod rates;
mod rhythm;
mod routes;
mod serve;
mod sql;
mod storage;
mod tally;
pub mod tls;
mod views;

pub(crate) use export::BROKEN_OFF;
pub use problem::Problem;
pub use serve::{Connections, serve};

use crate::access::{Access, Principal, Role};
use crate::alerts::Troubles;
use crate::anomalies::Anomalies;
use crate::config::{Network, Places};
use crate::costs::Paid;
use crate::etl::Scheduler;
use crate::flush::Write;
use crate::history::History;
use crate::ingest::sessions::Seen;
use crate::sql::Sql;
use crate::tiers::hot::days::DayCache;
use crate::tiers::{ColdTier, HotTier, WarmTier};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response_with_state};
use axum::response::Response;
use body::Sender;
use directory::Directory;
use document::{Rule, Rules, costly, for_people, needing};
use params::Params;
use peer::Peer;
use rates::{Cost, Rates};
use shared::ids::GatewayId;
use shared::reading::Timestamp;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tally::Tally;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::compression::CompressionLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Most requests that are worked on at a time.
const REQUESTS_MAX: usize = 64;
/// And of those nobody is known to have sent, which have turns of their own.
const STRANGERS_MAX: usize = 32;
/// Most answers that are files of any length.
const EXPORTS_MAX: usize = 4;
/// Most snapshots of the live feed that are looked up at a time.
const SNAPSHOTS_MAX: usize = 8;
/// How long a request waits for its turn.
const TURN_WITHIN: Duration = Duration::from_secs(5);
/// How long one may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// And a piece of a file, which is one transaction: longer than the database gives it, which knows what came of it.
const IMPORT_WITHIN: Duration = Duration::from_secs(360);
/// How long open requests may take after the stop.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// The gateways that connected since the start, and what is known of them.
pub type Presence = Arc<dyn Fn() -> Vec<(GatewayId, Seen)> + Send + Sync>;

/// What the answers are made from.
#[derive(Clone)]
pub struct Sources {
    /// The warm tier.
    pub warm: Arc<dyn WarmTier>,
    /// The hot tier.
    pub hot: Arc<dyn HotTier>,
    /// What is out of the ordinary.
    pub anomalies: Arc<Anomalies>,
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
    /// Who connected.
    pub presence: Presence,
    /// Who may do what.
    pub access: Arc<Access>,
    /// Browsers ask over TLS, ours or that of a proxy: cookies are for TLS only.
    pub secure: bool,
    /// The TLS is ours.
    pub tls: bool,
    /// Other hosts than this machine's loopback may be asked for.
    pub any_host: bool,
    /// Stores what people enter.
    pub write: Write,
    /// What costs something by itself.
    pub paid: Paid,
    /// How often what costs much may be asked.
    pub rates: crate::config::Rates,
    /// How many connections there may be.
    pub connections: Connections,
    /// Proxies that are believed when they say for whom they ask.
    pub trusted_proxies: Arc<[Network]>,
    /// Readings further ahead of the clock are refused, microseconds.
    pub future_max_us: i64,
    /// What can't go on at the moment: which part, and why.
    pub troubles: Troubles,
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
    strangers: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    exports: Arc<Semaphore>,
    snapshots: Arc<Semaphore>,
    clients: Arc<Tally<String>>,
    rates: Arc<Rates>,
    rules: Arc<Rules>,
    document: Bytes,
    storage: Arc<storage::Counted>,
    stop: CancellationToken,
}

/// Binds an address; port 0 takes a free one.
///
/// # Errors
/// When it can't be bound.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ApiError> {
    TcpListener::bind(address).await.map_err(|source| ApiError::Bind { address, source })
}

/// What is served, who may ask for it, and what costs so much that it is limited. Everything else about a route stands with
/// its handler.
fn described() -> OpenApiRouter<Api> {
    let open = OpenApiRouter::default()
        .routes(routes!(routes::health)) // to those it doesn't know it says no more than that it lives
        .routes(routes!(access::login))
        .routes(routes!(access::logout))
        .routes(routes!(access::me))
        .routes(routes!(document::document));
    let viewer = OpenApiRouter::default()
        .routes(routes!(routes::nodes))
        .routes(routes!(routes::series))
        .routes(routes!(routes::latest))
        .routes(routes!(live::live))
        .routes(costly(Cost::History, routes!(past::history)))
        .routes(routes!(quality::quality))
        .routes(routes!(forecasts::forecasts))
        .routes(routes!(anomalies::list))
        .routes(routes!(anomalies::one))
        .routes(costly(Cost::Export, routes!(export::export)))
        .routes(costly(Cost::Sql, routes!(sql::sql))) // reads what they may see
        .routes(routes!(gateways::gateways))
        .routes(routes!(gateways::points))
        .routes(routes!(gateways::gaps))
        .routes(routes!(gateways::parked))
        .routes(routes!(quarantine::list))
        .routes(routes!(inbox::rejects))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::runs))
        .routes(routes!(routes::costs))
        .routes(routes!(storage::storage))
        .routes(routes!(routes::metrics));
    let operator = OpenApiRouter::default()
        .routes(routes!(anomalies::acknowledge))
        .routes(routes!(anomalies::comment))
        .routes(routes!(anomalies::close))
        .routes(routes!(entry::enter))
        .routes(costly(Cost::Import, routes!(entry::import)))
        .routes(routes!(quarantine::release))
        .routes(routes!(quarantine::drop))
        .routes(routes!(inbox::drop))
        .routes(routes!(entry::audit))
        .routes(routes!(jobs::start));
    let admin = OpenApiRouter::default()
        .routes(routes!(people::users, people::add))
        .routes(routes!(people::change, people::remove))
        .routes(routes!(people::tokens, people::make))
        .routes(routes!(people::revoke));
    let people = OpenApiRouter::default().routes(routes!(access::password));
    OpenApiRouter::with_openapi(document::head())
        .merge(needing(None, open))
        .merge(for_people(people))
        .merge(needing(Some(Role::Viewer), viewer))
        .merge(needing(Some(Role::Operator), operator))
        .merge(needing(Some(Role::Admin), admin))
}

fn router(sources: Sources, stop: CancellationToken) -> Router {
    let (described, document) = described().split_for_parts();
    let api = Api {
        history: History::new(sources.warm.clone(), sources.hot.clone())
            .with_days(sources.days.clone())
            .with_cold(sources.cold.clone()),
        started: (sources.now)(),
        directory: Arc::new(Directory::new(sources.warm.clone())),
        busy: Arc::new(Semaphore::new(REQUESTS_MAX)),
        strangers: Arc::new(Semaphore::new(STRANGERS_MAX)),
        bodies: Arc::new(Semaphore::new(body::LARGE_MAX)),
        exports: Arc::new(Semaphore::new(EXPORTS_MAX)),
        snapshots: Arc::new(Semaphore::new(SNAPSHOTS_MAX)),
        clients: Tally::new(live::CLIENTS_MAX.min(sources.connections.most / 2)),
        rates: Arc::new(Rates::new(sources.rates)),
        rules: Arc::new(Rules::of(&document)),
        document: document.to_json().unwrap_or_default().into(),
        storage: Arc::default(),
        stop,
        sources,
    };
    described
        .merge(dashboard::routes())
        .layer(DefaultBodyLimit::max(entry::BODY_BYTES_MAX))
        .fallback(async |request: Request| Problem::no_such_path(request.uri().path()))
        .method_not_allowed_fallback(async |request: Request| Problem::method(request.method().as_str()))
        .layer(from_fn_with_state(api.clone(), guard))
        .layer(from_fn(etag::tagged))
        .layer(map_response_with_state(api.clone(), dashboard::secured))
        .layer(CompressionLayer::new())
        .with_state(api)
}

/// Refuses what is not meant for this machine, who may not, and what isn't described; takes all of it in, and bounds how much
/// is under way and for how long.
async fn guard(State(api): State<Api>, mut request: Request, next: Next) -> Result<Response, Problem> {
    let host = request.headers().get("host").and_then(|h| h.to_str().ok()).unwrap_or_default();
    if !api.sources.any_host && !is_this_machine(host) {
        return Err(Problem::host(host));
    }
    let connection = request.extensions().get().copied().unwrap_or(Peer(Ipv4Addr::UNSPECIFIED.into()));
    let peer = connection.behind(request.headers(), &api.sources.trusted_proxies);
    request.extensions_mut().insert(peer);
    let path = request.extensions().get::<MatchedPath>().map_or_else(String::new, |path| path.as_str().to_owned());
    let rule = api.rules.of_route(request.method(), &path);
    access::admit(&api, &mut request, access::needs(rule, &path)).await?;
    if let Some(rule) = rule {
        let params = Params::of(request.uri(), &rule.parameters)?;
        request.extensions_mut().insert(params);
        if let Some(cost) = rule.cost {
            api.rates.count(cost, request.extensions().get(), peer)?;
        }
    }
    take_turn(&api, request, rule, next).await
}

/// Answers what may be asked: when all of it is there, and when it is its turn.
async fn take_turn(api: &Api, request: Request, rule: Option<&Rule>, next: Next) -> Result<Response, Problem> {
    let known = request.extensions().get::<Principal>().is_some();
    let imports = rule.is_some_and(|rule| rule.cost == Some(Cost::Import));
    let (sender, turns) = match (known, imports) {
        (false, _) => (Sender::Stranger, &api.strangers),
        (true, false) => (Sender::Known, &api.busy),
        (true, true) => (Sender::Importer, &api.busy),
    };
    let (request, _place) = body::whole(api, request, sender).await?;
    let Ok(Ok(_turn)) = tokio::time::timeout(TURN_WITHIN, turns.acquire()).await else {
        return Err(Problem::busy());
    };
    let path = request.uri().path().to_owned();
    let within = if imports { IMPORT_WITHIN } else { ANSWER_WITHIN };
    tokio::time::timeout(within, next.run(request)).await.map_err(|_| Problem::too_slow(&path))
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
