//! What is active now, for those who watch: looked up at once after a change here, and every second for those elsewhere.

use super::Anomalies;
use crate::analytics::store::Anomaly;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between looks, for what other collectors change.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two looks at least.
const PAUSE: Duration = Duration::from_millis(100);

/// What is active.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Standing {
    /// The latest start first.
    pub active: Arc<Vec<Anomaly>>,
    /// There are more than these.
    pub truncated: bool,
}

impl Anomalies {
    /// What is active, as it changes from now on; the first is that it is known. `None` until a tier could say.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Option<Standing>> {
        let mut standing = self.standing.subscribe();
        standing.mark_changed();
        standing
    }

    /// Keeps those who watch informed, until `stop`.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let mut changed = self.changed.subscribe();
        loop {
            let next = async {
                tokio::time::sleep(PAUSE).await;
                let _ = tokio::time::timeout(LOOK_EVERY, changed.changed()).await;
            };
            if stop.run_until_cancelled(next).await.is_none() {
                return;
            }
            if self.standing.receiver_count() > 0 || self.doubt.load(Ordering::SeqCst) {
                self.look().await;
            }
        }
    }

    /// Looks now; those who watch are told when it has changed.
    pub async fn look(&self) {
        let now = match self.active().await {
            Ok((active, whole)) => Some(Standing { active: Arc::new(active), truncated: !whole }),
            Err(error) => return tracing::debug!(%error, "those who watch see active anomalies as they were"),
        };
        self.standing.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }
}
