//! Who stands at the door and hasn't said who it is: only so many. One more pushes out the oldest of the address that has
//! the most there, so that silent strangers of one address don't keep the gateways of others out.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// Those who wait, in the order in which they came.
#[derive(Clone, Debug)]
pub struct Waiting {
    count_max: usize,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    there: BTreeMap<u64, (IpAddr, CancellationToken)>,
}

/// A place among them, until it is dropped.
#[derive(Debug)]
pub struct Place {
    no: u64,
    /// Cancelled when another one needs the place.
    pub pushed_out: CancellationToken,
    inner: Arc<Mutex<Inner>>,
}

impl Waiting {
    /// Room for so many.
    #[must_use]
    pub fn new(count_max: usize) -> Self {
        Self { count_max, inner: Arc::default() }
    }

    /// One more, and whose place it took.
    pub fn enter(&self, from: IpAddr) -> (Place, Option<IpAddr>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let crowded = if inner.there.len() < self.count_max { None } else { inner.push_out() };
        let (no, pushed_out) = (inner.next, CancellationToken::new());
        inner.next += 1;
        inner.there.insert(no, (from, pushed_out.clone()));
        drop(inner);
        (Place { no, pushed_out, inner: Arc::clone(&self.inner) }, crowded)
    }
}

impl Inner {
    fn push_out(&mut self) -> Option<IpAddr> {
        let mut counts = HashMap::<IpAddr, usize>::new();
        for (from, _) in self.there.values() {
            *counts.entry(*from).or_default() += 1;
        }
        let most = counts.values().max().copied()?;
        // Among addresses that have as many, the one that came first.
        let (no, from) =
            self.there.iter().map(|(no, (from, _))| (*no, *from)).find(|(_, from)| counts[from] == most)?;
        let (_, place) = self.there.remove(&no)?;
        place.cancel();
        Some(from)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).there.remove(&self.no);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn a_crowd_of_one_address_pushes_out_its_own_oldest() {
        let waiting = Waiting::new(3);
        let (honest, _) = waiting.enter(address(1));
        let (oldest, _) = waiting.enter(address(2));
        let (second, _) = waiting.enter(address(2));
        let (third, crowded) = waiting.enter(address(2));
        assert_eq!(crowded, Some(address(2)));
        assert!(oldest.pushed_out.is_cancelled());
        assert!([&honest, &second, &third].iter().all(|place| !place.pushed_out.is_cancelled()));
    }

    #[test]
    fn whoever_left_has_no_place() {
        let waiting = Waiting::new(1);
        let (first, _) = waiting.enter(address(1));
        drop(first);
        let (second, crowded) = waiting.enter(address(2));
        assert_eq!((crowded, second.pushed_out.is_cancelled()), (None, false));
        let (_third, crowded) = waiting.enter(address(3));
        assert_eq!((crowded, second.pushed_out.is_cancelled()), (Some(address(2)), true));
    }
}
