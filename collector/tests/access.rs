//! Who gets into the API: over TLS, with passwords, sessions and the commands of this machine.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

mod support;

use collector::tiers::AuditWanted;
use serde_json::{Value, json};
use std::path::PathBuf;
use support::process::collector as program;
use support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

struct Answer {
    status: u16,
    head: String,
    body: Value,
}

/// Over TLS, as a browser.
async fn ask(site: &Site, collector: &Collector, line: &str, headers: &str, body: Option<Value>) -> Answer {
    let mut tls = anonymous(collector.api, &site.ca("ca.pem")).await;
    let body = body.map_or_else(String::new, |body| body.to_string());
    let request = format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    tls.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = within(tls.read_to_end(&mut answer)).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let body = serde_json::from_str(body).unwrap_or(Value::Null);
    Answer { status: head[9..12].parse().unwrap(), head: head.into(), body }
}

fn cookie(answer: &Answer) -> String {
    let line = answer.head.lines().find(|line| line.to_lowercase().starts_with("set-cookie:")).unwrap();
    for word in ["HttpOnly", "SameSite=Strict", "Secure", "Path=/"] {
        assert!(line.contains(word), "{line}");
    }
    format!("Cookie: {}\r\n", line.split_once(':').unwrap().1.split(';').next().unwrap().trim())
}

/// What happened, the newest first.
async fn audited(site: &Site) -> Vec<String> {
    let warm = collector::tiers::warm::open(&site.config.warm, &site.config.warm_file()).await.unwrap();
    let all = warm.audit(&AuditWanted::all(100)).await.unwrap();
    warm.close().await;
    all.into_iter().map(|(_, one)| one.detail["did"].as_str().unwrap().to_owned()).collect()
}

fn with_tls() -> (Site, PathBuf) {
    let mut site = Site::new(&[], |_| {});
    let (cert, key) = (site.ca("server.pem"), site.ca("server.key"));
    site.config.api.cert = Some(cert);
    site.config.api.key = Some(key);
    let path = site.folder.path().join("cli.toml");
    std::fs::write(&path, format!("data_dir = {:?}\n", site.config.data_dir)).unwrap();
    (site, path)
}

async fn command(config: &std::path::Path, words: &[&str]) -> std::process::Output {
    let mut all: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    all.extend(["--config".into(), config.to_str().unwrap().into()]);
    let running = move || program(&all.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(running).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_first_user_everyone_must_say_who_it_is() {
    let (site, config) = with_tls();
    let collector = site.start().await;
    let get = async |path: &str, headers: &str| ask(&site, &collector, &format!("GET {path}"), headers, None).await;
    let nodes = get("/api/v1/nodes", "").await;
    assert_eq!(nodes.status, 200);
    assert!(nodes.head.to_lowercase().contains("strict-transport-security: max-age=2592000"), "{}", nodes.head);

    let secret = site.folder.path().join("password");
    std::fs::write(&secret, "correct horse\n").unwrap();
    let add = ["user", "add", "rossi", "--role", "operator", "--password-file", secret.to_str().unwrap()];
    let made = command(&config, &add).await;
    assert_eq!(String::from_utf8_lossy(&made.stdout), "made  rossi, operator\n", "{made:?}");
    let again = command(&config, &add).await;
    assert!(String::from_utf8_lossy(&again.stderr).contains("already"), "{again:?}");
    // The commands of this machine still get in, by another door and without TLS.
    let jobs = command(&config, &["jobs", "list", "--json"]).await;
    assert!(jobs.status.success(), "{jobs:?}");
    let list = command(&config, &["user", "list", "--json"]).await;
    let users: Value = serde_json::from_slice(&list.stdout).unwrap();
    assert_eq!((&users["items"][0]["name"], users["items"][0].get("password")), (&json!("rossi"), None));
    let audit = command(&config, &["token", "make", "grafana", "--json"]).await;
    let token: Value = serde_json::from_slice(&audit.stdout).unwrap();
    let token = format!("Authorization: Bearer {}\r\n", token["token"].as_str().unwrap());
    // A running collector notices within two seconds.
    assert!(until(async || get("/api/v1/nodes", "").await.status == 401).await);
    assert_eq!(get("/api/v1/nodes", &token).await.status, 200);
    assert!(command(&config, &["token", "revoke", "grafana"]).await.status.success());
    assert!(until(async || get("/api/v1/nodes", &token).await.status == 401).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_log_in_and_out() {
    let (site, config) = with_tls();
    let secret = site.folder.path().join("password");
    std::fs::write(&secret, "correct horse\n").unwrap();
    let add = ["user", "add", "rossi", "--role", "viewer", "--password-file", secret.to_str().unwrap()];
    assert!(command(&config, &add).await.status.success());
    let collector = site.start().await;
    let post = async |path: &str, headers: &str, body: Value| {
        ask(&site, &collector, &format!("POST {path}"), headers, Some(body)).await
    };
    let get = async |path: &str, headers: &str| ask(&site, &collector, &format!("GET {path}"), headers, None).await;
    let right = json!({ "name": "rossi", "password": "correct horse" });
    let refused = get("/api/v1/nodes", "").await;
    assert_eq!((refused.status, &refused.body["type"]), (401, &json!("urn:collector:problem:login")));
    assert_eq!(get("/api/v1/me", "").await.body["who"], Value::Null);
    let wrong = post("/api/v1/login", "", json!({ "name": "rossi", "password": "correct house" })).await;
    assert_eq!((wrong.status, &wrong.body["detail"]), (401, &json!("name or password is wrong")));
    let elsewhere = post("/api/v1/login", "Origin: https://evil.example\r\n", right.clone()).await;
    assert_eq!(elsewhere.status, 403);
    let inside = post("/api/v1/login", "Origin: https://localhost\r\n", right).await;
    assert_eq!((inside.status, &inside.body["role"]), (200, &json!("viewer")), "{}", inside.body);
    let cookie = cookie(&inside);
    assert_eq!(get("/api/v1/nodes", &cookie).await.status, 200);
    assert_eq!(get("/api/v1/me", &cookie).await.body["who"]["name"], "rossi");
    assert_eq!(post("/api/v1/jobs/data_quality/run", &cookie, json!({})).await.status, 403, "a viewer looks");
    assert_eq!(post("/api/v1/logout", &cookie, json!({})).await.status, 200);
    assert_eq!(get("/api/v1/nodes", &cookie).await.status, 401);
    for _ in 0..5 {
        let guess = post("/api/v1/login", "", json!({ "name": "rossi", "password": "guess" })).await;
        assert_eq!(guess.status, 401);
    }
    assert_eq!(post("/api/v1/login", "", json!({ "name": "rossi", "password": "guess" })).await.status, 429);
    let noted = audited(&site).await;
    assert_eq!(noted, ["locked out", "logged out", "logged in", "user added"]);
    assert_eq!(post("/api/v1/login", "", json!({ "name": 1 })).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn admins_make_and_change_people_and_tokens_from_afar() {
    let (site, config) = with_tls();
    let secret = site.folder.path().join("password");
    std::fs::write(&secret, "correct horse\n").unwrap();
    let add = ["user", "add", "verdi", "--role", "admin", "--password-file", secret.to_str().unwrap()];
    assert!(command(&config, &add).await.status.success());
    let made = command(&config, &["token", "make", "admins", "--role", "admin", "--json"]).await;
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let admin = format!("Authorization: Bearer {}\r\n", made["token"].as_str().unwrap());
    let collector = site.start().await;
    let say = async |line: &str, headers: &str, body: Value| ask(&site, &collector, line, headers, Some(body)).await;
    let rossi = json!({ "name": "rossi", "role": "viewer", "password": "correct horse" });
    let made = say("POST /api/v1/users", &admin, rossi.clone()).await;
    assert_eq!((made.status, &made.body["role"]), (200, &json!("viewer")), "{}", made.body);
    let again = say("POST /api/v1/users", &admin, rossi).await;
    assert_eq!((again.status, again.body["detail"].as_str().unwrap().contains("already")), (409, true));
    for (body, status) in [
        (json!({ "name": "neri", "role": "viewer", "password": "short" }), 400),
        (json!({ "name": "n e r i", "role": "viewer", "password": "correct horse" }), 400),
        (json!({ "name": "neri", "role": "king", "password": "correct horse" }), 400),
    ] {
        assert_eq!(say("POST /api/v1/users", &admin, body.clone()).await.status, status, "{body}");
    }
    let elsewhere = format!("{admin}Origin: https://evil.example\r\n");
    assert_eq!(say("DELETE /api/v1/users/rossi", &elsewhere, json!({})).await.status, 403);

    let login = json!({ "name": "rossi", "password": "correct horse" });
    let inside = async || say("POST /api/v1/login", "", login.clone()).await.status == 200;
    assert!(until(inside).await, "a user can log in within two seconds");
    let changed =
        say("POST /api/v1/users/rossi", &admin, json!({ "role": "operator", "password": "another horse" })).await;
    assert_eq!((changed.status, &changed.body["role"], changed.body.get("password")), (200, &json!("operator"), None));
    assert!(until(async || !inside().await).await, "the old password is over");
    let last = say("DELETE /api/v1/users/verdi", &admin, json!({})).await;
    assert_eq!(last.status, 409, "{}", last.body);
    assert_eq!(say("POST /api/v1/users/verdi", &admin, json!({ "role": "viewer" })).await.status, 409);
    assert_eq!(say("DELETE /api/v1/users/rossi", &admin, json!({})).await.status, 200);
    assert_eq!(say("DELETE /api/v1/users/rossi", &admin, json!({})).await.status, 404);

    let made = say("POST /api/v1/tokens", &admin, json!({ "name": "grafana", "role": "viewer", "days": 30 })).await;
    let token = format!("Authorization: Bearer {}\r\n", made.body["token"].as_str().unwrap());
    let get = async |path: &str, headers: &str| ask(&site, &collector, &format!("GET {path}"), headers, None).await;
    assert!(until(async || get("/api/v1/nodes", &token).await.status == 200).await);
    assert_eq!(get("/api/v1/tokens", &token).await.status, 403, "not even looked at");
    let wrong = json!({ "name": "other", "role": "viewer", "days": 0 });
    assert_eq!(say("POST /api/v1/tokens", &admin, wrong).await.status, 400);
    assert_eq!(say("DELETE /api/v1/tokens/grafana", &admin, json!({})).await.status, 200);
    assert!(until(async || get("/api/v1/nodes", &token).await.status == 401).await);
    let audit = get("/api/v1/audit", &admin).await.body;
    let by = |one: &&Value| one["who"] == "admins";
    let by_admins = audit["items"].as_array().unwrap().iter().filter(by);
    let did: Vec<&str> = by_admins.map(|one| one["detail"]["did"].as_str().unwrap()).collect();
    let expected = ["token taken back", "token made", "user removed", "password set", "role set", "user added"];
    assert_eq!(did, expected, "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_proxy_a_browser_keeps_the_session_for_tls_only() {
    let beyond = |config: &mut collector::config::Config| {
        config.api.listen = "0.0.0.0:0".parse().unwrap();
        config.api.plain_http = true;
    };
    let near = |config: &mut collector::config::Config| {
        config.api.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    };
    let alone = |_: &mut collector::config::Config| {};
    let sites = [(Site::new(&[], beyond), true), (Site::new(&[], near), true), (Site::new(&[], alone), false)];
    for (site, secure) in sites {
        let config = site.folder.path().join("cli.toml");
        std::fs::write(&config, format!("data_dir = {:?}\n", site.config.data_dir)).unwrap();
        let secret = site.folder.path().join("password");
        std::fs::write(&secret, "correct horse\n").unwrap();
        let add = ["user", "add", "rossi", "--role", "viewer", "--password-file", secret.to_str().unwrap()];
        assert!(command(&config, &add).await.status.success());
        let collector = site.start().await;
        let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", collector.api.port())).await.unwrap();
        let body = json!({ "name": "rossi", "password": "correct horse" }).to_string();
        let host = if secure { "water.example" } else { "localhost" }; // a proxy passes on what the browser asked for
        let head = format!("POST /api/v1/login HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(socket.read_to_string(&mut answer)).await.unwrap();
        let line = answer.lines().find(|line| line.to_lowercase().starts_with("set-cookie:")).unwrap();
        assert_eq!((line.contains("; Secure"), line.contains("__Host-session=")), (secure, secure), "{line}");
        assert!(!answer.to_lowercase().contains("strict-transport-security"), "that is the proxy's to say");
        collector.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_are_issued_and_revoked_are_in_the_audit() {
    let (site, config) = with_tls();
    let early = command(&config, &["ca", "issue", "STATION_8"]).await;
    assert!(early.status.success(), "{early:?}");
    let said = String::from_utf8_lossy(&early.stderr).into_owned();
    assert!(said.contains("not in the audit") && !site.config.warm_file().exists(), "{said}");
    site.start().await.stop().await;
    assert!(command(&config, &["ca", "issue", "STATION_9"]).await.status.success());
    let revoked = command(&config, &["ca", "revoke", "STATION_9"]).await;
    assert!(revoked.status.success() && !String::from_utf8_lossy(&revoked.stderr).contains("audit"), "{revoked:?}");
    assert_eq!(audited(&site).await, ["revoked", "issued"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_change_their_own_password_and_are_out_everywhere_else() {
    let (site, config) = with_tls();
    let secret = site.folder.path().join("password");
    std::fs::write(&secret, "correct horse\n").unwrap();
    for (name, role) in [("verdi", "admin"), ("rossi", "viewer")] {
        let add = ["user", "add", name, "--role", role, "--password-file", secret.to_str().unwrap()];
        assert!(command(&config, &add).await.status.success());
    }
    let made = command(&config, &["token", "make", "admins", "--role", "admin", "--json"]).await;
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let token = format!("Authorization: Bearer {}\r\n", made["token"].as_str().unwrap());
    let collector = site.start().await;
    let get = async |path: &str, headers: &str| ask(&site, &collector, &format!("GET {path}"), headers, None).await;
    let login = async |password: &str| {
        let form = json!({ "name": "rossi", "password": password });
        ask(&site, &collector, "POST /api/v1/login", "", Some(form)).await
    };
    let change = async |headers: &str, current: &str, new: &str| {
        let form = json!({ "current": current, "new": new });
        ask(&site, &collector, "POST /api/v1/me/password", headers, Some(form)).await
    };
    let (here, elsewhere) = (cookie(&login("correct horse").await), cookie(&login("correct horse").await));
    let other = format!("{here}Origin: https://evil.example\r\n");
    let right = ("correct horse", "another horse");
    for (headers, (current, new), status, parameter) in [
        ("", right, 401, Value::Null),
        (&token, right, 403, Value::Null),
        (&other, right, 403, Value::Null),
        (&here, ("correct horse", "short"), 400, json!("new")),
        (&here, ("correct house", "another horse"), 403, json!("current")),
    ] {
        let refused = change(headers, current, new).await;
        assert_eq!((refused.status, &refused.body["parameter"]), (status, &parameter), "{}", refused.body);
    }
    assert_eq!(get("/api/v1/nodes", &elsewhere).await.status, 200, "nothing was changed");

    let changed = change(&here, "correct horse", "another horse").await;
    assert_eq!((changed.status, &changed.body["name"]), (200, &json!("rossi")), "{}", changed.body);
    let there = cookie(&changed);
    for (cookie, status) in [(&there, 200), (&here, 401), (&elsewhere, 401)] {
        assert_eq!(get("/api/v1/nodes", cookie).await.status, status, "{cookie}");
    }
    assert_eq!((login("correct horse").await.status, login("another horse").await.status), (401, 200));
    let audit = get("/api/v1/audit", &token).await.body;
    let mut noted = audit["items"].as_array().unwrap().iter().map(|one| (&one["who"], &one["detail"]["did"]));
    assert!(noted.any(|noted| noted == (&json!("rossi"), &json!("password set"))), "{audit}");

    // Whoever finds an open browser can't guess it there either, and a guess here is one at the login.
    for _ in 0..5 {
        assert_eq!(change(&there, "a guess at it", "another horse").await.status, 403);
    }
    let locked = change(&there, "another horse", "a third horse").await;
    assert!(locked.status == 429 && locked.head.to_lowercase().contains("retry-after: "), "{}", locked.head);
    assert_eq!(login("another horse").await.status, 429);
    assert_eq!(get("/api/v1/nodes", &there).await.status, 200);
}
