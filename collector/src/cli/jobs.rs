//! `collector jobs`: what the running collector's scheduler does, asked over its API.

use super::Where;
use super::client::{Api, escaped};
use super::print::{self, GREEN, RED, YELLOW};
use anstream::{print, println};
use anstyle::Style;
use anyhow::{Context, bail};
use clap::Subcommand;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::time::Duration;

/// The newest runs.
const NEWEST: &str = "jobs/runs?limit=100";
/// Between looks at a run.
const LOOK_EVERY: Duration = Duration::from_millis(500);

const WATCH_EXAMPLES: &str = "\
Examples:
  collector jobs watch
  collector jobs watch --json | jq -r 'select(.status == \"failed\") | .job'

With --json the last line of a run says how it ended; when nothing is at work, nothing is printed.";

#[derive(Debug, Subcommand)]
pub(super) enum JobsCommand {
    /// What there is, when it is due, and what came of it last
    #[command(after_help = "Example:\n  collector jobs list --config collector.toml")]
    List {
        #[command(flatten)]
        place: Where,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Start a job now, and show how far it is until it ends
    #[command(after_help = "Example:\n  collector jobs run data_quality --config collector.toml")]
    Run {
        /// The job's name
        name: String,
        #[command(flatten)]
        place: Where,
        /// Don't wait for its end
        #[arg(long)]
        detach: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// What came of earlier runs, newest first
    #[command(after_help = "Example:\n  collector jobs history data_quality --limit 10")]
    History {
        /// Of this job only
        name: Option<String>,
        #[command(flatten)]
        place: Where,
        /// How many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=2000))]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what is at work, until nothing is
    #[command(after_help = WATCH_EXAMPLES)]
    Watch {
        #[command(flatten)]
        place: Where,
        /// Print a line of JSON for each change of a run that is seen, as in `jobs history --json`
        #[arg(long)]
        json: bool,
    },
}

/// Does what is asked.
pub(super) fn jobs(command: JobsCommand) -> anyhow::Result<()> {
    match command {
        JobsCommand::List { place, json } => {
            let answer = Api::of(&place)?.get("jobs")?;
            if json { println!("{answer}") } else { show_jobs(&answer) }
        }
        JobsCommand::History { name, place, limit, json } => {
            let job = name.map(|name| format!("&job={}", escaped(&name))).unwrap_or_default();
            let answer = Api::of(&place)?.get(&format!("jobs/runs?limit={limit}{job}"))?;
            if json { println!("{answer}") } else { show_runs(&answer) }
        }
        JobsCommand::Run { name, place, detach, json } => {
            let api = Api::of(&place)?;
            let number = api.post(&format!("jobs/{}/run", escaped(&name)))?["run"].clone();
            if detach {
                if json {
                    println!("{}", json!({ "job": name, "run": number }))
                } else {
                    println!("{name} has begun")
                }
                return Ok(());
            }
            let run = follow(&api, &name, |run| run["number"] == number)?;
            if json {
                println!("{run}")
            } else {
                show_end(&run)
            }
            if run["status"] != "done" {
                bail!("{name} {}: {}", text(&run["status"]), text(&run["error"]));
            }
        }
        JobsCommand::Watch { place, json: true } => return tell_changes(&Api::of(&place)?),
        JobsCommand::Watch { place, json: false } => {
            let api = Api::of(&place)?;
            let mut seen = false;
            while let Some(run) = at_work(&api)? {
                seen = true;
                let (name, number) = (text(&run["job"]).to_owned(), run["number"].clone());
                show_end(&follow(&api, &name, |run| run["number"] == number)?);
            }
            if !seen {
                println!("nothing is at work; `collector jobs list` says what is due when");
            }
        }
    }
    Ok(())
}

fn items(answer: &Value) -> &[Value] {
    answer["items"].as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn at_work(api: &Api) -> anyhow::Result<Option<Value>> {
    Ok(items(&api.get(NEWEST)?).iter().find(|run| run["status"] == "running").cloned())
}

/// For programs: a line for each change of the runs that are at work, until none is.
fn tell_changes(api: &Api) -> anyhow::Result<()> {
    let mut known = HashMap::new();
    loop {
        for run in news(&mut known, items(&api.get(NEWEST)?)) {
            match writeln!(std::io::stdout(), "{run}") {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()), // whoever read has what it wants
                written => written?,
            }
        }
        if known.is_empty() {
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Which runs are otherwise than when they were last at work, the oldest first; those that have ended are forgotten.
fn news(known: &mut HashMap<u64, Value>, runs: &[Value]) -> Vec<Value> {
    let mut news = Vec::new();
    known.retain(|number, _| runs.iter().any(|run| run["number"] == *number));
    for run in runs.iter().rev() {
        let Some(number) = run["number"].as_u64() else { continue };
        let at_work = run["status"] == "running";
        let before = if at_work { known.insert(number, run.clone()) } else { known.remove(&number) };
        let is_news = if at_work { before.as_ref() != Some(run) } else { before.is_some() };
        news.extend(is_news.then(|| run.clone()));
    }
    news
}

/// Shows a run's progress until it has ended; gives how.
fn follow(api: &Api, name: &str, is_it: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    let redraws = std::io::stdout().is_terminal();
    loop {
        let answer = api.get(&format!("jobs/runs?limit=100&job={}", escaped(name)))?;
        let run = items(&answer).iter().find(|run| is_it(run)).cloned().context("the run is not there any more")?;
        if redraws {
            print!("\r\x1b[K{}", if run["status"] == "running" { bar(&run) } else { String::new() });
            std::io::stdout().flush()?;
        }
        if run["status"] != "running" {
            return Ok(run);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// `daily_sync  [#####-----]  50 %  3 of 6, 25920000 rows`
fn bar(run: &Value) -> String {
    let (done, steps) = (run["steps_done"].as_u64().unwrap_or(0), run["steps"].as_u64().unwrap_or(0));
    let name = text(&run["job"]);
    let rows = run["rows"].as_u64().filter(|rows| *rows > 0).map(|rows| format!(", {rows} rows")).unwrap_or_default();
    if steps == 0 {
        return format!("{name}  at work{rows}");
    }
    let part = (done.min(steps) as f64) / (steps as f64);
    format!("{name}  {}  {done} of {steps}{rows}", print::bar(part))
}

fn style(status: &str) -> Style {
    match status {
        "done" => GREEN,
        "failed" => RED,
        _ => YELLOW,
    }
}

fn show_end(run: &Value) {
    let status = text(&run["status"]);
    let style = style(status);
    let words = if status == "done" { text(&run["detail"]) } else { text(&run["error"]) };
    let rows = run["rows"].as_u64().map(|rows| format!(", {rows} rows")).unwrap_or_default();
    println!("{style}{status:<11}{style:#} {}{rows}; {words}", text(&run["job"]));
}

/// Without fractions of a second.
fn moment(value: &Value) -> String {
    let text = text(value);
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text.to_owned(),
    }
}

fn show_jobs(answer: &Value) {
    let mut table = print::table(["job", "due", "next", "last", "ended", "what it does"]);
    for job in items(answer) {
        let last = &job["last"];
        table.add_row([
            text(&job["job"]).to_owned(),
            job["schedule"].as_str().unwrap_or("by hand only").to_owned(),
            moment(&job["next"]),
            text(&last["status"]).to_owned(),
            moment(&last["finished_at"]),
            text(&job["what"]).to_owned(),
        ]);
    }
    println!("{}", table.trim_fmt());
}

fn show_runs(answer: &Value) {
    if items(answer).is_empty() {
        println!("nothing has run yet");
        return;
    }
    let mut table = print::table(["job", "status", "began", "ended", "rows", "by", "detail"]);
    for run in items(answer) {
        let words = if run["error"].is_null() { &run["detail"] } else { &run["error"] };
        let number = |value: &Value| value.as_u64().map_or_else(|| "-".to_owned(), |n| n.to_string());
        table.add_row([
            text(&run["job"]).to_owned(),
            text(&run["status"]).to_owned(),
            moment(&run["started_at"]),
            moment(&run["finished_at"]),
            number(&run["rows"]),
            if run["due"].is_null() { "hand".to_owned() } else { "schedule".to_owned() },
            text(words).to_owned(),
        ]);
    }
    println!("{}", table.trim_fmt());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(number: u64, status: &str, steps_done: u64) -> Value {
        json!({ "number": number, "job": "daily_sync", "status": status, "steps_done": steps_done })
    }

    #[test]
    fn every_change_of_what_is_at_work_is_told_once_and_its_end_last() {
        let mut known = HashMap::new();
        let (old, idle) = (run(1, "done", 3), run(2, "running", 0));
        assert_eq!(
            news(&mut known, &[run(3, "running", 1), idle.clone(), old.clone()]),
            [idle.clone(), run(3, "running", 1)]
        );
        assert_eq!(news(&mut known, &[run(3, "running", 1), idle.clone(), old.clone()]), Vec::<Value>::new());
        assert_eq!(news(&mut known, &[run(3, "running", 2), idle.clone(), old.clone()]), [run(3, "running", 2)]);
        assert_eq!(news(&mut known, &[run(3, "failed", 2), idle, old.clone()]), [run(3, "failed", 2)]);
        assert_eq!(news(&mut known, &[run(3, "failed", 2), run(2, "done", 1), old]), [run(2, "done", 1)]);
        assert!(known.is_empty(), "then it ends");
    }
}
