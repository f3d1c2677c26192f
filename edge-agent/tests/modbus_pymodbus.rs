//! The agent's Modbus side against a server that isn't ours: pymodbus over TCP, RTU over TCP and a pty pair,
//! and a raw-socket server that misbehaves.
#![allow(clippy::unwrap_used)] // a test that panics says where

mod peers;

use edge_agent::clock::Clock;
use edge_agent::registry::Registry;
use edge_agent::sample::{At, Batch, Sample};
use edge_agent::sources::modbus::config::{Link, resolve};
use edge_agent::sources::modbus::plan::Register;
use edge_agent::sources::modbus::raw::RawLink;
use edge_agent::sources::modbus::{probe, scan, spawn};
use peers::{Peer, PtyPair};
use serde::Deserialize;
use shared::reading::Quality;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

#[derive(Deserialize)]
struct File {
    modbus: Vec<RawLink>,
}

fn links(toml: &str) -> Vec<Link> {
    let file: File = toml::from_str(toml).unwrap_or_else(|error| panic!("{error}\n{toml}"));
    resolve(&file.modbus).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// The three ways to one pymodbus server.
struct Server {
    peer: Peer,
    head: String,
    _line: Option<PtyPair>,
}

fn server(transport: &str) -> Server {
    let line = (transport == "rtu").then(PtyPair::start);
    let far = line.as_ref().map(|line| line.far.clone());
    let arguments: Vec<&str> = [transport].into_iter().chain(far.as_deref()).collect();
    let peer = Peer::start("modbus_server.py", &arguments);
    let place = match &line {
        Some(line) => format!("port = \"{}\"\nbaud = 115200", line.near),
        None => format!("address = \"127.0.0.1:{}\"", peer.port),
    };
    let head = format!("[[modbus]]\nname = \"{transport}\"\ntransport = \"{transport}\"\n{place}\n");
    Server { peer, head, _line: line }
}

impl Server {
    /// The agent can't write: the server must have seen nothing but the four read functions.
    fn saw_only_reads(&self) {
        for line in self.peer.later() {
            let function: u8 = line.strip_prefix("function ").expect("a function").parse().unwrap();
            assert!((1..=4).contains(&function), "the agent sent function {function}");
        }
    }
}

/// A running source. Readings are known by their channel.
struct Run {
    registry: Arc<Registry>,
    readings: mpsc::Receiver<Batch>,
    stop: CancellationToken,
    last: HashMap<u32, i64>,
}

impl Run {
    fn start(toml: &str) -> Self {
        let (registry, stop) = (Registry::new(), CancellationToken::new());
        let (outlet, readings) = mpsc::channel(1000);
        spawn(links(toml), Arc::clone(&registry), outlet, Clock::unrecorded(), stop.clone()).unwrap();
        Self { registry, readings, stop, last: HashMap::new() }
    }

    /// Readings until `enough` or `longest`, and never two with one time.
    async fn collect(&mut self, longest: Duration, mut enough: impl FnMut(&[Reading]) -> bool) -> Vec<Reading> {
        let (until, mut all) = (Instant::now() + longest, Vec::new());
        while !enough(&all) {
            let Ok(batch) = tokio::time::timeout_at(until, self.readings.recv()).await else { break };
            for sample in batch.expect("the source runs").samples {
                let At::Mono(at) = sample.at else { panic!("polls have the agent's time") };
                let before = self.last.insert(sample.point.0, at);
                assert!(before.is_none_or(|before| before < at), "{before:?} then {at}");
                let catalogue = self.registry.catalogue();
                let channel = catalogue.get(sample.point).expect("a known point").channel.clone();
                all.push(Reading { channel, at, sample });
            }
        }
        all
    }

    fn error_of(&self, channel: &str) -> Option<String> {
        let found = self.registry.snapshot().into_iter().find(|point| point.def.entry.channel == channel);
        found.expect("a point").error
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[derive(Clone, Debug)]
struct Reading {
    channel: String,
    at: i64,
    sample: Sample,
}

impl Reading {
    fn is(&self, channel: &str) -> bool {
        self.channel == channel
    }
    fn usable(&self) -> bool {
        self.sample.quality.is_usable()
    }
}

fn device(unit: u8, interval: &str, more: &str) -> String {
    format!(
        "[[modbus.device]]\nname = \"d{unit}\"\nunit = {unit}\nnode = \"NODE_{unit}\"\ninterval = \"{interval}\"\n{more}\n"
    )
}

fn point(channel: &str, register: &str, address: u16, more: &str) -> String {
    format!(
        "[[modbus.device.point]]\nmetric = \"state\"\nchannel = \"{channel}\"\nregister = \"{register}\"\n\
         address = {address}\nrange = [-1e300, 1e300]\n{more}\n"
    )
}

fn holding(channel: &str, address: u16) -> String {
    point(channel, "holding", address, "type = \"u16\"")
}

#[derive(Deserialize)]
struct Held {
    points: Vec<HeldPoint>,
}

#[derive(Deserialize)]
struct HeldPoint {
    register: String,
    address: u16,
    r#type: String,
    order: String,
    bit: Option<u8>,
    value: Option<f64>,
}

async fn every_type_in_every_order_is_read(transport: &str) {
    let server = server(transport);
    let held: Held = serde_json::from_str(&server.peer.said[0]).unwrap();
    let mut toml = format!("{}{}", server.head, device(1, "10s", ""));
    for (index, held) in held.points.iter().enumerate() {
        let mut more = format!("type = \"{}\"\nword_order = \"{}\"\n", held.r#type, held.order);
        if let Some(bit) = held.bit {
            writeln!(more, "bit = {bit}").unwrap();
        }
        toml += &point(&format!("p{index}"), &held.register, held.address, &more);
    }
    let mut run = Run::start(&toml);
    let readings = run.collect(Duration::from_secs(8), |all| all.len() >= held.points.len()).await;
    assert_eq!(readings.len(), held.points.len());
    for reading in &readings {
        let held = &held.points[reading.channel[1..].parse::<usize>().unwrap()];
        let found = (reading.sample.value, reading.sample.quality);
        let place = format!("{} {} {} {}", held.register, held.address, held.r#type, held.order);
        match held.value {
            None => assert!(found.0.is_none() && !found.1.is_usable(), "{place}: {found:?}"),
            Some(value) => {
                let large =
                    value.abs() > 9_007_199_254_740_992.0 && held.r#type.ends_with("64") && held.r#type != "f64";
                let quality = if large { Quality::UNCERTAIN_PRECISION } else { Quality::GOOD };
                assert_eq!(found, (Some(value), quality), "{place}");
            }
        }
    }
    server.saw_only_reads();
}

#[tokio::test]
async fn every_type_and_word_order_over_tcp() {
    every_type_in_every_order_is_read("tcp").await;
}

#[tokio::test]
async fn every_type_and_word_order_over_rtu_over_tcp() {
    every_type_in_every_order_is_read("rtu-over-tcp").await;
}

#[tokio::test]
async fn every_type_and_word_order_over_a_serial_line() {
    every_type_in_every_order_is_read("rtu").await;
}

#[tokio::test]
async fn a_device_with_holes_gives_what_it_has_and_names_what_it_has_not() {
    let server = server("tcp");
    let mut toml = format!("{}{}", server.head, device(2, "300ms", ""));
    (0..35).for_each(|address| toml += &holding(&format!("a{address}"), address));
    let exists = |address: u16| (0..5).contains(&address) || (6..10).contains(&address) || (20..30).contains(&address);
    let mut run = Run::start(&toml);
    let readings = run.collect(Duration::from_secs(8), |all| all.len() >= 35 * 4).await;
    assert!(readings.len() >= 35 * 4, "{}", readings.len());
    for reading in &readings {
        let address: u16 = reading.channel[1..].parse().unwrap();
        let right =
            if exists(address) { (Some(f64::from(address)), Quality::GOOD) } else { (None, Quality::BAD_EXCEPTION) };
        assert_eq!((reading.sample.value, reading.sample.quality), right, "holding {address}");
    }
    let error = run.error_of("a5").unwrap();
    assert!(error.contains("illegal data address"), "{error}");
    server.saw_only_reads();
}

#[tokio::test]
async fn an_exception_is_a_bad_reading_of_that_point_alone() {
    let server = server("rtu");
    let limits = "gap_max = 0\nregisters_max = 1";
    let mut toml = format!("{}{}", server.head, device(3, "300ms", limits));
    [0, 1, 2, 4, 5, 6].iter().for_each(|&address| toml += &holding(&format!("a{address}"), address));
    let mut run = Run::start(&toml);
    let readings = run.collect(Duration::from_secs(8), |all| all.len() >= 6 * 4).await;
    assert!(readings.len() >= 6 * 4);
    for reading in &readings {
        let address: f64 = reading.channel[1..].parse().unwrap();
        match address as u8 {
            1 | 4 | 6 => assert_eq!(reading.sample.quality, Quality::BAD_EXCEPTION),
            _ => assert_eq!((reading.sample.value, reading.sample.quality), (Some(address), Quality::GOOD)),
        }
    }
    assert_eq!(run.error_of("a6").unwrap(), "unit 3 holding 6: exception 6: device busy");
    assert_eq!(run.error_of("a5"), None);
}

/// Two points in two requests of one length: the late answer to one must not become the value of the other.
async fn a_late_answer_is_never_taken_for_another(transport: &str) {
    let server = server(transport);
    let toml = format!(
        "{}timeout = \"300ms\"\n{}{}{}",
        server.head,
        device(4, "200ms", ""),
        holding("first", 7),
        holding("second", 150)
    );
    let mut run = Run::start(&toml);
    let late = |all: &[Reading]| all.iter().filter(|r| r.sample.quality == Quality::BAD_TIMEOUT).count();
    let good = |all: &[Reading]| all.iter().filter(|r| r.usable()).count();
    let readings = run.collect(Duration::from_secs(40), |all| late(all) >= 8 && good(all) >= 20).await;
    for reading in readings.iter().filter(|reading| reading.usable()) {
        let right = if reading.is("first") { 1007.0 } else { 1150.0 };
        assert_eq!(reading.sample.value, Some(right), "{}", reading.channel);
    }
    assert!(late(&readings) >= 8 && good(&readings) >= 20, "{} late, {} good", late(&readings), good(&readings));
}

#[tokio::test]
async fn late_answers_over_tcp() {
    a_late_answer_is_never_taken_for_another("tcp").await;
}

#[tokio::test]
async fn late_answers_over_rtu_over_tcp() {
    a_late_answer_is_never_taken_for_another("rtu-over-tcp").await;
}

#[tokio::test]
async fn late_answers_over_a_serial_line() {
    a_late_answer_is_never_taken_for_another("rtu").await;
}

async fn two_dead_units_do_not_hold_up_eight(transport: &str) {
    let server = server(transport);
    let mut toml = format!("{}timeout = \"300ms\"\n", server.head);
    for unit in 11..=20 {
        toml += &device(unit, "500ms", "");
        toml += &holding(&format!("u{unit}"), 3);
    }
    let mut run = Run::start(&toml);
    let (length, interval) = (Duration::from_secs(20), 500_000);
    let readings = run.collect(length, |_| false).await;
    let (mut missed, mut late) = (0, 0);
    for unit in 11..=20 {
        let of_unit: Vec<&Reading> = readings.iter().filter(|r| r.is(&format!("u{unit}"))).collect();
        assert!(of_unit.len() >= 30, "unit {unit} has {} readings", of_unit.len());
        if unit > 18 {
            assert!(of_unit.iter().all(|r| r.sample.quality == Quality::BAD_TIMEOUT), "unit {unit} is dead");
            continue;
        }
        let right = Some(f64::from(unit * 100 + 3));
        missed += 39_usize.saturating_sub(of_unit.iter().filter(|r| r.sample.value == right).count());
        late += of_unit.iter().skip(1).filter(|r| (r.at - unit_phase(unit)).rem_euclid(interval) != 0).count();
    }
    assert!(missed <= 3, "{missed} of 320 polls were missed");
    // Each of the at most ten tries of the dead units takes 300 ms, in which at most six others are due.
    assert!(late <= 60, "{late} of 320 polls were not at their tick");
    server.saw_only_reads();
}

/// Ten devices are spread over the interval.
fn unit_phase(unit: u16) -> i64 {
    i64::from(unit - 11) * 50_000
}

#[tokio::test]
async fn two_dead_units_of_ten_over_tcp() {
    two_dead_units_do_not_hold_up_eight("tcp").await;
}

#[tokio::test]
async fn two_dead_units_of_ten_on_a_serial_line() {
    two_dead_units_do_not_hold_up_eight("rtu").await;
}

#[tokio::test]
async fn a_server_that_goes_and_comes_back_is_found_again() {
    let server = server("tcp");
    let port = server.peer.port.clone();
    let toml = format!("{}timeout = \"300ms\"\n{}{}", server.head, device(11, "200ms", ""), holding("p", 1));
    let mut run = Run::start(&toml);
    let is_good = |all: &[Reading]| all.last().is_some_and(Reading::usable);
    assert!(is_good(&run.collect(Duration::from_secs(5), is_good).await));
    server.peer.stop();
    let is_down = |all: &[Reading]| all.last().is_some_and(|r| r.sample.quality == Quality::BAD_LINK);
    assert!(is_down(&run.collect(Duration::from_secs(5), is_down).await));
    let error = run.error_of("p").unwrap();
    assert!(error.contains("connection lost") || error.contains("can't open tcp 127.0.0.1"), "{error}");
    let _again = Peer::start("modbus_server.py", &["tcp", &port]);
    assert!(is_good(&run.collect(Duration::from_secs(30), is_good).await), "never came back");
}

/// Faults that may cost readings but must never make one wrong, and from which the client recovers.
#[tokio::test]
async fn no_fault_of_a_server_makes_a_wrong_reading() {
    let faults = [
        "wrong-id",
        "wrong-unit",
        "wrong-function",
        "half-frame",
        "half-frame-then-close",
        "late",
        "drop",
        "reset",
        "too-few",
        "too-many",
        "wrong-byte-count",
        "odd-byte-count",
        "empty-pdu",
        "zero-length",
        "other-protocol",
        "garbage",
        "write-answer",
        "twice",
        "byte-by-byte",
    ];
    let each = faults.map(|fault| async move {
        let peer = Peer::start("modbus_faulty.py", &[fault]);
        let mut run = Run::start(&two_points(&peer));
        let good = |all: &[Reading]| all.iter().filter(|r| r.usable()).count();
        let readings = run.collect(Duration::from_secs(20), |all| good(all) >= 30).await;
        assert!(good(&readings) >= 30, "{fault}: {} of {} readings are good", good(&readings), readings.len());
        all_right(fault, &readings);
        assert_eq!(peer.later(), Vec::<String>::new(), "{fault}: the agent sent something else than reads");
    });
    futures::future::join_all(each).await;
}

#[tokio::test]
async fn a_server_that_is_always_wrong_gives_bad_readings_and_no_values() {
    let faults = [
        ("wrong-id", Quality::BAD_PAYLOAD),
        ("wrong-function", Quality::BAD_PAYLOAD),
        ("half-frame", Quality::BAD_TIMEOUT),
        ("drop", Quality::BAD_LINK),
        ("too-many", Quality::BAD_PAYLOAD),
        ("empty-pdu", Quality::BAD_PAYLOAD),
        ("other-protocol", Quality::BAD_PAYLOAD),
    ];
    let each = faults.map(|(fault, quality)| async move {
        let peer = Peer::start("modbus_faulty.py", &[&format!("always-{fault}")]);
        let mut run = Run::start(&two_points(&peer));
        let readings = run.collect(Duration::from_secs(10), |all| all.len() >= 30).await;
        assert!(readings.len() >= 30, "{fault}: {} readings", readings.len());
        for reading in readings {
            assert_eq!((reading.sample.value, reading.sample.quality), (None, quality), "{fault}");
        }
    });
    futures::future::join_all(each).await;
}

fn two_points(peer: &Peer) -> String {
    format!(
        "[[modbus]]\nname = \"faulty\"\ntransport = \"tcp\"\naddress = \"127.0.0.1:{}\"\ntimeout = \"200ms\"\n{}{}{}",
        peer.port,
        device(1, "100ms", ""),
        holding("first", 7),
        holding("second", 150)
    )
}

fn all_right(fault: &str, readings: &[Reading]) {
    for reading in readings.iter().filter(|reading| reading.usable()) {
        let right = if reading.is("first") { 1007.0 } else { 1150.0 };
        assert_eq!(reading.sample.value, Some(right), "{fault}: {}", reading.channel);
    }
}

#[tokio::test]
async fn probe_shows_a_device_and_scan_finds_units() {
    let server = server("rtu-over-tcp");
    let point = point("p", "holding", 1, "type = \"u16\"");
    let links = links(&format!("{}{}{point}", server.head, device(11, "10s", "")));
    let probed = probe::device(&links[0], &links[0].devices[0]).await;
    let text = probed[0].to_string();
    assert!(text.contains("state p, holding 1, u16 abcd: 1101 1 good"), "{text}");
    assert!(text.contains("registers 044d") && text.contains("badc  19716"), "{text}");
    let (transport, timeout) = (&links[0].transport, Duration::from_millis(200));
    let stretch = probe::stretch(transport, timeout, 11, Register::Holding, 1, 2).await.unwrap().to_string();
    assert!(stretch.contains("holding 2: 044e  u16 1102"), "{stretch}");

    let mut asked = Vec::new();
    let found = scan::scan(transport, timeout, 10..=20, |unit| asked.push(unit)).await.unwrap();
    assert_eq!(found.iter().map(|found| found.unit).collect::<Vec<_>>(), (11..=18).collect::<Vec<_>>());
    assert_eq!(asked, (10..=20).collect::<Vec<_>>());
    assert_eq!(found[0].to_string(), "unit 11: holding 0 is 1100");
}

#[tokio::test]
async fn a_link_that_is_not_there_is_a_bad_reading_and_a_clear_word() {
    let toml = format!(
        "[[modbus]]\nname = \"bus\"\ntransport = \"rtu\"\nport = \"/dev/there-is-none\"\n{}{}",
        device(1, "100ms", ""),
        holding("p", 1)
    );
    let mut run = Run::start(&toml);
    let readings = run.collect(Duration::from_secs(5), |all| all.len() >= 5).await;
    assert!(readings.len() >= 5 && readings.iter().all(|r| r.sample.quality == Quality::BAD_LINK));
    let error = run.error_of("p").unwrap();
    assert!(error.contains("can't open rtu /dev/there-is-none 9600 baud"), "{error}");
    let link = &links(&toml)[0];
    assert!(scan::scan(&link.transport, link.timeout, 1..=2, |_| ()).await.is_err());
}
