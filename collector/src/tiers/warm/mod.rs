//! Warm tiers.

mod account;
mod migrations;
pub mod postgres;
mod rules;
pub mod settings;
pub mod sqlite;
pub mod transfer;

use super::{TierError, WarmTier};
use crate::etl::ledger::ArchivedDays;
use postgres::PostgresWarm;
use serde::Serialize;
use settings::{Store, WarmSettings};
use sqlite::SqliteWarm;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Nobody waits longer for SQLite's file at the start: with new tables to be made it may take minutes.
const OPENED_WITHIN: Duration = Duration::from_secs(10);

/// What is known of a warm tier's tables.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SchemaReport {
    /// How readings are kept there, or would be: `SQLite`, `plain PostgreSQL` or `TimescaleDB`.
    pub store: String,
    /// Migrations that are still to be run: number and name.
    pub pending: Vec<String>,
    /// What isn't as this program made it: nothing is stored until it is.
    pub wrong: Vec<String>,
    /// What isn't there any more, though readings are stored without it.
    pub missing: Vec<String>,
}

impl SchemaReport {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_in_order(&self) -> bool {
        self.pending.is_empty() && self.wrong.is_empty() && self.missing.is_empty()
    }
}

fn newer(theirs: i64, newest: i64) -> String {
    format!(
        "the tables are of version {theirs}, this program knows versions up to {newest}: a newer collector made them; \
         update this one"
    )
}

/// Looks at the tables and changes nothing; SQLite's file is `file`.
///
/// # Errors
/// When they can't be looked at, or a newer collector made them; the text names the setting.
pub async fn check(settings: &WarmSettings, file: &Path) -> Result<SchemaReport, TierError> {
    match settings.store() {
        Store::Sqlite => SqliteWarm::check(file).await,
        Store::Postgres => PostgresWarm::check(settings).await,
    }
}

/// Reads which days were archived, and changes nothing; SQLite's file is `file`.
///
/// # Errors
/// When the tables can't be read.
pub async fn archived(settings: &WarmSettings, file: &Path) -> Result<ArchivedDays, TierError> {
    match settings.store() {
        Store::Sqlite => SqliteWarm::archived(file).await,
        Store::Postgres => PostgresWarm::archived(settings).await,
    }
}

/// Makes the tables or brings them up to date; SQLite's file is `file`.
///
/// # Errors
/// When that can't be done, or someone altered the tables; the text names the setting.
pub async fn migrate(settings: &WarmSettings, file: &Path) -> Result<(), TierError> {
    match settings.store() {
        Store::Sqlite => SqliteWarm::open(file).await?.close().await,
        Store::Postgres => PostgresWarm::open(settings).await?.close().await,
    }
    Ok(())
}

/// Opens the warm tier that is configured; SQLite's file is `file`.
///
/// A file or a server that can't be reached or used yet is told in the log and tried again.
///
/// # Errors
/// When the settings can't be used.
pub async fn open(settings: &WarmSettings, file: &Path) -> Result<Arc<dyn WarmTier>, TierError> {
    match settings.store() {
        Store::Sqlite => {
            let tier = SqliteWarm::new(file);
            let _ = tier.ready_within(OPENED_WITHIN).await; // it says so itself
            Ok(Arc::new(tier))
        }
        Store::Postgres => {
            let tier = PostgresWarm::new(settings)?;
            match tier.ready().await {
                Ok(layout) => tracing::info!(%layout, host = settings.host, "warm tier is ready"),
                Err(error) => tracing::error!(%error, "what comes waits in the spool until this is put right"),
            }
            Ok(Arc::new(tier))
        }
    }
}
