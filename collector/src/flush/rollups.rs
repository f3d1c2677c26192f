//! Rollups are brought up to date after the commits, in slices: a commit that waits has its turn after a slice.

use crate::tiers::WarmTier;
use shared::reading::{Timestamp, micros};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Buckets in one transaction.
const SLICE: u32 = 512;
/// A bucket is done when it has ended for so long: by then mostly all of it has come, and it is read once. What has come of
/// it by then is answered from the hot tier, or from readings.
const ENDED_FOR: Duration = Duration::from_secs(90);
/// What comes late makes buckets dirty again: rounds come not more often than this.
const ROUND_EVERY: Duration = Duration::from_secs(10);
/// What makes them come late keeps on doing so: after a round that takes longer they come after as long a rest, up to this.
const REST_MAX: Duration = Duration::from_secs(60);
/// What was written last ends without a word.
const LOOK_EVERY: Duration = Duration::from_secs(300);
/// The part of its time that a slice is rested after.
const REST_AFTER_SLICE: u32 = 4;
/// After an error.
const PAUSE: Duration = Duration::from_secs(10);

/// Keeps them, until `stop`.
pub async fn keep_rollups(warm: Arc<dyn WarmTier>, dirty: Arc<Notify>, stop: CancellationToken) {
    let work = async {
        loop {
            let pause = round(&*warm).await;
            tokio::time::sleep(pause).await;
            let _ = tokio::time::timeout(LOOK_EVERY, dirty.notified()).await;
        }
    };
    stop.run_until_cancelled(work).await;
}

/// Everything that is dirty now, and how long to rest.
async fn round(warm: &dyn WarmTier) -> Duration {
    let began = Instant::now();
    let by = Timestamp::wall_clock().plus_micros(-micros(ENDED_FOR));
    loop {
        let slice = Instant::now();
        match warm.refresh_ended(by, SLICE).await {
            Ok(done) => {
                metrics::counter!("collector_rollups_refreshed_total").increment(u64::from(done));
                if done < SLICE {
                    return ROUND_EVERY.max(began.elapsed().min(REST_MAX));
                }
                // Buckets of all series end at one moment, and a commit may wait for its turn.
                tokio::time::sleep(slice.elapsed() / REST_AFTER_SLICE).await;
            }
            Err(error) => {
                tracing::warn!(%error, "rollups can't be refreshed; those buckets are answered from readings");
                return PAUSE;
            }
        }
    }
}
