//! Taking in: what gateways send is checked, put on disk, and acknowledged.
//!
//! `accept` makes a connection a session (`waiting` bounds who may take how long over it), `session` reads and `talk`
//! writes it, `intake` puts blocks on disk for all of them, `answers` is what a session owes its gateway. The flusher
//! (`crate::flush`) reports through `sessions`.

pub mod accept;
pub mod answers;
pub mod aside;
pub mod catalogues;
pub mod check;
pub mod clocks;
pub mod heard;
pub mod intake;
pub mod item;
pub mod ledger;
pub mod pressure;
pub mod restore;
pub mod session;
pub mod sessions;
mod talk;
pub mod waiting;

use crate::flush::Fixes;
use crate::grants::Grants;
use crate::resolve::Resolver;
use crate::tiers::hot::memory::Now;
use crate::tiers::{StoredReading, WarmTier};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, mpsc};

/// What all sessions share.
pub struct Ingest {
    /// This collector's name, for gateways' logs.
    pub collector: String,
    /// Which gateway may write what.
    pub grants: Grants,
    /// The catalogues on disk.
    pub catalogues: Arc<catalogues::Catalogues>,
    /// What is stored and committed.
    pub ledger: Arc<ledger::Ledger>,
    /// Who is connected.
    pub sessions: Arc<sessions::Sessions>,
    /// Where refused blocks go.
    pub aside: Arc<aside::Aside>,
    /// Most refusals that are written at a time.
    pub aside_turns: Semaphore,
    /// The series of catalogues in use.
    pub resolver: Arc<Resolver>,
    /// Clock fixes that the warm tier has.
    pub fixes: Arc<Fixes>,
    /// Asked for the account of a stream that shows for the first time.
    pub warm: Arc<dyn WarmTier>,
    /// The way onto the disk.
    pub intake: intake::Intake,
    /// Whether anything can be stored.
    pub pressure: Arc<pressure::Pressure>,
    /// The way of newest values to the hot tier.
    pub live: mpsc::Sender<Vec<StoredReading>>,
    /// Told when a gateway came, went, or said how it is.
    pub seen: Arc<Notify>,
    /// What gateways say of the time.
    pub clocks: Arc<clocks::Clocks>,
    /// This machine's clock.
    pub now: Now,
    /// What is asked of readings' times.
    pub timely: crate::resolve::Timely,
    /// Who says nothing for so long is gone.
    pub idle_timeout: Duration,
}
