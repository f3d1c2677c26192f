//! Variables that say how a server is reached, while nothing says that it is used, or the file says that it isn't.

use super::Config;
use crate::tiers::{cold, hot, warm};

/// A server of the reference: its name, what switches it on, in the environment and in the file, and what doesn't.
struct Server {
    name: &'static str,
    switch: &'static str,
    section: &'static str,
    others: &'static [&'static str],
}

const POSTGRES: Server = Server {
    name: "PostgreSQL",
    switch: "POSTGRES_HOST",
    section: "warm",
    others: &["POSTGRES_PORT", "POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD"],
};
const REDIS: Server = Server {
    name: "Redis",
    switch: "REDIS_HOST",
    section: "hot",
    others: &["REDIS_PORT", "REDIS_DB", "REDIS_PASSWORD"],
};
const BIGQUERY: Server = Server {
    name: "BigQuery",
    switch: "BIGQUERY_PROJECT_ID",
    section: "cold",
    others: &["BIGQUERY_DATASET_ID", "BIGQUERY_LOCATION"],
};

impl Server {
    /// What to do about those of its variables that are set. `said`: the file or the switch says which tier it is; `used`: that
    /// it is this one.
    fn idle(&self, said: bool, used: bool, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
        let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
        let Self { name, switch, section, others } = self;
        if said {
            return (!used && is_set(switch)).then(|| {
                format!("{switch} is set, but [{section}] store in the file says that {name} isn't used: take one of them away")
            });
        }
        let set: Vec<&str> = others.iter().copied().filter(|name| is_set(name)).collect();
        (!set.is_empty()).then(|| {
            let (set, are) = (set.join(", "), if set.len() == 1 { "is" } else { "are" });
            format!("{set} {are} set, but nothing says that {name} is used: set {switch}, or [{section}] store")
        })
    }
}

impl Config {
    /// Warnings about what is set in vain: variables, and the archive's folder when a variable says that it is BigQuery.
    #[must_use]
    pub fn idle_settings(&self, variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
        let cold = &self.cold;
        let archived = cold.store() == cold::settings::Store::BigQuery;
        let servers = [
            (self.warm.store.is_some(), self.warm.store() == warm::settings::Store::Postgres, POSTGRES),
            (self.hot.store.is_some(), self.hot.store() == hot::settings::Store::Redis, REDIS),
            (cold.store.is_some(), archived, BIGQUERY),
        ];
        let places = [("folder", cold.folder.is_some()), ("url", cold.url.is_some())];
        let place = places.into_iter().find(|(_, is_set)| archived && *is_set).map(|(key, _)| {
            format!("[cold] {key} isn't used: BIGQUERY_PROJECT_ID or [cold] store says that the archive is in BigQuery")
        });
        servers.into_iter().filter_map(|(said, used, server)| server.idle(said, used, &variable)).chain(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_a_server_that_nobody_names_are_warned_of() {
        let mut config = Config::default();
        let none = |_: &str| None;
        assert_eq!(config.idle_settings(none), Vec::<String>::new());
        let set = |name: &str| match name {
            "POSTGRES_DB" | "POSTGRES_USER" | "REDIS_PORT" | "BIGQUERY_DATASET_ID" => Some("1".to_owned()),
            "POSTGRES_PASSWORD" => Some(String::new()),
            _ => None,
        };
        let said = [
            "POSTGRES_DB, POSTGRES_USER are set, but nothing says that PostgreSQL is used: set POSTGRES_HOST, or [warm] store",
            "REDIS_PORT is set, but nothing says that Redis is used: set REDIS_HOST, or [hot] store",
            "BIGQUERY_DATASET_ID is set, but nothing says that BigQuery is used: set BIGQUERY_PROJECT_ID, or [cold] store",
        ];
        assert_eq!(config.idle_settings(set), said);
        config.warm.store = Some(warm::settings::Store::Sqlite);
        config.hot.apply_environment(|name| (name == "REDIS_HOST").then(|| "cache".into())).unwrap();
        assert_eq!(config.hot.store(), hot::settings::Store::Redis);
        assert_eq!(config.idle_settings(set), said[2..], "who says which one knows of the variables");
    }

    #[test]
    fn what_the_file_says_against_the_environment_is_warned_of() {
        let mut config = Config::default();
        let set =
            |name: &str| ["POSTGRES_HOST", "REDIS_HOST", "BIGQUERY_PROJECT_ID"].contains(&name).then(|| "x".to_owned());
        config.warm.store = Some(warm::settings::Store::Sqlite);
        config.hot.store = Some(hot::settings::Store::Memory);
        config.cold.store = Some(cold::settings::Store::Parquet);
        let said = config.idle_settings(set);
        assert_eq!(said.len(), 3);
        assert!(said[0].starts_with("POSTGRES_HOST is set, but [warm] store in the file"), "{said:?}");
        let mut config = Config::default();
        config.cold.folder = Some("/srv/archive".into());
        config.cold.apply_environment(set);
        assert!(config.idle_settings(|_| None)[0].starts_with("[cold] folder isn't used"));
    }
}
