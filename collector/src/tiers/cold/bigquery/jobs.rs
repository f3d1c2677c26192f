//! Jobs: statements and loads. Each has a name that we give, so that a request whose answer was lost is not done twice;
//! only a job that failed is begun again, under the next name. What nobody waits for any more is cancelled.

use super::fault::Fault;
use super::link::{LONG_POLL, Link};
use super::settings::BigQuerySettings;
use super::table;
use bytes::Bytes;
use futures::stream::{BoxStream, try_unfold};
use gcp_bigquery_client::job::JobApi;
use gcp_bigquery_client::model::get_query_results_parameters::GetQueryResultsParameters;
use gcp_bigquery_client::model::job::Job;
use gcp_bigquery_client::model::job_configuration::JobConfiguration;
use gcp_bigquery_client::model::job_configuration_load::JobConfigurationLoad;
use gcp_bigquery_client::model::job_configuration_query::JobConfigurationQuery;
use gcp_bigquery_client::model::job_reference::JobReference;
use gcp_bigquery_client::model::table_reference::TableReference;
use gcp_bigquery_client::model::table_row::TableRow;
use shared::backoff::Backoff;
use shared::ids::StreamId;
use std::sync::Arc;
use std::time::Duration;

/// Rows that are in memory at once.
const PAGE_ROWS: i32 = 50_000;
/// What changes something may take so many times as long as a question.
const PATIENCE: u32 = 10;

/// Some rows of an answer.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) rows: Vec<TableRow>,
    job: String,
    next: Option<String>,
}

impl Link {
    /// Asks a question; all of its rows, page by page.
    pub(crate) fn ask(&self, sql: String) -> BoxStream<'_, Result<Vec<TableRow>, Fault>> {
        enum At {
            Begin(String),
            Next(String, String),
            End,
        }
        Box::pin(try_unfold(At::Begin(sql), move |at| async move {
            let page = match at {
                At::Begin(sql) => {
                    let name = format!("collector_{:016x}", StreamId::random().0);
                    self.within(self.settings.timeout.0, self.statement(&name, &sql, 1)).await?
                }
                At::Next(job, token) => self.page(&job, Some(token)).await?,
                At::End => return Ok(None),
            };
            let next = page.next.map_or(At::End, |token| At::Next(page.job, token));
            Ok(Some((page.rows, next)))
        }))
    }

    /// Changes something, under a name that is never used for anything else.
    pub(super) async fn change(&self, name: &str, sql: &str) -> Result<(), Fault> {
        self.within(self.settings.timeout.0 * PATIENCE, self.statement(name, sql, PATIENCE)).await.map(drop)
    }

    /// Puts Parquet into an empty table, under a name that is never used for anything else.
    pub(super) async fn load(&self, name: &str, table: &str, part: Vec<u8>) -> Result<(), Fault> {
        let (limit, part) = (self.settings.timeout.0 * PATIENCE, Bytes::from(part));
        let part = &part;
        let loaded = self.persist(|before| async move {
            let id = format!("{name}_{before}");
            let mut running = self.running(&id);
            let id = self.persist(|_| self.upload(&id, table, part, limit)).await?;
            self.ended(&id).await?;
            running.ended();
            Ok(())
        });
        self.within(limit, loaded).await
    }

    async fn within<T>(&self, limit: Duration, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        tokio::time::timeout(limit, work).await.unwrap_or(Err(Fault::Slow(limit)))
    }

    async fn statement(&self, name: &str, sql: &str, patience: u32) -> Result<Page, Fault> {
        self.estimate(sql).await?;
        self.persist(|before| async move {
            let id = format!("{name}_{before}");
            let mut running = self.running(&id);
            let limit = self.settings.timeout.0 * patience;
            match self.begin(self.query(sql, Some(&id), limit)).await {
                Ok(job) => failed(&job)?,
                // It was begun, but we weren't told.
                Err(Fault::Exists) => {}
                Err(fault) => return Err(fault),
            }
            let page = match self.page(&id, None).await {
                Err(fault @ Fault::Lasting(_)) => return Err(self.better(&id, fault).await),
                page => page?,
            };
            running.ended();
            Ok(page)
        })
        .await
    }

    /// What a question would be billed for, before it is asked.
    async fn estimate(&self, sql: &str) -> Result<(), Fault> {
        let mut job = self.query(sql, None, self.settings.timeout.0);
        job.configuration.iter_mut().for_each(|configuration| configuration.dry_run = Some(true));
        let job = self.begin(job).await?;
        failed(&job)?;
        let of_query = |job: Box<Job>| {
            let statistics = job.statistics?;
            statistics.total_bytes_processed.or_else(|| statistics.query?.total_bytes_processed)
        };
        match of_query(job).and_then(|bytes| bytes.parse().ok()) {
            Some(bytes) if bytes > self.settings.bytes_max.as_u64() => Err(Fault::Dear(bytes)),
            _ => Ok(()),
        }
    }

    fn reference(&self, id: Option<&str>) -> JobReference {
        let BigQuerySettings { project, location, .. } = &*self.settings;
        JobReference {
            job_id: id.map(str::to_owned),
            location: Some(location.clone()),
            project_id: Some(project.clone()),
        }
    }

    fn query(&self, sql: &str, id: Option<&str>, limit: Duration) -> Box<Job> {
        let query = JobConfigurationQuery {
            query: sql.to_owned(),
            use_legacy_sql: Some(false),
            maximum_bytes_billed: Some(self.settings.bytes_max.as_u64().to_string()),
            ..JobConfigurationQuery::default()
        };
        let configuration = JobConfiguration {
            query: Some(query),
            job_timeout_ms: Some(limit.as_millis().to_string()),
            ..JobConfiguration::default()
        };
        let job_reference = Some(self.reference(id));
        Box::new(Job { configuration: Some(configuration), job_reference, ..Job::default() })
    }

    async fn begin(&self, job: Box<Job>) -> Result<Box<Job>, Fault> {
        let (project, job) = (&self.settings.project, &*job);
        self.persist(|_| async move { Ok(Box::new(self.client.job().insert(project, job.clone()).await?)) }).await
    }

    /// Waits until a statement has ended, and gives some of its rows.
    async fn page(&self, id: &str, token: Option<String>) -> Result<Page, Fault> {
        let parameters = &GetQueryResultsParameters {
            location: Some(self.settings.location.clone()),
            max_results: Some(PAGE_ROWS),
            page_token: token,
            timeout_ms: Some(LONG_POLL.as_millis() as i32),
            ..GetQueryResultsParameters::default()
        };
        let (project, jobs) = (&self.settings.project, self.client.job());
        loop {
            let answer = self
                .persist(|_| async move { Ok(jobs.get_query_results(project, id, parameters.clone()).await?) })
                .await?;
            if answer.job_complete == Some(true) {
                let next = answer.page_token.filter(|token| !token.is_empty());
                return Ok(Page { rows: answer.rows.unwrap_or_default(), job: id.to_owned(), next });
            }
        }
    }

    async fn job(&self, id: &str) -> Result<Box<Job>, Fault> {
        let BigQuerySettings { project, location, .. } = &*self.settings;
        self.persist(|_| async move { Ok(Box::new(self.client.job().get_job(project, id, Some(location)).await?)) })
            .await
    }

    /// A job that failed says better why it has no rows.
    async fn better(&self, id: &str, fault: Fault) -> Fault {
        match self.job(id).await {
            Ok(job) => failed(&job).err().unwrap_or(fault),
            Err(_) => fault,
        }
    }

    /// Waits until a load has ended.
    async fn ended(&self, id: &str) -> Result<(), Fault> {
        let mut pauses = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        loop {
            let job = self.job(id).await?;
            failed(&job)?;
            if job.status.and_then(|status| status.state).as_deref() == Some("DONE") {
                return Ok(());
            }
            tokio::time::sleep(pauses.pause()).await;
        }
    }

    /// Sends a load and its rows; gives under which name it was taken.
    async fn upload(&self, id: &str, table: &str, part: &Bytes, limit: Duration) -> Result<String, Fault> {
        let BigQuerySettings { project, dataset, .. } = &*self.settings;
        let load = JobConfigurationLoad {
            destination_table: Some(TableReference::new(project, dataset, table)),
            source_format: Some("PARQUET".into()),
            schema: Some(table::schema()),
            create_disposition: Some("CREATE_NEVER".into()),
            // Even a second load of the same rows doubles none.
            write_disposition: Some("WRITE_TRUNCATE".into()),
            ..JobConfigurationLoad::default()
        };
        let configuration = JobConfiguration {
            load: Some(load),
            job_timeout_ms: Some(limit.as_millis().to_string()),
            ..JobConfiguration::default()
        };
        let job =
            Job { configuration: Some(configuration), job_reference: Some(self.reference(Some(id))), ..Job::default() };
        let job = serde_json::to_string(&job).map_err(|error| Fault::Other(error.to_string()))?;
        let boundary = format!("part_{:016x}", StreamId::random().0);
        let head = format!(
            "--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{job}\r\n\
             --{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
        );
        let body = [head.as_bytes(), part, format!("\r\n--{boundary}--\r\n").as_bytes()].concat();
        let url = format!("{}/upload/bigquery/v2/projects/{project}/jobs", self.settings.endpoint());
        let request = self.http.post(url).query(&[("uploadType", "multipart")]).timeout(limit);
        let request = request.header("Content-Type", format!("multipart/related; boundary={boundary}"));
        let request = request.bearer_auth(self.login.access_token().await?).body(body);
        let answer = request.send().await.map_err(Fault::of_request)?;
        let status = answer.status().as_u16();
        let answer = answer.bytes().await.map_err(Fault::of_request)?;
        match refused(status, &answer) {
            None => {
                let job: Job = serde_json::from_slice(&answer).map_err(|error| Fault::Passing(error.to_string()))?;
                Ok(job.job_reference.and_then(|reference| reference.job_id).unwrap_or_else(|| id.to_owned()))
            }
            Some(Fault::Exists) => Ok(id.to_owned()),
            Some(fault) => Err(fault),
        }
    }

    /// Cancels a job unless it is told that it has ended.
    fn running(&self, id: &str) -> Running {
        let (settings, jobs) = (self.settings.clone(), self.client.job().clone());
        Running { settings, jobs, id: Some(id.to_owned()) }
    }
}

/// Why a job failed, when it did.
fn failed(job: &Job) -> Result<(), Fault> {
    match job.status.as_ref().and_then(|status| status.error_result.as_ref()) {
        Some(error) => Err(Fault::of_job(error)),
        None => Ok(()),
    }
}

/// What an answer to an upload says when it isn't a job.
fn refused(status: u16, answer: &[u8]) -> Option<Fault> {
    if (200..300).contains(&status) {
        return None;
    }
    let error = serde_json::from_slice::<serde_json::Value>(answer).unwrap_or_default();
    let (error, reason) = (&error["error"], &error["error"]["errors"][0]["reason"]);
    let why = error["message"].as_str().map_or_else(|| format!("HTTP status {status}"), str::to_owned);
    Some(Fault::of_answer(status, reason.as_str().unwrap_or_default(), why))
}

/// A job that somebody waits for.
struct Running {
    settings: Arc<BigQuerySettings>,
    jobs: JobApi,
    id: Option<String>,
}

impl Running {
    fn ended(&mut self) {
        self.id = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current()) else { return };
        let (settings, jobs) = (self.settings.clone(), self.jobs.clone());
        runtime.spawn(async move {
            let cancelled = jobs.cancel_job(&settings.project, &id, Some(&settings.location)).await;
            tracing::debug!(id, cancelled = cancelled.is_ok(), "nobody waits for a job of BigQuery any more");
        });
    }
}
