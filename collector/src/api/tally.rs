//! How many of something each has, and all together: at most so many.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The count.
pub(super) struct Tally<K: Eq + Hash> {
    all_max: usize,
    counts: Mutex<HashMap<K, usize>>,
}

/// One of them, until it is dropped.
pub(super) struct Seat<K: Eq + Hash> {
    of: K,
    tally: Arc<Tally<K>>,
}

/// Why there is no seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Full {
    /// They have as many as each may have.
    Theirs,
    /// There are as many as there may be.
    All,
}

impl<K: Eq + Hash + Clone> Tally<K> {
    /// Nobody has any.
    pub(super) fn new(all_max: usize) -> Arc<Self> {
        Arc::new(Self { all_max, counts: Mutex::default() })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more for `of`, which may have `each_max`.
    pub(super) fn enter(self: &Arc<Self>, of: K, each_max: usize) -> Result<Seat<K>, Full> {
        let mut counts = self.counts();
        if counts.get(&of).is_some_and(|count| *count >= each_max) {
            return Err(Full::Theirs);
        }
        if counts.values().sum::<usize>() >= self.all_max {
            return Err(Full::All);
        }
        *counts.entry(of.clone()).or_default() += 1;
        Ok(Seat { of, tally: self.clone() })
    }
}

impl<K: Eq + Hash> Drop for Seat<K> {
    fn drop(&mut self) {
        let mut counts = self.tally.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_the_seats_of_others_and_a_seat_is_given_back() {
        let tally = Tally::new(3);
        let (first, second) = (tally.enter("a", 2).ok().unwrap(), tally.enter("a", 2).ok().unwrap());
        assert_eq!(tally.enter("a", 2).err(), Some(Full::Theirs));
        let other = tally.enter("b", 2).ok().unwrap();
        assert_eq!(tally.enter("b", 2).err(), Some(Full::All));
        drop((first, second, other));
        assert!(tally.counts().is_empty(), "nothing is kept of those who are gone");
    }
}
