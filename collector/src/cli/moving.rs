//! `collector move`: from the embedded tiers into the production tiers.

use super::Where;
use super::print::{self, GREEN};
use crate::access::Local;
use crate::config::Config;
use crate::moving::{self, Archived};
use crate::tiers::warm::transfer::Moved;
use anstream::{eprint, eprintln, println};
use anyhow::{Context, bail};
use clap::Args;
use std::io::IsTerminal as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(super) const EXAMPLES: &str = "\
Examples:
  collector move --config collector.toml --to production.toml
  collector move --config collector.toml --abandon

Write production.toml as the configuration that the collector is to have afterwards: the same data_dir, [warm] with
store = \"postgres\", and [cold] where the archive is to be. Stop the collector, move, start it with the new
configuration; gateways keep what they have meanwhile. Interrupted, it goes on where it was when it is called again.
The old files stay as they are; remove them when you trust the new place.";

/// How long a running collector may take to answer.
const WITHIN: Duration = Duration::from_secs(2);
/// Between two lines where there is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Between two drawings of the bar.
const DRAW_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(super) struct Move {
    #[command(flatten)]
    place: Where,
    /// The configuration that names the production tiers
    #[arg(long, value_name = "PATH", required_unless_present = "abandon")]
    to: Option<PathBuf>,
    /// Give up a move: the embedded tiers count again
    #[arg(long, conflicts_with = "to")]
    abandon: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn moving(asked: &Move) -> anyhow::Result<()> {
    let from = Config::load(&asked.place.config)?;
    if let Some(address) = Local::read(&from.data_dir).map(|local| local.address)
        && TcpStream::connect_timeout(&address, WITHIN).is_ok()
    {
        bail!("a collector runs on {} (it answers at {address}); stop it first", from.data_dir.display());
    }
    let Some(to) = &asked.to else { return abandon(&from.data_dir, asked.json) };
    let to_config = Config::load(to)?;
    let mut bar = Bar::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("can't start")?;
    let (moved, archived) = runtime.block_on(moving::move_all(&from, &to_config, &mut |what, done, total| {
        bar.show(what, done, total);
    }))?;
    bar.clear();
    tell(asked, to, moved, archived);
    Ok(())
}

fn tell(asked: &Move, to: &Path, moved: Moved, archived: Archived) {
    if asked.json {
        println!("{}", serde_json::json!({ "warm": moved, "archive": archived, "verified": true }));
        return;
    }
    println!("{GREEN}moved{GREEN:#}    {} readings of {} days, {} other rows", moved.readings, moved.days, moved.rows);
    match archived.days {
        0 => println!("archive  nothing was to be moved"),
        days => println!("archive  {} readings of {days} days", archived.readings),
    }
    println!("verified every row and every day, read back and compared");
    eprintln!("start the collector with --config {}; it doesn't start with the old one any more", to.display());
}

fn abandon(data_dir: &Path, json: bool) -> anyhow::Result<()> {
    let was = moving::abandon(data_dir)?;
    if json {
        println!("{}", serde_json::json!({ "abandoned": was }));
    } else if was {
        println!(
            "the embedded tiers of {} count again; empty the other place before you move anew",
            data_dir.display()
        );
    } else {
        println!("no move of {} was begun: there is nothing to give up", data_dir.display());
    }
    Ok(())
}

/// One line on a terminal; elsewhere one now and then, so that a log tells how far it is.
#[derive(Default)]
struct Bar {
    drawn: Option<Instant>,
}

impl Bar {
    fn show(&mut self, what: &str, done: u64, total: u64) {
        if !std::io::stderr().is_terminal() {
            return self.tell(what, done, total);
        }
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < DRAW_EVERY) && done != total {
            return;
        }
        self.drawn = Some(Instant::now());
        match total {
            0 => eprint!("\r\x1b[K{what}  {done} rows"),
            _ => eprint!("\r\x1b[K{what}  {}  {done} of {total}", print::bar(done.min(total) as f64 / total as f64)),
        }
    }

    fn tell(&mut self, what: &str, done: u64, total: u64) {
        if self.drawn.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            self.drawn = Some(Instant::now());
            let of = if total > 0 { format!(" of {total}") } else { String::new() };
            eprintln!("moving   {what}: {done}{of}");
        }
    }

    fn clear(&mut self) {
        if self.drawn.is_some() && std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }
}
