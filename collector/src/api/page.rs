//! The pages of HTML. A page comes with what it would ask for first, so that a phone on a slow network shows the network after
//! two round trips instead of five; and with the colours that somebody chose, so that it never flashes in others.

use super::params::Params;
use super::{Api, anomalies, dashboard, routes};
use crate::access::Principal;
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

/// Most bytes of answers that go along; what has no room in them is asked for.
const GIVEN_MAX: usize = 64 << 10;
/// Where they go; a browser doesn't take it for a script.
const PLACE: &str = "<script type=\"application/json\" id=\"given\"></script>";

/// The dashboard.
pub(super) async fn index(State(api): State<Api>, who: Option<Extension<Principal>>, headers: HeaderMap) -> Response {
    let given = given(&api, who).await;
    let full = PLACE.replace("></script>", &format!(">{given}</script>"));
    Html(coloured("/index.html", &headers).replacen(PLACE, &full, 1)).into_response()
}

/// The description of the API.
pub(super) async fn docs(headers: HeaderMap) -> Response {
    Html(coloured("/docs.html", &headers)).into_response()
}

/// A page in the colours of the cookie `theme`.
fn coloured(path: &str, headers: &HeaderMap) -> String {
    let page = String::from_utf8_lossy(&dashboard::text(path)).into_owned();
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let chosen = cookies.flat_map(|line| line.split(';')).find_map(|pair| pair.trim().strip_prefix("theme="));
    match chosen {
        Some(theme @ ("light" | "dark")) => page.replacen("<html ", &format!("<html data-theme=\"{theme}\" "), 1),
        _ => page,
    }
}

/// Answers by their address, as the page would ask for them (`api.js`); those that fail are left out, and are asked for. As
/// JSON in which nothing can end the element it stands in.
async fn given(api: &Api, who: Option<Extension<Principal>>) -> String {
    let mut all = vec![format!("\"/api/v1/me\":{}", json!({ "who": who.as_ref().map(|who| &who.0) }))];
    if who.is_some() {
        let this = || State(api.clone());
        let many = || asked("limit=10000");
        let (series, nodes, latest, open, health) = futures::join!(
            routes::series(this(), many()),
            routes::nodes(this(), many()),
            routes::newest(this(), many()),
            anomalies::list(this(), asked("state=open&limit=500")),
            routes::health(this(), who),
        );
        let mut room = GIVEN_MAX;
        put(&mut all, &mut room, "health", health);
        put(&mut all, &mut room, "nodes?limit=10000", nodes);
        put(&mut all, &mut room, "anomalies?state=open&limit=500", open);
        put(&mut all, &mut room, "series?limit=10000", series);
        put(&mut all, &mut room, "latest?limit=10000", latest);
    }
    format!("{{{}}}", all.join(",")).replace('<', "\\u003c")
}

fn put<T: Serialize>(all: &mut Vec<String>, room: &mut usize, address: &str, answer: routes::Answered<T>) {
    if let Ok(answer) = answer
        && let Ok(answer) = serde_json::to_string(&answer.0)
        && let Some(left) = room.checked_sub(answer.len())
    {
        *room = left;
        all.push(format!("\"/api/v1/{address}\":{answer}"));
    }
}

fn asked(query: &'static str) -> Params {
    let known = ["state", "limit"].map(str::to_owned).into();
    let uri = Uri::builder().path_and_query(format!("/?{query}")).build();
    uri.ok().and_then(|uri| Params::of(&uri, &known).ok()).unwrap_or_default()
}
