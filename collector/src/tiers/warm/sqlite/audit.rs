//! What people changed, in SQLite.

use super::rows::get;
use super::{SqliteWarm, broken, failed};
use crate::tiers::{AuditWanted, Audited, TierError};
use shared::reading::Timestamp;
use sqlx::SqliteConnection;

pub(super) async fn put(connection: &mut SqliteConnection, audit: &[Audited]) -> Result<(), TierError> {
    for one in audit {
        let sql = "INSERT INTO audit (at, who, what, detail) VALUES (?, ?, ?, ?)";
        let query = sqlx::query(sql).bind(one.at.0).bind(&one.who).bind(&one.what).bind(one.detail.to_string());
        query.execute(&mut *connection).await.map_err(failed)?;
    }
    Ok(())
}

impl SqliteWarm {
    pub(super) async fn list_audit(&self, wanted: &AuditWanted) -> Result<Vec<(i64, Audited)>, TierError> {
        let sql = "SELECT number, at, who, what, detail FROM audit WHERE (?1 IS NULL OR who = ?1) \
                   AND (?2 IS NULL OR what = ?2) AND (?3 IS NULL OR number < ?3) ORDER BY number DESC LIMIT ?4";
        let query = sqlx::query(sql).bind(&wanted.who).bind(&wanted.what).bind(wanted.before);
        let rows = query.bind(wanted.count_max).fetch_all(self.reader().await?).await.map_err(failed)?;
        let audited = |row| {
            let detail: String = get(row, "detail")?;
            let audited = Audited {
                at: Timestamp(get(row, "at")?),
                who: get(row, "who")?,
                what: get(row, "what")?,
                detail: serde_json::from_str(&detail).map_err(broken)?,
            };
            Ok((get(row, "number")?, audited))
        };
        rows.iter().map(audited).collect()
    }
}
