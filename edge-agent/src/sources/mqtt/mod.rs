//! MQTT 3.1.1 and 5. The agent listens; it never publishes.
pub mod config;
mod edges;
mod path;
mod payload;
pub mod raw;
mod sparkplug;
mod stamp;
#[cfg(test)]
mod testing;
mod topic;
