//! The newest values of many series.

use super::mirror::{Offered, Version};
use super::{Bucket, EXACT_MAX, Inner, by_bucket, number, record};
use crate::tiers::{Newest, SeriesId, StoredReading, TierError};
use futures::future::try_join_all;
use std::collections::HashMap;

/// What Redis says of a bucket's newest values beside them.
struct Head {
    /// None that is stored from then on can be newer; `None`: that isn't proved.
    floor: Option<i64>,
    version: Version,
    /// Some series have a floor of their own.
    own: bool,
}

impl Head {
    const FIELDS: usize = 4;

    /// The head, and what stands behind it.
    fn read(found: &[Vec<u8>]) -> Option<(Self, &[Vec<u8>])> {
        let (head, rest) = found.split_at_checked(Self::FIELDS)?;
        let field = |n: usize| number(&head[n]);
        let count = |n| field(n).unwrap_or(0).cast_unsigned();
        Some((
            Self { floor: field(0), version: Version { born: count(1), count: count(2) }, own: field(3) != Some(0) },
            rest,
        ))
    }
}

/// A newest value, and whether none that is stored can be newer.
type Known = (StoredReading, bool);

impl Inner {
    pub(super) async fn newest(&self, series: &[SeriesId]) -> Result<Newest, TierError> {
        if !self.is_adopted() {
            return Ok(Newest { readings: Vec::new(), unsure: series.to_vec() });
        }
        let kept = self.horizon().0.clamp(0, EXACT_MAX);
        let ask = async |(bucket, ids): (u32, Vec<SeriesId>)| match self.newest_from_mirror(bucket, &ids, kept).await? {
            Some(known) => Ok(known),
            None => self.newest_from_redis(bucket, &ids, kept).await,
        };
        let found = try_join_all(by_bucket(series).into_iter().map(ask)).await?;
        let found: HashMap<_, _> = found.into_iter().flatten().map(|known| (known.0.series, known)).collect();
        let known = |id: &SeriesId| found.get(id).copied();
        Ok(Newest {
            readings: series.iter().filter_map(|id| Some(known(id)?.0)).collect(),
            unsure: series.iter().filter(|id| !known(id).is_some_and(|(_, sure)| sure)).copied().collect(),
        })
    }

    async fn ask_newest(&self, bucket: u32, ids: &[SeriesId], kept: i64) -> Result<Vec<Vec<u8>>, TierError> {
        let mut call = self.call(&self.scripts.newest, bucket);
        call.arg(kept);
        ids.iter().for_each(|id| {
            call.arg(id.0);
        });
        self.link.ask(&call).await
    }

    /// What is known here, when it is what Redis holds.
    async fn newest_from_mirror(
        &self,
        bucket: u32,
        ids: &[SeriesId],
        kept: i64,
    ) -> Result<Option<Vec<Known>>, TierError> {
        if !self.with_bucket(bucket, |known| known.mirror.covers(ids)) {
            return Ok(None);
        }
        let found = self.ask_newest(bucket, &[], kept).await?;
        let Some((Head { floor: Some(floor), version, own: false }, _)) = Head::read(&found) else { return Ok(None) };
        let newest = self.with_bucket(bucket, |known| known.mirror.newest(version, ids));
        Ok(newest.map(|newest| newest.into_iter().flatten().map(|reading| (reading, reading.at.0 >= floor)).collect()))
    }

    async fn newest_from_redis(&self, bucket: u32, ids: &[SeriesId], kept: i64) -> Result<Vec<Known>, TierError> {
        let found = self.ask_newest(bucket, ids, kept).await?;
        let Some((head, found)) = Head::read(&found) else { return Ok(Vec::new()) };
        let (values, floors) = found.split_at(ids.len().min(found.len()));
        let values = ids.iter().zip(values).map(|(id, value)| (*id, record::from_newest(*id, value)));
        if head.floor.is_some() {
            self.with_bucket(bucket, |known| known.mirror.learn(head.version, values.clone()));
        } else {
            self.meet(bucket).await?;
        }
        let of_one = |(n, (_, reading)): (usize, (_, Option<StoredReading>))| {
            let reading = reading?;
            let own = floors.get(n).and_then(|own| number(own)).unwrap_or(i64::MIN);
            Some((reading, head.floor.is_some_and(|floor| reading.at.0 >= floor.max(own))))
        };
        Ok(values.enumerate().filter_map(of_one).collect())
    }

    /// Notes what a call of this process's did to the newest values.
    pub(super) fn note_newest(&self, bucket: u32, version: Version, changed: bool, offered: Offered) {
        if changed {
            self.with_bucket(bucket, |known| known.mirror.change(version, offered));
        }
    }

    fn with_bucket<T>(&self, bucket: u32, look: impl FnOnce(&mut Bucket) -> T) -> T {
        look(&mut self.lock()[bucket as usize])
    }
}
