//! What BigQuery says when it doesn't do what it was asked, and what that means.

use super::TIER;
use super::settings::BigQuerySettings;
use crate::tiers::TierError;
use gcp_bigquery_client::error::BQError;
use gcp_bigquery_client::model::error_proto::ErrorProto;
use gcp_bigquery_client::yup_oauth2;
use std::error::Error;
use std::time::Duration;

/// Who asks, as it is told of what goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) tier: &'static str,
    /// The section of its settings.
    pub(crate) section: &'static str,
    /// The settings that say what is asked.
    pub(crate) place: &'static str,
    /// What its account must be, besides one that may run jobs.
    pub(crate) role: &'static str,
}

const ARCHIVE: Asker = Asker {
    tier: TIER,
    section: "[cold.bigquery]",
    place: "[cold.bigquery] project, dataset and location",
    role: "BigQuery Data Editor on the dataset",
};

/// Why it wasn't done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Goes away by itself: too many requests, a server's own fault, a connection that broke.
    Passing(String),
    /// The same, and it was tried long enough.
    Lasting(String),
    /// It wasn't done within that time.
    Slow(Duration),
    /// There is such a thing already.
    Exists,
    /// There is no such thing.
    Missing(String),
    /// We aren't known, or may not.
    Denied(String),
    /// It would cost more than is allowed, bytes.
    Dear(u64),
    /// Anything else; asking again gives the same.
    Other(String),
}

impl Fault {
    /// By the status of an answer and the reason in it.
    pub(super) fn of_answer(status: u16, reason: &str, why: String) -> Self {
        match (status, reason) {
            (_, "rateLimitExceeded" | "jobRateLimitExceeded" | "backendError" | "internalError") => Self::Passing(why),
            (429 | 500..=599, _) => Self::Passing(why),
            (401 | 403, _) => Self::Denied(why),
            (404, _) => Self::Missing(why),
            (409, _) => Self::Exists,
            _ => Self::Other(why),
        }
    }

    /// By what a job ended with.
    pub(super) fn of_job(error: &ErrorProto) -> Self {
        let why = error.message.clone().unwrap_or_else(|| error.to_string());
        match error.reason.as_deref().unwrap_or_default() {
            "jobBackendError" | "jobInternalError" | "tableUnavailable" | "resourcesInUse" => Self::Passing(why),
            "notFound" => Self::Missing(why),
            "accessDenied" => Self::Denied(why),
            reason => Self::of_answer(400, reason, why),
        }
    }

    pub(super) fn of_request(error: reqwest::Error) -> Self {
        Self::Passing(whole(&error.without_url()))
    }

    /// In words that name the setting.
    pub(super) fn told(self, settings: &BigQuerySettings) -> TierError {
        self.told_by(ARCHIVE, settings)
    }

    /// In words that name the setting of whoever asks.
    pub(crate) fn told_by(self, asker: Asker, settings: &BigQuerySettings) -> TierError {
        let BigQuerySettings { project, dataset, bytes_max, .. } = settings;
        let Asker { tier, section, .. } = asker;
        let place = format!("{project}.{dataset}");
        let why = match self {
            Self::Passing(why) | Self::Lasting(why) => format!("{} ({place}): {why}", settings.endpoint()),
            Self::Slow(limit) => {
                let limit = humantime::format_duration(limit);
                format!("{} ({place}): not done within {limit}; see {section} timeout", settings.endpoint())
            }
            Self::Exists => format!("{place}: something of that name is there already"),
            Self::Missing(why) => format!("{place}: {why}; see {}", asker.place),
            Self::Denied(why) => {
                let who = match &settings.credentials_file {
                    Some(file) => format!("{section} credentials_file {}", file.display()),
                    None => format!("Application Default Credentials ({section} has no credentials_file)"),
                };
                let role = asker.role;
                format!("{place}: {why}: {who} must be of an account with {role} and BigQuery Job User on the project")
            }
            Self::Dear(bytes) => {
                let bytes = bytesize::ByteSize::b(bytes);
                let why = format!(
                    "{place}: the question would be billed for {bytes}, {section} bytes_max allows {bytes_max}"
                );
                return TierError::Broken { tier, why };
            }
            Self::Other(why) => format!("{place}: {why}"),
        };
        TierError::Unavailable { tier, why }
    }
}

impl From<BQError> for Fault {
    fn from(error: BQError) -> Self {
        match error {
            BQError::ResponseError { error } => {
                let reason = error.error.errors.first().and_then(|e| e.get("reason")).cloned().unwrap_or_default();
                let status = u16::try_from(error.error.code).unwrap_or_default();
                Self::of_answer(status, &reason, error.error.message)
            }
            BQError::RequestError(error) => Self::of_request(error),
            BQError::YupAuthError(yup_oauth2::Error::HttpError(_) | yup_oauth2::Error::HttpClientError(_)) => {
                Self::Passing(format!("no login at Google: {}", whole(&error)))
            }
            BQError::YupAuthError(_) | BQError::AuthError(_) | BQError::NoToken => Self::Denied(whole(&error)),
            other => Self::Other(whole(&other)),
        }
    }
}

/// With everything that led to it.
fn whole(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text += &format!(": {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_tried_again_and_the_rest_is_not() {
        let passes = |fault| matches!(fault, Fault::Passing(_));
        let of = |status, reason| Fault::of_answer(status, reason, String::new());
        for (status, reason) in [(429, ""), (500, ""), (503, "backendError"), (403, "rateLimitExceeded")] {
            assert!(passes(of(status, reason)), "{status} {reason}");
        }
        for (status, reason) in [(400, "invalidQuery"), (401, "authError"), (403, "accessDenied"), (404, "notFound")] {
            assert!(!passes(of(status, reason)), "{status} {reason}");
        }
        assert_eq!(of(409, "duplicate"), Fault::Exists);
        let job = |reason: &str| Fault::of_job(&ErrorProto { reason: Some(reason.into()), ..ErrorProto::default() });
        assert!(passes(job("jobBackendError")) && passes(job("internalError")) && !passes(job("stopped")));
    }
}
