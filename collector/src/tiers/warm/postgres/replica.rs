//! A read replica: asked while it is provably not behind.
//!
//! It is good for a question when it has replayed everything that the primary had on its disk when the primary was
//! last asked. That is asked after every commit of our own, so what we committed is always seen, and otherwise at
//! most once a second, so other collectors' commits are at most that late, unless who asks wants them all
//! ([`Replica::catch_up`]). While the primary is dead, what it last said counts. Places in two logs say nothing about each
//! other, so it must follow that very primary.

use super::fault::{failed, unavailable};
use super::pools::{self, Use};
use crate::tiers::TierError;
use crate::tiers::warm::settings::WarmSettings;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Postgres};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the primary's word holds.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Longest wait for the answer to where a server is in the log.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// How long a replica that failed is left alone.
const REST: Duration = Duration::from_secs(10);

/// A connection to the primary, once it is wanted.
type Connected = Result<PoolConnection<Postgres>, TierError>;

#[derive(Debug)]
pub(super) struct Replica {
    pool: PgPool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The primary's place in the log, and when it said so; `None` when it is not known well enough.
    wanted: Option<(i64, Instant)>,
    /// Counts our own commits: what was asked before one is no answer after it.
    commits: u64,
    /// Which cluster the primary is, if we may know.
    cluster: Option<i64>,
    resting_until: Option<Instant>,
}

impl Replica {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool, state: Mutex::default() }
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    /// We committed: from now on the replica must have replayed that too.
    pub(super) async fn committed(&self, primary: impl Future<Output = Connected>) {
        {
            let mut state = self.state();
            state.wanted = None;
            state.commits += 1;
        }
        let _ = self.ask(primary).await; // unanswered, the replica isn't asked
    }

    /// From now on the replica must have replayed what anybody has committed until now.
    ///
    /// # Errors
    /// When the primary doesn't say how much that is: nothing has changed then.
    pub(super) async fn catch_up(&self, primary: impl Future<Output = Connected>) -> Result<(), TierError> {
        self.ask(primary).await
    }

    /// A connection to the replica, when it is up to date.
    pub(super) async fn caught_up(&self, primary: impl Future<Output = Connected>) -> Option<PoolConnection<Postgres>> {
        let now = Instant::now();
        {
            let mut state = self.state();
            if state.resting_until.is_some_and(|until| now < until) {
                return None;
            }
            // One question tries it again; the others don't wait for how that ends.
            state.resting_until = state.resting_until.map(|_| now + REST);
        }
        let wanted = self.wanted(primary, now).await?;
        // One that says nothing any more, on a connection that looks alive, must not hold up every question.
        let connected = tokio::time::timeout(ANSWER_WITHIN, self.try_connect(wanted)).await;
        match connected.unwrap_or_else(|_| Err(unavailable("it doesn't answer"))) {
            Ok(connection) => {
                self.state().resting_until = None;
                connection
            }
            Err(error) => {
                tracing::warn!(%error, "the warm tier's replica fails; the primary is asked instead");
                self.state().resting_until = Some(now + REST);
                None
            }
        }
    }

    async fn try_connect(&self, wanted: i64) -> Result<Option<PoolConnection<Postgres>>, TierError> {
        let mut connection = self.pool.acquire().await.map_err(not_reached)?;
        let sql = format!("SELECT pg_last_wal_replay_lsn() - '0/0' >= $1, {CLUSTER}");
        let asked = sqlx::query_as(AssertSqlSafe(sql)).bind(wanted);
        let (replayed, cluster): (Option<bool>, Option<i64>) =
            asked.fetch_one(&mut *connection).await.map_err(failed)?;
        if is_another(cluster, self.state().cluster) {
            return Err(unavailable(ANOTHER));
        }
        match replayed {
            Some(true) => Ok(Some(connection)),
            Some(false) => Ok(None),
            None => Err(unavailable(NO_REPLICA)),
        }
    }

    async fn wanted(&self, primary: impl Future<Output = Connected>, now: Instant) -> Option<i64> {
        let known = self.state().wanted;
        match known {
            Some((place, asked)) if now.duration_since(asked) < ASK_AGAIN => Some(place),
            _ => {
                let _ = self.ask(primary).await;
                self.state().wanted.map(|(place, _)| place)
            }
        }
    }

    /// A primary that doesn't answer takes no commits either: what it said last holds on.
    async fn ask(&self, primary: impl Future<Output = Connected>) -> Result<(), TierError> {
        let commits = self.state().commits;
        let asked = async {
            let sql = format!("SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint, {CLUSTER}");
            sqlx::query_as(AssertSqlSafe(sql)).fetch_one(&mut *primary.await?).await.map_err(failed)
        };
        let asked = tokio::time::timeout(ANSWER_WITHIN, asked).await;
        let answer: Result<(i64, Option<i64>), _> = asked.unwrap_or_else(|_| Err(unavailable("it doesn't answer")));
        let mut state = self.state();
        if state.commits != commits {
            return answer.map(drop); // who committed meanwhile asks anew
        }
        let now = Instant::now();
        match answer {
            Ok((place, cluster)) => {
                // An answer that was long on its way may be older than another one.
                let known = state.wanted.map_or(place, |(known, _)| known);
                state.wanted = Some((place.max(known), now));
                state.cluster = cluster;
                Ok(())
            }
            Err(error) => {
                state.wanted = state.wanted.map(|(place, _)| (place, now));
                Err(error)
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const NO_REPLICA: &str = "[warm] replica is none: it doesn't follow any primary";
const ANOTHER: &str = "[warm] replica follows another server than [warm] host / POSTGRES_HOST";
/// Which cluster a server and all that follow it are; nothing where only superusers are told.
const CLUSTER: &str = "CASE WHEN has_function_privilege('pg_control_system()', 'EXECUTE') \
                       THEN (SELECT system_identifier FROM pg_control_system()) END";

fn is_another(cluster: Option<i64>, than: Option<i64>) -> bool {
    cluster.zip(than).is_some_and(|(one, other)| one != other)
}

/// Errors of the way there, which otherwise name the primary's settings.
fn not_reached(error: sqlx::Error) -> TierError {
    match error {
        sqlx::Error::Io(why) => unavailable(format!("{why}: check [warm] replica")),
        sqlx::Error::PoolTimedOut => unavailable("no connection in time: is the server of [warm] replica up?"),
        other => failed(other),
    }
}

/// Looks whether it is there, and one.
///
/// # Errors
/// When it isn't.
pub(super) async fn look(settings: &WarmSettings, place: &str) -> Result<(), TierError> {
    let options = pools::replica_options(pools::options(settings)?, place);
    let sql = format!("SELECT pg_is_in_recovery(), {CLUSTER}");
    let asked = async {
        let mut connection = options.connect().await?;
        sqlx::query_as::<_, (bool, Option<i64>)>(AssertSqlSafe(sql)).fetch_one(&mut connection).await
    };
    let asked = tokio::time::timeout(settings.connect_timeout.0, asked).await;
    let (follows, cluster) = asked.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map_err(not_reached)?;
    if !follows {
        return Err(unavailable(NO_REPLICA));
    }
    // A primary that is away says nothing against it.
    let Ok(mut primary) = pools::connect(settings, Use::Read).await else { return Ok(()) };
    let sql = format!("SELECT {CLUSTER}");
    let of_primary = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut primary).await.map_err(failed)?;
    if is_another(cluster, of_primary) { Err(unavailable(ANOTHER)) } else { Ok(()) }
}
