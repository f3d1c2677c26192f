//! Waits and clocks as this machine's processor and C library have them: on 32 bits with 64-bit time both can be wrong.

use rustix::time::{ClockId, clock_gettime};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Below a second, and not a whole one above: what is lost is the fraction.
const WAITS: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(600), Duration::from_millis(1700)];
/// A wait that comes back at once does so thousands of times.
const EARLY_MAX: u32 = 20;

#[test]
fn a_condition_is_waited_for_as_long_as_was_said() {
    let (lock, condition) = (Mutex::new(()), Condvar::new());
    for wait in WAITS {
        let (started, mut early) = (Instant::now(), 0);
        while let Some(left) = wait.checked_sub(started.elapsed()) {
            let (_guard, outcome) = condition.wait_timeout(lock.lock().unwrap(), left).unwrap();
            early += u32::from(!outcome.timed_out() || started.elapsed() < wait);
        }
        assert!(early <= EARLY_MAX, "{wait:?}: back {early} times before its time");
    }
}

/// sled waits through parking_lot 0.11, which goes round and round inside when a wait comes back early.
#[test]
fn sleds_locks_sleep_while_they_wait() {
    let lock = parking_lot::Mutex::new(());
    let condition = parking_lot::Condvar::new();
    for wait in WAITS {
        let (started, busy) = (Instant::now(), busy());
        assert!(condition.wait_for(&mut lock.lock(), wait).timed_out());
        let (waited, busy) = (started.elapsed(), self::busy() - busy);
        assert!(waited >= wait, "back after {waited:?} instead of {wait:?}");
        // A wait that comes back at once and is asked for again still sleeps some 50 µs, the timer's slack.
        assert!(busy < Duration::from_millis(5) + wait / 10, "{wait:?}: the processor was busy for {busy:?}");
    }
}

/// Processor time of this thread.
fn busy() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("no negative time")
}

/// `TEST_CLOCK_AFTER` says which year it is at least, where somebody has set the clock.
#[test]
fn the_clock_is_read_beyond_2038() {
    let year = 1970 + SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 31_556_952;
    let at_least = std::env::var("TEST_CLOCK_AFTER").map_or(2026, |year| year.parse().unwrap());
    assert!(year >= at_least, "it is {year}, and {at_least} at least was expected");
    let file = tempfile::NamedTempFile::new().unwrap();
    let far = UNIX_EPOCH + Duration::from_secs(2_840_140_800); // 2060
    file.as_file().set_modified(far).unwrap();
    assert_eq!(file.as_file().metadata().unwrap().modified().unwrap(), far);
}
