//! The tables: made, brought up to date, and checked.

use super::fault::{failed, unavailable};
use super::shape;
use crate::tiers::TierError;
use crate::tiers::warm::migrations::{File, files, migrations};
use crate::tiers::warm::settings::{Timescale, WarmSettings};
use crate::tiers::warm::{SchemaReport, newer};
use sqlx::migrate::{AppliedMigration, Migrate as _, MigrateError, Migrator};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Row as _};
use std::fmt;

const COMMON: &[File] = files!("postgres":
    "0001_warm" "0010_jobs" "0011_days" "0012_audit" "0014_access" "0015_analytics" "0017_alerts" "0018_inbox"
    "0019_late" "0020_hot_ledger" "0021_inbox_drop" "0022_quality_days"
    "0023_rollup_horizon" "0024_replica_proofs" "0025_merges"
);
const TIMESCALE: &[File] = files!("postgres/timescale": "0002_readings");
const PLAIN: &[File] = files!("postgres/plain": "0002_readings" "0013_left_days");

const MIGRATIONS_TABLE: &str = "_sqlx_migrations";
const OTHER: &str = "was run by another build of this program, whose tables may differ; use the build that made them";
/// The oldest PostgreSQL whose SQL ours is.
const POSTGRES_MIN: i32 = 15;
/// The oldest TimescaleDB whose SQL ours is.
const TIMESCALE_MIN: (u32, u32) = (2, 17);

/// How readings are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// Hypertables of TimescaleDB.
    Timescale,
    /// Partitions by day.
    Plain,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layout::Timescale => "TimescaleDB",
            Layout::Plain => "plain PostgreSQL",
        })
    }
}

/// The migrations of a layout, in order.
fn migrator(layout: Layout) -> Migrator {
    let own = if layout == Layout::Timescale { TIMESCALE } else { PLAIN };
    Migrator::with_migrations(migrations(COMMON).chain(migrations(own)).collect()) // which sorts them
}

/// Looks, and changes nothing.
pub(super) async fn look(connection: &mut PgConnection, settings: &WarmSettings) -> Result<SchemaReport, TierError> {
    refuse_unfit(connection).await?;
    let wrong = shape::rights(connection, settings).await?;
    let applied = applied(connection).await?;
    refuse_foreign(connection, &applied, settings).await?;
    let layout = match found_layout(connection, &applied).await? {
        Some(layout) => suitable(layout, settings)?,
        None => choose(connection, settings, false).await?,
    };
    refuse_newer(&applied, layout)?;
    let (mut pending, mut wrong, mut missing) = (Vec::new(), wrong, Vec::new());
    wrong.extend(half_done(connection, &applied).await?);
    for migration in migrator(layout).iter() {
        let name = format!("{:04} {}", migration.version, migration.description);
        match applied.iter().find(|a| a.version == migration.version) {
            None => pending.push(name),
            Some(applied) if applied.checksum != migration.checksum => wrong.push(format!("migration {name} {OTHER}")),
            Some(_) => {}
        }
    }
    // What may not be read can't be compared.
    if pending.is_empty() && wrong.is_empty() {
        wrong.extend(shape::differences(connection, layout).await?);
        missing = shape::missing(connection, layout).await?;
    }
    Ok(SchemaReport { store: layout.to_string(), pending, wrong, missing })
}

/// Makes the tables or brings them up to date, one collector at a time, and checks them.
pub(super) async fn bring_up(connection: &mut PgConnection, settings: &WarmSettings) -> Result<Layout, TierError> {
    refuse_unfit(connection).await?;
    // Schema and extension are made under it, too. It ends with the connection.
    connection.execute("SELECT pg_advisory_lock(7305, 0)").await.map_err(failed)?;
    make_schema(connection, settings).await?;
    let applied = applied(connection).await?;
    refuse_foreign(connection, &applied, settings).await?;
    let layout = match found_layout(connection, &applied).await? {
        Some(layout) => suitable(layout, settings)?,
        None => choose(connection, settings, true).await?,
    };
    refuse_newer(&applied, layout)?;
    migrator(layout).run_direct(None, &mut *connection, false).await.map_err(migration_failed)?;
    let wrong = shape::differences(connection, layout).await?;
    if !wrong.is_empty() {
        return Err(unavailable(format!("the tables are not as this program made them: {}", wrong.join("; "))));
    }
    Ok(layout)
}

/// A server or a database that can't hold what we store.
async fn refuse_unfit(connection: &mut PgConnection) -> Result<(), TierError> {
    let sql = "SELECT current_setting('server_version_num')::int, current_setting('server_version'), \
               current_setting('server_encoding')";
    let (number, version, encoding): (i32, String, String) =
        sqlx::query_as(sql).fetch_one(connection).await.map_err(failed)?;
    if number / 10_000 < POSTGRES_MIN {
        return Err(unavailable(format!("the server is PostgreSQL {version}; {POSTGRES_MIN} or newer is needed")));
    }
    if encoding != "UTF8" {
        return Err(unavailable(format!(
            "the database's encoding is {encoding}: [warm] database / POSTGRES_DB must name one that is made with \
             ENCODING 'UTF8'"
        )));
    }
    Ok(())
}

/// Tables that are there stay as they are.
fn suitable(layout: Layout, settings: &WarmSettings) -> Result<Layout, TierError> {
    if layout == Layout::Plain && settings.timescaledb == Timescale::Required {
        return Err(unavailable(
            "[warm] timescaledb = \"required\", but the tables were made without it: use another database or schema",
        ));
    }
    Ok(layout)
}

async fn make_schema(connection: &mut PgConnection, settings: &WarmSettings) -> Result<(), TierError> {
    let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)")
        .bind(&settings.schema)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if !there {
        let sql = format!("CREATE SCHEMA IF NOT EXISTS \"{}\"", settings.schema);
        connection.execute(AssertSqlSafe(sql)).await.map_err(failed)?;
    }
    Ok(())
}

/// The migrations that were run.
async fn applied(connection: &mut PgConnection) -> Result<Vec<AppliedMigration>, TierError> {
    let sql = "SELECT EXISTS (SELECT FROM information_schema.tables \
               WHERE table_schema = current_schema() AND table_name = $1)";
    let there: bool =
        sqlx::query_scalar(sql).bind(MIGRATIONS_TABLE).fetch_one(&mut *connection).await.map_err(failed)?;
    if !there {
        return Ok(Vec::new());
    }
    connection.list_applied_migrations(MIGRATIONS_TABLE).await.map_err(migration_failed)
}

/// The migration that was begun and isn't finished.
async fn half_done(connection: &mut PgConnection, applied: &[AppliedMigration]) -> Result<Option<String>, TierError> {
    if applied.is_empty() {
        return Ok(None);
    }
    let dirty = connection.dirty_version(MIGRATIONS_TABLE).await.map_err(migration_failed)?;
    Ok(dirty.map(half))
}

/// Ours are all or nothing, so somebody else had a hand in it.
fn half(version: i64) -> String {
    format!(
        "migration {version:04} is noted as not finished in {MIGRATIONS_TABLE}: restore the tables from a backup; when \
         you know that it is done, UPDATE {MIGRATIONS_TABLE} SET success = true WHERE version = {version}"
    )
}

/// Tables of which nothing says who made them, and how far they are.
async fn refuse_foreign(
    connection: &mut PgConnection,
    applied: &[AppliedMigration],
    settings: &WarmSettings,
) -> Result<(), TierError> {
    if !applied.is_empty() {
        return Ok(());
    }
    let schema = &settings.schema;
    match shape::any_table(connection, schema).await? {
        None => Ok(()),
        Some(table) => Err(unavailable(format!(
            "table {table} is there, but {MIGRATIONS_TABLE}, which says that this program made it, is not: restore that from \
             a backup, or name an empty schema in [warm] schema (it is {schema}) or another database in [warm] database / \
             POSTGRES_DB"
        ))),
    }
}

fn refuse_newer(applied: &[AppliedMigration], layout: Layout) -> Result<(), TierError> {
    let newest = migrator(layout).iter().map(|migration| migration.version).max().unwrap_or(0);
    let theirs = applied.iter().map(|migration| migration.version).max().unwrap_or(0);
    if theirs > newest { Err(unavailable(newer(theirs, newest))) } else { Ok(()) }
}

async fn found_layout(
    connection: &mut PgConnection,
    applied: &[AppliedMigration],
) -> Result<Option<Layout>, TierError> {
    if applied.is_empty() {
        return Ok(None);
    }
    let sql = "SELECT relkind::text FROM pg_class \
               WHERE relname = 'readings' AND relnamespace = current_schema()::regnamespace";
    let kind: Option<String> = sqlx::query_scalar(sql).fetch_optional(connection).await.map_err(failed)?;
    Ok(match kind.as_deref() {
        Some("p") => Some(Layout::Plain),
        Some(_) => Some(Layout::Timescale),
        None if applied.len() > 1 => return Err(unavailable("table readings is gone: restore it from a backup")),
        None => None,
    })
}

/// The layout of tables that are still to be made.
async fn choose(connection: &mut PgConnection, settings: &WarmSettings, create: bool) -> Result<Layout, TierError> {
    if settings.timescaledb == Timescale::Off {
        return Ok(Layout::Plain);
    }
    match why_no_timescale(connection, create).await? {
        None => Ok(Layout::Timescale),
        Some(why) if settings.timescaledb == Timescale::Required => Err(unavailable(format!(
            "[warm] timescaledb = \"required\", but {why}: install TimescaleDB {}.{} or newer on the server, or set it \
             to \"auto\"",
            TIMESCALE_MIN.0, TIMESCALE_MIN.1
        ))),
        Some(why) => {
            if create {
                tracing::info!(why, "the warm tier is made without TimescaleDB, in partitions by day");
            }
            Ok(Layout::Plain)
        }
    }
}

/// Why TimescaleDB can't be used; `None` when it can.
async fn why_no_timescale(connection: &mut PgConnection, create: bool) -> Result<Option<String>, TierError> {
    let sql = "SELECT default_version, installed_version FROM pg_available_extensions WHERE name = 'timescaledb'";
    let Some(row) = sqlx::query(sql).fetch_optional(&mut *connection).await.map_err(failed)? else {
        return Ok(Some("the server doesn't have the extension".into()));
    };
    let (offered, installed): (Option<String>, Option<String>) =
        (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
    let version = installed.clone().or(offered).unwrap_or_default();
    if !is_new_enough(&version) {
        return Ok(Some(format!("the server has version {version}")));
    }
    if installed.is_none() && create {
        let made = connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb SCHEMA public").await;
        if let Err(error) = made {
            return Ok(Some(format!("the extension can't be created ({error})")));
        }
    }
    // The edition under the Apache licence has neither compression nor continuous aggregates.
    let licence: Option<String> = sqlx::query_scalar("SELECT current_setting('timescaledb.license', true)")
        .fetch_one(connection)
        .await
        .map_err(failed)?;
    Ok(licence.filter(|l| l == "apache").map(|_| "the server has timescaledb.license = 'apache'".into()))
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (major, minor) >= TIMESCALE_MIN
}

fn migration_failed(error: MigrateError) -> TierError {
    match error {
        MigrateError::Execute(error) => failed(error),
        MigrateError::ExecuteMigration(error, version) => match failed(error) {
            TierError::Unavailable { why, .. } | TierError::Broken { why, .. } => {
                unavailable(format!("migration {version:04}: {why}"))
            }
            other => other,
        },
        MigrateError::Dirty(version) => unavailable(half(version)),
        MigrateError::VersionMismatch(version) => unavailable(format!("migration {version:04} {OTHER}")),
        other => unavailable(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiers::warm::migrations::are_all_of;

    #[test]
    fn all_migrations_are_in_the_program() {
        for (folder, files) in [("postgres", COMMON), ("postgres/timescale", TIMESCALE), ("postgres/plain", PLAIN)] {
            are_all_of(folder, files);
        }
    }

    #[test]
    fn both_layouts_have_every_version_once_in_order() {
        for layout in [Layout::Timescale, Layout::Plain] {
            let versions: Vec<i64> = migrator(layout).iter().map(|migration| migration.version).collect();
            assert!(versions.is_sorted_by(|a, b| a < b), "{layout}: {versions:?}");
        }
    }

    #[test]
    fn versions_are_compared_by_number() {
        for (version, enough) in [("2.17.0", true), ("2.9.3", false), ("2.23.0-dev", true), ("3.0", true), ("", false)]
        {
            assert_eq!(is_new_enough(version), enough, "{version}");
        }
    }
}
