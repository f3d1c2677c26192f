//! The edge agent: polls sensors by Modbus and MQTT, keeps readings on disk, forwards them over mutual TLS.
//!
//! The way of a reading: `sources` → `report` (what is worth sending) → `batch` (blocks) → spool → `uplink`.

pub mod batch;
pub mod catalogues;
pub mod cli;
pub mod clock;
pub mod config;
pub mod http;
pub mod live;
pub mod overflow;
pub mod pipeline;
pub mod registry;
pub mod report;
pub mod run;
pub mod sample;
pub mod sources;
pub mod status;
pub mod uplink;
pub mod vitals;
