//! What can be listed and counted.

use super::rows::{self, get, narrow, seq};
use super::{SqliteWarm, account, broken, failed};
use crate::tiers::warm::rules;
use crate::tiers::{
    GatewayGap, GatewayInfo, Heard, Parked, Quarantined, SeriesId, StoredReading, StreamInfo, TierError, WarmState,
};
use shared::ids::{BootId, GatewayId};
use shared::reading::Timestamp;

impl SqliteWarm {
    pub(super) async fn list_streams(&self, gateway: Option<&GatewayId>) -> Result<Vec<StreamInfo>, TierError> {
        let sql = "SELECT * FROM streams WHERE ?1 IS NULL OR gateway = ?1 ORDER BY gateway, stream";
        let query = sqlx::query(sql).bind(gateway.map(GatewayId::as_str));
        let rows = query.fetch_all(self.reader().await?).await.map_err(failed)?;
        let info = |row| {
            Ok(StreamInfo {
                gateway: rows::gateway(row)?,
                stream: rows::stream(row)?,
                committed: account::ranges(&get::<Vec<u8>>(row, "committed")?)?,
                highest: seq(row, "highest")?,
            })
        };
        rows.iter().map(info).collect()
    }

    pub(super) async fn list_parked(
        &self,
        gateway: Option<&GatewayId>,
        boot: Option<BootId>,
        count_max: u32,
    ) -> Result<Vec<Parked>, TierError> {
        let sql = "SELECT * FROM parked WHERE (?1 IS NULL OR gateway = ?1) AND (?2 IS NULL OR boot = ?2) \
                   ORDER BY gateway, stream, seq LIMIT ?3";
        let query = sqlx::query(sql).bind(gateway.map(GatewayId::as_str)).bind(boot.map(|b| b.0.to_vec()));
        let rows = query.bind(count_max).fetch_all(self.reader().await?).await.map_err(failed)?;
        let parked = |row| {
            let boot: Vec<u8> = get(row, "boot")?;
            Ok(Parked {
                gateway: rows::gateway(row)?,
                stream: rows::stream(row)?,
                seq: seq(row, "seq")?,
                boot: BootId(boot.try_into().map_err(|_| broken("parked.boot is not 16 bytes"))?),
                received: Timestamp(get(row, "received")?),
                bytes: get(row, "bytes")?,
            })
        };
        rows.iter().map(parked).collect()
    }

    pub(super) async fn list_gaps(
        &self,
        gateway: Option<&GatewayId>,
        span: Option<(Timestamp, Timestamp)>,
        count_max: u32,
    ) -> Result<Vec<GatewayGap>, TierError> {
        let sql = "SELECT * FROM gaps WHERE (?1 IS NULL OR gateway = ?1) \
                   AND (?2 IS NULL OR span_from IS NULL OR (span_from < ?3 AND span_to >= ?2)) \
                   ORDER BY span_to IS NOT NULL, span_to DESC, gateway, stream, first DESC LIMIT ?4";
        let query = sqlx::query(sql).bind(gateway.map(GatewayId::as_str));
        let query = query.bind(span.map(|s| s.0.0)).bind(span.map(|s| s.1.0)).bind(count_max);
        let rows = query.fetch_all(self.reader().await?).await.map_err(failed)?;
        let gap =
            |row| Ok(GatewayGap { gateway: rows::gateway(row)?, stream: rows::stream(row)?, gap: account::gap(row)? });
        rows.iter().map(gap).collect()
    }

    pub(super) async fn list_quarantine(
        &self,
        gateway: Option<&GatewayId>,
        count_max: u32,
    ) -> Result<Vec<Quarantined>, TierError> {
        let sql = "SELECT * FROM quarantine WHERE ?1 IS NULL OR gateway = ?1 ORDER BY number DESC LIMIT ?2";
        let query = sqlx::query(sql).bind(gateway.map(GatewayId::as_str)).bind(count_max);
        let rows = query.fetch_all(self.reader().await?).await.map_err(failed)?;
        let quarantined = |row| {
            Ok(Quarantined {
                gateway: rows::gateway(row)?,
                stream: rows::stream(row)?,
                seq: seq(row, "seq")?,
                series: get(row, "series")?,
                at: Timestamp(get(row, "ts")?),
                held: rows::held(row)?,
                reason: get(row, "reason")?,
                received: Timestamp(get(row, "received")?),
            })
        };
        rows.iter().map(quarantined).collect()
    }

    pub(super) async fn find_latest(&self, series: &[SeriesId]) -> Result<Vec<StoredReading>, TierError> {
        // The list travels as JSON: whole numbers, so nothing is rounded, and one statement for any count.
        let list = serde_json::to_string(series).map_err(broken)?;
        let sql = "SELECT r.series_id, r.ts, r.value, r.quality, r.revision FROM json_each(?1) AS wanted \
                   JOIN readings AS r ON r.series_id = wanted.value \
                   AND r.ts = (SELECT max(ts) FROM readings WHERE series_id = wanted.value) \
                   UNION ALL \
                   SELECT series_id, ts, value, quality, revision FROM left_latest \
                   WHERE series_id IN (SELECT value FROM json_each(?1))";
        let rows = sqlx::query(sql).bind(list).fetch_all(self.reader().await?).await.map_err(failed)?;
        Ok(rules::newest(rows.iter().map(rows::reading).collect::<Result<_, _>>()?))
    }

    pub(super) async fn note_heard(&self, gateway: &GatewayId, heard: Heard) -> Result<(), TierError> {
        let sql = "INSERT INTO gateways (gateway, first_heard, last_heard, version, status) VALUES (?1, ?2, ?2, ?3, ?4) \
                   ON CONFLICT (gateway) DO UPDATE SET last_heard = max(last_heard, excluded.last_heard), \
                   version = coalesce(excluded.version, version), status = coalesce(excluded.status, status)";
        let query = sqlx::query(sql).bind(gateway.as_str()).bind(heard.at.0);
        let query = query.bind(heard.version).bind(heard.status.map(|status| status.to_string()));
        query.execute(self.writer().await?).await.map_err(failed)?;
        Ok(())
    }

    pub(super) async fn list_gateways(&self) -> Result<Vec<GatewayInfo>, TierError> {
        let sql = "SELECT g.*, (SELECT count(*) FROM series AS s WHERE s.gateway = g.gateway) AS series, \
                   (SELECT count(*) FROM gaps AS p WHERE p.gateway = g.gateway) AS gaps \
                   FROM gateways AS g ORDER BY g.gateway";
        let rows = sqlx::query(sql).fetch_all(self.reader().await?).await.map_err(failed)?;
        let info = |row| {
            let status: Option<String> = get(row, "status")?;
            Ok(GatewayInfo {
                gateway: rows::gateway(row)?,
                first_heard: Timestamp(get(row, "first_heard")?),
                last_heard: Timestamp(get(row, "last_heard")?),
                version: get(row, "version")?,
                status: status.map(|text| serde_json::from_str(&text).map_err(broken)).transpose()?,
                series: narrow(row, "series")?,
                gaps: narrow(row, "gaps")?,
            })
        };
        rows.iter().map(info).collect()
    }

    pub(super) async fn count_everything(&self) -> Result<WarmState, TierError> {
        let sql = "SELECT (SELECT count(*) FROM series) AS series, (SELECT count(*) FROM dirty_buckets) AS dirty, \
                   (SELECT count(*) FROM quarantine) AS quarantined, (SELECT count(*) FROM parked) AS parked";
        let row = sqlx::query(sql).fetch_one(self.reader().await?).await.map_err(failed)?;
        let wal = self
            .path
            .with_file_name(format!("{}-wal", self.path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default()));
        let size = |path: &std::path::Path| std::fs::metadata(path).map(|meta| meta.len()).ok();
        Ok(WarmState {
            series: narrow(&row, "series")?,
            dirty_buckets: narrow(&row, "dirty")?,
            quarantined: narrow(&row, "quarantined")?,
            parked: narrow(&row, "parked")?,
            bytes: size(&self.path).map(|bytes| bytes + size(&wal).unwrap_or(0)),
            replica: None,
        })
    }
}
