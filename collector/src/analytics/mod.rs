//! What readings say about themselves. Pure functions over series: no store, no clock.

pub mod quality;
