//! The collector's API as any client sees it.

use anyhow::Context;
use serde::{Deserialize, Deserializer};
use shared::reading::Timestamp;
use std::time::Duration;

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A client of one collector.
#[derive(Clone)]
pub(crate) struct Client {
    http: ureq::Agent,
    base: String,
}

/// `GET /api/v1/latest`
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Latest {
    /// One of each series.
    pub(crate) items: Vec<Item>,
    /// What is missing, in words.
    pub(crate) degraded: Vec<String>,
}

/// A series' newest reading.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Item {
    pub(crate) node: String,
    pub(crate) metric: String,
    pub(crate) channel: String,
    pub(crate) unit: String,
    #[serde(deserialize_with = "time")]
    pub(crate) at: Timestamp,
    pub(crate) age_s: f64,
    pub(crate) stale: bool,
    #[serde(flatten)]
    pub(crate) held: Held,
}

/// A value and how good it is.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Held {
    pub(crate) value: Option<f64>,
    pub(crate) quality: String,
    pub(crate) reason: Option<String>,
}

impl Held {
    /// The value, when it can be trusted.
    pub(crate) fn good(&self) -> Option<f64> {
        self.value.filter(|_| self.quality == "good")
    }
}

/// `GET /api/v1/history`
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct History {
    /// Its readings.
    pub(crate) points: Vec<Point>,
    /// What is missing, in words.
    pub(crate) degraded: Vec<String>,
}

/// A reading of the past.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Point {
    #[serde(deserialize_with = "time")]
    pub(crate) at: Timestamp,
    #[serde(flatten)]
    pub(crate) held: Held,
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

impl Client {
    /// Of the collector, or of anything else that speaks HTTP on loopback.
    pub(crate) fn new(port: u16) -> Self {
        let config = ureq::Agent::config_builder().timeout_global(Some(ANSWER_WITHIN)).http_status_as_error(false);
        Self { http: config.build().into(), base: format!("http://127.0.0.1:{port}") }
    }

    /// The address of a page.
    pub(crate) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Whether it answers at all.
    pub(crate) async fn is_up(&self, path: &str) -> bool {
        self.get(path).await.is_ok()
    }

    /// The newest reading of every series.
    ///
    /// # Errors
    /// When there is no answer, or one that isn't understood.
    pub(crate) async fn latest(&self) -> anyhow::Result<Latest> {
        self.json("/api/v1/latest").await
    }

    /// The readings of one series in `from..to`.
    ///
    /// # Errors
    /// As [`Self::latest`].
    pub(crate) async fn history(
        &self,
        (node, metric, channel): (&str, &str, &str),
        (from, to): (Timestamp, Timestamp),
    ) -> anyhow::Result<History> {
        let series = format!("node={node}&metric={metric}&channel={channel}");
        self.json(&format!("/api/v1/history?{series}&from={from}&to={to}&resolution=raw&limit=10000")).await
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let (status, text) = self.get(path).await?;
        let what =
            || format!("{} answers {status}: {}", self.address(path), text.chars().take(300).collect::<String>());
        anyhow::ensure!(status == 200, what());
        serde_json::from_str(&text).with_context(what)
    }

    async fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let (http, address) = (self.http.clone(), self.address(path));
        let asked = tokio::task::spawn_blocking(move || {
            let mut answer = http.get(&address).call().with_context(|| address.clone())?;
            let text = answer.body_mut().read_to_string().with_context(|| address.clone())?;
            Ok((answer.status().as_u16(), text))
        });
        asked.await?
    }
}
