//! What a program's log looks like from outside: this test starts itself as that program.
#![allow(clippy::unwrap_used)] // helpers of tests, which the exemption for tests does not reach

use shared::telemetry::{LogFormat, init};
use std::process::{Command, Output};

const FORMAT: &str = "LOGS_TEST_FORMAT";

/// The program: does something only when it was started by the tests below.
#[test]
fn program() {
    let Ok(format) = std::env::var(FORMAT) else { return };
    init(if format == "json" { LogFormat::Json } else { LogFormat::Text }, "info").unwrap();
    tracing::info!(device = "pump-1", "polled");
    tracing::debug!("not shown");
}

fn run(format: &str, on_a_terminal: bool, no_color: bool) -> Output {
    let itself = std::env::current_exe().unwrap();
    let mut command = if on_a_terminal {
        // script(1), in every Debian and Ubuntu, gives the program a terminal.
        let mut script = Command::new("script");
        script.arg("-qec").arg(format!("'{}' --exact program --nocapture", itself.display())).arg("/dev/null");
        script
    } else {
        let mut plain = Command::new(itself);
        plain.args(["--exact", "program", "--nocapture"]);
        plain
    };
    command.env_remove("NO_COLOR").env_remove("RUST_LOG").env(FORMAT, format);
    if no_color {
        command.env("NO_COLOR", "1");
    }
    command.output().unwrap()
}

/// The line with `polled` in it.
fn line(of: &[u8]) -> String {
    let text = String::from_utf8_lossy(of);
    assert!(!text.contains("not shown"), "{text}");
    text.lines().find(|line| line.contains("polled")).unwrap_or_default().trim_end().into()
}

#[test]
fn in_a_pipe_it_is_plain_text_on_standard_error() {
    let output = run("text", false, false);
    let (out, err) = (line(&output.stdout), line(&output.stderr));
    assert_eq!(out, "");
    assert!(err.contains("INFO") && err.contains("device=\"pump-1\"") && !err.contains('\x1b'), "{err:?}");
}

#[test]
fn on_a_terminal_it_is_coloured_unless_colour_is_not_wanted() {
    let coloured = line(&run("text", true, false).stdout);
    assert!(coloured.contains("\x1b["), "{coloured:?}");
    let plain = line(&run("text", true, true).stdout);
    assert!(plain.contains("polled") && !plain.contains('\x1b'), "{plain:?}");
}

#[test]
fn as_json_every_line_is_one_object_on_a_terminal_too() {
    for (output, terminal) in [(run("json", false, false).stderr, false), (run("json", true, false).stdout, true)] {
        let line = line(&output);
        // The test harness may have left words of its own on the terminal's line.
        let object = if terminal { &line[line.find('{').unwrap()..] } else { line.as_str() };
        let object: serde_json::Value = serde_json::from_str(object).unwrap();
        assert_eq!(object["level"], "INFO");
        assert_eq!(object["message"], "polled");
        assert_eq!(object["device"], "pump-1");
    }
}
