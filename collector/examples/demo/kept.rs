//! The network from one start of the demo to the next: what lasts is written down every second, and while the demo is
//! away water flows all the same. So meters only grow, and levels are where they would be.

use super::network::{LONG_STEP_S, Lasting, Network, STEP_S, Settings, Tear};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use shared::reading::Timestamp;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// 2026-01-01, when the meters stood at zero; UTC seconds.
const METERS_SET_S: f64 = 1_767_225_600.0;
/// The clocks are looked at so often, seconds: they may be changed meanwhile.
const LOOK_S: f64 = 3_600.0;

/// A network at a moment.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Moment {
    /// When.
    at: Timestamp,
    /// What lasts of it.
    network: Lasting,
}

/// The file that has the newest one.
#[derive(Clone, Debug)]
pub(crate) struct Kept(PathBuf);

/// Seconds since a Monday 00:00 by the clocks of a zone: model time at speed 1.
pub(crate) fn model_s(at: Timestamp, zone: &TimeZone) -> f64 {
    /// From Thursday, the first of January 1970, to the Monday after it.
    const MONDAY_S: f64 = 4.0 * 86_400.0;
    let seconds = at.0 as f64 / 1e6;
    let offset = jiff::Timestamp::from_microsecond(at.0).map_or(0, |moment| zone.to_offset(moment).seconds());
    seconds + f64::from(offset) - MONDAY_S
}

/// A network of which nobody knows anything yet. Its meters grow with the calendar, faster than anything flows; like real
/// ones they begin again when all digits are used up.
pub(crate) fn unknown(at: Timestamp) -> Lasting {
    let age = (at.0 as f64 / 1e6 - METERS_SET_S).max(0.0);
    Lasting::new((age * 0.1) % 1e7, (age * 0.02) % 1e6)
}

impl Moment {
    /// What lasts of a network at that time.
    pub(crate) fn new(at: Timestamp, network: Lasting) -> Self {
        Self { at, network }
    }

    /// What becomes of it until a later time, when nothing happens.
    pub(crate) fn at(self, later: Timestamp, seed: u64, zone: &TimeZone) -> Lasting {
        let mut now = self;
        let left = |now: &Self| later.since(now.at) as f64 / 1e6;
        while left(&now) >= STEP_S {
            let step_s = if left(&now) >= LONG_STEP_S { LONG_STEP_S } else { STEP_S };
            let starts_s = model_s(now.at, zone);
            let settings = Settings { seed, speed: 1.0, starts_s, tears: [Tear::NEVER; 2] };
            let mut network = Network::in_steps(settings, now.network, step_s);
            network.advance(left(&now).min(LOOK_S));
            let passed = network.state().seconds;
            now = Self { at: now.at.plus_micros((passed * 1e6).round() as i64), network: network.lasting() };
        }
        now.network
    }
}

impl Kept {
    /// In a data folder.
    pub(crate) fn new(data: &Path) -> Self {
        Self(data.join("network.json"))
    }

    /// What was kept last; `None` when there is nothing, or nothing of use.
    pub(crate) fn load(&self) -> Option<Moment> {
        serde_json::from_slice(&fs::read(&self.0).ok()?).ok()
    }

    /// Keeps a moment instead of the one before.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn save(&self, moment: &Moment) -> io::Result<()> {
        replace(&self.0, moment)
    }
}

/// Writes a file that is whole at any moment, as it was or as it is to be.
pub(crate) fn replace(path: &Path, content: &impl Serialize) -> io::Result<()> {
    let aside = path.with_extension("new");
    fs::write(&aside, serde_json::to_vec(content)?)?;
    fs::rename(aside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(from: &Lasting, to: &Lasting) -> f64 {
        let pumped = |lasting: &Lasting| serde_json::to_value(lasting).unwrap()["drawn"][0].as_f64().unwrap();
        pumped(to) - pumped(from)
    }

    #[test]
    fn the_clocks_of_a_zone_say_what_time_it_is() {
        let rome = TimeZone::get("Europe/Rome").unwrap();
        let at = |text: &str| model_s(text.parse().unwrap(), &rome).rem_euclid(7.0 * 86_400.0) / 3_600.0;
        assert_eq!(at("2026-03-02T06:30:00Z"), 7.5); // a Monday in winter
        assert_eq!(at("2026-07-07T05:30:00Z"), 24.0 + 7.5); // a Tuesday in summer
    }

    #[test]
    fn meters_go_on_while_nobody_looks_and_nothing_else_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let (kept, begins) = (Kept::new(folder.path()), Timestamp(1_772_366_400_250_000));
        assert_eq!(kept.load(), None);
        let moment = Moment::new(begins, unknown(begins));
        kept.save(&moment).unwrap();
        assert_eq!(kept.load(), Some(moment));
        let at = |seconds: i64| moment.at(begins.plus_micros(seconds * 1_000_000), 1, &TimeZone::UTC);
        assert_eq!(at(0), moment.network);
        let (hour, day) = (seconds(&moment.network, &at(3_601)), seconds(&moment.network, &at(86_400)));
        assert!(hour > 10.0 && day > 10.0 * hour, "{hour} m³ and {day} m³");
        // In pieces it is the same.
        let half = Moment::new(begins.plus_micros(43_200_000_000), at(43_200));
        let whole = half.at(begins.plus_micros(86_400_000_000), 1, &TimeZone::UTC);
        assert!((seconds(&moment.network, &whole) - day).abs() < 0.5);
    }
}
