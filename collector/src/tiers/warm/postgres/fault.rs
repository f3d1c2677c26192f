//! What PostgreSQL says, as our own error that names the setting.
//!
//! [`TierError::Broken`] is kept for what a flush itself is to blame for. All else is `Unavailable`: what comes waits
//! in the spool until a person has put it right.

use crate::tiers::TierError;
use std::time::Duration;

pub(super) const TIER: &str = "warm tier (PostgreSQL)";

/// How often a transaction that collided with another one is tried again.
const TRIES: u32 = 5;

/// Before a try, counted from 1.
pub(super) async fn pause(tries: u32) {
    tokio::time::sleep(Duration::from_millis(20) * tries * tries).await;
}

/// An error on the way through a transaction.
#[derive(Debug)]
pub(super) enum Failure {
    /// What the database or the driver said, as it is: some of it is answered by trying again.
    Sql(sqlx::Error),
    /// What we found.
    Tier(TierError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Failure::Sql(error)
    }
}

impl From<TierError> for Failure {
    fn from(error: TierError) -> Self {
        Failure::Tier(error)
    }
}

impl From<Failure> for TierError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Sql(error) => failed(error),
            Failure::Tier(error) => error,
        }
    }
}

impl Failure {
    /// A key is there already.
    pub(super) fn is_taken_key(&self) -> bool {
        matches!(self, Failure::Sql(error) if code(error).as_deref() == Some("23505"))
    }

    /// Two transactions got into each other's way: the same again will do.
    fn is_collision(&self) -> bool {
        matches!(self, Failure::Sql(error) if matches!(code(error).as_deref(), Some("40P01" | "40001")))
    }

    /// Whether it is worth another try after so many.
    pub(super) fn may_be_tried_again(&self, tries: u32) -> bool {
        self.is_collision() && tries < TRIES
    }

    /// A table is in the way, or isn't as it must be: the same again won't do.
    pub(super) fn is_of_tables(&self) -> bool {
        let class = |code: String| code.starts_with("42") || code.starts_with("23") || code == "55000";
        matches!(self, Failure::Sql(error) if code(error).is_some_and(class))
    }

    /// Another session holds a lock.
    pub(super) fn is_lock_timeout(&self) -> bool {
        matches!(self, Failure::Sql(error) if code(error).as_deref() == Some("55P03"))
    }
}

fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|e| e.code()).map(|code| code.into_owned())
}

pub(super) fn broken(why: impl std::fmt::Display) -> TierError {
    TierError::Broken { tier: TIER, why: why.to_string() }
}

pub(super) fn unavailable(why: impl std::fmt::Display) -> TierError {
    TierError::Unavailable { tier: TIER, why: why.to_string() }
}

/// What the driver said, as our own error.
pub(super) fn failed(error: sqlx::Error) -> TierError {
    match &error {
        sqlx::Error::Database(told) => {
            let code = told.code().unwrap_or_default();
            match advice(&code) {
                Some(advice) => unavailable(format!("{}: {advice}", told.message())),
                None if code.starts_with("22") => broken(told.message()),
                None => unavailable(format!("{} ({code})", told.message())),
            }
        }
        sqlx::Error::PoolTimedOut => unavailable(
            "no connection in time: is the server at [warm] host / POSTGRES_HOST and port / POSTGRES_PORT up, \
             and are [warm] connections enough?",
        ),
        sqlx::Error::Tls(why) => unavailable(format!("{why}: check [warm] tls and tls_ca")),
        sqlx::Error::Io(why) => {
            unavailable(format!("{why}: check [warm] host / POSTGRES_HOST and port / POSTGRES_PORT"))
        }
        _ if error.to_string().contains("saslprep") => unavailable(
            "the password holds a character that none may have, a line break perhaps: check [warm] password_file / \
             POSTGRES_PASSWORD",
        ),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
            unavailable(format!("{error}: a table was altered; compare with `collector migrate --check`"))
        }
        _ => unavailable(error),
    }
}

/// Whether no connection could be had because nobody is there, rather than that the server says no.
pub(super) fn is_away(error: &sqlx::Error) -> bool {
    // It shuts down, has crashed, or isn't up yet.
    let refuses = |code: &str| matches!(code, "57P01" | "57P02" | "57P03");
    matches!(error, sqlx::Error::Io(_)) || code(error).is_some_and(|code| refuses(&code))
}

/// Whether it gives no further connection.
pub(super) fn is_full(error: &sqlx::Error) -> bool {
    code(error).as_deref() == Some("53300")
}

/// The words of an error, without its tier.
pub(super) fn why(error: TierError) -> String {
    match error {
        TierError::Unavailable { why, .. } => why,
        other => other.to_string(),
    }
}

/// What to do about a SQLSTATE (PostgreSQL manual, appendix A).
fn advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "28P01" | "28000" => {
            "check [warm] user / POSTGRES_USER and [warm] password_file / POSTGRES_PASSWORD, which are read at the start, and the \
             server's pg_hba.conf"
        }
        "3D000" => "create it, or check [warm] database / POSTGRES_DB",
        "42501" => "grant it, or check [warm] user / POSTGRES_USER",
        "53100" => "the server's disk is full; make room there",
        "53300" => "lower [warm] connections, or raise the server's max_connections",
        "25006" => "[warm] host / POSTGRES_HOST must name the primary, and it must take writes",
        "57014" => "it took longer than [warm] statement_timeout",
        "55P03" => "another session holds a lock for too long",
        // Our own tables refuse no row that we send; and rows that don't fit their columns come of other columns.
        "42P01" | "42703" | "42704" | "42804" | "42809" | "42883" | "42P10" | "22P03" | "22P04" | "22021" | "0A000"
        | "08P01" => "a table was altered; compare with `collector migrate --check`",
        code if code.starts_with("23") => "a table was altered; compare with `collector migrate --check`",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_altered_table_is_never_taken_for_a_poisonous_row() {
        // A check, a foreign key, a unique index, a dropped partition, a column of another type or width.
        for code in ["23514", "23503", "23505", "23P01", "23502", "22P03", "22021", "42703"] {
            assert!(advice(code).is_some_and(|advice| advice.contains("altered")), "{code}");
        }
        assert_eq!(advice("22003"), None, "a number out of range is the row's own fault");
    }
}
