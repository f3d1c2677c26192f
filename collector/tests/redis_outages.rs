//! A collector with its hot tier in Redis, and Redis killed, hung, late, restored: ingest goes on, every answer is
//! right, and the tier fills itself again.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

#[path = "support/proxy.rs"]
mod proxy;
mod services;
mod support;

use collector::analytics::anomaly::{Kind, Severity};
use collector::analytics::store::{Anomaly, State};
use collector::tiers::hot::redis::RedisHot;
use collector::tiers::hot::settings::HotSettings;
use collector::tiers::warm::postgres::PostgresWarm;
use collector::tiers::warm::settings::{Store, WarmSettings};
use collector::tiers::{SeriesId, WarmTier as _};
use proxy::{Proxy, Weather};
use rustix::process::Signal;
use services::postgres::Postgres;
use services::redis::Redis;
use shared::block::TimeBase;
use shared::catalogue::CatalogueHash;
use shared::ids::GatewayId;
use shared::reading::Timestamp;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use support::*;

const NODE: &str = "DIST_001";
const OTHER: &str = "DIST_002";
const DAY: i64 = 86_400 * SECOND;

/// Answers are short of patience here, so that an outage is one.
fn site(redis: &Redis) -> Site {
    let hot = HotSettings { timeout: Duration::from_millis(500).into(), ..redis.settings() };
    Site::new(&["STATION_7"], |config| config.hot = hot)
}

struct Flow {
    client: Client,
    hash: CatalogueHash,
    began: i64,
    sent: u64,
    late: BTreeSet<u64>,
}

impl Flow {
    async fn new(collector: &Collector) -> Self {
        let (client, hash) = Client::ready(collector, "STATION_7", &[NODE, OTHER]).await;
        // An hour ago: some of it lies in an hour that is over.
        Self { client, hash, began: now() - 3_600 * SECOND, sent: 0, late: BTreeSet::new() }
    }

    fn at(&self, seq: u64) -> i64 {
        self.began + seq.cast_signed() * SECOND
    }

    async fn send(&mut self, count: u64) {
        for _ in 0..count {
            self.sent += 1;
            let bytes = block(self.hash, TimeBase::Utc, &[(0, self.at(self.sent), self.sent as f64)]);
            self.client.block(self.sent, bytes).await;
        }
    }

    async fn committed(&mut self) {
        self.client.wait_committed(seqs(1..=self.sent)).await;
    }

    /// Of the other node, of long ago.
    async fn send_late(&mut self, at: i64) {
        self.sent += 1;
        self.late.insert(self.sent);
        self.client.block(self.sent, block(self.hash, TimeBase::Utc, &[(1, at, 1.0)])).await;
        self.committed().await;
    }

    fn expected(&self) -> Vec<(Timestamp, Option<f64>)> {
        (1..=self.sent)
            .filter(|seq| !self.late.contains(seq))
            .map(|seq| (Timestamp(self.at(seq)), Some(seq as f64)))
            .collect()
    }

    /// What the tiers say of the stretch, and which of them say it.
    async fn asked(&self, collector: &Collector) -> (usize, Vec<String>) {
        let (from, to) = (Timestamp(self.began), Timestamp(self.at(self.sent + 1)));
        let path = format!("history?node={NODE}&metric=pressure&from={from}&to={to}&resolution=raw&limit=10000");
        let answer = collector.get(&path).await;
        let tiers =
            answer["tiers"].as_array().map(|t| t.iter().filter_map(|t| t.as_str().map(str::to_owned)).collect());
        (answer["points"].as_array().map_or(0, Vec::len), tiers.unwrap_or_default())
    }

    async fn is_answered_by_hot_alone(&self, collector: &Collector) {
        let mut last = None;
        let found = until(async || {
            let asked = self.asked(collector).await;
            let done = asked == (self.expected().len(), vec!["hot".to_owned()]);
            last = Some(asked);
            done
        });
        assert!(found.await, "{last:?}, {} were sent", self.sent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_started_empty_it_is_filled_again_and_nothing_is_missing() {
    let mut redis = Redis::start().await;
    let site = site(&redis);
    let collector = site.start().await;
    let mut flow = Flow::new(&collector).await;
    flow.send(50).await;
    flow.committed().await;
    flow.is_answered_by_hot_alone(&collector).await;
    for _ in 0..3 {
        redis.kill();
        flow.send(50).await;
        flow.committed().await;
        collector.wait_for_history(NODE, &flow.expected()).await;
        redis.restart().await;
        flow.send(1).await;
        flow.committed().await;
        flow.is_answered_by_hot_alone(&collector).await;
        assert_eq!(collector.history(NODE).await, flow.expected());
    }
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hung_it_holds_up_nothing() {
    let redis = Redis::start().await;
    let site = site(&redis);
    let collector = site.start().await;
    let mut flow = Flow::new(&collector).await;
    flow.send(20).await;
    flow.committed().await;
    redis.signal(Signal::STOP);
    flow.send(20).await;
    flow.committed().await;
    collector.wait_for_history(NODE, &flow.expected()).await;
    redis.signal(Signal::CONT);
    flow.send(20).await;
    flow.committed().await;
    flow.is_answered_by_hot_alone(&collector).await;
    assert_eq!(collector.history(NODE).await, flow.expected());
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn emptied_at_any_time_it_shows_no_hole() {
    let redis = Redis::start().await;
    let site = site(&redis);
    let collector = site.start().await;
    let mut flow = Flow::new(&collector).await;
    for _ in 0..10 {
        flow.send(10).await;
        redis.command::<()>(&["FLUSHALL"]).await;
        flow.send(10).await;
        flow.committed().await;
        assert_eq!(collector.history(NODE).await, flow.expected());
    }
    flow.is_answered_by_hot_alone(&collector).await;
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_may_come_later_than_the_collector_and_stay_when_that_restarts() {
    let mut redis = Redis::start().await;
    let site = site(&redis);
    redis.kill();
    let collector = site.start().await;
    let mut flow = Flow::new(&collector).await;
    flow.send(30).await;
    flow.committed().await;
    assert_eq!(collector.history(NODE).await, flow.expected());
    redis.restart().await;
    flow.is_answered_by_hot_alone(&collector).await;
    collector.stop().await;
    let collector = site.start().await;
    flow.is_answered_by_hot_alone(&collector).await;
    assert_eq!(collector.history(NODE).await, flow.expected());
    collector.stop().await;
}

/// Two that share PostgreSQL and Redis; the first one's way to Redis can be cut.
struct Pair {
    cut: Site,
    whole: Site,
    proxy: Proxy,
    warm: WarmSettings,
    postgres: Postgres,
    _redis: Redis,
}

impl Pair {
    async fn new() -> Self {
        let port = services::free_port();
        let redis = Redis::start_with(&["--save", "", "--appendonly", "no", "--port", &port.to_string()]).await;
        let postgres = Postgres::start().await;
        let warm = WarmSettings { store: Some(Store::Postgres), ..postgres.database().await };
        let proxy = Proxy::start(([127, 0, 0, 1], port).into()).await.unwrap();
        let timeout = Duration::from_millis(500).into();
        let hot = HotSettings { host: "127.0.0.1".into(), timeout, ..redis.settings() };
        let site = |port| {
            Site::new(&["STATION_7"], |config| {
                config.warm = warm.clone();
                config.hot = HotSettings { port, ..hot.clone() };
            })
        };
        Self { cut: site(proxy.port), whole: site(port), proxy, warm, postgres, _redis: redis }
    }

    fn cut(&self) {
        self.proxy.set(Weather { refuse: true, ..Weather::default() });
        self.proxy.cut();
    }
}

fn open_anomaly(series: u32) -> Anomaly {
    Anomaly {
        number: 0,
        series: SeriesId(series),
        kind: Kind::Stuck,
        start: Timestamp(now() - 3_600 * SECOND),
        last: Timestamp(now()),
        end: None,
        severity: Severity::Warning,
        expected: None,
        seen: None,
        detail: String::new(),
        state: State::Open,
        normal: false,
        notes: Vec::new(),
    }
}

/// The warm tier is the one that is away.
#[tokio::test(flavor = "multi_thread")]
async fn active_anomalies_are_listed_from_it_while_the_warm_tier_is_away() {
    let mut pair = Pair::new().await;
    let warm = PostgresWarm::open(&pair.warm).await.unwrap();
    let gateway = GatewayId::new("STATION_7").unwrap();
    let series = warm.series_for(&gateway, catalogue(&[NODE]).entries()).await.unwrap().remove(0).unwrap();
    warm.anomalies().put_anomalies(&[open_anomaly(series.0)], Timestamp(0)).await.unwrap();
    let a = pair.whole.start().await;
    let listed = async |query: &str| {
        let answer = a.get(&format!("anomalies{query}")).await;
        let items = answer["items"].as_array().map(|items| items.iter().map(|one| one["node"].clone()).collect());
        (
            items.unwrap_or_else(Vec::new),
            if answer["items"].is_null() { answer.to_string() } else { answer["degraded"].to_string() },
        )
    };
    let whole = (vec![NODE.into()], "[]".to_owned());
    // Before that Redis may be another database's, and is cleared.
    assert!(until(async || a.metrics().await.contains("collector_hot_filled_total")).await);
    assert!(until(async || listed("?state=open").await == whole && listed("").await == whole).await);
    pair.postgres.kill();
    for query in ["", "?state=open", "?node=DIST_001"] {
        let (items, degraded) = within(listed(query)).await;
        assert_eq!(items, whole.0, "{query}: {degraded}");
        assert!(query == "?state=open" || degraded.contains("closed anomalies are missing"), "{query}: {degraded}");
    }
    assert_eq!(within(listed("?state=closed")).await.0.len(), 0);
    a.stop().await;
}

/// What one of them can't tell Redis the other is told by the database.
#[tokio::test(flavor = "multi_thread")]
async fn an_anomaly_that_one_closes_that_cant_reach_it_is_closed_for_the_other() {
    let pair = Pair::new().await;
    let warm = PostgresWarm::open(&pair.warm).await.unwrap();
    let (gateway, both) = (GatewayId::new("STATION_7").unwrap(), catalogue(&[NODE, OTHER]));
    let series = warm.series_for(&gateway, both.entries()).await.unwrap();
    let anomalies: Vec<Anomaly> = series.into_iter().map(|series| open_anomaly(series.unwrap().0)).collect();
    // Before there is a collector: what goes past them into the table, one that has looked already doesn't know.
    warm.anomalies().put_anomalies(&anomalies, Timestamp(0)).await.unwrap();
    let (a, b) = tokio::join!(pair.cut.start(), pair.whole.start());
    let open = async || {
        let list = b.get("anomalies?state=open&from=now-1d").await;
        let numbers = list["items"].as_array().unwrap().iter().map(|one| one["id"].as_i64().unwrap());
        numbers.collect::<BTreeSet<i64>>()
    };
    let reason = || serde_json::json!({ "author": "M. Rossi", "comment": "seen" });
    let mut left = open().await;
    assert_eq!(left.len(), 2);
    for _ in 0..2 {
        assert_eq!((open().await, open().await), (left.clone(), left.clone()), "asked twice, they are kept");
        pair.cut();
        let number = left.pop_first().unwrap();
        assert_eq!(a.post(&format!("anomalies/{number}/close"), reason()).await.0, 200);
        assert!(until(async || open().await == left).await, "it is closed, though the other can't tell Redis");
        pair.proxy.set(Weather::default());
        let back = until(async || a.get("health").await["tiers"]["hot"]["ok"] == true);
        assert!(back.await);
    }
    tokio::join!(a.stop(), b.stop());
}

/// One of them can't reach Redis for a while.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_stores_that_cant_reach_it_the_other_shows() {
    let pair = Pair::new().await;
    let proxy = &pair.proxy;
    let (a, b) = tokio::join!(pair.cut.start(), pair.whole.start());
    let mut flow = Flow::new(&a).await;
    flow.send(50).await;
    flow.committed().await;
    flow.is_answered_by_hot_alone(&b).await;
    let days_ago = now() / DAY * DAY - 3 * DAY;
    let (from, to) = (Timestamp(days_ago), Timestamp(days_ago + DAY));
    let that_day = format!("history?node={OTHER}&metric=pressure&from={from}&to={to}&resolution=5m");
    for n in 0..2 {
        let of_that_day = async || b.get(&that_day).await["points"].as_array().unwrap().len();
        assert_eq!((of_that_day().await, of_that_day().await), (n, n), "asked twice, it is kept");
        pair.cut();
        flow.send(50).await;
        flow.committed().await;
        flow.send_late(days_ago + n as i64 * 600 * SECOND).await;
        b.wait_for_history(NODE, &flow.expected()).await;
        assert!(until(async || of_that_day().await == n + 1).await, "what is kept of a day is thrown out");
        proxy.set(Weather::default());
        flow.send(1).await;
        flow.committed().await;
        for collector in [&a, &b] {
            flow.is_answered_by_hot_alone(collector).await;
            assert_eq!(collector.history(NODE).await, flow.expected());
        }
    }
    tokio::join!(a.stop(), b.stop());
}

/// What a login sets, or the status that it was refused with.
async fn login(collector: &Collector) -> Result<String, u16> {
    let body = r#"{"name":"rossi","password":"correct horse"}"#;
    let (status, head) = said(collector, "POST /api/v1/login", "", body).await;
    let line = head.lines().find(|line| line.to_lowercase().starts_with("set-cookie:"));
    let cookie = line.and_then(|line| line.split_once(':')?.1.split(';').next());
    cookie.filter(|_| status == 200).map(|cookie| cookie.trim().to_owned()).ok_or(status)
}

async fn said(collector: &Collector, line: &str, cookie: &str, body: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut socket = tokio::net::TcpStream::connect(collector.api).await.unwrap();
    let length = body.len();
    let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: {cookie}\r\n");
    socket.write_all(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(socket.read_to_string(&mut answer)).await.unwrap();
    (answer[9..12].parse().unwrap(), answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn people_log_in_and_out_while_it_is_away_and_that_holds_when_it_is_back() {
    use collector::access::{Hash, Role, User};
    let port = services::free_port();
    let redis = Redis::start_with(&["--save", "", "--appendonly", "no", "--port", &port.to_string()]).await;
    let proxy = Proxy::start(([127, 0, 0, 1], port).into()).await.unwrap();
    let mut site = site(&redis);
    let near = site.config.hot.clone();
    site.config.hot = HotSettings { host: "127.0.0.1".into(), port: proxy.port, ..near.clone() };
    let tiers = collector::run::Tiers::open(&site.config).await.unwrap();
    let password = Hash::of("correct horse").unwrap();
    let user = User { name: "rossi".into(), role: Role::Admin, password, changed: Timestamp(1) };
    tiers.warm.access().put_user(&user).await.unwrap();
    let warm = tiers.warm.hot().account().await.unwrap().id;
    tiers.warm.close().await;
    let collector = site.start().await;
    let nodes = async |cookie: &str| said(&collector, "GET /api/v1/nodes", cookie, "").await.0;
    let (before, stays) = (login(&collector).await.unwrap(), login(&collector).await.unwrap());
    assert_eq!((nodes(&before).await, nodes(&stays).await), (200, 200));

    proxy.set(Weather { refuse: true, ..Weather::default() });
    proxy.cut();
    let meanwhile = login(&collector).await.unwrap();
    assert_eq!(nodes(&meanwhile).await, 200);
    assert_eq!(said(&collector, "POST /api/v1/logout", &before, "").await.0, 200);
    assert_eq!((nodes(&before).await, nodes(&stays).await), (401, 200));

    proxy.set(Weather::default());
    let beside = RedisHot::new(&near, 0, std::sync::Arc::new(Timestamp::wall_clock)).unwrap().unadopted();
    beside.belong_to(&warm).await.unwrap();
    let shelf = beside.shelf();
    let key = |cookie: &str| collector::access::digest(cookie.strip_prefix("session=").unwrap());
    let (gone, there) = (key(&before), key(&meanwhile));
    services::eventually("it is carried out", PATIENCE, async || {
        use collector::tiers::hot::shelf::{Kind, Shelf as _};
        let has = async |key: &str| shelf.get(Kind::Session, key).await.is_ok_and(|found| found.is_some());
        !has(&gone).await && has(&there).await
    })
    .await;
    assert_eq!((nodes(&before).await, nodes(&stays).await, nodes(&meanwhile).await), (401, 200, 200));
    collector.stop().await;
}

/// As after a failover to a standby.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_warm_tier_refuses_of_people_shows_nowhere() {
    let pair = Pair::new().await;
    let (a, b) = tokio::join!(pair.cut.start(), pair.whole.start());
    let mut flow = Flow::new(&a).await;
    flow.send(20).await;
    flow.committed().await;
    flow.is_answered_by_hot_alone(&b).await;
    let at = Timestamp(flow.at(10) + 1);
    let entry = |value: f64| {
        let reading =
            serde_json::json!({ "node": NODE, "metric": "pressure", "channel": "", "at": at, "value": value });
        serde_json::json!({ "author": "M. Rossi", "reason": "read by eye", "readings": [reading] })
    };
    let read_only = async |on: &str| {
        let database = &pair.warm.database;
        let sql = format!("ALTER DATABASE {database} SET default_transaction_read_only = {on}");
        pair.postgres.execute("postgres", &sql).await;
        let sql = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}' AND pid <> pg_backend_pid()"
        );
        pair.postgres.execute("postgres", &sql).await;
    };
    read_only("on").await;
    assert_eq!(a.post("readings", entry(77.0)).await.0, 503);
    for collector in [&a, &b] {
        assert_eq!(collector.history(NODE).await, flow.expected(), "it is stored nowhere");
        let latest = collector.get("latest").await.to_string();
        assert!(!latest.contains("77.0"), "{latest}");
    }
    read_only("off").await;
    assert!(until(async || a.post("readings", entry(78.0)).await.0 == 200).await);
    let mut expected = flow.expected();
    expected.insert(10, (at, Some(78.0)));
    for collector in [&a, &b] {
        collector.wait_for_history(NODE, &expected).await;
    }
    // What was in doubt is filled in, and all of it comes out of Redis again.
    let (from, to) = (Timestamp(flow.began), Timestamp(flow.at(flow.sent + 1)));
    let path = format!("history?node={NODE}&metric=pressure&from={from}&to={to}&resolution=raw&limit=10000");
    let by_hot = async || a.get(&path).await["tiers"] == serde_json::json!(["hot"]);
    assert!(until(by_hot).await, "{}", a.get(&path).await);
    assert_eq!(a.history(NODE).await, expected);
    tokio::join!(a.stop(), b.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_warm_tier_refuses_while_it_hangs_goes_from_there_when_it_is_back() {
    let redis = Redis::start().await;
    let site = site(&redis);
    let (collector, warm, _) = site.start_faulty().await;
    let mut flow = Flow::new(&collector).await;
    flow.send(3).await;
    flow.committed().await;
    flow.is_answered_by_hot_alone(&collector).await;
    warm.away.store(true, SeqCst);
    flow.send(2).await;
    flow.is_answered_by_hot_alone(&collector).await;
    // The last one is refused.
    redis.signal(Signal::STOP);
    warm.refuses.lock().unwrap().push(flow.sent as f64);
    warm.away.store(false, SeqCst);
    flow.committed().await;
    let refused = flow.sent;
    flow.late.insert(refused);
    collector.wait_for_history(NODE, &flow.expected()).await;
    redis.signal(Signal::CONT);
    flow.is_answered_by_hot_alone(&collector).await;
    let latest = collector.get(&format!("latest?node={NODE}")).await;
    assert_eq!(latest["items"][0]["value"], (refused - 1) as f64, "{latest}");
    // The same while it is there; it is sure of all that is left.
    warm.away.store(true, SeqCst);
    flow.send(2).await;
    flow.is_answered_by_hot_alone(&collector).await;
    warm.refuses.lock().unwrap().push(flow.sent as f64);
    warm.away.store(false, SeqCst);
    flow.committed().await;
    flow.late.insert(flow.sent);
    assert_eq!(flow.asked(&collector).await, (flow.expected().len(), vec!["hot".to_owned()]));
    assert_eq!(collector.history(NODE).await, flow.expected());
    collector.stop().await;
}

/// It answers every question, and takes nothing, or will drop what it took.
#[tokio::test(flavor = "multi_thread")]
async fn that_it_takes_nothing_is_told_and_what_to_do() {
    let redis = Redis::start().await;
    let site = site(&redis);
    let collector = site.start().await;
    let mut flow = Flow::new(&collector).await;
    flow.send(5).await;
    flow.committed().await;
    flow.is_answered_by_hot_alone(&collector).await;
    let said = async |words: &[&str]| {
        let mut health = serde_json::Value::Null;
        let found = until(async || {
            health = collector.get("health").await;
            let troubles = health["troubles"].as_array().unwrap();
            match troubles.iter().find(|one| one["part"] == "hot").and_then(|one| one["error"].as_str()) {
                Some(error) => !words.is_empty() && words.iter().all(|word| error.contains(word)),
                None => words.is_empty() && health["status"] == "ok",
            }
        });
        assert!(found.await, "{words:?}: {health}");
    };
    let checked = async || {
        let hot = site.config.hot.clone();
        let probed = tokio::task::spawn_blocking(move || collector::tiers::hot::redis::probe(&hot));
        probed.await.unwrap().unwrap_err().to_string()
    };
    said(&[]).await;
    let set = async |name: &str, value: &str| redis.command::<()>(&["CONFIG", "SET", name, value]).await;
    set("maxmemory", "100kb").await;
    said(&["raise Redis' maxmemory", "readings_max"]).await;
    assert!(checked().await.contains("raise Redis' maxmemory"));
    flow.send(5).await;
    flow.committed().await;
    set("maxmemory", "0").await;
    said(&[]).await;
    set("maxmemory-policy", "allkeys-lru").await;
    said(&["maxmemory-policy is allkeys-lru", "noeviction"]).await;
    set("maxmemory-policy", "noeviction").await;
    said(&[]).await;
    redis.command::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await;
    said(&["[hot] host / REDIS_HOST", "primary"]).await;
    assert!(checked().await.contains("primary"));
    redis.command::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    said(&[]).await;
    flow.send(1).await;
    flow.committed().await;
    flow.is_answered_by_hot_alone(&collector).await;
    assert_eq!(collector.history(NODE).await, flow.expected());
    collector.stop().await;
}
