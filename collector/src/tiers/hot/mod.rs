//! Hot tiers.

pub mod guarded;
pub mod memory;
