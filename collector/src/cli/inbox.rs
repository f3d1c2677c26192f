//! `collector inbox`: rows of inbox tables that could not be taken.

use super::Where;
use super::client::{Api, query};
use super::print::{self, YELLOW};
use anstream::println;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum InboxCommand {
    /// Rows that could not be taken, newest first: whose and when, why, and what they say
    #[command(
        after_help = "Example:\n  collector inbox rejects --json\n\nReadings that are whole and were set aside are in `collector quarantine list`."
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
    },
}

pub(super) fn inbox(command: InboxCommand) -> anyhow::Result<()> {
    let InboxCommand::Rejects { place, limit, json } = command;
    let answer = Api::of(&place)?.get(&format!("inbox/rejects?{}", query([("limit", Some(limit.to_string()))])))?;
    if json {
        println!("{answer}");
        return Ok(());
    }
    let items = answer["items"].as_array().map_or(&[][..], Vec::as_slice);
    if items.is_empty() {
        println!("every row was taken");
        return Ok(());
    }
    for item in items {
        let text = |name: &str| item[name].as_str().unwrap_or_default();
        println!("{YELLOW}{}{YELLOW:#}  {}", text("source"), text("at"));
        for name in ["reason", "text"] {
            println!("  {}", print::cut(text(name), print::width() - 2));
        }
    }
    if answer["truncated"] == true {
        println!("there is more: --limit");
    }
    Ok(())
}
