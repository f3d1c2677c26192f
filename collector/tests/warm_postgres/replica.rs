//! History from a read replica, while it keeps up.

use super::*;
use collector::anomalies::Anomalies;
use collector::etl::jobs::data_quality::DataQuality;
use collector::etl::{Job, Progress};
use collector::history::{History, Points, Question, Resolution, Width};
use collector::tiers::Day;
use collector::tiers::hot::days::{DayCache, Days, MemoryDays};
use collector::tiers::hot::memory::MemoryHot;
use collector::tiers::warm::settings::Store;
use jiff::tz::TimeZone;
use services::postgres::{self, Postgres};
use std::sync::Arc;
use std::time::Duration;
use support::{now, until};

/// A server that follows this one.
async fn follow(primary: &Postgres) -> Postgres {
    let folder = postgres::folder();
    let (data, port) = (folder.path().join("data"), primary.port.to_string());
    let to = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-D", data.to_str().unwrap()];
    postgres::run("pg_basebackup", &[&to[..], &["-R", "-X", "stream", "-c", "fast"]].concat());
    Postgres::start_in(folder, &["fsync=off", "hot_standby=on"]).await
}

fn with(settings: &WarmSettings, replica: &Postgres) -> WarmSettings {
    WarmSettings { replica: Some(format!("127.0.0.1:{}", replica.port)), ..settings.clone() }
}

#[tokio::test]
async fn history_is_read_from_a_replica_only_while_it_is_up_to_date() {
    let mut primary = Postgres::start_with("trust", &["fsync=off"]).await;
    // Longer than the test may take.
    let settings = WarmSettings { connect_timeout: Duration::from_secs(600).into(), ..primary.database().await };
    let mut replica = follow(&primary).await;
    let tier = Arc::new(PostgresWarm::open(&with(&settings, &replica)).await.unwrap());
    let series = series(&*tier, &["A"]).await[0];
    let info = tier.series(None).await.unwrap().remove(0);
    let all = async || tier.range(series, Timestamp(i64::MIN), Timestamp(i64::MAX), 100).await.unwrap();
    let asked = async |server: &Postgres| {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'collector' \
                   AND query LIKE '%FROM readings%' AND query NOT LIKE '%pg_stat_activity%'";
        ask(server, &settings, sql).await
    };
    let start = now() - 100 * SECOND;
    let mut stored = Vec::new();
    for n in 0..20 {
        stored.push(good(series, start + n * SECOND, n as f64));
        put(&tier, vec![stored[n as usize]]).await;
        assert_eq!(all().await, stored, "what is committed is seen at once, whoever answers");
    }
    let is_asked = until(async || all().await == stored && asked(&replica).await != "0").await;
    assert!(is_asked, "it is never asked");

    replica.execute("postgres", "SELECT pg_wal_replay_pause()").await;
    stored.push(good(series, start + 50 * SECOND, 50.0));
    put(&tier, vec![stored[20]]).await;
    assert_eq!(all().await, stored, "it is behind: the primary is asked");
    assert_eq!(ask(&replica, &settings, "SELECT count(*) FROM readings").await, "20");
    replica.execute("postgres", "SELECT pg_wal_replay_resume()").await;

    assert!(until(async || all().await == stored && asked(&replica).await != "0").await);
    primary.kill();
    assert_eq!(support::within(all()).await, stored, "the primary is dead: it answers on");
    assert!(support::within(tier.nodes()).await.is_err(), "the primary is asked for what isn't readings");
    let hot = MemoryHot::new(Day::LAST.start(), 1_000, Arc::new(Timestamp::wall_clock)); // it knows nothing
    let (from, to) = (Timestamp(start), Timestamp(start + 100 * SECOND));
    let question =
        Question { series: info, from, to, resolution: Resolution::Raw, points_max: 100, thin: None, now: to };
    let answer = support::within(History::new(tier.clone(), Arc::new(hot)).ask(&question)).await.unwrap();
    let Points::Raw(readings) = &answer.points else { panic!("buckets") };
    assert_eq!((readings.len(), answer.lacks()), (stored.len(), None), "all of it");
    assert_eq!(support::within(all()).await, stored);
    primary.restart().await;
    assert!(until(async || tier.nodes().await.is_ok()).await, "it is back");

    replica.kill();
    assert_eq!(all().await, stored, "it is dead: the primary is asked");
    tier.close().await;
}

/// Two collectors share what is kept. One asks a replica, which lacks what the other has just stored.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_lacks_is_never_kept_as_the_newest() {
    let primary = Postgres::start_with("trust", &["fsync=off"]).await;
    let settings = primary.database().await;
    let other = PostgresWarm::open(&settings).await.unwrap();
    let series = series(&other, &["A"]).await[0];
    let replica = follow(&primary).await;
    let asking = Arc::new(PostgresWarm::open(&with(&settings, &replica)).await.unwrap());
    let days: Arc<dyn Days> = Arc::new(MemoryDays::default());
    let (told, kept) = (DayCache::new(days.clone()), Arc::new(DayCache::new(days)));
    let hot = MemoryHot::new(Day::LAST.start(), 1_000, Arc::new(Timestamp::wall_clock)); // it knows nothing
    let history = History::new(asking.clone(), Arc::new(hot)).with_days(Some(kept));
    let reports = DataQuality {
        warm: asking.clone(),
        cold: None,
        anomalies: Arc::new(Anomalies::new(asking.clone(), None)),
        zone: TimeZone::UTC,
        now: Arc::new(Timestamp::wall_clock),
    };
    let day = Day(Day::of(Timestamp(now())).0 - 6); // it is settled, and no report of it is made without need
    let question = Question {
        series: asking.series(None).await.unwrap().remove(0),
        from: day.start(),
        to: day.end(),
        resolution: Resolution::Buckets(Width::Hour),
        points_max: 24,
        thin: None,
        now: Timestamp(now()),
    };
    let store = async |n: i64| {
        let reading = good(series, day.start().0 + n * SECOND, 1.0);
        let touched = told.begin([&reading], Timestamp(now())).await;
        put(&other, vec![reading]).await;
        told.end(&touched).await;
        while other.refresh_rollups(1_000).await.unwrap() > 0 {}
    };
    let found = async || asking.range(series, day.start(), day.end(), 100).await.unwrap().len();
    let shown = async || {
        let Points::Buckets(_, points) = history.ask(&question).await.unwrap().points else { panic!("readings") };
        points.iter().filter_map(|point| point.rollup).map(|rollup| rollup.good as usize).sum::<usize>()
    };
    let reported = async || {
        reports.run(&Progress::default()).await.unwrap();
        asking.quality(Some(&day.to_string())).await.unwrap()[0].quality.good as usize
    };
    store(0).await;
    let mut lacked = 0;
    for n in 1..=5 {
        assert!(until(async || found().await == n).await);
        replica.execute("postgres", "SELECT pg_wal_replay_pause()").await;
        let is_paused = async || ask(&replica, &settings, "pg_get_wal_replay_pause_state()").await == "paused";
        assert!(until(is_paused).await);
        found().await; // for a second the primary isn't asked how far it is
        store(n as i64).await;
        lacked += u32::from(found().await == n);
        // Whatever these say now, it must not stay so.
        shown().await;
        reported().await;
        replica.execute("postgres", "SELECT pg_wal_replay_resume()").await;
        assert!(until(async || found().await == n + 1).await);
        assert_eq!((shown().await, reported().await), (n + 1, n + 1), "{n}");
    }
    assert!(lacked > 0, "it was never behind");
}

/// As after a primary was set up anew: the old replica is there still, and ahead in a log that is another one.
#[tokio::test]
async fn one_that_follows_another_server_is_never_asked() {
    let (primary, old) = (Postgres::start().await, Postgres::start_with("trust", &["fsync=off"]).await);
    let elsewhere = PostgresWarm::open(&old.database().await).await.unwrap();
    series(&elsewhere, &["A"]).await;
    let ahead = "SELECT pg_logical_emit_message(false, '', repeat('x', 1000000)) FROM generate_series(1, 50)";
    old.execute("postgres", ahead).await;
    let replica = follow(&old).await;
    let settings = with(&primary.database().await, &replica);
    let tier = PostgresWarm::open(&settings).await.unwrap();
    let series = series(&tier, &["A"]).await[0];
    let stored = vec![good(series, now(), 1.0)];
    put(&tier, stored.clone()).await;
    for _ in 0..3 {
        assert_eq!(tier.range(series, Timestamp(i64::MIN), Timestamp(i64::MAX), 100).await.unwrap(), stored);
    }
    let told = PostgresWarm::check_replica(&settings).await.unwrap_err().to_string();
    assert!(told.contains("[warm] replica follows another server than [warm] host / POSTGRES_HOST"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_that_it_fails_or_lags_and_who_answers_meanwhile() {
    let primary = Postgres::start_with("trust", &["fsync=off"]).await;
    let mut replica = follow(&primary).await;
    let place = format!("127.0.0.1:{}", replica.port);
    let store = Some(Store::Postgres);
    let warm = WarmSettings { store, replica: Some(place.clone()), ..primary.database().await };
    let site = support::Site::new(&["STATION_7"], |config| config.warm = warm);
    let collector = site.start().await;
    let (mut client, hash) = support::Client::ready(&collector, "STATION_7", &["A"]).await;
    let state = async || collector.get("health").await["tiers"]["warm"]["state"]["replica"].clone();
    let trouble = async || {
        let health = collector.get("health").await;
        let all = health["troubles"].as_array().unwrap().clone();
        all.into_iter().find(|one| one["part"] == "replica")
    };
    let is_asked = async || state().await["asked"] == true && collector.get("health").await["status"] == "ok";
    assert!(support::until(is_asked).await, "{}", collector.get("health").await);
    assert_eq!(state().await["place"], place);

    replica.execute("postgres", "SELECT pg_wal_replay_pause()").await;
    client.block(1, full_block(hash, support::now() - 200 * SECOND, 1)).await;
    client.wait_committed(support::seqs([1])).await;
    let is_behind = async || state().await["behind_bytes"].as_u64().is_some_and(|bytes| bytes > 0);
    assert!(support::until(is_behind).await, "{}", state().await);
    assert_eq!(collector.history("A").await.len(), 100, "the primary answers");
    assert_eq!(state().await["asked"], false);
    // For a while that is nothing to tell.
    assert!(support::until(async || trouble().await.is_some()).await, "{}", state().await);
    let told = trouble().await.unwrap();
    let why = told["error"].as_str().unwrap();
    assert!(why.contains(&place) && why.contains("behind for") && why.contains("the primary meanwhile"), "{told}");
    assert_eq!(
        (&told["severity"], &state().await["behind_s"].as_u64().is_some_and(|s| s >= 10)),
        (&"warning".into(), &true)
    );
    assert!(collector.metrics().await.contains("collector_replica_up_to_date 0"));
    replica.execute("postgres", "SELECT pg_wal_replay_resume()").await;
    assert!(support::until(is_asked).await, "{}", collector.get("health").await);
    assert!(collector.metrics().await.contains("collector_replica_up_to_date 1"));

    replica.kill();
    let fails = async || trouble().await.is_some_and(|told| told["error"].as_str().unwrap().contains("[warm] replica"));
    assert!(support::until(fails).await, "{}", collector.get("health").await);
    assert_eq!(collector.get("health").await["status"], "degraded");
    assert_eq!(collector.history("A").await.len(), 100, "the primary answers");
    replica.restart().await;
    assert!(support::until(is_asked).await, "{}", collector.get("health").await);
    collector.stop().await;
}

/// As a former primary after a failover, or the standby of a copy on which something is tried out: the same cluster by its
/// number, ahead in the log, and with other readings.
#[tokio::test]
async fn a_copy_that_went_its_own_way_is_never_believed() {
    let primary = Postgres::start_with("trust", &["fsync=off"]).await;
    let settings = primary.database().await;
    let before = PostgresWarm::open(&settings).await.unwrap();
    let series = series(&before, &["A"]).await[0];
    let stored = vec![good(series, now(), 1.0)];
    put(&before, stored.clone()).await;
    let folder = postgres::folder();
    let (data, port) = (folder.path().join("data"), primary.port.to_string());
    let to = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-D", data.to_str().unwrap()];
    postgres::run("pg_basebackup", &[&to[..], &["-X", "stream", "-c", "fast"]].concat());
    let mut copy = Postgres::start_in(folder, &["fsync=off", "hot_standby=on"]).await;
    let ahead = "SELECT pg_logical_emit_message(false, '', repeat('x', 1000000)) FROM generate_series(1, 50)";
    copy.execute(&settings.database, &format!("UPDATE readings SET value = -777; {ahead}")).await;
    copy.execute(&settings.database, "CHECKPOINT").await;
    copy.kill();
    std::fs::write(data.join("standby.signal"), "").unwrap();
    copy.restart().await;
    let settings = with(&settings, &copy);
    let told = PostgresWarm::check_replica(&settings).await.unwrap_err().to_string();
    assert!(told.contains("[warm] replica is a copy that went its own way"), "{told}");
    let tier = PostgresWarm::open(&settings).await.unwrap();
    for _ in 0..3 {
        assert_eq!(tier.range(series, Timestamp(i64::MIN), Timestamp(i64::MAX), 100).await.unwrap(), stored);
    }
    let told = tier.fault().unwrap();
    assert!(told.contains("[warm] replica is a copy that went its own way"), "{told}");
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
