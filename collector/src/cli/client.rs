//! The running collector's API, as its own commands ask it.

use super::Where;
use crate::access::Local;
use crate::config::Config;
use anyhow::{Context, bail};
use serde_json::Value;
use std::time::Duration;

/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(40);

type Answer = Result<ureq::http::Response<ureq::Body>, ureq::Error>;

pub(super) struct Api {
    address: String,
    secret: Option<String>,
}

impl Api {
    /// Where it says that it answers, with what it says to show; or where the configuration says.
    pub(super) fn of(place: &Where) -> anyhow::Result<Self> {
        let config = Config::load(&place.config)?;
        Ok(match Local::read(&config.data_dir) {
            Some(local) => Self { address: local.address.to_string(), secret: Some(local.secret) },
            None => Self { address: config.api.listen.to_string(), secret: None },
        })
    }

    fn address(&self, path: &str) -> String {
        format!("http://{}/api/v1/{path}", self.address)
    }

    pub(super) fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.read(self.shown(agent(Some(WITHIN)).get(self.address(path))).call())
    }

    pub(super) fn post(&self, path: &str) -> anyhow::Result<Value> {
        self.read(self.shown(agent(Some(WITHIN)).post(self.address(path))).send_empty())
    }

    pub(super) fn send(&self, path: &str, body: &[u8]) -> anyhow::Result<Value> {
        self.read(self.shown(agent(Some(WITHIN)).post(self.address(path))).send(body))
    }

    /// A long answer, to be read as it comes.
    pub(super) fn stream(&self, path: &str) -> anyhow::Result<impl std::io::Read + use<>> {
        let answer = self.shown(agent(None).get(self.address(path))).call().with_context(|| self.silent())?;
        if !answer.status().is_success() {
            self.read(Ok(answer))?;
            bail!("the collector refuses");
        }
        Ok(answer.into_body().into_reader())
    }

    fn shown<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.secret {
            Some(secret) => request.header("authorization", format!("Bearer {secret}")),
            None => request,
        }
    }

    fn silent(&self) -> String {
        format!("no collector answers at {}; does it run?", self.address)
    }

    fn read(&self, answer: Answer) -> anyhow::Result<Value> {
        let mut answer = answer.with_context(|| self.silent())?;
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string()?;
        let value: Value = serde_json::from_str(&body)
            .with_context(|| format!("{} is no collector, or another version of it", self.address))?;
        if !answer.status().is_success() {
            bail!("{}", value["detail"].as_str().unwrap_or("the collector refuses"));
        }
        Ok(value)
    }
}

fn agent(within: Option<Duration>) -> ureq::Agent {
    let config = ureq::Agent::config_builder().timeout_global(within);
    config.http_status_as_error(false).build().into()
}

/// For a path or a query: whatever isn't plain becomes %XX.
pub(super) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// `a=1&b=x%20y` of what is there.
pub(super) fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, Option<String>)>) -> String {
    let given = pairs.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", escaped(&value?))));
    given.collect::<Vec<_>>().join("&")
}
