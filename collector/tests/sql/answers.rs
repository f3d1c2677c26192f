//! Answers are those of the rows that count, and cost what they touch.

use super::*;

#[tokio::test]
async fn rows_come_as_they_were_written() {
    let bench = bench(2, 3).await;
    assert_eq!(
        bench.ask("SELECT * FROM readings WHERE node = 'N001' AND ts < '2024-10-01T00:01:00Z'").await,
        [json!([1, "N001", "level", "", "2024-10-01T00:00:00Z", 1.0, 0, 0])]
    );
    assert_eq!(
        bench.ask("SELECT node, count(*), count(value), sum(value) FROM readings GROUP BY node ORDER BY node").await,
        [json!(["N000", 2880, 2878, 0.0]), json!(["N001", 2880, 2878, 2878.0]), json!(["N002", 2880, 2878, 5756.0])]
    );
    assert_eq!(
        bench.ask("SELECT ts, value FROM readings WHERE quality >= 128 AND series = 2 ORDER BY ts DESC").await,
        [json!(["2024-10-02T23:59:00Z", null]), json!(["2024-10-01T23:59:00Z", null])]
    );
    let hours = "SELECT date_trunc('day', ts AT TIME ZONE 'Europe/Rome') AS day, count(*) FROM readings \
                 WHERE series = 0 GROUP BY day ORDER BY day";
    let days = bench.ask(hours).await;
    assert_eq!(days.iter().map(|row| row[1].as_i64().unwrap()).collect::<Vec<_>>(), [1320, 1440, 120], "{days:?}");
    assert_eq!(bench.ask("SELECT 1 AS one FROM readings WHERE ts > '2030-01-01'").await, Vec::<Value>::new());
}

#[tokio::test]
async fn an_archive_without_days_has_no_rows() {
    let bench = bench_with(|_| ());
    assert_eq!(bench.ask("SELECT count(*) FROM readings").await, [json!([0])]);
    assert_eq!(bench.sql.ask("SELECT * FROM readings", None).await.unwrap().until, None);
}

#[tokio::test]
async fn only_the_version_that_counts_is_answered() {
    let bench = bench(40, 2).await;
    let sums = "SELECT date_trunc('day', ts) AS day, sum(value) FROM readings WHERE series = 1 AND value IS NOT NULL \
                GROUP BY day ORDER BY day";
    let mut wanted = vec![1439.0; 40];
    let check = async |wanted: &[f64], what: &str| {
        let found = bench.ask(sums).await;
        assert_eq!(found.iter().map(|row| row[1].as_f64().unwrap()).collect::<Vec<_>>(), wanted, "{what}");
        let bare = bench.ask("SELECT count(*) FROM readings").await;
        assert_eq!(bare, [json!([40 * 2 * 1440])], "{what}: without the column of time");
        let odd = bench.ask("SELECT DISTINCT quality FROM readings ORDER BY quality").await;
        assert_eq!(odd, [json!([0]), json!([129])], "{what}");
    };
    check(&wanted, "as written").await;
    bench.archive.tidy(Day(DAY.0 + 60)).await.unwrap();
    check(&wanted, "put together").await;
    for n in [3, 4, 20] {
        let this = Day(DAY.0 + n);
        bench.archive.replace_day(this, day(this, 2, 10.0)).await.unwrap();
        wanted[n as usize] = 1439.0 * 11.0;
    }
    check(&wanted, "days of the month replaced").await;
    bench.archive.tidy(Day(DAY.0 + 60)).await.unwrap();
    check(&wanted, "put together again").await;
}

#[tokio::test]
async fn only_files_whose_days_are_asked_for_are_opened() {
    let bench = bench(12, 2).await;
    bench.store.read();
    for (question, opened) in [
        ("ts >= '2024-10-03' AND ts < '2024-10-05'", vec!["2024-10-03", "2024-10-04"]),
        ("ts BETWEEN '2024-10-03T23:00:00Z' AND '2024-10-04'", vec!["2024-10-03", "2024-10-04"]),
        ("ts > '2024-10-11T10:00:00+02:00'", vec!["2024-10-11", "2024-10-12"]),
        ("ts < '2024-10-02' OR (ts >= '2024-10-12' AND node = 'N001')", vec!["2024-10-01", "2024-10-12"]),
        ("ts < '2020-01-01'", vec![]),
    ] {
        bench.ask(&format!("SELECT max(value) FROM readings WHERE {question}")).await;
        let days: Vec<_> = bench.store.read().keys().map(|file| file[4..14].to_owned()).collect();
        assert_eq!(days, opened, "{question}");
    }
}

#[tokio::test]
async fn of_a_file_only_pages_that_may_have_it_are_read() {
    let bench = bench_with(|_| ());
    let uneven = |series: u32, n: i64| {
        let mixed = (u64::from(series) << 32 | n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f64 % 1_000.0
    };
    bench.archive.replace_day(DAY, day_of(DAY, 150, uneven)).await.unwrap();
    bench.ask("SELECT count(*) FROM readings").await; // all of it is looked through once
    bench.store.read();
    let bytes = async |question: &str| {
        bench.ask(question).await;
        bench.store.read().values().sum::<u64>()
    };
    let all = bytes("SELECT sum(value), max(ts) FROM readings").await;
    let one = bytes("SELECT sum(value), max(ts) FROM readings WHERE node = 'N077'").await;
    let by_number = bytes("SELECT sum(value), max(ts) FROM readings WHERE series = 77").await;
    assert!(one * 2 < all && by_number * 2 < all, "{one} and {by_number} of {all} bytes");
}

#[tokio::test]
async fn a_damaged_file_is_named_and_never_believed() {
    let bench = bench(3, 2).await;
    let second = bench.store.files().await.remove(1).location;
    bench.ask("SELECT count(*) FROM readings").await;
    bench.store.damage(&second).await;
    for question in ["SELECT count(*) FROM readings", "SELECT max(value) FROM readings WHERE ts >= '2024-10-02'"] {
        let error = bench.try_ask(question).await.unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, SqlError::Tier(_)) && said.contains("damaged"), "{said}");
        assert!(said.contains(&format!("memory/{second}")), "{said}");
    }
    let others = "SELECT count(*) FROM readings WHERE ts < '2024-10-02' OR ts >= '2024-10-03'";
    assert_eq!(bench.ask(others).await, [json!([5760])]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_while_a_day_is_replaced_gets_the_old_or_the_new_one() {
    let bench = bench(1, 1).await;
    let archive = bench.archive.clone();
    let writer = tokio::spawn(async move {
        for n in 1..=60 {
            archive.replace_day(DAY, day(DAY, 1, f64::from(n))).await.unwrap();
        }
    });
    let mut seen = 0.0;
    while !writer.is_finished() {
        let found = bench.ask("SELECT min(value), max(value), count(*) FROM readings").await;
        let value = found[0][0].as_f64().unwrap();
        assert_eq!(found, [json!([value, value, 1440])], "all of one version");
        assert!(value >= seen, "never back: {value} after {seen}");
        seen = value;
    }
    writer.await.unwrap();
}
