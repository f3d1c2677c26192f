//! A flush in one transaction.
//!
//! The fast way copies straight into `readings` and fails when a key is there already. Then the slow way stages the
//! readings and lets the conflict rule decide. Flushes that meet existing keys come in runs (a gateway that sends
//! again, an import over what is there), so the slow way is kept to until it meets none.

use super::fault::{Failure, broken, pause};
use super::rows::{gateway, get, number, seq, stream, text, wide};
use super::time::PgTime;
use super::{PostgresWarm, access, anomalies, audit, copy, days, hot, inbox, marks, streams, time};
use crate::tiers::warm::account::{Dropped, Streams, add_gaps, by_stream, missing};
use crate::tiers::warm::rules::{self, Mark};
use crate::tiers::{CommitReport, Day, Flush, LateHour, Parked, Quarantined, StoredReading, TierError};
use shared::ids::{GatewayId, Seq, StreamId};
use shared::reading::Timestamp;
use sqlx::{Executor as _, PgConnection};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::sync::atomic::Ordering;

const STAGE: &str = "CREATE TEMP TABLE IF NOT EXISTS staged_readings (series_id integer, quality smallint, \
     ts timestamptz, value double precision, revision bigint) ON COMMIT DELETE ROWS";

/// Gives how many readings were written, how many buckets were marked, and the days of what was written. The origin is the first moment that can be
/// stored: older servers are a bucket off for what lies before an origin.
static MERGE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "WITH written AS ( \
             INSERT INTO readings (series_id, quality, ts, value, revision) \
             SELECT series_id, quality, ts, value, revision FROM staged_readings ORDER BY series_id, ts \
             ON CONFLICT (series_id, ts) DO UPDATE SET \
                 quality = excluded.quality, value = excluded.value, revision = excluded.revision \
             WHERE {} > {} \
             RETURNING series_id, ts), \
         marked AS ( \
             INSERT INTO dirty_buckets (series_id, bucket) \
             SELECT DISTINCT series_id, date_bin(INTERVAL '5 minutes', ts, TIMESTAMPTZ '0001-01-01 00:00:00+00') \
             FROM written RETURNING 1) \
         SELECT (SELECT count(*) FROM written), (SELECT count(*) FROM marked), \
             (SELECT coalesce(array_agg(DISTINCT day ORDER BY day), '{{}}') FROM ( \
                 SELECT (ts AT TIME ZONE 'UTC')::date - DATE '1970-01-01' AS day FROM written) AS d)",
        rules::rank("excluded"),
        rules::rank("readings")
    )
});

/// How readings get into their table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Fast,
    Slow,
}

/// A flush, prepared: the same for every try.
struct Batch {
    readings: Vec<StoredReading>,
    marks: Vec<Mark>,
    lost: u64,
    streams: Streams,
    flush: Flush,
}

impl Batch {
    fn new(mut flush: Flush) -> Result<Self, TierError> {
        let (readings, lost) = rules::prepare(std::mem::take(&mut flush.readings));
        for reading in &readings {
            if !time::is_storable(reading.at) {
                let (series, at) = (reading.series, reading.at);
                return Err(broken(format!(
                    "a reading of series {series} at {at} can't be stored: only the years 1 to 9999 can"
                )));
            }
            if i32::try_from(reading.series.0).is_err() {
                return Err(broken(format!("there is no series {}", reading.series)));
            }
        }
        Ok(Self { marks: rules::buckets_of(&readings), readings, lost, streams: by_stream(&flush), flush })
    }

    /// Its streams, when of their blocks and of others this made room in quarantine.
    fn streams_without(&self, dropped: Vec<Dropped>) -> Cow<'_, Streams> {
        let mut streams = Cow::Borrowed(&self.streams);
        if !dropped.is_empty() {
            add_gaps(streams.to_mut(), missing(dropped));
        }
        streams
    }
}

impl PostgresWarm {
    pub(super) async fn commit_flush(&self, flush: Flush) -> Result<CommitReport, TierError> {
        let batch = Batch::new(flush)?;
        self.try_again().await?;
        self.make_days(&batch.readings).await?;
        let mut way = if self.expects_conflicts.load(Ordering::Relaxed) { Way::Slow } else { Way::Fast };
        let mut tries = 0;
        loop {
            match self.try_commit(&batch, way).await {
                Ok(report) => {
                    let all_new = report.written == batch.readings.len() as u64;
                    self.expects_conflicts.store(way == Way::Slow && !all_new, Ordering::Relaxed);
                    self.tell_replica().await;
                    return Ok(report);
                }
                Err(failure) if way == Way::Fast && failure.is_taken_key() => way = Way::Slow,
                Err(failure) if failure.may_be_tried_again(tries) => {
                    tries += 1;
                    pause(tries).await;
                }
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    async fn try_commit(&self, batch: &Batch, way: Way) -> Result<CommitReport, Failure> {
        let mut transaction = self.begin().await?;
        hot::stay_in_epoch(&mut transaction, batch.flush.hot).await?;
        let mut horizon = None;
        let (mut report, days) = match way {
            Way::Fast => {
                let under = horizon.insert(marks::hold(&mut transaction).await?);
                store_new(&mut transaction, batch, &self.marked.missing(&batch.marks, under)).await?
            }
            Way::Slow => store_by_the_rule(&mut transaction, batch).await?,
        };
        report.unchanged = batch.readings.len() as u64 + batch.lost - report.written;
        let dropped = set_aside(&mut transaction, &batch.flush.quarantine, self.quarantine_max).await?;
        report.quarantine_dropped = dropped.len() as u64;
        let fresh = streams::take(&mut transaction, &batch.streams_without(dropped)).await?;
        count_late(&mut transaction, &rules::late(&batch.flush.late, &fresh)).await?;
        park(&mut transaction, &batch.flush.park).await?;
        unpark(&mut transaction, &batch.flush.unpark).await?;
        take_back(&mut transaction, &batch.flush.unquarantine).await?;
        if let Some(decided) = anomalies::judge(&mut transaction, &batch.flush.judgements).await? {
            transaction.rollback().await?;
            return Ok(CommitReport { too_late: Some(decided), ..CommitReport::default() });
        }
        access::change(&mut transaction, &batch.flush.people).await?;
        audit::put(&mut transaction, &batch.flush.audit).await?;
        inbox::take(&mut transaction, &batch.flush.inbox).await?;
        hot::owe(&mut transaction, batch.flush.hot).await?;
        // Last of all: every flush changes today's row, and others wait for it from here on.
        days::touch(&mut transaction, &days).await?;
        transaction.commit().await?;
        if let Some(under) = &horizon {
            self.marked.note(&batch.marks, under);
        }
        Ok(report)
    }
}

/// What was done, and the days that were changed.
type Stored = (CommitReport, Vec<Day>);

async fn store_new(connection: &mut PgConnection, batch: &Batch, marks: &[Mark]) -> Result<Stored, Failure> {
    let mut report = CommitReport::default();
    if !batch.readings.is_empty() {
        report.written = copy::readings(connection, &batch.readings).await?;
        report.dirty = mark(connection, marks).await?;
    }
    let days: BTreeSet<Day> = batch.marks.iter().map(|(_, bucket)| Day::of(*bucket)).collect();
    Ok((report, days.into_iter().collect()))
}

/// Not by COPY: its end is a small message of its own, which without TCP_NODELAY, and sqlx sets none, waits for the
/// server's late acknowledgement of the one before, 40 ms when that is small, too.
async fn mark(connection: &mut PgConnection, buckets: &[Mark]) -> Result<u64, Failure> {
    if buckets.is_empty() {
        return Ok(0);
    }
    let sql = "INSERT INTO dirty_buckets (series_id, bucket) SELECT * FROM unnest($1::integer[], $2::timestamptz[])";
    let query = sqlx::query(sql)
        .bind(buckets.iter().map(|(series, _)| number(*series)).collect::<Vec<_>>())
        .bind(buckets.iter().map(|(_, bucket)| PgTime(*bucket)).collect::<Vec<_>>());
    Ok(query.execute(connection).await?.rows_affected())
}

async fn store_by_the_rule(connection: &mut PgConnection, batch: &Batch) -> Result<Stored, Failure> {
    let (mut report, mut days) = Stored::default();
    if !batch.readings.is_empty() {
        connection.execute(STAGE).await?;
        copy::staged(connection, &batch.readings).await?;
        let (written, marked, touched): (i64, i64, Vec<i32>) =
            sqlx::query_as(MERGE.as_str()).fetch_one(connection).await?;
        (report.written, report.dirty) = (written.cast_unsigned(), marked.cast_unsigned());
        days = touched.into_iter().map(Day).collect();
    }
    Ok((report, days))
}

async fn count_late(connection: &mut PgConnection, late: &[LateHour]) -> Result<(), Failure> {
    if late.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO late_hours AS h (series_id, hour, readings) \
               SELECT * FROM unnest($1::integer[], $2::timestamptz[], $3::bigint[]) ORDER BY 1, 2 \
               ON CONFLICT (series_id, hour) DO UPDATE SET readings = h.readings + excluded.readings";
    let query = sqlx::query(sql)
        .bind(late.iter().map(|one| number(one.series)).collect::<Vec<_>>())
        .bind(late.iter().map(|one| PgTime::bounded(one.hour)).collect::<Vec<_>>())
        .bind(late.iter().map(|one| i64::from(one.readings)).collect::<Vec<_>>());
    query.execute(connection).await?;
    Ok(())
}

async fn park(connection: &mut PgConnection, parked: &[Parked]) -> Result<(), Failure> {
    if parked.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO parked (gateway, stream, seq, boot, received, bytes) \
               SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bigint[], $6::bytea[]) \
               ORDER BY 1, 2, 3 ON CONFLICT DO NOTHING";
    let query = sqlx::query(sql)
        .bind(parked.iter().map(|p| p.gateway.as_str()).collect::<Vec<_>>())
        .bind(parked.iter().map(|p| p.stream.0.cast_signed()).collect::<Vec<_>>())
        .bind(parked.iter().map(|p| wide(p.seq)).collect::<Vec<_>>())
        .bind(parked.iter().map(|p| p.boot.0.as_slice()).collect::<Vec<_>>())
        .bind(parked.iter().map(|p| p.received.0).collect::<Vec<_>>())
        .bind(parked.iter().map(|p| p.bytes.as_slice()).collect::<Vec<_>>());
    query.execute(connection).await?;
    Ok(())
}

async fn unpark(connection: &mut PgConnection, blocks: &[(GatewayId, StreamId, Seq)]) -> Result<(), Failure> {
    if blocks.is_empty() {
        return Ok(());
    }
    let sql = "DELETE FROM parked AS p USING unnest($1::text[], $2::bigint[], $3::bigint[]) AS b(gateway, stream, seq) \
               WHERE p.gateway = b.gateway AND p.stream = b.stream AND p.seq = b.seq";
    let query = sqlx::query(sql)
        .bind(blocks.iter().map(|(gateway, ..)| gateway.as_str()).collect::<Vec<_>>())
        .bind(blocks.iter().map(|(_, stream, _)| stream.0.cast_signed()).collect::<Vec<_>>())
        .bind(blocks.iter().map(|(.., seq)| wide(*seq)).collect::<Vec<_>>());
    query.execute(connection).await?;
    Ok(())
}

async fn take_back(connection: &mut PgConnection, rows: &[Quarantined]) -> Result<(), Failure> {
    if rows.is_empty() {
        return Ok(());
    }
    let sql = "DELETE FROM quarantine AS q \
               USING unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[]) \
                   AS b(gateway, stream, seq, series, ts) \
               WHERE q.gateway = b.gateway AND q.stream = b.stream AND q.seq = b.seq AND q.series = b.series AND q.ts = b.ts";
    let query = sqlx::query(sql)
        .bind(rows.iter().map(|r| r.gateway.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.stream.0.cast_signed()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| wide(r.seq)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| text(&r.series)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.at.0).collect::<Vec<_>>());
    query.execute(connection).await?;
    Ok(())
}

/// Gives what made room: the oldest.
async fn set_aside(
    connection: &mut PgConnection,
    rows: &[Quarantined],
    rows_max: u32,
) -> Result<Vec<Dropped>, Failure> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "INSERT INTO quarantine (gateway, stream, seq, series, ts, value, quality, revision, reason, received) \
               SELECT gateway, stream, seq, series, ts, value, quality, revision, reason, received \
               FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::float8[], \
                           $7::smallint[], $8::bigint[], $9::text[], $10::bigint[]) \
               WITH ORDINALITY AS q(gateway, stream, seq, series, ts, value, quality, revision, reason, received, n) \
               ORDER BY n ON CONFLICT DO NOTHING";
    let query = sqlx::query(sql)
        .bind(rows.iter().map(|r| r.gateway.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.stream.0.cast_signed()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| wide(r.seq)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| text(&r.series)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.at.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.held.value).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| i16::from(r.held.quality.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| i64::from(r.held.revision)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| text(&r.reason)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.received.0).collect::<Vec<_>>());
    query.execute(&mut *connection).await?;
    let sql = "DELETE FROM quarantine WHERE number IN (SELECT number FROM quarantine ORDER BY number DESC OFFSET $1) \
               RETURNING gateway, stream, seq, ts";
    let gone = sqlx::query(sql).bind(i64::from(rows_max)).fetch_all(connection).await?;
    let dropped = |row| Ok((gateway(row)?, stream(row)?, seq(row, "seq")?, Timestamp(get(row, "ts")?)));
    gone.iter().map(dropped).collect()
}
