//! Stands in front of an HTTP service and passes everything on, one request at a time, but for what a test spoils.

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use futures::{StreamExt as _, stream};
use std::sync::{Arc, Mutex};

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spoilt {
    /// It never gets there; this status and body come back instead.
    Refused(u16, &'static str),
    /// It gets there, and its answer is cut off in the middle.
    Cut,
}

#[derive(Debug)]
struct Rule {
    method: &'static str,
    path: &'static str,
    body: &'static str,
    times: usize,
    how: Spoilt,
}

#[derive(Debug, Default)]
struct Shared {
    to: String,
    turn: tokio::sync::Mutex<()>,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<(String, String)>>,
}

/// The one in between; it ends with the runtime.
#[derive(Clone, Debug)]
pub struct Meddler {
    shared: Arc<Shared>,
    pub port: u16,
}

impl Meddler {
    /// In front of a service on this machine.
    pub async fn start(to: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { to: format!("http://127.0.0.1:{to}"), ..Shared::default() });
        let app = axum::Router::new().fallback(pass).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { shared, port }
    }

    /// Spoils the next `times` requests of a method whose path begins so, and whose body has `body` in it.
    pub fn spoil(&self, method: &'static str, path: &'static str, body: &'static str, times: usize, how: Spoilt) {
        self.shared.rules.lock().unwrap().push(Rule { method, path, body, times, how });
    }

    /// Whether all that was to be spoilt was.
    pub fn is_done(&self) -> bool {
        self.shared.rules.lock().unwrap().iter().all(|rule| rule.times == 0)
    }

    /// Bodies of the requests whose path is so.
    pub fn bodies(&self, of: &str) -> Vec<String> {
        let seen = self.shared.seen.lock().unwrap();
        seen.iter().filter(|(path, _)| path == of).map(|(_, body)| body.clone()).collect()
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 64 << 20).await.unwrap();
    let path = parts.uri.path().to_owned();
    let text = String::from_utf8_lossy(&body).into_owned();
    let spoilt = {
        let mut rules = shared.rules.lock().unwrap();
        let meant = |rule: &&mut Rule| {
            rule.times > 0 && parts.method == rule.method && path.starts_with(rule.path) && text.contains(rule.body)
        };
        rules.iter_mut().find(meant).map(|rule| {
            rule.times -= 1;
            rule.how
        })
    };
    shared.seen.lock().unwrap().push((path, text));
    if let Some(Spoilt::Refused(status, body)) = spoilt {
        return (StatusCode::from_u16(status).unwrap(), body).into_response();
    }
    let url = format!("{}{}", shared.to, parts.uri.path_and_query().unwrap());
    let mut onward = reqwest::Client::new().request(parts.method, url).body(body);
    for name in ["content-type", "authorization"] {
        if let Some(value) = parts.headers.get(name) {
            onward = onward.header(name, value);
        }
    }
    let turn = shared.turn.lock().await;
    let answer = onward.send().await.unwrap();
    let status = answer.status();
    let bytes = answer.bytes().await.unwrap();
    drop(turn);
    if spoilt == Some(Spoilt::Cut) {
        let half = Ok::<Bytes, std::io::Error>(bytes.slice(..bytes.len() / 2));
        let cut = Err(std::io::Error::other("cut off"));
        return Body::from_stream(stream::iter([half, cut]).boxed()).into_response();
    }
    (status, [("content-type", "application/json")], bytes).into_response()
}
