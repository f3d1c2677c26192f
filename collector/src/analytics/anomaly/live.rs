//! What newest values say at once: the job's own rules, held against the bucket of five minutes that is open.
//!
//! What is found here is what the job will find when it looks at the same bucket, so both speak of the same anomaly. A
//! series gives at most two findings of a kind and bucket: at the first sign, and with the worst of it when it is over.

use super::limits::{Hit, Range, Still, Taught, near_for_steps, near_for_stills};
use super::{Finding, Kind};
use crate::rollup::{Rollup, hold};
use crate::tiers::{Bucket, SeriesInfo};
use shared::metric;
use shared::reading::{Held, Quality, Timestamp};
use std::collections::BTreeMap;

/// One series, as its newest values come.
#[derive(Clone, Debug)]
pub struct Watch {
    kind: metric::Kind,
    range: Range,
    hold: i64,
    near_step: i64,
    near_still: i64,
    /// Readings of a whole bucket, where that is known.
    expected: Option<u32>,
    taught: Taught,
    /// The last whole bucket with values, and its mean.
    before: Option<(Timestamp, f64)>,
    /// The standstill as of the last whole bucket.
    run: Option<Still>,
    open: Open,
    newest: Timestamp,
    /// What was said last of each kind, and in which bucket.
    said: BTreeMap<Kind, (Timestamp, Finding)>,
}

/// The bucket that is open.
#[derive(Clone, Copy, Debug)]
struct Open {
    start: Timestamp,
    sum: Option<Rollup>,
    /// The gateway refused a value.
    refused: bool,
}

impl Open {
    fn end(&self) -> Timestamp {
        self.start.plus_micros(Bucket::FiveMinutes.micros())
    }
}

impl Watch {
    /// Of a series of which no value came yet.
    #[must_use]
    pub fn new(series: &SeriesInfo) -> Self {
        let (interval, silence) = (series.interval_ms, series.silence_ms_max);
        let spaced = (interval > 0 || silence > 0).then(|| hold(interval, silence));
        let bucket_ms = u32::try_from(Bucket::FiveMinutes.micros() / 1_000).unwrap_or(u32::MAX);
        Self {
            kind: series.kind,
            range: Range::of(&series.key.metric),
            hold: hold(interval, silence),
            near_step: near_for_steps(spaced),
            near_still: near_for_stills(spaced),
            // Who says nothing while nothing changes says as much as it likes.
            expected: (interval > 0 && silence == 0).then(|| (bucket_ms / interval).max(1)),
            taught: Taught::default(),
            before: None,
            run: None,
            open: Open { start: Timestamp(i64::MIN), sum: None, refused: false },
            newest: Timestamp(i64::MIN),
            said: BTreeMap::new(),
        }
    }

    /// Takes over what the job learnt.
    pub fn learn(&mut self, taught: Taught) {
        self.taught = taught;
        if self.before.is_none() {
            self.before = taught.before.filter(|(start, _)| *start < self.open.start || self.open.sum.is_none());
        }
        match (&mut self.run, taught.run) {
            // It stood still before the first value that came here.
            (Some(run), Some(longer)) => {
                if run.value == longer.value && run.start.since(longer.last) <= self.near_still {
                    run.start = run.start.min(longer.start);
                }
            }
            (None, run) => self.run = run,
            (Some(_), None) => {}
        }
    }

    /// Takes a value; gives what is to be said about it. One that is not newer than those before was here already, or is
    /// the job's.
    pub fn take(&mut self, at: Timestamp, held: &Held) -> Vec<Finding> {
        if at <= self.newest {
            return Vec::new();
        }
        self.newest = at;
        let start = Bucket::FiveMinutes.start_of(at);
        let mut found = if self.open.start < start { self.turn(start) } else { Vec::new() };
        let one = Rollup::of(at, held);
        self.open.sum = Some(self.open.sum.map_or(one, |sum| sum.then(&one, self.hold)));
        self.open.refused |= held.quality == Quality::BAD_OUT_OF_RANGE;
        for finding in self.judge(false) {
            if self.said.get(&finding.kind).is_none_or(|(bucket, _)| *bucket < start) {
                self.said.insert(finding.kind, (start, finding.clone()));
                found.push(finding);
            }
        }
        found
    }

    /// Ends the open bucket and begins the one at `start`.
    fn turn(&mut self, start: Timestamp) -> Vec<Finding> {
        let (bucket, mut found) = (self.open.start, Vec::new());
        for finding in self.judge(true) {
            let before = self.said.insert(finding.kind, (bucket, finding.clone()));
            if before.is_none_or(|(_, before)| before.seen != finding.seen) {
                found.push(finding);
            }
        }
        // A bucket later nothing was to be said.
        let over = self.said.iter().filter(|(_, (of, _))| *of < bucket);
        let ended: Vec<Kind> = over.map(|(kind, _)| *kind).collect();
        let ended = ended.into_iter().filter_map(|kind| self.said.remove(&kind));
        found.extend(ended.map(|(_, finding)| Finding { ongoing: false, ..finding }));
        if let Some((usable, mean)) = self.usable() {
            self.run = Some(Still::after(self.run, &usable, self.near_still));
            self.before = Some((bucket, mean));
        }
        self.open = Open { start, sum: None, refused: false };
        found
    }

    fn usable(&self) -> Option<(crate::rollup::Usable, f64)> {
        let sum = self.open.sum?;
        let usable = sum.usable?;
        let mean = usable.sum / sum.count_usable() as f64;
        mean.is_finite().then_some((usable, mean))
    }

    /// What is to be said of the open bucket; `whole`: no more values come.
    fn judge(&self, whole: bool) -> Vec<Finding> {
        let (start, end) = (self.open.start, self.open.end());
        let usable = self.usable();
        let beyond = usable.and_then(|(usable, _)| self.range.hit(start, &usable));
        let refused: Option<Hit> = self.open.refused.then_some((start, None, None));
        let hits: Vec<Hit> = beyond.or(refused).into_iter().collect();
        let mut found = self.range.findings(&hits, end);
        let Some((usable, mean)) = usable else { return found };
        if self.kind == metric::Kind::State {
            return found;
        }
        found.extend(self.taught.stuck(&Still::after(self.run, &usable, self.near_still)));
        if self.kind == metric::Kind::Gauge
            && let Some(before) = self.before
        {
            let hit = self.taught.hit(before, (start, self.surely(before.1, mean, whole)), self.near_step);
            found.extend(self.taught.steps(&hit.into_iter().collect::<Vec<_>>(), end));
        }
        found
    }

    /// What the bucket's mean comes to if from now on all is as it was before.
    fn surely(&self, before: f64, mean: f64, whole: bool) -> f64 {
        let came = self.open.sum.map_or(0, |sum| sum.count_usable()) as f64;
        let share = match self.expected {
            _ if whole => 1.0,
            Some(expected) => came / f64::from(expected).max(came),
            None => 0.0,
        };
        before + (mean - before) * share
    }
}
