//! The documented example is what the program takes, and names its defaults.

use collector::config::Config;
use std::path::Path;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/collector.toml");

/// As debug text, without what the example has to say for itself.
fn shown(mut config: Config) -> String {
    config.grants = Default::default();
    config.nodes = Default::default();
    config.log.level = None;
    format!("{config:#?}")
}

#[test]
fn the_example_is_read_and_says_the_defaults() {
    let config = Config::load(Path::new(EXAMPLE)).unwrap();
    assert_eq!(shown(config.clone()), shown(Config::default()));
    assert_eq!(config.grants.len(), 2);
}

#[test]
fn keys_that_are_commented_out_are_real_ones_and_none_is_left_out() {
    let text = std::fs::read_to_string(EXAMPLE).unwrap();
    let all: String = text
        .lines()
        .map(|line| line.strip_prefix('#').filter(|l| !l.starts_with([' ', '\0'])).unwrap_or(line))
        .map(|l| format!("{l}\n"))
        .collect();
    let all = all.replace("\n#\n", "\n\n");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("collector.toml");
    // The archive lies in a folder or at a url; only tables in BigQuery are read by when a row came.
    let one = all.replace("\nfolder = ", "\n#folder = ").replace("\ndatabase = \"warm\"", "\ndatabase = \"bigquery\"");
    std::fs::write(&path, one).unwrap();
    let config = Config::load(&path).unwrap();
    assert_eq!(config.ingest.revoked.as_deref(), Some(Path::new("/var/lib/collector/ca/revoked")));
    // The names of all fields stand in the debug text of the configuration.
    let mut missing: Vec<String> = format!("{config:#?}")
        .lines()
        .filter_map(|line| line.trim().split_once(": ").map(|(name, _)| name.to_owned()))
        .filter(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        .filter(|name| name != "password") // comes from the environment alone
        .filter(|name| {
            let heads = [format!("[{name}]"), format!("[[{name}]]"), format!(".{name}]")];
            let is_head = |line: &str| line == heads[0] || line == heads[1] || line.ends_with(&heads[2]);
            !all.lines().any(|l| l.starts_with(&format!("{name} = ")) || is_head(l))
        })
        .collect();
    missing.dedup();
    assert!(missing.is_empty(), "config/collector.toml says nothing of {missing:?}");
}
