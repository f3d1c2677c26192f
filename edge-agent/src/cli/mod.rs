//! The command line. What people read goes to standard output, complaints to standard error; colours on a terminal
//! only. Exit codes: 0 done, 1 it failed, 2 the command line or the configuration is wrong.

mod check;
mod modbus;
mod status;

use crate::run::{self, RunError};
use anstyle::{AnsiColor, Style};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const HEAD: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const DOUBT: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default();

/// Reads sensors by Modbus and MQTT, keeps every reading on disk, forwards it to a collector over mutual TLS.
#[derive(Debug, Parser)]
#[command(name = "edge-agent", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  edge-agent check --config /etc/edge-agent          every mistake, and which requests will be sent
  edge-agent scan --tcp 10.0.0.7:502 --units 1-20    which units answer
  edge-agent probe --tcp 10.0.0.7:502 --unit 3 --register holding --address 0 --count 20
  edge-agent probe --config /etc/edge-agent flowmeter-1
  edge-agent run --config /etc/edge-agent
  edge-agent status                                  every point: value, age, quality, what is wrong";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run until SIGTERM; SIGHUP follows a changed configuration.
    Run(ConfigPath),
    /// Check a configuration: every mistake, and what would be asked of which device.
    Check(check::Arguments),
    /// Read one device once and show what its registers mean in every word order.
    Probe(modbus::ProbeArguments),
    /// Find the Modbus units on a link.
    Scan(modbus::ScanArguments),
    /// Show how the running agent is: points, spool, connection.
    Status(status::Arguments),
    /// Show the version.
    Version {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct ConfigPath {
    /// A TOML file, or a folder of them.
    #[arg(long, short, default_value = "/etc/edge-agent", env = "EDGE_AGENT_CONFIG")]
    config: PathBuf,
}

/// Something that went wrong, and the exit code for it.
struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    fn failed(text: impl ToString) -> Self {
        Self { code: 1, text: text.to_string() }
    }
    fn usage(text: impl ToString) -> Self {
        Self { code: 2, text: text.to_string() }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        if error.is_configuration() { Self::usage(error) } else { Self::failed(error) }
    }
}

/// Parses the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, text }) => {
            if !text.is_empty() {
                anstream::eprintln!("{BAD}error:{BAD:#} {text}");
            }
            ExitCode::from(code)
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(ConfigPath { config }) => runtime()?.block_on(run_until_signalled(config)),
        Command::Check(arguments) => check::run(&arguments),
        Command::Probe(arguments) => runtime()?.block_on(modbus::probe(arguments)),
        Command::Scan(arguments) => runtime()?.block_on(modbus::scan(arguments)),
        Command::Status(arguments) => status::run(&arguments),
        Command::Version { json } => {
            let version = env!("CARGO_PKG_VERSION");
            let (wire_min, wire_max) = (shared::wire::VERSION_MIN, shared::wire::VERSION_MAX);
            if json {
                let view = serde_json::json!({ "version": version, "wire": { "min": wire_min, "max": wire_max } });
                anstream::println!("{view}");
            } else {
                anstream::println!("edge-agent {version}, wire protocol {wire_min} to {wire_max}");
            }
            Ok(())
        }
    }
}

/// Two threads: one can wait for a slow card while the other polls.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    // Threads that only wait for the disk: few, since each costs memory.
    builder.worker_threads(2).max_blocking_threads(8).thread_stack_size(512 << 10).enable_all();
    builder.build().map_err(|error| Failure::failed(format!("can't start: {error}")))
}

async fn run_until_signalled(config: PathBuf) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let watch = |kind| signal(kind).map_err(|error| Failure::failed(format!("can't listen for signals: {error}")));
    let (mut term, mut int) = (watch(SignalKind::terminate())?, watch(SignalKind::interrupt())?);
    let mut hangup = watch(SignalKind::hangup())?;
    let (stop, (sender, reload)) = (CancellationToken::new(), mpsc::channel(1));
    let stopper = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = term.recv() => break,
                _ = int.recv() => break,
                _ = hangup.recv() => drop(sender.try_send(())), // one that waits already will see the newest file
            }
        }
        stopper.cancel();
    });
    run::run(&config, stop, reload).await.map_err(Failure::from)
}
