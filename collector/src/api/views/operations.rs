//! What is told of gateways and of what they sent.

use super::Said;
use crate::ingest::sessions::Seen;
use crate::tiers::{GatewayGap, GatewayInfo, Parked, Quarantined};
use serde::Serialize;
use serde_json::Value;
use shared::ids::{BootId, GatewayId, StreamId};
use shared::reading::Timestamp;
use shared::spool::GapReason;
use shared::wire::Fix;
use utoipa::ToSchema;

/// Blocks that are missing.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct Gap {
    /// Whose.
    gateway: GatewayId,
    /// In which of its streams.
    stream: StreamId,
    /// The first block's number.
    first: u64,
    /// The last one's.
    last: u64,
    /// How many they are.
    blocks: u64,
    /// From when on something is missing; null when that isn't known.
    from: Option<Timestamp>,
    /// Until when.
    to: Option<Timestamp>,
    /// Why.
    reason: GapReason,
}

impl Gap {
    pub(in crate::api) fn of(of: &GatewayGap) -> Self {
        Self {
            gateway: of.gateway.clone(),
            stream: of.stream,
            first: of.gap.seqs.first.0,
            last: of.gap.seqs.last.0,
            blocks: of.gap.seqs.count(),
            from: of.gap.span.map(|span| span.0),
            to: of.gap.span.map(|span| span.1),
            reason: of.gap.reason,
        }
    }
}

/// A gateway.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct Gateway {
    /// Its name.
    gateway: GatewayId,
    /// When it was first heard; null while the warm tier can't say.
    first_heard: Option<Timestamp>,
    /// When it was last heard.
    last_heard: Timestamp,
    /// Its agent's version.
    version: Option<String>,
    /// What it last said of itself: clock, points, points in error, spool.
    #[schema(value_type = Option<Object>)]
    status: Option<Value>,
    /// How many series it writes; null while the warm tier can't say.
    series: Option<u32>,
    /// How many gaps are known; null while the warm tier can't say.
    gaps: Option<u32>,
    /// Its connection; null when there was none since the collector started.
    #[schema(value_type = Option<Object>)]
    session: Option<Value>,
}

impl Gateway {
    pub(in crate::api) fn of(info: &GatewayInfo, seen: Option<&Seen>) -> Self {
        Self {
            gateway: info.gateway.clone(),
            first_heard: Some(info.first_heard),
            last_heard: info.last_heard,
            version: info.version.clone(),
            status: info.status.clone(),
            series: Some(info.series),
            gaps: Some(info.gaps),
            session: seen.and_then(|seen| serde_json::to_value(seen).ok()),
        }
    }

    /// What is known of it without the warm tier.
    pub(in crate::api) fn seen(gateway: &GatewayId, seen: &Seen) -> Self {
        Self {
            gateway: gateway.clone(),
            first_heard: None,
            last_heard: seen.heard,
            version: Some(seen.version.clone()),
            status: seen.status.as_ref().and_then(|status| serde_json::to_value(status).ok()),
            series: None,
            gaps: None,
            session: serde_json::to_value(seen).ok(),
        }
    }
}

/// A reading that was set aside instead of stored.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct SetAside {
    /// Who sent it.
    gateway: GatewayId,
    /// In which stream.
    stream: StreamId,
    /// In which block.
    seq: u64,
    /// The series' name, which need not exist.
    series: String,
    /// When it says it was.
    at: Timestamp,
    #[serde(flatten)]
    said: Said,
    /// Why.
    set_aside_because: String,
    /// When it came.
    received: Timestamp,
}

impl SetAside {
    pub(in crate::api) fn of(row: &Quarantined) -> Self {
        Self {
            gateway: row.gateway.clone(),
            stream: row.stream,
            seq: row.seq.0,
            series: row.series.clone(),
            at: row.at,
            said: Said::of(&row.held),
            set_aside_because: row.reason.clone(),
            received: row.received,
        }
    }
}

/// Blocks of a boot whose clock isn't known.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct ParkedBoot {
    /// Who sent them.
    gateway: GatewayId,
    /// Of which boot.
    boot: String,
    /// How many they are.
    blocks: usize,
    /// When the first came.
    received_first: Option<Timestamp>,
    /// When the last came.
    received_last: Option<Timestamp>,
    /// `not known yet`, or `never known` when the gateway has given up.
    clock: &'static str,
    /// The boot was not before this.
    not_before: Option<Timestamp>,
    /// And not after this.
    not_after: Option<Timestamp>,
}

impl ParkedBoot {
    /// The blocks of one boot; `fix` is what is known of its clock.
    pub(in crate::api) fn of(gateway: GatewayId, boot: BootId, blocks: &[Parked], fix: Option<Fix>) -> Self {
        let bounds = match fix {
            Some(Fix::Unknown { not_before, not_after }) => Some((not_before, not_after)),
            Some(Fix::Known { .. }) | None => None,
        };
        Self {
            gateway,
            boot: boot.to_string(),
            blocks: blocks.len(),
            received_first: blocks.iter().map(|block| block.received).min(),
            received_last: blocks.iter().map(|block| block.received).max(),
            clock: if bounds.is_some() { "never known" } else { "not known yet" },
            not_before: bounds.map(|bounds| bounds.0),
            not_after: bounds.map(|bounds| bounds.1),
        }
    }
}
