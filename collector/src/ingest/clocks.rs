//! Whether this machine's clock can be believed, by what gateways say of theirs.
//!
//! One gateway that is ahead has a wrong clock, and its readings are set aside. When most of several are, it is rather this
//! machine's clock that is behind: their readings wait where they are, for quarantine couldn't hold them all. Their word
//! counts, and not their readings': a backlog of old readings says nothing of the clock, nor does a device that sends times of
//! its own.

use shared::ids::GatewayId;
use shared::reading::{Timestamp, micros};
use shared::wire::ClockState;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a gateway said stands for so long; it says it every 30 s.
const STANDS: Duration = Duration::from_secs(600);
/// Clocks that are further from each other are told of, microseconds; less is no reason to doubt one.
pub(super) const APART: i64 = 60_000_000;
/// Fewer that are ahead are wrong themselves.
const AHEAD_MIN: usize = 2;
/// Most gateways that are named.
const NAMED_MAX: usize = 5;

/// What gateways said last of the time.
#[derive(Debug, Default)]
pub struct Clocks(Mutex<BTreeMap<GatewayId, Word>>);

#[derive(Clone, Copy, Debug)]
struct Word {
    said: Timestamp,
    heard: Instant,
}

impl Word {
    /// How far that clock is ahead of `now`, microseconds.
    fn ahead(self, now: Timestamp) -> i64 {
        self.said.plus_micros(micros(self.heard.elapsed())).since(now)
    }
}

/// Gateways that are ahead of this machine's clock.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ahead {
    pub(crate) count: usize,
    /// The first of them.
    named: Vec<GatewayId>,
    /// How far the furthest is, microseconds.
    most: i64,
}

impl<'a> FromIterator<(&'a GatewayId, i64)> for Ahead {
    /// From each, and how far it is ahead.
    fn from_iter<T: IntoIterator<Item = (&'a GatewayId, i64)>>(all: T) -> Self {
        let mut ahead = Self::default();
        for (gateway, by) in all {
            ahead.count += 1;
            ahead.most = ahead.most.max(by);
            if ahead.named.len() < NAMED_MAX {
                ahead.named.push(gateway.clone());
            }
        }
        ahead
    }
}

impl fmt::Display for Ahead {
    /// Who, and by how much; how many stands before it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<&str> = self.named.iter().map(GatewayId::as_str).collect();
        let more = if self.count > named.len() { ", …" } else { "" };
        let by = humantime::format_duration(Duration::from_secs(self.most.unsigned_abs() / 1_000_000));
        write!(f, "gateways ({}{more}) are up to {by} ahead", named.join(", "))
    }
}

/// Why this machine's clock is rather wrong than theirs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Doubt {
    ahead: Ahead,
    of: usize,
}

impl Clocks {
    /// A gateway said what time it is. Who doesn't know says nothing.
    pub fn heard(&self, gateway: &GatewayId, clock: ClockState, said: Timestamp) {
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match clock {
            ClockState::Trusted => words.insert(gateway.clone(), Word { said, heard: Instant::now() }),
            ClockState::Untrusted => words.remove(gateway),
        };
    }

    /// Why `now`, which this machine's clock says, is not to be believed; clocks may be ahead by what is `allowed`.
    #[must_use]
    pub fn doubt(&self, now: Timestamp, allowed: Duration) -> Option<Doubt> {
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        words.retain(|_, word| word.heard.elapsed() < STANDS);
        doubt(words.iter().map(|(gateway, word)| (gateway, word.ahead(now))), micros(allowed).max(APART))
    }
}

/// More than half of them must be ahead, and several.
fn doubt<'a>(clocks: impl Iterator<Item = (&'a GatewayId, i64)>, allowed: i64) -> Option<Doubt> {
    let mut of = 0;
    let ahead: Ahead = clocks.inspect(|_| of += 1).filter(|(_, ahead)| *ahead > allowed).collect();
    (ahead.count >= AHEAD_MIN && 2 * ahead.count > of).then_some(Doubt { ahead, of })
}

impl Doubt {
    /// What people are told; `now` is what this machine's clock says.
    #[must_use]
    pub fn trouble(&self, now: Timestamp) -> String {
        format!(
            "is this machine's clock right? It says {now}, and {self}: readings ahead of it are held back on the gateways until \
             it is set right, or theirs are; then `collector quarantine release --because future` stores what was set aside before"
        )
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the clocks of {} of {} {} of it", self.ahead.count, self.of, self.ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;
    const NOW: Timestamp = Timestamp(1_000_000_000_000_000);

    fn gateway(name: &str) -> GatewayId {
        GatewayId::new(name).unwrap()
    }

    fn said(minutes: &[i64]) -> Option<String> {
        let clocks: Vec<_> =
            minutes.iter().enumerate().map(|(no, at)| (gateway(&format!("G{no}")), at * MINUTE)).collect();
        doubt(clocks.iter().map(|(gateway, ahead)| (gateway, *ahead)), 10 * MINUTE).map(|doubt| doubt.to_string())
    }

    #[test]
    fn most_of_several_clocks_put_this_machines_in_doubt() {
        assert_eq!(said(&[]), None);
        assert_eq!(said(&[60]), None, "alone it may be wrong itself");
        assert_eq!(said(&[60, 60, 0, 0]), None, "half is no majority");
        assert_eq!(said(&[10, 10, 10]), None, "that much is allowed");
        assert_eq!(said(&[-60, -60, -60]), None, "nothing of theirs is in the future");
        let why = "the clocks of 2 of 3 gateways (G0, G2) are up to 2h ahead of it";
        assert_eq!(said(&[60, 0, 120]).as_deref(), Some(why));
        let many = said(&[60; 7]).unwrap();
        assert!(many.contains("7 of 7") && many.contains("G4, …)"), "{many}");
    }

    #[test]
    fn the_doubt_is_over_when_the_clock_is_right_and_who_does_not_know_the_time_has_no_say() {
        let (clocks, allowed) = (Clocks::default(), Duration::from_secs(600));
        let hour = NOW.plus_micros(60 * MINUTE);
        for name in ["A", "B"] {
            clocks.heard(&gateway(name), ClockState::Trusted, hour);
        }
        clocks.heard(&gateway("C"), ClockState::Trusted, NOW);
        assert!(clocks.doubt(NOW, allowed).is_some());
        assert_eq!(clocks.doubt(hour, allowed), None, "nobody had to say anything again");
        clocks.heard(&gateway("B"), ClockState::Untrusted, hour);
        assert_eq!(clocks.doubt(NOW, allowed), None);
        clocks.heard(&gateway("B"), ClockState::Trusted, hour);
        clocks.heard(&gateway("A"), ClockState::Trusted, NOW);
        assert_eq!(clocks.doubt(NOW, allowed), None, "what came last counts");
        clocks.heard(&gateway("A"), ClockState::Trusted, NOW.plus_micros(MINUTE / 2));
        clocks.heard(&gateway("B"), ClockState::Trusted, NOW.plus_micros(MINUTE / 2));
        assert_eq!(clocks.doubt(NOW, Duration::ZERO), None, "half a minute is no reason");
    }
}
