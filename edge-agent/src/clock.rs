//! The agent's time: `CLOCK_BOOTTIME` plus one offset per boot that, once known, never changes.
//!
//! So agent time never jumps and never goes back within a boot, whatever happens to the wall clock; and since the
//! last time that was certain is kept on disk, it doesn't go back from one boot to the next either. The kernel's
//! clock is believed when it is synchronised (or `trust = "system"` says so), else the collector's.
//! While time is unknown only a lower bound is certain; certificates are then checked at that bound.

pub mod records;

use records::{BOOTS_MAX, BootRecord, BootTime, Folder};
use rustls::pki_types::UnixTime;
use shared::ids::{BootId, unhex};
use shared::reading::Timestamp;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// When this program was built: it is certainly later.
pub const BUILT: Timestamp = Timestamp(seconds(env!("BUILD_UNIX_SECONDS")) * 1_000_000);
/// A floor further ahead than this is taken for a mistake of the past, not for a reason to run ahead.
const FLOOR_AHEAD_US_MAX: i64 = 24 * 3600 * 1_000_000;
/// How far agent time may be from the believed time before readings are marked: more than a slow link's delay.
const AHEAD_US_UNMARKED: i64 = 10_000_000;
/// Who writes this file has a synchronised clock (systemd-timesyncd).
const SYNCHRONISED_FLAG: &str = "/run/systemd/timesync/synchronized";

/// Whose time is believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// The system's when it says it is synchronised, else the collector's.
    #[default]
    Auto,
    /// The system's, always: there is a battery-backed clock or a time service that can't be asked.
    System,
}

/// Where a time comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// The system's wall clock.
    System,
    /// A collector, over a verified connection.
    Collector,
    /// An earlier run of this boot.
    Record,
}

/// Why the clock can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("clock records in {dir}: {cause}")]
pub struct ClockError {
    dir: PathBuf,
    #[source]
    cause: std::io::Error,
}

/// A handle on time, cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    hands: Option<FakeTime>,
    boot: BootId,
    trust: Trust,
    folder: Option<(Folder, PathBuf)>,
    state: Mutex<State>,
    /// Lower bound tried for one TLS handshake, see [`Clock::try_certificates_at`].
    trial_us: AtomicI64,
}

#[derive(Debug)]
struct State {
    offset_us: Option<i64>,
    evidence: Option<Evidence>,
    /// Latest time that is certain.
    floor: Timestamp,
    /// The believed wall clock minus agent time, when last compared.
    drift_us: i64,
    boots: Vec<BootRecord>,
}

/// Turns the hands of a fake clock.
#[derive(Clone, Debug)]
pub struct FakeTime(Arc<Hands>);

#[derive(Debug)]
struct Hands {
    runs: bool,
    mono_us: AtomicI64,
    wall_us: AtomicI64,
    synchronised: AtomicBool,
}

impl FakeTime {
    /// Time that stands still until it is advanced.
    #[must_use]
    pub fn standing(mono_us: i64, wall: Timestamp) -> Self {
        Self::new(false, mono_us, wall.0)
    }
    /// Time that runs, from these readings on.
    #[must_use]
    pub fn running(mono_us: i64, wall: Timestamp) -> Self {
        Self::new(true, mono_us - kernel_boottime_us(), wall.0 - kernel_boottime_us())
    }
    fn new(runs: bool, mono_us: i64, wall_us: i64) -> Self {
        let synchronised = AtomicBool::new(false);
        Self(Arc::new(Hands { runs, mono_us: mono_us.into(), wall_us: wall_us.into(), synchronised }))
    }
    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.0.mono_us.fetch_add(by.as_micros() as i64, Ordering::SeqCst);
        self.0.wall_us.fetch_add(by.as_micros() as i64, Ordering::SeqCst);
    }
    /// Steps the wall clock alone.
    pub fn step_wall_us(&self, by: i64) {
        self.0.wall_us.fetch_add(by, Ordering::SeqCst);
    }
    /// Says whether the wall clock is synchronised.
    pub fn set_synchronised(&self, yes: bool) {
        self.0.synchronised.store(yes, Ordering::SeqCst);
    }
    fn read(&self, hand: &AtomicI64) -> i64 {
        hand.load(Ordering::SeqCst) + if self.0.runs { kernel_boottime_us() } else { 0 }
    }
}

impl Clock {
    /// The clock of this machine, with its records in `dir`.
    ///
    /// # Errors
    /// When the folder can't be read or written.
    pub fn open(dir: &Path, trust: Trust) -> Result<Self, ClockError> {
        Self::with_records(dir, trust, kernel_boot_id(), None)
    }

    /// A machine's clock as a test wants it, with its records in `dir`.
    ///
    /// # Errors
    /// When the folder can't be read or written.
    pub fn open_fake(dir: &Path, trust: Trust, boot: BootId, hands: FakeTime) -> Result<Self, ClockError> {
        Self::with_records(dir, trust, boot, Some(hands))
    }

    fn with_records(dir: &Path, trust: Trust, boot: BootId, hands: Option<FakeTime>) -> Result<Self, ClockError> {
        let failed = |cause| ClockError { dir: dir.to_owned(), cause };
        let folder = Folder::open(dir).map_err(failed)?;
        let floor = folder.floor().map_err(failed)?.unwrap_or(BUILT).max(BUILT);
        let mut boots = folder.boots().map_err(failed)?;
        let now = BootRecord { boot, not_before: floor, time: None };
        if !boots.iter().any(|record| record.boot == boot) {
            while boots.len() >= BOOTS_MAX {
                folder.forget(boots.remove(0).boot).map_err(failed)?;
            }
            folder.set_boot(&now).map_err(failed)?;
            boots.push(now);
        }
        let recorded = boots.iter().find(|record| record.boot == boot).and_then(|record| record.time);
        let offset_us = match recorded {
            Some(BootTime::Known { offset_us }) => Some(offset_us),
            _ => None,
        };
        let evidence = offset_us.map(|_| Evidence::Record);
        let state = Mutex::new(State { offset_us, evidence, floor, drift_us: 0, boots });
        let folder = Some((folder, dir.to_owned()));
        Ok(Self { inner: Arc::new(Inner { hands, boot, trust, folder, state, trial_us: AtomicI64::new(i64::MIN) }) })
    }

    /// A clock for tests that stands still until its hands are turned: `mono_us` since boot, and, when it is
    /// trusted, `offset_us` from there to UTC. It writes nothing.
    #[must_use]
    pub fn fake(mono_us: i64, offset_us: Option<i64>) -> (Self, FakeTime) {
        let hands = FakeTime::standing(mono_us, Timestamp(mono_us + offset_us.unwrap_or(0)));
        (Self::without_records(offset_us, Some(hands.clone())), hands)
    }

    /// A clock on the kernel's time that believes the wall clock and writes nothing: for `probe` and `scan`, and
    /// for tests with real devices.
    #[must_use]
    pub fn unrecorded() -> Self {
        Self::without_records(Some(Timestamp::wall_clock().0 - kernel_boottime_us()), None)
    }

    fn without_records(offset_us: Option<i64>, hands: Option<FakeTime>) -> Self {
        let boot = BootId::random();
        let evidence = offset_us.map(|_| Evidence::System);
        let state = Mutex::new(State { offset_us, evidence, floor: BUILT, drift_us: 0, boots: Vec::new() });
        let trial_us = AtomicI64::new(i64::MIN);
        Self { inner: Arc::new(Inner { hands, boot, trust: Trust::Auto, folder: None, state, trial_us }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Microseconds since this boot, suspended time included. Never goes back.
    #[must_use]
    pub fn mono_us(&self) -> i64 {
        self.inner.hands.as_ref().map_or_else(kernel_boottime_us, |hands| hands.read(&hands.0.mono_us))
    }

    fn wall(&self) -> Timestamp {
        self.inner.hands.as_ref().map_or_else(Timestamp::wall_clock, |hands| Timestamp(hands.read(&hands.0.wall_us)))
    }

    fn system_is_believed(&self) -> bool {
        let synchronised = || match &self.inner.hands {
            Some(hands) => hands.0.synchronised.load(Ordering::SeqCst),
            None => Path::new(SYNCHRONISED_FLAG).exists(),
        };
        self.inner.trust == Trust::System || synchronised()
    }

    /// This boot.
    #[must_use]
    pub fn boot(&self) -> BootId {
        self.inner.boot
    }

    /// From microseconds since boot to UTC; `None` while time is not trusted. Once known it never changes.
    #[must_use]
    pub fn offset_us(&self) -> Option<i64> {
        self.state().offset_us
    }

    /// Whether UTC is known.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.offset_us().is_some()
    }

    /// Whether agent time is so far from the believed wall clock that readings should carry the doubt.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.state().drift_us.abs() > AHEAD_US_UNMARKED
    }

    /// Who said what time it is, and by how much the believed wall clock differs now, microseconds.
    #[must_use]
    pub fn evidence(&self) -> (Option<Evidence>, i64) {
        let state = self.state();
        (state.evidence, state.drift_us)
    }

    /// Now in UTC; `None` while time is not trusted.
    #[must_use]
    pub fn utc(&self) -> Option<Timestamp> {
        self.to_utc(self.mono_us())
    }

    /// A moment of this boot in UTC; `None` while time is not trusted.
    #[must_use]
    pub fn to_utc(&self, mono_us: i64) -> Option<Timestamp> {
        self.offset_us().map(|offset| Timestamp(mono_us.saturating_add(offset)))
    }

    /// Now in UTC when it is known, else the latest time that is certain.
    #[must_use]
    pub fn at_least(&self) -> Timestamp {
        let state = self.state();
        state.offset_us.map_or(state.floor, |offset| Timestamp(self.mono_us().saturating_add(offset)))
    }

    /// Waits until `mono_us` has come; at once when it has passed. Cancel safe.
    pub async fn sleep_until(&self, mono_us: i64) {
        let left = mono_us.saturating_sub(self.mono_us());
        if left > 0 {
            tokio::time::sleep(Duration::from_micros(left as u64)).await;
        }
    }

    /// Looks at the system's clock; true when that made time known. Blocks on the disk.
    pub fn ask_system(&self) -> bool {
        self.system_is_believed() && self.learn(self.wall(), self.mono_us(), Evidence::System)
    }

    /// It was `utc` at `mono_us`, says `evidence`. True when that made time known; when it was known already, only
    /// the difference is noted. Blocks on the disk: nobody sees an offset that a crash could still change.
    pub fn learn(&self, utc: Timestamp, mono_us: i64, evidence: Evidence) -> bool {
        let mut state = self.state();
        if let Some(offset) = state.offset_us {
            state.drift_us = utc.0.saturating_sub(mono_us.saturating_add(offset));
            return false;
        }
        if utc < BUILT.plus_micros(-FLOOR_AHEAD_US_MAX) {
            tracing::warn!(%utc, ?evidence, "time refused: this program was built later");
            return false;
        }
        let behind = state.floor.since(utc);
        let start = if behind > FLOOR_AHEAD_US_MAX {
            tracing::error!(floor = %state.floor, now = %utc, "an earlier run had a time far ahead: it is not followed");
            utc
        } else if behind >= 0 {
            tracing::warn!(floor = %state.floor, now = %utc, "time went back since the last run: agent time waits for it");
            state.floor.plus_micros(1000)
        } else {
            utc
        };
        let offset_us = start.0.saturating_sub(mono_us);
        if let Err(error) = self.record(&mut state, offset_us) {
            tracing::error!(%error, "the clock's record can't be written; time stays unknown until it can");
            return false;
        }
        state.offset_us = Some(offset_us);
        state.evidence = Some(evidence);
        state.drift_us = utc.since(start);
        state.floor = start;
        tracing::info!(now = %start, ?evidence, "time is known");
        true
    }

    /// Writes this boot's offset, and bounds for earlier boots that never learned theirs: they ended before this
    /// one began.
    fn record(&self, state: &mut State, offset_us: i64) -> std::io::Result<()> {
        let Some((folder, _)) = &self.inner.folder else { return Ok(()) };
        let boot = self.inner.boot;
        for record in state.boots.iter_mut().filter(|record| record.time.is_none()) {
            let not_after = Timestamp(offset_us).max(record.not_before);
            let unknown = BootTime::Unknown { not_before: record.not_before, not_after };
            let time = if record.boot == boot { BootTime::Known { offset_us } } else { unknown };
            let written = BootRecord { time: Some(time), ..*record };
            folder.set_boot(&written)?;
            *record = written;
        }
        Ok(())
    }

    /// Every boot whose time is settled.
    #[must_use]
    pub fn fixes(&self) -> Vec<(BootId, BootTime)> {
        self.state().boots.iter().filter_map(|record| Some((record.boot, record.time?))).collect()
    }

    /// Keeps the present as the latest certain time, on disk. Blocks on the disk; to be called now and then.
    pub fn keep_floor(&self) {
        let Some(now) = self.utc() else { return };
        self.state().floor = now;
        if let Some((folder, dir)) = &self.inner.folder
            && let Err(error) = folder.set_floor(now)
        {
            tracing::warn!(%error, dir = %dir.display(), "the clock's floor can't be written");
        }
    }

    /// For the next handshakes, take it to be at least `at` while time is unknown: a certificate of our own CA
    /// that isn't valid yet proves that it is later than we thought. The handshake itself tells whether it is
    /// of our CA; `None` ends the trial.
    pub fn try_certificates_at(&self, at: Option<Timestamp>) {
        self.inner.trial_us.store(at.map_or(i64::MIN, |at| at.0), Ordering::SeqCst);
    }
}

impl rustls::time_provider::TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let trial = if self.is_trusted() { i64::MIN } else { self.inner.trial_us.load(Ordering::SeqCst) };
        let micros = self.at_least().0.max(trial).max(0);
        Some(UnixTime::since_unix_epoch(Duration::from_micros(micros as u64)))
    }
}

fn kernel_boottime_us() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as i64 * 1_000_000 + now.tv_nsec as i64 / 1000
}

fn kernel_boot_id() -> BootId {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    unhex::<16>(&text.trim().replace('-', "")).map_or_else(BootId::random, BootId)
}

const fn seconds(text: &str) -> i64 {
    let (bytes, mut at, mut number) = (text.as_bytes(), 0, 0);
    while at < bytes.len() {
        number = number * 10 + (bytes[at] - b'0') as i64;
        at += 1;
    }
    number
}

#[cfg(test)]
mod tests;
