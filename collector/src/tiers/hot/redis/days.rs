//! Days of rollups in Redis (`lua/days.lua`), seen by all collectors.

use super::batch::{BUCKETS, bucket_of};
use super::{Inner, RedisHot, identity};
use crate::tiers::hot::days::{Days, Kept, SeriesDay, ToKeep};
use crate::tiers::{Bucket, SeriesId, TierError, TierFuture};
use futures::future::try_join_all;
use redis::ScriptInvocation;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most days in one call, so that none holds up Redis for long: of five minutes a day takes about 50 KB.
const DAYS_AT_ONCE: usize = 32;

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
    fn call(&self, bucket: u32, verb: &str) -> Result<ScriptInvocation<'_>, TierError> {
        self.0.known_prefix()?;
        let mut call = self.0.call(&self.0.scripts.days, bucket);
        call.arg(verb).arg(identity()).arg(self.0.age / 1000);
        Ok(call)
    }

    async fn tell(&self, days: &[SeriesDay], verb: &str) -> Result<(), TierError> {
        let mut buckets = BTreeMap::<u32, Vec<SeriesDay>>::new();
        for of in days {
            buckets.entry(bucket_of(of.series)).or_default().push(*of);
        }
        let tell = async |(bucket, days): (u32, Vec<SeriesDay>)| {
            let mut call = self.call(bucket, verb)?;
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

/// Version and what is kept, if anything.
fn kept(version: &[u8], bytes: Option<Vec<u8>>) -> Kept {
    let version = std::str::from_utf8(version).ok().and_then(|text| text.parse().ok());
    match (version, bytes) {
        (Some(_), Some(bytes)) => Kept::Day(bytes),
        (Some(version), None) => Kept::Nothing(version),
        (None, _) => Kept::Changing,
    }
}

impl Days for RedisDays {
    fn find<'a>(&'a self, series: SeriesId, days: &'a [i64], bucket: Bucket) -> TierFuture<'a, Vec<Kept>> {
        Box::pin(async move {
            let find = async |some: &[i64]| {
                let mut call = self.call(bucket_of(series), "find")?;
                call.arg(series.0).arg(width(bucket)).arg(some);
                let found: Vec<(Vec<u8>, Option<Vec<u8>>)> = self.0.link.ask(&call).await?;
                Ok::<_, TierError>(found.into_iter().map(|(version, bytes)| kept(&version, bytes)).collect::<Vec<_>>())
            };
            Ok(try_join_all(days.chunks(DAYS_AT_ONCE).map(find)).await?.concat())
        })
    }

    fn keep<'a>(&'a self, series: SeriesId, bucket: Bucket, days: &'a [ToKeep<Vec<u8>>]) -> TierFuture<'a, ()> {
        Box::pin(async move {
            let keep = async |some: &[ToKeep<Vec<u8>>]| {
                let mut call = self.call(bucket_of(series), "keep")?;
                call.arg(series.0).arg(width(bucket));
                for ToKeep { day, version, what } in some {
                    call.arg(*day).arg(*version).arg(&what[..]);
                }
                self.0.link.ask::<()>(&call).await
            };
            try_join_all(days.chunks(DAYS_AT_ONCE).map(keep)).await?;
            Ok(())
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
            let drop = async |bucket| self.0.link.ask::<()>(&self.call(bucket, "drop")?).await;
            try_join_all((0..BUCKETS).map(drop)).await?;
            Ok(())
        })
    }
}
