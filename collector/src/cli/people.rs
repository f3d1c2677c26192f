//! `collector user` and `collector token`: who may come in. They work on the warm tier, whether a collector runs or not;
//! one that runs notices within two seconds.

use super::Where;
use super::audit::whoever_sits_here;
use super::print::{self, GREEN, YELLOW};
use crate::access::{Hash, People, PeopleError, Role, Token, User};
use crate::config::Config;
use crate::tiers::{WarmTier, warm};
use anstream::println;
use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use shared::reading::{Timestamp, micros};
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Make a user; the password is asked for
    #[command(
        after_help = "Examples:\n  collector user add rossi --role operator\n  collector user add rossi --role admin --password-file /run/secrets/rossi"
    )]
    Add {
        /// The name
        name: String,
        /// viewer looks; operator enters, imports and starts jobs, too; admin may do everything
        #[arg(long, value_parser = role)]
        role: Role,
        #[command(flatten)]
        password: Secret,
        #[command(flatten)]
        place: Where,
    },
    /// Set another password; all sessions of the user end
    #[command(after_help = "Example:\n  collector user password rossi")]
    Password {
        /// The name
        name: String,
        #[command(flatten)]
        password: Secret,
        #[command(flatten)]
        place: Where,
    },
    /// Set another role
    #[command(after_help = "Example:\n  collector user role rossi viewer")]
    Role {
        /// The name
        name: String,
        /// viewer, operator or admin
        #[arg(value_parser = role)]
        role: Role,
        #[command(flatten)]
        place: Where,
    },
    /// Take a user away; all sessions end
    #[command(after_help = "Example:\n  collector user remove rossi")]
    Remove {
        /// The name
        name: String,
        #[command(flatten)]
        place: Where,
    },
    /// Who there is
    #[command(after_help = "Example:\n  collector user list --json")]
    List {
        #[command(flatten)]
        place: Where,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a program's token, which is shown once
    #[command(after_help = "Example:\n  collector token make grafana --role viewer --ends 365d")]
    Make {
        /// The name
        name: String,
        /// What it may do
        #[arg(long, value_parser = role, default_value = "viewer")]
        role: Role,
        /// How long it holds; for ever when it isn't said
        #[arg(long, value_parser = humantime::parse_duration)]
        ends: Option<Duration>,
        #[command(flatten)]
        place: Where,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a token back
    #[command(after_help = "Example:\n  collector token revoke grafana")]
    Revoke {
        /// The name
        name: String,
        #[command(flatten)]
        place: Where,
    },
    /// Which there are
    #[command(after_help = "Example:\n  collector token list --json")]
    List {
        #[command(flatten)]
        place: Where,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Secret {
    /// A file whose first line it is, instead of asking for it
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

fn role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| "it is viewer, operator or admin".into())
}

impl Secret {
    fn ask(&self, name: &str) -> anyhow::Result<Hash> {
        let password = match &self.password_file {
            Some(file) => {
                let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
                text.lines().next().unwrap_or_default().to_owned()
            }
            None if !std::io::stdin().is_terminal() => {
                bail!("there is no terminal to ask for the password on: say --password-file FILE")
            }
            None => {
                let password = rpassword::prompt_password(format!("password of {name}: "))?;
                if rpassword::prompt_password("once more: ")? != password {
                    bail!("these are two different passwords");
                }
                password
            }
        };
        Ok(Hash::of(&password)?)
    }
}

/// The warm tier, for as long as the work takes.
pub(super) fn on_store<T>(
    place: &Where,
    work: impl AsyncFnOnce(Arc<dyn WarmTier>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let config = Config::load(&place.config)?;
    std::fs::create_dir_all(&config.data_dir).with_context(|| config.data_dir.display().to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let warm = warm::open(&config.warm, &config.warm_file()).await?;
        let done = work(warm.clone()).await;
        warm.close().await;
        done
    })
}

/// Changes, noted in the name of whoever sits here.
fn on_people<T>(place: &Where, work: impl AsyncFnOnce(People<'_>) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let by = whoever_sits_here();
    let now = Timestamp::wall_clock();
    on_store(place, async |warm| work(People { warm: &*warm, by: &by, now }).await.map_err(hinted))
}

/// With the command that says which there are, when there is none of that name.
fn hinted(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref() {
        Some(PeopleError::Unknown { what, .. }) => anyhow!("{error}; `collector {what} list` shows which there are"),
        _ => error,
    }
}

pub(super) fn user(command: UserCommand) -> anyhow::Result<()> {
    match command {
        UserCommand::Add { name, role, password, place } => on_people(&place, async |people| {
            people.is_free(&name).await?; // before a password is asked for
            people.add(&name, role, password.ask(&name)?).await?;
            println!("{GREEN}made{GREEN:#}  {name}, {role}");
            Ok(())
        }),
        UserCommand::Password { name, password, place } => on_people(&place, async |people| {
            people.user(&name).await?;
            people.set_password(&name, password.ask(&name)?).await?;
            println!("{GREEN}set{GREEN:#}  {name}'s sessions are over");
            Ok(())
        }),
        UserCommand::Role { name, role, place } => on_people(&place, async |people| {
            people.set_role(&name, role).await?;
            println!("{GREEN}set{GREEN:#}  {name}, {role}");
            Ok(())
        }),
        UserCommand::Remove { name, place } => on_people(&place, async |people| {
            people.remove(&name).await?;
            println!("{GREEN}removed{GREEN:#}  {name}");
            let store = people.warm.access();
            if store.users().await?.is_empty() && store.tokens().await?.is_empty() {
                anstream::eprintln!(
                    "{YELLOW}nobody is left{YELLOW:#}: where [api] listens on loopback, everyone on this machine may do everything again"
                );
            }
            Ok(())
        }),
        UserCommand::List { place, json } => on_store(&place, async |warm| {
            let users = warm.access().users().await?;
            if json {
                println!("{}", json!({ "items": users }));
            } else if users.is_empty() {
                println!(
                    "there is nobody: on this machine everyone may do everything; `collector user add NAME --role admin` ends that"
                );
            } else {
                let row = |user: &User| [user.name.clone(), user.role.to_string(), user.changed.to_string()];
                show(["user", "role", "password since"], users.iter().map(row));
            }
            Ok(())
        }),
    }
}

pub(super) fn token(command: TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::Make { name, role, ends, place, json } => on_people(&place, async |people| {
            let ends = ends.map(|ends| people.now.plus_micros(micros(ends)));
            let secret = people.make_token(&name, role, ends).await?;
            if json {
                println!("{}", json!({ "name": name, "role": role, "ends": ends, "token": secret }));
            } else {
                println!("{secret}");
                anstream::eprintln!(
                    "{GREEN}made{GREEN:#}  {name}, {role}; it isn't shown again. Programs say: Authorization: Bearer …"
                );
            }
            Ok(())
        }),
        TokenCommand::Revoke { name, place } => on_people(&place, async |people| {
            people.revoke_token(&name).await?;
            println!("{GREEN}taken back{GREEN:#}  {name}");
            Ok(())
        }),
        TokenCommand::List { place, json } => on_store(&place, async |warm| {
            let tokens = warm.access().tokens().await?;
            if json {
                println!("{}", json!({ "items": tokens }));
            } else if tokens.is_empty() {
                println!("there is no token");
            } else {
                let ends = |token: &Token| token.ends.map_or_else(|| "never".to_owned(), |ends| ends.to_string());
                let row =
                    |token: &Token| [token.name.clone(), token.role.to_string(), token.made.to_string(), ends(token)];
                show(["token", "role", "made", "ends"], tokens.iter().map(row));
            }
            Ok(())
        }),
    }
}

fn show<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) {
    let mut table = print::table(head);
    rows.for_each(|row| {
        table.add_row(row);
    });
    println!("{}", table.trim_fmt());
}
