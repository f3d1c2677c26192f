//! MQTT 3.1.1 and 5. The agent listens; it never publishes, so it can't command anything either.
//!
//! `config` checks what people wrote; `listener` keeps the connection to one broker, through `client`; `intake`
//! makes samples of messages with the help of `topic`, `payload` and `sparkplug`, for the points in `points`.
//!
//! How often a reading is stored: a message at QoS 1 is acknowledged once its readings are on disk, so that the
//! broker sends it again when anything fails before. With a timestamp in the message it is the same reading then,
//! stored once. Without one it has the time of its arrival: a redelivery is another reading and says so
//! (`uncertain (redelivered)`), and what may have waited at the broker while we were away is
//! `uncertain (clock)`. A retained message without a timestamp is no reading.

mod backlog;
mod client;
mod complaints;
pub mod config;
pub mod edges;
mod intake;
mod listener;
pub mod path;
pub mod payload;
mod pending;
mod points;
pub mod raw;
pub mod sparkplug;
pub mod stamp;
#[cfg(test)]
mod testing;
pub mod topic;

use crate::clock::Clock;
use crate::registry::{Registry, RegistryError};
use crate::sample::Outlet;
use config::Broker;
use intake::Intake;
use listener::Listener;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// A point was refused.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A certificate can't be read any more.
    #[error("mqtt \"{broker}\": tls: {cause}")]
    Tls {
        /// Whose.
        broker: String,
        /// Why.
        cause: shared::tls::TlsError,
    },
}

/// Starts one task per broker. Nothing is started when any point is refused. Told to stop, a task acknowledges what
/// reaches the disk within half a second and leaves; the broker sends the rest again next time.
///
/// # Errors
/// When two sources read one series, there are too many points, or a certificate can't be read.
pub fn spawn(
    brokers: Vec<Broker>,
    registry: Arc<Registry>,
    outlet: Outlet,
    clock: Clock,
    stop: CancellationToken,
) -> Result<Vec<JoinHandle<()>>, SpawnError> {
    let listener = |broker: Broker| {
        let tls = broker.tls.as_ref().map(|tls| tls.client_config(clock.clone())).transpose();
        let tls = tls.map_err(|cause| SpawnError::Tls { broker: broker.name.clone(), cause })?;
        if broker.login.is_some() && tls.is_none() && !broker.is_local() {
            tracing::warn!(broker = broker.name, "the password goes to another machine without TLS");
        }
        let broker = Arc::new(broker);
        let intake = Intake::new(Arc::clone(&broker), Arc::clone(&registry))?;
        Ok(Listener::new(broker, tls, intake, outlet.clone(), clock.clone()))
    };
    let listeners: Result<Vec<_>, SpawnError> = brokers.into_iter().map(listener).collect();
    Ok(listeners?.into_iter().map(|listener| tokio::spawn(listener.run(stop.clone()))).collect())
}
