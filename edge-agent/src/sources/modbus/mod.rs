//! Modbus TCP, RTU and RTU over TCP. The agent reads; it has no way to write to a device.
//!
//! `config` checks what people wrote; `link` polls one link on the requests that `plan` makes and the pauses
//! that `breaker` grants, through `client`; `decode` makes numbers of registers.

pub mod breaker;
pub mod client;
pub mod config;
pub mod decode;
mod line;
pub mod link;
pub mod plan;
pub mod probe;
pub mod raw;
pub mod scan;

use crate::clock::Clock;
use crate::registry::{Registry, RegistryError};
use crate::sample::Outlet;
use config::{Device, Link};
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Starts one task per link. Nothing is started when any point is refused.
///
/// # Errors
/// When two sources read one series, or there are too many points.
pub fn spawn(
    links: Vec<Link>,
    registry: Arc<Registry>,
    outlet: Outlet,
    clock: Clock,
    stop: CancellationToken,
) -> Result<Vec<JoinHandle<()>>, RegistryError> {
    let pollers: Result<Vec<_>, _> = links
        .into_iter()
        .map(|link| link::Poller::new(link, Arc::clone(&registry), outlet.clone(), clock.clone()))
        .collect();
    Ok(pollers?.into_iter().map(|poller| tokio::spawn(poller.run(stop.clone()))).collect())
}

/// The requests that read a whole device, one a line, for `check`.
#[must_use]
pub fn request_plan(device: &Device) -> Vec<String> {
    let all: Vec<usize> = (0..device.points.len()).collect();
    let mut planner = plan::Planner::new(device.points.iter().map(|point| point.want).collect(), device.limits);
    let line = |request: &plan::Request| {
        let (first, points) = (request.address, request.covers.len());
        let last = first + (request.count - 1);
        format!("unit {} {} {first}-{last}: {points} points", device.unit, request.register.name())
    };
    planner.plan(&all).iter().map(line).collect()
}
