//! Registers → a value in the metric's canonical unit. Pure: no IO, no clock.
//!
//! Word orders are named by where the bytes of the big-endian value `ABCD` lie on the wire. For 64 bits the
//! same four: `abcd` big-endian, `badc` bytes swapped in each register, `cdab` registers in reverse order,
//! `dcba` little-endian. One register alone knows only whether its bytes are swapped.

use crate::sources::measure;
pub use crate::sources::measure::{Raw, Scaling};
use serde::Deserialize;
use shared::metric::Conversion;
use shared::reading::Quality;

/// How registers are read as a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ValueType {
    /// A coil or discrete input, or a register that is zero or not.
    Bool,
    /// One bit of a register, 0 the lowest.
    Bit(u8),
    /// Unsigned 16 bits.
    U16,
    /// Signed 16 bits.
    I16,
    /// Unsigned 32 bits.
    U32,
    /// Signed 32 bits.
    I32,
    /// Unsigned 64 bits.
    U64,
    /// Signed 64 bits.
    I64,
    /// IEEE 754 single.
    F32,
    /// IEEE 754 double.
    F64,
    /// Four decimal digits.
    Bcd16,
    /// Eight decimal digits.
    Bcd32,
}

impl ValueType {
    /// How many registers it takes.
    #[must_use]
    pub fn registers(self) -> u16 {
        match self {
            Self::Bool | Self::Bit(_) | Self::U16 | Self::I16 | Self::Bcd16 => 1,
            Self::U32 | Self::I32 | Self::F32 | Self::Bcd32 => 2,
            Self::U64 | Self::I64 | Self::F64 => 4,
        }
    }
}

impl std::fmt::Display for ValueType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bit(bit) => write!(f, "bit {bit}"),
            other => f.write_str(&format!("{other:?}").to_lowercase()),
        }
    }
}

/// The order of the bytes of one value on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WordOrder {
    /// Big-endian, what the Modbus specification does for one register.
    #[default]
    Abcd,
    /// Bytes swapped in each register.
    Badc,
    /// Registers in reverse order.
    Cdab,
    /// Little-endian.
    Dcba,
}

impl WordOrder {
    /// All of them, for `probe` and for tests.
    pub const ALL: [WordOrder; 4] = [Self::Abcd, Self::Badc, Self::Cdab, Self::Dcba];

    /// The name in configs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Abcd => "abcd",
            Self::Badc => "badc",
            Self::Cdab => "cdab",
            Self::Dcba => "dcba",
        }
    }

    /// The bytes of the first `N / 2` registers, most significant first.
    fn bytes<const N: usize>(self, words: &[u16]) -> Option<[u8; N]> {
        let words = words.get(..N / 2)?;
        let mut bytes = [0; N];
        for (index, pair) in bytes.chunks_exact_mut(2).enumerate() {
            let word = match self {
                Self::Abcd | Self::Badc => words[index],
                Self::Cdab | Self::Dcba => words[N / 2 - 1 - index],
            };
            let swapped = matches!(self, Self::Badc | Self::Dcba);
            pair.copy_from_slice(&if swapped { word.to_le_bytes() } else { word.to_be_bytes() });
        }
        Some(bytes)
    }
}

/// Why registers hold no number of their type.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RawError {
    /// Fewer registers than the type takes.
    #[error("too few registers")]
    TooShort,
    /// A nibble of 10 or more.
    #[error("not binary-coded decimal")]
    NotBcd,
}

/// The number that `words` hold as `kind` in `order`.
///
/// # Errors
/// With too few words, or with a digit that is none.
pub fn raw(kind: ValueType, order: WordOrder, words: &[u16]) -> Result<Raw, RawError> {
    let two = || order.bytes::<2>(words).ok_or(RawError::TooShort);
    let four = || order.bytes::<4>(words).ok_or(RawError::TooShort);
    let eight = || order.bytes::<8>(words).ok_or(RawError::TooShort);
    Ok(match kind {
        ValueType::Bool => Raw::Integer((two()? != [0, 0]).into()),
        ValueType::Bit(bit) => Raw::Integer((u16::from_be_bytes(two()?) >> (bit & 15) & 1).into()),
        ValueType::U16 => Raw::Integer(u16::from_be_bytes(two()?).into()),
        ValueType::I16 => Raw::Integer(i16::from_be_bytes(two()?).into()),
        ValueType::U32 => Raw::Integer(u32::from_be_bytes(four()?).into()),
        ValueType::I32 => Raw::Integer(i32::from_be_bytes(four()?).into()),
        ValueType::U64 => Raw::Integer(u64::from_be_bytes(eight()?).into()),
        ValueType::I64 => Raw::Integer(i64::from_be_bytes(eight()?).into()),
        ValueType::F32 => Raw::Float(f32::from_be_bytes(four()?).into()),
        ValueType::F64 => Raw::Float(f64::from_be_bytes(eight()?)),
        ValueType::Bcd16 => Raw::Integer(bcd(&two()?)?),
        ValueType::Bcd32 => Raw::Integer(bcd(&four()?)?),
    })
}

fn bcd(bytes: &[u8]) -> Result<i128, RawError> {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).try_fold(0, |number: i128, digit| match digit {
        0..=9 => Ok(number * 10 + i128::from(digit)),
        _ => Err(RawError::NotBcd),
    })
}

/// Everything between the registers of a point and its reading.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Decoding {
    /// The number's form.
    pub kind: ValueType,
    /// Its byte order.
    pub order: WordOrder,
    /// Into the device's unit.
    pub scaling: Scaling,
    /// Into the metric's canonical unit.
    pub conversion: Conversion,
    /// Lowest and highest believable value, canonical unit; beyond it the reading is bad.
    pub range: (f64, f64),
}

impl Decoding {
    /// The reading of a point in registers; `words` starts with its first one.
    #[must_use]
    pub fn words(&self, words: &[u16]) -> (Option<f64>, Quality) {
        match raw(self.kind, self.order, words) {
            Ok(raw) => self.finish(raw),
            Err(_) => (None, Quality::BAD_PAYLOAD),
        }
    }

    /// The reading of a coil or discrete input.
    #[must_use]
    pub fn flag(&self, on: bool) -> (Option<f64>, Quality) {
        self.finish(Raw::Integer(on.into()))
    }

    fn finish(&self, raw: Raw) -> (Option<f64>, Quality) {
        measure::reading(raw, &self.scaling, self.conversion, self.range)
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
