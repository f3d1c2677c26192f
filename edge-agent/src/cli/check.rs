//! `check`: every mistake of a configuration, and what the agent would do with it.

use super::{BAD, ConfigPath, DOUBT, Failure, GOOD, HEAD};
use crate::config::Config;
use crate::registry::Registry;
use crate::run;
use crate::sources::modbus::{self, config::Link};
use clap::Args;
use serde_json::json;
use shared::reading::Timestamp;
use shared::tls::file::{self, Expiry};
use std::path::Path;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigPath,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let path = &arguments.config.config;
    let result = run::configuration(path).and_then(|config| {
        let twice = points_of(&config)?;
        Ok((config, twice))
    });
    match result {
        Ok((config, points)) => {
            show(&config, points, arguments.json);
            Ok(())
        }
        Err(error) if arguments.json => {
            let mistakes = match &error {
                run::RunError::Mistakes { found, .. } => found.clone(),
                other => vec![other.to_string()],
            };
            anstream::println!("{}", json!({ "ok": false, "mistakes": mistakes }));
            Err(Failure { code: 2, text: String::new() })
        }
        Err(run::RunError::Mistakes { path, found }) => {
            let many = if found.len() == 1 { "1 mistake".to_owned() } else { format!("{} mistakes", found.len()) };
            anstream::println!("{HEAD}{}{HEAD:#}: {BAD}{many}{BAD:#}", path.display());
            for mistake in found {
                anstream::println!("  {mistake}");
            }
            Err(Failure { code: 2, text: String::new() })
        }
        Err(error) => Err(Failure::usage(error)),
    }
}

/// How many points there are; two sources of one series are a mistake that only the whole shows.
fn points_of(config: &Config) -> Result<usize, run::RunError> {
    let registry = Registry::new();
    for link in links(config) {
        for device in &link.devices {
            for point in &device.points {
                registry.point(point.definition(&link, device))?;
            }
        }
    }
    Ok(registry.len())
}

fn links(config: &Config) -> Vec<Link> {
    modbus::config::resolve(&config.modbus).unwrap_or_default() // `mistakes` found none
}

/// What `run` would start with, and what will stop it one day or from outside.
fn doubts(config: &Config) -> Vec<String> {
    let uplink = &config.uplink;
    let mut doubts: Vec<String> = file::readable_by_all(&uplink.key).into_iter().collect();
    for path in [&uplink.ca, &uplink.cert] {
        let Ok(found) = file::about(path) else { continue }; // `mistakes` told
        let (path, date) = (path.display(), found.last_day());
        match found.expiry(Timestamp::wall_clock()) {
            Expiry::Ended => doubts.push(format!("{path} ended on {date}: no connection will be made")),
            Expiry::Soon(days) => doubts.push(format!("{path} ends on {date}, in {days} days")),
            Expiry::Later => {}
        }
    }
    if file::about(&uplink.cert).is_ok_and(|found| !found.for_clients) {
        doubts.push(format!("{} is a server's certificate: the collector won't accept it", uplink.cert.display()));
    }
    // The nearest folder that is there: a missing one is made by `run`.
    let folder = &config.data_dir;
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    if !there.is_dir() || rustix::fs::access(there, rustix::fs::Access::WRITE_OK).is_err() {
        doubts.push(format!("data_dir {}: {} can't be written by this user", folder.display(), there.display()));
    }
    doubts
}

fn show(config: &Config, points: usize, as_json: bool) {
    let links = links(config);
    let doubts = doubts(config);
    let name = shared::tls::own_name(&config.uplink.cert).map_or_else(|e| e.to_string(), |n| n.to_string());
    if as_json {
        let links: Vec<_> = links
            .iter()
            .map(|link| {
                let devices: Vec<_> = link
                    .devices
                    .iter()
                    .map(|d| json!({ "device": d.name, "unit": d.unit, "requests": modbus::request_plan(d) }))
                    .collect();
                json!({ "link": link.name, "transport": link.transport.to_string(), "devices": devices })
            })
            .collect();
        let collectors = &config.uplink.collectors;
        let view = json!({ "ok": true, "gateway": name, "points": points, "collectors": collectors, "modbus": links,
            "mqtt": config.mqtt.iter().map(|broker| &broker.name).collect::<Vec<_>>(), "doubts": doubts });
        anstream::println!("{view}");
        return;
    }
    anstream::println!("{GOOD}ok{GOOD:#}  gateway {HEAD}{name}{HEAD:#}, {points} configured points");
    anstream::println!("    to {}", config.uplink.collectors.join(", then "));
    let mib = config.spool_bytes_max() >> 20;
    anstream::println!("    spool in {}, up to {mib} MiB", config.data_dir.display());
    for doubt in doubts {
        anstream::println!("    {DOUBT}note:{DOUBT:#} {doubt}");
    }
    for link in &links {
        anstream::println!("{HEAD}{}{HEAD:#}  {}, timeout {:?}", link.name, link.transport, link.timeout);
        for device in &link.devices {
            anstream::println!("  {} ({})", device.name, device.node);
            for request in modbus::request_plan(device) {
                anstream::println!("    {request}");
            }
            if let Some(shortest) = device.points.iter().map(|point| point.interval).min()
                && shortest < link.timeout
            {
                anstream::println!(
                    "    {DOUBT}note:{DOUBT:#} the interval {shortest:?} is shorter than the timeout: \
                     a unit that doesn't answer costs its neighbours polls"
                );
            }
        }
    }
    for broker in &config.mqtt {
        anstream::println!("{HEAD}{}{HEAD:#}  mqtt {}, as {}", broker.name, broker.address, broker.client_id);
        for subscription in &broker.subscription {
            anstream::println!("    {}", subscription.topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_can_not_be_made_is_told_before_the_agent_starts() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../config/agent.toml"));
        let mut config = Config::load(path).unwrap();
        let folder = tempfile::tempdir().unwrap();
        config.data_dir = folder.path().join("not/there/yet");
        assert_eq!(doubts(&config), Vec::<String>::new());
        std::fs::write(folder.path().join("not"), "a file").unwrap();
        assert!(doubts(&config)[0].contains("/not can't be written"), "{:?}", doubts(&config));
    }
}
