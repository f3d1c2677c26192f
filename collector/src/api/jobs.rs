//! Jobs: what there is, what came of them, and starting one.

use super::origin::same_origin;
use super::params::Params;
use super::{Api, Problem};
use crate::etl::RunRefused;
use crate::etl::store::JobRun;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Runs in a list when the request doesn't say how many, and at most.
const RUNS: u32 = 50;
const RUNS_MAX: u32 = 2_000;

impl From<RunRefused> for Problem {
    fn from(error: RunRefused) -> Self {
        match error {
            RunRefused::Unknown { .. } => Problem::unknown(error.to_string()),
            RunRefused::Running(_) => Problem::conflict(error.to_string()),
            RunRefused::Tier(error) => error.into(),
        }
    }
}

fn view(run: &JobRun) -> Value {
    json!(run)
}

pub(super) async fn list(State(api): State<Api>, params: Params) -> Result<Json<Value>, Problem> {
    params.only(&[])?;
    let mut last = HashMap::new();
    for planned in api.sources.jobs.planned() {
        let name = planned.job.name();
        last.insert(name, api.sources.jobs.runs(Some(name), 1).await?.pop());
    }
    let job = |planned: &crate::etl::Planned| {
        let name = planned.job.name();
        json!({
            "job": name,
            "what": planned.job.what(),
            "schedule": planned.schedule.as_ref().map(ToString::to_string),
            "next": api.sources.jobs.next(planned),
            "last": last.get(name).and_then(Option::as_ref).map(view),
        })
    };
    let items: Vec<Value> = api.sources.jobs.planned().iter().map(job).collect();
    Ok(Json(json!({ "items": items, "truncated": false })))
}

pub(super) async fn runs(State(api): State<Api>, params: Params) -> Result<Json<Value>, Problem> {
    let params = params.only(&["job", "limit"])?;
    let limit = params.limit(RUNS, RUNS_MAX)?;
    let mut runs = api.sources.jobs.runs(params.text("job"), limit + 1).await?;
    let truncated = runs.len() > limit as usize;
    runs.truncate(limit as usize);
    Ok(Json(json!({ "items": runs.iter().map(view).collect::<Vec<_>>(), "truncated": truncated })))
}

/// 202: it has begun; how far it is shows in the list.
pub(super) async fn start(
    State(api): State<Api>,
    Path(name): Path<String>,
    headers: HeaderMap,
    params: Params,
) -> Result<(StatusCode, Json<Value>), Problem> {
    params.only(&[])?;
    same_origin(&headers)?;
    let run = api.sources.jobs.start(&name).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "job": name, "run": run }))))
}
