use super::*;
use crate::access::Role;
use crate::tiers::hot::memory::MemoryHot;
use crate::tiers::warm::sqlite::SqliteWarm;
use crate::tiers::{Flush, GatewayGap, Heard, Quarantined, StoredReading};
use serde_json::{Value, json};
use shared::catalogue::{Class, Entry};
use shared::ids::{NodeId, Seq, StreamId};
use shared::metric::Kind;
use shared::ranges::SeqRange;
use shared::reading::{Held, Quality};
use shared::spool::{Gap, GapReason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SECOND: i64 = 1_000_000;
/// 2026-03-01T12:00:00Z.
const NOW: i64 = 1_772_366_400 * SECOND;

struct Bench {
    address: SocketAddr,
    access: Arc<Access>,
    warm: Arc<SqliteWarm>,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

/// A gateway that is connected.
fn seen() -> Seen {
    Seen {
        connected: true,
        since: Timestamp(NOW),
        heard: Timestamp(NOW),
        peer: None,
        version: "1.0".into(),
        stream: StreamId(1),
        status: None,
        blocks: 0,
        rejected: 0,
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn gateway() -> GatewayId {
    GatewayId::new("STATION_7").unwrap()
}

/// Two series, ten minutes of readings of the first, one gap, one row set aside.
async fn bench() -> Bench {
    bench_with(|_| {}).await
}

async fn bench_with(change: impl FnOnce(&mut Sources)) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let warm = Arc::new(SqliteWarm::open(&folder.path().join("w")).await.unwrap());
    let hot = Arc::new(MemoryHot::new(Timestamp(NOW), 1000, Arc::new(|| Timestamp(NOW))));
    let entry = |metric: &str, kind, unit: &str| Entry {
        node: NodeId::new("DIST_001").unwrap(),
        metric: metric.into(),
        channel: String::new(),
        kind,
        unit: unit.into(),
        resolution_exp: Some(-2),
        interval_ms: 10_000,
        silence_ms_max: 0,
        class: Class::Raw,
    };
    let entries = [entry("flow_rate", Kind::Gauge, "L/s"), entry("pressure", Kind::Gauge, "bar")];
    let ids = warm.series_for(&gateway(), &entries).await.unwrap();
    let series = ids[0].clone().unwrap();
    let held = |value| Held { value: Some(value), quality: Quality::GOOD, revision: 0 };
    let readings: Vec<_> = (1..=60)
        .map(|n| StoredReading { series, at: Timestamp(NOW - n * 10 * SECOND), held: held(n as f64) })
        .collect();
    let gap = Gap {
        seqs: SeqRange::new(Seq(4), Seq(6)),
        span: Some((Timestamp(NOW - 60 * SECOND), Timestamp(NOW))),
        reason: GapReason::Overflow,
    };
    let quarantined = Quarantined {
        gateway: gateway(),
        stream: StreamId(u64::MAX),
        seq: Seq(3),
        series: "DIST_001/flow_rate".into(),
        at: Timestamp(NOW + 3_600 * SECOND),
        held: held(1.0),
        reason: "future".into(),
        received: Timestamp(NOW),
    };
    let gaps = vec![GatewayGap { gateway: gateway(), stream: StreamId(u64::MAX), gap }];
    warm.commit(Flush { readings, gaps, quarantine: vec![quarantined], ..Flush::default() }).await.unwrap();
    let heard = Heard { at: Timestamp(NOW), version: Some("1.0".into()), status: None };
    warm.gateway_heard(&gateway(), heard).await.unwrap();

    let access = Arc::new(Access::new(
        warm.clone(),
        crate::access::Sessions::new(Arc::new(crate::tiers::hot::shelf::MemoryShelf::default())),
        false,
        "of this start".into(),
    ));
    let mut sources = Sources {
        warm: warm.clone(),
        hot,
        anomalies: Arc::new(crate::anomalies::Anomalies::new(warm.clone(), None)),
        jobs: crate::etl::Scheduler::new(
            warm.clone(),
            Vec::new(),
            "test".into(),
            Arc::new(|| Timestamp(NOW)),
            crate::etl::Pace::default(),
        ),
        access: access.clone(),
        secure: false,
        tls: false,
        any_host: false,
        write: {
            let warm = warm.clone();
            Arc::new(move |flush| {
                let warm = warm.clone();
                Box::pin(async move { warm.commit(flush).await })
            })
        },
        paid: crate::costs::Paid::default(),
        rates: crate::config::Rates::default(),
        connections: Connections::default(),
        trusted_proxies: [].into(),
        future_max_us: 600 * SECOND,
        days: None,
        places: Arc::default(),
        cold: None,
        sql: None,
        presence: Arc::new(|| vec![(gateway(), seen())]),
        troubles: Arc::new(Vec::new),
        metrics: Arc::new(|| "collector_up 1\n".into()),
        now: Arc::new(|| Timestamp(NOW)),
    };
    change(&mut sources);
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    tokio::spawn(serve(listener, sources, stop.clone()));
    Bench { address, access, warm, stop, _folder: folder }
}

impl Bench {
    /// Status, headers and body, over a plain socket.
    async fn ask(&self, line: &str, host: &str) -> (u16, String, String) {
        let mut socket = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let request = format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), head.to_lowercase(), body.to_owned())
    }

    /// A connection on which this was said.
    async fn begun(&self, said: &str) -> tokio::net::TcpStream {
        let mut socket = tokio::net::TcpStream::connect(self.address).await.unwrap();
        socket.write_all(said.as_bytes()).await.unwrap();
        socket
    }

    /// Posts JSON; `headers` with a line break behind each.
    async fn post(&self, path: &str, headers: &str, body: &Value) -> (u16, String, Value) {
        let body = body.to_string();
        let length = body.len();
        let mut socket = self
            .begun(&format!(
                "POST /api/v1/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
            ))
            .await;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), head.to_lowercase(), serde_json::from_str(body).unwrap_or_default())
    }

    async fn user(&self, name: &str, role: Role) {
        let password = crate::access::Hash::of("correct horse").unwrap();
        let user = crate::access::User { name: name.into(), role, password, changed: Timestamp(NOW) };
        self.warm.access().put_user(&user).await.unwrap();
    }

    /// The status of a request with a token.
    async fn status(&self, line: &str, token: &str) -> u16 {
        let host = format!("localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: 0");
        self.ask(line, &host).await.0
    }

    async fn get(&self, path: &str) -> Value {
        let (status, _, body) = self.ask(&format!("GET /api/v1/{path}"), "localhost").await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    #[track_caller]
    fn refused(&self, (status, head, body): (u16, String, String), expected: u16, parameter: &str, says: &str) {
        assert_eq!(status, expected, "{body}");
        assert!(head.contains("application/problem+json"), "{head}");
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["status"], expected);
        assert_eq!(problem["parameter"].as_str().unwrap_or_default(), parameter, "{body}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{body}");
    }
}

#[tokio::test]
async fn every_list_shows_what_is_there() {
    let bench = bench().await;
    assert_eq!(bench.get("health").await["status"], "ok");
    let nodes = bench.get("nodes").await;
    assert_eq!(nodes["items"], json!([{ "node": "DIST_001", "series": 2, "metrics": ["flow_rate", "pressure"] }]));
    let series = bench.get("series?metric=pressure").await;
    assert_eq!((series["items"].as_array().unwrap().len(), &series["items"][0]["unit"]), (1, &json!("bar")));
    let gaps = bench.get("gaps?gateway=STATION_7&from=now-1h&to=now").await;
    assert_eq!((&gaps["items"][0]["blocks"], &gaps["items"][0]["reason"]), (&json!(3), &json!("overflow")));
    assert_eq!(gaps["items"][0]["stream"], "ffffffffffffffff", "too large for a JSON number");
    assert_eq!(bench.get("gaps?to=now-1h").await["items"], json!([]));
    let gateways = bench.get("gateways").await;
    assert_eq!(
        (&gateways["items"][0]["series"], &gateways["items"][0]["session"]["connected"]),
        (&json!(2), &json!(true))
    );
    let points = bench.get("gateways/STATION_7/points").await;
    let newest: Vec<_> = (0..2).map(|n| points["items"][n]["newest"]["value"].clone()).collect();
    assert_eq!(newest, [json!(1.0), Value::Null], "pressure has no reading");
    bench.refused(bench.ask("GET /api/v1/gateways/OTHER/points", "localhost").await, 404, "gateway", "OTHER");
    let aside = bench.get("quarantine").await;
    assert_eq!(
        (&aside["items"][0]["set_aside_because"], &aside["items"][0]["at"]),
        (&json!("future"), &json!("2026-03-01T13:00:00Z"))
    );
    let (_, head, body) = bench.ask("GET /metrics", "127.0.0.1").await;
    assert!(head.contains("text/plain") && body.contains("collector_up 1"), "{body}");
    assert!(body.contains("\ncollector_node_age_seconds{node=\"DIST_001\"} 10\n"), "{body}");
}

#[tokio::test]
async fn latest_says_how_old_it_is() {
    let bench = bench().await;
    let latest = bench.get("latest?node=DIST_001").await;
    let items = latest["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "pressure has no reading");
    let expected = json!({
        "series": items[0]["series"], "node": "DIST_001", "metric": "flow_rate", "channel": "", "unit": "L/s",
        "kind": "gauge", "at": "2026-03-01T11:59:50Z", "age_s": 10.0, "stale": false, "stale_after_s": 30.0, "value": 1.0, "quality": "good",
    });
    assert_eq!(items[0], expected);
}

#[tokio::test]
async fn history_comes_raw_and_in_buckets_with_its_label() {
    let bench = bench().await;
    let raw = bench.get("history?node=DIST_001&metric=flow_rate&from=now-1m&resolution=raw&limit=5").await;
    assert_eq!(raw["points"].as_array().unwrap().len(), 5);
    assert_eq!(raw["points"][0], json!({ "at": "2026-03-01T11:59:00Z", "value": 6.0, "quality": "good" }));
    assert_eq!((&raw["truncated"], &raw["to"]), (&json!(true), &json!("2026-03-01T11:59:50Z")));
    let buckets = bench.get("history?series=1&from=2026-03-01T12:50:00%2B01:00&to=now&resolution=5m").await;
    assert_eq!((&buckets["resolution"], &buckets["coverage"]), (&json!("5m"), &json!(1.0)));
    assert_eq!((&buckets["tiers"], &buckets["recomputed"]), (&json!(["warm"]), &json!(2)));
    let second = &buckets["points"][1];
    assert_eq!((&second["average"], &second["min"], &second["max"]), (&json!(15.5), &json!(1.0), &json!(30.0)));
    assert_eq!(second["count"], json!({ "good": 30, "uncertain": 0, "bad": 0, "manual": 0 }));
}

#[tokio::test]
async fn several_series_come_in_one_answer_and_one_as_a_file() {
    let bench = bench().await;
    let both = bench.get("history?series=1,2&from=now-1m&resolution=raw").await;
    let counts: Vec<usize> =
        both["items"].as_array().unwrap().iter().map(|item| item["points"].as_array().unwrap().len()).collect();
    assert_eq!(counts, [6, 0]);
    let path = "GET /api/v1/history?series=1&from=now-30s&resolution=raw&format=csv";
    let (status, head, body) = bench.ask(path, "localhost").await;
    assert!(status == 200 && head.contains("attachment; filename=\"dist_001-flow_rate-2026"), "{head}");
    // In chunks: the length of each stands before it.
    let lines: Vec<&str> = body.lines().filter(|line| line.contains(',')).map(str::trim).collect();
    let expected = [
        "time,value (L/s),quality,reason",
        "2026-03-01T11:59:30Z,3,good,",
        "2026-03-01T11:59:40Z,2,good,",
        "2026-03-01T11:59:50Z,1,good,",
    ];
    assert_eq!(lines, expected);
    let (_, _, buckets) = bench.ask("GET /api/v1/history?series=1&resolution=5m&format=csv", "localhost").await;
    assert!(buckets.contains("2026-03-01T11:55:00Z,15.5,1,30,30,1,"), "{buckets}");
}

#[tokio::test]
async fn the_dashboard_is_served_compressed_guarded_and_once() {
    let bench = bench().await;
    let (status, head, body) = bench.ask("GET /", "localhost").await;
    assert!(status == 200 && body.starts_with("<!doctype html>"), "{body}");
    for says in ["content-type: text/html", "content-security-policy: default-src 'none'; script-src 'self'", "nosniff"]
    {
        assert!(head.contains(says), "{says} is missing in {head}");
    }
    // What it would ask for first comes along, and can't become anything but data.
    let (_, given) = body.split_once("<script type=\"application/json\" id=\"given\">").unwrap();
    let given: Value = serde_json::from_str(given.split_once("</script>").unwrap().0).unwrap();
    for path in given.as_object().unwrap().keys() {
        let path = path.strip_prefix("/api/v1/").unwrap();
        let (mut asked, mut came) = (bench.get(path).await, given[format!("/api/v1/{path}")].clone());
        for answer in [&mut asked, &mut came] {
            answer["tiers"] = Value::Null; // how long they took to answer
        }
        assert_eq!(came, asked, "{path}");
    }
    assert_eq!(given.as_object().unwrap().len(), 6);
    let dark = "GET / HTTP/1.1\r\nCookie: a=b; theme=dark\r\nX:";
    assert!(bench.ask(dark, "localhost").await.2.contains("<html data-theme=\"dark\" lang="));
    let wrong = "GET / HTTP/1.1\r\nCookie: theme=\"><script>\r\nX:";
    assert!(!bench.ask(wrong, "localhost").await.2.contains("data-theme"));
    let (_, head, _) = bench.ask("GET /app.css", "localhost").await;
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: w/")).unwrap();
    let again = format!("GET /app.css HTTP/1.1\r\nIf-None-Match: W/{tag}\r\nX:");
    assert_eq!(bench.ask(&again, "localhost").await.0, 304);
    let file = "GET /api/v1/history?series=1&format=csv HTTP/1.1\r\nAccept-Encoding: gzip\r\nX:";
    let mut socket = tokio::net::TcpStream::connect(bench.address).await.unwrap();
    socket.write_all(format!("{file} x\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    assert!(answer.ends_with(b"0\r\n\r\n"), "a stream that is compressed comes to its end");
    let mut socket = tokio::net::TcpStream::connect(bench.address).await.unwrap();
    let request = "GET /app.js HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    let head = String::from_utf8_lossy(&answer[..1_200]).to_lowercase();
    assert!(head.contains("content-encoding: gzip") && head.contains("vary: accept-encoding"), "{head}");
    let (_, head, _) = bench.ask("GET /api/v1/nodes", "localhost").await;
    assert!(head.contains("cache-control: private, no-cache") && head.contains("content-security-policy"), "{head}");
    let (_, head, _) = bench.ask("GET /metrics", "localhost").await;
    assert!(head.contains("cache-control: no-store"), "{head}");
    bench.refused(bench.ask("GET /../Cargo.toml", "localhost").await, 404, "", "is nothing here");
}

#[tokio::test]
async fn what_is_known_of_series_outlives_the_warm_tier() {
    let bench = bench().await;
    assert_eq!(bench.get("nodes").await["degraded"], json!([]));
    bench.warm.close().await;
    // What was heard a moment ago is not asked again.
    let mut series = bench.get("series").await;
    while series["degraded"] == json!([]) {
        assert_eq!(series["items"].as_array().unwrap().len(), 2);
        tokio::task::yield_now().await;
        series = bench.get("series").await;
    }
    assert_eq!(series["items"].as_array().unwrap().len(), 2);
    assert!(series["degraded"][0].as_str().unwrap().contains("new series are missing"), "{series}");
}

#[tokio::test]
async fn a_wrong_parameter_is_named() {
    let bench = bench().await;
    for (path, status, parameter, says) in [
        ("history?node=DIST_001", 400, "metric", "must be given"),
        ("history", 400, "series", "must be given"),
        ("history?series=x", 400, "series", "'x' is no series number"),
        ("history?series=77", 404, "series", "no series series=77"),
        ("history?node=NOWHERE&metric=flow_rate", 404, "node", "node=NOWHERE"),
        ("history?series=1&from=yesterday", 400, "from", "'yesterday' is no time like 2026-03-01T00:00:00Z, "),
        ("history?series=1&from=now-6furlongs", 400, "from", "'now-6furlongs' is no time like 2026-03-01T00:00:00Z, "),
        ("quality?day=monday", 400, "day", "'monday' is no day like 2026-03-01"),
        ("history?series=1&from=2026-03-01T00:00:00+01:00", 400, "from", "%2B"),
        ("history?series=1&to=now-99999999999y", 400, "to", "is no time"),
        ("history?series=1&from=now&to=now-1h", 400, "from", "is not before"),
        ("history?series=1&from=2026-03-32", 400, "from", "'2026-03-32' is no time"),
        ("series?offset=100001", 400, "offset", "from 0 to 100000"),
        ("history?series=1&resolution=10m", 400, "resolution", "auto, raw, 5m, 1h, 1d"),
        ("history?series=1&limit=10001", 400, "limit", "from 1 to 10000"),
        ("history?series=1,x", 400, "series", "several with commas"),
        ("history?series=1,77", 404, "series", "no series 77"),
        ("history?series=1,2&format=csv", 400, "series", "one series at a time"),
        ("history?series=1&format=xml", 400, "format", "json or csv"),
        ("series?limit=0", 400, "limit", "from 1 to 10000"),
        ("series?nod=DIST_001", 400, "nod", "known are channel, limit, metric, node"),
        ("series?node=A&node=B", 400, "node", "more than once"),
        ("latest?node=a%20b", 400, "node", "is no valid node name"),
        ("gaps?gateway=..", 400, "gateway", "is no valid gateway name"),
        ("health?x=1", 400, "x", "no parameters"),
        ("nothing", 404, "", "/api/v1/nothing is nothing here"),
    ] {
        let answer = bench.ask(&format!("GET /api/v1/{path}"), "localhost").await;
        for talk in ["component", "failed to", "time unit"] {
            assert!(!answer.2.contains(talk), "that is a parser's: {}", answer.2);
        }
        bench.refused(answer, status, parameter, says);
    }
    bench.refused(bench.ask("POST /api/v1/nodes", "localhost").await, 405, "", "POST");
}

#[tokio::test]
async fn only_this_machine_is_answered() {
    let bench = bench().await;
    for host in ["evil.example:8080", "10.0.0.1", "", "localhost.evil.example", "[::2]:80"] {
        bench.refused(bench.ask("GET /api/v1/nodes", host).await, 421, "", "not for this machine");
    }
    for host in ["LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080"] {
        assert_eq!(bench.ask("GET /api/v1/nodes", host).await.0, 200, "{host}");
    }
}

#[tokio::test]
async fn with_the_warm_tier_gone_health_says_so_and_questions_get_503() {
    let bench = bench().await;
    assert_eq!(bench.get("health").await["status"], "ok"); // who there is, is known since
    bench.warm.close().await;
    let health = bench.get("health").await;
    assert_eq!((&health["status"], &health["tiers"]["warm"]["ok"]), (&json!("degraded"), &json!(false)));
    bench.refused(bench.ask("GET /api/v1/nodes", "localhost").await, 503, "", "warm tier");
}

/// Every route, and the least role that may use it; `None`: nobody has to say who it is.
const ROUTES: &[(&str, Option<Role>)] = &[
    ("GET /api/v1/health", None), // whether it lives
    ("GET /api/v1/nodes", Some(Role::Viewer)),
    ("GET /api/v1/series", Some(Role::Viewer)),
    ("GET /api/v1/latest", Some(Role::Viewer)),
    ("GET /api/v1/history?series=1", Some(Role::Viewer)),
    ("GET /api/v1/gaps", Some(Role::Viewer)),
    ("GET /api/v1/costs", Some(Role::Viewer)),
    ("GET /api/v1/gateways", Some(Role::Viewer)),
    ("GET /api/v1/gateways/STATION_7/points", Some(Role::Viewer)),
    ("GET /api/v1/quarantine", Some(Role::Viewer)),
    ("GET /api/v1/inbox/rejects", Some(Role::Viewer)),
    ("GET /api/v1/parked", Some(Role::Viewer)),
    ("GET /api/v1/quality", Some(Role::Viewer)),
    ("GET /api/v1/forecasts", Some(Role::Viewer)),
    ("GET /api/v1/anomalies", Some(Role::Viewer)),
    ("GET /api/v1/anomalies/1", Some(Role::Viewer)),
    ("GET /api/v1/storage", Some(Role::Viewer)),
    ("GET /api/v1/jobs", Some(Role::Viewer)),
    ("GET /api/v1/jobs/runs", Some(Role::Viewer)),
    ("GET /api/v1/export", Some(Role::Viewer)),
    ("GET /api/v1/live", Some(Role::Viewer)),
    ("GET /metrics", Some(Role::Viewer)),
    ("POST /api/v1/sql", Some(Role::Viewer)), // reads what they may see
    ("HEAD /api/v1/nodes", Some(Role::Viewer)),
    ("GET /api/v1/audit", Some(Role::Operator)),
    ("POST /api/v1/jobs/data_quality/run", Some(Role::Operator)),
    ("POST /api/v1/readings", Some(Role::Operator)),
    ("POST /api/v1/import", Some(Role::Operator)),
    ("POST /api/v1/quarantine/release", Some(Role::Operator)),
    ("POST /api/v1/quarantine/drop", Some(Role::Operator)),
    ("POST /api/v1/inbox/drop", Some(Role::Operator)),
    ("POST /api/v1/anomalies/1/acknowledge", Some(Role::Operator)),
    ("POST /api/v1/anomalies/1/comment", Some(Role::Operator)),
    ("POST /api/v1/anomalies/1/close", Some(Role::Operator)),
    ("GET /api/v1/users", Some(Role::Admin)),
    ("POST /api/v1/users", Some(Role::Admin)),
    ("POST /api/v1/users/rossi", Some(Role::Admin)),
    ("DELETE /api/v1/users/rossi", Some(Role::Admin)),
    ("GET /api/v1/tokens", Some(Role::Admin)),
    ("POST /api/v1/tokens", Some(Role::Admin)),
    ("DELETE /api/v1/tokens/nobody", Some(Role::Admin)),
    ("DELETE /api/v1/health", Some(Role::Admin)), // what isn't named needs the most
    ("GET /api/v1/openapi.json", None),
    ("POST /api/v1/login", None),
    ("GET /api/v1/me", None),
    ("POST /api/v1/logout", None),
    ("POST /api/v1/me/password", Some(Role::Viewer)),
    ("GET /api/docs", None),
    ("GET /", None), // the page holds no data
    ("GET /app.js", None),
    ("GET /api/v1/nothing", None), // nothing is there
];

/// Those of [`ROUTES`] that are for people who have logged in: no token is a person, nor is a command.
const OF_PEOPLE: &[&str] = &["POST /api/v1/me/password"];

#[tokio::test]
async fn every_route_is_for_its_roles_and_for_nobody_unknown() {
    let bench = bench().await;
    let token = |role: Role| format!("wtc_{role}");
    for role in Role::ALL {
        let (name, hash) = (role.to_string(), crate::access::digest(&token(role)));
        let made = crate::access::Token { name, role, hash, made: Timestamp(NOW), ends: None };
        bench.warm.access().put_token(&made).await.unwrap();
    }
    for (line, least) in ROUTES {
        for shown in ["", "wtc_wrong"] {
            let status = bench.status(line, shown).await;
            assert_eq!(status == 401, least.is_some(), "{line} with '{shown}' gives {status}");
        }
        for role in Role::ALL {
            let status = bench.status(line, &token(role)).await;
            let allowed = least.is_none_or(|least| role >= least) && !OF_PEOPLE.contains(line);
            assert_eq!(status == 403, !allowed, "{line} as {role} gives {status}");
            assert_ne!(status, 401, "{line} as {role}");
        }
        let refused = [401, 403].contains(&bench.status(line, "of this start").await);
        assert_eq!(refused, OF_PEOPLE.contains(line), "{line} of a command");
    }
    let password = crate::access::Hash::of("correct horse").unwrap();
    let user = crate::access::User { name: "rossi".into(), role: Role::Viewer, password, changed: Timestamp(NOW) };
    bench.warm.access().put_user(&user).await.unwrap();
    let session = bench.access.begin(&user, Timestamp(NOW)).await.unwrap();
    bench.access.changed().await;
    for line in OF_PEOPLE {
        let host = format!("localhost\r\nCookie: session={session}\r\nContent-Length: 0");
        bench.refused(bench.ask(line, &host).await, 400, "", "the body");
    }
    let (_, _, unknown) = bench.ask("GET /api/v1/health", "localhost").await;
    assert_eq!(unknown, r#"{"status":"ok"}"#, "and nothing else to somebody unknown");
}

/// Whether a line of [`ROUTES`] asks for this path, whose variable parts are in braces.
fn asks_for(line: &str, method: &str, path: &str) -> bool {
    let (asked, address) = line.split_once(' ').unwrap();
    let address: Vec<&str> = address.split('?').next().unwrap().split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    let same = |(asked, described): (&&str, &&str)| asked == described || described.starts_with('{');
    asked.eq_ignore_ascii_case(method) && address.len() == path.len() && address.iter().zip(&path).all(same)
}

#[tokio::test]
async fn what_is_served_is_described_and_the_other_way_round() {
    let bench = bench().await;
    let document = bench.get("openapi.json").await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let mut described = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        described.extend(item.as_object().unwrap().iter().map(|(method, what)| (method, path, what)));
    }
    let mut ids = std::collections::BTreeSet::new();
    for (method, path, operation) in &described {
        let (_, least) =
            ROUTES.iter().find(|(line, _)| asks_for(line, method, path)).unwrap_or_else(|| panic!("{path}"));
        assert_eq!(operation["x-role"], json!(least), "{method} {path}");
        let by_token = operation["security"].as_array().unwrap().iter().any(|way| !way["token"].is_null());
        let of_people = OF_PEOPLE.iter().any(|line| asks_for(line, method, path));
        assert_eq!(by_token, least.is_some() && !of_people, "{method} {path}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{path}: its name is there twice");
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{path}");
        let json = &operation["responses"]["200"]["content"]["application/json"];
        let tagged = *method == "get" && json.is_object();
        assert_eq!(operation["responses"]["304"].is_object(), tagged, "{method} {path}");
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let schema = &parameter["schema"];
            let bound = ["enum", "maximum", "maxLength", "pattern"].iter().any(|bound| !schema[bound].is_null());
            assert!(bound || schema["type"] == "boolean", "{path}: {parameter} has no bound");
            assert!(!parameter["description"].as_str().unwrap().is_empty(), "{path}: {parameter}");
        }
    }
    for (line, _) in ROUTES.iter().filter(|(line, _)| line.contains("/api/v1/") || line.contains("/metrics")) {
        let known = described.iter().any(|(method, path, _)| asks_for(line, method, path));
        let none = ["HEAD", "DELETE /api/v1/health", "GET /api/v1/nothing"].iter().any(|none| line.starts_with(none));
        assert_ne!(known, none, "{line}");
    }
    let (status, head, page) = bench.ask("GET /api/docs", "localhost").await;
    assert!(status == 200 && head.contains("text/html") && page.contains("/docs.js"), "{head}");
}

#[tokio::test]
async fn what_the_tiers_hold_is_counted() {
    let bench = bench().await;
    let storage = bench.get("storage").await;
    assert_eq!((&storage["warm"]["readings"], &storage["hot"]["readings"]), (&json!(60), &json!(0)), "{storage}");
    assert!(storage["warm"]["bytes"].as_u64().unwrap() > 0 && storage["cold"].is_null(), "{storage}");
}

#[tokio::test]
async fn a_list_goes_on_where_it_says() {
    let bench = bench().await;
    let first = bench.get("series?limit=1").await;
    assert_eq!((&first["truncated"], &first["next"]), (&json!(true), &json!(1)));
    let second = bench.get("series?limit=1&offset=1").await;
    assert_eq!((&second["truncated"], &second["next"]), (&json!(false), &Value::Null));
    assert_ne!(first["items"][0]["series"], second["items"][0]["series"]);
    assert_eq!(bench.get("series?offset=2").await["items"], json!([]));
    let history = bench.get("history?series=1&from=2026-03-01&to=now&resolution=raw&limit=59").await;
    assert_eq!((&history["from"], &history["next"]), (&json!("2026-03-01T00:00:00Z"), &json!("2026-03-01T11:59:50Z")));
}

#[tokio::test]
async fn an_answer_that_is_known_does_not_travel_again() {
    let bench = bench().await;
    let (_, head, _) = bench.ask("GET /api/v1/series", "localhost").await;
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: w/")).unwrap();
    let again = |path: &str| format!("GET {path} HTTP/1.1\r\nIf-None-Match: W/{tag}\r\nX:");
    let (status, head, body) = bench.ask(&again("/api/v1/series"), "localhost").await;
    assert_eq!((status, body.as_str()), (304, ""), "{head}");
    assert_eq!(bench.ask(&again("/api/v1/nodes"), "localhost").await.0, 200, "another answer, another tag");
}

#[tokio::test]
async fn what_costs_much_is_limited_but_not_for_commands() {
    let two = std::num::NonZeroU32::new(2).unwrap();
    let bench = bench_with(|sources| sources.rates.history = two).await;
    let line = "GET /api/v1/history?series=1";
    for _ in 0..2 {
        assert_eq!(bench.ask(line, "localhost").await.0, 200);
    }
    let (status, head, body) = bench.ask(line, "localhost").await;
    let wait = head.lines().find_map(|line| line.strip_prefix("retry-after: ")).unwrap().parse::<u32>().unwrap();
    assert!((1..=31).contains(&wait), "{wait}");
    bench.refused((status, head, body), 429, "", "[api.rates]");
    assert_eq!(bench.ask("GET /api/v1/nodes", "localhost").await.0, 200, "what costs little is not limited");
    assert_eq!(bench.status(line, "of this start").await, 200, "nor is a command");
}

#[tokio::test]
async fn every_mistake_is_a_problem_that_says_so() {
    let bench = bench().await;
    let large = format!("localhost\r\nContent-Length: {}", entry::BODY_BYTES_MAX + 1);
    bench.refused(bench.ask("POST /api/v1/import", &large).await, 413, "", "8388608 bytes");
    // What comes after the brace, up to the end of the head as it is written here, is the rest of the body.
    let cut = "localhost\r\nConnection: close\r\nContent-Length: 24\r\n\r\n{";
    bench.refused(bench.ask("POST /api/v1/readings", cut).await, 400, "", "the body");
    let packed = format!("Content-Encoding: br\r\n{cut}").replacen("localhost\r\n", "", 1);
    bench.refused(bench.ask("POST /api/v1/readings", &format!("localhost\r\n{packed}")).await, 415, "", "is 'br'");
    bench.refused(bench.ask("POST /api/v1/anomalies/x/close", cut).await, 404, "", "Invalid URL");
    let answer = bench.ask("DELETE /api/v1/nodes", "localhost").await;
    assert!(answer.1.contains("allow: get,head"), "{}", answer.1);
    bench.refused(answer, 405, "", "DELETE");
}

const SLOW: &str =
    "POST /api/v1/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";

#[tokio::test]
async fn those_who_send_slowly_hold_up_nobody() {
    let bench = bench().await;
    bench.user("rossi", Role::Viewer).await;
    let mut slow = Vec::new();
    for _ in 0..2 * (REQUESTS_MAX + STRANGERS_MAX) {
        slow.push(bench.begun(SLOW).await);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = std::time::Instant::now();
    assert_eq!(bench.status("GET /api/v1/nodes", "of this start").await, 200);
    assert_eq!(bench.ask("GET /api/v1/health", "localhost").await.0, 200, "nor other strangers");
    let right = json!({ "name": "rossi", "password": "correct horse" });
    assert_eq!(bench.post("login", "", &right).await.0, 200);
    assert!(began.elapsed() < TURN_WITHIN, "{:?}", began.elapsed());
    // Somebody who isn't known sends a name and a password, and no more.
    let much = json!({ "name": "x".repeat(body::STRANGERS_MAX), "password": "" });
    let (status, _, problem) = bench.post("login", "", &much).await;
    assert_eq!((status, problem["detail"].as_str().unwrap().contains("2000 bytes")), (413, true), "{problem}");
}

#[tokio::test]
async fn what_is_announced_must_come() {
    let bench = bench().await;
    let mut socket = bench.begun(SLOW).await;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("within 10 s"), "{answer}");
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let head_within = Duration::from_millis(300);
    let bench = bench_with(|sources| sources.connections.head_within = head_within).await;
    let idle = "GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for said in ["", "GET /api/v1/health HTTP/1.1\r\nHost: loc", idle] {
        let (mut socket, mut answer) = (bench.begun(said).await, Vec::new());
        let reading = tokio::time::timeout(20 * head_within, socket.read_to_end(&mut answer));
        assert!(reading.await.is_ok(), "it is open still after '{said}'");
        assert_eq!(answer.starts_with(b"HTTP/1.1 200"), said == idle, "{}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn silent_connections_keep_nobody_out() {
    let bench = bench_with(|sources| sources.connections.most = 8).await;
    let mut silent = Vec::new();
    for _ in 0..32 {
        silent.push(bench.begun("GET /api/v1/health HTTP/1.1\r\n").await);
    }
    for _ in 0..8 {
        assert_eq!(bench.ask("GET /api/v1/health", "localhost").await.0, 200);
    }
}

#[tokio::test]
async fn connections_are_bounded() {
    let bench = bench_with(|sources| sources.connections.most = 8).await;
    let mut open = Vec::new();
    for _ in 0..8 {
        let mut socket = bench.begun("GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.unwrap();
        open.push(socket);
    }
    let mut more = bench.begun("").await;
    assert_eq!(more.read(&mut [0]).await.unwrap_or(0), 0, "the ninth is closed");
    open.pop();
    let answered = async {
        loop {
            let mut socket = bench.begun("GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            if socket.read(&mut [0; 12]).await.is_ok_and(|count| count > 0) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), answered).await.unwrap();
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_is_an_address_of_its_own() {
    let bench = bench_with(|sources| sources.trusted_proxies = ["127.0.0.1".parse().unwrap()].into()).await;
    bench.user("rossi", Role::Viewer).await;
    let login = async |from: &str, password: &str| {
        let body = json!({ "name": "rossi", "password": password });
        bench.post("login", &format!("X-Forwarded-For: 198.51.100.7, {from}\r\n"), &body).await.0
    };
    for _ in 0..5 {
        assert_eq!(login("203.0.113.9", "guess").await, 401);
    }
    assert_eq!(login("203.0.113.9", "correct horse").await, 429);
    assert_eq!(login("203.0.113.10", "correct horse").await, 200);
    let audit = bench.warm.audit(&crate::tiers::AuditWanted::all(1)).await.unwrap();
    assert_eq!(audit[0].1.detail["address"], "203.0.113.10");
}

#[tokio::test]
async fn with_a_login_the_session_before_is_over() {
    let bench = bench().await;
    bench.user("rossi", Role::Viewer).await;
    let right = json!({ "name": "rossi", "password": "correct horse" });
    let login = async |shown: &str| {
        let (status, head, _) = bench.post("login", &format!("Cookie: {shown}\r\n"), &right).await;
        assert_eq!(status, 200);
        let line = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        line.split(';').next().unwrap().to_owned()
    };
    let nodes = async |shown: &str| bench.ask("GET /api/v1/nodes", &format!("localhost\r\nCookie: {shown}")).await.0;
    let first = login("a=b").await;
    assert_eq!(nodes(&first).await, 200);
    let second = login(&first).await;
    assert_eq!((nodes(&first).await, nodes(&second).await), (401, 200));
}

#[tokio::test]
async fn how_a_token_is_announced_is_written_as_one_likes() {
    let bench = bench().await;
    bench.user("rossi", Role::Viewer).await;
    for (word, status) in [("Bearer", 200), ("bearer", 200), ("BEARER ", 200), ("Basic", 401)] {
        let host = format!("localhost\r\nAuthorization: {word} of this start");
        assert_eq!(bench.ask("GET /api/v1/nodes", &host).await.0, status, "{word}");
    }
}

#[tokio::test]
async fn newest_values_that_are_known_do_not_travel_again_although_time_goes_on() {
    let clock = Arc::new(std::sync::atomic::AtomicI64::new(NOW));
    let ticking = clock.clone();
    let now = Arc::new(move || Timestamp(ticking.load(std::sync::atomic::Ordering::Relaxed)));
    let bench = bench_with(|sources| sources.now = now).await;
    let (_, head, _) = bench.ask("GET /api/v1/latest", "localhost").await;
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: w/")).unwrap();
    let again = format!("GET /api/v1/latest HTTP/1.1\r\nIf-None-Match: W/{tag}\r\nX:");
    let at = |seconds: i64| clock.store(NOW + seconds * SECOND, std::sync::atomic::Ordering::Relaxed);
    at(10);
    assert_eq!(bench.ask(&again, "localhost").await.0, 304);
    at(60);
    assert_eq!(bench.ask(&again, "localhost").await.0, 200, "it says nothing about now any more");
}

/// `count` anomalies of the first series, an hour apart, the last ones critical.
async fn anomalies(bench: &Bench, from: i64, count: i64) {
    use crate::analytics::anomaly::{Kind, Severity};
    use crate::analytics::store::{Anomaly, State};
    let one = |n: i64| Anomaly {
        number: 0,
        series: crate::tiers::SeriesId(1),
        kind: Kind::Stuck,
        start: Timestamp(NOW + n * 3_600 * SECOND),
        last: Timestamp(NOW + n * 3_600 * SECOND),
        end: None,
        severity: if n % 2 == 0 { Severity::Warning } else { Severity::Critical },
        expected: None,
        seen: None,
        detail: "it stands still".into(),
        state: State::Open,
        normal: false,
        notes: Vec::new(),
    };
    let all: Vec<_> = (from..from + count).map(one).collect();
    bench.warm.anomalies().put_anomalies(&all, Timestamp(0)).await.unwrap();
}

#[tokio::test]
async fn lists_that_have_the_newest_first_repeat_nothing_while_new_ones_come() {
    let bench = bench().await;
    anomalies(&bench, 0, 5).await;
    let note = async |what: &str| {
        let audited =
            crate::tiers::Audited { at: Timestamp(NOW), who: "rossi".into(), what: what.into(), detail: json!({}) };
        bench.warm.commit(Flush { audit: vec![audited], ..Flush::default() }).await.unwrap();
    };
    for n in 0..5 {
        note(&n.to_string()).await;
    }
    for (path, field, expected) in
        [("anomalies", "id", json!([5, 4, 3, 2, 1])), ("audit", "what", json!(["new", "new", "4", "3", "2", "1", "0"]))]
    {
        let (mut seen, mut next) = (Vec::new(), String::from("0"));
        loop {
            let list = bench.get(&format!("{path}?limit=2&offset={next}")).await;
            seen.extend(list["items"].as_array().unwrap().iter().map(|item| item[field].clone()));
            let Some(on) = list["next"].as_str() else { break };
            next = on.to_owned();
            anomalies(&bench, 10 + seen.len() as i64, 1).await;
            note("new").await;
        }
        assert_eq!(json!(seen), expected, "{path}");
        bench.refused(bench.ask(&format!("GET /api/v1/{path}?offset=~x"), "localhost").await, 400, "offset", "`next`");
    }
    assert_eq!(bench.get("audit?offset=1&what=new").await["items"].as_array().unwrap().len(), 4);
    assert_eq!(bench.get("audit?who=bianchi").await["items"], json!([]));
    let critical = bench.get("anomalies?severity=critical&to=2026-03-01T18:00:00Z").await;
    let ids: Vec<_> = critical["items"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
    assert_eq!(ids, [4, 2]);
    assert_eq!(bench.get("anomalies/2").await["severity"], "critical");
    bench.refused(bench.ask("GET /api/v1/anomalies/99", "localhost").await, 404, "", "no anomaly 99");
}

#[tokio::test]
async fn of_several_who_acknowledge_at_once_one_does() {
    let bench = bench().await;
    anomalies(&bench, 0, 1).await;
    let acknowledge = async |n: usize| {
        let said = json!({ "author": format!("operator {n}"), "comment": "I go there" });
        bench.post("anomalies/1/acknowledge", "", &said).await.0
    };
    let mut all = futures::future::join_all((0..6).map(acknowledge)).await;
    all.sort_unstable();
    assert_eq!(all, [200, 409, 409, 409, 409, 409]);
    assert_eq!(bench.get("anomalies/1").await["notes"].as_array().unwrap().len(), 1);
    assert_eq!(bench.get("audit").await["items"].as_array().unwrap().len(), 1, "who was too late did nothing");
}
