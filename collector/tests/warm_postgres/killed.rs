//! PostgreSQL dies while its tables are made and while a collector starts: whoever was at it goes on by itself.

use super::*;
use collector::access::Local;
use collector::tiers::warm::settings::Store;
use serde_json::Value;
use services::postgres::{PASSWORD, Postgres};
use std::process::Command;
use std::time::Duration;
use support::process::PROGRAM;
use support::{Client, Site, now, seqs, until, within};

/// Whoever makes tables is held after each `STEP` of them, in the middle of a migration, until the server is killed. The last
/// migration makes one table; partitions of days come after it.
const HOLD: &str = "CREATE SCHEMA hold; CREATE TABLE hold.at (relations int); INSERT INTO hold.at VALUES (1); \
    CREATE FUNCTION hold.hold() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN \
        IF to_regclass('replica_proofs') IS NULL AND (SELECT count(*) FROM pg_class \
            WHERE relnamespace = 'public'::regnamespace) >= (SELECT relations FROM hold.at) \
        THEN PERFORM pg_sleep(600); END IF; END $$; \
    CREATE EVENT TRIGGER hold ON ddl_command_end EXECUTE FUNCTION hold.hold()";
const STEP: u32 = 17;

/// Waits until somebody is held; kills the server then and starts it again. False once the tables are made.
async fn killed_on_the_way(server: &mut Postgres, settings: &WarmSettings) -> bool {
    let mut is_held = false;
    let waited = until(async || {
        is_held = ask(server, settings, "SELECT bool_or(wait_event = 'PgSleep') FROM pg_stat_activity").await == "true";
        is_held || ask(server, settings, "SELECT to_regclass('replica_proofs') IS NOT NULL").await == "true"
    });
    assert!(waited.await, "nobody makes the tables");
    if is_held {
        server.execute(&settings.database, &format!("UPDATE hold.at SET relations = relations + {STEP}")).await;
        server.kill();
    }
    is_held
}

/// As a command on this machine hears it: while nobody knows who there is, all others only hear that it lives.
async fn health(site: &Site) -> Value {
    let local = Local::read(&site.config.data_dir).unwrap();
    let request = ureq::get(format!("http://{}/api/v1/health", local.address));
    let request = request.header("authorization", format!("Bearer {}", local.secret));
    let asking = tokio::task::spawn_blocking(move || request.call().unwrap().body_mut().read_to_string().unwrap());
    serde_json::from_str(&within(asking).await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_migrations_a_collector_takes_them_up_by_itself() {
    let mut server = Postgres::start().await;
    let settings = server.database().await;
    server.execute(&settings.database, HOLD).await;
    let site = Site::new(&["STATION_7"], |config| {
        config.warm = WarmSettings { store: Some(Store::Postgres), ..settings.clone() };
        config.buffer.flush_interval = Duration::from_millis(10).into();
    });
    let (collector, _) = tokio::join!(within(site.start()), killed_on_the_way(&mut server, &settings));
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    let (start, mut last) = (now() - 10_000 * SECOND, 0);
    loop {
        last += 1;
        client.block(last, full_block(hash, start, last)).await;
        client.wait_stored(seqs([last])).await;
        let health = health(&site).await;
        let warm = &health["tiers"]["warm"];
        assert!(warm["ok"] == false && warm.to_string().contains(&server.port.to_string()), "{health}");
        server.restart().await;
        if !killed_on_the_way(&mut server, &settings).await {
            break;
        }
    }
    assert!(last > 4, "it was killed {last} times");
    client.wait_committed(seqs(1..=last)).await;
    let stored = ask(&server, &settings, "SELECT count(*) FROM readings").await;
    assert_eq!(stored, (last as i64 * BLOCK).to_string());
    assert!(PostgresWarm::check(&settings).await.unwrap().is_in_order());
    collector.stop().await;
}

/// Each time a person calls it again.
#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_migrations_the_command_says_so_and_goes_on_when_it_is_called_again() {
    let mut server = Postgres::start().await;
    let settings = server.database().await;
    server.execute(&settings.database, HOLD).await;
    let site = Site::new(&[], |config| config.warm = settings.clone());
    let config = site.write_config("");
    let call = || {
        let mut command = Command::new(PROGRAM);
        command.args(["migrate", "--json", "--config"]).arg(&config).env("POSTGRES_HOST", &settings.host);
        command.env("POSTGRES_PORT", settings.port.to_string()).env("POSTGRES_DB", &settings.database);
        command.env("POSTGRES_USER", &settings.user).env("POSTGRES_PASSWORD", PASSWORD);
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    let mut kills = 0;
    loop {
        let called = call();
        let killed = killed_on_the_way(&mut server, &settings).await;
        let output = within(called).await.unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        if !killed {
            assert_eq!((output.status.code(), &answer["in_order"]), (Some(0), &true.into()), "{answer}");
            break;
        }
        kills += 1;
        let error = answer["error"].as_str().unwrap();
        assert!(output.status.code() == Some(1) && error.contains("PostgreSQL"), "{answer}");
        server.restart().await;
    }
    assert!(kills > 4, "it was killed {kills} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_of_a_collectors_start_it_holds_up_nothing() {
    let mut server = Postgres::start().await;
    let settings = server.database().await;
    let site = Site::new(&["STATION_7"], |config| {
        config.warm = WarmSettings { store: Some(Store::Postgres), ..settings.clone() };
        config.buffer.flush_interval = Duration::from_millis(10).into();
    });
    let (start, rounds) = (now() - 10_000 * SECOND, 5);
    for round in 1..=rounds {
        // A start takes some 300 ms.
        let kill = async {
            tokio::time::sleep(Duration::from_millis(80 * (round - 1))).await;
            server.kill();
        };
        let (collector, ()) = tokio::join!(within(site.start()), kill);
        let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
        client.block(round, full_block(hash, start, round)).await;
        client.wait_stored(seqs([round])).await;
        server.restart().await;
        client.wait_committed(seqs([round])).await;
        collector.stop().await;
    }
    let readings = rounds as i64 * BLOCK;
    let stored = ask(&server, &settings, "SELECT count(*) || ' ' || sum(value) FROM readings").await;
    assert_eq!(stored, format!("{readings} {}", readings * (readings - 1) / 2));
}
