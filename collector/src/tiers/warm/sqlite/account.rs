//! The account of blocks: which seqs of a stream are committed, which are known to be missing, and what is known of
//! the clock of a boot.

use super::rows::{get, narrow, seq, wide};
use super::{SqliteWarm, broken, failed};
use crate::tiers::TierError;
use crate::tiers::warm::account::{Account, StreamNews};
use shared::ids::{BootId, GatewayId, Seq, StreamId};
use shared::ranges::{SeqRange, SeqRanges};
use shared::reading::Timestamp;
use shared::spool::Gap;
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
    account: &Account,
) -> Result<(), TierError> {
    let sql = "INSERT INTO streams (gateway, stream, committed, highest) VALUES (?, ?, ?, ?) \
               ON CONFLICT (gateway, stream) DO UPDATE SET committed = excluded.committed, highest = excluded.highest";
    let query = sqlx::query(sql).bind(gateway.as_str()).bind(stream.0.cast_signed());
    let query = query.bind(postcard::to_stdvec(&account.committed).map_err(broken)?).bind(wide(account.highest));
    query.execute(connection).await.map_err(failed)?;
    Ok(())
}

/// Takes in what a flush says about a stream; gives what it settles for the first time.
pub(super) async fn take(
    connection: &mut SqliteConnection,
    gateway: &GatewayId,
    stream: StreamId,
    news: &StreamNews,
) -> Result<SeqRanges, TierError> {
    let Some(touched) = news.touches() else { return Ok(SeqRanges::new()) };
    let (committed, highest) = load(connection, gateway, stream).await?;
    let gaps = touching(connection, gateway, stream, touched).await?;
    let mut account = Account::new(committed, highest, gaps);
    account.take(news);
    save(connection, gateway, stream, &account).await?;
    for first in account.gone() {
        let query = sqlx::query("DELETE FROM gaps WHERE gateway = ? AND stream = ? AND first = ?");
        let query = query.bind(gateway.as_str()).bind(stream.0.cast_signed()).bind(wide(first));
        query.execute(&mut *connection).await.map_err(failed)?;
    }
    for gap in account.fresh() {
        insert(connection, gateway, stream, gap).await?;
    }
    Ok(account.newly)
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
        query.bind(offset).bind(after).bind(before).execute(self.writer().await?).await.map_err(failed)?;
        let kept = self.find_clock_fix(gateway, boot).await?;
        kept.ok_or_else(|| broken(format!("clock fix of {gateway}, boot {boot} is not there after it was written")))
    }

    pub(super) async fn find_clock_fix(&self, gateway: &GatewayId, boot: BootId) -> Result<Option<Fix>, TierError> {
        let query =
            sqlx::query("SELECT offset_us, not_before, not_after FROM clock_fixes WHERE gateway = ? AND boot = ?");
        let query = query.bind(gateway.as_str()).bind(boot.0.to_vec());
        let Some(row) = query.fetch_optional(self.reader().await?).await.map_err(failed)? else { return Ok(None) };
        Ok(Some(match get::<Option<i64>>(&row, "offset_us")? {
            Some(offset_us) => Fix::Known { offset_us },
            None => Fix::Unknown {
                not_before: Timestamp(narrow(&row, "not_before")?),
                not_after: Timestamp(narrow(&row, "not_after")?),
            },
        }))
    }
}
