//! The archive as Parquet files: in a folder, or in an object store.
//!
//! * A day is one file, sorted by series and time; small days of a month are put together into one file later, which
//!   a series' range over years reads with few requests. [`names`] says which file holds a day.
//! * Files never change. A new version of a day is a new file: written aside, read back, compared, renamed. The old
//!   one is removed afterwards; who was reading it looks again.
//! * Nothing of a file is believed before its bytes were found to be those that were written ([`shelf::Shelf::check`]).
//!   The proof of a day is computed from its rows whenever it is asked for, and is stored nowhere.

mod damage;
mod footers;
mod names;
mod reader;
mod scan;
mod shelf;
mod sql;
mod table;

pub use sql::{STORE_URL, Snapshot};

use super::guarded::alive;
use super::streams::{checked, merged, merged_all};
use super::sums::Sums;
use crate::rollup::Rollup;
use crate::tiers::{
    Bucket, ColdState, ColdTier, Damage, Day, Proof, Runs, SeriesId, StoredReading, TierError, TierFuture,
};
use futures::TryStreamExt;
use futures::future::BoxFuture;
use names::{FileName, Picture, Piece, month_of};
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::AsyncArrowWriter;
use parquet::errors::ParquetError;
use scan::{Scanner, Wanted};
use shared::reading::Timestamp;
use shelf::{Place, Shelf, Summed};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{Mutex, MutexGuard, RwLock, watch};

pub(super) const TIER: &str = "cold tier (Parquet)";
/// Days of a month are put together as long as they don't take more than that, bytes.
const MONTH_BYTES_MAX: u64 = 64 << 20;
/// How often a question is asked again because a file was replaced meanwhile.
const LOOKS_MAX: u32 = 5;

/// Says what failed, and of which tier.
trait Fault<T> {
    fn fault(self, what: impl Display) -> Result<T, TierError>;
}

impl<T> Fault<T> for Result<T, object_store::Error> {
    fn fault(self, what: impl Display) -> Result<T, TierError> {
        self.map_err(|error| TierError::Unavailable { tier: TIER, why: format!("{what}: {error}") })
    }
}

impl<T> Fault<T> for std::io::Result<T> {
    fn fault(self, what: impl Display) -> Result<T, TierError> {
        self.map_err(|error| TierError::Unavailable { tier: TIER, why: format!("{what}: {error}") })
    }
}

impl<T> Fault<T> for Result<T, ParquetError> {
    fn fault(self, what: impl Display) -> Result<T, TierError> {
        self.map_err(|error| {
            let why = format!("{what}: {error}");
            match error {
                // The store's or the system's word; all else is said of the bytes.
                ParquetError::External(_) => TierError::Unavailable { tier: TIER, why },
                _ => TierError::Broken { tier: TIER, why },
            }
        })
    }
}

/// Days that share a turn: a day is written once at a time, others beside it.
const TURNS: usize = 8;

/// The archive.
pub struct ParquetCold {
    scanner: Scanner,
    /// Shared by those who write days; months are put together alone.
    writing: RwLock<()>,
    turns: [Mutex<()>; TURNS],
    /// Files get their versions one after the other.
    publishing: Mutex<()>,
}

impl ParquetCold {
    /// In a folder, which is made when it is missing.
    ///
    /// # Errors
    /// When it can't be made or read.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Result<Self, TierError> {
        Ok(Self::over(Shelf::in_folder(folder.into())?))
    }

    /// In any store, which people know as `address`; a `trusted` one gives back the bytes that it was given, so that they
    /// aren't looked through each time a file is opened first.
    #[must_use]
    pub fn on(store: Arc<dyn ObjectStore>, address: &str, trusted: bool) -> Self {
        Self::over(Shelf::on(store, Place::Store { address: address.to_owned(), trusted }))
    }

    /// As it is now, for SQL.
    ///
    /// # Errors
    /// When its files can't be listed.
    pub async fn snapshot(&self) -> Result<Snapshot, TierError> {
        Ok(Snapshot::new(self.scanner.shelf.clone(), self.shelf().picture().await?))
    }

    fn over(shelf: Shelf) -> Self {
        let scanner = Scanner::new(shelf);
        Self { scanner, writing: RwLock::default(), turns: Default::default(), publishing: Mutex::default() }
    }

    fn shelf(&self) -> &Shelf {
        &self.scanner.shelf
    }

    /// Answers from one picture of what is there; when a file of it was replaced meanwhile, from the next one.
    async fn look<T, F: Future<Output = Result<T, TierError>>>(
        &self,
        answer: impl Fn(Arc<Picture>) -> F,
    ) -> Result<T, TierError> {
        let mut looks = 1;
        loop {
            let picture = Arc::new(self.shelf().picture().await?);
            let answered = answer(picture.clone()).await;
            if answered.is_ok() || looks == LOOKS_MAX {
                return answered;
            }
            let now = self.shelf().picture().await?;
            if picture.files().all(|(file, _)| now.has(file)) {
                return answered;
            }
            looks += 1;
        }
    }

    /// The turn to write a day.
    async fn turn(&self, day: Day) -> MutexGuard<'_, ()> {
        self.turns[day.0.rem_euclid(TURNS as i32) as usize].lock().await
    }

    /// Writes a file with these days, which nobody else writes meanwhile.
    async fn write(&self, days: &[Day], runs: Runs<'_>) -> Result<Proof, TierError> {
        self.shelf().sweep_aside().await;
        let (aside, file) = self.shelf().aside();
        let written = match self.fill(aside.path(), file, runs).await {
            Ok((proof, crc)) => self.publish(aside.path(), days, crc).await.map(|()| proof),
            Err(error) => Err(error),
        };
        if written.is_err() {
            self.shelf().remove(aside.path()).await;
        }
        written
    }

    /// Makes a file that was read back the one that counts.
    async fn publish(&self, aside: &Path, days: &[Day], crc: u32) -> Result<(), TierError> {
        let _turn = self.publishing.lock().await;
        let version = self.shelf().picture().await?.next_version();
        let none = || TierError::Broken { tier: TIER, why: "a file of no day".into() };
        let name = FileName::new(days.iter().copied(), version, crc).ok_or_else(none)?;
        self.shelf().publish(aside, name).await?;
        let now = self.shelf().picture().await?;
        self.shelf().sweep(&now).await;
        self.shelf().forget(&now);
        Ok(())
    }

    /// Gives what was read back, and the sum of the bytes.
    async fn fill(&self, aside: &Path, file: Summed, mut runs: Runs<'_>) -> Result<(Proof, u32), TierError> {
        let what = self.shelf().shown(aside);
        let mut writer =
            AsyncArrowWriter::try_new(file, table::SCHEMA.clone(), Some(table::properties())).fault(&what)?;
        let mut proof = Proof::default();
        let filled = async {
            while let Some(run) = runs.try_next().await? {
                proof.add(&run);
                let batch = table::batch_of(&run).map_err(ParquetError::from).fault(&what)?;
                writer.write(&batch).await.fault(&what)?;
            }
            writer.finish().await.fault(&what)
        };
        let filled = filled.await;
        let file = writer.into_inner();
        let crc = file.crc;
        if let Err(error) = filled {
            file.abort().await;
            return Err(error);
        }
        let back = self.scanner.proof(self.shelf().meta(aside).await?).await?;
        if back == proof {
            return Ok((back, crc));
        }
        let why = format!("{what}: {proof} were written, {back} read back; what was there before stays");
        Err(TierError::Broken { tier: TIER, why })
    }

    async fn rows(
        &self,
        picture: &Picture,
        wanted: Wanted,
        mut each: impl FnMut(Vec<StoredReading>) -> bool,
    ) -> Result<(), TierError> {
        let (first, end) = Day::touching(wanted.from, wanted.to);
        let pieces = picture.pieces(first, end);
        let mut readings = self.scanner.readings(pieces, wanted);
        while let Some(some) = readings.try_next().await? {
            alive();
            if !each(some) {
                break;
            }
        }
        Ok(())
    }

    /// Whether none of these files is damaged.
    async fn all_sound(&self, pieces: &[Piece]) -> Result<bool, TierError> {
        for piece in pieces {
            match self.shelf().check(piece.file, &piece.meta).await {
                Err(TierError::Broken { .. }) => return Ok(false),
                checked => checked?,
            }
        }
        Ok(true)
    }

    /// Days before `before` that lie in more than one file of their month, and are small enough for one.
    fn scattered(picture: &Picture, before: Day) -> Vec<Vec<Piece>> {
        let mut months = BTreeMap::<Day, Vec<Piece>>::new();
        for piece in picture.pieces(Day::FIRST, month_of(before)) {
            months.entry(month_of(piece.days.start)).or_default().push(piece);
        }
        let small = |pieces: &Vec<Piece>| {
            let files: BTreeMap<_, _> = pieces.iter().map(|p| (p.file, p.meta.size)).collect();
            files.len() > 1 && files.values().sum::<u64>() <= MONTH_BYTES_MAX
        };
        months.into_values().filter(small).collect()
    }
}

impl ColdTier for ParquetCold {
    fn replace_day<'a>(&'a self, day: Day, runs: Runs<'a>) -> TierFuture<'a, Proof> {
        Box::pin(async move {
            let (_shared, _turn) = (self.writing.read().await, self.turn(day).await);
            self.write(&[day], checked(TIER, day, runs)).await
        })
    }

    fn merge_day<'a>(&'a self, day: Day, runs: Runs<'a>) -> TierFuture<'a, Proof> {
        Box::pin(async move {
            let (_shared, _turn) = (self.writing.read().await, self.turn(day).await);
            let picture = self.shelf().picture().await?;
            let there = self.scanner.day(&picture, day);
            self.write(&[day], merged(TIER, there, checked(TIER, day, runs))).await
        })
    }

    fn proof(&self, day: Day) -> TierFuture<'_, Option<Proof>> {
        Box::pin(self.look(move |picture| async move {
            match picture.pieces(day, day.next()).pop() {
                None => Ok(None),
                Some(piece) => self.scanner.day_proof(piece).await.map(Some),
            }
        }))
    }

    fn day(&self, day: Day) -> Runs<'_> {
        let rows = async move {
            let picture = self.shelf().picture().await?;
            Ok::<_, TierError>(self.scanner.day(&picture, day))
        };
        Box::pin(futures::stream::once(rows).try_flatten())
    }

    fn days(&self, from: Day, to: Day) -> TierFuture<'_, Vec<Day>> {
        Box::pin(async move { Ok(self.shelf().picture().await?.days(from, to).collect()) })
    }

    fn place(&self) -> String {
        self.shelf().place.to_string()
    }

    fn check(&self, days: Vec<Day>) -> TierFuture<'_, ()> {
        Box::pin(self.check_days(days))
    }

    fn damage(&self) -> TierFuture<'_, Vec<Damage>> {
        Box::pin(self.damage_now())
    }

    fn changes(&self) -> Option<watch::Receiver<()>> {
        Some(self.shelf().damaged.bell())
    }

    fn range(
        &self,
        series: SeriesId,
        from: Timestamp,
        to: Timestamp,
        count_max: u32,
    ) -> TierFuture<'_, Vec<StoredReading>> {
        Box::pin(self.look(move |picture| async move {
            let mut found = Vec::new();
            let wanted = Wanted { series: Some(series), from, to };
            self.rows(&picture, wanted, |some| {
                found.extend(some);
                found.len() < count_max as usize
            })
            .await?;
            found.truncate(count_max as usize);
            Ok(found)
        }))
    }

    fn last_before(&self, series: SeriesId, before: Timestamp, usable: bool) -> TierFuture<'_, Option<StoredReading>> {
        Box::pin(self.look(move |picture| async move {
            let (_, end) = Day::touching(Timestamp(i64::MIN), before);
            for piece in picture.pieces(Day::FIRST, end).iter().rev() {
                let (from, to) = piece.within(Timestamp(i64::MIN), before);
                let mut last = None;
                let take = |r: &&StoredReading| !usable || r.held.value.is_some() && r.held.quality.is_usable();
                self.rows(&picture, Wanted { series: Some(series), from, to }, |some| {
                    last = some.iter().rev().find(take).copied().or(last);
                    true
                })
                .await?;
                if last.is_some() {
                    return Ok(last);
                }
            }
            Ok(None)
        }))
    }

    fn aggregate(
        &self,
        series: SeriesId,
        bucket: Bucket,
        from: Timestamp,
        to: Timestamp,
        hold_micros: i64,
    ) -> TierFuture<'_, Vec<(Timestamp, Rollup)>> {
        Box::pin(self.look(move |picture| async move {
            let mut sums = Sums::new(bucket, hold_micros);
            self.rows(&picture, Wanted { series: Some(series), from, to }, |some| {
                sums.add(&some);
                true
            })
            .await?;
            Ok(sums.all())
        }))
    }

    fn tidy(&self, before: Day) -> TierFuture<'_, u32> {
        Box::pin(async move {
            let _alone = self.writing.write().await;
            let mut touched = 0;
            let picture = self.shelf().picture().await?;
            for pieces in Self::scattered(&picture, before) {
                if !self.all_sound(&pieces).await? {
                    continue; // it is told, and other months don't wait for it
                }
                let days: Vec<Day> =
                    pieces.iter().flat_map(|p| p.file.days().filter(|day| p.days.contains(day))).collect();
                let rows = pieces.iter().map(|piece| {
                    let (from, to) = (piece.days.start.start(), piece.days.end.start());
                    self.scanner.runs(piece.meta.clone(), Some(Wanted { series: None, from, to })) as Runs<'_>
                });
                let rows = merged_all(TIER, rows.collect());
                self.write(&days, rows).await?;
                touched += pieces.len() as u32;
            }
            self.shelf().sweep(&self.shelf().picture().await?).await;
            Ok(touched)
        })
    }

    fn state(&self) -> TierFuture<'_, ColdState> {
        Box::pin(async move {
            let picture = self.shelf().picture().await?;
            let mut days = picture.days(Day::FIRST, Day::LAST.next());
            let (first, files) = (days.next(), picture.files().count() as u64);
            let last = days.next_back().or(first);
            Ok(ColdState {
                days: u64::from(first.is_some()) + u64::from(last != first) + days.count() as u64,
                files,
                first,
                last,
                bytes: Some(picture.files().map(|(_, meta)| meta.size).sum()),
            })
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move { drop(self.writing.write().await) })
    }
}
