//! What a source hands on: readings by point number, before anything decides what is worth sending.

use shared::catalogue::PointNo;
use shared::reading::{Quality, Timestamp};
use tokio::sync::{mpsc, oneshot};

/// When a reading was taken, as far as its source can know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// Microseconds since this boot (`CLOCK_BOOTTIME`), from [`crate::clock::Clock::mono_us`].
    Mono(i64),
    /// The source's own timestamp.
    Utc(Timestamp),
}

/// One reading of one point.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// The point, as [`crate::registry::Registry::point`] numbered it.
    pub point: PointNo,
    /// When.
    pub at: At,
    /// The value in the metric's canonical unit; `None` when bad.
    pub value: Option<f64>,
    /// How far it can be trusted.
    pub quality: Quality,
}

/// Readings that belong together: one poll, one message.
#[derive(Debug, Default)]
pub struct Batch {
    /// The readings.
    pub samples: Vec<Sample>,
    /// Completed once all of them are on disk (or were found not worth sending), within 200 ms.
    /// Dropped without a word when the disk refused them: then nothing may be acknowledged to the sender.
    pub done: Option<oneshot::Sender<()>>,
}

/// Where sources put their readings. Bounded: a source waits while the disk is behind.
pub type Outlet = mpsc::Sender<Batch>;
