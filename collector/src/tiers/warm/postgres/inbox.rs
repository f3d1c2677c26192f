//! Inboxes in PostgreSQL: our own table, and what is kept of all.

use super::PostgresWarm;
use super::fault::{Failure, failed};
use super::rows::{get, strange, text};
use super::time::PgTime;
use crate::inbox::OWN;
use crate::inbox::rows::{CELL_MAX, Line};
use crate::inbox::store::{ForeignTables, InboxNews, InboxStore, Mark, REJECTS_MAX, Rejected, Waiting};
use crate::tiers::{TierError, TierFuture};
use shared::ids::GatewayId;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

/// Notes what was taken.
pub(super) async fn take(connection: &mut PgConnection, news: &InboxNews) -> Result<(), Failure> {
    if !news.taken.is_empty() {
        let query = sqlx::query("DELETE FROM inbox WHERE number = ANY($1)").bind(&news.taken);
        query.execute(&mut *connection).await?;
    }
    for mark in &news.marks {
        let sql = "INSERT INTO inbox_marks AS m (source, node, until) VALUES ($1, $2, $3) \
                   ON CONFLICT (source, node) DO UPDATE SET until = greatest(m.until, excluded.until)";
        let query = sqlx::query(sql).bind(mark.source.as_str()).bind(&mark.node).bind(&mark.until);
        query.execute(&mut *connection).await?;
    }
    for one in &news.rejected {
        let sql = "INSERT INTO inbox_rejects (source, at, reason, line) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        let query = sqlx::query(sql).bind(one.source.as_str()).bind(PgTime::bounded(one.at));
        query.bind(text(&one.reason)).bind(text(&one.text)).execute(&mut *connection).await?;
    }
    if news.dropped.is_empty() {
        return Ok(());
    }
    for one in &news.dropped {
        // Rows of ours are gone. Those of others' tables are still there and will be read again.
        let sql = match one.source.as_str() {
            OWN => "DELETE FROM inbox_rejects WHERE source = $1 AND line = $2 AND reason = $3",
            _ => "UPDATE inbox_rejects SET dropped = 1 WHERE source = $1 AND line = $2 AND reason = $3",
        };
        let query = sqlx::query(sql).bind(one.source.as_str()).bind(text(&one.text)).bind(text(&one.reason));
        query.execute(&mut *connection).await?;
    }
    let sql = "DELETE FROM inbox_rejects WHERE number IN \
               (SELECT number FROM inbox_rejects WHERE dropped = 1 ORDER BY number DESC OFFSET $1)";
    sqlx::query(sql).bind(i64::from(REJECTS_MAX)).execute(connection).await?;
    Ok(())
}

fn waiting(row: &PgRow) -> Result<Waiting, TierError> {
    let mut cells: [String; 8] = Default::default();
    for (n, cell) in cells.iter_mut().enumerate() {
        *cell = row.try_get::<Option<String>, _>(n + 1).map_err(failed)?.unwrap_or_default();
    }
    Ok(Waiting { number: row.try_get(0).map_err(failed)?, line: Line(cells) })
}

impl InboxStore for PostgresWarm {
    fn waiting(&self, after: i64, count_max: u32) -> TierFuture<'_, Vec<Waiting>> {
        self.soon(Box::pin(async move {
            let sql = "SELECT number, left(ts, $1), left(node, $1), left(metric, $1), left(channel, $1), value::text, \
                       left(unit, $1), left(quality, $1), revision::text \
                       FROM inbox WHERE number > $2 ORDER BY number LIMIT $3";
            let query = sqlx::query(sql).bind(CELL_MAX as i32).bind(after).bind(i64::from(count_max));
            let rows = query.fetch_all(&mut *self.primary().await?).await.map_err(failed)?;
            rows.iter().map(waiting).collect()
        }))
    }

    fn rejects<'a>(&'a self, source: &'a GatewayId) -> TierFuture<'a, u64> {
        self.soon(Box::pin(async move {
            let sql = "SELECT count(*) FROM inbox_rejects WHERE source = $1 AND dropped = 0";
            let query = sqlx::query_scalar::<_, i64>(sql).bind(source.as_str());
            let waiting = query.fetch_one(&mut *self.primary().await?).await.map_err(failed)?;
            Ok(waiting.unsigned_abs())
        }))
    }

    fn rejected(&self, count_max: u32) -> TierFuture<'_, Vec<Rejected>> {
        self.soon(Box::pin(async move {
            let sql =
                "SELECT source, at, reason, line FROM inbox_rejects WHERE dropped = 0 ORDER BY number DESC LIMIT $1";
            let query = sqlx::query(sql).bind(i64::from(count_max));
            let rows = query.fetch_all(&mut *self.primary().await?).await.map_err(failed)?;
            let rejected = |row| {
                Ok(Rejected {
                    source: GatewayId::new(get(row, "source")?).map_err(strange)?,
                    at: get::<PgTime>(row, "at")?.0,
                    reason: get(row, "reason")?,
                    text: get(row, "line")?,
                })
            };
            rows.iter().map(rejected).collect()
        }))
    }

    fn marks<'a>(&'a self, source: &'a GatewayId) -> TierFuture<'a, Vec<Mark>> {
        self.soon(Box::pin(async move {
            let query = sqlx::query("SELECT node, until FROM inbox_marks WHERE source = $1").bind(source.as_str());
            let rows = query.fetch_all(&mut *self.primary().await?).await.map_err(failed)?;
            let mark = |row| Ok(Mark { source: source.clone(), node: get(row, "node")?, until: get(row, "until")? });
            rows.iter().map(mark).collect()
        }))
    }

    fn foreign(&self) -> Option<&dyn ForeignTables> {
        Some(self)
    }
}
