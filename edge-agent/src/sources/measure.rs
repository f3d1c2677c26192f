//! What all sources do alike with a number that a device said: scale, unit, range; and what people write about it.

use super::mistakes::Notes;
use crate::report::Deadband;
use shared::ids::NodeId;
use shared::metric::{Conversion, METRICS, Metric};
use shared::reading::{Quality, sanitise};
use std::time::Duration;

/// The largest integer below which every integer is a double.
const EXACT_MAX: i128 = 1 << 53;

/// What a device said, before scale and unit.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Raw {
    /// An integer, exactly.
    Integer(i128),
    /// A floating point number, NaN and infinity included.
    Float(f64),
}

/// `raw * scale + offset`, in a way that keeps decimal scales exact.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Scaling {
    scale: f64,
    offset: f64,
    /// The scale's inverse when that is a whole number: 123 / 10 is 12.3, 123 * 0.1 is 12.300000000000001.
    divisor: Option<f64>,
}

impl Scaling {
    /// Scale first, offset then, both in the unit the device speaks.
    #[must_use]
    pub fn new(scale: f64, offset: f64) -> Self {
        let inverse = (1.0 / scale).round();
        let whole = inverse.abs() > 1.0 && inverse.abs() <= 1e15 && 1.0 / inverse == scale;
        Self { scale, offset, divisor: whole.then_some(inverse) }
    }

    pub(super) fn apply(&self, value: f64) -> f64 {
        let scaled = match self.divisor {
            Some(divisor) => value / divisor,
            None => value * self.scale,
        };
        scaled + self.offset
    }
}

/// The reading that a raw number is: scaled, in the canonical unit, and bad beyond `range`.
#[must_use]
pub fn reading(raw: Raw, scaling: &Scaling, conversion: Conversion, range: (f64, f64)) -> (Option<f64>, Quality) {
    let (value, quality) = match raw {
        Raw::Integer(number) if number.abs() > EXACT_MAX => (number as f64, Quality::UNCERTAIN_PRECISION),
        Raw::Integer(number) => (number as f64, Quality::GOOD),
        Raw::Float(number) => (number, Quality::GOOD),
    };
    let value = conversion.apply(scaling.apply(value));
    if value.is_finite() && !(range.0..=range.1).contains(&value) {
        return (None, Quality::BAD_OUT_OF_RANGE);
    }
    sanitise(Some(value), quality)
}

/// What people write about a measurement, whatever it is read from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish<'a> {
    pub(super) metric: &'a str,
    pub(super) unit: Option<&'a str>,
    pub(super) scale: Option<f64>,
    pub(super) offset: Option<f64>,
    pub(super) range: Option<[f64; 2]>,
    pub(super) resolution: Option<f64>,
    pub(super) interval: Option<&'a str>,
    pub(super) deadband: Option<Deadband>,
    pub(super) max_silence: Option<&'a str>,
}

/// A measurement as it was understood.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Measure {
    pub(super) metric: &'static Metric,
    pub(super) scaling: Scaling,
    pub(super) conversion: Conversion,
    pub(super) range: (f64, f64),
    pub(super) resolution_exp: Option<i8>,
    pub(super) interval: Duration,
    pub(super) deadband: Option<Deadband>,
    /// Zero without a deadband.
    pub(super) max_silence: Duration,
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
/// What an interval can be.
pub(super) const INTERVALS: (Duration, Duration) = (Duration::from_millis(50), DAY);

/// Checks a wish; `interval` is what it is when the wish doesn't say. `None`: the metric isn't known.
pub(super) fn resolve(wish: &Wish<'_>, interval: Duration, notes: &mut Notes) -> Option<Measure> {
    let Some(metric) = Metric::named(wish.metric) else {
        notes.add(unknown_metric(wish.metric));
        return None;
    };
    let (scale, offset) = (wish.scale.unwrap_or(1.0), wish.offset.unwrap_or(0.0));
    for (key, number) in [("scale", scale), ("offset", offset)] {
        if !number.is_finite() || (key == "scale" && number == 0.0) {
            notes.add(format!("{key} = {number} is of no use"));
        }
    }
    let unit = wish.unit.unwrap_or(metric.unit);
    let conversion = metric.conversion(unit).ok_or_else(|| unknown_unit(metric, unit));
    let conversion = notes.take(conversion, Conversion { factor: 1.0, offset: 0.0 });
    let range = wish.range.map_or(metric.range, |[low, high]| (low, high));
    if !(range.0.is_finite() && range.1.is_finite() && range.0 < range.1) {
        notes.add(format!("range = [{}, {}] must be two numbers, the lower one first", range.0, range.1));
    }
    let resolution_exp = wish.resolution.and_then(|step| notes.take(exponent(step, metric.unit).map(Some), None));
    let interval = notes.duration("interval", wish.interval, interval, INTERVALS);
    if wish.max_silence.is_some() && wish.deadband.is_none() {
        notes.add("max_silence needs a deadband; without one every reading is sent".into());
    }
    let max_silence = notes.duration("max_silence", wish.max_silence, 600 * SECOND, (SECOND, 7 * DAY));
    Some(Measure {
        metric,
        scaling: Scaling::new(scale, offset),
        conversion,
        range,
        resolution_exp,
        interval,
        deadband: wish.deadband,
        max_silence: if wish.deadband.is_some() { max_silence } else { Duration::ZERO },
    })
}

/// Notes a channel that can't be one.
pub(super) fn check_channel(channel: &str, notes: &mut Notes) {
    if !channel.is_empty() && NodeId::new(channel).is_err() {
        notes.add(format!("channel = \"{channel}\": up to 64 of A-Z a-z 0-9 _ . - are allowed"));
    }
}

fn unknown_metric(name: &str) -> String {
    let distance = |known: &&Metric| strsim::damerau_levenshtein(name, known.name);
    let near = METRICS.iter().min_by_key(distance).filter(|known| distance(known) <= known.name.len().max(3) / 2);
    match near {
        Some(known) => format!("metric \"{name}\" is not known; did you mean \"{}\"?", known.name),
        None => {
            let all: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
            format!("metric \"{name}\" is not known; there are {}", all.join(", "))
        }
    }
}

fn unknown_unit(metric: &Metric, unit: &str) -> String {
    let units = metric.units().join(", ");
    format!("unit \"{unit}\" can't be converted to {}'s {}; it can be {units}", metric.name, metric.unit)
}

/// -2 for 0.01.
fn exponent(step: f64, unit: &str) -> Result<i8, String> {
    if !step.is_finite() || step <= 0.0 {
        return Err(format!("resolution = {step} must be a power of ten like 0.01"));
    }
    let exp = step.log10().round();
    if !(-12.0..=12.0).contains(&exp) {
        return Err(format!("resolution = {step} is outside 1e-12 to 1e12"));
    }
    if (step / 10f64.powf(exp) - 1.0).abs() > 1e-9 {
        let finer = 10f64.powf(step.log10().floor());
        return Err(format!("resolution = {step} {unit} is no power of ten; the next finer one is {finer}"));
    }
    Ok(exp as i8)
}
