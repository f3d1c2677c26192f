//! How often what costs much may be asked: by each user and token, or by each address where nobody has to say who it is.
//! Commands on this machine are not limited. A keyed rate is a few bytes, and there are only as many as there are users:
//! strangers are refused before, and where there are none only loopback is answered.

use super::Problem;
use super::peer::Peer;
use crate::access::{Principal, Way};
use crate::config::Rates as Settings;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use serde::{Deserialize, Serialize};

/// What costs much.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Cost {
    /// The past of series.
    History,
    /// Files of any length.
    Export,
    /// Files that are brought.
    Import,
    /// Queries of the archive.
    Sql,
}

/// As whom somebody is counted: the user, the token, or the address where nobody has to say who it is. `None`: a command of
/// this machine.
pub(super) fn who_counts(who: Option<&Principal>, peer: Peer) -> Option<String> {
    match who.map(|who| (who.way, &who.name)) {
        Some((Way::Local, _)) => None,
        Some((Way::Session, name)) => Some(format!("user {name}")),
        Some((Way::Token, name)) => Some(format!("token {name}")),
        Some((Way::Open, _)) | None => Some(peer.counted().to_string()),
    }
}

/// The rates.
pub(super) struct Rates {
    clock: DefaultClock,
    history: DefaultKeyedRateLimiter<String>,
    export: DefaultKeyedRateLimiter<String>,
    import: DefaultKeyedRateLimiter<String>,
    sql: DefaultKeyedRateLimiter<String>,
}

impl Rates {
    pub(super) fn new(settings: Settings) -> Self {
        let a_minute = |most| RateLimiter::keyed(Quota::per_minute(most));
        Self {
            clock: DefaultClock::default(),
            history: a_minute(settings.history),
            export: a_minute(settings.export),
            import: a_minute(settings.import),
            sql: a_minute(settings.sql),
        }
    }

    /// Counts a request, and refuses what is too much.
    pub(super) fn count(&self, cost: Cost, who: Option<&Principal>, peer: Peer) -> Result<(), Problem> {
        let Some(key) = who_counts(who, peer) else { return Ok(()) };
        let rate = match cost {
            Cost::History => &self.history,
            Cost::Export => &self.export,
            Cost::Import => &self.import,
            Cost::Sql => &self.sql,
        };
        rate.check_key(&key).map_err(|until| {
            metrics::counter!("collector_requests_limited_total").increment(1);
            Problem::too_often(until.wait_time_from(self.clock.now()))
        })
    }
}
