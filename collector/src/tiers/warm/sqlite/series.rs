//! Series: their numbers, and who owns them.

use super::rows::{self, get, narrow};
use super::{SqliteWarm, broken, failed};
use crate::tiers::warm::rules::{is_stale, judge};
use crate::tiers::{SeriesId, SeriesInfo, SeriesKey, SeriesRefused, TierError};
use shared::catalogue::Entry;
use shared::ids::{GatewayId, NodeId};
use shared::metric::Kind;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;
use std::sync::atomic::Ordering;

fn info(row: &SqliteRow) -> Result<SeriesInfo, TierError> {
    let resolution: Option<i64> = get(row, "resolution_exp")?;
    Ok(SeriesInfo {
        id: SeriesId(narrow(row, "series_id")?),
        key: rows::key(row)?,
        kind: serde_json::from_value(get::<String>(row, "kind")?.into()).map_err(broken)?,
        unit: get(row, "unit")?,
        gateway: rows::gateway(row)?,
        resolution_exp: resolution.and_then(|exp| i8::try_from(exp).ok()),
        interval_ms: narrow(row, "interval_ms")?,
        silence_ms_max: narrow(row, "silence_ms_max")?,
    })
}

async fn find(connection: &mut SqliteConnection, entry: &Entry) -> Result<Option<SeriesInfo>, TierError> {
    let sql = "SELECT * FROM series WHERE node = ? AND metric = ? AND channel = ?";
    let query = sqlx::query(sql).bind(entry.node.as_str()).bind(&entry.metric).bind(&entry.channel);
    query.fetch_optional(connection).await.map_err(failed)?.as_ref().map(info).transpose()
}

fn kind_text(kind: Kind) -> Result<String, TierError> {
    let text = serde_json::to_value(kind).map_err(broken)?;
    text.as_str().map(str::to_owned).ok_or_else(|| broken("a kind is no word"))
}

impl SqliteWarm {
    pub(super) async fn find_or_make_series(
        &self,
        gateway: &GatewayId,
        entries: &[Entry],
    ) -> Result<Vec<Result<SeriesId, SeriesRefused>>, TierError> {
        // Nearly always nothing is new, and then nobody has to wait for the writer.
        let mut reader = self.reader().await?.acquire().await.map_err(failed)?;
        let mut answers = Vec::with_capacity(entries.len());
        for entry in entries {
            match find(&mut reader, entry).await? {
                Some(found) if judge(&found, gateway, entry).is_err() || !is_stale(&found, entry) => {
                    answers.push(judge(&found, gateway, entry));
                }
                _ => break,
            }
        }
        drop(reader);
        if answers.len() == entries.len() {
            return Ok(answers);
        }
        let mut transaction = self.begin().await?;
        for entry in &entries[answers.len()..] {
            answers.push(make(&mut transaction, gateway, entry).await?);
        }
        let done = transaction.commit().await;
        self.series_changes.fetch_add(1, Ordering::AcqRel);
        done.map_err(failed)?;
        Ok(answers)
    }

    pub(super) async fn change_owner(
        &self,
        series: &SeriesKey,
        from: &GatewayId,
        to: &GatewayId,
    ) -> Result<(), TierError> {
        let sql = "UPDATE series SET gateway = ? WHERE node = ? AND metric = ? AND channel = ? AND gateway = ?";
        let query = sqlx::query(sql).bind(to.as_str()).bind(series.node.as_str()).bind(&series.metric);
        let done = query.bind(&series.channel).bind(from.as_str()).execute(self.writer().await?).await;
        self.series_changes.fetch_add(1, Ordering::AcqRel);
        done.map_err(failed)?;
        Ok(())
    }

    pub(super) async fn list_series(&self, node: Option<&NodeId>) -> Result<Vec<SeriesInfo>, TierError> {
        let sql = "SELECT * FROM series WHERE ?1 IS NULL OR node = ?1 ORDER BY node, metric, channel";
        let query = sqlx::query(sql).bind(node.map(NodeId::as_str));
        query.fetch_all(self.reader().await?).await.map_err(failed)?.iter().map(info).collect()
    }

    pub(super) async fn list_nodes(&self) -> Result<Vec<NodeId>, TierError> {
        let query = sqlx::query("SELECT DISTINCT node FROM series ORDER BY node");
        let rows = query.fetch_all(self.reader().await?).await.map_err(failed)?;
        rows.iter().map(|row| NodeId::new(&get::<String>(row, "node")?).map_err(broken)).collect()
    }

    /// How long a value of this series holds, microseconds.
    pub(super) async fn hold_of(connection: &mut SqliteConnection, series: SeriesId) -> Result<i64, TierError> {
        let query = sqlx::query("SELECT interval_ms, silence_ms_max FROM series WHERE series_id = ?").bind(series.0);
        Ok(match query.fetch_optional(connection).await.map_err(failed)? {
            Some(row) => crate::rollup::hold(narrow(&row, "interval_ms")?, narrow(&row, "silence_ms_max")?),
            None => crate::rollup::HOLD_UNKNOWN,
        })
    }
}

async fn make(
    connection: &mut SqliteConnection,
    gateway: &GatewayId,
    entry: &Entry,
) -> Result<Result<SeriesId, SeriesRefused>, TierError> {
    let sql = "INSERT INTO series (node, metric, channel, kind, unit, gateway, resolution_exp, interval_ms, silence_ms_max) \
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (node, metric, channel) DO NOTHING";
    let query = sqlx::query(sql).bind(entry.node.as_str()).bind(&entry.metric).bind(&entry.channel);
    let query = query.bind(kind_text(entry.kind)?).bind(&entry.unit).bind(gateway.as_str());
    let query = query.bind(entry.resolution_exp).bind(entry.interval_ms).bind(entry.silence_ms_max);
    query.execute(&mut *connection).await.map_err(failed)?;
    let found = find(connection, entry).await?;
    let found = found.ok_or_else(|| broken("a series is not there after it was written"))?;
    let answer = judge(&found, gateway, entry);
    if answer.is_ok() && is_stale(&found, entry) {
        let sql = "UPDATE series SET resolution_exp = ?, interval_ms = ?, silence_ms_max = ? WHERE series_id = ?";
        let query = sqlx::query(sql).bind(entry.resolution_exp).bind(entry.interval_ms).bind(entry.silence_ms_max);
        query.bind(found.id.0).execute(connection).await.map_err(failed)?;
    }
    Ok(answer)
}
