//! From what people wrote to what can be polled: every mistake is found at once and says where it is.

use super::decode::{Decoding, ValueType};
use super::plan::{Limits, Want};
use super::raw::{Parity, RawDevice, RawLink, RawPoint, RawTransport, RawType};
use crate::registry::PointDef;
use crate::report::Deadband;
use crate::sources::measure::{self, INTERVALS, Measure, Wish};
use crate::sources::mistakes::{Mistakes, Notes};
use shared::catalogue::{Class, Entry};
use shared::ids::NodeId;
use shared::metric::Metric;
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
            notes.within(format!("modbus \"{}\"", link.name), |notes| {
                if !names.insert(link.name.as_str()) {
                    notes.add("the name is used twice".into());
                }
                resolve_link(link, notes)
            })
        })
        .collect();
    notes.settle(links)
}

const SECOND: Duration = Duration::from_secs(1);

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
        devices.push(notes.within(format!("device \"{}\"", device.name), |notes| {
            if !names.insert(device.name.as_str()) {
                notes.add("the name is used twice on this link".into());
            }
            resolve_device(device, &transport, notes)
        }));
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
        let place = format!("point {} ({} {})", point.metric, point.register.name(), point.address);
        points.extend(notes.within(place, |notes| resolve_point(point, interval, limits, notes)));
    }
    #[allow(clippy::expect_used)] // used only in the place of a refused name, whose mistake is already noted
    let node = node.unwrap_or_else(|_| NodeId::new("refused").expect("a valid name"));
    Device { name: raw.name.clone(), unit, node, limits, points }
}

fn resolve_point(raw: &RawPoint, interval: Duration, limits: Limits, notes: &mut Notes) -> Option<Point> {
    let before = notes.count();
    let wish = Wish {
        metric: &raw.metric,
        unit: raw.unit.as_deref(),
        scale: raw.scale,
        offset: raw.offset,
        range: raw.range,
        resolution: raw.resolution,
        interval: raw.interval.as_deref(),
        deadband: raw.deadband,
        max_silence: raw.max_silence.as_deref(),
    };
    let measure = measure::resolve(&wish, interval, notes)?;
    measure::check_channel(&raw.channel, notes);
    let kind = notes.take(value_type(raw), ValueType::U16);
    if u32::from(raw.address) + u32::from(kind.registers()) > 65_536 {
        notes.add(format!("it takes {} registers and would end beyond address 65535", kind.registers()));
    }
    if kind.registers() > limits.registers_max && !raw.register.is_bits() {
        notes.add(format!("it takes {} registers, more than the device's registers_max", kind.registers()));
    }
    let order = raw.word_order.unwrap_or_default();
    let Measure { metric, scaling, conversion, range, .. } = measure;
    (notes.count() == before).then(|| Point {
        metric,
        channel: raw.channel.clone(),
        want: Want { register: raw.register, address: raw.address, count: kind.registers() },
        decoding: Decoding { kind, order, scaling, conversion, range },
        interval: measure.interval,
        resolution_exp: measure.resolution_exp,
        deadband: measure.deadband,
        max_silence: measure.max_silence,
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

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
