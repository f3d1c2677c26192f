//! The systemd units of both programs: systemd understands every line, and finds little that is left open.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// systemd's exposure in tenths: 0 is shut, 100 wide open. Sockets alone are 9.
const EXPOSURE_MAX: &str = "16";

fn unit_with_a_program_that_is_there(folder: &Path, name: &str) -> PathBuf {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd").join(name);
    let text = std::fs::read_to_string(&unit).unwrap();
    let program = env!("CARGO_BIN_EXE_collector");
    let text = text.replace("/usr/bin/edge-agent", program).replace("/usr/bin/collector", program);
    let copy = folder.join(name);
    std::fs::write(&copy, text).unwrap();
    copy
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn analyze(arguments: &[&str], unit: &Path) -> Output {
    let mut command = Command::new("systemd-analyze");
    command.args(arguments).arg(unit).output().expect("no systemd-analyze: run `make test-deps`")
}

#[test]
fn systemd_understands_every_line_and_finds_little_open() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["edge-agent.service", "collector.service"] {
        let unit = unit_with_a_program_that_is_there(folder.path(), name);
        let verified = analyze(&["verify", "--man=no"], &unit);
        let complaints = said(&verified);
        let ours: Vec<&str> = complaints.lines().filter(|line| line.contains(name)).collect();
        assert!(verified.status.success() && ours.is_empty(), "{complaints}");
        let rated =
            analyze(&["security", "--offline=true", "--no-pager", &format!("--threshold={EXPOSURE_MAX}")], &unit);
        assert!(rated.status.success(), "{}", said(&rated));
    }
}

#[test]
fn every_user_of_a_unit_is_made_by_its_sysusers_file() {
    for name in ["edge-agent", "collector"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd");
        let read = |file: String| std::fs::read_to_string(folder.join(file)).unwrap();
        let user =
            read(format!("{name}.service")).lines().find_map(|line| line.strip_prefix("User=").map(str::to_owned));
        let made = read(format!("{name}.sysusers"));
        assert_eq!(made.split_whitespace().nth(1).map(str::to_owned), user, "{made}");
    }
}
