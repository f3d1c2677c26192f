//! What the warm tier knows of the clocks of boots, kept in memory.

use crate::tiers::{TierError, WarmTier};
use shared::ids::{BootId, GatewayId};
use shared::wire::Fix;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most fixes in memory.
const CACHED_MAX: usize = 16_384;

/// Fixes that are in the warm tier.
#[derive(Debug, Default)]
pub struct Fixes(Mutex<HashMap<(GatewayId, BootId), Fix>>);

impl Fixes {
    fn lock(&self) -> MutexGuard<'_, HashMap<(GatewayId, BootId), Fix>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what the warm tier has.
    pub fn note(&self, gateway: &GatewayId, boot: BootId, fix: Fix) {
        let mut held = self.lock();
        if held.len() >= CACHED_MAX {
            held.clear(); // rare, and what is needed is soon back
        }
        held.insert((gateway.clone(), boot), fix);
    }

    /// What is known of a boot, from memory or from the warm tier.
    ///
    /// # Errors
    /// When the warm tier can't say.
    pub async fn find(&self, warm: &dyn WarmTier, gateway: &GatewayId, boot: BootId) -> Result<Option<Fix>, TierError> {
        if let Some(fix) = self.lock().get(&(gateway.clone(), boot)) {
            return Ok(Some(*fix));
        }
        let found = warm.clock_fix(gateway, boot).await?;
        if let Some(fix) = found {
            self.note(gateway, boot, fix);
        }
        Ok(found)
    }

    /// As [`Fixes::find`]; `None` too when the warm tier can't say `within` the time.
    pub async fn known(&self, warm: &dyn WarmTier, gateway: &GatewayId, boot: BootId, within: Duration) -> Option<Fix> {
        tokio::time::timeout(within, self.find(warm, gateway, boot)).await.ok()?.ok()?
    }
}
