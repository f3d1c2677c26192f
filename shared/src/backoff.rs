//! Growing, jittered pauses between attempts ("full jitter", M. Brooker, AWS Architecture Blog 2015).

use std::time::Duration;

/// Doubles a pause from `first` to `longest`; what is waited is random below it, so that a fleet doesn't
/// come back in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    attempt: u32,
}

impl Backoff {
    /// Pauses between `first` and `longest`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest: longest.max(first), attempt: 0 }
    }

    /// The next pause: at least a quarter of the current step, at most all of it. `random` is uniform in 0..1.
    pub fn next_pause(&mut self, random: f64) -> Duration {
        let step = self.first.saturating_mul(1 << self.attempt.min(20)).min(self.longest);
        self.attempt = self.attempt.saturating_add(1);
        step.mul_f64(0.25 + 0.75 * random.clamp(0.0, 1.0))
    }

    /// The next pause, with the operating system's randomness.
    pub fn pause(&mut self) -> Duration {
        let random = (crate::ids::StreamId::random().0 >> 11) as f64 / (1u64 << 53) as f64;
        self.next_pause(random)
    }

    /// Back to the shortest pause, after a success.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_longest_and_starts_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
        let pauses: Vec<u64> = (0..6).map(|_| backoff.next_pause(1.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
        backoff.reset();
        assert_eq!(backoff.next_pause(0.0), Duration::from_millis(250));
    }
}
