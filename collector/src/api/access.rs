//! Who asks, and whether they may.

use super::body::STRANGERS_MAX;
use super::document::{Rule, TooOften, Unknown};
use super::extract::Sent;
use super::people::{form, hashed, people};
use super::routes::Answered;
use super::{Api, Peer, Problem};
use crate::access::{Hash, LoginRefused, PeopleError, Principal, Role, SESSION_MAX, Way};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

/// What a request needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Needs {
    /// Nobody has to say who it is.
    Nothing,
    /// At least this role.
    Role(Role),
    /// A person who has logged in, whatever the role.
    Person,
}

/// What a method on a path needs: what is described says so; the dashboard's files and the description need nothing; what
/// isn't described needs an admin, so that a new route is closed until someone thinks of it.
pub(super) fn needs(rule: Option<&Rule>, path: &str) -> Needs {
    match rule {
        Some(Rule { of_people: true, .. }) => Needs::Person,
        Some(Rule { role: Some(role), .. }) => Needs::Role(*role),
        Some(_) => Needs::Nothing,
        None if path.starts_with("/api/v") => Needs::Role(Role::Admin),
        None => Needs::Nothing,
    }
}

/// Finds out who asks, notes it with the request, and refuses what they may not do.
pub(super) async fn admit(api: &Api, request: &mut Request, needs: Needs) -> Result<(), Problem> {
    let who = who(api, request.headers()).await;
    let allowed = match (&who, needs) {
        (_, Needs::Nothing) => Ok(()),
        (Err(_), _) => who.clone().map(drop),
        (Ok(None), _) => Err(Problem::login()),
        (Ok(Some(who)), Needs::Person) if who.way == Way::Session => Ok(()),
        (Ok(Some(_)), Needs::Person) => Err(Problem::no_person()),
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
    let now = (api.sources.now)();
    api.sources.access.who(bearer(headers), session(api, headers), now).await.map_err(Problem::from)
}

/// The token that is shown: the word before it is written as one likes.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Over TLS the name itself says that no other host and no plain HTTP can have set it.
fn cookie(api: &Api) -> &'static str {
    if api.sources.secure { "__Host-session" } else { "session" }
}

fn session<'a>(api: &Api, headers: &'a HeaderMap) -> Option<&'a str> {
    let name = cookie(api);
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|line| line.split(';')).find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// Who wants to come in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Login, example = json!({ "name": "rossi", "password": "correct horse battery staple" }))]
struct Form {
    name: String,
    #[schema(format = Password)]
    password: String,
}

/// Log in
///
/// Name and password for a cookie, which holds for 12 hours without a question and 7 days at most; the session of a cookie
/// that comes along is over. After five wrong passwords of a name from an address nothing is tried for 15 minutes, and after
/// fifty of an address only names that have not failed from there.
#[utoipa::path(post, path = "/api/v1/login", tag = "Access", request_body = Form,
    responses((status = 200, body = Principal, description = "Who it is.",
        headers(("Set-Cookie" = String, description = "The session."))), Unknown, TooOften))]
pub(super) async fn login(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Sent(body): Sent,
) -> Result<Response, Problem> {
    super::origin::same_origin(&headers)?;
    if body.len() > STRANGERS_MAX {
        return Err(Problem::too_large(STRANGERS_MAX));
    }
    let form: Form =
        serde_json::from_slice(&body).map_err(|_| Problem::body("name and password are needed, as JSON"))?;
    let login = api.sources.access.login(&form.name, &form.password, peer.origin(), (api.sources.now)()).await;
    let (cookie, who) = login.map_err(|why| refused(why, &form.name, peer, Problem::wrong_password()))?;
    if let Some(before) = session(&api, &headers) {
        api.sources.access.replaced(before).await;
    }
    Ok(logged_in(&api, &cookie, &who))
}

/// What is said to whoever showed no password that fits.
fn refused(why: LoginRefused, name: &str, peer: Peer, wrong: Problem) -> Problem {
    if !matches!(why, LoginRefused::Tier(_)) {
        metrics::counter!("collector_logins_refused_total").increment(1);
        let user = name.chars().take(64).collect::<String>();
        tracing::warn!(user = %user.escape_debug(), address = %peer, "a password is refused: {why}");
    }
    match why {
        LoginRefused::Wrong { .. } => wrong,
        LoginRefused::Locked | LoginRefused::Busy => Problem::locked(why.to_string(), why.wait()),
        LoginRefused::Tier(error) => error.into(),
    }
}

/// Who it is, with the cookie of a session that has begun.
fn logged_in(api: &Api, session: &str, who: &Principal) -> Response {
    ([(header::SET_COOKIE, set(api, session, SESSION_MAX.as_secs()))], Json(json!(who))).into_response()
}

/// Log out
///
/// Ends the session of the cookie.
#[utoipa::path(post, path = "/api/v1/logout", tag = "Access",
    responses((status = 200, body = Nothing, description = "There is no session any more.",
        headers(("Set-Cookie" = String, description = "Takes the cookie away.")))))]
pub(super) async fn logout(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    super::origin::same_origin(&headers)?;
    if let Some(session) = session(&api, &headers) {
        api.sources.access.logout(session, peer.origin(), (api.sources.now)()).await?;
    }
    // What the browser kept of answers goes as well.
    let headers = [
        (header::SET_COOKIE, set(&api, "", 0)),
        (header::HeaderName::from_static("clear-site-data"), "\"cache\"".into()),
    ];
    Ok((headers, Json(Nothing {})).into_response())
}

/// No script can read it, no other site can send it.
fn set(api: &Api, value: &str, seconds: u64) -> String {
    let secure = if api.sources.secure { "; Secure" } else { "" };
    let name = cookie(api);
    format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

/// Nothing more to say.
#[derive(Serialize, ToSchema)]
pub(super) struct Nothing {}

/// Who is there.
#[derive(Serialize, ToSchema)]
pub(super) struct Me {
    /// Null when that isn't known.
    who: Option<Principal>,
}

/// Who asks
///
/// Who is known by the cookie or the token, and what it may do.
#[utoipa::path(get, path = "/api/v1/me", tag = "Access", responses((status = 200, body = Me, description = "Who it is.")))]
pub(super) async fn me(State(api): State<Api>, headers: HeaderMap) -> Answered<Me> {
    Ok(Json(Me { who: who(&api, &headers).await? }))
}

/// The password that was, and the one to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PasswordChange, example = json!({
    "current": "correct horse battery staple", "new": "staple battery horse correct",
}))]
struct Passwords {
    #[schema(format = Password)]
    current: String,
    /// 10 to 200 bytes.
    #[schema(format = Password)]
    new: String,
}

/// Change one's own password
///
/// For a person who is logged in. All sessions of that person are over, and the answer has the cookie of a new one. A wrong
/// current password counts like one at a login.
#[utoipa::path(post, path = "/api/v1/me/password", tag = "Access", request_body = Passwords,
    responses((status = 200, body = Principal, description = "Who it is.",
        headers(("Set-Cookie" = String, description = "The session that goes on."))),
        (status = 403, body = Problem, content_type = "application/problem+json",
            description = "The current password is another one, or it isn't a person who asks."),
        TooOften))]
pub(super) async fn password(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Sent,
) -> Result<Response, Problem> {
    let Passwords { current, new } = form(&headers, &body)?;
    Hash::allows(&new).map_err(|why| Problem::parameter("new", why.to_string()))?;
    let people = people(&api, &who);
    let gone = |why| if matches!(why, PeopleError::Unknown { .. }) { Problem::login() } else { why.into() };
    let user = people.user(&who.name).await.map_err(gone)?;
    let checked = api.sources.access.check(&user, &current, peer.origin(), people.now).await;
    checked.map_err(|why| refused(why, &user.name, peer, Problem::wrong_current_password()))?;
    let user = people.set_password(&user.name, hashed(new).await?).await?;
    api.sources.access.changed().await;
    let session = api.sources.access.begin(&user, people.now).await?;
    Ok(logged_in(&api, &session, &who))
}
