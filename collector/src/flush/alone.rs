//! A hot tier in a collector's own memory knows nothing of what other collectors store. Who has one begins an epoch at its
//! start; who finds that someone else began one isn't alone, and its hot tier says nothing any more.

use super::Flusher;
use crate::tiers::TierError;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between looks.
const LOOK: Duration = Duration::from_secs(1);
/// What is wrong then, and what to do.
pub const NOT_ALONE: &str = "another collector stores in the same database, so the last hours in memory can't be trusted and \
     aren't used: set [hot] store = \"redis\" on both, or stop one and restart the other";

impl Flusher {
    /// Looks whether it is, until `stop`.
    pub async fn stay_alone(&self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.look_for_others().await {
                tracing::debug!(%error, "whether other collectors store there isn't known");
            }
            if stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
                return;
            }
        }
    }

    async fn look_for_others(&self) -> Result<(), TierError> {
        let _turn = self.followed.flushing.lock().await;
        let epoch = self.warm.hot().account().await?.epoch;
        self.overtaken(epoch).await
    }

    /// This epoch holds. Called in a flush's turn.
    pub(super) async fn overtaken(&self, epoch: u64) -> Result<(), TierError> {
        let known = self.followed.epoch();
        if epoch <= known {
            return Ok(());
        }
        if self.hot_is_shared || self.hot.says_nothing() {
            self.followed.begin(epoch);
            return Ok(());
        }
        if known != 0 {
            self.hot.say_nothing();
            tracing::error!("{NOT_ALONE}");
        }
        // The others find this one by it.
        self.followed.begin(self.warm.hot().begin_epoch().await?);
        Ok(())
    }
}
