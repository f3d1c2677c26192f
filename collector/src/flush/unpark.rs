//! A boot's clock becomes known: its blocks that waited for it become readings.

use super::piece::lost;
use super::{FlushError, Flusher};
use crate::resolve::Origin;
use crate::tiers::{Flush, LateReadings, Parked, TierError};
use shared::block::{self, Block};
use shared::ids::{BootId, GatewayId};
use shared::wire::Fix;

/// Blocks that are resolved in one transaction.
const BLOCKS_MAX: u32 = 32;

impl Flusher {
    /// Keeps a fix and resolves what waited for it. A crash in between repeats it.
    pub(super) async fn apply_fix(&self, gateway: &GatewayId, boot: BootId, fix: Fix) -> Result<(), FlushError> {
        let held = self.warm.put_clock_fix(gateway, boot, fix).await?;
        if held != fix {
            tracing::warn!(%gateway, %boot, ?held, ?fix, "a second word on a boot's clock is not taken");
        }
        self.fixes.note(gateway, boot, held);
        let Fix::Known { offset_us } = held else {
            tracing::warn!(%gateway, %boot, "this boot never learned the time: its blocks stay parked");
            return Ok(());
        };
        let mut blocks = 0;
        loop {
            let parked = self.warm.parked(Some(gateway), Some(boot), BLOCKS_MAX).await?;
            if parked.is_empty() {
                break;
            }
            blocks += parked.len();
            match self.unpark(&parked, offset_us).await {
                Err(FlushError::Tier(TierError::Broken { .. })) if parked.len() > 1 => {
                    for one in &parked {
                        self.unpark_one(one, offset_us).await?;
                    }
                }
                Err(FlushError::Tier(TierError::Broken { .. })) => self.unpark_one(&parked[0], offset_us).await?,
                other => other?,
            }
        }
        if blocks > 0 {
            tracing::info!(%gateway, %boot, blocks, "a boot's clock is known: its blocks were resolved");
            self.dirty.notify_one();
        }
        Ok(())
    }

    async fn unpark_one(&self, parked: &Parked, offset_us: i64) -> Result<(), FlushError> {
        match self.unpark(std::slice::from_ref(parked), offset_us).await {
            Err(FlushError::Tier(error @ TierError::Broken { .. })) => {
                let mut flush = Flush::default();
                self.lose_parked(&mut flush, parked, format!("the warm tier refuses it: {error}")).await?;
                self.warm.commit(flush).await?;
                Ok(())
            }
            other => other,
        }
    }

    async fn unpark(&self, parked: &[Parked], offset_us: i64) -> Result<(), FlushError> {
        let mut flush = Flush::default();
        for one in parked {
            match block::decode(&one.bytes) {
                Ok(block) => self.resolve_parked(&mut flush, one, &block, offset_us).await?,
                Err(error) => self.lose_parked(&mut flush, one, error.to_string()).await?,
            }
        }
        self.store(flush).await?;
        Ok(())
    }

    async fn resolve_parked(
        &self,
        flush: &mut Flush,
        parked: &Parked,
        block: &Block,
        offset_us: i64,
    ) -> Result<(), FlushError> {
        let hash = block.header.catalogue;
        let (catalogues, gateway) = (self.catalogues.clone(), parked.gateway.clone());
        let on_disk = tokio::task::spawn_blocking(move || catalogues.get(&gateway, hash)).await.ok().flatten();
        let catalogue = match on_disk {
            Some(catalogue) => Some(catalogue),
            None => self.warm.catalogue(hash).await?,
        };
        let Some(catalogue) = catalogue else {
            return self.lose_parked(flush, parked, format!("its catalogue {hash} is lost")).await;
        };
        let targets = self.resolver.targets(&*self.warm, &self.grants, &parked.gateway, &catalogue).await?;
        let sorted = targets.sort(&catalogue, &block.rows, offset_us, &origin(parked), self.rules.timely);
        flush.readings.extend(sorted.readings);
        flush.quarantine.extend(sorted.quarantine);
        // The block was settled when it was parked; that it is taken out of there happens once.
        flush.late.push(LateReadings { block: None, hours: sorted.late });
        flush.unpark.push((parked.gateway.clone(), parked.stream, parked.seq));
        Ok(())
    }

    async fn lose_parked(&self, flush: &mut Flush, parked: &Parked, why: String) -> Result<(), FlushError> {
        self.set_aside(&parked.gateway, parked.stream, parked.seq, parked.bytes.clone(), why).await?;
        flush.gaps.push(lost(&origin(parked), None));
        flush.unpark.push((parked.gateway.clone(), parked.stream, parked.seq));
        Ok(())
    }
}

fn origin(parked: &Parked) -> Origin {
    Origin { gateway: parked.gateway.clone(), stream: parked.stream, seq: parked.seq, received: parked.received }
}
