//! `[cold.bigquery]`: which table, and how it is reached.

use crate::config::Mistakes;
use serde::Deserialize;
use shared::config::{ByteSize, HumanDuration};
use std::path::PathBuf;
use std::time::Duration;

/// `[cold.bigquery]`
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BigQuerySettings {
    /// The project that the dataset is in and that pays.
    pub project: String,
    /// The dataset; made when it is missing.
    pub dataset: String,
    /// Where the dataset lies, like `EU` or `europe-west8`.
    pub location: String,
    /// The table of readings; made when it is missing, with one beside it that says which days it holds.
    pub table: String,
    /// A service account's key file; default: Application Default Credentials.
    pub credentials_file: Option<PathBuf>,
    /// Base of the API's addresses, without `/bigquery/v2`; default: Google's. Without `credentials_file` nobody has to
    /// log in there.
    pub endpoint: Option<String>,
    /// Most bytes that a question may be billed for.
    pub bytes_max: ByteSize,
    /// Longest time of one question. Writing a day may take ten times as long.
    pub timeout: HumanDuration,
}

impl Default for BigQuerySettings {
    fn default() -> Self {
        Self {
            project: String::new(),
            dataset: "telemetry".into(),
            location: "EU".into(),
            table: "readings".into(),
            credentials_file: None,
            endpoint: None,
            bytes_max: ByteSize::gib(100),
            timeout: HumanDuration(Duration::from_secs(60)),
        }
    }
}

/// Google's own.
const ENDPOINT: &str = "https://bigquery.googleapis.com";

impl BigQuerySettings {
    /// Base of the API's addresses.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.endpoint.as_deref().unwrap_or(ENDPOINT).trim_end_matches('/')
    }

    /// The table and where it is, in words.
    #[must_use]
    pub fn place(&self) -> String {
        let Self { project, dataset, table, .. } = self;
        match &self.endpoint {
            None => format!("{project}.{dataset}.{table}"),
            Some(_) => format!("{project}.{dataset}.{table} at {}", self.endpoint()),
        }
    }

    /// What can't be used.
    #[must_use]
    pub fn mistakes(&self) -> Mistakes {
        let mut found = Mistakes::default();
        let made_of = |text: &str, others: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
        };
        let project = made_of(&self.project, "-.:") && self.project.len() <= 100;
        let why = "the id of a project in Google Cloud is needed, here or in BIGQUERY_PROJECT_ID";
        found.unless(project, "cold.bigquery.project", &self.project, why);
        for (key, name) in [("cold.bigquery.dataset", &self.dataset), ("cold.bigquery.table", &self.table)] {
            let plain = made_of(name, "_") && name.len() <= 200;
            found.unless(plain, key, name, "letters, digits and _ are possible, 200 at most");
        }
        let location = made_of(&self.location, "-");
        let why = "a place like EU or europe-west8 is needed";
        found.unless(location, "cold.bigquery.location", &self.location, why);
        if let Some((value, why)) = self.wrong_endpoint() {
            found.unless(false, "cold.bigquery.endpoint", value, why);
        }
        let why = "at least 10 MiB are needed: no question is billed for less";
        found.unless(self.bytes_max.as_u64() >= 10 << 20, "cold.bigquery.bytes_max", self.bytes_max, why);
        let time = (Duration::from_secs(1)..=Duration::from_secs(3_600)).contains(&self.timeout.0);
        found.unless(time, "cold.bigquery.timeout", self.timeout, "1s to 1h are possible");
        found
    }

    fn wrong_endpoint(&self) -> Option<(String, &'static str)> {
        let endpoint = self.endpoint.as_deref()?;
        let wrong = |why| Some((endpoint.to_owned(), why));
        let Ok(url) = reqwest::Url::parse(endpoint) else { return wrong("an address like http://host:port is needed") };
        let host = url.host_str().unwrap_or_default();
        let here = matches!(host, "localhost" | "[::1]") || host.starts_with("127.");
        match url.scheme() {
            "https" => None,
            "http" if self.credentials_file.is_some() && !here => wrong("credentials go over https only"),
            "http" => None,
            _ => wrong("http or https is needed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cant_be_is_named() {
        let mistake = |change: fn(&mut BigQuerySettings)| {
            let mut settings = BigQuerySettings { project: "abbanoa-464816".into(), ..BigQuerySettings::default() };
            change(&mut settings);
            settings.mistakes().keys().join(" ")
        };
        assert_eq!(mistake(|_| ()), "");
        assert_eq!(mistake(|s| s.project = String::new()), "cold.bigquery.project");
        assert_eq!(mistake(|s| s.project = "a/b".into()), "cold.bigquery.project");
        assert_eq!(mistake(|s| s.dataset = "with-dash".into()), "cold.bigquery.dataset");
        assert_eq!(mistake(|s| s.table = "x`; DROP".into()), "cold.bigquery.table");
        assert_eq!(mistake(|s| s.location = "E U".into()), "cold.bigquery.location");
        assert_eq!(mistake(|s| s.endpoint = Some("localhost:9050".into())), "cold.bigquery.endpoint");
        assert_eq!(mistake(|s| s.endpoint = Some("http://emulator:9050".into())), "");
        assert_eq!(mistake(|s| s.bytes_max = ByteSize::b(1)), "cold.bigquery.bytes_max");
        assert_eq!(mistake(|s| s.timeout = Duration::from_millis(1).into()), "cold.bigquery.timeout");
    }

    #[test]
    fn a_token_never_goes_over_a_network_in_clear() {
        let mistake = |endpoint: &str| {
            let settings = BigQuerySettings {
                project: "p".into(),
                credentials_file: Some("/etc/key.json".into()),
                endpoint: Some(endpoint.into()),
                ..BigQuerySettings::default()
            };
            settings.mistakes().keys().join(" ")
        };
        assert_eq!(mistake("http://emulator:9050"), "cold.bigquery.endpoint");
        assert_eq!((mistake("http://127.0.0.1:9050"), mistake("https://emulator")), (String::new(), String::new()));
    }
}
