//! What is known of anomalies, for everybody who asks for them or changes them.
//!
//! They are stored in the warm tier. Those that aren't closed are kept in the hot tier as well, in one piece under a version
//! (`tiers/hot/days.rs`): whoever changes any says so before and after, and whoever asks takes what is kept while the
//! version holds, and looks in the warm tier otherwise. What the hot tier couldn't be told makes it useless until it could.
//!
//! * `live`: what newest values say at once
//! * `standing`: what is active now, for those who watch

mod live;
mod standing;

pub use live::Live;
pub use standing::Standing;

use crate::analytics::anomaly::{Finding, Found, GRACE_MAX, Taught, Watch, add, past, settle};
use crate::analytics::store::{Anomaly, State, Wanted};
use crate::tiers::hot::days::{ACTIVE, Days, Kept, ToKeep};
use crate::tiers::{Bucket, SeriesId, SeriesInfo, TierError, WarmTier};
use shared::reading::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{MutexGuard, watch};

/// Anomalies are kept for so long after their end.
pub const KEPT: i64 = 400 * 24 * 3_600_000_000;
/// Most that are kept in the hot tier; when more are active the warm tier is asked.
pub const ACTIVE_MAX: u32 = 1_000;
/// How the list is written in the hot tier; another collector may be of another version.
const FORMAT: u8 = 1;
/// Of each series whose anomalies are looked up together.
const NEAR_MAX: u32 = 20;

/// Anomalies.
pub struct Anomalies {
    warm: Arc<dyn WarmTier>,
    kept: Option<Arc<dyn Days>>,
    /// Something couldn't be told to the hot tier; at the start nobody knows what could.
    doubt: AtomicBool,
    /// And those who reach it don't know that.
    untold: AtomicBool,
    /// Whoever settles findings does so alone: two who see the same would store it twice.
    turn: tokio::sync::Mutex<()>,
    watches: Mutex<HashMap<SeriesId, Watch>>,
    changed: watch::Sender<()>,
    standing: watch::Sender<Option<Standing>>,
}

impl Anomalies {
    /// Those in this warm tier. `kept` is the hot tier's place for them, if everybody who changes any shares it.
    #[must_use]
    pub fn new(warm: Arc<dyn WarmTier>, kept: Option<Arc<dyn Days>>) -> Self {
        Self {
            warm,
            kept,
            doubt: AtomicBool::new(true),
            untold: AtomicBool::new(true),
            turn: tokio::sync::Mutex::default(),
            watches: Mutex::default(),
            changed: watch::channel(()).0,
            standing: watch::channel(None).0,
        }
    }

    /// Those that are wanted, the latest start first, and what is missing, in words: while the warm tier can't be asked,
    /// those that are closed.
    ///
    /// # Errors
    /// When neither tier can say.
    pub async fn find(&self, wanted: &Wanted) -> Result<(Vec<Anomaly>, Option<String>), TierError> {
        match self.look_up(wanted).await {
            Ok(found) => Ok((found, None)),
            Err(error) => {
                let Some((active, lacks)) = self.still_known().await else { return Err(error) };
                Ok((chosen(active, wanted), Some(format!("{error}: {lacks}"))))
            }
        }
    }

    async fn look_up(&self, wanted: &Wanted) -> Result<Vec<Anomaly>, TierError> {
        let active = matches!(wanted.state, Some(State::Open | State::Acknowledged));
        if active && let (all, true) = self.active().await? {
            return Ok(chosen(all, wanted));
        }
        self.warm.anomalies().find_anomalies(wanted).await
    }

    /// What is known of active ones without the warm tier, and what is missing then.
    async fn still_known(&self) -> Option<(Vec<Anomaly>, &'static str)> {
        const CLOSED: &str = "closed anomalies are missing";
        const CHANGES: &str = "closed anomalies are missing, and the others are as they were when it was last asked";
        if let Ok(active) = self.kept().await {
            return Some((active, CLOSED));
        }
        // Where nothing can be kept it was asked every second. Elsewhere that may be long ago.
        let last = self.standing.borrow().clone().filter(|_| self.kept.is_none())?;
        Some((last.active.to_vec(), CHANGES))
    }

    /// All that aren't closed, the latest start first, and whether these are all: at most [`ACTIVE_MAX`].
    ///
    /// # Errors
    /// When neither tier can say.
    pub async fn active(&self) -> Result<(Vec<Anomaly>, bool), TierError> {
        let version = match self.kept().await {
            Ok(active) => return Ok((active, true)),
            Err(version) => version,
        };
        let mut active = BTreeMap::new();
        // What is acknowledged in between is found twice rather than not at all.
        for state in [State::Open, State::Acknowledged] {
            let wanted = Wanted { state: Some(state), ..Wanted::all(ACTIVE_MAX + 1) };
            let found = self.warm.anomalies().find_anomalies(&wanted).await?;
            active.extend(found.into_iter().map(|one| ((one.start, one.number), one)));
        }
        let whole = active.len() <= ACTIVE_MAX as usize;
        let active: Vec<Anomaly> = active.into_values().rev().take(ACTIVE_MAX as usize).collect();
        if let (Some(days), Some(version), true) = (&self.kept, version, whole)
            && let Ok(what) = postcard::to_allocvec(&(FORMAT, &active))
            && let Err(error) =
                days.keep(ACTIVE.series, Bucket::Hour, &[ToKeep { day: ACTIVE.day, version, what }]).await
        {
            tracing::debug!(%error, "active anomalies are not in the hot tier");
        }
        Ok((active, whole))
    }

    /// What is kept in the hot tier; otherwise under which version it may be kept, if it may.
    async fn kept(&self) -> Result<Vec<Anomaly>, Option<u64>> {
        let Some(days) = &self.kept else { return Err(None) };
        if self.doubt.swap(false, Ordering::SeqCst) && days.end(&[ACTIVE]).await.is_err() {
            self.doubt.store(true, Ordering::SeqCst);
            self.tell_others().await;
            return Err(None);
        }
        let found = days.find(ACTIVE.series, &[ACTIVE.day], Bucket::Hour).await;
        match found.ok().and_then(|mut found| found.pop()) {
            Some(Kept::Day(bytes)) => match postcard::from_bytes::<(u8, Vec<Anomaly>)>(&bytes) {
                Ok((FORMAT, active)) if !self.doubt.load(Ordering::SeqCst) => Ok(active),
                _ => Err(None),
            },
            Some(Kept::Nothing(version)) => Err(Some(version)),
            Some(Kept::Changing) | None => Err(None),
        }
    }

    /// Does what changes anomalies in the warm tier. When it fails nobody knows what became of it, so nothing is kept until
    /// another change has succeeded. When the hot tier can't be told, those who reach it are, by the warm one.
    ///
    /// # Errors
    /// As `change` has it.
    pub async fn change<T, E>(&self, change: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        if let Some(days) = &self.kept {
            self.note(days.begin(&[ACTIVE]).await);
        }
        let done = change.await?;
        if let Some(days) = &self.kept {
            self.note(days.end(&[ACTIVE]).await);
            self.tell_others().await;
        }
        self.changed.send_replace(());
        Ok(done)
    }

    fn note(&self, told: Result<(), TierError>) {
        if told.is_err() {
            self.untold.store(true, Ordering::SeqCst);
            self.doubt.store(true, Ordering::SeqCst);
        }
    }

    /// Those who reach the hot tier throw out what it keeps when they find that it is owed.
    async fn tell_others(&self) {
        let in_doubt = self.doubt.load(Ordering::SeqCst);
        if self.untold.swap(false, Ordering::SeqCst) && in_doubt && self.warm.hot().owe().await.is_err() {
            self.untold.store(true, Ordering::SeqCst);
        }
    }

    /// Waits until nobody else settles anything.
    pub async fn turn(&self) -> Turn<'_> {
        Turn { all: self, _alone: self.turn.lock().await }
    }

    /// Gives the live watch of each series to `look`.
    fn watching<T>(&self, look: impl FnOnce(&mut HashMap<SeriesId, Watch>) -> T) -> T {
        look(&mut self.watches.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets the live watch know what the job learnt of a series.
    pub fn learn(&self, series: &SeriesInfo, taught: Taught) {
        self.watching(|all| all.entry(series.id).or_insert_with(|| Watch::new(series)).learn(taught));
    }
}

/// Those of them that are wanted.
fn chosen(mut all: Vec<Anomaly>, wanted: &Wanted) -> Vec<Anomaly> {
    all.retain(|one| wanted.fits(one));
    all.truncate(wanted.count_max as usize);
    all
}

/// Somebody's turn to settle what was found.
pub struct Turn<'a> {
    all: &'a Anomalies,
    _alone: MutexGuard<'a, ()>,
}

/// How many anomalies were stored, and how many of them are new.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stored {
    /// New, or changed.
    pub changed: u64,
    /// New.
    pub opened: u64,
}

impl Turn<'_> {
    /// A series' newest anomalies that reach beyond `since`.
    ///
    /// # Errors
    /// When the warm tier doesn't answer.
    pub async fn known(&self, series: SeriesId, since: Timestamp, max: u32) -> Result<Vec<Anomaly>, TierError> {
        let wanted = Wanted { series: Some(vec![series]), from: since, ..Wanted::all(max) };
        self.all.warm.anomalies().find_anomalies(&wanted).await
    }

    /// Stores what was found in a series as a whole at `now`, after what is `known` of it.
    ///
    /// # Errors
    /// When the warm tier doesn't take it.
    pub async fn settle(
        &self,
        series: SeriesId,
        known: &[Anomaly],
        found: &Found,
        now: Timestamp,
    ) -> Result<Stored, TierError> {
        self.put(&settle(series, known, found, now), now).await
    }

    /// Stores what was found in a series' past, after what is `known` of it.
    ///
    /// # Errors
    /// When the warm tier doesn't take it.
    pub async fn past(
        &self,
        series: SeriesId,
        known: &[Anomaly],
        found: &[Finding],
        now: Timestamp,
    ) -> Result<Stored, TierError> {
        self.put(&past(series, known, found), now).await
    }

    /// Stores what was found in some series at `now`; what else is known of them stays as it is.
    ///
    /// # Errors
    /// When the warm tier doesn't answer.
    pub async fn add(&self, found: &BTreeMap<SeriesId, Vec<Finding>>, now: Timestamp) -> Result<Stored, TierError> {
        let Some(first) = found.values().flatten().map(|finding| finding.start).min() else {
            return Ok(Stored::default());
        };
        let (series, from) = (found.keys().copied().collect(), first.plus_micros(-GRACE_MAX));
        let max = NEAR_MAX.saturating_mul(u32::try_from(found.len()).unwrap_or(u32::MAX));
        let wanted = Wanted { series: Some(series), from, ..Wanted::all(max) };
        let mut known = BTreeMap::<SeriesId, Vec<Anomaly>>::new();
        for one in self.all.warm.anomalies().find_anomalies(&wanted).await? {
            known.entry(one.series).or_default().push(one);
        }
        let of = |series: &SeriesId| known.get(series).map_or(&[][..], Vec::as_slice);
        let changed = found.iter().flat_map(|(series, found)| add(*series, of(series), found));
        self.put(&changed.collect::<Vec<_>>(), now).await
    }

    async fn put(&self, changed: &[Anomaly], now: Timestamp) -> Result<Stored, TierError> {
        if !changed.is_empty() {
            let keep_from = now.plus_micros(-KEPT);
            self.all.change(self.all.warm.anomalies().put_anomalies(changed, keep_from)).await?;
        }
        let opened = changed.iter().filter(|one| one.number == 0).count() as u64;
        Ok(Stored { changed: changed.len() as u64, opened })
    }
}
