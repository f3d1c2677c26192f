//! Reads one device once and shows what its registers mean in every word order: for finding the right one.

use super::client::{Client, Data, ReadError};
use super::config::{Device, Link, Point, Transport};
use super::decode::{Raw, ValueType, WordOrder, raw};
use super::plan::Register;
use shared::reading::Quality;
use std::fmt;
use std::time::Duration;

/// What one configured point says.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbedPoint {
    /// `flow_rate inlet, holding 40, f32 cdab`.
    pub label: String,
    /// The registers or the bit as they came.
    pub raw: Result<Data, ReadError>,
    /// The reading as configured: value in the canonical unit, and quality.
    pub reading: Option<(Option<f64>, Quality)>,
    /// The canonical unit.
    pub unit: &'static str,
    /// What the registers are in each word order, before scale and unit.
    pub orders: Vec<(WordOrder, String)>,
}

/// Reads every point of a device by itself. The link must not be polled by another program meanwhile.
pub async fn device(link: &Link, device: &Device) -> Vec<ProbedPoint> {
    let mut client = Client::new(link.transport.clone(), link.timeout);
    let mut probed = Vec::with_capacity(device.points.len());
    for point in &device.points {
        let want = point.want;
        let raw = client.read(device.unit, want.register, want.address, want.count).await;
        probed.push(probed_point(point, raw));
    }
    client.close().await;
    probed
}

fn probed_point(point: &Point, raw: Result<Data, ReadError>) -> ProbedPoint {
    let (kind, order) = (point.decoding.kind, point.decoding.order);
    let channel = if point.channel.is_empty() { String::new() } else { format!(" {}", point.channel) };
    let place = format!("{} {}", point.want.register.name(), point.want.address);
    let form = if point.want.register.is_bits() { String::new() } else { format!(", {kind} {}", order.name()) };
    let (reading, orders) = match &raw {
        Ok(Data::Words(words)) => (Some(point.decoding.words(words)), in_orders(kind, words)),
        Ok(Data::Bits(bits)) => (bits.first().map(|&on| point.decoding.flag(on)), Vec::new()),
        Err(_) => (None, Vec::new()),
    };
    let label = format!("{}{channel}, {place}{form}", point.metric.name);
    ProbedPoint { label, raw, reading, unit: point.metric.unit, orders }
}

/// One register knows only two orders.
fn in_orders(kind: ValueType, words: &[u16]) -> Vec<(WordOrder, String)> {
    let orders = if kind.registers() == 1 { &WordOrder::ALL[..2] } else { &WordOrder::ALL[..] };
    orders.iter().map(|&order| (order, shown(kind, order, words))).collect()
}

fn shown(kind: ValueType, order: WordOrder, words: &[u16]) -> String {
    match raw(kind, order, words) {
        Ok(Raw::Integer(number)) => number.to_string(),
        // A single is shown with a single's digits: 0.1, not 0.10000000149011612.
        Ok(Raw::Float(number)) if kind == ValueType::F32 && number != 0.0 && !(1e-6..1e12).contains(&number.abs()) => {
            format!("{:e}", number as f32)
        }
        Ok(Raw::Float(number)) if kind == ValueType::F32 => (number as f32).to_string(),
        Ok(Raw::Float(number)) if number != 0.0 && !(1e-6..1e12).contains(&number.abs()) => format!("{number:e}"),
        Ok(Raw::Float(number)) => number.to_string(),
        Err(error) => error.to_string(),
    }
}

impl fmt::Display for ProbedPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.label)?;
        match (&self.raw, &self.reading) {
            (Err(error), _) => return write!(f, "{error}"),
            (_, Some((Some(value), quality))) => write!(f, "{value} {} {quality}", self.unit)?,
            (_, Some((None, quality))) => write!(f, "{quality}")?,
            (_, None) => write!(f, "nothing")?,
        }
        if let Ok(Data::Words(words)) = &self.raw {
            let hex: Vec<String> = words.iter().map(|word| format!("{word:04x}")).collect();
            write!(f, "\n    registers {}", hex.join(" "))?;
        }
        for (order, text) in &self.orders {
            write!(f, "\n    {}  {text}", order.name())?;
        }
        Ok(())
    }
}

/// A stretch of registers or bits of a device, as `probe` shows it without any configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Which table.
    pub register: Register,
    /// Of the first one, zero-based.
    pub address: u16,
    /// What was read.
    pub data: Data,
}

/// Reads a stretch of a device that needs no configuration.
///
/// # Errors
/// See [`ReadError`].
pub async fn stretch(
    transport: &Transport,
    timeout: Duration,
    unit: u8,
    register: Register,
    address: u16,
    count: u16,
) -> Result<Stretch, ReadError> {
    let mut client = Client::new(transport.clone(), timeout);
    let data = client.read(unit, register, address, count.clamp(1, register.count_max())).await;
    client.close().await;
    Ok(Stretch { register, address, data: data? })
}

impl fmt::Display for Stretch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match &self.data {
            Data::Words(words) => words,
            Data::Bits(bits) => {
                for (index, bit) in bits.iter().enumerate() {
                    writeln!(f, "{} {}: {}", self.register.name(), usize::from(self.address) + index, u8::from(*bit))?;
                }
                return Ok(());
            }
        };
        for (index, word) in words.iter().enumerate() {
            let (name, address) = (self.register.name(), usize::from(self.address) + index);
            writeln!(f, "{name} {address}: {word:04x}  u16 {word}  i16 {}", *word as i16)?;
            for kind in [ValueType::U32, ValueType::I32, ValueType::F32, ValueType::U64, ValueType::F64] {
                let Some(words) = words.get(index..index + usize::from(kind.registers())) else { continue };
                let all: Vec<String> = WordOrder::ALL
                    .iter()
                    .map(|&order| format!("{} {}", order.name(), shown(kind, order, words)))
                    .collect();
                writeln!(f, "    {kind}  {}", all.join("  "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_shows_a_float_in_the_order_it_was_written() {
        let data = Data::Words(vec![0x0000, 0x42f6]);
        let text = Stretch { register: Register::Holding, address: 40, data }.to_string();
        assert!(text.contains("holding 40: 0000  u16 0  i16 0"), "{text}");
        assert!(text.contains("f32  abcd 2.4021e-41"), "{text}");
        assert!(text.contains("cdab 123 "), "{text}");
    }
}
