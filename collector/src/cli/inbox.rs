//! `collector inbox`: rows of inbox tables that could not be taken, looked at and let go.

use super::client::{Api, query};
use super::print::{self, GREEN, YELLOW};
use super::{Decider, Where};
use anstream::println;
use clap::{Args, Subcommand};
use serde_json::Value;

#[derive(Debug, Subcommand)]
pub(super) enum InboxCommand {
    /// Rows that could not be taken, newest first: whose and when, why, and what they say
    #[command(
        after_help = "Examples:\n  collector inbox rejects\n  collector inbox rejects --limit 10000 --csv > rejects.csv\n\nReadings that are whole and were set aside are in `collector quarantine list`."
    )]
    Rejects {
        #[command(flatten)]
        place: Where,
        /// How many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Print JSON, which has all of each row
        #[arg(long)]
        json: bool,
        /// Print CSV: source, at, reason, line
        #[arg(long, conflicts_with = "json")]
        csv: bool,
    },
    /// Let rows that could not be taken go; rows of other producers' tables stay there
    #[command(
        after_help = "Example:\n  collector inbox drop --source scada --because 'no node' --reason 'test rows of the installer'"
    )]
    Drop(Decision),
}

#[derive(Debug, Args)]
pub(super) struct Decision {
    #[command(flatten)]
    by: Decider,
    /// Only of this producer: `inbox`, or the name in [[inbox]]
    #[arg(long)]
    source: Option<String>,
    /// Only what could not be taken for a reason that begins like this
    #[arg(long)]
    because: Option<String>,
}

pub(super) fn inbox(command: InboxCommand) -> anyhow::Result<()> {
    match command {
        InboxCommand::Rejects { place, limit, json, csv } => {
            let asked = query([("limit", Some(limit.to_string()))]);
            let answer = Api::of(&place)?.get(&format!("inbox/rejects?{asked}"))?;
            match (json, csv) {
                (true, _) => println!("{answer}"),
                (_, true) => as_csv(&answer)?,
                _ => show(&answer),
            }
            Ok(())
        }
        InboxCommand::Drop(decision) => drop(decision),
    }
}

fn drop(asked: Decision) -> anyhow::Result<()> {
    let path = query([
        ("source", asked.source),
        ("because", asked.because),
        ("author", Some(asked.by.author)),
        ("reason", Some(asked.by.reason)),
        ("dry", Some(asked.by.dry_run.to_string())),
    ]);
    let answer = Api::of(&asked.by.place)?.post(&format!("inbox/drop?{path}"))?;
    if asked.by.json {
        println!("{answer}");
        return Ok(());
    }
    let word = if asked.by.dry_run { "would be " } else { "" };
    println!("{GREEN}{word}dropped{GREEN:#}  {} rows", answer["dropped"]);
    Ok(())
}

fn items(answer: &Value) -> &[Value] {
    answer["items"].as_array().map_or(&[][..], Vec::as_slice)
}

fn as_csv(answer: &Value) -> anyhow::Result<()> {
    let mut file = csv::Writer::from_writer(std::io::stdout());
    file.write_record(["source", "at", "reason", "line"])?;
    for item in items(answer) {
        file.write_record(["source", "at", "reason", "text"].map(|name| item[name].as_str().unwrap_or_default()))?;
    }
    file.flush()?;
    if answer["truncated"] == true {
        anstream::eprintln!("there is more: --limit");
    }
    Ok(())
}

fn show(answer: &Value) {
    if items(answer).is_empty() {
        println!("no row waits");
        return;
    }
    for item in items(answer) {
        let text = |name: &str| item[name].as_str().unwrap_or_default();
        println!("{YELLOW}{}{YELLOW:#}  {}", text("source"), text("at"));
        for name in ["reason", "text"] {
            println!("  {}", print::cut(text(name), print::width() - 2));
        }
    }
    if answer["truncated"] == true {
        println!("there is more: --limit");
    }
}
