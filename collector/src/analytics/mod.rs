//! What readings say about themselves. Pure functions over series: no store, no clock. `store` is what is kept of it.
//!
//! * `anomaly`: what is out of the ordinary
//! * `quality`: how good the data of a stretch is
//! * `hours`: one value for each hour, from rollups
//! * `week`: which hours are alike: hours of the week in a time zone
//! * `forecast`: what is expected, and how right that was

pub mod anomaly;
pub mod forecast;
pub mod hours;
pub mod quality;
mod robust;
pub mod store;
pub mod week;
