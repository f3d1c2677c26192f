//! What a file's columns are.

use super::{Mistake, Setting, Settings};
use crate::tiers::SeriesKey;
use serde::Serialize;
use shared::catalogue::{Class, Entry};
use shared::ids::NodeId;
use shared::metric::{Conversion, Metric};
use utoipa::ToSchema;

/// A series, and how its values are brought into the canonical unit.
#[derive(Clone, PartialEq, Debug)]
pub struct Named {
    /// Its name.
    pub key: SeriesKey,
    /// What is known of its metric.
    pub metric: &'static Metric,
    /// The file's unit; `None`: it doesn't say, and the metric's own is taken.
    pub unit: Option<String>,
    /// From the file's unit.
    pub conversion: Conversion,
}

impl Named {
    /// The series as one that is to be made. How often a value comes says how long it holds, milliseconds; without that a
    /// quarter of an hour.
    #[must_use]
    pub fn entry(&self, interval_ms: u32) -> Entry {
        Entry {
            node: self.key.node.clone(),
            metric: self.key.metric.clone(),
            channel: self.key.channel.clone(),
            kind: self.metric.kind,
            unit: self.metric.unit.into(),
            resolution_exp: None,
            interval_ms,
            silence_ms_max: 0,
            class: Class::Raw,
        }
    }
}

/// What a column is.
#[derive(Clone, PartialEq, Debug)]
pub enum Role {
    /// Date and time, or the date when there is a [`Role::TimeOfDay`].
    Time,
    /// The time of day.
    TimeOfDay,
    /// Long and half wide files: where.
    Node,
    /// Long files: what.
    Metric,
    /// Long files: which of a kind.
    Channel,
    /// Long files: the value.
    Value,
    /// Long files: the value's unit.
    Unit,
    /// How far it can be trusted: good, uncertain, bad.
    Quality,
    /// Long files: which correction it is.
    Revision,
    /// Wide files: a series' values.
    Series(Box<Named>),
    /// Half wide files: the values of a metric at the row's node.
    OfNode(&'static Metric, Conversion),
    /// Nothing that is read.
    Ignored,
}

/// A column, and what it was taken for.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
#[schema(as = ImportColumn)]
pub struct Column {
    /// Its name in the first line.
    pub name: String,
    /// In words.
    pub taken_for: String,
    #[serde(skip)]
    pub(super) role: Role,
}

const TIMES: &[&str] =
    &["timestamp", "datetime", "date_time", "date time", "ts", "data_ora", "data ora", "data e ora", "time_utc"];
const DATES: &[&str] = &["date", "data", "datum", "day"];
const TIMES_OF_DAY: &[&str] = &["time", "ora", "hour", "uhrzeit"];
const NODES: &[&str] = &["node", "node_id", "site", "station", "nodo"];
const METRICS: &[&str] = &["metric", "parameter", "variable", "quantity"];
const CHANNELS: &[&str] = &["channel"];
const VALUES: &[&str] = &["value", "valore", "reading"];
const UNITS: &[&str] = &["unit", "units", "uom"];
const REVISIONS: &[&str] = &["revision"];
const QUALITIES: &[&str] = &["quality", "quality_flag"];

/// Whether columns are told by this name what they are.
fn is_known(name: &str) -> bool {
    let all = [TIMES, DATES, TIMES_OF_DAY, NODES, METRICS, CHANNELS, VALUES, UNITS, REVISIONS, QUALITIES];
    all.concat().contains(&name.to_lowercase().as_str())
}

/// What each column is.
pub(super) fn plan(header: &csv::StringRecord, settings: &Settings) -> Result<Vec<Column>, Mistake> {
    let names: Vec<&str> = header.iter().map(str::trim).collect();
    if let Some((name, _)) = settings.map.iter().find(|(name, _)| !names.contains(&name.as_str())) {
        let why = format!("there is no column '{name}'; there are: {}", names.join(", "));
        return Err(Mistake::until(Setting::Map, why));
    }
    let mapped = |name: &str| settings.map.iter().find(|(from, _)| from == name).map(|(_, to)| to.as_str());
    // A column may be mapped to another name: `Momento=timestamp`.
    let called: Vec<&str> = names.iter().map(|name| mapped(name).filter(|to| is_known(to)).unwrap_or(name)).collect();
    let has = |words: &[&str]| called.iter().any(|name| words.contains(&name.to_lowercase().as_str()));
    if !has(TIMES) && !has(DATES) && !has(TIMES_OF_DAY) {
        let why = format!(
            "no column is called timestamp, datetime, date or time; there are: {}. Is the first line the one that names \
             the columns? Then map one of them to timestamp",
            names.join(", ")
        );
        return Err(Mistake::until(Setting::Map, why));
    }
    let (long, by_node) = (has(METRICS) && has(VALUES), has(NODES));
    // In a wide file each column must be understood; a separator behind the last name makes none.
    let named = names.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
    let mut columns = Vec::with_capacity(names.len());
    for (name, called) in names.iter().zip(&called).take(if long { names.len() } else { named }) {
        let role = match mapped(name) {
            Some("-") => Role::Ignored,
            Some(to) if !is_known(to) => Role::Series(Box::new(series(to, settings)?)),
            _ => role(called, settings, long, by_node, has(TIMES) || has(DATES))?,
        };
        columns.push(Column { name: (*name).into(), taken_for: words(&role), role });
    }
    if columns.iter().filter(|column| column.role == Role::Time).count() != 1 {
        return Err(Mistake::until(
            Setting::Map,
            "several columns are times; map the others to -, which leaves them out",
        ));
    }
    let mut series: Vec<String> = columns
        .iter()
        .filter_map(|column| if let Role::Series(named) = &column.role { Some(named.key.to_string()) } else { None })
        .collect();
    series.sort_unstable();
    if let Some(twice) = series.windows(2).find(|pair| pair[0] == pair[1]) {
        let why = format!("two columns are {}; map one of them to -, which leaves it out", twice[0]);
        return Err(Mistake::until(Setting::Map, why));
    }
    if long && !by_node && settings.node.is_none() {
        return Err(Mistake::until(Setting::Node, "no column is called node: of which node are the values?"));
    }
    Ok(columns)
}

fn role(name: &str, settings: &Settings, long: bool, by_node: bool, has_date: bool) -> Result<Role, Mistake> {
    let low = name.to_lowercase();
    let is = |words: &[&str]| words.contains(&low.as_str());
    if is(TIMES) || is(DATES) || is(TIMES_OF_DAY) && !has_date {
        return Ok(Role::Time);
    }
    for (words, role) in [
        (TIMES_OF_DAY, Role::TimeOfDay),
        (NODES, Role::Node),
        (QUALITIES, Role::Quality),
        (METRICS, Role::Metric),
        (VALUES, Role::Value),
        (UNITS, Role::Unit),
        (CHANNELS, Role::Channel),
        (REVISIONS, Role::Revision),
    ] {
        let only_long = matches!(role, Role::Metric | Role::Value | Role::Unit | Role::Channel | Role::Revision);
        if is(words) && (long || !only_long) {
            return Ok(role);
        }
    }
    if long {
        return Ok(Role::Ignored);
    }
    let (plain, unit) = split_unit(name);
    let unit = unit.or(settings.unit.as_deref());
    if let Some(metric) = Metric::named(&plain.to_lowercase()).filter(|_| settings.metric.is_none()) {
        if by_node {
            return Ok(Role::OfNode(metric, conversion(metric, unit)?));
        }
        let node = settings
            .node
            .clone()
            .ok_or_else(|| Mistake::until(Setting::Node, format!("the column '{name}' is a metric: of which node?")))?;
        return Ok(Role::Series(Box::new(named(node, metric, "", unit)?)));
    }
    match &settings.metric {
        Some(metric) if !plain.contains('/') => {
            let metric = known(metric)?;
            Ok(Role::Series(Box::new(named(node(plain)?, metric, "", unit)?)))
        }
        _ if plain.contains('/') => Ok(Role::Series(Box::new(series(name, settings)?))),
        _ => {
            let why = format!(
                "the column '{name}' isn't understood. If columns are nodes, say of which metric; this one alone can be \
                 mapped to NODE/metric, or to -, which leaves it out"
            );
            Err(Mistake::until(Setting::Metric, why))
        }
    }
}

/// `DIST_001/flow_rate/inlet [m3/h]`.
///
/// # Errors
/// When there is no such node, metric or unit.
pub fn series(text: &str, settings: &Settings) -> Result<Named, Mistake> {
    let (plain, unit) = split_unit(text);
    let mut parts = plain.splitn(3, '/');
    let (node_name, metric) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let unit = unit.or(settings.unit.as_deref());
    named(node(node_name)?, known(metric)?, parts.next().unwrap_or_default(), unit)
}

fn named(node: NodeId, metric: &'static Metric, channel: &str, unit: Option<&str>) -> Result<Named, Mistake> {
    let key = SeriesKey { node, metric: metric.name.into(), channel: channel.into() };
    Ok(Named { key, metric, unit: unit.map(str::to_owned), conversion: conversion(metric, unit)? })
}

pub(super) fn conversion(metric: &Metric, unit: Option<&str>) -> Result<Conversion, Mistake> {
    let unit = unit.unwrap_or(metric.unit);
    metric.conversion(unit).ok_or_else(|| {
        format!("{} can't be read in '{unit}'; known are {}", metric.name, metric.units().join(", ")).into()
    })
}

/// The metric of that name, in capitals or not.
///
/// # Errors
/// With the names there are, when there is none.
pub fn known(metric: &str) -> Result<&'static Metric, Mistake> {
    Metric::named(metric).or_else(|| Metric::named(&metric.to_lowercase())).ok_or_else(|| {
        let all: Vec<&str> = shared::metric::METRICS.iter().map(|metric| metric.name).collect();
        format!("there is no metric '{metric}'; known are {}", all.join(", ")).into()
    })
}

pub(super) fn node(name: &str) -> Result<NodeId, Mistake> {
    NodeId::new(name.trim()).map_err(|error| format!("'{name}' is no node: {error}").into())
}

/// `flow [m3/h]` and `flow (m3/h)` name a unit.
fn split_unit(name: &str) -> (&str, Option<&str>) {
    for (open, close) in [('[', ']'), ('(', ')')] {
        if let Some((plain, rest)) = name.split_once(open)
            && let Some(unit) = rest.trim_end().strip_suffix(close)
        {
            return (plain.trim(), Some(unit.trim()));
        }
    }
    (name.trim(), None)
}

fn words(role: &Role) -> String {
    match role {
        Role::Time => "time".into(),
        Role::TimeOfDay => "time of day".into(),
        Role::Node => "node".into(),
        Role::Metric => "metric".into(),
        Role::Channel => "channel".into(),
        Role::Value => "value".into(),
        Role::Unit => "unit".into(),
        Role::Quality => "quality".into(),
        Role::Revision => "revision".into(),
        Role::Series(named) => {
            let own = named.metric.unit;
            match named.unit.as_deref() {
                None => format!("{} in {own}, as no unit is said", named.key),
                Some(unit) if unit == own => format!("{} in {own}", named.key),
                Some(unit) => format!("{} from {unit} into {own}", named.key),
            }
        }
        Role::OfNode(metric, _) => format!("{} of the row's node", metric.name),
        Role::Ignored => "nothing".into(),
    }
}
