//! What the edge agent and the collector have in common.
//!
//! The words used here are those of ARCHITECTURE.md: reading, series, catalogue, block, stream, seq, gap.
//! Nothing in this crate knows a sensor or a store.

pub mod backoff;
pub mod block;
pub mod catalogue;
pub mod config;
pub mod ids;
pub mod metric;
pub mod notify;
pub mod ranges;
pub mod reading;
pub mod spool;
pub mod telemetry;
pub mod tls;
pub mod wire;
