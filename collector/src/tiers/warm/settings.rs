//! `[warm]`: which warm tier, and how it is reached. The reference's environment variables (`POSTGRES_HOST`,
//! `POSTGRES_PORT`, `POSTGRES_DB`, `POSTGRES_USER`, `POSTGRES_PASSWORD`) go before the file.

use crate::config::Mistakes;
use serde::Deserialize;
use shared::config::HumanDuration;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// `[warm]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WarmSettings {
    /// How many days readings stay, at least; then those that the archive is proved to have leave.
    pub keep_days: u32,
    /// Where readings are kept; default: `postgres` when `POSTGRES_HOST` is set, else `sqlite`.
    pub store: Option<Store>,
    /// PostgreSQL: host name, address, or the folder of its socket.
    pub host: String,
    /// PostgreSQL: port.
    pub port: u16,
    /// PostgreSQL: database. It must be there.
    pub database: String,
    /// PostgreSQL: schema of our tables; made when it is missing.
    pub schema: String,
    /// PostgreSQL: user.
    pub user: String,
    /// PostgreSQL: file with the password in its first line.
    pub password_file: Option<PathBuf>,
    /// PostgreSQL: the password; only from `POSTGRES_PASSWORD`.
    #[serde(skip)]
    pub password: Option<Secret>,
    /// PostgreSQL: how the connection is protected.
    pub tls: Tls,
    /// PostgreSQL: authority of the server's certificate; default: the well-known ones.
    pub tls_ca: Option<PathBuf>,
    /// PostgreSQL: whether readings are kept in TimescaleDB.
    pub timescaledb: Timescale,
    /// PostgreSQL: `host` or `host:port` of a read replica. History is read there while it keeps up.
    pub replica: Option<String>,
    /// PostgreSQL: most connections that read; a few more write.
    pub connections: u32,
    /// PostgreSQL: longest wait for a connection.
    pub connect_timeout: HumanDuration,
    /// PostgreSQL: longest time of one question. A flush may take ten times as long.
    pub statement_timeout: HumanDuration,
}

/// Which warm tier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// One file under `data_dir`.
    Sqlite,
    /// PostgreSQL 15 or newer, with TimescaleDB when it is there.
    Postgres,
}

/// How a connection is protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// Not at all.
    Off,
    /// Encrypted when the server can.
    Prefer,
    /// Encrypted, whoever the server is.
    Require,
    /// Encrypted, and the server's certificate must be right and name the host.
    VerifyFull,
}

/// Whether TimescaleDB is used. It is decided once, when the tables are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Timescale {
    /// When the extension is there or can be created.
    Auto,
    /// Without it nothing is stored.
    Required,
    /// Not even when it is there.
    Off,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Default for WarmSettings {
    fn default() -> Self {
        Self {
            keep_days: 90,
            store: None,
            host: "localhost".into(),
            port: 5432,
            database: "collector".into(),
            schema: "public".into(),
            user: "collector".into(),
            password_file: None,
            password: None,
            tls: Tls::Prefer,
            tls_ca: None,
            timescaledb: Timescale::Auto,
            replica: None,
            connections: 8,
            connect_timeout: HumanDuration(Duration::from_secs(3)),
            statement_timeout: HumanDuration(Duration::from_secs(30)),
        }
    }
}

impl WarmSettings {
    /// Puts what the environment says in the place of what the file says.
    ///
    /// # Errors
    /// With the variable and its value that can't be used; the others hold.
    pub fn apply_environment(
        &mut self,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<(), (&'static str, String)> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        if let Some(host) = set("POSTGRES_HOST") {
            self.host = host;
            self.store = self.store.or(Some(Store::Postgres));
        }
        for (name, place) in [("POSTGRES_DB", &mut self.database), ("POSTGRES_USER", &mut self.user)] {
            if let Some(value) = set(name) {
                *place = value;
            }
        }
        if let Some(password) = set("POSTGRES_PASSWORD") {
            self.password = Some(Secret::new(password));
        }
        if let Some(port) = set("POSTGRES_PORT") {
            self.port = port.parse().map_err(|_| ("POSTGRES_PORT", port))?;
        }
        Ok(())
    }

    /// Which warm tier it is.
    #[must_use]
    pub fn store(&self) -> Store {
        self.store.unwrap_or(Store::Sqlite)
    }

    /// What can't be used.
    #[must_use]
    pub fn mistakes(&self) -> Mistakes {
        let mut found = Mistakes::default();
        let plain = self.schema.len() <= 63
            && self.schema.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && self.schema.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        found.unless(plain, "warm.schema", &self.schema, "lower case letters, digits and _ are possible");
        // Reports on quality look at the last three days; TimescaleDB's views are refreshed over 80 days, and would
        // forget what isn't there.
        let (least, why) = match self.store() {
            Store::Sqlite => (5, "5 to 36500 are possible"),
            Store::Postgres => (85, "85 to 36500 are possible with PostgreSQL: its views look back 80 days"),
        };
        found.unless((least..=36_500).contains(&self.keep_days), "warm.keep_days", self.keep_days, why);
        found.unless(self.port > 0, "warm.port", self.port, "a port from 1 to 65535 is needed");
        let replica = self.replica.as_deref();
        let fits = replica.is_none_or(|place| host_and_port(place).is_some());
        found.unless(fits, "warm.replica", replica.unwrap_or_default(), "`host` or `host:port` is needed");
        let some = (1..=1_000).contains(&self.connections);
        found.unless(some, "warm.connections", self.connections, "1 to 1000 are possible");
        for (key, duration) in
            [("warm.connect_timeout", self.connect_timeout), ("warm.statement_timeout", self.statement_timeout)]
        {
            let bounded = (Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(&duration.0);
            found.unless(bounded, key, duration, "100ms to 1h are possible");
        }
        found
    }
}

/// The host of `host` or `host:port`, and the port if it is said; `None` when it is neither. An address of IPv6 has colons of
/// its own, and a port behind brackets only, which are left away.
pub(super) fn host_and_port(place: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, Some(port.parse().ok().filter(|port| *port > 0)?))
        }
        _ => (place, None),
    };
    (!place.is_empty()).then(|| (host.trim_start_matches('[').trim_end_matches(']'), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_references_variables_go_before_the_file() {
        let mut settings = WarmSettings { host: "file".into(), ..WarmSettings::default() };
        let variable = |name: &str| {
            let value = match name {
                "POSTGRES_HOST" => "db",
                "POSTGRES_PORT" => "5433",
                "POSTGRES_DB" => "abbanoa",
                "POSTGRES_USER" => "postgres",
                "POSTGRES_PASSWORD" => "hush",
                _ => return None,
            };
            Some(value.to_owned())
        };
        settings.apply_environment(variable).unwrap();
        assert_eq!((settings.store(), settings.host.as_str(), settings.port), (Store::Postgres, "db", 5433));
        assert_eq!((settings.database.as_str(), settings.user.as_str()), ("abbanoa", "postgres"));
        assert_eq!(settings.password.as_ref().map(Secret::reveal), Some("hush"));
        assert!(!format!("{settings:?}").contains("hush"), "never shown");
        let wrong = settings.apply_environment(|name| (name == "POSTGRES_PORT").then(|| "many".into()));
        assert_eq!(wrong, Err(("POSTGRES_PORT", "many".into())));
    }

    #[test]
    fn without_a_word_it_is_sqlite() {
        let mut settings = WarmSettings::default();
        settings.apply_environment(|_| None).unwrap();
        assert_eq!((settings.store(), settings.mistakes().keys().len()), (Store::Sqlite, 0));
    }

    #[test]
    fn a_schema_that_would_need_quoting_is_refused() {
        for schema in ["", "Warm", "a b", "a\"b", "1a"] {
            let settings = WarmSettings { schema: schema.into(), ..WarmSettings::default() };
            assert!(!settings.mistakes().keys().is_empty(), "{schema:?}");
        }
    }
}
