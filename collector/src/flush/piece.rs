//! Records of the spool on their way into the warm tier: read and decoded off the runtime, then resolved.

use crate::ingest::catalogues::Catalogues;
use crate::ingest::item::{Item, ItemError};
use crate::resolve::{Origin, Sorted};
use crate::tiers::{Flush, GatewayGap, LateReadings, Parked, StoredReading, StreamSeqs};
use bytes::Bytes;
use shared::block::{self, Block};
use shared::catalogue::Catalogue;
use shared::ids::{BootId, GatewayId, Seq, StreamId};
use shared::ranges::{SeqRange, SeqRanges};
use shared::reading::Timestamp;
use shared::spool::{Gap, GapReason, Spool, SpoolError};
use shared::wire::Fix;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most records read at once.
const RECORDS_MAX: usize = 256;
/// Most bytes read at once.
const BYTES_MAX: usize = 1 << 20;

/// A record as far as it can be read without the warm tier.
#[derive(Debug)]
pub(super) struct Raw {
    /// Its number in the collector's own spool.
    pub record: Seq,
    /// What it is.
    pub parsed: Parsed,
}

/// What a record is.
#[derive(Debug)]
pub(super) enum Parsed {
    /// Nothing that this program can read.
    Unreadable(ItemError, Bytes),
    /// A gap.
    Gap(GatewayGap),
    /// A clock fix.
    Fix(GatewayId, BootId, Fix),
    /// A block.
    Block {
        /// Whose, and when it came.
        origin: Origin,
        /// As it was sent.
        bytes: Bytes,
        /// Decoded, or why that can't be.
        block: Result<Block, String>,
        /// Its catalogue, when it is on this disk.
        catalogue: Option<Arc<Catalogue>>,
    },
}

/// Reads what is there from `from` on. Blocking.
///
/// # Errors
/// When the disk can't be read.
pub(super) fn read(spool: &Spool, catalogues: &Catalogues, from: Seq) -> Result<Vec<Raw>, SpoolError> {
    let records = spool.peek(from, RECORDS_MAX, BYTES_MAX)?;
    Ok(records
        .into_iter()
        .map(|stored| Raw { record: stored.seq, parsed: parse(&stored.record.payload, catalogues) })
        .collect())
}

fn parse(payload: &Bytes, catalogues: &Catalogues) -> Parsed {
    match Item::from_payload(payload) {
        Err(error) => Parsed::Unreadable(error, payload.clone()),
        Ok((Item::Gap { gateway, stream, gap }, _)) => Parsed::Gap(GatewayGap { gateway, stream, gap }),
        Ok((Item::ClockFix { gateway, boot, fix }, _)) => Parsed::Fix(gateway, boot, fix),
        Ok((Item::Block { gateway, stream, seq, received }, bytes)) => {
            let block = block::decode(&bytes).map_err(|error| error.to_string());
            let catalogue = block.as_ref().ok().and_then(|b| catalogues.get(&gateway, b.header.catalogue));
            Parsed::Block { origin: Origin { gateway, stream, seq, received }, bytes, block, catalogue }
        }
    }
}

/// A record that is ready to be committed.
#[derive(Debug)]
pub(super) struct Piece {
    /// Its number in the collector's own spool.
    pub record: Seq,
    /// What is stored of it.
    pub content: Content,
}

/// What is stored of a record.
#[derive(Debug)]
pub(super) enum Content {
    /// Nothing: it is set aside as it is.
    Nothing,
    /// A block's readings.
    Rows {
        /// Whose.
        origin: Origin,
        /// As it was sent.
        bytes: Bytes,
        /// Its readings.
        sorted: Sorted,
    },
    /// A block whose time isn't known yet.
    Park(Parked),
    /// A block that is set aside: settled and missing.
    Lost(Origin, Option<(Timestamp, Timestamp)>),
    /// A gap.
    Gap(GatewayGap),
    /// A clock fix.
    Fix(GatewayId, BootId, Fix),
}

impl Content {
    /// The block that this settles.
    fn settles(&self) -> Option<(&GatewayId, StreamId, Seq)> {
        match self {
            Content::Rows { origin, .. } | Content::Lost(origin, _) => {
                Some((&origin.gateway, origin.stream, origin.seq))
            }
            Content::Park(parked) => Some((&parked.gateway, parked.stream, parked.seq)),
            Content::Nothing | Content::Gap(_) | Content::Fix(..) => None,
        }
    }

    /// How much of a transaction it takes, in readings.
    #[must_use]
    pub(super) fn rows(&self) -> usize {
        match self {
            Content::Rows { sorted, .. } => (sorted.readings.len() + sorted.quarantine.len()).max(1),
            _ => 1,
        }
    }

    /// Its readings.
    #[must_use]
    pub(super) fn readings(&self) -> &[StoredReading] {
        if let Content::Rows { sorted, .. } = self { &sorted.readings } else { &[] }
    }
}

/// The gap that a block leaves which is set aside.
#[must_use]
pub(super) fn lost(origin: &Origin, span: Option<(Timestamp, Timestamp)>) -> GatewayGap {
    let gap = Gap { seqs: SeqRange::one(origin.seq), span, reason: GapReason::Rejected };
    GatewayGap { gateway: origin.gateway.clone(), stream: origin.stream, gap }
}

/// What came late in a block.
#[must_use]
pub(super) fn late(origin: &Origin, sorted: &Sorted) -> Option<LateReadings> {
    let block = Some((origin.gateway.clone(), origin.stream, origin.seq));
    (!sorted.late.is_empty()).then(|| LateReadings { block, hours: sorted.late.clone() })
}

/// The blocks that pieces settle, by stream.
#[must_use]
pub(super) fn settled(pieces: &[Piece]) -> Vec<StreamSeqs> {
    let mut streams = BTreeMap::<(&GatewayId, StreamId), SeqRanges>::new();
    for (gateway, stream, seq) in pieces.iter().filter_map(|piece| piece.content.settles()) {
        streams.entry((gateway, stream)).or_default().insert_one(seq);
    }
    let streams = streams.into_iter();
    streams.map(|((gateway, stream), seqs)| StreamSeqs { gateway: gateway.clone(), stream, seqs }).collect()
}

/// All of it as one transaction. Clock fixes are no part of it.
#[must_use]
pub(super) fn compose(pieces: &[Piece]) -> Flush {
    let mut flush = Flush { settled: settled(pieces), ..Flush::default() };
    flush.readings.reserve(pieces.iter().map(|piece| piece.content.readings().len()).sum());
    for piece in pieces {
        match &piece.content {
            Content::Rows { origin, sorted, .. } => {
                flush.readings.extend_from_slice(&sorted.readings);
                flush.quarantine.extend_from_slice(&sorted.quarantine);
                flush.late.extend(late(origin, sorted));
            }
            Content::Park(parked) => flush.park.push(parked.clone()),
            Content::Lost(origin, span) => flush.gaps.push(lost(origin, *span)),
            Content::Gap(gap) => flush.gaps.push(gap.clone()),
            Content::Nothing | Content::Fix(..) => {}
        }
    }
    flush
}
