//! Where the files lie: a folder, or an object store.
//!
//! A file is written under `aside/`, read back, and only then renamed to the name that counts. In a folder each step
//! is on disk before the next one begins, so that a power cut leaves the old file or the new one.

use super::names::{FileName, Picture};
use super::{Fault, TIER};
use crate::tiers::TierError;
use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::BoxFuture;
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use parquet::arrow::async_writer::AsyncFileWriter;
use parquet::errors::{ParquetError, Result as ParquetResult};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use tokio::io::AsyncWriteExt;

/// Where what isn't finished lies.
const ASIDE: &str = "aside";

/// The files of the archive.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) store: Arc<dyn ObjectStore>,
    /// The folder, when it is one.
    folder: Option<PathBuf>,
    /// Files that are being written, by their names under `aside/`.
    under_way: UnderWay,
    /// What was summed up and found right, as it was then.
    sound: Mutex<HashMap<FileName, (u64, SystemTime)>>,
}

impl Shelf {
    /// In a folder; it is made when it is missing.
    pub(super) fn in_folder(folder: PathBuf) -> Result<Self, TierError> {
        let failed = |e: &dyn std::fmt::Display| TierError::Unavailable {
            tier: TIER,
            why: format!("{}: {e}", folder.display()),
        };
        std::fs::create_dir_all(folder.join(ASIDE)).map_err(|e| failed(&e))?;
        let store = LocalFileSystem::new_with_prefix(&folder).map_err(|e| failed(&e))?;
        let shelf = Self::on(Arc::new(store), Some(folder));
        Ok(shelf)
    }

    /// In any store, and the folder when it is one.
    pub(super) fn on(store: Arc<dyn ObjectStore>, folder: Option<PathBuf>) -> Self {
        Self { store, folder, under_way: Arc::default(), sound: Mutex::default() }
    }

    /// What is there now.
    pub(super) async fn picture(&self) -> Result<Picture, TierError> {
        let listing = self.store.list_with_delimiter(None).await.fault("the files can't be listed")?;
        Ok(Picture::of(listing.objects))
    }

    /// A new file that doesn't count yet.
    pub(super) fn aside(&self) -> (Aside, Summed) {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("{}-{}.parquet", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::from(format!("{ASIDE}/{name}"));
        let writer = BufWriter::new(self.store.clone(), path.clone());
        (Aside::new(path, name, &self.under_way), Summed { writer, crc: 0 })
    }

    /// The size and date of a file.
    pub(super) async fn meta(&self, path: &Path) -> Result<ObjectMeta, TierError> {
        self.store.head(path).await.fault(path)
    }

    /// Makes a file that was written aside the one that counts.
    pub(super) async fn publish(&self, aside: &Path, file: FileName) -> Result<(), TierError> {
        self.sync(Some(aside)).await?;
        self.store.rename(aside, &file.path()).await.fault(aside)?;
        self.sync(None).await
    }

    /// Brings a file's bytes, or without one the folder's names, to the disk.
    async fn sync(&self, file: Option<&Path>) -> Result<(), TierError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let path = file.map_or_else(|| folder.clone(), |file| folder.join(file.as_ref()));
        let shown = path.display().to_string();
        let synced = tokio::task::spawn_blocking(move || File::open(path)?.sync_all()).await;
        synced.map_err(std::io::Error::other).flatten().fault(shown)
    }

    /// Removes files that hold no day any more; those that can't be removed now are found again.
    pub(super) async fn sweep(&self, picture: &Picture) {
        for file in picture.waste() {
            self.remove(&file.path()).await;
        }
    }

    /// Removes what was begun and nobody finishes any more. Only for the collector that writes. An object store shows no
    /// such thing but what was whole when its writer died.
    pub(super) async fn sweep_aside(&self) {
        if let Some(folder) = &self.folder {
            let begun = std::fs::read_dir(folder.join(ASIDE)).into_iter().flatten().flatten();
            let left = begun.filter(|file| !self.is_under_way(&file.file_name().to_string_lossy()));
            left.for_each(|file| drop(std::fs::remove_file(file.path())));
            return;
        }
        let begun = self.store.list(Some(&Path::from(ASIDE))).try_collect::<Vec<_>>().await.unwrap_or_default();
        for meta in begun {
            if !meta.location.filename().is_some_and(|name| self.is_under_way(name)) {
                self.remove(&meta.location).await;
            }
        }
    }

    /// Also of its parts, `name#1` and so on.
    fn is_under_way(&self, name: &str) -> bool {
        let name = name.split_once('#').map_or(name, |(name, _)| name);
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    pub(super) async fn remove(&self, path: &Path) {
        if let Err(error) = self.store.delete(path).await
            && !matches!(error, object_store::Error::NotFound { .. })
        {
            tracing::debug!(%path, %error, "a file that isn't needed any more is still there");
        }
    }

    /// Looks whether a file's bytes are those that were written. In a folder, once for each file and change of it;
    /// object stores do that by themselves.
    pub(super) async fn check(&self, file: FileName, meta: &ObjectMeta) -> Result<(), TierError> {
        if self.folder.is_none() {
            return Ok(());
        }
        let as_it_is = (meta.size, SystemTime::from(meta.last_modified));
        let sound = || self.sound.lock().unwrap_or_else(PoisonError::into_inner);
        if sound().get(&file) == Some(&as_it_is) {
            return Ok(());
        }
        let bytes = self.store.get(&meta.location).await.fault(&meta.location)?.into_stream();
        let crc = bytes.try_fold(0, |crc, bytes| std::future::ready(Ok(crc32c::crc32c_append(crc, &bytes))));
        if crc.await.fault(&meta.location)? != file.crc {
            let why = format!(
                "{} is damaged: its bytes are not those that were written; put a copy of it there, or remove it and archive its days again",
                self.shown(&meta.location)
            );
            return Err(TierError::Broken { tier: TIER, why });
        }
        sound().insert(file, as_it_is);
        Ok(())
    }

    /// Forgets what it knows of files that are gone.
    pub(super) fn forget(&self, picture: &Picture) {
        self.sound.lock().unwrap_or_else(PoisonError::into_inner).retain(|file, _| picture.has(file));
    }

    /// A file as people find it.
    pub(super) fn shown(&self, path: &Path) -> String {
        self.folder.as_ref().map_or_else(|| path.to_string(), |folder| folder.join(path.as_ref()).display().to_string())
    }
}

type UnderWay = Arc<Mutex<HashSet<String>>>;

/// Where a file is written that doesn't count yet; under way until this is dropped.
pub(super) struct Aside {
    path: Path,
    name: String,
    under_way: UnderWay,
}

impl Aside {
    fn new(path: Path, name: String, under_way: &UnderWay) -> Self {
        under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        Self { path, name, under_way: under_way.clone() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

/// A file under way, and the sum of what was written.
pub(super) struct Summed {
    writer: BufWriter,
    pub(super) crc: u32,
}

impl AsyncFileWriter for Summed {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, ParquetResult<()>> {
        self.crc = crc32c::crc32c_append(self.crc, &bytes);
        Box::pin(async move { self.writer.put(bytes).await.map_err(|e| ParquetError::External(Box::new(e))) })
    }

    fn complete(&mut self) -> BoxFuture<'_, ParquetResult<()>> {
        Box::pin(async move { self.writer.shutdown().await.map_err(|e| ParquetError::External(Box::new(e))) })
    }
}
