//! `[alerts]`: whom to tell what stands, and when.

use super::mail::Mail;
use super::webhook::Webhook;
use super::{Channel, mail};
use crate::config::{Mistakes, ValueError};
use jiff::civil::Time;
use jiff::tz::TimeZone;
use serde::Deserialize;
use shared::config::HumanDuration;
use shared::reading::Timestamp;
use std::path::PathBuf;
use std::time::Duration;

/// `[alerts]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertSettings {
    /// Where messages are posted as JSON.
    pub webhook: Option<String>,
    /// File with a secret in its first line: with it the message's HMAC-SHA256 goes along.
    pub webhook_secret_file: Option<PathBuf>,
    /// Whom to write.
    pub mail: Option<MailSettings>,
    /// Hours of the day, in the zone of `[jobs]`, in which only what is critical is told, like `22:00-06:00`.
    pub quiet: Option<String>,
    /// What stands and nobody has in hand is told again after so long.
    pub repeat: Option<HumanDuration>,
    /// A gateway that says nothing for so long is silent.
    pub gateway_silent: HumanDuration,
}

/// `[alerts.mail]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailSettings {
    /// The server that takes mail.
    pub server: String,
    /// Its port; default 587, with `tls = "always"` 465, with `"off"` 25.
    pub port: Option<u16>,
    /// How the connection is protected.
    #[serde(default)]
    pub tls: MailTls,
    /// Who we are there.
    pub user: Option<String>,
    /// File with the password in its first line.
    pub password_file: Option<PathBuf>,
    /// The address that mails come from.
    pub from: String,
    /// The addresses that they go to.
    pub to: Vec<String>,
}

/// How the connection to a mail server is protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// Encrypted after STARTTLS, or not at all used.
    #[default]
    StartTls,
    /// Encrypted from the start.
    Always,
    /// Not; only for a server on this machine or in a network that is trusted.
    Off,
}

impl Default for AlertSettings {
    fn default() -> Self {
        Self {
            webhook: None,
            webhook_secret_file: None,
            mail: None,
            quiet: None,
            repeat: None,
            gateway_silent: HumanDuration(Duration::from_secs(15 * 60)),
        }
    }
}

impl AlertSettings {
    /// The ways to tell.
    ///
    /// # Errors
    /// When a setting or a file that it names can't be used.
    pub fn channels(&self) -> Result<Vec<Box<dyn Channel>>, ValueError> {
        let mut channels: Vec<Box<dyn Channel>> = Vec::new();
        if let Some(url) = &self.webhook {
            channels.push(Box::new(Webhook::new(url, self.webhook_secret_file.as_deref())?));
        }
        if let Some(settings) = &self.mail {
            channels.push(Box::new(Mail::new(settings)?));
        }
        Ok(channels)
    }

    /// The quiet hours.
    ///
    /// # Errors
    /// When they can't be understood.
    pub fn quiet(&self, zone: TimeZone) -> Result<Option<Quiet>, ValueError> {
        let Some(text) = &self.quiet else { return Ok(None) };
        let wrong = || ValueError::new("alerts.quiet", format!("\"{text}\""), "write it like \"22:00-06:00\"");
        let (from, to) = text.split_once('-').ok_or_else(wrong)?;
        let time = |text: &str| Time::strptime("%H:%M", text.trim()).map_err(|_| wrong());
        let (from, to) = (time(from)?, time(to)?);
        if from == to {
            return Err(wrong());
        }
        Ok(Some(Quiet { from, to, zone }))
    }

    /// What can't be used, apart from files.
    #[must_use]
    pub fn mistakes(&self) -> Mistakes {
        let mut found = Mistakes::default();
        found.note(self.quiet(TimeZone::UTC).map(drop));
        found.note(self.webhook.as_deref().map_or(Ok(()), |url| super::webhook::parse(url).map(drop)));
        found.note(self.mail.as_ref().map_or(Ok(()), mail::check));
        let minute = Duration::from_secs(60);
        for (key, value) in [("alerts.repeat", self.repeat), ("alerts.gateway_silent", Some(self.gateway_silent))] {
            let value = value.unwrap_or(HumanDuration(minute));
            found.unless(value.0 >= minute, key, format_args!("\"{value}\""), "at least 1m is possible");
        }
        found
    }
}

/// Hours in which only what is critical is told.
#[derive(Clone, Debug)]
pub struct Quiet {
    from: Time,
    to: Time,
    zone: TimeZone,
}

impl Quiet {
    /// Whether they are now.
    #[must_use]
    pub fn is_at(&self, now: Timestamp) -> bool {
        let Ok(now) = jiff::Timestamp::from_microsecond(now.0) else { return false };
        let time = now.to_zoned(self.zone.clone()).time();
        match self.from < self.to {
            true => self.from <= time && time < self.to,
            false => self.from <= time || time < self.to,
        }
    }
}

/// The first line of a file that only its owner should read.
pub(super) fn secret(key: &'static str, file: &std::path::Path) -> Result<String, ValueError> {
    let shown = || file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| ValueError::new(key, shown(), &error.to_string()))?;
    match text.lines().next().map(str::trim).filter(|line| !line.is_empty()) {
        Some(line) => Ok(line.to_owned()),
        None => Err(ValueError::new(key, shown(), "its first line is empty")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(text: &str) -> Result<Option<Quiet>, ValueError> {
        let zone = crate::etl::schedule::zone("Europe/Rome").unwrap();
        AlertSettings { quiet: Some(text.into()), ..AlertSettings::default() }.quiet(zone)
    }

    #[test]
    fn quiet_hours_are_those_of_the_clock_on_the_wall() {
        let night = quiet("22:00-06:00").unwrap().unwrap();
        let at = |text: &str| night.is_at(text.parse().unwrap());
        // Rome is an hour ahead in winter, two in summer.
        assert!(!at("2026-01-10T20:59:00Z") && at("2026-01-10T21:00:00Z"));
        assert!(at("2026-07-10T20:00:00Z") && at("2026-07-10T03:59:00Z") && !at("2026-07-10T04:00:00Z"));
        let noon = quiet("12:00-13:00").unwrap().unwrap();
        assert!(noon.is_at("2026-01-10T11:30:00Z".parse().unwrap()));
        assert!(!noon.is_at("2026-01-10T12:00:00Z".parse().unwrap()));
        for wrong in ["22", "22:00", "25:00-06:00", "06:00-06:00", "a-b"] {
            assert!(quiet(wrong).unwrap_err().to_string().starts_with("alerts.quiet"), "{wrong}");
        }
    }
}
