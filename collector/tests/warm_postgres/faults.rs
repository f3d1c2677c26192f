//! What people and disks do to a database that is in use: what comes waits in the spool, nothing is set aside.

use super::*;
use collector::tiers::TierError;
use collector::tiers::warm::settings::Store;
use services::disk::SmallDisk;
use services::postgres::{PASSWORD, Postgres};
use std::time::Duration;
use support::{Client, Collector, Site, now, seqs};

fn site(settings: &WarmSettings) -> Site {
    Site::new(&["STATION_7"], |config| {
        config.warm = WarmSettings { store: Some(Store::Postgres), ..settings.clone() };
        config.buffer.flush_interval = Duration::from_millis(10).into();
    })
}

fn set_aside(site: &Site) -> usize {
    std::fs::read_dir(site.config.data_dir.join("rejected")).unwrap().count()
}

/// What the tier says when something is to be stored.
async fn refusal(tier: &PostgresWarm, at: i64) -> String {
    let readings = vec![good(SeriesId(1), at, 1.0)];
    let error = tier.commit(Flush { readings, ..Flush::default() }).await.unwrap_err();
    assert!(matches!(error, TierError::Unavailable { .. }), "nothing is set aside for it: {error:?}");
    error.to_string()
}

/// Waits until a flush was tried in vain.
async fn refused_once_more(collector: &Collector, before: f64) {
    assert!(support::until(async || failures(collector).await > before).await, "nothing was tried");
}

async fn failures(collector: &Collector) -> f64 {
    let metrics = collector.metrics().await;
    let line = metrics.lines().find_map(|line| line.strip_prefix("collector_flush_failed_total "));
    line.map_or(0.0, |number| number.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_altered_or_taken_away_is_named_and_all_is_stored_when_it_is_put_right() {
    let server = Postgres::start().await;
    let database = server.database().await.database;
    server.execute("postgres", &format!("CREATE ROLE collector LOGIN PASSWORD '{PASSWORD}'")).await;
    server.execute("postgres", &format!("ALTER DATABASE {database} OWNER TO collector")).await;
    let settings = WarmSettings { user: "collector".into(), ..server.settings(&database) };
    let site = site(&settings);
    let collector = site.start().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    let start = now() - 10_000 * SECOND;
    client.block(1, full_block(hash, start, 1)).await;
    client.wait_committed(seqs([1])).await;
    // The views would keep people from altering the table.
    server.execute(&database, "DROP VIEW sensor_readings, usable_5min CASCADE").await;
    let tier = PostgresWarm::open(&settings).await.unwrap();
    let altered = "`collector migrate --check`";
    let cases = [
        ("REVOKE INSERT ON readings FROM collector", "GRANT INSERT ON readings TO collector", "POSTGRES_USER"),
        (
            "ALTER TABLE readings ALTER value TYPE text",
            "ALTER TABLE readings ALTER value TYPE float8 USING value::float8",
            altered,
        ),
        ("ALTER TABLE readings ALTER value TYPE numeric", "ALTER TABLE readings ALTER value TYPE float8", altered),
        (
            "ALTER TABLE readings ADD CONSTRAINT no CHECK (value < 0) NOT VALID",
            "ALTER TABLE readings DROP CONSTRAINT no",
            altered,
        ),
        (
            "ALTER TABLE readings ADD site text NOT NULL DEFAULT ''; ALTER TABLE readings ALTER site DROP DEFAULT",
            "ALTER TABLE readings DROP site",
            altered,
        ),
        ("ALTER TABLE dirty_buckets RENAME TO gone", "ALTER TABLE gone RENAME TO dirty_buckets", altered),
        (
            "ALTER DATABASE current SET default_transaction_read_only = on",
            "ALTER DATABASE current RESET default_transaction_read_only",
            "primary",
        ),
    ];
    let mut seq = 1;
    for (breaking, mending, said) in cases {
        let failed = failures(&collector).await;
        server.execute(&database, &breaking.replace("current", &database)).await;
        if said == "primary" {
            end_sessions(&server).await; // it holds for new ones
        }
        seq += 1;
        client.block(seq, full_block(hash, start, seq)).await;
        client.wait_stored(seqs([seq])).await;
        refused_once_more(&collector, failed).await;
        let error = refusal(&tier, start + 5_000_000 * SECOND + seq as i64).await;
        assert!(error.contains(said), "{breaking}: {error}");
        let mending = format!("BEGIN READ WRITE; {}; COMMIT", mending.replace("current", &database));
        server.execute(&database, &mending).await;
        if said == "primary" {
            end_sessions(&server).await;
        }
        client.wait_committed(seqs([seq])).await;
        assert_eq!(set_aside(&site), 0, "{breaking}");
    }
    let readings = seq as i64 * BLOCK;
    let stored = ask(&server, &settings, "SELECT count(*) || ' ' || sum(value) FROM readings").await;
    assert_eq!(stored, format!("{readings} {}", readings * (readings - 1) / 2));
}

async fn end_sessions(server: &Postgres) {
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'collector'";
    server.execute("postgres", sql).await;
}

/// Room for some hundred readings more is wanted in vain, in the tables or in the log, and then there is room again.
async fn full_and_room_again(disk: &SmallDisk, server: &mut Postgres, settings: &WarmSettings, log_too: bool) {
    let site = site(settings);
    let collector = site.start().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    let start = now() - 100_000 * SECOND;
    client.block(1, full_block(hash, start, 1)).await;
    client.wait_committed(seqs([1])).await;
    disk.fill();
    if log_too {
        // A server that can't write its log ends all sessions, and itself when it can't start again.
        let mut connection = server.options(&settings.database).connect().await.unwrap();
        let write =
            "SELECT pg_logical_emit_message(false, '', repeat(random()::text, 100000)) FROM generate_series(1, 50)";
        assert!(sqlx::query(write).execute(&mut connection).await.is_err(), "there is room yet");
        assert!(sqlx::query("SELECT 1").execute(&mut connection).await.is_err(), "the session lives on");
    }
    for seq in 2..=300 {
        client.block(seq, full_block(hash, start, seq)).await;
    }
    client.wait_stored(seqs(1..=300)).await;
    refused_once_more(&collector, 0.0).await;
    let tier = PostgresWarm::new(settings).unwrap();
    let readings = (0..200_000).map(|n| good(SeriesId(1), start - n, 0.0)).collect();
    let error = tier.commit(Flush { readings, ..Flush::default() }).await.unwrap_err();
    assert!(matches!(error, TierError::Unavailable { .. }), "nothing is set aside for it: {error:?}");
    assert!(log_too || error.to_string().contains("the server's disk is full"), "{error}");
    disk.make_room();
    if log_too {
        server.restart().await; // as systemd does, again and again
    }
    client.wait_committed(seqs(1..=300)).await;
    let stored = ask(server, settings, "SELECT count(*) || ' ' || sum(value) FROM readings").await;
    assert_eq!(stored, format!("{} {}", 300 * BLOCK, 300 * BLOCK * (300 * BLOCK - 1) / 2));
    assert_eq!(set_aside(&site), 0);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_and_all_is_stored_when_there_is_room() {
    let unproved = "that all is stored when the disk of PostgreSQL's tables was full";
    let Some(disk) = SmallDisk::or_say(40, unproved) else { return };
    let mut server = Postgres::start().await;
    server.execute("postgres", &format!("CREATE TABLESPACE small LOCATION '{}'", disk.path().display())).await;
    server.execute("postgres", "CREATE DATABASE tight TABLESPACE small").await;
    let settings = server.settings("tight");
    full_and_room_again(&disk, &mut server, &settings, false).await;
}

/// All of it, its log, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_a_full_disk_ends_loses_nothing() {
    let Some(disk) = SmallDisk::or_say(100, "that nothing is lost when a full disk ends PostgreSQL") else { return };
    let mut server = Postgres::start_on(&disk).await;
    let settings = server.database().await;
    full_and_room_again(&disk, &mut server, &settings, true).await;
}
