//! Warm tiers.

pub mod sqlite;
