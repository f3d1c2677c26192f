//! `check`: every mistake of a configuration, and what the agent would do with it.

use super::{BAD, ConfigPath, DOUBT, Failure, GOOD, HEAD};
use crate::config::Config;
use crate::registry::Registry;
use crate::run;
use crate::sources::modbus::{self, config::Link};
use clap::Args;
use serde_json::json;

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

fn show(config: &Config, points: usize, as_json: bool) {
    let links = links(config);
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
        let view = json!({ "ok": true, "gateway": name, "points": points, "collectors": collectors, "modbus": links });
        anstream::println!("{view}");
        return;
    }
    anstream::println!("{GOOD}ok{GOOD:#}  gateway {HEAD}{name}{HEAD:#}, {points} configured points");
    anstream::println!("    to {}", config.uplink.collectors.join(", then "));
    let mib = config.spool_bytes_max() >> 20;
    anstream::println!("    spool in {}, up to {mib} MiB", config.data_dir.display());
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
}
