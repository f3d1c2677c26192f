//! `[sql]`: what a query may take.

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
    /// The first setting that can't be used: its name, its value and why.
    #[must_use]
    pub fn mistake(&self) -> Option<(&'static str, String, &'static str)> {
        if !(ByteSize::mib(1)..=ByteSize::gib(64)).contains(&self.memory) {
            return Some(("sql.memory", self.memory.to_string(), "1MiB to 64GiB are possible"));
        }
        if !(Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(&self.time.0) {
            return Some(("sql.time", self.time.to_string(), "100ms to 1h are possible"));
        }
        if !(1..=1_000_000_000).contains(&self.rows) {
            return Some(("sql.rows", self.rows.to_string(), "1 to 1000000000 are possible"));
        }
        if !(1..=16).contains(&self.queries) {
            return Some(("sql.queries", self.queries.to_string(), "1 to 16 are possible"));
        }
        None
    }
}
