//! Modbus TCP, RTU and RTU over TCP. The agent reads; it has no way to write to a device.

pub mod breaker;
pub mod config;
pub mod decode;
pub mod plan;
pub mod raw;
