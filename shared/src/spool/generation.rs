//! One generation: a small sled of its own, never larger than a few megabytes.
//!
//! This is the only place that knows sled. Every call into it is caught, since a damaged sled panics as often as
//! it returns an error.

use super::ledger::sync_dir;
use super::record;
use super::{Fault, Record};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const CACHE_BYTES: u64 = 2 << 20;
/// A sled that was just dropped holds its lock a moment longer.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Generation {
    id: u64,
    path: PathBuf,
    content: Content,
}

enum Content {
    Sled {
        db: sled::Db,
        /// sled's file, opened once more to make it durable.
        file: File,
    },
    /// sled can't be opened without room on the disk: a reader gets what the raw file has, so that it can drain.
    Raw(BTreeMap<u64, Record>),
}

fn caught<T>(what: impl FnOnce() -> sled::Result<T>) -> Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(what)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(e))) => Err(Fault::of_io(e)),
        Ok(Err(e)) => Err(Fault::Damaged(e.to_string())),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words");
            Err(Fault::Damaged(said.to_owned()))
        }
    }
}

impl Fault {
    /// A full or forbidden disk is no damage: nothing may be set aside for it.
    pub(super) fn of_io(e: io::Error) -> Fault {
        use io::ErrorKind::{
            Interrupted, OutOfMemory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull, WouldBlock,
        };
        let files_used_up = matches!(e.raw_os_error(), Some(23 | 24));
        match e.kind() {
            StorageFull | QuotaExceeded | ReadOnlyFilesystem | PermissionDenied | OutOfMemory | Interrupted
            | WouldBlock => Fault::Io(e),
            _ if files_used_up => Fault::Io(e),
            _ => Fault::Damaged(e.to_string()),
        }
    }
}

fn open_sled(path: &Path) -> Result<sled::Db, Fault> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(Err(sled::Error::Io(e))) if e.to_string().contains("could not acquire lock") => {
                if Instant::now() >= deadline {
                    return Err(Fault::Io(e));
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(opened) => return caught(|| opened),
            Err(panic) => return caught(|| std::panic::resume_unwind(panic)),
        }
    }
}

impl Generation {
    /// Makes an empty one in a folder that isn't there yet; durable when it returns.
    pub(super) fn create(path: &Path, id: u64) -> Result<Generation, Fault> {
        std::fs::create_dir(path).map_err(Fault::Io)?;
        let db = open_sled(path)?;
        caught(|| db.flush())?;
        let file = File::open(path.join("db")).map_err(Fault::Io)?;
        let synced = (|| {
            file.sync_all()?;
            File::open(path.join("conf"))?.sync_all()?;
            sync_dir(&path.join("blobs"))?;
            sync_dir(path)?;
            path.parent().map_or(Ok(()), sync_dir)
        })();
        synced.map_err(Fault::Io)?;
        Ok(Generation { id, path: path.to_owned(), content: Content::Sled { db, file } })
    }

    /// Opens one that is there.
    pub(super) fn open(path: &Path, id: u64) -> Result<Generation, Fault> {
        // sled would make an empty one in its place and call it well
        if !path.join("db").is_file() || !path.join("conf").is_file() {
            return Err(Fault::Damaged("its file is missing".into()));
        }
        let db = open_sled(path)?;
        let file = File::open(path.join("db")).map_err(Fault::of_io)?;
        Ok(Generation { id, path: path.to_owned(), content: Content::Sled { db, file } })
    }

    /// One to read from only, from what was found in the raw file.
    pub(super) fn raw(path: &Path, id: u64, records: BTreeMap<u64, Record>) -> Generation {
        Generation { id, path: path.to_owned(), content: Content::Raw(records) }
    }

    /// Its folder, as it was named when it was opened.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts records at consecutive positions; durable when it returns.
    pub(super) fn put<'a>(&self, first: u64, records: impl Iterator<Item = &'a Record>) -> Result<(), Fault> {
        self.put_at(records.enumerate().map(|(n, record)| (first + n as u64, record)))
    }

    /// Puts records at their positions; durable when it returns.
    pub(super) fn put_at<'a>(&self, records: impl Iterator<Item = (u64, &'a Record)>) -> Result<(), Fault> {
        let Content::Sled { db, file } = &self.content else {
            return Err(Fault::Io(io::ErrorKind::ReadOnlyFilesystem.into()));
        };
        for (position, record) in records {
            let value = record::encode(self.id, position, record);
            caught(|| db.insert(position.to_be_bytes(), value))?;
        }
        caught(|| db.flush())?;
        // flush() only starts the writing (sync_file_range); this is what makes it survive a power cut
        file.sync_data().map_err(Fault::Io)
    }

    /// The record at a position; `None` when it isn't there or isn't whole.
    pub(super) fn get(&self, position: u64) -> Result<Option<Record>, Fault> {
        let db = match &self.content {
            Content::Sled { db, .. } => db,
            Content::Raw(records) => return Ok(records.get(&position).cloned()),
        };
        let value = caught(|| db.get(position.to_be_bytes()))?;
        Ok(value.and_then(|value| self.check(position, &value)))
    }

    fn check(&self, position: u64, value: &[u8]) -> Option<Record> {
        record::decode(self.id, value).filter(|(at, _)| *at == position).map(|(_, record)| record)
    }

    /// Every whole record, ascending, up to where reading fails; then the fault.
    pub(super) fn each(&self, mut found: impl FnMut(u64, Record)) -> Result<(), Fault> {
        let db = match &self.content {
            Content::Sled { db, .. } => db,
            Content::Raw(records) => {
                records.iter().for_each(|(position, record)| found(*position, record.clone()));
                return Ok(());
            }
        };
        let mut entries = db.iter();
        while let Some((key, value)) = caught(|| entries.next().transpose())? {
            let position = <[u8; 8]>::try_from(&*key).map(u64::from_be_bytes);
            if let Some((position, record)) = position.ok().and_then(|p| Some((p, self.check(p, &value)?))) {
                found(position, record);
            }
        }
        Ok(())
    }
}
