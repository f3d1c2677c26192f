//! The API is asked by somebody who knows nothing but its description: schemathesis reads the served document and makes
//! questions of it, right ones and wrong ones, as each role and as nobody. Whatever comes back must be described.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

mod support;

use collector::access::{Hash, Role, Token, User, digest};
use collector::analytics::anomaly::{Kind, Severity};
use collector::analytics::store::{Anomaly, State};
use collector::config::Config;
use collector::run::Tiers;
use collector::tiers::{Flush, GatewayGap, Quarantined, StoredReading};
use shared::ids::{GatewayId, Seq, StreamId};
use shared::ranges::SeqRange;
use shared::reading::{Held, Quality, Timestamp};
use shared::spool::{Gap, GapReason};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use support::*;
use tokio::process::Command;

const GATEWAY: &str = "STATION_7";
/// How long each asks.
const SECONDS: u32 = 40;
/// And how long it may take with all around it.
const WITHIN: Duration = Duration::from_secs(240);
/// What would make an answer wrong. Which wrong questions are refused, and how, is for other tests.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance";

fn token(role: Role) -> String {
    format!("wtc_{role}")
}

/// Two hours of two series, a gap, a reading that was set aside, an anomaly, a user, and a token of each role.
async fn seed(config: &Config) {
    let tiers = Tiers::open(config).await.unwrap();
    let now = now();
    for role in Role::ALL {
        let made = Timestamp(now);
        let token = Token { name: role.to_string(), role, hash: digest(&token(role)), made, ends: None };
        tiers.warm.access().put_token(&token).await.unwrap();
    }
    let password = Hash::of("correct horse battery staple").unwrap(); // as in the document's example
    let user = User { name: "rossi".into(), role: Role::Viewer, password, changed: Timestamp(now) };
    tiers.warm.access().put_user(&user).await.unwrap();
    let gateway = GatewayId::new(GATEWAY).unwrap();
    let catalogue = catalogue(&["DIST_001", "DIST_002"]);
    let ids = tiers.warm.series_for(&gateway, catalogue.entries()).await.unwrap();
    let held = |n: i64| Held { value: Some(n as f64 / 10.0), quality: Quality::GOOD, revision: 0 };
    let reading = |n: i64| StoredReading {
        series: *ids[(n % 2) as usize].as_ref().unwrap(),
        at: Timestamp(now - n * SECOND),
        held: held(n),
    };
    let stream = StreamId(u64::MAX);
    let span = Some((Timestamp(now - 60 * SECOND), Timestamp(now)));
    let gap = Gap { seqs: SeqRange::new(Seq(4), Seq(6)), span, reason: GapReason::Overflow };
    let aside = Quarantined {
        gateway: gateway.clone(),
        stream,
        seq: Seq(3),
        series: "DIST_001/pressure".into(),
        at: Timestamp(now + 3_600 * SECOND),
        held: held(1),
        reason: "future".into(),
        received: Timestamp(now),
    };
    let flush = Flush {
        readings: (1..7_200).map(reading).collect(),
        gaps: vec![GatewayGap { gateway, stream, gap }],
        quarantine: vec![aside],
        ..Flush::default()
    };
    tiers.warm.commit(flush).await.unwrap();
    let (start, last) = (Timestamp(now - 60 * SECOND), Timestamp(now));
    let anomaly = Anomaly {
        number: 0,
        series: *ids[0].as_ref().unwrap(),
        kind: Kind::Stuck,
        start,
        last,
        end: None,
        severity: Severity::Warning,
        expected: None,
        seen: Some(1.0),
        detail: "it stands still".into(),
        state: State::Open,
        normal: false,
        notes: Vec::new(),
    };
    tiers.warm.anomalies().put_anomalies(&[anomaly], Timestamp(0)).await.unwrap();
    tiers.warm.close().await;
}

/// Asks as this role, or as nobody; what schemathesis says, and whether it found nothing.
async fn ask(address: std::net::SocketAddr, role: Option<Role>) -> (bool, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(root.join(".venv/bin/st"));
    command.arg("run").arg(format!("http://{address}/api/v1/openapi.json"));
    command.args([
        "--checks",
        CHECKS,
        "--max-time",
        &SECONDS.to_string(),
        "--no-color",
        "--generation-database",
        "none",
    ]);
    if let Some(role) = role {
        command.args(["--header", &format!("Authorization: Bearer {}", token(role))]);
    }
    let out = command.current_dir(folder.path()).stdin(Stdio::null()).kill_on_drop(true).output();
    let out = tokio::time::timeout(WITHIN, out).await.expect("schemathesis takes too long");
    let out = out.expect("make test-deps has put schemathesis into .venv");
    let said = String::from_utf8_lossy(&out.stdout);
    (out.status.success(), format!("as {role:?}:\n{said}{}", String::from_utf8_lossy(&out.stderr)))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_answered_that_is_not_described() {
    let site = Site::new(&[GATEWAY], |_| {});
    seed(&site.config).await;
    let collector = site.start().await;
    let (mut client, _) = Client::ready(&collector, GATEWAY, &["DIST_001"]).await;
    client.send(shared::wire::Message::Status(status())).await;
    let all = [None, Some(Role::Viewer), Some(Role::Operator), Some(Role::Admin)];
    let asked = futures::future::join_all(all.map(|role| ask(collector.api, role))).await;
    for (passed, said) in &asked {
        println!("{said}");
        assert!(passed, "{said}");
    }
    collector.stop().await;
}
