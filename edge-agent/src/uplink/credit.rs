//! How much may be on the way unanswered in one lane: about half a second's worth, found out by trying. Pure.
//!
//! Additive growth while answers are quick and the credit was used up, a cut when they are slow (Jacobson's AIMD),
//! so that on a slow mobile link a new value waits behind at most a second of backlog.

use std::time::Duration;

/// Least credit: two blocks, so that the link never idles for a round trip.
const LEAST_BYTES: u32 = 2 * shared::block::BLOCK_BYTES_MAX as u32;
/// Most credit of a lane.
const MOST_BYTES: u32 = 1 << 20;
/// Answers slower than this cut the credit.
const SLOW: Duration = Duration::from_millis(900);
/// Answers quicker than this let it grow.
const QUICK: Duration = Duration::from_millis(450);

/// One lane's credit.
#[derive(Clone, Debug)]
pub(super) struct Credit {
    limit: u32,
    in_flight: u32,
    /// Whether the limit held something back since the last answer.
    was_short: bool,
    /// Bytes still to be answered that were sent before the last cut: one slow round cuts once.
    before_cut: u32,
}

impl Default for Credit {
    fn default() -> Self {
        Self { limit: LEAST_BYTES, in_flight: 0, was_short: false, before_cut: 0 }
    }
}

impl Credit {
    /// Takes credit for `bytes`; false when there is none left. A block larger than all credit may go alone.
    pub(super) fn take(&mut self, bytes: u32) -> bool {
        let fits = self.in_flight == 0 || self.in_flight.saturating_add(bytes) <= self.limit;
        if fits {
            self.in_flight = self.in_flight.saturating_add(bytes);
        } else {
            self.was_short = true;
        }
        fits
    }

    /// `bytes` were answered after `took`.
    pub(super) fn answered(&mut self, bytes: u32, took: Duration) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        self.before_cut = self.before_cut.saturating_sub(bytes);
        if took > SLOW {
            if self.before_cut == 0 {
                self.limit = (self.limit / 2).max(LEAST_BYTES);
                self.before_cut = self.in_flight;
            }
        } else if took < QUICK && self.was_short {
            self.limit = self.limit.saturating_add(bytes).min(MOST_BYTES);
            self.was_short = false;
        }
    }

    /// Bytes on the way.
    #[must_use]
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Bytes that may be on the way.
    #[must_use]
    pub(super) fn limit(&self) -> u32 {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link of so many bytes per second that answers in order; the backlog in flight after a minute, in seconds.
    fn settled(bytes_per_s: f64, block: u32) -> f64 {
        let mut credit = Credit::default();
        let mut queue: std::collections::VecDeque<(f64, f64)> = std::collections::VecDeque::new();
        let (mut now, mut free_at) = (0.0, 0.0f64);
        while now < 60.0 {
            while credit.take(block) {
                free_at = free_at.max(now) + f64::from(block) / bytes_per_s;
                queue.push_back((now, free_at));
            }
            let Some((sent, arrives)) = queue.pop_front() else { break };
            now = arrives + 0.02;
            credit.answered(block, Duration::from_secs_f64(now - sent));
        }
        f64::from(credit.limit()) / bytes_per_s
    }

    #[test]
    fn a_slow_link_carries_about_a_second_of_backlog_and_a_fast_one_is_filled() {
        let slow = settled(16_000.0, 6_000);
        assert!((0.3..1.3).contains(&slow), "{slow} s of backlog on 128 kbit/s");
        let fast = settled(10_000_000.0, 6_000);
        assert!(fast * 10_000_000.0 > 200_000.0, "only {fast} s are used of a fast link");
    }

    #[test]
    fn a_block_larger_than_the_credit_goes_alone() {
        let mut credit = Credit::default();
        assert!(credit.take(u32::MAX));
        assert!(!credit.take(1));
        credit.answered(u32::MAX, Duration::ZERO);
        assert!(credit.take(1));
    }
}
