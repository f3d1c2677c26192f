//! The daily forecasts, 24 hours and 7 days, and how right the earlier ones were.

use super::sums::hours;
use crate::analytics::forecast::{self, HOURS, MODEL, TRAINING};
use crate::analytics::store::Forecast;
use crate::etl::{Job, JobError, Now, Outcome, Progress};
use crate::rollup::Sample;
use crate::tiers::{Bucket, SeriesInfo, TierError, WarmTier};
use futures::future::BoxFuture;
use jiff::tz::TimeZone;
use shared::metric::Kind;
use shared::reading::Timestamp;
use std::sync::Arc;
use std::time::Duration;

const HOUR: i64 = 3_600_000_000;
/// Forecasts are kept for so long after their origin, and with them their scores.
const KEPT: i64 = 90 * 24 * HOUR;
/// So long after its last hour a forecast is scored again: what came late counts.
const SETTLED: i64 = 24 * HOUR;
/// Days for which a series that was never foretold is foretold afterwards, from what was before each: a file that brings a
/// past then says at once how right that is.
const MADE_UP: i64 = 9;
/// Forecasts that are written at once.
const ROWS: usize = 100;

/// The job.
pub struct Forecasting {
    /// Where readings are, and forecasts go.
    pub warm: Arc<dyn WarmTier>,
    /// In which hours of the week are alike.
    pub zone: TimeZone,
    /// The clock.
    pub now: Now,
}

impl Forecasting {
    /// The new forecast, if there is one, and the earlier ones with their scores.
    async fn of(&self, series: &SeriesInfo, now: Timestamp) -> Result<Vec<Forecast>, TierError> {
        let origin = Bucket::Hour.start_of(now);
        let since = origin.plus_micros(-HOURS * HOUR - SETTLED);
        let mut all = self.warm.forecasts().forecasts(series.id, since, u32::MAX).await?;
        all.retain(|earlier| earlier.origin < origin);
        let days = if all.is_empty() { MADE_UP } else { 0 };
        let before = |days: i64| origin.plus_micros(-days * 24 * HOUR);
        let hours = hours(&*self.warm, series, (before(days).plus_micros(-TRAINING), origin)).await?;
        for earlier in &mut all {
            earlier.scores = forecast::score(&earlier.points, &hours);
        }
        all.extend((0..=days).rev().filter_map(|days| self.made(series, &hours, before(days), now)));
        Ok(all)
    }

    /// The forecast of a moment, if there is one, with its scores as far as it was overtaken.
    fn made(&self, series: &SeriesInfo, hours: &[Sample], origin: Timestamp, now: Timestamp) -> Option<Forecast> {
        let trained_from = origin.plus_micros(-TRAINING);
        let points = forecast::forecast(hours, origin, &self.zone);
        let scores = forecast::score(&points, hours);
        (!points.is_empty()).then(|| Forecast {
            series: series.id,
            origin,
            model: MODEL.to_owned(),
            trained_from: hours.iter().find(|hour| hour.at >= trained_from).map_or(trained_from, |hour| hour.at),
            trained_to: origin,
            made_at: now,
            points,
            scores,
        })
    }

    async fn work(&self, progress: &Progress) -> Result<Outcome, JobError> {
        let now = (self.now)();
        let mut series = self.warm.series(None).await?;
        series.retain(|series| series.kind != Kind::State);
        progress.of(series.len() as u64);
        let (mut waiting, mut rows, mut made) = (Vec::new(), 0, 0);
        for one in &series {
            let forecasts = self.of(one, now).await?;
            made += u64::from(forecasts.last().is_some_and(|last| last.trained_to == Bucket::Hour.start_of(now)));
            rows += forecasts.len() as u64;
            waiting.extend(forecasts);
            if waiting.len() >= ROWS {
                self.put(&mut waiting, now).await?;
            }
            progress.step();
        }
        self.put(&mut waiting, now).await?;
        Ok(Outcome { rows, detail: format!("{made} of {} series can be foretold", series.len()) })
    }

    async fn put(&self, waiting: &mut Vec<Forecast>, now: Timestamp) -> Result<(), TierError> {
        self.warm.forecasts().put_forecasts(waiting, now.plus_micros(-KEPT)).await?;
        waiting.clear();
        Ok(())
    }
}

impl Job for Forecasting {
    fn name(&self) -> &'static str {
        "forecast"
    }
    fn what(&self) -> &'static str {
        "what every series is expected to be, 24 hours and 7 days ahead"
    }
    fn limit(&self) -> Duration {
        Duration::from_secs(2 * 3600)
    }
    fn run<'a>(&'a self, progress: &'a Progress) -> BoxFuture<'a, Result<Outcome, JobError>> {
        Box::pin(self.work(progress))
    }
}
