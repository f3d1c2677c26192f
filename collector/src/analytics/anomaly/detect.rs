//! What a series shows in the last day, against what it showed before.

use super::night::night_flow;
use super::profile::profile;
use super::{Finding, Kind, Severity};
use crate::rollup::{Rollup, Sample, Usable};
use crate::tiers::Bucket;
use jiff::tz::TimeZone;
use shared::metric::{self, Metric};
use shared::reading::Timestamp;
use std::time::Duration;

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
/// What is looked at: the last day, microseconds.
pub const WINDOW: i64 = 24 * HOUR;
/// What five minute buckets say is compared with so much before it.
pub const TEACHING: i64 = 8 * 24 * HOUR;
/// At least so much of it must be known: a whole week.
const TAUGHT_MIN: i64 = 7 * 24 * HOUR;
/// How many times what was seen before is too much.
const TIMES: f64 = 2.0;
/// A value that stands still for less is not stuck, microseconds.
const STUCK_MIN: i64 = 3 * HOUR;
/// Who never changes more often than this in a week can't be stuck.
const CHANGES_MIN: usize = 10;
/// What is on its way is not missing yet, microseconds.
const ON_THE_WAY: i64 = 15 * MINUTE;
/// Buckets without a finding that don't part two of them, microseconds.
const JOIN: i64 = HOUR;

/// What is known of a series.
pub struct Look<'a> {
    /// What it measures.
    pub metric: &'a str,
    /// Gauge, counter or state.
    pub kind: metric::Kind,
    /// How long a value holds, microseconds; `None` when nobody knows how often one comes.
    pub hold: Option<i64>,
    /// The clock.
    pub now: Timestamp,
    /// In which hours of the week are alike.
    pub zone: &'a TimeZone,
    /// Buckets of five minutes of [`TEACHING`] and [`WINDOW`], ascending.
    pub buckets: &'a [(Timestamp, Rollup)],
    /// Hours of eight weeks and [`WINDOW`], ascending.
    pub hours: &'a [Sample],
    /// The last usable value, however old.
    pub last: Option<Sample>,
    /// Buckets in which the gateway refused values beyond the point's range.
    pub refused: &'a [Timestamp],
    /// Stretches that teach nothing.
    pub alarmed: &'a [(Timestamp, Timestamp)],
}

/// Everything that is out of the ordinary.
#[must_use]
pub fn detect(look: &Look<'_>) -> Vec<Finding> {
    let mut found = silence(look);
    found.extend(out_of_range(look));
    if look.kind == metric::Kind::State {
        return found;
    }
    found.extend(stuck(look));
    let teaches = |at: Timestamp| look.teaches(at, at.plus_micros(HOUR));
    found.extend(profile(look.hours, look.zone, look.from(), teaches));
    if look.kind == metric::Kind::Gauge {
        found.extend(rate_of_change(look));
        if look.metric == "flow_rate" {
            found.extend(night_flow(look.hours, look.zone, look.from(), teaches));
        }
    }
    found
}

impl Look<'_> {
    /// Where the window begins: at a full hour.
    fn from(&self) -> Timestamp {
        Bucket::Hour.start_of(self.now.plus_micros(-WINDOW))
    }

    fn teaches(&self, start: Timestamp, end: Timestamp) -> bool {
        !self.alarmed.iter().any(|(from, to)| *from < end && start < *to)
    }

    /// Buckets with usable values.
    fn usable(&self) -> impl Iterator<Item = (Timestamp, Usable, f64)> {
        self.buckets.iter().filter_map(|(start, sum)| {
            let usable = sum.usable?;
            let mean = usable.sum / sum.count_usable() as f64;
            mean.is_finite().then_some((*start, usable, mean))
        })
    }

    /// Whether a whole week before the window is known.
    fn is_taught(&self) -> bool {
        self.usable().next().is_some_and(|(first, ..)| self.from().since(first) >= TAUGHT_MIN)
    }

    /// The end of what is known.
    fn end(&self) -> Timestamp {
        self.buckets.last().map_or(self.now, |(start, _)| start.plus_micros(Bucket::FiveMinutes.micros()))
    }
}

/// Buckets that are out of the ordinary: their start, what was expected and what was seen.
type Hit = (Timestamp, Option<f64>, Option<f64>);

fn episodes(
    look: &Look<'_>,
    kind: Kind,
    severity: Severity,
    hits: &[Hit],
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
            ongoing: last >= look.end(),
            opens: true,
            severity,
            expected: worst.1,
            seen: worst.2,
            detail: detail(worst),
        }
    };
    hits.chunk_by(|a, b| b.0.since(a.0) <= step + JOIN).map(finding).collect()
}

fn out_of_range(look: &Look<'_>) -> Vec<Finding> {
    let (low, high) = Metric::named(look.metric).map_or((f64::MIN, f64::MAX), |metric| metric.range);
    let mut hits: Vec<Hit> = look.refused.iter().map(|start| (*start, None, None)).collect();
    for (start, usable, _) in look.usable().filter(|(start, ..)| *start >= look.from()) {
        match (usable.min < low, usable.max > high) {
            (true, _) => hits.push((start, Some(low), Some(usable.min))),
            (_, true) => hits.push((start, Some(high), Some(usable.max))),
            _ => {}
        }
    }
    hits.sort_by_key(|hit| hit.0);
    episodes(look, Kind::OutOfRange, Severity::Critical, &hits, |hit| match hit.2 {
        Some(seen) => format!("{seen} can't be: believable is {low} to {high}"),
        None => "the gateway refused values beyond the point's range".into(),
    })
}

fn rate_of_change(look: &Look<'_>) -> Vec<Finding> {
    let near = look.hold.unwrap_or(0).max(Bucket::FiveMinutes.micros());
    let known: Vec<(Timestamp, f64)> = look.usable().map(|(start, _, mean)| (start, mean)).collect();
    let steps = known.windows(2).filter(|pair| pair[1].0.since(pair[0].0) <= near);
    let (before, now): (Vec<_>, Vec<_>) = steps.partition(|pair| pair[1].0 < look.from());
    let taught = before.iter().filter(|pair| look.teaches(pair[0].0, pair[1].0.plus_micros(near)));
    let most = taught.map(|pair| (pair[1].1 - pair[0].1).abs()).fold(0.0, f64::max);
    if most == 0.0 || !look.is_taught() {
        return Vec::new(); // what never changed may change
    }
    let fast = now.iter().filter(|pair| (pair[1].1 - pair[0].1).abs() > TIMES * most);
    let hits: Vec<Hit> = fast.map(|pair| (pair[1].0, Some(pair[0].1), Some(pair[1].1))).collect();
    let detail = |hit: &Hit| {
        let (was, is) = (hit.1.unwrap_or(0.0), hit.2.unwrap_or(0.0));
        format!("from {was:.2} to {is:.2} at once; the greatest step of the week before is {most:.2}")
    };
    episodes(look, Kind::RateOfChange, Severity::Warning, &hits, detail)
}

/// A run of buckets in which the value is one and the same.
struct Still {
    start: Timestamp,
    last: Timestamp,
    value: f64,
}

fn stuck(look: &Look<'_>) -> Vec<Finding> {
    let near = look.hold.unwrap_or(0).max(Bucket::FiveMinutes.micros() * 2);
    let mut runs: Vec<Still> = Vec::new();
    for (_, usable, _) in look.usable() {
        let (first, last) = (usable.first, usable.last);
        let goes_on = |run: &&mut Still| run.value == first.value && first.at.since(run.last) <= near;
        if usable.min != usable.max {
            runs.push(Still { start: last.at, last: last.at, value: last.value });
        } else if let Some(run) = runs.last_mut().filter(goes_on) {
            run.last = last.at;
        } else {
            runs.push(Still { start: first.at, last: last.at, value: first.value });
        }
    }
    let length = |run: &Still| run.last.since(run.start);
    let Some((run, before)) = runs.split_last() else { return Vec::new() };
    let taught = before.iter().filter(|run| run.last < look.from() && look.teaches(run.start, run.last.plus_micros(1)));
    let taught: Vec<i64> = taught.map(length).collect();
    let longest = taught.iter().copied().max().unwrap_or(0);
    let long_enough = length(run) > STUCK_MIN.max(2 * longest);
    if !long_enough {
        return Vec::new();
    }
    let since = humantime::format_duration(Duration::from_secs((length(run) / 1_000_000).unsigned_abs()));
    vec![Finding {
        kind: Kind::Stuck,
        start: run.start,
        last: run.last,
        ongoing: true,
        opens: look.is_taught() && taught.len() >= CHANGES_MIN,
        severity: Severity::Warning,
        expected: None,
        seen: Some(run.value),
        detail: format!("it stands at {} for {since}", run.value),
    }]
}

fn silence(look: &Look<'_>) -> Vec<Finding> {
    let (Some(hold), Some(last)) = (look.hold, look.last) else { return Vec::new() };
    let allowed = hold + ON_THE_WAY;
    let finding = |from: Timestamp, to: Timestamp, ongoing: bool| {
        let length = to.since(from);
        let text = |micros: i64| humantime::format_duration(Duration::from_secs((micros / 1_000_000).unsigned_abs()));
        (length > allowed).then(|| Finding {
            kind: Kind::Silence,
            start: from,
            last: to,
            ongoing,
            opens: true,
            severity: if length > WINDOW { Severity::Critical } else { Severity::Warning },
            expected: None,
            seen: None,
            detail: format!("no usable value for {}; {} is allowed", text(length), text(hold)),
        })
    };
    let known: Vec<Usable> = look.usable().map(|(_, usable, _)| usable).collect();
    let gaps = known.windows(2).filter(|pair| pair[1].first.at >= look.from());
    let mut found: Vec<Finding> = gaps.filter_map(|pair| finding(pair[0].last.at, pair[1].first.at, false)).collect();
    found.extend(finding(last.at, look.now, true));
    found
}
