//! The past on its way into the collector: by the commands that people have for it, while everything runs. What was done
//! is noted beside the files, so that another start goes on where this one ended.

use super::api::Client;
use super::kept;
use super::past::{self, Span};
use super::programs;
use super::sensors::SENSORS;
use super::setup::Place;
use super::table::find;
use anyhow::Context;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use shared::reading::Timestamp;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// In the order in which they are brought in: what pages show first comes first.
const FILES: [&str; 3] = [past::ALL, past::BAD, past::FLOW];
/// What is made of it.
const JOBS: [&str; 3] = ["anomaly_detection", "forecast", "data_quality"];
/// Between looks at how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How far the past is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stage {
    /// In words; empty when there is nothing to say.
    pub(crate) words: String,
    /// Nothing more comes.
    pub(crate) is_over: bool,
}

/// A past that was made, and what became of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Past {
    #[serde(skip)]
    folder: PathBuf,
    /// How far it reaches, in words.
    reach: String,
    readings: u64,
    /// Files that are in.
    brought: Vec<String>,
    /// Jobs that are done.
    done: Vec<String>,
}

/// Where it is in a data folder.
fn folder(data: &Path) -> PathBuf {
    data.join("past")
}

impl Past {
    /// Makes one, with its end as what the network is like now.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn make(place: &Place, seed: u64, zone: &TimeZone, span: &Span) -> anyhow::Result<Self> {
        let (folder, began) = (folder(&place.data), Instant::now());
        let write = || -> anyhow::Result<Self> {
            fs::create_dir_all(&folder)?;
            let (end, readings) = past::make(&folder, seed, zone, span)?;
            place.kept().save(&end)?;
            let reach = format!("{} of all series, {} of the districts' flow", words(span.all), words(span.flow));
            let past = Self { folder: folder.clone(), reach, readings, brought: Vec::new(), done: Vec::new() };
            past.note()?;
            Ok(past)
        };
        let past = write().with_context(|| folder.display().to_string())?;
        say!("past: {}, {} readings, made in {:.1} s", past.reach, past.readings, began.elapsed().as_secs_f64());
        Ok(past)
    }

    /// The one that was made at an earlier start.
    pub(crate) fn earlier(place: &Place) -> Option<Self> {
        let folder = folder(&place.data);
        let past: Self = serde_json::from_slice(&fs::read(folder.join("past.json")).ok()?).ok()?;
        Some(Self { folder, ..past })
    }

    /// Whether nothing is left to do.
    fn is_through(&self) -> bool {
        FILES.iter().all(|file| self.brought.iter().any(|name| name == file))
            && JOBS.iter().all(|job| self.done.iter().any(|name| name == job))
    }

    fn note(&self) -> anyhow::Result<()> {
        Ok(kept::replace(&self.folder.join("past.json"), self)?)
    }

    /// Brings in what isn't there yet, lets the jobs look at it, and then waits for ever.
    pub(crate) async fn bring_in(mut self, client: &Client, place: &Place, config: &Path, tell: &watch::Sender<Stage>) {
        if !self.is_through() {
            let told = match self.work(client, place, config, tell).await {
                Ok(took) => took,
                Err(error) => {
                    let why = format!("{error:#}");
                    let why = why.lines().next().unwrap_or_default(); // the rest is in the log
                    format!("past: not brought in: {why} It is tried again at the next start")
                }
            };
            tell.send_replace(Stage { words: told, is_over: true });
        }
        std::future::pending().await
    }

    async fn work(
        &mut self,
        client: &Client,
        place: &Place,
        config: &Path,
        tell: &watch::Sender<Stage>,
    ) -> anyhow::Result<String> {
        let say = |words| drop(tell.send_replace(Stage { words, is_over: false }));
        // The series are the agent's; a file that came before it would make them its own.
        wait_for_series(client).await?;
        let began = Instant::now();
        let config = config.to_string_lossy();
        let (program, log) = (place.program("collector"), place.log("past"));
        for file in FILES {
            if self.brought.iter().any(|name| name == file) {
                continue;
            }
            let path = self.folder.join(file);
            let text = path.to_string_lossy();
            let arguments =
                ["import", &text, "--config", &config, "--author", "demo", "--reason", "the network's past", "--json"];
            let importing = programs::run_logged(&program, &arguments, &log);
            tokio::pin!(importing);
            loop {
                say(format!("past: {}  {}", bar(file, share(&path)), self.reach));
                tokio::select! {
                    outcome = &mut importing => break outcome?,
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
            self.brought.push(file.into());
            self.note()?;
        }
        let (imported, began) = (began.elapsed(), Instant::now());
        for job in JOBS {
            if self.done.iter().any(|name| name == job) {
                continue;
            }
            say(format!("past: it is in; `collector jobs run {job}` looks at it"));
            // The scheduler may be at it already.
            programs::run_logged(&program, &["jobs", "watch", "--config", &config], &log).await?;
            programs::run_logged(&program, &["jobs", "run", job, "--config", &config], &log).await?;
            self.done.push(job.into());
            self.note()?;
        }
        let (imported, looked) = (imported.as_secs_f64(), began.elapsed().as_secs_f64());
        Ok(format!(
            "past: {}, {} readings, brought in in {imported:.1} s; anomalies, forecasts and quality in {looked:.1} s",
            self.reach, self.readings
        ))
    }
}

/// Until the agent's series are known.
async fn wait_for_series(client: &Client) -> anyhow::Result<()> {
    loop {
        let latest = client.latest().await?;
        if SENSORS.iter().all(|sensor| find(&latest.items, sensor).is_some()) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// How much of a file is in: `collector import` keeps that beside it.
fn share(file: &Path) -> f64 {
    let mut mark = file.as_os_str().to_owned();
    mark.push(".import");
    let mark: Option<serde_json::Value> = fs::read(mark).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let size = fs::metadata(file).map_or(0, |about| about.len());
    mark.and_then(|mark| mark["bytes"].as_f64()).unwrap_or(0.0) / size.max(1) as f64
}

/// `all.csv ▓▓▓▓▓░░░░░ 50 %`
fn bar(file: &str, share: f64) -> String {
    const WIDTH: usize = 10;
    let share = share.clamp(0.0, 1.0);
    let full = (share * WIDTH as f64).round() as usize;
    format!("{file} {}{} {:.0} %", "▓".repeat(full), "░".repeat(WIDTH - full), share * 100.0)
}

/// `9 weeks`, `2 years`, `36 h`
fn words(length: Duration) -> String {
    let days = length.as_secs_f64() / 86_400.0;
    match days {
        d if d >= 365.0 => format!("{:.0} years", d / 365.25),
        d if d >= 14.0 => format!("{:.0} weeks", d / 7.0),
        d if d >= 2.0 => format!("{d:.0} days"),
        d => format!("{:.0} h", d * 24.0),
    }
}

/// Whether a collector was ever started in this folder.
pub(crate) fn is_fresh(place: &Place) -> bool {
    !place.data.join("collector").exists()
}

/// How far a past that ends now reaches.
pub(crate) fn span(all: Duration, flow: Duration) -> Span {
    Span { until: Timestamp::wall_clock(), all, flow: flow.max(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_is_is_what_the_import_notes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("all.csv");
        fs::write(&file, [b'x'; 200]).unwrap();
        assert_eq!(share(&file), 0.0);
        fs::write(folder.path().join("all.csv.import"), r#"{"of": "", "bytes": 50}"#).unwrap();
        assert_eq!(share(&file), 0.25);
        assert_eq!(bar("all.csv", 0.25), "all.csv ▓▓▓░░░░░░░ 25 %");
    }

    #[test]
    fn lengths_are_said_in_units_that_people_use() {
        let hour = |n: u64| words(Duration::from_secs(n * 3_600));
        assert_eq!([hour(36), hour(72), hour(9 * 168), hour(17_532)], ["36 h", "3 days", "9 weeks", "2 years"]);
    }
}
