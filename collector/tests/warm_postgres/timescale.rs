//! What is TimescaleDB's own: compressed days that take late data, and the reference's views, which must say the same
//! as those on plain PostgreSQL.

use super::*;
use services::postgres::Postgres;
use services::timescale::TimescaleServer;
use shared::metric::Kind;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Executor as _, Row as _};

const DAY: i64 = 86_400 * SECOND;

async fn connect(server: &TimescaleServer, settings: &WarmSettings) -> PgConnection {
    let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(server.port).username("postgres");
    let mut connection = options.database("postgres").connect().await.unwrap();
    let path = format!("SET search_path TO {}, public", settings.schema);
    connection.execute(AssertSqlSafe(path)).await.unwrap();
    connection
}

async fn number(connection: &mut PgConnection, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await.unwrap()
}

/// The policy's own work, since nothing works in the background here.
async fn run_compression(connection: &mut PgConnection, settings: &WarmSettings) {
    let sql = format!(
        "SELECT job_id::bigint FROM timescaledb_information.jobs WHERE hypertable_schema = '{}' \
         AND hypertable_name = 'readings' AND proc_name IN ('policy_compression', 'policy_columnstore')",
        settings.schema
    );
    let job = number(connection, &sql).await;
    connection.execute(AssertSqlSafe(format!("CALL run_job({job})"))).await.unwrap();
}

#[tokio::test]
async fn compressed_days_take_late_data_and_views_say_what_plain_postgresql_says() {
    let server = TimescaleServer::start();
    late_data_into_compressed_days(&server).await;
    the_views_say_the_same_on_both(&server).await;
    lost_policies_are_named(&server).await;
}

async fn late_data_into_compressed_days(server: &TimescaleServer) {
    let settings = server.schema();
    let tier = PostgresWarm::open(&settings).await.unwrap();
    let series = series(&tier, &["A", "B"]).await;
    let today = support::now() / DAY * DAY;
    // More than TimescaleDB lets a statement decompress by default: 100,000.
    let old: Vec<_> = (0..120_000).map(|n| good(series[0], today - 10 * DAY + n * SECOND / 2, n as f64)).collect();
    assert_eq!(put(&tier, old.clone()).await.written, 120_000);
    put(&tier, vec![good(series[1], today, 1.0)]).await;
    let mut connection = connect(server, &settings).await;
    run_compression(&mut connection, &settings).await;
    let chunks = format!(
        "SELECT count(*) FILTER (WHERE is_compressed) * 10 + count(*) FROM timescaledb_information.chunks \
         WHERE hypertable_schema = '{}' AND hypertable_name = 'readings'",
        settings.schema
    );
    assert_eq!(number(&mut connection, &chunks).await, 12, "of two days the old one is compressed");
    let bytes = number(
        &mut connection,
        "SELECT sum(after_compression_total_bytes)::bigint FROM hypertable_compression_stats('readings')",
    );
    println!("compressed: {:.2} bytes per reading", bytes.await as f64 / old.len() as f64);

    // New ones, the same ones again, and a correction of every one.
    let late: Vec<_> = (0..1_000).map(|n| good(series[1], today - 10 * DAY + n * SECOND, 7.0)).collect();
    assert_eq!(put(&tier, late.clone()).await.written, 1_000);
    let report = put(&tier, old.clone()).await;
    assert_eq!((report.written, report.unchanged), (0, 120_000));
    let mut corrected = old;
    corrected.iter_mut().for_each(|reading| (reading.held.revision, reading.held.value) = (1, Some(0.5)));
    assert_eq!(put(&tier, corrected.clone()).await.written, 120_000);
    let (first, end) = (Timestamp(today - 10 * DAY), Timestamp(today));
    assert!(tier.range(series[0], first, end, u32::MAX).await.unwrap() == corrected);
    assert_eq!(tier.range(series[1], first, end, u32::MAX).await.unwrap(), late);
    run_compression(&mut connection, &settings).await;
    assert!(tier.range(series[0], first, end, u32::MAX).await.unwrap() == corrected);
    tier.close().await;
}

/// Two nodes, two metrics and a bad reading, over three days.
async fn fill(tier: &PostgresWarm) {
    let mut entries = Vec::new();
    for node in ["DIST_001", "DIST_002"] {
        for (metric, unit) in [("flow_rate", "L/s"), ("pressure", "bar"), ("total_volume", "m3")] {
            let mut entry = support::catalogue(&[node]).entries()[0].clone();
            (entry.metric, entry.unit) = (metric.into(), unit.into());
            entry.kind = if metric == "total_volume" { Kind::Counter } else { Kind::Gauge };
            entries.push(entry);
        }
    }
    let numbers = tier.series_for(&gateway(), &entries).await.unwrap();
    let start = support::now() / DAY * DAY - 5 * DAY;
    let mut readings = Vec::new();
    for (s, number) in numbers.into_iter().map(Result::unwrap).enumerate() {
        for n in 0..400 {
            let mut reading = good(number, start + n * 617 * SECOND, (n * 7 % 31) as f64 + s as f64 / 4.0);
            if n % 50 == 3 {
                (reading.held.value, reading.held.quality) = (None, Quality::BAD_TIMEOUT);
            }
            readings.push(reading);
        }
    }
    put(tier, readings).await;
}

async fn rows(connection: &mut PgConnection, view: &str) -> Vec<String> {
    let metrics = ["flow_rate", "pressure", "chlorine"];
    let columns: Vec<String> = metrics
        .iter()
        .map(|m| format!("round(avg_{m}::numeric, 6), ' ', min_{m}, ' ', max_{m}, ' ', n_{m}::bigint"))
        .collect();
    let sql = format!(
        "SELECT concat(extract(epoch FROM bucket)::bigint, ' ', node_id, ' ', channel, ' ', {}) \
         FROM {view} ORDER BY bucket, node_id",
        columns.join(", ' ', ")
    );
    let rows = connection.fetch_all(AssertSqlSafe(sql)).await.unwrap();
    rows.iter().map(|row| row.try_get::<String, _>(0).unwrap()).collect()
}

async fn the_views_say_the_same_on_both(server: &TimescaleServer) {
    let views = ["sensor_readings_5min", "sensor_readings_hourly", "sensor_readings_daily"];
    let settings = server.schema();
    let tier = PostgresWarm::open(&settings).await.unwrap();
    fill(&tier).await;
    let mut there = connect(server, &settings).await;
    let plain = Postgres::start().await;
    let plain_settings = plain.database().await;
    let plain_tier = PostgresWarm::open(&plain_settings).await.unwrap();
    fill(&plain_tier).await;
    let mut here = plain.options(&plain_settings.database).connect().await.unwrap();
    // First while nothing is summed up, then when all is.
    for summed_up in [false, true] {
        if summed_up {
            for view in views {
                let sql = format!("CALL refresh_continuous_aggregate('{view}', NULL, NULL)");
                there.execute(AssertSqlSafe(sql)).await.unwrap();
            }
            while plain_tier.refresh_rollups(1_000).await.unwrap() > 0 {}
        }
        for (view, count) in views.into_iter().zip([784, 138, 6]) {
            let rows_there = rows(&mut there, view).await;
            assert_eq!(rows_there, rows(&mut here, view).await, "{view}, {summed_up}");
            assert_eq!(rows_there.len(), count, "{view}: {rows_there:?}");
        }
    }
    let sql = "SELECT concat(count(*), ' ', count(flow_rate), ' ', sum(total_volume)) FROM sensor_readings \
               WHERE node_id = 'DIST_001'";
    let mut both = Vec::new();
    for connection in [&mut there, &mut here] {
        both.push(sqlx::query_scalar::<_, String>(sql).fetch_one(connection).await.unwrap());
    }
    assert_eq!(both[0], both[1]);
    assert!(both[0].starts_with("392 392 "), "{both:?}");
    tier.close().await;
    plain_tier.close().await;
}

async fn lost_policies_are_named(server: &TimescaleServer) {
    let settings = server.schema();
    PostgresWarm::open(&settings).await.unwrap().close().await;
    assert!(PostgresWarm::check(&settings).await.unwrap().is_in_order());
    let mut connection = connect(server, &settings).await;
    let sql = "SELECT remove_compression_policy('rollup_5m'); \
               SELECT remove_continuous_aggregate_policy('sensor_readings_daily'); \
               DROP VIEW sensor_readings";
    connection.execute(sql).await.unwrap();
    let report = PostgresWarm::check(&settings).await.unwrap();
    assert_eq!((report.store.as_str(), report.wrong.len()), ("TimescaleDB", 0));
    let missing = [
        "view sensor_readings is missing",
        "rollup_5m has lost its compression policy",
        "sensor_readings_daily has lost its refresh policy",
    ];
    assert_eq!(report.missing, missing);
    connection.execute("SELECT add_retention_policy('readings', INTERVAL '30 days')").await.unwrap();
    let report = PostgresWarm::check(&settings).await.unwrap();
    assert!(report.wrong.len() == 1 && report.wrong[0].contains("remove_retention_policy('readings')"), "{report:?}");
}
