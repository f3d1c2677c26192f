//! Whole tables and days from another warm tier, for [`super::super::transfer`].
//!
//! What has come over is written into the table `moved`, in the transaction that brings it, so that a transfer which was
//! interrupted goes on where it was.

use super::fault::{failed, unavailable};
use super::{PostgresWarm, copy};
use crate::tiers::warm::transfer::{Cell, Table};
use crate::tiers::{Day, Proof, Runs, StoredReading, TierError};
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Row as _};

/// Rows that are written by one statement.
const ROWS: usize = 2_000;
/// Rows of one transaction: so many are moved again when it is interrupted.
const ROWS_AT_ONCE: u64 = 20_000;
/// Readings that are written by one statement.
const READINGS: usize = 50_000;

const MARKS: &str = "CREATE TABLE IF NOT EXISTS moved (what text PRIMARY KEY, rows bigint NOT NULL, xor bigint)";

/// How a value of a column is written from its text, and shown as text again.
struct Column {
    name: String,
    kind: String,
}

impl Column {
    fn write(&self) -> String {
        let name = format!("g.\"{}\"", self.name);
        match self.kind.as_str() {
            "timestamp with time zone" => {
                format!("TIMESTAMPTZ '1970-01-01 00:00:00+00' + {name}::bigint * INTERVAL '1 microsecond'")
            }
            "bytea" => format!("decode({name}, 'hex')"),
            "boolean" => format!("{name}::integer::boolean"),
            kind => format!("{name}::{kind}"),
        }
    }

    fn show(&self) -> String {
        let name = format!("\"{}\"", self.name);
        match self.kind.as_str() {
            "timestamp with time zone" => format!("(EXTRACT(EPOCH FROM {name}) * 1000000)::bigint::text"),
            "bytea" => format!("encode({name}, 'hex')"),
            "boolean" => format!("{name}::integer::text"),
            _ => format!("{name}::text"),
        }
    }

    /// Whether two texts say the same value.
    fn same(&self, a: &Cell, b: &Cell) -> bool {
        let number = |cell: &Cell| cell.as_ref().and_then(|text| text.parse::<f64>().ok()).map(f64::to_bits);
        a == b || self.kind == "double precision" && number(a).is_some() && number(a) == number(b)
    }
}

/// The statement that writes rows given as JSON, and gives back what was stored.
fn insert(table: &str, columns: &[Column]) -> String {
    let list = |text: &dyn Fn(&Column) -> String| columns.iter().map(text).collect::<Vec<_>>().join(", ");
    format!(
        "INSERT INTO \"{table}\" ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM json_to_recordset($1::json) AS g({}) RETURNING {}",
        list(&|c| format!("\"{}\"", c.name)),
        list(&Column::write),
        list(&|c| format!("\"{}\" text", c.name)),
        list(&Column::show),
    )
}

impl PostgresWarm {
    /// Gets ready to take in what lies in these tables, in the move of this name.
    ///
    /// # Errors
    /// When something else is in them already, or they differ.
    pub(in crate::tiers::warm) async fn expect(&self, tables: &[Table], id: &str) -> Result<(), TierError> {
        let mut connection = self.begin().await?;
        let begun = sqlx::query_scalar("SELECT to_regclass('moved') IS NOT NULL");
        let begun: bool = begun.fetch_one(&mut *connection).await.map_err(failed)?;
        for table in tables {
            columns(&mut connection, table).await?;
            let sql = format!("SELECT EXISTS (SELECT FROM \"{}\")", table.name);
            let full: bool =
                sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *connection).await.map_err(failed)?;
            if full && !begun {
                let why = format!(
                    "there is something in table {} already; a transfer needs an empty database or schema ([warm] \
                     database, schema)",
                    table.name
                );
                return Err(unavailable(why));
            }
        }
        let name = format!("move {id}");
        if !begun {
            connection.execute(MARKS).await.map_err(failed)?;
            mark(&mut connection, &name, Proof::default()).await?;
        }
        let ours = sqlx::query_scalar("SELECT EXISTS (SELECT FROM moved WHERE what = $1)").bind(name);
        if !ours.fetch_one(&mut *connection).await.map_err(failed)? {
            let why =
                "part of another move is in this database; empty it, or name another one ([warm] database, schema)";
            return Err(unavailable(why));
        }
        connection.commit().await.map_err(failed)
    }

    /// What `what` consists of, when it has come over.
    pub(in crate::tiers::warm) async fn has_come(&self, what: &str) -> Result<Option<Proof>, TierError> {
        let mut connection = self.writer().await?;
        let query = sqlx::query_as::<_, (i64, Option<i64>)>("SELECT rows, xor FROM moved WHERE what = $1").bind(what);
        let found = query.fetch_optional(&mut *connection).await.map_err(failed)?;
        Ok(found.map(|(rows, xor)| Proof { rows: rows.cast_unsigned(), xor: xor.unwrap_or(0).cast_unsigned() }))
    }

    /// Notes that `what` has come over, or what else is known of it.
    pub(in crate::tiers::warm) async fn note(&self, what: &str, proof: Proof) -> Result<(), TierError> {
        mark(&mut *self.writer().await?, what, proof).await
    }

    /// How many rows of a table have come over that hasn't as a whole.
    pub(in crate::tiers::warm) async fn part_of(&self, table: &Table) -> Result<u64, TierError> {
        Ok(self.has_come(&part(table)).await?.map_or(0, |part| part.rows))
    }

    /// Takes in a table's rows after the first `before`, which came before, some at a time; every row is compared with what
    /// is stored then. Gives how many it has.
    pub(in crate::tiers::warm) async fn receive_table(
        &self,
        table: &Table,
        before: u64,
        rows: BoxStream<'_, Result<Vec<Cell>, TierError>>,
        mut progress: impl FnMut(u64),
    ) -> Result<u64, TierError> {
        let mut transaction = self.begin().await?;
        let columns = columns(&mut transaction, table).await?;
        let (sql, mut count, mut kept) = (insert(&table.name, &columns), before, before);
        let mut pages = rows.try_chunks(ROWS);
        while let Some(page) = pages.try_next().await.map_err(|broken| broken.1)? {
            write(&mut transaction, table, &columns, &sql, &page).await?;
            count += page.len() as u64;
            if count - kept >= ROWS_AT_ONCE {
                mark(&mut transaction, &part(table), Proof { rows: count, xor: 0 }).await?;
                transaction.commit().await.map_err(failed)?;
                transaction = self.begin().await?;
                kept = count;
            }
            progress(page.len() as u64);
        }
        go_on_counting(&mut transaction, table).await?;
        mark(&mut transaction, &table.name, Proof { rows: count, xor: 0 }).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(count)
    }

    /// Takes in the readings of a day, all of them or none; they mark nothing as changed.
    pub(in crate::tiers::warm) async fn receive_day(
        &self,
        day: Day,
        what: &str,
        mut runs: Runs<'_>,
        mut progress: impl FnMut(u64),
    ) -> Result<Proof, TierError> {
        let (mut proof, mut waiting) = (Proof::default(), Vec::<StoredReading>::new());
        let mut transaction = None;
        loop {
            let run = runs.try_next().await?;
            let ended = run.is_none();
            if let Some(run) = run {
                proof.add(&run);
                waiting.extend(run.readings);
            }
            if waiting.len() < READINGS && !ended {
                continue;
            }
            let transaction = match &mut transaction {
                Some(transaction) => transaction,
                none => {
                    self.make_days(&waiting).await?;
                    none.insert(self.begin().await?)
                }
            };
            copy::readings(transaction, &waiting).await.map_err(failed)?;
            progress(waiting.len() as u64);
            waiting.clear();
            if ended {
                break;
            }
        }
        let Some(mut transaction) = transaction else { return Ok(proof) };
        tracing::debug!(%day, %proof, "a day has come over");
        mark(&mut transaction, what, proof).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(proof)
    }

    /// All has come over: what was noted of it goes, and the planner learns what there is.
    pub(in crate::tiers::warm) async fn all_has_come(&self) -> Result<(), TierError> {
        let mut connection = self.writer().await?;
        connection.execute("ANALYZE; DROP TABLE moved").await.map_err(failed)?;
        Ok(())
    }
}

/// Under which name it is noted how far a table has come.
fn part(table: &Table) -> String {
    format!("part of {}", table.name)
}

async fn mark(connection: &mut PgConnection, what: &str, proof: Proof) -> Result<(), TierError> {
    let sql =
        "INSERT INTO moved (what, rows, xor) VALUES ($1, $2, $3) ON CONFLICT (what) DO UPDATE SET rows = excluded.rows";
    let query = sqlx::query(sql).bind(what);
    let query = query.bind(proof.rows.cast_signed()).bind(proof.xor.cast_signed());
    query.execute(connection).await.map_err(failed)?;
    Ok(())
}

/// The columns of the table of this name, in the order of `table`; it must have those and no others.
async fn columns(connection: &mut PgConnection, table: &Table) -> Result<Vec<Column>, TierError> {
    let query = sqlx::query_as::<_, (String, String)>(
        "SELECT column_name::text, data_type::text FROM information_schema.columns \
         WHERE table_schema = current_schema() AND table_name = $1",
    );
    let mut there = query.bind(&table.name).fetch_all(connection).await.map_err(failed)?;
    let of = |column: &String| {
        let n = there.iter().position(|(name, _)| name == column)?;
        let (name, kind) = there.swap_remove(n);
        Some(Column { name, kind })
    };
    let columns: Option<Vec<Column>> = table.columns.iter().map(of).collect();
    let name = &table.name;
    columns.filter(|_| there.is_empty()).ok_or_else(|| unavailable(format!("table {name} isn't here as it is there")))
}

async fn write(
    connection: &mut PgConnection,
    table: &Table,
    columns: &[Column],
    sql: &str,
    page: &[Vec<Cell>],
) -> Result<(), TierError> {
    let given = |row: &Vec<Cell>| {
        let fields = columns.iter().zip(row).map(|(c, cell)| (c.name.clone(), serde_json::json!(cell)));
        serde_json::Value::Object(fields.collect())
    };
    let json = serde_json::Value::Array(page.iter().map(given).collect()).to_string();
    let stored = sqlx::query(AssertSqlSafe(sql)).bind(json).fetch_all(connection).await.map_err(failed)?;
    for (n, row) in page.iter().enumerate() {
        let there = |at: usize| -> Cell { stored.get(n).and_then(|row| row.try_get(at).ok()).flatten() };
        if let Some(at) = (0..columns.len()).find(|at| !columns[*at].same(&row[*at], &there(*at))) {
            // Not what is in it: it may be a secret.
            let (table, column) = (&table.name, &columns[at].name);
            return Err(unavailable(format!("{column} of a row of table {table} isn't stored as it was")));
        }
    }
    Ok(())
}

/// Numbers that the table gives by itself go on above those that came.
async fn go_on_counting(connection: &mut PgConnection, table: &Table) -> Result<(), TierError> {
    let query = sqlx::query_scalar::<_, String>(
        "SELECT column_name::text FROM information_schema.columns \
         WHERE table_schema = current_schema() AND table_name = $1 AND is_identity = 'YES'",
    );
    for column in query.bind(&table.name).fetch_all(&mut *connection).await.map_err(failed)? {
        let sql = format!(
            "SELECT setval(pg_get_serial_sequence('\"{0}\"', '{column}'), max(\"{column}\")) FROM \"{0}\" \
             HAVING max(\"{column}\") IS NOT NULL",
            table.name
        );
        connection.execute(AssertSqlSafe(sql)).await.map_err(failed)?;
    }
    Ok(())
}
