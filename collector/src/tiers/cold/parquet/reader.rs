//! A file of the store, as the Parquet reader wants it.

use crate::tiers::cold::guarded::alive;
use bytes::Bytes;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use std::ops::Range;
use std::sync::Arc;

/// Reads parts of one file.
#[derive(Clone)]
pub(super) struct FileReader {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) path: Path,
    pub(super) bytes: u64,
}

async fn came<T>(read: impl Future<Output = object_store::Result<T>>) -> Result<T> {
    let bytes = read.await.map_err(|error| ParquetError::External(Box::new(error)))?;
    alive();
    Ok(bytes)
}

impl AsyncFileReader for FileReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        Box::pin(came(self.store.get_range(&self.path, range)))
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        Box::pin(async move { came(self.store.get_ranges(&self.path, &ranges)).await })
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        Box::pin(async move {
            let bytes = self.bytes;
            let footer = ParquetMetaDataReader::new().with_arrow_reader_options(options);
            Ok(Arc::new(footer.load_and_finish(self, bytes).await?))
        })
    }
}
