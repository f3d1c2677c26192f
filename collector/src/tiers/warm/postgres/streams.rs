//! The account of streams in their tables; what is decided is in `warm/account.rs`.

use super::PostgresWarm;
use super::fault::{Failure, failed};
use super::rows::{get, narrow, seq, strange, wide};
use crate::tiers::warm::account::{Account, StreamNews};
use crate::tiers::warm::rules::Fresh;
use crate::tiers::{StreamInfo, TierError};
use shared::ids::{BootId, GatewayId, Seq, StreamId};
use shared::ranges::{SeqRange, SeqRanges};
use shared::reading::Timestamp;
use shared::spool::Gap;
use shared::wire::Fix;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use std::collections::BTreeMap;

type Streams<T> = BTreeMap<(GatewayId, StreamId), T>;

/// The streams' names as two arrays.
fn names<'a>(streams: impl Iterator<Item = &'a (GatewayId, StreamId)>) -> (Vec<&'a str>, Vec<i64>) {
    streams.map(|(gateway, stream)| (gateway.as_str(), stream.0.cast_signed())).unzip()
}

/// Takes in what a flush says about its streams; gives what it settles for the first time.
pub(super) async fn take(connection: &mut PgConnection, news: &Streams<StreamNews>) -> Result<Fresh, Failure> {
    if news.is_empty() {
        return Ok(Fresh::new());
    }
    let mut accounts = load(connection, news).await?;
    for (stream, account) in &mut accounts {
        if let Some(news) = news.get(stream) {
            account.take(news);
        }
    }
    save(connection, &accounts).await?;
    Ok(accounts.into_iter().map(|(stream, account)| (stream, account.newly)).collect())
}

/// What is stored of them. Their rows are locked until the transaction ends: two collectors may hear of one stream.
async fn load(connection: &mut PgConnection, news: &Streams<StreamNews>) -> Result<Streams<Account>, Failure> {
    let mut rows = lock(connection, news).await?;
    if rows.len() < news.len() {
        make(connection, news).await?;
        rows = lock(connection, news).await?;
    }
    let mut gaps = gaps_of(connection, news).await?;
    let mut accounts = Streams::new();
    for row in &rows {
        let stream = (super::rows::gateway(row)?, super::rows::stream(row)?);
        let gaps = gaps.remove(&stream).unwrap_or_default();
        let committed = ranges(&get::<Vec<u8>>(row, "committed")?)?;
        accounts.insert(stream, Account::new(committed, seq(row, "highest")?, gaps));
    }
    Ok(accounts)
}

/// In order, as far as they are there.
async fn lock(connection: &mut PgConnection, news: &Streams<StreamNews>) -> Result<Vec<PgRow>, Failure> {
    let (gateways, numbers) = names(news.keys());
    let sql = "SELECT s.gateway, s.stream, s.committed, s.highest FROM streams AS s \
               JOIN unnest($1::text[], $2::bigint[]) AS n(gateway, stream) USING (gateway, stream) \
               ORDER BY s.gateway, s.stream FOR UPDATE OF s";
    Ok(sqlx::query(sql).bind(gateways).bind(numbers).fetch_all(connection).await?)
}

async fn make(connection: &mut PgConnection, news: &Streams<StreamNews>) -> Result<(), Failure> {
    let (gateways, numbers) = names(news.keys());
    let sql = "INSERT INTO streams (gateway, stream, committed, highest) \
               SELECT gateway, stream, $3, 0 FROM unnest($1::text[], $2::bigint[]) AS n(gateway, stream) \
               ORDER BY gateway, stream ON CONFLICT DO NOTHING";
    let none = postcard::to_stdvec(&SeqRanges::new()).map_err(strange)?;
    sqlx::query(sql).bind(gateways).bind(numbers).bind(none).execute(connection).await?;
    Ok(())
}

async fn gaps_of(connection: &mut PgConnection, news: &Streams<StreamNews>) -> Result<Streams<Vec<Gap>>, Failure> {
    let (gateways, numbers) = names(news.keys());
    let touched = |news: &StreamNews| news.touches().map_or((1, 0), |range| (wide(range.first), wide(range.last)));
    let (firsts, lasts): (Vec<i64>, Vec<i64>) = news.values().map(touched).unzip();
    let sql = "SELECT g.gateway, g.stream, g.first, g.last, g.span_from, g.span_to, g.reason FROM gaps AS g \
               JOIN unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) AS n(gateway, stream, first, last) \
               ON g.gateway = n.gateway AND g.stream = n.stream AND g.first <= n.last AND g.last >= n.first";
    let query = sqlx::query(sql).bind(gateways).bind(numbers).bind(firsts).bind(lasts);
    let mut gaps = Streams::<Vec<Gap>>::new();
    for row in query.fetch_all(connection).await? {
        let stream = (super::rows::gateway(&row)?, super::rows::stream(&row)?);
        gaps.entry(stream).or_default().push(gap(&row)?);
    }
    Ok(gaps)
}

async fn save(connection: &mut PgConnection, accounts: &Streams<Account>) -> Result<(), Failure> {
    let (gateways, numbers) = names(accounts.keys());
    let committed = accounts.values().map(|account| postcard::to_stdvec(&account.committed).map_err(strange));
    let committed: Vec<Vec<u8>> = committed.collect::<Result<_, _>>()?;
    let highest: Vec<i64> = accounts.values().map(|account| wide(account.highest)).collect();
    let sql = "UPDATE streams AS s SET committed = n.committed, highest = n.highest \
               FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::bigint[]) AS n(gateway, stream, committed, highest) \
               WHERE s.gateway = n.gateway AND s.stream = n.stream";
    sqlx::query(sql).bind(gateways).bind(numbers).bind(committed).bind(highest).execute(&mut *connection).await?;
    delete_gaps(connection, accounts).await?;
    insert_gaps(connection, accounts).await
}

async fn delete_gaps(connection: &mut PgConnection, accounts: &Streams<Account>) -> Result<(), Failure> {
    let gone: Vec<_> = accounts.iter().flat_map(|(stream, account)| account.gone().map(move |s| (stream, s))).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let (gateways, numbers) = names(gone.iter().map(|(stream, _)| *stream));
    let firsts: Vec<i64> = gone.iter().map(|(_, first)| wide(*first)).collect();
    let sql = "DELETE FROM gaps AS g USING unnest($1::text[], $2::bigint[], $3::bigint[]) AS n(gateway, stream, first) \
               WHERE g.gateway = n.gateway AND g.stream = n.stream AND g.first = n.first";
    sqlx::query(sql).bind(gateways).bind(numbers).bind(firsts).execute(connection).await?;
    Ok(())
}

async fn insert_gaps(connection: &mut PgConnection, accounts: &Streams<Account>) -> Result<(), Failure> {
    let fresh: Vec<_> =
        accounts.iter().flat_map(|(stream, account)| account.fresh().map(move |gap| (stream, gap))).collect();
    if fresh.is_empty() {
        return Ok(());
    }
    let (gateways, numbers) = names(fresh.iter().map(|(stream, _)| *stream));
    let reason = |gap: &Gap| {
        let reason = serde_json::to_value(gap.reason).map_err(strange)?;
        reason.as_str().map(str::to_owned).ok_or_else(|| strange("a reason is no word"))
    };
    let reasons = fresh.iter().map(|(_, gap)| reason(gap)).collect::<Result<Vec<_>, TierError>>()?;
    let sql = "INSERT INTO gaps (gateway, stream, first, last, span_from, span_to, reason) SELECT * FROM unnest( \
               $1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[])";
    let query = sqlx::query(sql)
        .bind(gateways)
        .bind(numbers)
        .bind(fresh.iter().map(|(_, gap)| wide(gap.seqs.first)).collect::<Vec<_>>())
        .bind(fresh.iter().map(|(_, gap)| wide(gap.seqs.last)).collect::<Vec<_>>())
        .bind(fresh.iter().map(|(_, gap)| gap.span.map(|span| span.0.0)).collect::<Vec<_>>())
        .bind(fresh.iter().map(|(_, gap)| gap.span.map(|span| span.1.0)).collect::<Vec<_>>())
        .bind(reasons);
    query.execute(connection).await?;
    Ok(())
}

fn ranges(bytes: &[u8]) -> Result<SeqRanges, TierError> {
    postcard::from_bytes(bytes).map_err(|e| strange(format!("streams.committed: {e}")))
}

/// A row of `gaps`.
pub(super) fn gap(row: &PgRow) -> Result<Gap, TierError> {
    let (first, last) = (seq(row, "first")?, seq(row, "last")?);
    if first > last {
        return Err(strange(format!("gap from {first} to {last}")));
    }
    let reason = serde_json::from_value(get::<String>(row, "reason")?.into()).map_err(strange)?;
    let span = get::<Option<i64>>(row, "span_from")?.zip(get(row, "span_to")?);
    Ok(Gap { seqs: SeqRange::new(first, last), span: span.map(|(a, b)| (Timestamp(a), Timestamp(b))), reason })
}

impl PostgresWarm {
    pub(super) async fn find_committed(
        &self,
        gateway: &GatewayId,
        stream: StreamId,
    ) -> Result<(SeqRanges, Seq), TierError> {
        let query = sqlx::query("SELECT committed, highest FROM streams WHERE gateway = $1 AND stream = $2");
        let query = query.bind(gateway.as_str()).bind(stream.0.cast_signed());
        match query.fetch_optional(&mut *self.primary().await?).await.map_err(failed)? {
            Some(row) => Ok((ranges(&get::<Vec<u8>>(&row, "committed")?)?, seq(&row, "highest")?)),
            None => Ok((SeqRanges::new(), Seq(0))),
        }
    }

    pub(super) async fn list_streams(&self, gateway: Option<&GatewayId>) -> Result<Vec<StreamInfo>, TierError> {
        let sql = "SELECT gateway, stream, committed, highest FROM streams \
                   WHERE $1::text IS NULL OR gateway = $1 ORDER BY gateway, stream";
        let query = sqlx::query(sql).bind(gateway.map(GatewayId::as_str));
        let rows = query.fetch_all(&mut *self.primary().await?).await.map_err(failed)?;
        let info = |row| {
            Ok(StreamInfo {
                gateway: super::rows::gateway(row)?,
                stream: super::rows::stream(row)?,
                committed: ranges(&get::<Vec<u8>>(row, "committed")?)?,
                highest: seq(row, "highest")?,
            })
        };
        rows.iter().map(info).collect()
    }

    pub(super) async fn keep_clock_fix(&self, gateway: &GatewayId, boot: BootId, fix: Fix) -> Result<Fix, TierError> {
        let (offset, after, before) = match fix {
            Fix::Known { offset_us } => (Some(offset_us), None, None),
            Fix::Unknown { not_before, not_after } => (None, Some(not_before.0), Some(not_after.0)),
        };
        let sql = "INSERT INTO clock_fixes (gateway, boot, offset_us, not_before, not_after) \
                   VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
        let query = sqlx::query(sql).bind(gateway.as_str()).bind(boot.0.to_vec());
        let query = query.bind(offset).bind(after).bind(before);
        query.execute(&mut *self.writer().await?).await.map_err(failed)?;
        let kept = self.find_clock_fix(gateway, boot).await?;
        kept.ok_or_else(|| strange(format!("clock fix of {gateway}, boot {boot} is not there after it was written")))
    }

    pub(super) async fn find_clock_fix(&self, gateway: &GatewayId, boot: BootId) -> Result<Option<Fix>, TierError> {
        let sql = "SELECT offset_us, not_before, not_after FROM clock_fixes WHERE gateway = $1 AND boot = $2";
        let query = sqlx::query(sql).bind(gateway.as_str()).bind(boot.0.to_vec());
        let Some(row) = query.fetch_optional(&mut *self.primary().await?).await.map_err(failed)? else {
            return Ok(None);
        };
        Ok(Some(match get::<Option<i64>>(&row, "offset_us")? {
            Some(offset_us) => Fix::Known { offset_us },
            None => Fix::Unknown {
                not_before: Timestamp(narrow(&row, "not_before")?),
                not_after: Timestamp(narrow(&row, "not_after")?),
            },
        }))
    }
}
