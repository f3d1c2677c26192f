//! Whole tables as they lie, for [`super::super::transfer`].

use super::{SqliteWarm, broken, failed};
use crate::tiers::TierError;
use crate::tiers::warm::transfer::{Cell, Table};
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use shared::ids::hex;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _, TypeInfo as _, ValueRef as _};

impl SqliteWarm {
    /// All tables but SQLite's own and the list of migrations.
    pub(in crate::tiers::warm) async fn tables(&self) -> Result<Vec<Table>, TierError> {
        let sql = "SELECT t.name, json_group_array(c.name) \
                   FROM sqlite_schema AS t JOIN pragma_table_info(t.name) AS c \
                   WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite!_%' ESCAPE '!' AND t.name NOT LIKE '!_%' ESCAPE '!' \
                   GROUP BY t.name ORDER BY t.name";
        let rows = sqlx::query_as::<_, (String, String)>(sql).fetch_all(self.reader().await?).await.map_err(failed)?;
        let tables = rows
            .into_iter()
            .map(|(name, columns)| Ok(Table { name, columns: serde_json::from_str(&columns).map_err(broken)? }));
        tables.collect()
    }

    /// How many rows a table has.
    pub(in crate::tiers::warm) async fn count(&self, table: &Table) -> Result<u64, TierError> {
        let sql = format!("SELECT count(*) FROM \"{}\"", table.name);
        let count: i64 =
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(self.reader().await?).await.map_err(failed)?;
        Ok(count.cast_unsigned())
    }

    /// The rows of a table, in the order of its columns.
    pub(in crate::tiers::warm) fn rows_of<'a>(
        &'a self,
        table: &Table,
        after: u64,
    ) -> BoxStream<'a, Result<Vec<Cell>, TierError>> {
        let columns = table.columns.join("\", \"");
        let sql = format!("SELECT \"{columns}\" FROM \"{}\" LIMIT -1 OFFSET {after}", table.name);
        let columns = table.columns.len();
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch(&self.read).map_err(failed);
        rows.and_then(move |row| std::future::ready(cells(&row, columns))).boxed()
    }
}

fn cells(row: &SqliteRow, columns: usize) -> Result<Vec<Cell>, TierError> {
    (0..columns).map(|column| cell(row, column)).collect()
}

/// By what is stored: the tables are STRICT, so that is what the column is declared as.
fn cell(row: &SqliteRow, column: usize) -> Result<Cell, TierError> {
    let raw = row.try_get_raw(column).map_err(failed)?;
    if raw.is_null() {
        return Ok(None);
    }
    let kind = raw.type_info().name().to_owned();
    let text = match kind.as_str() {
        "INTEGER" => row.try_get::<i64, _>(column).map(|n| n.to_string()),
        "REAL" => row.try_get::<f64, _>(column).map(|x| x.to_string()),
        "TEXT" => row.try_get::<String, _>(column),
        "BLOB" => row.try_get::<Vec<u8>, _>(column).map(|bytes| hex(&bytes)),
        other => return Err(broken(format!("a column holds a {other}"))),
    };
    text.map(Some).map_err(failed)
}
