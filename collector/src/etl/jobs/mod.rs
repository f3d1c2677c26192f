//! The jobs.

pub mod data_quality;

use super::Planned;
use super::schedule::{Schedule, ScheduleError, zone};
use crate::tiers::WarmTier;
use data_quality::DataQuality;
use serde::Deserialize;
use shared::reading::Timestamp;
use std::sync::Arc;

/// `[jobs]`: in which time zone they are due, and when. `"off"` leaves a job to those who want it.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobSettings {
    /// Name of the time zone; days of reports are its days.
    pub zone: String,
    /// When the daily report on the quality of data is made.
    pub data_quality: String,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self { zone: "Europe/Rome".into(), data_quality: "30 3 * * *".into() }
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
    pub fn planned(&self, warm: &Arc<dyn WarmTier>) -> Result<Vec<Planned>, SettingsError> {
        let quality = DataQuality { warm: warm.clone(), zone: self.zone()?, now: Arc::new(Timestamp::wall_clock) };
        let schedule = self.schedule("jobs.data_quality", &self.data_quality)?;
        Ok(vec![Planned { job: Arc::new(quality), schedule }])
    }

    fn zone(&self) -> Result<jiff::tz::TimeZone, SettingsError> {
        zone(&self.zone).map_err(|cause| SettingsError { key: "jobs.zone", value: self.zone.clone(), cause })
    }

    fn schedule(&self, key: &'static str, pattern: &str) -> Result<Option<Schedule>, SettingsError> {
        if pattern == "off" {
            return Ok(None);
        }
        let wrong = |cause| SettingsError { key, value: pattern.into(), cause };
        Schedule::parse(pattern, self.zone()?).map(Some).map_err(wrong)
    }

    /// Whether all of it can be used.
    ///
    /// # Errors
    /// As [`JobSettings::planned`].
    pub fn check(&self) -> Result<(), SettingsError> {
        self.zone()?;
        self.schedule("jobs.data_quality", &self.data_quality).map(|_| ())
    }
}
