//! Small values that everybody in front of the collectors shares: sessions of users, wrong passwords. They expire, and
//! may be gone at any time. One trait, one contract suite (`tests/contract_shelf.rs`), memory and Redis.

use crate::tiers::TierFuture;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What kind of value it is; each has its own keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A user's session.
    Session,
    /// Wrong passwords.
    Attempt,
}

impl Kind {
    /// As it is written in keys.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Session => "session",
            Kind::Attempt => "attempt",
        }
    }
}

/// Longest key in bytes.
pub const KEY_MAX: usize = 256;
/// Longest value in bytes.
pub const VALUE_MAX: usize = 64 << 10;
/// Most values of a kind; the ones that expire first make room.
pub const COUNT_MAX: usize = 10_000;

/// Where they lie.
pub trait Shelf: Send + Sync + 'static {
    /// Puts a value there for so long, in the place of what was there.
    ///
    /// # Errors
    /// Besides those of the tier, [`crate::tiers::TierError::Broken`] for what is longer than [`KEY_MAX`] or
    /// [`VALUE_MAX`].
    fn set<'a>(&'a self, kind: Kind, key: &'a str, value: &'a [u8], stays: Duration) -> TierFuture<'a, ()>;

    /// The value, unless it expired.
    fn get<'a>(&'a self, kind: Kind, key: &'a str) -> TierFuture<'a, Option<Vec<u8>>>;

    /// Takes it away; whether it was there.
    fn remove<'a>(&'a self, kind: Kind, key: &'a str) -> TierFuture<'a, bool>;

    /// All of a kind, by key.
    fn all(&self, kind: Kind) -> TierFuture<'_, BTreeMap<String, Vec<u8>>>;
}

/// Refuses what is too long.
pub(super) fn check(tier: &'static str, key: &str, value: &[u8]) -> Result<(), crate::tiers::TierError> {
    let why = match (key.len(), value.len()) {
        (0, _) => "a value without a key".to_owned(),
        (length, _) if length > KEY_MAX => format!("a key of {length} bytes; {KEY_MAX} are possible"),
        (_, length) if length > VALUE_MAX => format!("a value of {length} bytes; {VALUE_MAX} are possible"),
        _ => return Ok(()),
    };
    Err(crate::tiers::TierError::Broken { tier, why })
}

/// Values of each kind, and until when they stay.
type Held = HashMap<Kind, BTreeMap<String, (Instant, Vec<u8>)>>;

/// In this process's memory.
#[derive(Default)]
pub struct MemoryShelf {
    held: Mutex<Held>,
}

impl MemoryShelf {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf for MemoryShelf {
    fn set<'a>(&'a self, kind: Kind, key: &'a str, value: &'a [u8], stays: Duration) -> TierFuture<'a, ()> {
        let checked = check("shelf (memory)", key, value);
        if checked.is_ok() {
            let (mut held, now) = (self.lock(), Instant::now());
            let of_kind = held.entry(kind).or_default();
            of_kind.insert(key.to_owned(), (now + stays, value.to_vec()));
            if of_kind.len() > COUNT_MAX {
                of_kind.retain(|_, (until, _)| *until > now);
            }
            if of_kind.len() > COUNT_MAX
                && let Some(first) = of_kind.iter().min_by_key(|(_, (until, _))| *until).map(|(key, _)| key.clone())
            {
                of_kind.remove(&first);
            }
        }
        Box::pin(async { checked })
    }

    fn get<'a>(&'a self, kind: Kind, key: &'a str) -> TierFuture<'a, Option<Vec<u8>>> {
        let held = self.lock();
        let found = held.get(&kind).and_then(|of_kind| of_kind.get(key));
        let found = found.filter(|(until, _)| *until > Instant::now()).map(|(_, value)| value.clone());
        Box::pin(async { Ok(found) })
    }

    fn remove<'a>(&'a self, kind: Kind, key: &'a str) -> TierFuture<'a, bool> {
        let removed = self.lock().get_mut(&kind).and_then(|of_kind| of_kind.remove(key));
        let was_there = removed.is_some_and(|(until, _)| until > Instant::now());
        Box::pin(async move { Ok(was_there) })
    }

    fn all(&self, kind: Kind) -> TierFuture<'_, BTreeMap<String, Vec<u8>>> {
        let (held, now) = (self.lock(), Instant::now());
        let of_kind = held.get(&kind).into_iter().flatten().filter(|(_, (until, _))| *until > now);
        let all = of_kind.map(|(key, (_, value))| (key.clone(), value.clone())).collect();
        Box::pin(async { Ok(all) })
    }
}
