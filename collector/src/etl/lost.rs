//! What was archived and can't be read from the archive any more: a folder that isn't mounted, a bucket that was emptied, a
//! file that is damaged. It is told without waiting for the first question that comes back empty.

use super::jobs::Alarm;
use super::ledger::{DayEntry, Raw};
use crate::tiers::cold::lost::{damage_words, words};
use crate::tiers::{ColdTier, Damage, Day, TierError, WarmTier};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between two looks at what the archive holds, when it says nothing by itself.
const LOOK_EVERY: Duration = Duration::from_secs(120);
/// While something is lost: someone mounts the folder, or another collector archives it again.
const LOOK_SOON: Duration = Duration::from_secs(15);
/// Between two looks at least: much may change at a time.
const PAUSE: Duration = Duration::from_secs(1);
/// Damaged files that are named.
const NAMED: usize = 3;

/// What the archive should have and can't give.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Lost {
    place: String,
    /// Days that it was proved to have and doesn't hold, ascending.
    pub missing: Vec<Day>,
    /// What it holds and can't read.
    pub damage: Vec<Damage>,
    /// Days of which the warm tier has everything.
    here: BTreeSet<Day>,
}

impl Lost {
    /// By the archive's list and what it knows of damage.
    ///
    /// # Errors
    /// When a tier doesn't answer.
    pub async fn look(warm: &dyn WarmTier, cold: &dyn ColdTier) -> Result<Self, TierError> {
        Self::of(&warm.days().days(Day::FIRST, Day::LAST.next()).await?, cold).await
    }

    /// Of these days.
    ///
    /// # Errors
    /// When the archive doesn't answer.
    pub async fn of(days: &[DayEntry], cold: &dyn ColdTier) -> Result<Self, TierError> {
        let mut missing: Vec<Day> = days.iter().filter(|entry| entry.exported > 0).map(|entry| entry.day).collect();
        // Twice: while files are put in the place of others, a list may have neither.
        for _ in 0..2 {
            let (Some(first), Some(last)) = (missing.first(), missing.last()) else { break };
            let there: BTreeSet<Day> = cold.days(*first, last.next()).await?.into_iter().collect();
            missing.retain(|day| !there.contains(day));
        }
        let here = days.iter().filter(|entry| entry.raw == Raw::Here).map(|entry| entry.day).collect();
        Ok(Self { place: cold.place(), missing, damage: cold.damage().await?, here })
    }

    /// Days that are to be archived again from the warm tier. Not those that are missing while others are that have left:
    /// then the archive is likely elsewhere.
    #[must_use]
    pub fn again(&self) -> BTreeSet<Day> {
        let elsewhere = self.missing.iter().any(|day| !self.here.contains(day));
        let missing = self.missing.iter().filter(|_| !elsewhere);
        missing
            .chain(self.damage.iter().flat_map(|damage| &damage.days))
            .copied()
            .filter(|d| self.here.contains(d))
            .collect()
    }

    /// What is left of it when these days were archived.
    #[must_use]
    pub fn without(mut self, archived: &BTreeSet<Day>) -> Self {
        self.missing.retain(|day| !archived.contains(day));
        self.damage.iter_mut().for_each(|damage| damage.days.retain(|day| !archived.contains(day)));
        self.damage.retain(|damage| !damage.days.is_empty());
        self
    }

    /// What is lost and what may be done; `None` when nothing is.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        let missing = (!self.missing.is_empty()).then(|| words(&self.place, &self.missing));
        let named = self.damage.iter().take(NAMED).map(|damage| damage_words(damage, |day| self.here.contains(&day)));
        let more = self.damage.len().saturating_sub(NAMED);
        let more = (more > 0).then(|| format!("and {more} more damaged files"));
        let all: Vec<String> = missing.into_iter().chain(named).chain(more).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// Raises the alarm while something is lost, until `stop`.
pub async fn watch(warm: Arc<dyn WarmTier>, cold: Arc<dyn ColdTier>, alarm: Arc<Alarm>, stop: CancellationToken) {
    let mut changes = cold.changes();
    loop {
        changes.iter_mut().for_each(watch::Receiver::mark_unchanged);
        look(&*warm, &*cold, &alarm).await;
        let every = if alarm.why().is_some() { LOOK_SOON } else { LOOK_EVERY };
        let next = async {
            tokio::time::sleep(PAUSE).await;
            let _ = tokio::time::timeout(every, changed(&mut changes)).await;
        };
        if stop.run_until_cancelled(next).await.is_none() {
            return;
        }
    }
}

/// Waits until the archive says that something has changed.
async fn changed(changes: &mut Option<watch::Receiver<()>>) {
    let told = match changes {
        Some(changes) => changes.changed().await.is_ok(),
        None => false,
    };
    if !told {
        std::future::pending().await
    }
}

async fn look(warm: &dyn WarmTier, cold: &dyn ColdTier, alarm: &Alarm) {
    match Lost::look(warm, cold).await.map(|lost| lost.words()) {
        Ok(None) => alarm.clear(),
        Ok(Some(why)) => {
            if alarm.why().as_ref() != Some(&why) {
                tracing::error!("{why}");
            }
            alarm.raise(why);
        }
        // Whether a tier answers is told elsewhere.
        Err(error) => tracing::debug!(%error, "it can't be said what the archive should have"),
    }
}
