//! PostgreSQL dies in the middle of its work and comes back.

use super::*;
use collector::tiers::warm::settings::Store;
use services::postgres::Postgres;
use std::time::Duration;
use support::{Client, Collector, Site, now, seqs, until, within};

/// A collector that would wait for a connection for longer than any test does.
fn patient(settings: &WarmSettings) -> Site {
    Site::new(&["STATION_7"], |config| {
        config.warm = WarmSettings { store: Some(Store::Postgres), ..settings.clone() };
        config.warm.connect_timeout = Duration::from_secs(600).into();
        config.buffer.flush_interval = Duration::from_millis(10).into();
    })
}

/// What people and the page ask for; none of it waits for a connection.
async fn ask_all(collector: &Collector) {
    for path in [
        "me",
        "latest",
        "nodes",
        "series",
        "history?node=DIST_001&metric=pressure&from=now-2h",
        "history?node=DIST_001&metric=pressure&from=now-730d",
        "anomalies",
        "gateways",
        "jobs",
    ] {
        within(collector.get(path)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_is_away_nobody_waits_for_it_and_when_it_is_back_everybody_has_it() {
    let mut server = Postgres::start().await;
    let settings = server.database().await;
    let site = patient(&settings);
    let collector = site.start().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    let start = now() - 1_000 * SECOND;
    client.block(1, full_block(hash, start, 1)).await;
    client.wait_committed(seqs([1])).await;
    let is_whole = async || collector.get("nodes").await["degraded"] == serde_json::json!([]);
    ask_all(&collector).await;
    for round in 2..=3 {
        server.kill();
        ask_all(&collector).await;
        assert!(until(async || !is_whole().await).await, "who asks for series is told that some may be missing");
        let gateways = within(collector.get("gateways")).await;
        let one = &gateways["items"][0];
        assert_eq!((&one["gateway"], &one["session"]["connected"]), (&"STATION_7".into(), &true.into()), "{gateways}");
        assert!(gateways["degraded"][0].as_str().unwrap().contains("gateways that didn't connect"), "{gateways}");
        let today = collector.get("history?node=DIST_001&metric=pressure&from=now-10m&resolution=raw").await;
        assert_eq!(today["tiers"], serde_json::json!(["hot"]), "what is in the hot tier comes: {today}");
        client.block(round, full_block(hash, start, round)).await;
        client.wait_stored(seqs(1..=round)).await;
        server.restart().await;
        client.wait_committed(seqs(1..=round)).await;
        assert!(until(is_whole).await, "it is back");
    }
    let stored = ask(&server, &settings, "SELECT count(*) FROM readings").await;
    assert_eq!(stored, format!("{}", 3 * BLOCK));
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_never_there_holds_up_nothing_and_is_used_as_soon_as_it_is() {
    let mut server = Postgres::start().await;
    let settings = server.database().await;
    server.kill();
    let site = patient(&settings);
    let collector = within(site.start()).await;
    for path in ["me", "latest", "nodes", "anomalies", "gateways", "jobs"] {
        within(collector.get(path)).await;
    }
    server.restart().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    client.block(1, full_block(hash, now() - 1_000 * SECOND, 1)).await;
    client.wait_committed(seqs([1])).await;
    collector.stop().await;
}

/// So many more blocks; gives the number of the last.
async fn send(client: &mut Client, hash: CatalogueHash, start: i64, last: u64, more: u64) -> u64 {
    for seq in last + 1..=last + more {
        client.block(seq, full_block(hash, start, seq)).await;
    }
    last + more
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_it_loses_and_doubles_nothing_and_ingest_goes_on() {
    let mut server = Postgres::start().await;
    let settings = server.database().await;
    let site = Site::new(&["STATION_7"], |config| {
        config.warm = WarmSettings { store: Some(Store::Postgres), ..settings.clone() };
        config.warm.connect_timeout = Duration::from_secs(2).into();
        // Many transactions, so that one is under way whenever it dies.
        config.buffer.flush_interval = Duration::from_millis(10).into();
        config.buffer.flush_rows = 300;
    });
    let collector = site.start().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    let start = now() - 200_000 * SECOND;
    let mut last = 0;
    for round in 1..=4 {
        last = send(&mut client, hash, start, last, 40 * round).await;
        server.kill(); // in the middle of it
        last = send(&mut client, hash, start, last, 60).await;
        client.wait_stored(seqs(1..=last)).await;
        server.restart().await;
        client.wait_committed(seqs(1..=last)).await;
    }
    let readings = last as i64 * BLOCK;
    let stored = ask(&server, &settings, "SELECT count(*) || ' ' || sum(value) FROM readings").await;
    assert_eq!(stored, format!("{readings} {}", readings * (readings - 1) / 2));
    let tier = PostgresWarm::open(&settings).await.unwrap();
    assert_eq!(tier.committed(&gateway(), support::STREAM).await.unwrap().0, seqs(1..=last));
    // No mark was lost, or the sums would miss something.
    let mut sums = String::new();
    let whole = until(async || {
        tier.refresh_rollups(1_000).await.unwrap();
        let sql = "SELECT (SELECT count(*) FROM dirty_buckets) || ' ' || (SELECT sum(good) FROM rollup_5m) || ' ' \
                   || (SELECT sum(good) FROM rollup_1h)";
        sums = ask(&server, &settings, sql).await;
        sums == format!("0 {readings} {readings}")
    });
    assert!(whole.await, "{sums}");
    assert_eq!(std::fs::read_dir(site.config.data_dir.join("rejected")).unwrap().count(), 0);
    collector.stop().await;
}

/// It is there, and gives nobody a further connection.
#[tokio::test(flavor = "multi_thread")]
async fn while_it_has_no_room_nobody_waits_and_why_is_said() {
    let server = Postgres::start().await;
    let mut settings = server.database().await;
    let database = &settings.database;
    server.execute("postgres", &format!("CREATE ROLE coll LOGIN; ALTER DATABASE {database} OWNER TO coll")).await;
    server.execute(database, "ALTER SCHEMA public OWNER TO coll").await;
    settings.user = "coll".into();
    settings.connect_timeout = Duration::from_secs(600).into();
    let tier = PostgresWarm::open(&settings).await.unwrap();
    let end = "ALTER ROLE coll CONNECTION LIMIT 0; \
               SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'coll'";
    server.execute("postgres", end).await;
    for _ in 0..3 {
        let error = within(tier.series(None)).await.unwrap_err().to_string();
        assert!(error.contains("too many connections") && error.contains("lower [warm] connections"), "{error}");
    }
    server.execute("postgres", "ALTER ROLE coll CONNECTION LIMIT -1").await;
    assert!(until(async || tier.series(None).await.is_ok()).await);
    tier.close().await;
}
