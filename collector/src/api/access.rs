//! Who asks, and whether they may.

use super::params::Params;
use super::{Api, Peer, Problem};
use crate::access::{LoginRefused, Principal, Role, SESSION_MAX};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};

/// Longest body with a name and a password.
const LOGIN_BYTES_MAX: usize = 2_000;
const COOKIE: &str = "session";

/// What a path needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Needs {
    /// Nobody has to say who it is.
    Nothing,
    /// At least this role.
    Role(Role),
}

/// Paths that nobody needs a role for: the way in, and the dashboard's own files, which hold no data.
const OPEN: &[(&str, &str)] = &[
    ("GET", "/api/v1/health"), // to those it doesn't know it says no more than that it lives
    ("POST", "/api/v1/login"),
    ("POST", "/api/v1/logout"),
    ("GET", "/api/v1/me"),
];
/// Changes that an operator may make.
const OPERATOR: &[&str] = &[
    "/api/v1/jobs/{name}/run",
    "/api/v1/readings",
    "/api/v1/import",
    "/api/v1/quarantine/release",
    "/api/v1/quarantine/drop",
    "/api/v1/anomalies/{id}/acknowledge",
    "/api/v1/anomalies/{id}/comment",
    "/api/v1/anomalies/{id}/close",
];

/// What an admin alone may look at.
const ADMIN: &[&str] = &["/api/v1/users", "/api/v1/tokens"];

/// What is looked at by POST, because the question doesn't fit into an address.
const LOOKING: &[&str] = &["/api/v1/sql"];

/// What a method on a path needs. Looking needs a viewer; a change that isn't named here needs an admin.
pub(super) fn needs(method: &Method, path: &str) -> Needs {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    if OPEN.contains(&(method, path)) || !(path.starts_with("/api/") || path == "/metrics") {
        return Needs::Nothing;
    }
    match method {
        "GET" if path == "/api/v1/audit" => Needs::Role(Role::Operator),
        "GET" if ADMIN.contains(&path) => Needs::Role(Role::Admin),
        "GET" => Needs::Role(Role::Viewer),
        "POST" if LOOKING.contains(&path) => Needs::Role(Role::Viewer),
        "POST" if OPERATOR.contains(&path) => Needs::Role(Role::Operator),
        _ => Needs::Role(Role::Admin),
    }
}

/// Finds out who asks, notes it with the request, and refuses what they may not do.
pub(super) async fn admit(api: &Api, request: &mut Request) -> Result<(), Problem> {
    let path = request.extensions().get::<MatchedPath>().map_or("", |path| path.as_str());
    let needs = needs(request.method(), path);
    let who = who(api, request.headers()).await;
    let allowed = match (&who, needs) {
        (_, Needs::Nothing) => Ok(()),
        (Err(_), _) => who.clone().map(drop),
        (Ok(None), _) => Err(Problem::login()),
        (Ok(Some(who)), Needs::Role(role)) if who.role >= role => Ok(()),
        (Ok(Some(who)), Needs::Role(role)) => Err(Problem::role(&who.name, who.role.as_str(), role.as_str())),
    };
    allowed?;
    if let Ok(Some(who)) = who {
        request.extensions_mut().insert(who);
    }
    Ok(())
}

pub(super) async fn who(api: &Api, headers: &HeaderMap) -> Result<Option<Principal>, Problem> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let bearer = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let now = (api.sources.now)();
    api.sources.access.who(bearer.map(str::trim), session(headers), now).await.map_err(Problem::from)
}

fn session(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|line| line.split(';')).find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    name: String,
    password: String,
}

/// Name and password for a cookie.
pub(super) async fn login(
    State(api): State<Api>,
    peer: Option<axum::Extension<ConnectInfo<Peer>>>,
    headers: HeaderMap,
    params: Params,
    body: Bytes,
) -> Result<Response, Problem> {
    params.only(&[])?;
    super::origin::same_origin(&headers)?;
    if body.len() > LOGIN_BYTES_MAX {
        return Err(Problem::body(format!("name and password are more than {LOGIN_BYTES_MAX} bytes")));
    }
    let form: Form =
        serde_json::from_slice(&body).map_err(|_| Problem::body("name and password are needed, as JSON"))?;
    let peer = peer.map_or_else(String::new, |peer| peer.0.0.0.ip().to_string());
    let now = (api.sources.now)();
    let login = api.sources.access.login(&form.name, &form.password, &peer, now).await;
    let (cookie, who) = login.map_err(|refused| {
        if !matches!(refused, LoginRefused::Tier(_)) {
            metrics::counter!("collector_logins_refused_total").increment(1);
            tracing::warn!(user = %form.name.chars().take(64).collect::<String>().escape_debug(), peer, "login refused: {refused}");
        }
        match refused {
            LoginRefused::Wrong => Problem::wrong_password(),
            LoginRefused::Locked | LoginRefused::Busy => Problem::locked(refused.to_string()),
            LoginRefused::Tier(error) => error.into(),
        }
    })?;
    Ok(([(header::SET_COOKIE, set(&api, &cookie, SESSION_MAX.as_secs()))], Json(json!(who))).into_response())
}

pub(super) async fn logout(State(api): State<Api>, headers: HeaderMap, params: Params) -> Result<Response, Problem> {
    params.only(&[])?;
    super::origin::same_origin(&headers)?;
    if let Some(session) = session(&headers) {
        api.sources.access.logout(session).await?;
    }
    Ok(([(header::SET_COOKIE, set(&api, "", 0))], Json(json!({}))).into_response())
}

/// No script can read it, no other site can send it.
fn set(api: &Api, value: &str, seconds: u64) -> String {
    let secure = if api.sources.secure { "; Secure" } else { "" };
    format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

/// Who asks: `null` when that isn't known.
pub(super) async fn me(State(api): State<Api>, headers: HeaderMap, params: Params) -> Result<Json<Value>, Problem> {
    params.only(&[])?;
    Ok(Json(json!({ "who": who(&api, &headers).await? })))
}
