//! Envelopes: cutting a stream of bytes into messages.

use super::body::{self, WireError};
use super::{BODY_BYTES_MAX, ENVELOPE_BYTES, Message, OPTIONAL};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

/// Cuts a connection's bytes into messages and back; for [`tokio_util::codec::Framed`].
///
/// Room is taken as bytes arrive, not for the length that an envelope claims; what is skipped is not kept.
#[derive(Debug, Clone)]
pub struct Codec {
    body_bytes_max: usize,
    skip: usize,
}

impl Default for Codec {
    fn default() -> Self {
        Self::with_limit(BODY_BYTES_MAX)
    }
}

impl Codec {
    /// With the cap of the protocol, [`BODY_BYTES_MAX`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With a lower cap on what comes in, as for a peer that hasn't said anything sensible yet.
    #[must_use]
    pub fn with_limit(body_bytes_max: usize) -> Self {
        Self { body_bytes_max: body_bytes_max.min(BODY_BYTES_MAX), skip: 0 }
    }

    /// Changes the cap on what comes in.
    pub fn set_limit(&mut self, body_bytes_max: usize) {
        self.body_bytes_max = body_bytes_max.min(BODY_BYTES_MAX);
    }
}

/// The message in its envelope. [`Codec`] refuses one beyond [`BODY_BYTES_MAX`]; here that is the caller's care.
#[must_use]
pub fn encode(message: &Message) -> Bytes {
    let mut bytes = BytesMut::new();
    append(message, &mut bytes);
    bytes.freeze()
}

/// Appends the envelope; says type and length of the body.
fn append(message: &Message, to: &mut BytesMut) -> (u16, usize) {
    let start = to.len();
    to.put_bytes(0, ENVELOPE_BYTES);
    let kind = body::write(message, to);
    let length = to.len() - start - ENVELOPE_BYTES;
    to[start..start + 2].copy_from_slice(&kind.to_le_bytes());
    // A length beyond u32 is shown as the largest one, which every peer refuses.
    to[start + 2..start + ENVELOPE_BYTES].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    (kind, length)
}

impl Encoder<Message> for Codec {
    type Error = WireError;

    fn encode(&mut self, message: Message, to: &mut BytesMut) -> Result<(), WireError> {
        let start = to.len();
        let (kind, bytes) = append(&message, to);
        if bytes > BODY_BYTES_MAX {
            to.truncate(start);
            return Err(WireError::Oversize { kind, bytes, max: BODY_BYTES_MAX });
        }
        Ok(())
    }
}

impl Decoder for Codec {
    type Item = Message;
    type Error = WireError;

    fn decode(&mut self, from: &mut BytesMut) -> Result<Option<Message>, WireError> {
        loop {
            let skipped = self.skip.min(from.len());
            from.advance(skipped);
            self.skip -= skipped;
            if self.skip > 0 || from.len() < ENVELOPE_BYTES {
                return Ok(None);
            }
            let kind = u16::from_le_bytes([from[0], from[1]]);
            let bytes = u32::from_le_bytes([from[2], from[3], from[4], from[5]]) as usize;
            if bytes > self.body_bytes_max {
                return Err(WireError::Oversize { kind, bytes, max: self.body_bytes_max });
            }
            if !body::is_known(kind) {
                if kind & OPTIONAL == 0 {
                    return Err(WireError::UnknownRequired(kind)); // before its body: it can't help
                }
                from.advance(ENVELOPE_BYTES);
                self.skip = bytes;
                continue;
            }
            if from.len() < ENVELOPE_BYTES + bytes {
                return Ok(None);
            }
            from.advance(ENVELOPE_BYTES);
            let body = from.split_to(bytes);
            if let Some(message) = body::read(kind, &body)? {
                return Ok(Some(message));
            }
        }
    }

    fn decode_eof(&mut self, from: &mut BytesMut) -> Result<Option<Message>, WireError> {
        match self.decode(from)? {
            Some(message) => Ok(Some(message)),
            None if self.skip > 0 || !from.is_empty() => Err(WireError::Truncated),
            None => Ok(None),
        }
    }
}
