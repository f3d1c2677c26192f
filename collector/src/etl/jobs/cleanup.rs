//! Every week: readings that are old enough leave the warm tier, a day at a time, and only when the archive was read
//! back and found to have exactly them. Rollups stay. A day of which the archive has something else stays; that is told
//! everywhere, and `daily_sync`, which follows, archives it again.

use super::Alarm;
use crate::etl::ledger::{DayEntry, DayLedger, Leave, Raw};
use crate::etl::{Job, JobError, Now, Outcome, Progress};
use crate::tiers::{ColdTier, Day, Proof, TierError, WarmTier};
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Buckets that are brought up to date in one go.
const BUCKETS: u32 = 512;
/// How long a run waits for those who are in its way: who makes rollups, or reads a day for the archive.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The job.
pub struct Cleanup {
    warm: Arc<dyn WarmTier>,
    cold: Option<Arc<dyn ColdTier>>,
    keep_days: u32,
    now: Now,
    alarm: Arc<Alarm>,
    /// Whether the last run found days that are to be archived again.
    found_doubts: AtomicBool,
}

#[derive(Default)]
struct Done {
    left: Vec<Day>,
    rows: u64,
    /// Why days stay, in words.
    waiting: BTreeMap<String, Vec<Day>>,
    refused: BTreeMap<String, Vec<Day>>,
    /// How long others were waited for.
    waited: Duration,
}

/// The first and the last of some days, in words.
fn span(days: &[Day]) -> String {
    match days {
        [] => String::new(),
        [one] => format!(" ({one})"),
        [first, .., last] => format!(" ({first} to {last})"),
    }
}

/// Of how many days what is said, and of each of the first few things of which.
fn some(said: &BTreeMap<String, Vec<Day>>) -> String {
    const MOST: usize = 5;
    let days: usize = said.values().map(Vec::len).sum();
    let told: Vec<String> = said.iter().take(MOST).map(|(why, days)| format!("{why}{}", span(days))).collect();
    let more = if said.len() > MOST { format!("; and {} more", said.len() - MOST) } else { String::new() };
    format!("{days}: {}{more}", told.join("; "))
}

impl Done {
    fn words(&self) -> String {
        let mut words = match self.left.as_slice() {
            [] => "nothing left the warm tier".to_owned(),
            [day] => format!("1 day left the warm tier, {} readings ({day})", self.rows),
            days => format!("{} days left the warm tier, {} readings{}", days.len(), self.rows, span(days)),
        };
        if !self.refused.is_empty() {
            words += &format!("; to be archived again, and not removed: {}", some(&self.refused));
        }
        if !self.waiting.is_empty() {
            words += &format!("; not removed yet: {}", some(&self.waiting));
        }
        words
    }

    fn wait(&mut self, day: Day, why: impl Into<String>) {
        self.waiting.entry(why.into()).or_default().push(day);
    }

    /// Waits for those who are in the way, if there is patience left.
    async fn patience(&mut self) -> bool {
        let some = self.waited < PATIENCE;
        if some {
            tokio::time::sleep(LOOK_EVERY).await;
            self.waited += LOOK_EVERY;
        }
        some
    }
}

/// What is before this day leaves. Counted from today, but at most from the day after the newest readings: a machine whose clock
/// is ahead when it starts would let all of it leave, today included, and none of it comes back.
fn first_kept(today: Day, newest: Option<Day>, keep_days: u32) -> Day {
    let today = newest.map_or(today, |newest| today.min(newest.next()));
    Day(today.0.saturating_sub_unsigned(keep_days))
}

impl Cleanup {
    /// Takes out of `warm` what is older than `keep_days` and in `cold`.
    #[must_use]
    pub fn new(
        warm: Arc<dyn WarmTier>,
        cold: Option<Arc<dyn ColdTier>>,
        keep_days: u32,
        now: Now,
        alarm: Arc<Alarm>,
    ) -> Self {
        Self { warm, cold, keep_days, now, alarm, found_doubts: AtomicBool::new(false) }
    }

    fn ledger(&self) -> &dyn DayLedger {
        self.warm.days()
    }

    async fn work(&self, progress: &Progress) -> Result<Outcome, JobError> {
        self.found_doubts.store(false, Ordering::Relaxed);
        let Some(cold) = &self.cold else {
            let detail = "there is no archive ([cold]): nothing leaves the warm tier".into();
            return Ok(Outcome { rows: 0, detail });
        };
        let mut old = self.ledger().days(Day::FIRST, Day::LAST.next()).await?;
        let before = first_kept(Day::of((self.now)()), old.last().map(|entry| entry.day), self.keep_days);
        let may_leave = |entry: &DayEntry| entry.raw != Raw::Gone && !(entry.raw == Raw::Leaving && entry.is_dirty());
        old.retain(|entry| entry.day < before && may_leave(entry));
        progress.of(old.len() as u64);
        let mut done = Done::default();
        let mut outcome = Ok(());
        for entry in &old {
            let rows = done.rows;
            outcome = self.one(&**cold, entry, &mut done).await;
            progress.step();
            progress.rows(done.rows - rows);
            progress.say(done.words());
            if outcome.is_err() {
                break;
            }
        }
        metrics::counter!("collector_cleanup_readings_total").increment(done.rows);
        // It is done again after daily_sync, which follows; until then it counts as failed, for everyone to see.
        if !done.refused.is_empty() {
            self.found_doubts.store(true, Ordering::Relaxed);
            self.alarm.raise(some(&done.refused));
        }
        outcome?;
        if !done.refused.is_empty() {
            return Err(JobError::Other(done.words()));
        }
        self.alarm.clear();
        Ok(Outcome { rows: done.rows, detail: done.words() })
    }

    async fn one(&self, cold: &dyn ColdTier, entry: &DayEntry, done: &mut Done) -> Result<(), TierError> {
        let day = entry.day;
        if entry.raw == Raw::Here {
            if entry.is_dirty() {
                done.wait(day, "not archived as it is now");
                return Ok(());
            }
            if let Some(doubt) = self.doubt(cold, entry).await? {
                if !self.ledger().doubt(day, entry.version).await? {
                    done.wait(day, "something has just come");
                    return Ok(());
                }
                tracing::error!(
                    "the archive doesn't have what it should: {day}: {doubt}; the day stays and is archived again"
                );
                metrics::counter!("collector_archive_doubts_total").increment(1);
                done.refused.entry(doubt).or_default().push(day);
                return Ok(());
            }
            match self.leave(entry, done).await? {
                Leave::Yes => {}
                Leave::Changed => {
                    done.wait(day, "something has just come");
                    return Ok(());
                }
                Leave::Dirty => {
                    done.wait(day, "its rollups are out of date");
                    return Ok(());
                }
            }
        }
        if entry.raw == Raw::Leaving && !cold.has(day).await? {
            done.wait(day, format!("{} doesn't have it any more", cold.place()));
            return Ok(());
        }
        // What is marked as leaving and isn't removed in time is removed the next time.
        loop {
            match self.ledger().clear(day).await {
                Ok(true) => {
                    done.left.push(day);
                    done.rows += entry.warm.map_or(0, |proof| proof.rows);
                }
                Ok(false) => done.wait(day, "something has just come"),
                Err(_) if done.patience().await => continue,
                Err(error) => done.wait(day, format!("it can't be removed now: {error}")),
            }
            return Ok(());
        }
    }

    /// Why a day must not leave. Both tiers are read for it, every row.
    async fn doubt(&self, cold: &dyn ColdTier, entry: &DayEntry) -> Result<Option<String>, TierError> {
        let (Some(wanted), Some(read)) = (entry.cold, entry.warm) else {
            return Ok(Some("nothing is known of what was archived".into()));
        };
        match cold.proof(entry.day).await {
            Ok(Some(found)) if found == wanted => {}
            Ok(Some(found)) => return Ok(Some(format!("the archive has {found} instead of {wanted}"))),
            Ok(None) => return Ok(Some(format!("the archive doesn't have it any more: {wanted}"))),
            Err(TierError::Broken { why, .. } | TierError::Damaged { why, .. }) => return Ok(Some(why)),
            Err(error) => return Err(error),
        }
        let here = Proof::of(self.ledger().rows(entry.day)).await?;
        let same = here == read;
        Ok((!same).then(|| format!("{here} here now, and {read} when it was archived")))
    }

    async fn leave(&self, entry: &DayEntry, done: &mut Done) -> Result<Leave, TierError> {
        loop {
            match self.ledger().leave(entry.day, entry.version).await {
                Ok(Leave::Dirty) | Err(_) if done.patience().await => {}
                answer => return answer,
            }
            while self.warm.refresh_ended((self.now)(), BUCKETS).await? > 0 {}
        }
    }
}

impl Job for Cleanup {
    fn name(&self) -> &'static str {
        "cleanup"
    }
    fn what(&self) -> &'static str {
        "remove old readings that the archive is proved to have"
    }
    fn limit(&self) -> Duration {
        Duration::from_secs(12 * 3_600)
    }
    fn run<'a>(&'a self, progress: &'a Progress) -> BoxFuture<'a, Result<Outcome, JobError>> {
        Box::pin(self.work(progress))
    }
    fn followed_by(&self) -> Option<&'static str> {
        self.found_doubts.load(Ordering::Relaxed).then_some("daily_sync")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_counted_from_the_clock_or_from_the_newest_readings_whichever_is_earlier() {
        assert_eq!(first_kept(Day(100), Some(Day(100)), 90), Day(10));
        assert_eq!(first_kept(Day(100), Some(Day(99)), 90), Day(10), "nothing has come yet today");
        assert_eq!(first_kept(Day(300), Some(Day(99)), 90), Day(10), "the clock is ahead, or all are silent");
        assert_eq!(first_kept(Day(50), Some(Day(99)), 90), Day(-40), "the clock is behind");
        assert_eq!(first_kept(Day(100), None, 90), Day(10));
    }
}
