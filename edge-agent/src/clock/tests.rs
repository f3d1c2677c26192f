use super::*;
use rustls::time_provider::TimeProvider;

const NOW: Timestamp = Timestamp(BUILT.0 + 86_400_000_000);
const HOUR: i64 = 3_600_000_000;

fn open(dir: &Path, boot: BootId, hands: &FakeTime) -> Clock {
    Clock::open_fake(dir, Trust::Auto, boot, hands.clone()).unwrap()
}

#[test]
fn a_boot_in_1970_waits_for_the_collector_and_then_keeps_its_offset() {
    let dir = tempfile::tempdir().unwrap();
    let hands = FakeTime::standing(5_000_000, Timestamp(5_000_000));
    let clock = open(dir.path(), BootId([1; 16]), &hands);
    assert!(!clock.ask_system());
    assert_eq!(clock.utc(), None);
    assert!(clock.learn(NOW, 5_000_000, Evidence::Collector));
    hands.advance(Duration::from_secs(1));
    assert_eq!(clock.utc(), Some(NOW.plus_micros(1_000_000)));

    let again = open(dir.path(), BootId([1; 16]), &hands);
    assert_eq!(again.utc(), clock.utc(), "a restart in the same boot has the same time");
    assert!(!again.learn(NOW.plus_micros(HOUR), 5_000_000, Evidence::Collector), "an offset never changes");
    assert_eq!(again.utc(), clock.utc());
}

#[test]
fn a_backward_step_of_the_wall_clock_moves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let hands = FakeTime::standing(0, NOW);
    hands.set_synchronised(true);
    let clock = open(dir.path(), BootId([1; 16]), &hands);
    assert!(clock.ask_system());
    hands.step_wall_us(-HOUR);
    hands.advance(Duration::from_secs(2));
    assert!(!clock.ask_system());
    assert_eq!(clock.utc(), Some(NOW.plus_micros(2_000_000)));
    assert!(clock.is_doubtful());
}

#[test]
fn time_does_not_go_back_from_one_boot_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), BootId([1; 16]), &FakeTime::standing(0, NOW));
    first.learn(NOW, 0, Evidence::Collector);
    first.keep_floor();
    let second = open(dir.path(), BootId([2; 16]), &FakeTime::standing(0, NOW));
    second.learn(NOW.plus_micros(-HOUR), 0, Evidence::Collector);
    assert!(second.utc() > Some(NOW));
    assert!(second.is_doubtful());
}

#[test]
fn a_floor_decades_ahead_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    Folder::open(dir.path()).unwrap().set_floor(NOW.plus_micros(HOUR * 24 * 365 * 14)).unwrap();
    let clock = open(dir.path(), BootId([1; 16]), &FakeTime::standing(0, NOW));
    clock.learn(NOW, 0, Evidence::Collector);
    assert_eq!(clock.utc(), Some(NOW));
}

#[test]
fn a_boot_that_never_learned_the_time_gets_bounds_once_and_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let (lost, later) = (BootId([1; 16]), BootId([2; 16]));
    open(dir.path(), lost, &FakeTime::standing(0, Timestamp(0)));
    let clock = open(dir.path(), later, &FakeTime::standing(60_000_000, Timestamp(0)));
    assert_eq!(clock.fixes(), []);
    clock.learn(NOW, 60_000_000, Evidence::Collector);
    let offset_us = NOW.0 - 60_000_000;
    let bounds = BootTime::Unknown { not_before: BUILT, not_after: Timestamp(offset_us) };
    let mut fixes = clock.fixes();
    fixes.sort_by_key(|fix| fix.0);
    assert_eq!(fixes, [(lost, bounds), (later, BootTime::Known { offset_us })]);

    let third = open(dir.path(), BootId([3; 16]), &FakeTime::standing(0, Timestamp(0)));
    third.learn(NOW.plus_micros(HOUR), 0, Evidence::Collector);
    assert!(third.fixes().contains(&(lost, bounds)));
}

#[test]
fn certificates_are_checked_at_the_latest_certain_time_until_time_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let clock = open(dir.path(), BootId([1; 16]), &FakeTime::standing(0, Timestamp(0)));
    let checked_at = || clock.current_time().unwrap().as_secs() as i64;
    assert_eq!(checked_at(), BUILT.0 / 1_000_000);
    clock.try_certificates_at(Some(NOW));
    assert_eq!(checked_at(), NOW.0 / 1_000_000);
    clock.learn(NOW.plus_micros(-HOUR), 0, Evidence::Collector);
    assert_eq!(checked_at(), NOW.plus_micros(-HOUR).0 / 1_000_000, "a trial ends when time is known");
}

#[test]
fn a_time_before_the_program_was_built_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let clock = open(dir.path(), BootId([1; 16]), &FakeTime::standing(0, Timestamp(0)));
    assert!(!clock.learn(Timestamp(1_000_000), 0, Evidence::Collector));
    assert!(!clock.is_trusted());
}

#[test]
fn damaged_records_are_set_aside_and_the_clock_opens() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("floor"), b"\0\0\0").unwrap();
    std::fs::write(dir.path().join(format!("boot-{}.json", "01".repeat(16))), b"{").unwrap();
    let clock = open(dir.path(), BootId([1; 16]), &FakeTime::standing(0, NOW));
    assert!(clock.learn(NOW, 0, Evidence::Collector));
    assert!(dir.path().join("floor.bad").exists());
}
