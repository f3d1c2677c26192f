//! Newest values, looked at as they come. Every collector watches, the one that leads stores what is found: its job settles
//! the same anomalies.
//!
//! Bounded: a watch for each series, what is found waits once for each series and kind, and goes together. What is missed
//! because this is too slow is found by the job.

use super::Anomalies;
use crate::analytics::anomaly::{Finding, Watch};
use crate::etl::Now;
use crate::tiers::{HotTier, SeriesId, StoredReading, WarmTier};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Most series that are watched.
const SERIES_MAX: usize = 100_000;
/// Series that are stored at once.
const STORED_MAX: usize = 500;
/// Between two times that something is stored at least.
const PACE: Duration = Duration::from_millis(100);
/// After a failure.
const PAUSE: Duration = Duration::from_secs(5);
/// What is further from the clock says nothing about now, microseconds: it came late, was looked up at the start, or its clock
/// is wrong. The job looks at it.
const FRESH: std::ops::RangeInclusive<i64> = -60_000_000..=600_000_000;
/// Findings that are so near are one, microseconds.
const TOGETHER: i64 = 3_600_000_000;
/// Between looks for series that aren't known.
const NEW_EVERY: Duration = Duration::from_secs(10);

/// What looks.
pub struct Live {
    /// Where anomalies go.
    pub anomalies: Arc<Anomalies>,
    /// Where values come from.
    pub hot: Arc<dyn HotTier>,
    /// Where series are known.
    pub warm: Arc<dyn WarmTier>,
    /// Whether this collector leads.
    pub leads: Arc<dyn Fn() -> bool + Send + Sync>,
    /// The clock.
    pub now: Now,
}

/// What is to be stored: of each series one finding of a kind.
type Waiting = BTreeMap<SeriesId, Vec<Finding>>;

fn wait_for(waiting: &mut Waiting, series: SeriesId, found: Vec<Finding>) {
    if found.is_empty() {
        return;
    }
    let waits = waiting.entry(series).or_default();
    for one in found {
        match waits.iter_mut().find(|before| before.kind == one.kind) {
            Some(before) if one.start.since(before.last) <= TOGETHER => {
                *before = Finding { start: before.start.min(one.start), ..one };
            }
            Some(before) => *before = one,
            None => waits.push(one),
        }
    }
}

impl Live {
    /// Until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut feed = self.hot.subscribe();
        let (mut waiting, mut not_before, mut look_again) = (Waiting::new(), Instant::now(), Instant::now());
        loop {
            let due = !waiting.is_empty();
            tokio::select! {
                () = stop.cancelled() => return,
                came = feed.recv() => match came {
                    Ok(readings) => {
                        let unknown = self.take(&readings, &mut waiting);
                        if unknown && look_again <= Instant::now() {
                            look_again = Instant::now() + NEW_EVERY;
                            self.meet().await;
                            self.take(&readings, &mut waiting); // those it knew already are no news
                        }
                    }
                    Err(RecvError::Closed) => return,
                    Err(RecvError::Lagged(missed)) => {
                        metrics::counter!("collector_live_detection_missed_total").increment(missed);
                    }
                },
                () = tokio::time::sleep_until(not_before), if due => {
                    let pause = self.store(&mut waiting).await;
                    not_before = Instant::now() + pause;
                }
            }
        }
    }

    /// Looks at values; gives whether one was of a series that isn't known.
    fn take(&self, readings: &[StoredReading], waiting: &mut Waiting) -> bool {
        let (leads, now) = ((self.leads)(), (self.now)());
        self.anomalies.watching(|all| {
            let mut unknown = false;
            for StoredReading { series, at, held } in readings.iter().filter(|one| FRESH.contains(&now.since(one.at))) {
                match all.get_mut(series) {
                    Some(watch) => {
                        let found = watch.take(*at, held);
                        if leads {
                            wait_for(waiting, *series, found);
                        }
                    }
                    None => unknown = true,
                }
            }
            unknown
        })
    }

    /// Looks up which series there are.
    async fn meet(&self) {
        match self.warm.series(None).await {
            Ok(series) => self.anomalies.watching(|all| {
                for one in series.iter().take(SERIES_MAX) {
                    all.entry(one.id).or_insert_with(|| Watch::new(one));
                }
            }),
            Err(error) => tracing::debug!(%error, "new series are not watched yet"),
        }
    }

    /// Stores some of what waits; gives how long to wait before the next time.
    async fn store(&self, waiting: &mut Waiting) -> Duration {
        let mut some = std::mem::take(waiting);
        if let Some(rest) = some.keys().nth(STORED_MAX).copied() {
            *waiting = some.split_off(&rest);
        }
        match self.anomalies.turn().await.add(&some, (self.now)()).await {
            Ok(stored) => {
                metrics::counter!("collector_live_anomalies_total").increment(stored.opened);
                PACE
            }
            Err(error) => {
                tracing::debug!(%error, "what was found in newest values is not stored yet");
                for (series, found) in std::mem::replace(waiting, some) {
                    wait_for(waiting, series, found);
                }
                PAUSE
            }
        }
    }
}
