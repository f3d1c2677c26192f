//! Everything that was acknowledged to its source is stored, once, whatever breaks: `examples/crash` with a fixed number
//! of rounds. `CRASH_ROUNDS=500` makes it more.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

use std::path::Path;
use std::process::Command;

#[track_caller]
fn check(mode: &str) {
    let rounds = std::env::var("CRASH_ROUNDS").unwrap_or_else(|_| "20".into());
    let folder = Path::new(env!("CARGO_BIN_EXE_collector")).parent().unwrap();
    let program = folder.join("examples/crash");
    assert!(program.exists(), "not built yet: cargo build --workspace --bins --examples");
    let output = Command::new(program).args([mode, "--rounds", &rounds]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    println!("{said}");
}

#[test]
fn nothing_is_lost_or_doubled_when_agent_and_collector_are_killed() {
    check("kill");
}

#[test]
fn nothing_is_lost_or_doubled_over_a_bad_network() {
    check("network");
}

#[test]
fn nothing_is_lost_or_doubled_when_the_collector_loses_its_spool() {
    check("spool");
}

#[test]
fn nothing_is_lost_or_doubled_when_redis_and_postgresql_are_killed() {
    check("tiers");
}

#[test]
fn nothing_is_lost_or_doubled_when_one_of_two_collectors_is_gone_with_its_disk() {
    check("pair");
}

#[test]
fn three_weeks_of_outage_leave_memory_flat_totals_whole_and_newest_values_new() {
    check("outage");
}
