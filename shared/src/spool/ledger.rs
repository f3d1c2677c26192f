//! The ledger file: the account, outside sled, in two slots that are written in turn.
//!
//! A slot is `magic, version, serial, length, CRC32C, body`; the valid one with the highest serial counts. A write
//! that a power cut tears leaves the slot before it. The file is made at full size, so that writing it needs no
//! room on a full disk.

use super::book::Book;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: [u8; 4] = *b"SpL1";
const HEAD: usize = 4 + 8 + 4 + 4;
const SLOT: usize = 96 * 1024;
/// Bytes of the file.
pub(super) const BYTES: u64 = 2 * SLOT as u64;
/// Written in whole pages, so that a slot costs one device write.
const PAGE: usize = 4096;

pub(super) struct Ledger {
    file: File,
    serial: u64,
}

/// Flushes what a folder lists.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

impl Ledger {
    /// Makes a new file, complete before it has its name.
    pub(super) fn create(dir: &Path, book: &Book) -> io::Result<Ledger> {
        let (path, draft) = (dir.join("ledger"), dir.join("ledger.new"));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&draft)?;
        // Zeros are really written: an overwrite then changes no file metadata, and fdatasync is one device write.
        file.write_all_at(&vec![0; 2 * SLOT], 0)?;
        let mut ledger = Ledger { file, serial: 0 };
        ledger.write(book)?;
        ledger.write(book)?;
        ledger.file.sync_all()?;
        std::fs::rename(&draft, &path)?;
        sync_dir(dir)?;
        Ok(ledger)
    }

    /// Opens the file; `None` when there is none or no slot is whole.
    pub(super) fn load(dir: &Path) -> io::Result<Option<(Ledger, Book)>> {
        let file = match OpenOptions::new().read(true).write(true).open(dir.join("ledger")) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let best = [0, 1].into_iter().filter_map(|slot| read_slot(&file, slot)).max_by_key(|(serial, _)| *serial);
        let Some((serial, book)) = best else { return Ok(None) };
        if file.metadata()?.len() < 2 * SLOT as u64 {
            file.set_len(2 * SLOT as u64)?;
            file.sync_all()?;
        }
        Ok(Some((Ledger { file, serial }, book)))
    }

    /// Writes the account; durable when it returns.
    pub(super) fn write(&mut self, book: &Book) -> io::Result<()> {
        let body = postcard::to_stdvec(&book.bounded()).map_err(io::Error::other)?;
        if body.len() > SLOT - HEAD {
            return Err(io::Error::other("the spool's account outgrew its file"));
        }
        let serial = self.serial + 1;
        let mut out = Vec::with_capacity((HEAD + body.len()).next_multiple_of(PAGE));
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&serial.to_le_bytes());
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&body);
        let crc = slot_crc(&out);
        out[16..20].copy_from_slice(&crc.to_le_bytes());
        out.resize(out.len().next_multiple_of(PAGE), 0);
        // The serial counts as used even when the write fails: half a slot must never win over the other.
        self.serial = serial;
        self.file.write_all_at(&out, (serial % 2) * SLOT as u64)?;
        self.file.sync_data()
    }
}

fn slot_crc(slot: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&slot[..16]), &slot[HEAD..])
}

fn read_slot(file: &File, slot: u64) -> Option<(u64, Book)> {
    let mut head = [0; HEAD];
    file.read_exact_at(&mut head, slot * SLOT as u64).ok()?;
    let len = u32::from_le_bytes(head[12..16].try_into().ok()?) as usize;
    if head[..4] != MAGIC || len > SLOT - HEAD {
        return None;
    }
    let mut whole = vec![0; HEAD + len];
    file.read_exact_at(&mut whole, slot * SLOT as u64).ok()?;
    if whole[16..20] != slot_crc(&whole).to_le_bytes() {
        return None;
    }
    let serial = u64::from_le_bytes(whole[4..12].try_into().ok()?);
    let book: Book = postcard::from_bytes(&whole[HEAD..]).ok()?;
    Some((serial, book.checked()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Seq;
    use crate::ranges::SeqRange;
    use crate::spool::{Gap, GapReason, book};

    #[test]
    fn a_torn_write_leaves_the_account_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = Book::new();
        let mut ledger = Ledger::create(dir.path(), &book).unwrap();
        book.extend(1, 5, None);
        ledger.write(&book).unwrap();
        let before = book.clone();
        book.extend(6, 5, None);
        ledger.write(&book).unwrap();
        let offset = (ledger.serial % 2) * SLOT as u64;
        let newest = std::fs::read(dir.path().join("ledger")).unwrap();
        for at in (0..200).chain([4000]) {
            let mut torn = newest.clone();
            torn[offset as usize + at] ^= 0x10;
            std::fs::write(dir.path().join("ledger"), &torn).unwrap();
            let (_, found) = Ledger::load(dir.path()).unwrap().unwrap();
            assert!(found == before || found == book, "byte {at}");
        }
        std::fs::write(dir.path().join("ledger"), b"short").unwrap();
        assert!(Ledger::load(dir.path()).unwrap().is_none());
    }

    #[test]
    fn the_fullest_account_fits_its_slot() {
        let dir = tempfile::tempdir().unwrap();
        let mut full = Book::new();
        full.highest = u64::MAX / 2 - 1;
        full.last_position = full.highest;
        let top = |n: u64| Seq(full.highest - 10_000_000 + n * 1000);
        full.accounted = (0..3000).map(top).collect();
        full.segments = (0..book::SEGMENTS_MAX as u64)
            .map(|n| book::Segment { seq: top(n).0, position: top(n).0, count: 900 })
            .collect();
        let far = crate::reading::Timestamp(i64::MIN);
        full.gaps = (0..book::GAPS_MAX as u64)
            .map(|n| Gap { seqs: SeqRange::one(top(n)), span: Some((far, far)), reason: GapReason::Damage })
            .collect();
        Ledger::create(dir.path(), &full).unwrap();
        let (_, found) = Ledger::load(dir.path()).unwrap().unwrap();
        assert_eq!(found, full.bounded());
    }
}
