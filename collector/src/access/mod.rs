//! Who may do what: people with passwords and sessions, programs with tokens.
//!
//! While nobody has been made and the API listens on loopback only, everyone on this machine may do everything. With the
//! first user or token, or with any other address, whoever asks must say who it is. Users and tokens lie in the warm tier,
//! so that several collectors have the same; sessions lie on the hot tier's shelf and may be lost at any time, which costs
//! a login. Passwords are kept as argon2id, tokens and sessions as SHA-256: what is stored opens nothing.

mod local;
mod password;
mod people;
mod sessions;
mod store;

pub use local::Local;
pub use password::{Hash, PASSWORD_BYTES, PasswordRefused};
pub use people::{People, PeopleError};
pub use sessions::{LoginRefused, SESSION_IDLE, SESSION_MAX, Sessions};
pub use store::{AccessStore, PeopleChange, Token, User};

use crate::tiers::{Audited, Flush, TierError, WarmTier};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sessions::Session;
use shared::ids::hex;
use shared::reading::Timestamp;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, watch};
use utoipa::ToSchema;

/// Users and tokens are looked up again after this.
const FRESH: Duration = Duration::from_secs(2);
/// While somebody wants to be told of changes, it is looked so often whether that is due.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a note in the audit may take whoever comes or goes.
const NOTED_WITHIN: Duration = Duration::from_secs(2);
/// As much of a name that isn't known is noted.
const NOTED_CHARS: usize = 64;
/// What a token begins with: it is recognised where it must not be.
pub const TOKEN_PREFIX: &str = "wtc_";

/// What someone may do; each may what those before may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look.
    Viewer,
    /// Enter, correct, import, start jobs, decide on what was set aside.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 3] = [Role::Viewer, Role::Operator, Role::Admin];

    /// The role of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    /// As it is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How someone came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Nobody has to say who it is.
    Open,
    /// With a password, once.
    Session,
    /// A program.
    Token,
    /// A command on this machine, which can read the collector's folder.
    Local,
}

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Principal {
    /// The user's or the token's name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// How it came in.
    pub way: Way,
}

/// From where somebody comes.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// As what wrong passwords are counted.
    pub counted: IpAddr,
    /// The address, for the audit.
    pub address: IpAddr,
}

/// Everyone who can come in, as of a moment.
#[derive(PartialEq, Eq, Debug, Default)]
struct Known {
    users: Vec<User>,
    tokens: Vec<Token>,
}

impl Known {
    /// Whose token has this digest, as long as it holds.
    fn holder(&self, hash: &str, now: Timestamp) -> Option<Principal> {
        let token = self.tokens.iter().find(|token| token.hash == hash && token.ends.is_none_or(|ends| now < ends))?;
        Some(Principal { name: token.name.clone(), role: token.role, way: Way::Token })
    }

    /// Whose session it is: a user who is gone, or whose password was changed since, has none.
    fn inside(&self, session: &Session) -> Option<Principal> {
        let user = self.users.iter().find(|user| user.name == session.user && user.changed == session.password_of);
        user.map(User::in_session)
    }
}

/// The service.
pub struct Access {
    warm: Arc<dyn WarmTier>,
    sessions: Sessions,
    /// Whoever asks must say who it is, even if there is nobody yet.
    required: bool,
    /// What commands on this machine show.
    local: String,
    known: Mutex<Option<(Instant, Arc<Known>)>>,
    /// Something about who may come in has changed.
    news: watch::Sender<()>,
}

impl Access {
    /// Over these; `required`: also while nobody has been made.
    #[must_use]
    pub fn new(warm: Arc<dyn WarmTier>, sessions: Sessions, required: bool, local: String) -> Self {
        Self { warm, sessions, required, local, known: Mutex::default(), news: watch::Sender::default() }
    }

    /// Who shows this token (`Authorization: Bearer`) or this session (a cookie). `None`: it must say who it is.
    ///
    /// # Errors
    /// When nobody can be looked up, and nobody was before.
    pub async fn who(
        &self,
        bearer: Option<&str>,
        session: Option<&str>,
        now: Timestamp,
    ) -> Result<Option<Principal>, TierError> {
        if bearer.is_some_and(|shown| digest(shown) == digest(&self.local)) {
            return Ok(Some(Principal { name: "local".into(), role: Role::Admin, way: Way::Local }));
        }
        let known = self.known(FRESH).await?;
        if !self.required && known.users.is_empty() && known.tokens.is_empty() {
            return Ok(Some(Principal { name: "local".into(), role: Role::Admin, way: Way::Open }));
        }
        if let Some(shown) = bearer {
            let hash = digest(shown);
            let holder = match known.holder(&hash, now) {
                // It may have been made a moment ago.
                None => self.known(Duration::ZERO).await?.holder(&hash, now),
                known => known,
            };
            return Ok(holder);
        }
        let Some(session) = session else { return Ok(None) };
        let Some(found) = self.sessions.find(session, now).await? else { return Ok(None) };
        Ok(match known.inside(&found) {
            None => self.known(Duration::ZERO).await?.inside(&found),
            known => known,
        })
    }

    /// Looks up who there is, so that they are known if the warm tier goes away before the first of them comes.
    pub async fn look_up(&self) {
        if let Err(error) = self.known(FRESH).await {
            tracing::warn!(%error, "users can't be looked up; until they can only commands of this machine get in");
        }
    }

    /// Begins a session; gives what the cookie holds, and who it is.
    ///
    /// # Errors
    /// When name and password don't fit, after too many that didn't, or when nobody can be looked up.
    pub async fn login(
        &self,
        name: &str,
        password: &str,
        from: Origin,
        now: Timestamp,
    ) -> Result<(String, Principal), LoginRefused> {
        let known = self.known(Duration::ZERO).await?; // a password of a moment ago is another one
        let user = known.users.iter().find(|user| user.name == name);
        self.attempt(user, name, password, from, now).await?;
        let user = user.ok_or(LoginRefused::Wrong { last: false })?;
        let session = self.begin(user, now).await?;
        self.note("logged in", name, from.address, now).await;
        Ok((session, user.in_session()))
    }

    /// Whether it is the password of somebody who is in already; one that is wrong counts as at a login.
    ///
    /// # Errors
    /// When it isn't, after too many that weren't, or when that can't be counted.
    pub async fn check(&self, user: &User, password: &str, from: Origin, now: Timestamp) -> Result<(), LoginRefused> {
        self.attempt(Some(user), &user.name, password, from, now).await
    }

    async fn attempt(
        &self,
        user: Option<&User>,
        name: &str,
        password: &str,
        from: Origin,
        now: Timestamp,
    ) -> Result<(), LoginRefused> {
        let outcome = self.sessions.check(user, name, password, &from.counted.to_string()).await;
        if matches!(outcome, Err(LoginRefused::Wrong { last: true })) {
            self.note("locked out", name, from.address, now).await;
        }
        outcome
    }

    /// Begins a session of somebody whose password was looked at; gives what the cookie holds.
    ///
    /// # Errors
    /// When the shelf can't be reached.
    pub async fn begin(&self, user: &User, now: Timestamp) -> Result<String, TierError> {
        self.sessions.begin(user, now).await
    }

    /// Ends a session, in the name of whose it is.
    ///
    /// # Errors
    /// When the shelf neither takes it nor can do so later.
    pub async fn logout(&self, session: &str, from: Origin, now: Timestamp) -> Result<(), TierError> {
        let whose = self.sessions.find(session, now).await.ok().flatten();
        self.sessions.end(session).await?;
        self.news.send_replace(());
        if let Some(whose) = whose {
            self.note("logged out", &whose.user, from.address, now).await;
        }
        Ok(())
    }

    /// Ends a session in the place of which there is another one.
    pub async fn replaced(&self, session: &str) {
        if let Err(error) = self.sessions.end(session).await {
            tracing::warn!(%error, "the session before a login goes on");
        }
        self.news.send_replace(());
    }

    /// Notes in the audit who came and went. Nobody is kept out or in when that can't be written.
    async fn note(&self, did: &str, name: &str, address: IpAddr, now: Timestamp) {
        let who: String = name.chars().take(NOTED_CHARS).collect();
        let detail = json!({ "did": did, "name": who, "address": address });
        let audit = vec![Audited { at: now, who, what: "access".into(), detail }];
        let noting = self.warm.commit(Flush { audit, ..Flush::default() });
        let why = match tokio::time::timeout(NOTED_WITHIN, noting).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the warm tier doesn't answer".into(),
        };
        tracing::warn!(did, user = %name.escape_debug(), %address, why, "this isn't in the audit");
    }

    /// Tells when somebody who was in may be out: after that [`Self::who`] says whether it is. What was changed elsewhere, by a
    /// command or another collector, is told while [`Self::keep_looking`] is at work.
    #[must_use]
    pub fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// Looks up who there is again and again, as long as somebody wants news: once for all of them.
    pub async fn keep_looking(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.news.receiver_count() > 0 {
                self.look_up().await;
            }
        }
    }

    /// Somebody was made, changed or taken away: that holds at once, here.
    pub async fn changed(&self) {
        if let Err(error) = self.known(Duration::ZERO).await {
            tracing::warn!(%error, "users can't be looked up after a change");
        }
    }

    /// Everyone, as of at most so long ago. Whoever waits while it is looked takes what the next look finds, so there is one
    /// look at a time, however many want to be sure.
    async fn known(&self, age: Duration) -> Result<Arc<Known>, TierError> {
        let came = Instant::now();
        let mut known = self.known.lock().await;
        if let Some((at, found)) = &*known
            && *at + age >= came
        {
            return Ok(found.clone());
        }
        let at = Instant::now();
        let asked = async {
            let store = self.warm.access();
            Ok::<_, TierError>(Known { users: store.users().await?, tokens: store.tokens().await? })
        };
        match (asked.await, &*known) {
            (Ok(found), _) => {
                let found = Arc::new(found);
                if known.as_ref().is_some_and(|(_, before)| *before != found) {
                    self.news.send_replace(());
                }
                *known = Some((at, found.clone()));
                Ok(found)
            }
            // The dashboard is wanted most when a tier is down.
            (Err(error), Some((_, before))) => {
                tracing::warn!(%error, "users can't be looked up; those of before hold");
                let before = before.clone();
                *known = Some((at, before.clone()));
                Ok(before)
            }
            (Err(error), None) => Err(error),
        }
    }
}

/// SHA-256 in hexadecimal.
#[must_use]
pub fn digest(text: &str) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref())
}

/// 256 random bits in hexadecimal.
///
/// # Errors
/// When the system has no randomness.
pub fn random() -> io::Result<String> {
    use ring::rand::{SecureRandom, SystemRandom};
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the system has no randomness"))?;
    Ok(hex(&bytes))
}

#[cfg(test)]
mod tests;
