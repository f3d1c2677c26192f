//! What agent and collector say to each other over TLS.
//!
//! Every message travels in an envelope:
//!
//! | bytes | content |
//! |---|---|
//! | 2 | type, little endian; with the high bit set the message is optional |
//! | 4 | length of the body, little endian, at most [`BODY_BYTES_MAX`] |
//! | n | body: the message's fields in order, as postcard writes them |
//!
//! An optional type that isn't known is skipped, a required one that isn't known is refused. A body has no bytes
//! beyond its fields. `Hello` is frozen: it never changes, since versions are agreed on only after it.
//! Types 13 (`Config`) and 14 (`Update`) are reserved.

mod body;
mod codec;

pub use body::WireError;
pub use codec::{Codec, encode};

use crate::block::Row;
use crate::catalogue::CatalogueHash;
use crate::ids::{BootId, Seq, StreamId};
use crate::ranges::SeqRanges;
use crate::reading::Timestamp;
use crate::spool::Gap;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The protocol's name in the TLS handshake.
pub const ALPN: &[u8] = b"telemetry/1";
/// Oldest version of the protocol that this program speaks.
pub const VERSION_MIN: u16 = 1;
/// Newest version of the protocol that this program speaks.
pub const VERSION_MAX: u16 = 1;
/// Bytes of an envelope before its body.
pub const ENVELOPE_BYTES: usize = 6;
/// Largest body, bytes.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Highest seq that may travel: every store can hold it, and one may be added to it.
pub const SEQ_MAX: Seq = Seq(i64::MAX as u64);
/// In a type: who doesn't know the message skips it.
pub const OPTIONAL: u16 = 0x8000;

/// Whether the gateway's clock can be believed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockState {
    /// It was set by a source of time.
    Trusted,
    /// Nobody set it since the boot.
    Untrusted,
}

/// What the agent says first. The layout is frozen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Oldest protocol version the agent speaks.
    pub version_min: u16,
    /// Newest protocol version the agent speaks.
    pub version_max: u16,
    /// Which stream its blocks belong to.
    pub stream: StreamId,
    /// The highest seq it ever gave in that stream; 0 for none.
    pub highest: Seq,
    /// The boot it runs in.
    pub boot: BootId,
    /// Whether `now` can be believed.
    pub clock: ClockState,
    /// The program's version, for people.
    pub agent_version: String,
    /// Its clock.
    pub now: Timestamp,
}

/// How to read the times of a boot whose blocks count from the boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Fix {
    /// UTC is microseconds since the boot plus this.
    Known {
        /// Microseconds to add.
        offset_us: i64,
    },
    /// That boot never learned the time; it happened between these.
    Unknown {
        /// It was later than this.
        not_before: Timestamp,
        /// It was earlier than this.
        not_after: Timestamp,
    },
}

/// How the agent is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Its clock.
    pub now: Timestamp,
    /// How many points are configured or discovered.
    pub points: u32,
    /// How many of them have a bad last reading.
    pub points_bad: u32,
    /// What its spool takes on the disk, bytes.
    pub spool_bytes: u64,
    /// How many blocks its spool holds.
    pub spool_records: u64,
    /// Time of the oldest block that no collector has.
    pub oldest_unsent: Option<Timestamp>,
    /// Seconds since the program started.
    pub uptime_s: u64,
    /// Whether its clock can be believed.
    pub clock: ClockState,
    /// The program's version.
    pub version: String,
}

/// Why a block is refused. A reason that this version doesn't know is kept by number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(from = "u8", into = "u8")]
pub enum RejectReason {
    /// The block's bytes are damaged or no block.
    Undecodable,
    /// The block names a catalogue that was never sent.
    UnknownCatalogue,
    /// A node in it is not granted to this gateway.
    NotGranted,
    /// It is larger than allowed.
    Oversize,
    /// Its times count from a boot without a clock fix.
    UnknownBoot,
    /// The collector can't store at the moment.
    Unavailable,
    /// Something that a newer version says.
    Other(u8),
}

impl From<u8> for RejectReason {
    fn from(code: u8) -> Self {
        match code {
            0 => RejectReason::Undecodable,
            1 => RejectReason::UnknownCatalogue,
            2 => RejectReason::NotGranted,
            3 => RejectReason::Oversize,
            4 => RejectReason::UnknownBoot,
            5 => RejectReason::Unavailable,
            other => RejectReason::Other(other),
        }
    }
}

impl From<RejectReason> for u8 {
    fn from(reason: RejectReason) -> u8 {
        match reason {
            RejectReason::Undecodable => 0,
            RejectReason::UnknownCatalogue => 1,
            RejectReason::NotGranted => 2,
            RejectReason::Oversize => 3,
            RejectReason::UnknownBoot => 4,
            RejectReason::Unavailable => 5,
            RejectReason::Other(code) => code,
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RejectReason::Undecodable => f.pad("undecodable"),
            RejectReason::UnknownCatalogue => f.pad("unknown catalogue"),
            RejectReason::NotGranted => f.pad("not granted"),
            RejectReason::Oversize => f.pad("oversize"),
            RejectReason::UnknownBoot => f.pad("unknown boot"),
            RejectReason::Unavailable => f.pad("unavailable"),
            RejectReason::Other(code) => write!(f, "reason {code}"),
        }
    }
}

/// Everything that is said.
#[derive(Clone, PartialEq, Debug)]
pub enum Message {
    /// Agent, first.
    Hello(Hello),
    /// Collector, the answer to `Hello`.
    Welcome {
        /// The protocol version that both use from here on.
        version: u16,
        /// Which collector this is.
        collector: String,
        /// What of the agent's stream is in its spool, or further.
        stored: SeqRanges,
        /// What of it is in the warm tier.
        committed: SeqRanges,
        /// The highest seq it ever saw in that stream; 0 for none.
        highest_known: Seq,
        /// Catalogues of this gateway that it has.
        catalogues: Vec<CatalogueHash>,
        /// Its clock.
        server_time: Timestamp,
        /// How many bytes of blocks may be on the way without an answer.
        window_bytes: u32,
    },
    /// Agent: a catalogue that blocks after it refer to.
    Catalogue {
        /// As [`crate::catalogue::Catalogue::to_bytes`] writes them.
        bytes: Bytes,
    },
    /// Agent: how to read times of a boot; before that boot's blocks.
    ClockFix {
        /// Which boot.
        boot: BootId,
        /// What is known.
        fix: Fix,
    },
    /// Agent: a block.
    Block {
        /// Its number in the stream.
        seq: Seq,
        /// As [`crate::block`] writes them.
        bytes: Bytes,
    },
    /// Agent: what will never come.
    Gap(Gap),
    /// Agent: newest values, neither durable nor acknowledged.
    Live {
        /// The catalogue that point numbers refer to.
        catalogue: CatalogueHash,
        /// Newest values; their times are UTC.
        rows: Vec<Row>,
    },
    /// Agent: how it is.
    Status(Status),
    /// Collector: these are on its disk.
    Stored(SeqRanges),
    /// Collector: these are in the warm tier; the agent may forget them.
    Committed(SeqRanges),
    /// Collector: these are refused.
    Reject {
        /// Which.
        seqs: SeqRanges,
        /// Why.
        reason: RejectReason,
        /// Why, for people.
        detail: String,
        /// Whether sending them again may help.
        retry: bool,
    },
    /// Collector: how many bytes of blocks may be on the way without an answer, from now on.
    Window {
        /// Bytes.
        bytes: u32,
    },
    /// Either: I am here. Optional.
    Heartbeat {
        /// The sender's clock.
        now: Timestamp,
    },
}

#[cfg(test)]
mod tests;
