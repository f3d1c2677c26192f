//! Rows as BigQuery answers them: cells of text.

use super::TIER;
use crate::tiers::cold::rows::{name_hash, row_hash};
use crate::tiers::{Proof, Run, SeriesId, SeriesKey, StoredReading, TierError};
use gcp_bigquery_client::model::table_row::TableRow;
use shared::ids::NodeId;
use shared::reading::{Held, Quality, Timestamp};
use std::str::FromStr;
use std::sync::Arc;

/// An answer that isn't what was asked for.
fn foreign(what: &str) -> TierError {
    TierError::Broken { tier: TIER, why: format!("column {what} is not as it was written") }
}

/// The cell's text; `None` for NULL.
fn cell<'a>(row: &'a TableRow, index: usize, what: &str) -> Result<Option<&'a str>, TierError> {
    match row.columns.as_ref().and_then(|cells| cells.get(index)).map(|cell| &cell.value) {
        Some(None | Some(serde_json::Value::Null)) => Ok(None),
        Some(Some(serde_json::Value::String(text))) => Ok(Some(text)),
        _ => Err(foreign(what)),
    }
}

pub(super) fn text<'a>(row: &'a TableRow, index: usize, what: &str) -> Result<&'a str, TierError> {
    cell(row, index, what)?.ok_or_else(|| foreign(what))
}

pub(super) fn number<T: FromStr>(row: &TableRow, index: usize, what: &str) -> Result<T, TierError> {
    text(row, index, what)?.parse().map_err(|_| foreign(what))
}

/// A reading of which the first of five columns are the series and, `gap` columns later, the rest.
fn reading_after(row: &TableRow, gap: usize) -> Result<StoredReading, TierError> {
    let value = cell(row, gap + 2, "value")?.map(|text| text.parse().map_err(|_| foreign("value"))).transpose()?;
    Ok(StoredReading {
        series: SeriesId(number(row, 0, "series")?),
        at: Timestamp(number(row, gap + 1, "ts")?),
        held: Held {
            value,
            quality: Quality(number(row, gap + 3, "quality")?),
            revision: number(row, gap + 4, "revision")?,
        },
    })
}

/// A reading without names.
pub(super) fn reading(row: &TableRow) -> Result<StoredReading, TierError> {
    reading_after(row, 0)
}

/// The runs of rows with all columns, each found to be what was written. `last` is the name that came last, so that
/// names are made once a series.
pub(super) fn runs(
    rows: &[TableRow],
    last: &mut Option<(Arc<SeriesKey>, SeriesId, u64)>,
) -> Result<Vec<Run>, TierError> {
    let mut runs: Vec<Run> = Vec::new();
    for row in rows {
        let reading = reading_after(row, 3)?;
        let (node, metric, channel) = (text(row, 1, "node")?, text(row, 2, "metric")?, text(row, 3, "channel")?);
        let same = |key: &SeriesKey| key.node.as_str() == node && key.metric == metric && key.channel == channel;
        let (key, name) = match last {
            Some((key, series, name)) if *series == reading.series && same(key) => (key.clone(), *name),
            _ => {
                let node = NodeId::new(node).map_err(|_| foreign("node"))?;
                let key = Arc::new(SeriesKey { node, metric: metric.to_owned(), channel: channel.to_owned() });
                let name = name_hash(reading.series, &key);
                *last = Some((key.clone(), reading.series, name));
                (key, name)
            }
        };
        if row_hash(name, reading.at, &reading.held) != number::<i64>(row, 8, "row_hash")?.cast_unsigned() {
            return Err(altered(&reading, &key));
        }
        match runs.last_mut() {
            Some(run) if run.series == reading.series && run.key == key => run.readings.push(reading),
            _ => runs.push(Run { series: reading.series, key, readings: vec![reading] }),
        }
    }
    Ok(runs)
}

fn altered(reading: &StoredReading, key: &SeriesKey) -> TierError {
    let why = format!(
        "the row of series {} ({key}) at {} is not as it was written: its row_hash says so; BigQuery has the table as it \
         was up to seven days ago (FOR SYSTEM_TIME AS OF)",
        reading.series, reading.at
    );
    TierError::Broken { tier: TIER, why }
}

/// What [`super::sql::day_proof`] found.
pub(super) fn proof(rows: &[TableRow]) -> Result<Proof, TierError> {
    let row = rows.first().ok_or_else(|| foreign("row_hash"))?;
    let xor: Option<i64> =
        cell(row, 1, "row_hash")?.map(|text| text.parse().map_err(|_| foreign("row_hash"))).transpose()?;
    Ok(Proof { rows: number(row, 0, "row_hash")?, xor: xor.unwrap_or(0).cast_unsigned() })
}
