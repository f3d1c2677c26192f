//! The daily report on the quality of data: every series' last three days, so that what came late is in it.

use crate::analytics::quality::{Measure, SeriesQuality};

use crate::etl::{Job, JobError, Now, Outcome, Progress};
use crate::rollup;
use crate::tiers::{QualityReport, SeriesId, SeriesInfo, TierError, WarmTier};
use futures::future::BoxFuture;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan as _};
use shared::reading::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Days that are looked at, the last of them yesterday.
const DAYS: i64 = 3;
/// Reports are kept for so many days.
const KEPT_DAYS: i64 = 400;
/// Readings that are read at once.
const PAGE: u32 = 10_000;
/// Series whose reports are written at once.
const ROWS: usize = 500;

/// The job.
pub struct DataQuality {
    /// Where readings are, and reports go.
    pub warm: Arc<dyn WarmTier>,
    /// Whose days are reported.
    pub zone: TimeZone,
    /// The clock.
    pub now: Now,
}

/// A day's first moment and the first of the next: 23, 24 or 25 hours apart.
///
/// # Errors
/// When it lies beyond the calendar.
pub fn bounds(day: Date, zone: &TimeZone) -> Result<(Timestamp, Timestamp), JobError> {
    let start = |day: Date| Ok::<_, jiff::Error>(day.to_zoned(zone.clone())?.start_of_day()?.timestamp());
    let both = start(day).and_then(|from| Ok((from, start(day.checked_add(1.day())?)?)));
    let (from, to) = both.map_err(|error| JobError::Other(format!("{day}: {error}")))?;
    Ok((Timestamp(from.as_microsecond()), Timestamp(to.as_microsecond())))
}

impl DataQuality {
    fn today(&self) -> Result<Date, JobError> {
        let now = jiff::Timestamp::from_microsecond((self.now)().0);
        let now = now.map_err(|error| JobError::Other(format!("the clock is wrong: {error}")))?;
        Ok(now.to_zoned(self.zone.clone()).date())
    }

    fn before(day: Date, days: i64) -> Result<Date, JobError> {
        let before = day.checked_sub(Span::new().days(days));
        before.map_err(|error| JobError::Other(format!("{days} days before {day}: {error}")))
    }

    /// Of a series' first day the part from its first reading on; `None` when it has none by then.
    async fn report(
        &self,
        series: &SeriesInfo,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Option<SeriesQuality>, TierError> {
        let before = self.warm.last_before(series.id, from, false).await?;
        let from = match before {
            Some(_) => from,
            None => match self.warm.range(series.id, from, to, 1).await?.first() {
                Some(first) => first.at,
                None => return Ok(None),
            },
        };
        let hold = rollup::hold(series.interval_ms, series.silence_ms_max);
        let mut measure = Measure::new(from, to, hold, before.map(|reading| (reading.at, reading.held)));
        let mut next = from;
        loop {
            let page = self.warm.range(series.id, next, to, PAGE).await?;
            page.iter().for_each(|reading| measure.push(reading.at, &reading.held));
            match page.last() {
                Some(last) if page.len() == PAGE as usize => next = last.at.plus_micros(1),
                _ => return Ok(Some(measure.finish())),
            }
        }
    }

    async fn work(&self, progress: &Progress) -> Result<Outcome, JobError> {
        let (today, series) = (self.today()?, self.warm.series(None).await?);
        progress.of(series.len() as u64 * DAYS as u64);
        let keep_from = Self::before(today, KEPT_DAYS)?.to_string();
        let (mut rows, mut worst) = (0, None::<(f64, &SeriesInfo)>);
        for days in (1..=DAYS).rev() {
            let day = Self::before(today, days)?;
            let (from, to) = bounds(day, &self.zone)?;
            let late: HashMap<SeriesId, u64> = self.warm.late(from, to).await?.into_iter().collect();
            for some in series.chunks(ROWS) {
                let mut reports = Vec::with_capacity(some.len());
                for one in some {
                    progress.step();
                    let Some(quality) = self.report(one, from, to).await? else { continue };
                    let late = late.get(&one.id).map_or(0, |late| u32::try_from(*late).unwrap_or(u32::MAX));
                    let quality = SeriesQuality { late, ..quality };
                    if days == 1 && worst.is_none_or(|(score, _)| quality.score < score) {
                        worst = Some((quality.score, one));
                    }
                    reports.push(QualityReport {
                        day: day.to_string(),
                        series: one.id,
                        quality,
                        made_at: (self.now)(),
                    });
                }
                rows += reports.len() as u64;
                self.warm.put_quality(&reports, &keep_from).await?;
            }
        }
        let detail = worst.map(|(score, series)| format!("worst yesterday: {} with {score:.0} of 100", series.key));
        Ok(Outcome { rows, detail: detail.unwrap_or_else(|| "no series had readings by then".into()) })
    }
}

impl Job for DataQuality {
    fn name(&self) -> &'static str {
        "data_quality"
    }
    fn what(&self) -> &'static str {
        "report on every series' last three days: completeness, gaps, quality"
    }
    fn limit(&self) -> Duration {
        Duration::from_secs(2 * 3600)
    }
    fn run<'a>(&'a self, progress: &'a Progress) -> BoxFuture<'a, Result<Outcome, JobError>> {
        Box::pin(self.work(progress))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etl::schedule::zone;
    use jiff::civil::date;

    #[test]
    fn days_have_23_24_and_25_hours() {
        let rome = zone("Europe/Rome").unwrap();
        let hours = |day| {
            let (from, to) = bounds(day, &rome).unwrap();
            to.since(from) / 3_600_000_000
        };
        assert_eq!(
            [date(2026, 3, 29), date(2026, 6, 1), date(2026, 10, 25), date(2028, 2, 29)].map(hours),
            [23, 24, 25, 24]
        );
    }
}
