//! Gateways that send as sensors measure: every second a block each, whatever else happens.

use crate::gateway::{self, Gateway, Pace, READINGS_EACH, SERIES_EACH};
use crate::site::Site;
use anyhow::Result;
use shared::reading::{MICROS_PER_SECOND, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Moments of a block.
const MOMENTS: i64 = (READINGS_EACH / SERIES_EACH) as i64;

/// Blocks of one gateway, as far as it knows.
#[derive(Default)]
struct Count {
    stored: AtomicU64,
    committed: AtomicU64,
}

/// What goes in meanwhile.
pub(crate) struct Load {
    counts: Arc<Vec<Count>>,
    stop: Arc<AtomicBool>,
    gateways: JoinSet<Result<()>>,
}

/// How far it had got at some moment.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) at: Instant,
    pub(crate) stored: u64,
    pub(crate) committed: u64,
}

impl Load {
    /// Each gateway sends a block a second, one after the other.
    pub(crate) fn start(gateways: Vec<Gateway>) -> Self {
        let counts: Arc<Vec<Count>> = Arc::new(gateways.iter().map(|_| Count::default()).collect());
        let (stop, mut sending, begin) = (Arc::new(AtomicBool::new(false)), JoinSet::new(), Instant::now());
        let each = Duration::from_secs(1) / gateways.len() as u32;
        for (n, gateway) in gateways.into_iter().enumerate() {
            sending.spawn(feed(gateway, n, begin + each * n as u32, counts.clone(), stop.clone()));
        }
        Self { counts, stop, gateways: sending }
    }

    /// Readings so far.
    pub(crate) fn mark(&self) -> Mark {
        let sum = |of: fn(&Count) -> &AtomicU64| {
            self.counts.iter().map(|count| of(count).load(Ordering::Relaxed)).sum::<u64>() * READINGS_EACH as u64
        };
        Mark { at: Instant::now(), stored: sum(|c| &c.stored), committed: sum(|c| &c.committed) }
    }

    pub(crate) async fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.gateways.join_next().await {
            ended??;
        }
        Ok(())
    }
}

async fn feed(
    mut gateway: Gateway,
    n: usize,
    begin: Instant,
    counts: Arc<Vec<Count>>,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    let mut next = Timestamp::wall_clock();
    // What is late is sent at once: the rate is what counts.
    let mut every = tokio::time::interval_at(begin + Duration::from_secs(1), Duration::from_secs(1));
    while !stop.load(Ordering::Relaxed) {
        every.tick().await;
        gateway.send(gateway::blocks(n, 1, next, MICROS_PER_SECOND / MOMENTS)?, Pace::Window).await?;
        next = next.plus_micros(MICROS_PER_SECOND);
        counts[n].stored.fetch_add(1, Ordering::Relaxed);
        counts[n].committed.store(gateway.committed(), Ordering::Relaxed);
    }
    Ok(())
}

/// Connects all.
pub(crate) async fn connect(site: &Site, count: usize) -> Result<Vec<Gateway>> {
    let mut gateways = Vec::new();
    for n in 0..count {
        gateways.push(Gateway::connect(site, n).await?);
    }
    Ok(gateways)
}
