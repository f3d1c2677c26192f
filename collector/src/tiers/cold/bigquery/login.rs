//! Who we are to Google: a key file, what the environment has, or nobody at an endpoint that asks for nothing.

use super::settings::BigQuerySettings;
use gcp_bigquery_client::auth::Authenticator;
use gcp_bigquery_client::error::BQError;
use gcp_bigquery_client::yup_oauth2::authenticator::{ApplicationDefaultCredentialsTypes, Authenticator as Account};
use gcp_bigquery_client::yup_oauth2::{
    self as oauth, ApplicationDefaultCredentialsAuthenticator, ApplicationDefaultCredentialsFlowOpts,
    AuthorizedUserAuthenticator, DefaultHyperClientBuilder, ExternalAccountAuthenticator, HyperClientBuilder,
    ServiceAccountAuthenticator,
};
use serde::Deserialize;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SCOPES: [&str; 1] = ["https://www.googleapis.com/auth/bigquery"];

type Someone = Account<<DefaultHyperClientBuilder as HyperClientBuilder>::Connector>;

/// Gives tokens, and new ones before they end.
#[derive(Clone)]
struct Login(Someone);

/// For an endpoint that asks for nothing.
#[derive(Clone)]
struct Nobody;

type Token<'a> = std::pin::Pin<Box<dyn Future<Output = Result<String, BQError>> + Send + 'a>>;

impl Authenticator for Login {
    fn access_token<'a, 'f>(&'a self) -> Token<'f>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let token = self.0.token(&SCOPES).await?;
            token.token().map(str::to_owned).ok_or(BQError::NoToken)
        })
    }
}

impl Authenticator for Nobody {
    fn access_token<'a, 'f>(&'a self) -> Token<'f>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(std::future::ready(Ok("nobody".to_owned())))
    }
}

/// Takes what the settings or the environment have; nobody is asked yet.
///
/// # Errors
/// With the file, when it can't be read or has no credentials in it.
pub(super) async fn log_in(settings: &BigQuerySettings) -> io::Result<Arc<dyn Authenticator>> {
    if settings.credentials_file.is_none() && settings.endpoint.is_some() {
        return Ok(Arc::new(Nobody));
    }
    let account = match settings.credentials_file.clone().or_else(of_the_environment) {
        Some(file) => {
            let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", file.display()));
            of_file(&file).await.map_err(named)?
        }
        None => of_the_machine().await?,
    };
    Ok(Arc::new(Login(account)))
}

/// Where Application Default Credentials lie, when they are a file.
fn of_the_environment() -> Option<PathBuf> {
    let said = std::env::var_os("GOOGLE_APPLICATION_CREDENTIALS").filter(|path| !path.is_empty());
    let gcloud = || {
        let home = PathBuf::from(std::env::var_os("HOME")?);
        Some(home.join(".config/gcloud/application_default_credentials.json")).filter(|path| path.exists())
    };
    said.map(PathBuf::from).or_else(gcloud)
}

async fn of_file(file: &Path) -> io::Result<Someone> {
    #[derive(Deserialize)]
    struct Kind {
        r#type: String,
    }
    let text = tokio::fs::read(file).await?;
    // What is wrong in it is not shown: it is a secret.
    let foreign = |_| io::Error::new(io::ErrorKind::InvalidData, "has no credentials of Google in it");
    let Kind { r#type: kind } = serde_json::from_slice(&text).map_err(foreign)?;
    match kind.as_str() {
        "service_account" => {
            ServiceAccountAuthenticator::builder(serde_json::from_slice(&text).map_err(foreign)?).build().await
        }
        "authorized_user" => {
            AuthorizedUserAuthenticator::builder(oauth::read_authorized_user_secret(file).await?).build().await
        }
        "external_account" => {
            ExternalAccountAuthenticator::builder(oauth::read_external_account_secret(file).await?).build().await
        }
        other => Err(io::Error::new(io::ErrorKind::InvalidData, format!("credentials of type {other:?} aren't known"))),
    }
}

/// The account of a machine in Google's cloud.
async fn of_the_machine() -> io::Result<Someone> {
    match ApplicationDefaultCredentialsAuthenticator::builder(ApplicationDefaultCredentialsFlowOpts::default()).await {
        ApplicationDefaultCredentialsTypes::InstanceMetadata(account) => account.build().await,
        ApplicationDefaultCredentialsTypes::ServiceAccount(account) => account.build().await,
    }
}
