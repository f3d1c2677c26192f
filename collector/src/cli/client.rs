//! The running collector's API, as its own commands ask it.

use super::Where;
use crate::access::Local;
use crate::config::Config;
use anyhow::{Context, bail};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(40);
/// How long it may take when something is sent: longer than the collector lets it.
const SENT_WITHIN: Duration = Duration::from_secs(400);

type Answer = Result<ureq::http::Response<ureq::Body>, ureq::Error>;

/// Nobody answers, or not now: whether it was done isn't known, and the same again may do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Away(String);

pub(super) struct Api {
    data_dir: PathBuf,
    /// Where the configuration says that it answers.
    listen: String,
}

/// A running collector.
struct Place {
    address: String,
    secret: Option<String>,
}

impl Api {
    /// # Errors
    /// When the configuration is wrong, or no collector was started with it: another one may answer at its address.
    pub(super) fn of(place: &Where) -> anyhow::Result<Self> {
        let config = Config::load(&place.config)?;
        let never = config.data_dir.is_dir() && matches!(Local::file(&config.data_dir).try_exists(), Ok(false));
        anyhow::ensure!(!never, "no collector runs in {}: start it first", config.data_dir.display());
        Ok(Self { data_dir: config.data_dir, listen: config.api.listen.to_string() })
    }

    /// Where it says that it answers, with what it says to show; or where the configuration says. Each start says
    /// something else.
    fn place(&self) -> Place {
        match Local::read(&self.data_dir) {
            Some(local) => Place { address: local.address.to_string(), secret: Some(local.secret) },
            None => Place { address: self.listen.clone(), secret: None },
        }
    }

    pub(super) fn get(&self, path: &str) -> anyhow::Result<Value> {
        let place = self.place();
        place.read(place.shown(agent(Some(WITHIN)).get(place.path(path))).call())
    }

    pub(super) fn post(&self, path: &str) -> anyhow::Result<Value> {
        let place = self.place();
        place.read(place.shown(agent(Some(WITHIN)).post(place.path(path))).send_empty())
    }

    pub(super) fn send(&self, path: &str, body: &[u8]) -> anyhow::Result<Value> {
        let place = self.place();
        place.read(place.shown(agent(Some(SENT_WITHIN)).post(place.path(path))).send(body))
    }

    /// A long answer, to be read as it comes.
    pub(super) fn stream(&self, path: &str) -> anyhow::Result<impl std::io::Read + use<>> {
        let place = self.place();
        let answer = place.shown(agent(None).get(place.path(path))).call().with_context(|| place.silent())?;
        if !answer.status().is_success() {
            place.read(Ok(answer))?;
            bail!("the collector refuses");
        }
        Ok(answer.into_body().into_reader())
    }
}

impl Place {
    fn path(&self, path: &str) -> String {
        format!("http://{}/api/v1/{path}", self.address)
    }

    fn shown<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.secret {
            Some(secret) => request.header("authorization", format!("Bearer {secret}")),
            None => request,
        }
    }

    fn silent(&self) -> Away {
        Away(format!("no collector answers at {}; does it run?", self.address))
    }

    fn read(&self, answer: Answer) -> anyhow::Result<Value> {
        let mut answer = answer.with_context(|| self.silent())?;
        let status = answer.status();
        let body = match answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string() {
            Err(error @ (ureq::Error::Io(_) | ureq::Error::Timeout(_))) => Err(error).with_context(|| self.silent())?,
            body => body?,
        };
        let value: Value = serde_json::from_str(&body)
            .with_context(|| format!("{} is no collector, or another version of it", self.address))?;
        let why = || said(value["detail"].as_str().unwrap_or("the collector refuses"), &value["parameter"]);
        match status.as_u16() {
            429 | 503 | 504 => Err(Away(why()).into()),
            _ if !status.is_success() => bail!("{}", why()),
            _ => Ok(value),
        }
    }
}

fn agent(within: Option<Duration>) -> ureq::Agent {
    let config = ureq::Agent::config_builder().timeout_global(within);
    config.http_status_as_error(false).build().into()
}

/// What the collector says, with the option by which a command sets the parameter that it names.
pub(super) fn said(text: &str, parameter: &Value) -> String {
    match parameter.as_str() {
        Some(name) if !name.is_empty() => format!("{text} (--{})", name.replace('_', "-")),
        _ => text.to_owned(),
    }
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
