//! `[sql]`: what a query may take.

use crate::config::Mistakes;
use serde::Deserialize;
use shared::config::{ByteSize, HumanDuration};
use std::time::Duration;

/// `[sql]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SqlSettings {
    /// Most memory of one query's sorting, grouping and joining.
    pub memory: ByteSize,
    /// Longest time of one, to its last row.
    pub time: HumanDuration,
    /// Most rows of an answer, when the question doesn't say.
    pub rows: u64,
    /// Most of them at a time.
    pub queries: usize,
}

impl Default for SqlSettings {
    fn default() -> Self {
        Self { memory: ByteSize::mib(256), time: HumanDuration(Duration::from_secs(20)), rows: 100_000, queries: 2 }
    }
}

impl SqlSettings {
    /// What can't be used.
    #[must_use]
    pub fn mistakes(&self) -> Mistakes {
        let mut found = Mistakes::default();
        let memory = (ByteSize::mib(1)..=ByteSize::gib(64)).contains(&self.memory);
        found.unless(memory, "sql.memory", self.memory, "1MiB to 64GiB are possible");
        let time = (Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(&self.time.0);
        found.unless(time, "sql.time", self.time, "100ms to 1h are possible");
        let rows = (1..=1_000_000_000).contains(&self.rows);
        found.unless(rows, "sql.rows", self.rows, "1 to 1000000000 are possible");
        let queries = (1..=16).contains(&self.queries);
        found.unless(queries, "sql.queries", self.queries, "1 to 16 are possible");
        found
    }
}
