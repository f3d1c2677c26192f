//! Parameters of a request: every one is known, given once, and checked; what is wrong is named.

use super::Problem;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use shared::reading::Timestamp;
use std::collections::BTreeMap;
use std::str::FromStr;

/// How far back a stretch goes when nothing is said, microseconds.
const DAY: i64 = 24 * 3_600 * 1_000_000;

/// The parameters as they came.
pub(super) struct Params(BTreeMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Query(pairs) = query.map_err(|error| Problem::parameter("", error.to_string()))?;
        let mut params = BTreeMap::new();
        for (name, value) in pairs {
            if params.contains_key(&name) {
                return Err(Problem::parameter(&name, "it is given more than once"));
            }
            params.insert(name, value);
        }
        Ok(Self(params))
    }
}

impl Params {
    /// Refuses parameters that aren't among these.
    pub(super) fn only(self, known: &[&str]) -> Result<Self, Problem> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(self),
            Some(name) if known.is_empty() => Err(Problem::parameter(name, "no parameters are known here")),
            Some(name) => {
                Err(Problem::parameter(name, format!("it is not known here; known are {}", known.join(", "))))
            }
        }
    }

    /// The text as it came.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value, when it is given.
    pub(super) fn parsed<T: FromStr>(&self, name: &str, what: &str) -> Result<Option<T>, Problem>
    where
        T::Err: std::fmt::Display,
    {
        let parse = |text: &str| {
            text.parse().map_err(|error| Problem::parameter(name, format!("'{}' is no {what}: {error}", short(text))))
        };
        self.text(name).map(parse).transpose()
    }

    /// Whether something is wanted: `true` or `false`, and not when it isn't said.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true" | "") => Ok(true),
            Some(_) => Err(Problem::parameter(name, "it is true or false")),
        }
    }

    /// How many are wanted.
    pub(super) fn limit(&self, default: u32, most: u32) -> Result<u32, Problem> {
        let Some(text) = self.text("limit") else { return Ok(default) };
        let count = text.parse().ok().filter(|count| (1..=most).contains(count));
        let wrong = || Problem::parameter("limit", format!("'{}' is no whole number from 1 to {most}", short(text)));
        count.ok_or_else(wrong)
    }

    /// `from` and `to`, in this order of time: the last day when nothing is said.
    pub(super) fn stretch(&self, now: Timestamp) -> Result<(Timestamp, Timestamp), Problem> {
        let to = self.moment("to", now)?.unwrap_or(now);
        let from = self.moment("from", now)?.unwrap_or(to.plus_micros(-DAY));
        in_order(from, to)?;
        Ok((from, to))
    }

    /// A moment: RFC 3339, `now`, or `now-6h`.
    pub(super) fn moment(&self, name: &str, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
        self.text(name).map(|text| moment(name, text, now)).transpose()
    }
}

/// Refuses a stretch that ends before it begins.
pub(super) fn in_order(from: Timestamp, to: Timestamp) -> Result<(), Problem> {
    if from < to {
        return Ok(());
    }
    Err(Problem::parameter("from", format!("{from} is not before {to}, which is 'to'")))
}

fn moment(name: &str, text: &str, now: Timestamp) -> Result<Timestamp, Problem> {
    let wrong = |why: String| {
        let like = "like 2026-03-01T00:00:00Z, now or now-6h";
        // A plus sign in a query is a blank unless it is escaped: the mistake everybody makes once.
        let hint = if text.contains(' ') { "; a + must be written %2B" } else { "" };
        Problem::parameter(name, format!("'{}' is no time {like}: {why}{hint}", short(text)))
    };
    match text.strip_prefix("now") {
        Some("") => Ok(now),
        Some(ago) => {
            let ago = ago.strip_prefix('-').ok_or_else(|| wrong("after 'now' only '-' can follow".into()))?;
            let ago = humantime::parse_duration(ago).map_err(|error| wrong(error.to_string()))?;
            let micros = i64::try_from(ago.as_micros()).map_err(|_| wrong("it is too long ago".into()))?;
            Ok(now.plus_micros(-micros))
        }
        None => text.parse().map_err(|error: time::error::Parse| wrong(error.to_string())),
    }
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}
