//! What people changed, in PostgreSQL.

use super::PostgresWarm;
use super::fault::{Failure, failed};
use super::rows::{get, strange, text};
use super::time::PgTime;
use crate::tiers::{Audited, TierError};
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
    pub(super) async fn list_audit(&self, count_max: u32) -> Result<Vec<Audited>, TierError> {
        let sql = "SELECT at, who, what, detail FROM audit ORDER BY number DESC LIMIT $1";
        let rows = sqlx::query(sql).bind(i64::from(count_max));
        let rows = rows.fetch_all(&mut *self.primary().await?).await.map_err(failed)?;
        let audited = |row| {
            let detail: String = get(row, "detail")?;
            Ok(Audited {
                at: get::<PgTime>(row, "at")?.0,
                who: get(row, "who")?,
                what: get(row, "what")?,
                detail: serde_json::from_str(&detail).map_err(strange)?,
            })
        };
        rows.iter().map(audited).collect()
    }
}
