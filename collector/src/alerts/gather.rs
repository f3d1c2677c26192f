//! What stands now: anomalies, gateways that say nothing, jobs that failed, troubles of this collector.

use super::news::Alert;
use crate::analytics::anomaly::Severity;
use crate::analytics::store::{Anomaly, State, Wanted};
use crate::etl::Scheduler;
use crate::etl::store::JobRun;
use crate::tiers::{SeriesId, SeriesInfo, TierError, WarmTier};
use shared::reading::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Anomalies that are looked at.
const ANOMALIES_MAX: u32 = 1_000;
/// What was over before anybody looked at it stands for so long.
const SEEN_TO_US: i64 = 6 * 3_600_000_000;

/// What is wrong with this collector: the part, and why.
pub type Troubles = Arc<dyn Fn() -> Vec<(&'static str, String)> + Send + Sync>;

/// The part of which nobody lacks anything while it is in trouble: answers come from elsewhere.
pub(crate) const REPLICA: &str = "replica";

/// Where what stands is looked up.
pub struct Gather {
    warm: Arc<dyn WarmTier>,
    jobs: Arc<Scheduler>,
    troubles: Troubles,
    /// This collector's name.
    me: String,
    /// A gateway that says nothing for so long is silent, microseconds.
    silent_us: i64,
    /// When troubles were first seen.
    since: BTreeMap<&'static str, Timestamp>,
    /// What series are called, looked up when one is new: there may be many thousands, and this is asked all day.
    names: HashMap<SeriesId, SeriesInfo>,
}

/// What stands, and what could be looked up.
pub(super) struct Standing {
    pub(super) alerts: Vec<Alert>,
    known: Vec<String>,
}

impl Standing {
    /// Whether an alert of this key would be here if it stood.
    pub(super) fn is_ours(&self, key: &str) -> bool {
        self.known.iter().any(|begin| key.starts_with(begin.as_str()))
    }

    fn learn(&mut self, begin: &str, found: Result<Vec<Alert>, TierError>) {
        match found {
            Ok(alerts) => {
                self.alerts.extend(alerts);
                self.known.push(begin.to_owned());
            }
            Err(error) => tracing::debug!(%error, "{begin} can't be looked up now"),
        }
    }
}

impl Gather {
    /// Looks there.
    #[must_use]
    pub fn new(warm: Arc<dyn WarmTier>, jobs: Arc<Scheduler>, troubles: Troubles, me: String, silent_us: i64) -> Self {
        Self { warm, jobs, troubles, me, silent_us, since: BTreeMap::new(), names: HashMap::new() }
    }

    /// What all collectors see is told by the one that leads; troubles are each one's own.
    pub(super) async fn standing(&mut self, now: Timestamp) -> Standing {
        let own = format!("trouble/{}/", self.me);
        let mut standing = Standing { alerts: self.troubles(&own, now), known: vec![own] };
        if self.jobs.leads() {
            standing.learn("anomaly/", self.anomalies(now).await);
            standing.learn("gateway/", self.gateways(now).await);
            standing.learn("job/", self.failed_jobs().await);
        }
        standing
    }

    fn troubles(&mut self, own: &str, now: Timestamp) -> Vec<Alert> {
        let troubles = (self.troubles)();
        self.since.retain(|part, _| troubles.iter().any(|(there, _)| there == part));
        let alert = |(part, why): (&'static str, String)| Alert {
            key: format!("{own}{part}"),
            severity: severity(part),
            title: format!("collector {}: {part}", self.me),
            detail: why,
            since: *self.since.entry(part).or_insert(now),
            until: None,
            in_hand: false,
        };
        troubles.into_iter().map(alert).collect()
    }

    async fn anomalies(&mut self, now: Timestamp) -> Result<Vec<Alert>, TierError> {
        let from = now.plus_micros(-SEEN_TO_US);
        let found = self.warm.anomalies().find_anomalies(&Wanted { from, ..Wanted::all(ANOMALIES_MAX) }).await?;
        let stands = |one: &&Anomaly| match one.state {
            State::Open => true,
            State::Acknowledged => one.end.is_none(),
            State::Closed => false,
        };
        let standing: Vec<&Anomaly> = found.iter().filter(stands).collect();
        if standing.iter().any(|one| !self.names.contains_key(&one.series)) {
            self.names = self.warm.series(None).await?.into_iter().map(|info| (info.id, info)).collect();
        }
        Ok(standing.into_iter().map(|one| anomaly(one, self.names.get(&one.series))).collect())
    }

    async fn gateways(&self, now: Timestamp) -> Result<Vec<Alert>, TierError> {
        let gateways = self.warm.gateways().await?;
        let silent = gateways.into_iter().filter(|gateway| now.0 - gateway.last_heard.0 > self.silent_us);
        let alert = |gateway: crate::tiers::GatewayInfo| Alert {
            key: format!("gateway/{}", gateway.gateway),
            severity: Severity::Critical,
            title: format!("gateway {} is silent", gateway.gateway),
            detail: "it keeps on its disk what it reads; look at its power, its link, its certificate".into(),
            since: gateway.last_heard,
            until: None,
            in_hand: false,
        };
        Ok(silent.map(alert).collect())
    }

    async fn failed_jobs(&self) -> Result<Vec<Alert>, TierError> {
        let alert = |(name, run): (&str, JobRun)| Alert {
            key: format!("job/{name}"),
            severity: Severity::Warning,
            title: format!("job {name} failed"),
            detail: run.error.unwrap_or_default(),
            since: run.finished_at.unwrap_or(run.started_at),
            until: None,
            in_hand: false,
        };
        Ok(self.jobs.failed().await?.into_iter().map(alert).collect())
    }
}

/// How bad it is that a part is in trouble.
pub(crate) fn severity(part: &str) -> Severity {
    if part == REPLICA { Severity::Warning } else { Severity::Critical }
}

fn anomaly(one: &Anomaly, series: Option<&SeriesInfo>) -> Alert {
    let place = series.map_or_else(|| format!("series {}", one.series), |info| info.key.to_string());
    let unit = series.map_or("", |info| info.unit.as_str());
    let value = |word, value: Option<f64>| value.map(|x| format!("{word} {x:.3} {unit}"));
    let figures: Vec<String> =
        [value("expected", one.expected), value("seen", one.seen)].into_iter().flatten().collect();
    let lines = [one.detail.clone(), figures.join(", ")];
    Alert {
        key: format!("anomaly/{}", one.number),
        severity: one.severity,
        title: format!("{place}: {}", one.kind.as_str().replace('_', " ")),
        detail: lines.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n"),
        since: one.start,
        until: one.end,
        in_hand: one.state == State::Acknowledged,
    }
}
