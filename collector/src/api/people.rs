//! Who may come in: looked at, made, changed and taken away by admins.

use super::params::Params;
use super::{Api, Problem};
use crate::access::{Hash, PasswordRefused, People, PeopleError, Principal, Role};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::{Extension, Json};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use shared::reading::Timestamp;

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

type Answered = Result<Json<Value>, Problem>;

/// What a change needs: a question of this site, and a body of that form.
fn form<T: DeserializeOwned>(headers: &HeaderMap, params: Params, body: &[u8]) -> Result<T, Problem> {
    params.only(&[])?;
    super::origin::same_origin(headers)?;
    if body.len() > BODY_BYTES_MAX {
        return Err(Problem::body(format!("the body is longer than {BODY_BYTES_MAX} bytes")));
    }
    serde_json::from_slice(body).map_err(|error| Problem::body(format!("the body: {error}")))
}

fn people<'a>(api: &'a Api, who: &'a Principal) -> People<'a> {
    People { warm: &*api.sources.warm, by: &who.name, now: (api.sources.now)() }
}

/// Tens of milliseconds of work: not among the answers.
async fn hashed(password: String) -> Result<Hash, Problem> {
    let hash = tokio::task::spawn_blocking(move || Hash::of(&password)).await;
    let wrong = |refused: PasswordRefused| Problem::body(refused.to_string());
    hash.map_err(|error| Problem::conflict(error.to_string()))?.map_err(wrong)
}

pub(super) async fn users(State(api): State<Api>, params: Params) -> Answered {
    params.only(&[])?;
    Ok(Json(json!({ "items": api.sources.warm.access().users().await?, "truncated": false })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewUser {
    name: String,
    role: Role,
    password: String,
}

/// Makes a user.
pub(super) async fn add(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    headers: HeaderMap,
    params: Params,
    body: Bytes,
) -> Answered {
    let new: NewUser = form(&headers, params, &body)?;
    people(&api, &who).add(&new.name, new.role, hashed(new.password).await?).await?;
    api.sources.access.changed().await;
    Ok(Json(json!({ "name": new.name, "role": new.role })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    role: Option<Role>,
    password: Option<String>,
}

/// Sets another role or password.
pub(super) async fn change(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    Path(name): Path<String>,
    headers: HeaderMap,
    params: Params,
    body: Bytes,
) -> Answered {
    let change: Change = form(&headers, params, &body)?;
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
    Ok(Json(json!(people.user(&name).await?)))
}

/// Takes a user away.
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    Path(name): Path<String>,
    headers: HeaderMap,
    params: Params,
) -> Answered {
    params.only(&[])?;
    super::origin::same_origin(&headers)?;
    let people = people(&api, &who);
    leaves_an_admin(&people, &name).await?;
    people.remove(&name).await?;
    api.sources.access.changed().await;
    Ok(Json(json!({})))
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

pub(super) async fn tokens(State(api): State<Api>, params: Params) -> Answered {
    params.only(&[])?;
    Ok(Json(json!({ "items": api.sources.warm.access().tokens().await?, "truncated": false })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    name: String,
    role: Role,
    /// How long it holds; for ever when that isn't said.
    days: Option<u32>,
}

/// Makes a token, which is shown this once.
pub(super) async fn make(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    headers: HeaderMap,
    params: Params,
    body: Bytes,
) -> Answered {
    let new: NewToken = form(&headers, params, &body)?;
    if new.days.is_some_and(|days| !(1..=DAYS_MAX).contains(&days)) {
        return Err(Problem::body(format!("days: 1 to {DAYS_MAX} are possible")));
    }
    let people = people(&api, &who);
    let ends: Option<Timestamp> = new.days.map(|days| people.now.plus_micros(i64::from(days) * DAY));
    let token = people.make_token(&new.name, new.role, ends).await?;
    api.sources.access.changed().await;
    Ok(Json(json!({ "name": new.name, "role": new.role, "ends": ends, "token": token })))
}

/// Takes a token back.
pub(super) async fn revoke(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    Path(name): Path<String>,
    headers: HeaderMap,
    params: Params,
) -> Answered {
    params.only(&[])?;
    super::origin::same_origin(&headers)?;
    people(&api, &who).revoke_token(&name).await?;
    api.sources.access.changed().await;
    Ok(Json(json!({})))
}
