//! The agent's time: `CLOCK_BOOTTIME` plus one offset per boot that, once known, never changes.
//!
//! So agent time never jumps and never goes back, whatever happens to the wall clock.

use shared::ids::BootId;
use shared::reading::Timestamp;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A handle on time, cheap to clone. Programs open one; tests make a fake one.
#[derive(Clone, Debug)]
pub struct Clock {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    ticks: Ticks,
    boot: BootId,
    state: Mutex<State>,
}

#[derive(Debug)]
enum Ticks {
    Kernel,
    Fake(Arc<AtomicI64>),
}

#[derive(Debug, Default)]
struct State {
    offset_us: Option<i64>,
}

/// Turns the hands of a fake clock.
#[derive(Clone, Debug)]
pub struct FakeTime(Arc<AtomicI64>);

impl FakeTime {
    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_micros() as i64, Ordering::SeqCst);
    }
}

impl Clock {
    /// A clock for tests that stands still until its hands are turned: `mono_us` since boot, and, when it is
    /// trusted, `offset_us` from there to UTC.
    #[must_use]
    pub fn fake(mono_us: i64, offset_us: Option<i64>) -> (Self, FakeTime) {
        let hands = Arc::new(AtomicI64::new(mono_us));
        let state = Mutex::new(State { offset_us });
        let inner = Inner { ticks: Ticks::Fake(hands.clone()), boot: BootId::random(), state };
        (Self { inner: Arc::new(inner) }, FakeTime(hands))
    }

    /// A clock on the kernel's time that trusts the wall clock as it is and writes nothing: for tests with real
    /// devices, and for `probe` and `scan`.
    #[must_use]
    pub fn unrecorded() -> Self {
        let offset_us = Timestamp::wall_clock().0 - kernel_boottime_us();
        let state = Mutex::new(State { offset_us: Some(offset_us) });
        Self { inner: Arc::new(Inner { ticks: Ticks::Kernel, boot: BootId::random(), state }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Microseconds since this boot, suspended time included. Never goes back.
    #[must_use]
    pub fn mono_us(&self) -> i64 {
        match &self.inner.ticks {
            Ticks::Kernel => kernel_boottime_us(),
            Ticks::Fake(hands) => hands.load(Ordering::SeqCst),
        }
    }

    /// This boot.
    #[must_use]
    pub fn boot(&self) -> BootId {
        self.inner.boot
    }

    /// From microseconds since boot to UTC; `None` while time is not trusted.
    #[must_use]
    pub fn offset_us(&self) -> Option<i64> {
        self.state().offset_us
    }

    /// Whether UTC is known.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.offset_us().is_some()
    }

    /// Now in UTC; `None` while time is not trusted.
    #[must_use]
    pub fn utc(&self) -> Option<Timestamp> {
        self.to_utc(self.mono_us())
    }

    /// A moment of this boot in UTC; `None` while time is not trusted.
    #[must_use]
    pub fn to_utc(&self, mono_us: i64) -> Option<Timestamp> {
        self.offset_us().map(|offset| Timestamp(mono_us.saturating_add(offset)))
    }

    /// Waits until `mono_us` has come; at once when it has passed. Cancel safe.
    pub async fn sleep_until(&self, mono_us: i64) {
        let left = mono_us.saturating_sub(self.mono_us());
        if left > 0 {
            tokio::time::sleep(Duration::from_micros(left as u64)).await;
        }
    }
}

fn kernel_boottime_us() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as i64 * 1_000_000 + now.tv_nsec as i64 / 1000
}
