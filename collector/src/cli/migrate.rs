//! `collector migrate`: the warm tier's tables are made or brought up to date, or only looked at.

use super::WRONG;
use super::print::{GREEN, RED, YELLOW, error};
use crate::config::Config;
use crate::tiers::TierError;
use crate::tiers::warm::settings::Store;
use crate::tiers::warm::{self, SchemaReport};
use anstream::println;
use std::path::Path;
use std::process::ExitCode;

/// With `check` nothing is changed. Success means that the tables are in order when it ends.
pub(super) fn migrate(path: &Path, check: bool, json: bool) -> ExitCode {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(wrong) => {
            error(&wrong.to_string());
            return ExitCode::from(WRONG);
        }
    };
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())
        .and_then(|runtime| runtime.block_on(work(&config, check)).map_err(|e| e.to_string()));
    match outcome {
        Ok((ran, report)) => {
            if json {
                show_json(&config, &ran, &report);
            } else {
                show(&config, &ran, &report);
            }
            if report.is_in_order() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(why) => {
            if json {
                println!("{}", serde_json::json!({ "place": place(&config), "in_order": false, "error": why }));
            } else {
                error(&why);
            }
            ExitCode::FAILURE
        }
    }
}

/// The migrations that were run, and how the tables are now.
async fn work(config: &Config, check: bool) -> Result<(Vec<String>, SchemaReport), TierError> {
    let before = warm::check(&config.warm, &config.warm_file()).await?;
    if check {
        return Ok((Vec::new(), before));
    }
    warm::migrate(&config.warm, &config.warm_file()).await?;
    Ok((before.pending, warm::check(&config.warm, &config.warm_file()).await?))
}

/// Where the tables are.
pub(super) fn place(config: &Config) -> String {
    let warm = &config.warm;
    match warm.store() {
        Store::Sqlite => config.warm_file().display().to_string(),
        Store::Postgres => format!("{}:{}/{}, schema {}", warm.host, warm.port, warm.database, warm.schema),
    }
}

fn show_json(config: &Config, ran: &[String], report: &SchemaReport) {
    let mut value = serde_json::json!(report);
    value["place"] = place(config).into();
    value["ran"] = ran.into();
    value["in_order"] = report.is_in_order().into();
    println!("{value}");
}

fn show(config: &Config, ran: &[String], report: &SchemaReport) {
    println!("warm tier in {}, {}", report.store, place(config));
    let lines = |style: &anstyle::Style, word: &str, what: &[String]| {
        what.iter().for_each(|what| println!("{style}{word:<8}{style:#} {what}"));
    };
    lines(&GREEN, "ran", ran);
    lines(&YELLOW, "to run", &report.pending);
    lines(&RED, "wrong", &report.wrong);
    lines(&YELLOW, "missing", &report.missing);
    if report.is_in_order() {
        println!("{GREEN}ok{GREEN:#}       its tables are as they should be");
    }
}
