//! Readings that are committed before they are put. Until they are, their series prove nothing of that time, for all
//! collectors: the series' own floors are raised first. Whoever dies in between leaves them so, and they are filled in.

use super::batch::bucket_of;
use super::{EXACT_MAX, Inner, identity};
use crate::tiers::hot::memory::ends;
use crate::tiers::{Doubt, Doubted, SeriesId, StoredReading, TierError};
use futures::future::try_join_all;
use shared::reading::Timestamp;
use std::collections::BTreeMap;

/// Most series in one call, so that none holds up Redis for long.
const SERIES_MAX: usize = 1_000;

impl Inner {
    pub(super) async fn doubt(&self, readings: &[StoredReading]) -> Result<Doubt, TierError> {
        let ends = ends(readings, self.horizon()).into_iter();
        let raise = async |(bucket, some): (u32, Vec<(SeriesId, Timestamp)>)| {
            let mut call = self.call(&self.scripts.doubt, bucket);
            call.arg(identity()).arg(self.floor_at_birth());
            for (series, until) in &some {
                call.arg(series.0).arg(until.0.clamp(0, EXACT_MAX));
            }
            let floors: Vec<Option<i64>> = self.link.tell(&call).await?;
            let doubted = some.iter().zip(floors.chunks_exact(2)).filter_map(|((series, _), of)| {
                Some(Doubted { series: *series, before: of[0].map(Timestamp), since: Timestamp(of[1]?) })
            });
            Ok::<_, TierError>(doubted.collect::<Vec<_>>())
        };
        let raised = try_join_all(calls(ends, |(series, _)| *series).into_iter().map(raise)).await?;
        Ok(Doubt(raised.concat()))
    }

    /// What was proved before is proved again only when all of it was put.
    pub(super) async fn put_after(&self, readings: &[StoredReading], doubt: &Doubt) -> Result<(), TierError> {
        self.put(readings).await?;
        let lower = async |(bucket, some): (u32, Vec<Doubted>)| {
            let mut call = self.call(&self.scripts.trust, bucket);
            for of in &some {
                call.arg(of.series.0).arg(of.since.0).arg(of.before.map_or(0, |before| before.0));
            }
            self.link.tell::<()>(&call).await
        };
        try_join_all(calls(doubt.0.iter().copied(), |of| of.series).into_iter().map(lower)).await?;
        Ok(())
    }
}

/// One call's worth each.
fn calls<T>(all: impl Iterator<Item = T>, series: impl Fn(&T) -> SeriesId) -> Vec<(u32, Vec<T>)> {
    let mut calls = Vec::<(u32, Vec<T>)>::new();
    let mut open = BTreeMap::<u32, usize>::new();
    for one in all {
        let bucket = bucket_of(series(&one));
        let full = |n: &usize| calls.get(*n).is_none_or(|(_, some)| some.len() >= SERIES_MAX);
        if open.get(&bucket).is_none_or(full) {
            open.insert(bucket, calls.len());
            calls.push((bucket, Vec::new()));
        }
        if let Some((_, some)) = open.get(&bucket).and_then(|n| calls.get_mut(*n)) {
            some.push(one);
        }
    }
    calls
}
