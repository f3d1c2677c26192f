//! What the warm tier does for inboxes. What was taken is noted by [`crate::tiers::WarmTier::commit`].

use super::rows::Line;
use super::settings::ForeignInbox;
use crate::tiers::TierFuture;
use serde::Serialize;
use shared::ids::GatewayId;
use shared::reading::Timestamp;
use std::time::Duration;
use utoipa::ToSchema;

/// So many rows of a table that can't be taken wait for a person: then what brings more of them isn't read. Also, how many
/// are remembered that were dropped.
pub const REJECTS_MAX: u32 = 10_000;
/// Most nodes of a foreign table.
pub const NODES_MAX: u32 = 10_000;

/// A row of our own table.
#[derive(Clone, PartialEq, Debug)]
pub struct Waiting {
    /// Its number.
    pub number: i64,
    /// What it says.
    pub line: Line,
}

/// A row that could not be taken.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[schema(as = RejectedRow)]
pub struct Rejected {
    /// Whose: `inbox` or the name in `[[inbox]]`.
    pub source: GatewayId,
    /// When it was first seen.
    pub at: Timestamp,
    /// What is wrong with it.
    pub reason: String,
    /// What it says, as a line: timestamp, node, metric, channel, value, unit, quality, revision.
    pub text: String,
}

/// Up to which moment a node of a foreign table was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mark {
    /// Whose table.
    pub source: GatewayId,
    /// The node as it stands there.
    pub node: String,
    /// The moment as it stands there.
    pub until: String,
}

/// What a flush takes out of inboxes.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct InboxNews {
    /// Rows of our own table that are done with.
    pub taken: Vec<i64>,
    /// Rows that could not be taken.
    pub rejected: Vec<Rejected>,
    /// Rows that could not be taken, and about which a person has decided that they need not be.
    pub dropped: Vec<Rejected>,
    /// How far foreign tables were read.
    pub marks: Vec<Mark>,
}

impl InboxNews {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.rejected.is_empty() && self.dropped.is_empty() && self.marks.is_empty()
    }
}

/// A row of a foreign table, as text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForeignRow {
    /// The moment as it stands there; empty for NULL.
    pub time: String,
    /// The columns of [`ForeignInbox::read_columns`], in that order; empty for NULL.
    pub cells: Vec<String>,
}

/// Which rows of a foreign table.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// A node's up to a moment, ascending by time.
    Of {
        /// As it stands there.
        node: &'a str,
        /// From where on.
        since: &'a Since,
        /// The last moment.
        until: Timestamp,
    },
    /// A node's after a moment, or without one.
    Astray {
        /// As it stands there.
        node: &'a str,
        /// The moment.
        until: Timestamp,
    },
    /// Without a node.
    Nowhere,
}

/// From where on rows of a node are read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Since {
    /// All of them.
    Ever,
    /// From so long before a moment on.
    Before(String, Duration),
}

/// What a foreign table's columns are there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    /// The type of the node's column.
    pub node: String,
    /// Whether moments have no time zone.
    pub is_local: bool,
}

/// Inboxes in the warm tier's database.
pub trait InboxStore: Send + Sync {
    /// Rows of our own table above a number, ascending.
    fn waiting(&self, after: i64, count_max: u32) -> TierFuture<'_, Vec<Waiting>>;

    /// How many rows of a table wait that could not be taken.
    fn rejects<'a>(&'a self, source: &'a GatewayId) -> TierFuture<'a, u64>;

    /// Rows that could not be taken, newest first, without those that were dropped.
    fn rejected(&self, count_max: u32) -> TierFuture<'_, Vec<Rejected>>;

    /// How far a foreign table was read.
    fn marks<'a>(&'a self, source: &'a GatewayId) -> TierFuture<'a, Vec<Mark>>;

    /// Tables of other producers beside ours; `None` when there can't be any.
    fn foreign(&self) -> Option<&dyn ForeignTables>;
}

/// Tables of other producers.
pub trait ForeignTables: Send + Sync {
    /// What the columns are. A table or column that isn't there, or moments without a zone, are an error that names the
    /// setting.
    fn shape<'a>(&'a self, table: &'a ForeignInbox) -> TierFuture<'a, Shape>;

    /// The nodes that have rows, at most [`NODES_MAX`], ascending.
    fn nodes<'a>(&'a self, table: &'a ForeignInbox) -> TierFuture<'a, Vec<String>>;

    /// Rows, as many at most.
    fn rows<'a>(
        &'a self,
        table: &'a ForeignInbox,
        shape: &'a Shape,
        which: Which<'a>,
        count_max: u32,
    ) -> TierFuture<'a, Vec<ForeignRow>>;
}
