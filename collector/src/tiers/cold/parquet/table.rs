//! The shape of the files: columns, how they are encoded, and rows to and from batches.
//!
//! Sorted by series and time, so that `series` and the names are runs, `ts` is a constant step, and a value is close
//! to the one before. Measured on L-Town's flows and levels (5 min, two decimals) and on a random walk at 10 s: 1.1 to
//! 1.7 bytes per reading with a dictionary for values under zstd; 3 to 4 with BYTE_STREAM_SPLIT, which is what a
//! column falls back to when it has too many different values for a dictionary.

use super::TIER;
use crate::tiers::{Run, SeriesId, SeriesKey, StoredReading, TierError};
use arrow_array::builder::StringViewBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, TimestampMicrosecondType, UInt8Type, UInt32Type};
use arrow_array::{Array, ArrayRef, Float64Array, RecordBatch, TimestampMicrosecondArray, UInt8Array, UInt32Array};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::schema::types::ColumnPath;
use shared::ids::NodeId;
use shared::reading::{Held, Quality, Timestamp};
use std::sync::{Arc, LazyLock};

/// Rows of a row group: what a writer keeps in memory, and what a dictionary of values serves.
const GROUP_ROWS: usize = 256 * 1024;
/// Rows of a page: what a reader has to decode for one reading.
const PAGE_ROWS: usize = 8 * 1024;
/// A dictionary of values larger than that is worth nothing.
const DICTIONARY_BYTES: usize = 2 << 20;

/// Where the series' number stands among the columns.
pub(super) const SERIES: usize = 0;
/// Where the moment stands.
pub(super) const TS: usize = 4;
/// The columns of a reading, without its names.
pub(super) const READING: [usize; 5] = [SERIES, TS, 5, 6, 7];

/// The columns, as analysts see them.
pub(super) static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let column = |name, kind| Field::new(name, kind, false);
    Arc::new(Schema::new(vec![
        column("series", DataType::UInt32),
        column("node", DataType::Utf8View),
        column("metric", DataType::Utf8View),
        column("channel", DataType::Utf8View),
        column("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        Field::new("value", DataType::Float64, true),
        column("quality", DataType::UInt8),
        column("revision", DataType::UInt32),
    ]))
});

/// How files are written.
pub(super) fn properties() -> WriterProperties {
    let by = |index| SortingColumn { column_idx: index, descending: false, nulls_first: false };
    let delta = |builder: WriterPropertiesBuilder, name: &str| {
        let column = ColumnPath::from(name);
        builder
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED)
    };
    let builder = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_created_by(concat!("collector ", env!("CARGO_PKG_VERSION")).into())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(1024)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_sorting_columns(Some(vec![by(SERIES as i32), by(TS as i32)]))
        .set_column_encoding(ColumnPath::from("value"), Encoding::BYTE_STREAM_SPLIT);
    delta(delta(builder, "series"), "ts").build()
}

/// A run as a batch.
pub(super) fn batch_of(run: &Run) -> Result<RecordBatch, ArrowError> {
    let rows = &run.readings;
    let name = |text: &str| -> Result<ArrayRef, ArrowError> {
        let mut column = StringViewBuilder::with_capacity(rows.len());
        let block = column.append_block(text.as_bytes().into());
        for _ in rows {
            column.try_append_view(block, 0, text.len() as u32)?;
        }
        Ok(Arc::new(column.finish()))
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from_value(run.series.0, rows.len())),
        name(run.key.node.as_str())?,
        name(&run.key.metric)?,
        name(&run.key.channel)?,
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|r| r.at.0)).with_timezone("UTC")),
        Arc::new(rows.iter().map(|r| r.held.value).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|r| r.held.quality.0).collect::<UInt8Array>()),
        Arc::new(rows.iter().map(|r| r.held.revision).collect::<UInt32Array>()),
    ];
    RecordBatch::try_new(SCHEMA.clone(), columns)
}

/// A file that isn't ours, or not of this version.
fn foreign(what: &str) -> TierError {
    TierError::Broken { tier: TIER, why: format!("column {what} is not as it was written") }
}

/// The readings of a batch that has the columns [`READING`], or all.
pub(super) fn readings(batch: &RecordBatch) -> Result<Vec<StoredReading>, TierError> {
    let column = |name: &'static str| batch.column_by_name(name).ok_or_else(|| foreign(name));
    let series = column("series")?.as_primitive_opt::<UInt32Type>().ok_or_else(|| foreign("series"))?;
    let at = column("ts")?.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| foreign("ts"))?;
    let value = column("value")?.as_primitive_opt::<Float64Type>().ok_or_else(|| foreign("value"))?;
    let quality = column("quality")?.as_primitive_opt::<UInt8Type>().ok_or_else(|| foreign("quality"))?;
    let revision = column("revision")?.as_primitive_opt::<UInt32Type>().ok_or_else(|| foreign("revision"))?;
    let row = |n: usize| StoredReading {
        series: SeriesId(series.value(n)),
        at: Timestamp(at.value(n)),
        held: Held {
            value: value.is_valid(n).then(|| value.value(n)),
            quality: Quality(quality.value(n)),
            revision: revision.value(n),
        },
    };
    Ok((0..batch.num_rows()).map(row).collect())
}

/// The runs of a batch that has all columns. `last` is the name that came last, so that names are made once a series.
pub(super) fn runs(batch: &RecordBatch, last: &mut Option<(SeriesId, Arc<SeriesKey>)>) -> Result<Vec<Run>, TierError> {
    let readings = readings(batch)?;
    let name = |what: &'static str| {
        batch.column_by_name(what).and_then(|c| c.as_string_view_opt()).ok_or_else(|| foreign(what))
    };
    let (node, metric, channel) = (name("node")?, name("metric")?, name("channel")?);
    let mut runs = Vec::new();
    let mut begins = 0;
    for within in readings.chunk_by(|a, b| a.series == b.series) {
        let series = within[0].series;
        // A file that claims two names for one number must not be proved right.
        let same = |key: &SeriesKey, n: usize| {
            node.value(n) == key.node.as_str() && metric.value(n) == key.metric && channel.value(n) == key.channel
        };
        let key = match last {
            Some((number, key)) if *number == series => key.clone(),
            _ => Arc::new(SeriesKey {
                node: NodeId::new(node.value(begins)).map_err(|_| foreign("node"))?,
                metric: metric.value(begins).to_owned(),
                channel: channel.value(begins).to_owned(),
            }),
        };
        // Views of a batch that are alike stand for the same text, and nearly all are.
        let like_first = |n: usize| [node, metric, channel].iter().all(|name| name.views()[n] == name.views()[begins]);
        if !same(&key, begins) || !(begins..begins + within.len()).all(|n| like_first(n) || same(&key, n)) {
            return Err(foreign("node, metric or channel"));
        }
        *last = Some((series, key.clone()));
        runs.push(Run { series, key, readings: within.to_vec() });
        begins += within.len();
    }
    Ok(runs)
}
