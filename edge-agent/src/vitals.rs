//! How the agent is: counters and last events that `status`, `/health` and the collector are told.

use serde::{Deserialize, Serialize};
use shared::reading::Timestamp;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The connection to a collector.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LinkState {
    /// `host:port` of the collector, while connected.
    pub connected: Option<String>,
    /// Since when, UTC when it was known.
    pub since: Option<String>,
    /// What ended the last connection or kept it from being made.
    pub last_error: Option<String>,
    /// Why the collector takes some blocks not now; they are kept.
    #[serde(default)]
    pub refused: Option<String>,
    /// Connections made.
    pub connections: u64,
}

/// Shared by all tasks.
#[derive(Debug)]
pub struct Vitals {
    started: Instant,
    /// Readings that sources delivered.
    pub readings: AtomicU64,
    /// Readings that report by exception held back.
    pub held_back: AtomicU64,
    /// Readings written to the spool.
    pub spooled: AtomicU64,
    /// Blocks that a collector said it has on its disk.
    pub acknowledged: AtomicU64,
    /// Readings given up because the disk refused them for too long.
    pub lost: AtomicU64,
    /// Bytes of blocks sent.
    pub bytes_sent: AtomicU64,
    /// Blocks that a collector refused for good.
    pub rejected: AtomicU64,
    /// First timestamp of the oldest block that no collector has; `i64::MIN` for none.
    oldest_unsent_us: AtomicI64,
    link: Mutex<LinkState>,
    disk_error: Mutex<Option<String>>,
    pipeline_beat: AtomicU64,
    uplink_beat: AtomicU64,
}

impl Default for Vitals {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            readings: AtomicU64::default(),
            held_back: AtomicU64::default(),
            spooled: AtomicU64::default(),
            acknowledged: AtomicU64::default(),
            lost: AtomicU64::default(),
            bytes_sent: AtomicU64::default(),
            rejected: AtomicU64::default(),
            oldest_unsent_us: AtomicI64::new(i64::MIN),
            link: Mutex::default(),
            disk_error: Mutex::default(),
            pipeline_beat: AtomicU64::default(),
            uplink_beat: AtomicU64::default(),
        }
    }
}

/// The loops that must turn, however badly things go outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loop {
    /// From sources to the spool.
    Pipeline,
    /// From the spool to the collector.
    Uplink,
}

impl Vitals {
    /// Seconds since the program started.
    #[must_use]
    pub fn uptime_s(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    fn beat_of(&self, which: Loop) -> &AtomicU64 {
        match which {
            Loop::Pipeline => &self.pipeline_beat,
            Loop::Uplink => &self.uplink_beat,
        }
    }

    /// A loop turned.
    pub fn beat(&self, which: Loop) {
        self.beat_of(which).store(self.uptime_s(), Ordering::Relaxed);
    }

    /// Seconds since a loop turned last.
    #[must_use]
    pub fn stalled_s(&self, which: Loop) -> u64 {
        self.uptime_s().saturating_sub(self.beat_of(which).load(Ordering::Relaxed))
    }

    /// The connection, to look at.
    #[must_use]
    pub fn link(&self) -> LinkState {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The connection changed.
    pub fn set_link(&self, change: impl FnOnce(&mut LinkState)) {
        change(&mut self.link.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What the disk says, while it refuses.
    #[must_use]
    pub fn disk_error(&self) -> Option<String> {
        self.disk_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The disk refuses, or doesn't any more.
    pub fn set_disk_error(&self, error: Option<String>) {
        *self.disk_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// First timestamp of the oldest block that no collector has.
    #[must_use]
    pub fn oldest_unsent(&self) -> Option<Timestamp> {
        Some(self.oldest_unsent_us.load(Ordering::Relaxed)).filter(|at| *at > i64::MIN).map(Timestamp)
    }

    /// As [`Vitals::oldest_unsent`].
    pub fn set_oldest_unsent(&self, at: Option<Timestamp>) {
        self.oldest_unsent_us.store(at.map_or(i64::MIN, |at| at.0), Ordering::Relaxed);
    }
}

/// Adds to a counter here and to the metric of that name.
pub fn count(counter: &AtomicU64, metric: &'static str, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
    metrics::counter!(metric).increment(by);
}
