//! Errors as RFC 9457 problem details.

use crate::tiers::TierError;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

/// When a tier is away it is soon tried again,
const AWAY: Duration = Duration::from_secs(5);
/// and what has no turn gets one even sooner.
const BUSY: Duration = Duration::from_secs(1);

/// What went wrong, for the one who asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "type": "urn:collector:problem:parameter", "title": "A parameter is wrong", "status": 400,
    "detail": "'yesterday' is no time like 2026-03-01T00:00:00Z, 2026-03-01, now or now-6h", "parameter": "from",
}))]
pub struct Problem {
    /// Which kind of problem: a name that stays.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The kind in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong this time, and what would be right.
    detail: String,
    /// The parameter at fault, or the one that puts it right.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<String>,
    /// When it may be asked again.
    #[serde(skip)]
    again_in: Option<Duration>,
}

impl Problem {
    fn new(kind: &'static str, title: &'static str, status: StatusCode, detail: String) -> Self {
        Self { kind, title, status: status.as_u16(), detail, parameter: None, again_in: None }
    }

    fn again_in(self, wait: Duration) -> Self {
        Self { again_in: Some(wait), ..self }
    }

    /// A parameter's value is wrong.
    pub(super) fn parameter(name: &str, detail: impl Into<String>) -> Self {
        let problem = Self::new(
            "urn:collector:problem:parameter",
            "A parameter is wrong",
            StatusCode::BAD_REQUEST,
            detail.into(),
        );
        problem.naming(name)
    }

    /// Names the parameter at fault, or the one that puts it right.
    pub(super) fn naming(self, parameter: &str) -> Self {
        Self { parameter: Some(shown(parameter)), ..self }
    }

    /// What was sent is wrong.
    pub(super) fn body(detail: impl Into<String>) -> Self {
        Self::new("urn:collector:problem:body", "What was sent is wrong", StatusCode::BAD_REQUEST, detail.into())
    }

    /// A query can't be answered.
    pub(super) fn query(detail: String) -> Self {
        Self::new("urn:collector:problem:query", "The query can't be answered", StatusCode::BAD_REQUEST, detail)
    }

    /// A query needs more than it may have.
    pub(super) fn too_much(detail: String) -> Self {
        let title = "The query asks for too much";
        Self::new("urn:collector:problem:limit", title, StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// What was sent is too large.
    pub(super) fn too_large(most: usize) -> Self {
        let detail = format!("at most {most} bytes can be sent at once, unpacked as well");
        Self::new("urn:collector:problem:large", "Too large", StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    /// What was sent is packed in a way that isn't known here.
    pub(super) fn encoding(encoding: &str) -> Self {
        let detail = format!("the body can be plain or packed with gzip, and is '{}'", shown(encoding));
        let title = "Packed in a way that isn't known here";
        Self::new("urn:collector:problem:encoding", title, StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    }

    /// What is sent doesn't come.
    pub(super) fn slow_body(within: Duration) -> Self {
        let detail = format!("what is announced must be sent within {} s", within.as_secs());
        Self::new("urn:collector:problem:slow_body", "It didn't come", StatusCode::REQUEST_TIMEOUT, detail)
    }

    /// A series that was asked for isn't there.
    pub(super) fn no_such(what: &'static str, parameter: &str, name: &str) -> Self {
        let detail = format!("there is no {what} {}", shown(name));
        Self::unknown(detail).naming(parameter)
    }

    /// Not all of what was asked for can be read, and a part of it would be taken for the whole.
    pub(super) fn incomplete(detail: String) -> Self {
        let title = "Not all of it can be read";
        Self::new("urn:collector:problem:incomplete", title, StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// What was named isn't there.
    pub(super) fn unknown(detail: String) -> Self {
        Self::new("urn:collector:problem:unknown", "It isn't there", StatusCode::NOT_FOUND, detail)
    }

    /// It can't be done now.
    pub(super) fn conflict(detail: String) -> Self {
        Self::new("urn:collector:problem:conflict", "Not now", StatusCode::CONFLICT, detail)
    }

    /// A page of another site asks for a change.
    pub(super) fn origin(origin: &str) -> Self {
        let detail = format!("a page of '{}' must neither change nor watch anything here", shown(origin));
        Self::new("urn:collector:problem:origin", "Wrong origin", StatusCode::FORBIDDEN, detail)
    }

    /// Nobody said who it is.
    pub(super) fn login() -> Self {
        let detail = "log in first, or show a token: Authorization: Bearer …".into();
        Self::new("urn:collector:problem:login", "Who are you?", StatusCode::UNAUTHORIZED, detail)
    }

    /// Name and password don't fit.
    pub(super) fn wrong_password() -> Self {
        let detail = "name or password is wrong".into();
        Self::new("urn:collector:problem:password", "Not logged in", StatusCode::UNAUTHORIZED, detail)
    }

    /// Whoever is in already doesn't know the password.
    pub(super) fn wrong_current_password() -> Self {
        let detail = "that is not the current password".into();
        Self::new("urn:collector:problem:password", "Wrong password", StatusCode::FORBIDDEN, detail).naming("current")
    }

    /// Too many passwords were wrong.
    pub(super) fn locked(detail: String, wait: Duration) -> Self {
        Self::new("urn:collector:problem:locked", "Not now", StatusCode::TOO_MANY_REQUESTS, detail).again_in(wait)
    }

    /// It is asked more often than `[api.rates]` allows.
    pub(super) fn too_often(wait: Duration) -> Self {
        let detail = "this is asked too often; [api.rates] of the configuration says how often it may be".into();
        Self::new("urn:collector:problem:often", "Too often", StatusCode::TOO_MANY_REQUESTS, detail).again_in(wait)
    }

    /// They have as many live feeds as one may have.
    pub(super) fn too_many_feeds(most: usize) -> Self {
        let detail =
            format!("{most} live feeds are open already, which is as many as one may have; close some of them");
        Self::new("urn:collector:problem:feeds", "Too many", StatusCode::TOO_MANY_REQUESTS, detail).again_in(AWAY)
    }

    /// It needs another role.
    pub(super) fn role(name: &str, has: &str, needs: &str) -> Self {
        let detail = format!("{} is {has}; this needs {needs}", shown(name));
        Self::new("urn:collector:problem:role", "Not allowed", StatusCode::FORBIDDEN, detail)
    }

    /// It is for people, and a program asks, or nobody has to say who it is.
    pub(super) fn no_person() -> Self {
        let detail = "this is for people who have logged in with a password".into();
        Self::new("urn:collector:problem:role", "Not allowed", StatusCode::FORBIDDEN, detail)
    }

    /// WebSocket is spoken there, and this isn't.
    pub(super) fn no_upgrade(why: String) -> Self {
        Self::new("urn:collector:problem:upgrade", "WebSocket is spoken here", StatusCode::UPGRADE_REQUIRED, why)
    }

    pub(super) fn no_such_path(path: &str) -> Self {
        let detail = format!("{} is nothing here; see /api/v1/health", shown(path));
        Self::new("urn:collector:problem:path", "No such path", StatusCode::NOT_FOUND, detail)
    }

    pub(super) fn method(method: &str) -> Self {
        let detail = format!("{} is not possible here", shown(method));
        Self::new("urn:collector:problem:method", "Wrong method", StatusCode::METHOD_NOT_ALLOWED, detail)
    }

    pub(super) fn host(host: &str) -> Self {
        let detail = format!("the request is for '{}', not for this machine's loopback address", shown(host));
        Self::new("urn:collector:problem:host", "Wrong host", StatusCode::MISDIRECTED_REQUEST, detail)
    }

    pub(super) fn busy() -> Self {
        let detail = "too many requests are under way; try again in a moment".into();
        Self::new("urn:collector:problem:busy", "Too busy", StatusCode::SERVICE_UNAVAILABLE, detail).again_in(BUSY)
    }

    pub(super) fn too_slow(path: &str) -> Self {
        let detail = format!("{} took too long; ask for less", shown(path));
        Self::new("urn:collector:problem:slow", "Too slow", StatusCode::GATEWAY_TIMEOUT, detail)
    }
}

/// What came from outside, short.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

impl From<TierError> for Problem {
    fn from(error: TierError) -> Self {
        tracing::warn!(%error, "a question can't be answered");
        let (kind, title, status) = match &error {
            TierError::Unavailable { .. } | TierError::Overtaken { .. } => {
                ("urn:collector:problem:unavailable", "A tier is not available", StatusCode::SERVICE_UNAVAILABLE)
            }
            TierError::Damaged { .. } => {
                ("urn:collector:problem:damaged", "A file of the archive is damaged", StatusCode::SERVICE_UNAVAILABLE)
            }
            TierError::Broken { .. } => {
                ("urn:collector:problem:broken", "A tier is broken", StatusCode::INTERNAL_SERVER_ERROR)
            }
        };
        let problem = Self::new(kind, title, status, error.to_string());
        let passes = !matches!(error, TierError::Damaged { .. } | TierError::Broken { .. });
        if passes { problem.again_in(AWAY) } else { problem }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        // Whole seconds: one that has begun counts.
        let wait = self.again_in.map(|wait| [(header::RETRY_AFTER, wait.as_secs().saturating_add(1))]);
        (status, kind, wait, body).into_response()
    }
}
