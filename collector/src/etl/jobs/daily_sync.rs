//! Every night: what came late into inboxes is taken, closed days that have changed go into the archive, and what came late is
//! merged into days that have left. Only this job writes the archive, and a job runs once at a time.

use super::Alarm;
use crate::etl::archive::{Archive, Archived, CLOSED_AFTER, first_open};
use crate::etl::ledger::{DayEntry, Raw};
use crate::etl::lost::Lost;
use crate::etl::{Job, JobError, Now, Outcome, Progress};
use crate::inbox::{Inbox, Reach, Taken};
use crate::tiers::cold::lost::counted;
use crate::tiers::cold::rows::MICROS_PER_DAY;
use crate::tiers::{ColdTier, Day, TierError, WarmTier};
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Days that are under way at a time.
const AT_ONCE: usize = 2;
/// A month's days are put together when it is over for so long: hardly anything comes for it any more.
const TIDY_AFTER: i64 = 7 * MICROS_PER_DAY;

/// The job.
pub struct DailySync {
    /// Where days come from.
    pub warm: Arc<dyn WarmTier>,
    /// Where they go, if anywhere.
    pub cold: Option<Arc<dyn ColdTier>>,
    /// What other producers left, if that is looked after.
    pub inbox: Option<Arc<Inbox>>,
    /// The clock.
    pub now: Now,
    /// Raised while days can't be archived.
    pub alarm: Arc<Alarm>,
}

#[derive(Default)]
struct Done {
    days: BTreeSet<Day>,
    late: u64,
    rows: u64,
    overtaken: u64,
    failed: Vec<String>,
}

impl Done {
    fn add(&mut self, day: Day, outcome: Result<Archived, TierError>) {
        match outcome {
            Ok(Archived::Whole(rows)) => {
                self.days.insert(day);
                self.rows += rows;
            }
            Ok(Archived::Late(rows)) => (self.late, self.rows) = (self.late + 1, self.rows + rows),
            Ok(Archived::Overtaken) => self.overtaken += 1,
            Err(error) => self.failed.push(format!("{day}: {error}")),
        }
    }

    fn words(&self) -> String {
        let mut words = vec![match self.days.len() {
            0 => "no day has changed".to_owned(),
            1 => "1 day archived".to_owned(),
            days => format!("{days} days archived"),
        }];
        if self.late > 0 {
            words.push(format!("late readings merged into {} that had left", counted(self.late)));
        }
        if self.overtaken > 0 {
            words.push(format!("{} changed meanwhile and are still to be archived", self.overtaken));
        }
        words.join("; ")
    }
}

impl DailySync {
    async fn work(&self, progress: &Progress) -> Result<Outcome, JobError> {
        let taken = match &self.inbox {
            Some(inbox) => inbox.take(Reach::Long, progress).await,
            None => Taken::default(),
        };
        let Some(cold) = &self.cold else {
            let detail = "there is no archive ([cold]): nothing is exported, and nothing leaves the warm tier".into();
            return if taken.failed.is_empty() {
                Ok(Outcome { rows: 0, detail })
            } else {
                Err(JobError::Other(format!("{} (otherwise: {detail})", taken.failed.join("; "))))
            };
        };
        let archive = Archive { warm: self.warm.clone(), cold: cold.clone() };
        let mut days = self.warm.days().days(Day::FIRST, Day::LAST.next()).await?;
        let lost = self.doubt_what_is_lost(&archive, &mut days).await;
        let done = self.archive(&archive, days, progress).await;
        let mut detail = done.words();
        if taken.rows > 0 {
            detail = format!("{}; {detail}", taken.words());
        }
        let mut trouble = done.failed.clone();
        match lost.map(|lost| lost.without(&done.days).words()) {
            Ok(None) => {}
            Ok(Some(lost)) => trouble.insert(0, lost),
            Err(error) => trouble.push(error.to_string()),
        }
        match cold.tidy(Day::of((self.now)().plus_micros(-CLOSED_AFTER - TIDY_AFTER))).await {
            Ok(0) => {}
            Ok(files) => detail.push_str(&format!("; {files} files put together")),
            Err(error) => trouble.push(format!("days of a month can't be put together: {error}")),
        }
        if trouble.is_empty() {
            self.alarm.clear();
        } else {
            self.alarm.raise(trouble.join("; "));
        }
        trouble.extend(taken.failed);
        if trouble.is_empty() {
            return Ok(Outcome { rows: done.rows, detail });
        }
        let trouble = trouble.join("; ");
        Err(JobError::Other(format!("{trouble} (otherwise: {detail}, {} readings)", done.rows)))
    }

    /// Days that the archive has lost and the warm tier still has are to be archived again; for that their files are looked
    /// through: later nobody could.
    async fn doubt_what_is_lost(&self, archive: &Archive, days: &mut [DayEntry]) -> Result<Lost, TierError> {
        let here = days.iter().filter(|entry| entry.raw == Raw::Here && entry.exported > 0);
        archive.cold.check(here.map(|entry| entry.day).collect()).await?;
        let lost = Lost::of(days, &*archive.cold).await?;
        let again = lost.again();
        for entry in days.iter_mut().filter(|entry| again.contains(&entry.day)) {
            if self.warm.days().doubt(entry.day, entry.version).await? {
                entry.version += 1;
            }
        }
        Ok(lost)
    }

    /// Brings what has changed of these days into the archive.
    async fn archive(&self, archive: &Archive, days: Vec<DayEntry>, progress: &Progress) -> Done {
        let open = first_open((self.now)());
        let is_due = |entry: &DayEntry| entry.day < open && (entry.is_dirty() || entry.raw == Raw::Leaving);
        let due: Vec<DayEntry> = days.into_iter().filter(is_due).collect();
        progress.of(due.len() as u64);
        let mut under_way = stream::iter(due)
            .map(|entry| async move { (entry.day, archive.bring(&entry, progress).await) })
            .buffer_unordered(AT_ONCE);
        let mut done = Done::default();
        while let Some((day, outcome)) = under_way.next().await {
            let is_away = matches!(outcome, Err(TierError::Unavailable { .. }));
            if let Ok(Archived::Whole(rows) | Archived::Late(rows)) = outcome {
                metrics::counter!("collector_archived_readings_total").increment(rows);
            }
            done.add(day, outcome);
            progress.step();
            if is_away {
                break; // the others would meet with the same
            }
        }
        done
    }
}

impl Job for DailySync {
    fn name(&self) -> &'static str {
        "daily_sync"
    }
    fn what(&self) -> &'static str {
        "bring days that have changed into the archive"
    }
    fn limit(&self) -> Duration {
        Duration::from_secs(12 * 3_600)
    }
    fn run<'a>(&'a self, progress: &'a Progress) -> BoxFuture<'a, Result<Outcome, JobError>> {
        Box::pin(self.work(progress))
    }
}
