//! Anomalies in PostgreSQL.

use super::PostgresWarm;
use super::fault::{Failure, failed};
use super::rows::{get, number, series, strange, text, time};
use super::time::PgTime;
use crate::analytics::anomaly::{Kind, Severity};
use crate::analytics::store::{Action, Anomaly, AnomalyStore, Judgement, Note, State, Wanted};
use crate::tiers::warm::rules::hand_out;
use crate::tiers::{TierError, TierFuture};
use shared::reading::Timestamp;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

/// A name that is stored.
fn named<T>(row: &PgRow, column: &'static str, parse: fn(&str) -> Option<T>) -> Result<T, TierError> {
    let text: &str = get(row, column)?;
    parse(text).ok_or_else(|| strange(format!("anomalies.{column} is '{text}'")))
}

fn anomaly(row: &PgRow) -> Result<Anomaly, TierError> {
    Ok(Anomaly {
        number: get(row, "number")?,
        series: series(row)?,
        kind: named(row, "kind", Kind::parse)?,
        start: time(row, "start_at")?,
        last: time(row, "last_at")?,
        end: get::<Option<PgTime>>(row, "end_at")?.map(|at| at.0),
        severity: named(row, "severity", Severity::parse)?,
        expected: get(row, "expected")?,
        seen: get(row, "seen")?,
        detail: get(row, "detail")?,
        state: named(row, "state", State::parse)?,
        normal: get(row, "normal")?,
        notes: Vec::new(),
    })
}

fn note(row: &PgRow) -> Result<(i64, Note), TierError> {
    let (at, who, comment) = (time(row, "at")?, get(row, "who")?, get(row, "comment")?);
    Ok((get(row, "anomaly")?, Note { at, who, what: named(row, "what", Action::parse)?, comment }))
}

/// Writes down what people decide; gives an anomaly about which something else was decided before.
pub(super) async fn judge(connection: &mut PgConnection, judgements: &[Judgement]) -> Result<Option<i64>, Failure> {
    for Judgement { anomaly, note, normal } in judgements {
        let sql = "INSERT INTO anomaly_notes (anomaly, at, who, what, comment) VALUES ($1, $2, $3, $4, $5) \
                   ON CONFLICT DO NOTHING";
        let query = sqlx::query(sql).bind(anomaly).bind(PgTime::bounded(note.at)).bind(text(&note.who));
        let query = query.bind(note.what.as_str()).bind(text(&note.comment));
        // One that is there is of a commit that is repeated.
        let is_new = query.execute(&mut *connection).await?.rows_affected() > 0;
        let query = match note.what {
            Action::Comment => continue,
            Action::Acknowledge => {
                sqlx::query("UPDATE anomalies SET state = 'acknowledged' WHERE number = $1 AND state = 'open'")
                    .bind(anomaly)
            }
            Action::Close => {
                let sql = "UPDATE anomalies SET state = 'closed', normal = $2 WHERE number = $1 AND state <> 'closed'";
                sqlx::query(sql).bind(anomaly).bind(normal)
            }
        };
        // Whoever decides about it at the same time waits here for the other one.
        let changed = query.execute(&mut *connection).await?.rows_affected() > 0;
        if is_new && !changed {
            return Ok(Some(*anomaly));
        }
    }
    Ok(None)
}

impl PostgresWarm {
    async fn keep_anomalies(&self, anomalies: &[Anomaly], keep_from: Timestamp) -> Result<(), TierError> {
        let mut transaction = self.begin().await?;
        for one in anomalies {
            let query = if one.number == 0 {
                let sql = "INSERT INTO anomalies (last_at, end_at, severity, expected, seen, detail, series_id, kind, \
                           start_at, state, normal) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, false) \
                           ON CONFLICT DO NOTHING";
                sqlx::query(sql)
            } else {
                sqlx::query(
                    "UPDATE anomalies SET last_at = $1, end_at = $2, severity = $3, expected = $4, seen = $5, \
                     detail = $6 WHERE number = $7",
                )
            };
            let query = query.bind(PgTime::bounded(one.last)).bind(one.end.map(PgTime::bounded));
            let query = query.bind(one.severity.as_str()).bind(one.expected).bind(one.seen).bind(text(&one.detail));
            let query = match one.number {
                0 => {
                    let query = query.bind(number(one.series)).bind(one.kind.as_str());
                    query.bind(PgTime::bounded(one.start)).bind(one.state.as_str())
                }
                number => query.bind(number),
            };
            query.execute(&mut *transaction).await.map_err(failed)?;
        }
        for sql in [
            "DELETE FROM anomaly_notes WHERE anomaly IN (SELECT number FROM anomalies WHERE end_at < $1)",
            "DELETE FROM anomalies WHERE end_at < $1",
        ] {
            let query = sqlx::query(sql).bind(PgTime::bounded(keep_from));
            query.execute(&mut *transaction).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    async fn list_anomalies(&self, wanted: &Wanted) -> Result<Vec<Anomaly>, TierError> {
        let sql = "SELECT * FROM anomalies WHERE ($1::bigint IS NULL OR number = $1) \
                   AND ($2::integer[] IS NULL OR series_id = ANY ($2)) \
                   AND ($3::text IS NULL OR kind = $3) AND ($4::text IS NULL OR state = $4) \
                   AND (end_at IS NULL OR last_at >= $5) AND start_at < $6 AND ($8::text IS NULL OR severity = $8) \
                   AND ($9::timestamptz IS NULL OR (start_at, number) < ($9, $10::bigint)) \
                   ORDER BY start_at DESC, number DESC LIMIT $7";
        let series = wanted.series.as_ref().map(|all| all.iter().copied().map(number).collect::<Vec<i32>>());
        let query = sqlx::query(sql).bind(wanted.number).bind(series);
        let query = query.bind(wanted.kind.map(Kind::as_str)).bind(wanted.state.map(State::as_str));
        let query = query.bind(PgTime::bounded(wanted.from)).bind(PgTime::bounded(wanted.to));
        let query = query.bind(i64::from(wanted.count_max)).bind(wanted.severity.map(Severity::as_str));
        let query = query.bind(wanted.before.map(|(start, _)| PgTime::bounded(start)));
        let query = query.bind(wanted.before.map(|(_, number)| number));
        let mut connection = self.primary().await?;
        let rows = query.fetch_all(&mut *connection).await.map_err(failed)?;
        let mut found = rows.iter().map(anomaly).collect::<Result<Vec<_>, _>>()?;
        let numbers: Vec<i64> = found.iter().map(|one| one.number).collect();
        let sql = "SELECT * FROM anomaly_notes WHERE anomaly = ANY ($1) ORDER BY at, what";
        let rows = sqlx::query(sql).bind(numbers).fetch_all(&mut *connection).await.map_err(failed)?;
        hand_out(&mut found, rows.iter().map(note).collect::<Result<Vec<_>, _>>()?);
        Ok(found)
    }
}

impl AnomalyStore for PostgresWarm {
    fn put_anomalies<'a>(&'a self, anomalies: &'a [Anomaly], keep_from: Timestamp) -> TierFuture<'a, ()> {
        Box::pin(self.keep_anomalies(anomalies, keep_from))
    }

    fn find_anomalies<'a>(&'a self, wanted: &'a Wanted) -> TierFuture<'a, Vec<Anomaly>> {
        Box::pin(self.list_anomalies(wanted))
    }
}
