//! Where readings come from. A source knows its devices and nothing of blocks, spool or uplink.

pub mod measure;
pub mod mistakes;
pub mod modbus;
pub mod mqtt;
