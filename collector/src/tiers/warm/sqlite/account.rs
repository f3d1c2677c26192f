//! The account of blocks: which seqs of a stream are committed, which are known to be missing, and what is known of
//! the clock of a boot.

use super::rows::{get, narrow, seq, wide};
use super::{SqliteWarm, broken, failed};
use crate::tiers::{GatewayGap, StreamSeqs, TierError};
use shared::ids::{BootId, GatewayId, Seq, StreamId};
use shared::ranges::{SeqRange, SeqRanges};
use shared::reading::Timestamp;
use shared::spool::{Gap, GapReason};
use shared::wire::Fix;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

/// What is committed of a stream, and the highest seq known.
pub(super) async fn load(
    connection: &mut SqliteConnection,
    gateway: &GatewayId,
    stream: StreamId,
) -> Result<(SeqRanges, Seq), TierError> {
    let query = sqlx::query("SELECT committed, highest FROM streams WHERE gateway = ? AND stream = ?");
    let query = query.bind(gateway.as_str()).bind(stream.0.cast_signed());
    match query.fetch_optional(connection).await.map_err(failed)? {
        Some(row) => Ok((ranges(&get::<Vec<u8>>(&row, "committed")?)?, seq(&row, "highest")?)),
        None => Ok((SeqRanges::new(), Seq(0))),
    }
}

pub(super) fn ranges(bytes: &[u8]) -> Result<SeqRanges, TierError> {
    postcard::from_bytes(bytes).map_err(|e| broken(format!("streams.committed: {e}")))
}

async fn save(
    connection: &mut SqliteConnection,
    gateway: &GatewayId,
    stream: StreamId,
    committed: &SeqRanges,
    highest: Seq,
) -> Result<(), TierError> {
    let sql = "INSERT INTO streams (gateway, stream, committed, highest) VALUES (?, ?, ?, ?) \
               ON CONFLICT (gateway, stream) DO UPDATE SET committed = excluded.committed, highest = excluded.highest";
    let query = sqlx::query(sql).bind(gateway.as_str()).bind(stream.0.cast_signed());
    let query = query.bind(postcard::to_stdvec(committed).map_err(broken)?).bind(wide(highest));
    query.execute(connection).await.map_err(failed)?;
    Ok(())
}

/// Notes that blocks are committed; gaps that they turn out not to be missing from shrink.
pub(super) async fn settle(connection: &mut SqliteConnection, settled: &StreamSeqs) -> Result<(), TierError> {
    let StreamSeqs { gateway, stream, seqs } = settled;
    let (Some(lowest), Some(top)) = (seqs.lowest(), seqs.highest()) else { return Ok(()) };
    let (mut committed, highest) = load(connection, gateway, *stream).await?;
    committed.extend(seqs);
    save(connection, gateway, *stream, &committed, highest.max(top)).await?;
    for gap in touching(connection, gateway, *stream, SeqRange::new(lowest, top)).await? {
        let left = seqs.missing_in(gap.seqs);
        if left.count() == gap.seqs.count() {
            continue;
        }
        let query = sqlx::query("DELETE FROM gaps WHERE gateway = ? AND stream = ? AND first = ?");
        let query = query.bind(gateway.as_str()).bind(stream.0.cast_signed()).bind(wide(gap.seqs.first));
        query.execute(&mut *connection).await.map_err(failed)?;
        for seqs in left.iter() {
            insert(connection, gateway, *stream, &Gap { seqs, ..gap }).await?;
        }
    }
    Ok(())
}

/// Notes what is missing: of the stretch, what is neither committed nor in a known gap. A rejected block is settled
/// and missing at once.
pub(super) async fn add_gap(connection: &mut SqliteConnection, gap: &GatewayGap) -> Result<(), TierError> {
    let GatewayGap { gateway, stream, gap } = gap;
    let (committed, highest) = load(connection, gateway, *stream).await?;
    if gap.seqs.last > highest {
        save(connection, gateway, *stream, &committed, gap.seqs.last).await?;
    }
    let rejected = gap.reason == GapReason::Rejected;
    let mut known = if rejected { SeqRanges::new() } else { committed };
    for other in touching(connection, gateway, *stream, gap.seqs).await? {
        known.insert(other.seqs);
    }
    for seqs in known.missing_in(gap.seqs).iter() {
        insert(connection, gateway, *stream, &Gap { seqs, ..*gap }).await?;
    }
    Ok(())
}

async fn touching(
    connection: &mut SqliteConnection,
    gateway: &GatewayId,
    stream: StreamId,
    range: SeqRange,
) -> Result<Vec<Gap>, TierError> {
    let sql = "SELECT first, last, span_from, span_to, reason FROM gaps \
               WHERE gateway = ? AND stream = ? AND first <= ? AND last >= ?";
    let query = sqlx::query(sql).bind(gateway.as_str()).bind(stream.0.cast_signed());
    let query = query.bind(wide(range.last)).bind(wide(range.first));
    query.fetch_all(connection).await.map_err(failed)?.iter().map(gap).collect()
}

async fn insert(
    connection: &mut SqliteConnection,
    gateway: &GatewayId,
    stream: StreamId,
    gap: &Gap,
) -> Result<(), TierError> {
    let reason = serde_json::to_value(gap.reason).map_err(broken)?;
    let sql =
        "INSERT INTO gaps (gateway, stream, first, last, span_from, span_to, reason) VALUES (?, ?, ?, ?, ?, ?, ?)";
    let query = sqlx::query(sql).bind(gateway.as_str()).bind(stream.0.cast_signed());
    let query = query.bind(wide(gap.seqs.first)).bind(wide(gap.seqs.last));
    let query = query.bind(gap.span.map(|s| s.0.0)).bind(gap.span.map(|s| s.1.0)).bind(reason.as_str());
    query.execute(connection).await.map_err(failed)?;
    Ok(())
}

/// A row of `gaps`.
pub(super) fn gap(row: &SqliteRow) -> Result<Gap, TierError> {
    let (first, last) = (seq(row, "first")?, seq(row, "last")?);
    if first > last {
        return Err(broken(format!("gap from {first} to {last}")));
    }
    let reason = serde_json::from_value(get::<String>(row, "reason")?.into()).map_err(broken)?;
    let span = get::<Option<i64>>(row, "span_from")?.zip(get(row, "span_to")?);
    Ok(Gap { seqs: SeqRange::new(first, last), span: span.map(|(a, b)| (Timestamp(a), Timestamp(b))), reason })
}

impl SqliteWarm {
    pub(super) async fn keep_clock_fix(&self, gateway: &GatewayId, boot: BootId, fix: Fix) -> Result<Fix, TierError> {
        let (offset, after, before) = match fix {
            Fix::Known { offset_us } => (Some(offset_us), None, None),
            Fix::Unknown { not_before, not_after } => (None, Some(not_before.0), Some(not_after.0)),
        };
        let sql = "INSERT INTO clock_fixes (gateway, boot, offset_us, not_before, not_after) VALUES (?, ?, ?, ?, ?) \
                   ON CONFLICT DO NOTHING";
        let query = sqlx::query(sql).bind(gateway.as_str()).bind(boot.0.to_vec());
        query.bind(offset).bind(after).bind(before).execute(&self.write).await.map_err(failed)?;
        let kept = self.find_clock_fix(gateway, boot).await?;
        kept.ok_or_else(|| broken(format!("clock fix of {gateway}, boot {boot} is not there after it was written")))
    }

    pub(super) async fn find_clock_fix(&self, gateway: &GatewayId, boot: BootId) -> Result<Option<Fix>, TierError> {
        let query =
            sqlx::query("SELECT offset_us, not_before, not_after FROM clock_fixes WHERE gateway = ? AND boot = ?");
        let query = query.bind(gateway.as_str()).bind(boot.0.to_vec());
        let Some(row) = query.fetch_optional(&self.read).await.map_err(failed)? else { return Ok(None) };
        Ok(Some(match get::<Option<i64>>(&row, "offset_us")? {
            Some(offset_us) => Fix::Known { offset_us },
            None => Fix::Unknown {
                not_before: Timestamp(narrow(&row, "not_before")?),
                not_after: Timestamp(narrow(&row, "not_after")?),
            },
        }))
    }
}
