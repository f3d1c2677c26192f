//! The command line.

mod alerts;
mod audit;
mod check;
mod client;
mod export;
mod import;
mod inbox;
mod jobs;
mod migrate;
mod moving;
mod people;
mod print;
mod quarantine;
mod sql;

use crate::ca::{Authority, CaError, Issued, Role};
use crate::config::{Config, LoadError};
use crate::moving::MoveError;
use crate::run;
use anstream::{eprintln, println};
use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;

/// Takes in what edge agents send, stores it, answers for it.
#[derive(Debug, Parser)]
#[command(name = "collector", version, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  collector ca init --config collector.toml --host collector.example.net
  collector ca issue STATION_7 --config collector.toml
  collector check --config collector.toml
  collector migrate --check --config collector.toml
  collector run --config collector.toml
  collector ca revoke STATION_7 --config collector.toml

Exit codes: 0 well, 1 failed, 2 wrong usage or configuration";

#[derive(Debug, Args)]
struct Where {
    /// The configuration: a file, or a folder of *.toml
    #[arg(long, short, env = "COLLECTOR_CONFIG", default_value = "/etc/collector/collector.toml", value_name = "PATH")]
    config: PathBuf,
}

/// Who decides about what was set aside, and why.
#[derive(Debug, Args)]
struct Decider {
    #[command(flatten)]
    place: Where,
    /// Whose decision it is
    #[arg(long, env = "USER", default_value = "unknown")]
    author: String,
    /// Why, for the audit
    #[arg(long)]
    reason: String,
    /// Only say how many
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run until SIGTERM or Ctrl-C
    #[command(after_help = "Example:\n  collector run --config /etc/collector/collector.toml")]
    Run(#[command(flatten)] Where),
    /// Name every mistake, and say what `run` would do; changes nothing
    #[command(after_help = "Example:\n  collector check --config collector.toml --json")]
    Check {
        #[command(flatten)]
        place: Where,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the warm tier's tables or bring them up to date; `run` does it by itself
    #[command(
        after_help = "Examples:\n  collector migrate --config collector.toml\n  collector migrate --check --json\n\nExit codes: 0 the tables are in order, 1 they are not or can't be reached, 2 wrong configuration"
    )]
    Migrate {
        #[command(flatten)]
        place: Where,
        /// Only look, and name what is missing, altered or still to be run
        #[arg(long)]
        check: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Move all data of an embedded installation to PostgreSQL and another archive
    #[command(after_help = moving::EXAMPLES)]
    Move(moving::Move),
    /// Telling people what stands, by webhook and mail
    Alerts {
        #[command(subcommand)]
        command: alerts::AlertsCommand,
    },
    /// Say which version this is
    Version {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Regular work: what is due, what came of it, start some now
    Jobs {
        #[command(subcommand)]
        command: jobs::JobsCommand,
    },
    /// Read CSV files into the running collector
    #[command(after_help = import::EXAMPLES)]
    Import(Box<import::Import>),
    /// Write readings of any stretch to a CSV or Parquet file
    #[command(after_help = export::EXAMPLES)]
    Export(export::Export),
    /// Ask the archive by SQL; reading only
    #[command(after_help = sql::EXAMPLES)]
    Sql(Box<sql::Ask>),
    /// What was set aside: look at it, release it, drop it
    Quarantine {
        #[command(subcommand)]
        command: quarantine::QuarantineCommand,
    },
    /// What other producers left in tables, and what of it could not be taken
    Inbox {
        #[command(subcommand)]
        command: inbox::InboxCommand,
    },
    /// People who may come in
    User {
        #[command(subcommand)]
        command: people::UserCommand,
    },
    /// Programs that may come in
    Token {
        #[command(subcommand)]
        command: people::TokenCommand,
    },
    /// The authority that names gateways and collectors
    Ca {
        #[command(subcommand)]
        command: CaCommand,
    },
}

#[derive(Debug, Subcommand)]
enum CaCommand {
    /// Make the authority and this collector's certificate
    #[command(after_help = "Example:\n  collector ca init --host collector.example.net --host 10.0.0.5")]
    Init {
        #[command(flatten)]
        place: Where,
        /// A name or address by which gateways reach this collector; may be said several times
        #[arg(long = "host", value_name = "HOST", default_values = ["localhost", "127.0.0.1"])]
        hosts: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a certificate for a gateway, or with --server for another collector
    #[command(
        after_help = "Examples:\n  collector ca issue STATION_7\n  collector ca issue collector-2.example.net --server --host 10.0.0.6"
    )]
    Issue {
        /// The gateway's name
        name: String,
        #[command(flatten)]
        place: Where,
        /// For a collector instead of a gateway
        #[arg(long)]
        server: bool,
        /// Another name or address of that collector; may be said several times
        #[arg(long = "host", value_name = "HOST", requires = "server")]
        hosts: Vec<String>,
        /// Though it has one that holds
        #[arg(long)]
        renew: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take back every certificate of a name; a running collector notices within two seconds
    #[command(after_help = "Example:\n  collector ca revoke STATION_7")]
    Revoke {
        /// The gateway's name
        name: String,
        #[command(flatten)]
        place: Where,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Wrong usage or configuration.
const WRONG: u8 = 2;

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(place) => run_until_signal(&place.config),
        Command::Check { place, json } => return check::check(&place.config, json),
        Command::Migrate { place, check, json } => return migrate::migrate(&place.config, check, json),
        Command::Alerts { command } => alerts::alerts(command),
        Command::Move(asked) => moving::moving(&asked),
        Command::Version { json } => {
            version(json);
            Ok(())
        }
        Command::Jobs { command } => jobs::jobs(command),
        Command::Import(asked) => import::import(&asked),
        Command::Export(asked) => export::export(&asked),
        Command::Sql(asked) => sql::ask(&asked),
        Command::Quarantine { command } => quarantine::quarantine(command),
        Command::Inbox { command } => inbox::inbox(command),
        Command::User { command } => people::user(command),
        Command::Token { command } => people::token(command),
        Command::Ca { command } => ca(command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print::error(&print::whole(&error));
            let wrong = error.downcast_ref::<LoadError>().is_some()
                || matches!(error.downcast_ref(), Some(MoveError::Wrong(_)))
                || error.downcast_ref::<crate::config::ValueError>().is_some()
                || error.downcast_ref::<shared::telemetry::TelemetryError>().is_some()
                || error.downcast_ref::<CaError>().is_some_and(is_wrong_usage);
            if wrong { ExitCode::from(WRONG) } else { ExitCode::FAILURE }
        }
    }
}

fn is_wrong_usage(error: &CaError) -> bool {
    matches!(error, CaError::Name(_) | CaError::Reserved(_))
}

fn version(as_json: bool) {
    let version = env!("CARGO_PKG_VERSION");
    if as_json {
        let protocol = [shared::wire::VERSION_MIN, shared::wire::VERSION_MAX];
        println!("{}", json!({ "name": "collector", "version": version, "protocol": protocol }));
    } else {
        println!("collector {version}");
    }
}

/// Niceness of everything but answers: under full load it has a quarter of the processor, more than it takes to take in what
/// comes.
const BEHIND_ANSWERS: i32 = 5;

fn run_until_signal(path: &Path) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    shared::telemetry::init(config.log.format, config.log.level.as_deref().unwrap_or("info"))?;
    for idle in config.idle_settings(|name| std::env::var(name).ok()) {
        tracing::warn!("{idle}");
    }
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().context("can't start");
    // People wait for answers, nobody for all else: its threads, which inherit that from this one, take what is left.
    let answers = runtime()?;
    let _ = rustix::process::nice(BEHIND_ANSWERS);
    let work = runtime()?;
    let outcome = work.block_on(async {
        let stop = CancellationToken::new();
        tokio::spawn(stop_on_signal(stop.clone())?);
        Box::pin(run::run(config, answers.handle().clone(), stop)).await.map_err(anyhow::Error::from)
    });
    // A disk that hangs must not hold up the end for ever.
    work.shutdown_timeout(std::time::Duration::from_secs(5));
    answers.shutdown_timeout(std::time::Duration::from_secs(1));
    outcome
}

/// Cancels on SIGTERM and SIGINT.
fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("can't listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't listen for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("can't listen for SIGHUP")?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            tracing::warn!(
                "SIGHUP: a collector takes a new configuration only at its start; it goes on with the old one"
            );
        }
    });
    Ok(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!("{name}: stopping");
        stop.cancel();
    })
}

fn ca(command: CaCommand) -> anyhow::Result<()> {
    match command {
        CaCommand::Init { place, hosts, json } => {
            let folder = Config::load(&place.config)?.ca_dir();
            let (_, server) = Authority::init(&folder, &hosts)?;
            let ca = folder.join("ca.pem");
            if json {
                println!("{}", json!({ "ca": ca, "cert": server.cert, "key": server.key, "hosts": hosts }));
            } else {
                println!("authority    {}  (copy this file to every gateway)", ca.display());
                println!("its key      {}  (keep a copy of it in a safe place)", folder.join("ca.key").display());
                println!("certificate  {}  for {}", server.cert.display(), hosts.join(", "));
            }
        }
        CaCommand::Issue { name, place, server, hosts, renew, json } => {
            let authority = Authority::open(&Config::load(&place.config)?.ca_dir())?;
            let role = if server { Role::Server } else { Role::Gateway };
            let Issued { cert, key, serial } = authority.issue(&name, role, &hosts, renew)?;
            if json {
                let serial = serial.as_str();
                println!(
                    "{}",
                    json!({ "name": name, "role": role.to_string(), "cert": cert, "key": key, "serial": serial })
                );
            } else {
                println!("certificate  {}", cert.display());
                println!("its key      {}  (move it to {name} and delete it here)", key.display());
                println!("serial       {serial}");
            }
            let detail = json!({ "did": "issued", "name": name, "role": role.to_string(), "serial": serial.as_str() });
            audit::note(&place, "certificate", detail);
        }
        CaCommand::Revoke { name, place, json } => {
            let serials = Authority::open(&Config::load(&place.config)?.ca_dir())?.revoke(&name)?;
            let serials: Vec<&str> = serials.iter().map(crate::revocation::Serial::as_str).collect();
            if json {
                println!("{}", json!({ "name": name, "revoked": serials }));
            } else {
                println!("revoked {name}: {}", serials.join(", "));
                eprintln!("a running collector closes its connections within two seconds");
            }
            audit::note(&place, "certificate", json!({ "did": "revoked", "name": name, "serials": serials }));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_command_is_well_formed() {
        use clap::CommandFactory as _;
        super::Cli::command().debug_assert();
    }
}
