//! CSV files of other systems, read into readings. Pure: no tier, no network, no clock.
//!
//! `dialect` finds out how a file is written (separator, decimal sign, order of day and month), `columns` what its columns
//! are, `moment` when a row was, `rows` makes readings of rows. Nothing is guessed silently: what was found is told, and
//! what can be understood in two ways is refused until someone says which.
//!
//! A file is read in pieces that are cut at a line end and begin with the file's first line: [`Batch::dialect`] and
//! [`Batch::last`] of one piece go into the next.

mod columns;
mod dialect;
mod moment;
mod rows;

pub use columns::{Column, Named, Role, known as metric, series};
pub use dialect::{DateOrder, Dialect};
pub use moment::Fold;
pub use rows::{Batch, Last, Point, REVISION_MAX, Reject, believable};

use jiff::tz::TimeZone;
use serde::Serialize;
use shared::ids::NodeId;
use shared::reading::Timestamp;
use utoipa::ToSchema;

/// What is said about a file.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How it is written, as far as it needn't be found out.
    pub dialect: Dialect,
    /// The time zone of times without an offset.
    pub zone: Option<TimeZone>,
    /// What a local time means that was twice.
    pub fold: Fold,
    /// The node of columns that name only a metric.
    pub node: Option<NodeId>,
    /// The metric of columns that name only a node.
    pub metric: Option<String>,
    /// The unit of columns that name none; the metric's own when nothing is said.
    pub unit: Option<String>,
    /// What single columns are: `NODE/metric[/channel] [unit]`, or `-` for nothing.
    pub map: Vec<(String, String)>,
    /// Readings after this moment are refused.
    pub latest: Option<Timestamp>,
    /// Whether a row, or a cell, without a value is a mistake.
    pub complete: bool,
}

/// What can be said of a file so that it is understood. How that is said, whoever has it read knows: by a parameter, an option,
/// a key of the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ImportSetting)]
pub enum Setting {
    /// The time zone of times without one.
    Zone,
    /// Which of two hours is meant.
    Fold,
    /// What comes first in a date.
    Dates,
    /// What stands before a number's fraction.
    Decimal,
    /// What a column is.
    Map,
    /// The node of all rows.
    Node,
    /// The metric of all columns.
    Metric,
    /// Which correction it is.
    Revision,
    /// That series are made.
    Create,
}

impl Setting {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Setting::Zone => "zone",
            Setting::Fold => "fold",
            Setting::Dates => "dates",
            Setting::Decimal => "decimal",
            Setting::Map => "map",
            Setting::Node => "node",
            Setting::Metric => "metric",
            Setting::Revision => "revision",
            Setting::Create => "create",
        }
    }
}

/// Why a file, or a row of it, can't be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{why}")]
pub struct Mistake {
    /// In words.
    pub why: String,
    /// What puts it right.
    pub setting: Option<Setting>,
}

impl Mistake {
    /// One that this puts right.
    #[must_use]
    pub fn until(setting: Setting, why: impl Into<String>) -> Self {
        Self { why: why.into(), setting: Some(setting) }
    }
}

impl From<String> for Mistake {
    fn from(why: String) -> Self {
        Self { why, setting: None }
    }
}

impl From<&str> for Mistake {
    fn from(why: &str) -> Self {
        why.to_owned().into()
    }
}

/// Reads a piece of a file. Its first line names the columns; the lines after it are `first_line` and the following of the
/// whole file.
///
/// # Errors
/// When it can't be said what the file means.
pub fn read(bytes: &[u8], settings: &Settings, first_line: u64, last: &Last) -> Result<Batch, Mistake> {
    let text = dialect::text(bytes, first_line)?;
    let dialect = dialect::find(text, settings)?;
    let mut reader =
        csv::ReaderBuilder::new().delimiter(dialect.delimiter()).flexible(true).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| format!("the first line: {error}"))?.clone();
    let columns = columns::plan(&header, settings)?;
    rows::read(text, &mut reader, dialect, columns, settings, first_line, last)
}

/// The line of a reading in the piece that it was read from, or as much as is shown of it.
#[must_use]
pub fn line(bytes: &[u8], point: &Point) -> String {
    dialect::text(bytes, 2).map_or_else(|_| String::new(), |text| rows::line(text, point.begins))
}

#[cfg(test)]
mod tests;
