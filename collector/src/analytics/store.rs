//! What is kept of analytics. It lies in the warm tier.

use super::anomaly::{Kind, Severity};
use super::forecast::{Point, Scores};
use crate::tiers::{SeriesId, TierFuture};
use serde::{Deserialize, Serialize};
use shared::reading::Timestamp;
use utoipa::ToSchema;

/// A forecast, and how right it was.
#[derive(Clone, PartialEq, Debug)]
pub struct Forecast {
    /// Of which series.
    pub series: SeriesId,
    /// From when on.
    pub origin: Timestamp,
    /// The model's name.
    pub model: String,
    /// The first moment it may have learned from.
    pub trained_from: Timestamp,
    /// The moment after the last it may have learned from.
    pub trained_to: Timestamp,
    /// When it was made.
    pub made_at: Timestamp,
    /// The hours.
    pub points: Vec<Point>,
    /// Against what came, as far as that is known.
    pub scores: Option<Scores>,
}

/// What is kept of forecasts.
pub trait ForecastStore: Send + Sync {
    /// Keeps forecasts, each in place of the one with the same series, origin and model; those of origins before
    /// `keep_from` go.
    fn put_forecasts<'a>(&'a self, forecasts: &'a [Forecast], keep_from: Timestamp) -> TierFuture<'a, ()>;

    /// A series' newest forecasts with `origin >= from`, newest first.
    fn forecasts(&self, series: SeriesId, from: Timestamp, count_max: u32) -> TierFuture<'_, Vec<Forecast>>;

    /// The scores of all of a series' forecasts that have any, with their models.
    fn scores(&self, series: SeriesId) -> TierFuture<'_, Vec<(String, Scores)>>;
}

/// How far people are with an anomaly.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AnomalyState)]
pub enum State {
    /// Nobody has said anything about it.
    Open,
    /// Someone looks after it.
    Acknowledged,
    /// It is dealt with.
    Closed,
}

impl State {
    /// As it is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Acknowledged => "acknowledged",
            State::Closed => "closed",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [State::Open, State::Acknowledged, State::Closed].into_iter().find(|state| state.as_str() == text)
    }
}

/// What a person does about an anomaly.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AnomalyAction)]
pub enum Action {
    /// Looks after it.
    Acknowledge,
    /// Says something about it.
    Comment,
    /// Has dealt with it.
    Close,
}

impl Action {
    /// As it is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Acknowledge => "acknowledge",
            Action::Comment => "comment",
            Action::Close => "close",
        }
    }

    /// The action of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Action::Acknowledge, Action::Comment, Action::Close].into_iter().find(|action| action.as_str() == text)
    }
}

/// What a person said about an anomaly.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = AnomalyNote)]
pub struct Note {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub who: String,
    /// What they did with it.
    pub what: Action,
    /// In words.
    pub comment: String,
}

/// What a person decides about an anomaly; stored by [`crate::tiers::WarmTier::commit`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Judgement {
    /// Its number.
    pub anomaly: i64,
    /// What is said.
    pub note: Note,
    /// With a close: it is how things are now, and teaches.
    pub normal: bool,
}

/// Something out of the ordinary.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Anomaly {
    /// Its number; 0 while it has none.
    pub number: i64,
    /// In which series.
    pub series: SeriesId,
    /// What is wrong.
    pub kind: Kind,
    /// Since when.
    pub start: Timestamp,
    /// Up to when it was seen.
    pub last: Timestamp,
    /// When it was over; `None` while it goes on.
    pub end: Option<Timestamp>,
    /// How bad it is at the worst.
    pub severity: Severity,
    /// What was expected then, in the series' unit.
    pub expected: Option<f64>,
    /// What was seen then.
    pub seen: Option<f64>,
    /// In words.
    pub detail: String,
    /// How far people are with it.
    pub state: State,
    /// A person says that it is how things are now: it teaches.
    pub normal: bool,
    /// What people said, oldest first.
    pub notes: Vec<Note>,
}

/// Which anomalies are wanted.
#[derive(Clone, PartialEq, Debug)]
pub struct Wanted {
    /// The one of that number.
    pub number: Option<i64>,
    /// Of these series.
    pub series: Option<Vec<SeriesId>>,
    /// Of that kind.
    pub kind: Option<Kind>,
    /// In that state.
    pub state: Option<State>,
    /// As bad as that.
    pub severity: Option<Severity>,
    /// Those that come after the one of this start and number.
    pub before: Option<(Timestamp, i64)>,
    /// Those that touch `from <= t < to`; one that goes on touches everything from its start on.
    pub from: Timestamp,
    /// See `from`.
    pub to: Timestamp,
    /// At most so many.
    pub count_max: u32,
}

impl Wanted {
    /// All there are.
    #[must_use]
    pub fn all(count_max: u32) -> Self {
        let (from, to) = (Timestamp(i64::MIN), Timestamp(i64::MAX));
        Self { number: None, series: None, kind: None, state: None, severity: None, before: None, from, to, count_max }
    }

    /// Whether it is one of those.
    #[must_use]
    pub fn fits(&self, one: &Anomaly) -> bool {
        self.number.is_none_or(|number| one.number == number)
            && self.series.as_ref().is_none_or(|series| series.contains(&one.series))
            && self.kind.is_none_or(|kind| one.kind == kind)
            && self.state.is_none_or(|state| one.state == state)
            && self.severity.is_none_or(|severity| one.severity == severity)
            && self.before.is_none_or(|before| (one.start, one.number) < before)
            && (one.end.is_none() || one.last >= self.from)
            && one.start < self.to
    }
}

/// What is kept of anomalies. What people decide about them goes with a flush, together with the audit.
pub trait AnomalyStore: Send + Sync {
    /// Keeps new ones, and of those with a number what was seen (`last`, `end`, `severity`, `expected`, `seen`,
    /// `detail`); state and notes are left alone. Those that ended before `keep_from` go.
    fn put_anomalies<'a>(&'a self, anomalies: &'a [Anomaly], keep_from: Timestamp) -> TierFuture<'a, ()>;

    /// Those that are wanted, the latest start first.
    fn find_anomalies<'a>(&'a self, wanted: &'a Wanted) -> TierFuture<'a, Vec<Anomaly>>;
}
