//! What people changed, in SQLite.

use super::rows::get;
use super::{SqliteWarm, broken, failed};
use crate::tiers::{Audited, TierError};
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
    pub(super) async fn list_audit(&self, count_max: u32) -> Result<Vec<Audited>, TierError> {
        let sql = "SELECT at, who, what, detail FROM audit ORDER BY number DESC LIMIT ?";
        let rows = sqlx::query(sql).bind(count_max).fetch_all(&self.read).await.map_err(failed)?;
        let audited = |row| {
            let detail: String = get(row, "detail")?;
            Ok(Audited {
                at: Timestamp(get(row, "at")?),
                who: get(row, "who")?,
                what: get(row, "what")?,
                detail: serde_json::from_str(&detail).map_err(broken)?,
            })
        };
        rows.iter().map(audited).collect()
    }
}
