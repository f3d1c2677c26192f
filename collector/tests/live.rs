//! The live feed: a snapshot, then what gateways send, as it arrives; and nothing for those who ask wrongly.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

mod support;

use collector::access::{Hash, People, Role};
use collector::tiers::WarmTier;
use collector::tiers::warm::sqlite::SqliteWarm;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use shared::block::TimeBase;
use shared::reading::Timestamp;
use std::time::{Duration, Instant};
use support::*;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

struct Watcher(WebSocketStream<TcpStream>);

async fn connect(to: &Collector, origin: Option<&str>, host: Option<&str>) -> Result<Watcher, Error> {
    let said = [("Origin", origin), ("Host", host)].into_iter();
    connect_saying(to, said.filter_map(|(name, value)| Some((name, value?)))).await
}

async fn connect_saying<'a>(
    to: &Collector,
    headers: impl IntoIterator<Item = (&'static str, &'a str)>,
) -> Result<Watcher, Error> {
    let mut request = format!("ws://{}/api/v1/live", to.api).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(to.api).await.unwrap();
    Ok(Watcher(within(client_async(request, stream)).await?.0))
}

impl Watcher {
    async fn watching(to: &Collector, what: Value) -> (Self, Value) {
        let mut watcher = connect(to, None, None).await.unwrap();
        let snapshot = watcher.watch(what).await;
        (watcher, snapshot)
    }

    async fn watch(&mut self, mut what: Value) -> Value {
        what["type"] = json!("watch");
        self.0.send(Message::text(what.to_string())).await.unwrap();
        loop {
            let said = self.hear().await;
            if said["type"] == "snapshot" {
                return said;
            }
        }
    }

    async fn hear(&mut self) -> Value {
        loop {
            match within(self.0.next()).await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Hears until something is told of anomalies.
    async fn told_of_anomalies(&mut self) -> Value {
        loop {
            let said = self.hear().await;
            if said["type"] == "anomalies" {
                return said;
            }
        }
    }

    /// Hears until this value comes; all that came.
    async fn until(&mut self, value: f64) -> Vec<f64> {
        let mut heard = Vec::new();
        while heard.last() != Some(&value) {
            let said = self.hear().await;
            heard.extend(said["items"].as_array().into_iter().flatten().filter_map(|item| item["value"].as_f64()));
        }
        heard
    }

    /// The code and the reason it is sent away with.
    async fn sent_away(&mut self) -> (u16, String) {
        loop {
            match within(self.0.next()).await.expect("a close frame").expect("a close frame") {
                Message::Close(Some(frame)) => return (frame.code.into(), frame.reason.to_string()),
                Message::Close(None) => panic!("without a reason"),
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn a_snapshot_first_then_values_as_they_arrive() {
    let site = Site::new(&["STATION_7"], |_| {});
    let collector = site.start().await;
    let (mut gateway, hash) = Client::ready(&collector, "STATION_7", &["DIST_001", "DIST_002"]).await;
    let at = now();
    gateway.block(1, block(hash, TimeBase::Utc, &[(0, at, 1.0), (1, at, 10.0)])).await;
    gateway.wait_committed(seqs([1])).await;

    let (mut one, snapshot) = Watcher::watching(&collector, json!({ "nodes": ["DIST_001", "DIST_9"] })).await;
    assert_eq!(snapshot["items"].as_array().unwrap().len(), 1, "{snapshot}");
    let item = &snapshot["items"][0];
    assert_eq!((&item["node"], &item["value"], &item["unit"]), (&json!("DIST_001"), &json!(1.0), &json!("bar")));
    assert_eq!(snapshot["unknown"], json!(["DIST_9"]));
    assert_eq!(snapshot["degraded"], json!([]));
    let (mut all, snapshot) = Watcher::watching(&collector, json!({ "all": true })).await;
    assert_eq!(snapshot["items"].as_array().unwrap().len(), 2);

    let sent = Instant::now();
    gateway.block(2, block(hash, TimeBase::Utc, &[(0, at + SECOND, 2.0), (1, at + SECOND, 20.0)])).await;
    assert_eq!(one.until(2.0).await, [2.0], "the other node isn't watched");
    assert!(sent.elapsed().as_secs_f64() < 1.0, "{:?}", sent.elapsed());
    let mut heard = all.until(20.0).await;
    heard.sort_by(f64::total_cmp);
    assert_eq!(heard, [2.0, 20.0]);

    // Late data is for history: what is shown doesn't go back. Of several the newest is told.
    gateway.block(3, block(hash, TimeBase::Utc, &[(0, at - 50 * SECOND, 0.5)])).await;
    gateway.block(4, block(hash, TimeBase::Utc, &[(0, at + 2 * SECOND, 3.0), (0, at + 3 * SECOND, 4.0)])).await;
    assert_eq!(one.until(4.0).await, [4.0]);

    // Watching something else takes the place of what was watched.
    let snapshot = one.watch(json!({ "nodes": ["DIST_002"] })).await;
    assert_eq!(snapshot["items"][0]["value"], json!(20.0));
    gateway.block(5, block(hash, TimeBase::Utc, &[(0, at + 4 * SECOND, 5.0), (1, at + 4 * SECOND, 50.0)])).await;
    assert_eq!(one.until(50.0).await, [50.0]);

    let stopping = tokio::spawn(collector.stop());
    assert_eq!(one.sent_away().await, (1001, "the collector stops".into()));
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_out_of_the_ordinary_is_told_as_soon_as_it_is_seen() {
    let site = Site::new(&["STATION_7"], |config| config.jobs.anomaly_detection = "off".into());
    let collector = site.start().await;
    let leads = async || collector.metrics().await.contains("collector_jobs_leader 1");
    assert!(until(leads).await, "nobody leads");
    let (mut gateway, hash) = Client::ready(&collector, "STATION_7", &["DIST_001", "DIST_002"]).await;
    let (mut watcher, _) = Watcher::watching(&collector, json!({ "nodes": ["DIST_001"], "anomalies": true })).await;
    let first = watcher.told_of_anomalies().await;
    assert_eq!((&first["whole"], &first["items"], &first["truncated"]), (&json!(true), &json!([]), &json!(false)));

    // Wherever it is, whatever else is watched.
    let at = now();
    let late = at - 3_600 * SECOND; // the job's
    gateway.block(1, block(hash, TimeBase::Utc, &[(0, late, 8_000.0), (0, at, 4.0), (1, at, 9_000.0)])).await;
    let told = watcher.told_of_anomalies().await;
    let one = &told["items"][0];
    assert_eq!((&told["whole"], &one["kind"], &one["seen"]), (&json!(false), &json!("out_of_range"), &json!(9_000.0)));
    assert_eq!((&one["node"], &one["state"], &one["end"]), (&json!("DIST_002"), &json!("open"), &Value::Null));
    gateway.block(2, block(hash, TimeBase::Utc, &[(0, at + SECOND, 4.5), (1, at + SECOND, 9_999.0)])).await;
    gateway.wait_committed(seqs([1, 2])).await;
    assert_eq!(collector.get("anomalies").await["items"].as_array().unwrap().len(), 1);

    // The job that looks at the same readings goes on with it.
    assert_eq!(collector.post("jobs/anomaly_detection/run", json!({})).await.0, 202);
    let done = async || collector.get("jobs/runs?job=anomaly_detection").await["items"][0]["status"] == "done";
    assert!(until(done).await, "{}", collector.get("jobs/runs").await);
    let all = collector.get("anomalies").await;
    let all = all["items"].as_array().unwrap();
    let found: Vec<_> = all.iter().filter(|one| one["kind"] == "out_of_range").collect();
    assert_eq!((found.len(), &found[0]["id"], &found[0]["seen"]), (2, &one["id"], &json!(9_999.0)), "{all:?}");

    // Closed, it is active no more.
    let said = json!({ "author": "M. Rossi", "comment": "a test" });
    let (status, closed) = collector.post(&format!("anomalies/{}/close", one["id"]), said).await;
    assert_eq!(status, 200, "{closed}");
    let mut gone = watcher.told_of_anomalies().await;
    while gone["gone"] == json!([]) {
        gone = watcher.told_of_anomalies().await; // the job's findings
    }
    assert_eq!(gone["gone"], json!([one["id"]]));
    collector.stop().await;
}

#[tokio::test]
async fn whoever_asks_wrongly_is_sent_away_with_the_reason() {
    let site = Site::new(&["STATION_7"], |_| {});
    let collector = site.start().await;
    for (message, code, says) in [
        (Message::text("hello"), 1008, "not understood"),
        (Message::text(r#"{"type":"drop","all":true}"#), 1008, "unknown variant `drop`"),
        (Message::text(r#"{"type":"watch","nodes":["a b"]}"#), 1008, "not understood"),
        (Message::text(r#"{"type":"watch","nods":[]}"#), 1008, "unknown field `nods`"),
        (Message::binary(vec![0; 10]), 1008, "messages are text"),
        (
            Message::text(format!(r#"{{"type":"watch","nodes":["{}"]}}"#, "x".repeat(70_000))),
            1009,
            "at most 65536 bytes",
        ),
        (Message::text("[".repeat(60_000)), 1008, "not understood"),
    ] {
        let mut watcher = connect(&collector, None, None).await.unwrap();
        watcher.0.send(message).await.unwrap();
        let (got, reason) = watcher.sent_away().await;
        assert_eq!(got, code, "{reason}");
        assert!(reason.contains(says) && reason.len() <= 123, "{reason}");
    }
}

#[tokio::test]
async fn a_page_of_another_site_gets_nothing() {
    let site = Site::new(&["STATION_7"], |_| {});
    let collector = site.start().await;
    let own = format!("http://{}", collector.api);
    assert!(connect(&collector, Some(&own), None).await.is_ok());
    for (origin, host, status) in
        [(Some("http://evil.example"), None, 403), (Some("null"), None, 403), (None, Some("evil.example"), 421)]
    {
        match connect(&collector, origin, host).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), status, "{origin:?} {host:?}"),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("{origin:?} {host:?} was let in"),
        }
    }
    let plain = http(collector.api, "/api/v1/live").await;
    assert!(plain.contains("urn:collector:problem:upgrade"), "{plain}");
}

/// Asks with a cookie or a token; the session that is begun, if one is.
async fn ask(to: &Collector, line: &str, headers: &str, body: Value) -> Option<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let body = body.to_string();
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    let mut stream = TcpStream::connect(to.api).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{line}: {answer}");
    let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: "));
    cookie.map(|cookie| cookie.split(';').next().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_out_is_told_nothing_more() {
    let site = Site::new(&[], |_| {});
    let warm = SqliteWarm::open(&site.config.warm_file()).await.unwrap();
    let people = || People { warm: &warm, by: "test", now: Timestamp::wall_clock() };
    let password = || Hash::of("correct horse").unwrap();
    for (name, role) in [("verdi", Role::Admin), ("rossi", Role::Viewer), ("bianchi", Role::Viewer)] {
        people().add(name, role, password()).await.unwrap();
    }
    let token = people().make_token("grafana", Role::Viewer, None).await.unwrap();
    let collector = site.start().await;
    let login = async |name: &str| {
        let form = json!({ "name": name, "password": "correct horse" });
        ask(&collector, "POST /api/v1/login", "", form).await.unwrap()
    };
    let admin = format!("Cookie: {}\r\n", login("verdi").await);
    let by_session = async |cookie: &str| connect_saying(&collector, [("Cookie", cookie)]).await.unwrap();
    let by_token = async |token: &str| {
        connect_saying(&collector, [("Authorization", format!("Bearer {token}").as_str())]).await.unwrap()
    };
    let out = async |mut watcher: Watcher, since: Instant, says: &str, within: Duration| {
        assert_eq!(watcher.sent_away().await, (1008, says.to_owned()));
        assert!(since.elapsed() < within, "{:?}", since.elapsed());
    };
    let (at_once, again) = (Duration::from_secs(1), "log in again");
    let mut stays = by_session(&login("rossi").await).await;

    let session = login("bianchi").await;
    let (watcher, since) = (by_session(&session).await, Instant::now());
    ask(&collector, "POST /api/v1/logout", &format!("Cookie: {session}\r\n"), json!({})).await;
    out(watcher, since, again, at_once).await;

    let session = login("bianchi").await;
    let (watcher, other, since) =
        (by_session(&session).await, by_session(&login("bianchi").await).await, Instant::now());
    let form = json!({ "current": "correct horse", "new": "another horse" });
    let renewed = ask(&collector, "POST /api/v1/me/password", &format!("Cookie: {session}\r\n"), form).await.unwrap();
    out(watcher, since, again, at_once).await;
    out(other, since, again, at_once).await;

    let (watcher, since) = (by_session(&renewed).await, Instant::now());
    ask(&collector, "POST /api/v1/users/bianchi", &admin, json!({ "role": "operator" })).await;
    out(watcher, since, "what you may do has changed", at_once).await;

    let (watcher, since) = (by_session(&renewed).await, Instant::now());
    ask(&collector, "DELETE /api/v1/users/bianchi", &admin, json!({})).await;
    out(watcher, since, again, at_once).await;

    let (watcher, since) = (by_token(&token).await, Instant::now());
    ask(&collector, "DELETE /api/v1/tokens/grafana", &admin, json!({})).await;
    out(watcher, since, again, at_once).await;

    // What another process does, as the command line, is seen.
    let token = people().make_token("scada", Role::Viewer, None).await.unwrap();
    assert!(
        until(async || connect_saying(&collector, [("Authorization", format!("Bearer {token}").as_str())])
            .await
            .is_ok())
        .await
    );
    let (watcher, since) = (by_token(&token).await, Instant::now());
    people().revoke_token("scada").await.unwrap();
    out(watcher, since, again, Duration::from_secs(3)).await;
    stays.watch(json!({ "all": true })).await;
    let since = Instant::now();
    people().remove("rossi").await.unwrap();
    out(stays, since, again, Duration::from_secs(3)).await;
    warm.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_all_the_seats() {
    let site = Site::new(&[], |_| {});
    let collector = site.start().await;
    let mut open = Vec::new();
    for _ in 0..101 {
        open.push(connect(&collector, None, None).await.expect("where everybody is one there is no such bound"));
    }
    drop(open);
    collector.stop().await;
    let warm = SqliteWarm::open(&site.config.warm_file()).await.unwrap();
    let people = People { warm: &warm, by: "test", now: Timestamp::wall_clock() };
    people.add("verdi", Role::Admin, Hash::of("correct horse").unwrap()).await.unwrap();
    let token = format!("Bearer {}", people.make_token("grafana", Role::Viewer, None).await.unwrap());
    warm.close().await;
    let collector = site.start().await;
    let connect = async || connect_saying(&collector, [("Authorization", token.as_str())]).await;
    let mut watching = Vec::new();
    for _ in 0..100 {
        watching.push(connect().await.unwrap());
    }
    match connect().await {
        Err(Error::Http(answer)) => assert_eq!(answer.status(), 429),
        other => panic!("{:?}", other.map(|_| ())),
    }
    watching.pop();
    assert!(until(async || connect().await.is_ok()).await, "who goes makes room");
}
