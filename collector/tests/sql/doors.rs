//! By the command, whether the collector runs or not, and by the API.

use super::*;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use support::Site;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const COUNT: &str = "SELECT node, count(*) AS readings FROM readings GROUP BY node ORDER BY node";

/// A site whose archive has two days.
async fn site() -> Site {
    let site = Site::new(&[], |config| config.sql.rows = 3_000);
    let archive = ParquetCold::in_folder(site.config.cold_dir()).unwrap();
    for this in [DAY, DAY.next()] {
        archive.replace_day(this, day(this, 2, 0.0)).await.unwrap();
    }
    site
}

fn command(config: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
    command.args(["sql", "--config"]).arg(config).args(words).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn the_command_answers_while_no_collector_runs() {
    let site = site().await;
    let config = site.write_config("[sql]\nrows = 3000");
    let shown = command(&config, &[COUNT]);
    let said = text(&shown.stderr);
    assert!(shown.status.success() && said.contains("up to 2024-10-02"), "{said}");
    let lines: Vec<Vec<_>> = text(&shown.stdout).lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines, [["node", "readings"], ["N000", "2880"], ["N001", "2880"]]);

    let json: Value = serde_json::from_slice(&command(&config, &[COUNT, "--json"]).stdout).unwrap();
    assert_eq!(json["rows"], json!([["N000", 2880], ["N001", 2880]]));
    assert_eq!(json["columns"][1], json!({ "name": "readings", "type": "number" }));
    assert_eq!((&json["truncated"], &json["archive_until"]), (&json!(false), &json!("2024-10-02")));

    let file = site.folder.path().join("query.sql");
    std::fs::write(&file, COUNT).unwrap();
    let csv = command(&config, &["--file", file.to_str().unwrap(), "--format", "csv"]);
    assert_eq!(text(&csv.stdout), "node,readings\nN000,2880\nN001,2880\n");

    let out = site.folder.path().join("all.parquet");
    let words = ["SELECT * FROM readings", "--format", "parquet", "--rows", "10000", "--out", out.to_str().unwrap()];
    let written = command(&config, &words);
    assert!(written.status.success(), "{}", text(&written.stderr));
    let reader =
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&out).unwrap());
    let rows: usize = reader.unwrap().build().unwrap().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, 5760);
}

#[tokio::test]
async fn the_command_fails_where_something_is_missing() {
    let site = site().await;
    let config = site.write_config("[sql]\nrows = 3000");
    for (words, says) in [
        (["SELECT * FROM readings", "--format", "csv"], "more than 3000 rows; --rows"),
        (["SELECT vale FROM readings", "--format", "csv"], "line 1, column 8"),
        (["SELECT * FROM readings", "--format", "parquet"], "--out"),
        (["DROP TABLE readings", "--format", "json"], "only SELECT"),
    ] {
        let output = command(&config, &words);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
        assert!(said.contains(says), "{words:?}: {said}");
    }
    std::fs::remove_dir_all(site.config.cold_dir()).unwrap();
    let none = command(&config, &[COUNT]);
    assert!(!none.status.success() && text(&none.stderr).contains("no archive yet"), "{}", text(&none.stderr));
    assert!(!site.config.cold_dir().exists(), "it makes nothing");
}

async fn post(collector: &support::Collector, path: &str, body: &str) -> (u16, Value) {
    let mut socket = tokio::net::TcpStream::connect(collector.api).await.unwrap();
    let request = format!(
        "POST /api/v1/{path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    support::within(socket.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}")))
}

#[tokio::test]
async fn the_api_answers_the_same() {
    let site = site().await;
    let collector = site.start().await;
    let (status, answer) = post(&collector, "sql", COUNT).await;
    assert_eq!((status, &answer["rows"]), (200, &json!([["N000", 2880], ["N001", 2880]])), "{answer}");
    assert_eq!(answer["archive_until"], "2024-10-02");
    assert_eq!(answer["archive_behind"], json!([]));
    let (_, few) = post(&collector, "sql?rows=2", "SELECT value FROM readings").await;
    assert_eq!((few["rows"].as_array().unwrap().len(), &few["truncated"]), (2, &json!(true)));
    let (_, most) = post(&collector, "sql?rows=999999999", "SELECT value FROM readings").await;
    assert_eq!(most["rows"].as_array().unwrap().len(), 3_000, "no more than [sql] rows");
    for (path, body, status, says) in [
        ("sql", "DELETE FROM readings", 400, "only SELECT"),
        ("sql", "SELECT vale FROM readings", 400, "line 1, column 8"),
        ("sql?limit=1", COUNT, 400, "known are rows"),
        ("sql?rows=x", COUNT, 400, "number of rows"),
    ] {
        let (found, problem) = post(&collector, path, body).await;
        assert_eq!(found, status, "{body}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
    }
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_in_s3_is_checked_and_asked_by_the_environments_credentials() {
    let mut server = services::s3::S3Server::start();
    let site = Site::new(&[], |_| {});
    let settings = server.settings();
    let archive = settings.open(Path::new("")).unwrap();
    archive.replace_day(DAY, day(DAY, 2, 0.0)).await.unwrap();
    let (url, endpoint) = (settings.url.clone().unwrap(), settings.endpoint.clone().unwrap());
    let config = site.write_config(&format!("[cold]\nurl = '{url}'\nendpoint = '{endpoint}'\nallow_http = true\n"));
    let run = |word: &str, more: &[&str], key: &str| {
        let keys = [("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", "hush-hush"), ("AWS_REGION", "us-east-1")];
        let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
        command.arg(word).args(more).arg("--json").arg("--config").arg(&config).envs(keys);
        tokio::task::block_in_place(|| command.stdin(Stdio::null()).output().unwrap())
    };
    let finding = |output: &Output| {
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        let all = said["findings"].as_array().unwrap().clone();
        all.into_iter().find(|finding| finding["what"] == "[cold]").unwrap()
    };
    let good = finding(&run("check", &[], "collector"));
    assert_eq!(good["verdict"], "ok", "{good}");
    assert!(good["detail"].as_str().unwrap().contains(&url), "{good}");
    assert_eq!(server.objects().await.len(), 1, "the check leaves nothing behind");

    let answer: Value = serde_json::from_slice(&run("sql", &[COUNT], "collector").stdout).unwrap();
    assert_eq!(answer["rows"], json!([["N000", 1440], ["N001", 1440]]));

    let wrong = run("check", &[], "somebody");
    let found = finding(&wrong);
    let detail = found["detail"].as_str().unwrap();
    assert!(
        found["verdict"] == "warning" && detail.contains("[cold] url") && detail.contains("credentials"),
        "{found}"
    );
    let refused = run("sql", &[COUNT], "somebody");
    assert!(!refused.status.success());
    for output in [&wrong, &refused] {
        assert!(!text(&output.stdout).contains("hush-hush") && !text(&output.stderr).contains("hush-hush"));
    }

    server.kill();
    let away = finding(&run("check", &[], "collector"));
    assert!(away["verdict"] == "warning" && away["detail"].as_str().unwrap().contains("endpoint"), "{away}");
}
