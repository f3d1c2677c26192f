//! What findings mean for the anomalies that are known.

use super::{Finding, Found, grace};
use crate::analytics::store::{Anomaly, State};
use crate::tiers::SeriesId;
use shared::reading::Timestamp;

/// The anomalies of a series that are new or have changed at `now`. `known` are its anomalies of late, `found` all that is
/// seen now: what isn't seen is over, unless it reaches beyond `now` or nothing can be said of its kind. One that was closed
/// while it goes on stays closed.
#[must_use]
pub fn settle(series: SeriesId, known: &[Anomaly], found: &Found, now: Timestamp) -> Vec<Anomaly> {
    let mut all = Known::of(known);
    found.findings.iter().for_each(|finding| all.meet(series, finding));
    for (one, continued) in all.now.iter_mut().zip(&all.continued) {
        if !continued && one.last <= now && !found.unjudged.contains(&one.kind) {
            one.end = one.end.or(Some(one.last));
        }
    }
    all.changed(known)
}

/// As [`settle`], when `found` is something and not all that is seen now.
#[must_use]
pub fn add(series: SeriesId, known: &[Anomaly], found: &[Finding]) -> Vec<Anomaly> {
    let mut all = Known::of(known);
    found.iter().for_each(|finding| all.meet(series, finding));
    all.changed(known)
}

/// The stretches that teach nothing: anomalies of which nobody says that they are normal. One that goes on reaches to `now`.
#[must_use]
pub fn alarmed(known: &[Anomaly], now: Timestamp) -> Vec<(Timestamp, Timestamp)> {
    let taught_not = known.iter().filter(|one| !one.normal);
    taught_not.map(|one| (one.start, one.end.map_or(now, |_| one.last))).collect()
}

/// What was found in a past that became known late, or by a file, where nobody can do anything any more: what is new is
/// closed from the start. One that goes on is settled by what is seen now.
#[must_use]
pub fn past(series: SeriesId, known: &[Anomaly], found: &[Finding]) -> Vec<Anomaly> {
    let mut all = Known::of(known);
    let goes_on = |finding: &&Finding| known.iter().any(|one| one.end.is_none() && is_near(one, finding));
    for finding in found.iter().filter(|finding| !goes_on(finding)) {
        all.meet(series, &Finding { ongoing: false, ..finding.clone() });
    }
    let mut changed = all.changed(known);
    changed.iter_mut().filter(|one| one.number == 0).for_each(|one| one.state = State::Closed);
    changed
}

/// Whether a finding belongs to an anomaly.
fn is_near(one: &Anomaly, finding: &Finding) -> bool {
    let grace = grace(finding.kind);
    one.kind == finding.kind
        && one.start <= finding.last.plus_micros(grace)
        && finding.start <= one.last.plus_micros(grace)
}

struct Known {
    now: Vec<Anomaly>,
    continued: Vec<bool>,
}

impl Known {
    fn of(known: &[Anomaly]) -> Self {
        Self { now: known.to_vec(), continued: vec![false; known.len()] }
    }

    fn meet(&mut self, series: SeriesId, finding: &Finding) {
        // The one that reaches furthest, if several are near.
        let place = (0..self.now.len()).filter(|n| is_near(&self.now[*n], finding)).max_by_key(|n| self.now[*n].last);
        match place {
            Some(n) => {
                go_on(&mut self.now[n], finding, self.continued[n]);
                self.continued[n] = true;
            }
            None if finding.opens => {
                self.now.push(open(series, finding));
                self.continued.push(true);
            }
            None => {}
        }
    }

    fn changed(self, known: &[Anomaly]) -> Vec<Anomaly> {
        let changed = |(n, one): &(usize, Anomaly)| known.get(*n) != Some(one);
        self.now.into_iter().enumerate().filter(changed).map(|(_, one)| one).collect()
    }
}

fn open(series: SeriesId, finding: &Finding) -> Anomaly {
    Anomaly {
        number: 0,
        series,
        kind: finding.kind,
        start: finding.start,
        last: finding.last,
        end: (!finding.ongoing).then_some(finding.last),
        severity: finding.severity,
        expected: finding.expected,
        seen: finding.seen,
        detail: finding.detail.clone(),
        state: State::Open,
        normal: false,
        notes: Vec::new(),
    }
}

fn go_on(one: &mut Anomaly, finding: &Finding, again: bool) {
    let later = finding.last >= one.last;
    one.last = one.last.max(finding.last);
    let ongoing = if later { finding.ongoing } else { again && one.end.is_none() };
    one.end = (!ongoing).then_some(one.last);
    // What is shown is the worst; a day in which it is less bad doesn't make it less bad.
    if finding.severity > one.severity || (finding.severity == one.severity && off(finding) >= off_of(one)) {
        (one.severity, one.expected, one.seen) = (finding.severity, finding.expected, finding.seen);
        one.detail.clone_from(&finding.detail);
    }
}

fn off(finding: &Finding) -> f64 {
    distance(finding.expected, finding.seen)
}

fn off_of(one: &Anomaly) -> f64 {
    distance(one.expected, one.seen)
}

fn distance(expected: Option<f64>, seen: Option<f64>) -> f64 {
    seen.zip(expected).map_or(0.0, |(seen, expected)| (seen - expected).abs())
}
