//! What gateways say of themselves goes into the warm tier now and then, so that it is known after a restart.

use super::sessions::{Seen, Sessions};
use crate::tiers::{Heard, WarmTier};
use shared::ids::GatewayId;
use shared::reading::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A connected gateway's last sign of life is written this often, microseconds.
const EVERY: i64 = 60_000_000;
/// How often it is looked for changes at most.
const PAUSE: Duration = Duration::from_secs(1);

/// Writes it down, until `stop`, and once more then.
pub async fn keep(sessions: Arc<Sessions>, warm: Arc<dyn WarmTier>, seen: Arc<Notify>, stop: CancellationToken) {
    let mut written = HashMap::new();
    loop {
        let stopping = stop.is_cancelled();
        for (gateway, seen) in sessions.snapshot() {
            if is_due(written.get(&gateway), &seen) && write(&*warm, &gateway, &seen).await {
                written.insert(gateway, seen);
            }
        }
        if stopping {
            return;
        }
        let next = async {
            tokio::time::sleep(PAUSE).await;
            let _ = tokio::time::timeout(Duration::from_micros(EVERY as u64), seen.notified()).await;
        };
        stop.run_until_cancelled(next).await;
    }
}

fn is_due(written: Option<&Seen>, seen: &Seen) -> bool {
    written.is_none_or(|written| {
        (written.connected, written.since, &written.status) != (seen.connected, seen.since, &seen.status)
            || seen.heard.since(written.heard) >= EVERY
    })
}

async fn write(warm: &dyn WarmTier, gateway: &GatewayId, seen: &Seen) -> bool {
    let status = seen.status.as_ref().and_then(|status| serde_json::to_value(status).ok());
    let at = if seen.connected { seen.heard } else { seen.since.min(Timestamp::wall_clock()) };
    let heard = Heard { at, version: Some(seen.version.clone()), status };
    match warm.gateway_heard(gateway, heard).await {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(%gateway, %error, "its sign of life can't be written");
            false
        }
    }
}
