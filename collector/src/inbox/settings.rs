//! `[[inbox]]`: a table of another producer, and what its columns are.

use serde::Deserialize;
use shared::config::HumanDuration;
use shared::ids::GatewayId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Most columns of a table that are read.
const COLUMNS_MAX: usize = 64;
/// Most names of metrics that aren't ours.
const NAMES_MAX: usize = 1_000;

/// `[[inbox]]`: a wide table, a row for each node and moment, or a long one, a row for each reading.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForeignInbox {
    /// What it is called here; `[grants]` says which nodes it may write.
    pub name: GatewayId,
    /// Where the table is.
    #[serde(default)]
    pub database: Database,
    /// Its name, or `schema.name`; in BigQuery `project.dataset.table` or `dataset.table`.
    pub table: String,
    /// The column of the moment.
    #[serde(default = "time")]
    pub time: String,
    /// The column of the node.
    #[serde(default = "node")]
    pub node: String,
    /// In BigQuery: the column of the moment at which a row came into the table, if there is one. Rows are read by that then.
    pub received: Option<String>,
    /// The column of the quality, if there is one: good, uncertain, bad, manual.
    pub quality: Option<String>,
    /// The column of the revision, if there is one.
    pub revision: Option<String>,
    /// The time zone of the moments, when their column has none.
    pub zone: Option<String>,
    /// What a local time means that was twice.
    #[serde(default)]
    pub fold: Twice,
    /// Rows are read again from so long before the newest one that was read.
    #[serde(default = "overlap")]
    pub overlap: HumanDuration,
    /// As `overlap`, for the time of `daily_sync`.
    #[serde(default = "daily_overlap")]
    pub daily_overlap: HumanDuration,
    /// Columns with values, and what they are: `metric[/channel] [unit]`. Long: what names of metrics mean, where they
    /// aren't ours.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// Long: the column of the metric.
    pub metric: Option<String>,
    /// Long: the column of the value.
    pub value: Option<String>,
    /// Long: the column of the channel, if there is one.
    pub channel: Option<String>,
    /// Long: the column of the unit, if there is one.
    pub unit: Option<String>,
}

/// Where a foreign table is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Database {
    /// In the PostgreSQL of `[warm]`.
    #[default]
    Warm,
    /// In Google's BigQuery.
    BigQuery,
}

impl Database {
    /// Longest name of a table or column, bytes.
    fn name_bytes_max(self) -> usize {
        match self {
            Self::Warm => 63,
            Self::BigQuery => 300,
        }
    }
}

/// What a local time means that was twice. The order of rows says nothing: a table has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Twice {
    /// Neither: it is refused.
    #[default]
    Refuse,
    /// The first time.
    Earlier,
    /// The second time.
    Later,
}

fn time() -> String {
    "timestamp".into()
}

fn node() -> String {
    "node_id".into()
}

fn overlap() -> HumanDuration {
    HumanDuration(Duration::from_secs(2 * 3_600))
}

fn daily_overlap() -> HumanDuration {
    HumanDuration(Duration::from_secs(3 * 86_400))
}

/// What a column's values are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Meaning<'a> {
    /// The metric.
    pub metric: &'a str,
    /// The channel; empty when it has none.
    pub channel: &'a str,
    /// The unit; empty for the metric's own.
    pub unit: &'a str,
}

impl<'a> Meaning<'a> {
    /// Of `metric[/channel] [unit]`.
    #[must_use]
    pub fn of(text: &'a str) -> Self {
        let (name, unit) = match text.split_once('[') {
            Some((name, rest)) => (name, rest.trim().trim_end_matches(']').trim()),
            None => (text, ""),
        };
        let (metric, channel) = name.trim().split_once('/').unwrap_or((name.trim(), ""));
        Self { metric, channel, unit }
    }
}

/// A name as SQL takes it whatever is in it.
#[must_use]
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl ForeignInbox {
    /// The table's name for SQL.
    #[must_use]
    pub fn quoted_table(&self) -> String {
        match self.table.split_once('.') {
            Some((schema, table)) => format!("{}.{}", quoted(schema), quoted(table)),
            None => quoted(&self.table),
        }
    }

    /// Whether it has a row for each reading.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.metric.is_some() || self.value.is_some()
    }

    /// Most readings of a row.
    #[must_use]
    pub fn readings_max(&self) -> usize {
        if self.is_long() { 1 } else { self.columns.len().max(1) }
    }

    /// The columns that are read besides time and node, and what to call each setting.
    pub fn read_columns(&self) -> impl Iterator<Item = (&str, &str)> {
        let wide = self.columns.keys().filter(|_| !self.is_long()).map(|name| ("columns", name.as_str()));
        let others = [
            ("metric", &self.metric),
            ("value", &self.value),
            ("channel", &self.channel),
            ("unit", &self.unit),
            ("quality", &self.quality),
            ("revision", &self.revision),
        ];
        wide.chain(others.into_iter().filter_map(|(key, name)| Some((key, name.as_deref()?))))
    }

    /// What can't be used: its key, its value and why.
    fn mistakes(&self) -> Vec<(String, String, String)> {
        let mut found = Vec::new();
        let mut wrong = |key: &str, value: &str, why: String| found.push((self.key(key), value.to_owned(), why));
        let most = self.database.name_bytes_max();
        let is_name = |name: &str| (1..=most).contains(&name.len()) && !name.contains('\0');
        let is_table = match self.database {
            Database::Warm => self.table.splitn(2, '.').all(is_name),
            Database::BigQuery => true, // `[bigquery]` knows more
        };
        let received = self.received.as_deref().map(|name| ("received", name));
        let names = [("time", self.time.as_str()), ("node", self.node.as_str())].into_iter().chain(received);
        let names = names.chain(self.read_columns());
        let wrong_names = names.filter(|(_, name)| !is_name(name));
        for (key, name) in wrong_names.chain(Some(("table", self.table.as_str())).filter(|_| !is_table)) {
            wrong(key, name, format!("a name has 1 to {most} bytes"));
        }
        if let Some(name) = self.received.as_ref().filter(|_| self.database == Database::Warm) {
            wrong("received", name, "only tables in BigQuery are read by it".into());
        }
        let most = if self.is_long() { NAMES_MAX } else { COLUMNS_MAX };
        if self.columns.len() > most || self.columns.is_empty() && !self.is_long() {
            wrong("columns", "", format!("1 to {most} columns with values must be named"));
        }
        let row = "a row for each reading has both metric and value, and only there can channel and unit be columns";
        for (key, name) in [("channel", &self.channel), ("unit", &self.unit)] {
            if let Some(name) = name.as_ref().filter(|_| !self.is_long()) {
                wrong(key, name, row.into());
            }
        }
        if self.metric.is_some() != self.value.is_some() {
            let (key, other) = if self.metric.is_some() { ("value", &self.metric) } else { ("metric", &self.value) };
            wrong(key, "", format!("{row}; {} is named alone", other.as_deref().unwrap_or_default()));
        }
        for (column, text) in &self.columns {
            if let Err(why) = meaning(text) {
                wrong(&format!("columns.{column}"), text, why);
            }
        }
        if let Some(zone) = &self.zone
            && jiff::tz::TimeZone::get(zone).is_err()
        {
            wrong("zone", zone, "it is no time zone like Europe/Rome or UTC".into());
        }
        for (key, overlap) in [("overlap", self.overlap), ("daily_overlap", self.daily_overlap)] {
            if overlap.0 > Duration::from_secs(400 * 86_400) {
                wrong(key, &overlap.to_string(), "400 days at most are possible".into());
            }
        }
        found
    }

    /// A setting of this table, for people.
    #[must_use]
    pub fn key(&self, key: &str) -> String {
        self::key(self.name.as_str(), key)
    }
}

/// A setting of the table of that name, for people.
#[must_use]
pub fn key(table: &str, key: &str) -> String {
    format!("inbox.{table}.{key}")
}

/// The mistakes of all tables together: each with its key, its value and why.
#[must_use]
pub fn mistakes(tables: &[ForeignInbox]) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut names = BTreeSet::from([super::OWN]);
    for table in tables {
        found.extend(table.mistakes());
        if !names.insert(table.name.as_str()) {
            let why = format!("two are called so, or it is '{}', our own table", super::OWN);
            found.push((table.key("name"), table.name.to_string(), why));
        }
    }
    found
}

fn meaning(text: &str) -> Result<(), String> {
    let Meaning { metric, unit, .. } = Meaning::of(text);
    let known = crate::import::metric(metric).map_err(|mistake| mistake.to_string())?;
    if unit.is_empty() || known.conversion(unit).is_some() {
        return Ok(());
    }
    Err(format!("{} can't be read in '{unit}'; known are {}", known.name, known.units().join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> ForeignInbox {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn names_are_quoted_whatever_is_in_them() {
        let inbox = table("name = 'scada'\ntable = 'old \"data\".read; DROP'\ncolumns = { a = 'flow_rate' }");
        assert_eq!(inbox.quoted_table(), "\"old \"\"data\"\"\".\"read; DROP\"");
        assert_eq!(inbox.mistakes(), []);
        assert_eq!((inbox.time.as_str(), inbox.node.as_str()), ("timestamp", "node_id"));
    }

    #[test]
    fn a_column_is_a_metric_with_channel_and_unit() {
        let meaning = |metric, channel, unit| Meaning { metric, channel, unit };
        assert_eq!(Meaning::of("flow_rate/inlet [m3/h]"), meaning("flow_rate", "inlet", "m3/h"));
        assert_eq!(Meaning::of("pressure"), meaning("pressure", "", ""));
    }

    #[test]
    fn mistakes_are_named() {
        let of = |text: &str| {
            let all = mistakes(&[table(text)]).into_iter().map(|(key, _, why)| format!("{key}: {why}"));
            all.collect::<Vec<_>>().join("\n")
        };
        assert!(of("name = 'scada'\ntable = ''\ncolumns = { a = 'flow_rate' }").starts_with("inbox.scada.table"));
        assert!(of("name = 'scada'\ntable = 't'\ncolumns = {}").starts_with("inbox.scada.columns"));
        let unit = of("name = 'scada'\ntable = 't'\ncolumns = { a = 'pressure [m3/h]' }");
        assert!(unit.starts_with("inbox.scada.columns.a: pressure can't be read in 'm3/h'"), "{unit}");
        let zone = of("name = 'scada'\ntable = 't'\nzone = 'Rome'\ncolumns = { a = 'flow_rate' }");
        assert!(zone.starts_with("inbox.scada.zone"), "{zone}");
        assert!(of("name = 'inbox'\ntable = 't'\ncolumns = { a = 'flow_rate' }").contains("our own table"));
        assert!(of("name = 'scada'\ntable = 't'").starts_with("inbox.scada.columns: 1 to 64 columns"));
        assert_eq!(of("name = 'scada'\ntable = 't'\nmetric = 'm'\nvalue = 'v'\nunit = 'u'"), "");
        let alone = of("name = 'scada'\ntable = 't'\nmetric = 'm'");
        assert!(alone.starts_with("inbox.scada.value: a row for each reading has both"), "{alone}");
        let received = of("name = 'scada'\ntable = 't'\nreceived = 'r'\ncolumns = { a = 'flow_rate' }");
        assert!(received.starts_with("inbox.scada.received: only tables in BigQuery"), "{received}");
        let wide = of("name = 'scada'\ntable = 't'\nunit = 'u'\ncolumns = { a = 'flow_rate' }");
        assert!(wide.starts_with("inbox.scada.unit: a row for each reading"), "{wide}");
    }
}
