//! The dashboard in a real browser: Chromium, driven by the script in `browser/`, against a collector on SQLite and a
//! real Redis, with two years of readings and a gateway that sends on command. The script says what it wants, line by
//! line, and is answered when it is done.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

mod services;
mod support;

use collector::config::Config;
use collector::run::Tiers;
use collector::tiers::{Flush, StoredReading};
use services::redis::Redis;
use shared::block::{Row, TimeBase};
use shared::catalogue::{Catalogue, Class, Entry, PointNo};
use shared::ids::{GatewayId, NodeId};
use shared::metric::Metric;
use shared::reading::{Held, Quality, Timestamp};
use shared::wire::Message;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use support::*;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

const GATEWAY: &str = "STATION_7";
/// A name that is markup, as far as names can be; a channel may be any text.
const HOSTILE: &str = "<img src=x onerror=alert(1)>";
/// Seconds between the readings of two years.
const STEP_S: i64 = 600;
const YEARS_S: i64 = 2 * 365 * 86_400;
/// How long everything in the browser may take.
const BROWSER_WITHIN: Duration = Duration::from_secs(240);

/// node, metric, channel, milliseconds between readings
const SERIES: [(&str, &str, &str, u32); 7] = [
    ("RES_001", "flow_rate", "inlet", 1_000),
    ("RES_001", "level", "", 1_000),
    ("PUMP_001", "running", "", 1_000),
    ("DIST_001", "flow_rate", "", STEP_S as u32 * 1_000),
    ("DIST_001", "pressure", "", 1_000),
    ("DIST_001", "total_volume", "", 1_000),
    ("DIST_002", "pressure", HOSTILE, 1_000),
];

fn catalogue() -> Catalogue {
    let entry = |(node, metric, channel, interval_ms): &(&str, &str, &str, u32)| {
        let known = Metric::named(metric).unwrap();
        Entry {
            node: NodeId::new(node).unwrap(),
            metric: (*metric).into(),
            channel: (*channel).into(),
            kind: known.kind,
            unit: known.unit.into(),
            resolution_exp: Some(-2),
            interval_ms: *interval_ms,
            silence_ms_max: 0,
            class: Class::Raw,
        }
    };
    Catalogue::new(SERIES.iter().map(entry).collect()).unwrap()
}

fn point(node: &str, metric: &str) -> u32 {
    SERIES.iter().position(|(n, m, ..)| (*n, *m) == (node, metric)).unwrap() as u32
}

/// Two years of DIST_001's flow every ten minutes: days and years, a hole of three days, a bad hour.
async fn seed(config: &Config, now: i64) {
    let tiers = Tiers::open(config).await.unwrap();
    let catalogue = catalogue();
    let gateway = GatewayId::new(GATEWAY).unwrap();
    let ids = tiers.warm.series_for(&gateway, catalogue.entries()).await.unwrap();
    let series = ids[point("DIST_001", "flow_rate") as usize].clone().unwrap();
    let day = std::f64::consts::TAU / 86_400.0;
    let reading = |ago: i64| {
        let s = (now / SECOND - ago) as f64;
        let value = 40.0 + 15.0 * (s * day).sin() + 8.0 * (s * day / 365.0).sin() + (s * 0.37).sin();
        let bad = (20 * 86_400..20 * 86_400 + 7_200).contains(&ago);
        let held = if bad {
            Held { value: None, quality: Quality::BAD_TIMEOUT, revision: 0 }
        } else {
            Held { value: Some((value * 100.0).round() / 100.0), quality: Quality::GOOD, revision: 0 }
        };
        StoredReading { series, at: Timestamp(now - ago * SECOND), held }
    };
    let hole = 40 * 86_400..43 * 86_400;
    let all: Vec<i64> = (1..YEARS_S / STEP_S).map(|n| n * STEP_S).filter(|ago| !hole.contains(ago)).collect();
    for some in all.chunks(20_000) {
        let readings = some.iter().map(|ago| reading(*ago)).collect();
        tiers.warm.commit(Flush { readings, ..Flush::default() }).await.unwrap();
    }
    while tiers.warm.refresh_rollups(5_000).await.unwrap() > 0 {}
    tiers.warm.close().await;
}

/// A gateway that says what it is told to say.
struct Station {
    client: Client,
    hash: shared::catalogue::CatalogueHash,
    seq: u64,
}

impl Station {
    async fn connect(to: &Collector) -> Self {
        let mut client = Client::connect(to, GATEWAY, hello(STREAM, 0)).await;
        let catalogue = catalogue();
        client.send(Message::Catalogue { bytes: catalogue.to_bytes().into() }).await;
        client.send(Message::Status(status())).await;
        Self { client, hash: catalogue.hash(), seq: 0 }
    }

    /// As agents do: newest values at once, and the same in a block.
    async fn say(&mut self, values: &[(&str, &str, f64)]) {
        self.seq += 1;
        let at = now();
        let mut readings: Vec<_> = values.iter().map(|(n, m, value)| (point(n, m), at, *value)).collect();
        readings.sort_by_key(|(point, ..)| *point);
        let row = |(point, at, value): &(u32, i64, f64)| Row {
            point: PointNo(*point),
            at: Timestamp(*at),
            value: Some(*value),
            quality: Quality::GOOD,
        };
        let rows = readings.iter().map(row).collect();
        self.client.send(Message::Live { catalogue: self.hash, rows }).await;
        let bytes = block(self.hash, TimeBase::Utc, &readings);
        self.client.block(self.seq, bytes).await;
        self.client.wait_stored(seqs([self.seq])).await;
    }

    async fn fail(&mut self, node: &str, metric: &str) {
        let row = Row {
            point: PointNo(point(node, metric)),
            at: Timestamp(now()),
            value: None,
            quality: Quality::BAD_TIMEOUT,
        };
        self.client.send(Message::Live { catalogue: self.hash, rows: vec![row] }).await;
    }

    /// Every series once.
    async fn say_all(&mut self) {
        self.say(&[
            ("RES_001", "flow_rate", 21.5),
            ("RES_001", "level", 3.4),
            ("PUMP_001", "running", 1.0),
            ("DIST_001", "flow_rate", 33.3),
            ("DIST_001", "pressure", 4.2),
            ("DIST_001", "total_volume", 1_234.5),
            ("DIST_002", "pressure", 3.9),
        ])
        .await;
    }
}

/// Where the pictures go: not a place of the repository.
fn pictures() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("screens")
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_all_of_it_live_in_a_real_browser() {
    let mut redis = Redis::start().await;
    let site = Site::new(&[GATEWAY], |config| {
        config.hot = redis.settings();
        config.hot.timeout = Duration::from_millis(500).into();
        config.nodes = toml::from_str(
            "RES_001 = { name = 'Low basin', at = [0, 1], to = ['PUMP_001'], inflow = true }\n\
             PUMP_001 = { at = [2, 1], to = ['DIST_001', 'DIST_002'] }\n\
             DIST_001 = { name = 'Old town', at = [4, 0] }\nDIST_002 = { name = '<b>Harbour</b>', at = [4, 2] }",
        )
        .unwrap();
    });
    seed(&site.config, now()).await;
    let collector = site.start().await;
    let mut station = Station::connect(&collector).await;
    station.say_all().await;

    let mut script = Command::new("node")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/run.mjs"))
        .args([format!("http://{}", collector.api), pictures().display().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
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
