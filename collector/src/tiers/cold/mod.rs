//! Cold tiers.

pub mod parquet;
pub mod rows;
pub mod settings;
pub(crate) mod streams;
