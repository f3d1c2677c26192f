//! What the collector's spool holds: everything that must survive until it is in the warm tier, in order of arrival.
//!
//! A record is one version byte (1), the postcard of [`Item`], and for a block its bytes as they came. A clock fix
//! goes through the same queue as the blocks it explains, so that it is never behind them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shared::ids::{BootId, GatewayId, Seq, StreamId};
use shared::reading::Timestamp;
use shared::spool::Gap;
use shared::wire::Fix;

const VERSION: u8 = 1;

/// One record without the block's bytes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Item {
    /// A block; its bytes follow.
    Block {
        /// Who sent it.
        gateway: GatewayId,
        /// From which spool.
        stream: StreamId,
        /// Its number there.
        seq: Seq,
        /// When it arrived: what counts as the future is told from here, however late it is committed.
        received: Timestamp,
    },
    /// A stretch that will not arrive.
    Gap {
        /// Who misses it.
        gateway: GatewayId,
        /// In which stream.
        stream: StreamId,
        /// What and why.
        gap: Gap,
    },
    /// What a boot's monotonic times mean.
    ClockFix {
        /// Whose boot.
        gateway: GatewayId,
        /// Which boot.
        boot: BootId,
        /// Its offset, or its bounds.
        fix: Fix,
    },
}

/// A record that can't be read: damaged, or written by a newer program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// Written by a newer program.
    #[error("spool record version {0} is not known, this program reads version {VERSION}")]
    Version(u8),
    /// Not what this program writes.
    #[error("spool record is damaged")]
    Damaged,
}

impl Item {
    /// The record's payload.
    #[must_use]
    pub fn to_payload(&self, block: &[u8]) -> Bytes {
        #[allow(clippy::expect_used)]
        let head = postcard::to_stdvec(self).expect("plain data always encodes");
        let mut payload = Vec::with_capacity(1 + head.len() + block.len());
        payload.push(VERSION);
        payload.extend_from_slice(&head);
        payload.extend_from_slice(block);
        payload.into()
    }

    /// Reads a payload; the second part is the block, empty for the other kinds.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_payload(payload: &Bytes) -> Result<(Self, Bytes), ItemError> {
        match payload.split_first() {
            Some((&VERSION, body)) => {
                let (item, rest) = postcard::take_from_bytes::<Item>(body).map_err(|_| ItemError::Damaged)?;
                let block = payload.slice(payload.len() - rest.len()..);
                if !matches!(item, Item::Block { .. }) && !block.is_empty() {
                    return Err(ItemError::Damaged);
                }
                Ok((item, block))
            }
            Some((&version, _)) => Err(ItemError::Version(version)),
            None => Err(ItemError::Damaged),
        }
    }

    /// Who sent it.
    #[must_use]
    pub fn gateway(&self) -> &GatewayId {
        match self {
            Item::Block { gateway, .. } | Item::Gap { gateway, .. } | Item::ClockFix { gateway, .. } => gateway,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::block::BLOCK_BYTES_MAX;
    use shared::spool::RECORD_BYTES_MAX;

    fn block(gateway: &str) -> Item {
        let gateway = GatewayId::new(gateway).unwrap();
        Item::Block { gateway, stream: StreamId(u64::MAX), seq: Seq(u64::MAX), received: Timestamp(i64::MAX) }
    }

    #[test]
    fn the_largest_block_of_the_longest_name_fits_a_record() {
        let item = block(&"G".repeat(shared::ids::NAME_BYTES_MAX));
        let payload = item.to_payload(&[7; BLOCK_BYTES_MAX]);
        assert!(payload.len() <= RECORD_BYTES_MAX);
        let (read, bytes) = Item::from_payload(&payload).unwrap();
        assert_eq!((read, bytes.len()), (item, BLOCK_BYTES_MAX));
    }

    #[test]
    fn damaged_and_foreign_records_are_told_apart() {
        assert_eq!(Item::from_payload(&Bytes::new()), Err(ItemError::Damaged));
        assert_eq!(Item::from_payload(&Bytes::from_static(&[9, 1])), Err(ItemError::Version(9)));
        let head = block("STATION_7").to_payload(&[]);
        for end in 1..head.len() {
            assert_eq!(Item::from_payload(&head.slice(..end)), Err(ItemError::Damaged), "cut at {end}");
        }
    }
}
