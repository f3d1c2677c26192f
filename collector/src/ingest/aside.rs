//! The folder of what was refused: raw bytes, kept for a person to look at, bounded by count and size.
//!
//! One file per refusal: `<time>-<gateway>-<stream>-<seq>.block`, and beside it `.txt` with the reason. The oldest
//! make room for the newest.

use shared::ids::{GatewayId, Seq, StreamId};
use shared::reading::Timestamp;
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// How much is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Most blocks.
    pub count_max: usize,
    /// Most bytes of them together.
    pub bytes_max: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { count_max: 1_000, bytes_max: 64 << 20 }
    }
}

/// The folder.
#[derive(Debug)]
pub struct Aside {
    folder: PathBuf,
    bounds: Bounds,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    files: VecDeque<(PathBuf, u64)>,
    bytes: u64,
}

impl Aside {
    /// Opens the folder, which is made when it is missing.
    ///
    /// # Errors
    /// When it can't be made or listed.
    pub fn open(folder: &Path, bounds: Bounds) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|e| e == "block") {
                files.push((entry.path(), entry.metadata()?.len()));
            }
        }
        files.sort(); // names start with the time, in a fixed width
        let bytes = files.iter().map(|(_, size)| size).sum();
        Ok(Self { folder: folder.into(), bounds, held: Mutex::new(Held { files: files.into(), bytes }) })
    }

    /// Sets bytes aside, durably.
    ///
    /// # Errors
    /// When the folder can't be written: what was refused then stays with its sender or in the spool.
    pub fn put(&self, gateway: &GatewayId, stream: StreamId, seq: Seq, bytes: &[u8], why: &str) -> io::Result<PathBuf> {
        // The lock covers the writing too: refusals are rare, and the bound holds at every moment.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Timestamp::wall_clock().0;
        let path = self.folder.join(format!("{now:020}-{gateway}-{stream}-{seq}.block"));
        let size = bytes.len() as u64;
        while held.files.len() >= self.bounds.count_max.max(1) || held.bytes + size > self.bounds.bytes_max {
            let Some((oldest, size)) = held.files.pop_front() else { break };
            held.bytes = held.bytes.saturating_sub(size);
            metrics::counter!("collector_rejected_dropped_total").increment(1);
            let _ = fs::remove_file(oldest.with_extension("txt"));
            match fs::remove_file(&oldest) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(file = %oldest.display(), %error, "can't remove an old refusal");
                }
                _ => {}
            }
        }
        fs::write(path.with_extension("txt"), format!("{why}\n"))?;
        let mut file = fs::File::create(&path)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        held.files.push_back((path.clone(), size));
        held.bytes += size;
        Ok(path)
    }

    /// How many are kept.
    #[must_use]
    pub fn count(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).files.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room_and_a_restart_knows_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let gateway = GatewayId::new("STATION_7").unwrap();
        let bounds = Bounds { count_max: 3, bytes_max: 100 };
        let aside = Aside::open(folder.path(), bounds).unwrap();
        let put = |aside: &Aside, seq, size| aside.put(&gateway, StreamId(1), Seq(seq), &vec![1; size], "why").unwrap();
        let first = put(&aside, 1, 10);
        assert_eq!(fs::read_to_string(first.with_extension("txt")).unwrap(), "why\n");
        for seq in 2..=4 {
            put(&aside, seq, 10);
        }
        assert!(!first.exists() && aside.count() == 3);
        drop(aside);
        let aside = Aside::open(folder.path(), bounds).unwrap();
        put(&aside, 5, 95); // by size: everything else must go
        assert_eq!(aside.count(), 1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
