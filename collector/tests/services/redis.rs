//! Redis as Debian packages it.

use super::{Service, eventually};
use collector::tiers::hot::redis::Source;
use collector::tiers::hot::settings::{HotSettings, Store};
use collector::tiers::{SeriesId, StoredReading, TierError};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use rustix::process::Signal;
use shared::reading::Timestamp;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A server on a socket in a temporary folder.
#[derive(Debug)]
pub struct Redis {
    service: Option<Service>,
    folder: tempfile::TempDir,
    arguments: Vec<String>,
    prefixes: AtomicU32,
}

/// A warm tier without readings.
pub struct Nothing;

impl Source for Nothing {
    fn range(&self, _: SeriesId, _: Timestamp, _: Timestamp) -> BoxFuture<'_, Result<Vec<StoredReading>, TierError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

impl Redis {
    /// A server that writes nothing to disk by itself.
    pub async fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"]).await
    }

    pub async fn start_with(arguments: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("redis-").tempdir().unwrap();
        let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        let mut server = Self { service: None, folder, arguments, prefixes: AtomicU32::new(0) };
        server.restart().await;
        server
    }

    pub fn socket(&self) -> String {
        self.folder.path().join("redis.sock").display().to_string()
    }

    /// Starts it again after [`Self::kill`], and waits until it answers.
    pub async fn restart(&mut self) {
        self.service = None;
        let (socket, folder) = (self.socket(), self.folder.path().display().to_string());
        let mut command = vec!["redis-server", "--port", "0", "--unixsocket", &socket, "--dir", &folder];
        command.extend(self.arguments.iter().map(String::as_str));
        self.service = Some(Service::start(&command, None, Signal::TERM, Stdio::null()));
        let answers = async || self.connect().await.is_ok();
        eventually("Redis answers", Duration::from_secs(30), answers).await;
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.service.as_mut().unwrap().kill();
    }

    pub fn signal(&self, signal: Signal) {
        self.service.as_ref().unwrap().signal(signal);
    }

    async fn connect(&self) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
        let client = redis::Client::open(format!("unix://{}", self.socket()))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("PING").query_async::<()>(&mut connection).await?;
        Ok(connection)
    }

    /// Runs a command.
    pub async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(*word);
        });
        let mut connection = self.connect().await.unwrap();
        command.query_async(&mut connection).await.unwrap_or_else(|e| panic!("{words:?}: {e}"))
    }

    /// What the server runs meanwhile, scripts' own commands as well: words of each command, and whether a script ran it.
    pub async fn watched(&self, during: impl Future<Output = ()>) -> Vec<(bool, Vec<String>)> {
        const END: &str = "that was all";
        let client = redis::Client::open(format!("unix://{}", self.socket())).unwrap();
        let monitor = client.get_async_monitor().await.unwrap();
        let lines = monitor.into_on_message::<String>();
        during.await;
        self.command::<String>(&["ECHO", END]).await;
        // 1780000000.123456 [0 lua] "HGET" "key" "field"
        let parsed = lines.map(|line| {
            let (head, words) = line.split_once("] ").unwrap_or((&line, ""));
            let words = words.trim_matches('"').split("\" \"").map(str::to_owned).collect::<Vec<_>>();
            (head.ends_with(" lua"), words)
        });
        parsed.take_while(|(_, words)| std::future::ready(words.last().is_none_or(|w| w != END))).collect().await
    }

    /// Settings for keys that nobody else has.
    pub fn settings(&self) -> HotSettings {
        HotSettings {
            store: Some(Store::Redis),
            host: self.socket(),
            prefix: format!("test{}", self.prefixes.fetch_add(1, Ordering::Relaxed)),
            timeout: Duration::from_secs(10).into(),
            ..HotSettings::default()
        }
    }
}
