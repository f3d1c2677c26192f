//! The tables: brought up to date, and checked.

use super::{SqliteWarm, broken, failed, named};
use crate::tiers::TierError;
use crate::tiers::warm::migrations::{File, files, migrations};
use crate::tiers::warm::{SchemaReport, newer};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePool};
use sqlx::{ConnectOptions as _, Connection as _};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

const FILES: &[File] = files!("sqlite":
    "0001_warm" "0010_jobs" "0011_days" "0012_audit" "0014_access" "0015_analytics" "0017_alerts" "0018_inbox"
    "0019_late" "0020_hot_ledger" "0021_inbox_drop" "0022_quality_days"
);
static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| Migrator::with_migrations(migrations(FILES).collect()));

/// Makes the tables or brings them up to date.
pub(super) async fn bring_up(pool: &SqlitePool) -> Result<(), TierError> {
    MIGRATIONS.run(pool).await.map_err(|error| match error {
        MigrateError::VersionMissing(theirs) if theirs > newest() => broken(newer(theirs, newest())),
        other => broken(other),
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

async fn look(path: &Path) -> Result<SchemaReport, TierError> {
    let mut report =
        SchemaReport { store: "SQLite".into(), pending: Vec::new(), wrong: Vec::new(), missing: Vec::new() };
    if !path.exists() {
        report.pending = MIGRATIONS.iter().map(|m| format!("{:04} {}", m.version, m.description)).collect();
        return Ok(report);
    }
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = options.connect().await.map_err(failed)?;
    let there = tables(&mut connection).await?;
    let applied: Vec<(i64, Vec<u8>)> = if there.contains_key("_sqlx_migrations") {
        let sql = "SELECT version, checksum FROM _sqlx_migrations ORDER BY version";
        sqlx::query_as(sql).fetch_all(&mut connection).await.map_err(failed)?
    } else {
        Vec::new()
    };
    connection.close().await.map_err(failed)?;
    let theirs = applied.last().map_or(0, |(version, _)| *version);
    if theirs > newest() {
        return Err(broken(newer(theirs, newest())));
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
    if report.pending.is_empty() {
        for (name, sql) in expected().await? {
            match there.get(&name) {
                None => report.wrong.push(format!("{name} is missing")),
                Some(other) if *other != sql => report.wrong.push(format!("{name} was altered")),
                Some(_) => {}
            }
        }
    }
    Ok(report)
}

fn newest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Tables and indices as the migrations make them.
async fn expected() -> Result<BTreeMap<String, String>, TierError> {
    let mut connection = SqliteConnectOptions::new().in_memory(true).connect().await.map_err(failed)?;
    MIGRATIONS.run_direct(None, &mut connection, false).await.map_err(broken)?;
    let tables = tables(&mut connection).await?;
    connection.close().await.map_err(failed)?;
    Ok(tables)
}

/// Name and text of what was created.
async fn tables(connection: &mut SqliteConnection) -> Result<BTreeMap<String, String>, TierError> {
    let sql = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL";
    let all: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(connection).await.map_err(failed)?;
    Ok(all.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_migrations_are_in_the_program() {
        crate::tiers::warm::migrations::are_all_of("sqlite", FILES);
    }
}
