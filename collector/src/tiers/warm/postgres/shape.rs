//! Whether the tables still are as the migrations made them: a column that someone changed is told by name, before it
//! costs data.

use super::fault::failed;
use super::{Layout, fitness, partitions};
use crate::tiers::TierError;
use crate::tiers::warm::settings::WarmSettings;
use sqlx::{PgConnection, Row as _};
use std::collections::BTreeMap;

/// Each table with its columns, their types and a `?` where NULL is allowed, its key, and what else is unique.
const SHAPE: &str = "\
    gateways: gateway text, first_heard bigint, last_heard bigint, version text?, status text? | gateway
    series: series_id integer, node text, metric text, channel text, kind text, unit text, gateway text, \
            resolution_exp smallint?, interval_ms bigint, silence_ms_max bigint | series_id | node, metric, channel
    readings: series_id integer, quality smallint, ts timestamp with time zone, value double precision?, \
              revision bigint | series_id, ts
    dirty_buckets: series_id integer, bucket timestamp with time zone |
    rollup_5m: ROLLUP | series_id, bucket
    rollup_1h: ROLLUP | series_id, bucket
    streams: gateway text, stream bigint, committed bytea, highest bigint | gateway, stream
    catalogues: hash bytea, gateway text, bytes bytea | hash
    clock_fixes: gateway text, boot bytea, offset_us bigint?, not_before bigint?, not_after bigint? | gateway, boot
    parked: gateway text, stream bigint, seq bigint, boot bytea, received bigint, bytes bytea | gateway, stream, seq
    gaps: gateway text, stream bigint, first bigint, last bigint, span_from bigint?, span_to bigint?, reason text \
          | gateway, stream, first
    quarantine: number bigint, gateway text, stream bigint, seq bigint, series text, ts bigint, \
                value double precision?, quality smallint, revision bigint, reason text, received bigint | number \
                | gateway, stream, seq, series, ts
    etl_jobs: number bigint, job text, due timestamp with time zone?, attempt integer, owner text, status text, \
              started_at timestamp with time zone, alive_at timestamp with time zone, \
              finished_at timestamp with time zone?, steps_done bigint, steps bigint, rows bigint?, detail text?, \
              error text? | number
    etl_marks: job text, due timestamp with time zone | job
    etl_leader: one integer, owner text, until timestamp with time zone | one
    forecasts: series_id integer, origin timestamp with time zone, model text, \
               trained_from timestamp with time zone, trained_to timestamp with time zone, \
               made_at timestamp with time zone, points text, score text? | series_id, origin, model
    anomalies: number bigint, series_id integer, kind text, start_at timestamp with time zone, \
               last_at timestamp with time zone, end_at timestamp with time zone?, severity text, \
               expected double precision?, seen double precision?, detail text, state text, normal boolean \
               | number | series_id, kind, start_at
    alerts_told: channel text, alert text, said text | channel, alert
    anomaly_notes: anomaly bigint, at timestamp with time zone, who text, what text, comment text \
                   | anomaly, at, who, what
    hot_ledger: one integer, id text, epoch bigint, owed bigint? | one
    late_hours: series_id integer, hour timestamp with time zone, readings bigint | series_id, hour
    inbox: number bigint, node text, metric text, channel text, ts text, value double precision?, \
           unit text?, quality text?, revision bigint? | number
    inbox_rejects: number bigint, source text, at timestamp with time zone, reason text, line text, \
                   dropped integer | number | source, line, reason
    inbox_marks: source text, node text, until text | source, node
    audit: number bigint, at timestamp with time zone, who text, what text, detail text | number
    users: name text, role text, password text, changed bigint | name
    tokens: name text, role text, hash text, made bigint, ends bigint? | name | hash
    quality_reports: day text, series_id integer, good bigint, uncertain bigint, bad bigint, manual bigint, \
                     completeness double precision, longest_gap_us bigint, spacing_us bigint?, \
                     step double precision?, score double precision, made_at timestamp with time zone, late bigint \
                     | day, series_id
    rollup_horizon: one integer, until bigint | one
    replica_proofs: token text, written timestamp with time zone | token
    quality_days: day text, version bigint | day
    archive_days: day integer, version bigint, exported bigint, warm_rows bigint?, warm_xor bigint?, \
                  cold_rows bigint?, cold_xor bigint?, exported_at timestamp with time zone?, raw text, \
                  next_rows bigint?, next_xor bigint? | day
    left_latest: series_id integer, ts timestamp with time zone, value double precision?, quality smallint, \
                 revision bigint | series_id";
const ROLLUP: &str = "series_id integer, bucket timestamp with time zone, good bigint, uncertain bigint, bad bigint, \
    manual bigint, begins timestamp with time zone, ends timestamp with time zone, min double precision?, \
    max double precision?, sum double precision?, first_ts timestamp with time zone?, first double precision?, \
    last_ts timestamp with time zone?, last double precision?, integral double precision?, covered bigint?, \
    delta double precision?, resets bigint?";

/// Partitions that take what has no day.
const PARTITIONS: [&str; 3] = ["readings_past", "readings_future", "readings_other"];
const VIEWS: [&str; 4] = ["sensor_readings", "sensor_readings_5min", "sensor_readings_hourly", "sensor_readings_daily"];
/// TimescaleDB's work on our tables that nobody does any more.
const UNCOMPRESSED: &str = "\
    SELECT CASE WHEN h.hypertable_name IS NULL THEN t.name || ' is no hypertable any more' \
                WHEN NOT h.compression_enabled THEN t.name || ' is not compressed any more' \
                ELSE t.name || ' has lost its compression policy' END \
    FROM unnest(ARRAY['readings', 'rollup_5m', 'rollup_1h']) AS t(name) \
    LEFT JOIN timescaledb_information.hypertables h \
        ON h.hypertable_schema = current_schema() AND h.hypertable_name = t.name \
    WHERE h.hypertable_name IS NULL OR NOT h.compression_enabled OR NOT EXISTS ( \
        SELECT FROM timescaledb_information.jobs j WHERE j.hypertable_schema = current_schema() \
        AND j.hypertable_name = t.name AND j.proc_name IN ('policy_compression', 'policy_columnstore')) \
    UNION ALL \
    SELECT c.view_name || ' has lost its refresh policy' FROM timescaledb_information.continuous_aggregates c \
    WHERE c.view_schema = current_schema() AND c.view_name LIKE 'sensor_readings_%' AND NOT EXISTS ( \
        SELECT FROM timescaledb_information.jobs j WHERE j.proc_name = 'policy_refresh_continuous_aggregate' \
        AND (j.hypertable_schema, j.hypertable_name) IN ((c.view_schema, c.view_name), \
            (c.materialization_hypertable_schema, c.materialization_hypertable_name)))";

/// Who drops what the archive may not have.
const DROPPED: &str = "\
    SELECT format('%1$s has a retention policy, which drops what may not be in the archive yet; days leave by the job \
                   cleanup: SELECT remove_retention_policy(%1$L)', j.hypertable_name) \
    FROM timescaledb_information.jobs j WHERE j.hypertable_schema = current_schema() \
    AND j.hypertable_name IN ('readings', 'rollup_5m', 'rollup_1h') AND j.proc_name = 'policy_retention' ORDER BY 1";

/// A table, expected or found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Table {
    /// Type of each column, with `?` where NULL is allowed.
    columns: BTreeMap<String, String>,
    /// Columns that the database fills when we say nothing of them.
    filled: Vec<String>,
    key: Vec<String>,
    /// Another key.
    unique: Vec<String>,
}

type Tables = BTreeMap<String, Table>;

fn expected() -> Tables {
    let text = SHAPE.replace("ROLLUP", ROLLUP);
    let table = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let mut parts = rest.split('|');
        let columns = parts.next()?;
        let column = |column: &str| {
            let (name, kind) = column.trim().split_once(' ')?;
            Some((name.to_owned(), kind.trim().to_owned()))
        };
        let mut names = || {
            let names = parts.next().unwrap_or_default().split(',').map(|k| k.trim().to_owned());
            names.filter(|k| !k.is_empty()).collect()
        };
        let (key, unique) = (names(), names());
        let columns = columns.split(',').filter_map(column).collect();
        Some((name.trim().to_owned(), Table { columns, filled: Vec::new(), key, unique }))
    };
    text.lines().filter_map(table).collect()
}

async fn found(connection: &mut PgConnection) -> Result<Tables, TierError> {
    let mut tables = Tables::new();
    let sql = "SELECT table_name::text, column_name::text, \
                      data_type::text || CASE is_nullable WHEN 'YES' THEN '?' ELSE '' END, \
                      is_nullable = 'YES' OR column_default IS NOT NULL OR is_identity = 'YES' \
               FROM information_schema.columns WHERE table_schema = current_schema()";
    for row in sqlx::query(sql).fetch_all(&mut *connection).await.map_err(failed)? {
        let (table, column): (String, String) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        let table = tables.entry(table).or_default();
        if row.try_get(3).map_err(failed)? {
            table.filled.push(column.clone());
        }
        table.columns.insert(column, row.try_get(2).map_err(failed)?);
    }
    let sql = "SELECT c.relname::text, array_agg(a.attname::text ORDER BY k.place), p.contype = 'p' \
               FROM pg_constraint p JOIN pg_class c ON c.oid = p.conrelid \
               CROSS JOIN LATERAL unnest(p.conkey) WITH ORDINALITY AS k(number, place) \
               JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number \
               WHERE p.contype IN ('p', 'u') AND c.relnamespace = current_schema()::regnamespace \
               GROUP BY c.relname, p.oid, p.contype";
    for row in sqlx::query(sql).fetch_all(connection).await.map_err(failed)? {
        let table = tables.entry(row.try_get(0).map_err(failed)?).or_default();
        let columns = row.try_get(1).map_err(failed)?;
        *(if row.try_get(2).map_err(failed)? { &mut table.key } else { &mut table.unique }) = columns;
    }
    Ok(tables)
}

/// What someone changed.
pub(super) async fn differences(connection: &mut PgConnection, layout: Layout) -> Result<Vec<String>, TierError> {
    let (expected, found) = (expected(), found(connection).await?);
    let mut wrong = compare(&expected, &found);
    if layout == Layout::Plain {
        let others = PARTITIONS.iter().filter(|name| !found.contains_key(**name));
        wrong.extend(others.map(|name| format!("table {name} is missing")));
    }
    if layout == Layout::Timescale {
        wrong.extend(sqlx::query_scalar::<_, String>(DROPPED).fetch_all(&mut *connection).await.map_err(failed)?);
    }
    let tables: Vec<&str> = expected.keys().filter(|name| found.contains_key(*name)).map(String::as_str).collect();
    let filled = |table: &str, column: &str| found.get(table).is_some_and(|t| t.filled.iter().any(|f| f == column));
    wrong.extend(fitness::in_the_way(connection, &tables, filled).await?);
    Ok(wrong)
}

/// What this user may not do that has to be done.
pub(super) async fn rights(connection: &mut PgConnection, settings: &WarmSettings) -> Result<Vec<String>, TierError> {
    let expected = expected();
    fitness::rights(connection, settings, &expected.keys().map(String::as_str).collect::<Vec<_>>()).await
}

/// A table of ours in a schema.
pub(super) async fn any_table(connection: &mut PgConnection, schema: &str) -> Result<Option<String>, TierError> {
    let names: Vec<String> = expected().into_keys().collect();
    let sql = "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relname = ANY($2) ORDER BY 1 LIMIT 1";
    sqlx::query_scalar(sql).bind(schema).bind(names).fetch_optional(connection).await.map_err(failed)
}

/// What readings are stored without, and people will miss.
pub(super) async fn missing(connection: &mut PgConnection, layout: Layout) -> Result<Vec<String>, TierError> {
    let sql = "SELECT 'view ' || name || ' is missing' FROM unnest($1::text[]) AS name \
               WHERE to_regclass(quote_ident(current_schema()) || '.' || name) IS NULL";
    let mut missing: Vec<String> =
        sqlx::query_scalar(sql).bind(VIEWS).fetch_all(&mut *connection).await.map_err(failed)?;
    missing.extend(fitness::lost_indexes(connection).await?);
    if layout == Layout::Plain {
        missing.extend(partitions::detached(connection).await?.into_iter().map(partitions::to_be_attached));
    }
    if layout == Layout::Timescale {
        missing.extend(sqlx::query_scalar(UNCOMPRESSED).fetch_all(connection).await.map_err(failed)?);
    }
    Ok(missing)
}

fn compare(expected: &Tables, found: &Tables) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, table) in expected {
        let Some(there) = found.get(name) else {
            wrong.push(format!("table {name} is missing"));
            continue;
        };
        for (column, kind) in &table.columns {
            match there.columns.get(column) {
                None => wrong.push(format!("{name}.{column} is missing")),
                Some(other) if other != kind => wrong.push(format!("{name}.{column} is {other} instead of {kind}")),
                Some(_) => {}
            }
        }
        for column in there.columns.keys() {
            if !table.columns.contains_key(column) && !there.filled.contains(column) {
                wrong.push(format!("{name}.{column} is none of ours and must be filled"));
            }
        }
        let named = |key: &[String]| if key.is_empty() { "none".into() } else { format!("({})", key.join(", ")) };
        if there.key != table.key {
            wrong.push(format!("the key of {name} is {} instead of {}", named(&there.key), named(&table.key)));
        }
        if !table.unique.is_empty() && there.unique != table.unique {
            wrong.push(format!("{} of {name} must be unique", named(&table.unique)));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_is_named() {
        let (expected, mut found) = (expected(), expected());
        assert_eq!(expected.len(), 33);
        assert_eq!(compare(&expected, &found), Vec::<String>::new());
        found.remove("gaps");
        let readings = found.get_mut("readings").unwrap();
        readings.columns.insert("value".into(), "numeric?".into());
        readings.columns.insert("site".into(), "text".into());
        readings.columns.insert("note".into(), "text?".into());
        readings.filled.push("note".into());
        readings.key = vec!["ts".into()];
        found.get_mut("series").unwrap().columns.remove("unit");
        found.get_mut("quarantine").unwrap().unique.clear();
        let wanted = [
            "table gaps is missing",
            "(gateway, stream, seq, series, ts) of quarantine must be unique",
            "readings.value is numeric? instead of double precision?",
            "readings.site is none of ours and must be filled",
            "the key of readings is (ts) instead of (series_id, ts)",
            "series.unit is missing",
        ];
        assert_eq!(compare(&expected, &found), wanted);
    }
}
