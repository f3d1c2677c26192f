//! Days of rollups in Redis (`lua/days.lua`), seen by all collectors.

use super::batch::{BUCKETS, bucket_of};
use super::{Inner, RedisHot, identity};
use crate::tiers::hot::days::{Days, Kept, SeriesDay};
use crate::tiers::{Bucket, TierError, TierFuture};
use futures::future::try_join_all;
use redis::ScriptInvocation;
use std::collections::BTreeMap;
use std::sync::Arc;

/// On the same connection as the hot tier.
pub struct RedisDays(Arc<Inner>);

impl RedisHot {
    /// The days beside it.
    #[must_use]
    pub fn days(&self) -> RedisDays {
        RedisDays(self.inner.clone())
    }
}

impl RedisDays {
    fn call(&self, bucket: u32, verb: &str) -> ScriptInvocation<'_> {
        let mut call = self.0.call(&self.0.scripts.days, bucket);
        call.arg(verb).arg(identity()).arg(self.0.age / 1000);
        call
    }

    async fn tell(&self, days: &[SeriesDay], verb: &str) -> Result<(), TierError> {
        let mut buckets = BTreeMap::<u32, Vec<SeriesDay>>::new();
        for of in days {
            buckets.entry(bucket_of(of.series)).or_default().push(*of);
        }
        let tell = async |(bucket, days): (u32, Vec<SeriesDay>)| {
            let mut call = self.call(bucket, verb);
            for of in days {
                call.arg(of.series.0).arg(of.day);
            }
            self.0.link.ask::<()>(&call).await
        };
        try_join_all(buckets.into_iter().map(tell)).await?;
        Ok(())
    }
}

fn width(bucket: Bucket) -> &'static str {
    match bucket {
        Bucket::FiveMinutes => "5m",
        Bucket::Hour => "1h",
    }
}

impl Days for RedisDays {
    fn find(&self, of: SeriesDay, bucket: Bucket) -> TierFuture<'_, Kept> {
        Box::pin(async move {
            let mut call = self.call(bucket_of(of.series), "find");
            call.arg(of.series.0).arg(of.day).arg(width(bucket));
            let found: Vec<Vec<u8>> = self.0.link.ask(&call).await?;
            let mut found = found.into_iter();
            let version = found.next().and_then(|text| String::from_utf8(text).ok()?.parse().ok());
            Ok(match (version, found.next()) {
                (Some(_), Some(bytes)) => Kept::Day(bytes),
                (Some(version), None) => Kept::Nothing(version),
                (None, _) => Kept::Changing,
            })
        })
    }

    fn keep(&self, of: SeriesDay, bucket: Bucket, version: u64, bytes: Vec<u8>) -> TierFuture<'_, ()> {
        Box::pin(async move {
            let mut call = self.call(bucket_of(of.series), "keep");
            call.arg(of.series.0).arg(of.day).arg(width(bucket)).arg(version).arg(bytes);
            self.0.link.ask(&call).await
        })
    }

    fn begin<'a>(&'a self, days: &'a [SeriesDay]) -> TierFuture<'a, ()> {
        Box::pin(self.tell(days, "begin"))
    }

    fn end<'a>(&'a self, days: &'a [SeriesDay]) -> TierFuture<'a, ()> {
        Box::pin(self.tell(days, "end"))
    }

    fn drop_all(&self) -> TierFuture<'_, ()> {
        Box::pin(async move {
            let drop = async |bucket| self.0.link.ask::<()>(&self.call(bucket, "drop")).await;
            try_join_all((0..BUCKETS).map(drop)).await?;
            Ok(())
        })
    }
}
