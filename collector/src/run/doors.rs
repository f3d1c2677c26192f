//! Where people and programs ask: the address of the configuration, with TLS when it should have it, and then another on
//! loopback for commands on this machine.

use super::{RunError, file_error};
use crate::access::{Access, Local, Sessions};
use crate::api::tls::{Identity, TlsListener};
use crate::api::{self, ApiError, Connections, Sources};
use crate::config::Config;
use crate::tiers::WarmTier;
use crate::tiers::hot::redis::RedisHot;
use crate::tiers::hot::shelf::{MemoryShelf, Shelf};
use crate::tiers::hot::sheltered::Sheltered;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Most connections of commands on this machine that have a door of their own.
const COMMANDS_MAX: usize = 64;

/// Bound, and not served yet.
pub(super) struct Asked {
    pub(super) address: SocketAddr,
    listener: TcpListener,
    tls: Option<(Arc<Identity>, TcpListener)>,
    /// Others than this machine can ask.
    open: bool,
    local: Local,
}

impl Asked {
    pub(super) async fn open(config: &Config) -> Result<Self, RunError> {
        let listener = api::bind(config.api.listen).await?;
        let address = listener.local_addr().map_err(ApiError::Serve)?;
        let tls = match config.api_identity() {
            None => None,
            Some((cert, key)) => {
                let identity = Identity::open(&cert, &key).map_err(ApiError::from)?;
                Some((identity, api::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?))
            }
        };
        let near = match &tls {
            Some((_, near)) => near.local_addr().map_err(ApiError::Serve)?,
            None => near(address),
        };
        let local = Local::new(near).map_err(file_error(&config.data_dir))?;
        local.write(&config.data_dir).map_err(file_error(&config.data_dir))?;
        Ok(Self { address, listener, tls, open: config.api_is_open(), local })
    }

    pub(super) fn access(&self, warm: Arc<dyn WarmTier>, redis: Option<&RedisHot>) -> Arc<Access> {
        let shelf: Arc<dyn Shelf> = match redis {
            Some(redis) => Arc::new(Sheltered::new(redis.shelf())),
            None => Arc::new(MemoryShelf::default()),
        };
        Arc::new(Access::new(warm, Sessions::new(shelf), self.open, self.local.secret.clone()))
    }

    pub(super) async fn serve(self, sources: Sources, stop: CancellationToken) -> Result<(), ApiError> {
        let any_host = self.open;
        let Some((identity, near)) = self.tls else {
            // Others come through a proxy, which sees to TLS.
            api::serve(self.listener, Sources { any_host, secure: any_host, ..sources }, stop).await;
            return Ok(());
        };
        let far = TlsListener::new(self.listener, identity)?;
        let commands = Connections { most: COMMANDS_MAX, ..sources.connections };
        let local = Sources { connections: commands, trusted_proxies: [].into(), ..sources.clone() };
        let local = api::serve(near, local, stop.clone());
        tokio::join!(api::serve(far, Sources { any_host, secure: true, tls: true, ..sources }, stop), local);
        Ok(())
    }
}

/// Where this machine reaches an address that may be every address.
fn near(address: SocketAddr) -> SocketAddr {
    let mut near = address;
    if address.ip().is_unspecified() {
        near.set_ip(if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    near
}
