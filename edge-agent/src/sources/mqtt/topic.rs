//! Topic patterns: filters whose levels can be captured by name. Pure: no IO, no clock.
//!
//! `site/{node}/{metric}` subscribes to `site/+/+` and gives the two levels names; `+` and `#` stay as they are.
//! The rules of matching are those of MQTT 3.1.1 and 5, section 4.7.

use std::fmt::Write;

/// Longest filter a broker takes, in bytes.
const BYTES_MAX: usize = 65_535;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Literal(String),
    Any,
    Capture(String),
    /// Only at the end.
    Rest,
}

impl Level {
    fn is_wild(&self) -> bool {
        !matches!(self, Level::Literal(_))
    }
}

/// A topic as people write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    levels: Vec<Level>,
}

/// What the named levels of a pattern are in one topic.
pub type Captures<'a> = Vec<(&'a str, &'a str)>;

impl std::str::FromStr for Pattern {
    type Err = String;

    /// Reads a pattern.
    ///
    /// # Errors
    /// With what is wrong, in words.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > BYTES_MAX || text.contains('\0') {
            return Err("a topic has 1 to 65535 bytes and no zero byte".into());
        }
        if text.starts_with("$share/") {
            return Err("$share would give each message to one of several agents; name the topic itself".into());
        }
        let parts: Vec<&str> = text.split('/').collect();
        let mut levels = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            let level = level(part)?;
            if level == Level::Rest && index + 1 != parts.len() {
                return Err("# stands for all that follows, so it can only be at the end".into());
            }
            if level != Level::Any && level.is_wild() && levels.contains(&level) {
                return Err(format!("{part} is captured twice"));
            }
            levels.push(level);
        }
        Ok(Self { levels })
    }
}

fn level(part: &str) -> Result<Level, String> {
    match part {
        "+" => return Ok(Level::Any),
        "#" => return Ok(Level::Rest),
        _ => {}
    }
    if let Some(name) = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        return is_name(name)
            .then(|| Level::Capture(name.into()))
            .ok_or_else(|| format!("{part} captures nothing: a name has the characters a-z 0-9 _, like {{node}}"));
    }
    if part.contains(['+', '#', '{', '}']) {
        return Err(format!("\"{part}\": +, # and {{name}} stand for a whole level between two slashes"));
    }
    Ok(Level::Literal(part.into()))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

impl Pattern {
    /// What is subscribed to.
    #[must_use]
    pub fn filter(&self) -> String {
        let levels = self.levels.iter().map(|level| match level {
            Level::Literal(text) => text.as_str(),
            Level::Any | Level::Capture(_) => "+",
            Level::Rest => "#",
        });
        levels.collect::<Vec<_>>().join("/")
    }

    /// The names of the captured levels.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.levels.iter().filter_map(|level| match level {
            Level::Capture(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The named levels of a topic that matches.
    #[must_use]
    pub fn captures<'a>(&'a self, topic: &'a str) -> Option<Captures<'a>> {
        if topic.starts_with('$') && self.levels[0].is_wild() {
            return None;
        }
        let (mut captures, mut parts) = (Vec::new(), topic.split('/'));
        for level in &self.levels {
            if *level == Level::Rest {
                return Some(captures);
            }
            let part = parts.next()?;
            match level {
                Level::Literal(text) if text != part => return None,
                Level::Capture(name) => captures.push((name.as_str(), part)),
                _ => {}
            }
        }
        parts.next().is_none().then_some(captures)
    }

    /// The pattern with its captured levels filled in; `+` and `#` stay: what they are makes no difference.
    #[must_use]
    pub fn filled(&self, captures: &Captures<'_>) -> String {
        let levels = self.levels.iter().map(|level| match level {
            Level::Literal(text) => text.as_str(),
            Level::Any => "+",
            Level::Rest => "#",
            Level::Capture(name) => find(captures, name).unwrap_or("+"),
        });
        levels.collect::<Vec<_>>().join("/")
    }

    /// Whether every topic that matches `other` matches this.
    #[must_use]
    pub fn covers(&self, other: &Pattern) -> bool {
        !self.is_shy_of(other) && covers(&self.levels, &other.levels)
    }

    /// Whether some topic matches both.
    #[must_use]
    pub fn overlaps(&self, other: &Pattern) -> bool {
        !self.is_shy_of(other) && !other.is_shy_of(self) && overlaps(&self.levels, &other.levels)
    }

    /// A wildcard at the start doesn't match the broker's own topics.
    fn is_shy_of(&self, other: &Pattern) -> bool {
        let dollar = matches!(&other.levels[0], Level::Literal(text) if text.starts_with('$'));
        dollar && self.levels[0].is_wild()
    }
}

fn covers(ours: &[Level], theirs: &[Level]) -> bool {
    match (ours, theirs) {
        ([Level::Rest], _) | ([], []) => true,
        ([], _) | (_, [] | [Level::Rest]) => false,
        ([Level::Literal(a), ours @ ..], [Level::Literal(b), theirs @ ..]) => a == b && covers(ours, theirs),
        ([Level::Literal(_), ..], _) => false,
        ([_, ours @ ..], [_, theirs @ ..]) => covers(ours, theirs),
    }
}

fn overlaps(a: &[Level], b: &[Level]) -> bool {
    match (a, b) {
        ([Level::Rest], _) | (_, [Level::Rest]) | ([], []) => true,
        ([], _) | (_, []) => false,
        ([Level::Literal(x), a @ ..], [Level::Literal(y), b @ ..]) => x == y && overlaps(a, b),
        ([_, a @ ..], [_, b @ ..]) => overlaps(a, b),
    }
}

/// A captured level by its name.
#[must_use]
pub fn find<'a>(captures: &Captures<'a>, name: &str) -> Option<&'a str> {
    captures.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

/// Text with captured levels put in: `{site}_{sensor}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Text, and the capture that follows it.
    parts: Vec<(String, Option<String>)>,
}

impl std::str::FromStr for Template {
    type Err = String;

    /// Reads a template.
    ///
    /// # Errors
    /// When braces don't enclose a name.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\": braces enclose the name of a captured level, like {{node}}");
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or_else(wrong)?;
            if before.contains('}') || !is_name(name) {
                return Err(wrong());
            }
            parts.push((before.to_owned(), Some(name.to_owned())));
            rest = after;
        }
        if rest.contains('}') {
            return Err(wrong());
        }
        parts.push((rest.to_owned(), None));
        Ok(Self { parts })
    }
}

impl Template {
    /// The names it needs.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|(_, name)| name.as_deref())
    }

    /// Whether it is the same for every topic.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.names().next().is_none()
    }

    /// The text; `None` when a level wasn't captured.
    #[must_use]
    pub fn render(&self, captures: &Captures<'_>) -> Option<String> {
        let mut text = String::new();
        for (before, name) in &self.parts {
            let value = name.as_deref().map_or(Some(""), |name| find(captures, name))?;
            let _ = write!(text, "{before}{value}");
        }
        Some(text)
    }
}

#[cfg(test)]
#[path = "topic_tests.rs"]
mod tests;
