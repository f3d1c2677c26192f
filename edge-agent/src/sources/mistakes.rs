//! How mistakes in what people wrote are collected: every one at once, each with its place.

use std::fmt;
use std::time::Duration;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct Mistake {
    /// `modbus "pump-bus", device "p1", point pressure (holding 40)`.
    pub place: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl Mistake {
    /// The key of the nearest table that has a name: `modbus.pump-bus.device.p1`.
    #[must_use]
    pub fn key(&self) -> String {
        let parts = self.place.split(", ").map_while(|part| part.strip_suffix('"')?.split_once(" \""));
        parts.map(|(kind, name)| format!("{kind}.{name}")).collect::<Vec<_>>().join(".")
    }
}

/// Everything that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl std::error::Error for Mistakes {}
impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// Where we are and what was found so far.
#[derive(Default)]
pub(super) struct Notes {
    place: Vec<String>,
    found: Vec<Mistake>,
}

impl Notes {
    /// What `look` finds is at `place`, inside of where we are.
    pub(super) fn within<T>(&mut self, place: String, look: impl FnOnce(&mut Self) -> T) -> T {
        self.place.push(place);
        let found = look(self);
        self.place.pop();
        found
    }

    pub(super) fn add(&mut self, problem: String) {
        self.found.push(Mistake { place: self.place.join(", "), problem });
    }

    /// The value, or the fallback with a note. What has notes is never used.
    pub(super) fn take<T>(&mut self, result: Result<T, String>, fallback: T) -> T {
        result.unwrap_or_else(|problem| {
            self.add(problem);
            fallback
        })
    }

    pub(super) fn duration(
        &mut self,
        key: &str,
        text: Option<&str>,
        default: Duration,
        range: (Duration, Duration),
    ) -> Duration {
        let Some(text) = text else { return default };
        let parsed = humantime::parse_duration(text)
            .map_err(|error| format!("{key} = \"{text}\": {error}; write it like \"10s\", \"500ms\" or \"5m\""))
            .and_then(|found| {
                let allowed = (range.0..=range.1).contains(&found);
                let (low, high) = (humantime::format_duration(range.0), humantime::format_duration(range.1));
                allowed.then_some(found).ok_or_else(|| format!("{key} = \"{text}\" is outside {low} to {high}"))
            });
        self.take(parsed, default)
    }

    /// How many there are so far.
    pub(super) fn count(&self) -> usize {
        self.found.len()
    }

    /// What was made, when nothing was wrong with it.
    ///
    /// # Errors
    /// With everything that was.
    pub(super) fn settle<T>(self, made: T) -> Result<T, Mistakes> {
        if self.found.is_empty() { Ok(made) } else { Err(Mistakes(self.found)) }
    }
}
