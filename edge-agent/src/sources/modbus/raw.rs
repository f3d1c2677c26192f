//! The `[[modbus]]` tables as people write them; [`super::config::resolve`] checks what they say.

use super::decode::WordOrder;
use super::plan::Register;
use crate::report::Deadband;
use serde::Deserialize;
use shared::catalogue::Class;

/// How a link is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RawTransport {
    /// Modbus TCP.
    Tcp,
    /// A serial line.
    Rtu,
    /// Serial frames through a TCP connection, to a serial device server.
    RtuOverTcp,
}

/// A serial line's parity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Parity {
    /// No parity bit.
    #[default]
    None,
    /// Even.
    Even,
    /// Odd.
    Odd,
}

/// `[[modbus]]`: one link.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLink {
    /// For messages and metrics.
    pub name: String,
    /// The form of its frames.
    pub transport: RawTransport,
    /// `host:port`, for both TCP forms.
    pub address: Option<String>,
    /// `/dev/ttyUSB0`, for `rtu`.
    pub port: Option<String>,
    /// For `rtu`; 9600.
    pub baud: Option<u32>,
    /// For `rtu`; none.
    pub parity: Option<Parity>,
    /// For `rtu`; 8.
    pub data_bits: Option<u8>,
    /// For `rtu`; 1.
    pub stop_bits: Option<u8>,
    /// How long an answer may take; 1s.
    pub timeout: Option<String>,
    /// What is on it.
    #[serde(default)]
    pub device: Vec<RawDevice>,
}

/// `[[modbus.device]]`: one unit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawDevice {
    /// For messages and `probe`.
    pub name: String,
    /// The unit's number; 1.
    pub unit: Option<u8>,
    /// Where it measures.
    pub node: String,
    /// Of points that don't say otherwise; 10s.
    pub interval: Option<String>,
    /// Unwanted registers read along to save a request; 8.
    pub gap_max: Option<u16>,
    /// Registers in one request; 120.
    pub registers_max: Option<u16>,
    /// What is read.
    #[serde(default)]
    pub point: Vec<RawPoint>,
}

/// A point's `type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the same as [`super::decode::ValueType`], one by one
pub enum RawType {
    Bool,
    Bit,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
    Bcd16,
    Bcd32,
}

/// `[[modbus.device.point]]`: one measurement.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawPoint {
    /// What is measured: a name of the metric table.
    pub metric: String,
    /// Tells two of a kind apart; empty.
    #[serde(default)]
    pub channel: String,
    /// The table it is in.
    pub register: Register,
    /// Zero-based.
    pub address: u16,
    /// The number's form; for coils and discrete inputs `bool`.
    #[serde(rename = "type")]
    pub kind: Option<RawType>,
    /// Which bit of the register, for type `bit`.
    pub bit: Option<u8>,
    /// Byte order; abcd.
    pub word_order: Option<WordOrder>,
    /// Multiplied first; 1.
    pub scale: Option<f64>,
    /// Added then, in `unit`; 0.
    pub offset: Option<f64>,
    /// What the scaled number is in; the metric's own.
    pub unit: Option<String>,
    /// Time between readings; the device's.
    pub interval: Option<String>,
    /// Smallest step worth keeping, a power of ten, in the metric's own unit; all bits.
    pub resolution: Option<f64>,
    /// Report by exception: 0.1 in the metric's own unit, or "1%".
    pub deadband: Option<Deadband>,
    /// With `deadband`: an unchanged value is sent after this long; 10m.
    pub max_silence: Option<String>,
    /// Believable values, in the metric's own unit; the metric's.
    pub range: Option<[f64; 2]>,
    /// What the overflow policy does with it; raw.
    #[serde(default)]
    pub class: Class,
}
