//! Warm tiers.

mod account;
pub mod postgres;
mod rules;
pub mod settings;
pub mod sqlite;

use super::{TierError, WarmTier};
use postgres::PostgresWarm;
use settings::{Store, WarmSettings};
use sqlite::SqliteWarm;
use std::path::Path;
use std::sync::Arc;

/// Opens the warm tier that is configured; SQLite's file is `file`.
///
/// A PostgreSQL that can't be reached or used yet is told in the log and tried again whenever it is needed.
///
/// # Errors
/// When the file can't be opened, or the settings can't be used.
pub async fn open(settings: &WarmSettings, file: &Path) -> Result<Arc<dyn WarmTier>, TierError> {
    match settings.store() {
        Store::Sqlite => Ok(Arc::new(SqliteWarm::open(file).await?)),
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
