//! A table as it is asked.

use super::access::BigQueryAccess;
use super::moment;
use super::plan::Found;
use super::shape::{self, Shape};
use super::sql::Columns;
use crate::inbox::settings::ForeignInbox;
use crate::inbox::store::ForeignRow;
use crate::inbox::take::broken;
use crate::tiers::TierError;
use crate::tiers::cold::bigquery::fault::{Asker, Fault};
use crate::tiers::cold::bigquery::link::Link;
use crate::tiers::cold::bigquery::settings::BigQuerySettings;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use gcp_bigquery_client::model::table::Table;
use gcp_bigquery_client::model::table_row::TableRow;
use jiff::tz::TimeZone;
use serde_json::Value;
use shared::reading::Timestamp;
use std::sync::Arc;

const ASKER: Asker = Asker {
    tier: "BigQuery",
    section: "[bigquery]",
    place: "[[inbox]] table",
    role: "BigQuery Data Viewer on the dataset",
};

/// A table that can be read as it is mapped.
pub(super) struct Reader {
    link: Link,
    columns: Columns,
    shape: Shape,
    zone: Option<TimeZone>,
    /// What could be better with it.
    pub(super) advice: Option<String>,
}

/// A row.
pub(super) struct Row {
    pub(super) node: Option<String>,
    /// What it is read by: its moment, or when it came.
    pub(super) at: Option<i64>,
    pub(super) row: ForeignRow,
}

impl Reader {
    /// Looks at the table.
    pub(super) async fn open(access: &BigQueryAccess, table: &ForeignInbox) -> Result<Self, TierError> {
        let (address, settings) = access.of(table).map_err(|why| broken(format!("{}: {why}", table.key("table"))))?;
        let settings = Arc::new(settings);
        let told = |fault: Fault| fault.told_by(ASKER, &settings);
        let mut link = Link::open(&settings).await.map_err(told)?;
        let found = match link.describe(&address.project, &address.dataset, &address.table).await {
            Err(Fault::Missing(why)) => return Err(broken(format!("{}: {why}", table.key("table")))),
            found => found.map_err(told)?,
        };
        let shape = shape::of(table, &found).map_err(broken)?;
        link.settings = Arc::new(lies_there(&settings, &found));
        let is_local = shape.is_local && table.received.is_none();
        let zone = table.zone.as_deref().filter(|_| is_local).and_then(|zone| TimeZone::get(zone).ok());
        let (columns, advice) = (Columns::new(table, &address, shape), shape::advice(table, &found));
        Ok(Self { link, columns, shape, zone, advice })
    }

    /// What the table has for a moment.
    pub(super) fn there(&self, at: Timestamp) -> i64 {
        moment::there(at, self.zone.as_ref())
    }

    /// A place of rows as it is kept.
    pub(super) fn text(&self, at: i64) -> String {
        moment::text(at, self.zone.is_some())
    }

    fn told(&self, fault: Fault) -> TierError {
        fault.told_by(ASKER, &self.link.settings)
    }

    async fn all(&self, sql: String) -> Result<Vec<TableRow>, TierError> {
        self.link.ask(sql).try_concat().await.map_err(|fault| self.told(fault))
    }

    /// The nodes that have rows from a moment on, at most one more than are read.
    pub(super) async fn nodes(&self, from: Option<i64>, until: i64) -> Result<Vec<Found>, TierError> {
        let rows = self.all(self.columns.nodes(from, until)).await?;
        let found = |row: &TableRow| {
            let astray = number(row, 2).unwrap_or_default().cast_unsigned();
            Found { node: name(row), newest: number(row, 1), astray }
        };
        Ok(rows.iter().map(found).collect())
    }

    /// How many rows each day has, of all nodes or of these; days since 1970.
    pub(super) async fn days(
        &self,
        nodes: Option<&[&str]>,
        span: (Option<i64>, i64),
    ) -> Result<Vec<(i64, u64)>, TierError> {
        let rows = self.all(self.columns.days(nodes, span)).await?;
        Ok(rows.iter().filter_map(|row| Some((number(row, 0)?, number(row, 1)?.cast_unsigned()))).collect())
    }

    /// Rows from a moment up to another, by node and moment, or as they came; of all nodes, or of these.
    pub(super) fn rows(
        &self,
        nodes: Option<&[&str]>,
        span: (Option<i64>, i64),
    ) -> BoxStream<'_, Result<Vec<Row>, TierError>> {
        let pages = self.link.ask(self.columns.rows(nodes, span));
        let rows = |page: Vec<TableRow>| page.iter().map(|row| self.row(row)).collect::<Vec<Row>>();
        Box::pin(pages.map_ok(rows).map_err(|fault| self.told(fault)))
    }

    /// Rows that are in no place.
    pub(super) async fn astray(&self, from: Option<i64>, until: i64, count_max: u32) -> Result<Vec<Row>, TierError> {
        let rows = self.all(self.columns.astray(from, until, count_max)).await?;
        Ok(rows.iter().map(|row| self.row(row)).collect())
    }

    fn row(&self, row: &TableRow) -> Row {
        let cells = (3..row.columns.as_ref().map_or(0, Vec::len)).map(|n| cell(row, n).unwrap_or_default()).collect();
        let time = number(row, 2).map_or_else(String::new, |time| moment::text(time, self.shape.is_local));
        Row { node: name(row), at: number(row, 1), row: ForeignRow { time, cells } }
    }
}

/// Questions are asked where the table lies.
fn lies_there(settings: &BigQuerySettings, found: &Table) -> BigQuerySettings {
    let location = found.location.clone().unwrap_or_else(|| settings.location.clone());
    BigQuerySettings { location, ..settings.clone() }
}

/// A cell's text. A zero byte is in no name and no number, and no database keeps it.
fn cell(row: &TableRow, n: usize) -> Option<String> {
    match row.columns.as_ref()?.get(n)?.value.as_ref()? {
        Value::String(text) => Some(text.replace('\0', "\u{fffd}")),
        _ => None,
    }
}

/// A node; one without a name is none.
fn name(row: &TableRow) -> Option<String> {
    cell(row, 0).filter(|name| !name.is_empty())
}

fn number(row: &TableRow, n: usize) -> Option<i64> {
    cell(row, n)?.parse().ok()
}
