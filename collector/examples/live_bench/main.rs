//! How late a value is at those who watch: 500 WebSocket clients, each with 20 of 1,000 series that change every second,
//! while 200 dashboards are opened and refresh their overview: what the page asks, when it asks it. The database holds eight
//! weeks of hours of all series before.
//!
//! `live_bench [--json] [SECONDS]`, 30 by default. It runs the program `collector` that was built beside it, with its
//! default configuration: memory and SQLite, on the same machine as the clients and the gateways. Time counts from before
//! a gateway's block goes into its socket until a client has the message: TLS, the check, the fsync, and the way out.

#[path = "../../../shared/examples/figures/mod.rs"]
mod figures;
#[allow(dead_code)] // one benchmark uses a part
#[path = "../ingest_bench/gateway.rs"]
mod gateway;
mod past;
#[allow(dead_code)] // latency_bench has more of it
#[path = "../latency_bench/rolled.rs"]
mod rolled;
#[path = "../ingest_bench/site.rs"]
mod site;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use figures::{Budget, figure};
use futures::{SinkExt, StreamExt};
use gateway::{Gateway, Pace, SERIES_EACH};
use shared::block::{BlockBuilder, Row, TimeBase};
use shared::catalogue::PointNo;
use shared::reading::{Quality, Timestamp};
use site::Site;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

const GATEWAYS: usize = 10;
const SERIES: usize = GATEWAYS * SERIES_EACH;
const CLIENTS: usize = 500;
const SERIES_OF_CLIENT: usize = 20;
const DASHBOARDS: usize = 200;
/// Dashboards are opened over so long a time.
const OPENED_WITHIN: Duration = Duration::from_secs(10);
/// What brings the page, and what it asks then (`dashboard/app.js`, `network.js`); small lists come with it (`api/page.rs`).
const PAGE: &str = "/";
const OPENING: [&str; 2] = ["/api/v1/series?limit=10000", "/api/v1/latest?limit=10000"];
/// Cards that are seen: their lines are asked for in pieces (`spark.js`), of the last day.
const LINES: usize = 128;
const LINES_AT_ONCE: usize = 64;
/// What an overview asks from then on, and how often, seconds (`app.js`, `overview.js`).
const REFRESH: [(u64, &[&str]); 3] = [
    (5, &["/api/v1/health"]),
    (
        15,
        &[
            "/api/v1/gateways",
            "/api/v1/quality",
            "/api/v1/gaps?from=now-24h",
            "/api/v1/jobs/runs?job=anomaly_detection&limit=10",
        ],
    ),
    (30, &["/api/v1/series?limit=10000", "/api/v1/nodes?limit=10000"]),
];

/// How long all clients may take to connect and to hear the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// When each second's values were sent; a value is the number of its second.
type Sent = Arc<Mutex<Vec<Instant>>>;

#[tokio::main]
async fn main() -> Result<()> {
    let (as_json, arguments) = figures::arguments();
    let seconds: usize = arguments.first().map_or(Ok(30), |text| text.parse()).context("SECONDS is a number")?;
    let mut site = Site::new(GATEWAYS)?;
    past::fill(&site.data().join("warm.sqlite"), Timestamp::wall_clock()).await?;
    let pid = site.start()?;
    let api = site.api()?;
    let mut gateways = Vec::new();
    for n in 0..GATEWAYS {
        gateways.push(Gateway::connect(&site, n).await?);
    }
    let sent = Sent::default();
    tick(&mut gateways, &sent).await?;
    for gateway in &mut gateways {
        gateway.wait_committed(1).await?; // its series have their numbers
    }
    let (used, began) = (figures::processor(pid), Instant::now());
    let (mut clients, mut dashboards) = (JoinSet::new(), JoinSet::new());
    for n in 0..CLIENTS {
        clients.spawn(watch(api, n, sent.clone(), seconds));
    }
    for n in 0..DASHBOARDS {
        dashboards.spawn(dashboard(api, n, OPENED_WITHIN * n as u32 / DASHBOARDS as u32, seconds));
    }
    let ticking = async {
        let mut every = tokio::time::interval(Duration::from_secs(1));
        loop {
            every.tick().await;
            tick(&mut gateways, &sent).await?;
        }
    };
    let watching = tokio::time::timeout(Duration::from_secs(seconds as u64) + PATIENCE, all(clients));
    let lates = tokio::select! {
        lates = watching => lates.context("not every client was told everything in time")??,
        failed = ticking => return failed,
    };
    let lives = all(dashboards).await?;
    let cpu = (figures::processor(pid) - used) / began.elapsed().as_secs_f64();
    let (_, peak) = figures::memory(pid);
    site.stop()?;
    let expected = (CLIENTS * SERIES_OF_CLIENT * seconds) as f64;
    let found = [
        figure("from ingest to a client, half within", part(&lates, 0.5), "ms", Budget::None),
        figure("  99 % within", part(&lates, 0.99), "ms", Budget::AtMost(250.0)),
        figure(
            "  values that arrived, of those sent",
            lates.len() as f64 / expected * 100.0,
            "%",
            Budget::AtLeast(99.0),
        ),
        figure("a dashboard's question, half within", part(&lives, 0.5), "ms", Budget::None),
        figure("  99 % within", part(&lives, 0.99), "ms", Budget::AtMost(100.0)),
        figure("  questions", lives.len() as f64, "", Budget::None),
        figure(
            "  refused, because it was busy",
            lives.iter().filter(|took| took.is_infinite()).count() as f64,
            "",
            Budget::None,
        ),
        figure("collector's processor", cpu * 100.0, "% of a core", Budget::None),
        figure("collector's memory at most", peak as f64 / 1e6, "MB", Budget::None),
    ];
    let under = format!(
        "{CLIENTS} watchers of {SERIES_OF_CLIENT} out of {SERIES} series that change every second, {DASHBOARDS} \
         dashboards, eight weeks of hours in SQLite, all on this machine"
    );
    figures::print(&under, &found, as_json);
    Ok(())
}

/// Every series gets the number of this second.
async fn tick(gateways: &mut [Gateway], sent: &Sent) -> Result<()> {
    let number = sent.lock().expect("not poisoned").len();
    let at = Timestamp::wall_clock();
    let blocks = (0..gateways.len()).map(|n| block(n, at, number)).collect::<Result<Vec<_>>>()?;
    sent.lock().expect("not poisoned").push(Instant::now());
    let sending = gateways.iter_mut().zip(blocks).map(|(gateway, block)| gateway.send(vec![block], Pace::Window));
    futures::future::try_join_all(sending).await?;
    Ok(())
}

fn block(gateway: usize, at: Timestamp, number: usize) -> Result<Bytes> {
    let mut builder = BlockBuilder::new(TimeBase::Utc);
    for point in 0..SERIES_EACH as u32 {
        let row = Row { point: PointNo(point), at, value: Some(number as f64), quality: Quality::GOOD };
        anyhow::ensure!(builder.push(row, None), "a block has room for {SERIES_EACH} readings");
    }
    Ok(builder.finish(gateway::catalogue(gateway)?.hash()).context("a block")?.bytes)
}

/// How late each value was, milliseconds; of so many seconds, the first ones left out.
async fn watch(api: SocketAddr, client: usize, sent: Sent, seconds: usize) -> Result<Vec<f64>> {
    let stream = TcpStream::connect(api).await?;
    let (mut socket, _) = tokio_tungstenite::client_async(format!("ws://{api}/api/v1/live"), stream).await?;
    // Numbers begin at 1; every series has ten watchers, from all gateways.
    let series: Vec<usize> = (0..SERIES_OF_CLIENT).map(|n| (client * 7 + n * 53) % SERIES + 1).collect();
    let asked = serde_json::json!({ "type": "watch", "series": series }).to_string();
    socket.send(Message::text(asked)).await?;
    let (mut late, mut first) = (Vec::new(), None);
    loop {
        let text = match socket.next().await.context("the feed ended")?? {
            Message::Text(text) => text,
            Message::Close(why) => bail!("sent away: {why:?}"),
            _ => continue,
        };
        let heard = Instant::now();
        let said: serde_json::Value = serde_json::from_str(&text)?;
        if said["type"] != "values" {
            continue;
        }
        for item in said["items"].as_array().into_iter().flatten() {
            let number = item["value"].as_f64().context("a value")? as usize;
            let first = *first.get_or_insert(number + 1);
            if number >= first + seconds {
                return Ok(late);
            }
            if number >= first {
                let went = sent.lock().expect("not poisoned")[number];
                late.push(heard.duration_since(went).as_secs_f64() * 1e3);
            }
        }
    }
}

/// How long each question of a dashboard took, milliseconds: it is opened, and then refreshes what isn't in the feed.
async fn dashboard(api: SocketAddr, number: usize, after: Duration, seconds: usize) -> Result<Vec<f64>> {
    let until = Instant::now() + Duration::from_secs(seconds as u64);
    tokio::time::sleep(after).await;
    let (opened, mut took) = (Instant::now(), Vec::new());
    let lines = (0..LINES / LINES_AT_ONCE).map(|piece| lines(number + piece * LINES_AT_ONCE));
    let facts = REFRESH[1].1.iter().map(|path| (*path).to_owned());
    for path in [PAGE].into_iter().chain(OPENING).map(str::to_owned).chain(facts).chain(lines) {
        took.push(ask(api, &path).await?);
    }
    let mut due: Vec<_> = REFRESH
        .iter()
        .map(|(every, paths)| (Duration::from_secs(*every), *paths))
        .map(|(e, p)| (opened + e, e, p))
        .collect();
    while let Some((at, every, paths)) = due.iter_mut().min_by_key(|(at, ..)| *at).filter(|(at, ..)| *at < until) {
        tokio::time::sleep_until((*at).into()).await;
        *at += *every;
        for path in *paths {
            took.push(ask(api, path).await?);
        }
    }
    Ok(took)
}

/// The lines of the cards from a series on; what is read every second comes by the hour.
fn lines(first: usize) -> String {
    let from = Timestamp::wall_clock().plus_micros(-24 * rolled::HOUR);
    let series: Vec<String> = (0..LINES_AT_ONCE).map(|n| ((first + n) % SERIES + 1).to_string()).collect();
    format!("/api/v1/history?series={}&from={from}&resolution=1h", series.join(","))
}

/// How long an answer took, milliseconds; for ever when the collector was too busy for it. Browsers take it packed.
async fn ask(api: SocketAddr, path: &str) -> Result<f64> {
    let began = Instant::now();
    let mut socket = TcpStream::connect(api).await?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await?;
    if answer.starts_with(b"HTTP/1.1 503") {
        return Ok(f64::INFINITY);
    }
    let status = || String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
    anyhow::ensure!(answer.starts_with(b"HTTP/1.1 200"), "{path}: {}", status());
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

async fn all(mut tasks: JoinSet<Result<Vec<f64>>>) -> Result<Vec<f64>> {
    let mut found = Vec::new();
    while let Some(task) = tasks.join_next().await {
        found.extend(task??);
    }
    found.sort_by(f64::total_cmp);
    Ok(found)
}

/// The value that this part of all lies below.
fn part(sorted: &[f64], part: f64) -> f64 {
    sorted.get(((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}
