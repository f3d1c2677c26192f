//! Blocks: runs of readings encoded once at the edge, and the same bytes everywhere after.
//!
//! A block can be decoded alone with its catalogue, years later: exponents and qualities are in it. Bits are
//! written with the most significant first; a *varint* is seven bits a byte, the lowest first, the high bit
//! meaning "more", at any bit position; *zigzag* maps 0, -1, 1, -2 to 0, 1, 2, 3. All sums wrap.
//!
//! ```text
//! magic "TLB" | version 1 | length of all, u16 LE | catalogue hash, 16 bytes
//! time base: 0 UTC | 1 and the boot id, 16 bytes
//! varint readings | earliest timestamp, i64 LE | varint latest - earliest
//! timestamp columns | value columns | zero bits up to the byte | CRC32C of all before, u32 LE
//! ```
//!
//! **Timestamp columns**: four bits, the start exponent; varint count; each column:
//! - one bit. 0, a new column: varint (first timestamp - earliest) / 10^start exponent. 1, a fork: varint number
//!   of the earlier column, varint count of the timestamps both begin with.
//! - varint count of further timestamps, and unless that is 0: four bits unit exponent, zigzag varint usual step,
//!   code (seven bits), and by that code for each the zigzag of (step / 10^unit exponent - usual step).
//!
//! So points polled together on schedule share one column, and that takes less than ten bytes for any number of ticks.
//!
//! **Value columns**: varint count; each column, with the points ascending:
//! - two bits: 0 no values, 1 scaled, 2 raw, 3 constant
//! - point: a 0 bit when it is the one after the last, else 1 and varint the step from the last (from 0 at first)
//! - timestamp column: 0 bit as the last (at first 0), else 1 and varint its number
//! - how many of its last timestamps are unused: 0 bit as the last (at first 0), else 1 and varint
//! - qualities: 0 bit all good, else 1 and runs of quality byte and varint length up to the count of rows
//! - values, one for every row that is not bad.
//!   *Scaled*, by n·10^exponent: exponent as 0 bit for the last (at first 0) or 1 and a byte; zigzag varint base;
//!   with one value that is it. Else one bit and a code (seven bits): bit 0, each value is off from the base;
//!   bit 1, the base is the first value and each other is off from the one before; zigzag by the code.
//!   *Raw*: 64 bits of the first double, then by the XOR with the one before: `0` for none; `10` and the bits in
//!   the last window; `11`, six bits of leading zeros, six of window length - 1, the bits.
//!   *Constant*: 64 bits.
//!
//! **Codes** for unsigned integers: 0, all are zero and nothing is written; 1 to 63, Rice with k = code - 1: the
//! quotient in ones and a zero, then k bits, but sixteen ones mean six bits of width - 1 and the whole number;
//! 64 to 127, each packed in code - 63 bits. The encoder takes whichever is smallest for the column at hand.

mod bits;
mod decode;
mod encode;
#[cfg(test)]
mod tests;
mod times;
mod values;

pub use decode::{decode, read_header};
pub use encode::BlockBuilder;

use crate::catalogue::{CatalogueHash, PointNo};
use crate::ids::BootId;
use crate::reading::{Quality, Timestamp};
use bytes::Bytes;

/// Largest encoded block, bytes.
pub const BLOCK_BYTES_MAX: usize = 6 * 1024;

/// Most readings in one block. Regular ticks and constant values take no bits, so bytes alone would bound nothing.
pub const READINGS_MAX: usize = 16_384;

const MAGIC: &[u8; 3] = b"TLB";
const VERSION: u8 = 1;
const LENGTH_AT: usize = 4;

/// Why bytes are no block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// It doesn't begin as one.
    #[error("these bytes are not a block")]
    NotABlock,
    /// Written by a newer program.
    #[error("block version {0} is not known, this program reads version {VERSION}")]
    Version(u8),
    /// Cut off or run together with something else.
    #[error("the block says it has {said} bytes, but there are {have} (at most {BLOCK_BYTES_MAX} are allowed)")]
    Length {
        /// The length in the block.
        said: usize,
        /// The length of the bytes.
        have: usize,
    },
    /// Changed since it was written.
    #[error("the block's checksum is wrong: its bytes have changed since they were written")]
    Checksum,
    /// The checksum is right and the content isn't: whoever wrote it is at fault.
    #[error("the block is damaged: {0}")]
    Damaged(&'static str),
}

/// How a column has its values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ValueKind {
    None = 0,
    Scaled = 1,
    Raw = 2,
    Constant = 3,
}

impl ValueKind {
    fn of(bits: u64) -> Self {
        match bits {
            0 => ValueKind::None,
            1 => ValueKind::Scaled,
            2 => ValueKind::Raw,
            _ => ValueKind::Constant,
        }
    }
}

/// What the column before said, which the next mostly repeats.
#[derive(Default)]
struct Before {
    point: u32,
    point_next: u32,
    times: u32,
    unused: usize,
    exponent: i8,
}

/// What a block's timestamps count from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeBase {
    /// UTC microseconds since 1970.
    Utc,
    /// Microseconds since this boot: time wasn't trusted yet.
    SinceBoot(BootId),
}

/// One reading in a block.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Row {
    /// Which point of the catalogue.
    pub point: PointNo,
    /// When, in the block's time base.
    pub at: Timestamp,
    /// The value in the canonical unit; `None` exactly when the quality is bad.
    pub value: Option<f64>,
    /// How far it can be trusted.
    pub quality: Quality,
}

/// What can be known of a block without its rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The catalogue its point numbers refer to.
    pub catalogue: CatalogueHash,
    /// What timestamps count from.
    pub base: TimeBase,
    /// How many readings.
    pub readings: u32,
    /// Earliest timestamp.
    pub first: Timestamp,
    /// Latest timestamp.
    pub last: Timestamp,
}

/// A decoded block.
#[derive(Clone, PartialEq, Debug)]
pub struct Block {
    /// Its header.
    pub header: Header,
    /// Its readings, by point, then time.
    pub rows: Vec<Row>,
}

/// An encoded block.
#[derive(Clone, PartialEq, Debug)]
pub struct Encoded {
    /// Its header.
    pub header: Header,
    /// At most [`BLOCK_BYTES_MAX`] bytes.
    pub bytes: Bytes,
}
