//! Which series there are. While the warm tier is down, what it said last holds, so that newest values and today's
//! history can still be named.

use crate::tiers::{SeriesId, SeriesInfo, TierError, WarmTier};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
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
    last: Mutex<Option<(Known, Instant)>>,
}

impl Directory {
    pub(super) fn new(warm: Arc<dyn WarmTier>) -> Self {
        Self { warm, last: Mutex::default() }
    }

    /// All series.
    ///
    /// # Errors
    /// When the warm tier doesn't say, and never said.
    pub(super) async fn get(&self) -> Result<Known, TierError> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((known, asked)) = &last
            && known.doubt.is_some()
            && asked.elapsed() < PAUSE
        {
            return Ok(known.clone());
        }
        let now = match (self.warm.series(None).await, last) {
            (Ok(all), _) => {
                let places = all.iter().enumerate().map(|(place, series)| (series.id, place)).collect();
                Known { all: Arc::new(all), places: Arc::new(places), doubt: None }
            }
            (Err(error), Some((last, _))) => Known { doubt: Some(format!("{error}: new series are missing")), ..last },
            (Err(error), None) => return Err(error),
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((now.clone(), Instant::now()));
        Ok(now)
    }
}
