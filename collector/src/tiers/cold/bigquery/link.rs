//! Requests that are tried again while that can help, and what is asked of tables.

use super::fault::Fault;
use super::login::log_in;
use super::settings::BigQuerySettings;
use crate::tiers::cold::guarded::alive;
use gcp_bigquery_client::Client;
use gcp_bigquery_client::auth::Authenticator;
use gcp_bigquery_client::client_builder::ClientBuilder;
use gcp_bigquery_client::model::dataset::Dataset;
use gcp_bigquery_client::model::table::Table;
use gcp_bigquery_client::model::table_row::TableRow;
use gcp_bigquery_client::tabledata::ListQueryParameters;
use shared::backoff::Backoff;
use std::sync::Arc;
use std::time::Duration;

/// How often a request is made at most.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a request may wait for a job to end: who waits for its rows hears more often that BigQuery is there.
pub(super) const LONG_POLL: Duration = Duration::from_secs(3);

/// A way to BigQuery.
pub(crate) struct Link {
    pub(crate) settings: Arc<BigQuerySettings>,
    pub(super) client: Client,
    pub(super) http: reqwest::Client,
    pub(super) login: Arc<dyn Authenticator>,
}

impl Link {
    /// Reads the credentials; nobody is asked yet.
    pub(crate) async fn open(settings: &Arc<BigQuerySettings>) -> Result<Self, Fault> {
        let login = log_in(settings).await.map_err(|error| Fault::Denied(error.to_string()))?;
        let http = reqwest::Client::builder().connect_timeout(CONNECT).timeout(settings.timeout.0 + LONG_POLL);
        let http = http.build().map_err(Fault::of_request)?;
        let client = ClientBuilder::new()
            .with_client(http.clone())
            .with_v2_base_url(format!("{}/bigquery/v2", settings.endpoint()))
            .build_from_authenticator(login.clone())
            .await?;
        Ok(Self { settings: settings.clone(), client, http, login })
    }

    /// A table's name in a statement.
    pub(super) fn quoted(&self, table: &str) -> String {
        format!("`{}.{}.{table}`", self.settings.project, self.settings.dataset)
    }

    /// Asks again, with pauses, while the fault is one that passes. `ask` is told how often it was asked before.
    pub(super) async fn persist<T, F>(&self, ask: impl Fn(u32) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        for before in 0.. {
            match Box::pin(ask(before)).await {
                Err(Fault::Passing(why)) if before + 1 == TRIES => return Err(Fault::Lasting(why)),
                Err(Fault::Passing(why)) => {
                    tracing::debug!(why, "BigQuery is asked again");
                    tokio::time::sleep(backoff.pause()).await;
                }
                answered => {
                    alive();
                    return answered;
                }
            }
        }
        Err(Fault::Other("it was never asked".into()))
    }

    pub(super) async fn dataset(&self) -> Result<Option<Dataset>, Fault> {
        let BigQuerySettings { project, dataset, .. } = &*self.settings;
        there(self.persist(|_| async { Ok(self.client.dataset().get(project, dataset).await?) }).await)
    }

    pub(super) async fn make_dataset(&self) -> Result<(), Fault> {
        let BigQuerySettings { project, dataset, location, .. } = &*self.settings;
        let wanted = Dataset::new(project, dataset).location(location);
        made(self.persist(|_| async { Ok(self.client.dataset().create(wanted.clone()).await?) }).await)
    }

    pub(super) async fn table(&self, name: &str) -> Result<Option<Table>, Fault> {
        let BigQuerySettings { project, dataset, .. } = &*self.settings;
        there(self.describe(project, dataset, name).await)
    }

    /// What a table is, of whatever project.
    pub(crate) async fn describe(&self, project: &str, dataset: &str, name: &str) -> Result<Table, Fault> {
        self.persist(|_| async { Ok(self.client.table().get(project, dataset, name, None).await?) }).await
    }

    pub(super) async fn make_table(&self, table: &Table) -> Result<(), Fault> {
        made(self.persist(|_| async { Ok(self.client.table().create(table.clone()).await?) }).await)
    }

    pub(super) async fn drop_table(&self, name: &str) -> Result<(), Fault> {
        let BigQuerySettings { project, dataset, .. } = &*self.settings;
        self.persist(|_| async { Ok(self.client.table().delete(project, dataset, name).await?) }).await
    }

    /// All rows of a small table. Nothing is billed for them.
    pub(super) async fn list(&self, table: &str) -> Result<Vec<TableRow>, Fault> {
        let BigQuerySettings { project, dataset, .. } = &*self.settings;
        let mut rows = Vec::new();
        let mut page_token = None;
        loop {
            let parameters = |page_token| ListQueryParameters {
                start_index: None,
                max_results: None,
                page_token,
                selected_fields: None,
                format_options: None,
            };
            let (data, token) = (self.client.tabledata(), &page_token);
            let page = self
                .persist(|_| async { Ok(data.list(project, dataset, table, parameters(token.clone())).await?) })
                .await?;
            rows.extend(page.rows.unwrap_or_default());
            page_token = page.page_token.filter(|token| !token.is_empty());
            if page_token.is_none() {
                return Ok(rows);
            }
        }
    }
}

fn there<T>(answer: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match answer {
        Err(Fault::Missing(_)) => Ok(None),
        answer => answer.map(Some),
    }
}

fn made<T>(answer: Result<T, Fault>) -> Result<(), Fault> {
    match answer {
        Ok(_) | Err(Fault::Exists) => Ok(()),
        Err(fault) => Err(fault),
    }
}
