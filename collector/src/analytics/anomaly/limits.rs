//! What holds for a bucket of five minutes by itself, whoever looks at it: the job at a day of them, the live watch at the
//! one that is open.

use super::{Finding, HOUR, Kind, Severity};
use crate::rollup::Usable;
use crate::tiers::Bucket;
use shared::metric::Metric;
use shared::reading::Timestamp;
use std::time::Duration;

/// How many times what was seen before is too much.
const TIMES: f64 = 2.0;
/// A value that stands still for less is not stuck, microseconds.
const STUCK_MIN: i64 = 3 * HOUR;
/// Who never changes more often than this in a week can't be stuck.
const CHANGES_MIN: usize = 10;
/// Buckets without a finding that don't part two of them, microseconds.
const JOIN: i64 = HOUR;

/// Buckets that are out of the ordinary: their start, what was expected and what was seen.
pub(super) type Hit = (Timestamp, Option<f64>, Option<f64>);

/// Hits that lie together are one finding, which goes on while it reaches `end`, the end of what is known.
fn episodes(
    kind: Kind,
    severity: Severity,
    hits: &[Hit],
    end: Timestamp,
    detail: impl Fn(&Hit) -> String,
) -> Vec<Finding> {
    let off = |hit: &Hit| hit.1.zip(hit.2).map_or(0.0, |(expected, seen)| (seen - expected).abs());
    let step = Bucket::FiveMinutes.micros();
    let finding = |of_one: &[Hit]| {
        let worst = of_one.iter().max_by(|a, b| off(a).total_cmp(&off(b))).unwrap_or(&of_one[0]);
        let last = of_one[of_one.len() - 1].0.plus_micros(step);
        Finding {
            kind,
            start: of_one[0].0,
            last,
            ongoing: last >= end,
            opens: true,
            severity,
            expected: worst.1,
            seen: worst.2,
            detail: detail(worst),
        }
    };
    hits.chunk_by(|a, b| b.0.since(a.0) <= step + JOIN).map(finding).collect()
}

/// What is believable of a metric.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Range(f64, f64);

impl Range {
    pub(super) fn of(metric: &str) -> Self {
        let (low, high) = Metric::named(metric).map_or((f64::MIN, f64::MAX), |metric| metric.range);
        Self(low, high)
    }

    /// Whether a bucket goes beyond it.
    pub(super) fn hit(self, start: Timestamp, usable: &Usable) -> Option<Hit> {
        match (usable.min < self.0, usable.max > self.1) {
            (true, _) => Some((start, Some(self.0), Some(usable.min))),
            (_, true) => Some((start, Some(self.1), Some(usable.max))),
            _ => None,
        }
    }

    pub(super) fn findings(self, hits: &[Hit], end: Timestamp) -> Vec<Finding> {
        episodes(Kind::OutOfRange, Severity::Critical, hits, end, |hit| match hit.2 {
            Some(seen) => format!("{seen} can't be: believable is {} to {}", self.0, self.1),
            None => "the gateway refused values beyond the point's range".into(),
        })
    }
}

/// A run of buckets in which the value is one and the same.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Still {
    pub(super) start: Timestamp,
    pub(super) last: Timestamp,
    pub(super) value: f64,
}

impl Still {
    /// The run after one bucket more: the same, or another one.
    pub(super) fn after(before: Option<Self>, usable: &Usable, near: i64) -> Self {
        let (first, last) = (usable.first, usable.last);
        if usable.min != usable.max {
            return Self { start: last.at, last: last.at, value: last.value };
        }
        let goes_on = |run: &Self| run.value == first.value && first.at.since(run.last) <= near;
        let start = before.filter(goes_on).map_or(first.at, |run| run.start);
        Self { start, last: last.at, value: first.value }
    }

    pub(super) fn length(&self) -> i64 {
        self.last.since(self.start)
    }
}

/// How far two buckets may be apart and still be a step, microseconds.
pub(super) fn near_for_steps(hold: Option<i64>) -> i64 {
    hold.unwrap_or(0).max(Bucket::FiveMinutes.micros())
}

/// How far two values may be apart and still be one standstill, microseconds.
pub(super) fn near_for_stills(hold: Option<i64>) -> i64 {
    hold.unwrap_or(0).max(Bucket::FiveMinutes.micros() * 2)
}

/// What the days before said about a series' steps and standstills.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Taught {
    /// A whole week before the last day is known.
    pub enough: bool,
    /// The greatest step from one bucket to the next.
    pub(super) step: f64,
    /// The longest standstill, microseconds.
    pub(super) longest: i64,
    /// How many there were.
    pub(super) stills: usize,
    /// The one in which it was when this was learnt.
    pub(super) run: Option<Still>,
    /// The last whole bucket with values, and its mean.
    pub(super) before: Option<(Timestamp, f64)>,
}

impl Taught {
    /// Whether going from one bucket's mean to another's is too much.
    pub(super) fn hit(&self, from: (Timestamp, f64), to: (Timestamp, f64), near: i64) -> Option<Hit> {
        // What never changed may change.
        let judged = self.enough && self.step > 0.0 && to.0.since(from.0) <= near;
        (judged && (to.1 - from.1).abs() > TIMES * self.step).then_some((to.0, Some(from.1), Some(to.1)))
    }

    pub(super) fn steps(&self, hits: &[Hit], end: Timestamp) -> Vec<Finding> {
        episodes(Kind::RateOfChange, Severity::Warning, hits, end, |hit| {
            let (was, is, most) = (hit.1.unwrap_or(0.0), hit.2.unwrap_or(0.0), self.step);
            format!("from {was:.2} to {is:.2} at once; the greatest step of the week before is {most:.2}")
        })
    }

    /// Whether a standstill is too long.
    pub(super) fn stuck(&self, run: &Still) -> Option<Finding> {
        let length = run.length();
        let since = humantime::format_duration(Duration::from_secs((length / 1_000_000).unsigned_abs()));
        (length > STUCK_MIN.max(2 * self.longest)).then(|| Finding {
            kind: Kind::Stuck,
            start: run.start,
            last: run.last,
            ongoing: true,
            opens: self.enough && self.stills >= CHANGES_MIN,
            severity: Severity::Warning,
            expected: None,
            seen: Some(run.value),
            detail: format!("it stands at {} for {since}", run.value),
        })
    }
}
