//! Logs of the program and counters about it.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde::{Deserialize, Serialize};
use std::io::{self, IsTerminal};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, registry, util::SubscriberInitExt};

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people; coloured on a terminal only.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Why logs can't be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level is none.
    #[error("log level '{level}': {why}; try error, warn, info, debug or trace, or like 'info,shared::spool=debug'")]
    Level {
        /// What was given.
        level: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Starts logs to standard error. A second call changes nothing: the first one's format and level stay.
///
/// # Errors
/// When `level` is neither a level nor a list of `target=level`.
pub fn init(format: LogFormat, level: &str) -> Result<(), TelemetryError> {
    let filter = filter(level)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let outcome = match format {
        LogFormat::Text => {
            let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            registry().with(filter).with(lines.with_ansi(colour)).try_init()
        }
        LogFormat::Json => registry().with(filter).with(lines.json().flatten_event(true)).try_init(),
    };
    // The only failure is that somebody was first, as the next test in the same process finds.
    let _ = outcome;
    Ok(())
}

/// Lets through what would otherwise fill the log: one line in `every`, and with it how many were held back.
#[derive(Debug)]
pub struct Seldom {
    every: Duration,
    last: Mutex<(Option<Instant>, u64)>,
}

impl Seldom {
    /// One in so long.
    #[must_use]
    pub const fn new(every: Duration) -> Self {
        Self { every, last: Mutex::new((None, 0)) }
    }

    /// `Some(held back since the last)` when it may be said now.
    pub fn may(&self) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0.is_some_and(|at| at.elapsed() < self.every) {
            last.1 += 1;
            return None;
        }
        last.0 = Some(Instant::now());
        Some(std::mem::take(&mut last.1))
    }
}

/// Whether `level` is one that [`init`] takes.
///
/// # Errors
/// As [`init`].
pub fn check_level(level: &str) -> Result<(), TelemetryError> {
    filter(level).map(|_| ())
}

fn filter(level: &str) -> Result<EnvFilter, TelemetryError> {
    let bad = |why: String| TelemetryError::Level { level: level.into(), why };
    if level.trim().is_empty() {
        return Err(bad("it is empty".into())); // or nothing at all would be logged
    }
    // A lone word that is no level would be taken for a target and silently switch everything else off.
    let lone = !level.contains(['=', ',', '[']);
    if lone && level.parse::<tracing_subscriber::filter::LevelFilter>().is_err() {
        return Err(bad("no level of that name".into()));
    }
    EnvFilter::builder().parse(level).map_err(|error| bad(error.to_string()))
}

/// Upper ends of what durations are counted in, seconds.
const SECONDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0];

/// The program's counters and gauges as Prometheus text. The first call starts the counting; until then what
/// `metrics` is told is lost.
pub fn metrics() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            // Buckets, since quantiles of the last minute are 0 when nothing was measured in it, and don't add up over collectors.
            let builder = PrometheusBuilder::new().set_buckets(&SECONDS);
            let recorder = builder.unwrap_or_else(|_| PrometheusBuilder::new()).build_recorder(); // they aren't empty
            let handle = recorder.handle();
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::warn!("metrics are recorded elsewhere in this process; /metrics stays empty");
            }
            handle
        })
        .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_a_level_or_a_list_and_nothing_else() {
        for good in ["info", "DEBUG", "off", "info,shared::spool=debug", "edge_agent=trace"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["", "loud", "info,shared=loud", "shared::spool"] {
            let said = filter(bad).unwrap_err().to_string();
            assert!(said.starts_with(&format!("log level '{bad}': ")), "{said}");
        }
    }

    #[test]
    fn a_second_start_changes_nothing_and_a_wrong_one_is_told_even_then() {
        assert!(init(LogFormat::Json, "error").is_ok());
        assert!(init(LogFormat::Text, "error").is_ok());
        assert!(init(LogFormat::Text, "loud").is_err());
    }

    #[test]
    fn what_is_said_seldom_says_how_often_it_was_held_back() {
        let never_again = Seldom::new(Duration::from_secs(3600));
        assert_eq!([never_again.may(), never_again.may(), never_again.may()], [Some(0), None, None]);
        let always = Seldom::new(Duration::ZERO);
        assert_eq!([always.may(), always.may()], [Some(0), Some(0)]);
        always.last.lock().unwrap().1 = 7;
        assert_eq!(always.may(), Some(7));
    }

    #[test]
    fn what_is_counted_shows_in_every_handle() {
        let (first, second) = (metrics(), metrics());
        metrics::counter!("telemetry_test_total", "kind" => "a").increment(3);
        for handle in [first, second] {
            assert!(handle.render().contains("telemetry_test_total{kind=\"a\"} 3"), "{}", handle.render());
        }
    }

    #[test]
    fn a_format_is_read_by_its_name() {
        assert_eq!(serde_json::from_str::<LogFormat>("\"text\"").unwrap(), LogFormat::Text);
        assert_eq!(serde_json::from_str::<LogFormat>("\"json\"").unwrap(), LogFormat::Json);
    }
}
