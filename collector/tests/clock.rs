//! Clocks that lie, all the way: a whole agent whose clock the test turns, a Modbus device that counts its polls, a
//! network that can be shut, a real collector. What the API says afterwards is compared with what the device said.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

#[path = "support/proxy.rs"]
mod proxy;
mod support;

use edge_agent::clock::{Clock, FakeTime};
use proxy::{Proxy, Weather};
use shared::block::TimeBase;
use shared::ids::BootId;
use shared::reading::Timestamp;
use shared::wire::{Fix, Message, RejectReason};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;
use support::{Client, Collector, SECOND, Site, block, now, seqs, until, within};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_modbus::server::tcp::{Server, accept_tcp_connection};
use tokio_modbus::{ExceptionCode, Request, Response};
use tokio_util::sync::CancellationToken;

const HOUR_US: i64 = 3_600 * SECOND;
const NODE: &str = "PUMP_001";
const SHUT: Weather = Weather { refuse: true, stall: false, delay: Duration::ZERO, bytes_per_s: 0 };

/// A device whose register says how often it was asked.
#[derive(Clone)]
struct Counting(Arc<AtomicU32>);

impl tokio_modbus::server::Service for Counting {
    type Request = Request<'static>;
    type Response = Response;
    type Exception = ExceptionCode;
    type Future = std::future::Ready<Result<Response, ExceptionCode>>;

    fn call(&self, _: Self::Request) -> Self::Future {
        let polls = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        std::future::ready(Ok(Response::ReadHoldingRegisters(vec![(polls >> 16) as u16, polls as u16])))
    }
}

/// Everything but the agent.
struct Bench {
    collector: Collector,
    proxy: Proxy,
    polls: Arc<AtomicU32>,
    config: PathBuf,
    _site: Site,
}

impl Bench {
    async fn start() -> Self {
        let site = Site::new(&["STATION_7"], |_| {});
        let collector = site.start().await;
        Self::around(site, collector).await
    }

    async fn around(site: Site, collector: Collector) -> Self {
        let proxy = Proxy::start(collector.ingest).await.unwrap();
        let polls = Arc::new(AtomicU32::new(0));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let device = listener.local_addr().unwrap();
        let service = Counting(polls.clone());
        tokio::spawn(async move {
            let service = move |_| Ok(Some(service.clone()));
            let connected = |stream, peer| std::future::ready(accept_tcp_connection(stream, peer, service.clone()));
            Server::new(listener).serve(&connected, |_| {}).await
        });
        let config = site.folder.path().join("agent.toml");
        let (folder, ca, port) = (site.folder.path().display(), site.config.ca_dir(), proxy.port);
        let ca = ca.display();
        let text = format!(
            "data_dir = '{folder}/agent'\n\
             [uplink]\ncollectors = ['localhost:{port}']\nca = '{ca}/ca.pem'\n\
             cert = '{ca}/STATION_7.pem'\nkey = '{ca}/STATION_7.key'\n\
             [batch]\nage_max = '200ms'\n[http]\nlisten = '127.0.0.1:0'\n\
             [[modbus]]\nname = 'bus'\ntransport = 'tcp'\naddress = '{device}'\n\
             [[modbus.device]]\nname = 'meter'\nunit = 1\nnode = '{NODE}'\ninterval = '50ms'\n\
             [[modbus.device.point]]\nmetric = 'total_volume'\nregister = 'holding'\naddress = 0\ntype = 'u32'\n"
        );
        std::fs::write(&config, text).unwrap();
        Self { collector, proxy, polls, config, _site: site }
    }

    fn boot(&self, boot: u8, hands: &FakeTime) -> Agent {
        let (stop, hands, path) = (CancellationToken::new(), hands.clone(), self.config.clone());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let clock = move |dir: &std::path::Path, trust| Clock::open_fake(dir, trust, BootId([boot; 16]), hands);
            let (_reload, reloads) = mpsc::channel(1);
            Box::pin(edge_agent::run::run_by(&path, clock, stopped, reloads)).await.unwrap();
        });
        Agent { stop, task }
    }

    /// Until the device was asked so many times more.
    async fn polls(&self, more: u32) {
        let goal = self.polls.load(Ordering::SeqCst) + more;
        assert!(until(async || self.polls.load(Ordering::SeqCst) >= goal).await, "the device isn't polled");
    }

    /// What the API has, oldest first: (microseconds, what the device said).
    async fn stored(&self) -> Vec<(i64, u32)> {
        let path = format!(
            "history?node={NODE}&metric=total_volume&from=1970-01-01T00:00:00Z&to=2200-01-01T00:00:00Z&resolution=raw&limit=10000"
        );
        let answer = self.collector.get(&path).await;
        let Some(points) = answer["points"].as_array() else { return Vec::new() };
        let at = |text: &str| text.parse::<Timestamp>().unwrap().0;
        points.iter().filter_map(|p| Some((at(p["at"].as_str()?), p["value"].as_f64()? as u32))).collect()
    }

    /// Until the reading that said `value` is stored.
    async fn wait_for(&self, value: u32) -> Vec<(i64, u32)> {
        let mut stored = Vec::new();
        let found = until(async || {
            stored = self.stored().await;
            stored.last().is_some_and(|last| last.1 >= value)
        });
        assert!(found.await, "{value} isn't stored: {:?}", stored.last());
        stored
    }

    /// What the collector knows of a gateway.
    async fn seen(&self, gateway: &str) -> serde_json::Value {
        let gateways = self.collector.get("gateways").await;
        gateways["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(|seen| seen["gateway"] == gateway)
            .cloned()
            .unwrap_or_default()
    }

    async fn parked(&self) -> Vec<serde_json::Value> {
        self.collector.get("parked").await["items"].as_array().unwrap().clone()
    }
}

struct Agent {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Agent {
    async fn stop(self) {
        self.stop.cancel();
        within(self.task).await.unwrap();
    }
}

/// Times rise, and so does what the device said: no timestamp twice, nothing out of order.
#[track_caller]
fn check_order(stored: &[(i64, u32)]) {
    for pair in stored.windows(2) {
        assert!(pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1, "out of order: {pair:?}");
    }
}

/// Polls between which nothing is missing, up to `last`: a stretch without a hole.
#[track_caller]
fn check_whole(stored: &[(i64, u32)], first: u32) {
    let missing: Vec<u32> =
        (first..=stored.last().unwrap().1).filter(|poll| !stored.iter().any(|s| s.1 == *poll)).collect();
    assert!(missing.is_empty(), "never stored: {missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_boot_in_1970_readings_are_in_order_at_their_true_times() {
    let bench = Bench::start().await;
    let began = Timestamp::wall_clock().0;
    bench.proxy.set(SHUT);
    let agent = bench.boot(1, &FakeTime::running(5 * SECOND, Timestamp(0)));
    bench.polls(20).await; // without any idea of the time
    bench.proxy.set(Weather::default());
    let before = bench.polls.load(Ordering::SeqCst);
    bench.wait_for(before).await;
    bench.polls(20).await; // with it
    let stored = bench.wait_for(before + 20).await;
    agent.stop().await;

    check_order(&stored);
    check_whole(&stored, 1);
    let now = Timestamp::wall_clock().0;
    assert!(stored.iter().all(|(at, _)| (began - SECOND..now + SECOND).contains(at)), "{stored:?}");
    assert!(bench.parked().await.is_empty());
    assert_eq!(bench.collector.get("quarantine").await["items"].as_array().unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_power_cut_before_time_was_known_that_boot_is_shown_with_its_bounds() {
    let bench = Bench::start().await;
    bench.proxy.set(SHUT);
    let agent = bench.boot(1, &FakeTime::running(5 * SECOND, Timestamp(0)));
    bench.polls(20).await;
    agent.stop().await;
    let polls_of_first = bench.polls.load(Ordering::SeqCst);

    bench.proxy.set(Weather::default());
    let agent = bench.boot(2, &FakeTime::running(4 * SECOND, Timestamp(3 * SECOND)));
    bench.polls(20).await;
    let stored = bench.wait_for(polls_of_first + 20).await;
    assert!(until(async || !bench.parked().await.is_empty()).await, "the first boot's blocks aren't shown");
    agent.stop().await;

    check_order(&stored);
    assert!(stored[0].1 > polls_of_first, "nobody knows when {} was: it must not be among readings", stored[0].1);
    check_whole(&stored, polls_of_first + 1);
    let parked = bench.parked().await;
    let [first] = &parked[..] else { panic!("one boot: {parked:?}") };
    assert_eq!((&first["boot"], &first["clock"]), (&"01".repeat(16).into(), &"never known".into()), "{first}");
    let bound = |name: &str| first[name].as_str().unwrap().parse::<Timestamp>().unwrap().0;
    assert!(bound("not_before") <= bound("not_after") && bound("not_after") <= Timestamp::wall_clock().0, "{first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backward_step_of_an_hour_doubles_and_reorders_nothing() {
    let bench = Bench::start().await;
    let hands = FakeTime::running(5 * SECOND, Timestamp::wall_clock());
    hands.set_synchronised(true);
    let agent = bench.boot(1, &hands);
    bench.polls(20).await;
    hands.step_wall_us(-HOUR_US);
    bench.polls(120).await; // longer than between two looks at the system's clock
    bench.proxy.cut(); // another handshake, while the wall clock is an hour behind
    bench.polls(20).await;
    hands.step_wall_us(HOUR_US);
    let last = bench.polls.load(Ordering::SeqCst) + 1;
    bench.polls(2).await;
    let stored = bench.wait_for(last).await;
    agent.stop().await;

    check_order(&stored);
    check_whole(&stored, 1);
    let span = stored.last().unwrap().0 - stored[0].0;
    assert!(span < 60 * SECOND, "no hour came in between: {span} µs");
}

/// Health's words on this collector's clock.
async fn clock_trouble(collector: &Collector) -> Option<String> {
    let health = collector.get("health").await;
    let said = health["troubles"].as_array().unwrap().iter().find(|trouble| trouble["part"] == "clock")?;
    Some(said["error"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ahead_of_a_collector_whose_clock_is_behind_waits_at_the_gateways() {
    let site = Site::new(&["STATION_7", "STATION_8", "STATION_9"], |_| {});
    let behind = Arc::new(AtomicI64::new(HOUR_US));
    let hands = behind.clone();
    let clock = Arc::new(move || Timestamp::wall_clock().plus_micros(-hands.load(Ordering::SeqCst)));
    let collector = site.start_by(clock).await;
    let (mut eight, of_eight) = Client::ready(&collector, "STATION_8", &["DIST_008"]).await;
    assert_eq!(clock_trouble(&collector).await, None, "one gateway's clock may be wrong");
    let (mut nine, of_nine) = Client::ready(&collector, "STATION_9", &["DIST_009"]).await;
    let said = clock_trouble(&collector).await.unwrap();
    assert!(said.contains("is this machine's clock right?") && said.contains("2 of 2 gateways (STATION_8, STATION_9)"));
    assert!(said.contains("held back on the gateways"), "{said}");

    // What isn't ahead goes on, and so do times since a boot, as far as they aren't ahead.
    let (boot, at) = (BootId([8; 16]), now());
    let new =
        [block(of_eight, TimeBase::Utc, &[(0, at, 2.0)]), block(of_nine, TimeBase::SinceBoot(boot), &[(0, 7, 3.0)])];
    eight.block(1, block(of_eight, TimeBase::Utc, &[(0, at - HOUR_US, 1.0)])).await;
    eight.block(2, new[0].clone()).await;
    nine.send(Message::ClockFix { boot, fix: Fix::Known { offset_us: at } }).await;
    nine.block(1, block(of_nine, TimeBase::SinceBoot(boot), &[(0, -HOUR_US, 1.0)])).await;
    nine.block(2, new[1].clone()).await;
    for client in [&mut eight, &mut nine] {
        client.wait_committed(seqs([1])).await;
        let (refused, reason, detail, retry) = client.wait_reject().await;
        assert_eq!((refused, reason, retry), (seqs([2]), RejectReason::Unavailable, true));
        assert!(detail.contains("its clock is in doubt"), "{detail}");
    }

    // A whole agent, that polls and is refused.
    let bench = Bench::around(site, collector).await;
    let time = FakeTime::running(5 * SECOND, Timestamp::wall_clock());
    time.set_synchronised(true);
    let agent = bench.boot(1, &time);
    bench.polls(40).await;
    let refused = until(async || bench.seen("STATION_7").await["session"]["rejected"].as_u64() >= Some(5));
    assert!(refused.await, "{}", bench.seen("STATION_7").await);
    assert_eq!(bench.stored().await, []);
    assert!(bench.collector.metrics().await.contains("collector_blocks_rejected_total{reason=\"unavailable\"}"));

    behind.store(0, Ordering::SeqCst);
    assert_eq!(clock_trouble(&bench.collector).await, None);
    for (client, bytes) in [&mut eight, &mut nine].into_iter().zip(new) {
        client.block(2, bytes).await;
        client.wait_committed(seqs([2])).await;
    }
    for (node, last) in [("DIST_008", (at, 2.0)), ("DIST_009", (at + 7, 3.0))] {
        let first = Timestamp(at - HOUR_US);
        bench.collector.wait_for_history(node, &[(first, Some(1.0)), (Timestamp(last.0), Some(last.1))]).await;
    }
    let last = bench.polls.load(Ordering::SeqCst);
    let mut stored = Vec::new();
    let whole = until(async || {
        stored = bench.stored().await;
        (1..=last).all(|poll| stored.iter().any(|reading| reading.1 == poll))
    });
    assert!(whole.await, "not all of {last} polls are stored: {stored:?}");
    check_order(&stored);
    agent.stop().await;
    assert_eq!(bench.collector.get("quarantine").await["items"].as_array().unwrap().len(), 0);
    assert_eq!(bench.collector.get("gaps").await["items"].as_array().unwrap().len(), 0);
}
