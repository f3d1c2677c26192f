//! What `/metrics` says beyond the counts of this process: how fresh each node is, and how each job's last run ended.

use super::Api;
use crate::etl::store::Status;
use shared::ids::NodeId;
use shared::reading::Timestamp;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What can be had of it now.
pub(super) async fn figures(api: &Api) -> String {
    let mut text = String::new();
    if let Some(nodes) = newest(api).await {
        let now = (api.sources.now)();
        text += "# HELP collector_node_age_seconds How old the newest reading of a node is.\n# TYPE collector_node_age_seconds gauge\n";
        for (node, at) in nodes {
            let age = now.since(at).max(0) as f64 / 1e6;
            let _ = writeln!(text, "collector_node_age_seconds{{node=\"{node}\"}} {age}");
        }
    }
    if let Ok(runs) = api.sources.jobs.last().await {
        text += "# HELP collector_job_last_ok Whether the last run of a job that ended was done, by any collector.\n# TYPE collector_job_last_ok gauge\n";
        for (job, run) in runs {
            let _ = writeln!(text, "collector_job_last_ok{{job=\"{job}\"}} {}", u8::from(run.status == Status::Done));
        }
    }
    text
}

/// When each node that has readings was heard of last.
async fn newest(api: &Api) -> Option<BTreeMap<NodeId, Timestamp>> {
    let known = api.directory.get().await.ok()?;
    let ids: Vec<_> = known.all().iter().map(|series| series.id).collect();
    let (readings, _) = api.history.latest(&ids).await.ok()?;
    let mut newest = BTreeMap::new();
    for reading in readings {
        let node = &known.one(reading.series)?.key.node;
        let at = newest.entry(node.clone()).or_insert(reading.at);
        *at = reading.at.max(*at);
    }
    Some(newest)
}
