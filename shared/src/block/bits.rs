//! The bit stream of a block: fields of any width, the most significant bit first, and the code for small integers.

use super::BlockError;

/// Where bits go: a buffer, or a count of what would have been written.
pub(super) trait Sink {
    /// Writes the low `count` (0 to 64) bits of `value`.
    fn put(&mut self, value: u64, count: u32);

    /// Seven bits a byte, the lowest first; the high bit says that more follow.
    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.put(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.put(value, 8);
    }
}

/// Counts bits.
#[derive(Default)]
pub(super) struct Tally(pub(super) u64);

impl Sink for Tally {
    fn put(&mut self, _: u64, count: u32) {
        self.0 += u64::from(count);
    }
}

/// Bits a varint takes.
pub(super) fn varint_bits(value: u64) -> u64 {
    8 * u64::from(width(value).div_ceil(7))
}

/// Keeps bits.
#[derive(Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    pending: u128,
    pending_bits: u32,
}

impl Sink for BitWriter {
    fn put(&mut self, value: u64, count: u32) {
        debug_assert!(count <= 64);
        let kept = if count < 64 { value & ((1 << count) - 1) } else { value };
        self.pending = self.pending << count | u128::from(kept);
        self.pending_bits += count;
        while self.pending_bits >= 8 {
            self.pending_bits -= 8;
            self.bytes.push((self.pending >> self.pending_bits) as u8);
        }
        self.pending &= (1 << self.pending_bits) - 1;
    }
}

impl BitWriter {
    /// Whole bytes, at a byte boundary.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.put(u64::from(*byte), 8));
    }

    /// All that was written, filled up with zero bits.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.put(0, (8 - self.pending_bits) % 8);
        self.bytes
    }
}

/// Takes bits; every shortage is an error.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize, // bits
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next `count` (0 to 64) bits.
    pub(super) fn get(&mut self, count: u32) -> Result<u64, BlockError> {
        let end = self.at + count as usize;
        if end > self.bytes.len() * 8 {
            return Err(BlockError::Damaged("ends early"));
        }
        let touched = &self.bytes[self.at / 8..end.div_ceil(8)];
        let all = touched.iter().fold(0u128, |all, byte| all << 8 | u128::from(*byte));
        let wanted = all >> (end.div_ceil(8) * 8 - end);
        self.at = end;
        Ok((wanted & ((1u128 << count) - 1)) as u64)
    }

    pub(super) fn flag(&mut self) -> Result<bool, BlockError> {
        Ok(self.get(1)? == 1)
    }

    pub(super) fn varint(&mut self) -> Result<u64, BlockError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.get(8)?;
            let part = byte & 0x7f;
            if part << shift >> shift != part {
                break;
            }
            value |= part << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(BlockError::Damaged("a number is too long"))
    }

    /// A varint that must lie within `min..=max`.
    pub(super) fn bounded(&mut self, min: usize, max: usize, what: &'static str) -> Result<usize, BlockError> {
        match usize::try_from(self.varint()?) {
            Ok(value) if (min..=max).contains(&value) => Ok(value),
            _ => Err(BlockError::Damaged(what)),
        }
    }

    /// Refuses anything but the zero bits that fill the last byte.
    pub(super) fn expect_end(&mut self) -> Result<(), BlockError> {
        let left = self.bytes.len() * 8 - self.at;
        match left < 8 && self.get(left as u32)? == 0 {
            true => Ok(()),
            false => Err(BlockError::Damaged("more bytes than rows")),
        }
    }
}

/// Signed to unsigned so that small stays small: 0, -1, 1, -2 become 0, 1, 2, 3.
pub(super) fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

/// Undoes [`zigzag`].
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// How a run of unsigned integers is written; the number stands in the block in seven bits.
///
/// 0: all are zero, nothing is written. 1 to 63: Rice with k = number − 1. 64 to 127: each in number − 63 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Code(u8);

/// A Rice quotient this long means instead: six bits of length − 1, then the value itself.
const ESCAPE: u32 = 16;

fn width(value: u64) -> u32 {
    (64 - value.leading_zeros()).max(1)
}

impl Code {
    pub(super) const ZEROS: Code = Code(0);
    /// Bits of the number.
    pub(super) const BITS: u32 = 7;

    /// The cheapest code for all of `values`, and the bits they take. Without `packed` the answer can take any
    /// further value too, unless it is [`Code::ZEROS`].
    pub(super) fn best(values: &[u64], packed: bool) -> (Code, u64) {
        let all = values.iter().fold(0, |all, value| all | value);
        if all == 0 {
            return (Code::ZEROS, 0);
        }
        let rice = (1..=width(all).min(63) as u8).map(Code);
        let packed = packed.then(|| Code(63 + width(all) as u8));
        rice.chain(packed)
            .map(|code| (code, values.iter().map(|value| code.cost(*value)).sum()))
            .min_by_key(|(_, bits)| *bits)
            .unwrap_or((Code(1), u64::MAX))
    }

    /// Whether `value` can be written so.
    pub(super) fn takes(self, value: u64) -> bool {
        match self.0 {
            0 => value == 0,
            1..=63 => true,
            more => width(value) <= u32::from(more - 63),
        }
    }

    /// Bits of one value that it [`takes`](Code::takes).
    pub(super) fn cost(self, value: u64) -> u64 {
        let mut tally = Tally::default();
        self.write(value, &mut tally);
        tally.0
    }

    pub(super) fn number(self) -> u64 {
        u64::from(self.0)
    }

    pub(super) fn write(self, value: u64, sink: &mut impl Sink) {
        debug_assert!(self.takes(value));
        match self.0 {
            0 => {}
            1..=63 => {
                let k = u32::from(self.0 - 1);
                let quotient = value >> k;
                if quotient < u64::from(ESCAPE) {
                    sink.put((1 << (quotient + 1)) - 2, quotient as u32 + 1); // ones, then a zero
                    sink.put(value, k);
                } else {
                    sink.put(u64::MAX, ESCAPE);
                    sink.put(u64::from(width(value) - 1), 6);
                    sink.put(value, width(value));
                }
            }
            more => sink.put(value, u32::from(more - 63)),
        }
    }

    pub(super) fn read_number(from: &mut BitReader<'_>) -> Result<Code, BlockError> {
        Ok(Code(from.get(Self::BITS)? as u8))
    }

    pub(super) fn read(self, from: &mut BitReader<'_>) -> Result<u64, BlockError> {
        match self.0 {
            0 => Ok(0),
            1..=63 => {
                let mut quotient = 0;
                while quotient < ESCAPE && from.flag()? {
                    quotient += 1;
                }
                if quotient == ESCAPE {
                    let bits = from.get(6)? as u32 + 1;
                    return from.get(bits);
                }
                let k = u32::from(self.0 - 1);
                Ok(u64::from(quotient) << k | from.get(k)?)
            }
            more => from.get(u32::from(more - 63)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_come_back_at_the_cost_that_was_said(values in prop::collection::vec(
            prop_oneof![Just(0u64), 0u64..40, any::<u64>()], 0..40), packed in any::<bool>())
        {
            let (code, bits) = Code::best(&values, packed);
            let mut writer = BitWriter::default();
            values.iter().for_each(|value| code.write(*value, &mut writer));
            let bytes = writer.into_bytes();
            prop_assert_eq!(bytes.len() as u64, bits.div_ceil(8));
            let mut reader = BitReader::new(&bytes);
            for value in values {
                prop_assert_eq!(code.read(&mut reader)?, value);
            }
            reader.expect_end()?;
        }

        #[test]
        fn varints_and_zigzags_come_back(value in any::<i64>(), shift in 0u32..64) {
            let value = value >> shift;
            let mut tally = Tally::default();
            tally.varint(zigzag(value));
            prop_assert_eq!(varint_bits(zigzag(value)), tally.0);
            let mut writer = BitWriter::default();
            writer.put(1, 3);
            writer.varint(zigzag(value));
            let bytes = writer.into_bytes();
            let mut reader = BitReader::new(&bytes);
            reader.get(3)?;
            prop_assert_eq!(unzigzag(reader.varint()?), value);
        }
    }
}
