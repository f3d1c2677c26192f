//! What isn't looking at the table, and what can't be understood.

use super::*;

#[tokio::test]
async fn only_looking_is_possible() {
    let bench = bench(1, 1).await;
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.csv").display().to_string();
    for (query, says) in [
        ("", "empty"),
        (";", "empty"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("INSERT INTO readings SELECT * FROM readings", "only SELECT"),
        ("DELETE FROM readings", "only SELECT"),
        ("UPDATE readings SET value = 1", "only SELECT"),
        ("DROP TABLE readings", "only SELECT"),
        ("CREATE TABLE x AS SELECT * FROM readings", "only SELECT"),
        ("CREATE VIEW x AS SELECT * FROM readings", "only SELECT"),
        ("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'", "only SELECT"),
        (&format!("COPY readings TO '{out}'"), "only SELECT"),
        (&format!("COPY (SELECT * FROM readings) TO '{out}' STORED AS CSV"), "only SELECT"),
        ("SET datafusion.execution.batch_size = 1", "only SELECT"),
        ("SHOW ALL", "only SELECT"),
        ("EXPLAIN SELECT * FROM readings", "only SELECT"),
        ("EXPLAIN ANALYZE SELECT * FROM readings", "only SELECT"),
        ("DESCRIBE readings", "only SELECT"),
        ("PREPARE x AS SELECT 1", "only SELECT"),
        ("BEGIN", "only SELECT"),
        ("WITH x AS (INSERT INTO readings SELECT * FROM readings) SELECT 1", ""),
        ("SELECT * INTO x FROM readings", ""),
        ("SELECT * FROM '/etc/passwd'", "not found"),
        ("SELECT * FROM read_csv('/etc/passwd')", ""),
        ("SELECT * FROM information_schema.tables", "not found"),
        ("SELECT * FROM information_schema.df_settings", "not found"),
        ("SELECT * FROM generate_series(1, 1000000000000)", ""),
        ("WITH RECURSIVE x AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM x) SELECT * FROM x", ""),
        ("SELECT input_file_name() FROM readings", "not possible"),
        ("SELECT version()", "not possible"),
        ("SELECT repeat('x', 2000000000)", "not possible"),
        ("SELECT lpad('x', 2000000000) FROM readings", "not possible"),
        ("SELECT node || node FROM readings", "not possible"),
        ("SELECT concat(node, node) FROM readings", "not possible"),
        ("SELECT overlay(node PLACING node FROM 1) FROM readings", "not possible"),
        ("SELECT array_agg(value) FROM readings", "not possible"),
        ("SELECT string_agg(node, ',') FROM readings", "not possible"),
        ("SELECT array_agg(value) OVER () FROM readings", "not possible"),
        ("SELECT 1 WHERE (SELECT count(*) FROM readings WHERE repeat(node, 9) = 'x') = 0", "not possible"),
        ("SELECT count(*) FROM readings ORDER BY md5(node)", ""),
        ("SELECT count(*) FROM readings TABLESAMPLE BERNOULLI (1)", "TABLESAMPLE"),
        ("SELECT count(*) FROM (SELECT * FROM readings TABLESAMPLE SYSTEM (1 PERCENT)) AS some", "TABLESAMPLE"),
        ("SELECT count(*) FROM (SELECT * FROM readings) AS some TABLESAMPLE BERNOULLI (1)", "TABLESAMPLE"),
        ("SELECT node, count(*) FROM readings GROUP BY node WITH ROLLUP", "GROUP BY ROLLUP ("),
        ("SELECT node, count(*) FROM readings GROUP BY node WITH TOTALS", "GROUP BY"),
        ("SELECT value FROM readings FOR UPDATE", "FOR UPDATE"),
        ("WITH x AS (SELECT value FROM readings FOR SHARE) SELECT * FROM x", "FOR SHARE"),
        ("SELECT value FROM readings SETTINGS max_threads = 1", "SETTINGS"),
        ("SELECT value FROM readings FORMAT JSON", "FORMAT"),
        ("SELECT ts AT TIME ZONE 'Europe/Nowhere' AS local FROM readings", "Europe/Nowhere"),
        (&format!("SELECT '{}' FROM readings", "x".repeat(200)), "between quotes"),
        (&format!("SELECT 1 AS a /* {} */", "x".repeat(9_000)), "bytes"),
        (&format!("SELECT {}1{}", "(".repeat(3_000), ")".repeat(3_000)), ""),
        (&format!("SELECT {}1", "- ".repeat(3_000)), ""),
    ] {
        let error = bench.try_ask(query).await.expect_err(query);
        let said = error.to_string();
        assert!(matches!(error, SqlError::Refused(_)), "{query}: {error:?}");
        assert!(said.contains(says) && !said.contains("root:"), "{query}: {said}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was written");
    assert_eq!(bench.ask("SELECT count(*) FROM readings").await, [json!([1440])], "and all is there");
}

#[tokio::test]
async fn what_cant_be_understood_is_named_with_its_place() {
    let bench = bench(1, 1).await;
    for (query, says) in [
        ("SELECT value FORM readings\nWHERE value > 1", "line 1, column 19"),
        ("SELECT value\nFROM readings\nWHERE vale > 1", "line 3, column 7"),
        ("SELECT value\nFROM reading", "line 2, column 6"),
        ("SELECT nosuch(value) FROM readings", "nosuch"),
        ("SELECT node, max(value) FROM readings", "line 1, column 8"),
        ("SELECT value FROM readings WHERE ts > 'yesterday'", "yesterday"),
        ("SELECT 1 / 0", "zero"),
    ] {
        let said = bench.refusal(query).await;
        assert!(said.contains(says), "{query}: {said}");
        assert!(!said.contains('\n') && said.len() < 600, "{said}");
    }
}
