//! Bodies: a message's fields in order, as postcard writes them, and what is checked when they come from outside.

use super::{BODY_BYTES_MAX, Message, OPTIONAL, SEQ_MAX};
use crate::block::Row;
use crate::catalogue::PointNo;
use crate::ids::Seq;
use crate::ranges::SeqRanges;
use crate::reading::{Quality, Timestamp, sanitise};
use bytes::{BufMut, Bytes, BytesMut};
use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, io};

/// What is wrong with what the peer sent, or with its connection. Any of them ends that connection.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A newer program sent something that must not be ignored.
    #[error("message of the unknown required type {0}; the peer speaks a newer protocol")]
    UnknownRequired(u16),
    /// More than the cap.
    #[error("message of type {kind} has {bytes} bytes, at most {max} are allowed")]
    Oversize {
        /// The type.
        kind: u16,
        /// What its envelope says.
        bytes: usize,
        /// The cap.
        max: usize,
    },
    /// The body is not one of its type.
    #[error("{kind} message can't be read: {why}")]
    Undecodable {
        /// Name of the type.
        kind: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The connection ended inside a message.
    #[error("the connection ended inside a message")]
    Truncated,
    /// The connection failed.
    #[error("{}", failure(.0))]
    Io(#[from] io::Error),
}

/// A connection that broke off is an everyday matter in the field, and rustls's word for it a puzzle.
fn failure(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the connection broke off".into(),
        _ => error.to_string(),
    }
}

/// The type numbers. Never reused, never changed.
pub(super) mod kind {
    use super::OPTIONAL;
    pub(crate) const HELLO: u16 = 1;
    pub(crate) const WELCOME: u16 = 2;
    pub(crate) const CATALOGUE: u16 = 3;
    pub(crate) const CLOCK_FIX: u16 = 4;
    pub(crate) const BLOCK: u16 = 5;
    pub(crate) const GAP: u16 = 6;
    pub(crate) const LIVE: u16 = 7;
    pub(crate) const STATUS: u16 = 8;
    pub(crate) const STORED: u16 = 9;
    pub(crate) const COMMITTED: u16 = 10;
    pub(crate) const REJECT: u16 = 11;
    pub(crate) const WINDOW: u16 = 12;
    // 13 Config and 14 Update are reserved.
    pub(crate) const HEARTBEAT: u16 = OPTIONAL | 15;
}

/// Bytes as postcard's byte array: a length, then the bytes in one piece.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Borrowed;
        impl<'de> Visitor<'de> for Borrowed {
            type Value = Raw<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Raw<'de>, E> {
                Ok(Raw(bytes))
            }
        }
        from.deserialize_bytes(Borrowed)
    }
}

impl Raw<'_> {
    /// A copy of its own: a slice would keep the whole read buffer alive as long as the block is.
    fn to_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self.0)
    }
}

/// A row of `Live`.
type LiveRow = (PointNo, Timestamp, Option<f64>, Quality);

/// Appends the body to `to` and says the type.
pub(super) fn write(message: &Message, to: &mut BytesMut) -> u16 {
    let mut put = |kind: u16, body: &dyn Fn(&mut BytesMut)| {
        body(to);
        kind
    };
    match message {
        Message::Hello(hello) => put(kind::HELLO, &|to| post(hello, to)),
        Message::Welcome {
            version,
            collector,
            stored,
            committed,
            highest_known,
            catalogues,
            server_time,
            window_bytes,
        } => put(kind::WELCOME, &|to| {
            let fields = (version, collector, stored, committed, highest_known, catalogues, server_time, window_bytes);
            post(&fields, to);
        }),
        Message::Catalogue { bytes } => put(kind::CATALOGUE, &|to| post(&Raw(bytes), to)),
        Message::ClockFix { boot, fix } => put(kind::CLOCK_FIX, &|to| post(&(boot, fix), to)),
        Message::Block { seq, bytes } => put(kind::BLOCK, &|to| post(&(seq, Raw(bytes)), to)),
        Message::Gap(gap) => put(kind::GAP, &|to| post(gap, to)),
        Message::Live { catalogue, rows } => put(kind::LIVE, &|to| {
            let rows: Vec<LiveRow> = rows.iter().map(|row| (row.point, row.at, row.value, row.quality)).collect();
            post(&(catalogue, rows), to);
        }),
        Message::Status(status) => put(kind::STATUS, &|to| post(status, to)),
        Message::Stored(seqs) => put(kind::STORED, &|to| post(seqs, to)),
        Message::Committed(seqs) => put(kind::COMMITTED, &|to| post(seqs, to)),
        Message::Reject { seqs, reason, detail, retry } => {
            put(kind::REJECT, &|to| post(&(seqs, reason, detail, retry), to))
        }
        Message::Window { bytes } => put(kind::WINDOW, &|to| post(bytes, to)),
        Message::Heartbeat { now } => put(kind::HEARTBEAT, &|to| post(now, to)),
    }
}

fn post<T: Serialize + ?Sized>(value: &T, to: &mut BytesMut) {
    // postcard fails only when the buffer does, or for sequences of unknown length; there are none here.
    #[allow(clippy::expect_used)]
    let bytes = postcard::to_stdvec(value).expect("messages are made of what postcard can write");
    to.put_slice(&bytes);
}

/// Reads a body; `None` for an optional type that isn't known.
pub(super) fn read(kind: u16, body: &[u8]) -> Result<Option<Message>, WireError> {
    let message = match kind {
        kind::HELLO => Message::Hello(get("Hello", body)?),
        kind::WELCOME => {
            let (version, collector, stored, committed, highest_known, catalogues, server_time, window_bytes) =
                get("Welcome", body)?;
            Message::Welcome {
                version,
                collector,
                stored,
                committed,
                highest_known,
                catalogues,
                server_time,
                window_bytes,
            }
        }
        kind::CATALOGUE => Message::Catalogue { bytes: borrow::<Raw>("Catalogue", body)?.to_bytes() },
        kind::CLOCK_FIX => {
            let (boot, fix) = get("ClockFix", body)?;
            Message::ClockFix { boot, fix }
        }
        kind::BLOCK => {
            let (seq, bytes) = borrow::<(Seq, Raw)>("Block", body)?;
            Message::Block { seq, bytes: bytes.to_bytes() }
        }
        kind::GAP => Message::Gap(get("Gap", body)?),
        kind::LIVE => {
            let (catalogue, rows) = get::<(_, Vec<LiveRow>)>("Live", body)?;
            let row = |(point, at, value, quality)| {
                let (value, quality) = sanitise(value, quality);
                Row { point, at, value, quality }
            };
            Message::Live { catalogue, rows: rows.into_iter().map(row).collect() }
        }
        kind::STATUS => Message::Status(get("Status", body)?),
        kind::STORED => Message::Stored(get("Stored", body)?),
        kind::COMMITTED => Message::Committed(get("Committed", body)?),
        kind::REJECT => {
            let (seqs, reason, detail, retry) = get("Reject", body)?;
            Message::Reject { seqs, reason, detail, retry }
        }
        kind::WINDOW => Message::Window { bytes: get("Window", body)? },
        kind::HEARTBEAT => Message::Heartbeat { now: get("Heartbeat", body)? },
        optional if optional & OPTIONAL != 0 => return Ok(None),
        required => return Err(WireError::UnknownRequired(required)),
    };
    check(&message)?;
    Ok(Some(message))
}

/// Whether a type has a body that [`read`] wants to see.
pub(super) fn is_known(kind: u16) -> bool {
    matches!(kind, kind::HELLO..=kind::WINDOW | kind::HEARTBEAT)
}

fn get<T: DeserializeOwned>(kind: &'static str, body: &[u8]) -> Result<T, WireError> {
    borrow(kind, body)
}

fn borrow<'a, T: Deserialize<'a>>(kind: &'static str, body: &'a [u8]) -> Result<T, WireError> {
    debug_assert!(body.len() <= BODY_BYTES_MAX);
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(WireError::Undecodable { kind, why: format!("{} bytes too many at its end", rest.len()) }),
        Err(error) => Err(WireError::Undecodable { kind, why: error.to_string() }),
    }
}

/// What the types alone don't say: seqs that can be counted on with, and ranges that run forward.
fn check(message: &Message) -> Result<(), WireError> {
    let bad = |kind, why: &str| Err(WireError::Undecodable { kind, why: why.into() });
    let above = |seqs: &SeqRanges| seqs.highest().is_some_and(|seq| seq > SEQ_MAX);
    match message {
        Message::Hello(hello) if hello.highest > SEQ_MAX => bad("Hello", "the seq is too high"),
        Message::Hello(hello) if hello.version_min > hello.version_max => bad("Hello", "the versions run backward"),
        Message::Welcome { stored, committed, highest_known, .. }
            if above(stored) || above(committed) || *highest_known > SEQ_MAX =>
        {
            bad("Welcome", "a seq is too high")
        }
        Message::Block { seq, .. } if !(Seq::FIRST..=SEQ_MAX).contains(seq) => bad("Block", "the seq is 0 or too high"),
        Message::Gap(gap) if gap.seqs.first < Seq::FIRST || gap.seqs.first > gap.seqs.last => {
            bad("Gap", "its seqs don't run forward from 1")
        }
        Message::Gap(gap) if gap.seqs.last > SEQ_MAX => bad("Gap", "a seq is too high"),
        Message::Gap(gap) if gap.span.is_some_and(|(from, to)| from > to) => bad("Gap", "its time runs backward"),
        Message::Stored(seqs) if above(seqs) => bad("Stored", "a seq is too high"),
        Message::Committed(seqs) if above(seqs) => bad("Committed", "a seq is too high"),
        Message::Reject { seqs, .. } if above(seqs) => bad("Reject", "a seq is too high"),
        _ => Ok(()),
    }
}
