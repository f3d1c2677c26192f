//! What files say of themselves, where their row groups and pages lie and what these hold at most: kept for the next
//! question, since files never change.

use super::shelf::{Known, known};
use object_store::ObjectMeta;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most memory that they take: years of months, or some hundred days.
const BYTES_MAX: usize = 64 << 20;

#[derive(Default)]
pub(super) struct Footers(Mutex<Table>);

#[derive(Default)]
struct Table {
    footers: HashMap<Path, (Known, ArrowReaderMetadata)>,
    bytes: usize,
}

impl Footers {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// That of a file, if it is still as it was.
    pub(super) fn find(&self, file: &ObjectMeta) -> Option<ArrowReaderMetadata> {
        let table = self.lock();
        table
            .footers
            .get(&file.location)
            .filter(|(as_it_was, _)| *as_it_was == known(file))
            .map(|(_, kept)| kept.clone())
    }

    pub(super) fn keep(&self, file: &ObjectMeta, footer: ArrowReaderMetadata) {
        let (bytes, mut table) = (footer.metadata().memory_size(), self.lock());
        if table.bytes + bytes > BYTES_MAX {
            *table = Table::default(); // those that are asked for come again
        }
        table.bytes += bytes;
        if let Some((_, replaced)) = table.footers.insert(file.location.clone(), (known(file), footer)) {
            table.bytes = table.bytes.saturating_sub(replaced.metadata().memory_size());
        }
    }
}
