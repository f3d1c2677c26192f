//! The memory of one query. DataFusion counts what is in columns; a cross join holds batches of rows without any, and of
//! these there may be millions in a second.

use datafusion::common::Result;
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryLimit, MemoryPool, MemoryReservation};
use std::fmt;

/// What something costs that is held and counts for nothing, bytes: a batch, its place in a list that grows by doubling, and
/// what the allocator adds.
const EMPTY: usize = 256;

/// A pool in which nothing is for nothing. What counts for nothing isn't given back before the query has ended.
#[derive(Debug)]
pub(super) struct QueryMemory(GreedyMemoryPool);

impl QueryMemory {
    pub(super) fn new(bytes: usize) -> Self {
        Self(GreedyMemoryPool::new(bytes))
    }
}

impl fmt::Display for QueryMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl MemoryPool for QueryMemory {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.0.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.0.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.0.try_grow(reservation, if additional == 0 { EMPTY } else { additional })
    }

    fn reserved(&self) -> usize {
        self.0.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.0.memory_limit()
    }
}
