//! Streams of runs: checked, merged.

use super::rows::{Day, Run, Runs};
use crate::tiers::{SeriesId, TierError, merge};
use futures::TryStreamExt;
use futures::stream::{self, try_unfold};
use shared::reading::Timestamp;
use std::sync::Arc;

/// The runs as they are, until one breaks what is promised of them: ascending, inside the day, with their own series.
pub(crate) fn checked<'a>(tier: &'static str, day: Day, runs: Runs<'a>) -> Runs<'a> {
    let wrong = move |why: String| TierError::Broken { tier, why };
    let mut last: Option<(SeriesId, Timestamp)> = None;
    Box::pin(runs.and_then(move |run| {
        let fault = run.readings.iter().find_map(|reading| {
            let this = (reading.series, reading.at);
            let fault = if reading.series != run.series {
                Some("in a run of another series")
            } else if !day.contains(reading.at) {
                Some("outside of it")
            } else if last.is_some_and(|last| last >= this) {
                Some("out of order or twice")
            } else {
                None
            };
            last = Some(this);
            fault.map(|fault| format!("{day} can't be written: series {} at {} is {fault}", this.0, this.1))
        });
        std::future::ready(fault.map_or(Ok(run), |fault| Err(wrong(fault))))
    }))
}

/// Any number of streams as one; where several have a moment, the rule decides.
pub(crate) fn merged_all<'a>(tier: &'static str, mut streams: Vec<Runs<'a>>) -> Runs<'a> {
    // Halves, so that a run passes only as many merges as there are doublings.
    let second = streams.split_off(streams.len() / 2);
    match (streams.len(), second.len()) {
        (0, 0) => Box::pin(stream::empty()),
        (0, _) => second.into_iter().next().unwrap_or_else(|| Box::pin(stream::empty())),
        _ => merged(tier, merged_all(tier, streams), merged_all(tier, second)),
    }
}

/// Two streams as one; where both have a moment, the rule decides.
pub(crate) fn merged<'a>(tier: &'static str, a: Runs<'a>, b: Runs<'a>) -> Runs<'a> {
    let heads = (Head { run: None, rest: a }, Head { run: None, rest: b });
    Box::pin(try_unfold(heads, move |(mut a, mut b)| async move {
        a.fill().await?;
        b.fill().await?;
        let next = match (&a.run, &b.run) {
            (None, None) => return Ok(None),
            (Some(x), Some(y)) if x.series == y.series => both(tier, &mut a, &mut b)?,
            (Some(x), Some(y)) if x.series > y.series => b.run.take(),
            (None, Some(_)) => b.run.take(),
            _ => a.run.take(),
        };
        Ok(next.map(|run| (run, (a, b))))
    }))
}

/// What comes next of a series that both have: as far as both are known.
fn both(tier: &'static str, a: &mut Head<'_>, b: &mut Head<'_>) -> Result<Option<Run>, TierError> {
    let (Some(x), Some(y)) = (&mut a.run, &mut b.run) else { return Ok(None) };
    if x.key != y.key {
        let why = format!("series {} is {} in one place and {} in another", x.series, x.key, y.key);
        return Err(TierError::Broken { tier, why });
    }
    let until = x.readings.last().map(|r| r.at).min(y.readings.last().map(|r| r.at));
    let cut = |run: &mut Run| {
        let rest = run.readings.partition_point(|r| Some(r.at) <= until);
        let rest = run.readings.split_off(rest);
        std::mem::replace(&mut run.readings, rest)
    };
    let readings = merge(cut(x), cut(y));
    Ok(Some(Run { series: x.series, key: Arc::clone(&x.key), readings }))
}

struct Head<'a> {
    run: Option<Run>,
    rest: Runs<'a>,
}

impl Head<'_> {
    /// Afterwards there is a run with readings, or the stream has ended.
    async fn fill(&mut self) -> Result<(), TierError> {
        while self.run.as_ref().is_none_or(|run| run.readings.is_empty()) {
            self.run = self.rest.try_next().await?;
            if self.run.is_none() {
                break;
            }
        }
        Ok(())
    }
}
