//! What collectors agree on about the hot tier, kept in the warm one so that none of them commits what it hides.
//!
//! The hot tier gets readings before they are committed, and proves from when on it has all. Two things endanger that
//! where several collectors share both tiers:
//!
//! - It loses something (Redis restarted) that one collector put and hasn't committed, and another one fills it again
//!   from the warm tier. Therefore who fills begins a new *epoch* first, and a commit whose readings were put in an
//!   earlier one is refused ([`TierError::Overtaken`]): they are put again.
//! - A collector that can't reach it commits past it. Then the same transaction notes up to when something may be
//!   missing: what is *owed*. The next collector that reaches both makes the hot tier forget what is before that, and
//!   throws out what is cached beside it.

use crate::tiers::{TierError, TierFuture};
use shared::reading::Timestamp;

/// What is agreed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HotAccount {
    /// Tells this warm tier from any other.
    pub id: String,
    /// Grows; never 0.
    pub epoch: u64,
    /// Readings before this may have been committed past the hot tier, or what is cached beside it was changed.
    pub owed: Option<Timestamp>,
}

/// How a flush's readings went to the hot tier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HotTurn {
    /// When they were put.
    pub epoch: u64,
    /// They, or what is cached of their days, could not be told; none of them is at or after this.
    pub missed: Option<Timestamp>,
}

impl HotTurn {
    /// Whether that may be committed in this epoch.
    ///
    /// # Errors
    /// [`TierError::Overtaken`] when it may not, [`TierError::Unavailable`] when there is less than there was.
    pub fn check(turn: Option<Self>, epoch: u64) -> Result<(), TierError> {
        match turn {
            Some(turn) if turn.epoch > epoch => Err(TierError::Unavailable {
                tier: "warm tier",
                why: format!(
                    "hot_ledger says epoch {epoch}, and {} had begun: somebody put an older copy of the database in its \
                     place; restart the collectors that use it",
                    turn.epoch
                ),
            }),
            Some(turn) if turn.epoch != epoch => Err(TierError::Overtaken { epoch }),
            _ => Ok(()),
        }
    }
}

/// What is owed when no reading is: no moment that any has.
pub const NO_READING: Timestamp = Timestamp(i64::MIN + 1);

/// Where it is kept.
pub trait HotLedger: Send + Sync {
    /// What is agreed at the moment.
    fn account(&self) -> TierFuture<'_, HotAccount>;

    /// Begins an epoch, and gives it. What was committed in earlier ones can be read when it returns, and nothing more will
    /// be.
    fn begin_epoch(&self) -> TierFuture<'_, u64>;

    /// What is cached beside the hot tier was changed, and couldn't be told. No reading is owed for it.
    fn owe(&self) -> TierFuture<'_, ()>;

    /// The hot tier was told to forget what is before `until`, which was owed, and the caches to throw out everything:
    /// nothing is owed any more, unless something was since; each time makes it more.
    fn settle(&self, until: Timestamp) -> TierFuture<'_, ()>;
}
