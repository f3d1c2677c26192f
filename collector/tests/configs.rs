//! Every configuration in `config/` can be read by the program it is for.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

use std::path::{Path, PathBuf};

fn all(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "toml") {
            found.push(path);
        }
    }
}

#[test]
fn every_example_is_a_configuration_of_the_program_it_is_for() {
    let mut found = Vec::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    all(&folder, &mut found);
    assert!(found.len() >= 4, "{found:?}");
    for path in found {
        match path.file_name().unwrap().to_str().unwrap() {
            "collector.toml" => {
                collector::config::Config::load(&path).unwrap_or_else(|error| panic!("{error}"));
            }
            "agent.toml" => is_right_for_the_agent(&path),
            // Any other is a part: laid beside the agent's own, they count as one.
            part => {
                let together = tempfile::tempdir().unwrap();
                std::fs::copy(&path, together.path().join(part)).unwrap();
                std::fs::copy(folder.join("agent.toml"), together.path().join("agent.toml")).unwrap();
                is_right_for_the_agent(together.path());
            }
        }
    }
}

#[track_caller]
fn is_right_for_the_agent(path: &Path) {
    let config = edge_agent::config::Config::load(path).unwrap_or_else(|error| panic!("{error}"));
    // Certificates and passwords are made when the program is installed; everything else must be right.
    let absent = |mistake: &String| mistake.contains("No such file") || mistake.contains("isn't set");
    let mistakes = config.mistakes().into_iter().map(|(_, why)| why);
    let mistakes: Vec<String> = mistakes.filter(|why| !absent(why)).collect();
    assert!(mistakes.is_empty(), "{}: {mistakes:#?}", path.display());
}
