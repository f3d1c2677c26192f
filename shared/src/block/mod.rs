//! Blocks: runs of readings encoded once at the edge. (API contract; format documentation to be written here.)

use crate::catalogue::{CatalogueHash, PointNo};
use crate::ids::BootId;
use crate::reading::{Quality, Timestamp};
use bytes::Bytes;

/// Largest encoded block, bytes.
pub const BLOCK_BYTES_MAX: usize = 6 * 1024;

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
