//! What people changed, in PostgreSQL.

use super::PostgresWarm;
use super::fault::{Failure, failed};
use super::rows::{get, strange, text};
use super::time::PgTime;
use crate::tiers::{AuditWanted, Audited, TierError};
use sqlx::PgConnection;

pub(super) async fn put(connection: &mut PgConnection, audit: &[Audited]) -> Result<(), Failure> {
    for one in audit {
        let sql = "INSERT INTO audit (at, who, what, detail) VALUES ($1, $2, $3, $4)";
        let query = sqlx::query(sql).bind(PgTime::bounded(one.at)).bind(text(&one.who)).bind(text(&one.what));
        query.bind(text(&one.detail.to_string())).execute(&mut *connection).await?;
    }
    Ok(())
}

impl PostgresWarm {
    pub(super) async fn list_audit(&self, wanted: &AuditWanted) -> Result<Vec<(i64, Audited)>, TierError> {
        let sql = "SELECT number, at, who, what, detail FROM audit WHERE ($1::text IS NULL OR who = $1) \
                   AND ($2::text IS NULL OR what = $2) AND ($3::bigint IS NULL OR number < $3) \
                   ORDER BY number DESC LIMIT $4";
        let (who, what) = (wanted.who.as_deref().map(text), wanted.what.as_deref().map(text));
        let rows = sqlx::query(sql).bind(who).bind(what).bind(wanted.before).bind(i64::from(wanted.count_max));
        let rows = rows.fetch_all(&mut *self.primary().await?).await.map_err(failed)?;
        let audited = |row| {
            let detail: String = get(row, "detail")?;
            let audited = Audited {
                at: get::<PgTime>(row, "at")?.0,
                who: get(row, "who")?,
                what: get(row, "what")?,
                detail: serde_json::from_str(&detail).map_err(strange)?,
            };
            Ok((get(row, "number")?, audited))
        };
        rows.iter().map(audited).collect()
    }
}
