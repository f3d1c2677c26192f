//! Where the files lie: a folder, or an object store.
//!
//! A file is written under `aside/`, read back, and only then given the name that counts. In a folder that is a rename,
//! and each step is on disk before the next one begins, so that a power cut leaves the old file or the new one. An
//! object store can't rename: it copies, and a copy appears whole or not at all; what it was made from is removed after
//! it, and if that fails, before the next write.

use super::damage::Damaged;
use super::names::{FileName, Picture};
use super::{Fault, TIER};
use crate::tiers::TierError;
use crate::tiers::cold::guarded::alive;
use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::BoxFuture;
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use parquet::arrow::async_writer::AsyncFileWriter;
use parquet::errors::{ParquetError, Result as ParquetResult};
use shared::ids::StreamId;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use tokio::io::AsyncWriteExt;

/// Where what isn't finished lies.
const ASIDE: &str = "aside";

/// The files of the archive.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) place: Place,
    /// Files that are being written, by their names under `aside/`.
    under_way: UnderWay,
    /// What was summed up and found right, as it was then.
    sound: Mutex<HashMap<FileName, Known>>,
    pub(super) damaged: Damaged,
}

/// Where a shelf is.
#[derive(Debug)]
pub(super) enum Place {
    Folder(PathBuf),
    Store {
        /// As people know it.
        address: String,
        /// Whether it sees to it by itself that bytes come back as they were written.
        trusted: bool,
    },
}

/// What tells one state of a file from another: size, date, and what the store calls it.
pub(super) type Known = (u64, SystemTime, Option<String>);

/// A file as it is now.
pub(super) fn known(meta: &ObjectMeta) -> Known {
    (meta.size, SystemTime::from(meta.last_modified), meta.e_tag.clone())
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
        Ok(Self::on(Arc::new(store), Place::Folder(folder)))
    }

    pub(super) fn on(store: Arc<dyn ObjectStore>, place: Place) -> Self {
        Self { store, place, under_way: Arc::default(), sound: Mutex::default(), damaged: Damaged::default() }
    }

    /// What is there now.
    pub(super) async fn picture(&self) -> Result<Picture, TierError> {
        let listing = self.store.list_with_delimiter(None).await;
        let listing = listing.fault(format_args!("{} can't be listed", self.place))?;
        alive();
        let picture = Picture::of(listing.objects);
        self.damaged.see(&picture);
        Ok(picture)
    }

    /// A new file that doesn't count yet.
    pub(super) fn aside(&self) -> (Aside, Summed) {
        // Nobody else's name, whoever else writes there: what is read back must be what was written.
        let name = format!("{}.parquet", StreamId::random());
        let path = Path::from(format!("{ASIDE}/{name}"));
        let writer = BufWriter::new(self.store.clone(), path.clone());
        (Aside::new(path, name, &self.under_way), Summed { writer, crc: 0, ended: false })
    }

    /// The size and date of a file.
    pub(super) async fn meta(&self, path: &Path) -> Result<ObjectMeta, TierError> {
        let meta = self.store.head(path).await.fault(self.shown(path))?;
        Ok(ObjectMeta { location: path.clone(), ..meta }) // a store behind a prefix says its own path
    }

    /// Makes a file that was written aside the one that counts.
    pub(super) async fn publish(&self, aside: &Path, file: FileName) -> Result<(), TierError> {
        let path = file.path();
        if let Place::Folder(folder) = &self.place {
            sync(folder.join(aside.as_ref())).await?;
            self.store.rename(aside, &path).await.fault(self.shown(aside))?;
            return sync(folder.clone()).await;
        }
        self.store.copy(aside, &path).await.fault(self.shown(aside))?;
        let copied = self.copied(aside, file).await;
        if copied.is_err() {
            self.remove(&path).await;
        }
        self.remove(aside).await;
        copied
    }

    /// Whether a copy is what was read back before.
    async fn copied(&self, aside: &Path, file: FileName) -> Result<(), TierError> {
        let (from, to) = (self.meta(aside).await?, self.meta(&file.path()).await?);
        if from.size != to.size {
            let why = format!("{} has {} bytes, its copy {}", self.shown(aside), from.size, to.size);
            return Err(TierError::Broken { tier: TIER, why });
        }
        self.check(file, &to).await
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
        if let Place::Folder(folder) = &self.place {
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
            && !is_gone(&error)
        {
            tracing::debug!(%path, %error, "a file that isn't needed any more is still there");
        }
    }

    /// Looks whether a file's bytes are those that were written: once for each file and change of it, and never in a store
    /// that is trusted to.
    pub(super) async fn check(&self, file: FileName, meta: &ObjectMeta) -> Result<(), TierError> {
        let sound = self.sound.lock().unwrap_or_else(PoisonError::into_inner).get(&file) == Some(&known(meta));
        if sound { Ok(()) } else { self.check_again(file, meta).await }
    }

    /// As [`Shelf::check`], also of a file that was found sound before.
    pub(super) async fn check_again(&self, file: FileName, meta: &ObjectMeta) -> Result<(), TierError> {
        if matches!(self.place, Place::Store { trusted: true, .. }) {
            return Ok(());
        }
        let sound = || self.sound.lock().unwrap_or_else(PoisonError::into_inner);
        let why = match self.sum(&meta.location).await {
            Ok(crc) if crc == file.crc => {
                sound().insert(file, known(meta));
                self.damaged.is_sound(file);
                return Ok(());
            }
            Ok(_) => "its bytes are not those that were written".to_owned(),
            // What is listed in a folder and can't be read lies on a bad place of the disk.
            Err(error) if matches!(self.place, Place::Folder(_)) && !is_gone(&error) => {
                format!("it can't be read: {error}")
            }
            Err(error) => return Err(error).fault(self.shown(&meta.location)),
        };
        let why = format!(
            "{} is damaged: {why}; put a copy of it there; days that the database still has, daily_sync archives again",
            self.shown(&meta.location)
        );
        sound().remove(&file);
        self.damaged.note(file, known(meta), &why);
        Err(TierError::Broken { tier: TIER, why })
    }

    /// The sum of a file's bytes.
    async fn sum(&self, path: &Path) -> object_store::Result<u32> {
        let bytes = self.store.get(path).await?.into_stream();
        let add = |crc, bytes: Bytes| {
            alive();
            std::future::ready(Ok(crc32c::crc32c_append(crc, &bytes)))
        };
        bytes.try_fold(0, add).await
    }

    /// Forgets what it knows of files that are gone.
    pub(super) fn forget(&self, picture: &Picture) {
        self.sound.lock().unwrap_or_else(PoisonError::into_inner).retain(|file, _| picture.has(file));
    }

    /// A file as people find it.
    pub(super) fn shown(&self, path: &Path) -> String {
        match &self.place {
            Place::Folder(folder) => folder.join(path.as_ref()).display().to_string(),
            Place::Store { address, .. } => format!("{}/{path}", address.trim_end_matches('/')),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Store { address, .. } => f.write_str(address),
        }
    }
}

fn is_gone(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. })
}

/// Brings a file's bytes, or a folder's names, to the disk.
async fn sync(path: PathBuf) -> Result<(), TierError> {
    let shown = path.display().to_string();
    let synced = tokio::task::spawn_blocking(move || File::open(path)?.sync_all()).await;
    synced.map_err(std::io::Error::other).flatten().fault(shown)
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
    /// It was told to end, well or not.
    ended: bool,
}

impl Summed {
    /// Takes back what was sent: a store keeps, and charges for, the parts of what was begun and never ended.
    pub(super) async fn abort(mut self) {
        if !self.ended
            && let Err(error) = self.writer.abort().await
        {
            tracing::debug!(%error, "the parts of a file that was not ended are still there");
        }
    }
}

impl AsyncFileWriter for Summed {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, ParquetResult<()>> {
        self.crc = crc32c::crc32c_append(self.crc, &bytes);
        Box::pin(async move { self.writer.put(bytes).await.map_err(|e| ParquetError::External(Box::new(e))) })
    }

    fn complete(&mut self) -> BoxFuture<'_, ParquetResult<()>> {
        self.ended = true;
        Box::pin(async move { self.writer.shutdown().await.map_err(|e| ParquetError::External(Box::new(e))) })
    }
}
