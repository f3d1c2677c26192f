//! Connections of the API: how many there are, of each address and together, and how long one may say nothing. Bodies have
//! limits of their own ([`super::body`]), and what is answered has others.

use super::peer::Peer;
use super::tally::Tally;
use super::{DRAIN_WITHIN, Sources, router};
use crate::ingest::waiting::{Place, Waiting};
use axum::Router;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use shared::telemetry::Seldom;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Most bytes of a head.
const HEAD_BYTES_MAX: usize = 128 << 10;
/// The part of all connections that an address may have.
const PART: usize = 4;
/// Between lines about connections that are turned away, which anyone can make come.
const SAID_EVERY: Duration = Duration::from_secs(5);

/// How many connections there may be, and how long they may say nothing.
#[derive(Clone, Copy, Debug)]
pub struct Connections {
    /// Most of them, besides live feeds, of which there are half as many. An address has a quarter at most, except this
    /// machine and trusted proxies, and half of all have asked something.
    pub most: usize,
    /// One on which no whole head of a request came for so long is closed: the first one, or another one.
    pub head_within: Duration,
}

impl Default for Connections {
    fn default() -> Self {
        Self { most: 2_000, head_within: Duration::from_secs(15) }
    }
}

/// Answers until `stop`, and what is under way for a few seconds more.
pub async fn serve<L: Listener<Addr = SocketAddr>>(mut listener: L, sources: Sources, stop: CancellationToken) {
    let (Connections { most, head_within }, trusted) = (sources.connections, sources.trusted_proxies.clone());
    let all = most.max(PART);
    let (there, newcomers) = (Tally::<IpAddr>::new(all), Waiting::new(all / 2));
    let (connections, said) = (TaskTracker::new(), Seldom::new(SAID_EVERY));
    let access = sources.access.clone();
    let router = router(sources, stop.clone());
    // What isn't over in time is cut off with this.
    let last = CancellationToken::new();
    let _cut = last.clone().drop_guard();
    let looking = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move { access.keep_looking().await }));
    while let Some((io, address)) = stop.run_until_cancelled(listener.accept()).await {
        let peer = Peer::new(address);
        // Behind a proxy, and on this machine, one address is many.
        let each = if peer.0.is_loopback() || peer.is_of(&trusted) { all } else { all / PART };
        let Ok(seat) = there.enter(peer.counted(), each) else {
            metrics::counter!("collector_api_connections_turned_away_total").increment(1);
            if let Some(others) = said.may() {
                tracing::warn!(%peer, others, "turned away: too many connections to the API");
            }
            continue;
        };
        let (place, _) = newcomers.enter(peer.counted());
        let (router, stop, last) = (router.clone(), stop.clone(), last.clone());
        connections.spawn(async move {
            let _seat = seat;
            last.run_until_cancelled(Box::pin(connection(io, peer, router, place, head_within, stop))).await;
        });
    }
    drop((listener, looking));
    connections.close();
    // A client that holds its connection open doesn't hold up the stop.
    let _ = tokio::time::timeout(DRAIN_WITHIN, connections.wait()).await;
}

/// Serves one, which has a place among those that have asked nothing until it does.
async fn connection<I>(io: I, peer: Peer, router: Router, place: Place, head_within: Duration, stop: CancellationToken)
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let pushed_out = place.pushed_out.clone();
    let (newcomer, answers) = (Mutex::new(Some(place)), TowerToHyperService::new(router));
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        newcomer.lock().unwrap_or_else(PoisonError::into_inner).take();
        request.extensions_mut().insert(peer);
        answers.call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head_within).max_buf_size(HEAD_BYTES_MAX);
    let mut serving = std::pin::pin!(http.serve_connection(TokioIo::new(io), service).with_upgrades());
    tokio::select! {
        outcome = serving.as_mut() => return told(peer, outcome),
        () = pushed_out.cancelled() => return,
        () = stop.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    told(peer, serving.await);
}

fn told(peer: Peer, outcome: hyper::Result<()>) {
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "a connection to the API has ended");
    }
}
