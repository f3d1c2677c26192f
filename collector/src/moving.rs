//! From the embedded tiers into the production tiers: what `collector move` does.
//!
//! What lies beside the tiers in `data_dir` (spool, catalogues, certificates) stays where it is; what waits in the spool
//! is committed to the new warm tier after the next start.

use crate::config::Config;
use crate::durable;
use crate::tiers::cold::lost;
use crate::tiers::warm::postgres::PostgresWarm;
use crate::tiers::warm::settings::Store;
use crate::tiers::warm::sqlite::SqliteWarm;
use crate::tiers::warm::transfer::{Moved, finish, prepare, transfer};
use crate::tiers::{ColdTier, Day, Proof, TierError, WarmTier as _};
use serde::{Deserialize, Serialize};
use shared::ids::StreamId;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Why an installation isn't moved.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The two configurations don't fit.
    #[error("{0}")]
    Wrong(String),
    /// The note can't be written or removed.
    #[error("{}: {source}", path.display())]
    Note {
        /// Where it lies.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A tier.
    #[error(transparent)]
    Tier(#[from] TierError),
}

/// Hears what is being moved, how much of it is done, and of how much; 0: not known.
pub type Hear<'a> = dyn FnMut(&str, u64, u64) + Send + 'a;

/// Days of the archive, and their rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Archived {
    /// Days.
    pub days: u64,
    /// Readings.
    pub readings: u64,
}

/// Lies in `data_dir` from the beginning of a move on: what SQLite holds is on its way to another place, or there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Note {
    /// Where to, in words.
    pub place: String,
    /// Which move; the target knows it, too, so that a later one doesn't take its progress for its own.
    id: String,
    /// All of it is there.
    pub done: bool,
}

impl Note {
    fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("moved.json")
    }

    /// The note of this folder.
    #[must_use]
    pub fn read(data_dir: &Path) -> Option<Self> {
        let text = std::fs::read(Self::path(data_dir)).ok()?;
        // Whatever damaged it, there was a move.
        let unknown = || Self { place: "another place".into(), id: String::new(), done: true };
        Some(serde_json::from_slice(&text).unwrap_or_else(|_| unknown()))
    }

    /// In one step: half a note would stand for a move that is done.
    fn write(&self, data_dir: &Path) -> Result<(), MoveError> {
        let (path, text) = (Self::path(data_dir), serde_json::json!(self).to_string());
        durable::replace(&path, text.as_bytes()).map_err(|source| MoveError::Note { path, source })
    }

    fn remove(data_dir: &Path) -> Result<(), MoveError> {
        let path = Self::path(data_dir);
        std::fs::remove_file(&path).map_err(|source| MoveError::Note { path, source })
    }
}

/// One at a time moves or gives up; until it is dropped.
fn turn(data_dir: &Path) -> Result<File, MoveError> {
    let path = data_dir.join("moved.lock");
    let file = File::create(&path).map_err(|source| MoveError::Note { path, source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(MoveError::Wrong(format!("another move of {} is under way", data_dir.display()))),
    }
}

/// Gives up a move that isn't finished: the SQLite file counts again. False when there is none.
///
/// # Errors
/// When it is finished or under way, or the note can't be removed.
pub fn abandon(data_dir: &Path) -> Result<bool, MoveError> {
    let _turn = turn(data_dir)?;
    match Note::read(data_dir) {
        None => Ok(false),
        Some(note) if note.done => Err(MoveError::Wrong(format!(
            "the move to {} is finished, and what came since then is only there; whoever wants to go back all the same \
             removes {}",
            note.place,
            Note::path(data_dir).display()
        ))),
        Some(_) => Note::remove(data_dir).map(|()| true),
    }
}

/// What of `to` doesn't fit what is moved from `from`.
fn doubt(from: &Config, to: &Config) -> Option<String> {
    if from.warm.store() != Store::Sqlite {
        return Some("[warm] of the present configuration isn't SQLite, and only an embedded installation is moved (POSTGRES_HOST makes it PostgreSQL unless store = \"sqlite\" is said)".into());
    }
    if to.warm.store() != Store::Postgres {
        return Some("[warm] store of the new configuration isn't \"postgres\": nothing is to be moved".into());
    }
    (from.data_dir != to.data_dir).then(|| {
        format!(
            "data_dir must stay {}: what lies beside the tiers stays there; it is {} in the new configuration",
            from.data_dir.display(),
            to.data_dir.display()
        )
    })
}

/// Moves the warm tier, then the archive unless it stays where it is. Called again after an error, it goes on.
///
/// # Errors
/// When the configurations don't fit, a tier fails, or what came over isn't what was there.
pub async fn move_all(from: &Config, to: &Config, hear: &mut Hear<'_>) -> Result<(Moved, Archived), MoveError> {
    if let Some(doubt) = doubt(from, to) {
        return Err(MoveError::Wrong(doubt));
    }
    let _turn = turn(&from.data_dir)?;
    let place = format!("PostgreSQL {}:{}/{}, schema {}", to.warm.host, to.warm.port, to.warm.database, to.warm.schema);
    let before = Note::read(&from.data_dir);
    match &before {
        Some(note) if note.done => {
            return Err(MoveError::Wrong(format!("it was moved to {} already; start with that", note.place)));
        }
        Some(note) if note.place != place => {
            let to = &note.place;
            return Err(MoveError::Wrong(format!(
                "a move to {to} was begun; to begin anew, give it up with --abandon"
            )));
        }
        _ => {}
    }
    // Everything that can be found out is, before anything is changed.
    let source = SqliteWarm::open(&from.warm_file()).await?;
    let target = PostgresWarm::open(&to.warm).await?;
    let (here, there) = (from.cold.open(&from.cold_dir())?, to.cold.open(&to.cold_dir())?);
    archive_is_whole(&source, &*here).await?;
    there.state().await?;
    let first = before.is_none();
    if from.cold != to.cold {
        holds_nothing_else(&*here, &*there, first).await?;
    }
    let new = || Note { place, id: StreamId::random().to_string(), done: false };
    let note = before.unwrap_or_else(new);
    note.write(&from.data_dir)?;
    if let Err(error) = prepare(&source, &target, &note.id).await {
        if first {
            Note::remove(&from.data_dir)?;
        }
        return Err(error.into());
    }
    let moved = transfer(&source, &target, hear).await?;
    let archived = match from.cold == to.cold {
        true => Archived::default(),
        false => move_archive(&*here, &*there, hear).await?,
    };
    Note { done: true, ..note }.write(&from.data_dir)?;
    finish(&target).await?;
    source.close().await;
    target.close().await;
    Ok((moved, archived))
}

/// Every day that was archived must be in the archive: of those that have left, it has all there is.
async fn archive_is_whole(source: &SqliteWarm, archive: &dyn ColdTier) -> Result<(), MoveError> {
    let all = (Day::FIRST, Day::LAST.next());
    let there: BTreeSet<Day> = archive.days(all.0, all.1).await?.into_iter().collect();
    let entries = source.days().days(all.0, all.1).await?;
    let missing: Vec<Day> =
        entries.iter().filter(|one| one.exported > 0 && !there.contains(&one.day)).map(|one| one.day).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(MoveError::Wrong(format!(
        "the archive of the present configuration: {}",
        lost::words(&archive.place(), &missing)
    )))
}

/// What the new archive holds must be ours: days of another installation would be answered under our series' numbers.
/// What this move has brought there itself may differ: it is replaced.
async fn holds_nothing_else(here: &dyn ColdTier, there: &dyn ColdTier, first: bool) -> Result<(), MoveError> {
    let all = (Day::FIRST, Day::LAST.next());
    let ours: BTreeSet<Day> = here.days(all.0, all.1).await?.into_iter().collect();
    let held = there.days(all.0, all.1).await?;
    let mut other = held.iter().copied().find(|day| !ours.contains(day));
    if first && other.is_none() {
        for day in held {
            if there.proof(day).await? != Some(Proof::of(here.day(day)).await?) {
                other = Some(day);
                break;
            }
        }
    }
    match other {
        None => Ok(()),
        Some(day) => Err(MoveError::Wrong(format!(
            "the archive of the new configuration, {}, holds what isn't in the present one, the first is {day}: is it another \
             installation's? name an empty place in [cold], or empty this one",
            there.place()
        ))),
    }
}

/// Day by day; each is read back and compared. A day that is there already isn't moved again.
async fn move_archive(here: &dyn ColdTier, there: &dyn ColdTier, hear: &mut Hear<'_>) -> Result<Archived, TierError> {
    let days = here.days(Day::FIRST, Day::LAST.next()).await?;
    let (mut archived, total) = (Archived::default(), days.len() as u64);
    for day in days {
        hear("archive, days", archived.days, total);
        let sent = Proof::of(here.day(day)).await?;
        let mut found = there.proof(day).await?;
        if found != Some(sent) {
            found = Some(there.replace_day(day, here.day(day)).await?);
        }
        if found != Some(sent) {
            let found = found.unwrap_or_default();
            return Err(TierError::Broken {
                tier: "cold tier",
                why: format!("{day}: {sent} were sent, {found} are there"),
            });
        }
        archived.days += 1;
        archived.readings += sent.rows;
    }
    hear("archive, days", archived.days, total);
    Ok(archived)
}
