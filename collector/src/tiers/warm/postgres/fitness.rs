//! Whether this user can do what `run` will, and whether something lies in the way of what is stored. All of it is told
//! before it costs data.

use super::fault::failed;
use crate::tiers::TierError;
use crate::tiers::warm::settings::WarmSettings;
use sqlx::PgConnection;

/// Columns that we leave to the database.
const FILLED: [(&str, &str); 13] = [
    ("series", "series_id"),
    ("quarantine", "number"),
    ("etl_jobs", "number"),
    ("etl_jobs", "steps_done"),
    ("etl_jobs", "steps"),
    ("anomalies", "number"),
    ("inbox", "number"),
    ("inbox", "channel"),
    ("inbox_rejects", "number"),
    ("inbox_rejects", "dropped"),
    ("audit", "number"),
    ("archive_days", "exported"),
    ("archive_days", "raw"),
];
/// Of each job one run at a time: everything that jobs do rests on it.
const ONE_AT_A_TIME: (&str, &str) =
    ("etl_jobs_one_at_a_time", "UNIQUE INDEX etl_jobs_one_at_a_time ON etl_jobs (job) WHERE status = 'running'");
/// Without them questions only take longer.
const INDEXES: [(&str, &str); 7] = [
    ("series_by_gateway", "INDEX series_by_gateway ON series (gateway)"),
    ("dirty_buckets_by_series", "INDEX dirty_buckets_by_series ON dirty_buckets (series_id, bucket)"),
    ("parked_by_boot", "INDEX parked_by_boot ON parked (gateway, boot)"),
    ("etl_jobs_by_job", "INDEX etl_jobs_by_job ON etl_jobs (job, number)"),
    ("archive_days_left", "INDEX archive_days_left ON archive_days (day) WHERE raw <> 'here'"),
    ("anomalies_by_time", "INDEX anomalies_by_time ON anomalies (series_id, last_at)"),
    ("late_hours_by_hour", "INDEX late_hours_by_hour ON late_hours (hour)"),
];
/// What swallows, hides, refuses or forgets rows: tables, and partitions of tables, of these names.
const IN_THE_WAY: &str = "\
    WITH ours AS ( \
        SELECT c.oid, c.relname, c.relpersistence, c.relrowsecurity FROM pg_class c \
        LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class parent ON parent.oid = i.inhparent \
        WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace \
        AND coalesce(parent.relname, c.relname) = ANY($1)) \
    SELECT 'table ' || relname || ' is UNLOGGED: a crash of the server empties it; ALTER TABLE ' || relname || ' SET LOGGED' \
        FROM ours WHERE relpersistence = 'u' \
    UNION ALL \
    SELECT 'table ' || relname || ' has row level security, which hides and refuses rows; ALTER TABLE ' || relname \
        || ' DISABLE ROW LEVEL SECURITY' FROM ours WHERE relrowsecurity \
    UNION ALL \
    SELECT 'trigger ' || t.tgname || ' on ' || ours.relname || ' is none of ours and may swallow rows; drop it' \
        FROM ours JOIN pg_trigger t ON t.tgrelid = ours.oid \
        WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgenabled <> 'D' AND t.tgtype & 2 = 2 AND t.tgname NOT LIKE 'ts\\_%' \
    UNION ALL \
    SELECT 'constraint ' || p.conname || ' of readings is none of ours: ' || pg_get_constraintdef(p.oid) || '; drop it' \
        FROM pg_constraint p JOIN ours ON ours.oid = p.conrelid WHERE ours.relname = 'readings' AND p.contype IN ('c', 'f', 'x') \
    ORDER BY 1";

/// What this user may not do that has to be done.
pub(super) async fn rights(
    connection: &mut PgConnection,
    settings: &WarmSettings,
    tables: &[&str],
) -> Result<Vec<String>, TierError> {
    let (schema, user) = (&settings.schema, &settings.user);
    let look = "; grant it, or check [warm] user / POSTGRES_USER";
    let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)")
        .bind(schema)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    let mut wrong = Vec::new();
    let read_only: String = sqlx::query_scalar("SELECT current_setting('transaction_read_only')")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if read_only == "on" {
        wrong.push(
            "the server takes no writes here (it is a standby, or default_transaction_read_only is on): [warm] host / \
             POSTGRES_HOST must name the primary, and it must take writes"
                .into(),
        );
    }
    let sql = if there {
        "SELECT has_schema_privilege($1, 'CREATE')"
    } else {
        "SELECT has_database_privilege(current_database(), 'CREATE') AND $1 <> ''"
    };
    let may: bool = sqlx::query_scalar(sql).bind(schema).fetch_one(&mut *connection).await.map_err(failed)?;
    if !may {
        let what = if there { format!("tables in schema {schema}") } else { format!("the schema {schema}") };
        wrong.push(format!("user {user} may not create {what}{look}"));
    }
    if !there {
        return Ok(wrong);
    }
    // Partitions and chunks are made and dropped by whom the table belongs to.
    let sql = "SELECT CASE WHEN lacks = '' THEN 'table ' || name || ' belongs to another user' \
                           ELSE 'user ' || current_user || ' lacks' || lacks || ' on table ' || name END \
               FROM (SELECT c.relname AS name, c.relname IN ('readings', 'rollup_5m', 'rollup_1h') \
                            AND NOT pg_has_role(c.relowner, 'USAGE') AS foreign, \
                            (SELECT coalesce(string_agg(' ' || p, ''), '') \
                             FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS p \
                             WHERE NOT has_table_privilege(c.oid, p)) AS lacks \
                     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                     WHERE n.nspname = $1 AND c.relname = ANY($2) AND c.relkind IN ('r', 'p')) AS t \
               WHERE lacks <> '' OR \"foreign\" ORDER BY name";
    let lacks: Vec<String> =
        sqlx::query_scalar(sql).bind(schema).bind(tables).fetch_all(connection).await.map_err(failed)?;
    wrong.extend(lacks.into_iter().map(|lack| lack + look));
    Ok(wrong)
}

/// What is in the way, or gone that our statements rest on.
pub(super) async fn in_the_way(
    connection: &mut PgConnection,
    tables: &[&str],
    filled: impl Fn(&str, &str) -> bool,
) -> Result<Vec<String>, TierError> {
    let mut wrong: Vec<String> = FILLED
        .iter()
        .filter(|(table, column)| tables.contains(table) && !filled(table, column))
        .map(|(table, column)| format!("{table}.{column} has lost its default: the database no longer fills it"))
        .collect();
    wrong.extend(gone(connection, &[ONE_AT_A_TIME]).await?);
    let sql = IN_THE_WAY;
    wrong.extend(sqlx::query_scalar::<_, String>(sql).bind(tables).fetch_all(connection).await.map_err(failed)?);
    Ok(wrong)
}

/// What makes questions slow.
pub(super) async fn lost_indexes(connection: &mut PgConnection) -> Result<Vec<String>, TierError> {
    gone(connection, &INDEXES).await
}

/// Those of these indexes that aren't there as they were made.
async fn gone(connection: &mut PgConnection, indexes: &[(&str, &str)]) -> Result<Vec<String>, TierError> {
    let names: Vec<&str> = indexes.iter().map(|(name, _)| *name).collect();
    let sql = "SELECT c.relname::text, i.indisunique FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
               WHERE c.relnamespace = current_schema()::regnamespace AND c.relname = ANY($1) AND i.indisvalid";
    let there: Vec<(String, bool)> = sqlx::query_as(sql).bind(names).fetch_all(connection).await.map_err(failed)?;
    let is_there = |name: &str, made: &str| {
        there.iter().any(|(found, unique)| found == name && *unique == made.starts_with("UNIQUE"))
    };
    let lost = indexes.iter().filter(|(name, made)| !is_there(name, made));
    Ok(lost.map(|(name, made)| format!("index {name} is missing; CREATE {made}")).collect())
}
