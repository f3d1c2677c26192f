//! An archive that takes connections, and answers nothing.

use crate::proxy::{Proxy, Weather};
use crate::services::s3::S3Server;
use crate::support::{self, Site, until};
use crate::world::{FIRST, World};
use collector::etl::{Job as _, Progress};
use collector::history::{Answer, POINTS_MAX, Points, Question, Resolution};
use collector::tiers::cold::guarded::Guarded;
use collector::tiers::cold::settings::ColdSettings;
use collector::tiers::{ColdTier, Day};
use serde_json::Value;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const DAYS: i32 = 20;
/// Of those the archive alone has so many.
const LEFT: i32 = 5;

/// The archive is in S3, behind a line that a test can spoil.
async fn world(server: &S3Server) -> (World, Proxy) {
    let settings = server.settings();
    let address = settings.endpoint.as_deref().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
    let line = Proxy::start(address).await.unwrap();
    let settings = ColdSettings { endpoint: Some(format!("http://127.0.0.1:{}", line.port)), ..settings };
    let mut world = World::new().await;
    world.cold = Some(settings.open(Path::new("")).unwrap());
    world.store(0..DAYS, 48).await;
    world.set_clock(DAYS, 3);
    world.sync().run(&Progress::default()).await.unwrap();
    world.cleanup((DAYS - LEFT) as u32).run(&Progress::default()).await.unwrap();
    world.cold = world.cold.map(|cold| Arc::new(Guarded::new(cold)) as Arc<dyn ColdTier>);
    (world, line)
}

async fn ask(world: &World, resolution: Resolution) -> Answer {
    let (series, now) = (world.series[0].clone(), world.now());
    let (from, to) = (FIRST.start(), Day(FIRST.0 + DAYS).start());
    let question = Question { series, from, to, resolution, points_max: POINTS_MAX, thin: None, now };
    world.history().ask(&question).await.unwrap()
}

fn count(answer: &Answer) -> usize {
    match &answer.points {
        Points::Raw(readings) => readings.len(),
        Points::Buckets(_, buckets) => buckets.len(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_warm_tier_has_is_answered_while_the_archive_hangs() {
    let server = S3Server::start();
    let (world, line) = world(&server).await;
    let all = (DAYS * 48) as usize;
    let whole = ask(&world, Resolution::Raw).await;
    assert_eq!((count(&whole), &whole.tiers), (all, &vec!["warm", "cold"]));

    line.set(Weather { stall: true, ..Weather::default() });
    let began = Instant::now();
    let part = ask(&world, Resolution::Raw).await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!((count(&part), &part.tiers), (all - (LEFT * 48) as usize, &vec!["warm"]));
    let said = part.degraded.join("; ");
    assert!(said.contains("nothing came from s3://") && said.contains("is missing"), "{said}");

    let began = Instant::now();
    let next = ask(&world, Resolution::Raw).await;
    assert!(world.cold.as_ref().unwrap().state().await.is_err());
    assert_eq!((count(&next), next.degraded.join("; ")), (count(&part), said));
    assert!(began.elapsed() < Duration::from_secs(4), "who comes after that needn't wait: {:?}", began.elapsed());

    line.set(Weather::default());
    assert!(until(async || ask(&world, Resolution::Raw).await == whole).await, "all is as before");
    assert_eq!(world.cold.as_ref().unwrap().state().await.unwrap().days, DAYS as u64);
    line.cut();
}

/// The list alone takes longer than a silence may.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_behind_a_thin_line_is_waited_for() {
    let server = S3Server::start();
    let (world, line) = world(&server).await;
    line.set(Weather { bytes_per_s: 600, ..Weather::default() });
    let began = Instant::now();
    let days = world.cold.as_ref().unwrap().days(Day::FIRST, Day::LAST).await.unwrap();
    assert_eq!(days.len(), DAYS as usize);
    assert!(began.elapsed() > Duration::from_secs(6), "the line isn't thin enough: {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_check_dont_wait_for_an_archive_that_hangs() {
    let hangs = TcpListener::bind("127.0.0.1:0").unwrap(); // nobody ever takes what comes here
    let (url, endpoint) = ("s3://water/archive", format!("http://{}", hangs.local_addr().unwrap()));
    let keys = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&keys, "AWS_ACCESS_KEY_ID=collector\nAWS_SECRET_ACCESS_KEY=hush\nAWS_REGION=us-east-1\n").unwrap();
    let site = Site::new(&[], |config| {
        config.cold.url = Some(url.into());
        config.cold.endpoint = Some(endpoint.clone());
        config.cold.allow_http = true;
        config.cold.credentials_file = Some(keys.path().into());
    });
    let collector = site.start().await;
    let began = Instant::now();
    let cold = collector.get("health").await["tiers"]["cold"].take();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(cold["ok"] == false && cold["error"].as_str().unwrap().contains("nothing came from s3://"), "{cold}");
    support::within(collector.stop()).await;

    let file = keys.path().display();
    let config = site.write_config(&format!(
        "[cold]\nurl = '{url}'\nendpoint = '{endpoint}'\nallow_http = true\ncredentials_file = '{file}'\n"
    ));
    let mut check = Command::new(env!("CARGO_BIN_EXE_collector"));
    check.args(["check", "--json", "--config"]).arg(config).stdin(Stdio::null());
    let began = Instant::now();
    let output = tokio::task::block_in_place(|| check.output().unwrap());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut found = said["findings"].as_array().unwrap().iter().filter(|finding| finding["what"] == "[cold]");
    let finding = found.find(|finding| finding["verdict"] == "warning").unwrap();
    assert!(finding["detail"].as_str().unwrap().contains("hasn't answered within 10s"), "{finding}");
}
