//! Whether a block can be taken: whole, decodable with a known catalogue, and about nodes its sender may write.
//!
//! A block is refused as a whole only when nothing of it can be used. Rows that aren't granted in a block that has
//! others are set apart when it is written to the warm tier: one wrong line in a configuration costs that node.

use crate::grants::Grants;
use shared::block::{self, BLOCK_BYTES_MAX, Block};
use shared::catalogue::{Catalogue, CatalogueHash};
use shared::ids::GatewayId;
use shared::wire::RejectReason;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most node names in a message.
const NAMED_MAX: usize = 5;

/// Why a block was not taken.
#[derive(Clone, PartialEq, Debug)]
pub struct Refusal {
    /// The kind of mistake.
    pub reason: RejectReason,
    /// What exactly, for a person.
    pub detail: String,
    /// Whether sending it again can help.
    pub retry: bool,
}

impl Refusal {
    fn for_good(reason: RejectReason, detail: String) -> Self {
        Self { reason, detail, retry: false }
    }
}

/// Checks a block of `gateway`; gives it decoded, with its catalogue.
///
/// # Errors
/// With what to tell the gateway.
pub fn check(
    bytes: &[u8],
    gateway: &GatewayId,
    grants: &Grants,
    catalogue_of: impl FnOnce(CatalogueHash) -> Option<Arc<Catalogue>>,
) -> Result<(Block, Arc<Catalogue>), Refusal> {
    if bytes.len() > BLOCK_BYTES_MAX {
        let detail = format!("block of {} bytes, at most {BLOCK_BYTES_MAX} are allowed", bytes.len());
        return Err(Refusal::for_good(RejectReason::Oversize, detail));
    }
    let block =
        block::decode(bytes).map_err(|error| Refusal::for_good(RejectReason::Undecodable, error.to_string()))?;
    let hash = block.header.catalogue;
    let Some(catalogue) = catalogue_of(hash) else {
        let detail = format!("catalogue {hash} was not sent yet");
        return Err(Refusal { reason: RejectReason::UnknownCatalogue, detail, retry: true });
    };
    let mut refused = BTreeSet::new();
    let mut granted = false;
    let mut last = None;
    for row in &block.rows {
        if last == Some(row.point) {
            continue; // rows come by point
        }
        last = Some(row.point);
        let Some(entry) = catalogue.get(row.point) else {
            let (point, points) = (row.point.0, catalogue.entries().len());
            let detail = format!("a reading of point {point}, but catalogue {hash} has {points} points");
            return Err(Refusal::for_good(RejectReason::Undecodable, detail));
        };
        if grants.allows(gateway, &entry.node) {
            granted = true;
        } else {
            refused.insert(entry.node.as_str());
        }
    }
    if granted || refused.is_empty() {
        return Ok((block, catalogue));
    }
    let mut named = refused.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
    if refused.len() > NAMED_MAX {
        named += &format!(" and {} more", refused.len() - NAMED_MAX);
    }
    // A missing line in our own configuration must not cost data: the gateway keeps it until the grant is there.
    let detail = format!("gateway {gateway} has no grant for {named}");
    Err(Refusal { reason: RejectReason::NotGranted, detail, retry: true })
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::block::{BlockBuilder, Row, TimeBase};
    use shared::catalogue::{Class, Entry, PointNo};
    use shared::ids::NodeId;
    use shared::metric::Kind;
    use shared::reading::{Quality, Timestamp};

    fn gateway() -> GatewayId {
        GatewayId::new("STATION_7").unwrap()
    }

    fn catalogue() -> Arc<Catalogue> {
        let entry = |node: &str| Entry {
            node: NodeId::new(node).unwrap(),
            metric: "pressure".into(),
            channel: String::new(),
            kind: Kind::Gauge,
            unit: "bar".into(),
            resolution_exp: Some(-2),
            interval_ms: 1000,
            silence_ms_max: 0,
            class: Class::Raw,
        };
        Arc::new(Catalogue::new(vec![entry("DIST_001"), entry("PUMP_1")]).unwrap())
    }

    fn block(points: &[u32]) -> Vec<u8> {
        let mut builder = BlockBuilder::new(TimeBase::Utc);
        for point in points {
            let at = Timestamp(1_700_000_000_000_000);
            let row = Row { point: PointNo(*point), at, value: Some(2.5), quality: Quality::GOOD };
            assert!(builder.push(row, Some(-2)));
        }
        builder.finish(catalogue().hash()).unwrap().bytes.to_vec()
    }

    fn verdict(bytes: &[u8], grants: &str) -> Result<usize, Refusal> {
        let grants: Grants = toml::from_str(grants).unwrap();
        check(bytes, &gateway(), &grants, |hash| (hash == catalogue().hash()).then(catalogue))
            .map(|(b, _)| b.rows.len())
    }

    #[test]
    fn a_granted_block_is_taken_even_with_rows_of_another_node_in_it() {
        assert_eq!(verdict(&block(&[0, 1]), "STATION_7 = ['DIST_*']"), Ok(2));
    }

    #[test]
    fn a_node_that_is_not_granted_is_refused_by_name() {
        let refusal = verdict(&block(&[1]), "STATION_7 = ['DIST_*']").unwrap_err();
        assert_eq!((refusal.reason, refusal.retry), (RejectReason::NotGranted, true));
        assert!(refusal.detail.contains("PUMP_1") && refusal.detail.contains("STATION_7"), "{}", refusal.detail);
    }

    #[test]
    fn a_missing_catalogue_is_asked_for_and_a_damaged_block_is_not() {
        let grants: Grants = toml::from_str("STATION_7 = ['*']").unwrap();
        let refusal = check(&block(&[0]), &gateway(), &grants, |_| None).unwrap_err();
        assert_eq!((refusal.reason, refusal.retry), (RejectReason::UnknownCatalogue, true));
        let mut damaged = block(&[0]);
        *damaged.last_mut().unwrap() ^= 1;
        let refusal = verdict(&damaged, "STATION_7 = ['*']").unwrap_err();
        assert_eq!((refusal.reason, refusal.retry), (RejectReason::Undecodable, false));
        let refusal = verdict(&vec![0; BLOCK_BYTES_MAX + 1], "STATION_7 = ['*']").unwrap_err();
        assert_eq!((refusal.reason, refusal.retry), (RejectReason::Oversize, false));
    }

    #[test]
    fn a_point_beyond_the_catalogue_is_no_reading() {
        let refusal = verdict(&block(&[0, 7]), "STATION_7 = ['*']").unwrap_err();
        assert_eq!(refusal.reason, RejectReason::Undecodable);
        assert!(refusal.detail.contains("point 7"), "{}", refusal.detail);
    }
}
