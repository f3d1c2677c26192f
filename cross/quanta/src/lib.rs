//! The part of quanta 0.12 that the metrics crates use, on the standard library's monotonic clock.

pub use std::time::Instant;

/// A source of [`Instant`]s.
#[derive(Clone, Debug, Default)]
pub struct Clock(());

impl Clock {
    /// The system's monotonic clock.
    #[must_use]
    pub fn new() -> Self {
        Self(())
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::now()
    }
}
