//! Report by exception: which readings are worth sending. Pure: no clock, no IO.

use serde::{Deserialize, Deserializer, de};

/// How far a value must move before it is sent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Deadband {
    /// By more than this, in the canonical unit.
    Absolute(f64),
    /// By more than this share of the value last sent, in percent.
    Percent(f64),
}

impl Deadband {
    /// Whether the step from `sent` to `now` is too small to be sent.
    #[must_use]
    pub fn holds(self, sent: f64, now: f64) -> bool {
        let width = match self {
            Deadband::Absolute(width) => width,
            Deadband::Percent(percent) => sent.abs() * percent / 100.0,
        };
        (now - sent).abs() <= width
    }
}

impl std::str::FromStr for Deadband {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (number, percent) = text.trim().strip_suffix('%').map_or((text.trim(), false), |n| (n.trim(), true));
        match number.parse::<f64>() {
            Ok(width) if width.is_finite() && width >= 0.0 => {
                Ok(if percent { Deadband::Percent(width) } else { Deadband::Absolute(width) })
            }
            _ => Err(format!("'{text}' is no deadband: a number from 0, like 0.1, or a share, like \"1%\"")),
        }
    }
}

impl<'de> Deserialize<'de> for Deadband {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(f64),
            Text(String),
        }
        let text = match Raw::deserialize(deserializer)? {
            Raw::Number(number) => number.to_string(),
            Raw::Text(text) => text,
        };
        text.parse().map_err(de::Error::custom)
    }
}
