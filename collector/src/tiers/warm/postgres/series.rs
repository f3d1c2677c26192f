//! Series: their numbers, and who owns them.

use super::PostgresWarm;
use super::fault::failed;
use super::rows::{self, get, narrow, strange, text};
use crate::tiers::warm::rules::{is_stale, judge};
use crate::tiers::{SeriesId, SeriesInfo, SeriesKey, SeriesRefused, TierError};
use shared::catalogue::{Catalogue, CatalogueHash, Entry};
use shared::ids::{GatewayId, NodeId};
use shared::metric::Kind;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn info(row: &PgRow) -> Result<SeriesInfo, TierError> {
    let resolution: Option<i16> = get(row, "resolution_exp")?;
    Ok(SeriesInfo {
        id: rows::series(row)?,
        key: rows::key(row)?,
        kind: serde_json::from_value(get::<String>(row, "kind")?.into()).map_err(strange)?,
        unit: get(row, "unit")?,
        gateway: rows::gateway(row)?,
        resolution_exp: resolution.and_then(|exp| i8::try_from(exp).ok()),
        interval_ms: narrow(row, "interval_ms")?,
        silence_ms_max: narrow(row, "silence_ms_max")?,
    })
}

/// The columns that [`info`] reads.
macro_rules! columns {
    () => {
        "series_id, node, metric, channel, kind, unit, gateway, resolution_exp, interval_ms, silence_ms_max"
    };
}

/// Each entry's series, where it is known.
async fn find(connection: &mut PgConnection, entries: &[&Entry]) -> Result<Vec<Option<SeriesInfo>>, TierError> {
    let sql = concat!(
        "SELECT ",
        columns!(),
        ", place FROM series \
               JOIN unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS n(node, metric, channel, place) \
               USING (node, metric, channel)"
    );
    let query = sqlx::query(sql)
        .bind(entries.iter().map(|e| e.node.as_str()).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| text(&e.metric)).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| text(&e.channel)).collect::<Vec<_>>());
    let mut found = vec![None; entries.len()];
    for row in query.fetch_all(connection).await.map_err(failed)? {
        let place: usize = narrow(&row, "place")?;
        if let Some(entry) = found.get_mut(place.wrapping_sub(1)) {
            *entry = Some(info(&row)?);
        }
    }
    Ok(found)
}

fn kind_text(kind: Kind) -> Result<String, TierError> {
    let text = serde_json::to_value(kind).map_err(strange)?;
    text.as_str().map(str::to_owned).ok_or_else(|| strange("a kind is no word"))
}

/// Makes those that aren't there, in an order that all collectors share.
async fn make(connection: &mut PgConnection, gateway: &GatewayId, entries: &[&Entry]) -> Result<(), TierError> {
    let kinds = entries.iter().map(|e| kind_text(e.kind)).collect::<Result<Vec<_>, _>>()?;
    let sql = "INSERT INTO series \
               (node, metric, channel, kind, unit, resolution_exp, interval_ms, silence_ms_max, gateway) \
               SELECT n.*, $9 FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[], \
                                          $7::bigint[], $8::bigint[]) AS n(node, metric, channel) \
               ORDER BY node, metric, channel ON CONFLICT (node, metric, channel) DO NOTHING";
    let query = sqlx::query(sql)
        .bind(entries.iter().map(|e| e.node.as_str()).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| text(&e.metric)).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| text(&e.channel)).collect::<Vec<_>>())
        .bind(kinds)
        .bind(entries.iter().map(|e| text(&e.unit)).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| e.resolution_exp.map(i16::from)).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| i64::from(e.interval_ms)).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| i64::from(e.silence_ms_max)).collect::<Vec<_>>())
        .bind(gateway.as_str());
    query.execute(connection).await.map_err(failed)?;
    Ok(())
}

async fn update(connection: &mut PgConnection, stale: &[(SeriesId, &Entry)]) -> Result<(), TierError> {
    let sql = "UPDATE series AS s SET resolution_exp = n.resolution, interval_ms = n.interval, \
                                      silence_ms_max = n.silence \
               FROM unnest($1::integer[], $2::smallint[], $3::bigint[], $4::bigint[]) \
                    AS n(series_id, resolution, interval, silence) \
               WHERE s.series_id = n.series_id";
    let query = sqlx::query(sql)
        .bind(stale.iter().map(|(id, _)| rows::number(*id)).collect::<Vec<_>>())
        .bind(stale.iter().map(|(_, e)| e.resolution_exp.map(i16::from)).collect::<Vec<_>>())
        .bind(stale.iter().map(|(_, e)| i64::from(e.interval_ms)).collect::<Vec<_>>())
        .bind(stale.iter().map(|(_, e)| i64::from(e.silence_ms_max)).collect::<Vec<_>>());
    query.execute(connection).await.map_err(failed)?;
    Ok(())
}

impl PostgresWarm {
    pub(super) async fn find_or_make_series(
        &self,
        gateway: &GatewayId,
        entries: &[Entry],
    ) -> Result<Vec<Result<SeriesId, SeriesRefused>>, TierError> {
        let mut connection = self.writer().await?;
        let all: Vec<&Entry> = entries.iter().collect();
        let mut found = find(&mut connection, &all).await?;
        let missing: Vec<&Entry> = all.iter().zip(&found).filter(|(_, f)| f.is_none()).map(|(e, _)| *e).collect();
        if !missing.is_empty() {
            make(&mut connection, gateway, &missing).await?;
            self.series_changes.fetch_add(1, Ordering::AcqRel);
            found = find(&mut connection, &all).await?;
        }
        let mut answers = Vec::with_capacity(entries.len());
        let mut stale = Vec::new();
        for (entry, found) in entries.iter().zip(&found) {
            let found = found.as_ref().ok_or_else(|| strange("a series is not there after it was written"))?;
            let answer = judge(found, gateway, entry);
            if answer.is_ok() && is_stale(found, entry) {
                stale.push((found.id, entry));
            }
            answers.push(answer);
        }
        if !stale.is_empty() {
            stale.sort_by_key(|(id, _)| *id);
            update(&mut connection, &stale).await?;
            self.series_changes.fetch_add(1, Ordering::AcqRel);
        }
        Ok(answers)
    }

    pub(super) async fn change_owner(
        &self,
        series: &SeriesKey,
        from: &GatewayId,
        to: &GatewayId,
    ) -> Result<(), TierError> {
        let sql = "UPDATE series SET gateway = $1 WHERE node = $2 AND metric = $3 AND channel = $4 AND gateway = $5";
        let query = sqlx::query(sql).bind(to.as_str()).bind(series.node.as_str()).bind(text(&series.metric));
        let query = query.bind(text(&series.channel)).bind(from.as_str());
        query.execute(&mut *self.writer().await?).await.map_err(failed)?;
        self.series_changes.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    pub(super) async fn list_series(&self, node: Option<&NodeId>) -> Result<Vec<SeriesInfo>, TierError> {
        // By their bytes, as Rust and SQLite sort.
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM series WHERE $1::text IS NULL OR node = $1 \
              ORDER BY node COLLATE \"C\", metric COLLATE \"C\", channel COLLATE \"C\""
        );
        let query = sqlx::query(sql).bind(node.map(NodeId::as_str));
        query.fetch_all(&mut *self.primary().await?).await.map_err(failed)?.iter().map(info).collect()
    }

    /// Who writes a row leaves the number of a later transaction in it, so their sum grows; when rows are gone, theirs is gone
    /// from the sum, and they from the count.
    pub(super) async fn version_of_series(&self) -> Result<String, TierError> {
        let query = sqlx::query("SELECT concat_ws(' ', count(*), sum(xmin::text::bigint)) AS version FROM series");
        get(&query.fetch_one(&mut *self.primary().await?).await.map_err(failed)?, "version")
    }

    pub(super) async fn list_nodes(&self) -> Result<Vec<NodeId>, TierError> {
        let query = sqlx::query("SELECT node FROM series GROUP BY node ORDER BY node COLLATE \"C\"");
        let rows = query.fetch_all(&mut *self.primary().await?).await.map_err(failed)?;
        rows.iter().map(|row| NodeId::new(get::<&str>(row, "node")?).map_err(strange)).collect()
    }

    /// How long a value of each of these series holds, microseconds.
    pub(super) async fn holds_of(
        connection: &mut PgConnection,
        series: &[SeriesId],
    ) -> Result<HashMap<SeriesId, i64>, TierError> {
        let sql = "SELECT series_id, interval_ms, silence_ms_max FROM series WHERE series_id = ANY($1)";
        let query = sqlx::query(sql).bind(series.iter().copied().map(rows::number).collect::<Vec<_>>());
        let rows = query.fetch_all(connection).await.map_err(failed)?;
        let hold = |row| {
            let hold = crate::rollup::hold(narrow(row, "interval_ms")?, narrow(row, "silence_ms_max")?);
            Ok((rows::series(row)?, hold))
        };
        rows.iter().map(hold).collect()
    }

    pub(super) async fn keep_catalogue(&self, gateway: &GatewayId, catalogue: &Catalogue) -> Result<(), TierError> {
        let sql = "INSERT INTO catalogues (hash, gateway, bytes) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        let query = sqlx::query(sql).bind(catalogue.hash().0.to_vec()).bind(gateway.as_str());
        query.bind(catalogue.to_bytes()).execute(&mut *self.writer().await?).await.map_err(failed)?;
        Ok(())
    }

    pub(super) async fn find_catalogue(&self, hash: CatalogueHash) -> Result<Option<Arc<Catalogue>>, TierError> {
        let query = sqlx::query_scalar("SELECT bytes FROM catalogues WHERE hash = $1").bind(hash.0.to_vec());
        let bytes: Option<Vec<u8>> = query.fetch_optional(&mut *self.primary().await?).await.map_err(failed)?;
        let read =
            |bytes: Vec<u8>| Catalogue::from_bytes(&bytes).map_err(|e| strange(format!("catalogue {hash}: {e}")));
        Ok(bytes.map(read).transpose()?.map(Arc::new))
    }
}
