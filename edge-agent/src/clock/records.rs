//! What the clock keeps on disk: `floor`, the last time that was certain, and one `boot-<id>.json` per boot.
//!
//! Every file is replaced whole (written aside, synced, renamed, folder synced). A damaged one is set aside and
//! said, never in the way of a start.

use serde::{Deserialize, Serialize};
use shared::ids::{BootId, hex, unhex};
use shared::reading::Timestamp;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Most boots that are remembered; a gateway that reboots more often before it ever delivers has other troubles.
pub const BOOTS_MAX: usize = 256;

/// How a boot's monotonic time becomes UTC. Once written it is never changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootTime {
    /// `utc = mono + offset_us`.
    Known {
        /// Microseconds.
        offset_us: i64,
    },
    /// Never learned; the boot lay between these moments.
    Unknown {
        /// Not before this.
        not_before: Timestamp,
        /// Not after this.
        not_after: Timestamp,
    },
}

/// One boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BootRecord {
    /// Which.
    pub boot: BootId,
    /// The latest time that was certain when it began.
    pub not_before: Timestamp,
    /// Known once it is known.
    pub time: Option<BootTime>,
}

#[derive(Serialize, Deserialize)]
struct OnDisk {
    not_before: Timestamp,
    time: Option<BootTime>,
}

/// The folder of the clock's files.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Opens the folder, making it when it isn't there.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self(dir.to_owned()))
    }

    /// The floor, when there is one.
    ///
    /// # Errors
    /// When the disk can't be read. A damaged file is set aside and counts as none.
    pub fn floor(&self) -> io::Result<Option<Timestamp>> {
        let path = self.0.join("floor");
        let Some(bytes) = read_if_there(&path)? else { return Ok(None) };
        match std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok()) {
            Some(micros) => Ok(Some(Timestamp(micros))),
            None => set_aside(&path).map(|()| None),
        }
    }

    /// Writes the floor durably.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn set_floor(&self, floor: Timestamp) -> io::Result<()> {
        self.replace("floor", format!("{}\n", floor.0).as_bytes())
    }

    /// Every boot on record, oldest first as far as can be told.
    ///
    /// # Errors
    /// When the disk can't be read. Damaged records are set aside.
    pub fn boots(&self) -> io::Result<Vec<BootRecord>> {
        let mut boots = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(id) = name.strip_prefix("boot-").and_then(|rest| rest.strip_suffix(".json")) else { continue };
            let Some(bytes) = read_if_there(&path)? else { continue };
            match (unhex::<16>(id), serde_json::from_slice::<OnDisk>(&bytes)) {
                (Some(boot), Ok(OnDisk { not_before, time })) => {
                    boots.push(BootRecord { boot: BootId(boot), not_before, time });
                }
                _ => set_aside(&path)?,
            }
        }
        boots.sort_by_key(|record| (record.not_before, record.boot));
        Ok(boots)
    }

    /// Writes a boot's record durably.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn set_boot(&self, record: &BootRecord) -> io::Result<()> {
        let text = serde_json::to_vec(&OnDisk { not_before: record.not_before, time: record.time })?;
        self.replace(&format!("boot-{}.json", hex(&record.boot.0)), &text)
    }

    /// Forgets a boot.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn forget(&self, boot: BootId) -> io::Result<()> {
        fs::remove_file(self.0.join(format!("boot-{}.json", hex(&boot.0))))
    }

    fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        write_durably(&self.0.join(name), content)
    }
}

/// Replaces a file whole: after a power cut it has the old content or the new one, and after the return the new.
///
/// # Errors
/// When the disk refuses.
pub fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("tmp");
    let mut file = File::create(&aside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn set_aside(path: &Path) -> io::Result<()> {
    tracing::error!(file = %path.display(), "damaged clock record set aside");
    fs::rename(path, path.with_extension("bad"))
}
