//! Which series there are. They are asked of the warm tier when one was made or changed here, and every two seconds while
//! somebody wants to know, since other collectors make some, too. While it is down, what it said last holds, so that newest
//! values and today's history can still be named.

use super::views::{Named, SeriesName};
use crate::tiers::{SeriesId, SeriesInfo, TierError, WarmTier};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use twox_hash::XxHash64;

/// A warm tier that doesn't answer is left alone for so long: each attempt may take seconds.
const PAUSE: Duration = Duration::from_secs(1);
/// What is known holds for so long, if nothing was changed here,
const FRESH: Duration = Duration::from_secs(2);
/// and is given for so long while it is asked for again.
const STALE: Duration = Duration::from_secs(10);

/// All series, and what may be wrong with that.
#[derive(Clone, Default)]
pub(super) struct Known {
    all: Arc<Vec<SeriesInfo>>,
    /// Theirs, in the same order: thousands of them in each answer are not to be made each time.
    names: Arc<Vec<Arc<SeriesName>>>,
    places: Arc<HashMap<SeriesId, usize>>,
    /// Changes when anything of them does.
    pub(super) tag: u64,
    /// Why it may be out of date; `None` when it isn't.
    pub(super) doubt: Option<String>,
}

impl Known {
    fn of(all: Vec<SeriesInfo>) -> Self {
        let places = all.iter().enumerate().map(|(place, series)| (series.id, place)).collect();
        let names = all.iter().map(|series| Arc::new(SeriesName::of(series))).collect();
        let tag = XxHash64::oneshot(0, format!("{all:?}").as_bytes());
        Self { all: Arc::new(all), names: Arc::new(names), places: Arc::new(places), tag, doubt: None }
    }

    /// All of them.
    pub(super) fn all(&self) -> &[SeriesInfo] {
        &self.all
    }

    /// All of them with their names.
    pub(super) fn named(&self) -> impl Iterator<Item = Named<'_>> {
        self.all.iter().zip(self.names.iter())
    }

    /// The one with that number, and its name.
    pub(super) fn one_named(&self, id: SeriesId) -> Option<Named<'_>> {
        self.places.get(&id).map(|place| (&self.all[*place], &self.names[*place]))
    }

    /// The one with that number.
    pub(super) fn one(&self, id: SeriesId) -> Option<&SeriesInfo> {
        self.one_named(id).map(|(series, _)| series)
    }
}

/// What was said last.
#[derive(Clone)]
struct Last {
    known: Known,
    /// Since when it holds.
    at: Instant,
    /// The changes that it knows of.
    changes: u64,
    /// What the warm tier was at when they were read, or before.
    version: Option<String>,
}

pub(super) struct Directory {
    warm: Arc<dyn WarmTier>,
    last: Mutex<Option<Last>>,
    /// One asks at a time, and many who come at once are answered by one who began after them.
    turn: tokio::sync::Mutex<()>,
}

impl Directory {
    pub(super) fn new(warm: Arc<dyn WarmTier>) -> Self {
        Self { warm, last: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    fn last(&self) -> MutexGuard<'_, Option<Last>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All series.
    ///
    /// # Errors
    /// When the warm tier doesn't say, and never said.
    pub(super) async fn get(self: &Arc<Self>) -> Result<Known, TierError> {
        let came = Instant::now();
        let last = self.last().clone();
        let holds = |last: &Last| {
            last.known.doubt.is_none() && last.changes == self.warm.series_changes() && came - last.at < STALE
        };
        if let Some(last) = last.filter(holds) {
            if came - last.at >= FRESH && self.turn.try_lock().is_ok() {
                let again = Arc::clone(self);
                tokio::spawn(async move { again.ask(came).await });
            }
            return Ok(last.known);
        }
        self.ask(came).await
    }

    /// What was said after `came`, or is said now.
    async fn ask(&self, came: Instant) -> Result<Known, TierError> {
        // While nobody knows anything, nobody waits for another one's failure.
        let _turn = if self.last().is_some() { Some(self.turn.lock().await) } else { None };
        let last = self.last().clone();
        if let Some(last) = &last
            && (last.at > came || last.known.doubt.is_some() && last.at.elapsed() < PAUSE)
        {
            return Ok(last.known.clone());
        }
        let (begun, changes) = (Instant::now(), self.warm.series_changes());
        let (known, version) = match (self.unless_known(last.as_ref()).await, last) {
            (Ok((known, version)), _) => (known, Some(version)),
            (Err(error), Some(last)) => {
                (Known { doubt: Some(format!("{error}: new series are missing")), ..last.known }, last.version)
            }
            (Err(error), None) => return Err(error),
        };
        // A failure holds from its end on: whoever waited for it needn't meet the next.
        let at = if known.doubt.is_some() { Instant::now() } else { begun };
        *self.last() = Some(Last { known: known.clone(), at, changes, version });
        Ok(known)
    }

    /// All series are read only when something about them has changed: that is thousands every two seconds.
    async fn unless_known(&self, last: Option<&Last>) -> Result<(Known, String), TierError> {
        // What changes after this is read again.
        let version = self.warm.series_version().await?;
        let known = match last.filter(|last| last.version.as_ref() == Some(&version)) {
            Some(last) => Known { doubt: None, ..last.known.clone() },
            None => Known::of(self.warm.series(None).await?),
        };
        Ok((known, version))
    }
}
