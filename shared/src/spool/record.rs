//! One record as it lies in a generation: `magic, CRC32C, generation, position, span, length, payload`.
//!
//! sled's own checks are not trusted: every record proves by itself that it is whole, that it belongs to this
//! generation and that it is the one with this position. The magic makes it findable in a damaged raw file.

use crate::reading::Timestamp;
use bytes::Bytes;

use super::{RECORD_BYTES_MAX, Record};

const MAGIC: [u8; 4] = [0xB7, b'S', b'p', 0x01];
const FLAG_SPAN: u8 = 1;
/// Bytes before the payload.
pub(super) const HEAD: usize = 4 + 4 + 8 + 8 + 1 + 8 + 8 + 2;

/// Encodes a record; the caller has checked the length.
pub(super) fn encode(generation: u64, position: u64, record: &Record) -> Vec<u8> {
    let (first, last) = record.span.unwrap_or((Timestamp(0), Timestamp(0)));
    let mut out = Vec::with_capacity(HEAD + record.payload.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&generation.to_le_bytes());
    out.extend_from_slice(&position.to_le_bytes());
    out.push(if record.span.is_some() { FLAG_SPAN } else { 0 });
    out.extend_from_slice(&first.0.to_le_bytes());
    out.extend_from_slice(&last.0.to_le_bytes());
    out.extend_from_slice(&(record.payload.len() as u16).to_le_bytes());
    out.extend_from_slice(&record.payload);
    let crc = crc32c::crc32c(&out[8..]);
    out[4..8].copy_from_slice(&crc.to_le_bytes());
    out
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Reads a record at the start of `bytes`; what follows it is ignored. `None` when it is not whole or not of
/// this generation.
pub(super) fn decode(generation: u64, bytes: &[u8]) -> Option<(u64, Record)> {
    if bytes.get(..4)? != MAGIC || u64_at(bytes, 8)? != generation {
        return None;
    }
    let len = usize::from(u16::from_le_bytes(bytes.get(HEAD - 2..HEAD)?.try_into().ok()?));
    if len > RECORD_BYTES_MAX {
        return None;
    }
    let whole = bytes.get(..HEAD + len)?;
    let crc = u32::from_le_bytes(whole[4..8].try_into().ok()?);
    if crc32c::crc32c(&whole[8..]) != crc {
        return None;
    }
    let span = (whole[24] & FLAG_SPAN != 0)
        .then_some((Timestamp(u64_at(whole, 25)? as i64), Timestamp(u64_at(whole, 33)? as i64)));
    Some((u64_at(whole, 16)?, Record { payload: Bytes::copy_from_slice(&whole[HEAD..]), span }))
}

/// All whole records of a generation in raw bytes, wherever they lie.
pub(super) fn scan(generation: u64, raw: &[u8], mut found: impl FnMut(u64, Record)) {
    let mut at = 0;
    while let Some(step) = raw.get(at..).and_then(|rest| rest.iter().position(|b| *b == MAGIC[0])) {
        at += step;
        match decode(generation, &raw[at..]) {
            Some((position, record)) => {
                at += HEAD + record.payload.len();
                found(position, record);
            }
            None => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(payload: Vec<u8>, span: Option<(i64, i64)>) -> Record {
        Record { payload: payload.into(), span: span.map(|(a, b)| (Timestamp(a), Timestamp(b))) }
    }

    proptest! {
        #[test]
        fn comes_back_whole_or_not_at_all(
            payload in prop::collection::vec(any::<u8>(), 0..300),
            span in any::<Option<(i64, i64)>>(),
            (generation, position) in any::<(u64, u64)>(),
            flip in any::<prop::sample::Index>(), bit in 0u8..8,
        ) {
            let record = record(payload, span);
            let mut bytes = encode(generation, position, &record);
            prop_assert_eq!(decode(generation, &bytes), Some((position, record)));
            prop_assert_eq!(decode(generation.wrapping_add(1), &bytes), None);
            for cut in 0..bytes.len() {
                prop_assert_eq!(decode(generation, &bytes[..cut]), None);
            }
            let at = flip.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(decode(generation, &bytes), None);
        }
    }

    #[test]
    fn the_largest_record_is_found_in_noise() {
        let big = record(vec![0xB7; RECORD_BYTES_MAX], Some((1, 2)));
        let mut raw = vec![0xB7; 100];
        raw.extend(encode(7, 3, &big));
        raw.extend(encode(8, 4, &big));
        raw.extend([0xB7, b'S', b'p']);
        let mut found = Vec::new();
        scan(7, &raw, |position, record| found.push((position, record)));
        assert_eq!(found, vec![(3, big)]);
    }
}
