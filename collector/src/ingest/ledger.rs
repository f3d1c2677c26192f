//! Which blocks are already here: by (gateway, stream), the seqs that are stored and those that are committed.
//!
//! Invariant: committed ⊆ stored. It is loaded from the warm tier when a stream first shows, and from the spool at
//! the start; what it says is never more than what is on disk.

use shared::ids::{GatewayId, Seq, StreamId};
use shared::ranges::SeqRanges;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most islands of stored seqs in a stream; a gateway that makes more is broken or hostile.
pub const ISLANDS_MAX: usize = 10_000;
/// Above this many streams, those without open business are forgotten (they are loaded again when needed).
const STREAMS_MAX: usize = 4_096;

/// What is here of one stream.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Account {
    /// On disk in the spool, or in the warm tier.
    pub stored: SeqRanges,
    /// In the warm tier.
    pub committed: SeqRanges,
    /// The highest seq ever seen; 0 for none.
    pub highest: u64,
    /// Whether the warm tier was asked.
    loaded: bool,
}

/// The accounts of all streams in use.
#[derive(Debug, Default)]
pub struct Ledger {
    streams: Mutex<HashMap<(GatewayId, StreamId), Account>>,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, HashMap<(GatewayId, StreamId), Account>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account, once the warm tier's part was loaded by [`Ledger::load`].
    #[must_use]
    pub fn loaded(&self, gateway: &GatewayId, stream: StreamId) -> Option<Account> {
        self.lock().get(&(gateway.clone(), stream)).filter(|a| a.loaded).cloned()
    }

    /// The account as far as it is known here, whether the warm tier was asked or not.
    #[must_use]
    pub fn known(&self, gateway: &GatewayId, stream: StreamId) -> Account {
        self.lock().get(&(gateway.clone(), stream)).cloned().unwrap_or_default()
    }

    /// Adds what the warm tier knows, and gives the whole.
    pub fn load(&self, gateway: &GatewayId, stream: StreamId, committed: &SeqRanges, highest: Seq) -> Account {
        let mut streams = self.lock();
        if streams.len() >= STREAMS_MAX {
            streams.retain(|_, a| !a.loaded || a.stored != a.committed);
        }
        let account = streams.entry((gateway.clone(), stream)).or_default();
        account.stored.extend(committed);
        account.committed.extend(committed);
        account.highest = account.highest.max(highest.0).max(committed.highest().map_or(0, |s| s.0));
        account.loaded = true;
        account.clone()
    }

    /// Whether a block is here already.
    #[must_use]
    pub fn is_stored(&self, gateway: &GatewayId, stream: StreamId, seq: Seq) -> bool {
        self.lock().get(&(gateway.clone(), stream)).is_some_and(|a| a.stored.contains(seq))
    }

    /// Whether a block is in the warm tier already.
    #[must_use]
    pub fn is_committed(&self, gateway: &GatewayId, stream: StreamId, seq: Seq) -> bool {
        self.lock().get(&(gateway.clone(), stream)).is_some_and(|a| a.committed.contains(seq))
    }

    /// Notes what is on disk now; gives the number of islands.
    pub fn mark_stored(&self, gateway: &GatewayId, stream: StreamId, seqs: &SeqRanges) -> usize {
        let mut streams = self.lock();
        let account = streams.entry((gateway.clone(), stream)).or_default();
        account.stored.extend(seqs);
        account.highest = account.highest.max(seqs.highest().map_or(0, |s| s.0));
        account.stored.islands()
    }

    /// Notes what is in the warm tier now.
    pub fn mark_committed(&self, gateway: &GatewayId, stream: StreamId, seqs: &SeqRanges) {
        let mut streams = self.lock();
        let account = streams.entry((gateway.clone(), stream)).or_default();
        account.stored.extend(seqs);
        account.committed.extend(seqs);
        account.highest = account.highest.max(seqs.highest().map_or(0, |s| s.0));
    }

    /// Notes a seq that was named without its block, as in a gap.
    pub fn mark_seen(&self, gateway: &GatewayId, stream: StreamId, seq: Seq) {
        let mut streams = self.lock();
        let account = streams.entry((gateway.clone(), stream)).or_default();
        account.highest = account.highest.max(seq.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::ranges::SeqRange;

    fn ranges(first: u64, last: u64) -> SeqRanges {
        [SeqRange::new(Seq(first), Seq(last))].into_iter().collect()
    }

    #[test]
    fn what_the_spool_and_the_warm_tier_hold_adds_up() {
        let (ledger, gateway, stream) = (Ledger::default(), GatewayId::new("G").unwrap(), StreamId(1));
        ledger.mark_stored(&gateway, stream, &ranges(5, 7));
        assert_eq!(ledger.loaded(&gateway, stream), None, "nobody asked the warm tier yet");
        let account = ledger.load(&gateway, stream, &ranges(1, 4), Seq(9));
        assert_eq!((account.stored, account.committed, account.highest), (ranges(1, 7), ranges(1, 4), 9));
        assert!(ledger.is_stored(&gateway, stream, Seq(6)) && !ledger.is_committed(&gateway, stream, Seq(6)));
        ledger.mark_committed(&gateway, stream, &ranges(5, 7));
        assert!(ledger.is_committed(&gateway, stream, Seq(6)));
        assert!(!ledger.is_stored(&gateway, StreamId(2), Seq(6)), "another stream is another matter");
    }

    #[test]
    fn settled_streams_are_forgotten_before_memory_grows() {
        let (ledger, gateway) = (Ledger::default(), GatewayId::new("G").unwrap());
        ledger.mark_stored(&gateway, StreamId(0), &ranges(1, 1));
        for stream in 1..=2 * STREAMS_MAX as u64 {
            ledger.load(&gateway, StreamId(stream), &ranges(1, 3), Seq(3));
        }
        assert!(ledger.lock().len() <= STREAMS_MAX);
        assert!(ledger.is_stored(&gateway, StreamId(0), Seq(1)), "open business is kept");
    }
}
