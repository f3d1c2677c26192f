//! Rollups are brought up to date after the commits, in slices: a commit that waits has its turn after a slice.

use crate::tiers::WarmTier;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Buckets in one transaction.
const SLICE: u32 = 512;
/// A bucket that is still being written to is done again with every round: not more often than this.
const ROUND_EVERY: Duration = Duration::from_secs(10);
/// Where a round takes long it rests so many times as long, which leaves nine tenths of the time to others,
const REST: u32 = 9;
/// but not longer than a bucket. What is out of date meanwhile is answered from the hot tier, or from readings.
const REST_MAX: Duration = Duration::from_secs(300);
/// After an error.
const PAUSE: Duration = Duration::from_secs(10);

/// Keeps them, until `stop`.
pub async fn keep_rollups(warm: Arc<dyn WarmTier>, dirty: Arc<Notify>, stop: CancellationToken) {
    let work = async {
        loop {
            let pause = round(&*warm).await;
            tokio::time::sleep(pause).await;
            dirty.notified().await;
        }
    };
    stop.run_until_cancelled(work).await;
}

/// Everything that is dirty now, and how long to rest.
async fn round(warm: &dyn WarmTier) -> Duration {
    let began = Instant::now();
    loop {
        match warm.refresh_rollups(SLICE).await {
            Ok(done) => {
                metrics::counter!("collector_rollups_refreshed_total").increment(u64::from(done));
                if done < SLICE {
                    return ROUND_EVERY.max((began.elapsed() * REST).min(REST_MAX));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "rollups can't be refreshed; those buckets are answered from readings");
                return PAUSE;
            }
        }
    }
}
