//! The file, which may not be usable yet.
//!
//! It is tried in the background until it can be used, and never changed before it was found to be ours and whole. Until then
//! whoever needs it is told at once why not.

use super::{TIER, failed, for_its_owner_only, schema};
use crate::tiers::TierError;
use crate::tiers::warm::SchemaReport;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// Nobody waits longer for a try that is under way.
const SUSPICIOUS: Duration = Duration::from_millis(500);
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// A try waits so long for another process's lock.
pub(super) const TRY_WAIT: Duration = Duration::from_secs(2);

/// A file, and whether it can be used.
#[derive(Clone, Debug)]
pub(super) struct Opening(Arc<File>);

#[derive(Debug)]
struct File {
    path: PathBuf,
    options: SqliteConnectOptions,
    state: watch::Sender<State>,
    /// It is being tried.
    looking: AtomicBool,
}

#[derive(Debug)]
enum State {
    Untried,
    Unusable(String),
    Usable,
    Closed,
}

impl Opening {
    pub(super) fn new(path: &Path, options: SqliteConnectOptions) -> Self {
        let (state, looking) = (watch::channel(State::Untried).0, AtomicBool::new(false));
        Self(Arc::new(File { path: path.into(), options, state, looking }))
    }

    /// Whether it can be used; the first time that is found out.
    pub(super) async fn ready(&self) -> Result<(), TierError> {
        self.ready_within(SUSPICIOUS).await
    }

    /// As [`Opening::ready`], and waits so long for the first try.
    pub(super) async fn ready_within(&self, longest: Duration) -> Result<(), TierError> {
        if matches!(*self.0.state.borrow(), State::Usable) {
            return Ok(());
        }
        self.look();
        let mut state = self.0.state.subscribe();
        let tried = tokio::time::timeout(longest, state.wait_for(|state| !matches!(state, State::Untried))).await;
        match tried {
            Ok(Ok(state)) => self.0.outcome(&state),
            _ => Err(self.0.unavailable("it is still being opened, and its tables are brought up to date")),
        }
    }

    /// Tries it here and now, and not again.
    pub(super) async fn once(&self) -> Result<(), TierError> {
        self.0.attempt().await?;
        self.0.state.send_replace(State::Usable);
        Ok(())
    }

    /// It isn't tried any more.
    pub(super) fn close(&self) {
        self.0.state.send_replace(State::Closed);
    }

    fn look(&self) {
        if self.0.looking.swap(true, Ordering::AcqRel) {
            return;
        }
        tokio::spawn(keep_trying(Arc::downgrade(&self.0)));
    }
}

async fn keep_trying(file: Weak<File>) {
    while let Some(there) = file.upgrade() {
        let outcome = there.attempt().await;
        if there.is_settled_by(outcome) {
            return;
        }
        drop(there);
        tokio::time::sleep(PAUSE).await;
    }
}

impl File {
    fn outcome(&self, state: &State) -> Result<(), TierError> {
        match state {
            State::Usable => Ok(()),
            State::Unusable(why) => Err(TierError::Unavailable { tier: TIER, why: why.clone() }),
            State::Untried | State::Closed => Err(self.unavailable("it is closed")),
        }
    }

    /// Says what came of a try, when that is news; whether it is the last one.
    fn is_settled_by(&self, outcome: Result<(), TierError>) -> bool {
        let new = match outcome {
            Ok(()) => State::Usable,
            Err(TierError::Unavailable { why, .. } | TierError::Broken { why, .. }) => State::Unusable(why),
            Err(other) => State::Unusable(other.to_string()),
        };
        let file = self.path.display();
        self.state.send_if_modified(|state| {
            match (&*state, &new) {
                (State::Closed, _) => return false,
                (State::Unusable(before), State::Unusable(now)) if before == now => return false,
                (_, State::Unusable(why)) => {
                    tracing::error!(
                        why,
                        "what comes waits in the spool until this is put right; it is tried all the time"
                    );
                }
                (State::Unusable(_), State::Usable) => tracing::info!(%file, "the warm tier can be used now"),
                _ => {}
            }
            *state = new;
            true
        });
        matches!(*self.state.borrow(), State::Usable | State::Closed)
    }

    async fn attempt(&self) -> Result<(), TierError> {
        self.open().await.map_err(|error| self.named(error))
    }

    /// Looks first, and changes nothing of what it doesn't understand.
    async fn open(&self) -> Result<(), TierError> {
        let before = schema::look(&self.path).await?;
        refuse(&before)?;
        for_its_owner_only(&self.path).map_err(|error| self.unwritable(&error))?;
        let mut connection = self.options.clone().busy_timeout(TRY_WAIT).connect().await.map_err(failed)?;
        let brought_up = schema::bring_up(&mut connection).await;
        connection.close().await.map_err(failed)?;
        brought_up?;
        let now = if before.pending.is_empty() { before } else { schema::look(&self.path).await? };
        refuse(&now)?;
        if !now.missing.is_empty() {
            let (file, missing) = (self.path.display(), now.missing.join("; "));
            tracing::warn!(%file, "questions take longer than they should: {missing}");
        }
        Ok(())
    }

    fn unwritable(&self, error: &std::io::Error) -> TierError {
        unavailable(format!("{error}: this user must be able to write it, and the folder"))
    }

    fn unavailable(&self, why: &str) -> TierError {
        self.named(unavailable(why))
    }

    fn named(&self, error: TierError) -> TierError {
        super::named(&self.path, error)
    }
}

fn unavailable(why: impl Into<String>) -> TierError {
    TierError::Unavailable { tier: TIER, why: why.into() }
}

/// Whatever comes waits until a person has looked at it.
fn refuse(report: &SchemaReport) -> Result<(), TierError> {
    if report.wrong.is_empty() {
        return Ok(());
    }
    let wrong = report.wrong.join("; ");
    Err(unavailable(format!(
        "the tables are not as this program made them: {wrong}; put that right, or a copy in its place"
    )))
}
