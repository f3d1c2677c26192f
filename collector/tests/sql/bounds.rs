//! Where a query stops.

use super::*;
use shared::config::{ByteSize, HumanDuration};
use std::time::Duration;

#[tokio::test]
async fn an_answer_has_no_more_rows_than_asked_for_and_says_so() {
    let bench = bench(1, 3).await;
    for (rows, comes, truncated) in [(10, 10, true), (4319, 4319, true), (4320, 4320, false), (5000, 4320, false)] {
        let mut answer = bench.sql.ask("SELECT value FROM readings", Some(rows)).await.unwrap();
        let mut count = 0;
        while let Some(batch) = answer.next().await.unwrap() {
            count += batch.num_rows();
        }
        assert_eq!((count, answer.truncated()), (comes, truncated), "{rows} rows");
        assert_eq!(answer.until, Some(DAY));
    }
}

#[tokio::test]
async fn a_query_that_needs_too_much_memory_ends_with_a_word_on_it() {
    let bench = bench_with(|settings| settings.memory = ByteSize::mib(1));
    bench.fill(3, 30).await;
    for query in [
        "SELECT * FROM readings ORDER BY value, ts, node",
        "SELECT ts, node, count(*) FROM readings GROUP BY ts, node",
        "SELECT count(*) FROM readings a JOIN readings b ON a.ts = b.ts AND a.value = b.value",
    ] {
        let error = bench.try_ask(query).await.expect_err(query);
        assert!(matches!(error, SqlError::TooMuch(_)), "{query}: {error}");
        assert!(error.to_string().contains("1.0 MiB") && error.to_string().contains("[sql] memory"), "{error}");
    }
    assert_eq!(bench.ask("SELECT count(*) FROM readings").await, [json!([129_600])], "and others are answered");
}

#[tokio::test]
async fn a_query_that_takes_too_long_ends_and_leaves_its_turn() {
    let bench = bench_with(|settings| {
        settings.time = HumanDuration(Duration::from_secs(1));
        settings.queries = 1;
    });
    bench.fill(2, 30).await;
    let endless = "SELECT sum(a.value * b.value) FROM readings a, readings b WHERE a.value + b.value > a.revision";
    let error = bench.try_ask(endless).await.unwrap_err();
    assert!(matches!(error, SqlError::TooMuch(_)), "{error}");
    assert!(error.to_string().contains("longer than 1s") && error.to_string().contains("WHERE ts"), "{error}");
    let free = support::until(async || bench.try_ask("SELECT 1 AS one").await.is_ok()).await;
    assert!(free, "the turn is free again");
}

#[tokio::test]
async fn no_more_than_so_many_are_worked_on_at_a_time() {
    let bench = bench_with(|settings| settings.queries = 2);
    bench.fill(2, 30).await;
    let all = "SELECT * FROM readings";
    let first = bench.sql.ask(all, None).await.unwrap();
    let second = bench.sql.ask(all, None).await.unwrap();
    let third = bench.sql.ask(all, None).await.map(drop).unwrap_err();
    assert!(matches!(third, SqlError::Busy(2)), "{third}");
    drop(first);
    let free = support::until(async || bench.sql.ask(all, None).await.is_ok()).await;
    assert!(free, "who goes away leaves the turn");
    drop(second);
}
