//! `[cold]`: which archive, and where it lies. The reference's environment variables (`BIGQUERY_PROJECT_ID`,
//! `BIGQUERY_DATASET_ID`, `BIGQUERY_LOCATION`) go before the file.

use super::bigquery::BigQueryCold;
use super::bigquery::settings::BigQuerySettings;
use super::clouds::{self, Address, Opened};
use super::parquet::ParquetCold;
use crate::config::Mistakes;
use crate::tiers::{ColdTier, TierError};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `[cold]`
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColdSettings {
    /// What whole days are kept in; default: `bigquery` when `BIGQUERY_PROJECT_ID` is set, else `parquet`.
    pub store: Option<Store>,
    /// Parquet: the folder of the files; default `<data_dir>/cold`.
    pub folder: Option<PathBuf>,
    /// Or where they lie in an object store: `s3://bucket/prefix`, `gs://…`, `az://…`.
    pub url: Option<String>,
    /// Object store: a server of one's own that speaks like that cloud; default: the cloud itself.
    pub endpoint: Option<String>,
    /// Object store: that server may be asked without TLS.
    pub allow_http: bool,
    /// Object store: file with credentials, `NAME=value` as in the environment, or a key of Google's.
    pub credentials_file: Option<PathBuf>,
    /// BigQuery: which table, and how it is reached.
    pub bigquery: BigQuerySettings,
}

/// Which cold tier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// Files, in a folder or an object store.
    Parquet,
    /// A table in Google's BigQuery.
    BigQuery,
}

impl ColdSettings {
    /// Puts what the environment says in the place of what the file says.
    pub fn apply_environment(&mut self, variable: impl Fn(&str) -> Option<String>) {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        if let Some(project) = set("BIGQUERY_PROJECT_ID") {
            self.bigquery.project = project;
            self.store = self.store.or(Some(Store::BigQuery));
        }
        for (name, place) in
            [("BIGQUERY_DATASET_ID", &mut self.bigquery.dataset), ("BIGQUERY_LOCATION", &mut self.bigquery.location)]
        {
            if let Some(value) = set(name) {
                *place = value;
            }
        }
    }

    /// Which cold tier it is.
    #[must_use]
    pub fn store(&self) -> Store {
        self.store.unwrap_or(Store::Parquet)
    }

    /// Its place in words; the same words are the same place. Without a word on where its files lie: `folder`.
    #[must_use]
    pub fn place(&self, folder: &Path) -> String {
        let in_folder = || self.folder.as_deref().unwrap_or(folder).display().to_string();
        match self.store() {
            Store::Parquet => self.url.clone().unwrap_or_else(in_folder),
            Store::BigQuery => self.bigquery.place(),
        }
    }

    /// Opens the archive; without a word on where its files lie, in `folder`. Nothing far away is asked yet.
    ///
    /// # Errors
    /// When the folder can't be made, or what is said of the object store can't be used.
    pub fn open(&self, folder: &Path) -> Result<Arc<dyn ColdTier>, TierError> {
        match self.store() {
            Store::Parquet => Ok(self.open_files(folder)?),
            Store::BigQuery => Ok(Arc::new(BigQueryCold::new(&self.bigquery))),
        }
    }

    /// Opens an archive of Parquet files; without a word on where it lies, in `folder`. An object store isn't asked for
    /// anything yet.
    ///
    /// # Errors
    /// When the folder can't be made, or what is said of the object store can't be used.
    pub fn open_files(&self, folder: &Path) -> Result<Arc<ParquetCold>, TierError> {
        let Some(url) = &self.url else {
            return Ok(Arc::new(ParquetCold::in_folder(self.folder.as_deref().unwrap_or(folder))?));
        };
        let Opened { store, trusted } = self.bucket(url).map_err(unusable)?;
        Ok(Arc::new(ParquetCold::on(store, url, trusted)))
    }

    /// Whether it lies where each byte is paid for.
    #[must_use]
    pub fn is_in_a_cloud(&self) -> bool {
        self.store() == Store::BigQuery || self.url.is_some()
    }

    /// Whether the object store can be written, read, listed, and cleared; always so without one.
    ///
    /// # Errors
    /// With what couldn't be done, and the setting that may put it right.
    pub async fn probe(&self) -> Result<(), TierError> {
        let Some(url) = &self.url else { return Ok(()) };
        let opened = self.bucket(url).map_err(unusable)?;
        clouds::probe(&*opened.store).await.map_err(|why| unusable(format!("[cold] url = \"{url}\": {why}")))
    }

    fn bucket(&self, url: &str) -> Result<Opened, String> {
        let address = Address::parse(url).map_err(|why| format!("[cold] url: {why}"))?;
        clouds::open(&address, self)
    }

    /// What can't be used.
    #[must_use]
    pub fn mistakes(&self) -> Mistakes {
        if self.store() == Store::BigQuery {
            return self.bigquery.mistakes();
        }
        let mut found = Mistakes::default();
        let hidden = "…"; // it may hold a secret
        if let Some(url) = &self.url {
            if let Some(folder) = &self.folder {
                let why = "the archive lies in a folder or at a url, not both";
                found.unless(false, "cold.folder", folder.display(), why);
            }
            if let Err(why) = Address::parse(url) {
                found.unless(false, "cold.url", hidden, why);
            }
            let wrong = self.endpoint.as_ref().and_then(|endpoint| clouds::endpoint_mistake(endpoint, self.allow_http));
            found.unless(wrong.is_none(), "cold.endpoint", hidden, wrong.unwrap_or_default());
        } else {
            let why = "it needs a url beside it: what is there is in a bucket";
            found.unless(self.endpoint.is_none(), "cold.endpoint", hidden, why);
            let why = "it needs a url beside it: a folder has no credentials";
            found.unless(self.credentials_file.is_none(), "cold.credentials_file", hidden, why);
        }
        found
    }
}

fn unusable(why: String) -> TierError {
    TierError::Unavailable { tier: super::parquet::TIER, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_references_variables_go_before_the_file() {
        let mut settings = ColdSettings::default();
        settings.apply_environment(|_| None);
        assert_eq!((settings.store(), settings.mistakes().keys().len()), (Store::Parquet, 0));
        let variable = |name: &str| {
            let value = match name {
                "BIGQUERY_PROJECT_ID" => "abbanoa-464816",
                "BIGQUERY_DATASET_ID" => "water_infrastructure",
                "BIGQUERY_LOCATION" => "EU",
                _ => return None,
            };
            Some(value.to_owned())
        };
        settings.apply_environment(variable);
        let BigQuerySettings { project, dataset, location, .. } = &settings.bigquery;
        assert_eq!([project, dataset, location], ["abbanoa-464816", "water_infrastructure", "EU"]);
        assert_eq!((settings.store(), settings.mistakes().keys().len()), (Store::BigQuery, 0));
        // Who says where the archive lies isn't overruled by a variable that is there for others.
        let mut settings = ColdSettings { store: Some(Store::Parquet), ..ColdSettings::default() };
        settings.apply_environment(variable);
        assert_eq!(settings.store(), Store::Parquet);
    }

    #[test]
    fn what_cant_be_is_named() {
        let mistake = |change: fn(&mut ColdSettings)| {
            let mut settings = ColdSettings::default();
            change(&mut settings);
            settings.mistakes().keys().join(" ")
        };
        let url = || Some("s3://water/archive".to_owned());
        assert_eq!(mistake(|_| ()), "");
        assert_eq!(mistake(|s| s.url = Some("s3://water/archive".into())), "");
        assert_eq!(mistake(|s| s.url = Some("ftp://water".into())), "cold.url");
        assert_eq!(mistake(|s| s.endpoint = Some("https://minio".into())), "cold.endpoint");
        assert_eq!(mistake(|s| s.credentials_file = Some("keys".into())), "cold.credentials_file");
        let both = ColdSettings { url: url(), folder: Some("/srv".into()), ..ColdSettings::default() };
        assert_eq!(both.mistakes().keys(), ["cold.folder"]);
        let plain = ColdSettings { url: url(), endpoint: Some("http://minio".into()), ..ColdSettings::default() };
        assert_eq!(plain.mistakes().keys(), ["cold.endpoint"]);
        assert_eq!(ColdSettings { allow_http: true, ..plain }.mistakes().keys().len(), 0);
    }
}
