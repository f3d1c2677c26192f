//! Bytes that aren't UTF-8 with the line ends of today.

use std::collections::VecDeque;
use std::io::Read;

const BLOCK: usize = 8 << 10;

/// Why these first bytes of a file are no text, and what to do about it.
#[must_use]
pub fn no_text(bytes: &[u8]) -> Option<&'static str> {
    let workbook = bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\xd0\xcf\x11\xe0");
    workbook.then_some("it is a workbook and no text: save it as CSV UTF-8, and import that")
}

/// Whether these first bytes say that it is UTF-16, and then whether the larger byte comes first.
#[must_use]
pub fn utf16(bytes: &[u8]) -> Option<bool> {
    match bytes {
        [0xff, 0xfe, ..] => Some(false),
        [0xfe, 0xff, ..] => Some(true),
        _ => None,
    }
}

/// Whether lines end as on old Macs, as far as these bytes say.
#[must_use]
pub fn ends_with_returns(bytes: &[u8]) -> bool {
    // Behind the last one there may be more.
    !bytes.contains(&b'\n') && bytes.split_last().is_some_and(|(_, before)| before.contains(&b'\r'))
}

/// UTF-16 as UTF-8.
pub struct Utf16<R> {
    inner: R,
    is_big: bool,
    raw: Vec<u8>,
    ready: VecDeque<u8>,
}

impl<R: Read> Utf16<R> {
    /// Reads that; with `is_big` the larger byte comes first.
    #[must_use]
    pub fn new(inner: R, is_big: bool) -> Self {
        Self { inner, is_big, raw: Vec::new(), ready: VecDeque::new() }
    }

    /// What is there of whole characters; at the end all of it.
    fn decode(&mut self, is_end: bool) {
        let unit = |pair: &[u8]| {
            let pair = [pair[0], pair[1]];
            if self.is_big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }
        };
        let mut units: Vec<u16> = self.raw.chunks_exact(2).map(unit).collect();
        let is_half = |unit: &u16| (0xd800..0xdc00).contains(unit);
        if !is_end && units.last().is_some_and(is_half) {
            units.pop();
        }
        self.raw.drain(..2 * units.len());
        let text = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER));
        self.ready.extend(text.collect::<String>().into_bytes());
    }
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut block = [0; BLOCK];
        while self.ready.is_empty() {
            let count = self.inner.read(&mut block)?;
            self.raw.extend_from_slice(&block[..count]);
            self.decode(count == 0);
            if count == 0 {
                break;
            }
        }
        self.ready.read(buffer)
    }
}

/// Line ends of old Macs as those of today.
pub struct Returns<R>(pub R);

impl<R: Read> Read for Returns<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read(buffer)?;
        buffer[..count].iter_mut().filter(|byte| **byte == b'\r').for_each(|byte| *byte = b'\n');
        Ok(count)
    }
}
