//! Whose readings lie in Redis. Series are numbers that one warm tier gave out: under another one they mean something
//! else, and what a Redis holds of the former must not show.

use super::batch::BUCKETS;
use super::{Inner, RedisHot};
use crate::tiers::TierError;
use futures::future::try_join_all;
use std::sync::atomic::Ordering;

impl RedisHot {
    /// Says nothing until [`RedisHot::adopt`] has been called.
    #[must_use]
    pub fn unadopted(self) -> Self {
        self.inner.adopted.store(false, Ordering::Release);
        self
    }

    /// Throws out everything unless it belongs to the warm tier of this name.
    ///
    /// # Errors
    /// When Redis doesn't answer; then it still says nothing.
    pub async fn adopt(&self, warm: &str) -> Result<(), TierError> {
        let inner = &self.inner;
        let key = format!("{}:warm", inner.prefix);
        let held: Option<String> = inner.link.command(redis::cmd("GET").arg(&key)).await?;
        if held.as_deref() != Some(warm) {
            if held.is_some() {
                tracing::warn!(
                    redis = inner.link.place(),
                    "it holds readings of another warm tier; they are thrown out"
                );
            }
            try_join_all((0..BUCKETS).map(|bucket| inner.clear(bucket))).await?;
            inner.link.command::<()>(redis::cmd("SET").arg(&key).arg(warm)).await?;
        }
        inner.adopted.store(true, Ordering::Release);
        Ok(())
    }
}

impl Inner {
    /// Without its root nothing else of a bucket counts.
    async fn clear(&self, bucket: u32) -> Result<(), TierError> {
        let prefix = self.bucket_prefix(bucket);
        for key in ["root", "latest", "days"] {
            self.link.command::<()>(redis::cmd("DEL").arg(format!("{prefix}{key}"))).await?;
        }
        Ok(())
    }
}
