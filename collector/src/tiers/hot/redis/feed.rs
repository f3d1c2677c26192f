//! Live values for every collector's subscribers, by publish and subscribe.
//!
//! A collector's own readings go to its subscribers directly; those of others come from Redis. So every subscriber
//! gets each once, and one's own still come while Redis is away. The subscribing connection is also what notices that
//! Redis came back.

use super::link::fault;
use super::{Inner, identity};
use crate::tiers::{SeriesId, StoredReading, TierError};
use futures::StreamExt;
use shared::reading::{Held, Quality, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

/// Batches that a slow subscriber may be behind.
const FEED_BATCHES: usize = 1_024;
/// Most readings of one message.
const MESSAGE_MAX: usize = 4_096;
/// Between attempts to connect.
const PAUSE: Duration = Duration::from_secs(1);
/// A connection on which nothing comes is asked whether it is alive.
const SILENCE: Duration = Duration::from_secs(5);
/// Bytes of a reading in a message.
const WIDTH: usize = 25;

pub(super) struct Feed {
    inner: Arc<Inner>,
    origin: u64,
    sender: broadcast::Sender<Arc<[StoredReading]>>,
    listening: JoinHandle<()>,
    watching: JoinHandle<()>,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.listening.abort();
        self.watching.abort();
    }
}

impl Feed {
    /// Listens from now on. Must be called on a runtime.
    pub(super) fn start(inner: Arc<Inner>) -> Self {
        let (sender, _) = broadcast::channel(FEED_BATCHES);
        let origin = identity();
        let listening = tokio::spawn(listen(inner.clone(), sender.clone(), origin));
        let watching = tokio::spawn(watch(inner.clone()));
        Self { inner, origin, sender, listening, watching }
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<[StoredReading]>> {
        self.sender.subscribe()
    }

    pub(super) async fn publish(&self, readings: &[StoredReading]) {
        if readings.is_empty() {
            return;
        }
        if self.sender.receiver_count() > 0 {
            let _ = self.sender.send(readings.into());
        }
        let Ok(channel) = channel(&self.inner) else { return }; // nobody hears it
        for part in readings.chunks(MESSAGE_MAX) {
            let mut publish = redis::cmd("PUBLISH");
            publish.arg(&channel).arg(encode(self.origin, part));
            if let Err(error) = self.inner.link.command::<()>(&publish).await {
                tracing::debug!(%error, "other collectors don't see these live values");
                metrics::counter!("collector_hot_feed_lost_total").increment(part.len() as u64);
            }
        }
    }
}

fn channel(inner: &Inner) -> Result<String, TierError> {
    Ok(format!("{}:feed", inner.known_prefix()?))
}

fn encode(origin: u64, readings: &[StoredReading]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + readings.len() * WIDTH);
    bytes.extend_from_slice(&origin.to_le_bytes());
    for StoredReading { series, at, held } in readings {
        bytes.extend_from_slice(&series.0.to_le_bytes());
        bytes.extend_from_slice(&at.0.to_le_bytes());
        bytes.extend_from_slice(&held.value.unwrap_or(f64::NAN).to_bits().to_le_bytes());
        bytes.push(held.quality.0);
        bytes.extend_from_slice(&held.revision.to_le_bytes());
    }
    bytes
}

/// The origin and the readings of a message; `None`: it is none of ours.
fn decode(bytes: &[u8]) -> Option<(u64, Vec<StoredReading>)> {
    let (origin, rest) = bytes.split_first_chunk()?;
    let (readings, rest) = rest.as_chunks::<WIDTH>();
    let reading = |r: &[u8; WIDTH]| {
        let value = f64::from_bits(u64::from_le_bytes(r[12..20].try_into().ok()?));
        Some(StoredReading {
            series: SeriesId(u32::from_le_bytes(r[..4].try_into().ok()?)),
            at: Timestamp(i64::from_le_bytes(r[4..12].try_into().ok()?)),
            held: Held {
                value: Some(value).filter(|v| !v.is_nan()),
                quality: Quality(r[20]),
                revision: u32::from_le_bytes(r[21..].try_into().ok()?),
            },
        })
    };
    let readings: Option<Vec<_>> = readings.iter().map(reading).collect();
    rest.is_empty().then_some((u64::from_le_bytes(*origin), readings?))
}

async fn listen(inner: Arc<Inner>, sender: broadcast::Sender<Arc<[StoredReading]>>, origin: u64) {
    let mut complained = false;
    let mut prefix = inner.prefix.subscribe();
    while prefix.wait_for(Option::is_some).await.is_ok() {
        let Ok(channel) = channel(&inner) else { continue };
        let heard = tokio::select! {
            heard = hear(&inner, &channel, (&sender, origin), &mut complained) => heard,
            _ = prefix.changed() => continue,
        };
        match heard {
            Ok(()) => {}
            Err(error) if complained => tracing::debug!(error = %inner.link.explain(&error), "Redis is away"),
            Err(error) => {
                tracing::warn!(error = %inner.link.explain(&error), "no live values of other collectors");
                complained = true;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Passes on what comes, until the connection breaks.
async fn hear(
    inner: &Inner,
    channel: &str,
    (sender, origin): (&broadcast::Sender<Arc<[StoredReading]>>, u64),
    complained: &mut bool,
) -> redis::RedisResult<()> {
    let timeout = |_| redis::RedisError::from((redis::ErrorKind::Io, "it doesn't answer"));
    let client = inner.link.client();
    let connecting = tokio::time::timeout(SILENCE, client.get_async_pubsub());
    let (mut sink, mut messages) = connecting.await.map_err(timeout)??.split();
    tokio::time::timeout(SILENCE, sink.subscribe(channel)).await.map_err(timeout)??;
    tracing::info!(redis = inner.link.place(), "connected");
    *complained = false;
    inner.lose(); // whatever happened meanwhile: what is missing is filled in
    loop {
        match tokio::time::timeout(SILENCE, messages.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(message)) => match decode(message.get_payload_bytes()) {
                Some((from, readings)) if from != origin => {
                    let _ = sender.send(readings.into());
                }
                Some(_) => {}
                None => tracing::debug!("a message in our channel that none of ours wrote"),
            },
            Err(_) => {
                let _: redis::Value = tokio::time::timeout(SILENCE, sink.ping()).await.map_err(timeout)??;
            }
        }
    }
}

/// Looks what is wrong with the server, and says so when that changes.
async fn watch(inner: Arc<Inner>) {
    loop {
        inner.inspect().await;
        tokio::time::sleep(SILENCE).await;
    }
}

impl Inner {
    async fn inspect(&self) {
        let Ok(info) = self.link.command::<String>(&redis::cmd("INFO")).await else {
            return; // that it is away others find out
        };
        let (place, found) = (self.link.place(), fault(&info));
        let before = std::mem::replace(&mut *self.fault(), found.as_ref().map(|why| format!("{place}: {why}")));
        match (before, found) {
            (None, Some(why)) => {
                tracing::error!(redis = place, "{why}. What it hasn't got is asked of the warm tier");
            }
            (Some(_), None) => tracing::info!(redis = place, "its settings and memory are in order again"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back() {
        let held = Held { value: None, quality: Quality::BAD_LINK, revision: 2 };
        let a = StoredReading { series: SeriesId(7), at: Timestamp(-5), held };
        let b = StoredReading { held: Held { value: Some(1.5), ..held }, ..a };
        assert_eq!(decode(&encode(9, &[a, b])), Some((9, vec![a, b])));
        assert_eq!(decode(&encode(9, &[])), Some((9, vec![])));
        assert_eq!(decode(b"short"), None);
        assert_eq!(decode(&[0; 12]), None);
    }
}
