//! What can go wrong.

use crate::services::bigquery::BigQuery;
use crate::services::free_port;
use crate::services::meddler::Spoilt;
use crate::support::process;
use crate::world::{Stop, WIDE, World, take};
use collector::etl::jobs::realtime_sync::RealtimeSync;
use collector::etl::{Job, Progress};
use collector::inbox::Reach;
use std::sync::Arc;

const UNAVAILABLE: Spoilt = Spoilt::Refused(
    503,
    r#"{"error":{"code":503,"message":"the front end is away","errors":[],"status":"UNAVAILABLE"}}"#,
);
const DATASETS: &str = "/bigquery/v2/projects/test/datasets";
const QUERIES: &str = "/bigquery/v2/projects/test/queries";
const NODES: u32 = 4;
/// Rows of a node.
const ROWS: u32 = 30;
/// How often a request is made before it is given up.
const TRIES: usize = 4;

/// Every node's rows are a transaction of their own.
async fn filled(server: &BigQuery) -> World<'_> {
    let world = World::new(server).await;
    let rows = (0..ROWS).flat_map(|minute| (0..NODES).map(move |n| (minute, n)));
    let rows = rows.map(|(minute, n)| format!("('2026-03-01 10:{minute:02}:00+00', 'PUMP_{n}', NULL, {n}.5, '')"));
    world.insert("readings", &rows.collect::<Vec<_>>().join(", ")).await;
    world
}

async fn is_whole(world: &World<'_>) {
    for n in 0..NODES {
        let expected: Vec<_> = (0..ROWS).map(|minute| (i64::from(minute) * 60, f64::from(n) + 0.5)).collect();
        assert_eq!(world.values(&format!("PUMP_{n}/pressure")).await, expected);
    }
}

pub(crate) async fn whatever_is_stopped_when_every_row_is_there_once(server: &BigQuery) {
    for stop in [Stop::Before(1), Stop::Before(3), Stop::After(1), Stop::After(3), Stop::After(NODES)] {
        let world = filled(server).await;
        let stopped = take(&world.inbox(&world.mapped("readings", WIDE), stop), Reach::Short).await;
        assert!(stopped.failed[0].contains("stopped"), "{stopped:?}");
        let (Stop::Before(n) | Stop::After(n)) = stop else { panic!("never") };
        let committed = n - u32::from(matches!(stop, Stop::Before(_)));
        assert_eq!(world.warm.inbox().marks(&"far".parse().unwrap()).await.unwrap().len(), committed as usize);
        let rest = take(&world.wide(), Reach::Short).await;
        assert_eq!((rest.stored, rest.failed.len()), (u64::from((NODES - committed) * ROWS), 0), "{stop:?}: {rest:?}");
        is_whole(&world).await;
        assert_eq!(take(&world.wide(), Reach::Long).await.stored, 0);
    }
    // Rows that were asked for and never came.
    let world = filled(server).await;
    world.meddler.spoil("GET", QUERIES, "", 1, Spoilt::Cut);
    assert_eq!(take(&world.wide(), Reach::Short).await.failed.len(), 0, "they are asked for again");
    is_whole(&world).await;
}

pub(crate) async fn while_bigquery_is_away_other_inboxes_go_on(server: &BigQuery) {
    let world = filled(server).await;
    world.meddler.spoil("GET", DATASETS, "", TRIES, UNAVAILABLE);
    world.own("('DIST_001', 'level', '2026-03-01T10:00:00Z', 3)").await;
    let job = RealtimeSync { inbox: Arc::new(world.wide()) };
    let failed = job.run(&Progress::default()).await.unwrap_err().to_string();
    let place = format!("inbox.far: BigQuery is not available: http://127.0.0.1:{}", world.meddler.port);
    assert!(failed.contains(&place) && failed.contains("the front end is away"), "{failed}");
    assert!(failed.contains("otherwise: 1 readings from 1 rows"), "{failed}");
    assert_eq!(world.values("DIST_001/level").await, [(0, 3.0)]);
    assert!(world.meddler.is_done());
    let done = job.run(&Progress::default()).await.unwrap();
    assert_eq!(done.rows, u64::from(NODES * ROWS), "{}", done.detail);
    is_whole(&world).await;
}

pub(crate) async fn every_question_is_bounded_and_only_asks(server: &BigQuery) {
    let world = filled(server).await;
    take(&world.wide(), Reach::Short).await;
    take(&world.wide(), Reach::Short).await;
    let jobs = world.jobs(&mut 0);
    assert_eq!(jobs.len(), 5, "{jobs:?}");
    for job in &jobs {
        let (query, limit) = (&job["configuration"]["query"], &job["configuration"]["jobTimeoutMs"]);
        assert_eq!(query["maximumBytesBilled"], (10_u64 << 30).to_string());
        assert_eq!((limit.as_str(), job["jobReference"]["location"].as_str()), (Some("60000"), Some("EU")));
        let sql = query["query"].as_str().unwrap();
        assert!(sql.starts_with("SELECT ") && sql.contains("`timestamp` >= TIMESTAMP '"), "{sql}");
    }
    let last = jobs.last().unwrap()["configuration"]["query"]["query"].as_str().unwrap();
    assert!(
        last.contains("`timestamp` >= TIMESTAMP '2026-03-01 08:29:00+00'"),
        "two hours before what was read: {last}"
    );
}

pub(crate) async fn check_names_what_is_wrong(server: &BigQuery) {
    let world = World::new(server).await;
    world.table("whole", "timestamp TIMESTAMP, node_id STRING, flow FLOAT, press STRING", false).await;
    let said = async |endpoint: u16, tables: &[(&str, &str, &str)]| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("collector.toml");
        let mut text = format!(
            "data_dir = '{}'\n[bigquery]\nendpoint = 'http://127.0.0.1:{endpoint}'\n[grants]\nfar = ['*']\na = ['*']\nb = ['*']\nc = ['*']\nd = ['*']\n",
            folder.path().display()
        );
        for (name, table, more) in tables {
            text += &format!("[[inbox]]\n{}\n", world.mapped(table, more).replace("'far'", &format!("'{name}'")));
        }
        std::fs::write(&path, text).unwrap();
        let run = move || process::collector(&["check", "-c", path.to_str().unwrap()]);
        let checked = tokio::task::spawn_blocking(run).await.unwrap();
        drop(folder);
        String::from_utf8(checked.stdout).unwrap()
    };
    let all = [
        ("far", "readings", WIDE),
        ("a", "gone", WIDE),
        ("b", "readings", "quality = 'flag'\ncolumns = { flow = 'flow_rate' }"),
        ("c", "whole", WIDE),
        ("d", "readings", "time = 'node_id'\ncolumns = { flow = 'flow_rate' }"),
    ];
    let looked = said(world.meddler.port, &all).await;
    let dataset = &world.dataset;
    for wanted in [
        format!("far: table test.{dataset}.readings is read\n"),
        "inbox.a.table: ".into(),
        format!("inbox.b.quality: test.{dataset}.readings has no column flag"),
        format!("c: table test.{dataset}.whole is read; it isn't partitioned by timestamp"),
        "inbox.d.time: column node_id is STRING, and must be TIMESTAMP or DATETIME".into(),
    ] {
        assert!(looked.contains(&wanted), "{wanted}: {looked}");
    }
    assert!(looked.contains("gone"), "{looked}");
    let away = said(free_port(), &all[..1]).await;
    assert!(away.contains("far can't be looked at: BigQuery is not available"), "{away}");
    assert!(away.contains("would be read"), "{away}");
}
