//! What a session owes its gateway: answers gather here until the writer takes them, so that neither the disk nor
//! the flusher ever waits for a slow connection. Bounded by itself: ranges join, and a session reads no further
//! while too many bytes are without an answer.

use crate::ingest::check::Refusal;
use crate::ingest::item::Item;
use shared::ids::Seq;
use shared::ranges::SeqRanges;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Most bytes of one gateway's blocks that are taken from the connection and not answered yet; what it is told as its
/// window.
pub const WINDOW_BYTES: u32 = 1 << 20;
/// Most refusals that wait for the writer; beyond, the session reads no further.
const REFUSALS_MAX: usize = 256;

/// Blocks that are refused for one reason.
#[derive(Clone, PartialEq, Debug)]
pub struct Refused {
    /// Which.
    pub seqs: SeqRanges,
    /// Why.
    pub refusal: Refusal,
}

/// What the writer takes at once.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Taken {
    /// On disk.
    pub stored: SeqRanges,
    /// In the warm tier already: repetitions.
    pub committed: SeqRanges,
    /// Not taken.
    pub refused: Vec<Refused>,
    /// Gaps and clock fixes that could not be stored: to be tried again.
    pub given_back: Vec<Item>,
    /// The connection is to be closed, for this reason.
    pub give_up: Option<String>,
}

#[derive(Debug, Default)]
struct Held {
    taken: Taken,
    in_flight: usize,
}

/// The answers of one session.
#[derive(Debug, Default)]
pub struct Answers {
    held: Mutex<Held>,
    filled: Notify,
    freed: Notify,
}

impl Answers {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Held)) {
        change(&mut self.lock());
        self.filled.notify_one();
        self.freed.notify_one();
    }

    /// Counts bytes that were taken from the connection and have no answer yet.
    pub fn begin(&self, bytes: usize) {
        self.lock().in_flight += bytes;
    }

    /// These are on disk.
    pub fn stored(&self, seqs: &SeqRanges, bytes: usize) {
        self.change(|held| {
            held.in_flight = held.in_flight.saturating_sub(bytes);
            held.taken.stored.extend(seqs);
        });
    }

    /// These are in the warm tier.
    pub fn committed(&self, seqs: &SeqRanges) {
        self.change(|held| held.taken.committed.extend(seqs));
    }

    /// These are not taken.
    pub fn refused(&self, seqs: &SeqRanges, refusal: Refusal, bytes: usize) {
        self.change(|held| {
            held.in_flight = held.in_flight.saturating_sub(bytes);
            match held.taken.refused.last_mut().filter(|last| last.refusal == refusal) {
                Some(last) => last.seqs.extend(seqs),
                None => held.taken.refused.push(Refused { seqs: seqs.clone(), refusal }),
            }
        });
    }

    /// This could not be stored, and the gateway can't be told.
    pub fn give_back(&self, item: Item) {
        self.change(|held| held.taken.given_back.push(item));
    }

    /// This connection must end.
    pub fn give_up(&self, why: String) {
        self.change(|held| held.taken.give_up = Some(why));
    }

    /// Bytes without an answer. 0 when nothing is under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.lock().in_flight
    }

    /// Waits until more may be read from the connection. Nothing is lost when the wait is given up.
    pub async fn room(&self) {
        loop {
            {
                let held = self.lock();
                if held.in_flight < WINDOW_BYTES as usize && held.taken.refused.len() < REFUSALS_MAX {
                    return;
                }
            }
            self.freed.notified().await;
        }
    }

    /// Everything there is, at once; empty when there is nothing.
    pub fn take_now(&self) -> Taken {
        let taken = std::mem::take(&mut self.lock().taken);
        self.freed.notify_one();
        taken
    }

    /// Waits until there is something, and takes all of it. Nothing is lost when the wait is given up.
    pub async fn take(&self) -> Taken {
        loop {
            let taken = self.take_now();
            if taken != Taken::default() {
                return taken;
            }
            self.filled.notified().await;
        }
    }
}

/// The set of one seq.
#[must_use]
pub fn one(seq: Seq) -> SeqRanges {
    [seq].into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::wire::RejectReason;
    use std::time::Duration;

    fn refusal(detail: &str) -> Refusal {
        Refusal { reason: RejectReason::Undecodable, detail: detail.into(), retry: false }
    }

    #[tokio::test]
    async fn reading_stops_at_the_window_and_goes_on_with_an_answer() {
        let answers = Answers::default();
        answers.begin(WINDOW_BYTES as usize - 1);
        answers.room().await;
        answers.begin(1);
        assert!(tokio::time::timeout(Duration::from_millis(20), answers.room()).await.is_err());
        answers.stored(&one(Seq(1)), 1);
        answers.room().await;
    }

    #[tokio::test]
    async fn answers_join_until_they_are_taken() {
        let answers = Answers::default();
        answers.stored(&one(Seq(1)), 0);
        answers.stored(&one(Seq(2)), 0);
        answers.refused(&one(Seq(3)), refusal("a"), 0);
        answers.refused(&one(Seq(4)), refusal("a"), 0);
        answers.refused(&one(Seq(5)), refusal("b"), 0);
        let taken = answers.take().await;
        assert_eq!(taken.stored, [Seq(1), Seq(2)].into_iter().collect());
        assert_eq!(taken.refused.len(), 2);
        assert_eq!(answers.take_now(), Taken::default());
    }
}
