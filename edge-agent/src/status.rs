//! How the agent is, for `status` and for whoever watches it: one structure, served as JSON and shown as a table.

use crate::clock::Clock;
use crate::registry::PointState;
use crate::sample::{At, Sample};
use crate::uplink::{Current, Delivered};
use crate::vitals::{LinkState, Loop, Vitals};
use serde::{Deserialize, Serialize};
use shared::reading::Timestamp;
use shared::spool::{Spool, Usage};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

/// Loops that didn't turn for longer stand still.
const STALLED_S: u64 = 60;
/// Writing per day is told from what is written after so many seconds.
const MARK_AFTER_S: u64 = 60;

/// Where the answer comes from.
#[derive(Clone, Debug)]
pub struct Status {
    /// The name in the certificate.
    pub gateway: String,
    /// Time.
    pub clock: Clock,
    /// The queue on disk.
    pub spool: Spool,
    /// What of it a collector has.
    pub delivered: Arc<Delivered>,
    /// Counters.
    pub vitals: Arc<Vitals>,
    /// The points of now.
    pub current: watch::Receiver<Current>,
}

/// Everything.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct View {
    /// The gateway's name.
    pub gateway: String,
    /// The program's version.
    pub version: String,
    /// Seconds since the program started.
    pub uptime_s: u64,
    /// Whether all loops turn.
    pub healthy: bool,
    /// The clock.
    pub clock: ClockView,
    /// The connection.
    pub link: LinkState,
    /// The queue on disk.
    pub spool: SpoolView,
    /// Readings.
    pub readings: ReadingsView,
    /// Every link and broker that was tried, and what is wrong with it.
    #[serde(default)]
    pub links: std::collections::BTreeMap<String, Option<String>>,
    /// All points.
    pub points: Vec<PointView>,
}

/// The clock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClockView {
    /// Whether UTC is known.
    pub trusted: bool,
    /// Agent time, or the latest time that is certain.
    pub now: String,
    /// Who said what time it is.
    pub evidence: Option<String>,
    /// How far the believed wall clock is off, seconds.
    pub drift_s: f64,
}

/// The queue on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SpoolView {
    /// Its stream.
    pub stream: String,
    /// Blocks held.
    pub blocks: u64,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Their bound.
    pub bytes_max: u64,
    /// First time of the oldest block that no collector has.
    pub oldest_unsent: Option<String>,
    /// Stretches that are missing and not yet told to a collector.
    pub gaps: u64,
    /// Blocks dropped for room, given up, or lost to damage, ever.
    pub lost_blocks: u64,
    /// What the disk says while it refuses.
    pub disk_error: Option<String>,
    /// What this program writes to the disk, bytes per day, taken from its run so far.
    pub disk_bytes_per_day: Option<u64>,
}

/// Counts since the start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReadingsView {
    /// From sources.
    pub read: u64,
    /// Held back by report by exception.
    pub held_back: u64,
    /// On disk.
    pub spooled: u64,
    /// Lost since the disk refused.
    pub lost: u64,
    /// Blocks refused by a collector for good.
    pub rejected_blocks: u64,
}

/// One point.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PointView {
    /// Where.
    pub node: String,
    /// What.
    pub metric: String,
    /// Which of a kind.
    pub channel: String,
    /// Canonical unit.
    pub unit: String,
    /// Where it is read.
    pub source: String,
    /// Last usable value.
    pub value: Option<f64>,
    /// Seconds since the last reading.
    pub age_s: Option<f64>,
    /// Quality of the last reading.
    pub quality: Option<String>,
    /// What is wrong with it now.
    pub error: Option<String>,
    /// Readings so far.
    pub readings: u64,
    /// Bad ones among them.
    pub bad: u64,
}

impl Status {
    /// Whether all loops turn.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        [Loop::Pipeline, Loop::Uplink].iter().all(|which| self.vitals.stalled_s(*which) < STALLED_S)
    }

    /// Everything, as it is now. Reads `/proc`.
    #[must_use]
    pub fn view(&self) -> View {
        let (evidence, drift_us) = self.clock.evidence();
        let evidence = evidence.map(|evidence| format!("{evidence:?}").to_lowercase());
        let points = self.current.borrow().registry.snapshot();
        let (uptime_s, link) = (self.vitals.uptime_s(), self.vitals.link());
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        View {
            gateway: self.gateway.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s,
            healthy: self.is_healthy(),
            clock: ClockView {
                trusted: self.clock.is_trusted(),
                now: self.clock.at_least().to_string(),
                evidence,
                drift_s: drift_us as f64 / 1e6,
            },
            spool: self.spool_view(uptime_s, &link),
            link,
            readings: ReadingsView {
                read: count(&self.vitals.readings),
                held_back: count(&self.vitals.held_back),
                spooled: count(&self.vitals.spooled),
                lost: count(&self.vitals.lost),
                rejected_blocks: count(&self.vitals.rejected),
            },
            links: self.current.borrow().registry.links(),
            points: points.into_iter().map(|point| self.point(point)).collect(),
        }
    }

    fn spool_view(&self, uptime_s: u64, link: &LinkState) -> SpoolView {
        let usage = self.spool.usage();
        // What the session says of it is old when there is none.
        let oldest_unsent = match link.connected {
            Some(_) => self.vitals.oldest_unsent(),
            None => self.delivered.oldest_lacking(&self.spool),
        };
        let Usage { records, bytes, bytes_max, gaps, dropped_total, given_up_total, lost_total, .. } = usage;
        SpoolView {
            stream: self.spool.stream().to_string(),
            blocks: records,
            bytes,
            bytes_max,
            oldest_unsent: oldest_unsent.map(|at| at.to_string()),
            gaps,
            lost_blocks: dropped_total + given_up_total + lost_total,
            disk_error: self.vitals.disk_error(),
            disk_bytes_per_day: disk_bytes_per_day(uptime_s),
        }
    }

    fn point(&self, point: PointState) -> PointView {
        let entry = point.def.entry;
        PointView {
            node: entry.node.to_string(),
            metric: entry.metric,
            channel: entry.channel,
            unit: entry.unit,
            source: point.def.source,
            value: point.last_usable.and_then(|sample| sample.value),
            age_s: point.last.map(|sample| self.age_s(&sample)),
            quality: point.last.map(|sample| sample.quality.to_string()),
            error: point.error,
            readings: point.readings,
            bad: point.bad,
        }
    }

    fn age_s(&self, sample: &Sample) -> f64 {
        let age_us = match sample.at {
            At::Mono(at) => self.clock.mono_us() - at,
            At::Utc(Timestamp(at)) => self.clock.at_least().0.saturating_sub(at),
        };
        age_us.max(0) as f64 / 1e6 // its own time may be ahead of what is certain here
    }

    /// Brings the gauges of `/metrics` up to date.
    pub fn set_gauges(&self) {
        let usage = self.spool.usage();
        let (points, bad) = self.current.borrow().registry.counts();
        let connected = self.vitals.link().connected.is_some();
        for (name, value) in [
            ("edge_spool_bytes", usage.bytes as f64),
            ("edge_spool_bytes_max", usage.bytes_max as f64),
            ("edge_spool_blocks", usage.records as f64),
            ("edge_spool_gaps", usage.gaps as f64),
            ("edge_spool_blocks_dropped", usage.dropped_total as f64),
            ("edge_spool_blocks_lost", usage.lost_total as f64),
            ("edge_points", f64::from(points)),
            ("edge_points_bad", f64::from(bad)),
            ("edge_connected", f64::from(u8::from(connected))),
            ("edge_clock_trusted", f64::from(u8::from(self.clock.is_trusted()))),
            ("edge_disk_written_bytes", disk_bytes_written().unwrap_or(0) as f64),
            ("edge_uptime_seconds", self.vitals.uptime_s() as f64),
        ] {
            metrics::gauge!(name).set(value);
        }
    }
}

/// Bytes written to the disk per day. What the start wrote is left out: the first call after a minute, which
/// housekeeping makes, sets the mark that is counted from.
pub(crate) fn disk_bytes_per_day(uptime_s: u64) -> Option<u64> {
    static MARK: OnceLock<(u64, u64)> = OnceLock::new();
    let bytes = disk_bytes_written()?;
    if uptime_s < MARK_AFTER_S {
        return None;
    }
    let (at_s, mark) = *MARK.get_or_init(|| (uptime_s, bytes));
    ((bytes - mark) * 86_400).checked_div(uptime_s - at_s)
}

/// Bytes this process caused to be written to block devices (`man 5 proc`, `/proc/pid/io`).
fn disk_bytes_written() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/io").ok()?;
    text.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.trim().parse().ok()
}
