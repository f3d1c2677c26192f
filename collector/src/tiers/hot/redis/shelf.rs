//! Small values in Redis: one hash for each kind, every value with its own end, so that no command needs two keys.

use super::{Inner, RedisHot, TIER};
use crate::tiers::hot::shelf::{COUNT_MAX, Kind, Shelf, check};
use crate::tiers::{TierError, TierFuture};
use redis::ScriptInvocation;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// On the same connection as the hot tier.
pub struct RedisShelf(Arc<Inner>);

impl RedisHot {
    /// The shelf beside it.
    #[must_use]
    pub fn shelf(&self) -> RedisShelf {
        RedisShelf(self.inner.clone())
    }
}

impl RedisShelf {
    fn call(&self, kind: Kind, verb: &str) -> Result<ScriptInvocation<'_>, TierError> {
        let kind = kind.as_str();
        let mut call = self.0.scripts.shelf.key(format!("{}:{{{kind}}}", self.0.known_prefix()?));
        call.arg(verb).arg(COUNT_MAX);
        Ok(call)
    }
}

impl Shelf for RedisShelf {
    fn set<'a>(&'a self, kind: Kind, key: &'a str, value: &'a [u8], stays: Duration) -> TierFuture<'a, ()> {
        Box::pin(async move {
            check(TIER, key, value)?;
            let mut call = self.call(kind, "set")?;
            call.arg(key).arg(value).arg(u64::try_from(stays.as_millis()).unwrap_or(u64::MAX).min(1 << 42));
            self.0.link.ask(&call).await
        })
    }

    fn get<'a>(&'a self, kind: Kind, key: &'a str) -> TierFuture<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            let mut call = self.call(kind, "get")?;
            call.arg(key);
            self.0.link.ask(&call).await
        })
    }

    fn remove<'a>(&'a self, kind: Kind, key: &'a str) -> TierFuture<'a, bool> {
        Box::pin(async move {
            let mut call = self.call(kind, "remove")?;
            call.arg(key);
            self.0.link.ask(&call).await
        })
    }

    fn all(&self, kind: Kind) -> TierFuture<'_, BTreeMap<String, Vec<u8>>> {
        Box::pin(async move { self.0.link.ask(&self.call(kind, "all")?).await })
    }
}
