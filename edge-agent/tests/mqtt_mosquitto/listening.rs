//! The agent's MQTT source, with the test in the place of the pipeline.

use crate::mosquitto::PATIENCE;
use edge_agent::clock::Clock;
use edge_agent::registry::{PointState, Registry};
use edge_agent::sample::{Batch, Sample};
use edge_agent::sources::mqtt::config::{Broker, resolve};
use edge_agent::sources::mqtt::raw::RawBroker;
use edge_agent::sources::mqtt::spawn;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

#[derive(Deserialize)]
struct File {
    mqtt: Vec<RawBroker>,
}

/// A broker as people write it, on this port, with these lines.
pub(crate) fn broker(port: u16, lines: &str) -> Broker {
    let head = format!("[[mqtt]]\nname = \"b\"\naddress = \"127.0.0.1:{port}\"\nclient_id = \"edge\"\n{lines}");
    let file: File = toml::from_str(&head).unwrap_or_else(|error| panic!("{error}\n{head}"));
    resolve(&file.mqtt).unwrap_or_else(|mistakes| panic!("{mistakes}")).remove(0)
}

/// A running source.
pub(crate) struct Listening {
    inbox: mpsc::Receiver<Batch>,
    registry: Arc<Registry>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Listening {
    pub(crate) fn start(broker: Broker) -> Self {
        let (outlet, inbox) = mpsc::channel(1000);
        let (registry, stop) = (Registry::new(), CancellationToken::new());
        let tasks = spawn(vec![broker], Arc::clone(&registry), outlet, Clock::unrecorded(), stop.clone());
        Self { inbox, registry, stop, tasks: tasks.unwrap_or_else(|error| panic!("{error}")) }
    }

    /// What comes next.
    pub(crate) async fn next(&mut self) -> Batch {
        let batch = tokio::time::timeout(PATIENCE, self.inbox.recv()).await;
        batch.expect("a batch in time").expect("a source that runs")
    }

    /// What comes next: one sample, acknowledged.
    pub(crate) async fn sample(&mut self) -> Sample {
        let batch = self.next().await;
        assert_eq!(batch.samples.len(), 1, "{batch:?}");
        batch.done.map(|done| done.send(()));
        batch.samples[0]
    }

    /// What is there already.
    pub(crate) fn waiting(&mut self) -> Option<Batch> {
        self.inbox.try_recv().ok()
    }

    /// The point of a number.
    pub(crate) fn point(&self, sample: &Sample) -> PointState {
        self.registry.snapshot()[sample.point.0 as usize].clone()
    }

    /// All points.
    pub(crate) fn points(&self) -> Vec<PointState> {
        self.registry.snapshot()
    }

    /// Waits until some point's error has all of `parts`.
    pub(crate) async fn complained(&self, parts: &[&str]) {
        let until = Instant::now() + PATIENCE;
        let errors = || self.points().into_iter().filter_map(|point| point.error).collect::<Vec<_>>();
        while !errors().iter().any(|error| parts.iter().all(|part| error.contains(part))) {
            assert!(Instant::now() < until, "no point says {parts:?} but {:?}", errors());
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Ends it, and hands back what nobody took.
    pub(crate) async fn stop(mut self) -> Vec<Batch> {
        self.stop.cancel();
        for task in self.tasks {
            task.await.expect("the source ends well");
        }
        let mut rest = Vec::new();
        while let Ok(batch) = self.inbox.try_recv() {
            rest.push(batch);
        }
        rest
    }
}
