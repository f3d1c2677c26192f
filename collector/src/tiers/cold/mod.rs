//! Cold tiers.

pub mod bigquery;
mod clouds;
pub mod guarded;
pub mod lost;
pub mod parquet;
pub mod rows;
pub mod settings;
pub(crate) mod streams;
mod sums;
mod wire;
