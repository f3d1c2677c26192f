//! A collector with its hot tier in Redis, and Redis killed, hung, late, restored: ingest goes on, every answer is
//! right, and the tier fills itself again.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

mod services;
mod support;

use rustix::process::Signal;
use services::redis::Redis;
use shared::block::TimeBase;
use shared::catalogue::CatalogueHash;
use shared::reading::Timestamp;
use std::time::Duration;
use support::*;

const NODE: &str = "DIST_001";

/// Answers are short of patience here, so that an outage is one.
fn site(redis: &Redis) -> Site {
    let hot =
        collector::tiers::hot::settings::HotSettings { timeout: Duration::from_millis(500).into(), ..redis.settings() };
    Site::new(&["STATION_7"], |config| config.hot = hot)
}

struct Flow {
    client: Client,
    hash: CatalogueHash,
    began: i64,
    sent: u64,
}

impl Flow {
    async fn new(collector: &Collector) -> Self {
        let (client, hash) = Client::ready(collector, "STATION_7", &[NODE]).await;
        // An hour ago: some of it lies in an hour that is over.
        Self { client, hash, began: now() - 3_600 * SECOND, sent: 0 }
    }

    fn at(&self, seq: u64) -> i64 {
        self.began + seq.cast_signed() * SECOND
    }

    async fn send(&mut self, count: u64) {
        for _ in 0..count {
            self.sent += 1;
            let bytes = block(self.hash, TimeBase::Utc, &[(0, self.at(self.sent), self.sent as f64)]);
            self.client.block(self.sent, bytes).await;
        }
    }

    async fn committed(&mut self) {
        self.client.wait_committed(seqs(1..=self.sent)).await;
    }

    fn expected(&self) -> Vec<(Timestamp, Option<f64>)> {
        (1..=self.sent).map(|seq| (Timestamp(self.at(seq)), Some(seq as f64))).collect()
    }

    /// What the tiers say of the stretch, and which of them say it.
    async fn asked(&self, collector: &Collector) -> (usize, Vec<String>) {
        let (from, to) = (Timestamp(self.began), Timestamp(self.at(self.sent + 1)));
        let path = format!("history?node={NODE}&metric=pressure&from={from}&to={to}&resolution=raw&limit=10000");
        let answer = collector.get(&path).await;
        let tiers =
            answer["tiers"].as_array().map(|t| t.iter().filter_map(|t| t.as_str().map(str::to_owned)).collect());
        (answer["points"].as_array().map_or(0, Vec::len), tiers.unwrap_or_default())
    }

    async fn is_answered_by_hot_alone(&self, collector: &Collector) {
        let mut last = None;
        let found = until(async || {
            let asked = self.asked(collector).await;
            let done = asked == (self.sent as usize, vec!["hot".to_owned()]);
            last = Some(asked);
            done
        });
        assert!(found.await, "{last:?}, {} were sent", self.sent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_started_empty_it_is_filled_again_and_nothing_is_missing() {
    let mut redis = Redis::start().await;
    let site = site(&redis);
    let collector = site.start().await;
    let mut flow = Flow::new(&collector).await;
    flow.send(50).await;
    flow.committed().await;
    flow.is_answered_by_hot_alone(&collector).await;
    for _ in 0..3 {
        redis.kill();
        flow.send(50).await;
        flow.committed().await;
        collector.wait_for_history(NODE, &flow.expected()).await;
        redis.restart().await;
        flow.send(1).await;
        flow.committed().await;
        flow.is_answered_by_hot_alone(&collector).await;
        assert_eq!(collector.history(NODE).await, flow.expected());
    }
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hung_it_holds_up_nothing() {
    let redis = Redis::start().await;
    let site = site(&redis);
    let collector = site.start().await;
    let mut flow = Flow::new(&collector).await;
    flow.send(20).await;
    flow.committed().await;
    redis.signal(Signal::STOP);
    flow.send(20).await;
    flow.committed().await;
    collector.wait_for_history(NODE, &flow.expected()).await;
    redis.signal(Signal::CONT);
    flow.send(20).await;
    flow.committed().await;
    flow.is_answered_by_hot_alone(&collector).await;
    assert_eq!(collector.history(NODE).await, flow.expected());
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn emptied_at_any_time_it_shows_no_hole() {
    let redis = Redis::start().await;
    let site = site(&redis);
    let collector = site.start().await;
    let mut flow = Flow::new(&collector).await;
    for _ in 0..10 {
        flow.send(10).await;
        redis.command::<()>(&["FLUSHALL"]).await;
        flow.send(10).await;
        flow.committed().await;
        assert_eq!(collector.history(NODE).await, flow.expected());
    }
    flow.is_answered_by_hot_alone(&collector).await;
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_may_come_later_than_the_collector_and_stay_when_that_restarts() {
    let mut redis = Redis::start().await;
    let site = site(&redis);
    redis.kill();
    let collector = site.start().await;
    let mut flow = Flow::new(&collector).await;
    flow.send(30).await;
    flow.committed().await;
    assert_eq!(collector.history(NODE).await, flow.expected());
    redis.restart().await;
    flow.is_answered_by_hot_alone(&collector).await;
    collector.stop().await;
    let collector = site.start().await;
    flow.is_answered_by_hot_alone(&collector).await;
    assert_eq!(collector.history(NODE).await, flow.expected());
    collector.stop().await;
}
