//! `[hot]`: which hot tier, and how it is reached. The reference's environment variables (`REDIS_HOST`, `REDIS_PORT`,
//! `REDIS_DB`, `CACHE_TTL_HOURS`, `CACHE_REFRESH_HOURS`) go before the file.

use crate::config::Mistakes;
use crate::tiers::warm::settings::Secret;
use serde::Deserialize;
use shared::config::HumanDuration;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// `[hot]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HotSettings {
    /// Where the newest readings are kept; default: `redis` when `REDIS_HOST` is set, else `memory`.
    pub store: Option<Store>,
    /// How many hours of readings are kept; also the longest time an answer is cached.
    pub ttl_hours: u32,
    /// Every so many hours the job `cache_refresh` is due, unless `[jobs]` says when: what the tier lacks is filled in from
    /// the warm tier then. It is also when it came back.
    pub refresh_hours: u32,
    /// Most readings; default 4 million in memory at 32 bytes each, 100 million in Redis at about 15.
    pub readings_max: Option<u64>,
    /// Redis: host name, address, or the path of its socket.
    pub host: String,
    /// Redis: port.
    pub port: u16,
    /// Redis: number of the database; a cluster has only 0.
    pub database: u32,
    /// Redis: user; default: the server's default user.
    pub user: Option<String>,
    /// Redis: file with the password in its first line.
    pub password_file: Option<PathBuf>,
    /// Redis: the password; only from `REDIS_PASSWORD`.
    #[serde(skip)]
    pub password: Option<Secret>,
    /// Redis: whether the connection is encrypted, and the server proves its name.
    pub tls: bool,
    /// Redis: authority of the server's certificate; default: the well-known ones.
    pub tls_ca: Option<PathBuf>,
    /// Redis: first part of all keys, so that several installations can share a server.
    pub prefix: String,
    /// Redis: longest wait for a connection or an answer.
    pub timeout: HumanDuration,
}

/// Which hot tier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// This process's memory.
    Memory,
    /// Redis 7 or newer, or Valkey.
    Redis,
}

/// Ten minutes, in microseconds.
const MARGIN: i64 = 600 * 1_000_000;
/// 32 bytes each.
const READINGS_MAX_MEMORY: u64 = 4_000_000;
/// About 15 bytes each.
const READINGS_MAX_REDIS: u64 = 100_000_000;

impl Default for HotSettings {
    fn default() -> Self {
        Self {
            store: None,
            ttl_hours: 24,
            refresh_hours: 1,
            readings_max: None,
            host: "localhost".into(),
            port: 6379,
            database: 0,
            user: None,
            password_file: None,
            password: None,
            tls: false,
            tls_ca: None,
            prefix: "telemetry".into(),
            timeout: HumanDuration(Duration::from_secs(1)),
        }
    }
}

/// A variable and its value, which can't be used.
pub type Unusable = (&'static str, String);

fn number<T: FromStr>(place: &mut T, name: &'static str, set: impl Fn(&str) -> Option<String>) -> Result<(), Unusable> {
    if let Some(value) = set(name) {
        *place = value.parse().map_err(|_| (name, value))?;
    }
    Ok(())
}

impl HotSettings {
    /// Puts what the environment says in the place of what the file says.
    ///
    /// # Errors
    /// With the variables and their values that can't be used; the others hold.
    pub fn apply_environment(&mut self, variable: impl Fn(&str) -> Option<String>) -> Result<(), Vec<Unusable>> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        if let Some(host) = set("REDIS_HOST") {
            self.host = host;
            self.store = self.store.or(Some(Store::Redis));
        }
        if let Some(password) = set("REDIS_PASSWORD") {
            self.password = Some(Secret::new(password));
        }
        let numbers = [
            number(&mut self.port, "REDIS_PORT", set),
            number(&mut self.database, "REDIS_DB", set),
            number(&mut self.ttl_hours, "CACHE_TTL_HOURS", set),
            number(&mut self.refresh_hours, "CACHE_REFRESH_HOURS", set),
        ];
        let wrong: Vec<Unusable> = numbers.into_iter().filter_map(Result::err).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// Which hot tier it is.
    #[must_use]
    pub fn store(&self) -> Store {
        self.store.unwrap_or(Store::Memory)
    }

    /// Most readings.
    #[must_use]
    pub fn readings_max(&self) -> u64 {
        self.readings_max.unwrap_or(match self.store() {
            Store::Memory => READINGS_MAX_MEMORY,
            Store::Redis => READINGS_MAX_REDIS,
        })
    }

    /// How long readings stay, microseconds: a little longer than was said, so that a question about just that time, which
    /// takes a moment and needs the value before, is answered from here.
    #[must_use]
    pub fn age(&self) -> i64 {
        i64::from(self.ttl_hours) * 3_600 * 1_000_000 + MARGIN
    }

    /// What can't be used.
    #[must_use]
    pub fn mistakes(&self) -> Mistakes {
        let mut found = Mistakes::default();
        for (key, hours, most, why) in [
            ("hot.ttl_hours", self.ttl_hours, 168, "1 to 168 are possible"),
            ("hot.refresh_hours", self.refresh_hours, 24, "1 to 24 are possible"),
        ] {
            found.unless((1..=most).contains(&hours), key, hours, why);
        }
        found.unless(self.port > 0, "hot.port", self.port, "a port from 1 to 65535 is needed");
        let enough = self.readings_max.is_none_or(|max| max >= 1_000);
        found.unless(enough, "hot.readings_max", self.readings_max(), "at least 1000 are needed");
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
        let plain = (1..=64).contains(&self.prefix.len()) && self.prefix.chars().all(plain);
        found.unless(plain, "hot.prefix", &self.prefix, "letters, digits and _-.: are possible, 64 at most");
        let socket = self.tls && self.host.starts_with('/');
        found.unless(!socket, "hot.tls", true, "a socket of this machine has no TLS");
        let bounded = (Duration::from_millis(50)..=Duration::from_secs(10)).contains(&self.timeout.0);
        found.unless(bounded, "hot.timeout", self.timeout, "50ms to 10s are possible");
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_references_variables_go_before_the_file() {
        let mut settings = HotSettings { host: "file".into(), ..HotSettings::default() };
        let variable = |name: &str| {
            let value = match name {
                "REDIS_HOST" => "cache",
                "REDIS_PORT" => "6380",
                "REDIS_DB" => "3",
                "REDIS_PASSWORD" => "hush",
                "CACHE_TTL_HOURS" => "12",
                "CACHE_REFRESH_HOURS" => "2",
                _ => return None,
            };
            Some(value.to_owned())
        };
        settings.apply_environment(variable).unwrap();
        assert_eq!((settings.store(), settings.host.as_str(), settings.port), (Store::Redis, "cache", 6380));
        assert_eq!((settings.database, settings.ttl_hours, settings.refresh_hours), (3, 12, 2));
        assert!(!format!("{settings:?}").contains("hush"), "never shown");
        assert_eq!(settings.mistakes().keys().len(), 0);
        let wrong = settings.apply_environment(|name| name.contains("_DB").then(|| "first".into()).or(variable(name)));
        assert_eq!(wrong, Err(vec![("REDIS_DB", "first".into())]));
        let wrong = settings.apply_environment(|_| Some("-1".into())).unwrap_err();
        assert_eq!(wrong.len(), 4, "all of them: {wrong:?}");
    }

    #[test]
    fn what_cant_be_is_named() {
        let mistake = |change: fn(&mut HotSettings)| {
            let mut settings = HotSettings::default();
            change(&mut settings);
            settings.mistakes().keys().join(" ")
        };
        assert_eq!(mistake(|_| ()), "");
        assert_eq!(mistake(|s| s.ttl_hours = 0), "hot.ttl_hours");
        assert_eq!(mistake(|s| s.readings_max = Some(1)), "hot.readings_max");
        assert_eq!(mistake(|s| s.prefix = "a{b}".into()), "hot.prefix");
        assert_eq!(mistake(|s| (s.tls, s.host) = (true, "/run/redis.sock".into())), "hot.tls");
        assert_eq!(mistake(|s| s.timeout = Duration::from_secs(60).into()), "hot.timeout");
    }
}
