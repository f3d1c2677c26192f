//! Anomalies in SQLite.

use super::rows::{get, narrow};
use super::{SqliteWarm, broken, failed};
use crate::analytics::anomaly::{Kind, Severity};
use crate::analytics::store::{Action, Anomaly, AnomalyStore, Judgement, Note, State, Wanted};
use crate::tiers::warm::rules::{hand_out, to_json};
use crate::tiers::{SeriesId, TierError, TierFuture};
use shared::reading::Timestamp;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

/// A name that is stored.
fn named<T>(row: &SqliteRow, column: &'static str, parse: fn(&str) -> Option<T>) -> Result<T, TierError> {
    let text: &str = get(row, column)?;
    parse(text).ok_or_else(|| broken(format!("anomalies.{column} is '{text}'")))
}

fn anomaly(row: &SqliteRow) -> Result<Anomaly, TierError> {
    Ok(Anomaly {
        number: get(row, "number")?,
        series: SeriesId(narrow(row, "series_id")?),
        kind: named(row, "kind", Kind::parse)?,
        start: Timestamp(get(row, "start_at")?),
        last: Timestamp(get(row, "last_at")?),
        end: get::<Option<i64>>(row, "end_at")?.map(Timestamp),
        severity: named(row, "severity", Severity::parse)?,
        expected: get(row, "expected")?,
        seen: get(row, "seen")?,
        detail: get(row, "detail")?,
        state: named(row, "state", State::parse)?,
        normal: get(row, "normal")?,
        notes: Vec::new(),
    })
}

fn note(row: &SqliteRow) -> Result<(i64, Note), TierError> {
    let (at, who, comment) = (Timestamp(get(row, "at")?), get(row, "who")?, get(row, "comment")?);
    Ok((get(row, "anomaly")?, Note { at, who, what: named(row, "what", Action::parse)?, comment }))
}

/// Writes down what people decide; gives an anomaly about which something else was decided before.
pub(super) async fn judge(
    connection: &mut SqliteConnection,
    judgements: &[Judgement],
) -> Result<Option<i64>, TierError> {
    for Judgement { anomaly, note, normal } in judgements {
        let sql = "INSERT INTO anomaly_notes (anomaly, at, who, what, comment) VALUES (?, ?, ?, ?, ?) \
                   ON CONFLICT DO NOTHING";
        let query = sqlx::query(sql).bind(anomaly).bind(note.at.0).bind(&note.who).bind(note.what.as_str());
        // One that is there is of a commit that is repeated.
        let is_new = query.bind(&note.comment).execute(&mut *connection).await.map_err(failed)?.rows_affected() > 0;
        let query = match note.what {
            Action::Comment => continue,
            Action::Acknowledge => {
                sqlx::query("UPDATE anomalies SET state = 'acknowledged' WHERE number = ? AND state = 'open'")
            }
            Action::Close => {
                let sql = "UPDATE anomalies SET state = 'closed', normal = ? WHERE number = ? AND state <> 'closed'";
                sqlx::query(sql).bind(*normal)
            }
        };
        let changed = query.bind(anomaly).execute(&mut *connection).await.map_err(failed)?.rows_affected() > 0;
        if is_new && !changed {
            return Ok(Some(*anomaly));
        }
    }
    Ok(None)
}

impl SqliteWarm {
    async fn keep_anomalies(&self, anomalies: &[Anomaly], keep_from: Timestamp) -> Result<(), TierError> {
        let mut transaction = self.begin().await?;
        for one in anomalies {
            let (end, severity) = (one.end.map(|end| end.0), one.severity.as_str());
            let query = if one.number == 0 {
                let sql = "INSERT INTO anomalies (last_at, end_at, severity, expected, seen, detail, series_id, kind, \
                           start_at, state, normal) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT DO NOTHING";
                sqlx::query(sql)
            } else {
                sqlx::query(
                    "UPDATE anomalies SET last_at = ?, end_at = ?, severity = ?, expected = ?, seen = ?, detail = ? \
                     WHERE number = ?",
                )
            };
            let query = query.bind(one.last.0).bind(end).bind(severity).bind(one.expected).bind(one.seen);
            let query = query.bind(&one.detail);
            let query = match one.number {
                0 => query.bind(one.series.0).bind(one.kind.as_str()).bind(one.start.0).bind(one.state.as_str()),
                number => query.bind(number),
            };
            query.execute(&mut *transaction).await.map_err(failed)?;
        }
        for sql in [
            "DELETE FROM anomaly_notes WHERE anomaly IN (SELECT number FROM anomalies WHERE end_at < ?)",
            "DELETE FROM anomalies WHERE end_at < ?",
        ] {
            sqlx::query(sql).bind(keep_from.0).execute(&mut *transaction).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    async fn list_anomalies(&self, wanted: &Wanted) -> Result<Vec<Anomaly>, TierError> {
        let sql = "SELECT * FROM anomalies WHERE (?1 IS NULL OR number = ?1) \
                   AND (?2 IS NULL OR series_id IN (SELECT value FROM json_each(?2))) \
                   AND (?3 IS NULL OR kind = ?3) AND (?4 IS NULL OR state = ?4) \
                   AND (end_at IS NULL OR last_at >= ?5) AND start_at < ?6 AND (?8 IS NULL OR severity = ?8) \
                   AND (?9 IS NULL OR (start_at, number) < (?9, ?10)) ORDER BY start_at DESC, number DESC LIMIT ?7";
        let query = sqlx::query(sql).bind(wanted.number).bind(wanted.series.as_ref().map(to_json));
        let query = query.bind(wanted.kind.map(Kind::as_str)).bind(wanted.state.map(State::as_str));
        let query = query.bind(wanted.from.0).bind(wanted.to.0).bind(wanted.count_max);
        let query = query.bind(wanted.severity.map(Severity::as_str));
        let query = query.bind(wanted.before.map(|(start, _)| start.0)).bind(wanted.before.map(|(_, number)| number));
        let rows = query.fetch_all(self.reader().await?).await.map_err(failed)?;
        let mut found = rows.iter().map(anomaly).collect::<Result<Vec<_>, _>>()?;
        let numbers: Vec<i64> = found.iter().map(|one| one.number).collect();
        let sql = "SELECT * FROM anomaly_notes WHERE anomaly IN (SELECT value FROM json_each(?)) ORDER BY at, what";
        let rows = sqlx::query(sql).bind(to_json(&numbers)).fetch_all(self.reader().await?).await.map_err(failed)?;
        let notes = rows.iter().map(note).collect::<Result<Vec<_>, _>>()?;
        hand_out(&mut found, notes);
        Ok(found)
    }
}

impl AnomalyStore for SqliteWarm {
    fn put_anomalies<'a>(&'a self, anomalies: &'a [Anomaly], keep_from: Timestamp) -> TierFuture<'a, ()> {
        Box::pin(self.keep_anomalies(anomalies, keep_from))
    }

    fn find_anomalies<'a>(&'a self, wanted: &'a Wanted) -> TierFuture<'a, Vec<Anomaly>> {
        Box::pin(self.list_anomalies(wanted))
    }
}
