//! What is kept of jobs and their runs. It lies in the warm tier, so that collectors which share that share this.
//!
//! Times here are those of the store's own clock where collectors might disagree: a lease or a sign of life is counted
//! by the database's clock.

use crate::tiers::{Audited, TierFuture};
use serde::Serialize;
use shared::reading::Timestamp;
use std::fmt;
use std::time::Duration;
use utoipa::ToSchema;

/// Number of a run, growing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, ToSchema)]
#[serde(transparent)]
pub struct RunNo(pub i64);

/// How a run stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = RunStatus)]
pub enum Status {
    /// It is at work.
    Running,
    /// It did what it should.
    Done,
    /// It said why not.
    Failed,
    /// Its collector died, or lost touch with the store.
    Interrupted,
}

impl Status {
    /// As it is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Done => "done",
            Status::Failed => "failed",
            Status::Interrupted => "interrupted",
        }
    }

    /// The status of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Status::Running, Status::Done, Status::Failed, Status::Interrupted].into_iter().find(|s| s.as_str() == text)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a run begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// It is due, for the first time.
    Due(Timestamp),
    /// What was due, or was started by hand, did not succeed.
    Again {
        /// For when it was planned.
        due: Option<Timestamp>,
        /// How often it has begun, this time included.
        attempt: u32,
    },
    /// Someone wants it.
    Hand,
}

impl Why {
    /// For when the run is planned, and how often it has begun with it.
    #[must_use]
    pub fn due_and_attempt(self) -> (Option<Timestamp>, u32) {
        match self {
            Why::Due(due) => (Some(due), 1),
            Why::Again { due, attempt } => (due, attempt),
            Why::Hand => (None, 1),
        }
    }
}

/// A run.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct JobRun {
    /// Its number.
    pub number: RunNo,
    /// Of which job.
    pub job: String,
    /// For when it was planned; `None` when it was started by hand.
    pub due: Option<Timestamp>,
    /// 1 the first time.
    pub attempt: u32,
    /// Which collector does it.
    pub owner: String,
    /// How it stands.
    pub status: Status,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How far it is.
    pub steps_done: u64,
    /// How far it has to go; 0 when it doesn't know.
    pub steps: u64,
    /// Rows it wrote, up to now while it is at work.
    pub rows: Option<u64>,
    /// What it did, in words.
    pub detail: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

/// How a run ended.
#[derive(Clone, PartialEq, Debug)]
pub struct Finished {
    /// `Done` or `Failed`.
    pub status: Status,
    /// Rows it wrote.
    pub rows: u64,
    /// What it did, in words.
    pub detail: String,
    /// Why it failed.
    pub error: Option<String>,
}

/// Runs that are kept of a job; older ones go.
pub const RUNS_KEPT: u32 = 2_000;

/// A lead that ends within so long is believed.
pub const TERM_MIN: Duration = Duration::from_secs(60);

/// What is kept of jobs. Every method may be called by several collectors at once.
pub trait JobStore: Send + Sync {
    /// Takes the lead, or keeps it, for `term`; false when another collector has it. One that has it for longer than
    /// `term` and [`TERM_MIN`] had a clock that was ahead, and loses it.
    fn lead<'a>(&'a self, owner: &'a str, term: Duration) -> TierFuture<'a, bool>;

    /// Up to which planned time each job was begun.
    fn marks(&self) -> TierFuture<'_, Vec<(String, Timestamp)>>;

    /// Notes for a job that has no mark that nothing before this is due.
    fn mark_new<'a>(&'a self, job: &'a str, due: Timestamp) -> TierFuture<'a, ()>;

    /// Notes that what is due after this wasn't begun, though the mark lies after it.
    fn mark_back<'a>(&'a self, job: &'a str, due: Timestamp) -> TierFuture<'a, ()>;

    /// Begins a run; `None` when the job is running, or when that due time was begun already. Who wants it is written into
    /// the audit with it, or it doesn't begin.
    fn begin<'a>(
        &'a self,
        job: &'a str,
        why: Why,
        owner: &'a str,
        wanted: Option<&'a Audited>,
    ) -> TierFuture<'a, Option<RunNo>>;

    /// A sign of life, how far it is and the rows up to now; false when the run was declared over meanwhile.
    fn alive(&self, run: RunNo, steps_done: u64, steps: u64, rows: u64) -> TierFuture<'_, bool>;

    /// Ends a run that is running.
    fn finish(&self, run: RunNo, how: Finished) -> TierFuture<'_, ()>;

    /// Declares runs over that gave no sign of life for so long; how many there were.
    fn bury(&self, silent: Duration) -> TierFuture<'_, u32>;

    /// The newest runs, of one job or of all, newest first.
    fn runs<'a>(&'a self, job: Option<&'a str>, count_max: u32) -> TierFuture<'a, Vec<JobRun>>;
}
