//! Every five minutes: what other producers left in inboxes becomes readings.

use crate::etl::{Job, JobError, Outcome, Progress};
use crate::inbox::{Inbox, Reach};
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// The job.
pub struct RealtimeSync {
    /// What it takes.
    pub inbox: Arc<Inbox>,
}

impl RealtimeSync {
    async fn work(&self, progress: &Progress) -> Result<Outcome, JobError> {
        let taken = self.inbox.take(Reach::Short, progress).await;
        if taken.failed.is_empty() {
            return Ok(Outcome { rows: taken.stored, detail: taken.words() });
        }
        Err(JobError::Other(format!("{} (otherwise: {})", taken.failed.join("; "), taken.words())))
    }
}

impl Job for RealtimeSync {
    fn name(&self) -> &'static str {
        "realtime_sync"
    }
    fn what(&self) -> &'static str {
        "take in what other producers left in inbox tables"
    }
    fn limit(&self) -> Duration {
        Duration::from_secs(2 * 3_600)
    }
    fn run<'a>(&'a self, progress: &'a Progress) -> BoxFuture<'a, Result<Outcome, JobError>> {
        Box::pin(self.work(progress))
    }
}
