//! Variables that say how a server is reached, while nothing says that it is used.

use super::Config;

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
    /// What to do about those of its variables that are set.
    fn idle(&self, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
        let is_set = |name: &&&str| variable(name).is_some_and(|value| !value.is_empty());
        let set: Vec<&str> = self.others.iter().filter(is_set).copied().collect();
        let Self { name, switch, section, .. } = self;
        (!set.is_empty()).then(|| {
            let (set, are) = (set.join(", "), if set.len() == 1 { "is" } else { "are" });
            format!("{set} {are} set, but nothing says that {name} is used: set {switch}, or [{section}] store")
        })
    }
}

impl Config {
    /// Warnings about variables that are set in vain.
    #[must_use]
    pub fn idle_variables(&self, variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
        let unsaid = [
            (self.warm.store.is_none(), POSTGRES),
            (self.hot.store.is_none(), REDIS),
            (self.cold.store.is_none(), BIGQUERY),
        ];
        unsaid.into_iter().filter(|(unsaid, _)| *unsaid).filter_map(|(_, server)| server.idle(&variable)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiers::{hot, warm};

    #[test]
    fn variables_of_a_server_that_nobody_names_are_warned_of() {
        let mut config = Config::default();
        let none = |_: &str| None;
        assert_eq!(config.idle_variables(none), Vec::<String>::new());
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
        assert_eq!(config.idle_variables(set), said);
        config.warm.store = Some(warm::settings::Store::Sqlite);
        config.hot.apply_environment(|name| (name == "REDIS_HOST").then(|| "cache".into())).unwrap();
        assert_eq!(config.hot.store(), hot::settings::Store::Redis);
        assert_eq!(config.idle_variables(set), said[2..], "who says which one knows of the variables");
    }
}
