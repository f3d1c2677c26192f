//! From a TCP connection to a session: TLS, who it is, whether its certificate still holds, its `Hello`. All of it
//! within one time limit, and only so many at a time.

use super::Ingest;
use super::session::{self, Identity};
use super::waiting::Waiting;
use crate::revocation::{Revoked, Serial};
use futures::StreamExt;
use shared::telemetry::Seldom;
use shared::tls::TlsError;
use shared::wire::{Codec, Hello, Message, WireError};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::codec::{FramedRead, FramedWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// `Hello` is small; nothing larger is read from someone who hasn't said it.
const HELLO_BYTES_MAX: usize = 4 * 1024;
/// After an error of accepting, as when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Between lines about strangers at the door, which anyone can make come.
const SAID_EVERY: Duration = Duration::from_secs(5);

/// How many at a time, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most connections.
    pub connections_max: usize,
    /// Most of them that haven't said who they are.
    pub handshakes_max: usize,
    /// How long that may take.
    pub handshake_timeout: Duration,
}

/// Why a connection became no session.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// TLS failed: no certificate, a foreign authority, another protocol.
    #[error("TLS handshake: {0}")]
    Handshake(io::Error),
    /// Its certificate says nothing usable.
    #[error(transparent)]
    Certificate(#[from] TlsError),
    /// Its certificate was taken back.
    #[error("the certificate of gateway {gateway} (serial {serial}) was revoked")]
    Revoked {
        /// Whose.
        gateway: shared::ids::GatewayId,
        /// Its number.
        serial: String,
    },
    /// What came first is no `Hello`.
    #[error("{gateway} didn't begin with Hello: {why}")]
    NoHello {
        /// Who.
        gateway: shared::ids::GatewayId,
        /// What came.
        why: String,
    },
    /// It took too long.
    #[error("it didn't say who it is within {}", humantime::format_duration(*.0))]
    TooSlow(Duration),
}

/// What a new connection meets.
#[derive(Clone)]
pub struct Door {
    /// What sessions share.
    pub ingest: Arc<Ingest>,
    /// TLS.
    pub tls: TlsAcceptor,
    /// Whose certificates were taken back.
    pub revoked: Revoked,
    /// How many, how long.
    pub limits: Limits,
}

type Opened = (FramedRead<ReadHalf<TlsStream<TcpStream>>, Codec>, FramedWrite<WriteHalf<TlsStream<TcpStream>>, Codec>);

impl Door {
    /// Lets gateways in until `stop`; returns when all their sessions are over.
    pub async fn keep(self, listener: TcpListener, stop: CancellationToken) {
        let connections = Arc::new(Semaphore::new(self.limits.connections_max));
        let waiting = Waiting::new(self.limits.handshakes_max);
        let sessions = TaskTracker::new();
        let (turned_away, said) = (Seldom::new(SAID_EVERY), Arc::new(Seldom::new(SAID_EVERY)));
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            let (tcp, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::error!(%error, "a connection can't be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(connection) = Arc::clone(&connections).try_acquire_owned() else {
                metrics::counter!("collector_connections_turned_away_total").increment(1);
                if let Some(others) = turned_away.may() {
                    tracing::warn!(%peer, others, "turned away: too many connections ([ingest] connections_max)");
                }
                continue;
            };
            let (place, crowded) = waiting.enter(peer.ip());
            if let Some(from) = crowded {
                metrics::counter!("collector_connections_turned_away_total").increment(1);
                if let Some(others) = turned_away.may() {
                    tracing::warn!(%from, others, "turned away: too many connections that don't say who they are");
                }
            }
            let (door, stop, said) = (self.clone(), stop.clone(), Arc::clone(&said));
            sessions.spawn(async move {
                let _connection = connection;
                let opening = place.pushed_out.run_until_cancelled(door.open(tcp, peer));
                let opened = stop.run_until_cancelled(opening).await.flatten();
                drop(place);
                match opened {
                    Some(Ok((who, hello, streams))) => door.serve(who, hello, streams, &stop).await,
                    Some(Err(refused)) => {
                        metrics::counter!("collector_connections_refused_total").increment(1);
                        if let Some(others) = said.may() {
                            tracing::warn!(%peer, others, "connection refused: {refused}");
                        }
                    }
                    None => {}
                }
            });
        }
        drop(listener);
        sessions.close();
        sessions.wait().await;
    }

    async fn serve(&self, who: Identity, hello: Hello, (from, to): Opened, stop: &CancellationToken) {
        let connected = metrics::gauge!("collector_connections");
        connected.increment(1.0);
        // Its state is large, and most of the time there is nothing but waiting.
        let session = session::serve(&self.ingest, &who, &hello, from, to, self.revoked.clone(), stop);
        let end = Box::pin(session).await;
        connected.decrement(1.0);
        session::report(&who, &end);
    }

    async fn open(&self, tcp: TcpStream, peer: SocketAddr) -> Result<(Identity, Hello, Opened), Refused> {
        let limit = self.limits.handshake_timeout;
        let opening = Box::pin(self.shake_hands(tcp, peer));
        tokio::time::timeout(limit, opening).await.unwrap_or(Err(Refused::TooSlow(limit)))
    }

    async fn shake_hands(&self, tcp: TcpStream, peer: SocketAddr) -> Result<(Identity, Hello, Opened), Refused> {
        let _ = tcp.set_nodelay(true);
        let tls = self.tls.accept(tcp).await.map_err(Refused::Handshake)?;
        let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
        let (gateway, serial) = shared::tls::peer_name(chain)?;
        let Some(serial) = Serial::parse(&serial).filter(|serial| !self.revoked.borrow().contains(serial)) else {
            return Err(Refused::Revoked { gateway, serial });
        };
        let (reader, writer) = tokio::io::split(tls);
        let mut from = FramedRead::new(reader, Codec::with_limit(HELLO_BYTES_MAX));
        let hello = match from.next().await {
            Some(Ok(Message::Hello(hello))) => hello,
            Some(Ok(_)) => return Err(Refused::NoHello { gateway, why: "another message came".into() }),
            Some(Err(WireError::Io(error))) => return Err(Refused::Handshake(error)),
            Some(Err(error)) => return Err(Refused::NoHello { gateway, why: error.to_string() }),
            None => return Err(Refused::NoHello { gateway, why: "the connection was closed".into() }),
        };
        Ok((Identity { gateway, serial, peer }, hello, (from, FramedWrite::new(writer, Codec::new()))))
    }
}
