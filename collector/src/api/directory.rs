//! Which series there are. While the warm tier is down, what it said last holds, so that newest values and today's
//! history can still be named.

use crate::tiers::{SeriesId, SeriesInfo, TierError, WarmTier};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A warm tier that doesn't answer is left alone for so long: each attempt may take seconds.
const PAUSE: Duration = Duration::from_secs(1);

/// All series, and what may be wrong with that.
#[derive(Clone, Default)]
pub(super) struct Known {
    all: Arc<Vec<SeriesInfo>>,
    places: Arc<HashMap<SeriesId, usize>>,
    /// Why it may be out of date; `None` when it isn't.
    pub(super) doubt: Option<String>,
}

impl Known {
    /// All of them.
    pub(super) fn all(&self) -> &[SeriesInfo] {
        &self.all
    }

    /// The one with that number.
    pub(super) fn one(&self, id: SeriesId) -> Option<&SeriesInfo> {
        self.places.get(&id).map(|place| &self.all[*place])
    }
}

pub(super) struct Directory {
    warm: Arc<dyn WarmTier>,
    /// And since when it holds.
    last: Mutex<Option<(Known, Instant)>>,
    /// One asks at a time, and many who come at once are answered by one who began after them.
    turn: tokio::sync::Mutex<()>,
}

impl Directory {
    pub(super) fn new(warm: Arc<dyn WarmTier>) -> Self {
        Self { warm, last: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    fn last(&self) -> MutexGuard<'_, Option<(Known, Instant)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All series.
    ///
    /// # Errors
    /// When the warm tier doesn't say, and never said.
    pub(super) async fn get(&self) -> Result<Known, TierError> {
        let came = Instant::now();
        // While nobody knows anything, nobody waits for another one's failure.
        let _turn = if self.last().is_some() { Some(self.turn.lock().await) } else { None };
        let last = self.last().clone();
        if let Some((known, at)) = &last
            && (*at > came || known.doubt.is_some() && at.elapsed() < PAUSE)
        {
            return Ok(known.clone());
        }
        let begun = Instant::now();
        let now = match (self.warm.series(None).await, last) {
            (Ok(all), _) => {
                let places = all.iter().enumerate().map(|(place, series)| (series.id, place)).collect();
                Known { all: Arc::new(all), places: Arc::new(places), doubt: None }
            }
            (Err(error), Some((last, _))) => Known { doubt: Some(format!("{error}: new series are missing")), ..last },
            (Err(error), None) => return Err(error),
        };
        // A failure holds from its end on: whoever waited for it needn't meet the next.
        let at = if now.doubt.is_some() { Instant::now() } else { begun };
        *self.last() = Some((now.clone(), at));
        Ok(now)
    }
}
