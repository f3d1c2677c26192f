//! A day's rows as Parquet, in parts small enough for one upload each.

use super::TIER;
use crate::tiers::cold::rows::{name_hash, row_hash};
use crate::tiers::{Run, StoredReading, TierError};
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterVersion};
use std::iter::repeat_n;
use std::sync::{Arc, LazyLock};

/// What Google's own clients send in one piece.
const BYTES: usize = 5 << 20;
/// Most parts: a statement may name a thousand tables.
pub(super) const MOST: usize = 900;
/// Rows that are encoded at once.
const BATCH_ROWS: usize = 8 * 1024;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let kind = |name: &str| match name {
        "node" | "metric" | "channel" => DataType::Utf8,
        "ts" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "value" => DataType::Float64,
        _ => DataType::Int64,
    };
    let columns = super::table::COLUMNS.split(", ");
    Arc::new(Schema::new(columns.map(|name| Field::new(name, kind(name), name == "value")).collect::<Vec<_>>()))
});

/// Rows become parts.
pub(super) struct Parts {
    writer: Option<ArrowWriter<Vec<u8>>>,
    bytes_max: usize,
}

impl Parts {
    pub(super) fn new() -> Self {
        Self { writer: None, bytes_max: BYTES }
    }

    /// Takes readings of a run; gives the parts that are full.
    pub(super) fn add(&mut self, run: &Run) -> Result<Vec<Vec<u8>>, TierError> {
        let mut full = Vec::new();
        for some in run.readings.chunks(BATCH_ROWS) {
            full.extend(self.write(run, some).map_err(failed)?);
        }
        Ok(full)
    }

    fn write(&mut self, run: &Run, some: &[StoredReading]) -> Result<Option<Vec<u8>>, ParquetError> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(ArrowWriter::try_new(Vec::new(), SCHEMA.clone(), Some(properties()))?),
        };
        writer.write(&batch_of(run, some)?)?;
        if writer.bytes_written() + writer.in_progress_size() < self.bytes_max {
            return Ok(None);
        }
        self.writer.take().map(ArrowWriter::into_inner).transpose()
    }

    /// The last part, when there are rows in it.
    pub(super) fn rest(&mut self) -> Result<Option<Vec<u8>>, TierError> {
        self.writer.take().map(ArrowWriter::into_inner).transpose().map_err(failed)
    }
}

fn failed(error: ParquetError) -> TierError {
    TierError::Broken { tier: TIER, why: format!("rows can't be written as Parquet: {error}") }
}

/// Nothing that only newer readers know.
fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(concat!("collector ", env!("CARGO_PKG_VERSION")).into())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build()
}

fn batch_of(run: &Run, rows: &[StoredReading]) -> Result<RecordBatch, ParquetError> {
    let name = name_hash(run.series, &run.key);
    let number = |of: &dyn Fn(&StoredReading) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(of)))
    };
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(repeat_n(text, rows.len()))) };
    let columns = vec![
        number(&|_| run.series.0.into()),
        text(run.key.node.as_str()),
        text(&run.key.metric),
        text(&run.key.channel),
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|r| r.at.0)).with_timezone("UTC")),
        Arc::new(rows.iter().map(|r| r.held.value).collect::<Float64Array>()),
        number(&|r| r.held.quality.0.into()),
        number(&|r| r.held.revision.into()),
        number(&|r| row_hash(name, r.at, &r.held).cast_signed()),
    ];
    Ok(RecordBatch::try_new(SCHEMA.clone(), columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiers::{SeriesId, SeriesKey};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use shared::ids::NodeId;
    use shared::reading::{Held, Quality, Timestamp};

    #[test]
    fn a_long_day_becomes_parts_that_have_all_of_it_once() {
        let series = SeriesId(7);
        let key = SeriesKey { node: NodeId::new("N").unwrap(), metric: "flow".into(), channel: String::new() };
        let reading = |n: i64| StoredReading {
            series,
            at: Timestamp(n),
            held: Held { value: Some((n as f64).sin()), quality: Quality::GOOD, revision: 0 },
        };
        let run = Run { series, key: Arc::new(key), readings: (0..100_000).map(reading).collect() };
        let mut parts = Parts { bytes_max: 200_000, ..Parts::new() };
        let mut all = parts.add(&run).unwrap();
        all.extend(parts.rest().unwrap());
        assert_eq!(parts.rest().unwrap(), None);
        assert!(all.len() > 5 && all.iter().all(|part| part.len() < 800_000), "{:?}", all.iter().map(Vec::len));
        let mut at = Vec::new();
        for part in all {
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(part)).unwrap().build().unwrap();
            for batch in reader {
                use arrow_array::cast::AsArray;
                let batch = batch.unwrap();
                let ts = batch.column_by_name("ts").unwrap();
                at.extend_from_slice(ts.as_primitive::<arrow_array::types::TimestampMicrosecondType>().values());
            }
        }
        assert_eq!(at, (0..100_000).collect::<Vec<i64>>());
    }
}
