//! The jobs.

pub mod anomaly_detection;
pub mod cache_refresh;
pub mod cleanup;
pub mod daily_sync;
pub mod data_quality;
pub mod forecast;
pub mod realtime_sync;
mod sums;

use super::schedule::{Schedule, ScheduleError, zone};
use super::{Now, Planned};
use crate::anomalies::Anomalies;
use crate::inbox::Inbox;
use crate::tiers::hot::days::DayCache;
use crate::tiers::{ColdTier, WarmTier};
use anomaly_detection::AnomalyDetection;
use cache_refresh::{CacheRefresh, Fill};
use cleanup::Cleanup;
use daily_sync::DailySync;
use data_quality::DataQuality;
use forecast::Forecasting;
use realtime_sync::RealtimeSync;
use serde::Deserialize;
use shared::reading::Timestamp;
use std::sync::{Arc, Mutex, PoisonError};

/// `[jobs]`: in which time zone they are due, and when. `"off"` leaves a job to those who want it.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobSettings {
    /// Name of the time zone; days of reports are its days.
    pub zone: String,
    /// When the daily report on the quality of data is made.
    pub data_quality: String,
    /// When days that have changed go into the archive.
    pub daily_sync: String,
    /// When readings that are old enough leave the warm tier.
    pub cleanup: String,
    /// When what other producers left in inboxes is taken in.
    pub realtime_sync: String,
    /// When caches are filled; default: every `[hot] refresh_hours`.
    pub cache_refresh: Option<String>,
    /// When forecasts are made.
    pub forecast: String,
    /// When is looked for what is out of the ordinary.
    pub anomaly_detection: String,
}

/// What jobs work on.
#[derive(Clone)]
pub struct Means {
    /// The warm tier.
    pub warm: Arc<dyn WarmTier>,
    /// What is out of the ordinary.
    pub anomalies: Arc<Anomalies>,
    /// The archive, when there is one.
    pub cold: Option<Arc<dyn ColdTier>>,
    /// What other producers leave.
    pub inbox: Arc<Inbox>,
    /// Fills the hot tier.
    pub fill: Fill,
    /// Rollups of past days, if they are cached.
    pub cached_days: Option<Arc<DayCache>>,
    /// Caches are filled every so many hours, 1 to 24.
    pub refresh_hours: u32,
    /// Readings stay in the warm tier for so many days.
    pub keep_days: u32,
    /// What jobs have found wrong.
    pub alarms: Alarms,
}

/// What jobs have found wrong, job by job.
#[derive(Clone, Debug, Default)]
pub struct Alarms {
    daily_sync: Arc<Alarm>,
    cleanup: Arc<Alarm>,
    /// Of days that the archive should have.
    pub archive: Arc<Alarm>,
    /// Of telling people.
    pub alerts: Arc<Alarm>,
}

impl Alarms {
    /// Those that are raised: the job, and why.
    #[must_use]
    pub fn raised(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("daily_sync", &self.daily_sync),
            ("cleanup", &self.cleanup),
            ("archive", &self.archive),
            ("alerts", &self.alerts),
        ];
        all.into_iter().filter_map(|(job, alarm)| Some((job, alarm.why()?))).collect()
    }
}

/// What a job has found wrong, until a run of it finds nothing wrong.
#[derive(Debug, Default)]
pub struct Alarm(Mutex<Option<String>>);

impl Alarm {
    fn set(&self, why: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Raises it.
    pub fn raise(&self, why: String) {
        self.set(Some(why));
    }

    /// Nothing is wrong.
    pub fn clear(&self) {
        self.set(None);
    }

    /// Why it is raised, in words.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Default for JobSettings {
    fn default() -> Self {
        Self {
            zone: "Europe/Rome".into(),
            data_quality: "30 3 * * *".into(),
            daily_sync: "0 2 * * *".into(),
            cleanup: "0 4 * * 0".into(),
            realtime_sync: "*/5 * * * *".into(),
            cache_refresh: None,
            forecast: "30 0 * * *".into(),
            anomaly_detection: "*/15 * * * *".into(),
        }
    }
}

/// A mistake in `[jobs]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} = \"{value}\": {cause}")]
pub struct SettingsError {
    /// Like `jobs.zone`.
    pub key: &'static str,
    /// As it is written.
    pub value: String,
    /// What is wrong with it.
    pub cause: ScheduleError,
}

impl JobSettings {
    /// The jobs and when they are due.
    ///
    /// # Errors
    /// When the time zone or a pattern can't be used.
    pub fn planned(&self, means: &Means) -> Result<Vec<Planned>, SettingsError> {
        let Means { warm, anomalies, cold, inbox, fill, cached_days: days, refresh_hours, keep_days, alarms } =
            means.clone();
        let now: Now = Arc::new(Timestamp::wall_clock);
        let (there, zone) = (anomalies.clone(), self.zone()?);
        let quality = DataQuality { warm: warm.clone(), cold: cold.clone(), anomalies: there, zone, now: now.clone() };
        let alarm = alarms.daily_sync.clone();
        let (taken_too, realtime) = (Some(inbox.clone()), RealtimeSync { inbox });
        let sync = DailySync { warm: warm.clone(), cold: cold.clone(), inbox: taken_too, now: now.clone(), alarm };
        let anomalies = AnomalyDetection { warm: warm.clone(), anomalies, zone: self.zone()?, now: now.clone() };
        let forecast = Forecasting { warm: warm.clone(), zone: self.zone()?, now: now.clone() };
        let cache = CacheRefresh { warm: warm.clone(), fill, days, now: now.clone() };
        let cleanup = Cleanup::new(warm, cold, keep_days, now, alarms.cleanup.clone());
        let [quality_at, sync_at, realtime_at, cleanup_at, forecast_at, anomalies_at] = self.schedules()?;
        let cache_at = self.cache_refresh.clone().unwrap_or_else(|| every(refresh_hours));
        let cache_at = self.schedule("jobs.cache_refresh", &cache_at)?;
        Ok(vec![
            Planned { job: Arc::new(quality), schedule: quality_at },
            Planned { job: Arc::new(sync), schedule: sync_at },
            Planned { job: Arc::new(realtime), schedule: realtime_at },
            Planned { job: Arc::new(cache), schedule: cache_at },
            Planned { job: Arc::new(cleanup), schedule: cleanup_at },
            Planned { job: Arc::new(forecast), schedule: forecast_at },
            Planned { job: Arc::new(anomalies), schedule: anomalies_at },
        ])
    }

    fn patterns(&self) -> [(&'static str, &str); 6] {
        [
            ("jobs.data_quality", &self.data_quality),
            ("jobs.daily_sync", &self.daily_sync),
            ("jobs.realtime_sync", &self.realtime_sync),
            ("jobs.cleanup", &self.cleanup),
            ("jobs.forecast", &self.forecast),
            ("jobs.anomaly_detection", &self.anomaly_detection),
        ]
    }

    fn schedules(&self) -> Result<[Option<Schedule>; 6], SettingsError> {
        let [a, b, c, d, e, f] = self.patterns().map(|(key, pattern)| self.schedule(key, pattern));
        Ok([a?, b?, c?, d?, e?, f?])
    }

    /// The time zone.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn zone(&self) -> Result<jiff::tz::TimeZone, SettingsError> {
        zone(&self.zone).map_err(|cause| SettingsError { key: "jobs.zone", value: self.zone.clone(), cause })
    }

    fn schedule(&self, key: &'static str, pattern: &str) -> Result<Option<Schedule>, SettingsError> {
        if pattern == "off" {
            return Ok(None);
        }
        let wrong = |cause| SettingsError { key, value: pattern.into(), cause };
        Schedule::parse(pattern, self.zone()?).map(Some).map_err(wrong)
    }

    /// What can't be used.
    #[must_use]
    pub fn mistakes(&self) -> Vec<SettingsError> {
        if let Err(zone) = self.zone() {
            return vec![zone]; // and no pattern can be used without it
        }
        let cache = self.cache_refresh.as_deref().map(|pattern| ("jobs.cache_refresh", pattern));
        let all = self.patterns().into_iter().chain(cache);
        all.filter_map(|(key, pattern)| self.schedule(key, pattern).err()).collect()
    }
}

/// The pattern of every so many hours.
fn every(hours: u32) -> String {
    match hours {
        0 | 1 => "0 * * * *".into(),
        2..24 => format!("0 */{hours} * * *"),
        _ => "0 0 * * *".into(),
    }
}
