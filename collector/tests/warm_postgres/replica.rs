//! History from a read replica, while it keeps up.

use super::*;
use services::postgres::{self, Postgres};
use std::time::Duration;

#[tokio::test]
async fn history_is_read_from_a_replica_only_while_it_is_up_to_date() {
    let mut primary = Postgres::start_with("trust", &["fsync=off"]).await;
    // Longer than the test may take.
    let settings = WarmSettings { connect_timeout: Duration::from_secs(600).into(), ..primary.database().await };
    let folder = postgres::folder();
    let (data, port) = (folder.path().join("data"), primary.port.to_string());
    let to = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-D", data.to_str().unwrap()];
    postgres::run("pg_basebackup", &[&to[..], &["-R", "-X", "stream", "-c", "fast"]].concat());
    let mut replica = Postgres::start_in(folder, &["fsync=off", "hot_standby=on"]).await;
    let place = format!("127.0.0.1:{}", replica.port);
    let tier = PostgresWarm::open(&WarmSettings { replica: Some(place), ..settings.clone() }).await.unwrap();
    let series = series(&tier, &["A"]).await[0];
    let all = async || tier.range(series, Timestamp(i64::MIN), Timestamp(i64::MAX), 100).await.unwrap();
    let asked = async |server: &Postgres| {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'collector' \
                   AND query LIKE '%FROM readings%' AND query NOT LIKE '%pg_stat_activity%'";
        ask(server, &settings, sql).await
    };
    let start = support::now() - 100 * SECOND;
    let mut stored = Vec::new();
    for n in 0..20 {
        stored.push(good(series, start + n * SECOND, n as f64));
        put(&tier, vec![stored[n as usize]]).await;
        assert_eq!(all().await, stored, "what is committed is seen at once, whoever answers");
    }
    let is_asked = support::until(async || all().await == stored && asked(&replica).await != "0").await;
    assert!(is_asked, "it is never asked");

    replica.execute("postgres", "SELECT pg_wal_replay_pause()").await;
    stored.push(good(series, start + 50 * SECOND, 50.0));
    put(&tier, vec![stored[20]]).await;
    assert_eq!(all().await, stored, "it is behind: the primary is asked");
    assert_eq!(ask(&replica, &settings, "SELECT count(*) FROM readings").await, "20");
    replica.execute("postgres", "SELECT pg_wal_replay_resume()").await;

    assert!(support::until(async || asked(&replica).await != "0" && all().await == stored).await);
    primary.kill();
    assert_eq!(support::within(all()).await, stored, "the primary is dead: it answers on");
    assert!(support::within(tier.nodes()).await.is_err(), "the primary is asked for what must be the newest");
    assert_eq!(support::within(all()).await, stored);
    primary.restart().await;
    assert!(support::until(async || tier.nodes().await.is_ok()).await, "it is back");

    replica.kill();
    assert_eq!(all().await, stored, "it is dead: the primary is asked");
    tier.close().await;
}

#[tokio::test]
async fn one_that_is_none_is_told_before() {
    let server = services::postgres::Postgres::start().await;
    let of = |replica: String| WarmSettings { replica: Some(replica), ..server.settings("postgres") };
    let primary = PostgresWarm::check_replica(&of(format!("127.0.0.1:{}", server.port))).await.unwrap_err();
    assert!(primary.to_string().contains("it doesn't follow any primary"), "{primary}");
    let nobody = PostgresWarm::check_replica(&of(format!("127.0.0.1:{}", services::free_port()))).await.unwrap_err();
    let nobody = nobody.to_string();
    assert!(nobody.contains("check [warm] replica") && !nobody.contains("POSTGRES_HOST"), "{nobody}");
    for wrong in ["127.0.0.1:abc", "db:", "db:0", ""] {
        assert_eq!(of(wrong.into()).mistakes().keys(), ["warm.replica"], "{wrong}");
    }
    for fine in ["db2", "db2:5433", "::1", "[::1]:5432"] {
        assert_eq!(of(fine.into()).mistakes().keys().len(), 0, "{fine}");
    }
}
