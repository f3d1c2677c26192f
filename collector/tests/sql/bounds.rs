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
        "SELECT count(*) FROM readings a, readings b, readings c", // no column of any
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

/// Trees as deep as a text can make them: each is refused or answered, soon, and the program goes on.
#[tokio::test]
async fn no_query_is_too_deep_for_the_stack_or_takes_long_to_plan() {
    let bench = bench(1, 1).await;
    let deepest = |head: &str, link: &str, times: usize, tail: &str| format!("{head}{}{tail}", link.repeat(times));
    let nested = |open: &str, close: &str, times: usize| {
        format!("{}SELECT value FROM readings{} LIMIT 1", open.repeat(times), close.repeat(times))
    };
    let mut answered = 0;
    for times in [15, 45, 120, 390, 4_000] {
        for query in [
            deepest("SELECT 1", "+1", times, " AS n"),
            deepest("SELECT value FROM readings WHERE value = 1", " OR node='N1'", times / 2, " LIMIT 1"),
            deepest("SELECT value", "+value", times, " AS n FROM readings LIMIT 1"),
            deepest("SELECT ", "- ", times, "value AS n FROM readings LIMIT 1"),
            deepest("SELECT ", "NOT ", times, "value > 1 AS n FROM readings LIMIT 1"),
            deepest("SELECT value", "::text", times / 2, " AS n FROM readings LIMIT 1"),
            deepest("SELECT value", " IS NULL", times / 2, " AS n FROM readings LIMIT 1"),
            deepest("SELECT 1 AS n", " UNION ALL SELECT 1", times / 3, ""),
            deepest("SELECT count(*) FROM readings", ", readings", times, " LIMIT 1"),
            deepest("SELECT value FROM readings WHERE value IN (1", ", 1", times, ") LIMIT 1"),
            nested("SELECT value FROM (", ")", times),
            format!("SELECT {}value{} AS n FROM readings LIMIT 1", "abs(".repeat(times), ")".repeat(times)),
        ] {
            match bench.try_ask(&query).await {
                Ok(_) => answered += 1,
                Err(error) => assert!(matches!(error, SqlError::Refused(_)), "{}…: {error}", &query[..40]),
            }
        }
    }
    assert!(answered > 25, "what people ask is answered: {answered} of them");
    assert_eq!(bench.ask("SELECT count(*) FROM readings").await, [json!([1_440])]);
}
