//! The live feed: newest values by WebSocket, as they arrive.
//!
//! ```text
//! client    {"type":"watch","all":true}   or   {"type":"watch","nodes":["DIST_001"],"series":[7],"anomalies":true}
//! server    {"type":"snapshot","now":…,"items":[as in /latest],"unknown":[…],"degraded":[…]}
//! server    {"type":"values","now":…,"items":[{"series":7,"at":…,"value":1.5,"quality":"good"}]}  again and again
//! server    {"type":"anomalies","now":…,"whole":true,"truncated":false,"items":[as in /anomalies],"gone":[17]}
//! server    {"type":"alive","now":…}                                                every 20 s
//! ```
//!
//! A later `watch` takes the place of the one before, and is answered by a snapshot of its own. Values are news to
//! `latest`: they never go back in time, and a client that is slow gets the newest of each series only. Who wants anomalies
//! is told all that aren't closed at first (`whole`), then those that are new or have changed, and in `gone` the numbers of
//! those that were closed. Whoever is logged out, or may do something else than before, is sent away at once, and when that was
//! done elsewhere within seconds. Whoever sends anything else, takes nothing or says nothing for too long is sent away with the reason.

mod seats;
mod told;

use super::access::who;
use super::document::{TooOften, Upgrade};
use super::origin::same_origin;
use super::peer::Peer;
use super::rates::who_counts;
use super::tally::Full;
use super::{Api, Problem, anomalies, views};
use crate::access::{Principal, Way};
use crate::analytics::store::Anomaly;
use crate::anomalies::Standing;
use crate::tiers::{SeriesId, StoredReading, TierError};
use axum::Extension;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::HeaderMap;
use axum::response::Response;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use seats::Seats;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::ids::NodeId;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{Notify, mpsc};
use told::{News, Told};

/// Most clients at a time,
pub(super) const CLIENTS_MAX: usize = 1_000;
/// and of each user, token or address.
const CLIENTS_EACH: usize = 100;
/// Most bytes of a message from a client: a thousand long names.
const MESSAGE_MAX: usize = 64 << 10;
/// Most series that one client watches.
const SERIES_MAX: usize = 10_000;
/// Between two messages to a client at least; what arrives meanwhile goes together.
const PACE: Duration = Duration::from_millis(50);
/// Between two `watch` of a client at least.
const WATCH_PAUSE: Duration = Duration::from_millis(200);
/// How long a client may take to take a message.
const SEND_WITHIN: Duration = Duration::from_secs(20);
/// A client is asked so often whether it is there,
const ASK_EVERY: Duration = Duration::from_secs(20);
/// and is gone when nothing was heard for so long.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// It is looked so often whether a client is still in, should nobody have told: with 500 clients 250 short questions a second
/// to the shelf of sessions.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long the last word may take.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);
/// Most bytes of a reason: what a close frame holds.
const REASON_MAX: usize = 123;

/// What a client may say.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
enum Asked {
    /// Show me these from now on.
    Watch {
        /// Every series.
        #[serde(default)]
        all: bool,
        /// Every series of these nodes.
        #[serde(default)]
        nodes: Vec<NodeId>,
        /// These series.
        #[serde(default)]
        series: Vec<u32>,
        /// And what is out of the ordinary, wherever it is.
        #[serde(default)]
        anomalies: bool,
    },
}

/// Why it is over.
enum End {
    /// The client went, or the connection did.
    Gone,
    /// The collector stops.
    Stopping,
    /// It takes or says nothing.
    Silent(&'static str),
    /// It said what can't be answered.
    Wrong(String),
    /// It said too much.
    TooMuch(String),
    /// The tiers don't answer.
    Tier(TierError),
}

impl End {
    fn frame(&self) -> Option<CloseFrame> {
        let (code, reason) = match self {
            End::Gone => return None,
            End::Stopping => (close_code::AWAY, "the collector stops"),
            End::Silent(why) => (close_code::POLICY, *why),
            End::Wrong(why) => (close_code::POLICY, why.as_str()),
            End::TooMuch(why) => (close_code::SIZE, why.as_str()),
            End::Tier(why) => {
                tracing::debug!(error = %why, "a live client can't be told anything");
                (close_code::AGAIN, "a tier is not available; try again")
            }
        };
        let mut end = reason.len().min(REASON_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        Some(CloseFrame { code, reason: reason[..end].into() })
    }
}

/// The live feed
///
/// A WebSocket with newest values as they arrive. Send `{"type":"watch","all":true}` or
/// `{"type":"watch","nodes":["DIST_001"],"series":[7]}`; a later `watch` takes the place of the one before. Each is answered
/// by a `snapshot` with items as in `/api/v1/latest`, then come `values`, at most every 50 ms and of each series the newest
/// only, and `alive` every 20 s. Values never go back in time. With `"anomalies":true` there come `anomalies`, too: all that
/// aren't closed at first, with `whole`, then in `items` those that are new or have changed and in `gone` the ids of those
/// that were closed. Whoever takes nothing or says nothing for too long, is logged out, or may do something else than
/// before, is sent away with the reason; answering pings is enough.
#[utoipa::path(get, path = "/api/v1/live", tag = "Readings",
    responses((status = 101, description = "From here on it is a WebSocket."), Upgrade, TooOften))]
pub(super) async fn live(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    same_origin(&headers)?;
    let upgrade = upgrade.map_err(|error| Problem::no_upgrade(error.body_text()))?;
    // Where nobody has to say who it is there is only this machine, for everybody.
    let each = if who.way == Way::Open { CLIENTS_MAX } else { CLIENTS_EACH };
    let counted = who_counts(Some(&who), peer).unwrap_or_default();
    let place = api.clients.enter(counted, each).map_err(|full| match full {
        Full::Theirs => Problem::too_many_feeds(each),
        Full::All => Problem::busy(),
    })?;
    let upgrade = upgrade.max_message_size(4 * MESSAGE_MAX).max_frame_size(4 * MESSAGE_MAX);
    Ok(upgrade.on_upgrade(async move |socket| {
        serve(api, who, headers, socket).await;
        drop(place);
    }))
}

async fn serve(api: Api, who: Principal, headers: HeaderMap, socket: WebSocket) {
    metrics::gauge!("collector_live_clients").increment(1.0);
    let feed = api.sources.hot.subscribe();
    let stop = api.stop.clone();
    let client =
        Client { api, who, headers, seats: Mutex::default(), news: Notify::new(), anomalies: AtomicBool::new(false) };
    let (mut sink, stream) = socket.split();
    let (snapshots, queue) = mpsc::channel(1);
    let end = tokio::select! {
        end = client.hear(stream, snapshots) => end,
        end = client.follow(feed) => end,
        end = client.tell(&mut sink, queue) => end,
        end = client.may_no_more() => end,
        () = stop.cancelled() => End::Stopping,
    };
    if let Some(frame) = end.frame() {
        tracing::debug!(code = frame.code, reason = frame.reason.as_str(), "a live client is sent away");
        let _ = tokio::time::timeout(GOODBYE_WITHIN, sink.send(Message::Close(Some(frame)))).await;
    }
    metrics::gauge!("collector_live_clients").decrement(1.0);
}

struct Client {
    api: Api,
    /// Who it was when it came,
    who: Principal,
    /// and by what that was known: whoever loses access meanwhile loses the feed.
    headers: HeaderMap,
    seats: Mutex<Seats>,
    news: Notify,
    /// Whether it wants to know what is out of the ordinary.
    anomalies: AtomicBool,
}

impl Client {
    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when it is out, or may do something else than when it came: it is told so, or sees it.
    async fn may_no_more(&self) -> End {
        let mut news = self.api.sources.access.news();
        loop {
            match who(&self.api, &self.headers).await {
                Ok(None) => return End::Wrong("log in again".into()),
                Ok(Some(now)) if now != self.who => return End::Wrong("what you may do has changed".into()),
                _ => {} // when nobody can be looked up, those of before hold
            }
            tokio::select! {
                Ok(()) = news.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// What the client says.
    async fn hear(&self, mut stream: SplitStream<WebSocket>, snapshots: mpsc::Sender<String>) -> End {
        loop {
            let text = match tokio::time::timeout(SILENCE_MAX, stream.next()).await {
                Err(_) => return End::Silent("nothing was heard for a minute"),
                Ok(None | Some(Ok(Message::Close(_)))) => return End::Gone,
                Ok(Some(Err(error))) => return End::Wrong(format!("no WebSocket message: {error}")),
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => continue, // the library answers
                Ok(Some(Ok(Message::Binary(_)))) => return End::Wrong("messages are text: JSON".into()),
                Ok(Some(Ok(Message::Text(text)))) => text,
            };
            if text.len() > MESSAGE_MAX {
                return End::TooMuch(format!("a message has at most {MESSAGE_MAX} bytes"));
            }
            let asked = match serde_json::from_str(&text) {
                Ok(asked) => asked,
                Err(error) => return End::Wrong(format!("not understood: {error}")),
            };
            // One place is taken before: a client that asks and doesn't take waits for itself.
            let Ok(place) = snapshots.reserve().await else { return End::Gone };
            match self.watch(asked).await {
                Ok(snapshot) => place.send(snapshot),
                Err(end) => return end,
            }
            tokio::time::sleep(WATCH_PAUSE).await;
        }
    }

    async fn watch(&self, Asked::Watch { all, nodes, series, anomalies }: Asked) -> Result<String, End> {
        let known = self.api.directory.get().await.map_err(End::Tier)?;
        let mut nodes: HashMap<NodeId, bool> = nodes.into_iter().map(|node| (node, false)).collect();
        let mut numbers: BTreeSet<u32> = series.into_iter().collect();
        let mut ids = Vec::new();
        for info in known.all() {
            let by_node = nodes.get_mut(&info.key.node).map(|seen| *seen = true).is_some();
            let by_number = numbers.remove(&info.id.0);
            if all || by_node || by_number {
                ids.push(info.id);
            }
        }
        if ids.len() > SERIES_MAX {
            return Err(End::TooMuch(format!("at most {SERIES_MAX} series can be watched, these are {}", ids.len())));
        }
        let nodes = nodes.into_iter().filter(|(_, seen)| !seen).map(|(node, _)| json!(node));
        let unknown: Vec<Value> = nodes.chain(numbers.into_iter().map(|number| json!(number))).collect();
        if anomalies && !self.anomalies.load(Ordering::Relaxed) {
            self.api.sources.anomalies.look().await;
            self.anomalies.store(true, Ordering::Relaxed); // seen when the snapshot is told
        }
        self.seats().watch(ids.iter().copied());
        let mut degraded: Vec<String> = known.doubt.clone().into_iter().collect();
        degraded.extend(self.look(&ids).await.map_err(End::Tier)?);
        let now = (self.api.sources.now)();
        let items: Vec<views::Latest> = self
            .seats()
            .open()
            .iter()
            .filter_map(|reading| Some(views::Latest::of(known.one_named(reading.series)?, reading, now)))
            .collect();
        let snapshot = json!({
            "type": "snapshot", "now": now.to_string(), "items": items, "unknown": unknown, "degraded": degraded,
        });
        Ok(snapshot.to_string())
    }

    /// Takes the newest values from the tiers; what is wrong with them, in words.
    async fn look(&self, ids: &[SeriesId]) -> Result<Vec<String>, TierError> {
        let _turn = self.api.snapshots.acquire().await; // never closed; an error would only mean no turn
        let (readings, degraded) = self.api.history.latest(ids).await?;
        let mut seats = self.seats();
        for reading in &readings {
            seats.offer(reading);
        }
        Ok(degraded)
    }

    /// What arrives.
    async fn follow(&self, mut feed: broadcast::Receiver<Arc<[StoredReading]>>) -> End {
        loop {
            match feed.recv().await {
                Ok(readings) => self.take(&readings),
                Err(RecvError::Closed) => return End::Stopping,
                Err(RecvError::Lagged(missed)) => {
                    metrics::counter!("collector_live_batches_missed_total").increment(missed);
                    let ids = self.seats().series();
                    if let Err(error) = self.look(&ids).await {
                        return End::Tier(error);
                    }
                    self.news.notify_one();
                }
            }
        }
    }

    fn take(&self, readings: &[StoredReading]) {
        let mut seats = self.seats();
        let news = readings.iter().fold(false, |news, reading| seats.offer(reading) | news);
        if news {
            self.news.notify_one();
        }
    }

    /// What the client is told.
    async fn tell(&self, sink: &mut SplitSink<WebSocket, Message>, mut queue: mpsc::Receiver<String>) -> End {
        let mut asking = tokio::time::interval_at(tokio::time::Instant::now() + ASK_EVERY, ASK_EVERY);
        let (mut standing, mut told) = (self.api.sources.anomalies.watch(), Told::default());
        loop {
            // A snapshot goes before what builds on it, and values, of which there may always be some, after all else.
            let text = tokio::select! {
                biased;
                Some(snapshot) = queue.recv() => snapshot,
                _ = asking.tick() => {
                    // Its answer says to us that it is there, the text says so to a page, which sees no pings.
                    let _ = tokio::time::timeout(SEND_WITHIN, sink.feed(Message::Ping(Vec::new().into()))).await;
                    json!({ "type": "alive", "now": (self.api.sources.now)().to_string() }).to_string()
                }
                Ok(()) = standing.changed(), if self.anomalies.load(Ordering::Relaxed) => {
                    let now = standing.borrow_and_update().clone();
                    match self.of_anomalies(&mut told, now).await {
                        Some(text) => text,
                        None => continue,
                    }
                }
                () = self.news.notified() => match self.news() {
                    Some(text) => text,
                    None => continue,
                },
            };
            match tokio::time::timeout(SEND_WITHIN, sink.send(Message::Text(text.into()))).await {
                Ok(Ok(())) => tokio::time::sleep(PACE).await,
                Ok(Err(_)) => return End::Gone,
                Err(_) => return End::Silent("nothing was taken for 20 s"),
            }
        }
    }

    fn news(&self) -> Option<String> {
        let news = self.seats().news();
        let items: Vec<views::Value> = news.iter().map(views::Value::of).collect();
        let now = (self.api.sources.now)();
        (!items.is_empty()).then(|| json!({ "type": "values", "now": now.to_string(), "items": items }).to_string())
    }

    async fn of_anomalies(&self, told: &mut Told, standing: Option<Standing>) -> Option<String> {
        let (standing, known) = (standing?, self.api.directory.get().await.ok()?);
        let News { whole, items, gone } = told.news(&standing)?;
        let view = |one: Anomaly| anomalies::View::of(known.one(one.series), one);
        let (items, now): (Vec<_>, _) = (items.into_iter().map(view).collect(), (self.api.sources.now)());
        let (truncated, now) = (standing.truncated, now.to_string());
        let news = json!({
            "type": "anomalies", "now": now, "whole": whole, "truncated": truncated, "items": items, "gone": gone,
        });
        Some(news.to_string())
    }
}
