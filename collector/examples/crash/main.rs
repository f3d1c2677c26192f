//! Breaks agent, collector and the network between them at random, again and again, while a Modbus device is polled and
//! MQTT messages with their own timestamps arrive; then asks the API whether everything that was acknowledged to its
//! source is stored, once, and nothing else.
//!
//! ```text
//! crash --rounds 500 kill         kill -9 of agent, collector or both
//! crash --rounds 500 network      the connection between them is cut, stalled, delayed, refused
//! crash --rounds 500 spool        the collector is killed and its spool deleted
//! crash --rounds 500 tiers        kill -9 of Redis, PostgreSQL, collector or agent
//! crash --rounds 500 pair         of two collectors on one PostgreSQL and Redis, one is killed for good with its disk
//! crash outage                    three weeks without a connection, then a link of 128 kbit/s
//! ```

mod outage;
mod programs;
#[path = "../../tests/support/proxy.rs"]
mod proxy;
#[path = "../../tests/services/mod.rs"]
mod services;
mod sources;
mod stall;
mod tiers;
mod verdict;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use programs::{Extra, Site, Victim};
use proxy::Weather;
use sources::Sources;
use std::time::Duration;
use tiers::Tiers;

#[derive(Debug, Parser)]
struct Arguments {
    /// What is broken.
    mode: Mode,
    /// How often.
    #[arg(long, default_value_t = 20)]
    rounds: u32,
    /// Repeats an earlier run's choices, as far as time allows.
    #[arg(long)]
    seed: Option<u64>,
    /// Keeps the folder with all files and logs.
    #[arg(long)]
    keep: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Kill,
    Network,
    Spool,
    Tiers,
    Pair,
    Outage,
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
    async fn pause(&mut self, longest_ms: u64) {
        tokio::time::sleep(Duration::from_millis(self.roll(longest_ms))).await;
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| shared::ids::StreamId::random().0);
    let folder = tempfile::tempdir()?;
    let result = if arguments.mode == Mode::Outage {
        outage::run(folder.path()).await
    } else {
        println!("{:?}, {} rounds, seed {seed}", arguments.mode, arguments.rounds);
        run(&arguments, folder.path(), Dice(seed)).await
    };
    if arguments.keep || result.is_err() {
        println!("everything is kept in {}", folder.keep().display());
    }
    result
}

async fn run(arguments: &Arguments, folder: &std::path::Path, mut dice: Dice) -> Result<()> {
    let mut tiers = match arguments.mode {
        Mode::Tiers | Mode::Pair => Some(Tiers::start().await),
        _ => None,
    };
    let collector = tiers.as_ref().map(|tiers| tiers.config.clone()).unwrap_or_default();
    let extra = Extra { collector, two: arguments.mode == Mode::Pair, ..Extra::default() };
    let mut sources = Sources::start(folder).await?;
    let mut site = Site::start(folder, sources.modbus_port, sources.mqtt_port, &extra).await?;
    site.wait_until_up().await.context("at the start")?;
    sources.begin(&site).await?;
    let stalls = stall::Watch::start(site.api());
    for round in 1..=arguments.rounds {
        dice.pause(1200).await;
        let what = match (arguments.mode, &mut tiers) {
            (Mode::Tiers, Some(tiers)) => tiers.kill(&mut site, &mut dice, &stalls).await?,
            (Mode::Pair, _) => lose_collector(&mut site, &mut dice).await?,
            (Mode::Network, _) => storm(&site, &mut dice).await,
            (Mode::Spool, _) => lose_spool(&mut site, &mut dice).await?,
            _ => kill(&mut site, &mut dice).await?,
        };
        println!("{round:>4}  {what}");
    }
    let sent = sources.stop_sending().await?;
    println!("all quiet; {} values were acknowledged to their sources", sent.count());
    verdict::judge(&mut site, &sent).await?;
    if arguments.mode == Mode::Tiers {
        println!("longest time without a stored block while Redis or PostgreSQL was killed: {:.1} s", stalls.longest());
    }
    Ok(())
}

async fn kill(site: &mut Site, dice: &mut Dice) -> Result<String> {
    let victims: &[Victim] = match dice.roll(5) {
        0 | 1 => &[Victim::Agent],
        2 | 3 => &[Victim::Collector(0)],
        _ => &[Victim::Agent, Victim::Collector(0)],
    };
    for victim in victims {
        site.kill(*victim)?;
    }
    dice.pause(600).await;
    for victim in victims {
        site.restart(*victim)?;
    }
    Ok(format!("killed {victims:?}"))
}

async fn storm(site: &Site, dice: &mut Dice) -> String {
    let fair = Weather::default();
    let (what, weather) = match dice.roll(5) {
        0 => ("cut", fair),
        1 => ("stalled", Weather { stall: true, ..fair }),
        2 => ("delayed", Weather { delay: Duration::from_millis(50 + dice.roll(300)), ..fair }),
        3 => ("refused", Weather { refuse: true, ..fair }),
        _ => ("slow", Weather { bytes_per_s: 2_000, ..fair }),
    };
    site.proxy.set(weather);
    if dice.roll(3) > 0 || weather.refuse {
        site.proxy.cut();
    }
    dice.pause(1500).await;
    if weather.stall {
        site.proxy.cut(); // what was on its way is lost
    }
    site.proxy.set(fair);
    what.into()
}

async fn lose_spool(site: &mut Site, dice: &mut Dice) -> Result<String> {
    site.kill(Victim::Collector(0))?;
    let spool = site.collector_data(0).join("spool");
    std::fs::remove_dir_all(&spool).with_context(|| spool.display().to_string())?;
    let both = dice.roll(4) == 0;
    if both {
        site.kill(Victim::Agent)?;
    }
    dice.pause(400).await;
    site.restart(Victim::Collector(0))?;
    if both {
        site.restart(Victim::Agent)?;
    }
    site.wait_until_up().await?;
    Ok(format!("deleted the collector's spool{}", if both { ", killed the agent too" } else { "" }))
}

/// One of two is gone, and all that it had on its disk; another one takes its place after a while, with an empty disk.
async fn lose_collector(site: &mut Site, dice: &mut Dice) -> Result<String> {
    let which = dice.roll(site.collectors() as u64) as usize;
    site.kill(Victim::Collector(which))?;
    let data = site.collector_data(which);
    match std::fs::remove_dir_all(&data) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {} // it had just begun
        removed => removed.with_context(|| data.display().to_string())?,
    }
    site.wait_until_up().await.context("the other collector")?;
    dice.pause(1500).await;
    site.restart(Victim::Collector(which))?;
    Ok(format!("collector {which} is gone with its disk, and a new one came"))
}
