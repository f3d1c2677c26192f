//! Warm tiers.

mod account;
mod rules;
pub mod sqlite;
