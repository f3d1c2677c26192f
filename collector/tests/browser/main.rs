//! The dashboard in a real browser: Chromium, driven by the script in `browser/`, against a collector on a real PostgreSQL
//! and a real Redis, with two years of readings, people who log in, and a gateway that sends on command. The script says what it wants, line by
//! line, and is answered when it is done. And the same against the demo, as people start it (`demo.rs`).
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

#[path = "../services/mod.rs"]
mod services;
#[path = "../support/mod.rs"]
mod support;

#[path = "../support/programs.rs"]
mod programs;

mod demo;
mod seed;
mod station;

use collector::tiers::warm::settings::{Store, WarmSettings};
use seed::{GATEWAY, people, places, seed};
use services::postgres::Postgres;
use services::redis::Redis;
use station::Station;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use support::*;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

/// How long everything in the browser may take.
const BROWSER_WITHIN: Duration = Duration::from_secs(300);
/// Everybody's.
const PASSWORD: &str = "correct horse battery";

/// Where pictures of every page go, and nothing else is done, when somebody wants them: `make screens`.
fn wanted() -> Option<PathBuf> {
    std::env::var_os("SCREENS").map(PathBuf::from)
}

/// Where they go without a word: not a place of the repository.
fn pictures() -> PathBuf {
    wanted().unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("screens"))
}

/// The script, with the address of a dashboard.
fn script(base: &str, pictures: &Path) -> Command {
    let mut script = Command::new("node");
    script.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/run.mjs")).arg(base).arg(pictures);
    script.kill_on_drop(true);
    script
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_and_do_all_of_it_in_a_real_browser() {
    let harmless = wanted().is_some();
    // On disk at once: it is killed, and sessions shall be there when it is back.
    let mut redis = Redis::start_with(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"]).await;
    let mut postgres = Postgres::start().await;
    let warm = WarmSettings { store: Some(Store::Postgres), ..postgres.database().await };
    let site = Site::new(&[GATEWAY], |config| {
        config.warm = warm;
        config.hot = redis.settings();
        config.hot.timeout = Duration::from_millis(500).into();
        config.jobs.anomaly_detection = "off".into(); // found before, and by hand: not while somebody looks
        config.nodes = toml::from_str(&places(harmless)).unwrap();
    });
    seed(&site.config, now(), harmless).await;
    people(&site, PASSWORD);
    let collector = site.start().await;
    let mut station = Station::connect(&collector, harmless).await;
    station.say_all().await;

    let mut script = script(&format!("http://{}", collector.api), &pictures())
        .env("PASSWORD", PASSWORD)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node is there");
    let (mut tell, mut said) = (script.stdin.take().unwrap(), BufReader::new(script.stdout.take().unwrap()).lines());
    let work = async {
        while let Some(line) = said.next_line().await.unwrap() {
            let Some(wish) = line.strip_prefix("please ") else {
                println!("{line}");
                continue;
            };
            let words: Vec<&str> = wish.split(' ').collect();
            match words[..] {
                ["say", node, metric, value] => station.say(&[(node, metric, value.parse().unwrap())]).await,
                ["say-all"] => station.say_all().await,
                ["fail", node, metric] => station.fail(node, metric).await,
                ["kill", "redis"] => redis.kill(),
                ["start", "redis"] => redis.restart().await,
                ["kill", "postgres"] => postgres.kill(),
                ["start", "postgres"] => postgres.restart().await,
                _ => panic!("what is '{wish}'?"),
            }
            tell.write_all(b"done\n").await.unwrap();
        }
        script.wait().await.unwrap()
    };
    let status = tokio::time::timeout(BROWSER_WITHIN, work).await.expect("the browser takes too long");
    assert!(status.success(), "{status}; pictures are in {}", pictures().display());
    collector.stop().await;
}
