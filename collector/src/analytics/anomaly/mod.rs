//! What is out of the ordinary. Pure.
//!
//! * `detect`: what a series shows in the last day, against what it showed before
//! * `live`: what its newest value shows at once, by the same `limits`
//! * `settle`: what that means for the anomalies that are known: an ongoing one is continued, never repeated
//!
//! What is alarmed teaches nothing, unless a person says that it is how things are now.

mod detect;
mod limits;
mod live;
mod night;
mod profile;
mod settle;

pub use detect::{Found, Look, TEACHING, WINDOW, detect};
pub use limits::Taught;
pub use live::Watch;
pub use settle::{add, alarmed, past, settle};

use serde::{Deserialize, Serialize};
use shared::reading::Timestamp;
use utoipa::ToSchema;

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AnomalyKind)]
pub enum Kind {
    /// A value that can't be, or that the gateway refused as beyond the point's range.
    OutOfRange,
    /// A change within five minutes of twice the size of any in the week before.
    RateOfChange,
    /// The value stands still twice as long as it ever did in the week before, and for three hours.
    Stuck,
    /// No usable value for longer than the series' interval or greatest silence allows.
    Silence,
    /// An hour far from the same hour of the weeks before.
    Profile,
    /// The lowest flow between 02:00 and 04:00 is above its baseline.
    NightFlow,
}

impl Kind {
    /// All there are.
    pub const ALL: [Kind; 6] =
        [Kind::OutOfRange, Kind::RateOfChange, Kind::Stuck, Kind::Silence, Kind::Profile, Kind::NightFlow];

    /// As it is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::OutOfRange => "out_of_range",
            Kind::RateOfChange => "rate_of_change",
            Kind::Stuck => "stuck",
            Kind::Silence => "silence",
            Kind::Profile => "profile",
            Kind::NightFlow => "night_flow",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AnomalySeverity)]
pub enum Severity {
    /// Someone should look at it.
    Warning,
    /// Someone should look at it now.
    Critical,
}

impl Severity {
    /// All of them.
    pub const ALL: [Severity; 2] = [Severity::Warning, Severity::Critical];

    /// As it is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }

    /// The severity of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == text)
    }
}

/// What was found in a series.
#[derive(Clone, PartialEq, Debug)]
pub struct Finding {
    /// What is wrong.
    pub kind: Kind,
    /// Since when.
    pub start: Timestamp,
    /// Up to when it is seen.
    pub last: Timestamp,
    /// Nothing says that it is over.
    pub ongoing: bool,
    /// Enough is known to say so; otherwise it only continues what was said before.
    pub opens: bool,
    /// How bad it is.
    pub severity: Severity,
    /// What was expected at the worst, in the series' unit.
    pub expected: Option<f64>,
    /// What was seen then.
    pub seen: Option<f64>,
    /// In words.
    pub detail: String,
}

/// Microseconds.
const HOUR: i64 = 3_600_000_000;
/// The greatest [`grace`].
pub const GRACE_MAX: i64 = 26 * HOUR;

/// How far a finding may lie behind an anomaly of its kind and still be the same one, microseconds.
fn grace(kind: Kind) -> i64 {
    match kind {
        Kind::Silence => HOUR / 4,
        Kind::OutOfRange | Kind::RateOfChange | Kind::Stuck => HOUR,
        Kind::Profile => 3 * HOUR,
        Kind::NightFlow => GRACE_MAX, // the next night, also when the clock goes back
    }
}

#[cfg(test)]
mod tests;
