//! Whether anything can be stored at the moment. When the spool is full or its disk fails, gateways are told to stop;
//! they keep their data.

use shared::spool::{Spool, SpoolError};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often it is looked whether there is room again.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A failed disk is tried again after this.
const DISK_PAUSE: Duration = Duration::from_secs(2);

/// Why nothing is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    Full,
    Disk,
}

/// Open until something can't be stored, and open again when there is room.
#[derive(Debug)]
pub struct Pressure {
    open: watch::Sender<bool>,
    closed: Mutex<Option<(Cause, Instant, String)>>,
}

impl Default for Pressure {
    fn default() -> Self {
        Self { open: watch::channel(true).0, closed: Mutex::default() }
    }
}

impl Pressure {
    /// Whether blocks are taken, and its changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.open.subscribe()
    }

    /// Whether blocks are taken.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    /// Why nothing is taken, while that is so.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.as_ref().filter(|_| !self.is_open()).map(|(_, _, why)| why.clone())
    }

    /// Nothing is taken from now on, since the spool could not.
    pub fn close(&self, error: &SpoolError) {
        let cause = if matches!(error, SpoolError::Full) { Cause::Full } else { Cause::Disk };
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = Some((cause, Instant::now(), error.to_string()));
        if self.open.send_replace(false) {
            tracing::error!(%error, "nothing can be stored; gateways are told to stop and keep their data");
            metrics::gauge!("collector_accepting").set(0.0);
        }
    }

    fn reopen(&self) {
        if !self.open.send_replace(true) {
            tracing::info!("there is room again; gateways may send");
            metrics::gauge!("collector_accepting").set(1.0);
        }
    }

    /// Opens again when there is room in `spool`, until `stop`.
    pub async fn relieve(&self, spool: &Spool, stop: CancellationToken) {
        let mut open = self.watch();
        loop {
            let closed = async { open.wait_for(|open| !open).await.is_ok() };
            if stop.run_until_cancelled(closed).await != Some(true) {
                return;
            }
            if stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
                return;
            }
            let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let again = match closed {
                // full by its own bound, or because the disk is full of other things
                Some((Cause::Full, since, _)) => has_room(spool) && since.elapsed() >= DISK_PAUSE / 2,
                Some((Cause::Disk, since, _)) => since.elapsed() >= DISK_PAUSE,
                None => true,
            };
            if again {
                self.reopen();
            }
        }
    }
}

/// A sixteenth free: opening for a single block would only flap.
fn has_room(spool: &Spool) -> bool {
    let usage = spool.usage();
    usage.bytes.saturating_add(usage.bytes_max / 16) <= usage.bytes_max
}
