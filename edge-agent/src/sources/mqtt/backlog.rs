//! Which messages may have waited at the broker. Pure: no IO, no clock.
//!
//! A broker that kept our session sends at once what came while we were away. Without a timestamp of its own such
//! a message would be taken for new; nothing in it says how old it is, so its time is in doubt until the flood is
//! over.

/// Absences up to this don't matter, microseconds.
const SHORT_US: i64 = 5_000_000;
/// The flood is over after this long without an acknowledged message, microseconds.
const PAUSE_US: i64 = 1_000_000;
/// And after this long at the latest, since a busy broker never pauses.
const LONGEST_US: i64 = 300_000_000;

/// What may still come from before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backlog(Option<Flood>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flood {
    began_us: i64,
    last_us: i64,
}

impl Backlog {
    /// The broker has taken up our session again after `away_us`; `None` when nobody knows how long it was.
    pub(super) fn resumed(now_us: i64, away_us: Option<i64>) -> Self {
        let matters = away_us.is_none_or(|away| away > SHORT_US);
        Self(matters.then_some(Flood { began_us: now_us, last_us: now_us }))
    }

    /// Whether an acknowledged message that came now may have waited.
    pub(super) fn may_have(&mut self, now_us: i64) -> bool {
        let Some(flood) = &mut self.0 else { return false };
        if now_us - flood.last_us > PAUSE_US || now_us - flood.began_us > LONGEST_US {
            self.0 = None;
            return false;
        }
        flood.last_us = now_us;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(away_us: Option<i64>, steps: &[(i64, bool)]) {
        let mut backlog = Backlog::resumed(0, away_us);
        for &(at, expected) in steps {
            assert_eq!(backlog.may_have(at), expected, "at {at} us");
        }
    }

    #[test]
    fn the_flood_lasts_until_a_pause() {
        check(None, &[(0, true), (900_000, true), (1_800_000, true), (2_900_000, false), (2_900_001, false)]);
    }

    #[test]
    fn a_busy_broker_is_believed_after_a_while() {
        let busy: Vec<_> = (0..=310).map(|s| (s * 1_000_000, s <= 300)).collect();
        check(Some(3_600_000_000), &busy);
    }

    #[test]
    fn a_short_absence_or_none_leaves_no_doubt() {
        check(Some(SHORT_US), &[(0, false)]);
        assert!(!Backlog::default().may_have(0));
    }
}
