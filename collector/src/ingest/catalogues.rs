//! Catalogues as they arrive, durably beside the spool: a stored block can be decoded after a restart even while
//! the warm tier is away. The warm tier keeps them for good; here the newest of each gateway stay.
//!
//! Layout: `<folder>/<gateway>/<hash>.catalogue`, the bytes as sent.

use crate::durable;
use shared::catalogue::{Catalogue, CatalogueError, CatalogueHash};
use shared::ids::{GatewayId, unhex};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Most files per gateway: every change of its configuration makes one.
const FILES_MAX: usize = 256;
/// Most decoded catalogues in memory, all gateways together.
const CACHED_MAX: usize = 512;

/// The folder and what was read of it.
#[derive(Debug)]
pub struct Catalogues {
    folder: PathBuf,
    cached: Mutex<HashMap<(GatewayId, CatalogueHash), Arc<Catalogue>>>,
}

/// Why a catalogue was not taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// Its bytes are none.
    #[error(transparent)]
    Bytes(#[from] CatalogueError),
    /// It can't be kept.
    #[error("{}: {source}", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Catalogues {
    /// Opens the folder, which is made when it is missing.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.into(), cached: Mutex::default() })
    }

    fn path(&self, gateway: &GatewayId, hash: CatalogueHash) -> PathBuf {
        self.folder.join(gateway.as_str()).join(format!("{hash}.catalogue"))
    }

    /// Keeps a catalogue, durably when it returns. Blocking.
    ///
    /// # Errors
    /// When the bytes are no catalogue, or the disk fails.
    pub fn take(&self, gateway: &GatewayId, bytes: &[u8]) -> Result<Arc<Catalogue>, TakeError> {
        let catalogue = Arc::new(Catalogue::from_bytes(bytes)?);
        let path = self.path(gateway, catalogue.hash());
        if self.get(gateway, catalogue.hash()).is_none() {
            let folder = self.folder.join(gateway.as_str());
            self.write(&folder, &path, bytes).map_err(|source| TakeError::File { path, source })?;
        }
        self.cache(gateway, &catalogue);
        Ok(catalogue)
    }

    fn write(&self, folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut files = list(folder)?;
        files.sort_by_key(|(_, _, modified)| *modified);
        for (_, oldest, _) in files.iter().take((files.len() + 1).saturating_sub(FILES_MAX)) {
            fs::remove_file(oldest)?;
        }
        durable::replace(path, bytes)?;
        fs::File::open(&self.folder)?.sync_all()
    }

    /// The catalogue, when it is here. Reads the disk once per catalogue. Blocking.
    #[must_use]
    pub fn get(&self, gateway: &GatewayId, hash: CatalogueHash) -> Option<Arc<Catalogue>> {
        let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(catalogue) = cached.get(&(gateway.clone(), hash)) {
            return Some(Arc::clone(catalogue));
        }
        drop(cached);
        let bytes = fs::read(self.path(gateway, hash)).ok()?;
        // A file that was damaged on disk is as good as none: the gateway, or the warm tier, has it too.
        let catalogue = Catalogue::from_bytes(&bytes).ok().filter(|c| c.hash() == hash).map(Arc::new)?;
        self.cache(gateway, &catalogue);
        Some(catalogue)
    }

    /// Keeps one in memory that came from elsewhere, like the warm tier.
    pub fn cache(&self, gateway: &GatewayId, catalogue: &Arc<Catalogue>) {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.len() >= CACHED_MAX {
            cached.clear(); // rare, and what is needed is soon back
        }
        cached.insert((gateway.clone(), catalogue.hash()), Arc::clone(catalogue));
    }

    /// Which of a gateway's catalogues are here and whole. Blocking.
    #[must_use]
    pub fn known(&self, gateway: &GatewayId) -> Vec<CatalogueHash> {
        let files = list(&self.folder.join(gateway.as_str())).unwrap_or_default();
        files.into_iter().filter(|(hash, ..)| self.get(gateway, *hash).is_some()).map(|(hash, ..)| hash).collect()
    }

    /// A gateway's catalogues that are here and whole, the newest first. Blocking.
    #[must_use]
    pub fn newest_first(&self, gateway: &GatewayId) -> Vec<Arc<Catalogue>> {
        let mut files = list(&self.folder.join(gateway.as_str())).unwrap_or_default();
        files.sort_by_key(|(_, _, modified)| std::cmp::Reverse(*modified));
        files.into_iter().filter_map(|(hash, ..)| self.get(gateway, hash)).collect()
    }
}

fn list(folder: &Path) -> io::Result<Vec<(CatalogueHash, PathBuf, SystemTime)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let (path, modified) = entry.and_then(|e| Ok((e.path(), e.metadata()?.modified()?)))?;
        let name =
            path.file_stem().and_then(|s| s.to_str()).filter(|_| path.extension().is_some_and(|e| e == "catalogue"));
        if let Some(hash) = name.and_then(unhex) {
            files.push((CatalogueHash(hash), path, modified));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::catalogue::{Class, Entry};
    use shared::ids::NodeId;
    use shared::metric::Kind;

    fn catalogue(number: usize) -> Catalogue {
        Catalogue::new(vec![Entry {
            node: NodeId::new(&format!("DIST_{number}")).unwrap(),
            metric: "pressure".into(),
            channel: String::new(),
            kind: Kind::Gauge,
            unit: "bar".into(),
            resolution_exp: None,
            interval_ms: 0,
            silence_ms_max: 0,
            class: Class::Raw,
        }])
        .unwrap()
    }

    #[test]
    fn a_catalogue_is_there_after_a_restart_and_a_damaged_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let gateway = GatewayId::new("G").unwrap();
        let taken = Catalogues::open(folder.path()).unwrap().take(&gateway, &catalogue(1).to_bytes()).unwrap();
        let again = Catalogues::open(folder.path()).unwrap();
        assert_eq!(again.known(&gateway), [taken.hash()]);
        assert_eq!(again.get(&gateway, taken.hash()), Some(taken.clone()));
        fs::write(again.path(&gateway, taken.hash()), catalogue(2).to_bytes()).unwrap();
        let third = Catalogues::open(folder.path()).unwrap();
        assert_eq!(third.get(&gateway, taken.hash()), None);
        assert!(third.known(&gateway).is_empty());
        third.take(&gateway, &catalogue(1).to_bytes()).unwrap();
        assert!(third.get(&gateway, taken.hash()).is_some(), "sent again, it is mended");
        assert!(matches!(third.take(&gateway, b"nonsense"), Err(TakeError::Bytes(_))));
    }

    #[test]
    fn their_number_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let gateway = GatewayId::new("G").unwrap();
        let catalogues = Catalogues::open(folder.path()).unwrap();
        for number in 0..FILES_MAX + 5 {
            catalogues.take(&gateway, &catalogue(number).to_bytes()).unwrap();
        }
        assert_eq!(list(&folder.path().join("G")).unwrap().len(), FILES_MAX);
    }
}
