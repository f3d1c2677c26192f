//! `[bigquery]`: how tables of other producers in BigQuery are reached, and where one is.

use crate::config::Mistakes;
use crate::inbox::settings::{Database, ForeignInbox};
use crate::tiers::cold::bigquery::settings::BigQuerySettings;
use serde::Deserialize;
use shared::config::{ByteSize, HumanDuration};
use std::path::PathBuf;
use std::time::Duration;

/// `[bigquery]`
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BigQueryAccess {
    /// The project that pays for questions; default: that of `[cold.bigquery]`, without one each table's own.
    pub project: Option<String>,
    /// A service account's key file; default: that of `[cold.bigquery]`, without one Application Default Credentials.
    pub credentials_file: Option<PathBuf>,
    /// Base of the API's addresses; default: that of `[cold.bigquery]`, without one Google's.
    pub endpoint: Option<String>,
    /// Most bytes that a question may be billed for.
    pub bytes_max: ByteSize,
    /// Longest time of one question.
    pub timeout: HumanDuration,
}

impl Default for BigQueryAccess {
    fn default() -> Self {
        Self {
            project: None,
            credentials_file: None,
            endpoint: None,
            bytes_max: ByteSize::gib(10),
            timeout: HumanDuration(Duration::from_secs(60)),
        }
    }
}

/// Where a table is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Address {
    pub(super) project: String,
    pub(super) dataset: String,
    pub(super) table: String,
}

impl Address {
    /// Of `project.dataset.table` or `dataset.table`.
    fn of(text: &str, project: Option<&str>) -> Result<Self, &'static str> {
        let mut parts = text.rsplitn(3, '.');
        let (Some(table), Some(dataset)) = (parts.next(), parts.next()) else {
            return Err("a table in BigQuery is named like project.dataset.table");
        };
        let Some(project) = parts.next().or(project) else {
            return Err("say project.dataset.table, or [bigquery] project");
        };
        let made_of = |text: &str, others: &str| {
            (1..=1_024).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
        };
        if made_of(project, "-.:") && made_of(dataset, "_") && made_of(table, "_-") {
            return Ok(Self { project: project.into(), dataset: dataset.into(), table: table.into() });
        }
        Err("letters, digits and _ are possible, - too in the names of project and table")
    }

    /// As a statement names it.
    pub(super) fn quoted(&self) -> String {
        format!("`{}.{}.{}`", self.project, self.dataset, self.table)
    }
}

impl BigQueryAccess {
    /// With what the archive's settings say where these say nothing.
    #[must_use]
    pub fn or(&self, archive: &BigQuerySettings) -> Self {
        let project = Some(&archive.project).filter(|project| !project.is_empty());
        Self {
            project: self.project.as_ref().or(project).cloned(),
            credentials_file: self.credentials_file.as_ref().or(archive.credentials_file.as_ref()).cloned(),
            endpoint: self.endpoint.as_ref().or(archive.endpoint.as_ref()).cloned(),
            ..self.clone()
        }
    }

    /// Where a table is, and how it is asked. Where it lies is found out there.
    pub(super) fn of(&self, table: &ForeignInbox) -> Result<(Address, BigQuerySettings), &'static str> {
        let address = Address::of(&table.table, self.project.as_deref())?;
        let settings = BigQuerySettings {
            project: self.project.clone().unwrap_or_else(|| address.project.clone()),
            dataset: address.dataset.clone(),
            credentials_file: self.credentials_file.clone(),
            endpoint: self.endpoint.clone(),
            bytes_max: self.bytes_max,
            timeout: self.timeout,
            ..BigQuerySettings::default()
        };
        Ok((address, settings))
    }

    /// What can't be used, as far as it is for these tables.
    #[must_use]
    pub fn mistakes(&self, tables: &[ForeignInbox]) -> Mistakes {
        let mut found = Mistakes::default();
        let mut asked = None;
        for table in tables.iter().filter(|table| table.database == Database::BigQuery) {
            match self.of(table) {
                Ok((_, settings)) => asked = Some(settings),
                Err(why) => found.unless(false, &table.key("table"), format_args!("\"{}\"", table.table), why),
            }
        }
        if let Some(settings) = asked {
            found.add(settings.mistakes().renamed(|key| key.replacen("cold.", "", 1)));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(change: impl Fn(&mut BigQueryAccess), table: &str) -> String {
        let mut access = BigQueryAccess::default();
        change(&mut access);
        let text = format!("name = 's'\ndatabase = 'bigquery'\ntable = '{table}'\ncolumns = {{ a = 'flow_rate' }}");
        access.mistakes(&[toml::from_str(&text).unwrap()]).keys().join(" ")
    }

    #[test]
    fn what_cant_be_is_named() {
        assert_eq!(mistakes(|_| (), "abbanoa-464816.water_infrastructure.sensor-readings"), "");
        assert_eq!(mistakes(|_| (), "water.readings"), "inbox.s.table");
        assert_eq!(mistakes(|a| a.project = Some("p".into()), "water.readings"), "");
        assert_eq!(mistakes(|a| a.project = Some("p".into()), "readings"), "inbox.s.table");
        assert_eq!(mistakes(|_| (), "p.d.t`; DROP"), "inbox.s.table");
        assert_eq!(mistakes(|a| a.project = Some("a/b".into()), "p.d.t"), "bigquery.project");
        assert_eq!(mistakes(|a| a.bytes_max = ByteSize::b(1), "p.d.t"), "bigquery.bytes_max");
        assert_eq!(mistakes(|a| a.endpoint = Some("localhost:1".into()), "p.d.t"), "bigquery.endpoint");
    }

    #[test]
    fn who_says_nothing_has_it_from_the_archive() {
        let archive = BigQuerySettings {
            project: "theirs".into(),
            credentials_file: Some("/etc/key.json".into()),
            ..BigQuerySettings::default()
        };
        let access = BigQueryAccess::default().or(&archive);
        assert_eq!(access.project.as_deref(), Some("theirs"));
        assert_eq!(access.credentials_file, archive.credentials_file);
        assert_eq!(access.bytes_max, ByteSize::gib(10), "a question every five minutes has its own bound");
        let own = BigQueryAccess { project: Some("ours".into()), ..BigQueryAccess::default() };
        assert_eq!(own.or(&archive).project.as_deref(), Some("ours"));
        assert_eq!(BigQueryAccess::default().or(&BigQuerySettings::default()).project, None);
    }
}
