//! Inboxes in SQLite.

use super::rows::{get, narrow};
use super::{SqliteWarm, broken, failed};
use crate::inbox::OWN;
use crate::inbox::rows::{CELL_MAX, Line};
use crate::inbox::store::{ForeignTables, InboxNews, InboxStore, Mark, REJECTS_MAX, Rejected, Waiting};
use crate::tiers::{TierError, TierFuture};
use shared::ids::GatewayId;
use shared::reading::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

/// As bytes: the text functions of SQLite end a text at a byte that is zero, and a row would say something else then.
const WAITING: &str = "SELECT number, substr(CAST(ts AS BLOB), 1, ?1), substr(CAST(node AS BLOB), 1, ?1), \
    substr(CAST(metric AS BLOB), 1, ?1), substr(CAST(channel AS BLOB), 1, ?1), value, substr(CAST(unit AS BLOB), 1, ?1), \
    substr(CAST(quality AS BLOB), 1, ?1), CAST(CAST(revision AS TEXT) AS BLOB) \
    FROM inbox WHERE number > ?2 ORDER BY number LIMIT ?3";

/// Notes what was taken.
pub(super) async fn take(connection: &mut SqliteConnection, news: &InboxNews) -> Result<(), TierError> {
    if !news.taken.is_empty() {
        let numbers = serde_json::to_string(&news.taken).map_err(broken)?;
        let query = sqlx::query("DELETE FROM inbox WHERE number IN (SELECT value FROM json_each(?))").bind(numbers);
        query.execute(&mut *connection).await.map_err(failed)?;
    }
    for mark in &news.marks {
        let sql = "INSERT INTO inbox_marks (source, node, until) VALUES (?, ?, ?) \
                   ON CONFLICT DO UPDATE SET until = max(until, excluded.until)";
        let query = sqlx::query(sql).bind(mark.source.as_str()).bind(&mark.node).bind(&mark.until);
        query.execute(&mut *connection).await.map_err(failed)?;
    }
    for one in &news.rejected {
        let sql = "INSERT INTO inbox_rejects (source, at, reason, line) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING";
        let query = sqlx::query(sql).bind(one.source.as_str()).bind(one.at.0).bind(&one.reason).bind(&one.text);
        query.execute(&mut *connection).await.map_err(failed)?;
    }
    if news.dropped.is_empty() {
        return Ok(());
    }
    for one in &news.dropped {
        // Rows of ours are gone. Those of others' tables are still there and will be read again.
        let sql = match one.source.as_str() {
            OWN => "DELETE FROM inbox_rejects WHERE source = ? AND line = ? AND reason = ?",
            _ => "UPDATE inbox_rejects SET dropped = 1 WHERE source = ? AND line = ? AND reason = ?",
        };
        let query = sqlx::query(sql).bind(one.source.as_str()).bind(&one.text).bind(&one.reason);
        query.execute(&mut *connection).await.map_err(failed)?;
    }
    let sql = "DELETE FROM inbox_rejects WHERE number IN \
               (SELECT number FROM inbox_rejects WHERE dropped = 1 ORDER BY number DESC LIMIT -1 OFFSET ?)";
    sqlx::query(sql).bind(REJECTS_MAX).execute(connection).await.map_err(failed)?;
    Ok(())
}

fn waiting(row: &SqliteRow) -> Result<Waiting, TierError> {
    let bytes =
        |at: usize| Ok::<_, TierError>(row.try_get::<Option<Vec<u8>>, _>(at).map_err(failed)?.unwrap_or_default());
    let text = |at: usize| Ok::<_, TierError>(String::from_utf8_lossy(&bytes(at)?).into_owned());
    let value: Option<f64> = row.try_get(5).map_err(failed)?;
    let value = value.map_or_else(String::new, |value| value.to_string());
    let cells = [text(1)?, text(2)?, text(3)?, text(4)?, value, text(6)?, text(7)?, text(8)?];
    Ok(Waiting { number: row.try_get(0).map_err(failed)?, line: Line(cells) })
}

impl InboxStore for SqliteWarm {
    fn waiting(&self, after: i64, count_max: u32) -> TierFuture<'_, Vec<Waiting>> {
        Box::pin(async move {
            let query = sqlx::query(WAITING).bind(CELL_MAX as i64).bind(after).bind(count_max);
            query.fetch_all(self.reader().await?).await.map_err(failed)?.iter().map(waiting).collect()
        })
    }

    fn rejects<'a>(&'a self, source: &'a GatewayId) -> TierFuture<'a, u64> {
        Box::pin(async move {
            let sql = "SELECT count(*) AS waiting FROM inbox_rejects WHERE source = ? AND dropped = 0";
            let query = sqlx::query(sql).bind(source.as_str());
            narrow(&query.fetch_one(self.reader().await?).await.map_err(failed)?, "waiting")
        })
    }

    fn rejected(&self, count_max: u32) -> TierFuture<'_, Vec<Rejected>> {
        Box::pin(async move {
            let sql =
                "SELECT source, at, reason, line FROM inbox_rejects WHERE dropped = 0 ORDER BY number DESC LIMIT ?";
            let rows = sqlx::query(sql).bind(count_max).fetch_all(self.reader().await?).await.map_err(failed)?;
            let rejected = |row| {
                Ok(Rejected {
                    source: GatewayId::new(&get::<String>(row, "source")?).map_err(broken)?,
                    at: Timestamp(get(row, "at")?),
                    reason: get(row, "reason")?,
                    text: get(row, "line")?,
                })
            };
            rows.iter().map(rejected).collect()
        })
    }

    fn marks<'a>(&'a self, source: &'a GatewayId) -> TierFuture<'a, Vec<Mark>> {
        Box::pin(async move {
            let query = sqlx::query("SELECT node, until FROM inbox_marks WHERE source = ?").bind(source.as_str());
            let rows = query.fetch_all(self.reader().await?).await.map_err(failed)?;
            let mark = |row| Ok(Mark { source: source.clone(), node: get(row, "node")?, until: get(row, "until")? });
            rows.iter().map(mark).collect()
        })
    }

    fn foreign(&self) -> Option<&dyn ForeignTables> {
        None
    }
}
