//! Messages posted as JSON.
//!
//! With a secret the header `X-Signature-256: sha256=…` holds the HMAC-SHA256 (RFC 2104) of the body in hexadecimal digits, so
//! that the receiver knows who wrote it.

use super::settings::secret;
use super::{Channel, Message};
use crate::config::ValueError;
use futures::future::BoxFuture;
use reqwest::{Client, Url};
use ring::hmac;
use shared::ids::hex;
use std::path::Path;
use std::time::Duration;

/// Longest wait for the receiver.
const WITHIN: Duration = Duration::from_secs(15);

pub(super) struct Webhook {
    name: String,
    url: Url,
    key: Option<hmac::Key>,
    client: Client,
}

/// The address; only http and https.
pub(super) fn parse(text: &str) -> Result<Url, ValueError> {
    // Not the text itself: its path may be a secret.
    let wrong = |why: &str| ValueError::new("alerts.webhook", "(hidden)".into(), why);
    let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
    match url.scheme() {
        "http" | "https" if url.host_str().is_some() => Ok(url),
        _ => Err(wrong("an address like https://host/path is needed")),
    }
}

impl Webhook {
    pub(super) fn new(text: &str, secret_file: Option<&Path>) -> Result<Self, ValueError> {
        let url = parse(text)?;
        let secret = secret_file.map(|file| secret("alerts.webhook_secret_file", file)).transpose()?;
        let key = secret.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()));
        let wrong = |error: reqwest::Error| ValueError::new("alerts.webhook", "(hidden)".into(), &error.to_string());
        // A redirect would carry the message to someone nobody named.
        let client = Client::builder().timeout(WITHIN).redirect(reqwest::redirect::Policy::none()).build();
        let name = format!("webhook {}", url.host_str().unwrap_or_default());
        Ok(Self { name, url, key, client: client.map_err(wrong)? })
    }

    async fn post(&self, message: &Message) -> Result<(), String> {
        let body = message.json().to_string();
        let mut request = self.client.post(self.url.clone()).header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("x-signature-256", signature(key, body.as_bytes()));
        }
        let answer = request.body(body).send().await.map_err(|error| reason(&error.without_url()))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("it answers {status}")),
        }
    }
}

/// `sha256=` and the digits.
fn signature(key: &hmac::Key, body: &[u8]) -> String {
    format!("sha256={}", hex(hmac::sign(key, body).as_ref()))
}

/// What is at the bottom of it; what is above says only that a request failed.
fn reason(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

impl Channel for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(self.post(message))
    }
}
