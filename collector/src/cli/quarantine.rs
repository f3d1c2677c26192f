//! `collector quarantine`: what was set aside, looked at and decided on.

use super::client::{Api, query};
use super::print::{self, GREEN, YELLOW};
use super::{Decider, Where};
use anstream::println;
use clap::{Args, Subcommand};
use serde_json::Value;

#[derive(Debug, Subcommand)]
pub(super) enum QuarantineCommand {
    /// What was set aside, newest first, and why
    #[command(after_help = "Example:\n  collector quarantine list --gateway STATION_7")]
    List {
        #[command(flatten)]
        place: Where,
        /// Only of this gateway
        #[arg(long)]
        gateway: Option<String>,
        /// How many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Store rows that belong into series that are there now, as after a grant
    #[command(
        after_help = "Example:\n  collector quarantine release --gateway STATION_7 --because 'not granted' --reason 'the grant was missing'"
    )]
    Release(Decision),
    /// Throw rows away
    #[command(
        after_help = "Example:\n  collector quarantine drop --because future --reason 'clock set to 2036 by mistake'"
    )]
    Drop(Decision),
}

#[derive(Debug, Args)]
pub(super) struct Decision {
    #[command(flatten)]
    by: Decider,
    /// Only of this gateway
    #[arg(long)]
    gateway: Option<String>,
    /// Only of this series, like DIST_001/flow_rate
    #[arg(long)]
    series: Option<String>,
    /// Only what was set aside for a reason that begins like this
    #[arg(long)]
    because: Option<String>,
    /// Only from this moment on
    #[arg(long)]
    from: Option<String>,
    /// Only before this moment
    #[arg(long)]
    to: Option<String>,
}

pub(super) fn quarantine(command: QuarantineCommand) -> anyhow::Result<()> {
    match command {
        QuarantineCommand::List { place, gateway, limit, json } => {
            let asked = query([("gateway", gateway), ("limit", Some(limit.to_string()))]);
            let answer = Api::of(&place)?.get(&format!("quarantine?{asked}"))?;
            if json {
                println!("{answer}")
            } else {
                show(&answer)
            }
            Ok(())
        }
        QuarantineCommand::Release(decision) => decide("release", "released", decision),
        QuarantineCommand::Drop(decision) => decide("drop", "dropped", decision),
    }
}

fn decide(what: &str, done: &str, asked: Decision) -> anyhow::Result<()> {
    let path = query([
        ("gateway", asked.gateway),
        ("series", asked.series),
        ("because", asked.because),
        ("from", asked.from),
        ("to", asked.to),
        ("author", Some(asked.by.author)),
        ("reason", Some(asked.by.reason)),
        ("dry", Some(asked.by.dry_run.to_string())),
    ]);
    let answer = Api::of(&asked.by.place)?.post(&format!("quarantine/{what}?{path}"))?;
    if asked.by.json {
        println!("{answer}");
        return Ok(());
    }
    let word = if asked.by.dry_run { "would be " } else { "" };
    println!("{GREEN}{word}{done}{GREEN:#}  {} of {} rows", answer[done], answer["chosen"]);
    for (why, count) in answer["left"].as_object().into_iter().flatten() {
        println!("{YELLOW}left{YELLOW:#}  {count}: {why}");
    }
    Ok(())
}

fn show(answer: &Value) {
    let items = answer["items"].as_array().map_or(&[][..], Vec::as_slice);
    if items.is_empty() {
        println!("nothing is set aside");
        return;
    }
    let mut table = print::table(["gateway", "series", "at", "value", "because", "came"]);
    for item in items {
        let text = |name: &str| item[name].as_str().map_or_else(|| item[name].to_string(), str::to_owned);
        let row = ["gateway", "series", "at", "value", "set_aside_because", "received"].map(text);
        table.add_row(row);
    }
    println!("{}", table.trim_fmt());
    if answer["truncated"] == true {
        println!("there is more: --limit");
    }
}
