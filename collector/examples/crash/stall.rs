//! How long the collector stored nothing new.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const COUNTER: &str = "collector_spool_records_appended_total ";
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Seen {
    /// How many blocks were stored, and when that was last another number; `None`: not to be counted from there.
    stored: u64,
    since: Option<Instant>,
    counts: bool,
    longest: Duration,
}

/// Looks until it is dropped.
pub(crate) struct Watch {
    seen: Arc<Mutex<Seen>>,
    looking: JoinHandle<()>,
}

impl Watch {
    /// Of the collector whose API is there.
    pub(crate) fn start(api: SocketAddr) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let (shared, url) = (seen.clone(), format!("http://{api}/metrics"));
        let looking = tokio::spawn(async move {
            loop {
                if let Ok(text) = crate::programs::fetch(url.clone()).await
                    && let Some(stored) = text.lines().find_map(|line| line.strip_prefix(COUNTER)?.trim().parse().ok())
                {
                    shared.lock().unwrap_or_else(PoisonError::into_inner).look(stored);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        Self { seen, looking }
    }

    /// Whether what follows counts: a killed agent or collector stores nothing.
    pub(crate) fn count(&self, counts: bool) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.counts, seen.since) = (counts, None);
    }

    /// Seconds.
    pub(crate) fn longest(&self) -> f64 {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).longest.as_secs_f64()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

impl Seen {
    fn look(&mut self, stored: u64) {
        if stored != self.stored {
            (self.stored, self.since) = (stored, Some(Instant::now()));
        }
        if let Some(since) = self.since.filter(|_| self.counts) {
            self.longest = self.longest.max(since.elapsed());
        }
    }
}
