//! The demo as people start it: real programs, real TLS, simulated sensors.
//!
//! Bounds on time are generous here, since nobody knows what else the machine does; the figures are printed.

#[path = "support/programs.rs"]
mod programs;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(120);

fn demo(data: &Path) -> Command {
    let mut command = Command::new(programs::built().join("examples/demo"));
    command.arg("--any-ports").arg("--data").arg(data).stdin(Stdio::null());
    command
}

/// A demo that ends with the test, and its children with it: it is asked, not killed.
struct Running(Child);

impl Running {
    fn interrupt(&self) {
        let pid = Pid::from_raw(self.0.id() as i32).expect("a process number");
        let _ = kill_process(pid, Signal::INT);
    }

    /// The exit code; `None` after a signal.
    fn ended(&mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().expect("a child") {
                return status.code();
            }
            assert!(Instant::now() < until, "the demo doesn't end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn children(&self) -> Vec<(i32, String)> {
        let of = |pid: i32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (name, rest) = (stat.split(['(', ')']).nth(1)?.to_owned(), stat.rsplit(')').next()?.to_owned());
            let parent: u32 = rest.split_whitespace().nth(1)?.parse().ok()?;
            (parent == self.0.id()).then_some((pid, name))
        };
        let all = std::fs::read_dir("/proc").expect("/proc");
        all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter_map(of).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.try_wait().ok().flatten().is_none() {
            self.interrupt();
            self.ended();
        }
    }
}

fn lines_of(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Reads on until each of these was said: a line with all of its words. They may come in any order.
#[track_caller]
fn wait_for(lines: &Receiver<String>, wanted: &[&[&str]], said: &mut Vec<String>) {
    let until = Instant::now() + PATIENCE;
    let mut missing = wanted.to_vec();
    while !missing.is_empty() {
        let line = lines.recv_timeout(until.saturating_duration_since(Instant::now()));
        let line = line.unwrap_or_else(|_| panic!("no lines with {missing:?} in {said:#?}"));
        missing.retain(|words| !words.iter().all(|word| line.contains(word)));
        said.push(line);
    }
}

fn check(data: &Path, seconds: &str) -> Output {
    let arguments = ["--check", seconds, "--seen-within", "60s", "--behind-max", "30s"];
    let output = demo(data).args(arguments).output().expect("the demo starts");
    print!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn every_value_in_the_api_is_what_its_sensor_held() {
    let data = tempfile::tempdir().unwrap();
    // While its past comes in, as people run it.
    let output = check(data.path(), "10");
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("check: passed") && said.contains("past: 9 weeks of all series, 2 years"), "{said}");
}

/// The answer of a demo that has said where it is.
fn ask(said: &[String], path: &str) -> serde_json::Value {
    let newest = said.iter().find(|line| line.starts_with("newest")).expect("just seen");
    let base =
        newest.split_whitespace().nth(1).and_then(|address| address.split("/latest").next()).expect("an address");
    let text = ureq::get(&format!("{base}/{path}")).call().and_then(|mut answer| answer.body_mut().read_to_string());
    serde_json::from_str(&text.unwrap_or_else(|error| panic!("{path}: {error}"))).expect("JSON")
}

#[test]
fn a_past_is_made_once_and_goes_on_coming_in_after_an_interruption() {
    let data = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = demo(data.path());
        command.args(["--every", "1h"]).args(arguments).stdout(Stdio::piped());
        let mut running = Running(command.spawn().expect("the demo starts"));
        let lines = lines_of(running.0.stdout.take().expect("piped"));
        (running, lines, Vec::new())
    };
    let (mut running, lines, mut said) = run(&["--past", "15d", "--flow-past", "40d"]);
    wait_for(&lines, &[&["past: 2 weeks of all series, 6 weeks of the districts' flow", "made in"]], &mut said);
    wait_for(&lines, &[&["past: all.csv"]], &mut said);
    running.interrupt();
    assert_eq!(running.ended(), Some(0));

    // Nothing is made anew: it would say other things about the same moments.
    let (mut running, lines, mut said) = run(&[]);
    wait_for(&lines, &[&["past: 2 weeks", "brought in in"]], &mut said);
    assert!(!said.iter().any(|line| line.contains("made in")), "{said:#?}");
    for meter in ["DIST_001", "DIST_002", "DIST_003", "PUMP_001"] {
        let days = ask(&said, &format!("history?node={meter}&metric=total_volume&from=now-14d&resolution=1d"));
        assert!(days["coverage"].as_f64().unwrap() > 0.99, "{meter}: {days}");
        for day in days["points"].as_array().unwrap() {
            let grown = day["increase"].as_f64().unwrap();
            assert!(day["resets"] == 0 && (0.0..5_000.0).contains(&grown), "{meter} doesn't go on: {day}");
        }
    }
    // The quality job has looked at all of it, and found what was wrong there.
    let closed = ask(&said, "anomalies?state=closed&kind=stuck&node=DIST_003&metric=chlorine");
    assert_eq!(closed["items"].as_array().map(Vec::len), Some(1), "{closed}");
    running.interrupt();
    assert_eq!(running.ended(), Some(0));

    let (mut running, lines, mut said) = run(&[]);
    wait_for(&lines, &[&["newest", "http://"], &["DIST_003", "chlorine", "mg/L", "good"]], &mut said);
    assert!(!said.iter().any(|line| line.contains("past:")), "{said:#?}");
    running.interrupt();
    assert_eq!(running.ended(), Some(0));
}

#[test]
fn a_network_that_is_faster_than_the_clock_has_no_past_and_says_so() {
    let data = tempfile::tempdir().unwrap();
    let mut command = demo(data.path());
    command.args(["--speed", "60"]).stdout(Stdio::piped());
    let mut running = Running(command.spawn().expect("the demo starts"));
    let lines = lines_of(running.0.stdout.take().expect("piped"));
    let wanted: [&[&str]; 2] = [&["past: the network is faster than the clock"], &["by its own clock, 60x"]];
    wait_for(&lines, &wanted, &mut Vec::new());
    running.interrupt();
    assert_eq!(running.ended(), Some(0));
    assert!(!data.path().join("past").exists());
}

#[test]
fn in_a_pipe_it_prints_lines_ends_on_ctrl_c_and_goes_on_with_the_same_data() {
    let data = tempfile::tempdir().unwrap();
    let mut command = demo(data.path());
    command.args(["--no-past", "--every", "1s", "--burst-after", "2s", "--burst-for", "1h"]).stdout(Stdio::piped());
    let mut running = Running(command.spawn().expect("the demo starts"));
    let (lines, mut said) = (lines_of(running.0.stdout.take().expect("piped")), Vec::new());
    let wanted: [&[&str]; 5] = [
        &["newest", "http://"],
        &["DIST_003", "chlorine", "mg/L", "good"],
        &["RES_002", "flow_rate outlet", "L/s", "good"],
        &["PUMP_001", "running", "on", "good"],
        &["a pipe has burst in DIST_002"],
    ];
    wait_for(&lines, &wanted, &mut said);
    assert!(said.iter().all(|line| !line.contains('\u{1b}')), "no colours in a pipe: {said:#?}");
    running.interrupt();
    assert_eq!(running.ended(), Some(0));
    wait_for(&lines, &[&["stopped: edge-agent after", "collector after"]], &mut said);
    let newest = said.iter().find(|line| line.starts_with("newest")).expect("just seen");
    let address = newest.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
    assert!(TcpStream::connect(address).is_err(), "the collector is still there");

    assert_eq!(check(data.path(), "3").status.code(), Some(0));
}

#[test]
fn on_a_terminal_it_redraws_within_the_window_and_leaves_it_as_it_was() {
    let data = tempfile::tempdir().unwrap();
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).and_then(|()| unlockpt(&master)).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    tcsetwinsize(&master, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    // With a past, of which it tells how far it is.
    let end = || File::options().read(true).write(true).open(Path::new(name.to_str().unwrap())).unwrap();
    let mut command = demo(data.path());
    command.env("TERM", "xterm-256color").stdin(end()).stdout(end());
    let mut running = Running(command.spawn().expect("the demo starts"));
    drop(command); // its copies of the terminal
    let (mut shown, mut window) = (Vec::new(), File::from(master));
    let mut until = |shown: &mut Vec<u8>, enough: &dyn Fn(&str) -> bool| {
        let deadline = Instant::now() + PATIENCE;
        let mut part = [0; 4096];
        while !enough(&String::from_utf8_lossy(shown)) {
            assert!(Instant::now() < deadline, "not seen in {:?}", String::from_utf8_lossy(shown));
            match window.read(&mut part) {
                Ok(count) => shown.extend_from_slice(&part[..count]),
                Err(_) => return, // nobody has it open any more
            }
        }
    };
    until(&mut shown, &|text| {
        text.matches("\u{1b}[?2026l").count() > 6 && text.contains("good") && text.contains(" %")
    });
    running.interrupt();
    until(&mut shown, &|_| false);
    assert_eq!(running.ended(), Some(0));
    let text = String::from_utf8_lossy(&shown);
    let (first, last) = (text.find("\u{1b}[?1049h").unwrap(), text.find("\u{1b}[?1049l").unwrap());
    assert!(text[..first].contains("edge-agent: up") && text[last..].contains("stopped: "), "{text:?}");
    for frame in text[first..last].split("\u{1b}[?2026h\u{1b}[H").skip(1) {
        let lines: Vec<String> = frame
            .split('\n')
            .map(|line| anstream::adapter::strip_str(line.trim_end_matches('\r')).to_string())
            .collect();
        assert!(lines.len() <= 24 && lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
    }
}

#[test]
fn a_program_that_dies_ends_the_demo_with_its_last_words() {
    let data = tempfile::tempdir().unwrap();
    let mut command = demo(data.path());
    command.arg("--no-past").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running(command.spawn().expect("the demo starts"));
    let (lines, errors) =
        (lines_of(running.0.stdout.take().expect("piped")), lines_of(running.0.stderr.take().expect("piped")));
    wait_for(&lines, &[&["edge-agent: up"]], &mut Vec::new());
    let children = running.children();
    let (pid, _) = children.iter().find(|(_, name)| name == "collector").expect("a collector");
    kill_process(Pid::from_raw(*pid).unwrap(), Signal::KILL).unwrap();
    assert_eq!(running.ended(), Some(1));
    wait_for(&errors, &[&["collector ended by itself (signal: 9", "collector.log"]], &mut Vec::new());
    for (pid, name) in children {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{name} is still there");
    }
}

#[test]
fn two_demos_on_one_folder_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let lock = File::create(data.path().join("demo.lock")).unwrap();
    lock.lock().unwrap();
    let output = demo(data.path()).output().expect("the demo starts");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("another demo is running on") && said.contains("--data"), "{said}");
}

#[test]
fn the_sensors_alone_answer_an_agent_elsewhere() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (modbus, broker) = (format!("127.0.0.1:{port}"), "127.0.0.1:1"); // no broker there: that stops nobody
    let mut command = Command::new(programs::built().join("examples/demo"));
    command.args(["--sensors-only", &modbus, "--broker", broker]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = Running(command.spawn().expect("the demo starts"));
    let lines = lines_of(running.0.stdout.take().expect("piped"));
    wait_for(&lines, &[&["sensors: Modbus TCP on", &modbus]], &mut Vec::new());
    let mut link = TcpStream::connect(&modbus).unwrap();
    link.set_read_timeout(Some(PATIENCE)).unwrap();
    // Transaction 7, unit 1, two holding registers from 0: flow and pressure of the pumps.
    std::io::Write::write_all(&mut link, &[0, 7, 0, 0, 0, 6, 1, 3, 0, 0, 0, 2]).unwrap();
    let mut answer = [0; 13];
    link.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..9], [0, 7, 0, 0, 0, 7, 1, 3, 4]);
    running.interrupt();
    assert_eq!(running.ended(), Some(0));
}
