//! Metrics, their canonical units, and conversion into them. Conversion happens once, at the edge.

use serde::{Deserialize, Serialize};

/// How a series behaves between readings, and so how it may be summed up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = SeriesKind))]
pub enum Kind {
    /// A level at a moment; averages are time-weighted.
    Gauge,
    /// A running total that may be reset; its growth is what counts.
    Counter,
    /// One of few numbers, like 0 = closed, 1 = open; never averaged.
    State,
}

/// A metric of the table: name, canonical unit, kind, and the range beyond which a value is nonsense.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Metric {
    /// The name in configs, queries and stores.
    pub name: &'static str,
    /// The unit every stored value has.
    pub unit: &'static str,
    /// Its behaviour.
    pub kind: Kind,
    /// Lowest and highest believable value, in the canonical unit.
    pub range: (f64, f64),
}

const fn metric(name: &'static str, unit: &'static str, kind: Kind, low: f64, high: f64) -> Metric {
    Metric { name, unit, kind, range: (low, high) }
}

/// Every metric this version knows.
pub const METRICS: &[Metric] = &[
    metric("flow_rate", "L/s", Kind::Gauge, -50_000.0, 50_000.0),
    metric("pressure", "bar", Kind::Gauge, -1.5, 400.0),
    metric("level", "m", Kind::Gauge, -100.0, 1_000.0),
    metric("temperature", "°C", Kind::Gauge, -60.0, 300.0),
    metric("total_volume", "m³", Kind::Counter, -1e15, 1e15),
    metric("chlorine", "mg/L", Kind::Gauge, 0.0, 100.0),
    metric("ph", "pH", Kind::Gauge, 0.0, 14.0),
    metric("turbidity", "NTU", Kind::Gauge, 0.0, 100_000.0),
    metric("conductivity", "µS/cm", Kind::Gauge, 0.0, 1e6),
    metric("power", "kW", Kind::Gauge, -1e6, 1e6),
    metric("energy", "kWh", Kind::Counter, -1e15, 1e15),
    metric("voltage", "V", Kind::Gauge, -1e6, 1e6),
    metric("current", "A", Kind::Gauge, -1e6, 1e6),
    metric("frequency", "Hz", Kind::Gauge, 0.0, 1e6),
    metric("speed", "rpm", Kind::Gauge, -1e6, 1e6),
    metric("position", "%", Kind::Gauge, -10.0, 110.0),
    metric("humidity", "%", Kind::Gauge, 0.0, 100.0),
    metric("rain", "mm", Kind::Gauge, 0.0, 10_000.0),
    metric("running", "1", Kind::State, 0.0, 1.0),
    metric("alarm", "1", Kind::State, 0.0, 1e9),
    metric("state", "1", Kind::State, -1e9, 1e9),
];

impl Metric {
    /// The metric of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Metric> {
        METRICS.iter().find(|m| m.name == name)
    }

    /// How a value in `unit` becomes one in the canonical unit; `None` when it can't.
    #[must_use]
    pub fn conversion(&self, unit: &str) -> Option<Conversion> {
        if unit == self.unit {
            return Some(Conversion { factor: 1.0, offset: 0.0 });
        }
        let row = CONVERSIONS.iter().find(|(to, from, ..)| *to == self.unit && from.contains(&unit))?;
        Some(Conversion { factor: row.2, offset: row.3 })
    }

    /// Every unit that converts into this metric's own, itself first; for error messages.
    #[must_use]
    pub fn units(&self) -> Vec<&'static str> {
        let others =
            CONVERSIONS.iter().filter(|(to, ..)| *to == self.unit).flat_map(|(_, from, ..)| from.iter().copied());
        std::iter::once(self.unit).chain(others).collect()
    }
}

/// `canonical = value * factor + offset`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Conversion {
    /// Multiplied first.
    pub factor: f64,
    /// Added then, in the canonical unit.
    pub offset: f64,
}

impl Conversion {
    /// The value in the canonical unit.
    #[must_use]
    pub fn apply(&self, value: f64) -> f64 {
        value * self.factor + self.offset
    }
}

/// (canonical unit, other spellings and units, factor, offset). Factors are exact by definition of the units
/// (SI Brochure, 9th ed.; NIST SP 811 for psi, US gallon and inch).
const CONVERSIONS: &[(&str, &[&str], f64, f64)] = &[
    ("L/s", &["l/s", "lps", "LPS"], 1.0, 0.0),
    ("L/s", &["m3/h", "m³/h"], 1.0 / 3.6, 0.0),
    ("L/s", &["m3/s", "m³/s"], 1000.0, 0.0),
    ("L/s", &["L/min", "l/min"], 1.0 / 60.0, 0.0),
    ("L/s", &["L/h", "l/h"], 1.0 / 3600.0, 0.0),
    ("L/s", &["m3/d", "m³/d", "m3/day"], 1000.0 / 86_400.0, 0.0),
    ("L/s", &["gpm"], 3.785_411_784 / 60.0, 0.0),
    ("bar", &["kPa"], 0.01, 0.0),
    ("bar", &["Pa"], 1e-5, 0.0),
    ("bar", &["MPa"], 10.0, 0.0),
    ("bar", &["mbar", "hPa"], 0.001, 0.0),
    ("bar", &["psi"], 0.068_947_572_931_683_6, 0.0),
    ("bar", &["mH2O", "mWC"], 0.098_066_5, 0.0),
    ("m", &["cm"], 0.01, 0.0),
    ("m", &["mm"], 0.001, 0.0),
    ("m", &["ft"], 0.3048, 0.0),
    ("°C", &["C", "degC"], 1.0, 0.0),
    ("°C", &["K"], 1.0, -273.15),
    ("°C", &["°F", "F", "degF"], 5.0 / 9.0, -160.0 / 9.0),
    ("m³", &["m3"], 1.0, 0.0),
    ("m³", &["L", "l"], 0.001, 0.0),
    ("m³", &["hL", "hl"], 0.1, 0.0),
    ("m³", &["gal"], 0.003_785_411_784, 0.0),
    ("mg/L", &["mg/l", "ppm"], 1.0, 0.0),
    ("NTU", &["FNU"], 1.0, 0.0),
    ("µS/cm", &["uS/cm"], 1.0, 0.0),
    ("µS/cm", &["mS/cm"], 1000.0, 0.0),
    ("kW", &["W"], 0.001, 0.0),
    ("kW", &["MW"], 1000.0, 0.0),
    ("kWh", &["Wh"], 0.001, 0.0),
    ("kWh", &["MWh"], 1000.0, 0.0),
    ("V", &["mV"], 0.001, 0.0),
    ("V", &["kV"], 1000.0, 0.0),
    ("A", &["mA"], 0.001, 0.0),
    ("rpm", &["1/min"], 1.0, 0.0),
    ("%", &["percent"], 1.0, 0.0),
    ("mm", &["cm"], 10.0, 0.0),
    ("1", &["bool", ""], 1.0, 0.0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(metric: &str, unit: &str, value: f64, canonical: f64) {
        let conversion = Metric::named(metric).unwrap().conversion(unit).unwrap();
        let got = conversion.apply(value);
        assert!(
            (got - canonical).abs() < 1e-9 * canonical.abs().max(1.0),
            "{value} {unit} gave {got}, not {canonical}"
        );
    }

    #[test]
    fn units_convert_into_the_canonical_one() {
        check("flow_rate", "m3/h", 36.0, 10.0);
        check("flow_rate", "L/min", 600.0, 10.0);
        check("pressure", "kPa", 450.0, 4.5);
        check("pressure", "psi", 14.503_773_773_020_923, 1.0);
        check("temperature", "°F", 212.0, 100.0);
        check("temperature", "K", 273.15, 0.0);
        check("total_volume", "L", 1500.0, 1.5);
    }

    #[test]
    fn a_unit_of_another_dimension_is_refused() {
        assert_eq!(Metric::named("pressure").unwrap().conversion("m3/h"), None);
    }
}
