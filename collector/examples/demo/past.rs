//! The network's past: what its sensors would have said in the weeks before the demo was first started, as files that
//! anybody could bring in by `collector import`. Not all of it went well.

use super::demand::{self, DISTRICTS};
use super::kept::{self, Moment};
use super::network::{LONG_STEP_S, Network, Settings, State, Tear};
use super::noise::Noise;
use super::sensors::{SENSORS, Sensor};
use jiff::tz::TimeZone;
use shared::reading::Timestamp;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

/// Between two readings of every sensor.
const STEP_S: i64 = 300;
/// Between two readings of flow in the years before. Values hold for eleven minutes, so none of them is missed.
const FLOW_STEP_S: i64 = 600;
const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 24 * HOUR_S;

/// Every sensor, in the last weeks.
pub(crate) const ALL: &str = "all.csv";
/// What sensors said of which nothing is to be believed.
pub(crate) const BAD: &str = "bad.csv";
/// The flow into the districts, in the years before.
pub(crate) const FLOW: &str = "flow.csv";

/// How far the past reaches.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    /// Its end.
    pub(crate) until: Timestamp,
    /// Of every sensor.
    pub(crate) all: Duration,
    /// Of the flow into the districts.
    pub(crate) flow: Duration,
}

/// Something that didn't go well.
struct Story {
    /// Of which sensors: node and metric; all when the node is empty.
    node: &'static str,
    metric: &'static str,
    /// When it began, and how long it took; seconds before the end, and seconds.
    ago_s: i64,
    for_s: i64,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    /// Nothing arrived.
    Hole,
    /// The sensor said that it is broken.
    Bad,
    /// It said the same all the time.
    Still,
}

const fn story(node: &'static str, metric: &'static str, ago_s: i64, for_s: i64, what: What) -> Story {
    Story { node, metric, ago_s, for_s, what }
}

/// What sensors went through. The first one is in the years of which only flow is known.
const STORIES: [Story; 6] = [
    story("DIST_001", "flow_rate", 300 * DAY_S, 4 * DAY_S, What::Hole), // its meter was replaced
    story("", "", 16 * DAY_S, 7 * HOUR_S, What::Hole),                  // no power at the gateway
    story("DIST_001", "pressure", 9 * DAY_S, 5 * HOUR_S, What::Bad),
    story("DIST_003", "chlorine", 5 * DAY_S, 15 * HOUR_S, What::Still),
    story("DIST_003", "pressure", 21 * HOUR_S, 12 * HOUR_S, What::Still),
    story("DIST_002", "temperature", 30 * HOUR_S, 40 * 60, What::Bad),
];

impl Story {
    fn is_of(&self, sensor: &Sensor) -> bool {
        self.node.is_empty() || (self.node, self.metric) == (sensor.node, sensor.metric)
    }
}

/// What a sensor goes through at a moment, so many seconds before the end.
fn what(sensor: &Sensor, ago_s: i64) -> Option<What> {
    let is_now = |story: &&Story| (story.ago_s - story.for_s..=story.ago_s).contains(&ago_s) && story.is_of(sensor);
    STORIES.iter().find(is_now).map(|story| story.what)
}

/// Pipes that burst before the end: a main of DIST_002 that leaked for four days, and a hydrant in DIST_001 that somebody
/// left open last night. Seconds after the beginning, which is so long ago.
fn tears(length_s: i64) -> [Tear; 2] {
    let tear = |district, ago_s: i64, for_s: i64, size| {
        let begins = length_s - ago_s;
        let span_s = (begins as f64, (begins + for_s) as f64);
        if begins < 0 { Tear::NEVER } else { Tear { district, span_s, size } }
    };
    [tear(demand::BURST, 26 * DAY_S, 4 * DAY_S, 0.5), tear(0, 11 * HOUR_S, 4 * HOUR_S, 0.35)]
}

/// Writes the past's files into a folder. What the network is like at its end, and how many readings there are.
///
/// # Errors
/// When a file can't be written.
pub(crate) fn make(folder: &Path, seed: u64, zone: &TimeZone, span: &Span) -> io::Result<(Moment, u64)> {
    let end_s = span.until.0.div_euclid(1_000_000);
    let aligned = |length: Duration, step_s: i64| {
        let begin = end_s - i64::try_from(length.as_secs()).unwrap_or(i64::MAX).min(end_s);
        (begin + step_s - 1).div_euclid(step_s) * step_s
    };
    let begin_s = aligned(span.all, STEP_S);
    let settings =
        Settings { seed, speed: 1.0, starts_s: kept::model_s(at(begin_s), zone), tears: tears(end_s - begin_s) };
    let mut network = Network::in_steps(settings, kept::unknown(at(begin_s)), LONG_STEP_S);
    let (mut all, mut bad) = (Table::new(&folder.join(ALL), SENSORS.iter())?, Bad::new(&folder.join(BAD))?);
    for second in (begin_s..end_s).step_by(STEP_S as usize) {
        network.set_clock(kept::model_s(at(second), zone));
        network.advance((second - begin_s) as f64);
        all.row(second, end_s, network.state(), Noise(seed), &mut bad)?;
    }
    network.advance((end_s - begin_s) as f64);
    let passed_us = (network.state().seconds * 1e6).round() as i64;
    let reached = Moment::new(at(begin_s).plus_micros(passed_us), network.lasting());
    let flow = SENSORS.iter().filter(|sensor| sensor.node.starts_with("DIST") && sensor.metric == "flow_rate");
    let mut years = Table::new(&folder.join(FLOW), flow)?;
    for second in (aligned(span.flow, FLOW_STEP_S)..begin_s).step_by(FLOW_STEP_S as usize) {
        let state = drawn(network.state(), second, kept::model_s(at(second), zone), Noise(seed));
        years.row(second, end_s, &state, Noise(seed), &mut bad)?;
    }
    Ok((reached, all.finish()? + years.finish()? + bad.finish()?))
}

fn at(second: i64) -> Timestamp {
    Timestamp(second * 1_000_000)
}

/// The network as far as flow into the districts goes, which the time alone says.
fn drawn(state: &State, second: i64, model_s: f64, noise: Noise) -> State {
    let mut state = State { seconds: second as f64, model_s, ..*state };
    for (supply, district) in state.district.iter_mut().zip(&DISTRICTS) {
        supply.flow = district.demand(model_s, noise);
    }
    state
}

/// A file with a column for each sensor.
struct Table {
    out: BufWriter<File>,
    /// With their numbers, and what they said last.
    sensors: Vec<(usize, &'static Sensor, Option<f64>)>,
    readings: u64,
}

impl Table {
    fn new(path: &Path, sensors: impl Iterator<Item = &'static Sensor>) -> io::Result<Self> {
        let number = |wanted: &Sensor| SENSORS.iter().position(|sensor| std::ptr::eq(sensor, wanted)).unwrap_or(0);
        let sensors: Vec<_> = sensors.map(|sensor| (number(sensor), sensor, None)).collect();
        let mut out = BufWriter::new(File::create(path)?);
        let names = sensors.iter().map(|(_, sensor, _)| {
            let name = format!("{}/{}/{}", sensor.node, sensor.metric, sensor.channel);
            name.trim_end_matches('/').to_owned()
        });
        writeln!(out, "timestamp,{}", names.collect::<Vec<_>>().join(","))?;
        Ok(Self { out, sensors, readings: 0 })
    }

    fn row(&mut self, second: i64, end_s: i64, state: &State, noise: Noise, bad: &mut Bad) -> io::Result<()> {
        let (mut row, mut count) = (at(second).to_string(), 0);
        for (number, sensor, last) in &mut self.sensors {
            row.push(',');
            let what = what(sensor, end_s - second);
            match what {
                Some(What::Hole) => continue,
                Some(What::Bad) => {
                    bad.row(second, sensor)?;
                    continue;
                }
                Some(What::Still) if last.is_some() => {}
                _ => *last = Some(sensor.say(state, noise, *number).value),
            }
            if let Some(value) = last {
                write!(row, "{}", text(sensor, *value)).map_err(io::Error::other)?;
                count += 1;
            }
        }
        if count > 0 {
            self.readings += count;
            writeln!(self.out, "{row}")?;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<u64> {
        self.out.flush()?;
        Ok(self.readings)
    }
}

/// A value as the agent would keep it: in steps of the resolution.
fn text(sensor: &Sensor, value: f64) -> String {
    let places = if sensor.resolution > 0.0 { (-sensor.resolution.log10()).round().max(0.0) as usize } else { 3 };
    format!("{value:.places$}")
}

/// A file with a row for each reading that is none.
struct Bad {
    out: BufWriter<File>,
    readings: u64,
}

impl Bad {
    fn new(path: &Path) -> io::Result<Self> {
        let mut out = BufWriter::new(File::create(path)?);
        writeln!(out, "timestamp,node,metric,channel,value,quality")?;
        Ok(Self { out, readings: 0 })
    }

    fn row(&mut self, second: i64, sensor: &Sensor) -> io::Result<()> {
        self.readings += 1;
        writeln!(self.out, "{},{},{},{},,bad", at(second), sensor.node, sensor.metric, sensor.channel)
    }

    fn finish(mut self) -> io::Result<u64> {
        self.out.flush()?;
        Ok(self.readings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::fs;

    const UNTIL: Timestamp = Timestamp(1_795_000_123_456_789);

    /// The values of a file, by sensor: when, and what.
    fn read(path: &Path) -> HashMap<String, Vec<(i64, Option<f64>)>> {
        let text = fs::read_to_string(path).unwrap();
        let mut lines = text.lines();
        let names: Vec<&str> = lines.next().unwrap().split(',').skip(1).collect();
        let mut all = HashMap::<_, Vec<_>>::new();
        for line in lines {
            let (time, cells) = line.split_once(',').unwrap();
            let ago = UNTIL.since(time.parse().unwrap()) / 1_000_000;
            for (name, cell) in names.iter().zip(cells.split(',')) {
                all.entry((*name).to_owned()).or_default().push((ago, cell.parse().ok()));
            }
        }
        all
    }

    fn mean(values: &[(i64, Option<f64>)], ago: std::ops::Range<i64>) -> f64 {
        let known: Vec<f64> =
            values.iter().filter(|(at, _)| ago.contains(at)).filter_map(|(_, value)| *value).collect();
        known.iter().sum::<f64>() / known.len() as f64
    }

    #[test]
    fn it_reaches_up_to_now_and_what_happened_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let weeks = |n: u64| Duration::from_secs(n * 7 * DAY_S as u64);
        let span = Span { until: UNTIL, all: weeks(5), flow: weeks(50) };
        let (end, readings) = make(folder.path(), 1, &TimeZone::UTC, &span).unwrap();
        let (all, flow) = (read(&folder.path().join(ALL)), read(&folder.path().join(FLOW)));
        let bad = fs::read_to_string(folder.path().join(BAD)).unwrap();
        assert_eq!((all.len(), flow.len()), (SENSORS.len(), 3));
        let known = |all: &HashMap<String, Vec<(i64, Option<f64>)>>| {
            all.values().flatten().filter(|(_, value)| value.is_some()).count()
        };
        assert_eq!(readings as usize, known(&all) + known(&flow) + bad.lines().count() - 1);
        assert!(bad.lines().nth(1).unwrap().ends_with(",DIST_001,pressure,,,bad"), "{bad}");

        let level = &all["RES_002/level"];
        assert!(level.last().unwrap().0 <= STEP_S && level[0].0 > 5 * 7 * DAY_S - STEP_S);
        assert!(level.windows(2).any(|pair| pair[0].0 - pair[1].0 >= 7 * HOUR_S), "the outage");
        let old_town = &flow["DIST_001/flow_rate"];
        assert!(old_town.iter().any(|(ago, value)| value.is_none() && *ago < 300 * DAY_S), "the meter was replaced");
        let drawn = &all["DIST_002/flow_rate"];
        let (before, leak, after) = (
            mean(drawn, 27 * DAY_S..33 * DAY_S),
            mean(drawn, 23 * DAY_S..26 * DAY_S),
            mean(drawn, 2 * DAY_S..8 * DAY_S),
        );
        assert!(leak - before > 5.0 && (after - before).abs() < 3.0, "{before}, {leak}, {after} L/s");
        let still: Vec<_> =
            all["DIST_003/pressure"].iter().filter(|(ago, _)| (10 * HOUR_S..20 * HOUR_S).contains(ago)).collect();
        assert!(still.len() > 100 && still.iter().all(|(_, value)| *value == still[0].1));
        let meter: Vec<f64> = all["DIST_002/total_volume"].iter().filter_map(|(_, value)| *value).collect();
        assert!(meter.windows(2).all(|pair| pair[0] < pair[1]));

        // The network goes on from there.
        let now = end.at(UNTIL, 1, &TimeZone::UTC);
        let settings =
            Settings { seed: 1, speed: 1.0, starts_s: kept::model_s(UNTIL, &TimeZone::UTC), tears: [Tear::NEVER; 2] };
        let network = Network::new(settings, now);
        let (level, newest) = (network.state().level[1], level.last().unwrap().1.unwrap());
        assert!((level - newest).abs() < 0.1, "{newest} m, then {level} m");
        assert!(network.state().district[1].volume >= *meter.last().unwrap());
    }

    #[test]
    fn without_weeks_there_are_no_stories_of_them() {
        assert_eq!(tears(5 * HOUR_S), [Tear::NEVER; 2]);
        assert_eq!(tears(2 * DAY_S)[0], Tear::NEVER);
        assert!(tears(2 * DAY_S)[1].size > 0.0);
    }
}
