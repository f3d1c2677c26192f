//! Whose readings lie in Redis. Series are numbers that one warm tier gave out: under another one they mean something
//! else. So its name is part of every key, and several installations that share a Redis, by intent or by mistake, never meet.

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
        self.inner.prefix.send_replace(None);
        self
    }

    /// From now on readings of the warm tier of that name are put, found and forgotten.
    ///
    /// # Errors
    /// When Redis doesn't answer; then call it again.
    pub async fn belong_to(&self, warm: &str) -> Result<(), TierError> {
        let inner = &self.inner;
        if inner.prefix.borrow().is_none() {
            try_join_all((0..BUCKETS).map(|bucket| inner.clear(bucket))).await?;
            inner.prefix.send_replace(Some(format!("{}:{warm}", inner.configured)));
        }
        Ok(())
    }

    /// What lies there is all that was put: it may be asked.
    pub fn adopt(&self) {
        self.inner.adopted.store(true, Ordering::Release);
    }
}

impl Inner {
    /// What was put when nobody knew whose it was. Without its root nothing else of a bucket counts, and that runs out.
    async fn clear(&self, bucket: u32) -> Result<(), TierError> {
        let prefix = self.bucket_prefix(bucket);
        for key in ["root", "latest"] {
            self.link.command::<()>(redis::cmd("DEL").arg(format!("{prefix}{key}"))).await?;
        }
        Ok(())
    }
}
