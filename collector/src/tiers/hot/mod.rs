//! Hot tiers.

pub mod memory;
