//! From what people wrote to what can be polled: every mistake is found at once and says where it is.

use super::decode::{Decoding, Scaling, ValueType};
use super::plan::{Limits, Want};
use super::raw::{Parity, RawDevice, RawLink, RawPoint, RawTransport, RawType};
use crate::registry::PointDef;
use crate::report::Deadband;
use shared::catalogue::{Class, Entry};
use shared::ids::NodeId;
use shared::metric::{METRICS, Metric};
use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

/// A link that can be opened.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// For messages and metrics.
    pub name: String,
    /// How it is opened.
    pub transport: Transport,
    /// How long an answer may take.
    pub timeout: Duration,
    /// At least one, each with at least one point.
    pub devices: Vec<Device>,
}

/// How a link is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Modbus TCP to `host:port`.
    Tcp(String),
    /// RTU frames over TCP to `host:port`.
    RtuOverTcp(String),
    /// A serial line.
    Rtu(Serial),
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transport::Tcp(address) => write!(f, "tcp {address}"),
            Transport::RtuOverTcp(address) => write!(f, "rtu-over-tcp {address}"),
            Transport::Rtu(serial) => write!(f, "rtu {} {} baud", serial.port, serial.baud),
        }
    }
}

/// A serial line's settings; eight data bits always, since RTU frames are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serial {
    /// The device file.
    pub port: String,
    /// Bits per second.
    pub baud: u32,
    /// Parity bit.
    pub parity: Parity,
    /// 1 or 2.
    pub stop_bits: u8,
}

/// A unit on a link.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// For messages and `probe`.
    pub name: String,
    /// Its number.
    pub unit: u8,
    /// Where it measures.
    pub node: NodeId,
    /// How far its requests may reach.
    pub limits: Limits,
    /// What is read from it.
    pub points: Vec<Point>,
}

/// A measurement of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// What is measured.
    pub metric: &'static Metric,
    /// Tells two of a kind apart.
    pub channel: String,
    /// What has to be read for it.
    pub want: Want,
    /// From registers to the canonical unit.
    pub decoding: Decoding,
    /// Time between readings.
    pub interval: Duration,
    /// Decimal exponent of the smallest step worth keeping.
    pub resolution_exp: Option<i8>,
    /// Report by exception.
    pub deadband: Option<Deadband>,
    /// Zero without a deadband.
    pub max_silence: Duration,
    /// What the overflow policy does with it.
    pub class: Class,
}

impl Point {
    /// As the registry wants to know it.
    #[must_use]
    pub fn definition(&self, link: &Link, device: &Device) -> PointDef {
        let entry = Entry {
            node: device.node.clone(),
            metric: self.metric.name.to_owned(),
            channel: self.channel.clone(),
            kind: self.metric.kind,
            unit: self.metric.unit.to_owned(),
            resolution_exp: self.resolution_exp,
            interval_ms: self.interval.as_millis() as u32,
            silence_ms_max: self.max_silence.as_millis() as u32,
            class: self.class,
        };
        let source =
            format!("{}/unit {}/{} {}{}", link.name, device.unit, self.want.register.name(), self.want.address, {
                if let ValueType::Bit(bit) = self.decoding.kind { format!(" bit {bit}") } else { String::new() }
            });
        PointDef { entry, deadband: self.deadband, source }
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct Mistake {
    /// `modbus "pump-bus", device "p1", point pressure (holding 40)`.
    pub place: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

/// Everything that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl std::error::Error for Mistakes {}
impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// Checks the `[[modbus]]` tables.
///
/// # Errors
/// With every mistake that was found.
pub fn resolve(raw: &[RawLink]) -> Result<Vec<Link>, Mistakes> {
    let mut notes = Notes::default();
    let mut names = HashSet::new();
    let links = raw
        .iter()
        .map(|link| {
            notes.place = vec![format!("modbus \"{}\"", link.name)];
            if !names.insert(link.name.as_str()) {
                notes.add("the name is used twice".into());
            }
            resolve_link(link, &mut notes)
        })
        .collect();
    if notes.found.is_empty() { Ok(links) } else { Err(Mistakes(notes.found)) }
}

/// Where we are and what was found so far.
#[derive(Default)]
struct Notes {
    place: Vec<String>,
    found: Vec<Mistake>,
}

impl Notes {
    fn add(&mut self, problem: String) {
        self.found.push(Mistake { place: self.place.join(", "), problem });
    }

    /// The value, or the fallback with a note. What has notes is never used.
    fn take<T>(&mut self, result: Result<T, String>, fallback: T) -> T {
        result.unwrap_or_else(|problem| {
            self.add(problem);
            fallback
        })
    }

    fn duration(&mut self, key: &str, text: Option<&str>, default: Duration, range: (Duration, Duration)) -> Duration {
        let Some(text) = text else { return default };
        let parsed = humantime::parse_duration(text)
            .map_err(|error| format!("{key} = \"{text}\": {error}; write it like \"10s\", \"500ms\" or \"5m\""))
            .and_then(|found| {
                let allowed = (range.0..=range.1).contains(&found);
                let (low, high) = (humantime::format_duration(range.0), humantime::format_duration(range.1));
                allowed.then_some(found).ok_or_else(|| format!("{key} = \"{text}\" is outside {low} to {high}"))
            });
        self.take(parsed, default)
    }
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

fn resolve_link(raw: &RawLink, notes: &mut Notes) -> Link {
    if raw.name.trim().is_empty() {
        notes.add("the name is empty".into());
    }
    let transport = transport(raw, notes);
    let range = (Duration::from_millis(10), Duration::from_secs(60));
    let timeout = notes.duration("timeout", raw.timeout.as_deref(), SECOND, range);
    if raw.device.is_empty() {
        notes.add("it has no [[modbus.device]]".into());
    }
    let mut names = HashSet::new();
    let mut devices = Vec::with_capacity(raw.device.len());
    for device in &raw.device {
        notes.place.push(format!("device \"{}\"", device.name));
        if !names.insert(device.name.as_str()) {
            notes.add("the name is used twice on this link".into());
        }
        devices.push(resolve_device(device, &transport, notes));
        notes.place.pop();
    }
    Link { name: raw.name.clone(), transport, timeout, devices }
}

fn transport(raw: &RawLink, notes: &mut Notes) -> Transport {
    let serial_keys = [
        ("port", raw.port.is_some()),
        ("baud", raw.baud.is_some()),
        ("parity", raw.parity.is_some()),
        ("data_bits", raw.data_bits.is_some()),
        ("stop_bits", raw.stop_bits.is_some()),
    ];
    if raw.transport == RawTransport::Rtu {
        if raw.address.is_some() {
            notes.add("address is for tcp and rtu-over-tcp; a serial line has a port".into());
        }
        return Transport::Rtu(serial(raw, notes));
    }
    for (key, _) in serial_keys.iter().filter(|(_, given)| *given) {
        notes.add(format!("{key} is for transport = \"rtu\" only"));
    }
    let address = match raw.address.as_deref().map(host_and_port) {
        Some(result) => notes.take(result, String::new()),
        None => notes.take(Err("address is missing, like address = \"10.0.0.5:502\"".into()), String::new()),
    };
    if raw.transport == RawTransport::Tcp { Transport::Tcp(address) } else { Transport::RtuOverTcp(address) }
}

fn serial(raw: &RawLink, notes: &mut Notes) -> Serial {
    if raw.data_bits.is_some_and(|bits| bits != 8) {
        notes.add("data_bits must be 8: RTU frames are bytes".into());
    }
    let baud = raw.baud.unwrap_or(9600);
    if !(300..=4_000_000).contains(&baud) {
        notes.add(format!("baud = {baud} is outside 300 to 4000000"));
    }
    let stop_bits = raw.stop_bits.unwrap_or(1);
    if !(1..=2).contains(&stop_bits) {
        notes.add(format!("stop_bits = {stop_bits} must be 1 or 2"));
    }
    let port = raw.port.clone().filter(|port| !port.is_empty());
    let port = notes.take(port.ok_or_else(|| "port is missing, like port = \"/dev/ttyUSB0\"".into()), String::new());
    Serial { port, baud, parity: raw.parity.unwrap_or_default(), stop_bits }
}

/// `host:port`, with the Modbus port where there is none.
///
/// # Errors
/// When it is neither a host nor a host with a port.
pub fn host_and_port(text: &str) -> Result<String, String> {
    let wrong = || format!("address = \"{text}\" is no host:port");
    let bracketed = text.starts_with('[');
    let has_port = if bracketed { text.contains("]:") } else { text.contains(':') };
    let whole = if has_port { text.to_owned() } else { format!("{text}:502") };
    let (host, port) = whole.rsplit_once(':').ok_or_else(wrong)?;
    let host_ok = !host.is_empty() && !host.contains(char::is_whitespace) && (bracketed || !host.contains(':'));
    let port_ok = port.parse::<u16>().is_ok_and(|port| port != 0);
    (host_ok && port_ok).then_some(whole.clone()).ok_or_else(wrong)
}

fn resolve_device(raw: &RawDevice, transport: &Transport, notes: &mut Notes) -> Device {
    let unit = raw.unit.unwrap_or(1);
    if !matches!(transport, Transport::Tcp(_)) && !(1..=247).contains(&unit) {
        notes.add(format!("unit = {unit} is outside 1 to 247, what a serial line can address"));
    }
    let limits = Limits { gap_max: raw.gap_max.unwrap_or(8), registers_max: raw.registers_max.unwrap_or(120) };
    if !(1..=125).contains(&limits.registers_max) {
        notes.add(format!("registers_max = {} is outside 1 to 125, what one request can read", limits.registers_max));
    }
    let interval = notes.duration("interval", raw.interval.as_deref(), 10 * SECOND, INTERVALS);
    let node = NodeId::new(&raw.node).map_err(|error| format!("node: {error}"));
    if let Err(problem) = &node {
        notes.add(problem.clone());
    }
    if raw.point.is_empty() {
        notes.add("it has no [[modbus.device.point]]".into());
    }
    let mut points = Vec::with_capacity(raw.point.len());
    for point in &raw.point {
        notes.place.push(format!("point {} ({} {})", point.metric, point.register.name(), point.address));
        points.extend(resolve_point(point, interval, limits, notes));
        notes.place.pop();
    }
    #[allow(clippy::expect_used)] // used only in the place of a refused name, whose mistake is already noted
    let node = node.unwrap_or_else(|_| NodeId::new("refused").expect("a valid name"));
    Device { name: raw.name.clone(), unit, node, limits, points }
}

const INTERVALS: (Duration, Duration) = (Duration::from_millis(50), DAY);

fn resolve_point(raw: &RawPoint, interval: Duration, limits: Limits, notes: &mut Notes) -> Option<Point> {
    let before = notes.found.len();
    let Some(metric) = Metric::named(&raw.metric) else {
        notes.add(unknown_metric(&raw.metric));
        return None;
    };
    if !raw.channel.is_empty() && NodeId::new(&raw.channel).is_err() {
        notes.add(format!("channel = \"{}\": up to 64 of A-Z a-z 0-9 _ . - are allowed", raw.channel));
    }
    let kind = notes.take(value_type(raw), ValueType::U16);
    if u32::from(raw.address) + u32::from(kind.registers()) > 65_536 {
        notes.add(format!("it takes {} registers and would end beyond address 65535", kind.registers()));
    }
    if kind.registers() > limits.registers_max && !raw.register.is_bits() {
        notes.add(format!("it takes {} registers, more than the device's registers_max", kind.registers()));
    }
    let numbers = [("scale", raw.scale.unwrap_or(1.0)), ("offset", raw.offset.unwrap_or(0.0))];
    for (key, number) in numbers {
        if !number.is_finite() || (key == "scale" && number == 0.0) {
            notes.add(format!("{key} = {number} is of no use"));
        }
    }
    let unit = raw.unit.as_deref().unwrap_or(metric.unit);
    let conversion = metric.conversion(unit).ok_or_else(|| unknown_unit(metric, unit));
    let conversion = notes.take(conversion, shared::metric::Conversion { factor: 1.0, offset: 0.0 });
    let range = raw.range.map_or(metric.range, |[low, high]| (low, high));
    if !(range.0.is_finite() && range.1.is_finite() && range.0 < range.1) {
        notes.add(format!("range = [{}, {}] must be two numbers, the lower one first", range.0, range.1));
    }
    let resolution_exp = raw.resolution.and_then(|step| notes.take(exponent(step, metric.unit).map(Some), None));
    let interval = notes.duration("interval", raw.interval.as_deref(), interval, INTERVALS);
    if raw.max_silence.is_some() && raw.deadband.is_none() {
        notes.add("max_silence needs a deadband; without one every reading is sent".into());
    }
    let max_silence = notes.duration("max_silence", raw.max_silence.as_deref(), 600 * SECOND, (SECOND, 7 * DAY));
    let (scale, offset) = (numbers[0].1, numbers[1].1);
    let order = raw.word_order.unwrap_or_default();
    (notes.found.len() == before).then(|| Point {
        metric,
        channel: raw.channel.clone(),
        want: Want { register: raw.register, address: raw.address, count: kind.registers() },
        decoding: Decoding { kind, order, scaling: Scaling::new(scale, offset), conversion, range },
        interval,
        resolution_exp,
        deadband: raw.deadband,
        max_silence: if raw.deadband.is_some() { max_silence } else { Duration::ZERO },
        class: raw.class,
    })
}

fn value_type(raw: &RawPoint) -> Result<ValueType, String> {
    if raw.bit.is_some() && raw.kind != Some(RawType::Bit) {
        return Err("bit is for type = \"bit\" only".into());
    }
    let kind = match (raw.kind, raw.register.is_bits()) {
        (None | Some(RawType::Bool), true) => return Ok(ValueType::Bool),
        (Some(_), true) => return Err(format!("a {} is a bool and nothing else", raw.register.name())),
        (None, false) => return Err("type is missing, like type = \"u16\" or \"f32\"".into()),
        (Some(kind), false) => kind,
    };
    Ok(match kind {
        RawType::Bool => ValueType::Bool,
        RawType::Bit => match raw.bit {
            Some(bit @ 0..=15) => ValueType::Bit(bit),
            Some(bit) => return Err(format!("bit = {bit} is outside 0 to 15")),
            None => return Err("bit is missing: 0, the lowest, to 15".into()),
        },
        RawType::U16 => ValueType::U16,
        RawType::I16 => ValueType::I16,
        RawType::U32 => ValueType::U32,
        RawType::I32 => ValueType::I32,
        RawType::U64 => ValueType::U64,
        RawType::I64 => ValueType::I64,
        RawType::F32 => ValueType::F32,
        RawType::F64 => ValueType::F64,
        RawType::Bcd16 => ValueType::Bcd16,
        RawType::Bcd32 => ValueType::Bcd32,
    })
}

fn unknown_metric(name: &str) -> String {
    let distance = |known: &&Metric| strsim::damerau_levenshtein(name, known.name);
    let near = METRICS.iter().min_by_key(distance).filter(|known| distance(known) <= known.name.len().max(3) / 2);
    match near {
        Some(known) => format!("metric \"{name}\" is not known; did you mean \"{}\"?", known.name),
        None => {
            let all: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
            format!("metric \"{name}\" is not known; there are {}", all.join(", "))
        }
    }
}

fn unknown_unit(metric: &Metric, unit: &str) -> String {
    let units = metric.units().join(", ");
    format!("unit \"{unit}\" can't be converted to {}'s {}; it can be {units}", metric.name, metric.unit)
}

/// -2 for 0.01.
fn exponent(step: f64, unit: &str) -> Result<i8, String> {
    if !step.is_finite() || step <= 0.0 {
        return Err(format!("resolution = {step} must be a power of ten like 0.01"));
    }
    let exp = step.log10().round();
    if !(-12.0..=12.0).contains(&exp) {
        return Err(format!("resolution = {step} is outside 1e-12 to 1e12"));
    }
    if (step / 10f64.powf(exp) - 1.0).abs() > 1e-9 {
        let finer = 10f64.powf(step.log10().floor());
        return Err(format!("resolution = {step} {unit} is no power of ten; the next finer one is {finer}"));
    }
    Ok(exp as i8)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
