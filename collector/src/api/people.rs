//! Who may come in: looked at, made, changed and taken away by admins.

use super::access::Nothing;
use super::document::{Conflict, NotFound};
use super::extract::{Named, Sent};
use super::params::List;
use super::routes::Answered;
use super::{Api, Problem};
use crate::access::{Hash, PasswordRefused, People, PeopleError, Principal, Role, Token, User};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::{Extension, Json};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shared::reading::Timestamp;
use utoipa::ToSchema;

/// Longest body with a name and a password.
const BODY_BYTES_MAX: usize = 2_000;
/// Longest that a token may hold when that is said, days.
const DAYS_MAX: u32 = 36_500;
const DAY: i64 = 86_400 * 1_000_000;

impl From<PeopleError> for Problem {
    fn from(error: PeopleError) -> Self {
        match error {
            PeopleError::Name(_) => Problem::body(error.to_string()),
            PeopleError::There { .. } => Problem::conflict(error.to_string()),
            PeopleError::Unknown { .. } => Problem::unknown(error.to_string()),
            PeopleError::Random(error) => Problem::conflict(error.to_string()),
            PeopleError::Tier(error) => error.into(),
        }
    }
}

/// What a change needs: a question of this site, and a body of that form.
pub(super) fn form<T: DeserializeOwned>(headers: &HeaderMap, body: &Sent) -> Result<T, Problem> {
    super::origin::same_origin(headers)?;
    if body.0.len() > BODY_BYTES_MAX {
        return Err(Problem::too_large(BODY_BYTES_MAX));
    }
    body.json()
}

pub(super) fn people<'a>(api: &'a Api, who: &'a Principal) -> People<'a> {
    People { warm: &*api.sources.warm, by: &who.name, now: (api.sources.now)() }
}

/// Tens of milliseconds of work: not among the answers.
pub(super) async fn hashed(password: String) -> Result<Hash, Problem> {
    let hash = tokio::task::spawn_blocking(move || Hash::of(&password)).await;
    let wrong = |refused: PasswordRefused| Problem::body(refused.to_string());
    hash.map_err(|error| Problem::conflict(error.to_string()))?.map_err(wrong)
}

/// Users
///
/// Who can log in, and what each may do.
#[utoipa::path(get, path = "/api/v1/users", tag = "Access",
    responses((status = 200, body = List<User>, description = "The users.")))]
pub(super) async fn users(State(api): State<Api>) -> Answered<List<User>> {
    Ok(Json(List::whole(api.sources.warm.access().users().await?)))
}

/// A user to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "bianchi", "role": "viewer", "password": "correct horse battery staple" }))]
struct NewUser {
    name: String,
    role: Role,
    #[schema(format = Password)]
    password: String,
}

/// A user that was made.
#[derive(Serialize, ToSchema)]
pub(super) struct MadeUser {
    name: String,
    role: Role,
}

/// Make a user
///
/// Somebody can log in. The first one must be an admin.
#[utoipa::path(post, path = "/api/v1/users", tag = "Access", request_body = NewUser,
    responses((status = 200, body = MadeUser, description = "It is there."), Conflict))]
pub(super) async fn add(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    headers: HeaderMap,
    body: Sent,
) -> Answered<MadeUser> {
    let new: NewUser = form(&headers, &body)?;
    // From then on people log in, and only an admin can make more.
    if new.role != Role::Admin && api.sources.warm.access().users().await?.is_empty() {
        return Err(Problem::conflict("the first user must be an admin".into()));
    }
    people(&api, &who).add(&new.name, new.role, hashed(new.password).await?).await?;
    api.sources.access.changed().await;
    Ok(Json(MadeUser { name: new.name, role: new.role }))
}

/// What becomes another: one of them, or both.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UserChange, example = json!({ "role": "operator" }))]
struct Change {
    role: Option<Role>,
    #[schema(format = Password)]
    password: Option<String>,
}

/// Change a user
///
/// Sets another role or password; with another password its sessions are over.
#[utoipa::path(post, path = "/api/v1/users/{name}", tag = "Access", params(("name" = String, Path, description = "The name.", max_length = 64, example = "bianchi")),
    request_body = Change,
    responses((status = 200, body = User, description = "As it is now."), NotFound, Conflict))]
pub(super) async fn change(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    Named(name): Named<String>,
    headers: HeaderMap,
    body: Sent,
) -> Answered<User> {
    let change: Change = form(&headers, &body)?;
    let people = people(&api, &who);
    if let Some(role) = change.role {
        if role != Role::Admin {
            leaves_an_admin(&people, &name).await?;
        }
        people.set_role(&name, role).await?;
    }
    if let Some(password) = change.password {
        people.set_password(&name, hashed(password).await?).await?;
    }
    api.sources.access.changed().await;
    Ok(Json(people.user(&name).await?))
}

/// Take a user away
///
/// The last admin stays.
#[utoipa::path(delete, path = "/api/v1/users/{name}", tag = "Access", params(("name" = String, Path, description = "The name.", max_length = 64, example = "bianchi")),
    responses((status = 200, body = Nothing, description = "It is gone."), NotFound, Conflict))]
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    Named(name): Named<String>,
    headers: HeaderMap,
) -> Answered<Nothing> {
    super::origin::same_origin(&headers)?;
    let people = people(&api, &who);
    leaves_an_admin(&people, &name).await?;
    people.remove(&name).await?;
    api.sources.access.changed().await;
    Ok(Json(Nothing {}))
}

/// Nobody could make one from here any more.
async fn leaves_an_admin(people: &People<'_>, name: &str) -> Result<(), Problem> {
    let mut admins = people.warm.access().users().await?;
    admins.retain(|user| user.role == Role::Admin);
    if admins.len() == 1 && admins[0].name == name {
        return Err(Problem::conflict(format!("{name} is the last admin: make another one first")));
    }
    Ok(())
}

/// Tokens
///
/// Which programs can come in; what a token is, is shown only when it is made.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "Access",
    responses((status = 200, body = List<Token>, description = "The tokens.")))]
pub(super) async fn tokens(State(api): State<Api>) -> Answered<List<Token>> {
    Ok(Json(List::whole(api.sources.warm.access().tokens().await?)))
}

/// A token to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "grafana", "role": "viewer", "days": 365 }))]
struct NewToken {
    name: String,
    role: Role,
    /// How long it holds; for ever when that isn't said.
    #[schema(minimum = 1, maximum = 36500)]
    days: Option<u32>,
}

/// A token that was made.
#[derive(Serialize, ToSchema)]
pub(super) struct MadeToken {
    name: String,
    role: Role,
    /// Until when it holds; null: for ever.
    ends: Option<Timestamp>,
    /// It is shown this once.
    token: String,
}

/// Make a token
///
/// For a program. It is shown this once.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "Access", request_body = NewToken,
    responses((status = 200, body = MadeToken, description = "The token."), Conflict))]
pub(super) async fn make(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    headers: HeaderMap,
    body: Sent,
) -> Answered<MadeToken> {
    let new: NewToken = form(&headers, &body)?;
    if new.days.is_some_and(|days| !(1..=DAYS_MAX).contains(&days)) {
        return Err(Problem::body(format!("days: 1 to {DAYS_MAX} are possible")));
    }
    let people = people(&api, &who);
    let ends: Option<Timestamp> = new.days.map(|days| people.now.plus_micros(i64::from(days) * DAY));
    let token = people.make_token(&new.name, new.role, ends).await?;
    api.sources.access.changed().await;
    Ok(Json(MadeToken { name: new.name, role: new.role, ends, token }))
}

/// Take a token back
///
/// It opens nothing any more.
#[utoipa::path(delete, path = "/api/v1/tokens/{name}", tag = "Access", params(("name" = String, Path, description = "The name.", max_length = 64, example = "grafana")),
    responses((status = 200, body = Nothing, description = "It is gone."), NotFound, Conflict))]
pub(super) async fn revoke(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    Named(name): Named<String>,
    headers: HeaderMap,
) -> Answered<Nothing> {
    super::origin::same_origin(&headers)?;
    people(&api, &who).revoke_token(&name).await?;
    api.sources.access.changed().await;
    Ok(Json(Nothing {}))
}
