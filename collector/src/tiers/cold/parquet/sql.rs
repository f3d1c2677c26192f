//! The archive as a table for SQL: which files are opened at all, and how they are read.
//!
//! A file that a question's times can't touch is not opened; of one that is, DataFusion reads the row groups and pages
//! that their statistics don't rule out. Rows of days that a later version of another file holds are left out.

use super::TIER;
use super::names::{FileName, Holding, Picture};
use super::reader::FileReader;
use super::shelf::Shelf;
use super::table::{self, TS};
use crate::tiers::cold::lost::words;
use crate::tiers::{Day, TierError};
use arrow_array::{ArrayRef, BooleanArray, TimestampMicrosecondArray};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, DataFusionError, Result, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfigBuilder, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::{TableProvider, TableType};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, col, lit};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::union::UnionExec;
use futures::future::BoxFuture;
use object_store::{ObjectMeta, ObjectStore};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ParquetMetaData;
use shared::reading::Timestamp;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// What the archive is called among DataFusion's stores.
pub const STORE_URL: &str = "archive://files";

/// The archive as it was at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    shelf: Arc<Shelf>,
    picture: Arc<Picture>,
    /// Days that it should hold and doesn't.
    missing: Arc<[Day]>,
}

impl Snapshot {
    pub(super) fn new(shelf: Arc<Shelf>, picture: Picture) -> Self {
        Self { shelf, picture: Arc::new(picture), missing: Arc::default() }
    }

    /// Of days that should be there, those that aren't are told to whoever asks for them.
    #[must_use]
    pub fn with(self, expected: &[Day]) -> Self {
        let there: HashSet<Day> = self.picture.days(Day::FIRST, Day::LAST.next()).collect();
        Self { missing: expected.iter().filter(|day| !there.contains(day)).copied().collect(), ..self }
    }

    /// The last day it holds.
    #[must_use]
    pub fn last(&self) -> Option<Day> {
        self.picture.days(Day::FIRST, Day::LAST.next()).next_back()
    }

    /// Where its files are read from; to be known as [`STORE_URL`].
    #[must_use]
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.shelf.store.clone()
    }

    /// Whether all of its files are still there.
    ///
    /// # Errors
    /// When that can't be looked up.
    pub async fn stands(&self) -> std::result::Result<bool, TierError> {
        let now = self.shelf.picture().await?;
        Ok(self.picture.files().all(|(file, _)| now.has(file)))
    }

    /// Holdings, read together.
    fn files(
        &self,
        state: &dyn Session,
        holdings: &[Holding],
        predicate: Option<&Arc<dyn PhysicalExpr>>,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut source = ParquetSource::new(table::SCHEMA.clone())
            .with_parquet_file_reader_factory(Arc::new(Opener { shelf: self.shelf.clone() }))
            .with_enable_page_index(true)
            .with_pushdown_filters(true);
        if let Some(predicate) = predicate {
            source = source.with_predicate(predicate.clone());
        }
        let files = holdings.iter().map(|holding| PartitionedFile::new_from_meta(holding.meta.clone())).collect();
        let groups = FileGroup::new(files).split_files(state.config().target_partitions());
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::parse(STORE_URL)?, Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    /// A file of which some days don't count.
    fn part(
        &self,
        state: &dyn Session,
        holding: &Holding,
        predicate: Option<&Arc<dyn PhysicalExpr>>,
        projection: Option<&Vec<usize>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = table::SCHEMA.fields().len();
        let mut wanted = projection.cloned().unwrap_or_else(|| (0..columns).collect());
        let asked = wanted.len();
        let ts = wanted.iter().position(|column| *column == TS).unwrap_or(asked);
        if ts == asked {
            wanted.push(TS);
        }
        let schema = Arc::new(table::SCHEMA.project(&wanted)?);
        let moment = |at: Timestamp| lit(ScalarValue::TimestampMicrosecond(Some(at.0), Some("UTC".into())));
        let within =
            col("ts").gt_eq(moment(holding.days.start.start())).and(col("ts").lt(moment(holding.days.end.start())));
        let within = state.create_physical_expr(within, &DFSchema::try_from(schema)?)?;
        let rows = self.files(state, std::slice::from_ref(holding), predicate, Some(&wanted), None)?;
        let without_ts = (wanted.len() > asked).then(|| (0..asked).collect());
        Ok(Arc::new(FilterExecBuilder::new(within, rows).apply_projection(without_ts)?.build()?))
    }
}

#[async_trait]
impl TableProvider for Snapshot {
    fn schema(&self) -> arrow_schema::SchemaRef {
        table::SCHEMA.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = DFSchema::try_from(table::SCHEMA.clone())?;
        let predicate =
            conjunction(filters.to_vec()).map(|all| state.create_physical_expr(all, &schema)).transpose()?;
        let predicate = predicate.as_ref();
        let missing = touched(self.missing.to_vec(), |day| *day..day.next(), predicate)?;
        if !missing.is_empty() {
            let why = words(&self.shelf.place.to_string(), &missing);
            return Err(DataFusionError::External(Box::new(TierError::Unavailable { tier: TIER, why })));
        }
        let touched = touched(self.picture.holdings(), |holding| holding.days.clone(), predicate)?;
        let (whole, parts): (Vec<_>, Vec<_>) = touched.into_iter().partition(|holding| holding.whole);
        let mut inputs = Vec::new();
        if !whole.is_empty() {
            inputs.push(self.files(state, &whole, predicate, projection, limit)?);
        }
        for part in &parts {
            inputs.push(self.part(state, part, predicate, projection)?);
        }
        if inputs.is_empty() {
            let columns =
                projection.map_or_else(|| Ok(self.schema()), |some| self.schema().project(some).map(Arc::new))?;
            return Ok(Arc::new(EmptyExec::new(columns)));
        }
        UnionExec::try_new(inputs)
    }
}

/// Those that may have what is asked for, by their days.
fn touched<T>(
    all: Vec<T>,
    days: impl Fn(&T) -> Range<Day>,
    predicate: Option<&Arc<dyn PhysicalExpr>>,
) -> Result<Vec<T>> {
    let Some(predicate) = predicate else { return Ok(all) };
    let days: Vec<_> = all.iter().map(days).collect();
    let pruning =
        PruningPredicateBuilder::new().with_file_schema(table::SCHEMA.clone()).try_build(predicate.clone())?;
    let may = pruning.prune(&Days(days))?;
    Ok(all.into_iter().zip(may).filter_map(|(one, may)| may.then_some(one)).collect())
}

/// The days of each file, as DataFusion asks for them.
struct Days(Vec<Range<Day>>);

impl Days {
    fn of(&self, column: &Column, moment: impl Fn(&Range<Day>) -> Timestamp) -> Option<ArrayRef> {
        let moments = TimestampMicrosecondArray::from_iter_values(self.0.iter().map(|days| moment(days).0));
        (column.name == "ts").then(|| Arc::new(moments.with_timezone("UTC")) as ArrayRef)
    }
}

impl PruningStatistics for Days {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column, |days| days.start.start())
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column, |days| days.end.start().plus_micros(-1))
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, _column: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// Opens files whose bytes were found sound.
#[derive(Debug)]
struct Opener {
    shelf: Arc<Shelf>,
}

impl ParquetFileReaderFactory for Opener {
    fn create_reader(
        &self,
        _partition: usize,
        file: PartitionedFile,
        _footer_bytes: Option<usize>,
        _metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let meta = file.object_meta;
        let foreign = || DataFusionError::Execution(format!("{} is no file of the archive", meta.location));
        let name = FileName::parse(&meta.location).ok_or_else(foreign)?;
        let reader = FileReader { store: self.shelf.store.clone(), path: meta.location.clone(), bytes: meta.size };
        Ok(Box::new(Sound { shelf: self.shelf.clone(), name, meta, reader }))
    }
}

/// Reads nothing of a file before all of it was found sound.
struct Sound {
    shelf: Arc<Shelf>,
    name: FileName,
    meta: ObjectMeta,
    reader: FileReader,
}

impl Sound {
    async fn check(&self) -> ParquetResult<()> {
        self.shelf.check(self.name, &self.meta).await.map_err(|error| ParquetError::External(Box::new(error)))
    }
}

impl AsyncFileReader for Sound {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        Box::pin(async move {
            self.check().await?;
            self.reader.get_bytes(range).await
        })
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        Box::pin(async move {
            self.check().await?;
            self.reader.get_byte_ranges(ranges).await
        })
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        Box::pin(async move {
            self.check().await?;
            self.reader.get_metadata(options).await
        })
    }
}
