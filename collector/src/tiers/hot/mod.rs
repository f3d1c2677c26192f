//! Hot tiers.

pub mod days;
pub mod guarded;
pub mod ledger;
pub mod memory;
pub mod redis;
pub mod settings;
pub mod shelf;
pub mod sheltered;
