//! Takes in what agents send, stores it in tiers, answers for it.

pub mod access;
pub mod alerts;
pub mod analytics;
pub mod anomalies;
pub mod api;
pub mod ca;
pub mod cli;
pub mod config;
pub mod costs;
mod durable;
pub mod etl;
pub mod flush;
pub mod grants;
pub mod history;
pub mod import;
pub mod inbox;
pub mod ingest;
pub mod moving;
mod places;
pub mod resolve;
pub mod revocation;
pub mod rollup;
pub mod run;
pub mod sql;
pub mod standing;
pub mod tiers;
