//! From the embedded tiers into the production tiers: what `collector move` does.
//!
//! What lies beside the tiers in `data_dir` (spool, catalogues, certificates) stays where it is; what waits in the spool
//! is committed to the new warm tier after the next start.

use crate::config::Config;
use crate::tiers::warm::postgres::PostgresWarm;
use crate::tiers::warm::settings::Store;
use crate::tiers::warm::sqlite::SqliteWarm;
use crate::tiers::warm::transfer::{Moved, finish, transfer};
use crate::tiers::{ColdTier, Day, Proof, TierError, WarmTier as _};
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
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Archived {
    /// Days.
    pub days: u64,
    /// Readings.
    pub readings: u64,
}

/// The note that says that what SQLite holds is on its way to another place, or there.
fn note(data_dir: &Path) -> PathBuf {
    data_dir.join("moved")
}

/// Where the data of this folder's SQLite file was moved to, or is being moved to.
#[must_use]
pub fn moved_to(data_dir: &Path) -> Option<String> {
    std::fs::read_to_string(note(data_dir)).ok().map(|text| text.trim().to_owned())
}

/// Takes the note back: the SQLite file counts again. False when there was none.
///
/// # Errors
/// When it can't be removed.
pub fn abandon(data_dir: &Path) -> Result<bool, MoveError> {
    let path = note(data_dir);
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(MoveError::Note { path, source }),
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
    let source = SqliteWarm::open(&from.warm_file()).await?;
    let target = PostgresWarm::open(&to.warm).await?;
    let path = note(&from.data_dir);
    let place = format!("PostgreSQL {}:{}/{}, schema {}", to.warm.host, to.warm.port, to.warm.database, to.warm.schema);
    if let Some(other) = moved_to(&from.data_dir).filter(|other| *other != place) {
        let why = format!("it was begun to move this to {other}; to begin anew, take that back with --abandon");
        return Err(MoveError::Wrong(why));
    }
    std::fs::write(&path, format!("{place}\n")).map_err(|source| MoveError::Note { path, source })?;
    let moved = transfer(&source, &target, hear).await?;
    let archived = match from.cold == to.cold {
        true => Archived::default(),
        false => {
            let (here, there) = (from.cold.open(&from.cold_dir())?, to.cold.open(&to.cold_dir())?);
            move_archive(&*here, &*there, hear).await?
        }
    };
    finish(&target).await?;
    source.close().await;
    target.close().await;
    Ok((moved, archived))
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
