//! A dataset of another producer, and a collector's inbox in front of it.

use crate::services::bigquery::BigQuery;
use crate::services::meddler::Meddler;
use crate::support::SECOND;
use collector::etl::Progress;
use collector::flush::Write;
use collector::grants::Grants;
use collector::inbox::bigquery::access::BigQueryAccess;
use collector::inbox::{Inbox, Reach, Taken};
use collector::resolve::Timely;
use collector::tiers::warm::sqlite::SqliteWarm;
use collector::tiers::{SeriesInfo, TierError, WarmTier};
use serde_json::{Value, json};
use shared::reading::{Quality, Timestamp};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// 2026-03-01T10:00:00Z.
pub(crate) const START: i64 = 1_772_359_200 * SECOND;
pub(crate) const WIDE: &str = "columns = { flow = 'flow_rate [m3/h]', press = 'pressure' }";
const FIELDS: &str = "timestamp TIMESTAMP, node_id STRING, flow FLOAT, press NUMERIC, note STRING";

const FILE: &str = "warm.sqlite";

/// What becomes of a flush.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    Never,
    /// The nth is not committed, and none after it.
    Before(u32),
    /// The nth is committed, but nobody learns of it, and none after it.
    After(u32),
}

pub(crate) struct World<'a> {
    pub(crate) server: &'a BigQuery,
    pub(crate) meddler: Meddler,
    pub(crate) dataset: String,
    pub(crate) warm: Arc<dyn WarmTier>,
    folder: tempfile::TempDir,
}

impl<'a> World<'a> {
    /// With a dataset, and a wide table `readings` in it that is partitioned by day.
    pub(crate) async fn new(server: &'a BigQuery) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let warm = Arc::new(SqliteWarm::open(&folder.path().join(FILE)).await.unwrap());
        let (meddler, dataset) = (Meddler::start(server.port).await, server.dataset().dataset);
        let reference = json!({ "projectId": "test", "datasetId": dataset });
        server.post("datasets", json!({ "datasetReference": reference, "location": "EU" })).await;
        let world = Self { server, meddler, dataset, warm, folder };
        world.table("readings", FIELDS, true).await;
        world
    }

    pub(crate) async fn table(&self, name: &str, fields: &str, is_partitioned: bool) {
        let field = |field: &str| {
            let (name, kind) = field.split_once(' ').unwrap();
            json!({ "name": name, "type": kind })
        };
        let fields: Vec<Value> = fields.split(", ").map(field).collect();
        let reference = json!({ "projectId": "test", "datasetId": self.dataset, "tableId": name });
        let mut table = json!({ "tableReference": reference, "schema": { "fields": fields } });
        if is_partitioned {
            table["timePartitioning"] = json!({ "type": "DAY", "field": "timestamp" });
        }
        self.server.post(&format!("datasets/{}/tables", self.dataset), table).await;
    }

    pub(crate) async fn insert(&self, table: &str, rows: &str) {
        self.server.run(&format!("INSERT INTO `test.{}.{table}` VALUES {rows}", self.dataset)).await;
    }

    /// A row of the collector's own inbox.
    pub(crate) async fn own(&self, row: &str) {
        let sql = format!("INSERT INTO inbox (node, metric, ts, value) VALUES {row}");
        let mut other = SqliteConnectOptions::new().filename(self.folder.path().join(FILE)).connect().await.unwrap();
        other.execute(AssertSqlSafe(sql)).await.unwrap();
    }

    pub(crate) fn access(&self) -> BigQueryAccess {
        let endpoint = Some(format!("http://127.0.0.1:{}", self.meddler.port));
        BigQueryAccess { endpoint, ..BigQueryAccess::default() }
    }

    /// `[[inbox]]` of a table of the dataset.
    pub(crate) fn mapped(&self, table: &str, more: &str) -> String {
        format!("name = 'far'\ndatabase = 'bigquery'\ntable = 'test.{}.{table}'\n{more}", self.dataset)
    }

    /// An inbox of the wide table, a day after the start.
    pub(crate) fn wide(&self) -> Inbox {
        self.inbox(&self.mapped("readings", WIDE), Stop::Never)
    }

    pub(crate) fn inbox(&self, table: &str, stop: Stop) -> Inbox {
        let grants: Grants = toml::from_str("inbox = ['DIST_*']\nfar = ['PUMP_*']").unwrap();
        let (into, count) = (self.warm.clone(), Arc::new(AtomicU32::new(0)));
        let write: Write = Arc::new(move |flush| {
            let (into, count) = (into.clone(), count.fetch_add(1, Ordering::Relaxed) + 1);
            let lost = || TierError::Unavailable { tier: "test", why: "stopped".into() };
            Box::pin(async move {
                match stop {
                    Stop::Before(n) if count >= n => Err(lost()),
                    Stop::After(n) if count > n => Err(lost()),
                    Stop::After(n) if count == n => into.commit(flush).await.and(Err(lost())),
                    _ => into.commit(flush).await,
                }
            })
        });
        let timely = Timely { future_max: Duration::from_secs(600), late_after: Duration::from_secs(900) };
        let now = Arc::new(|| Timestamp(START + 86_400 * SECOND));
        let tables = vec![toml::from_str(table).unwrap()];
        Inbox::new((self.warm.clone(), None), write, grants, tables, timely, now).with_bigquery(self.access())
    }

    /// Values of a series, by seconds since the start.
    pub(crate) async fn values(&self, name: &str) -> Vec<(i64, f64)> {
        let id = self.series(name).await.id;
        let rows = self.warm.range(id, Timestamp(0), Timestamp(i64::MAX), u32::MAX).await.unwrap();
        assert!(rows.iter().all(|row| row.held.quality == Quality::GOOD), "{rows:?}");
        rows.iter().map(|row| ((row.at.0 - START) / SECOND, row.held.value.unwrap())).collect()
    }

    pub(crate) async fn series(&self, name: &str) -> SeriesInfo {
        let all = self.warm.series(None).await.unwrap();
        all.into_iter().find(|series| series.key.to_string() == name).unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// Whether a row is listed for that reason.
    pub(crate) async fn rejects(&self, why: &str, row: &str) -> bool {
        let all = self.warm.inbox().rejected(1_000).await.unwrap();
        all.iter().any(|one| one.reason.contains(why) && one.text.starts_with(row))
    }

    /// The jobs that were begun since the last time, without their estimates.
    pub(crate) fn jobs(&self, before: &mut usize) -> Vec<Value> {
        let bodies = self.meddler.bodies("/bigquery/v2/projects/test/jobs");
        let jobs =
            bodies.iter().skip(std::mem::replace(before, bodies.len())).map(|body| serde_json::from_str(body).unwrap());
        jobs.filter(|job: &Value| job["configuration"]["dryRun"] != true).collect()
    }
}

pub(crate) async fn take(inbox: &Inbox, reach: Reach) -> Taken {
    inbox.take(reach, &Progress::default()).await
}
