//! A read replica: asked while it is provably not behind.
//!
//! It is good for a question when it has replayed everything that the primary had on its disk when the primary was
//! last asked. That is asked after every commit of our own, so what we committed is always seen, and otherwise at
//! most once a second, so other collectors' commits are at most that late, unless who asks wants them all
//! ([`Replica::catch_up`]). While the primary is dead, what it last said counts. Places in two logs say nothing about each
//! other, so it must follow that very primary: the cluster's number must be the same, and since copies of a cluster that went their
//! own way have that, too, a row that was just written on the primary must come to it ([`Proof`]). One that fails or lags is
//! told in health.

use super::fault::{Failure, failed, unavailable, why};
use super::pools::{self, Use};
use crate::tiers::warm::settings::WarmSettings;
use crate::tiers::{ReplicaState, TierError};
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection, Postgres};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the primary's word holds.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Longest wait for the answer to where a server is in the log.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// How long a replica that failed is left alone.
const REST: Duration = Duration::from_secs(10);
/// One that hasn't replayed something for so long lags; for a moment after a commit each is behind.
const LAGS: Duration = Duration::from_secs(10);
/// What is done while it can't be asked.
const MEANWHILE: &str = "history is asked of the primary meanwhile";

/// A connection to the primary, once it is wanted.
type Connected = Result<PoolConnection<Postgres>, TierError>;

#[derive(Debug)]
pub(super) struct Replica {
    place: String,
    pool: PgPool,
    state: Mutex<State>,
}

/// A row that was written on the primary at or before the wanted place. It holds as long as neither server is started anew:
/// only then can one become another's replica, or none.
#[derive(Clone, PartialEq, Debug)]
struct Proof {
    token: String,
    /// When the primary was started.
    primary: i64,
    /// When the replica was started that has shown the row.
    replica: Option<i64>,
}

#[derive(Debug, Default)]
struct State {
    /// The primary's place in the log, and when it said so; `None` when it is not known well enough.
    wanted: Option<(i64, Instant)>,
    proof: Option<Proof>,
    /// Counts our own commits: what was asked before one is no answer after it.
    commits: u64,
    /// Which cluster the primary is, if we may know.
    cluster: Option<i64>,
    resting_until: Option<Instant>,
    /// Why it failed, if it did the last time.
    failed: Option<String>,
    /// How much of the log it had yet to replay, when it was last asked.
    behind: Option<u64>,
    /// A place in the log that it hadn't replayed then, and since when that was wanted.
    lacks: Option<(i64, Instant)>,
}

impl State {
    /// Notes how far it is; whether that is far enough.
    fn note(&mut self, replayed: i64, wanted: i64, now: Instant) -> bool {
        (self.failed, self.resting_until) = (None, None);
        self.behind = Some(u64::try_from(wanted - replayed).unwrap_or(0));
        let lacks = self.lacks.filter(|(place, _)| replayed < *place);
        self.lacks = (replayed < wanted).then(|| lacks.unwrap_or((wanted, now)));
        self.lacks.is_none()
    }

    fn note_failure(&mut self, why: String, now: Instant) {
        (self.failed, self.resting_until) = (Some(why), Some(now + REST));
        (self.behind, self.lacks) = (None, None);
    }

    /// It must show a new row.
    fn doubt(&mut self) {
        (self.wanted, self.proof) = (None, None);
    }

    fn behind_for(&self, now: Instant) -> Option<Duration> {
        self.lacks.map(|(_, since)| now.duration_since(since))
    }

    fn fault(&self, now: Instant) -> Option<String> {
        let lags = |behind: u64| {
            let seconds = self.behind_for(now).filter(|lag| *lag >= LAGS)?.as_secs();
            Some(format!("it has been behind for {seconds} s, by {behind} bytes of the log"))
        };
        self.failed.clone().or_else(|| self.behind.and_then(lags))
    }
}

impl Replica {
    pub(super) fn new(place: &str, pool: PgPool) -> Self {
        Self { place: place.into(), pool, state: Mutex::default() }
    }

    /// How it is, now.
    pub(super) async fn look(&self, primary: impl Future<Output = Connected>) -> ReplicaState {
        let asked = self.caught_up(primary).await.is_some();
        let (state, now) = (self.state(), Instant::now());
        ReplicaState {
            place: self.place.clone(),
            asked,
            behind_bytes: state.behind,
            behind_s: state.behind.map(|_| state.behind_for(now).unwrap_or_default().as_secs()),
            error: state.fault(now),
        }
    }

    /// What is wrong with it, if anything was when it was last asked, and what is done.
    pub(super) fn fault(&self) -> Option<String> {
        let why = self.state().fault(Instant::now())?;
        Some(format!("[warm] replica {}: {why}; {MEANWHILE}", self.place))
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
        let (wanted, proof) = self.wanted(primary, now).await?;
        let connected = async {
            let (mut connection, replayed, started) = self.try_connect().await?;
            let caught_up =
                self.state().note(replayed, wanted, now) && self.is_fed(&mut connection, proof, started).await?;
            Ok(caught_up.then_some(connection))
        };
        // One that says nothing any more, on a connection that looks alive, must not hold up every question.
        let connected = tokio::time::timeout(ANSWER_WITHIN, connected).await;
        let caught_up = match connected.unwrap_or_else(|_| Err(unavailable("it doesn't answer"))) {
            Ok(caught_up) => caught_up,
            Err(error) => {
                tracing::warn!(replica = self.place, %error, "{MEANWHILE}");
                self.state().note_failure(why(error), now);
                None
            }
        };
        metrics::gauge!("collector_replica_up_to_date").set(if caught_up.is_some() { 1.0 } else { 0.0 });
        caught_up
    }

    /// A connection, how far in the log it is, and when it was started.
    async fn try_connect(&self) -> Result<(PoolConnection<Postgres>, i64, i64), TierError> {
        let mut connection = self.pool.acquire().await.map_err(not_reached)?;
        let sql = format!("SELECT (pg_last_wal_replay_lsn() - '0/0')::bigint, {CLUSTER}, {STARTED}");
        let asked = sqlx::query_as(AssertSqlSafe(sql)).fetch_one(&mut *connection);
        let (replayed, cluster, started): (Option<i64>, Option<i64>, i64) = asked.await.map_err(failed)?;
        if is_another(cluster, self.state().cluster) {
            return Err(unavailable(ANOTHER));
        }
        replayed.map(|replayed| (connection, replayed, started)).ok_or_else(|| unavailable(NO_REPLICA))
    }

    /// Whether one that has replayed what is wanted has got that from the primary.
    async fn is_fed(&self, connection: &mut PgConnection, proof: Proof, started: i64) -> Result<bool, TierError> {
        match proof.replica {
            Some(shown) if shown == started => return Ok(true),
            Some(_) => {
                self.state().doubt();
                return Ok(false); // for this time
            }
            None => {}
        }
        let sql = "SELECT EXISTS (SELECT FROM replica_proofs WHERE token = $1)";
        let shown = sqlx::query_scalar(sql).bind(&proof.token).fetch_one(connection).await;
        let is_shown = match shown.map_err(Failure::from) {
            Err(failure) if failure.is_of_tables() => false, // it hasn't even the table
            shown => shown?,
        };
        let mut state = self.state();
        if !is_shown {
            state.doubt();
            return Err(unavailable(DIVERGED));
        }
        if let Some(held) = state.proof.as_mut().filter(|held| held.token == proof.token) {
            held.replica = Some(started);
        }
        Ok(true)
    }

    async fn wanted(&self, primary: impl Future<Output = Connected>, now: Instant) -> Option<(i64, Proof)> {
        let known = self.state().wanted;
        if known.is_none_or(|(_, asked)| now.duration_since(asked) >= ASK_AGAIN) {
            let _ = self.ask(primary).await;
        }
        let state = self.state();
        state.wanted.map(|(place, _)| place).zip(state.proof.clone())
    }

    /// A primary that doesn't answer takes no commits either: what it said last holds on.
    async fn ask(&self, primary: impl Future<Output = Connected>) -> Result<(), TierError> {
        let (commits, proof) = {
            let state = self.state();
            (state.commits, state.proof.clone())
        };
        let asked = async { say(&mut *primary.await?, proof).await.map_err(failed) };
        let asked = tokio::time::timeout(ANSWER_WITHIN, asked).await;
        let answer = asked.unwrap_or_else(|_| Err(unavailable("it doesn't answer")));
        let mut state = self.state();
        if state.commits != commits {
            return answer.map(drop); // who committed meanwhile asks anew
        }
        let now = Instant::now();
        match answer {
            Ok(Word { place, cluster, proof }) => {
                if let Some(proof) = proof {
                    state.doubt();
                    state.proof = Some(proof);
                }
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

/// What the primary says: where it is in the log, which cluster it is, and a new proof if there was none of it.
struct Word {
    place: i64,
    cluster: Option<i64>,
    proof: Option<Proof>,
}

async fn say(primary: &mut PgConnection, proof: Option<Proof>) -> Result<Word, sqlx::Error> {
    let sql = format!("SELECT {FLUSHED}, {CLUSTER}, {STARTED}");
    let (place, cluster, started): (i64, Option<i64>, i64) =
        sqlx::query_as(AssertSqlSafe(sql)).fetch_one(&mut *primary).await?;
    if proof.is_some_and(|proof| proof.primary == started) {
        return Ok(Word { place, cluster, proof: None });
    }
    let (token, _): (String, String) = sqlx::query_as(PROVE).fetch_one(&mut *primary).await?;
    let place = sqlx::query_scalar(AssertSqlSafe(format!("SELECT {FLUSHED}"))).fetch_one(primary).await?;
    Ok(Word { place, cluster, proof: Some(Proof { token, primary: started, replica: None }) })
}

/// It doesn't wait for any replica.
const PROVE: &str = "WITH old AS (DELETE FROM replica_proofs WHERE written < now() - INTERVAL '1 hour') \
                     INSERT INTO replica_proofs DEFAULT VALUES \
                     RETURNING token, set_config('synchronous_commit', 'local', true)";
const FLUSHED: &str = "(pg_current_wal_flush_lsn() - '0/0')::bigint";
const STARTED: &str = "(extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint";
const NO_REPLICA: &str = "[warm] replica is none: it doesn't follow any primary";
const ANOTHER: &str = "[warm] replica follows another server than [warm] host / POSTGRES_HOST";
const DIVERGED: &str = "[warm] replica is a copy that went its own way: it isn't fed by the server of [warm] host / \
                        POSTGRES_HOST, and must be made anew from it";
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
    let sql =
        format!("SELECT CASE WHEN pg_is_in_recovery() THEN (pg_last_wal_replay_lsn() - '0/0')::bigint END, {CLUSTER}");
    let asked = async {
        let mut connection = options.connect().await?;
        sqlx::query_as::<_, (Option<i64>, Option<i64>)>(AssertSqlSafe(sql)).fetch_one(&mut connection).await
    };
    let asked = tokio::time::timeout(settings.connect_timeout.0, asked).await;
    let (replayed, cluster) = asked.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map_err(not_reached)?;
    let replayed = replayed.ok_or_else(|| unavailable(NO_REPLICA))?;
    // A primary that is away says nothing against it.
    let Ok(mut primary) = pools::connect(settings, Use::Read).await else { return Ok(()) };
    let sql = format!("SELECT CASE WHEN NOT pg_is_in_recovery() THEN {FLUSHED} END, {CLUSTER}");
    let (written, of_primary): (Option<i64>, Option<i64>) =
        sqlx::query_as(AssertSqlSafe(sql)).fetch_one(&mut primary).await.map_err(failed)?;
    match written {
        _ if is_another(cluster, of_primary) => Err(unavailable(ANOTHER)),
        // The primary was asked later, so it is at least as far as who follows it.
        Some(written) if replayed > written => Err(unavailable(DIVERGED)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lags_that_lacks_the_same_for_long_and_not_one_that_is_always_a_little_behind() {
        let (mut state, began) = (State::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        for n in 0..100 {
            assert!(!state.note(1_000 * n + 900, 1_000 * (n + 1), at(n.cast_unsigned())));
            assert_eq!(state.fault(at(n.cast_unsigned())), None);
        }
        assert!(!state.note(99_950, 200_000, at(104)));
        assert_eq!(state.fault(at(108)), None);
        let why = state.fault(at(109)).unwrap();
        assert!(why.contains("for 10 s, by 100050 bytes"), "{why}");
        assert!(state.note(200_000, 200_000, at(110)));
        assert_eq!(state.fault(at(200)), None);
    }

    #[test]
    fn one_that_failed_is_told_until_it_answers() {
        let (mut state, now) = (State::default(), Instant::now());
        state.note_failure("it is gone".into(), now);
        assert_eq!(state.fault(now).as_deref(), Some("it is gone"));
        assert!(!state.note(5, 10, now));
        assert_eq!(state.fault(now), None);
    }
}
