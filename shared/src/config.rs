//! Configuration from a TOML file, or from a folder of them.
//!
//! In a folder, every `*.toml` is read in the order of names and they count as one: tables merge, arrays of tables
//! follow each other, and anything else may be said only once. Every mistake is told with file and line, and an
//! unknown key with the nearest known one.

mod merge;

pub use bytesize::ByteSize;

use merge::Merged;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use std::{fs, io};

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or folder can't be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder without any.
    #[error("{}: no file in this folder ends with .toml", .0.display())]
    NoFiles(PathBuf),
    /// A mistake in a file.
    #[error("{place}: {message}")]
    Mistake {
        /// Where.
        place: Place,
        /// What.
        message: String,
    },
}

/// A place in a configuration: `agent.toml:12`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, or the folder when no file is to blame.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.path.display()),
            None => write!(f, "{}", self.path.display()),
        }
    }
}

/// The texts a configuration was read from: finds the line of a `toml::Spanned`.
#[derive(Debug, Clone)]
pub struct Sources {
    path: PathBuf,
    files: Vec<(PathBuf, String)>,
}

impl Sources {
    /// Where a span of [`load_with_sources`] is.
    #[must_use]
    pub fn place(&self, span: &Range<usize>) -> Place {
        let mut at = span.start;
        for (path, text) in &self.files {
            if at <= text.len() {
                let line = text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
                return Place { path: path.clone(), line: Some(line) };
            }
            at -= text.len() + 1; // see `merge`: files lie one after the other with one byte between
        }
        self.whole()
    }

    /// A mistake at a span of [`load_with_sources`].
    #[must_use]
    pub fn mistake(&self, span: &Range<usize>, message: impl Into<String>) -> ConfigError {
        ConfigError::Mistake { place: self.place(span), message: message.into() }
    }

    /// Where a key like `hot.ttl_hours` stands, or, when it doesn't, what it would stand in. In an array of tables the part after it is
    /// the `name` or `topic` of one.
    #[must_use]
    pub fn find(&self, key: &str) -> Place {
        let mut merged = Merged::default();
        let merged = self.files.iter().try_for_each(|(_, text)| merged.add(text)).map(|()| merged);
        let span = merged.ok().and_then(|merged| merged.span_of(key));
        span.map_or_else(|| self.whole(), |span| self.place(&span))
    }

    /// All of it: the file, or the folder.
    #[must_use]
    pub fn whole(&self) -> Place {
        let path = if let [(path, _)] = self.files.as_slice() { path } else { &self.path };
        Place { path: path.clone(), line: None }
    }

    fn error(&self, error: &toml::de::Error) -> ConfigError {
        // Of the whole, whose span is empty, no line is to blame: a key is missing at the top.
        let span = error.span().filter(|span| !span.is_empty());
        let place = span.map_or_else(|| self.whole(), |span| self.place(&span));
        ConfigError::Mistake { place, message: explain(error.message()) }
    }
}

/// Reads a configuration from a file, or from a folder of `*.toml`.
///
/// # Errors
/// With file and line, when something can't be read or isn't what `T` wants.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    load_with_sources(path).map(|(config, _)| config)
}

/// As [`load`], and with what turns a `toml::Spanned` in `T` into a file and line.
///
/// # Errors
/// As [`load`].
pub fn load_with_sources<T: DeserializeOwned>(path: &Path) -> Result<(T, Sources), ConfigError> {
    let sources = read(path)?;
    let mut merged = Merged::default();
    for (_, text) in &sources.files {
        merged.add(text).map_err(|mistake| match mistake {
            merge::Mistake::Syntax(span, message) => sources.mistake(&span, message),
            merge::Mistake::Twice { key, first, second } => {
                let message = format!("`{key}` is set already in {}", sources.place(&first));
                sources.mistake(&second, message)
            }
        })?;
    }
    let config = T::deserialize(merged.into_deserializer()).map_err(|error| sources.error(&error))?;
    Ok((config, sources))
}

fn read(path: &Path) -> Result<Sources, ConfigError> {
    let failed = |path: &Path, source| ConfigError::File { path: path.into(), source };
    let mut paths = vec![path.to_path_buf()];
    if fs::metadata(path).map_err(|error| failed(path, error))?.is_dir() {
        paths.clear();
        for entry in fs::read_dir(path).map_err(|error| failed(path, error))? {
            let name = entry.map_err(|error| failed(path, error))?.file_name();
            // Hidden files are what editors leave behind.
            let hidden = name.as_encoded_bytes().starts_with(b".");
            if !hidden && Path::new(&name).extension().is_some_and(|ending| ending == "toml") {
                paths.push(path.join(name));
            }
        }
        paths.sort();
        if paths.is_empty() {
            return Err(ConfigError::NoFiles(path.into()));
        }
    }
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let bytes = fs::read(&path).map_err(|error| failed(&path, error))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = good.iter().filter(|b| **b == b'\n').count() + 1;
            let place = Place { path: path.clone(), line: Some(line) };
            ConfigError::Mistake { place, message: "this line is not UTF-8 text".into() }
        })?;
        files.push((path, text));
    }
    Ok(Sources { path: path.into(), files })
}

/// Adds the nearest known name to a message about an unknown one.
fn explain(message: &str) -> String {
    let (Some((kind, rest)), true) = (message.split_once(" `"), message.starts_with("unknown ")) else {
        return message.into();
    };
    let Some((unknown, known)) = rest.split_once("`, expected ") else {
        return message.into();
    };
    let kind = if kind == "unknown field" { "unknown key" } else { kind };
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    match nearest(unknown, &known) {
        Some(name) => format!("{kind} `{unknown}`; did you mean `{name}`?"),
        None if known.is_empty() => format!("{kind} `{unknown}`"),
        None => format!("{kind} `{unknown}`; known here: {}", known.join(", ")),
    }
}

/// The name that `unknown` was probably meant to be.
fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let unknown = unknown.to_ascii_lowercase();
    let score = |name: &&str| {
        let name = name.to_ascii_lowercase();
        // A shortened name counts as near: `interval` for `live_interval`, `bytes` for `bytes_max`.
        let part = unknown.len() >= 3 && name.len() >= 3 && (name.contains(&unknown) || unknown.contains(&name));
        // In short names one slip is much to the other measure: `tpc` for `tcp`.
        let slip = unknown.len() >= 3 && strsim::damerau_levenshtein(&unknown, &name) <= 1;
        let by_rule = if slip {
            0.95
        } else if part {
            0.85
        } else {
            0.0
        };
        strsim::jaro_winkler(&unknown, &name).max(by_rule)
    };
    let scored = known.iter().map(|name| (score(name), *name));
    scored.filter(|(score, _)| *score >= 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

/// A duration that is written like `10s`, `5m`, `1h 30m`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HumanDuration(pub Duration);

impl FromStr for HumanDuration {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map(HumanDuration)
            .map_err(|error| format!("'{text}' is no duration ({error}); write it like \"500ms\", \"10s\" or \"5m\""))
    }
}

impl From<Duration> for HumanDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl From<HumanDuration> for Duration {
    fn from(duration: HumanDuration) -> Self {
        duration.0
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&humantime::format_duration(self.0), f)
    }
}

impl fmt::Debug for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = HumanDuration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration like \"10s\"")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<HumanDuration, E> {
                text.parse().map_err(E::custom)
            }
        }
        from.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests;
