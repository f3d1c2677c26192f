//! Sessions of people, and how many wrong passwords are too many.

use super::{Hash, User, digest, random};
use crate::tiers::TierError;
use crate::tiers::hot::shelf::{Kind, Shelf};
use serde::{Deserialize, Serialize};
use shared::reading::{MICROS_PER_SECOND, Timestamp};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// A session in which nothing was asked for so long is over.
pub const SESSION_IDLE: Duration = Duration::from_secs(12 * 3_600);
/// A session is over after this, whatever is asked.
pub const SESSION_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// A sign of life is noted that often.
const NOTED_EVERY: i64 = 60 * MICROS_PER_SECOND;
/// Wrong passwords of a name from an address, and for how long nothing is tried after so many.
const WRONG_MAX: u32 = 5;
/// After so many of an address only names that are there and have not failed from it are looked at: everybody behind a
/// proxy may be one address.
const WRONG_MAX_PEER: u32 = 50;
/// How long a password waits to be looked at.
const TURN_WITHIN: Duration = Duration::from_secs(5);
const LOCKED: Duration = Duration::from_secs(15 * 60);
/// Sessions that are remembered for when the shelf is away.
const FOUND_MAX: usize = 1_000;
/// Passwords that are looked at a time: each takes 19 MiB.
const AT_ONCE: usize = 2;

/// Why nobody is logged in.
#[derive(Debug, thiserror::Error)]
pub enum LoginRefused {
    /// Name or password; which of them isn't said.
    #[error("name or password is wrong")]
    Wrong {
        /// It was one too many: from now on nothing is tried.
        last: bool,
    },
    /// Too many were wrong.
    #[error("too many wrong passwords; try again in {} minutes", LOCKED.as_secs() / 60)]
    Locked,
    /// Too many log in at a time.
    #[error("too many log in at this moment; try again")]
    Busy,
    /// It can't be looked up.
    #[error(transparent)]
    Tier(#[from] TierError),
}

impl LoginRefused {
    /// How long to wait before it is tried again.
    #[must_use]
    pub fn wait(&self) -> Duration {
        match self {
            LoginRefused::Locked => LOCKED,
            LoginRefused::Busy => TURN_WITHIN,
            LoginRefused::Wrong { .. } | LoginRefused::Tier(_) => Duration::ZERO,
        }
    }
}

/// What is kept of a session.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) user: String,
    /// The user's [`User::changed`] at the login.
    pub(super) password_of: Timestamp,
    began: Timestamp,
    seen: Timestamp,
}

impl Session {
    fn holds(&self, now: Timestamp) -> bool {
        let within = |since: Timestamp, most: Duration| now.since(since) <= most.as_micros() as i64;
        within(self.seen, SESSION_IDLE) && within(self.began, SESSION_MAX)
    }
}

/// A password that is to be looked at, and was counted.
struct Attempt {
    of_both: String,
    of_peer: String,
    /// When it is wrong, no other one is tried.
    last: bool,
    /// Its address has too many wrong ones.
    crowded: bool,
}

impl Attempt {
    /// What is said when it is wrong: where names that aren't there are not looked at, the same as of those.
    fn refused(&self) -> LoginRefused {
        if self.crowded { LoginRefused::Locked } else { LoginRefused::Wrong { last: self.last } }
    }
}

/// All sessions.
pub struct Sessions {
    shelf: Arc<dyn Shelf>,
    turns: Semaphore,
    counting: tokio::sync::Mutex<()>,
    /// How long the last password took to be looked at, microseconds.
    took: AtomicU64,
    /// Those that were found: they hold while the shelf is away.
    found: Mutex<HashMap<String, Session>>,
}

impl Sessions {
    /// On this shelf.
    #[must_use]
    pub fn new(shelf: Arc<dyn Shelf>) -> Self {
        Self {
            shelf,
            turns: Semaphore::new(AT_ONCE),
            counting: tokio::sync::Mutex::default(),
            took: AtomicU64::new(0),
            found: Mutex::default(),
        }
    }

    /// Whether it is the user's password; one that is wrong is counted.
    pub(super) async fn check(
        &self,
        user: Option<&User>,
        name: &str,
        password: &str,
        peer: &str,
    ) -> Result<(), LoginRefused> {
        let counted = self.count(name, peer, user.is_some()).await;
        if matches!(counted, Err(LoginRefused::Locked)) {
            // It takes about as long as for a name that is looked at.
            tokio::time::sleep(Duration::from_micros(self.took.load(Ordering::Relaxed))).await;
        }
        let attempt = counted?;
        let fits = self.fits(user, password).await;
        if matches!(fits, Err(LoginRefused::Busy)) {
            self.take_back(&attempt.of_both).await?;
            if !attempt.crowded {
                self.take_back(&attempt.of_peer).await?;
            }
        }
        if !fits? {
            return Err(attempt.refused());
        }
        Ok(self.forgive(&attempt).await?)
    }

    /// Begins a session of somebody whose password was looked at; gives what the cookie holds.
    pub(super) async fn begin(&self, user: &User, now: Timestamp) -> Result<String, TierError> {
        let cookie = random().map_err(|error| TierError::Unavailable { tier: "login", why: error.to_string() })?;
        let session = Session { user: user.name.clone(), password_of: user.changed, began: now, seen: now };
        self.put(&cookie, &session).await?;
        Ok(cookie)
    }

    /// Counts an attempt before it is looked at, so that many at a time are no more than one after another: by name and
    /// address, for a stranger elsewhere can't lock anybody out; and by address, so that one doesn't try names.
    async fn count(&self, name: &str, peer: &str, there: bool) -> Result<Attempt, LoginRefused> {
        let (of_both, of_peer) = (digest(&format!("{name}\0{peer}")), digest(&format!("\0{peer}")));
        let _one = self.counting.lock().await;
        let (wrong, wrong_here) = (self.wrong(&of_both).await, self.wrong(&of_peer).await);
        let crowded = wrong_here >= WRONG_MAX_PEER;
        if wrong >= WRONG_MAX || crowded && (wrong > 0 || !there) {
            return Err(LoginRefused::Locked);
        }
        self.set_wrong(&of_both, wrong + 1).await?;
        if !crowded {
            self.set_wrong(&of_peer, wrong_here + 1).await?;
        }
        Ok(Attempt { of_both, of_peer, last: wrong + 1 == WRONG_MAX, crowded })
    }

    /// It was right.
    async fn forgive(&self, attempt: &Attempt) -> Result<(), TierError> {
        self.shelf.remove(Kind::Attempt, &attempt.of_both).await?;
        if attempt.crowded { Ok(()) } else { self.take_back(&attempt.of_peer).await }
    }

    /// Counts one less: it was not looked at, or not wrong.
    async fn take_back(&self, key: &str) -> Result<(), TierError> {
        let _one = self.counting.lock().await;
        let wrong = self.wrong(key).await;
        self.set_wrong(key, wrong.saturating_sub(1)).await
    }

    /// What was counted before isn't known while the shelf is away; from then on it is counted.
    async fn wrong(&self, key: &str) -> u32 {
        let count = self.shelf.get(Kind::Attempt, key).await.ok().flatten();
        count.and_then(|count| String::from_utf8(count).ok()?.parse().ok()).unwrap_or(0)
    }

    async fn set_wrong(&self, key: &str, count: u32) -> Result<(), TierError> {
        self.shelf.set(Kind::Attempt, key, count.to_string().as_bytes(), LOCKED).await
    }

    /// It takes as long for a name that isn't there.
    async fn fits(&self, user: Option<&User>, password: &str) -> Result<bool, LoginRefused> {
        static NOBODY: OnceLock<Hash> = OnceLock::new();
        let turn = tokio::time::timeout(TURN_WITHIN, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(LoginRefused::Busy) };
        let (hash, there) = (user.map(|user| user.password.clone()), user.is_some());
        let password = password.to_owned();
        let began = Instant::now();
        let checking = tokio::task::spawn_blocking(move || {
            let nobody =
                || NOBODY.get_or_init(|| Hash::of("nobody has this password").unwrap_or(Hash(String::new()))).clone();
            hash.unwrap_or_else(nobody).is_of(&password)
        });
        let fits = checking.await.unwrap_or(false);
        self.took.store(u64::try_from(began.elapsed().as_micros()).unwrap_or(0), Ordering::Relaxed);
        Ok(fits && there)
    }

    /// The session of a cookie, while it holds.
    pub(super) async fn find(&self, cookie: &str, now: Timestamp) -> Result<Option<Session>, TierError> {
        let key = digest(cookie);
        let kept = match self.shelf.get(Kind::Session, &key).await {
            Ok(bytes) => bytes.and_then(|bytes| serde_json::from_slice::<Session>(&bytes).ok()),
            Err(error) => return self.remembered(&key, now).map(Some).ok_or(error),
        };
        let Some(mut session) = kept else {
            self.found().remove(&key);
            return Ok(None);
        };
        if !session.holds(now) {
            self.end(cookie).await?;
            return Ok(None);
        }
        if now.since(session.seen) > NOTED_EVERY {
            session.seen = now;
            self.put(cookie, &session).await?;
        }
        let mut found = self.found();
        if found.len() >= FOUND_MAX {
            found.clear();
        }
        found.insert(key, session.clone());
        Ok(Some(session))
    }

    fn found(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self, key: &str, now: Timestamp) -> Option<Session> {
        self.found().get(key).filter(|session| session.holds(now)).cloned()
    }

    async fn put(&self, cookie: &str, session: &Session) -> Result<(), TierError> {
        let bytes = serde_json::to_vec(session)
            .map_err(|error| TierError::Broken { tier: "sessions", why: error.to_string() })?;
        self.shelf.set(Kind::Session, &digest(cookie), &bytes, SESSION_IDLE).await
    }

    pub(super) async fn end(&self, cookie: &str) -> Result<(), TierError> {
        self.found().remove(&digest(cookie));
        self.shelf.remove(Kind::Session, &digest(cookie)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiers::hot::shelf::MemoryShelf;

    #[tokio::test]
    async fn a_password_that_had_no_turn_was_not_wrong() {
        let sessions = Sessions::new(Arc::new(MemoryShelf::default()));
        let crowd = sessions.turns.acquire_many(u32::try_from(AT_ONCE).unwrap()).await.unwrap();
        let login = async || sessions.check(None, "rossi", "guess", "10.0.0.66").await.unwrap_err();
        assert!(matches!(login().await, LoginRefused::Busy));
        drop(crowd);
        for n in 1..=WRONG_MAX {
            let refused = login().await;
            assert!(matches!(refused, LoginRefused::Wrong { last } if last == (n == WRONG_MAX)), "{n}: {refused}");
        }
    }
}
