//! What is known of Sparkplug edge nodes: the aliases that births gave, and whether a message was missed since.
//! Pure: no IO, no clock.
//!
//! A host application would ask an edge node for its birth again when it missed one. That is a command, and this
//! agent sends none: aliases of a birth that may be out of date give `uncertain` readings until the next birth,
//! and aliases that no birth explained give none.

use super::config::Point;
use super::payload::Said;
use super::sparkplug::{Address, Kind, Metric, Payload, Value, said};
use bytes::Bytes;
use prost::Message;
use shared::reading::Quality;
use std::collections::{HashMap, HashSet};

/// Most edge nodes and devices together that are remembered.
const BIRTHS_MAX: usize = 2000;
/// Most metrics with an alias or a type that are remembered.
const METRICS_MAX: usize = 50_000;
/// Most metrics in a message.
const MESSAGE_METRICS_MAX: usize = 20_000;
/// Longest group, edge node or device name, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// All edge nodes of a broker.
#[derive(Debug, Default)]
pub struct Edges {
    /// Metrics that some point wants; nothing is remembered of others.
    wanted: HashSet<String>,
    /// By group and name.
    edges: HashMap<(String, String), Edge>,
}

#[derive(Debug, Default)]
struct Edge {
    /// Of the session that its last birth opened.
    bd_seq: Option<u64>,
    next_seq: Option<u8>,
    /// Its own and its devices'.
    births: HashMap<Option<String>, Birth>,
}

#[derive(Debug, Default)]
struct Birth {
    names: HashMap<u64, String>,
    types: HashMap<String, u32>,
    /// Messages were missed since; there may have been another birth among them.
    doubtful: bool,
}

/// What a message came to.
#[derive(Debug, Default, PartialEq)]
pub struct Heard {
    /// Readings.
    pub said: Vec<Said>,
    /// The edge node, or the device that the topic names, is gone.
    pub death: bool,
    /// Messages before this one are missing.
    pub missed: bool,
    /// Metrics that only an alias names, and no birth explained it.
    pub unexplained: usize,
    /// The first metric that can't be read.
    pub broken: Option<String>,
}

impl Edges {
    /// None known yet; births will be searched for the names in `wanted`.
    #[must_use]
    pub fn new(wanted: HashSet<String>) -> Self {
        Self { wanted, edges: HashMap::new() }
    }

    /// The connection was lost: any message may have been missed.
    pub fn doubt(&mut self) {
        for edge in self.edges.values_mut() {
            edge.next_seq = None;
            edge.births.values_mut().for_each(|birth| birth.doubtful = true);
        }
    }

    /// Takes a message.
    ///
    /// # Errors
    /// When it isn't a Sparkplug payload, or there are too many edge nodes, devices or metrics.
    pub fn hear(&mut self, address: &Address<'_>, payload: &Bytes, points: &[Point]) -> Result<Heard, String> {
        let payload =
            Payload::decode(payload.clone()).map_err(|error| format!("the payload is no Sparkplug B: {error}"))?;
        if payload.metrics.len() > MESSAGE_METRICS_MAX {
            return Err(format!("{} metrics are in it, {MESSAGE_METRICS_MAX} are the most", payload.metrics.len()));
        }
        if [Some(address.group), Some(address.edge), address.device]
            .into_iter()
            .flatten()
            .any(|n| n.len() > NAME_BYTES_MAX)
        {
            return Err(format!("a name in the topic has more than {NAME_BYTES_MAX} bytes"));
        }
        if address.kind == Kind::Death && address.device.is_none() {
            return Ok(self.end(address, &payload));
        }
        let mut heard = Heard { missed: self.count(address, &payload), ..Heard::default() };
        match address.kind {
            Kind::Birth => self.begin(address, &payload)?,
            Kind::Death => {
                if let Some(edge) = self.edges.get_mut(&key(address)) {
                    edge.births.remove(&address.device.map(Into::into));
                }
                heard.death = true;
                return Ok(heard);
            }
            Kind::Data => {}
        }
        let births = self.edges.get(&key(address)).map(|edge| &edge.births);
        let birth = births.and_then(|births| births.get(&address.device.map(Into::into)));
        for bytes in &payload.metrics {
            read(bytes, birth, points, payload.timestamp, &mut heard);
        }
        Ok(heard)
    }

    /// Follows the sequence number; true when there is a hole before this message.
    fn count(&mut self, address: &Address<'_>, payload: &Payload) -> bool {
        let Some(seq) = payload.seq else { return false };
        // An edge node that isn't known has no sequence to be followed, and costs nothing before its birth.
        let Some(edge) = self.edges.get_mut(&key(address)) else { return false };
        let expected = edge.next_seq.replace((seq as u8).wrapping_add(1));
        let opens = address.kind == Kind::Birth && address.device.is_none();
        let missed = !opens && expected.is_some_and(|expected| u64::from(expected) != seq);
        if missed {
            edge.births.values_mut().for_each(|birth| birth.doubtful = true);
        }
        missed
    }

    /// A birth: the edge node's own ends all that was known of its devices.
    fn begin(&mut self, address: &Address<'_>, payload: &Payload) -> Result<(), String> {
        let mut birth = Birth::default();
        let mut bd_seq = None;
        for metric in payload.metrics.iter().filter_map(|bytes| Metric::decode(bytes.clone()).ok()) {
            let Some(name) = metric.name.clone() else { continue };
            if name == "bdSeq" {
                bd_seq = whole(&metric);
            }
            if self.wanted.contains(&name) {
                birth.names.extend(metric.alias.map(|alias| (alias, name.clone())));
                birth.types.extend(metric.datatype.map(|datatype| (name, datatype)));
            }
        }
        if address.device.is_none() {
            let next_seq = payload.seq.map(|seq| (seq as u8).wrapping_add(1));
            self.edges.remove(&key(address));
            self.make_room(&birth)?;
            self.edges.insert(key(address), Edge { bd_seq, next_seq, births: HashMap::new() });
        } else {
            self.make_room(&birth)?;
        }
        let edge = self.edges.entry(key(address)).or_default();
        edge.births.insert(address.device.map(Into::into), birth);
        Ok(())
    }

    fn make_room(&self, birth: &Birth) -> Result<(), String> {
        let births = self.edges.values().map(|edge| 1 + edge.births.len()).sum::<usize>();
        let metrics = self.edges.values().flat_map(|edge| edge.births.values()).map(|b| b.types.len() + b.names.len());
        if births >= BIRTHS_MAX || metrics.sum::<usize>() + birth.types.len() + birth.names.len() > METRICS_MAX {
            return Err("there are too many edge nodes, devices and metrics already".into());
        }
        Ok(())
    }

    /// The death of an edge node, unless it belongs to an earlier session than its birth: a will that came late.
    fn end(&mut self, address: &Address<'_>, payload: &Payload) -> Heard {
        let key = key(address);
        let metrics = payload.metrics.iter().filter_map(|bytes| Metric::decode(bytes.clone()).ok());
        let bd_seq = metrics.filter(|metric| metric.name.as_deref() == Some("bdSeq")).find_map(|metric| whole(&metric));
        let born = self.edges.get(&key).and_then(|edge| edge.bd_seq);
        let late = matches!((born, bd_seq), (Some(born), Some(dead)) if born != dead);
        if !late {
            self.edges.remove(&key);
        }
        Heard { death: !late, ..Heard::default() }
    }
}

fn key(address: &Address<'_>) -> (String, String) {
    (address.group.to_owned(), address.edge.to_owned())
}

fn whole(metric: &Metric) -> Option<u64> {
    match metric.value? {
        Value::Int(number) => Some(number.into()),
        Value::Long(number) => Some(number),
        _ => None,
    }
}

fn read(bytes: &Bytes, birth: Option<&Birth>, points: &[Point], sent: Option<u64>, heard: &mut Heard) {
    let metric = match Metric::decode(bytes.clone()) {
        Ok(metric) => metric,
        Err(error) => {
            heard.broken.get_or_insert_with(|| format!("a metric can't be read: {error}"));
            return;
        }
    };
    let mut doubtful = false;
    let name = match (&metric.name, metric.alias, birth) {
        (Some(name), ..) if !name.is_empty() => name.as_str(),
        (_, Some(alias), Some(birth)) => {
            let Some(name) = birth.names.get(&alias) else { return }; // born, and wanted by no point
            doubtful = birth.doubtful;
            name
        }
        _ => {
            heard.unexplained += 1;
            return;
        }
    };
    let Some((index, point)) = points.iter().enumerate().find(|(_, point)| point.name == name) else { return };
    let datatype = metric.datatype.filter(|known| *known != 0);
    let datatype = datatype.or_else(|| birth.and_then(|birth| birth.types.get(name).copied()));
    let Some(mut said) = said(index, point, &metric, datatype, sent) else { return };
    if doubtful && said.quality == Quality::GOOD {
        said.quality = Quality::UNCERTAIN_SENSOR;
        said.problem = Some("messages were missed since the last birth: the alias may mean another metric now".into());
    }
    heard.said.push(said);
}

#[cfg(test)]
#[path = "edges_tests.rs"]
mod tests;
