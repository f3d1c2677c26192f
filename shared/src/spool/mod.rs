//! The durable queue both sides use. (API contract; layout documentation to be written here.)

use crate::ids::Seq;
use crate::ranges::SeqRange;
use crate::reading::Timestamp;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Why a stretch of seqs will never arrive.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The spool was full: the oldest blocks were dropped.
    Overflow,
    /// The spool was full: the block was replaced by a thinned one.
    Thinned,
    /// The disk lost or damaged it.
    Damage,
    /// The disk could not be written.
    WriteFailed,
    /// The collector refused it for good.
    Rejected,
}

/// A stretch that is known to be missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gap {
    /// Which seqs.
    pub seqs: SeqRange,
    /// From when to when, where it is known.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Why.
    pub reason: GapReason,
}

/// What is appended: a payload and the time it covers.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// At most [`RECORD_BYTES_MAX`] bytes, opaque to the spool.
    pub payload: Bytes,
    /// First and last timestamp inside, when it is UTC: a gap takes its time from here.
    pub span: Option<(Timestamp, Timestamp)>,
}

/// A record that is held.
#[derive(Clone, PartialEq, Debug)]
pub struct Stored {
    /// Its number.
    pub seq: Seq,
    /// Its content.
    pub record: Record,
}

/// Largest payload: larger sled values become blob files, which are never fsynced.
pub const RECORD_BYTES_MAX: usize = 7 * 1000;
