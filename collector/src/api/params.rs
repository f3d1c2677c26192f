//! Parameters of a request: every one is known, given once, and checked; what is wrong is named.

use super::Problem;
use axum::extract::{FromRequestParts, Query};
use axum::http::Uri;
use axum::http::request::Parts;
use serde::Serialize;
use shared::reading::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::str::FromStr;
use utoipa::ToSchema;

/// How far back a stretch goes when nothing is said, microseconds.
const DAY: i64 = 24 * 3_600 * 1_000_000;

/// How many items of a list can be left out.
pub(super) const OFFSET_MAX: u32 = 100_000;

/// Before each number of an item's place.
const BEHIND: char = '~';

/// The parameters as they came.
#[derive(Clone, Default)]
pub(super) struct Params(BTreeMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

impl Params {
    /// Those of a request, when all of them are known and there once.
    pub(super) fn of(uri: &Uri, known: &BTreeSet<String>) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Problem::parameter("", error.to_string()))?;
        let mut params = BTreeMap::new();
        for (name, value) in pairs {
            if known.is_empty() {
                return Err(Problem::parameter(&name, "no parameters are known here"));
            }
            if !known.contains(&name) {
                let known = known.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                return Err(Problem::parameter(&name, format!("it is not known here; known are {known}")));
            }
            if params.contains_key(&name) {
                return Err(Problem::parameter(&name, "it is given more than once"));
            }
            params.insert(name, value);
        }
        Ok(Self(params))
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
        Ok(self.count("limit", 1, most)?.unwrap_or(default))
    }

    fn count(&self, name: &str, least: u32, most: u32) -> Result<Option<u32>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let count = text.parse().ok().filter(|count| (least..=most).contains(count));
        let wrong = || Problem::parameter(name, format!("'{}' is no whole number from {least} to {most}", short(text)));
        count.map(Some).ok_or_else(wrong)
    }

    /// Which part of a list is wanted.
    pub(super) fn page(&self, default: u32, most: u32) -> Result<Page, Problem> {
        let offset = self.count("offset", 0, OFFSET_MAX)?.unwrap_or(0);
        Ok(Page { limit: self.limit(default, most)?, offset })
    }

    /// Which part of a list is wanted that has the newest first.
    pub(super) fn newest<const N: usize>(&self, default: u32, most: u32) -> Result<Newest<N>, Problem> {
        let Some(text) = self.text("offset").filter(|text| text.starts_with(BEHIND)) else {
            return Ok(Newest { page: self.page(default, most)?, behind: None });
        };
        let wrong = || Problem::parameter("offset", format!("'{}' is no `next` of this list", short(text)));
        let behind = place(text).ok_or_else(wrong)?;
        Ok(Newest { page: Page { limit: self.limit(default, most)?, offset: 0 }, behind: Some(behind) })
    }

    /// `from` and `to`, in this order of time: the last day when nothing is said.
    pub(super) fn stretch(&self, now: Timestamp) -> Result<(Timestamp, Timestamp), Problem> {
        let to = self.moment("to", now)?.unwrap_or(now);
        let from = self.moment("from", now)?.unwrap_or(to.plus_micros(-DAY));
        in_order(from, to)?;
        Ok((from, to))
    }

    /// A day like 2026-03-01.
    pub(super) fn day(&self, name: &str) -> Result<Option<jiff::civil::Date>, Problem> {
        let wrong = |text: &str| Problem::parameter(name, format!("'{}' is no day like 2026-03-01", short(text)));
        self.text(name).map(|text| text.parse().map_err(|_| wrong(text))).transpose()
    }

    /// A moment: RFC 3339, `now`, or `now-6h`.
    pub(super) fn moment(&self, name: &str, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
        self.text(name).map(|text| moment(name, text, now)).transpose()
    }
}

/// A part of a list.
#[derive(Clone, Copy)]
pub(super) struct Page {
    limit: u32,
    offset: u32,
}

/// A part of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct List<T> {
    /// What there is.
    pub(super) items: Vec<T>,
    /// There are more than these.
    pub(super) truncated: bool,
    /// What to give as `offset` for the items after these; null when there are none.
    next: Option<Next>,
}

/// Where a list goes on.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = NextItems)]
pub(super) enum Next {
    /// After so many.
    Offset(u32),
    /// Behind an item of a list that has the newest first, which new ones don't shift.
    Behind(String),
}

impl<T> List<T> {
    /// With these in the place of its items.
    pub(super) fn with<U>(self, items: Vec<U>) -> List<U> {
        List { items, truncated: self.truncated, next: self.next }
    }

    /// All there are.
    pub(super) fn whole(items: Vec<T>) -> Self {
        Self { items, truncated: false, next: None }
    }
}

impl Page {
    /// How many items the whole list must have for this part of it, and to know whether there are more.
    pub(super) fn needed(self) -> u32 {
        self.offset + self.limit + 1
    }

    /// This part of the whole list, or of the first [`Self::needed`] items of it.
    pub(super) fn of<T>(self, all: impl IntoIterator<Item = T>) -> List<T> {
        let mut rest = all.into_iter().skip(self.offset as usize);
        let items = rest.by_ref().take(self.limit as usize).collect();
        let truncated = rest.next().is_some();
        List {
            items,
            truncated,
            next: truncated.then_some(self.offset + self.limit).filter(|next| *next <= OFFSET_MAX).map(Next::Offset),
        }
    }
}

/// A part of a list that has the newest first: it begins so many items after the first, or behind one, so that what is new
/// meanwhile doesn't shift it. An item's place are these numbers.
#[derive(Clone, Copy)]
pub(super) struct Newest<const N: usize> {
    page: Page,
    /// The place of the item that it begins behind.
    pub(super) behind: Option<[i64; N]>,
}

impl<const N: usize> Newest<N> {
    /// See [`Page::needed`].
    pub(super) fn needed(self) -> u32 {
        self.page.needed()
    }

    /// See [`Page::of`].
    pub(super) fn of<T>(self, all: impl IntoIterator<Item = T>, place: impl Fn(&T) -> [i64; N]) -> List<T> {
        let mut list = self.page.of(all);
        let last = list.items.last().filter(|_| list.truncated).map(place);
        let written = |place: [i64; N]| place.map(|number| format!("{BEHIND}{number}")).concat();
        list.next = last.map(|place| Next::Behind(written(place)));
        list
    }
}

fn place<const N: usize>(text: &str) -> Option<[i64; N]> {
    let numbers = text.split(BEHIND).skip(1).map(|number| number.parse().ok()).collect::<Option<Vec<_>>>()?;
    numbers.try_into().ok()
}

/// Refuses a stretch that ends before it begins.
pub(super) fn in_order(from: Timestamp, to: Timestamp) -> Result<(), Problem> {
    if from < to {
        return Ok(());
    }
    Err(Problem::parameter("from", format!("{from} is not before {to}, which is 'to'")))
}

fn moment(name: &str, text: &str, now: Timestamp) -> Result<Timestamp, Problem> {
    let wrong = || {
        let like = "like 2026-03-01T00:00:00Z, 2026-03-01, now or now-6h";
        // A plus sign in a query is a blank unless it is escaped: the mistake everybody makes once.
        let plus = text.split_once('T').is_some_and(|(_, time)| time.contains(' '));
        let hint = if plus { "; a + must be written %2B" } else { "" };
        Problem::parameter(name, format!("'{}' is no time {like}{hint}", short(text)))
    };
    match text.strip_prefix("now") {
        Some("") => Ok(now),
        Some(ago) => {
            let ago = ago.strip_prefix('-').and_then(|ago| humantime::parse_duration(ago).ok()).ok_or_else(wrong)?;
            let micros = i64::try_from(ago.as_micros()).map_err(|_| wrong())?;
            Ok(now.plus_micros(-micros))
        }
        None => day(text).or_else(|| text.parse().ok()).ok_or_else(wrong),
    }
}

/// The first moment of a day like 2026-03-01, UTC.
fn day(text: &str) -> Option<Timestamp> {
    let date = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    date.then(|| format!("{text}T00:00:00Z").parse().ok()).flatten()
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}
