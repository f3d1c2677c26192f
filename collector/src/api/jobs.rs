//! Jobs: what there is, what came of them, and starting one.

use super::document::{Conflict, NotFound};
use super::extract::Named;
use super::origin::same_origin;
use super::parameters::{Job as OfJob, Page};
use super::params::{List, Params};
use super::routes::Answered;
use super::{Api, Problem};
use crate::access::Principal;
use crate::etl::RunRefused;
use crate::etl::store::{JobRun, RunNo};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use serde::Serialize;
use shared::reading::Timestamp;
use utoipa::ToSchema;

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

/// A job.
#[derive(Serialize, ToSchema)]
pub(super) struct Job {
    /// Its name.
    job: &'static str,
    /// What it does, in words.
    what: &'static str,
    /// When it is due; null when it isn't by itself.
    schedule: Option<String>,
    /// When it is next.
    next: Option<Timestamp>,
    /// Its newest run.
    last: Option<JobRun>,
}

/// Jobs
///
/// The regular work: what there is, when it is next, and what came of it last.
#[utoipa::path(get, path = "/api/v1/jobs", operation_id = "jobs", tag = "Operations",
    responses((status = 200, body = List<Job>, description = "The jobs.")))]
pub(super) async fn list(State(api): State<Api>) -> Answered<List<Job>> {
    let mut items = Vec::new();
    for planned in api.sources.jobs.planned() {
        let job = planned.job.name();
        items.push(Job {
            job,
            what: planned.job.what(),
            schedule: planned.schedule.as_ref().map(ToString::to_string),
            next: api.sources.jobs.next(planned),
            last: api.sources.jobs.runs(Some(job), 1).await?.pop(),
        });
    }
    Ok(Json(List::whole(items)))
}

/// Runs of jobs
///
/// What came of jobs, the newest first.
#[utoipa::path(get, path = "/api/v1/jobs/runs", tag = "Operations", params(OfJob, Page::<RUNS, RUNS_MAX>),
    responses((status = 200, body = List<JobRun>, description = "The runs."), NotFound))]
pub(super) async fn runs(State(api): State<Api>, params: Params) -> Answered<List<JobRun>> {
    let page = params.page(RUNS, RUNS_MAX)?;
    Ok(Json(page.of(api.sources.jobs.runs(params.text("job"), page.needed()).await?)))
}

/// A run that has begun.
#[derive(Serialize, ToSchema)]
pub(super) struct Begun {
    /// Of which job.
    job: String,
    /// Its number.
    run: RunNo,
}

/// Start a job
///
/// Begins a run now, and notes in the audit who wanted it. How far it is shows in `/api/v1/jobs/runs`.
#[utoipa::path(post, path = "/api/v1/jobs/{name}/run", operation_id = "start_job", tag = "Operations",
    params(("name" = String, Path, description = "The job's name.", max_length = 64, example = "data_quality")),
    responses((status = 202, body = Begun, description = "It has begun."), NotFound, Conflict))]
pub(super) async fn start(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    Named(job): Named<String>,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<Begun>), Problem> {
    same_origin(&headers)?;
    let run = api.sources.jobs.start_for(&who.name, &job).await?;
    Ok((StatusCode::ACCEPTED, Json(Begun { job, run })))
}
