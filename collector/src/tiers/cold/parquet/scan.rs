//! Reading files. Of a file that has one series among thousands its footer is read, which says what each page holds at
//! most, and then only the pages that may hold its readings.

use super::footers::Footers;
use super::names::{Picture, Piece};
use super::reader::FileReader;
use super::shelf::{Shelf, known};
use super::table::{self, READING, SERIES, TS};
use super::{Fault, TIER};
use crate::tiers::{Day, Proof, Runs, SeriesId, StoredReading, TierError};
use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMicrosecondType, UInt32Type};
use arrow_array::{BooleanArray, RecordBatch};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryFutureExt, TryStreamExt};
use object_store::ObjectMeta;
use parquet::arrow::arrow_reader::{
    ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, RowFilter, RowSelection, RowSelector,
};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, RowGroupMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::statistics::Statistics;
use shared::reading::Timestamp;
use std::num::NonZeroUsize;
use std::sync::Arc;
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

/// Files that are opened ahead of the one that is read.
const AHEAD: usize = 4;
/// Rows that are decoded at once.
const BATCH_ROWS: usize = 8 * 1024;

type Batches = BoxStream<'static, Result<RecordBatch, TierError>>;

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) series: Option<SeriesId>,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

impl Wanted {
    pub(super) fn day(day: Day) -> Self {
        Self { series: None, from: day.start(), to: day.end() }
    }

    fn takes(&self, series: u32, at: i64) -> bool {
        self.series.is_none_or(|SeriesId(wanted)| wanted == series) && self.from.0 <= at && at < self.to.0
    }

    /// Whether a row group may have some of it, as far as its statistics tell.
    fn may_be_in(&self, group: &RowGroupMetaData) -> bool {
        let series = match group.column(SERIES).statistics() {
            Some(Statistics::Int32(known)) => known.min_opt().zip(known.max_opt()),
            _ => None,
        };
        let at = match group.column(TS).statistics() {
            Some(Statistics::Int64(known)) => known.min_opt().zip(known.max_opt()),
            _ => None,
        };
        series.is_none_or(|(min, max)| self.series_within(*min, *max))
            && at.is_none_or(|(min, max)| self.time_within(*min, *max))
    }

    /// Parquet keeps 32 bits without a sign in a signed type, and orders them without.
    fn series_within(&self, min: i32, max: i32) -> bool {
        self.series.is_none_or(|SeriesId(wanted)| min as u32 <= wanted && wanted <= max as u32)
    }

    fn time_within(&self, min: i64, max: i64) -> bool {
        min < self.to.0 && self.from.0 <= max
    }

    /// Which rows of a row group are on pages that may have some of it; all when the file doesn't say.
    fn rows(&self, file: &ParquetMetaData, group: usize) -> RowSelection {
        let count = file.row_group(group).num_rows() as usize;
        let on_pages = |column: usize| {
            let index = file.column_index()?.get(group)?.get(column)?;
            let pages = file.offset_index()?.get(group)?.get(column)?.page_locations();
            let takes = |n: &usize| match index {
                ColumnIndexMetaData::INT32(of) => {
                    of.min_value(*n).zip(of.max_value(*n)).is_none_or(|(min, max)| self.series_within(*min, *max))
                }
                ColumnIndexMetaData::INT64(of) => {
                    of.min_value(*n).zip(of.max_value(*n)).is_none_or(|(min, max)| self.time_within(*min, *max))
                }
                _ => true,
            };
            let begins = |n: usize| pages.get(n).map_or(count, |page| page.first_row_index as usize);
            let taken = (0..pages.len()).filter(takes).map(|n| begins(n)..begins(n + 1));
            Some(RowSelection::from_consecutive_ranges(taken, count))
        };
        let all = || RowSelection::from(vec![RowSelector::select(count)]);
        on_pages(SERIES).unwrap_or_else(all).intersection(&on_pages(TS).unwrap_or_else(all))
    }

    /// Which rows of a batch with the columns of series and time.
    fn among(&self, batch: &RecordBatch) -> Option<BooleanArray> {
        let series = batch.column_by_name("series")?.as_primitive_opt::<UInt32Type>()?;
        let at = batch.column_by_name("ts")?.as_primitive_opt::<TimestampMicrosecondType>()?;
        Some((0..series.len()).map(|n| Some(self.takes(series.value(n), at.value(n)))).collect())
    }
}

/// Reads the files of a shelf.
#[derive(Clone)]
pub(super) struct Scanner {
    pub(super) shelf: Arc<Shelf>,
    footers: Arc<Footers>,
}

/// A file whose footer was read.
#[derive(Clone)]
struct Opened {
    reader: FileReader,
    footer: ArrowReaderMetadata,
    /// As people find it.
    shown: String,
}

impl Opened {
    fn builder(self) -> ParquetRecordBatchStreamBuilder<FileReader> {
        ParquetRecordBatchStreamBuilder::new_with_metadata(self.reader, self.footer).with_batch_size(BATCH_ROWS)
    }

    /// What is wanted of it, in the order of the file.
    fn batches(self, wanted: Option<Wanted>, columns: Option<&[usize]>) -> Result<Batches, TierError> {
        let what = self.shown.clone();
        let mut reader = self.builder();
        if let Some(columns) = columns {
            let mask = ProjectionMask::leaves(reader.parquet_schema(), columns.iter().copied());
            reader = reader.with_projection(mask);
        }
        if let Some(wanted) = wanted {
            let metadata = reader.metadata().clone();
            let groups = metadata.row_groups().iter().enumerate().filter(|(_, group)| wanted.may_be_in(group));
            let rows = groups.map(|(n, _)| (n, wanted.rows(&metadata, n))).filter(|(_, rows)| rows.selects_any());
            let (groups, rows): (Vec<usize>, Vec<RowSelection>) = rows.unzip();
            let rows: Vec<RowSelector> = rows.into_iter().flat_map(Vec::from).collect();
            let mask = ProjectionMask::leaves(reader.parquet_schema(), [SERIES, TS]);
            let takes = ArrowPredicateFn::new(mask, move |batch| {
                wanted.among(&batch).ok_or_else(|| {
                    arrow_schema::ArrowError::SchemaError("series or ts is not as it was written".into())
                })
            });
            reader = reader.with_row_groups(groups).with_row_selection(rows.into());
            reader = reader.with_row_filter(RowFilter::new(vec![Box::new(takes)]));
        }
        let batches = reader.build().fault(&what)?;
        Ok(batches.map(move |batch| batch.fault(&what)).boxed())
    }

    /// Of the rows of a row group.
    async fn proof(self, group: usize) -> Result<Proof, TierError> {
        let what = self.shown.clone();
        let mut batches = self.builder().with_row_groups(vec![group]).build().fault(&what)?;
        let (mut proof, mut last) = (Proof::default(), None);
        while let Some(batch) = batches.try_next().await.fault(&what)? {
            table::runs(&batch, &mut last)?.iter().for_each(|run| proof.add(run));
        }
        Ok(proof)
    }
}

impl Scanner {
    pub(super) fn new(shelf: Shelf) -> Self {
        Self { shelf: Arc::new(shelf), footers: Arc::default() }
    }

    fn reader(&self, file: &ObjectMeta) -> FileReader {
        FileReader { store: self.shelf.store.clone(), path: file.location.clone(), bytes: file.size }
    }

    /// Its footer is read anew, for a proof or another look at everything.
    async fn open(&self, file: &ObjectMeta) -> Result<Opened, TierError> {
        let (mut reader, shown) = (self.reader(file), self.shelf.shown(&file.location));
        let options = ArrowReaderOptions::new()
            .with_schema(table::SCHEMA.clone())
            .with_page_index_policy(PageIndexPolicy::Optional);
        let footer = ArrowReaderMetadata::load_async(&mut reader, options).await.fault(&shown)?;
        Ok(Opened { reader, footer, shown })
    }

    /// The proof of all rows of a file, whose row groups are read side by side, as many as there are processors.
    pub(super) async fn proof(&self, file: ObjectMeta) -> Result<Proof, TierError> {
        let opened = self.open(&file).await?;
        let groups = 0..opened.footer.metadata().num_row_groups();
        let at_once = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let proofs = stream::iter(groups)
            .map(|group| AbortOnDropHandle::new(tokio::spawn(opened.clone().proof(group))))
            .buffer_unordered(at_once);
        let ended = |error: JoinError| TierError::Broken { tier: TIER, why: format!("{}: {error}", opened.shown) };
        let all = proofs.map(|proof| proof.map_err(ended).flatten());
        let joined = |mut all: Proof, one| {
            all.join(one);
            std::future::ready(Ok(all))
        };
        all.try_fold(Proof::default(), joined).await
    }

    /// What is broken in a file is said of the days that it was read for; it is noted.
    fn damage(&self, piece: &Piece) -> impl Fn(TierError) -> TierError + Clone + Send + use<> {
        let (shelf, file, days, known) = (self.shelf.clone(), piece.file, piece.days.clone(), known(&piece.meta));
        move |error| match error {
            TierError::Broken { tier, why } => {
                shelf.damaged.note(file, known.clone(), &why);
                TierError::Damaged { tier, days: days.clone(), why }
            }
            other => other,
        }
    }

    /// Readings of a file whose bytes are found sound first.
    async fn piece(self, piece: Piece, wanted: Wanted) -> Result<Batches, TierError> {
        self.shelf.check(piece.file, &piece.meta).await?;
        let opened = match self.footers.find(&piece.meta) {
            Some(footer) => {
                let shown = self.shelf.shown(&piece.meta.location);
                Opened { reader: self.reader(&piece.meta), footer, shown }
            }
            None => {
                let opened = self.open(&piece.meta).await?;
                self.footers.keep(&piece.meta, opened.footer.clone());
                opened
            }
        };
        let (from, to) = piece.within(wanted.from, wanted.to);
        opened.batches(Some(Wanted { from, to, ..wanted }), Some(&READING))
    }

    /// Readings, file by file in the order of time; within a file in the order it is sorted by.
    pub(super) fn readings(
        &self,
        pieces: Vec<Piece>,
        wanted: Wanted,
    ) -> BoxStream<'_, Result<Vec<StoredReading>, TierError>> {
        let opened = pieces.into_iter().map(move |piece| {
            let of_opening = self.damage(&piece);
            let of_rows = of_opening.clone();
            let batches = self.clone().piece(piece, wanted).map_err(of_opening);
            batches.map_ok(|batches| {
                let readings = batches.and_then(|batch| std::future::ready(table::readings(&batch)));
                readings.map_err(of_rows)
            })
        });
        Box::pin(stream::iter(opened).buffered(AHEAD).try_flatten())
    }

    /// All rows of a file; with `wanted`, those that it takes.
    pub(super) fn runs(&self, file: ObjectMeta, wanted: Option<Wanted>) -> Runs<'static> {
        let scanner = self.clone();
        let batches = stream::once(async move { scanner.open(&file).await?.batches(wanted, None) }).try_flatten();
        let mut last = None;
        let runs = batches.and_then(move |batch| std::future::ready(table::runs(&batch, &mut last)));
        Box::pin(runs.map_ok(|runs| stream::iter(runs.into_iter().map(Ok))).try_flatten())
    }

    /// The proof of a day that a file holds.
    pub(super) async fn day_proof(&self, piece: Piece) -> Result<Proof, TierError> {
        let damage = self.damage(&piece);
        let proof = async {
            self.shelf.check(piece.file, &piece.meta).await?;
            if piece.file.days().count() == 1 {
                return self.proof(piece.meta).await;
            }
            Proof::of(self.runs(piece.meta, Some(Wanted::day(piece.days.start)))).await
        };
        proof.await.map_err(damage)
    }

    /// All rows of a day.
    pub(super) fn day(&self, picture: &Picture, day: Day) -> Runs<'static> {
        let Some(piece) = picture.pieces(day, day.next()).pop() else { return Box::pin(stream::empty()) };
        let (scanner, damage) = (self.clone(), self.damage(&piece));
        let rows = async move {
            scanner.shelf.check(piece.file, &piece.meta).await?;
            Ok::<_, TierError>(scanner.runs(piece.meta, Some(Wanted::day(day))))
        };
        Box::pin(stream::once(rows).try_flatten().map_err(damage))
    }
}
