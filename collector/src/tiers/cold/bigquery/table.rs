//! The tables: as they are made, and whether they still are so.
//!
//! * `readings`: a row is a reading, with names as well as numbers and the hash of it all; partitioned by UTC day,
//!   clustered by series. It can't be asked without saying which days.
//! * `readings_days`: which days are held, empty ones, too.
//! * `readings_new_…`: rows on their way in; they go by themselves after a day.

use super::settings::BigQuerySettings;
use gcp_bigquery_client::model::clustering::Clustering;
use gcp_bigquery_client::model::field_type::FieldType;
use gcp_bigquery_client::model::table::Table;
use gcp_bigquery_client::model::table_field_schema::TableFieldSchema;
use gcp_bigquery_client::model::table_schema::TableSchema;
use gcp_bigquery_client::model::time_partitioning::TimePartitioning;

/// The columns of a row.
pub(super) const COLUMNS: &str = "series, node, metric, channel, ts, value, quality, revision, row_hash";
/// Rows on their way in are of no use after that, milliseconds.
const STAGING_MS: i64 = 86_400_000;

fn column(name: &str, kind: FieldType) -> TableFieldSchema {
    let mode = if name == "value" { "NULLABLE" } else { "REQUIRED" };
    TableFieldSchema { mode: Some(mode.into()), ..TableFieldSchema::new(name, kind) }
}

/// The columns of readings.
pub(super) fn schema() -> TableSchema {
    let kind = |name: &str| match name {
        "node" | "metric" | "channel" => FieldType::String,
        "ts" => FieldType::Timestamp,
        "value" => FieldType::Float,
        _ => FieldType::Integer,
    };
    TableSchema::new(COLUMNS.split(", ").map(|name| column(name, kind(name))).collect())
}

/// The table of readings.
pub(super) fn readings(settings: &BigQuerySettings) -> Table {
    let table = Table::new(&settings.project, &settings.dataset, &settings.table, schema());
    Table {
        time_partitioning: Some(TimePartitioning::per_day().field("ts")),
        clustering: Some(Clustering { fields: Some(vec!["series".into()]) }),
        require_partition_filter: Some(true),
        description: Some("Whole UTC days of readings. Only the collector writes here.".into()),
        ..table
    }
}

/// The name of the table of days.
pub(super) fn days_name(settings: &BigQuerySettings) -> String {
    format!("{}_days", settings.table)
}

/// The table of days that are held.
pub(super) fn days(settings: &BigQuerySettings) -> Table {
    let schema = TableSchema::new(vec![column("day", FieldType::Date)]);
    let table = Table::new(&settings.project, &settings.dataset, &days_name(settings), schema);
    Table {
        description: Some("Which days the table of readings holds. Only the collector writes here.".into()),
        ..table
    }
}

/// A table for rows on their way in.
pub(super) fn staging(settings: &BigQuerySettings, name: &str, now_ms: i64) -> Table {
    let table = Table::new(&settings.project, &settings.dataset, name, schema());
    Table { expiration_time: Some((now_ms + STAGING_MS).to_string()), ..table }
}

/// What of a table isn't as it was made.
pub(super) fn altered(wanted: &Table, found: &Table) -> Option<String> {
    let columns = |table: &Table| -> Vec<String> {
        let fields = table.schema.fields().iter().flatten();
        // INT64 is another word for INTEGER, FLOAT64 for FLOAT.
        let kind = |field: &TableFieldSchema| format!("{:?}", field.r#type).replace("64", "").replace("Integer", "Int");
        let mut columns: Vec<_> = fields
            .map(|field| format!("{} {} {}", field.name, kind(field), field.mode.as_deref().unwrap_or("NULLABLE")))
            .collect();
        columns.sort();
        columns
    };
    let (ours, theirs) = (columns(wanted), columns(found));
    if let Some(column) = ours.iter().find(|column| !theirs.contains(column)) {
        return Some(format!("has no column {column} any more"));
    }
    if let Some(column) = theirs.iter().find(|column| !ours.contains(column) && column.ends_with("REQUIRED")) {
        return Some(format!("has a column {column} that isn't ours"));
    }
    let partitioned = |table: &Table| table.time_partitioning.as_ref().map(|by| (by.r#type.clone(), by.field.clone()));
    if partitioned(wanted) != partitioned(found) {
        return Some("isn't partitioned by the day of ts any more".into());
    }
    let clustered = |table: &Table| table.clustering.as_ref().and_then(|by| by.fields.clone()).unwrap_or_default();
    (clustered(wanted) != clustered(found)).then(|| "isn't clustered by series any more".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_someone_altered_is_named() {
        let settings = BigQuerySettings { project: "p".into(), ..BigQuerySettings::default() };
        let wanted = readings(&settings);
        let without = |change: fn(&mut Table)| {
            let mut found = wanted.clone();
            change(&mut found);
            altered(&wanted, &found)
        };
        assert_eq!(without(|_| ()), None);
        let fields = |keep: fn(&TableFieldSchema) -> bool| {
            TableSchema::new(schema().fields().clone().unwrap_or_default().into_iter().filter(keep).collect())
        };
        let lacks = Table { schema: fields(|field| field.name != "quality"), ..wanted.clone() };
        assert_eq!(altered(&wanted, &lacks).as_deref(), Some("has no column quality Int REQUIRED any more"));
        assert!(without(|t| t.time_partitioning = None).is_some_and(|why| why.contains("partitioned")));
        assert!(without(|t| t.clustering = None).is_some_and(|why| why.contains("clustered")));
        // A column of one's own that may be empty does no harm.
        let mut more = schema().fields().clone().unwrap_or_default();
        more.push(TableFieldSchema::new("note", FieldType::String));
        assert_eq!(altered(&wanted, &Table { schema: TableSchema::new(more), ..wanted.clone() }), None);
    }
}
