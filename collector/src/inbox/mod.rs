//! What other producers leave for us in tables: ours, called `inbox`, or one of theirs that `[[inbox]]` maps.
//!
//! * `settings`: `[[inbox]]`
//! * `rows`: a row becomes a line of a CSV file, and so is read by the same rules as one (pure)
//! * `store`: what the warm tier does for it (a trait of it)
//! * `take`, `foreign`, `sort`: from the tables into the tiers
//! * `bigquery`: the same for tables in BigQuery
//!
//! A row of our own table is removed in the transaction that stores its reading. Of a foreign table it is kept, in the same
//! transaction, up to which moment each node was read; every time it is read again from a while before that, and what
//! stands already is left out. So whatever is stopped where, nothing is doubled or lost.

pub mod bigquery;
mod foreign;
pub mod rows;
pub mod settings;
mod sort;
pub mod store;
mod take;

pub use take::{Inbox, Reach, Taken};

use shared::ids::StreamId;

/// The name of the producers that write into our own table, for `[grants]`.
pub const OWN: &str = "inbox";

/// What the readings of inboxes have in quarantine for the stream of their block: there is none.
pub const NO_STREAM: StreamId = StreamId(0);
