//! The program as a person or systemd meets it: command line, exit codes, signals.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

mod support;

use serde_json::Value;
use shared::block::TimeBase;
use shared::reading::Timestamp;
use support::process::{collector, process_client};
use support::*;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn help_has_examples_and_exit_codes() {
    let help = collector(&["--help"]);
    assert!(help.status.success());
    let said = text(&help.stdout);
    assert!(said.contains("collector ca issue STATION_7") && said.contains("Exit codes"), "{said}");
    assert!(!said.contains('\u{1b}'), "no colours in a pipe");
    let version: Value = serde_json::from_slice(&collector(&["version", "--json"]).stdout).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn wrong_usage_and_wrong_configuration_are_2_and_failure_is_1() {
    assert_eq!(collector(&["ruin"]).status.code(), Some(2));
    let site = Site::new(&["STATION_7"], |_| {});
    let config = site.write_config("[buffre]\nflush_rows = 1");
    let path = config.to_str().unwrap();
    for command in [&["run", "-c", path][..], &["check", "-c", path], &["ca", "init", "-c", path]] {
        let output = collector(command);
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        let said = text(&output.stderr) + &text(&output.stdout);
        assert!(said.contains("collector.toml:") && said.contains("buffer"), "{said}");
    }
    let config = site.write_config("");
    let path = config.to_str().unwrap();
    let again = collector(&["ca", "init", "-c", path]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("is already there"), "{}", text(&again.stderr));
    assert_eq!(collector(&["ca", "issue", "../x", "-c", path]).status.code(), Some(2));
    assert_eq!(collector(&["ca", "revoke", "NOBODY", "-c", path]).status.code(), Some(1));
}

#[test]
fn check_names_every_mistake_at_once_and_changes_nothing() {
    let mut site = Site::new(&[], |config| {
        config.api.listen = "0.0.0.0:0".parse().unwrap();
        config.data_dir = config.data_dir.join("sub");
    });
    std::fs::remove_file(site.ca("server.key")).unwrap();
    site.config.log.level = None;
    let config = site.write_config("");
    let output = collector(&["check", "--json", "-c", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let errors: Vec<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|f| f["verdict"] != "ok")
        .map(|f| f["what"].as_str().unwrap())
        .collect();
    assert_eq!(errors, ["[api]", "certificate", "[grants]"], "{report}");
    assert!(!site.config.data_dir.join("spool").exists());
}

/// What is wrong is put right where it stands.
#[test]
fn values_of_the_environment_are_named_by_their_variable() {
    let site = Site::new(&["STATION_7"], |_| {});
    let config = site.write_config("");
    for (name, value, why) in [
        ("CACHE_TTL_HOURS", "0", "1 to 168 are possible"),
        ("CACHE_REFRESH_HOURS", "30", "1 to 24 are possible"),
        ("POSTGRES_PORT", "70000", "1 to 65535"),
        ("POSTGRES_PORT", "0", "1 to 65535"),
        ("REDIS_PORT", "0", "1 to 65535"),
        ("REDIS_DB", "first", "a whole number, not below 0, is needed"),
        ("BIGQUERY_LOCATION", "E U", "EU or europe-west8"),
    ] {
        let mut command = std::process::Command::new(process::PROGRAM);
        command
            .args(["check", "-c", config.to_str().unwrap()])
            .env("BIGQUERY_PROJECT_ID", "abbanoa-464816")
            .env(name, value);
        let output = command.output().unwrap();
        let said = text(&output.stdout);
        assert!(said.contains(&format!("environment: {name} = {value}: ")) && said.contains(why), "{name}: {said}");
        assert!(!said.contains("collector.toml: "), "the file isn't to blame: {said}");
    }
}

/// Runs it with variables that say something of servers.
fn collector_with(variables: &[(&str, &str)], args: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new(process::PROGRAM);
    command.args(args).envs(variables.iter().copied()).output().unwrap()
}

#[test]
fn variables_of_a_server_that_isnt_used_are_warned_of() {
    let site = Site::new(&["STATION_7"], |_| {});
    std::fs::remove_file(site.ca("server.key")).unwrap();
    let config = site.write_config("");
    let path = config.to_str().unwrap();
    let set = [("POSTGRES_DB", "tele"), ("REDIS_PORT", "26379")];
    for command in ["check", "run"] {
        let output = collector_with(&set, &[command, "-c", path]); // it doesn't start, without its key
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(!output.status.success(), "{said}");
        for switch in ["POSTGRES_HOST", "REDIS_HOST"] {
            assert!(said.contains(&format!("is used: set {switch}")), "{command}: {said}");
        }
    }
}

#[test]
fn a_redis_that_cant_be_reached_names_its_settings() {
    let site = Site::new(&["STATION_7"], |_| {});
    let config = site.write_config("");
    let output =
        collector_with(&[("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", "1")], &["check", "-c", config.to_str().unwrap()]);
    let said = text(&output.stdout);
    assert!(said.contains("127.0.0.1:1: ") && said.contains("host / REDIS_HOST and port / REDIS_PORT"), "{said}");
}

/// Days that have left the database are nowhere else.
#[tokio::test]
async fn check_misses_days_of_the_archive() {
    use collector::etl::ledger::Export;
    use collector::tiers::warm::sqlite::SqliteWarm;
    use collector::tiers::{Day, Flush, Proof, StoredReading, WarmTier as _};
    use shared::reading::{Held, Quality};
    let site = Site::new(&["STATION_7"], |_| {});
    let warm = SqliteWarm::open(&site.config.warm_file()).await.unwrap();
    let (day, gateway) = (Day(20_000), shared::ids::GatewayId::new("STATION_7").unwrap());
    let series = warm.series_for(&gateway, catalogue(&["A"]).entries()).await.unwrap().remove(0).unwrap();
    let held = Held { value: Some(1.0), quality: Quality::GOOD, revision: 0 };
    let readings = vec![StoredReading { series, at: day.start(), held }];
    warm.commit(Flush { readings, ..Flush::default() }).await.unwrap();
    let entry = warm.days().days(day, day.next()).await.unwrap()[0];
    let proof = Proof::of(warm.days().rows(day)).await.unwrap();
    let export = Export { day, before: entry.exported, version: entry.version, warm: proof, cold: proof };
    assert!(warm.days().exported(export).await.unwrap());
    warm.close().await;
    let output = collector(&["check", "-c", site.write_config("").to_str().unwrap()]);
    let said = text(&output.stdout);
    assert!(said.contains("doesn't have 1 day that were archived there") && said.contains("2024-10-04"), "{said}");
    std::fs::write(site.config.warm_file(), "no database").unwrap();
    let output = collector(&["check", "-c", site.write_config("").to_str().unwrap()]);
    assert!(output.status.code() == Some(2) && text(&output.stdout).contains("warm.sqlite"), "{output:?}");
}

#[test]
fn check_says_whose_certificate_is_not_a_servers_and_which_key_everybody_can_read() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new(&["STATION_7"], |_| {});
    std::fs::copy(site.ca("STATION_7.pem"), site.ca("server.pem")).unwrap();
    std::fs::copy(site.ca("STATION_7.key"), site.ca("server.key")).unwrap();
    std::fs::set_permissions(site.ca("server.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = collector(&["check", "-c", site.write_config("").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stdout);
    assert!(said.contains("server.pem is a gateway's") && said.contains("chmod 600"), "{said}");
}

#[test]
fn certificates_are_issued_and_taken_back_on_the_command_line() {
    let site = Site::new(&["STATION_7"], |_| {});
    let config = site.write_config("");
    let path = config.to_str().unwrap();
    let issued: Value =
        serde_json::from_slice(&collector(&["ca", "issue", "STATION_9", "--json", "-c", path]).stdout).unwrap();
    assert!(std::path::Path::new(issued["cert"].as_str().unwrap()).exists());
    let revoked: Value =
        serde_json::from_slice(&collector(&["ca", "revoke", "STATION_9", "--json", "-c", path]).stdout).unwrap();
    assert_eq!(revoked["revoked"][0], issued["serial"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_kill_9_and_sigterm_ends_in_order() {
    let site = Site::new(&["STATION_7"], |config| {
        config.buffer.flush_interval = std::time::Duration::from_secs(600).into();
    });
    let at = now() - 60 * SECOND;
    let process = site.spawn();
    let to = process_client(&site, &process);
    let (mut client, hash) = Client::ready(&to, "STATION_7", &["DIST_001"]).await;
    client.block(1, block(hash, TimeBase::Utc, &[(0, at, 1.0)])).await;
    client.wait_stored(seqs([1])).await;
    process.kill();

    let process = site.spawn();
    let to = process_client(&site, &process);
    let mut client = Client::connect(&to, "STATION_7", hello(STREAM, 1)).await;
    let (stored, committed, highest, catalogues) = client.welcome();
    assert_eq!((stored, committed, highest, catalogues), (seqs([1]), seqs([]), 1, vec![hash]));
    to.wait_for_history("DIST_001", &[(Timestamp(at), Some(1.0))]).await;
    client.block(2, block(hash, TimeBase::Utc, &[(0, at + SECOND, 2.0)])).await;
    client.wait_stored(seqs([2])).await;
    let (status, log) = process.terminate();
    assert!(status.success());
    let said = |what: &str| log.iter().any(|line| line.contains(what));
    assert!(said("the collector stops") && !said("revoked"), "{log:#?}");
    client.wait_closed().await;

    let process = site.spawn();
    let to = process_client(&site, &process);
    let client = Client::connect(&to, "STATION_7", hello(STREAM, 2)).await;
    assert_eq!(client.welcome().1, seqs([1, 2]), "the stop committed what was waiting");
    assert!(process.log().iter().all(|line| serde_json::from_str::<Value>(line).is_ok()));
}
