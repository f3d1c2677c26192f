//! When a unit that doesn't answer is tried again. Pure: no IO, no clock; times are monotonic microseconds.
//!
//! One per (link, unit). After a few failures in a row the unit is *dead*: it is tried after growing pauses. The
//! first ones are short, so that a stumble on a noisy line costs little; from then on the dead units of a link
//! together use at most [`DEAD_SHARE_MAX`] of its time.

use std::time::Duration;

/// The part of a link's time that its dead units may use together.
pub const DEAD_SHARE_MAX: f64 = 0.02;
/// Failures in a row after which a unit is dead.
pub const FAILURES_MAX: u32 = 3;
/// Tries of a dead unit that may come soon, whatever they cost.
pub const EARLY_TRIES: u32 = 2;
const PAUSE_FIRST: Duration = Duration::from_secs(5);
const PAUSE_LONGEST: Duration = Duration::from_secs(300);

/// What is known about one unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    failures: u32,
    /// Not before this, while dead.
    next_try_us: i64,
}

impl Breaker {
    /// Whether the unit counts as dead.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.failures >= FAILURES_MAX
    }

    /// Whether it may be asked now.
    #[must_use]
    pub fn may_try(&self, now_us: i64) -> bool {
        !self.is_dead() || now_us >= self.next_try_us
    }

    /// When it may be asked again; `None` for one that is alive.
    #[must_use]
    pub fn next_try_us(&self) -> Option<i64> {
        self.is_dead().then_some(self.next_try_us)
    }

    /// It answered: a device exception is an answer too.
    pub fn success(&mut self) {
        *self = Self::default();
    }

    /// It didn't answer, which cost the link `cost`; `dead` of the link's units are dead, this one included.
    pub fn failure(&mut self, now_us: i64, cost: Duration, dead: usize) {
        self.failures = self.failures.saturating_add(1);
        if !self.is_dead() {
            return;
        }
        let doublings = (self.failures - FAILURES_MAX).min(16);
        let grown = PAUSE_FIRST.saturating_mul(1 << doublings).min(PAUSE_LONGEST);
        // Tried once per pause, `dead` units cost dead × cost in each pause + cost.
        let fair = cost.mul_f64(dead.max(1) as f64 / DEAD_SHARE_MAX);
        let pause = if self.failures - FAILURES_MAX < EARLY_TRIES { grown } else { grown.max(fair) };
        let pause = i64::try_from(pause.as_micros()).unwrap_or(i64::MAX);
        self.next_try_us = now_us.saturating_add(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn two_failures_in_a_row_are_forgiven_and_three_are_not() {
        let mut breaker = Breaker::default();
        breaker.failure(0, Duration::from_millis(50), 1);
        breaker.failure(0, Duration::from_millis(50), 1);
        assert!(breaker.may_try(1));
        breaker.failure(0, Duration::from_millis(50), 1);
        assert!(!breaker.may_try(4 * SECOND));
        assert!(breaker.may_try(5 * SECOND));
    }

    #[test]
    fn pauses_grow_to_the_longest_and_one_answer_ends_them() {
        let mut breaker = Breaker::default();
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..11 {
            breaker.failure(now, Duration::from_millis(10), 1);
            if let Some(next) = breaker.next_try_us() {
                pauses.push((next - now) / SECOND);
                now = next;
            }
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        breaker.success();
        assert!(!breaker.is_dead() && breaker.may_try(now));
    }

    proptest! {
        #[test]
        fn dead_units_together_stay_within_their_share(units in 1usize..10, cost_ms in 1u64..5_000) {
            let cost = Duration::from_millis(cost_ms);
            let mut breakers = vec![Breaker::default(); units];
            let (mut now, mut used) = (0i64, 0i64);
            // The failures that make them dead are not counted: they can't be foreseen.
            for breaker in &mut breakers {
                for _ in 0..FAILURES_MAX { breaker.failure(now, cost, units); }
            }
            let end = 3_600 * SECOND * 10;
            while now < end {
                let next = breakers.iter().filter_map(Breaker::next_try_us).min().unwrap();
                now = now.max(next);
                let breaker = breakers.iter_mut().find(|b| b.may_try(now)).unwrap();
                now += cost.as_micros() as i64;
                used += cost.as_micros() as i64;
                breaker.failure(now, cost, units);
            }
            prop_assert!(used as f64 <= now as f64 * DEAD_SHARE_MAX
                + cost.as_micros() as f64 * units as f64 * f64::from(EARLY_TRIES + 1));
        }
    }
}
