//! Gateways at the collector's door: what is taken, what is refused, and what one gateway can do to another.

mod support;

use shared::block::TimeBase;
use shared::reading::Timestamp;
use support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_stored_committed_and_answered_for() {
    let site = Site::new(&["STATION_7"], |_| {});
    let collector = site.start().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    assert_eq!(client.welcome(), (seqs([]), seqs([]), 0, vec![]));
    let at = now() - 10 * SECOND;
    client.block(1, block(hash, TimeBase::Utc, &[(0, at, 2.5), (0, at + SECOND, 2.75)])).await;
    client.wait_stored(seqs([1])).await;
    client.wait_committed(seqs([1])).await;
    let expected = [(Timestamp(at), Some(2.5)), (Timestamp(at + SECOND), Some(2.75))];
    collector.wait_for_history("DIST_001", &expected).await;
    assert_eq!(collector.get("latest?node=DIST_001").await["items"][0]["value"], 2.75);
    collector.stop().await;
}
