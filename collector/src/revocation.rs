//! Which certificates were taken back: the file `revoked` beside the authority, watched while the collector runs.
//!
//! One line per certificate: its serial number in hexadecimal, then whatever helps a person. A line that can't be
//! read is reported and skipped; a serial that was once seen as revoked stays so until the collector restarts,
//! so that a half-written or deleted file never lets anyone back in.

use shared::ids::hex;
use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often the file is looked at.
const POLL: Duration = Duration::from_secs(1);

/// A certificate's serial number: hexadecimal, lower case, without leading zeros or colons.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Serial(Box<str>);

impl Serial {
    /// A fresh one: 16 random bytes, of which the first is neither zero nor negative in DER.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = shared::ids::BootId::random().0; // 16 random bytes, whatever they are used for
        bytes[0] = bytes[0] & 0x7f | 0x40;
        Self(hex(&bytes).into())
    }

    /// Reads hexadecimal in any of the usual spellings; `None` when it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|c| *c != ':').map(|c| c.to_ascii_lowercase()).collect();
        let valid = !digits.is_empty() && digits.len() <= 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        valid.then(|| Self(digits.trim_start_matches('0').into()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number's bytes, most significant first.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let even = if self.0.len().is_multiple_of(2) { self.0.to_string() } else { format!("0{}", self.0) };
        (0..even.len()).step_by(2).filter_map(|at| u8::from_str_radix(&even[at..at + 2], 16).ok()).collect()
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The content of the file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct List {
    /// The serials in it.
    pub serials: HashSet<Serial>,
    /// Numbers of the lines that name no serial, from 1.
    pub unreadable: Vec<usize>,
}

/// Reads the file; a missing one is an empty list.
///
/// # Errors
/// When it is there and can't be read.
pub fn read(path: &Path) -> io::Result<List> {
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(List::default()),
        Err(error) => return Err(error),
    };
    let mut list = List::default();
    for (number, line) in text.lines().enumerate() {
        let word = line.split('#').next().and_then(|l| l.split_whitespace().next());
        match word.map(Serial::parse) {
            Some(Some(serial)) => drop(list.serials.insert(serial)),
            Some(None) => list.unreadable.push(number + 1),
            None => {}
        }
    }
    Ok(list)
}

/// What sessions look at: the revoked serials as they are now.
pub type Revoked = watch::Receiver<Arc<HashSet<Serial>>>;

/// Watches the file until `stop`; changes show within about a second.
///
/// # Errors
/// When the file can't be read at the start: a collector that doesn't know whom to refuse lets nobody in.
pub fn watch(path: PathBuf, stop: CancellationToken) -> io::Result<Revoked> {
    let mut seen = state(&path);
    let first = read(&path)?;
    report(&path, &first.unreadable);
    let (sender, receiver) = watch::channel(Arc::new(first.serials));
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(POLL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            let now = state(&path);
            if now == seen {
                continue;
            }
            // The state is taken before the content: a write in between shows as a change next time.
            match read(&path) {
                Ok(list) => {
                    seen = now;
                    report(&path, &list.unreadable);
                    sender.send_if_modified(|held| {
                        let all: HashSet<Serial> = held.union(&list.serials).cloned().collect();
                        let grew = all.len() > held.len();
                        if grew {
                            *held = Arc::new(all);
                        }
                        grew
                    });
                }
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "revocation list can't be read; the last one known holds")
                }
            }
        }
    });
    Ok(receiver)
}

/// Time and length: two changes within one tick of the file system's clock differ in length at least.
fn state(path: &Path) -> Option<(SystemTime, u64)> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

fn report(path: &Path, unreadable: &[usize]) {
    for line in unreadable {
        tracing::error!("{}:{line}: no serial number in hexadecimal; the line is skipped", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_is_the_same_in_every_spelling() {
        let plain = Serial::parse("4a0b0c").unwrap();
        assert_eq!(Serial::parse("4A:0B:0C"), Some(plain.clone()));
        assert_eq!(Serial::parse("004a0b0c"), Some(plain.clone()));
        assert_eq!(plain.to_bytes(), [0x4a, 0x0b, 0x0c]);
        assert_eq!(Serial::parse("pump"), None);
        assert_eq!(Serial::parse(""), None);
    }

    #[test]
    fn unreadable_lines_are_named_and_cost_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("revoked");
        assert_eq!(read(&path).unwrap(), List::default());
        fs::write(&path, "# comment\n4a0b PUMP_1 2026-01-01\nnonsense\n\n4A:0C\n").unwrap();
        let list = read(&path).unwrap();
        assert_eq!(list.unreadable, [3]);
        assert_eq!(list.serials, ["4a0b", "4a0c"].iter().filter_map(|s| Serial::parse(s)).collect());
    }

    #[tokio::test]
    async fn a_revocation_shows_within_two_seconds_and_deleting_the_file_lets_nobody_back_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("revoked");
        let stop = CancellationToken::new();
        let mut revoked = watch(path.clone(), stop.clone()).unwrap();
        let serial = Serial::parse("4a0b").unwrap();
        fs::write(&path, "4a0b PUMP_1\n").unwrap();
        tokio::time::timeout(Duration::from_secs(2), revoked.wait_for(|s| s.contains(&serial))).await.unwrap().unwrap();
        fs::remove_file(&path).unwrap();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(revoked.borrow().contains(&serial));
        stop.cancel();
    }
}
