//! Making room: the series with the most readings gives up its oldest, and can prove less from then on.

use super::record::{self, HOUR};
use super::{Inner, hours_of};
use crate::tiers::{SeriesId, TierError};
use shared::reading::Timestamp;
use std::collections::BTreeMap;

/// Most cuts after one `put`; what is still too much is cut after the next.
const CUTS_MAX: usize = 32;

impl Inner {
    /// Cuts until there is no more than may be, as far as this process knows.
    pub(super) async fn make_room(&self) -> Result<(), TierError> {
        for _ in 0..CUTS_MAX {
            let fullest = {
                let buckets = self.lock();
                let sum: u64 = buckets.iter().map(|b| b.records).sum();
                (sum > self.readings_max)
                    .then(|| (0u32..).zip(buckets.iter()).max_by_key(|(_, b)| b.records).map(|(n, _)| n))
                    .flatten()
            };
            let Some(bucket) = fullest else { return Ok(()) };
            let left = self.cut(bucket).await?;
            self.lock()[bucket as usize].records = left;
        }
        Ok(())
    }

    /// Takes the oldest quarter from a bucket's longest series, an hour at most. Gives the bucket's records.
    async fn cut(&self, bucket: u32) -> Result<u64, TierError> {
        let prefix = self.bucket_prefix(bucket);
        let mut root = redis::cmd("HGETALL");
        root.arg(format!("{prefix}root"));
        let root: BTreeMap<String, String> = self.link.command(&root).await?;
        let mut series = BTreeMap::<u32, BTreeMap<i64, u64>>::new();
        for (hour, _) in hours_of(&root) {
            let mut index = redis::cmd("HGETALL");
            index.arg(format!("{prefix}i:{hour}"));
            let index: BTreeMap<String, u64> = self.link.command(&index).await?;
            for (id, count) in index {
                if let (Ok(id), 1..) = (id.parse(), count) {
                    series.entry(id).or_default().insert(hour, count);
                }
            }
        }
        let longest = series.into_iter().max_by_key(|(_, hours)| hours.values().sum::<u64>());
        let Some((id, hours)) = longest else { return Ok(0) };
        let Some((&hour, &have)) = hours.first_key_value() else { return Ok(0) };
        let quarter = hours.values().sum::<u64>().div_ceil(4);
        let (stay, floor) = if have <= quarter {
            (Vec::new(), (hour + 1) * HOUR)
        } else {
            self.without_oldest(&prefix, SeriesId(id), hour, quarter as usize).await?
        };
        let mut call = self.call(&self.scripts.cut, bucket);
        call.arg(id).arg(hour).arg(have).arg(&stay[..]).arg(floor);
        self.link.tell(&call).await
    }

    /// The records of an hour without the `count` oldest readings, and the moment from which all are there.
    async fn without_oldest(
        &self,
        prefix: &str,
        series: SeriesId,
        hour: i64,
        count: usize,
    ) -> Result<(Vec<u8>, i64), TierError> {
        let mut get = redis::cmd("GET");
        get.arg(format!("{prefix}d:{}:{hour}", series.0));
        let bytes: Vec<u8> = self.link.command(&get).await?;
        let mut readings = Vec::new();
        let (mut stay, after) = (Vec::new(), Timestamp((hour + 1) * HOUR));
        if record::read(series, hour, &bytes, &mut readings).is_none() {
            return Ok((stay, after.0));
        }
        record::settle(&mut readings);
        let kept = readings.split_off(count.min(readings.len()));
        kept.iter().for_each(|reading| record::push(&mut stay, reading));
        let floor = readings.last().map_or(hour * HOUR, |last| last.at.0 + 1);
        Ok((stay, floor))
    }
}
