//! All points of this run, numbered in order of their first appearance, and what each last said.
//!
//! Invariant: a number never changes its meaning within a run; the catalogue only grows at its end.

use crate::report::Deadband;
use crate::sample::Sample;
use shared::catalogue::{Catalogue, Entry, POINTS_MAX, PointNo};
use shared::ids::NodeId;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A point as its source configures it.
#[derive(Clone, PartialEq, Debug)]
pub struct PointDef {
    /// What the collector will know of it.
    pub entry: Entry,
    /// Report by exception, when it is wanted. The maximum silence is in the entry.
    pub deadband: Option<Deadband>,
    /// Where it is read, for people: `pump-bus/unit 1/holding 40`.
    pub source: String,
}

/// Why a point was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Two sources claim one series.
    #[error("{node} {metric} {channel} is read twice: by {first} and by {second}; give one of them another channel")]
    Twice {
        /// The node both name.
        node: NodeId,
        /// The metric both name.
        metric: String,
        /// The channel both name.
        channel: String,
        /// Who was first.
        first: String,
        /// Who was refused.
        second: String,
    },
    /// The table is full.
    #[error("{0} is refused: an agent has at most {POINTS_MAX} points")]
    Full(String),
}

/// What a point last said.
#[derive(Clone, Debug)]
pub struct PointState {
    /// The point as configured.
    pub def: PointDef,
    /// The last reading, good or bad.
    pub last: Option<Sample>,
    /// The last good or uncertain reading.
    pub last_usable: Option<Sample>,
    /// What went wrong last, while it is still wrong.
    pub error: Option<String>,
    /// Readings seen.
    pub readings: u64,
    /// Bad readings among them.
    pub bad: u64,
}

/// The table of points; shared by all sources.
#[derive(Debug, Default)]
pub struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    points: Vec<PointState>,
    links: BTreeMap<String, Option<String>>,
    by_series: HashMap<(NodeId, String, String), PointNo>,
    catalogue: Option<Arc<Catalogue>>, // made when asked for, so that discovering n points hashes once, not n times
}

impl Registry {
    /// An empty table.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics between two halves of a change, so a poisoned table is still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers a point; the same point from the same source again gets the same number.
    ///
    /// # Errors
    /// When another source has that series, or the table is full.
    pub fn point(&self, def: PointDef) -> Result<PointNo, RegistryError> {
        let mut inner = self.lock();
        let key = (def.entry.node.clone(), def.entry.metric.clone(), def.entry.channel.clone());
        if let Some(&known) = inner.by_series.get(&key) {
            let first = &inner.points[known.0 as usize].def;
            if first.source == def.source {
                return Ok(known);
            }
            let (node, metric, channel) = key;
            return Err(RegistryError::Twice {
                node,
                metric,
                channel,
                first: first.source.clone(),
                second: def.source,
            });
        }
        if inner.points.len() >= POINTS_MAX {
            return Err(RegistryError::Full(def.source));
        }
        let number = PointNo(inner.points.len() as u32);
        inner.by_series.insert(key, number);
        inner.points.push(PointState { def, last: None, last_usable: None, error: None, readings: 0, bad: 0 });
        inner.catalogue = None;
        Ok(number)
    }

    /// The catalogue of all points so far.
    #[must_use]
    pub fn catalogue(&self) -> Arc<Catalogue> {
        let mut inner = self.lock();
        if let Some(made) = &inner.catalogue {
            return made.clone();
        }
        let entries = inner.points.iter().map(|p| p.def.entry.clone()).collect();
        // `point` keeps the table within POINTS_MAX, the only thing `new` refuses.
        #[allow(clippy::expect_used)]
        let made = Arc::new(Catalogue::new(entries).expect("the table is bounded"));
        inner.catalogue = Some(made.clone());
        made
    }

    /// Notes a reading for `status`. An error text without a bad reading is a warning about this point.
    pub fn seen(&self, point: PointNo, sample: &Sample, error: Option<String>) {
        let mut inner = self.lock();
        let Some(state) = inner.points.get_mut(point.0 as usize) else { return };
        state.readings += 1;
        if sample.quality.is_usable() {
            state.last_usable = Some(*sample);
        } else {
            state.bad += 1;
        }
        state.error = error;
        state.last = Some(*sample);
    }

    /// Notes how a link or broker is: what is wrong with it, or `None` when it is up.
    pub fn link(&self, name: &str, wrong: Option<String>) {
        self.lock().links.insert(name.to_owned(), wrong);
    }

    /// Every link and broker that was tried, and what is wrong with it.
    #[must_use]
    pub fn links(&self) -> BTreeMap<String, Option<String>> {
        self.lock().links.clone()
    }

    /// How many points there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().points.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The deadband of a point and its maximum silence in microseconds, when it reports by exception.
    #[must_use]
    pub fn exception_rule(&self, point: PointNo) -> Option<(Deadband, i64)> {
        let inner = self.lock();
        let def = &inner.points.get(point.0 as usize)?.def;
        Some((def.deadband?, i64::from(def.entry.silence_ms_max) * 1000))
    }

    /// Everything, for `status`.
    #[must_use]
    pub fn snapshot(&self) -> Vec<PointState> {
        self.lock().points.clone()
    }

    /// How many points there are, and how many of them are bad now.
    #[must_use]
    pub fn counts(&self) -> (u32, u32) {
        let inner = self.lock();
        let bad = inner.points.iter().filter(|p| p.last.is_some_and(|s| !s.quality.is_usable())).count();
        (inner.points.len() as u32, bad as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::At;
    use shared::catalogue::Class;
    use shared::metric::Kind;
    use shared::reading::Quality;

    fn def(node: &str, source: &str) -> PointDef {
        let entry = Entry {
            node: NodeId::new(node).unwrap(),
            metric: "flow_rate".into(),
            channel: String::new(),
            kind: Kind::Gauge,
            unit: "L/s".into(),
            resolution_exp: Some(-2),
            interval_ms: 1000,
            silence_ms_max: 0,
            class: Class::Raw,
        };
        PointDef { entry, deadband: None, source: source.into() }
    }

    #[test]
    fn numbers_stay_while_the_catalogue_grows() {
        let registry = Registry::new();
        let first = registry.point(def("A", "bus/1")).unwrap();
        let before = registry.catalogue();
        assert_eq!(registry.point(def("B", "bus/2")), Ok(PointNo(1)));
        assert_eq!(registry.point(def("A", "bus/1")), Ok(first));
        let after = registry.catalogue();
        assert_ne!(before.hash(), after.hash());
        assert_eq!(after.entries()[..1], before.entries()[..]);
    }

    #[test]
    fn two_sources_for_one_series_are_refused_by_name() {
        let registry = Registry::new();
        registry.point(def("A", "bus/1")).unwrap();
        let refusal = registry.point(def("A", "broker/x")).unwrap_err().to_string();
        assert!(refusal.contains("bus/1") && refusal.contains("broker/x"), "{refusal}");
    }

    #[test]
    fn a_bad_reading_counts_and_leaves_the_last_usable_one() {
        let registry = Registry::new();
        let point = registry.point(def("A", "bus/1")).unwrap();
        let good = Sample { point, at: At::Mono(1), value: Some(1.0), quality: Quality::GOOD };
        let bad = Sample { at: At::Mono(2), value: None, quality: Quality::BAD_TIMEOUT, ..good };
        registry.seen(point, &good, None);
        registry.link("bus", Some("no route".into()));
        registry.link("bus", None);
        assert_eq!(registry.links(), [("bus".to_owned(), None)].into());
        registry.seen(point, &bad, Some("timeout".into()));
        assert_eq!(registry.counts(), (1, 1));
        assert_eq!(registry.snapshot()[0].last_usable, Some(good));
    }
}
