//! What becomes of blocks, gaps, clock fixes and newest values.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

mod support;

use collector::run::Tiers;
use collector::tiers::warm::sqlite::SqliteWarm;
use serde_json::json;
use shared::block::{Row, TimeBase};
use shared::catalogue::{CatalogueHash, PointNo};
use shared::ids::{BootId, Seq, StreamId};
use shared::ranges::SeqRange;
use shared::reading::{Quality, Timestamp};
use shared::spool::{Gap, GapReason, Options, Spool};
use shared::wire::{Fix, Message, RejectReason};
use std::sync::Arc;
use std::time::Duration;
use support::*;

fn one(hash: CatalogueHash, at: i64, value: f64) -> Vec<u8> {
    block(hash, TimeBase::Utc, &[(0, at, value)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_stored_committed_and_answered_for() {
    let site = Site::new(&["STATION_7"], |_| {});
    let collector = site.start().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    assert_eq!(client.welcome(), (seqs([]), seqs([]), 0, vec![]));
    let at = now() - 10 * SECOND;
    client.block(1, block(hash, TimeBase::Utc, &[(0, at, 2.5), (0, at + SECOND, 2.75)])).await;
    client.wait_stored(seqs([1])).await;
    client.wait_committed(seqs([1])).await;
    let expected = [(Timestamp(at), Some(2.5)), (Timestamp(at + SECOND), Some(2.75))];
    collector.wait_for_history("DIST_001", &expected).await;
    assert_eq!(collector.get("latest?node=DIST_001").await["items"][0]["value"], 2.75);
    for name in ["collector_blocks_stored_total", "collector_spool_bytes", "collector_flush_seconds"] {
        assert!(collector.metrics().await.contains(name), "{name}");
    }
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_readings_show_before_they_are_committed() {
    let site = Site::new(&["STATION_7"], |config| {
        config.buffer.flush_interval = Duration::from_secs(600).into();
    });
    let collector = site.start().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    let at = now();
    client.block(1, one(hash, at, 2.5)).await;
    client.wait_stored(seqs([1])).await;
    collector.wait_for_history("DIST_001", &[(Timestamp(at), Some(2.5))]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repetitions_are_acknowledged_and_not_stored_again() {
    let site = Site::new(&["STATION_7"], |_| {});
    let collector = site.start().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    let at = now() - SECOND;
    for _ in 0..3 {
        client.block(1, one(hash, at, 2.5)).await;
    }
    client.wait_committed(seqs([1])).await;
    // Of a committed one the gateway hears both, even on a connection that didn't wait for it.
    let mut again = Client::connect(&collector, "STATION_7", hello(STREAM, 1)).await;
    assert_eq!(again.welcome(), (seqs([1]), seqs([1]), 1, vec![hash]));
    again.block(1, one(hash, at, 2.5)).await;
    again.wait_stored(seqs([1])).await;
    again.wait_committed(seqs([1])).await;
    collector.wait_for_history("DIST_001", &[(Timestamp(at), Some(2.5))]).await;
    collector.stop().await;
    let (spool, _) = Spool::open(&site.config.data_dir.join("spool"), Options::default()).unwrap();
    assert_eq!(spool.usage().appended_total, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_used_is_rejected_named_and_set_aside() {
    let site = Site::new(&["STATION_7"], |config| {
        config.grants = toml::from_str("STATION_7 = ['DIST_*']").unwrap();
    });
    let collector = site.start().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001", "PUMP_1"]).await;
    let at = now() - SECOND;
    let mut damaged = one(hash, at, 1.0);
    *damaged.last_mut().unwrap() ^= 1;
    let oversize = vec![7; 6 * 1024 + 1];
    let cases =
        [(1, damaged, RejectReason::Undecodable, "checksum"), (3, oversize, RejectReason::Oversize, "6145 bytes")];
    for (seq, bytes, reason, says) in cases {
        client.block(seq, bytes.clone()).await;
        let (seqs_, why, detail, retry) = client.wait_reject().await;
        assert_eq!((seqs_, why, retry), (seqs([seq]), reason, false));
        assert!(detail.contains(says), "{detail}");
        let (kept, why) = set_aside(&site, seq);
        assert_eq!(kept, bytes);
        assert!(why.contains(says), "{why}");
    }
    // The gateway gives it up, and the gap is known.
    client.send(gap(2, 2, GapReason::Rejected)).await;
    // A block with rows of both is taken: the others are set apart.
    client.block(4, block(hash, TimeBase::Utc, &[(0, at, 4.0), (1, at, 5.0)])).await;
    client.wait_committed(seqs([2, 4])).await;
    collector.wait_for_history("DIST_001", &[(Timestamp(at), Some(4.0))]).await;
    let quarantine = collector.get("quarantine").await;
    assert_eq!(quarantine["items"][0]["set_aside_because"], "not granted: PUMP_1", "{quarantine}");
    assert_eq!(collector.get("gaps").await["items"][0]["reason"], "rejected");
    let series = collector.get("series").await;
    assert_eq!(series["items"].as_array().unwrap().len(), 1, "a node that isn't granted doesn't come into being");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_aside_without_a_grant_is_stored_once_there_is_one() {
    let mut site = Site::new(&["STATION_7"], |config| {
        config.grants = toml::from_str("STATION_7 = ['DIST_*']").unwrap();
    });
    let collector = site.start().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001", "PUMP_1", "RES_1"]).await;
    let (at, future) = (now() - SECOND, now() + 86_400 * SECOND);
    let rows = [(0, at, 4.0), (0, future, 4.0), (1, at, 5.0), (1, at + 1, 6.0), (1, future, 7.0), (2, at, 1.0)];
    client.block(1, block(hash, TimeBase::Utc, &rows)).await;
    client.wait_committed(seqs([1])).await;
    collector.stop().await;
    site.config.grants = toml::from_str("STATION_7 = ['DIST_*', 'PUMP_1']").unwrap();
    let collector = site.start().await;
    collector.wait_for_history("PUMP_1", &[(Timestamp(at), Some(5.0)), (Timestamp(at + 1), Some(6.0))]).await;
    let series = collector.get("series?node=PUMP_1").await;
    assert_eq!(
        (&series["items"][0]["gateway"], &series["items"][0]["interval_ms"]),
        (&json!("STATION_7"), &json!(1_000))
    );
    let left = collector.get("quarantine").await;
    let left: Vec<_> =
        left["items"].as_array().unwrap().iter().map(|row| (&row["series"], &row["set_aside_because"])).collect();
    let because = |series: &str, why: &str| (json!(series), json!(why));
    let wanted = [
        because("RES_1/pressure", "not granted: RES_1"),
        because("PUMP_1/pressure", "not granted: PUMP_1"), // of tomorrow
        because("DIST_001/pressure", "future"),
    ];
    assert_eq!(left, wanted.each_ref().map(|(series, why)| (series, why)));
    let audit = &collector.get("audit").await["items"][0];
    assert_eq!(
        (&audit["who"], &audit["what"], &audit["detail"]["rows"]),
        (&json!("collector"), &json!("quarantine"), &json!(2))
    );
    assert_eq!(audit["detail"]["released"]["series"], json!(["PUMP_1/pressure"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_granted_is_refused_by_name_and_taken_once_it_is() {
    let mut site = Site::new(&["STATION_7"], |config| {
        config.grants = toml::from_str("STATION_7 = ['DIST_*']").unwrap();
    });
    let collector = site.start().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["PUMP_1"]).await;
    let at = now() - SECOND;
    client.block(1, one(hash, at, 2.5)).await;
    let (refused, reason, detail, retry) = client.wait_reject().await;
    assert_eq!((refused, reason, retry), (seqs([1]), RejectReason::NotGranted, true), "the gateway keeps it");
    assert!(detail.contains("STATION_7 has no grant for PUMP_1"), "{detail}");
    collector.stop().await;
    site.config.grants = toml::from_str("STATION_7 = ['DIST_*', 'PUMP_1']").unwrap();
    let collector = site.start().await;
    let mut client = Client::connect(&collector, "STATION_7", hello(STREAM, 1)).await;
    client.block(1, one(hash, at, 2.5)).await;
    client.wait_committed(seqs([1])).await;
    collector.wait_for_history("PUMP_1", &[(Timestamp(at), Some(2.5))]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_goes_to_another_gateway_with_its_grant_and_not_before() {
    let mut site = Site::new(&["STATION_7", "STATION_8"], |_| {});
    let at = now() - 10 * SECOND;
    let collector = site.start().await;
    let (mut old, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    old.block(1, one(hash, at, 1.0)).await;
    old.wait_committed(seqs([1])).await;
    let (mut new, _) = Client::ready(&collector, "STATION_8", &["DIST_001"]).await;
    new.block(1, one(hash, at + SECOND, 2.0)).await;
    new.wait_committed(seqs([1])).await;
    let quarantine = collector.get("quarantine").await;
    let why = quarantine["items"][0]["set_aside_because"].as_str().unwrap();
    assert!(why.contains("belongs to gateway STATION_7"), "both have a grant: {why}");
    collector.stop().await;

    site.config.grants = toml::from_str("STATION_8 = ['DIST_001']").unwrap();
    let collector = site.start().await;
    let mut new = Client::connect(&collector, "STATION_8", hello(STREAM, 1)).await;
    new.block(2, one(hash, at + 2 * SECOND, 3.0)).await;
    new.wait_committed(seqs([2])).await;
    collector
        .wait_for_history("DIST_001", &[(Timestamp(at), Some(1.0)), (Timestamp(at + 2 * SECOND), Some(3.0))])
        .await;
    assert_eq!(collector.get("series").await["items"][0]["gateway"], "STATION_8");
}

/// What is kept of a rejected block, and why.
fn set_aside(site: &Site, seq: u64) -> (Vec<u8>, String) {
    let folder = site.config.data_dir.join("rejected");
    let ending = format!("-STATION_7-{STREAM}-{seq}.block");
    let mut files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let path = files.find(|path| path.to_string_lossy().ends_with(&ending)).expect("nothing was set aside");
    (std::fs::read(&path).unwrap(), std::fs::read_to_string(path.with_extension("txt")).unwrap())
}

fn gap(first: u64, last: u64, reason: GapReason) -> Message {
    let seqs = SeqRange::new(Seq(first), Seq(last));
    Message::Gap(Gap { seqs, span: Some((Timestamp(now() - 60 * SECOND), Timestamp(now()))), reason })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_catalogue_is_asked_for() {
    let site = Site::new(&["STATION_7"], |_| {});
    let collector = site.start().await;
    let mut client = Client::connect(&collector, "STATION_7", hello(STREAM, 0)).await;
    let catalogue = catalogue(&["DIST_001"]);
    let at = now() - SECOND;
    client.block(1, one(catalogue.hash(), at, 1.0)).await;
    let (which, reason, _, retry) = client.wait_reject().await;
    assert_eq!((which, reason, retry), (seqs([1]), RejectReason::UnknownCatalogue, true));
    client.send(Message::Catalogue { bytes: catalogue.to_bytes().into() }).await;
    client.block(1, one(catalogue.hash(), at, 1.0)).await;
    client.wait_stored(seqs([1])).await;
    assert!(!site.config.data_dir.join("rejected").read_dir().unwrap().any(|_| true), "nothing is set aside for that");
    // A catalogue that is none ends the connection: nothing after it could be read.
    client.send(Message::Catalogue { bytes: vec![9, 9].into() }).await;
    client.wait_closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_are_acknowledged_listed_and_shrink_when_the_data_turns_up() {
    let site = Site::new(&["STATION_7"], |_| {});
    let collector = site.start().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    client.send(gap(3, 5, GapReason::Overflow)).await;
    client.send(gap(3, 5, GapReason::Overflow)).await;
    client.wait_stored(seqs(3..=5)).await;
    client.wait_committed(seqs(3..=5)).await;
    assert_eq!(collector.get("gaps").await["items"][0]["blocks"], 3);
    // After a reconnect it is named again, and acknowledged again.
    let mut client = Client::connect(&collector, "STATION_7", hello(STREAM, 5)).await;
    assert_eq!((client.welcome().0, client.welcome().2), (seqs([]), 5), "a gap is no block that is stored");
    client.send(gap(3, 5, GapReason::Overflow)).await;
    client.wait_committed(seqs(3..=5)).await;
    client.block(4, one(hash, now() - SECOND, 4.0)).await;
    let shrunk = until(async || {
        let gaps = collector.get("gaps").await;
        let left = gaps["items"].as_array().unwrap().iter().map(|g| [g["first"].clone(), g["last"].clone()]);
        left.collect::<Vec<_>>() == [[5, 5], [3, 3]]
    });
    assert!(shrunk.await, "{}", collector.get("gaps").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_without_a_clock_are_parked_until_the_fix_comes() {
    let site = Site::new(&["STATION_7"], |_| {});
    let collector = site.start().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    let (boot, never) = (BootId([1; 16]), BootId([2; 16]));
    client.block(1, block(hash, TimeBase::SinceBoot(boot), &[(0, 5 * SECOND, 1.0)])).await;
    client.block(2, block(hash, TimeBase::SinceBoot(never), &[(0, 5 * SECOND, 2.0)])).await;
    client.wait_committed(seqs([1, 2])).await;
    assert_eq!(collector.get("health").await["tiers"]["warm"]["state"]["parked"], 2);
    let offset_us = now() - 600 * SECOND;
    let (not_before, not_after) = (Timestamp(0), Timestamp(now()));
    client.send(Message::ClockFix { boot: never, fix: Fix::Unknown { not_before, not_after } }).await;
    client.send(Message::ClockFix { boot, fix: Fix::Known { offset_us } }).await;
    // What comes after the fix needs no parking, and a second word on the boot changes nothing.
    client.send(Message::ClockFix { boot, fix: Fix::Known { offset_us: 7 } }).await;
    client.block(3, block(hash, TimeBase::SinceBoot(boot), &[(0, 6 * SECOND, 3.0)])).await;
    client.wait_committed(seqs([3])).await;
    let at = |seconds: i64| Timestamp(offset_us + seconds * SECOND);
    collector.wait_for_history("DIST_001", &[(at(5), Some(1.0)), (at(6), Some(3.0))]).await;
    assert_eq!(collector.get("health").await["tiers"]["warm"]["state"]["parked"], 1, "its boot never learned the time");
    assert_eq!(collector.get("latest").await["items"][0]["value"], 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_from_the_future_are_quarantined() {
    let site = Site::new(&["STATION_7"], |_| {});
    let collector = site.start().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    let near = now() + 9 * 60 * SECOND;
    client.block(1, block(hash, TimeBase::Utc, &[(0, near, 1.0), (0, now() + 11 * 60 * SECOND, 2.0)])).await;
    client.wait_committed(seqs([1])).await;
    collector.wait_for_history("DIST_001", &[(Timestamp(near), Some(1.0))]).await;
    assert_eq!(collector.get("latest").await["items"][0]["value"], 1.0);
    let quarantine = collector.get("quarantine").await;
    assert_eq!(quarantine["items"][0]["set_aside_because"], "future");
    // Newest values from the future are not shown either.
    let row =
        Row { point: PointNo(0), at: Timestamp(now() + 3_600 * SECOND), value: Some(9.0), quality: Quality::GOOD };
    client.send(Message::Live { catalogue: hash, rows: vec![row] }).await;
    client.block(2, one(hash, now() - SECOND, 0.0)).await;
    client.wait_committed(seqs([2])).await;
    assert_eq!(collector.get("latest").await["items"][0]["value"], 1.0);
}

/// What health says of a part.
async fn trouble(collector: &Collector, part: &str) -> Option<String> {
    let health = collector.get("health").await;
    let troubles = health["troubles"].as_array().unwrap();
    let said = troubles.iter().find(|trouble| trouble["part"] == part && trouble["severity"] == "critical")?;
    Some(said["error"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn several_gateways_ahead_put_the_collectors_clock_in_doubt() {
    let site = Site::new(&["STATION_7", "STATION_8", "STATION_9"], |_| {});
    let collector = site.start().await;
    let (mut right, of_right) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    right.block(1, one(of_right, now() - SECOND, 1.0)).await;
    right.wait_committed(seqs([1])).await;
    let mut clients = Vec::new();
    for (name, node) in [("STATION_8", "DIST_002"), ("STATION_9", "DIST_003")] {
        assert_eq!(trouble(&collector, "clock").await, None, "one gateway's clock may be wrong");
        let (mut client, hash) = Client::ready(&collector, name, &[node]).await;
        client.block(1, one(hash, now() + 3_600 * SECOND, 1.0)).await;
        client.wait_committed(seqs([1])).await;
        clients.push((client, hash));
    }
    let said = trouble(&collector, "clock").await.unwrap();
    assert!(said.contains("is this machine's clock right?") && said.contains("(STATION_8, STATION_9)"), "{said}");
    let (client, hash) = &mut clients[0];
    client.block(2, one(*hash, now() - SECOND, 2.0)).await;
    client.wait_committed(seqs([2])).await;
    assert_eq!(trouble(&collector, "clock").await, None, "it is as it should be again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_room_in_quarantine_is_a_gap_and_told() {
    let site = Site::new(&["STATION_7"], |_| {});
    let mut tiers = Tiers::open(&site.config).await.unwrap();
    let small = SqliteWarm::open(&site.folder.path().join("small.sqlite")).await.unwrap().with_quarantine_max(3);
    tiers.warm = Arc::new(small);
    let collector = site.start_on(tiers).await.unwrap();
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    let ahead = now() + 3_600 * SECOND;
    for seq in 1..=3 {
        client.block(seq, one(hash, ahead + seq as i64 * SECOND, 1.0)).await;
        client.wait_committed(seqs([seq])).await;
    }
    assert_eq!(trouble(&collector, "quarantine").await, None);
    assert_eq!(collector.get("gaps").await["items"], json!([]));
    for seq in 4..=5 {
        client.block(seq, one(hash, ahead + seq as i64 * SECOND, 1.0)).await;
        client.wait_committed(seqs([seq])).await;
    }
    let said = trouble(&collector, "quarantine").await.unwrap();
    assert!(said.contains("2 older readings made room"), "{said}");
    let gaps = collector.get("gaps").await;
    let (first, last) = (&gaps["items"][0]["first"], &gaps["items"][0]["last"]);
    assert_eq!((gaps["items"].as_array().unwrap().len(), first, last), (1, &json!(1), &json!(2)), "{gaps}");
    assert_eq!(gaps["items"][0]["reason"], "rejected");
    assert!(collector.metrics().await.contains("collector_quarantine_dropped_total 2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_values_show_at_once_and_are_no_history() {
    let site = Site::new(&["STATION_7"], |_| {});
    let collector = site.start().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    let row = |value: f64| Row { point: PointNo(0), at: Timestamp(now()), value: Some(value), quality: Quality::GOOD };
    // Its series isn't known yet: skipped.
    client.send(Message::Live { catalogue: hash, rows: vec![row(1.0)] }).await;
    let at = now() - SECOND;
    client.block(1, one(hash, at, 2.0)).await;
    client.wait_committed(seqs([1])).await;
    client.send(Message::Live { catalogue: hash, rows: vec![row(3.0)] }).await;
    assert!(until(async || collector.get("latest").await["items"][0]["value"] == 3.0).await);
    // What is no number is bad, and has none.
    client.send(Message::Live { catalogue: hash, rows: vec![row(f64::NAN)] }).await;
    let bad = until(async || {
        let latest = collector.get("latest").await;
        latest["items"][0]["quality"] == "bad" && latest["items"][0]["value"].is_null()
    });
    assert!(bad.await, "{}", collector.get("latest").await);
    assert_eq!(collector.history("DIST_001").await, [(Timestamp(at), Some(2.0))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_gateways_and_streams_keep_apart() {
    let site = Site::new(&["STATION_7", "STATION_8"], |_| {});
    let collector = site.start().await;
    let nodes = ["DIST_001", "RES_001"];
    let at = now() - 100 * SECOND;
    let send = async |gateway: &'static str, node: &'static str, value: f64| {
        let (mut client, hash) = Client::ready(&collector, gateway, &[node]).await;
        for seq in 1..=50 {
            client.block(seq, one(hash, at + seq as i64 * SECOND, value)).await;
        }
        client.wait_committed(seqs(1..=50)).await;
    };
    tokio::join!(send("STATION_7", nodes[0], 7.0), send("STATION_8", nodes[1], 8.0));
    for (node, value) in nodes.into_iter().zip([7.0, 8.0]) {
        let expected: Vec<_> = (1..=50).map(|n| (Timestamp(at + n * SECOND), Some(value))).collect();
        assert_eq!(collector.history(node).await, expected);
    }
    // A node that another gateway owns is no gateway's to take, whatever is granted.
    let (mut thief, hash) = Client::ready(&collector, "STATION_8", &["DIST_001"]).await;
    thief.block(51, one(hash, at, 666.0)).await;
    thief.wait_committed(seqs([51])).await;
    let quarantine = collector.get("quarantine").await;
    let why = quarantine["items"][0]["set_aside_because"].as_str().unwrap();
    assert!(why.contains("DIST_001") && why.contains("STATION_7"), "{why}");
    // Another stream starts from 1.
    let mut fresh = Client::connect(&collector, "STATION_7", hello(StreamId(99), 0)).await;
    assert_eq!((fresh.welcome().0, fresh.welcome().2), (seqs([]), 0));
    let hash = catalogue(&["DIST_001"]).hash();
    fresh.block(1, one(hash, at, 1.0)).await;
    fresh.wait_committed(seqs([1])).await;
    // One that is behind what is known of it learns so.
    let old_image = Client::connect(&collector, "STATION_7", hello(STREAM, 10)).await;
    assert_eq!(old_image.welcome().2, 50);
}
