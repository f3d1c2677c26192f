//! A small disk, for tests that fill it.

use super::is_root;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A file system in memory, mounted on a temporary folder. Its keeper takes it away when this end of its input is closed,
/// however the test ends.
#[derive(Debug)]
pub struct SmallDisk {
    keeper: Child,
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// Of so many MiB, PostgreSQL's user may write there. Where nothing may be mounted it says what isn't proved then.
    pub fn or_say(mib: u32, unproved: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().display();
        let script = format!(
            "trap '' INT TERM; mount -t tmpfs -o size={mib}m none {here} || exit; chown postgres {here}; echo mounted; \
             read end; umount --lazy {here}"
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut disk = Self { keeper: shell.spawn().unwrap(), folder };
        let mut said = String::new();
        BufReader::new(disk.keeper.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said.is_empty() {
            let why = if is_root() { "nothing may be mounted here" } else { "only root may mount" };
            println!("NOT PROVED: {unproved}: {why}");
            return None;
        }
        Some(disk)
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn hog(&self) -> PathBuf {
        self.path().join("hog")
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        let mut hog = OpenOptions::new().create(true).append(true).open(self.hog()).unwrap();
        let page = [0; 4096];
        let full = loop {
            if let Err(error) = hog.write_all(&page) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
    }

    /// Gives all of it back.
    pub fn make_room(&self) {
        File::options().write(true).open(self.hog()).unwrap().set_len(0).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
