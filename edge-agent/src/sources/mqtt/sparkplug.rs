//! Sparkplug B topics and payloads (Eclipse Sparkplug 3.0.0, chapters 4 and 6; the payload is `sparkplug_b.proto`
//! of Eclipse Tahu, of which only what a listener needs is declared here). Pure: no IO, no clock.

use super::config::Point;
use super::payload::{Said, flag, measured};
use super::stamp::Stamp;
use crate::sources::measure::Raw;
use bytes::Bytes;
use prost::Message;
use shared::reading::Quality;

/// A message as it comes. Its metrics stay bytes until each is read: a payload of empty metrics would take a
/// hundred times its size otherwise.
#[derive(Clone, PartialEq, Message)]
pub struct Payload {
    /// When it was sent, milliseconds since 1970.
    #[prost(uint64, optional, tag = "1")]
    pub timestamp: Option<u64>,
    /// [`Metric`]s.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub metrics: Vec<Bytes>,
    /// Counts an edge node's messages, 0 to 255 and around again.
    #[prost(uint64, optional, tag = "3")]
    pub seq: Option<u64>,
}

/// A metric of a message.
#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    /// In a birth always; in data where there is no alias.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// A number that a birth gives to the name.
    #[prost(uint64, optional, tag = "2")]
    pub alias: Option<u64>,
    /// When it was measured, milliseconds since 1970.
    #[prost(uint64, optional, tag = "3")]
    pub timestamp: Option<u64>,
    /// One of the numbers in [`raw`]; in a birth always.
    #[prost(uint32, optional, tag = "4")]
    pub datatype: Option<u32>,
    /// It waited at the edge node.
    #[prost(bool, optional, tag = "5")]
    pub is_historical: Option<bool>,
    /// Not to be stored.
    #[prost(bool, optional, tag = "6")]
    pub is_transient: Option<bool>,
    /// There is no value.
    #[prost(bool, optional, tag = "7")]
    pub is_null: Option<bool>,
    /// Among them `Quality`.
    #[prost(message, optional, tag = "9")]
    pub properties: Option<PropertySet>,
    /// Texts, data sets and templates are left out: they are no numbers.
    #[prost(oneof = "Value", tags = "10, 11, 12, 13, 14")]
    pub value: Option<Value>,
}

/// A metric's value.
#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub enum Value {
    /// Up to 32 bits, signed ones in two's complement.
    #[prost(uint32, tag = "10")]
    Int(u32),
    /// Up to 64 bits, signed ones in two's complement.
    #[prost(uint64, tag = "11")]
    Long(u64),
    /// A single.
    #[prost(float, tag = "12")]
    Float(f32),
    /// A double.
    #[prost(double, tag = "13")]
    Double(f64),
    /// Yes or no.
    #[prost(bool, tag = "14")]
    Boolean(bool),
}

/// Properties of a metric: two lists of equal length.
#[derive(Clone, PartialEq, Message)]
pub struct PropertySet {
    /// Their names.
    #[prost(string, repeated, tag = "1")]
    pub keys: Vec<String>,
    /// Their values.
    #[prost(message, repeated, tag = "2")]
    pub values: Vec<PropertyValue>,
}

/// A property's value; only integers are read.
#[derive(Clone, PartialEq, Message)]
pub struct PropertyValue {
    /// Up to 32 bits.
    #[prost(uint32, optional, tag = "3")]
    pub int_value: Option<u32>,
    /// Up to 64 bits.
    #[prost(uint64, optional, tag = "4")]
    pub long_value: Option<u64>,
}

/// What an edge node says with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Names, aliases and values of all its metrics, or of a device's.
    Birth,
    /// Values that changed.
    Data,
    /// It, or the device, is gone.
    Death,
}

/// A Sparkplug topic: `spBv1.0/group/type/edge` or `spBv1.0/group/type/edge/device`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address<'a> {
    /// Of edge nodes.
    pub group: &'a str,
    /// What is said.
    pub kind: Kind,
    /// The edge node.
    pub edge: &'a str,
    /// One of its devices.
    pub device: Option<&'a str>,
}

impl<'a> Address<'a> {
    /// The address of a topic. `None` for what isn't said by an edge node about its metrics: commands to it, and
    /// the state of host applications.
    ///
    /// # Errors
    /// When the topic isn't one of Sparkplug B.
    pub fn of(topic: &'a str) -> Result<Option<Self>, String> {
        let levels: Vec<&str> = topic.split('/').collect();
        let (group, word, edge, device) = match levels[..] {
            ["spBv1.0", "STATE", ..] => return Ok(None),
            ["spBv1.0", group, word, edge] => (group, word, edge, None),
            ["spBv1.0", group, word, edge, device] => (group, word, edge, Some(device)),
            _ => return Err("the topic isn't spBv1.0/group/type/edge or spBv1.0/group/type/edge/device".into()),
        };
        let kind = match (word, device) {
            ("NBIRTH", None) | ("DBIRTH", Some(_)) => Kind::Birth,
            ("NDATA", None) | ("DDATA", Some(_)) => Kind::Data,
            ("NDEATH", None) | ("DDEATH", Some(_)) => Kind::Death,
            ("NCMD" | "DCMD" | "STATE", _) => return Ok(None),
            _ => return Err("the topic's message type isn't one of Sparkplug B".into()),
        };
        Ok(Some(Self { group, kind, edge, device }))
    }

    /// What templates can name: {node} is the device, or the edge node where there is none.
    #[must_use]
    pub fn captures(&self) -> Vec<(&'static str, &'a str)> {
        let mut captures = vec![("group", self.group), ("edge", self.edge), ("node", self.device.unwrap_or(self.edge))];
        captures.extend(self.device.map(|device| ("device", device)));
        captures
    }
}

/// The reading of a metric, once it is known which point it is. `None`: it is not to be stored, or it waited at
/// the edge node without keeping its time.
#[must_use]
pub fn said(index: usize, point: &Point, metric: &Metric, datatype: Option<u32>, sent: Option<u64>) -> Option<Said> {
    let is = |mark: Option<bool>| mark == Some(true);
    let at = if is(metric.is_historical) { metric.timestamp } else { metric.timestamp.or(sent) };
    let stamp = at.map_or(Stamp::None, |millis| Stamp::of_micros(i128::from(millis) * 1000));
    if is(metric.is_transient) || (is(metric.is_historical) && !matches!(stamp, Stamp::Own(_))) {
        return None;
    }
    let found = match metric.value {
        _ if is(metric.is_null) => Ok((None, Quality::BAD_SENSOR_FAULT)),
        None => Err("the metric holds no number".into()),
        Some(Value::Boolean(on)) => flag(on, point).map_err(|problem| format!("the metric is {problem}")),
        Some(value) => raw(datatype, value).map(|raw| measured(raw, point)),
    };
    let mut said = Said::new(index, found, stamp);
    if let Some(quality) = metric.properties.as_ref().and_then(quality) {
        said.doubt(quality);
    }
    Some(said)
}

/// The number that a value is. Encoders differ in whether they sign-extend small integers and in which field
/// they put unsigned ones; both are understood.
///
/// # Errors
/// When the type is none of a number, or isn't known.
fn raw(datatype: Option<u32>, value: Value) -> Result<Raw, String> {
    let bits = match value {
        Value::Float(number) => return Ok(Raw::Float(number.into())),
        Value::Double(number) => return Ok(Raw::Float(number)),
        Value::Boolean(on) => u64::from(on),
        Value::Int(bits) => bits.into(),
        Value::Long(bits) => bits,
    };
    let number: i128 = match datatype {
        Some(1) => (bits as u8 as i8).into(),
        Some(2) => (bits as u16 as i16).into(),
        Some(3) => (bits as u32 as i32).into(),
        Some(4) => (bits as i64).into(),
        Some(5..=10) => bits.into(),
        Some(11) => (bits != 0).into(),
        Some(other) => return Err(format!("the metric's type {other} is no number")),
        None => return Err("the metric's type isn't known: no birth told it".into()),
    };
    Ok(Raw::Integer(number))
}

/// The values of Sparkplug's `Quality` property: 0 bad, 192 good, 500 stale.
fn quality(properties: &PropertySet) -> Option<Quality> {
    let place = properties.keys.iter().position(|key| key == "Quality")?;
    let value = properties.values.get(place)?;
    let code = value.int_value.map(u64::from).or(value.long_value)?;
    Some(match code {
        192 => Quality::GOOD,
        0 => Quality::BAD_SENSOR_FAULT,
        500 => Quality::BAD_LINK,
        _ => Quality::UNCERTAIN_SENSOR,
    })
}

#[cfg(test)]
#[path = "sparkplug_tests.rs"]
mod tests;
