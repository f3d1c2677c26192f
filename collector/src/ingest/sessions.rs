//! Who is connected, what they last said, and the way from the flusher back to them.

use serde::Serialize;
use shared::ids::{GatewayId, StreamId};
use shared::ranges::SeqRanges;
use shared::reading::Timestamp;
use shared::wire::Status;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What the flusher has for a session. It is bounded by itself: ranges join.
#[derive(Debug)]
pub struct Outbox {
    stream: StreamId,
    committed: Mutex<SeqRanges>,
    filled: Notify,
    /// Ends the session.
    pub close: CancellationToken,
}

impl Outbox {
    /// An empty one, whose session ends with `stop` at the latest.
    #[must_use]
    pub fn new(stream: StreamId, stop: &CancellationToken) -> Arc<Self> {
        let close = stop.child_token();
        Arc::new(Self { stream, committed: Mutex::default(), filled: Notify::new(), close })
    }

    /// Adds what was committed.
    pub fn put(&self, seqs: &SeqRanges) {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner).extend(seqs);
        self.filled.notify_one();
    }

    /// Waits until there is something, and takes it all. Nothing is lost when the wait is given up.
    pub async fn take(&self) -> SeqRanges {
        loop {
            let seqs = std::mem::take(&mut *self.committed.lock().unwrap_or_else(PoisonError::into_inner));
            if !seqs.is_empty() {
                return seqs;
            }
            self.filled.notified().await;
        }
    }
}

/// What is known of a gateway, for the API.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    /// Whether a session is open.
    pub connected: bool,
    /// Since when it is, or since when it isn't.
    pub since: Timestamp,
    /// When it last said anything.
    pub heard: Timestamp,
    /// From where.
    pub peer: Option<SocketAddr>,
    /// Its agent's version.
    pub version: String,
    /// Its spool.
    pub stream: StreamId,
    /// Its last status.
    pub status: Option<Status>,
    /// Blocks taken in since the collector started.
    pub blocks: u64,
    /// Blocks refused since then.
    pub rejected: u64,
}

#[derive(Debug, Default)]
struct Gateway {
    /// Held by its session: a gateway has one at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
    outbox: Option<Arc<Outbox>>,
    seen: Option<Seen>,
}

/// All gateways that connected since the start.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<GatewayId, Gateway>>);

/// A gateway's turn; when it is dropped, the session is over.
#[derive(Debug)]
pub struct Turn {
    sessions: Arc<Sessions>,
    gateway: GatewayId,
    outbox: Arc<Outbox>,
    _held: tokio::sync::OwnedMutexGuard<()>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut gateways = self.sessions.lock();
        let Some(gateway) = gateways.get_mut(&self.gateway) else { return };
        if gateway.outbox.as_ref().is_some_and(|o| Arc::ptr_eq(o, &self.outbox)) {
            gateway.outbox = None;
            if let Some(seen) = &mut gateway.seen {
                seen.connected = false;
                seen.since = Timestamp::wall_clock();
            }
        }
    }
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<GatewayId, Gateway>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the gateway's earlier session, waits until it is over, and begins this one. A gateway that came back
    /// on another network must not wait until the old connection is found dead.
    pub async fn begin(self: &Arc<Self>, gateway: &GatewayId, outbox: Arc<Outbox>, seen: Seen) -> Turn {
        let held = loop {
            let (turn, earlier) = {
                let mut gateways = self.lock();
                let entry = gateways.entry(gateway.clone()).or_default();
                (Arc::clone(&entry.turn), entry.outbox.clone())
            };
            if let Some(earlier) = earlier {
                tracing::info!(%gateway, "a new connection takes over from an earlier one");
                earlier.close.cancel();
            }
            // Looked at again now and then: one that waited beside us may have had its turn meanwhile.
            if let Ok(held) = tokio::time::timeout(Duration::from_secs(1), turn.lock_owned()).await {
                break held;
            }
        };
        let mut gateways = self.lock();
        let entry = gateways.entry(gateway.clone()).or_default();
        entry.outbox = Some(Arc::clone(&outbox));
        let (blocks, rejected) = entry.seen.as_ref().map_or((0, 0), |s| (s.blocks, s.rejected));
        let status = entry.seen.take().and_then(|s| s.status);
        entry.seen = Some(Seen { blocks, rejected, status, ..seen });
        drop(gateways);
        Turn { sessions: Arc::clone(self), gateway: gateway.clone(), outbox, _held: held }
    }

    /// Changes what is known of a gateway.
    pub fn update(&self, gateway: &GatewayId, change: impl FnOnce(&mut Seen)) {
        if let Some(seen) = self.lock().get_mut(gateway).and_then(|g| g.seen.as_mut()) {
            change(seen);
        }
    }

    /// Tells the gateway, if it is here with that stream, what was committed.
    pub fn committed(&self, gateway: &GatewayId, stream: StreamId, seqs: &SeqRanges) {
        let outbox = self.lock().get(gateway).and_then(|g| g.outbox.clone());
        if let Some(outbox) = outbox.filter(|o| o.stream == stream) {
            outbox.put(seqs);
        }
    }

    /// Everything that is known, by name.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(GatewayId, Seen)> {
        let mut all: Vec<_> =
            self.lock().iter().filter_map(|(name, g)| Some((name.clone(), g.seen.clone()?))).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::ids::Seq;

    fn seen() -> Seen {
        Seen {
            connected: true,
            since: Timestamp(0),
            heard: Timestamp(0),
            peer: None,
            version: "0.1.0".into(),
            stream: StreamId(1),
            status: None,
            blocks: 0,
            rejected: 0,
        }
    }

    #[tokio::test]
    async fn a_second_session_of_a_gateway_ends_the_first_and_waits_for_it() {
        let (sessions, stop) = (Arc::new(Sessions::default()), CancellationToken::new());
        let gateway = GatewayId::new("STATION_7").unwrap();
        let first = Outbox::new(StreamId(1), &stop);
        let turn = sessions.begin(&gateway, Arc::clone(&first), seen()).await;
        let (again, name) = (Arc::clone(&sessions), gateway.clone());
        let second = Outbox::new(StreamId(1), &stop);
        let mut next = tokio::spawn(async move { again.begin(&name, second, seen()).await });
        first.close.cancelled().await;
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut next).await.is_err(), "the first isn't over yet");
        drop(turn);
        let turn = next.await.unwrap();
        assert!(sessions.snapshot()[0].1.connected);
        drop(turn);
        assert!(!sessions.snapshot()[0].1.connected);
    }

    #[tokio::test]
    async fn what_is_committed_reaches_the_session_of_that_stream_joined() {
        let (sessions, stop) = (Arc::new(Sessions::default()), CancellationToken::new());
        let gateway = GatewayId::new("STATION_7").unwrap();
        let outbox = Outbox::new(StreamId(1), &stop);
        let _turn = sessions.begin(&gateway, Arc::clone(&outbox), seen()).await;
        for seq in [1, 2, 4] {
            sessions.committed(&gateway, StreamId(1), &[Seq(seq)].into_iter().collect());
        }
        sessions.committed(&gateway, StreamId(2), &[Seq(9)].into_iter().collect());
        assert_eq!(outbox.take().await, [Seq(1), Seq(2), Seq(4)].into_iter().collect());
    }
}
