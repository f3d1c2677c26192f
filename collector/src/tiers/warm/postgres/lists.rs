//! What can be listed and counted. Columns are named, here as everywhere: a newer collector may add some while this one
//! runs.

use super::PostgresWarm;
use super::fault::failed;
use super::rows::{self, get, narrow, seq, strange};
use super::schema::Layout;
use super::streams;
use crate::tiers::{GatewayGap, GatewayInfo, Heard, Parked, Quarantined, TierError, WarmState};
use shared::ids::{BootId, GatewayId};
use shared::reading::Timestamp;

impl PostgresWarm {
    pub(super) async fn list_parked(
        &self,
        gateway: Option<&GatewayId>,
        boot: Option<BootId>,
        count_max: u32,
    ) -> Result<Vec<Parked>, TierError> {
        let sql = "SELECT gateway, stream, seq, boot, received, bytes FROM parked \
                   WHERE ($1::text IS NULL OR gateway = $1) AND ($2::bytea IS NULL OR boot = $2) \
                   ORDER BY gateway, stream, seq LIMIT $3";
        let query = sqlx::query(sql).bind(gateway.map(GatewayId::as_str)).bind(boot.map(|b| b.0.to_vec()));
        let rows = query.bind(i64::from(count_max)).fetch_all(&mut *self.primary().await?).await.map_err(failed)?;
        let parked = |row| {
            let boot: Vec<u8> = get(row, "boot")?;
            Ok(Parked {
                gateway: rows::gateway(row)?,
                stream: rows::stream(row)?,
                seq: seq(row, "seq")?,
                boot: BootId(boot.try_into().map_err(|_| strange("parked.boot is not 16 bytes"))?),
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
        let sql = "SELECT gateway, stream, first, last, span_from, span_to, reason FROM gaps \
                   WHERE ($1::text IS NULL OR gateway = $1) \
                   AND ($2::bigint IS NULL OR span_from IS NULL OR (span_from < $3 AND span_to >= $2)) \
                   ORDER BY span_to IS NOT NULL, span_to DESC, gateway, stream, first DESC LIMIT $4";
        let query = sqlx::query(sql).bind(gateway.map(GatewayId::as_str));
        let query = query.bind(span.map(|s| s.0.0)).bind(span.map(|s| s.1.0)).bind(i64::from(count_max));
        let rows = query.fetch_all(&mut *self.primary().await?).await.map_err(failed)?;
        let gap =
            |row| Ok(GatewayGap { gateway: rows::gateway(row)?, stream: rows::stream(row)?, gap: streams::gap(row)? });
        rows.iter().map(gap).collect()
    }

    pub(super) async fn list_quarantine(
        &self,
        gateway: Option<&GatewayId>,
        count_max: u32,
    ) -> Result<Vec<Quarantined>, TierError> {
        let sql = "SELECT gateway, stream, seq, series, ts, value, quality, revision, reason, received FROM quarantine \
                   WHERE $1::text IS NULL OR gateway = $1 ORDER BY number DESC LIMIT $2";
        let query = sqlx::query(sql).bind(gateway.map(GatewayId::as_str)).bind(i64::from(count_max));
        let rows = query.fetch_all(&mut *self.primary().await?).await.map_err(failed)?;
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

    pub(super) async fn note_heard(&self, gateway: &GatewayId, heard: Heard) -> Result<(), TierError> {
        let sql = "INSERT INTO gateways AS g (gateway, first_heard, last_heard, version, status) \
                   VALUES ($1, $2, $2, $3, $4) \
                   ON CONFLICT (gateway) DO UPDATE SET last_heard = greatest(g.last_heard, excluded.last_heard), \
                   version = coalesce(excluded.version, g.version), status = coalesce(excluded.status, g.status)";
        let query = sqlx::query(sql).bind(gateway.as_str()).bind(heard.at.0);
        let query = query.bind(heard.version.as_deref().map(rows::text));
        let query = query.bind(heard.status.map(|status| status.to_string()));
        query.execute(&mut *self.writer().await?).await.map_err(failed)?;
        Ok(())
    }

    pub(super) async fn list_gateways(&self) -> Result<Vec<GatewayInfo>, TierError> {
        let sql = "SELECT g.gateway, g.first_heard, g.last_heard, g.version, g.status, \
                   (SELECT count(*) FROM series AS s WHERE s.gateway = g.gateway) AS series, \
                   (SELECT count(*) FROM gaps AS p WHERE p.gateway = g.gateway) AS gaps \
                   FROM gateways AS g ORDER BY g.gateway";
        let rows = sqlx::query(sql).fetch_all(&mut *self.primary().await?).await.map_err(failed)?;
        let info = |row| {
            let status: Option<String> = get(row, "status")?;
            Ok(GatewayInfo {
                gateway: rows::gateway(row)?,
                first_heard: Timestamp(get(row, "first_heard")?),
                last_heard: Timestamp(get(row, "last_heard")?),
                version: get(row, "version")?,
                status: status.map(|text| serde_json::from_str(&text).map_err(strange)).transpose()?,
                series: narrow(row, "series")?,
                gaps: narrow(row, "gaps")?,
            })
        };
        rows.iter().map(info).collect()
    }

    pub(super) async fn count_everything(&self) -> Result<WarmState, TierError> {
        let sql = "SELECT (SELECT count(*) FROM series) AS series, \
                   (SELECT count(*) FROM (SELECT DISTINCT series_id, bucket FROM dirty_buckets) AS d) AS dirty, \
                   (SELECT count(*) FROM quarantine) AS quarantined, (SELECT count(*) FROM parked) AS parked, \
                   pg_database_size(current_database()) AS bytes";
        let row = sqlx::query(sql).fetch_one(&mut *self.primary().await?).await.map_err(failed)?;
        Ok(WarmState {
            series: narrow(&row, "series")?,
            dirty_buckets: narrow(&row, "dirty")?,
            quarantined: narrow(&row, "quarantined")?,
            parked: narrow(&row, "parked")?,
            bytes: Some(narrow(&row, "bytes")?),
            replica: None,
        })
    }

    /// By the statistics that the server keeps for itself: counting takes minutes. Of a day that was never analysed there is
    /// only what was counted as it came, which a crash forgets.
    pub(super) async fn estimate_readings(&self) -> Result<u64, TierError> {
        let sql = match self.ready().await? {
            Layout::Timescale => "SELECT greatest(approximate_row_count('readings'), 0) AS readings",
            Layout::Plain => {
                "SELECT coalesce(sum(greatest(c.reltuples, pg_stat_get_live_tuples(c.oid), 0)), 0)::bigint AS readings \
                 FROM pg_inherits AS i \
                 JOIN pg_class AS c ON c.oid = i.inhrelid WHERE i.inhparent = 'readings'::regclass"
            }
        };
        let row = sqlx::query(sql).fetch_one(&mut *self.primary().await?).await.map_err(failed)?;
        narrow(&row, "readings")
    }
}
