//! What reads have found damaged, and a bell for those who want to know at once.

use super::ParquetCold;
use super::names::{FileName, Picture};
use super::shelf::Known;
use crate::tiers::{Damage, Day, TierError};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Damaged files that are read again together, and how often: a disk that dies has many, and whole files are read.
const READ_AGAIN: usize = 8;
const READ_EVERY: Duration = Duration::from_secs(600);

/// A file that isn't what was written.
#[derive(Clone, Debug)]
struct Found {
    /// As it was then: when it has changed nobody knows.
    known: Known,
    why: String,
}

/// The files that were found damaged.
#[derive(Debug)]
pub(super) struct Damaged {
    found: Mutex<BTreeMap<FileName, Found>>,
    /// The last that was read again, and when.
    last: Mutex<(Option<FileName>, Instant)>,
    /// Days that were held when somebody looked last.
    days: Mutex<usize>,
    bell: watch::Sender<()>,
}

impl Default for Damaged {
    fn default() -> Self {
        let last = Mutex::new((None, Instant::now()));
        Self { found: Mutex::default(), last, days: Mutex::default(), bell: watch::channel(()).0 }
    }
}

impl Damaged {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<FileName, Found>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rings whenever days came or went, or what is damaged has changed.
    pub(super) fn bell(&self) -> watch::Receiver<()> {
        self.bell.subscribe()
    }

    /// A read has found a file damaged.
    pub(super) fn note(&self, file: FileName, known: Known, why: &str) {
        let found = Found { known, why: why.to_owned() };
        if self.lock().insert(file, found).is_none() {
            tracing::error!("{why}");
            self.bell.send_replace(());
        }
    }

    /// All of a file's bytes are as they were written.
    pub(super) fn is_sound(&self, file: FileName) {
        if self.lock().remove(&file).is_some() {
            self.bell.send_replace(());
        }
    }

    /// What is gone, or isn't as it was, isn't damaged any more as far as anybody knows.
    pub(super) fn see(&self, picture: &Picture) {
        let (before, after) = {
            let mut found = self.lock();
            let before = found.len();
            found.retain(|file, found| picture.known(*file).as_ref() == Some(&found.known));
            (before, found.len())
        };
        let days = picture.count();
        let seen = std::mem::replace(&mut *self.days.lock().unwrap_or_else(PoisonError::into_inner), days);
        if before != after || seen != days {
            self.bell.send_replace(());
        }
    }

    /// The files, and why.
    fn all(&self) -> Vec<(FileName, String)> {
        self.lock().iter().map(|(file, found)| (*file, found.why.clone())).collect()
    }

    /// The files that are to be read again, others each time.
    fn due(&self) -> Vec<FileName> {
        let (found, mut last) = (self.lock(), self.last.lock().unwrap_or_else(PoisonError::into_inner));
        if last.1.elapsed() < READ_EVERY {
            return Vec::new();
        }
        let after = last.0.map_or(Bound::Unbounded, Bound::Excluded);
        let all = found.range((after, Bound::Unbounded)).chain(found.iter());
        let due: Vec<FileName> = all.map(|(file, _)| *file).take(READ_AGAIN.min(found.len())).collect();
        *last = (due.last().copied(), Instant::now());
        due
    }
}

impl ParquetCold {
    /// What is damaged now. Some of it is read again: who puts a copy in the place of a file may give it the old one's date.
    pub(super) async fn damage_now(&self) -> Result<Vec<Damage>, TierError> {
        let damaged = &self.shelf().damaged;
        if damaged.all().is_empty() {
            return Ok(Vec::new());
        }
        let picture = self.shelf().picture().await?;
        self.read_again(&picture, damaged.due()).await;
        let all = damaged.all().into_iter();
        let all = all.map(|(file, why)| Damage { days: picture.days_of(file), why });
        Ok(all.filter(|damage| !damage.days.is_empty()).collect())
    }

    /// Reads the files through that hold these days.
    pub(super) async fn check_days(&self, days: Vec<Day>) -> Result<(), TierError> {
        let picture = self.shelf().picture().await?;
        let files: BTreeSet<FileName> = days.into_iter().filter_map(|day| picture.holder(day)).collect();
        self.read_again(&picture, files).await;
        Ok(())
    }

    /// What is found is noted. A store that doesn't answer is told elsewhere.
    async fn read_again(&self, picture: &Picture, files: impl IntoIterator<Item = FileName>) {
        for file in files {
            if let Some(meta) = picture.meta(file)
                && let Err(error) = self.shelf().check_again(file, meta).await
            {
                tracing::debug!(%error, "a file of the archive isn't sound");
            }
        }
    }
}
