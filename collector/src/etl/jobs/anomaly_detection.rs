//! What is out of the ordinary, every quarter of an hour: the last day of every series against what it showed before.

use super::sums::{hours, sums};
use crate::analytics::anomaly::{Look, TEACHING, Taught, WINDOW, alarmed, detect};
use crate::analytics::forecast::TRAINING;
use crate::anomalies::{Anomalies, Stored};
use crate::etl::{Job, JobError, Now, Outcome, Progress};
use crate::rollup::{Sample, known_hold};
use crate::tiers::{Bucket, SeriesInfo, TierError, WarmTier};
use futures::future::BoxFuture;
use jiff::tz::TimeZone;
use shared::reading::{Quality, Timestamp};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const HOUR: i64 = 3_600_000_000;
/// Anomalies of a series that are looked at: what they cover teaches nothing.
const KNOWN_MAX: u32 = 1_000;
/// What teaches nothing is made up for by what was before, so far: else a leak that isn't mended in eight weeks would be
/// how things are. Microseconds.
const EARLIER_MAX: i64 = 365 * 24 * HOUR;
/// Refusals by the gateway are looked for in so much, microseconds: they are looked for among readings.
const REFUSED: i64 = HOUR;
const PAGE: u32 = 10_000;
/// Longest rest after a series.
const REST_MAX: Duration = Duration::from_millis(20);

/// The job.
pub struct AnomalyDetection {
    /// Where readings are.
    pub warm: Arc<dyn WarmTier>,
    /// Where anomalies go.
    pub anomalies: Arc<Anomalies>,
    /// In which hours of the week are alike.
    pub zone: TimeZone,
    /// The clock.
    pub now: Now,
}

impl AnomalyDetection {
    /// Looks at a series; `None` when it never had a value.
    async fn of(&self, series: &SeriesInfo, now: Timestamp) -> Result<Option<(Stored, Taught)>, TierError> {
        let warm = &*self.warm;
        let Some(last) = warm.last_before(series.id, now.plus_micros(1), true).await? else { return Ok(None) };
        let recent = now.plus_micros(-TRAINING - WINDOW);
        let turn = self.anomalies.turn().await;
        let known = turn.known(series.id, recent.plus_micros(-EARLIER_MAX), KNOWN_MAX).await?;
        let alarmed = alarmed(&known, now);
        let lost: i64 = alarmed.iter().map(|(from, to)| to.since(*from.max(&recent)).max(0)).sum();
        let since = Bucket::Hour.start_of(recent.plus_micros(-lost.min(EARLIER_MAX)));
        let from = Bucket::Hour.start_of(now.plus_micros(-TEACHING - WINDOW));
        let buckets = sums(warm, series, Bucket::FiveMinutes, (from, now)).await?;
        let full = Bucket::Hour.start_of(now);
        let hours = hours(warm, series, (since, full)).await?;
        let refused = self.refused(series, now, buckets.iter().map(|(start, sum)| (*start, sum.bad))).await?;
        let buckets: Vec<_> = buckets.into_iter().collect();
        let look = Look {
            metric: &series.key.metric,
            kind: series.kind,
            hold: known_hold(series.interval_ms, series.silence_ms_max),
            now,
            zone: &self.zone,
            buckets: &buckets,
            hours: &hours,
            last: last.held.value.map(|value| Sample { at: last.at, value }),
            refused: &refused,
            alarmed: &alarmed,
        };
        let taught = Taught::of(&look);
        self.anomalies.learn(series, taught);
        let stored = turn.settle(series.id, &known, &detect(&look, &taught), now).await?;
        Ok(Some((stored, taught)))
    }

    /// The latest buckets in which the gateway refused values beyond the point's range.
    async fn refused(
        &self,
        series: &SeriesInfo,
        now: Timestamp,
        bad: impl Iterator<Item = (Timestamp, u32)>,
    ) -> Result<Vec<Timestamp>, TierError> {
        let (since, mut refused) = (now.plus_micros(-REFUSED), Vec::new());
        for (start, _) in bad.filter(|(start, bad)| *bad > 0 && *start >= since) {
            let end = start.plus_micros(Bucket::FiveMinutes.micros());
            let readings = self.warm.range(series.id, start, end, PAGE).await?;
            if readings.iter().any(|reading| reading.held.quality == Quality::BAD_OUT_OF_RANGE) {
                refused.push(start);
            }
        }
        Ok(refused)
    }

    async fn work(&self, progress: &Progress) -> Result<Outcome, JobError> {
        let now = (self.now)();
        let series = self.warm.series(None).await?;
        progress.of(series.len() as u64);
        let (mut rows, mut opened, mut young) = (0, 0, 0);
        for one in &series {
            let began = Instant::now();
            let (stored, taught) = self.of(one, now).await?.unwrap_or_default();
            rows += stored.changed;
            opened += stored.opened;
            young += u64::from(!taught.enough);
            progress.step();
            // Thousands of series take minutes, in which people ask, too: half of the time is theirs.
            tokio::time::sleep(began.elapsed().min(REST_MAX)).await;
        }
        let mut detail = format!("{opened} new in {} series", series.len());
        if young > 0 {
            let _ =
                write!(detail, "; {young} have no eight days behind them yet and are judged by range and silence only");
        }
        Ok(Outcome { rows, detail })
    }
}

impl Job for AnomalyDetection {
    fn name(&self) -> &'static str {
        "anomaly_detection"
    }
    fn what(&self) -> &'static str {
        "what is out of the ordinary in every series' last day"
    }
    fn limit(&self) -> Duration {
        Duration::from_secs(3600)
    }
    fn run<'a>(&'a self, progress: &'a Progress) -> BoxFuture<'a, Result<Outcome, JobError>> {
        Box::pin(self.work(progress))
    }
}
