//! What can happen between here and BigQuery: refusals, lost answers, altered tables, nobody there.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

mod services;
mod support;

use collector::tiers::cold::bigquery::BigQueryCold;
use collector::tiers::cold::bigquery::settings::BigQuerySettings;
use collector::tiers::cold::settings::Store;
use collector::tiers::{ColdTier, Day, Proof, Run, Runs, SeriesId, SeriesKey, StoredReading};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use services::bigquery::{BigQuery, settings};
use services::meddler::{Meddler, Spoilt};
use shared::block::TimeBase;
use shared::ids::NodeId;
use shared::reading::{Held, MICROS_PER_SECOND, Quality, Timestamp};
use std::sync::Arc;
use support::*;

/// 2024-10-05.
const DAY: Day = Day(20_001);
const UNAVAILABLE: Spoilt = Spoilt::Refused(503, "the front end is away");
const DATASETS: &str = "/bigquery/v2/projects/test/datasets";
const JOBS: &str = "/bigquery/v2/projects/test/jobs";
const QUERIES: &str = "/bigquery/v2/projects/test/queries";
const DENIED: &str = r#"{"error":{"code":403,"message":"Access Denied: Project test: User does not have bigquery.jobs.create permission","errors":[{"reason":"accessDenied","domain":"global","message":"Access Denied"}],"status":"PERMISSION_DENIED"}}"#;
const UNKNOWN: &str = r#"{"error":{"code":401,"message":"Request had invalid authentication credentials.","errors":[{"reason":"authError","domain":"global","message":"Invalid Credentials"}],"status":"UNAUTHENTICATED"}}"#;

fn rows(value: f64) -> Vec<Run> {
    let key = SeriesKey { node: NodeId::new("N").unwrap(), metric: "level".into(), channel: String::new() };
    let reading = |n: i64| StoredReading {
        series: SeriesId(7),
        at: DAY.start().plus_micros(n * 600_000_000),
        held: Held { value: Some(value + n as f64), quality: Quality::GOOD, revision: 0 },
    };
    vec![Run { series: SeriesId(7), key: Arc::new(key), readings: (0..144).map(reading).collect() }]
}

fn runs(value: f64) -> Runs<'static> {
    stream::iter(rows(value).into_iter().map(Ok)).boxed()
}

fn proof(value: f64) -> Proof {
    let mut proof = Proof::default();
    rows(value).iter().for_each(|run| proof.add(run));
    proof
}

async fn said<T>(work: impl Future<Output = Result<T, collector::tiers::TierError>>) -> String {
    work.await.err().expect("refused").to_string()
}

/// One server for all of it: it is dear to start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_here_and_bigquery() {
    let server = BigQuery::start().await;
    Box::pin(what_passes_is_tried_again_and_doubles_nothing(&server)).await;
    Box::pin(who_may_not_is_told_what_is_missing(&server)).await;
    Box::pin(a_table_that_someone_altered_is_named(&server)).await;
    Box::pin(a_row_that_someone_altered_is_found(&server)).await;
    Box::pin(every_job_is_bounded_and_has_its_own_name(&server)).await;
}

async fn meddled(server: &BigQuery) -> (Meddler, BigQuerySettings) {
    let meddler = Meddler::start(server.port).await;
    let settings = settings(meddler.port, &server.dataset().dataset);
    (meddler, settings)
}

async fn what_passes_is_tried_again_and_doubles_nothing(server: &BigQuery) {
    let (meddler, settings) = meddled(server).await;
    let tier = BigQueryCold::new(&settings);
    meddler.spoil("GET", DATASETS, "", 2, UNAVAILABLE);
    tier.replace_day(DAY, runs(1.0)).await.unwrap();
    // An answer that was lost: the job was taken, and is asked for under its name.
    meddler.spoil("POST", "/upload/", "", 1, UNAVAILABLE);
    meddler.spoil("POST", "/upload/", "", 1, Spoilt::Cut);
    meddler.spoil("POST", JOBS, "_swap_", 2, Spoilt::Cut);
    meddler.spoil("POST", JOBS, "dryRun", 1, UNAVAILABLE);
    meddler.spoil("GET", QUERIES, "", 1, Spoilt::Cut);
    meddler.spoil("GET", JOBS, "", 1, Spoilt::Refused(429, "{}"));
    assert_eq!(tier.replace_day(DAY, runs(2.0)).await.unwrap(), proof(2.0));
    assert!(meddler.is_done());
    assert_eq!(tier.proof(DAY).await.unwrap(), Some(proof(2.0)), "nothing twice");
    // What doesn't pass is told in the end, and the old day stays.
    meddler.spoil("POST", "/upload/", "", usize::MAX, UNAVAILABLE);
    let error = said(tier.replace_day(DAY, runs(3.0))).await;
    assert!(error.contains("503") && error.contains(&settings.endpoint.clone().unwrap()), "{error}");
    assert_eq!(tier.proof(DAY).await.unwrap(), Some(proof(2.0)));
}

async fn who_may_not_is_told_what_is_missing(server: &BigQuery) {
    for (status, body, word) in [(401, UNKNOWN, "credentials"), (403, DENIED, "bigquery.jobs.create")] {
        let (meddler, settings) = meddled(server).await;
        let tier = BigQueryCold::new(&settings);
        tier.replace_day(DAY, runs(1.0)).await.unwrap();
        meddler.spoil("POST", JOBS, "", 1, Spoilt::Refused(status, body));
        let error = said(tier.range(SeriesId(7), DAY.start(), DAY.end(), 10)).await;
        let names = error.contains("credentials_file") && error.contains("BigQuery Job User");
        assert!(names && error.contains(word), "{error}");
        // As soon as it may, it goes on.
        assert_eq!(tier.range(SeriesId(7), DAY.start(), DAY.end(), 10).await.unwrap().len(), 10);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.json");
    let with_file = BigQuerySettings { credentials_file: Some(file.clone()), ..server.dataset() };
    let error = said(Box::pin(BigQueryCold::check(&with_file))).await;
    assert!(error.contains("key.json") && error.contains("credentials_file"), "{error}");
    std::fs::write(&file, "{\"type\": \"service_account\", \"private_key\": \"hush\"}").unwrap();
    let error = said(Box::pin(BigQueryCold::check(&with_file))).await;
    assert!(error.contains("has no credentials of Google in it") && !error.contains("hush"), "{error}");
}

async fn a_table_that_someone_altered_is_named(server: &BigQuery) {
    let settings = server.dataset();
    assert_eq!(BigQueryCold::check(&settings).await.unwrap().as_deref(), Some("the dataset would be made"));
    BigQueryCold::new(&settings).state().await.unwrap();
    assert_eq!(BigQueryCold::check(&settings).await.unwrap(), None);
    let elsewhere = BigQuerySettings { location: "us-east1".into(), ..settings.clone() };
    let error = said(Box::pin(BigQueryCold::check(&elsewhere))).await;
    assert!(error.contains("lies in EU") && error.contains("[cold.bigquery] location"), "{error}");
    // One without `quality`, as someone else may have made it.
    let settings = BigQuerySettings { table: "theirs".into(), ..settings };
    let columns = ["series", "node", "metric", "channel", "ts", "value", "revision", "row_hash"];
    let columns: Vec<Value> = columns.iter().map(|name| json!({ "name": name, "type": "STRING" })).collect();
    let reference = json!({ "projectId": "test", "datasetId": settings.dataset, "tableId": "theirs" });
    let theirs = json!({ "tableReference": reference, "schema": { "fields": columns } });
    server.post(&format!("datasets/{}/tables", settings.dataset), theirs).await;
    let error = said(BigQueryCold::new(&settings).state()).await;
    assert!(error.contains("the table theirs has no column") && error.contains("[cold.bigquery] table"), "{error}");
}

async fn a_row_that_someone_altered_is_found(server: &BigQuery) {
    let settings = server.dataset();
    let tier = BigQueryCold::new(&settings);
    tier.replace_day(DAY, runs(1.0)).await.unwrap();
    let update =
        format!("UPDATE `test.{}.readings` SET value = 9 WHERE value = 5 AND ts >= '2024-10-05'", settings.dataset);
    server.run(&update).await;
    let error = said(tier.proof(DAY)).await;
    assert!(error.contains("series 7 (N/level)") && error.contains("row_hash"), "{error}");
    assert!(said(tier.merge_day(DAY, runs(1.0))).await.contains("row_hash"), "nothing is made right by being read");
    tier.replace_day(DAY, runs(1.0)).await.unwrap();
    assert_eq!(tier.proof(DAY).await.unwrap(), Some(proof(1.0)));
}

async fn every_job_is_bounded_and_has_its_own_name(server: &BigQuery) {
    let (meddler, settings) = meddled(server).await;
    let tier = BigQueryCold::new(&settings);
    tier.replace_day(DAY, runs(1.0)).await.unwrap();
    tier.range(SeriesId(7), DAY.start(), DAY.end(), 10).await.unwrap();
    let jobs: Vec<Value> = meddler.bodies(JOBS).iter().filter_map(|body| serde_json::from_str(body).ok()).collect();
    let (dry, real): (Vec<_>, Vec<_>) = jobs.iter().partition(|job| job["configuration"]["dryRun"] == true);
    assert_eq!(dry.len(), real.len(), "each is estimated first");
    let mut names: Vec<&str> = real.iter().map(|job| job["jobReference"]["jobId"].as_str().unwrap()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), real.len(), "{names:?}");
    for job in real {
        let (query, limit) = (&job["configuration"]["query"], &job["configuration"]["jobTimeoutMs"]);
        assert_eq!(query["maximumBytesBilled"], settings.bytes_max.as_u64().to_string());
        assert!(limit.is_string(), "{job}");
    }
    let left: Value = get(server, &format!("datasets/{}/tables", settings.dataset)).await;
    let left: Vec<&str> =
        left["tables"].as_array().unwrap().iter().map(|t| t["tableReference"]["tableId"].as_str().unwrap()).collect();
    assert_eq!(left.len(), 2, "nothing is left of what came in: {left:?}");
}

async fn get(server: &BigQuery, path: &str) -> Value {
    let url = format!("http://127.0.0.1:{}/bigquery/v2/projects/test/{path}", server.port);
    reqwest::get(url).await.unwrap().json().await.unwrap()
}

/// Whoever takes in readings and answers for them doesn't wait for the archive; `check` says that it is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_runs_while_nobody_is_there() {
    let port = services::free_port();
    let site = Site::new(&["STATION_7"], |config| {
        config.cold.store = Some(Store::BigQuery);
        config.cold.bigquery = settings(port, "absent");
    });
    let collector = site.start().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    let at = now() - 10 * MICROS_PER_SECOND;
    client.block(1, block(hash, TimeBase::Utc, &[(0, at, 1.5)])).await;
    client.wait_committed(seqs([1])).await;
    assert_eq!(collector.history("DIST_001").await, [(Timestamp(at), Some(1.5))]);
    let health = collector.get("health").await;
    let cold = health["tiers"]["cold"]["error"].as_str().unwrap().to_owned();
    assert!(cold.contains(&format!("127.0.0.1:{port}")), "{health}");
    collector.stop().await;
    let there = format!("project = 'test'\nendpoint = 'http://127.0.0.1:{port}'");
    let config = site.write_config(&format!("[cold]\nstore = 'bigquery'\n[cold.bigquery]\n{there}"));
    let report = support::process::collector(&["check", "--json", "-c", config.to_str().unwrap()]);
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    let cold = report["findings"].as_array().unwrap().iter().find(|finding| finding["what"] == "[cold]").unwrap();
    assert_eq!(cold["verdict"], "warning", "{report}");
    assert!(cold["detail"].as_str().unwrap().contains("days stay in the database"), "{report}");
}
