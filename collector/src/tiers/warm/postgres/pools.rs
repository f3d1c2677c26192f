//! Connections: some that write, some that read, some to a replica.

use super::fault::{failed, unavailable};
use crate::tiers::TierError;
use crate::tiers::warm::settings::{Tls, WarmSettings, host_and_port};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use std::time::Duration;

/// Connections that write: the flusher's, and some for series, catalogues and signs of life.
const WRITERS: u32 = 4;
/// A flush may take so many times as long as a question.
pub(super) const PATIENCE: u32 = 10;
/// Longest wait for another session's lock.
const LOCK_WAIT: Duration = Duration::from_secs(30);

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Bringing tables up to date: no limit for a statement.
    Migrate,
    /// Flushes and lists.
    Write,
    /// Questions.
    Read,
    /// Reading a whole day: it takes as long as it takes.
    Export,
}

/// How the server is reached.
///
/// # Errors
/// When the password file can't be read.
pub(super) fn options(settings: &WarmSettings) -> Result<PgConnectOptions, TierError> {
    let mode = match settings.tls {
        Tls::Off => PgSslMode::Disable,
        Tls::Prefer => PgSslMode::Prefer,
        Tls::Require => PgSslMode::Require,
        Tls::VerifyFull => PgSslMode::VerifyFull,
    };
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&settings.host)
        .port(settings.port)
        .database(&settings.database)
        .username(&settings.user)
        .application_name("collector")
        .ssl_mode(mode);
    if let Some(ca) = &settings.tls_ca {
        options = options.ssl_root_cert(ca);
    }
    if let Some(password) = &settings.password {
        options = options.password(password.reveal());
    } else if let Some(file) = &settings.password_file {
        let text = std::fs::read_to_string(file)
            .map_err(|e| unavailable(format!("[warm] password_file {}: {e}", file.display())))?;
        options = options.password(text.lines().next().unwrap_or_default());
    }
    Ok(options)
}

/// The same for a replica, `host` or `host:port`.
pub(super) fn replica_options(primary: PgConnectOptions, place: &str) -> PgConnectOptions {
    let (host, port) = host_and_port(place).unwrap_or((place, None)); // what is neither no configuration has
    let there = primary.host(host);
    match port {
        Some(port) => there.port(port),
        None => there,
    }
}

/// Pools connect when they are first asked.
pub(super) fn pool(settings: &WarmSettings, options: PgConnectOptions, what_for: Use) -> PgPool {
    let prepare = session(settings, what_for);
    PgPoolOptions::new()
        .max_connections(if what_for == Use::Read { settings.connections } else { WRITERS })
        .acquire_timeout(settings.connect_timeout.0)
        .after_connect(move |connection, _| {
            let prepare = prepare.clone();
            Box::pin(async move { connection.execute(AssertSqlSafe(prepare)).await.map(drop) })
        })
        .connect_lazy_with(options)
}

/// One connection outside of the pools, so that what is wrong is told as the server tells it.
pub(super) async fn connect(settings: &WarmSettings, what_for: Use) -> Result<PgConnection, TierError> {
    use sqlx::ConnectOptions as _;
    let options = options(settings)?;
    let connect = async {
        let mut connection = options.connect().await?;
        connection.execute(AssertSqlSafe(session(settings, what_for))).await?;
        Ok(connection)
    };
    match tokio::time::timeout(settings.connect_timeout.0, connect).await {
        Ok(connected) => connected.map_err(failed),
        Err(_) => Err(failed(sqlx::Error::PoolTimedOut)),
    }
}

/// What every session begins with.
fn session(settings: &WarmSettings, what_for: Use) -> String {
    let limit = match what_for {
        Use::Migrate | Use::Export => Duration::ZERO,
        Use::Write => settings.statement_timeout.0 * PATIENCE,
        Use::Read => settings.statement_timeout.0,
    };
    format!(
        "SET search_path TO \"{schema}\", public; SET client_min_messages TO warning; \
         SET statement_timeout TO {limit}; SET lock_timeout TO {lock}; \
         SET idle_in_transaction_session_timeout TO 60000; \
         SET plan_cache_mode TO force_custom_plan; SET jit TO off; \
         SET timescaledb.max_tuples_decompressed_per_dml_transaction TO 0; \
         SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
        // Plans made for their times look at the days in question only, and lock no others. Over hundreds of days a plan
        // seems so dear that compiling it would pay: that took half a minute for rows found in 2 ms. A late flush into
        // compressed chunks may be large. What is committed is on the disk.
        schema = settings.schema,
        limit = limit.as_millis(),
        lock = LOCK_WAIT.as_millis(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_may_have_a_port_of_its_own() {
        let primary = PgConnectOptions::new_without_pgpass().host("db").port(5432);
        let place = |text| {
            let options = replica_options(primary.clone(), text);
            (options.get_host().to_owned(), options.get_port())
        };
        assert_eq!(place("db2"), ("db2".into(), 5432));
        assert_eq!(place("db2:6000"), ("db2".into(), 6000));
        assert_eq!(place("::1"), ("::1".into(), 5432));
        assert_eq!(place("[::1]:6000"), ("::1".into(), 6000));
    }

    #[test]
    fn a_password_file_that_is_not_there_is_named() {
        let settings = WarmSettings { password_file: Some("/nowhere/secret".into()), ..WarmSettings::default() };
        let error = options(&settings).unwrap_err().to_string();
        assert!(error.contains("[warm] password_file /nowhere/secret"), "{error}");
    }
}
