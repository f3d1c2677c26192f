//! A flush in one transaction.

use super::rows::{Batched, gateway, get, seq, stream, wide};
use super::{SqliteWarm, access, account, anomalies, audit, days, failed, hot, inbox};
use crate::tiers::warm::account::{Dropped, add_gaps, by_stream, missing};
use crate::tiers::warm::rules;
use crate::tiers::{
    Bucket, CommitReport, Day, Flush, LateHour, Parked, Quarantined, SeriesId, StoredReading, TierError,
};
use shared::ids::{GatewayId, Seq, StreamId};
use shared::reading::Timestamp;
use sqlx::SqliteConnection;
use std::collections::BTreeSet;
use std::sync::LazyLock;

static UPSERT: LazyLock<Batched> = LazyLock::new(|| {
    let suffix = format!(
        "ON CONFLICT (series_id, ts) DO UPDATE SET \
            value = excluded.value, quality = excluded.quality, revision = excluded.revision \
         WHERE {} > {}",
        rules::rank("excluded"),
        rules::rank("readings")
    );
    Batched::new("INSERT INTO readings (series_id, ts, value, quality, revision) VALUES", 5, &suffix)
});

static MARK: LazyLock<Batched> =
    LazyLock::new(|| Batched::new("INSERT INTO dirty_buckets (series_id, bucket) VALUES", 2, "ON CONFLICT DO NOTHING"));

static LATE: LazyLock<Batched> = LazyLock::new(|| {
    let suffix = "ON CONFLICT (series_id, hour) DO UPDATE SET readings = readings + excluded.readings";
    Batched::new("INSERT INTO late_hours (series_id, hour, readings) VALUES", 3, suffix)
});

impl SqliteWarm {
    pub(super) async fn commit_flush(&self, mut flush: Flush) -> Result<CommitReport, TierError> {
        let (readings, lost) = rules::prepare(std::mem::take(&mut flush.readings));
        let mut report = CommitReport { unchanged: lost, ..CommitReport::default() };
        let mut transaction = self.begin().await?;
        hot::account_for(&mut transaction, flush.hot).await?;
        store(&mut transaction, &readings, &mut report).await?;
        let mut streams = by_stream(&flush);
        if !flush.quarantine.is_empty() {
            let dropped = set_aside(&mut transaction, &flush.quarantine, self.quarantine_max).await?;
            report.quarantine_dropped = dropped.len() as u64;
            add_gaps(&mut streams, missing(dropped));
        }
        let mut fresh = rules::Fresh::new();
        for ((gateway, stream), news) in streams {
            let newly = account::take(&mut transaction, &gateway, stream, &news).await?;
            fresh.insert((gateway, stream), newly);
        }
        count_late(&mut transaction, &rules::late(&flush.late, &fresh)).await?;
        for parked in &flush.park {
            park(&mut transaction, parked).await?;
        }
        for (gateway, stream, seq) in &flush.unpark {
            unpark(&mut transaction, gateway, *stream, *seq).await?;
        }
        for row in &flush.unquarantine {
            take_back(&mut transaction, row).await?;
        }
        if let Some(decided) = anomalies::judge(&mut transaction, &flush.judgements).await? {
            transaction.rollback().await.map_err(failed)?;
            return Ok(CommitReport { too_late: Some(decided), ..CommitReport::default() });
        }
        access::change(&mut transaction, &flush.people).await?;
        audit::put(&mut transaction, &flush.audit).await?;
        inbox::take(&mut transaction, &flush.inbox).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(report)
    }
}

async fn store(
    connection: &mut SqliteConnection,
    readings: &[StoredReading],
    report: &mut CommitReport,
) -> Result<(), TierError> {
    let mut dirty: BTreeSet<(SeriesId, Timestamp)> = BTreeSet::new();
    for (sql, piece) in UPSERT.pieces(readings) {
        let mut query = sqlx::query(sql);
        for StoredReading { series, at, held } in piece {
            query = query.bind(series.0).bind(at.0).bind(held.value).bind(held.quality.0).bind(held.revision);
        }
        let written = query.execute(&mut *connection).await.map_err(failed)?.rows_affected();
        report.written += written;
        report.unchanged += (piece.len() as u64).saturating_sub(written);
        if written > 0 {
            dirty.extend(piece.iter().map(|r| (r.series, Bucket::FiveMinutes.start_of(r.at))));
        }
    }
    report.dirty = dirty.len() as u64;
    days::touch(connection, &dirty.iter().map(|(_, bucket)| Day::of(*bucket)).collect()).await?;
    let dirty: Vec<_> = dirty.into_iter().collect();
    for (sql, piece) in MARK.pieces(&dirty) {
        let mut query = sqlx::query(sql);
        for (series, bucket) in piece {
            query = query.bind(series.0).bind(bucket.0);
        }
        query.execute(&mut *connection).await.map_err(failed)?;
    }
    Ok(())
}

async fn count_late(connection: &mut SqliteConnection, late: &[LateHour]) -> Result<(), TierError> {
    for (sql, piece) in LATE.pieces(late) {
        let mut query = sqlx::query(sql);
        for LateHour { series, hour, readings } in piece {
            query = query.bind(series.0).bind(hour.0).bind(readings);
        }
        query.execute(&mut *connection).await.map_err(failed)?;
    }
    Ok(())
}

async fn park(connection: &mut SqliteConnection, parked: &Parked) -> Result<(), TierError> {
    let sql = "INSERT INTO parked (gateway, stream, seq, boot, received, bytes) VALUES (?, ?, ?, ?, ?, ?) \
               ON CONFLICT DO NOTHING";
    let query = sqlx::query(sql).bind(parked.gateway.as_str()).bind(parked.stream.0.cast_signed());
    let query = query.bind(wide(parked.seq)).bind(parked.boot.0.to_vec()).bind(parked.received.0);
    query.bind(&parked.bytes).execute(connection).await.map_err(failed)?;
    Ok(())
}

async fn unpark(
    connection: &mut SqliteConnection,
    gateway: &GatewayId,
    stream: StreamId,
    seq: Seq,
) -> Result<(), TierError> {
    let query = sqlx::query("DELETE FROM parked WHERE gateway = ? AND stream = ? AND seq = ?");
    let query = query.bind(gateway.as_str()).bind(stream.0.cast_signed()).bind(wide(seq));
    query.execute(connection).await.map_err(failed)?;
    Ok(())
}

async fn take_back(connection: &mut SqliteConnection, row: &Quarantined) -> Result<(), TierError> {
    let sql = "DELETE FROM quarantine WHERE gateway = ? AND stream = ? AND seq = ? AND series = ? AND ts = ?";
    let query = sqlx::query(sql).bind(row.gateway.as_str()).bind(row.stream.0.cast_signed()).bind(wide(row.seq));
    query.bind(&row.series).bind(row.at.0).execute(connection).await.map_err(failed)?;
    Ok(())
}

/// Gives what made room: the oldest.
async fn set_aside(
    connection: &mut SqliteConnection,
    rows: &[Quarantined],
    rows_max: u32,
) -> Result<Vec<Dropped>, TierError> {
    for row in rows {
        let sql = "INSERT INTO quarantine (gateway, stream, seq, series, ts, value, quality, revision, reason, received) \
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
        let query = sqlx::query(sql).bind(row.gateway.as_str()).bind(row.stream.0.cast_signed()).bind(wide(row.seq));
        let query = query.bind(&row.series).bind(row.at.0).bind(row.held.value).bind(row.held.quality.0);
        let query = query.bind(row.held.revision).bind(&row.reason).bind(row.received.0);
        query.execute(&mut *connection).await.map_err(failed)?;
    }
    let sql = "DELETE FROM quarantine WHERE number IN \
               (SELECT number FROM quarantine ORDER BY number DESC LIMIT -1 OFFSET ?) RETURNING gateway, stream, seq, ts";
    let gone = sqlx::query(sql).bind(rows_max).fetch_all(connection).await.map_err(failed)?;
    let dropped = |row| Ok((gateway(row)?, stream(row)?, seq(row, "seq")?, Timestamp(get(row, "ts")?)));
    gone.iter().map(dropped).collect()
}
