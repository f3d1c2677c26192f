//! What is wrong with a configuration, all of it at once, and where it stands.

use shared::config::{ConfigError, Place};
use std::fmt::Display;

/// A value that is read but can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {value}: {why}")]
pub struct ValueError {
    pub(super) key: String,
    value: String,
    why: String,
}

impl ValueError {
    pub(crate) fn new(key: &str, value: String, why: &str) -> Self {
        Self { key: key.into(), value, why: why.into() }
    }

    /// By another name of the setting.
    pub(super) fn named(self, key: &str) -> Self {
        Self { key: key.into(), ..self }
    }
}

/// Values that can't be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mistakes(pub Vec<ValueError>);

impl Mistakes {
    /// Notes a value that isn't `fine`.
    pub(crate) fn unless(&mut self, fine: bool, key: &str, value: impl Display, why: &str) {
        if !fine {
            self.0.push(ValueError::new(key, value.to_string(), why));
        }
    }

    pub(crate) fn note(&mut self, checked: Result<(), ValueError>) {
        self.0.extend(checked.err());
    }

    /// With other names of the settings.
    pub(crate) fn renamed(self, name: impl Fn(&str) -> String) -> Self {
        Self(self.0.into_iter().map(|one| ValueError { key: name(&one.key), ..one }).collect())
    }

    pub(crate) fn add(&mut self, others: Mistakes) {
        self.0.extend(others.0);
    }

    /// The settings they are in.
    #[must_use]
    pub fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|mistake| mistake.key.as_str()).collect()
    }
}

/// A value that can't be used, and where it stands.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {what}")]
pub struct Misplaced {
    pub(super) place: Place,
    pub(super) what: ValueError,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It can't be read.
    #[error(transparent)]
    Read(#[from] ConfigError),
    /// Values that can't be used.
    #[error("{}", lines(.0))]
    Values(Vec<Misplaced>),
}

fn lines(all: &[Misplaced]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
