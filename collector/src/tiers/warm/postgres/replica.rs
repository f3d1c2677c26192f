//! A read replica: asked while it is provably not behind.
//!
//! It is good for a question when it has replayed everything that the primary had on its disk when the primary was
//! last asked. That is asked after every commit of our own, so what we committed is always seen, and otherwise at
//! most once a second, so other collectors' commits are at most that late. While the primary is dead, what it last
//! said counts.

use super::fault::{broken, failed};
use crate::tiers::TierError;
use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPool;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the primary's word holds.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long a replica that failed is left alone.
const REST: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Replica {
    pool: PgPool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The primary's place in the log, and when it said so; `None` when it is not known well enough.
    wanted: Option<(String, Instant)>,
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
    pub(super) async fn committed(&self, primary: &PgPool) {
        self.state().wanted = None;
        self.ask(primary).await;
    }

    /// A connection to the replica, when it is up to date.
    pub(super) async fn caught_up(&self, primary: &PgPool) -> Option<PoolConnection<Postgres>> {
        let now = Instant::now();
        if self.state().resting_until.is_some_and(|until| now < until) {
            return None;
        }
        let wanted = self.wanted(primary, now).await?;
        match self.try_connect(&wanted).await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(%error, "the warm tier's replica fails; the primary is asked instead");
                self.state().resting_until = Some(now + REST);
                None
            }
        }
    }

    async fn try_connect(&self, wanted: &str) -> Result<Option<PoolConnection<Postgres>>, TierError> {
        let mut connection = self.pool.acquire().await.map_err(failed)?;
        let replayed = sqlx::query_scalar("SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn").bind(wanted);
        let replayed: Option<bool> = replayed.fetch_one(&mut *connection).await.map_err(failed)?;
        match replayed {
            Some(true) => Ok(Some(connection)),
            Some(false) => Ok(None),
            None => Err(broken("[warm] replica is none: it doesn't follow any primary")),
        }
    }

    async fn wanted(&self, primary: &PgPool, now: Instant) -> Option<String> {
        let known = self.state().wanted.clone();
        match known {
            Some((place, asked)) if now.duration_since(asked) < ASK_AGAIN => Some(place),
            _ => {
                self.ask(primary).await;
                self.state().wanted.as_ref().map(|(place, _)| place.clone())
            }
        }
    }

    /// A primary that doesn't answer takes no commits either: what it said last holds on.
    async fn ask(&self, primary: &PgPool) {
        let place = sqlx::query_scalar("SELECT pg_current_wal_flush_lsn()::text").fetch_one(primary).await;
        let mut state = self.state();
        match (place, &mut state.wanted) {
            (Ok(place), wanted) => *wanted = Some((place, Instant::now())),
            (Err(_), Some((_, asked))) => *asked = Instant::now(),
            (Err(_), None) => {}
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
