//! CSV files of other systems, read into readings. Pure: no tier, no network, no clock.
//!
//! `dialect` finds out how a file is written (separator, decimal sign, order of day and month), `columns` what its columns
//! are, `moment` when a row was, `rows` makes readings of rows. Nothing is guessed silently: what was found is told, and
//! what can be understood in two ways is refused until someone says which.
//!
//! A file is read in pieces that are cut at a line end and begin with the file's first line: [`Batch::dialect`] and
//! [`Batch::last`] of one piece go into the next. Spreadsheets write a line `sep=;` before it: then the first two lines.

mod columns;
mod dialect;
mod encoding;
mod moment;
mod quotes;
mod rows;

pub use columns::{Column, Named, Role, known as metric, series};
pub use dialect::{DateOrder, Dialect, separator};
pub use encoding::{Returns, Utf16, ends_with_returns, no_text, utf16};
pub use moment::Fold;
pub use quotes::Rows;
pub use rows::{Batch, Last, Point, REVISION_MAX, Reject, believable, interval_ms, line};

use jiff::tz::TimeZone;
use serde::Serialize;
use shared::ids::NodeId;
use shared::reading::Timestamp;
use std::borrow::Cow;
use utoipa::ToSchema;

/// What is said about a file.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How it is written, as far as it needn't be found out.
    pub dialect: Dialect,
    /// How the pieces before this one were found to be written: one that is written otherwise is refused.
    pub found: Dialect,
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
    /// Whether another piece follows, with which an hour that was twice may go on.
    pub more: bool,
    /// Most rejects that are kept; all are counted.
    pub rejects_max: Option<usize>,
}

/// How a gzip file begins (RFC 1952, 2.3.1).
pub const GZIP: &[u8] = &[0x1f, 0x8b];
/// The line behind the one that names the columns.
pub const FIRST_LINE: u64 = 2;

/// What can be said of a file so that it is understood. How that is said, whoever has it read knows: by a parameter, an option,
/// a key of the configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, ToSchema)]
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
    let text = text(bytes, first_line)?;
    let preface = dialect::preface(&text);
    let body = &text[preface.map_or(0, |(_, length)| length)..];
    if body.trim().is_empty() {
        return Err("the file is empty".into());
    }
    let said = settings.dialect.delimiter.or(settings.found.delimiter).or(preface.map(|(sign, _)| sign));
    let delimiter = said.map_or_else(|| dialect::delimiter(body), Ok)?;
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter as u8).flexible(true).from_reader(body.as_bytes());
    let header = reader.headers().map_err(|error| format!("the first line: {error}"))?.clone();
    if let Some(torn) = quotes::torn(&body[..reader.position().byte() as usize], delimiter as u8, header.len()) {
        let line = 1 + u64::from(preface.is_some()) + torn.lines_before;
        return Err(format!("line {line}, column {}: {}", torn.cell + 1, torn.why).into());
    }
    let columns = columns::plan(&header, settings)?;
    let dialect = dialect::find(body, delimiter, &columns, settings)?;
    let is_first = first_line == FIRST_LINE && preface.is_some();
    let place =
        rows::Piece { text: &text, begins: text.len() - body.len(), first_line: first_line + u64::from(is_first) };
    let mut batch = rows::read(&place, &mut reader, dialect, columns, settings, last)?;
    batch.lines += u64::from(is_first);
    Ok(batch)
}

/// The text of a piece, in which [`Point::begins`] is a place.
///
/// # Errors
/// When it is none.
pub fn text(bytes: &[u8], first_line: u64) -> Result<Cow<'_, str>, Mistake> {
    dialect::text(bytes, first_line)
}

#[cfg(test)]
mod tests;
