//! A read replica: asked while it is provably not behind.
//!
//! It is good for a question when it has replayed everything that the primary had on its disk when the primary was
//! last asked. That is asked after every commit of our own, so what we committed is always seen, and otherwise at
//! most once a second, so other collectors' commits are at most that late. While the primary is dead, what it last
//! said counts.

use super::fault::{failed, unavailable};
use super::pools;
use crate::tiers::TierError;
use crate::tiers::warm::settings::WarmSettings;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPool;
use sqlx::{ConnectOptions as _, Postgres};
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
        self.state().wanted = None;
        self.ask(primary).await;
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
        let replayed = sqlx::query_scalar("SELECT pg_last_wal_replay_lsn() - '0/0' >= $1").bind(wanted);
        let replayed: Option<bool> = replayed.fetch_one(&mut *connection).await.map_err(failed)?;
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
                self.ask(primary).await;
                self.state().wanted.map(|(place, _)| place)
            }
        }
    }

    /// A primary that doesn't answer takes no commits either: what it said last holds on.
    async fn ask(&self, primary: impl Future<Output = Connected>) {
        let place = async {
            let place = sqlx::query_scalar("SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint");
            place.fetch_one(&mut *primary.await?).await.map_err(failed)
        };
        let place: Result<i64, _> =
            tokio::time::timeout(ANSWER_WITHIN, place).await.unwrap_or_else(|_| Err(unavailable("it doesn't answer")));
        let mut state = self.state();
        match (place, &mut state.wanted) {
            // An answer that was long on its way may be older than what a commit has learnt since.
            (Ok(place), Some((known, asked))) => (*known, *asked) = (place.max(*known), Instant::now()),
            (Ok(place), wanted) => *wanted = Some((place, Instant::now())),
            (Err(_), Some((_, asked))) => *asked = Instant::now(),
            (Err(_), None) => {}
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const NO_REPLICA: &str = "[warm] replica is none: it doesn't follow any primary";

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
    let asked = async {
        let mut connection = options.connect().await?;
        sqlx::query_scalar::<_, bool>("SELECT pg_is_in_recovery()").fetch_one(&mut connection).await
    };
    let asked = tokio::time::timeout(settings.connect_timeout.0, asked).await;
    match asked.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map_err(not_reached)? {
        true => Ok(()),
        false => Err(unavailable(NO_REPLICA)),
    }
}
