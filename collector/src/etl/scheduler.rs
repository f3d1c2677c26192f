//! Starts jobs when they are due or wanted, watches them, and writes down what came of them.
//!
//! Of several collectors on one store one leads, and starts what is due; any of them starts what someone wants there. A
//! job runs once at a time whoever starts it, because the store says so. A run gives signs of life; one that is silent
//! is declared over and begun again, and a collector that can't give signs ends its run by itself before that.

use super::plan::{Decision, decide};
use super::schedule::Schedule;
use super::store::{Finished, JobRun, JobStore, RunNo, Status, Why};
use crate::tiers::{Audited, TierError, WarmTier};
use futures::FutureExt as _;
use futures::future::{BoxFuture, try_join_all};
use serde_json::json;
use shared::reading::Timestamp;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How fast things go.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between looks at what is due.
    pub tick: Duration,
    /// How long the lead holds without being renewed: another collector takes over soon after.
    pub term: Duration,
    /// Between signs of life of a run.
    pub sign: Duration,
    /// A run that gave none for so long is over.
    pub silent: Duration,
}

impl Default for Pace {
    /// Another collector takes over within 20 s, and begins again what was interrupted within 30 s.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { tick: seconds(5), term: seconds(14), sign: seconds(2), silent: seconds(20) }
    }
}

/// Regular work.
pub trait Job: Send + Sync + 'static {
    /// Its name, in lower case with underscores.
    fn name(&self) -> &'static str;
    /// What it does, in a few words.
    fn what(&self) -> &'static str;
    /// A run that takes longer has failed.
    fn limit(&self) -> Duration;
    /// Does it. May be dropped at any await, and begun again from the start.
    fn run<'a>(&'a self, progress: &'a Progress) -> BoxFuture<'a, Result<Outcome, JobError>>;
    /// The job that is to begin at once because of what the last run did, if any.
    fn followed_by(&self) -> Option<&'static str> {
        None
    }
}

/// What a run did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// Rows it wrote.
    pub rows: u64,
    /// In words.
    pub detail: String,
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A tier didn't do what was asked.
    #[error(transparent)]
    Tier(#[from] TierError),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// How far a run is.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    steps: AtomicU64,
    rows: AtomicU64,
    words: Mutex<String>,
}

impl Progress {
    /// Says how far there is to go.
    pub fn of(&self, steps: u64) {
        self.steps.store(steps, Ordering::Relaxed);
    }
    /// One step more.
    pub fn step(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
    /// So many rows more.
    pub fn rows(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }
    /// What was done up to now, in words: all that is left of a run that doesn't end well.
    pub fn say(&self, words: String) {
        *self.words.lock().unwrap_or_else(PoisonError::into_inner) = words;
    }
    fn so_far(&self, status: Status, error: String) -> Finished {
        let detail = self.words.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Finished { status, rows: self.rows_now(), detail, error: Some(error) }
    }
    /// Rows up to now.
    #[must_use]
    pub fn rows_now(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
    /// Steps done, and how many there are; 0 when that isn't known.
    #[must_use]
    pub fn now(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.steps.load(Ordering::Relaxed))
    }
}

/// A job, and when it is due.
#[derive(Clone)]
pub struct Planned {
    /// What.
    pub job: Arc<dyn Job>,
    /// When; `None`: only when someone wants it.
    pub schedule: Option<Schedule>,
}

/// Why a run that someone wants doesn't begin.
#[derive(Debug, thiserror::Error)]
pub enum RunRefused {
    /// There is no such job.
    #[error("there is no job '{name}'; there are {}", known.join(", "))]
    Unknown {
        /// As it was said.
        name: String,
        /// What there is.
        known: Vec<&'static str>,
    },
    /// It runs already.
    #[error("{0} is running already")]
    Running(&'static str),
    /// The store can't be reached.
    #[error(transparent)]
    Tier(#[from] TierError),
}

/// The clock by which jobs are due.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The scheduler of one collector.
pub struct Scheduler {
    warm: Arc<dyn WarmTier>,
    planned: Vec<Planned>,
    owner: String,
    now: Now,
    pace: Pace,
    tasks: TaskTracker,
    stop: CancellationToken,
    leads: AtomicBool,
}

impl Scheduler {
    /// One that does nothing yet. `owner` names this collector, and this start of it.
    #[must_use]
    pub fn new(warm: Arc<dyn WarmTier>, planned: Vec<Planned>, owner: String, now: Now, pace: Pace) -> Arc<Self> {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        Arc::new(Self { warm, planned, owner, now, pace, tasks, stop, leads: AtomicBool::new(false) })
    }

    fn store(&self) -> &dyn JobStore {
        self.warm.jobs()
    }

    /// The jobs and when they are due.
    #[must_use]
    pub fn planned(&self) -> &[Planned] {
        &self.planned
    }

    /// When a job is due next.
    #[must_use]
    pub fn next(&self, planned: &Planned) -> Option<Timestamp> {
        planned.schedule.as_ref()?.next_after((self.now)())
    }

    /// Whether this collector led when it last looked.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leads.load(Ordering::Relaxed)
    }

    /// The newest runs, newest first.
    ///
    /// # Errors
    /// When the store can't say, or there is no such job.
    pub async fn runs(&self, job: Option<&str>, count_max: u32) -> Result<Vec<JobRun>, RunRefused> {
        let job = job.map(|name| self.find(name)).transpose()?;
        Ok(self.store().runs(job.map(|planned| planned.job.name()), count_max).await?)
    }

    /// The jobs whose last run that ended has failed, and that run.
    ///
    /// # Errors
    /// When the store can't say.
    pub async fn failed(&self) -> Result<Vec<(&'static str, JobRun)>, TierError> {
        Ok(self.last().await?.into_iter().filter(|(_, run)| run.status == Status::Failed).collect())
    }

    /// The last run of each job that ended, by whichever collector.
    ///
    /// # Errors
    /// When the store can't say.
    pub async fn last(&self) -> Result<Vec<(&'static str, JobRun)>, TierError> {
        let last = async |planned: &Planned| {
            let name = planned.job.name();
            let runs = self.store().runs(Some(name), 2).await?; // one of them may be at work
            Ok::<_, TierError>((name, runs.into_iter().find(|run| run.status != Status::Running)))
        };
        let all = try_join_all(self.planned.iter().map(last)).await?;
        Ok(all.into_iter().filter_map(|(name, run)| Some((name, run?))).collect())
    }

    fn find(&self, name: &str) -> Result<&Planned, RunRefused> {
        let known = || self.planned.iter().map(|planned| planned.job.name());
        let unknown = || RunRefused::Unknown { name: name.into(), known: known().collect() };
        self.planned.iter().find(|planned| planned.job.name() == name).ok_or_else(unknown)
    }

    /// Starts what is due, until `stop`; what is at work then is interrupted, and begins again after the next start.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(self.pace.tick);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            if let Err(error) = self.look().await {
                self.leads.store(false, Ordering::Relaxed);
                tracing::debug!(%error, "jobs can't be looked after now");
            }
        }
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        // Whoever waits for the lead needn't wait for its end.
        if let Err(error) = self.store().lead(&self.owner, Duration::ZERO).await {
            tracing::debug!(%error, "the lead ends by itself");
        }
    }

    /// Begins what is due, if this collector leads.
    async fn look(self: &Arc<Self>) -> Result<(), TierError> {
        let leads = self.store().lead(&self.owner, self.pace.term).await?;
        self.leads.store(leads, Ordering::Relaxed);
        metrics::gauge!("collector_jobs_leader").set(if leads { 1.0 } else { 0.0 });
        if !leads {
            return Ok(());
        }
        let buried = self.store().bury(self.pace.silent).await?;
        if buried > 0 {
            tracing::warn!(runs = buried, "a run without a sign of life is declared over");
        }
        let marks: HashMap<String, Timestamp> = self.store().marks().await?.into_iter().collect();
        for planned in &self.planned {
            let Some(schedule) = &planned.schedule else { continue };
            let name = planned.job.name();
            let last = self.store().runs(Some(name), 1).await?;
            let mark = marks.get(name).copied();
            match decide(schedule, mark, last.first(), (self.now)()) {
                Decision::Wait => {}
                Decision::MarkNew(due) => self.store().mark_new(name, due).await?,
                Decision::MarkBack(due) => {
                    tracing::warn!(job = name, done_for = ?mark, "a clock was ahead: it is done again from now on");
                    self.store().mark_back(name, due).await?;
                }
                Decision::Begin(why) => {
                    self.begin(planned, why, None).await?;
                }
            }
        }
        Ok(())
    }

    /// Starts a job because someone wants it, and notes who.
    ///
    /// # Errors
    /// When there is none of that name, it is running, or that can't be noted.
    pub async fn start_for(self: &Arc<Self>, who: &str, name: &str) -> Result<RunNo, RunRefused> {
        let detail = json!({ "job": name });
        let wanted = Audited { at: (self.now)(), who: who.into(), what: "job".into(), detail };
        self.start_by(Some(&wanted), name).await
    }

    /// Starts a job because of another one.
    ///
    /// # Errors
    /// When there is none of that name, or it is running.
    pub async fn start(self: &Arc<Self>, name: &str) -> Result<RunNo, RunRefused> {
        self.start_by(None, name).await
    }

    async fn start_by(self: &Arc<Self>, wanted: Option<&Audited>, name: &str) -> Result<RunNo, RunRefused> {
        let planned = self.find(name)?.clone();
        // One whose collector died shouldn't be in the way until the leader looks.
        self.store().bury(self.pace.silent).await?;
        self.begin(&planned, Why::Hand, wanted).await?.ok_or(RunRefused::Running(planned.job.name()))
    }

    fn begin<'a>(
        self: &'a Arc<Self>,
        planned: &'a Planned,
        why: Why,
        wanted: Option<&'a Audited>,
    ) -> BoxFuture<'a, Result<Option<RunNo>, TierError>> {
        Box::pin(async move {
            let name = planned.job.name();
            let Some(run) = self.store().begin(name, why, &self.owner, wanted).await? else { return Ok(None) };
            tracing::info!(job = name, run = run.0, ?why, "job begins");
            let (this, job) = (Arc::clone(self), Arc::clone(&planned.job));
            self.tasks.spawn(async move {
                this.perform(&*job, run).await;
                this.follow(&*job).await;
            });
            Ok(Some(run))
        })
    }

    /// Begins what follows from what a job did.
    async fn follow(self: &Arc<Self>, job: &dyn Job) {
        let Some(next) = job.followed_by().filter(|_| !self.stop.is_cancelled()) else { return };
        match self.start(next).await {
            Ok(_) | Err(RunRefused::Running(_)) => {}
            Err(error) => tracing::warn!(job = next, %error, "it should follow {} and can't begin", job.name()),
        }
    }

    async fn perform(&self, job: &dyn Job, run: RunNo) {
        let (name, started, progress) = (job.name(), Instant::now(), Progress::default());
        let work = AssertUnwindSafe(tokio::time::timeout(job.limit(), job.run(&progress))).catch_unwind();
        let failed = |error| progress.so_far(Status::Failed, error);
        let interrupted = |why: &str| progress.so_far(Status::Interrupted, why.into());
        let finished = tokio::select! {
            outcome = work => match outcome {
                Ok(Ok(Ok(Outcome { rows, detail }))) => Finished { status: Status::Done, rows, detail, error: None },
                Ok(Ok(Err(error))) => failed(error.to_string()),
                Ok(Err(_)) => failed(format!("not done within {}", humantime::format_duration(job.limit()))),
                Err(_) => failed("a mistake in the program; the log has the details".into()),
            },
            why = self.give_signs(run, &progress) => interrupted(why),
            () = self.stop.cancelled() => interrupted("the collector stops"),
        };
        let seconds = started.elapsed().as_secs_f64();
        metrics::counter!("collector_jobs_total", "job" => name, "status" => finished.status.as_str()).increment(1);
        metrics::histogram!("collector_job_seconds", "job" => name).record(seconds);
        match &finished.error {
            None => tracing::info!(job = name, run = run.0, seconds, detail = finished.detail, "job is done"),
            Some(error) => tracing::error!(job = name, run = run.0, seconds, error, "job {}", finished.status),
        }
        if let Err(error) = self.store().finish(run, finished).await {
            tracing::error!(job = name, run = run.0, %error, "what came of it can't be written down");
        }
    }

    /// Says that the run is alive, until it may not go on; gives why.
    async fn give_signs(&self, run: RunNo, progress: &Progress) -> &'static str {
        let mut last = Instant::now();
        loop {
            tokio::time::sleep(self.pace.sign).await;
            let (done, steps) = progress.now();
            let sign = self.store().alive(run, done, steps, progress.rows_now());
            match tokio::time::timeout(self.pace.sign, sign).await {
                Ok(Ok(true)) => last = Instant::now(),
                Ok(Ok(false)) => return "it was declared over: another collector may have begun it again",
                Ok(Err(_)) | Err(_) if last.elapsed() + 2 * self.pace.sign > self.pace.silent => {
                    return "the warm tier can't be reached to say that it goes on";
                }
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }
}
