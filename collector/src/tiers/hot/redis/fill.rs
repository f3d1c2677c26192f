//! Filling in what the tier lacks, from the warm tier, while it works.
//!
//! A bucket's floor is lowered when every series of it has been read from the warm tier and put, and only when
//! nothing was lost since it was looked at. Whoever fills must have seen to it after that look, and before filling, that
//! what was put before and isn't in the warm tier yet is put again, by every collector
//! ([`crate::tiers::HotLedger::begin_epoch`]): then the warm tier and what was put since are everything.

use super::batch::{BUCKETS, batches, bucket_of};
use super::record::{self, HOUR, hour_of};
use super::{EXACT_MAX, Inner, RedisHot, identity};
use crate::tiers::{SeriesId, StoredReading, TierError};
use futures::future::{BoxFuture, try_join_all};
use shared::reading::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Read at once from the warm tier, microseconds.
const STRETCH: i64 = 6 * HOUR;
/// The tier is not filled beyond this part of what it may hold: tenths.
const FULL: u64 = 9;

/// Where it is filled from: the readings of a series with `from <= at < to`.
pub trait Source: Sync {
    /// Reads them.
    fn range(
        &self,
        series: SeriesId,
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<StoredReading>, TierError>>;
}

/// What a filling did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Filled {
    /// Readings that were put.
    pub readings: u64,
    /// Buckets of series that are complete now.
    pub buckets: u32,
    /// Buckets that lost something meanwhile.
    pub left: u32,
    /// Whether there was no room for all.
    pub full: bool,
}

/// What was proved of all buckets when it was looked at.
pub struct Seen {
    looks: Vec<Look>,
    /// Whether a bucket could prove more.
    pub lacks: bool,
}

/// What is proved of a bucket.
pub(super) struct Look {
    born: u64,
    floor: i64,
    doubts: i64,
    own: BTreeMap<u32, i64>,
}

impl RedisHot {
    /// Looks at what it can prove.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn look(&self) -> Result<Seen, TierError> {
        // What ran out lately is not worth a filling.
        let target = self.inner.horizon().plus_micros(HOUR);
        let looks = try_join_all((0..BUCKETS).map(|bucket| self.inner.look(bucket))).await?;
        let lacks = looks.iter().any(|look| look.floor > target.0 || !look.own.is_empty());
        Ok(Seen { looks, lacks })
    }

    /// Fills in what was missing of these series: all there are.
    ///
    /// # Errors
    /// When a tier doesn't answer; what was filled until then stays.
    pub async fn fill(&self, seen: &Seen, series: &[SeriesId], source: &dyn Source) -> Result<Filled, TierError> {
        let mut filled = Filled::default();
        for (bucket, look) in (0..).zip(&seen.looks) {
            if self.inner.is_full() {
                filled.full = true;
                break;
            }
            let of_bucket: Vec<SeriesId> = series.iter().copied().filter(|id| bucket_of(*id) == bucket).collect();
            match self.inner.fill(bucket, look, &of_bucket, source).await? {
                Some(readings) => {
                    filled.readings += readings;
                    filled.buckets += 1;
                }
                None => filled.left += 1,
            }
        }
        Ok(filled)
    }
}

impl Inner {
    pub(super) async fn look(&self, bucket: u32) -> Result<Look, TierError> {
        let mut call = self.call(&self.scripts.look, bucket);
        call.arg(identity()).arg(self.floor_at_birth());
        let found: Vec<i64> = self.link.tell(&call).await?;
        let [born, floor, doubts, own @ ..] = &found[..] else {
            return Ok(Look { born: 0, floor: EXACT_MAX, doubts: 0, own: BTreeMap::new() });
        };
        let own = own.chunks_exact(2).map(|pair| (pair[0] as u32, pair[1])).collect();
        let look = Look { born: born.unsigned_abs(), floor: *floor, doubts: *doubts, own };
        self.note(bucket, look.born, None);
        Ok(look)
    }

    async fn fill(
        &self,
        bucket: u32,
        look: &Look,
        series: &[SeriesId],
        source: &dyn Source,
    ) -> Result<Option<u64>, TierError> {
        let target = self.horizon();
        let mut put = 0;
        for id in series {
            let until = look.own.get(&id.0).copied().unwrap_or(0).max(look.floor);
            let mut from = target;
            while from.0 < until {
                if self.is_full() {
                    return Ok(None);
                }
                let to = Timestamp(until.min(hour_of(from) * HOUR + STRETCH));
                put += self.fill_stretch(*id, (from, to), source).await?;
                from = to;
            }
        }
        let mut call = self.call(&self.scripts.lower, bucket);
        call.arg(look.born).arg(look.floor).arg(target.0.clamp(0, EXACT_MAX)).arg(look.doubts);
        for (id, floor) in &look.own {
            call.arg(*id).arg(*floor);
        }
        let lowered: bool = self.link.tell(&call).await?;
        Ok(lowered.then_some(put))
    }

    fn is_full(&self) -> bool {
        let records: u64 = self.lock().iter().map(|b| b.records).sum();
        records > self.readings_max / 10 * FULL
    }

    /// Puts what it hasn't got; gives how many that were.
    async fn fill_stretch(
        &self,
        series: SeriesId,
        (from, to): (Timestamp, Timestamp),
        source: &dyn Source,
    ) -> Result<u64, TierError> {
        let mut readings = source.range(series, from, to).await?;
        if readings.is_empty() {
            return Ok(0);
        }
        let held: BTreeSet<_> = self.held(series, (from, to)).await?.iter().map(record::newest).collect();
        let newest = readings.last().copied();
        readings.retain(|reading| !held.contains(&record::newest(reading)));
        for batch in batches(&readings, from) {
            self.put_batch(batch).await?;
        }
        // It may be held and be no newest value all the same: who withdrew another one from there has died.
        if let Some(held) = newest.filter(|newest| readings.last() != Some(newest)) {
            self.tell_newest(&[held]).await?;
        }
        Ok(readings.len() as u64)
    }

    /// What is there, whether it is all or not.
    pub(super) async fn held(
        &self,
        series: SeriesId,
        (from, to): (Timestamp, Timestamp),
    ) -> Result<Vec<StoredReading>, TierError> {
        let mut call = self.call(&self.scripts.range, bucket_of(series));
        call.arg(series.0).arg(EXACT_MAX).arg(hour_of(from).max(0)).arg(hour_of(to.plus_micros(-1)).max(0));
        let found: Vec<Vec<u8>> = self.link.tell(&call).await?;
        Ok(found.get(1..).and_then(|hours| super::readings_of(series, hours)).unwrap_or_default())
    }
}
