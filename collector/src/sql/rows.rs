//! Rows of an answer as JSON: numbers as numbers, moments as RFC 3339, what is neither as text.

use super::Answer;
use crate::tiers::Day;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch, new_empty_array};
use arrow_schema::{ArrowError, DataType, Schema, TimeUnit};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Value, json};
use shared::reading::Timestamp;

/// Names and kinds of columns: `number`, `text`, `time`, `boolean`, or what Arrow calls it.
#[must_use]
pub fn columns(schema: &Schema) -> Vec<Value> {
    let kind = |kind: &DataType| match kind {
        DataType::Boolean => "boolean".to_owned(),
        DataType::Timestamp(..) => "time".to_owned(),
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => "text".to_owned(),
        other if other.is_numeric() => "number".to_owned(),
        other => other.to_string(),
    };
    schema.fields().iter().map(|field| json!({ "name": field.name(), "type": kind(field.data_type()) })).collect()
}

/// Whether values of these columns can be shown: a zone that nobody knows is found only then.
///
/// # Errors
/// What can't be.
pub(super) fn can_be_shown(schema: &Schema) -> Result<(), ArrowError> {
    let options = FormatOptions::new();
    schema
        .fields()
        .iter()
        .try_for_each(|field| ArrayFormatter::try_new(&new_empty_array(field.data_type()), &options).map(drop))
}

/// The rows of a batch.
///
/// # Errors
/// When Arrow can't show a value.
pub fn rows(batch: &RecordBatch) -> Result<Vec<Vec<Value>>, ArrowError> {
    let mut rows = vec![Vec::with_capacity(batch.num_columns()); batch.num_rows()];
    for column in batch.columns() {
        let shown = FormatOptions::new();
        let words = ArrayFormatter::try_new(column, &shown)?;
        for (n, row) in rows.iter_mut().enumerate() {
            row.push(if column.is_null(n) { Value::Null } else { value(column, n, &words) });
        }
    }
    Ok(rows)
}

fn value(column: &dyn Array, n: usize, words: &ArrayFormatter<'_>) -> Value {
    match column.data_type() {
        DataType::Boolean => column.as_boolean().value(n).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(n).into(),
        DataType::Float32 => column.as_primitive::<Float32Type>().value(n).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(n).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(n).into(),
        DataType::Int16 => column.as_primitive::<Int16Type>().value(n).into(),
        DataType::Int8 => column.as_primitive::<Int8Type>().value(n).into(),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(n).into(),
        DataType::UInt32 => column.as_primitive::<UInt32Type>().value(n).into(),
        DataType::UInt16 => column.as_primitive::<UInt16Type>().value(n).into(),
        DataType::UInt8 => column.as_primitive::<UInt8Type>().value(n).into(),
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if &**zone == "UTC" => {
            Timestamp(column.as_primitive::<TimestampMicrosecondType>().value(n)).to_string().into()
        }
        _ => words.value(n).to_string().into(),
    }
}

/// An answer in JSON, piece by piece: `{"columns": […], "rows": […], "truncated": false, "archive_until": "2026-11-25",
/// "archive_behind": ["2026-11-20"]}`.
#[derive(Default)]
pub struct Json {
    begun: bool,
}

impl Json {
    /// What stands before the rows.
    #[must_use]
    pub fn head(schema: &Schema) -> String {
        format!("{{\"columns\":{},\"rows\":[", json!(columns(schema)))
    }

    /// Some rows, each on a line.
    ///
    /// # Errors
    /// When Arrow can't show a value.
    pub fn rows(&mut self, batch: &RecordBatch) -> Result<String, ArrowError> {
        let mut text = String::new();
        for row in rows(batch)? {
            text.push_str(if std::mem::replace(&mut self.begun, true) { ",\n" } else { "\n" });
            text.push_str(&json!(row).to_string());
        }
        Ok(text)
    }

    /// What stands after them.
    #[must_use]
    pub fn tail(answer: &Answer) -> String {
        let until = json!(answer.until.map(|day| day.to_string()));
        let behind = json!(answer.behind.iter().map(Day::to_string).collect::<Vec<_>>());
        let truncated = answer.truncated();
        format!("\n],\"truncated\":{truncated},\"archive_until\":{until},\"archive_behind\":{behind}}}\n")
    }
}
