//! `[cold]`: where the archive lies.

use super::parquet::ParquetCold;
use crate::tiers::TierError;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `[cold]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColdSettings {
    /// The folder of the archive's files; default `<data_dir>/cold`.
    pub folder: Option<PathBuf>,
}

impl ColdSettings {
    /// Opens the archive; without a word on where it lies, in `folder`.
    ///
    /// # Errors
    /// When the folder can't be made.
    pub fn open(&self, folder: &Path) -> Result<Arc<ParquetCold>, TierError> {
        Ok(Arc::new(ParquetCold::in_folder(self.folder.as_deref().unwrap_or(folder))?))
    }
}
