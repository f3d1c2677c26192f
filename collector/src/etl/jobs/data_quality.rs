//! The daily report on the quality of data: every series' last three days, and older ones to which something came since, from
//! a gateway that was away or from a file. Of those it is also looked what was out of the ordinary: who looks every quarter of
//! an hour sees the last day only.

use super::sums::sums;
use crate::analytics::anomaly::{Kind, Look, TEACHING, Taught, WINDOW, alarmed, detect};
use crate::analytics::quality::{Measure, SeriesQuality};
use crate::anomalies::{Anomalies, KEPT as ANOMALIES_KEPT};
use crate::etl::ledger::{DayEntry, Raw};
use crate::etl::{Job, JobError, Now, Outcome, Progress};
use crate::rollup::{hold, known_hold};
use crate::tiers::{Bucket, ColdTier, Day, QualityReport, SeriesId, SeriesInfo, StoredReading, TierError, WarmTier};
use futures::future::BoxFuture;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan as _};
use shared::reading::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Days that are always looked at, the last of them yesterday.
const DAYS: i64 = 3;
/// Reports are kept, and made of what comes late, for so many days: three years.
const KEPT_DAYS: i64 = 1_096;
/// How long a run is at older days: what years of a file need is done by many.
const OLDER_WITHIN: Duration = Duration::from_secs(3_600);
/// Readings that are read at once.
const PAGE: u32 = 10_000;
/// Series whose reports are written at once.
const ROWS: usize = 500;
/// Anomalies of a series that are looked at.
const KNOWN_MAX: u32 = 1_000;

/// The job.
pub struct DataQuality {
    /// Where readings are, and reports go.
    pub warm: Arc<dyn WarmTier>,
    /// Where readings are that have left.
    pub cold: Option<Arc<dyn ColdTier>>,
    /// Where goes what was out of the ordinary.
    pub anomalies: Arc<Anomalies>,
    /// Whose days are reported.
    pub zone: TimeZone,
    /// The clock.
    pub now: Now,
}

/// A day that is to be reported.
struct Due {
    day: Date,
    /// How long ago it was.
    days: i64,
    from: Timestamp,
    to: Timestamp,
    /// Of its readings.
    version: u64,
    /// Something came since it was reported.
    changed: bool,
}

/// The account of archive days.
struct Accounts(HashMap<Day, DayEntry>);

impl Accounts {
    fn left(&self, day: Day) -> bool {
        self.0.get(&day).is_some_and(|entry| entry.raw != Raw::Here)
    }

    /// Of the readings of a stretch, 0 when there are none; `None` while what came late isn't in the archive yet.
    fn version(&self, from: Timestamp, to: Timestamp) -> Option<u64> {
        let (mut day, last, mut version) = (Day::of(from), Day::of(to.plus_micros(-1)), 0_u64);
        while day <= last {
            if let Some(entry) = self.0.get(&day) {
                if entry.raw != Raw::Here && entry.is_dirty() {
                    return None;
                }
                version = version.saturating_add(entry.version);
            }
            day = day.next();
        }
        Some(version)
    }
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

    /// The last three days, and then older ones that have changed, the oldest first.
    fn due(&self, accounts: &Accounts, noted: &HashMap<String, u64>) -> Result<Vec<Due>, JobError> {
        let today = self.today()?;
        let mut all = Vec::new();
        for days in (1..=DAYS).rev().chain((DAYS + 1..=KEPT_DAYS).rev()) {
            let day = Self::before(today, days)?;
            let (from, to) = bounds(day, &self.zone)?;
            let version = accounts.version(from, to).filter(|_| self.cold.is_some() || !accounts.left(Day::of(from)));
            let changed = version.is_some_and(|version| version != noted.get(&day.to_string()).copied().unwrap_or(0));
            if days <= DAYS || changed {
                all.push(Due { day, days, from, to, version: version.unwrap_or(0), changed });
            }
        }
        Ok(all)
    }

    /// The next readings of a series; those of a day that has left are in the archive. Also from where on there may be more.
    async fn page(
        &self,
        accounts: &Accounts,
        series: SeriesId,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<(Vec<StoredReading>, Timestamp), TierError> {
        let end = to.min(Day::of(from).end());
        let page = match &self.cold {
            Some(cold) if accounts.left(Day::of(from)) => cold.range(series, from, end, PAGE).await?,
            _ => self.warm.range(series, from, end, PAGE).await?,
        };
        let next = match page.last() {
            Some(last) if page.len() == PAGE as usize => last.at.plus_micros(1),
            _ => end,
        };
        Ok((page, next))
    }

    async fn last_before(
        &self,
        accounts: &Accounts,
        series: SeriesId,
        before: Timestamp,
    ) -> Result<Option<StoredReading>, TierError> {
        if let Some(cold) = self.cold.as_ref().filter(|_| accounts.left(Day::of(before.plus_micros(-1))))
            && let Some(found) = cold.last_before(series, before, false).await?
        {
            return Ok(Some(found));
        }
        self.warm.last_before(series, before, false).await
    }

    /// Of a series' first day the part from its first reading on; `None` when it has none by then.
    async fn report(
        &self,
        accounts: &Accounts,
        series: &SeriesInfo,
        due: &Due,
    ) -> Result<Option<SeriesQuality>, TierError> {
        let before = self.last_before(accounts, series.id, due.from).await?;
        let hold = hold(series.interval_ms, series.silence_ms_max);
        let measure = |from| Measure::new(from, due.to, hold, before.map(|reading| (reading.at, reading.held)));
        let (mut measured, mut next) = (before.map(|_| measure(due.from)), due.from);
        while next < due.to {
            let (page, after) = self.page(accounts, series.id, next, due.to).await?;
            for reading in &page {
                measured.get_or_insert_with(|| measure(reading.at)).push(reading.at, &reading.held);
            }
            next = after;
        }
        Ok(measured.map(Measure::finish))
    }

    /// Values that can't be, steps and standstills of a day that became known late. How many there are.
    async fn look_back(&self, series: &SeriesInfo, due: &Due) -> Result<u64, TierError> {
        let since = Bucket::Hour.start_of(due.to.plus_micros(-TEACHING - WINDOW));
        let turn = self.anomalies.turn().await;
        let known = turn.known(series.id, since, KNOWN_MAX).await?;
        let alarmed = alarmed(&known, due.to);
        let buckets: Vec<_> =
            sums(&*self.warm, series, Bucket::FiveMinutes, (since, due.to)).await?.into_iter().collect();
        let look = Look {
            metric: &series.key.metric,
            kind: series.kind,
            hold: known_hold(series.interval_ms, series.silence_ms_max),
            now: due.to,
            zone: &self.zone,
            buckets: &buckets,
            hours: &[],
            last: None,
            refused: &[],
            alarmed: &alarmed,
        };
        let mut found = detect(&look, &Taught::of(&look)).findings;
        found.retain(|one| matches!(one.kind, Kind::OutOfRange | Kind::RateOfChange | Kind::Stuck));
        Ok(turn.past(series.id, &known, &found, (self.now)()).await?.opened)
    }

    async fn work(&self, progress: &Progress) -> Result<Outcome, JobError> {
        let keep_from = Self::before(self.today()?, KEPT_DAYS)?;
        let first = Day::of(bounds(keep_from, &self.zone)?.0);
        let keep_from = keep_from.to_string();
        let entries = self.warm.days().days(first, Day::LAST.next()).await?;
        self.warm.catch_up().await?; // reports are noted to be of those versions
        let accounts = Accounts(entries.into_iter().map(|entry| (entry.day, entry)).collect());
        let noted = self.warm.quality_days().await?.into_iter().collect();
        let (due, series) = (self.due(&accounts, &noted)?, self.warm.series(None).await?);
        progress.of(series.len() as u64 * due.len() as u64);
        let (began, mut done) = (Instant::now(), Done::default());
        for one in &due {
            if one.days > DAYS && began.elapsed() > OLDER_WITHIN {
                done.left += 1;
                continue;
            }
            self.day(&accounts, &series, one, &keep_from, &mut done, progress).await?;
            done.older += u64::from(one.days > DAYS);
            progress.say(done.words());
        }
        Ok(Outcome { rows: done.rows, detail: done.words() })
    }

    async fn day(
        &self,
        accounts: &Accounts,
        series: &[SeriesInfo],
        due: &Due,
        keep_from: &str,
        done: &mut Done,
        progress: &Progress,
    ) -> Result<(), JobError> {
        let late: HashMap<SeriesId, u64> = self.warm.late(due.from, due.to).await?.into_iter().collect();
        let oldest = (self.now)().plus_micros(-ANOMALIES_KEPT);
        let came_late = due.changed && due.days > 1 && due.to > oldest;
        for some in series.chunks(ROWS) {
            let mut reports = Vec::with_capacity(some.len());
            for one in some {
                progress.step();
                let Some(quality) = self.report(accounts, one, due).await? else { continue };
                let late = late.get(&one.id).map_or(0, |late| u32::try_from(*late).unwrap_or(u32::MAX));
                let quality = SeriesQuality { late, ..quality };
                if due.days == 1 && done.worst.as_ref().is_none_or(|(score, _)| quality.score < *score) {
                    done.worst = Some((quality.score, one.key.to_string()));
                }
                reports.push(QualityReport {
                    day: due.day.to_string(),
                    series: one.id,
                    quality,
                    made_at: (self.now)(),
                });
                if came_late {
                    done.found += self.look_back(one, due).await?;
                }
            }
            done.rows += reports.len() as u64;
            progress.rows(reports.len() as u64);
            self.warm.put_quality(&reports, keep_from).await?;
        }
        Ok(self.warm.note_quality_day(&due.day.to_string(), due.version).await?)
    }
}

/// What a run did.
#[derive(Default)]
struct Done {
    rows: u64,
    worst: Option<(f64, String)>,
    /// Older days, and those that are left for the next run.
    older: u64,
    left: u64,
    /// Anomalies of the past.
    found: u64,
}

impl Done {
    fn words(&self) -> String {
        let mut words = vec![match &self.worst {
            Some((score, series)) => format!("worst yesterday: {series} with {score:.0} of 100"),
            None => "no series had readings by yesterday".into(),
        }];
        match (self.older, self.left) {
            (0, 0) => {}
            (older, 0) => words.push(format!("{older} older days to which something came")),
            (older, left) => words.push(format!("{older} older days to which something came, {left} are left")),
        }
        if self.found > 0 {
            words.push(format!("{} anomalies of the past, closed", self.found));
        }
        words.join("; ")
    }
}

impl Job for DataQuality {
    fn name(&self) -> &'static str {
        "data_quality"
    }
    fn what(&self) -> &'static str {
        "report on every series' last three days, and older ones that changed: completeness, gaps, quality"
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
