//! What people must know of the quarantine: that this machine's clock may be wrong, and that readings made room in it.

use crate::ingest::clocks::Ahead;
use crate::resolve::{FUTURE, Origin, Sorted};
use crate::tiers::CommitReport;
use shared::ids::GatewayId;
use shared::reading::Timestamp;
use shared::telemetry::Seldom;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between warnings.
const SAID_EVERY: Duration = Duration::from_secs(60);
/// What was seen stands for so long.
const STANDS: Duration = Duration::from_secs(600);

/// What was seen of readings that are set aside.
#[derive(Debug)]
pub struct Quarantine {
    seen: Mutex<Seen>,
    said: Seldom,
}

#[derive(Debug, Default)]
struct Seen {
    /// What each gateway sent last, and when.
    clocks: BTreeMap<GatewayId, (Instant, Clock)>,
    /// How many readings made room, and when the last.
    dropped: Option<(Instant, u64)>,
}

/// What a gateway's readings say of the time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Clock {
    Possible,
    /// One is so many microseconds ahead of this machine's clock.
    Ahead(i64),
}

impl Default for Quarantine {
    fn default() -> Self {
        Self { seen: Mutex::default(), said: Seldom::new(SAID_EVERY) }
    }
}

impl Quarantine {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees what became of a block.
    pub(super) fn see(&self, origin: &Origin, sorted: &Sorted) {
        let future = sorted.quarantine.iter().filter(|row| row.reason == FUTURE).map(|row| row.at).max();
        let clock = future.map_or(Clock::Possible, |at| Clock::Ahead(at.since(origin.received)));
        self.lock().clocks.insert(origin.gateway.clone(), (Instant::now(), clock));
        let Some(first) = sorted.quarantine.first() else { return };
        if let Some(earlier) = self.said.may() {
            let hint = if first.reason == FUTURE { "; is this machine's clock right?" } else { "" };
            let (gateway, series, reason) = (&first.gateway, &first.series, &first.reason);
            let (readings, at, received) = (sorted.quarantine.len(), first.at, first.received);
            tracing::warn!(%gateway, series, readings, %at, %received, earlier_blocks = earlier, "readings are set aside: {reason}{hint}");
        }
    }

    /// Counts what made room.
    pub(super) fn count(&self, report: &CommitReport) {
        if report.quarantine_dropped == 0 {
            return;
        }
        metrics::counter!("collector_quarantine_dropped_total").increment(report.quarantine_dropped);
        let mut seen = self.lock();
        seen.forget_old();
        let before = seen.dropped.map_or(0, |(_, readings)| readings);
        seen.dropped = Some((Instant::now(), before + report.quarantine_dropped));
    }

    /// What is wrong, in words; `now` is what this machine's clock says.
    #[must_use]
    pub fn troubles(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        let mut seen = self.lock();
        seen.forget_old();
        let clock = seen.wrong_clock(now).map(|why| ("clock", why));
        let dropped = seen.dropped.map(|(_, readings)| ("quarantine", full(readings)));
        clock.into_iter().chain(dropped).collect()
    }
}

impl Seen {
    fn forget_old(&mut self) {
        self.clocks.retain(|_, (at, _)| at.elapsed() < STANDS);
        self.dropped = self.dropped.filter(|(last, _)| last.elapsed() < STANDS);
    }

    /// One gateway's clock may be wrong. When those of several are, or of all that send, then rather this machine's is.
    fn wrong_clock(&self, now: Timestamp) -> Option<String> {
        let ahead = self.clocks.iter().filter_map(|(gateway, (_, clock))| match clock {
            Clock::Ahead(us) => Some((gateway, *us)),
            Clock::Possible => None,
        });
        let ahead: Ahead = ahead.collect();
        if ahead.count == 0 || ahead.count < 2 && ahead.count < self.clocks.len() {
            return None;
        }
        Some(format!(
            "is this machine's clock right? It says {now}, and readings of {} {ahead}: they are set aside; once the clock is right \
             `collector quarantine release --because future` stores them",
            ahead.count,
        ))
    }
}

fn full(dropped: u64) -> String {
    format!(
        "it is full: {dropped} older readings made room and are missing now, see the gaps; `collector quarantine list` \
         says what is set aside and why, `release` or `drop` decide about it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiers::Quarantined;
    use shared::ids::{Seq, StreamId};
    use shared::reading::{Held, Quality};

    const NOW: Timestamp = Timestamp(1_000_000_000_000_000);

    fn see(quarantine: &Quarantine, gateway: &str, ahead: Option<i64>) {
        let gateway = GatewayId::new(gateway).unwrap();
        let origin = Origin { gateway: gateway.clone(), stream: StreamId(1), seq: Seq(1), received: NOW };
        let row = |seconds: i64| Quarantined {
            gateway,
            stream: StreamId(1),
            seq: Seq(1),
            series: "A/flow_rate".into(),
            at: NOW.plus_micros(seconds * 1_000_000),
            held: Held { value: None, quality: Quality::GOOD, revision: 0 },
            reason: FUTURE.into(),
            received: NOW,
        };
        let sorted = Sorted { quarantine: ahead.map(row).into_iter().collect(), ..Sorted::default() };
        quarantine.see(&origin, &sorted);
    }

    #[test]
    fn several_gateways_that_are_ahead_and_all_that_are_put_this_machines_clock_in_doubt() {
        let quarantine = Quarantine::default();
        assert_eq!(quarantine.troubles(NOW), []);
        see(&quarantine, "A", Some(3_600));
        assert_eq!(quarantine.troubles(NOW)[0].0, "clock", "nobody says otherwise");
        see(&quarantine, "B", None);
        assert_eq!(quarantine.troubles(NOW), [], "it is A's");
        see(&quarantine, "C", Some(7_200));
        let why = quarantine.troubles(NOW).remove(0).1;
        assert!(why.contains("It says 2001-09-09") && why.contains("2 gateways (A, C)"), "{why}");
        assert!(why.contains("up to 2h ahead"), "{why}");
        see(&quarantine, "A", None);
        assert_eq!(quarantine.troubles(NOW), [], "what came last counts");
    }

    #[test]
    fn what_made_room_is_told() {
        let quarantine = Quarantine::default();
        quarantine.count(&CommitReport::default());
        assert_eq!(quarantine.troubles(NOW), []);
        for quarantine_dropped in [30, 12] {
            quarantine.count(&CommitReport { quarantine_dropped, ..CommitReport::default() });
        }
        let (part, why) = quarantine.troubles(NOW).remove(0);
        assert!(part == "quarantine" && why.contains("42 older readings"), "{why}");
    }
}
