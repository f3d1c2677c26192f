//! A shelf that holds what is changed while its own place is away, in this process's memory, and carries it out as soon as
//! it is back. Until then what was changed here holds here; others who share the place don't know of it, and it is lost
//! when this process ends before.

use super::shelf::{Kind, Shelf, check};
use crate::tiers::{TierError, TierFuture};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Between tries to carry out what is owed.
const TRY_EVERY: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 1_000 });
/// Most changes of each kind that are owed, and most of those that take something away.
const OWED_MAX: usize = 10_000;
const TIER: &str = "shelf";

/// The shelf.
pub struct Sheltered(Arc<Inner>);

struct Inner {
    place: Box<dyn Shelf>,
    owed: Mutex<Owed>,
}

#[derive(Default)]
struct Owed {
    changes: HashMap<(Kind, String), Change>,
    /// Somebody carries them out.
    carried: bool,
}

#[derive(Clone, PartialEq)]
enum Change {
    Set(Vec<u8>, Instant),
    Gone,
}

impl Change {
    fn value(self) -> Option<Vec<u8>> {
        match self {
            Change::Set(value, until) => (Instant::now() < until).then_some(value),
            Change::Gone => None,
        }
    }
}

impl Sheltered {
    /// Shelters this one.
    #[must_use]
    pub fn new(place: impl Shelf) -> Self {
        Self(Arc::new(Inner { place: Box::new(place), owed: Mutex::default() }))
    }

    /// Notes a change that the place didn't take.
    fn owe(&self, kind: Kind, key: &str, change: Change) -> Result<(), TierError> {
        let mut owed = self.0.owed();
        let key = (kind, key.to_owned());
        if !owed.changes.contains_key(&key) {
            let alike = |(of, other): (&(Kind, String), &Change)| {
                of.0 == kind && matches!(other, Change::Gone) == matches!(change, Change::Gone)
            };
            if owed.changes.iter().filter(|one| alike(*one)).count() >= OWED_MAX {
                return Err(TierError::Unavailable { tier: TIER, why: "too much waits for it to be back".into() });
            }
        }
        owed.changes.insert(key, change);
        if !std::mem::replace(&mut owed.carried, true) {
            tokio::spawn(carry(Arc::downgrade(&self.0)));
        }
        Ok(())
    }

    fn owed(&self, kind: Kind, key: &str) -> Option<Change> {
        self.0.owed().changes.get(&(kind, key.to_owned())).cloned()
    }
}

impl Inner {
    fn owed(&self) -> MutexGuard<'_, Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of those that are owed; `None`, and nobody carries out anything any more, when there is none.
    fn next(&self) -> Option<((Kind, String), Change)> {
        let mut owed = self.owed();
        let next = owed.changes.iter().next().map(|(key, change)| (key.clone(), change.clone()));
        owed.carried = next.is_some();
        next
    }

    /// Carries out what is owed, as far as the place takes it; whether that was all.
    async fn carry_out(&self) -> bool {
        while let Some(((kind, key), change)) = self.next() {
            let done = match &change {
                Change::Set(value, until) => {
                    let stays = until.saturating_duration_since(Instant::now());
                    self.place.set(kind, &key, value, stays).await
                }
                Change::Gone => self.place.remove(kind, &key).await.map(drop),
            };
            if done.is_err_and(|error| is_away(&error)) {
                return false;
            }
            // What was changed again meanwhile is owed still.
            let (mut owed, key) = (self.owed(), (kind, key));
            if owed.changes.get(&key) == Some(&change) {
                owed.changes.remove(&key);
            }
        }
        true
    }
}

/// Until nothing is owed, or nobody wants the shelf any more.
async fn carry(shelf: Weak<Inner>) {
    loop {
        tokio::time::sleep(TRY_EVERY).await;
        match shelf.upgrade() {
            Some(shelf) if !shelf.carry_out().await => {}
            _ => return,
        }
    }
}

fn is_away(error: &TierError) -> bool {
    matches!(error, TierError::Unavailable { .. })
}

impl Shelf for Sheltered {
    fn set<'a>(&'a self, kind: Kind, key: &'a str, value: &'a [u8], stays: Duration) -> TierFuture<'a, ()> {
        Box::pin(async move {
            check(TIER, key, value)?;
            let change = Change::Set(value.to_vec(), Instant::now() + stays);
            if self.owed(kind, key).is_none() {
                match self.0.place.set(kind, key, value, stays).await {
                    Err(error) if is_away(&error) => {}
                    done => return done,
                }
            }
            self.owe(kind, key, change)
        })
    }

    fn get<'a>(&'a self, kind: Kind, key: &'a str) -> TierFuture<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            match self.owed(kind, key) {
                Some(change) => Ok(change.value()),
                None => self.0.place.get(kind, key).await,
            }
        })
    }

    fn remove<'a>(&'a self, kind: Kind, key: &'a str) -> TierFuture<'a, bool> {
        Box::pin(async move {
            let owed = self.owed(kind, key);
            if owed.is_none() {
                match self.0.place.remove(kind, key).await {
                    Err(error) if is_away(&error) => {}
                    done => return done,
                }
            }
            self.owe(kind, key, Change::Gone)?;
            Ok(owed.and_then(Change::value).is_some())
        })
    }

    fn all(&self, kind: Kind) -> TierFuture<'_, BTreeMap<String, Vec<u8>>> {
        Box::pin(async move {
            let mut all = self.0.place.all(kind).await?;
            for ((_, key), change) in self.0.owed().changes.iter().filter(|((of, _), _)| *of == kind) {
                match change.clone().value() {
                    Some(value) => drop(all.insert(key.clone(), value)),
                    None => drop(all.remove(key)),
                }
            }
            Ok(all)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::shelf::MemoryShelf;
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    const LONG: Duration = Duration::from_secs(3_600);

    /// A shelf that can be away.
    #[derive(Clone, Default)]
    struct Place {
        held: Arc<MemoryShelf>,
        away: Arc<AtomicBool>,
    }

    impl Place {
        fn answers<'a, T>(&self, answer: TierFuture<'a, T>) -> TierFuture<'a, T>
        where
            T: Send + 'a,
        {
            match self.away.load(Ordering::SeqCst) {
                true => Box::pin(async { Err(TierError::Unavailable { tier: TIER, why: "away".into() }) }),
                false => answer,
            }
        }
    }

    impl Shelf for Place {
        fn set<'a>(&'a self, kind: Kind, key: &'a str, value: &'a [u8], stays: Duration) -> TierFuture<'a, ()> {
            match self.away.load(Ordering::SeqCst) {
                true => self.answers(Box::pin(async { Ok(()) })),
                false => self.held.set(kind, key, value, stays),
            }
        }
        fn get<'a>(&'a self, kind: Kind, key: &'a str) -> TierFuture<'a, Option<Vec<u8>>> {
            self.answers(self.held.get(kind, key))
        }
        fn remove<'a>(&'a self, kind: Kind, key: &'a str) -> TierFuture<'a, bool> {
            match self.away.load(Ordering::SeqCst) {
                true => self.answers(Box::pin(async { Ok(false) })),
                false => self.held.remove(kind, key),
            }
        }
        fn all(&self, kind: Kind) -> TierFuture<'_, BTreeMap<String, Vec<u8>>> {
            self.answers(self.held.all(kind))
        }
    }

    #[tokio::test]
    async fn what_is_changed_meanwhile_holds_and_is_carried_out() {
        let place = Place::default();
        let shelf = Sheltered::new(place.clone());
        let get = async |key| shelf.get(Kind::Session, key).await;
        shelf.set(Kind::Session, "old", b"1", LONG).await.unwrap();
        shelf.set(Kind::Session, "other", b"2", LONG).await.unwrap();
        place.away.store(true, Ordering::SeqCst);
        assert!(get("other").await.is_err(), "what lies there isn't known here");
        shelf.set(Kind::Session, "new", b"3", LONG).await.unwrap();
        shelf.remove(Kind::Session, "old").await.unwrap();
        assert_eq!((get("new").await.unwrap().as_deref(), get("old").await.unwrap()), (Some(&b"3"[..]), None));
        tokio::time::sleep(TRY_EVERY * 3).await;
        assert_eq!(get("old").await.unwrap(), None, "it is away still");
        place.away.store(false, Ordering::SeqCst);
        assert_eq!(get("old").await.unwrap(), None, "not carried out yet, and it holds");
        while !shelf.0.owed().changes.is_empty() {
            tokio::time::sleep(TRY_EVERY).await;
        }
        assert_eq!(place.held.get(Kind::Session, "old").await.unwrap(), None);
        assert_eq!(place.held.get(Kind::Session, "new").await.unwrap().as_deref(), Some(&b"3"[..]));
        assert_eq!(shelf.all(Kind::Session).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn what_is_owed_is_bounded() {
        let place = Place::default();
        place.away.store(true, Ordering::SeqCst);
        let shelf = Sheltered::new(place);
        for n in 0..OWED_MAX {
            let change = Change::Gone;
            shelf.0.owed().changes.insert((Kind::Session, n.to_string()), change);
        }
        assert!(shelf.remove(Kind::Session, "one more").await.is_err(), "rather than that it doesn't hold");
        shelf.set(Kind::Session, "a login", b"1", LONG).await.unwrap();
    }
}
