//! The tables: brought up to date, and checked.

use super::shape::{Differences, Shape};
use super::{SqliteWarm, TIER, failed, named};
use crate::tiers::TierError;
use crate::tiers::warm::migrations::{File, files, migrations};
use crate::tiers::warm::{SchemaReport, newer};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use std::path::Path;
use std::sync::LazyLock;
use tokio::sync::OnceCell;

const FILES: &[File] = files!("sqlite":
    "0001_warm" "0010_jobs" "0011_days" "0012_audit" "0014_access" "0015_analytics" "0017_alerts" "0018_inbox"
    "0019_late" "0020_hot_ledger" "0021_inbox_drop" "0022_quality_days"
    "0025_merges"
);
const MIGRATIONS_TABLE: &str = "_sqlx_migrations";
static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| Migrator::with_migrations(migrations(FILES).collect()));

/// What the migrations make.
static OURS: OnceCell<Shape> = OnceCell::const_new();

/// Makes the tables or brings them up to date.
pub(super) async fn bring_up(connection: &mut SqliteConnection) -> Result<(), TierError> {
    MIGRATIONS.run_direct(None, connection, false).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => failed(error),
        other => unavailable(other),
    })
}

impl SqliteWarm {
    /// Looks at a file's tables and changes nothing.
    ///
    /// # Errors
    /// When it can't be read, is no SQLite file, or was written by a newer version.
    pub async fn check(path: &Path) -> Result<SchemaReport, TierError> {
        look(path).await.map_err(|error| named(path, error))
    }
}

pub(super) async fn look(path: &Path) -> Result<SchemaReport, TierError> {
    let mut report =
        SchemaReport { store: "SQLite".into(), pending: Vec::new(), wrong: Vec::new(), missing: Vec::new() };
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => return Err(unavailable("it is no file; move it away, and one is made")),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            report.pending = MIGRATIONS.iter().map(|m| format!("{:04} {}", m.version, m.description)).collect();
            return Ok(report);
        }
        Err(error) => return Err(unavailable(error)),
    }
    let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(super::opening::TRY_WAIT);
    let mut connection = options.connect().await.map_err(failed)?;
    let there = Shape::of(&mut connection).await?;
    let applied: Vec<(i64, Vec<u8>)> = if there.has_table(MIGRATIONS_TABLE) {
        let sql = "SELECT version, checksum FROM _sqlx_migrations ORDER BY version";
        sqlx::query_as(sql).fetch_all(&mut connection).await.map_err(failed)?
    } else {
        Vec::new()
    };
    connection.close().await.map_err(failed)?;
    let theirs = applied.last().map_or(0, |(version, _)| *version);
    if theirs > newest() {
        return Err(unavailable(newer(theirs, newest())));
    }
    for migration in MIGRATIONS.iter() {
        let name = format!("{:04} {}", migration.version, migration.description);
        match applied.iter().find(|(version, _)| *version == migration.version) {
            None => report.pending.push(name),
            Some((_, checksum)) if *checksum != *migration.checksum => {
                report.wrong.push(format!("migration {name} was run by another build of this program"));
            }
            Some(_) => {}
        }
    }
    let ours = OURS.get_or_try_init(ours).await?;
    if let Some(table) = there.any_of(ours).filter(|_| applied.is_empty()) {
        report.wrong.push(format!("table {table} is there, but {MIGRATIONS_TABLE}, which says who made it, is not"));
    } else if report.pending.is_empty() {
        let Differences { wrong, missing } = there.differences(ours);
        report.wrong.extend(wrong);
        report.missing = missing;
    }
    Ok(report)
}

fn newest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Tables and indices as the migrations make them.
async fn ours() -> Result<Shape, TierError> {
    let mut connection = SqliteConnectOptions::new().in_memory(true).connect().await.map_err(failed)?;
    bring_up(&mut connection).await?;
    let ours = Shape::of(&mut connection).await?.without_table(MIGRATIONS_TABLE);
    connection.close().await.map_err(failed)?;
    Ok(ours)
}

fn unavailable(why: impl ToString) -> TierError {
    TierError::Unavailable { tier: TIER, why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_migrations_are_in_the_program() {
        crate::tiers::warm::migrations::are_all_of("sqlite", FILES);
    }
}
