//! From the warm tier into the archive, a day at a time. Whatever it is stopped at, it can be begun again: the archive
//! replaces or merges a day at once or not at all, and the account says only afterwards that it has it.

use super::Progress;
use super::ledger::{DayEntry, Export, Merge, Raw};
use crate::tiers::cold::lost::other_words;
use crate::tiers::cold::streams::{checked, merged};
use crate::tiers::{ColdTier, Day, Proof, Run, Runs, SeriesId, StoredReading, TierError, WarmTier};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use shared::reading::Timestamp;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// A day is closed so long after its end, microseconds: clocks of gateways differ, and links are slow.
pub const CLOSED_AFTER: i64 = 2 * 3_600 * 1_000_000;
/// Runs that are read ahead, so that reading and writing go on at the same time.
const AHEAD: usize = 8;
/// Series whose stale buckets are looked up at once.
const SERIES_AT_ONCE: u32 = 500;
/// Readings of a series that are read back at once.
const READINGS_AT_ONCE: u32 = 100_000;

/// The first day that isn't closed at this moment.
#[must_use]
pub fn first_open(now: Timestamp) -> Day {
    Day::of(now.plus_micros(-CLOSED_AFTER))
}

/// What became of a day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Archived {
    /// So many readings are in the archive now, the whole day.
    Whole(u64),
    /// So many that came after it had left were merged into it.
    Late(u64),
    /// It was done by another one meanwhile.
    Overtaken,
}

/// The two tiers.
pub struct Archive {
    /// Where days come from.
    pub warm: Arc<dyn WarmTier>,
    /// Where they go.
    pub cold: Arc<dyn ColdTier>,
}

/// Sums up what passes.
#[derive(Clone, Default)]
struct Tally(Arc<Mutex<Proof>>);

impl Tally {
    fn add(&self, run: &Run) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(run);
    }

    /// The runs as they are, counted in.
    fn of<'a>(&self, runs: Runs<'a>) -> Runs<'a> {
        let summed = self.clone();
        runs.inspect_ok(move |run| summed.add(run)).boxed()
    }

    fn sum(&self) -> Proof {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const TIER: &str = "archive";

fn broken(why: String) -> TierError {
    TierError::Broken { tier: TIER, why }
}

impl Archive {
    /// Brings the archive up to date with a day.
    ///
    /// # Errors
    /// When a tier can't; the archive then has the day as it was before, or as it should be.
    pub async fn bring(&self, entry: &DayEntry, progress: &Progress) -> Result<Archived, TierError> {
        let brought = match entry.raw {
            Raw::Here => self.whole(entry, progress).await,
            // What came late would be all of the day there, and nobody would miss the rest.
            Raw::Leaving | Raw::Gone if !self.cold.has(entry.day).await? => {
                Err(broken(format!("it has left, and {} doesn't have it", self.cold.place())))
            }
            Raw::Leaving | Raw::Gone if entry.is_dirty() => self.late(entry, progress).await,
            Raw::Leaving | Raw::Gone => self.warm.days().clear(entry.day).await.map(|_| Archived::Late(0)),
        };
        match brought {
            // The end of a run that was stopped may come this late.
            Err(TierError::Broken { .. }) if !is_as_it_was(&*self.warm, entry).await? => Ok(Archived::Overtaken),
            brought => brought,
        }
    }

    /// A day of which the warm tier has everything.
    async fn whole(&self, entry: &DayEntry, progress: &Progress) -> Result<Archived, TierError> {
        let day = entry.day;
        // What the archive holds from elsewhere stays: from before this warm tier was made, or another installation's.
        let ours = entry.is_ours() || !self.cold.has(day).await?;
        let (rows, tally) = self.reading(entry, progress);
        let cold = if ours { self.cold.replace_day(day, rows).await? } else { self.cold.merge_day(day, rows).await? };
        let warm = tally.sum();
        if ours && cold != warm {
            return Err(broken(format!("{day}: {warm} were read, {cold} are in the archive")));
        }
        self.note(entry, warm, cold, Archived::Whole(warm.rows)).await
    }

    /// What came for a day that has left.
    async fn late(&self, entry: &DayEntry, progress: &Progress) -> Result<Archived, TierError> {
        let day = entry.day;
        let (rows, tally) = self.reading(entry, progress);
        let mut rows = rows.peekable();
        let cold = match (Pin::new(&mut rows).peek().await, entry.cold) {
            (None, Some(cold)) => cold,
            _ => self.merge(entry, rows.boxed()).await?,
        };
        if !self.renew(entry).await? {
            return Ok(Archived::Overtaken); // more has come: it stays as it is until the next time
        }
        let warm = tally.sum();
        let done = self.note(entry, warm, cold, Archived::Late(warm.rows)).await?;
        self.warm.days().clear(day).await?;
        Ok(done)
    }

    /// Puts these readings into a day that has left, if the archive has of it what was archived: onto an older copy they would
    /// hide that all of what was merged since is gone.
    async fn merge(&self, entry: &DayEntry, late: Runs<'_>) -> Result<Proof, TierError> {
        let (there, all) = (Tally::default(), Tally::default());
        let late = checked(TIER, entry.day, late);
        let rows = all.of(merged(TIER, there.of(self.cold.day(entry.day)), late));
        // When all was read, and before any of it counts.
        let may_be = async move { self.may_merge(entry, there.sum(), all.sum()).await.err().map(Err) };
        self.cold.replace_day(entry.day, rows.chain(stream::once(may_be).filter_map(std::future::ready)).boxed()).await
    }

    async fn may_merge(&self, entry: &DayEntry, there: Proof, merged: Proof) -> Result<(), TierError> {
        let DayEntry { day, exported: before, .. } = *entry;
        if let Some(noted) = entry.cold.filter(|_| !entry.may_be(there)) {
            return Err(broken(other_words(&self.cold.place(), noted, there)));
        }
        if self.warm.days().merging(Merge { day, before, there, merged }).await? {
            return Ok(());
        }
        Err(broken(format!("{day} was archived by another one meanwhile")))
    }

    async fn note(&self, entry: &DayEntry, warm: Proof, cold: Proof, done: Archived) -> Result<Archived, TierError> {
        let DayEntry { day, exported: before, version, .. } = *entry;
        let noted = self.warm.days().exported(Export { day, before, version, warm, cold }).await?;
        Ok(if noted { done } else { Archived::Overtaken })
    }

    /// A day's readings, and what passes by. They are read ahead, from when the first is wanted.
    fn reading<'a>(&self, entry: &DayEntry, progress: &'a Progress) -> (Runs<'a>, Tally) {
        let (warm, entry) = (self.warm.clone(), *entry);
        let tally = Tally::default();
        let summed = tally.clone();
        let runs = stream::once(async move {
            let (sender, receiver) = mpsc::channel(AHEAD);
            let task = tokio::spawn(read(warm, entry, sender));
            stream::unfold((receiver, Some(task)), |(mut receiver, task)| async move {
                match receiver.recv().await {
                    Some(run) => Some((Ok(run), (receiver, task))),
                    // Not before the task has ended well is this all.
                    None => match task?.await {
                        Ok(Ok(())) => None,
                        Ok(Err(error)) => Some((Err(error), (receiver, None))),
                        Err(error) => Some((Err(broken(format!("reading a day: {error}"))), (receiver, None))),
                    },
                }
            })
        });
        let runs = runs.flatten();
        let runs = runs.inspect_ok(move |run| {
            summed.add(run);
            progress.rows(run.readings.len() as u64);
        });
        (runs.boxed(), tally)
    }

    /// Makes the rollups that late readings put out of date, from the archive, which has all readings of the day now;
    /// false when more has come.
    async fn renew(&self, entry: &DayEntry) -> Result<bool, TierError> {
        let ledger = self.warm.days();
        let mut after = None;
        loop {
            let stale = ledger.stale(entry.day, after, SERIES_AT_ONCE).await?;
            let Some((last, _)) = stale.last() else { return Ok(true) };
            after = Some(*last);
            for (series, buckets) in &stale {
                for run in buckets.chunk_by(|a, b| b.since(*a) == BUCKET) {
                    if !self.renew_run(entry, *series, run).await? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Neighbouring buckets, as many at once as have a bounded number of readings.
    async fn renew_run(
        &self,
        entry: &DayEntry,
        series: SeriesId,
        mut buckets: &[Timestamp],
    ) -> Result<bool, TierError> {
        while let [first, .., last] | [first @ last] = buckets {
            let end = last.plus_micros(BUCKET);
            let mut readings = self.cold.range(series, *first, end, READINGS_AT_ONCE).await?;
            let mut done = buckets.len();
            if readings.len() == READINGS_AT_ONCE as usize {
                let whole = readings.last().map_or(*first, |reading| reading.at);
                done = buckets.partition_point(|bucket| bucket.plus_micros(BUCKET) <= whole).max(1);
                let end = buckets[done - 1].plus_micros(BUCKET);
                if end > whole {
                    readings = self.cold.range(series, *first, end, u32::MAX).await?;
                }
                readings.retain(|reading: &StoredReading| reading.at < end);
            }
            let (now, rest) = buckets.split_at(done);
            if !self.warm.days().renew(entry.day, entry.version, series, now, &readings).await? {
                return Ok(false);
            }
            buckets = rest;
        }
        Ok(true)
    }
}

/// Reads a day and sends it away, until nobody wants it any more.
async fn read(warm: Arc<dyn WarmTier>, entry: DayEntry, to: mpsc::Sender<Run>) -> Result<(), TierError> {
    let ledger = warm.days();
    let mut rows = ledger.rows(entry.day);
    while let Some(run) = rows.try_next().await? {
        if to.send(run).await.is_err() {
            return Ok(());
        }
    }
    // Whoever wrote this day meanwhile may have let it leave, too: what was read here may be a part of it.
    if is_as_it_was(&*warm, &entry).await? {
        Ok(())
    } else {
        Err(broken(format!("{} was archived by another one meanwhile", entry.day)))
    }
}

/// Whether nobody else has archived a day, or let it leave, since `entry` was read.
async fn is_as_it_was(warm: &dyn WarmTier, entry: &DayEntry) -> Result<bool, TierError> {
    let now = warm.days().days(entry.day, entry.day.next()).await?;
    Ok(now.first().is_some_and(|now| now.exported == entry.exported && now.raw == entry.raw))
}

/// Length of the buckets that are marked.
const BUCKET: i64 = 300_000_000;
