//! What the network did before the browser looks: years of a district, a leak, a stuck sensor, forecasts and how right they
//! were.

#![allow(unreachable_pub)] // of modules of a test

use crate::support::{SECOND, Site};
use collector::analytics::anomaly::Kind as Wrong;
use collector::analytics::store::Wanted;
use collector::anomalies::Anomalies;
use collector::config::Config;
use collector::etl::jobs::Alarm;
use collector::etl::jobs::anomaly_detection::AnomalyDetection;
use collector::etl::jobs::daily_sync::DailySync;
use collector::etl::jobs::data_quality::DataQuality;
use collector::etl::jobs::forecast::Forecasting;
use collector::etl::schedule::zone;
use collector::etl::{Job, Progress};
use collector::run::Tiers;
use collector::tiers::{ColdTier, Flush, GatewayGap, Quarantined, SeriesId, StoredReading, WarmTier};
use shared::catalogue::{Catalogue, Class, Entry};
use shared::ids::{GatewayId, NodeId, Seq, StreamId};
use shared::metric::Metric;
use shared::ranges::SeqRange;
use shared::reading::{Held, Quality, Timestamp};
use shared::spool::{Gap, GapReason};
use std::f64::consts::TAU;
use std::sync::Arc;

pub const GATEWAY: &str = "STATION_7";
/// A name that is markup, as far as names can be; a channel may be any text.
const HOSTILE: &str = "<img src=x onerror=alert(1)>";
/// Seconds between stored readings.
const STEP_S: i64 = 600;
const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 24 * HOUR_S;
/// How far back there is something to learn from.
const TAUGHT_S: i64 = 64 * DAY_S;
/// How far back the first district goes.
const YEARS_S: i64 = 2 * 365 * DAY_S;
/// Days before this are in the archive.
const ARCHIVED_S: i64 = YEARS_S - 12 * DAY_S;
/// Days on which a forecast was made before.
const FORETOLD: i64 = 9;

const SLOW: u32 = STEP_S as u32 * 1_000;
/// node, metric, channel, milliseconds between readings
const SERIES: [(&str, &str, &str, u32); 10] = [
    ("RES_001", "flow_rate", "inlet", 1_000),
    ("RES_001", "level", "", 1_000),
    ("PUMP_001", "running", "", 1_000),
    ("DIST_001", "flow_rate", "", SLOW),
    ("DIST_001", "pressure", "", 1_000),
    ("DIST_001", "total_volume", "", 1_000),
    ("DIST_002", "flow_rate", "", SLOW),
    ("DIST_002", "pressure", HOSTILE, 1_000),
    ("DIST_003", "flow_rate", "", SLOW),
    ("DIST_003", "pressure", "", SLOW),
];

/// Names for pictures are harmless, and every series has a past.
pub fn catalogue(harmless: bool) -> Catalogue {
    let entry = |(node, metric, channel, interval_ms): &(&str, &str, &str, u32)| {
        let known = Metric::named(metric).unwrap();
        let channel = if harmless && *channel == HOSTILE { "outlet" } else { channel };
        Entry {
            node: NodeId::new(node).unwrap(),
            metric: (*metric).into(),
            channel: channel.into(),
            kind: known.kind,
            unit: known.unit.into(),
            resolution_exp: Some(-2),
            interval_ms: if harmless { SLOW } else { *interval_ms },
            silence_ms_max: 0,
            class: Class::Raw,
        }
    };
    Catalogue::new(SERIES.iter().map(entry).collect()).unwrap()
}

pub fn point(node: &str, metric: &str) -> u32 {
    SERIES.iter().position(|(n, m, ..)| (*n, *m) == (node, metric)).unwrap() as u32
}

/// As operators would have it in `[nodes]`.
pub fn places(harmless: bool) -> String {
    let harbour = if harmless { "Harbour" } else { "<b>Harbour</b>" };
    format!(
        "RES_001 = {{ name = 'Low basin', at = [0, 1], to = ['PUMP_001'], inflow = true }}\n\
         PUMP_001 = {{ name = 'Pumps', at = [2, 1], to = ['DIST_001', 'DIST_002', 'DIST_003'] }}\n\
         DIST_001 = {{ name = 'Old town', at = [4, 0] }}\nDIST_002 = {{ name = '{harbour}', at = [4, 1] }}\n\
         DIST_003 = {{ name = 'Hill', at = [4, 2] }}"
    )
}

/// Demand of a district: low at night, high in the morning and in the evening, less in winter.
fn demand(s: f64, size: f64) -> f64 {
    let day = s / DAY_S as f64;
    let hours = 1.0 - 0.45 * (day * TAU).cos() - 0.18 * (2.0 * day * TAU + 0.6).cos();
    size * (hours + 0.15 * (day * TAU / 365.0).sin() + 0.02 * (s * 0.37).sin() + 0.015 * (s * 0.011).sin())
}

/// A history: from how long ago, and what was read so many seconds ago; nothing in a hole.
type Story = (&'static str, &'static str, i64, fn(f64, i64) -> Option<Held>);

fn good(value: f64) -> Option<Held> {
    Some(Held { value: Some((value * 100.0).round() / 100.0), quality: Quality::GOOD, revision: 0 })
}

const STORIES: &[Story] = &[
    // A hole of three days, a bad stretch of two hours.
    ("DIST_001", "flow_rate", YEARS_S, |s, ago| match ago {
        _ if (40 * DAY_S..43 * DAY_S).contains(&ago) => None,
        _ if (20 * DAY_S..20 * DAY_S + 2 * HOUR_S).contains(&ago) => {
            Some(Held { value: None, quality: Quality::BAD_TIMEOUT, revision: 0 })
        }
        _ => good(demand(s, 40.0)),
    }),
    // A main has burst.
    ("DIST_002", "flow_rate", TAUGHT_S, |s, ago| good(demand(s, 22.0) + if ago < 10 * HOUR_S { 16.0 } else { 0.0 })),
    ("DIST_003", "flow_rate", TAUGHT_S, |s, _| good(demand(s, 11.0))),
    // The sensor stands still.
    ("DIST_003", "pressure", TAUGHT_S, |s, ago| {
        let s = if ago < 9 * HOUR_S { s + (ago - 9 * HOUR_S) as f64 } else { s };
        good(5.2 - demand(s, 1.0) / 2.0)
    }),
];

/// Pictures have these, too.
const MORE: &[Story] = &[
    ("RES_001", "flow_rate", TAUGHT_S, |s, _| good(demand(s, 73.0))),
    ("RES_001", "level", TAUGHT_S, |s, _| good(3.1 + demand(s + 4.0 * HOUR_S as f64, 0.6))),
    ("PUMP_001", "running", TAUGHT_S, |s, _| good(f64::from(demand(s, 1.0) > 0.75))),
    ("DIST_001", "pressure", TAUGHT_S, |s, _| good(5.0 - demand(s, 0.8))),
    ("DIST_001", "total_volume", TAUGHT_S, |s, _| good((s - 1.7e9) * 0.04)),
    ("DIST_002", "pressure", TAUGHT_S, |s, ago| good(4.6 - demand(s, 0.7) - if ago < 10 * HOUR_S { 0.6 } else { 0.0 })),
];

fn stories(harmless: bool) -> impl Iterator<Item = &'static Story> {
    STORIES.iter().chain(if harmless { MORE } else { &[] })
}

/// What would be read now in pictures.
pub fn reads(node: &str, metric: &str, now: i64) -> f64 {
    let story = stories(true).find(|story| (story.0, story.1) == (node, metric)).unwrap();
    (story.3)((now / SECOND) as f64, 0).and_then(|held| held.value).unwrap()
}

async fn tell(warm: &dyn WarmTier, series: SeriesId, now: i64, (_, _, since, story): &Story) {
    let all: Vec<i64> = (1..since / STEP_S).map(|n| n * STEP_S).collect();
    for some in all.chunks(20_000) {
        let reading = |ago: &i64| {
            let held = story((now / SECOND - ago) as f64, *ago)?;
            Some(StoredReading { series, at: Timestamp(now - ago * SECOND), held })
        };
        let readings = some.iter().filter_map(reading).collect();
        warm.commit(Flush { readings, ..Flush::default() }).await.unwrap();
    }
}

/// What is kept aside: one kind that can be released, and one that can't.
fn aside(now: i64) -> Flush {
    let gateway = GatewayId::new(GATEWAY).unwrap();
    let row = |seq: u64, series: &str, reason: &str, ago: i64| Quarantined {
        gateway: gateway.clone(),
        stream: StreamId(7),
        seq: Seq(seq),
        series: series.into(),
        at: Timestamp(now - ago * SECOND),
        held: Held { value: Some(3.5), quality: Quality::GOOD, revision: 0 },
        reason: reason.into(),
        received: Timestamp(now - HOUR_S * SECOND),
    };
    let mut quarantine: Vec<_> = (1..=5).map(|n| row(n, "RES_001/level", "future", n as i64 * 60)).collect();
    quarantine.extend((6..=8).map(|n| row(n, "DIST_009/flow_rate", "not granted", n as i64 * 60)));
    let gap = Gap {
        seqs: SeqRange::new(Seq(4), Seq(6)),
        span: Some((Timestamp(now - 5 * HOUR_S * SECOND), Timestamp(now - 4 * HOUR_S * SECOND))),
        reason: GapReason::Overflow,
    };
    let gaps = vec![GatewayGap { gateway: gateway.clone(), stream: StreamId(8), gap }];
    Flush { quarantine, gaps, ..Flush::default() }
}

/// Stores it all, and lets the jobs of the days before run.
pub async fn seed(config: &Config, now: i64, harmless: bool) {
    let tiers = Tiers::open(config).await.unwrap();
    let warm = tiers.warm;
    let catalogue = catalogue(harmless);
    let ids = warm.series_for(&GatewayId::new(GATEWAY).unwrap(), catalogue.entries()).await.unwrap();
    for story in stories(harmless) {
        let series = ids[point(story.0, story.1) as usize].clone().unwrap();
        tell(&*warm, series, now, story).await;
    }
    warm.commit(aside(now)).await.unwrap();
    while warm.refresh_rollups(5_000).await.unwrap() > 0 {}
    archive(&tiers.cold, &warm, now).await;
    let rome = zone("Europe/Rome").unwrap();
    for day in (0..=FORETOLD).rev() {
        let clock = Timestamp(now - day * DAY_S * SECOND);
        let job = Forecasting { warm: warm.clone(), zone: rome.clone(), now: Arc::new(move || clock) };
        job.run(&Progress::default()).await.unwrap();
    }
    let clock = Arc::new(move || Timestamp(now));
    let job = AnomalyDetection {
        warm: warm.clone(),
        anomalies: Arc::new(Anomalies::new(warm.clone(), None)),
        zone: rome.clone(),
        now: clock.clone(),
    };
    job.run(&Progress::default()).await.unwrap();
    if harmless {
        let (warm, anomalies) = (warm.clone(), job.anomalies.clone());
        let job = DataQuality { warm, cold: None, anomalies, zone: rome, now: clock };
        job.run(&Progress::default()).await.unwrap();
    }
    let found = warm.anomalies().find_anomalies(&Wanted::all(100)).await.unwrap();
    for kind in [Wrong::Profile, Wrong::Stuck] {
        assert!(found.iter().any(|one| one.kind == kind), "no {kind:?} in {found:#?}");
    }
    warm.close().await;
}

/// Brings the oldest days into the archive: by the clock of then, no later one is over.
async fn archive(cold: &Option<Arc<dyn ColdTier>>, warm: &Arc<dyn WarmTier>, now: i64) {
    let then = Timestamp(now - ARCHIVED_S * SECOND);
    let (warm, cold, alarm) = (warm.clone(), cold.clone(), Arc::new(Alarm::default()));
    let job = DailySync { warm, cold, inbox: None, now: Arc::new(move || then), alarm };
    job.run(&Progress::default()).await.unwrap();
}

/// A user of each role, made as an admin makes them; all have one password.
pub fn people(site: &Site, password: &str) {
    let secret = site.folder.path().join("password");
    std::fs::write(&secret, format!("{password}\n")).unwrap();
    let config = site.folder.path().join("people.toml");
    let server = site.folder.path().join("server-password");
    std::fs::write(&server, site.config.warm.password.as_ref().unwrap().reveal()).unwrap();
    let warm = &site.config.warm;
    let text = format!(
        "data_dir = {:?}\n[warm]\nstore = 'postgres'\nhost = {:?}\nport = {}\ndatabase = {:?}\nuser = {:?}\npassword_file = {server:?}\ntls = 'off'\n",
        site.config.data_dir, warm.host, warm.port, warm.database, warm.user
    );
    std::fs::write(&config, text).unwrap();
    for (name, role) in [("rossi", "viewer"), ("bianchi", "operator"), ("verdi", "admin")] {
        let (secret, config) = (secret.to_str().unwrap(), config.to_str().unwrap());
        let made = crate::support::process::collector(&[
            "user",
            "add",
            name,
            "--role",
            role,
            "--password-file",
            secret,
            "--config",
            config,
        ]);
        assert!(made.status.success(), "{made:?}");
    }
}
