//! The points of one broker: those that are configured whole, and those that turn up with their topics.

use super::config::{Broker, Payload, Point, Subscription};
use super::topic::Captures;
use crate::registry::{PointDef, Registry, RegistryError};
use shared::catalogue::{Entry, PointNo};
use shared::ids::NodeId;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// A point that nobody said an interval or a silence of goes bad after its broker was away for this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a message can't be given to a point.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// What the topic says is no name.
    #[error("{0}")]
    Name(String),
    /// The broker has as many points as it may have.
    #[error("there are {0} points of this broker already; raise its points_max if they are all wanted")]
    Full(usize),
    /// The registry doesn't want it.
    #[error("{0}")]
    Registry(#[from] RegistryError),
}

/// A point on this broker: its place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(usize);

#[derive(Debug)]
struct State {
    number: PointNo,
    subscription: usize,
    patience_us: i64,
    /// It has been told that its link is down, and said nothing since.
    is_down: bool,
    /// Sparkplug: the edge node, and the device if it is one's.
    origin: Option<(String, Option<String>)>,
}

/// Where a message comes from, as far as its points are concerned.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    pub(super) subscription: usize,
    pub(super) captures: Captures<'a>,
    /// Sparkplug: group/edge and device.
    pub(super) origin: Option<(String, Option<String>)>,
}

type Key = (usize, usize, NodeId, String);

/// The table.
pub(super) struct Points {
    broker: Arc<Broker>,
    registry: Arc<Registry>,
    by_key: HashMap<Key, Slot>,
    states: Vec<State>,
}

impl Points {
    /// Registers what is configured whole.
    ///
    /// # Errors
    /// When two sources read one series, or there are too many points.
    pub(super) fn new(broker: Arc<Broker>, registry: Arc<Registry>) -> Result<Self, RegistryError> {
        let mut points = Self { broker, registry, by_key: HashMap::new(), states: Vec::new() };
        for (s, subscription) in Arc::clone(&points.broker).subscriptions.iter().enumerate() {
            for (p, point) in subscription.points.iter().enumerate().filter(|(_, point)| point.is_fixed()) {
                // Fixed points need nothing from the topic; what it calls them makes their source readable.
                let captures = vec![("metric", point.name.as_str())];
                let place = Place { subscription: s, captures, origin: None };
                match points.find_or_add(&place, p) {
                    Ok(_) => {}
                    Err(Refusal::Registry(error)) => return Err(error),
                    Err(refusal) => {
                        let what = format!("{}/{} ({refusal})", points.broker.name, point.measure.metric.name);
                        return Err(RegistryError::Full(what));
                    }
                }
            }
        }
        Ok(points)
    }

    fn subscription(&self, place: &Place<'_>) -> &Subscription {
        &self.broker.subscriptions[place.subscription]
    }

    fn key(&self, place: &Place<'_>, point: usize) -> Result<Key, Refusal> {
        let configured = &self.subscription(place).points[point];
        let missing = || Refusal::Name("the topic doesn't say what node and channel need".into());
        let node = configured.node.render(&place.captures).ok_or_else(missing)?;
        let node = NodeId::new(&node).map_err(|error| Refusal::Name(error.to_string()))?;
        let channel = configured.channel.render(&place.captures).ok_or_else(missing)?;
        if !channel.is_empty() {
            NodeId::new(&channel).map_err(|error| Refusal::Name(format!("channel: {error}")))?;
        }
        Ok((place.subscription, point, node, channel))
    }

    /// A point that is known already.
    pub(super) fn find(&self, place: &Place<'_>, point: usize) -> Option<Slot> {
        self.by_key.get(&self.key(place, point).ok()?).copied()
    }

    /// A point; it is registered when it is new.
    ///
    /// # Errors
    /// When its name is none, or there is no room for it.
    pub(super) fn find_or_add(&mut self, place: &Place<'_>, point: usize) -> Result<Slot, Refusal> {
        let key = self.key(place, point)?;
        if let Some(&known) = self.by_key.get(&key) {
            return Ok(known);
        }
        if self.states.len() >= self.broker.points_max {
            return Err(Refusal::Full(self.broker.points_max));
        }
        let configured = &self.subscription(place).points[point];
        let def = PointDef {
            entry: entry(configured, key.2.clone(), key.3.clone()),
            deadband: configured.measure.deadband,
            source: self.source(place, configured),
        };
        let number = self.registry.point(def)?;
        let measure = &configured.measure;
        let patience = [measure.interval, measure.max_silence].into_iter().find(|d| !d.is_zero()).unwrap_or(PATIENCE);
        let slot = Slot(self.states.len());
        self.states.push(State {
            number,
            subscription: place.subscription,
            patience_us: patience.as_micros() as i64,
            is_down: false,
            origin: place.origin.clone(),
        });
        self.by_key.insert(key, slot);
        metrics::gauge!("edge_mqtt_points", "broker" => self.broker.name.clone()).set(self.states.len() as f64);
        Ok(slot)
    }

    /// Where a point is read, for people.
    fn source(&self, place: &Place<'_>, point: &Point) -> String {
        let (broker, subscription) = (&self.broker.name, self.subscription(place));
        let topic = subscription.pattern.filled(&place.captures);
        match (&subscription.payload, &place.origin) {
            (Payload::Json(_), _) => format!("{broker}/{topic}: {}", point.value),
            (Payload::Sparkplug, Some((edge, device))) => {
                let device = device.as_ref().map(|device| format!("/{device}")).unwrap_or_default();
                format!("{broker}/{edge}{device}: {}", point.name)
            }
            (Payload::Sparkplug, None) => format!("{broker}/{topic}: {}", point.name),
            (Payload::Number, _) => format!("{broker}/{topic}"),
        }
    }

    /// The registry's number of a point that has just said something.
    pub(super) fn heard(&mut self, slot: Slot) -> PointNo {
        let state = &mut self.states[slot.0];
        state.is_down = false;
        state.number
    }

    /// The points whose link has been down for longer than they may be silent, each once. `lost_us` is since when
    /// a subscription gets nothing.
    pub(super) fn overdue(&mut self, now_us: i64, lost_us: impl Fn(usize) -> Option<i64>) -> Vec<(PointNo, usize)> {
        let mut overdue = Vec::new();
        for state in self.states.iter_mut().filter(|state| !state.is_down) {
            if lost_us(state.subscription).is_some_and(|lost| now_us - lost >= state.patience_us) {
                state.is_down = true;
                overdue.push((state.number, state.subscription));
            }
        }
        overdue
    }

    /// The points of an edge node whose device (`None`: its own) is concerned and that aren't down already.
    pub(super) fn take_down(&mut self, edge: &str, concerns: impl Fn(Option<&str>) -> bool) -> Vec<PointNo> {
        let mut down = Vec::new();
        for state in self.states.iter_mut().filter(|state| !state.is_down) {
            let Some((its_edge, its_device)) = &state.origin else { continue };
            if its_edge == edge && concerns(its_device.as_deref()) {
                state.is_down = true;
                down.push(state.number);
            }
        }
        down
    }
}

fn entry(point: &Point, node: NodeId, channel: String) -> Entry {
    let measure = &point.measure;
    Entry {
        node,
        metric: measure.metric.name.to_owned(),
        channel,
        kind: measure.metric.kind,
        unit: measure.metric.unit.to_owned(),
        resolution_exp: measure.resolution_exp,
        interval_ms: measure.interval.as_millis() as u32,
        silence_ms_max: measure.max_silence.as_millis() as u32,
        class: point.class,
    }
}

#[cfg(test)]
#[path = "points_tests.rs"]
mod tests;
