//! What a table's columns are, by what BigQuery says of it. Pure.

use crate::inbox::settings::ForeignInbox;
use gcp_bigquery_client::model::field_type::FieldType;
use gcp_bigquery_client::model::table::Table;
use gcp_bigquery_client::model::table_field_schema::TableFieldSchema;

/// Longest name of a column.
const COLUMN_BYTES_MAX: usize = 300;

/// What has to be known of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    /// Whether moments have no time zone.
    pub(super) is_local: bool,
    /// Whether nodes are texts.
    pub(super) node_is_text: bool,
}

/// Looks whether a table can be read as it is mapped.
pub(super) fn of(table: &ForeignInbox, found: &Table) -> Result<Shape, String> {
    let fields = found.schema.fields().as_deref().unwrap_or_default();
    let wrong = |key: &str, why: String| format!("{}: {why}", table.key(key));
    let column = |key: &str, name: &str| {
        let it = fields.iter().find(|field| field.name.eq_ignore_ascii_case(name) && is_plain(name));
        it.ok_or_else(|| wrong(key, format!("{} has no column {name}", table.table)))
    };
    for (key, name) in table.read_columns().chain([("node", table.node.as_str())]) {
        let field = column(key, name)?;
        if !is_single(field) {
            return Err(wrong(key, format!("column {name} is {}, and must be a number or a text", kind(field))));
        }
    }
    let time = column("time", &table.time)?;
    let is_local = match time.r#type {
        FieldType::Timestamp => false,
        FieldType::Datetime => true,
        _ => {
            let why = format!("column {} is {}, and must be TIMESTAMP or DATETIME", table.time, kind(time));
            return Err(wrong("time", why));
        }
    };
    if is_local && table.zone.is_none() {
        let why = format!("column {} has no time zone: say which, like \"Europe/Rome\"", table.time);
        return Err(wrong("zone", why));
    }
    if let Some(name) = &table.received {
        let received = column("received", name)?;
        if !matches!(received.r#type, FieldType::Timestamp) {
            return Err(wrong("received", format!("column {name} is {}, and must be TIMESTAMP", kind(received))));
        }
    }
    if found.require_partition_filter == Some(true) && !is_pruned(table, found) {
        let why = format!(
            "{} can be asked only by what it is partitioned by, and that isn't {}: name a view of it that can be",
            table.table,
            place(table)
        );
        return Err(wrong("table", why));
    }
    let node_is_text = matches!(column("node", &table.node)?.r#type, FieldType::String);
    Ok(Shape { is_local, node_is_text })
}

/// What could be better with it, in words.
pub(super) fn advice(table: &ForeignInbox, found: &Table) -> Option<String> {
    if is_pruned(table, found) || found.r#type.as_deref().is_some_and(|kind| kind != "TABLE") {
        return None;
    }
    let bytes = found.num_bytes.as_ref().and_then(|bytes| bytes.parse().ok()).map(bytesize::ByteSize::b);
    let of = bytes.map_or_else(String::new, |bytes| format!(" ({bytes} with all columns)"));
    Some(format!(
        "it isn't partitioned by {}, so every question reads those columns whole{of}: partition it, or map what is newer \
         of it by a view",
        place(table)
    ))
}

/// Whether a span of time touches only its own partitions.
fn is_pruned(table: &ForeignInbox, found: &Table) -> bool {
    let by = found.time_partitioning.as_ref().and_then(|by| by.field.as_ref());
    by.is_some_and(|by| by.eq_ignore_ascii_case(place(table)))
}

/// The column that rows are read by.
pub(super) fn place(table: &ForeignInbox) -> &str {
    table.received.as_ref().unwrap_or(&table.time)
}

fn is_plain(name: &str) -> bool {
    name.len() <= COLUMN_BYTES_MAX && !name.contains(['`', '\\']) && !name.contains(char::is_control)
}

fn is_single(field: &TableFieldSchema) -> bool {
    let is_one = field.mode.as_deref() != Some("REPEATED");
    is_one
        && !matches!(
            field.r#type,
            FieldType::Bytes
                | FieldType::Record
                | FieldType::Struct
                | FieldType::Geography
                | FieldType::Json
                | FieldType::Interval
        )
}

fn kind(field: &TableFieldSchema) -> String {
    let mode = field.mode.as_deref().filter(|mode| *mode == "REPEATED").unwrap_or_default();
    format!("{mode} {}", format!("{:?}", field.r#type).to_uppercase()).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gcp_bigquery_client::model::table_schema::TableSchema;
    use gcp_bigquery_client::model::time_partitioning::TimePartitioning;

    fn inbox(more: &str) -> ForeignInbox {
        let text =
            format!("name = 's'\ndatabase = 'bigquery'\ntable = 'p.d.t'\n{more}\ncolumns = {{ Flow = 'flow_rate' }}");
        toml::from_str(&text).unwrap()
    }

    fn there(time: FieldType) -> Table {
        let fields =
            [("timestamp", time), ("node_id", FieldType::String), ("flow", FieldType::Float), ("raw", FieldType::Json)];
        let fields = fields.map(|(name, kind)| TableFieldSchema::new(name, kind));
        Table::new("p", "d", "t", TableSchema::new(fields.into()))
    }

    #[test]
    fn what_cant_be_read_is_named() {
        let (utc, local) = (there(FieldType::Timestamp), there(FieldType::Datetime));
        assert_eq!(of(&inbox(""), &utc), Ok(Shape { is_local: false, node_is_text: true }));
        assert_eq!(of(&inbox("zone = 'Europe/Rome'"), &local), Ok(Shape { is_local: true, node_is_text: true }));
        let said = |more: &str, table: &Table| of(&inbox(more), table).unwrap_err();
        assert_eq!(said("quality = 'flag'", &utc), "inbox.s.quality: p.d.t has no column flag");
        assert!(said("quality = 'raw'", &utc).contains("column raw is JSON, and must be a number"));
        assert!(said("time = 'flow'", &utc).contains("column flow is FLOAT, and must be TIMESTAMP or DATETIME"));
        assert!(said("", &local).starts_with("inbox.s.zone: column timestamp has no time zone"));
        let filtered = Table { require_partition_filter: Some(true), ..utc.clone() };
        assert!(said("", &filtered).contains("only by what it is partitioned by"));
        let pruned = Table { time_partitioning: Some(TimePartitioning::per_day().field("Timestamp")), ..filtered };
        assert!(of(&inbox(""), &pruned).is_ok() && advice(&inbox(""), &pruned).is_none());
        assert!(
            advice(&inbox("received = 'Timestamp'"), &pruned).is_none()
                && of(&inbox("received = 'r'"), &pruned).is_err()
        );
        assert!(said("received = 'flow'", &utc).contains("column flow is FLOAT, and must be TIMESTAMP"));
        assert!(advice(&inbox(""), &utc).unwrap().contains("isn't partitioned by timestamp"));
    }
}
