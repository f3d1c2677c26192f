//! What people bring: files that are imported, single readings and corrections, and what goes out as a file.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

mod support;

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use shared::reading::Timestamp;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use support::*;

const HOUR: i64 = 3_600 * SECOND;
/// 2025-10-01T00:00:00Z.
const START: i64 = 1_759_276_800 * SECOND;

/// A configuration for commands that ask a running collector.
fn config(site: &Site, collector: &Collector) -> PathBuf {
    let path = site.folder.path().join("cli.toml");
    std::fs::write(&path, format!("[api]\nlisten = '{}'\n", collector.api)).unwrap();
    path
}

fn command(config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(process::PROGRAM);
    command.args(arguments).arg("--config").arg(config).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn run(config: &Path, arguments: &[&str]) -> Output {
    let mut command = command(config, arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

async fn post(collector: &Collector, path: &str, body: Value) -> (u16, Value) {
    let address = format!("http://{}/api/v1/{path}", collector.api);
    let asking = move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent.post(address).send(body.to_string().as_bytes()).unwrap();
        (answer.status().as_u16(), serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap())
    };
    tokio::task::spawn_blocking(asking).await.unwrap()
}

/// A piece of a file, as other programs send it.
async fn piece(collector: &Collector, query: &str, text: String) -> (u16, Value) {
    let address = format!("http://{}/api/v1/import?{query}", collector.api);
    let asking = move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent.post(address).send(text.as_bytes()).unwrap();
        (answer.status().as_u16(), serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap())
    };
    tokio::task::spawn_blocking(asking).await.unwrap()
}

fn gzip(path: &Path, text: &str) {
    let mut out = GzEncoder::new(std::fs::File::create(path).unwrap(), Compression::fast());
    out.write_all(text.as_bytes()).unwrap();
    out.finish().unwrap();
}

/// Rows of a file that takes several pieces.
const LONG: i64 = 200_000;

/// A long file, and where it is noted how far it is.
fn long(site: &Site) -> (PathBuf, PathBuf) {
    let mut text = "time,A/level\n".to_owned();
    for n in 0..LONG {
        writeln!(text, "{},{}", Timestamp(START + n * SECOND), n % 7).unwrap();
    }
    let file = site.folder.path().join("long.csv");
    std::fs::write(&file, text).unwrap();
    (file, site.folder.path().join("long.csv.import"))
}

/// Whether its first piece is stored.
fn has_begun(mark: &Path) -> bool {
    let mark: Option<Value> = std::fs::read(mark).ok().and_then(|mark| serde_json::from_slice(&mark).ok());
    mark.is_some_and(|mark| mark["line"].as_i64() > Some(2))
}

/// How many readings there are.
async fn exported(config: &Path) -> i64 {
    let export = run(config, &["export", "--from", &Timestamp(START).to_string()]).await;
    String::from_utf8(export.stdout).unwrap().lines().count() as i64 - 1
}

/// Hours of two districts; the second says nothing every third hour.
fn two_districts(hours: i64) -> String {
    let mut text = "timestamp,DIST_001,DIST_002\n".to_owned();
    for n in 0..hours {
        let other = if n % 3 == 0 { String::new() } else { format!("{}", n % 50) };
        writeln!(text, "{},{},{other}", Timestamp(START + n * HOUR), n % 100).unwrap();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_there_once_however_often_it_is_imported() {
    let site = Site::new(&[], |_| {});
    let collector = site.start().await;
    let config = config(&site, &collector);
    let file = site.folder.path().join("demand.csv.gz");
    gzip(&file, &(two_districts(600) + "yesterday,1,2\n"));
    let name = file.to_str().unwrap();
    let arguments = ["import", name, "--metric", "flow_rate", "--json"];

    let unknown = run(&config, &[&arguments[..4], &["--dry-run"]].concat()).await;
    assert_eq!(unknown.status.code(), Some(1));
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert!(
        said.contains("line 2: there is no series DIST_001/flow_rate") && said.contains("as no unit is said"),
        "{said}"
    );
    assert!(!Path::new(&format!("{name}.rejects.csv")).exists(), "it only looks");
    let rejects = || std::fs::read_to_string(format!("{name}.rejects.csv")).unwrap();
    assert!(collector.get("series").await["items"].as_array().unwrap().is_empty());

    let first = run(&config, &[&arguments[..], &["--create"]].concat()).await;
    assert_eq!(first.status.code(), Some(1), "one row is wrong: {first:?}");
    let sum = &json_of(&first)["sum"];
    assert_eq!(
        (&sum["rows"], &sum["written"], &sum["empty"], &sum["rejected"]),
        (&json!(601), &json!(1000), &json!(200), &json!(1))
    );
    assert!(rejects().lines().nth(1).unwrap().starts_with("602,"), "{}", rejects());
    assert!(!Path::new(&format!("{name}.import")).exists());

    assert_eq!(collector.get("series").await["items"][1]["interval_ms"], 3_600_000, "an hour, whatever is missing");
    let again = run(&config, &arguments).await;
    let sum = &json_of(&again)["sum"];
    assert_eq!((&sum["written"], &sum["unchanged"]), (&json!(0), &json!(1000)));
    assert_eq!(sum["new_series"], json!([]));
    let audit = collector.get("audit").await;
    assert_eq!((audit["items"].as_array().unwrap().len(), &audit["items"][0]["what"]), (2, &json!("import")));
    assert_eq!(audit["items"][0]["detail"]["reason"], "import of demand.csv.gz");

    // A dry run finds what the file itself contradicts, too.
    let twice = site.folder.path().join("twice.csv");
    std::fs::write(&twice, "timestamp,NEW_1\n2026-01-01T00:00:00Z,1\n2026-01-01T00:00:00Z,2\n").unwrap();
    let twice = ["import", twice.to_str().unwrap(), "--metric", "flow_rate", "--create", "--json", "--dry-run"];
    let sum = &json_of(&run(&config, &twice).await)["sum"];
    assert_eq!((&sum["readings"], &sum["rejected"]), (&json!(1), &json!(1)), "{sum}");

    // Another value for what is there: it stays, be the other one larger or smaller, until someone says that it counts more.
    let other = site.folder.path().join("other.csv");
    let rows = |n: i64, values: [i64; 2]| format!("{},{},{}\n", Timestamp(START + n * HOUR), values[0], values[1]);
    std::fs::write(&other, format!("timestamp,DIST_001,DIST_002\n{}{}", rows(1, [1, 99]), rows(2, [0, 2]))).unwrap();
    let arguments = ["import", other.to_str().unwrap(), "--metric", "flow_rate", "--json"];
    let refused = run(&config, &arguments).await;
    let sum = &json_of(&refused)["sum"];
    assert_eq!((&sum["written"], &sum["unchanged"], &sum["rejected"]), (&json!(0), &json!(2), &json!(2)));
    let said = std::fs::read_to_string(site.folder.path().join("other.csv.rejects.csv")).unwrap();
    assert!(said.contains(&format!("\"{}\"", rows(1, [1, 99]).trim())), "the line as it stands there: {said}");
    assert!(
        said.contains("\n2,1 stands at")
            && said.contains("\n3,2 stands at")
            && said.contains("revision 1 overrules it (--revision)"),
        "{said}"
    );
    let overruled = run(&config, &[&arguments[..], &["--revision", "1"]].concat()).await;
    assert_eq!(json_of(&overruled)["sum"]["written"], 4);
    std::fs::write(&other, format!("timestamp,DIST_001,DIST_002\n{}{}", rows(1, [1, 1]), rows(2, [2, 2]))).unwrap();
    run(&config, &[&arguments[..], &["--revision", "2"]].concat()).await; // as it was

    let path =
        format!("history?node=DIST_002&metric=flow_rate&resolution=raw&limit=10000&from={}&to=now", Timestamp(START));
    let mut points = collector.get(&path).await["points"].as_array().unwrap().clone();
    points.iter_mut().for_each(|point| drop(point.as_object_mut().unwrap().remove("revision")));
    let expected: Vec<Value> = (0..600_i64)
        .filter(|n| n % 3 != 0)
        .map(|n| json!({ "at": Timestamp(START + n * HOUR), "value": (n % 50) as f64, "quality": "good" }))
        .collect();
    assert!(points == expected);
}

/// Sends a piece of a file as it is, with a header.
async fn send(collector: &Collector, query: &str, header: (&'static str, &'static str), body: Vec<u8>) -> (u16, Value) {
    let address = format!("http://{}/api/v1/import?author=x&reason=x&{query}", collector.api);
    let asking = move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent.post(address).header(header.0, header.1).send(&body).unwrap();
        (answer.status().as_u16(), serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap())
    };
    tokio::task::spawn_blocking(asking).await.unwrap()
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_may_be_packed_and_travel_packed_but_not_become_endless() {
    let site = Site::new(&[], |_| {});
    let collector = site.start().await;
    let (plain, packed_on_its_way) = (("X-Nothing", "x"), ("Content-Encoding", "gzip"));
    let text = b"time,A/level\n2026-03-01T00:00:00Z,1\n2026-03-01T01:00:00Z,2\n";
    let several = [packed(&text[..20]), packed(&text[20..])].concat();
    for (header, body) in [
        (plain, text.to_vec()),
        (plain, packed(text)),
        (plain, several),
        (packed_on_its_way, packed(text)),
        (packed_on_its_way, packed(&packed(text))),
        (("Content-Encoding", "identity"), text.to_vec()),
    ] {
        let (status, answer) = send(&collector, "create=true", header, body).await;
        let count = answer["written"].as_u64().unwrap_or(0) + answer["unchanged"].as_u64().unwrap_or(0);
        assert_eq!((status, &answer["readings"], count), (200, &json!(2), 2), "{answer}");
    }
    let bomb = packed(&vec![b' '; 9 << 20]);
    assert!(bomb.len() < 100_000);
    let empty = packed(b"").repeat(300_000); // packed without end
    let half = packed(text)[..30].to_vec();
    for (header, body, status, says) in [
        (plain, bomb.clone(), 413, "at most 8388608 bytes"),
        (packed_on_its_way, bomb.clone(), 413, "at most 8388608 bytes"),
        (packed_on_its_way, packed(&bomb), 413, "at most 8388608 bytes"),
        (plain, empty, 400, "the file is empty"),
        (plain, half.clone(), 400, "no whole gzip file"),
        (packed_on_its_way, half, 400, "no whole gzip file"),
        (packed_on_its_way, text.to_vec(), 400, "no whole gzip file"),
        (("Content-Encoding", "br"), text.to_vec(), 415, "is 'br'"),
    ] {
        let (got, problem) = send(&collector, "dry=true", header, body).await;
        assert!(
            got == status && problem["detail"].as_str().unwrap().contains(says),
            "{status} {says}: {got} {problem}"
        );
    }
}

/// The API names its parameters, commands their options.
#[tokio::test(flavor = "multi_thread")]
async fn what_puts_a_mistake_right_is_called_as_whoever_asks_calls_it() {
    let site = Site::new(&[], |_| {});
    let collector = site.start().await;
    let config = config(&site, &collector);
    let file = site.folder.path().join("some.csv");
    let name = file.to_str().unwrap();
    std::fs::write(&file, "time,A/level\n2026-03-01T00:00:00Z,1\n").unwrap();
    assert!(run(&config, &["import", name, "--create"]).await.status.success());
    for (text, query, parameter) in [
        ("time,A/level\n2026-03-01 00:00,1\n", "", "zone"),
        ("time,A/level\n2026-10-25 02:30,1\n", "zone=Europe/Rome", "fold"),
        ("time,A/level\n2026-10-25 02:30,1\n", "zone=Europe/Rome&fold=order", "fold"),
        ("time;A/level\n01/02/2026 00:00;1\n", "", "dates"),
        ("time;A/level\n2026-03-01T00:00:00Z;1.234\n", "", "decimal"),
        ("when,A/level\n2026-03-01T00:00:00Z,1\n", "", "map"),
        ("time,A/level,A/level\n2026-03-01T00:00:00Z,1,1\n", "", "map"),
        ("time,level\n2026-03-01T00:00:00Z,1\n", "", "node"),
        ("time,A\n2026-03-01T00:00:00Z,1\n", "", "metric"),
        ("time,A/level\n2026-03-01T00:00:00Z,2\n", "", "revision"),
        ("time,B/level\n2026-03-01T00:00:00Z,2\n", "", "create"),
    ] {
        let (status, answer) = send(&collector, query, ("X-Nothing", "x"), text.into()).await;
        let (says, named) = match status {
            200 => (&answer["rejects"][0]["reason"], &answer["rejects"][0]["parameter"]),
            _ => (&answer["detail"], &answer["parameter"]),
        };
        assert!(named == parameter && !says.as_str().unwrap().contains("--"), "{text}: {answer}");
        std::fs::write(&file, text).unwrap();
        let options: Vec<String> = query.split_terminator('&').map(|option| format!("--{option}")).collect();
        let arguments = [vec!["import", name, "--dry-run"], options.iter().map(String::as_str).collect()].concat();
        let said = String::from_utf8(run(&config, &arguments).await.stderr).unwrap();
        let expected = format!("{} (--{parameter})", says.as_str().unwrap());
        assert!(said.split_whitespace().collect::<Vec<_>>().join(" ").contains(&expected), "{expected}: {said}");
    }
    let wrong = run(&config, &["export", "--from", "yesterdayy"]).await;
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(
        said.contains("'yesterdayy' is no time like 2026-03-01T00:00:00Z, 2026-03-01, now or now-6h (--from)"),
        "{said}"
    );
}

/// Rows of a kilobyte, so that 1,200 of them take two pieces.
fn wordy(rows: impl Iterator<Item = (i64, String)>) -> String {
    let row =
        |(n, value): (i64, String)| format!("{};A;level;{value};{}\n", Timestamp(START + n * HOUR), "x".repeat(1_000));
    "time;node;metric;value;note\n".to_owned() + &rows.map(row).collect::<String>()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_part_of_a_file_says_isnt_read_as_an_earlier_part_was() {
    let site = Site::new(&[], |_| {});
    let collector = site.start().await;
    let config = config(&site, &collector);
    let write = |name: &str, bytes: &[u8]| {
        let file = site.folder.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        file
    };
    let file = |name: &str, text: String| write(name, text.as_bytes());
    let import = async |file: &Path, more: &[&str]| {
        run(&config, &[&["import", file.to_str().unwrap(), "--create"], more].concat()).await
    };
    // An open quote, in the first part and in another.
    let open = file("open.csv", "time;node;metric;value;note\n2026-01-01T00:00:00Z;A;level;1;\n2026-01-01T00:01:00Z;A;level;1;\"tubo\n2026-01-01T00:02:00Z;A;level;1;\n".into());
    let said = import(&open, &[]).await;
    assert_eq!(said.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&said.stderr).contains("line 3, column note: a quote is opened here"), "{said:?}");
    assert!(collector.get("series").await["items"].as_array().unwrap().is_empty());
    assert!(!site.folder.path().join("open.csv.import").exists(), "there is nothing to go on with");
    let rows = || (0..1_200).map(|n| (n, "5".to_owned()));
    let open = file("later.csv", wordy(rows().map(|(n, v)| (n, if n == 1_150 { "\"5".into() } else { v }))));
    let said = import(&open, &[]).await;
    let stderr = String::from_utf8_lossy(&said.stderr);
    assert!(
        said.status.code() == Some(1) && stderr.contains("line 1152, column value: a quote is opened here"),
        "{stderr}"
    );
    let stored = exported(&config).await;
    assert!(
        (1..1_150).contains(&stored) && stderr.contains(&format!("it is stored up to line {}", stored + 1)),
        "{stderr}"
    );
    assert!(site.folder.path().join("later.csv.import").exists());

    // What a spreadsheet writes, and what it doesn't write for others.
    let sheet = "sep=;\r\ntimestamp;S/level;\r\n2026-01-01T00:00:00Z;3,5;\r\n";
    let utf16: Vec<u8> = format!("\u{feff}{sheet}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let taken = json_of(&import(&write("utf16.csv", &utf16), &["--json"]).await);
    assert_eq!((&taken["sum"]["written"], &taken["dialect"]["decimal"]), (&json!(1), &json!(",")), "{taken}");
    let mac = json_of(&import(&file("mac.csv", sheet.replace("\r\n", "\r")), &["--json"]).await);
    assert_eq!((&mac["sum"]["unchanged"], &mac["rejects_file"]), (&json!(1), &Value::Null), "{mac}");
    let workbook = import(&write("book.xlsx", b"PK\x03\x04\x14\0"), &[]).await;
    assert!(String::from_utf8_lossy(&workbook.stderr).contains("save it as CSV UTF-8"), "{workbook:?}");

    // A thousand, where numbers before said nothing about the decimal sign.
    let thousand = file("thousand.csv", wordy(rows().map(|(n, v)| (n, if n > 1_100 { "1.000".into() } else { v }))));
    let said = import(&thousand, &["--node", "B"]).await;
    let stderr = String::from_utf8_lossy(&said.stderr);
    assert!(
        said.status.code() == Some(1) && stderr.contains("'1.000' may be a thousand times larger or smaller"),
        "{stderr}"
    );

    // The same moment twice, in two parts, is seen when it is stored; before that it is said that it isn't.
    let twice = file("twice.csv", wordy((0..1_200).map(|n| (n % 600, format!("{}", n / 600)))).replace(";A;", ";C;"));
    let dry = json_of(&import(&twice, &["--dry-run", "--json"]).await);
    assert_eq!((&dry["compared"], &dry["dialect"]["delimiter"]), (&json!(false), &json!(";")), "{dry}");
    let told = import(&twice, &["--dry-run"]).await;
    assert!(String::from_utf8_lossy(&told.stdout).contains("isn't in the order of time"), "{told:?}");
    let stored = json_of(&import(&twice, &["--json"]).await);
    assert_eq!(stored["sum"]["rejected"], 600, "{stored}");
    assert!(stored["rejects_file"].as_str().unwrap().ends_with("twice.csv.rejects.csv"), "{stored}");
    assert_eq!((stored["rejects"].as_array().unwrap().len(), &stored["rejects"][0]["line"]), (5, &json!(602)));
    let dry = json_of(&import(&file("order.csv", wordy(rows())), &["--dry-run", "--json"]).await);
    assert_eq!(dry["compared"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_a_value_holds_is_found_out_anew_as_more_of_a_series_comes() {
    let site = Site::new(&[], |_| {});
    let collector = site.start().await;
    let import = async |query: &str, text: &str| {
        let (status, answer) =
            piece(&collector, &format!("create=true&author=M&reason=test&{query}"), text.to_owned()).await;
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let interval = async || collector.get("series").await["items"][0]["interval_ms"].clone();
    let rows = |from: i64, step: i64, count: i64| {
        let row = |n: i64| format!("{},1\n", Timestamp(START + from + n * step));
        "time,A/level\n".to_owned() + &(0..count).map(row).collect::<String>()
    };
    let refused = import("", "time,A/level\n2026-01-01 00:00,1\n2026-01-01 01:00,1\n").await;
    assert_eq!((&refused["rejected"], &refused["new"]), (&json!(2), &json!([])));
    assert!(collector.get("series").await["items"].as_array().unwrap().is_empty(), "nothing of it is stored");
    import("", &rows(0, HOUR, 1)).await;
    assert_eq!(interval().await, 0);
    import("", &rows(HOUR, HOUR, 1)).await;
    assert_eq!(interval().await, 3_600_000, "what is there counts");
    import("", &rows(48 * HOUR, HOUR / 4, 10)).await;
    assert_eq!(interval().await, 3_600_000, "a few rows say little");
    import("", &rows(96 * HOUR, HOUR / 4, 96)).await;
    assert_eq!(interval().await, 900_000);
    import("", &rows(200 * HOUR, SECOND, 60)).await;
    assert_eq!(interval().await, 900_000, "most of what is there comes as before");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cant_be_taken_is_told_in_a_bounded_answer() {
    let site = Site::new(&[], |_| {});
    let collector = site.start().await;
    for (query, parameter) in
        [("create=true", "author"), ("create=true&author=M", "reason"), ("dry=true&delimiter=%C2%A7", "delimiter")]
    {
        let (status, problem) = piece(&collector, query, "time,A/level\n2026-01-01T00:00:00Z,1\n".into()).await;
        assert_eq!((status, &problem["parameter"]), (400, &json!(parameter)), "{problem}");
    }
    assert!(collector.get("series").await["items"].as_array().unwrap().is_empty(), "what is refused makes nothing");
    let names: String = (0..100).map(|n| format!(",N{n}/level")).collect();
    let wide = |cell: &str| {
        let row = |n: i64| format!("{}{}\n", Timestamp(START + n * HOUR), format!(",{cell}").repeat(100));
        format!("time{names}\n{}", (0..300).map(row).collect::<String>())
    };
    let (_, unknown) = piece(&collector, "dry=true", wide("1")).await;
    let rejects = unknown["rejects"].as_array().unwrap();
    assert_eq!((rejects.len(), &unknown["rejected"], &unknown["left_out"]), (100, &json!(30_000), &json!(0)));
    assert!(rejects[0]["reason"].as_str().unwrap().ends_with("(300 readings)"), "{}", rejects[0]);
    let file = site.folder.path().join("wide.csv");
    std::fs::write(&file, wide("x")).unwrap();
    run(&config(&site, &collector), &["import", file.to_str().unwrap()]).await;
    let written = std::fs::read_to_string(site.folder.path().join("wide.csv.rejects.csv")).unwrap();
    assert_eq!(written.lines().count(), 10_002);
    assert!(written.contains("20000 more of lines 2 to 301 can't be taken"), "{:?}", written.lines().last());
    let (_, wrong) = piece(&collector, "dry=true", wide("x")).await;
    let rejects = wrong["rejects"].as_array().unwrap();
    assert_eq!((rejects.len(), &wrong["rejected"], &wrong["left_out"]), (10_000, &json!(30_000), &json!(20_000)));
    assert_eq!(rejects.iter().filter(|reject| reject["text"] != "").count(), 100, "the row's text once a row");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_killed_goes_on_where_it_stopped() {
    let site = Site::new(&[], |_| {});
    let collector = site.start().await;
    let config = config(&site, &collector);
    let (file, mark) = long(&site);
    let arguments = ["import", file.to_str().unwrap(), "--create", "--json"];
    let mut importing: Child = command(&config, &arguments).spawn().unwrap();
    assert!(until(async || has_begun(&mark)).await);
    importing.kill().unwrap();
    importing.wait().unwrap();
    let rest = run(&config, &arguments).await;
    assert!(rest.status.success(), "{rest:?}");
    assert!(String::from_utf8_lossy(&rest.stderr).contains("goes on at line"), "{rest:?}");
    assert_eq!(json_of(&rest)["sum"]["rows"], LONG);
    assert_eq!(exported(&config).await, LONG);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_waits_for_a_collector_that_starts_again() {
    let site = Site::new(&[], |_| {});
    let collector = site.start().await;
    // At another address, with another secret.
    let config = site.folder.path().join("cli.toml");
    std::fs::write(&config, format!("data_dir = '{}'\n", site.config.data_dir.display())).unwrap();
    let (file, mark) = long(&site);
    let mut importing = command(&config, &["import", file.to_str().unwrap(), "--create", "--json"]).spawn().unwrap();
    assert!(until(async || has_begun(&mark)).await);
    collector.stop().await;
    let mut said = BufReader::new(importing.stderr.take().unwrap()).lines();
    let waits = tokio::task::spawn_blocking(move || {
        let waits = said.find(|line| line.as_ref().unwrap().starts_with("waits  no collector answers"));
        (waits.is_some(), said) // which goes on being read from
    });
    let (waits, _said) = waits.await.unwrap();
    assert!(waits);
    let _collector = site.start().await;
    let done = tokio::task::spawn_blocking(move || importing.wait_with_output().unwrap()).await.unwrap();
    assert!(done.status.success(), "{done:?}");
    assert_eq!(json_of(&done)["sum"]["rows"], LONG);
    assert_eq!(exported(&config).await, LONG);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_corrects_a_reading_and_it_is_written_down_who_and_why() {
    let site = Site::new(&["STATION_7"], |config| {
        config.buffer.flush_interval = std::time::Duration::from_millis(50).into();
    });
    let (collector, _, hot) = site.start_faulty().await;
    let at = now() - 60 * SECOND;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    client.block(1, block(hash, shared::block::TimeBase::Utc, &[(0, at, 1.0)])).await;
    client.wait_committed(seqs([1])).await;
    let series = collector.get("series").await["items"][0].clone();
    let entry = |at: i64, value: Value| {
        json!({ "author": "M. Rossi", "reason": "the sensor was out of the water",
                "readings": [{ "node": series["node"], "metric": series["metric"], "channel": series["channel"], "at": Timestamp(at), "value": value }] })
    };
    let (status, answer) = post(&collector, "readings", entry(at, json!(2.5))).await;
    assert_eq!(
        (status, &answer["items"][0]["revision"], &answer["items"][0]["before"]["value"]),
        (200, &json!(1), &json!(1.0)),
        "{answer}"
    );
    // What the sensor says about that moment doesn't come back.
    client.block(2, block(hash, shared::block::TimeBase::Utc, &[(0, at, 9.0)])).await;
    client.wait_committed(seqs([1, 2])).await;
    collector.wait_for_history("DIST_001", &[(Timestamp(at), Some(2.5))]).await;
    let (status, answer) = post(&collector, "readings", entry(at, Value::Null)).await;
    assert_eq!(
        (status, &answer["items"][0]["quality"], &answer["items"][0]["revision"]),
        (200, &json!("bad (withdrawn)"), &json!(2))
    );
    collector.wait_for_history("DIST_001", &[(Timestamp(at), None)]).await;
    // Also while the hot tier is away, and nothing else comes.
    hot.away.store(true, std::sync::atomic::Ordering::SeqCst);
    let (status, answer) = post(&collector, "readings", entry(at, json!(2.5))).await;
    assert_eq!((status, &answer["items"][0]["revision"]), (200, &json!(3)), "{answer}");
    collector.wait_for_history("DIST_001", &[(Timestamp(at), Some(2.5))]).await;
    let audit = collector.get("audit").await;
    let newest = &audit["items"][0];
    assert_eq!(
        (&newest["who"], &newest["detail"]["readings"][0]["before"]["value"]),
        (&json!("M. Rossi"), &json!(null)),
        "{audit}"
    );

    for (body, says) in [
        (entry(at, json!(1e9)), "is no"),
        (entry(now() + 3 * HOUR, json!(1.0)), "in the future"),
        (json!({ "author": " ", "reason": "x", "readings": [] }), "must be said"),
        (json!({ "author": "x", "reason": "x", "readings": [] }), "at a time"),
        (json!({ "author": "x" }), "missing field"),
        (
            json!({ "author": "x", "reason": "x", "readings": [{ "node": "DIST_001", "metric": "level", "at": "yesterday", "value": 1.0 }] }),
            "'yesterday' is no time like 2026-03-01T00:00:00Z or 2026-03-01T01:00:00+01:00",
        ),
        (
            json!({ "author": "x", "reason": "x", "readings": [{ "node": "DIST_001", "metric": "level", "at": Timestamp(at) }] }),
            "missing field `value`",
        ),
        (
            json!({ "author": "x", "reason": "x", "readings": [{ "node": "NOWHERE", "metric": "level", "at": Timestamp(at), "value": 1.0 }] }),
            "there is no series NOWHERE/level",
        ),
    ] {
        let (status, problem) = post(&collector, "readings", body).await;
        assert!(status == 400 && problem["detail"].as_str().unwrap().contains(says), "{status} {problem} {says}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_shows_nowhere_and_what_is_taken_shows_at_once() {
    let site = Site::new(&["STATION_7"], |config| {
        config.buffer.flush_interval = std::time::Duration::from_millis(50).into();
    });
    let (collector, warm, _) = site.start_faulty().await;
    let at = now() - 60 * SECOND;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    client.block(1, block(hash, shared::block::TimeBase::Utc, &[(0, at, 1.0)])).await;
    client.wait_committed(seqs([1])).await;
    let series = collector.get("series").await["items"][0].clone();
    let enter = async |value: f64| {
        let reading = json!({ "node": series["node"], "metric": series["metric"], "channel": series["channel"],
            "at": Timestamp(at + SECOND), "value": value });
        let body = json!({ "author": "M. Rossi", "reason": "read by eye", "readings": [reading] });
        post(&collector, "readings", body).await.0
    };
    let tiers = async || {
        let (from, to) = (Timestamp(at), Timestamp(at + 2 * SECOND));
        let path = format!("history?node=DIST_001&metric=pressure&from={from}&to={to}&resolution=raw");
        collector.get(&path).await["tiers"].clone()
    };
    assert_eq!(tiers().await, json!(["hot"]));
    let shown = async || collector.get("latest").await["items"][0]["value"].clone();
    warm.refuses.lock().unwrap().push(66.0);
    assert_eq!(enter(66.0).await, 500);
    collector.wait_for_history("DIST_001", &[(Timestamp(at), Some(1.0))]).await;
    assert_eq!((shown().await, tiers().await), (json!(1.0), json!(["hot"])), "nothing is in doubt any more");
    // It is stored, and nobody hears of it.
    warm.loses_answers.store(1, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(enter(5.0).await, 503);
    assert_eq!(shown().await, json!(5.0));
    collector.wait_for_history("DIST_001", &[(Timestamp(at), Some(1.0)), (Timestamp(at + SECOND), Some(5.0))]).await;
    assert_eq!(enter(6.0).await, 200);
    assert_eq!(shown().await, json!(6.0));
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_is_imported_elsewhere_as_it_was() {
    let (here, there) = (Site::new(&[], |_| {}), Site::new(&[], |_| {}));
    let (first, second) = (here.start().await, there.start().await);
    let (config_here, config_there) = (config(&here, &first), config(&there, &second));
    let file = here.folder.path().join("demand.csv");
    std::fs::write(&file, two_districts(300)).unwrap();
    run(&config_here, &["import", file.to_str().unwrap(), "--metric", "flow_rate", "--create"]).await;
    let (out, parquet) = (here.folder.path().join("out.csv"), here.folder.path().join("out.parquet"));
    let from = Timestamp(START).to_string();
    assert!(!file.with_extension("csv.import").exists());
    let export = ["export", "--from", &from, "--out"];
    for out in [&out, &parquet] {
        let done = run(&config_here, &[&export[..], &[out.to_str().unwrap()]].concat()).await;
        assert!(done.status.success(), "{done:?}");
    }
    let taken = run(&config_there, &["import", out.to_str().unwrap(), "--create", "--json"]).await;
    assert!(taken.status.success(), "{taken:?}");
    assert_eq!(json_of(&taken)["sum"]["written"], 500);
    let again = run(&config_there, &["export", "--from", &from]).await;
    assert_eq!(String::from_utf8(again.stdout).unwrap(), std::fs::read_to_string(&out).unwrap());
    let reader = parquet::file::reader::SerializedFileReader::new(std::fs::File::open(&parquet).unwrap()).unwrap();
    let rows = parquet::file::reader::FileReader::metadata(&reader).file_metadata().num_rows();
    assert_eq!(rows, 500);
    // What isn't a file stays what it is.
    let (link, pipe) = (here.folder.path().join("link.csv"), here.folder.path().join("pipe"));
    std::os::unix::fs::symlink(&out, &link).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let whole = std::fs::read_to_string(&out).unwrap();
    let named = pipe.clone();
    let reader = tokio::task::spawn_blocking(move || std::fs::read_to_string(named).unwrap());
    for out in [&link, &pipe] {
        let done = run(&config_here, &[&export[..], &[out.to_str().unwrap()]].concat()).await;
        assert!(done.status.success() && !std::fs::symlink_metadata(out).unwrap().is_file(), "{done:?}");
    }
    assert_eq!(reader.await.unwrap(), whole);
    for (out, why) in
        [(here.folder.path(), "is a folder: name a file"), (Path::new("/dev/full"), "full can't be written")]
    {
        let done = run(&config_here, &[&export[..], &[out.to_str().unwrap()]].concat()).await;
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && said.contains(why), "{said}");
    }
    let nothing = run(&config_here, &["export", "--node", "NOWHERE"]).await;
    assert!(!nothing.status.success() && String::from_utf8_lossy(&nothing.stderr).contains("no series"), "{nothing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_aside_is_released_into_its_series_or_dropped() {
    let site = Site::new(&["STATION_7"], |config| {
        config.buffer.flush_interval = std::time::Duration::from_millis(50).into();
    });
    let collector = site.start().await;
    let config = config(&site, &collector);
    let at = now() - 60 * SECOND;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    let future = now() + 24 * HOUR;
    client.block(1, block(hash, shared::block::TimeBase::Utc, &[(0, at, 1.0), (0, future, 2.0)])).await;
    client.wait_committed(seqs([1])).await;
    // Rows of a time before the grant lie there, too.
    let row = collector.get("quarantine").await["items"][0].clone();
    assert_eq!(row["set_aside_because"], "future");
    let mut other = collector::tiers::Flush::default();
    let warm = collector::tiers::warm::sqlite::SqliteWarm::open(&site.config.warm_file()).await.unwrap();
    let mut refused = collector::tiers::WarmTier::quarantine(&warm, None, 1).await.unwrap().remove(0);
    refused.at = Timestamp(at + SECOND);
    refused.reason = "not granted: DIST_001".into();
    other.quarantine = vec![refused];
    collector::tiers::WarmTier::commit(&warm, other).await.unwrap();

    let release = ["quarantine", "release", "--reason", "granted now", "--author", "M. Rossi", "--json"];
    let dry = json_of(&run(&config, &[&release[..], &["--dry-run"]].concat()).await);
    assert_eq!(
        (&dry["released"], &dry["chosen"], &dry["left"]["it still is in the future"]),
        (&json!(1), &json!(2), &json!(1))
    );
    let done = json_of(&run(&config, &[&release[..], &["--because", "not granted"]].concat()).await);
    assert_eq!((&done["released"], &done["chosen"]), (&json!(1), &json!(1)));
    collector.wait_for_history("DIST_001", &[(Timestamp(at), Some(1.0)), (Timestamp(at + SECOND), Some(2.0))]).await;
    let dropped = run(&config, &["quarantine", "drop", "--reason", "a clock in 2036", "--because", "future"]).await;
    assert_eq!(String::from_utf8_lossy(&dropped.stdout), "dropped  1 of 1 rows\n");
    let list = run(&config, &["quarantine", "list"]).await;
    assert_eq!(String::from_utf8_lossy(&list.stdout), "nothing is set aside\n");
    let audit = collector.get("audit").await;
    assert_eq!(
        (&audit["items"][1]["who"], &audit["items"][1]["detail"]["reason"]),
        (&json!("M. Rossi"), &json!("granted now"))
    );
}
