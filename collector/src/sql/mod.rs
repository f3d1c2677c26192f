//! Read-only SQL over the archive, for analysts: one table, `readings`, and bounds on memory, time and rows.
//!
//! DataFusion works on threads of its own, with less of the processor than the rest of the collector gets, and writes
//! nothing anywhere: what doesn't fit into the memory of a query ends it. Rows are handed on as they come.
//!
//! Only SELECT gets in ([`allowed`]); what of the archive is opened is decided by the table
//! ([`crate::tiers::cold::parquet::Snapshot`]).

mod allowed;
mod brake;
mod ignored;
mod memory;
pub mod rows;
mod run;
mod settings;
mod words;

pub use settings::SqlSettings;

use crate::etl::ledger::ArchivedDays;
use crate::tiers::cold::parquet::ParquetCold;
use crate::tiers::{Day, TierError};
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::future::BoxFuture;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

/// Longest text of a query, bytes: a bound on what planning it can cost.
pub const TEXT_BYTES_MAX: usize = 8 << 10;
/// Threads that all queries share.
const THREADS: usize = 2;
/// A query of many operators is a deep tree, and what goes down into it needs a frame for each: those of the longest text fit.
/// Of this only what is used is ever memory.
const STACK_BYTES: usize = 256 << 20;
/// Threads that wait for files.
const WAITING_THREADS: usize = 16;
/// How much of the processor they leave to others.
const NICE: i32 = 10;
/// Who finds all turns taken waits so long for one.
const TURN_WITHIN: Duration = Duration::from_secs(3);
/// Batches on their way to who asked.
const BATCHES_AHEAD: usize = 2;
/// A query that can't be stopped at its time, because it is in the middle of something, is given up so much later.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(1);

/// Why there is no answer, or no more of it.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// The query can't be answered: what is wrong with it, and where.
    #[error("{0}")]
    Refused(String),
    /// It needs more than a query may have.
    #[error("{0}")]
    TooMuch(String),
    /// As many as may be are under way.
    #[error("{0} queries are under way, which is as many as [sql] queries allows; try again in a moment")]
    Busy(usize),
    /// The archive.
    #[error(transparent)]
    Tier(#[from] TierError),
}

/// Says which days the archive must have, and of which there is something newer.
pub type Expected = Arc<dyn Fn() -> BoxFuture<'static, ArchivedDays> + Send + Sync>;

/// Answers queries.
pub struct Sql {
    archive: Arc<ParquetCold>,
    expected: Option<Expected>,
    settings: SqlSettings,
    turns: Arc<Semaphore>,
    /// Taken when it ends.
    runtime: Option<Runtime>,
}

impl Sql {
    /// Over an archive.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn new(archive: Arc<ParquetCold>, settings: SqlSettings) -> Result<Self, TierError> {
        let no_threads = |error: io::Error| TierError::Unavailable { tier: "SQL", why: error.to_string() };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(WAITING_THREADS)
            .thread_stack_size(STACK_BYTES)
            .thread_name("sql")
            .on_thread_start(|| {
                let _ = rustix::process::nice(NICE); // of this thread alone; without it, it works as well
            })
            .enable_all()
            .build()
            .map_err(no_threads)?;
        let turns = Arc::new(Semaphore::new(settings.queries));
        Ok(Self { archive, expected: None, settings, turns, runtime: Some(runtime) })
    }

    /// Whoever asks for days that must be there and aren't is told so.
    #[must_use]
    pub fn expecting(mut self, days: Expected) -> Self {
        self.expected = Some(days);
        self
    }

    /// What a query may take.
    #[must_use]
    pub fn settings(&self) -> &SqlSettings {
        &self.settings
    }

    /// Answers a query; `rows` in the place of the setting. What comes first is there when this returns, so most that can
    /// be wrong is known by then.
    ///
    /// # Errors
    /// When it can't be answered.
    pub async fn ask(&self, text: &str, rows: Option<u64>) -> Result<Answer, SqlError> {
        let turn = tokio::time::timeout(TURN_WITHIN, self.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(SqlError::Busy(self.settings.queries)) };
        let Some(runtime) = &self.runtime else { return Err(SqlError::Busy(0)) };
        let (parts, receiver) = mpsc::channel(BATCHES_AHEAD);
        let gone = CancellationToken::new();
        let deadline = Instant::now() + self.settings.time.0;
        let query = run::Query {
            archive: self.archive.clone(),
            expected: self.expected.clone(),
            text: text.to_owned(),
            memory: self.settings.memory,
            rows: rows.unwrap_or(self.settings.rows),
            time: self.settings.time,
            stop: brake::Stop { deadline, gone: gone.clone() },
        };
        let task = runtime.spawn(query.run(turn, parts));
        let mut rest = Rest {
            parts: receiver,
            time: self.settings.time,
            deadline,
            _task: AbortOnDropHandle::new(task),
            _gone: gone.drop_guard(),
        };
        match rest.next().await? {
            Some(Part::Begin { schema, until, behind }) => {
                Ok(Answer { schema, until, behind, ahead: rest.next().await?, rest, truncated: false })
            }
            _ => Err(ended()),
        }
    }
}

impl Drop for Sql {
    /// A runtime must not be waited for where this may be dropped.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn ended() -> SqlError {
    SqlError::Refused("the query ended by a mistake in the program; the collector's log may say more".into())
}

/// What a query sends.
enum Part {
    Begin {
        schema: SchemaRef,
        until: Option<Day>,
        behind: Vec<Day>,
    },
    Rows(RecordBatch),
    /// There are more rows than were asked for.
    More,
    End,
}

/// What comes of a query.
struct Rest {
    parts: mpsc::Receiver<Result<Part, SqlError>>,
    time: shared::config::HumanDuration,
    deadline: Instant,
    _task: AbortOnDropHandle<()>,
    _gone: DropGuard,
}

impl Rest {
    async fn next(&mut self) -> Result<Option<Part>, SqlError> {
        match timeout_at(self.deadline + GIVEN_UP_AFTER, self.parts.recv()).await {
            Ok(Some(part)) => part.map(Some),
            Ok(None) => Err(ended()), // a panic in there
            Err(_) => Err(words::too_long(self.time)),
        }
    }
}

/// An answer, as far as it has come.
pub struct Answer {
    /// Its columns.
    pub schema: SchemaRef,
    /// The last day the archive holds: what is newer is not in it yet.
    pub until: Option<Day>,
    /// Days of which something came that isn't in the archive yet: they are as they were.
    pub behind: Vec<Day>,
    ahead: Option<Part>,
    rest: Rest,
    truncated: bool,
}

impl Answer {
    /// The next rows; `None` after the last.
    ///
    /// # Errors
    /// When the query can't go on.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        let part = match self.ahead.take() {
            Some(part) => part,
            None => self.rest.next().await?.unwrap_or(Part::End),
        };
        match part {
            Part::Rows(rows) => Ok(Some(rows)),
            more => {
                self.truncated |= matches!(more, Part::More);
                self.ahead = Some(Part::End);
                Ok(None)
            }
        }
    }

    /// Whether there are more rows than were asked for; known after the last.
    #[must_use]
    pub fn truncated(&self) -> bool {
        self.truncated
    }
}
