//! Takes in what agents send, stores it in tiers, answers for it.

pub mod ca;
pub mod config;
pub mod grants;
pub mod ingest;
pub mod revocation;
