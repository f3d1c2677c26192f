//! What really reaches a disk: a file system of our own on a loop device, whose sectors the kernel counts.
//!
//! `write_bytes` of /proc/PID/io is no measure: it counts whole folios of the page cache for every write, several times
//! what is written to the device.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An ext4 in a file, mounted through a loop device; unmounted when it is dropped. The file must outlive it.
pub(crate) struct Disk {
    device: String,
    at: PathBuf,
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().map_err(|e| format!("{program}: {e}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

impl Disk {
    /// In `folder`; says why where that isn't possible, as without root.
    pub(crate) fn mount(folder: &Path, bytes: u64) -> Result<Disk, String> {
        let (image, at) = (folder.join("image"), folder.join("mounted"));
        let made = fs::File::create(&image).and_then(|file| file.set_len(bytes)).and_then(|()| fs::create_dir_all(&at));
        made.map_err(|e| e.to_string())?;
        // All of its tables at once: otherwise the kernel goes on making them, and that would count.
        let whole = "lazy_itable_init=0,lazy_journal_init=0";
        run("mkfs.ext4", &["-q", "-F", "-E", whole, &image.to_string_lossy()])?;
        let device = run("losetup", &["--find", "--show", &image.to_string_lossy()])?;
        let disk = Disk { device, at };
        run("mount", &[&disk.device, &disk.at.to_string_lossy()])?;
        Ok(disk)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.at
    }

    /// Bytes that were written to it so far, by the file system too, with what still waited in memory.
    pub(crate) fn written(&self) -> u64 {
        let _ = run("sync", &["-f", &self.at.to_string_lossy()]);
        let name = self.device.trim_start_matches("/dev/");
        let stat = fs::read_to_string(format!("/sys/block/{name}/stat")).unwrap_or_default();
        // The seventh number: sectors of 512 bytes (Documentation/block/stat.rst of the kernel)
        stat.split_whitespace().nth(6).and_then(|sectors| sectors.parse().ok()).unwrap_or(0u64) * 512
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for _ in 0..50 {
            let unmounted = run("umount", &[&self.at.to_string_lossy()]);
            if unmounted.is_ok() || unmounted.is_err_and(|why| why.contains("not mounted")) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        if let Err(why) = run("losetup", &["-d", &self.device]) {
            eprintln!("{why}");
        }
    }
}
