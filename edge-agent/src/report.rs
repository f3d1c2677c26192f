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

/// What was last sent of a point.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Sent {
    at_us: i64,
    value: Option<f64>,
    quality: shared::reading::Quality,
}

/// Decides, point by point, what is worth sending.
#[derive(Debug, Default)]
pub struct Filter {
    sent: std::collections::HashMap<shared::catalogue::PointNo, Sent>,
}

impl Filter {
    /// Whether this reading must be sent; a yes is remembered. `rule` is the deadband and the maximum silence in
    /// microseconds; without a rule, or with a silence of 0, everything is sent. `at_us` is on the point's own
    /// time axis: a step back there sends, since it can't be said how long it was silent.
    pub fn wants(&mut self, rule: Option<(Deadband, i64)>, sample: &crate::sample::Sample) -> bool {
        let Some((deadband, silence_us)) = rule.filter(|(_, silence)| *silence > 0) else { return true };
        let at_us = match sample.at {
            crate::sample::At::Mono(at) => at,
            crate::sample::At::Utc(at) => at.0,
        };
        let now = Sent { at_us, value: sample.value, quality: sample.quality };
        let unchanged = self.sent.get(&sample.point).is_some_and(|sent| {
            let silent = at_us.saturating_sub(sent.at_us);
            let near = match (sent.value, now.value) {
                (Some(sent), Some(now)) => deadband.holds(sent, now),
                (None, None) => true,
                _ => false,
            };
            near && sent.quality == now.quality && (0..silence_us).contains(&silent)
        });
        if !unchanged {
            self.sent.insert(sample.point, now);
        }
        !unchanged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{At, Sample};
    use shared::catalogue::PointNo;
    use shared::reading::Quality;

    fn sample(seconds: i64, value: Option<f64>, quality: Quality) -> Sample {
        Sample { point: PointNo(0), at: At::Mono(seconds * 1_000_000), value, quality }
    }

    #[track_caller]
    fn check(rule: Option<(Deadband, i64)>, steps: &[(i64, f64, bool)]) {
        let mut filter = Filter::default();
        for &(at, value, sent) in steps {
            assert_eq!(filter.wants(rule, &sample(at, Some(value), Quality::GOOD)), sent, "{value} at {at} s");
        }
    }

    #[test]
    fn off_by_default() {
        check(None, &[(0, 1.0, true), (1, 1.0, true)]);
    }

    #[test]
    fn a_slow_drift_is_sent_once_it_has_left_the_band_around_the_value_last_sent() {
        let rule = Some((Deadband::Absolute(0.25), 600_000_000));
        check(rule, &[(0, 1.0, true), (1, 1.125, false), (2, 1.25, false), (3, 1.375, true), (4, 1.25, false)]);
    }

    #[test]
    fn percent_is_of_the_value_last_sent() {
        let rule = Some((Deadband::Percent(10.0), 600_000_000));
        check(rule, &[(0, 100.0, true), (1, 109.0, false), (2, 111.0, true), (3, 101.0, false), (4, -111.0, true)]);
    }

    #[test]
    fn an_unchanged_value_is_sent_after_the_maximum_silence() {
        check(Some((Deadband::Absolute(1.0), 10_000_000)), &[(0, 1.0, true), (9, 1.0, false), (10, 1.0, true)]);
    }

    #[test]
    fn a_change_of_quality_is_sent_and_a_lasting_failure_is_not_repeated() {
        let rule = Some((Deadband::Absolute(1.0), 600_000_000));
        let mut filter = Filter::default();
        assert!(filter.wants(rule, &sample(0, Some(1.0), Quality::GOOD)));
        assert!(filter.wants(rule, &sample(1, None, Quality::BAD_TIMEOUT)));
        assert!(!filter.wants(rule, &sample(2, None, Quality::BAD_TIMEOUT)));
        assert!(filter.wants(rule, &sample(3, None, Quality::BAD_LINK)));
        assert!(filter.wants(rule, &sample(4, Some(1.0), Quality::GOOD)));
    }

    #[test]
    fn a_deadband_is_a_number_or_a_share() {
        assert_eq!("1 %".parse(), Ok(Deadband::Percent(1.0)));
        assert_eq!("0.1".parse(), Ok(Deadband::Absolute(0.1)));
        assert!("-1".parse::<Deadband>().is_err());
    }
}
