//! How commands on this machine come in: they can read a file in the collector's folder, which is made anew at each start.

use super::random;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// What stands in the file.
#[derive(Clone, Serialize, Deserialize)]
pub struct Local {
    /// Where the collector answers on loopback, without TLS.
    pub address: SocketAddr,
    /// What they show.
    pub secret: String,
}

impl Local {
    /// Where the file is.
    #[must_use]
    pub fn file(data_dir: &Path) -> PathBuf {
        data_dir.join("api.local")
    }

    /// With a new secret.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { address, secret: random()? })
    }

    /// Writes the file, which only its owner can read.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, data_dir: &Path) -> io::Result<()> {
        let (file, new) = (Self::file(data_dir), data_dir.join("api.local.new"));
        let _ = fs::remove_file(&new);
        let mut out = fs::File::options().write(true).create_new(true).mode(0o600).open(&new)?;
        out.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(new, file)
    }

    /// Reads it; `None` when there is none that this user can read.
    #[must_use]
    pub fn read(data_dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(Self::file(data_dir)).ok()?).ok()
    }
}
