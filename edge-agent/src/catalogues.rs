//! The catalogues that blocks on disk refer to: `catalogues/<hash>`, each written durably before the first block
//! that needs it.

use crate::clock::records::write_durably;
use bytes::Bytes;
use shared::catalogue::{Catalogue, CatalogueHash};
use shared::ids::unhex;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::{fs, io};

/// The folder of catalogues. All calls block on the disk.
#[derive(Debug)]
pub struct Catalogues {
    dir: PathBuf,
    kept: Mutex<BTreeSet<CatalogueHash>>,
}

impl Catalogues {
    /// Opens the folder, making it when it isn't there.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let names = fs::read_dir(dir)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let kept = names.filter_map(|name| unhex::<16>(&name).map(CatalogueHash)).collect();
        Ok(Self { dir: dir.to_owned(), kept: Mutex::new(kept) })
    }

    fn path(&self, hash: CatalogueHash) -> PathBuf {
        self.dir.join(hash.to_string())
    }

    /// Makes sure the catalogue is on disk.
    ///
    /// # Errors
    /// When the disk refuses; then no block may refer to it.
    pub fn keep(&self, catalogue: &Catalogue) -> io::Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.contains(&catalogue.hash()) {
            write_durably(&self.path(catalogue.hash()), &catalogue.to_bytes())?;
            kept.insert(catalogue.hash());
        }
        Ok(())
    }

    /// A catalogue's bytes; `None` when they are lost or damaged.
    #[must_use]
    pub fn bytes(&self, hash: CatalogueHash) -> Option<Bytes> {
        let bytes = fs::read(self.path(hash)).ok()?;
        let whole = Catalogue::from_bytes(&bytes).is_ok_and(|catalogue| catalogue.hash() == hash);
        whole.then(|| Bytes::from(bytes))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all but one. Only while no block on disk refers to another.
    pub fn keep_only(&self, current: CatalogueHash) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|hash| *hash == current || fs::remove_file(self.path(*hash)).is_err());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_catalogue_counts_as_lost() {
        let dir = tempfile::tempdir().unwrap();
        let empty = Catalogue::new(Vec::new()).unwrap();
        let catalogues = Catalogues::open(dir.path()).unwrap();
        catalogues.keep(&empty).unwrap();
        assert_eq!(Catalogues::open(dir.path()).unwrap().bytes(empty.hash()), Some(empty.to_bytes().into()));
        fs::write(dir.path().join(empty.hash().to_string()), b"\x01\x07").unwrap();
        assert_eq!(catalogues.bytes(empty.hash()), None);
    }
}
