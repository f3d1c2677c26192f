//! What a series shows in the last day, against what it showed before.

use super::limits::{Hit, Range, Still, Taught, near_for_steps, near_for_stills};
use super::night::night_flow;
use super::profile::profile;
use super::{Finding, HOUR, Kind, Severity};
use crate::rollup::{Rollup, Sample, Usable};
use crate::tiers::Bucket;
use jiff::tz::TimeZone;
use shared::metric;
use shared::reading::Timestamp;
use std::time::Duration;

const MINUTE: i64 = 60_000_000;
/// What is looked at: the last day, microseconds.
pub const WINDOW: i64 = 24 * HOUR;
/// What five minute buckets say is compared with so much before it.
pub const TEACHING: i64 = 8 * 24 * HOUR;
/// At least so much of it must be known: a whole week.
const TAUGHT_MIN: i64 = 7 * 24 * HOUR;
/// What is on its way is not missing yet, microseconds.
const ON_THE_WAY: i64 = 15 * MINUTE;

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
    /// Hours of eight weeks that teach, what lies between them, and [`WINDOW`], ascending.
    pub hours: &'a [Sample],
    /// The last usable value, however old.
    pub last: Option<Sample>,
    /// Buckets in which the gateway refused values beyond the point's range.
    pub refused: &'a [Timestamp],
    /// Stretches that teach nothing.
    pub alarmed: &'a [(Timestamp, Timestamp)],
}

/// What was found, and what wasn't looked for.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Found {
    /// Everything that is out of the ordinary.
    pub findings: Vec<Finding>,
    /// Of these kinds nothing can be said: there is nothing new, or too little before it.
    pub unjudged: Vec<Kind>,
}

impl Found {
    fn take(&mut self, kind: Kind, findings: Option<Vec<Finding>>) {
        match findings {
            Some(findings) => self.findings.extend(findings),
            None => self.unjudged.push(kind),
        }
    }
}

/// Everything that is out of the ordinary, with what [`Taught::of`] says of it.
#[must_use]
pub fn detect(look: &Look<'_>, taught: &Taught) -> Found {
    let mut found = Found { findings: silence(look), unjudged: Vec::new() };
    found.findings.extend(out_of_range(look));
    if look.kind == metric::Kind::State {
        return found;
    }
    found.findings.extend(stuck(look, taught));
    let teaches = |at: Timestamp| look.teaches(at, at.plus_micros(HOUR));
    found.take(Kind::Profile, profile(look.hours, look.zone, look.from(), teaches));
    if look.kind == metric::Kind::Gauge {
        found.findings.extend(rate_of_change(look, taught));
        if look.metric == "flow_rate" {
            found.take(Kind::NightFlow, night_flow(look.hours, look.zone, look.from(), teaches));
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

fn out_of_range(look: &Look<'_>) -> Vec<Finding> {
    let range = Range::of(look.metric);
    let mut hits: Vec<Hit> = look.refused.iter().map(|start| (*start, None, None)).collect();
    let recent = look.usable().filter(|(start, ..)| *start >= look.from());
    hits.extend(recent.filter_map(|(start, usable, _)| range.hit(start, &usable)));
    hits.sort_by_key(|hit| hit.0);
    range.findings(&hits, look.end())
}

/// Standstills of the window, the last one of which may go on.
fn stuck(look: &Look<'_>, taught: &Taught) -> Vec<Finding> {
    let runs = runs(look);
    let newest = runs.last().map(|run| run.start);
    let recent = runs.iter().filter(|run| run.last >= look.from());
    recent.filter_map(|run| Some(Finding { ongoing: Some(run.start) == newest, ..taught.stuck(run)? })).collect()
}

fn rate_of_change(look: &Look<'_>, taught: &Taught) -> Vec<Finding> {
    let near = near_for_steps(look.hold);
    let known: Vec<(Timestamp, f64)> = look.usable().map(|(start, _, mean)| (start, mean)).collect();
    let now = known.windows(2).filter(|pair| pair[1].0 >= look.from());
    let hits: Vec<Hit> = now.filter_map(|pair| taught.hit(pair[0], pair[1], near)).collect();
    taught.steps(&hits, look.end())
}

impl Taught {
    /// What the days before the window say.
    #[must_use]
    pub fn of(look: &Look<'_>) -> Self {
        let near = near_for_steps(look.hold);
        let known: Vec<(Timestamp, f64)> = look.usable().map(|(start, _, mean)| (start, mean)).collect();
        let steps = known.windows(2).filter(|pair| pair[1].0.since(pair[0].0) <= near && pair[1].0 < look.from());
        let steps = steps.filter(|pair| look.teaches(pair[0].0, pair[1].0.plus_micros(near)));
        let runs = runs(look);
        let ended = runs.split_last().map_or(&[][..], |(_, before)| before);
        let stills = ended.iter().filter(|run| run.last < look.from());
        let stills = stills.filter(|run| look.teaches(run.start, run.last.plus_micros(1)));
        let stills: Vec<i64> = stills.map(Still::length).collect();
        let whole = |(start, _): &&(Timestamp, f64)| start.plus_micros(Bucket::FiveMinutes.micros()) <= look.now;
        Self {
            enough: look.is_taught(),
            step: steps.map(|pair| (pair[1].1 - pair[0].1).abs()).fold(0.0, f64::max),
            longest: stills.iter().copied().max().unwrap_or(0),
            stills: stills.len(),
            run: runs.last().copied(),
            before: known.iter().rev().find(whole).copied(),
        }
    }
}

/// Every standstill, however short.
fn runs(look: &Look<'_>) -> Vec<Still> {
    let near = near_for_stills(look.hold);
    let mut runs: Vec<Still> = Vec::new();
    for (_, usable, _) in look.usable() {
        let before = runs.last().copied();
        let run = Still::after(before, &usable, near);
        if before.is_some_and(|before| before.start == run.start) {
            runs.pop();
        }
        runs.push(run);
    }
    runs
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
