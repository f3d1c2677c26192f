//! Payloads → readings: one number as text, or JSON read by paths. Pure: no IO, no clock.

use super::config::{Json, Point};
use super::path::Path;
use super::stamp::Stamp;
use crate::sources::measure::{Raw, reading};
use serde_json::Value;
use shared::metric::Kind;
use shared::reading::Quality;

/// What a message says about one point.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// Which of the subscription's points.
    pub point: usize,
    /// In the canonical unit; `None` when bad.
    pub value: Option<f64>,
    /// How far it can be trusted.
    pub quality: Quality,
    /// When.
    pub stamp: Stamp,
    /// What is wrong with it.
    pub problem: Option<String>,
}

impl Said {
    /// A reading of `point` from what was found for it.
    #[must_use]
    pub fn new(point: usize, found: Result<(Option<f64>, Quality), String>, stamp: Stamp) -> Self {
        match found {
            Ok((value, quality)) => {
                let problem = (!quality.is_usable()).then(|| format!("the value is {quality}"));
                Self { point, value, quality, stamp, problem }
            }
            Err(problem) => Self { point, value: None, quality: Quality::BAD_PAYLOAD, stamp, problem: Some(problem) },
        }
    }
}

/// A payload that is one number as text: `36`, `36 m3/h`, `true`.
///
/// # Errors
/// With what is wrong, in words.
pub fn number(payload: &[u8], point: &Point) -> Result<(Option<f64>, Quality), String> {
    let text = std::str::from_utf8(payload).map_err(|_| "the payload is no text")?;
    in_text(text, point).map_err(|problem| format!("the payload is {problem}"))
}

/// Most elements that one message may have where each is read like a message.
const EACH_MAX: usize = 10_000;

/// A JSON payload. Points that it says nothing about are left out; that it says nothing about any is an error.
///
/// # Errors
/// With what is wrong with the whole of it, in words.
pub fn json(payload: &[u8], rules: &Json, points: &[(usize, &Point)]) -> Result<Vec<Said>, String> {
    let whole: Value = serde_json::from_slice(payload).map_err(|error| format!("the payload is no JSON: {error}"))?;
    let parts = match &rules.each {
        None => std::slice::from_ref(&whole),
        Some(path) => match path.find(&whole) {
            Some(Value::Array(parts)) if parts.len() <= EACH_MAX => parts.as_slice(),
            Some(Value::Array(parts)) => {
                return Err(format!("{path} has {} elements, {EACH_MAX} are the most", parts.len()));
            }
            _ => return Err(format!("there is no array at {path}")),
        },
    };
    let mut said = Vec::with_capacity(parts.len() * points.len().min(8));
    for part in parts {
        for &(index, point) in points {
            let Some(value) = point.value.find(part) else { continue };
            let stamp = stamp(point.timestamp.as_ref().or(rules.timestamp.as_ref()), rules, part, &whole);
            let mut one = Said::new(index, in_json(value, point), stamp);
            if let Some(quality) = rules.quality.as_ref().and_then(|rule| rule.of(part, &whole)) {
                one.doubt(quality);
            }
            said.push(one);
        }
    }
    if said.is_empty() && !parts.is_empty() {
        let paths: Vec<String> = points.iter().map(|(_, point)| format!("\"{}\"", point.value)).collect();
        return Err(format!("there is nothing at {}", paths.join(", ")));
    }
    Ok(said)
}

fn stamp(path: Option<&Path>, rules: &Json, part: &Value, whole: &Value) -> Stamp {
    let Some(path) = path else { return Stamp::None };
    match path.find(part).or_else(|| path.find(whole)) {
        Some(value) => Stamp::of_json(value, rules.timestamp_unit),
        None => Stamp::Unusable(format!("there is no timestamp at \"{path}\"")),
    }
}

impl Said {
    /// The sensor itself says how good it is; what is bad already stays so.
    pub fn doubt(&mut self, quality: Quality) {
        if !quality.is_usable() && self.quality.is_usable() {
            self.value = None;
            self.problem = Some(format!("the sensor says that the value is {quality}"));
            self.quality = quality;
        } else if self.quality == Quality::GOOD {
            self.quality = quality;
        }
    }
}

fn in_json(value: &Value, point: &Point) -> Result<(Option<f64>, Quality), String> {
    let found = match value {
        Value::Number(number) => {
            let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
            let raw = whole.map(Raw::Integer).or_else(|| number.as_f64().map(Raw::Float));
            raw.map(|raw| measured(raw, point)).ok_or_else(|| "no number".into())
        }
        Value::Bool(on) => flag(*on, point),
        Value::String(text) => in_text(text, point),
        Value::Null => Ok((None, Quality::BAD_SENSOR_FAULT)),
        Value::Array(_) => Err("an array".into()),
        Value::Object(_) => Err("an object".into()),
    };
    found.map_err(|problem| format!("\"{}\" is {problem}", point.value))
}

fn in_text(text: &str, point: &Point) -> Result<(Option<f64>, Quality), String> {
    let text = text.trim();
    if let Some(on) = word(text) {
        return flag(on, point);
    }
    let in_unit = || text.strip_suffix(point.unit.as_str()).and_then(|bare| raw(bare.trim_end()));
    match raw(text).or_else(in_unit) {
        Some(raw) => Ok(measured(raw, point)),
        None if point.unit.is_empty() => Err("no number".into()),
        None => Err(format!("no number, alone or in {}", point.unit)),
    }
}

fn raw(text: &str) -> Option<Raw> {
    text.parse().map(Raw::Integer).or_else(|_| text.parse().map(Raw::Float)).ok()
}

fn word(text: &str) -> Option<bool> {
    let is = |words: [&str; 2]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(["true", "on"]) { Some(true) } else { is(["false", "off"]).then_some(false) }
}

/// What a yes or no says about a point.
///
/// # Errors
/// When the point isn't a state.
pub fn flag(on: bool, point: &Point) -> Result<(Option<f64>, Quality), String> {
    if point.measure.metric.kind != Kind::State {
        return Err(format!("{on}, and {} is no state", point.measure.metric.name));
    }
    Ok(measured(Raw::Integer(on.into()), point))
}

/// The reading that a raw number is.
#[must_use]
pub fn measured(raw: Raw, point: &Point) -> (Option<f64>, Quality) {
    let measure = &point.measure;
    reading(raw, &measure.scaling, measure.conversion, measure.range)
}

/// How a sensor's words about itself are understood.
#[derive(Clone, Debug, PartialEq)]
pub struct QualityRule {
    /// Where they stand.
    pub path: Path,
    /// Texts that mean good.
    pub good: Vec<String>,
    /// That mean bad; what is in neither list is uncertain.
    pub bad: Vec<String>,
}

impl QualityRule {
    fn of(&self, part: &Value, whole: &Value) -> Option<Quality> {
        let said = match self.path.find(part).or_else(|| self.path.find(whole))? {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let has = |list: &[String]| list.iter().any(|known| known.eq_ignore_ascii_case(said.trim()));
        Some(match () {
            () if has(&self.good) => Quality::GOOD,
            () if has(&self.bad) => Quality::BAD_SENSOR_FAULT,
            () => Quality::UNCERTAIN_SENSOR,
        })
    }
}

/// The start of what somebody sent, fit to be shown: at most 64 bytes, everything but plain text escaped.
#[must_use]
pub fn excerpt(bytes: &[u8]) -> String {
    const SHOWN: usize = 64;
    let start = &bytes[..bytes.len().min(SHOWN)];
    let mut text = String::with_capacity(start.len() + 8);
    for chunk in start.utf8_chunks() {
        for c in chunk.valid().chars() {
            if matches!(c, '"' | '\'') { text.push(c) } else { text.extend(c.escape_debug()) }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    if bytes.len() > SHOWN {
        text.push('…');
    }
    text
}

#[cfg(test)]
#[path = "payload_tests.rs"]
mod tests;
