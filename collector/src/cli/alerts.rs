//! `collector alerts`: whether people can be told.

use super::Where;
use super::print::{GREEN, RED};
use crate::alerts::{Message, Tell};
use crate::analytics::anomaly::Severity;
use crate::config::Config;
use anstream::println;
use anyhow::{Context, bail};
use clap::Subcommand;
use jiff::tz::TimeZone;
use shared::reading::Timestamp;

#[derive(Debug, Subcommand)]
pub(super) enum AlertsCommand {
    /// Send a message that says it is a test, by every channel of [alerts]
    #[command(
        after_help = "Example:\n  collector alerts test --config collector.toml\n\nExit codes: 0 all took it, 1 one didn't, 2 wrong configuration"
    )]
    Test {
        #[command(flatten)]
        place: Where,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn alerts(command: AlertsCommand) -> anyhow::Result<()> {
    let AlertsCommand::Test { place, json } = command;
    let config = Config::load(&place.config)?;
    let channels = config.alerts.channels()?;
    if channels.is_empty() {
        bail!("[alerts] of {} names nobody: say webhook = \"https://…\" or [alerts.mail]", place.config.display());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("can't start")?;
    let message = test(config.jobs.zone()?);
    let mut outcomes = Vec::new();
    for channel in &channels {
        outcomes.push((channel.name(), runtime.block_on(channel.send(&message))));
    }
    if json {
        let one = |(name, outcome): &(&str, Result<(), String>)| serde_json::json!({ "channel": name, "delivered": outcome.is_ok(), "error": outcome.as_ref().err() });
        println!("{}", serde_json::json!({ "items": outcomes.iter().map(one).collect::<Vec<_>>() }));
    } else {
        for (name, outcome) in &outcomes {
            match outcome {
                Ok(()) => println!("{GREEN}ok{GREEN:#}      {name}"),
                Err(why) => println!("{RED}failed{RED:#}  {name}: {why}"),
            }
        }
    }
    if outcomes.iter().any(|(_, outcome)| outcome.is_err()) {
        bail!("not everybody can be told");
    }
    Ok(())
}

fn test(zone: TimeZone) -> Message {
    let now = Timestamp::wall_clock();
    let alert = crate::alerts::Alert {
        key: "test".into(),
        severity: Severity::Warning,
        title: "a test: nothing is wrong".into(),
        detail: "someone ran `collector alerts test`".into(),
        since: now,
        until: None,
        in_hand: false,
    };
    Message::new(Tell { new: vec![alert], ..Tell::default() }, now, zone)
}
