//! Whether what the API says is what the sensors held. Pure.

use super::api::{Item, Point};
use super::held::Record;
use super::sensors::{Place, Sensor};
use shared::reading::Timestamp;
use std::fmt;

/// How far the time of a reading may be off from when its value was held, in microseconds: between the tick it is
/// named after and the answer lies a request, which a busy machine delays. Two seconds later every value is another.
const SLACK_US: i64 = 2_000_000;
/// How often the agent polls, as `config/demo/agent.toml` says, in microseconds: at least twice for each value.
#[cfg(test)]
pub(crate) const POLL_US: i64 = 500_000;
/// Least share of a register's changes that must have been read. The agent is told to send what has changed.
const CHANGES_MIN: f64 = 0.9;
/// Largest share of readings that may be bad.
const BAD_MAX: f64 = 0.01;

/// What was found about newest values.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// How many were compared.
    pub(crate) compared: u64,
    /// How many had no good value.
    pub(crate) bad: u64,
    /// Farthest that one was behind its sensor, and whose it was.
    pub(crate) behind_us: i64,
    behind_who: String,
    behind_sum_us: i64,
    /// What is wrong, in words.
    pub(crate) wrong: Vec<String>,
}

/// What was found about the past.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// Readings compared.
    pub(crate) compared: u64,
    /// Readings without a good value.
    bad: u64,
    polled: u64,
    changes: u64,
    messages: u64,
    /// What is wrong, in words.
    pub(crate) wrong: Vec<String>,
}

impl Sensor {
    /// Whether a decoded value is what the sensor held, to half a step of the resolution it is kept with.
    pub(crate) fn same(&self, held: f64, value: f64) -> bool {
        (held - value).abs() <= self.resolution / 2.0 + 1e-12 * held.abs().max(1.0)
    }
}

impl fmt::Display for Sensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{} {} {}", self.node, self.metric, self.channel);
        f.pad(name.trim_end())
    }
}

/// Compares a newest value, seen at `now`, with what its sensor held.
pub(crate) fn latest(
    tally: &mut Tally,
    record: &Record,
    (number, sensor): (usize, &Sensor),
    item: &Item,
    began: Timestamp,
    now: Timestamp,
) {
    if item.at < began {
        return tally.wrong.push(format!("'latest' of {sensor} went back to {}, before this run", item.at));
    }
    let Some(value) = item.held.good() else {
        tally.bad += 1;
        return;
    };
    tally.compared += 1;
    if !held_around(record, (number, sensor), item.at, value) {
        tally.wrong.push(format!("'latest' of {sensor} is {value} at {}: its sensor didn't hold that", item.at));
        return;
    }
    if let Some(behind) = record.behind(number, now, |held| sensor.same(held, value)) {
        tally.behind_sum_us += behind;
        if behind > tally.behind_us {
            tally.behind_us = behind;
            tally.behind_who = format!(" ({sensor})");
        }
    }
}

/// Compares all readings of a sensor in `from..to`.
pub(crate) fn history(
    past: &mut Past,
    record: &Record,
    (number, sensor): (usize, &Sensor),
    points: &[Point],
    from: Timestamp,
    to: Timestamp,
) {
    let (before, bad_before) = (past.wrong.len(), past.bad);
    for point in points {
        match point.held.good() {
            None => past.bad += 1,
            Some(value) => {
                past.compared += 1;
                if !held_around(record, (number, sensor), point.at, value) {
                    past.wrong.push(format!("{sensor} was {value} at {}: its sensor didn't hold that", point.at));
                }
            }
        }
    }
    let bad = past.bad - bad_before;
    let good = points.len() as u64 - bad;
    let changes = changes(record, number, from, to);
    match sensor.place {
        Place::Register(_) => {
            let expected = changes.len() as u64;
            past.polled += good;
            past.changes += expected;
            // At each end one may fall on either side; after a bad one the same is sent again.
            if (good as f64) < (expected as f64 * CHANGES_MIN).floor() - 1.0 || good > expected + 2 + bad {
                past.wrong.push(format!("{sensor} has {good} readings of {expected} changes"));
            }
        }
        Place::Json { .. } if past.wrong.len() == before => {
            // With times of their own, messages are stored exactly once, at those times.
            let said: Vec<Timestamp> = record.during(number, from, to).map(|(at, _)| at).collect();
            let stored: Vec<Timestamp> = points.iter().map(|point| point.at).collect();
            past.messages += changes.len() as u64;
            let missing = changes.iter().filter(|at| !stored.contains(at)).map(|at| format!("{sensor} misses {at}"));
            let extra =
                stored.iter().filter(|at| !said.contains(at)).map(|at| format!("{sensor} has {at}, never said"));
            past.wrong.extend(missing.chain(extra));
        }
        Place::Json { .. } => {}
        Place::Bare { .. } => {
            // Timed by their arrival, so that one at each end may fall on either side.
            if good.abs_diff(changes.len() as u64) > 2 {
                past.wrong.push(format!("{sensor} has {good} readings of {} changes", changes.len()));
            }
        }
    }
}

/// When a sensor began to say something else, in `from..to`.
fn changes(record: &Record, number: usize, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    // A little earlier, so that there is something to differ from.
    let held: Vec<(Timestamp, f64)> = record.during(number, from.plus_micros(-SLACK_US), to).collect();
    let other = held.windows(2).filter(|pair| pair[0].1 != pair[1].1).map(|pair| pair[1].0);
    other.filter(|at| (from..to).contains(at)).collect()
}

/// Whether a sensor has said something else from a moment on.
pub(crate) fn changed_since(record: &Record, number: usize, from: Timestamp) -> bool {
    !changes(record, number, from, Timestamp(i64::MAX)).is_empty()
}

fn held_around(record: &Record, (number, sensor): (usize, &Sensor), at: Timestamp, value: f64) -> bool {
    let (from, to) = (at.plus_micros(-SLACK_US), at.plus_micros(SLACK_US));
    record.during(number, from, to).any(|(_, held)| sensor.same(held, value))
}

fn too_many_bad(bad: u64, good: u64) -> Option<String> {
    let share = bad as f64 / (bad + good).max(1) as f64;
    (share > BAD_MAX).then(|| format!("{bad} of {} readings have no good value", bad + good))
}

impl Tally {
    /// Everything that is wrong.
    pub(crate) fn faults(&self) -> impl Iterator<Item = String> {
        self.wrong.iter().cloned().chain(too_many_bad(self.bad, self.compared))
    }
}

impl Past {
    /// Everything that is wrong.
    pub(crate) fn faults(&self) -> impl Iterator<Item = String> {
        self.wrong.iter().cloned().chain(too_many_bad(self.bad, self.compared))
    }
}

fn verdict(wrong: &[String]) -> &'static str {
    if wrong.is_empty() { "all equal to what the sensors held" } else { "NOT all equal to what the sensors held" }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let average = self.behind_sum_us / 1_000 / (self.compared as i64).max(1);
        let (all, bad, most) = (self.compared, self.bad, self.behind_us / 1_000);
        write!(f, "{all} values compared, {}, {bad} without a good value; ", verdict(&self.wrong))?;
        write!(f, "at most {most} ms behind the sensor{}, {average} ms on average", self.behind_who)
    }
}

impl fmt::Display for Past {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (polled, changes) = (self.polled, self.changes);
        write!(
            f,
            "{} readings compared, {}, {} without a good value; ",
            self.compared,
            verdict(&self.wrong),
            self.bad
        )?;
        write!(
            f,
            "{polled} readings of {changes} changes in registers, {} values in messages with a time of their own",
            self.messages
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::api::Held;
    use super::super::sensors::SENSORS;
    use super::*;

    const S: i64 = 1_000_000;

    /// Every sensor says 10, 11, 12, … at whole seconds from 100 s on.
    fn record() -> Record {
        let mut record = Record::new(SENSORS.len());
        (0..60).for_each(|n| record.note(Timestamp((100 + n) * S), SENSORS.iter().map(|_| 10.0 + n as f64)));
        record
    }

    fn sensor(of: fn(&Place) -> bool) -> (usize, &'static Sensor) {
        SENSORS.iter().enumerate().find(|(_, sensor)| of(&sensor.place)).unwrap()
    }

    fn held(value: Option<f64>) -> Held {
        let quality = if value.is_some() { "good" } else { "bad" };
        Held { value, quality: quality.into(), reason: None }
    }

    fn judged(at: i64, value: Option<f64>, now: i64) -> Tally {
        let (number, sensor) = sensor(|place| matches!(place, Place::Register(_)));
        let [node, metric, channel] = [sensor.node, sensor.metric, sensor.channel].map(str::to_owned);
        let item = Item {
            node,
            metric,
            channel,
            unit: String::new(),
            at: Timestamp(at),
            age_s: 0.0,
            stale: false,
            held: held(value),
        };
        let mut tally = Tally::default();
        latest(&mut tally, &record(), (number, sensor), &item, Timestamp(100 * S), Timestamp(now));
        tally
    }

    #[test]
    fn a_value_is_behind_from_when_the_sensor_holds_another() {
        assert_eq!(judged(105 * S, Some(15.0), 105 * S + 400_000).behind_us, 0);
        let late = judged(105 * S, Some(15.0), 106 * S + 400_000);
        assert_eq!((late.behind_us, late.wrong.len(), late.compared), (400_000, 0, 1));
    }

    #[test]
    fn a_value_that_was_never_held_or_at_another_time_is_wrong() {
        assert_eq!(judged(105 * S, Some(15.01), 105 * S).wrong.len(), 1);
        assert_eq!(judged(115 * S, Some(15.0), 115 * S).wrong.len(), 1);
        assert_eq!(judged(99 * S, Some(10.0), 105 * S).wrong.len(), 1);
        let bad = judged(105 * S, None, 105 * S);
        assert_eq!((bad.bad, bad.wrong.len(), bad.faults().count()), (1, 0, 1));
    }

    fn past(of: fn(&Place) -> bool, points: &[(i64, f64)]) -> Past {
        let points: Vec<Point> =
            points.iter().map(|(at, value)| Point { at: Timestamp(*at), held: held(Some(*value)) }).collect();
        let mut past = Past::default();
        history(&mut past, &record(), sensor(of), &points, Timestamp(110 * S), Timestamp(115 * S));
        past
    }

    fn seconds(of: impl Fn(i64) -> (i64, f64)) -> Vec<(i64, f64)> {
        (0..5).map(of).collect()
    }

    #[test]
    fn messages_with_a_time_of_their_own_are_stored_once_at_that_time() {
        let json: fn(&Place) -> bool = |place| matches!(place, Place::Json { .. });
        let whole = seconds(|n| ((110 + n) * S, 20.0 + n as f64));
        assert!(past(json, &whole).wrong.is_empty());
        assert_eq!(past(json, &whole[1..]).wrong.len(), 1);
        let mut shifted = whole;
        shifted[2].0 += 1;
        assert_eq!(past(json, &shifted).wrong.len(), 2, "one is missing, one was never said");
    }

    #[test]
    fn bare_numbers_are_all_there() {
        let bare: fn(&Place) -> bool = |place| matches!(place, Place::Bare { .. });
        let whole = seconds(|n| ((110 + n) * S + 3_000, 20.0 + n as f64));
        assert!(past(bare, &whole).wrong.is_empty());
        assert_eq!(past(bare, &whole[..2]).wrong.len(), 1);
    }

    #[test]
    fn what_changed_in_registers_is_there_and_what_did_not_is_not() {
        let polled: fn(&Place) -> bool = |place| matches!(place, Place::Register(_));
        let at = |n: i64| (110 * S + n * POLL_US, (20 + n / 2) as f64);
        let some = |step| (0..10).step_by(step).map(at).collect::<Vec<_>>();
        assert!(past(polled, &some(2)).wrong.is_empty());
        assert_eq!(past(polled, &some(5)).wrong.len(), 1);
        assert_eq!(past(polled, &some(1)).wrong.len(), 1);
        assert_eq!(past(polled, &seconds(|n| ((110 + n) * S, 20.1))).wrong.len(), 5);
    }

    #[test]
    fn a_value_that_stays_is_no_change() {
        let mut record = Record::new(1);
        for (at, value) in [(1, 5.0), (2, 5.0), (3, 6.0), (4, 6.0)] {
            record.note(Timestamp(at * S), std::iter::once(value));
        }
        assert_eq!(changes(&record, 0, Timestamp(0), Timestamp(9 * S)), [Timestamp(3 * S)]);
        assert!(changed_since(&record, 0, Timestamp(3 * S)) && !changed_since(&record, 0, Timestamp(4 * S)));
    }
}
