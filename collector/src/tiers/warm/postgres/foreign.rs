//! Tables of other producers in our database. Everything is read as text, whatever its type.

use super::fault::{broken, failed};
use super::pools::{self, Use};
use super::{PostgresWarm, named};
use crate::inbox::rows::CELL_MAX;
use crate::inbox::settings::{ForeignInbox, quoted};
use crate::inbox::store::{ForeignRow, ForeignTables, NODES_MAX, Shape, Since, Which};
use crate::tiers::warm::settings::WarmSettings;
use crate::tiers::{TierError, TierFuture};
use shared::reading::Timestamp;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use std::collections::BTreeMap;

const WITH_ZONE: &str = "with time zone";
const WITHOUT_ZONE: &str = "without time zone";

impl PostgresWarm {
    /// Looks whether these tables can be read as they are mapped, and changes nothing.
    ///
    /// # Errors
    /// When the server can't be asked.
    pub async fn check_foreign(
        settings: &WarmSettings,
        tables: &[ForeignInbox],
    ) -> Result<Vec<Result<(), TierError>>, TierError> {
        let mut connection = pools::connect(settings, Use::Read).await.map_err(|error| named(settings, error))?;
        let mut found = Vec::with_capacity(tables.len());
        for table in tables {
            found.push(look_at(&mut connection, table).await.map(drop));
        }
        Ok(found)
    }

    /// From one node to the next by their index, if there is one: a table may have millions of rows of each.
    async fn foreign_nodes(&self, table: &ForeignInbox) -> Result<Vec<String>, TierError> {
        let (node, from) = (quoted(&table.node), table.quoted_table());
        let sql = format!(
            "WITH RECURSIVE n AS ( \
                 (SELECT {node} AS node FROM {from} WHERE {node} IS NOT NULL ORDER BY {node} LIMIT 1) \
                 UNION ALL \
                 SELECT (SELECT t.{node} FROM {from} AS t WHERE t.{node} > n.node ORDER BY t.{node} LIMIT 1) \
                 FROM n WHERE n.node IS NOT NULL) \
             SELECT node::text FROM n WHERE node IS NOT NULL LIMIT $1"
        );
        let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(i64::from(NODES_MAX));
        query.fetch_all(&mut *self.primary().await?).await.map_err(failed)
    }

    async fn read_rows(
        &self,
        table: &ForeignInbox,
        shape: &Shape,
        which: Which<'_>,
        count_max: u32,
    ) -> Result<Vec<ForeignRow>, TierError> {
        let (node, time) = (quoted(&table.node), quoted(&table.time));
        let cells: String = table.read_columns().map(|(key, name)| format!(", {}", cell(key, &quoted(name)))).collect();
        // What is compared has the column's own type, so that an index helps.
        let of_node = format!("{node} = $2::text::{}", shape.node);
        let moment = if shape.is_local { "timestamp" } else { "timestamptz" };
        let wanted = match which {
            Which::Of { since: Since::Ever, .. } => {
                format!("{of_node} AND {time} <= $3::text::{moment} ORDER BY {time}")
            }
            Which::Of { since: Since::Before(..), .. } => format!(
                "{of_node} AND {time} <= $3::text::{moment} \
                 AND {time} >= $4::text::{moment} - make_interval(secs => $5) ORDER BY {time}"
            ),
            Which::Astray { .. } => format!("{of_node} AND ({time} IS NULL OR {time} > $3::text::{moment})"),
            Which::Nowhere => format!("{node} IS NULL"),
        };
        let sql = format!("SELECT {time}::text{cells} FROM {} WHERE {wanted} LIMIT $1", table.quoted_table());
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(i64::from(count_max));
        if let Which::Of { node, until, .. } | Which::Astray { node, until } = which {
            query = query.bind(node).bind(as_there(until, shape, table)?);
        }
        if let Which::Of { since: Since::Before(mark, back), .. } = which {
            query = query.bind(mark).bind(back.as_secs_f64());
        }
        let rows = query.fetch_all(&mut *self.primary().await?).await.map_err(failed)?;
        let row = |row: &sqlx::postgres::PgRow| {
            let cell = |n| Ok(row.try_get::<Option<String>, _>(n).map_err(failed)?.unwrap_or_default());
            let cells = (1..row.len()).map(cell).collect::<Result<_, TierError>>()?;
            Ok(ForeignRow { time: cell(0)?, cells })
        };
        rows.iter().map(row).collect()
    }
}

/// A column as text. A flag of one byte, type "char", is an empty text when it is zero, and that is not the same as none.
fn cell(key: &str, name: &str) -> String {
    let text = format!("left({name}::text, {CELL_MAX})");
    match key {
        "quality" => format!(
            "CASE WHEN {name}::text = '' AND pg_typeof({name}) = '\"char\"'::regtype THEN '\\000' ELSE {text} END"
        ),
        _ => text,
    }
}

async fn look_at(connection: &mut PgConnection, table: &ForeignInbox) -> Result<Shape, TierError> {
    let wrong = |key: &str, why: String| broken(format!("{}: {why}", table.key(key)));
    let sql = "SELECT to_regclass($1)::oid::bigint";
    let query = sqlx::query_scalar(sql).bind(table.quoted_table());
    let number: Option<i64> = query.fetch_one(&mut *connection).await.map_err(failed)?;
    let number = number.ok_or_else(|| wrong("table", format!("there is no table {}", table.table)))?;
    let sql = "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute \
               WHERE attrelid = $1::bigint::oid AND attnum > 0 AND NOT attisdropped";
    let query = sqlx::query_as(sql).bind(number);
    let all: Vec<(String, String)> = query.fetch_all(&mut *connection).await.map_err(failed)?;
    let columns: BTreeMap<&str, &str> = all.iter().map(|(name, kind)| (name.as_str(), kind.as_str())).collect();
    let kind = |key: &str, name: &str| {
        let missing = || wrong(key, format!("{} has no column {name}", table.table));
        columns.get(name).copied().ok_or_else(missing)
    };
    for (key, name) in table.read_columns() {
        kind(key, name)?;
    }
    let (node, time) = (kind("node", &table.node)?, kind("time", &table.time)?);
    let is_local = time.ends_with(WITHOUT_ZONE);
    if !time.starts_with("timestamp") || !(is_local || time.ends_with(WITH_ZONE)) {
        return Err(wrong("time", format!("column {} is {time}, and must be a timestamp", table.time)));
    }
    if is_local && table.zone.is_none() {
        let why = format!("column {} has no time zone: say which, like \"Europe/Rome\"", table.time);
        return Err(wrong("zone", why));
    }
    Ok(Shape { node: node.to_owned(), is_local })
}

/// A moment as it would stand in the table.
fn as_there(at: Timestamp, shape: &Shape, table: &ForeignInbox) -> Result<String, TierError> {
    let Some(zone) = table.zone.as_deref().filter(|_| shape.is_local) else { return Ok(at.to_string()) };
    let zoned = jiff::Timestamp::from_microsecond(at.0).and_then(|at| at.in_tz(zone));
    let zoned = zoned.map_err(|error| broken(format!("{}: {error}", table.key("zone"))))?;
    Ok(zoned.datetime().to_string())
}

impl ForeignTables for PostgresWarm {
    fn shape<'a>(&'a self, table: &'a ForeignInbox) -> TierFuture<'a, Shape> {
        self.soon(Box::pin(async move { look_at(&mut *self.primary().await?, table).await }))
    }

    fn nodes<'a>(&'a self, table: &'a ForeignInbox) -> TierFuture<'a, Vec<String>> {
        self.soon(Box::pin(self.foreign_nodes(table)))
    }

    fn rows<'a>(
        &'a self,
        table: &'a ForeignInbox,
        shape: &'a Shape,
        which: Which<'a>,
        count_max: u32,
    ) -> TierFuture<'a, Vec<ForeignRow>> {
        self.soon(Box::pin(self.read_rows(table, shape, which, count_max)))
    }
}
