//! Configuration: every mistake is found by the person who made it.

use super::*;
use toml::Spanned;

#[derive(serde::Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct Config {
    data_dir: String,
    #[serde(default)]
    spool: Spool,
    batch: Option<Batch>,
    #[serde(default)]
    modbus: Vec<Link>,
}
#[derive(serde::Deserialize, Debug, Default)]
#[serde(deny_unknown_fields)]
struct Spool {
    bytes_max: Option<ByteSize>,
    disk_free_min: Option<ByteSize>,
}
#[derive(serde::Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct Batch {
    age_max: HumanDuration,
    #[allow(dead_code)]
    live_interval: Option<HumanDuration>,
}
#[derive(serde::Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct Link {
    name: Spanned<String>,
    #[serde(default)]
    device: Vec<Device>,
    #[allow(dead_code)]
    transport: Option<Transport>,
}
#[derive(serde::Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct Device {
    unit: u8,
}
#[derive(serde::Deserialize, Debug)]
#[serde(rename_all = "kebab-case")]
enum Transport {
    Tcp,
    Rtu,
    RtuOverTcp,
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// What is said about a folder's or, with one file in it, a file's mistake; without the folder's name.
fn mistake(files: &[(&str, &str)]) -> String {
    let folder = folder(files);
    let path = if let [(name, _)] = files { folder.path().join(name) } else { folder.path().into() };
    let message = load::<Config>(&path).unwrap_err().to_string();
    message
        .replace(&format!("{}/", folder.path().display()), "")
        .replace(&folder.path().display().to_string(), "FOLDER")
}

#[test]
fn a_file_gives_the_configuration() {
    let folder = folder(&[(
        "a.toml",
        "data_dir = '/x'\n[spool]\nbytes_max = '256MiB'\n[batch]\nage_max = '1m 30s'\n[[modbus]]\nname = 'p'\ntransport = 'rtu-over-tcp'\n",
    )]);
    let config: Config = load(&folder.path().join("a.toml")).unwrap();
    assert_eq!(config.data_dir, "/x");
    assert_eq!(config.spool.bytes_max, Some(ByteSize::mib(256)));
    assert_eq!(config.batch.unwrap().age_max.0, Duration::from_secs(90));
    assert!(matches!(config.modbus[0].transport, Some(Transport::RtuOverTcp)));
}

#[test]
fn an_unknown_key_is_told_with_file_line_and_the_nearest_known_one() {
    assert_eq!(
        mistake(&[("a.toml", "data_dir = '/x'\n\n[spool]\nbyte_max = '1MiB'\n")]),
        "a.toml:4: unknown key `byte_max`; did you mean `bytes_max`?"
    );
    assert_eq!(
        mistake(&[("a.toml", "data_dir = '/x'\n[[modbus]]\nname = 'p'\n[[modbus.device]]\nunti = 1\n")]),
        "a.toml:5: unknown key `unti`; did you mean `unit`?"
    );
    assert_eq!(
        mistake(&[("a.toml", "data_dir = '/x'\n[batch]\nage_max = '1s'\ninterval = '1s'\n")]),
        "a.toml:4: unknown key `interval`; did you mean `live_interval`?"
    );
}

#[test]
fn an_unknown_key_that_resembles_nothing_is_told_with_what_is_known() {
    assert_eq!(
        mistake(&[("a.toml", "data_dir = '/x'\n[spool]\nqqq = 1\n")]),
        "a.toml:3: unknown key `qqq`; known here: bytes_max, disk_free_min"
    );
}

#[test]
fn an_unknown_word_is_told_with_the_nearest_known_one() {
    assert_eq!(
        mistake(&[("a.toml", "data_dir = '/x'\n[[modbus]]\nname = 'p'\ntransport = 'tpc'\n")]),
        "a.toml:4: unknown variant `tpc`; did you mean `tcp`?"
    );
}

#[test]
fn a_value_of_the_wrong_type_names_its_line() {
    let said = mistake(&[("a.toml", "data_dir = '/x'\n[[modbus]]\nname = 'p'\n[[modbus.device]]\nunit = 'one'\n")]);
    assert!(said.starts_with("a.toml:5: invalid type: string \"one\", expected u8"), "{said}");
    let said = mistake(&[("a.toml", "data_dir = '/x'\n[[modbus]]\nname = 'p'\n[[modbus.device]]\n\nunit = 300\n")]);
    assert!(said.starts_with("a.toml:6: invalid value: integer `300`"), "{said}");
}

#[test]
fn a_bad_duration_or_size_names_its_line_and_shows_how() {
    let said = mistake(&[("a.toml", "data_dir = '/x'\n[batch]\nage_max = '10 parsecs'\n")]);
    assert!(said.starts_with("a.toml:3: '10 parsecs' is no duration") && said.contains("\"10s\""), "{said}");
    let said = mistake(&[("a.toml", "data_dir = '/x'\n[batch]\nage_max = 10\n")]);
    assert!(said.starts_with("a.toml:3: ") && said.contains("a duration like \"10s\""), "{said}");
    let said = mistake(&[("a.toml", "data_dir = '/x'\n[spool]\nbytes_max = 'much'\n")]);
    assert!(said.starts_with("a.toml:3: "), "{said}");
}

#[test]
fn text_that_is_no_toml_names_its_line() {
    let said = mistake(&[("a.toml", "data_dir = '/x'\n\n[spool\nbytes_max = '1MiB'\n")]);
    assert!(said.starts_with("a.toml:3: "), "{said}");
    let said = mistake(&[("a.toml", "data_dir = '/x'\n"), ("b.toml", "\n\n= 1\n")]);
    assert!(said.starts_with("b.toml:3: "), "{said}");
}

#[test]
fn a_missing_key_names_the_table_it_is_missing_in() {
    assert_eq!(mistake(&[("a.toml", "\n\n[spool]\n")]), "a.toml: missing field `data_dir`");
    assert_eq!(mistake(&[("a.toml", ""), ("b.toml", "")]), "FOLDER: missing field `data_dir`");
    let said = mistake(&[("a.toml", "data_dir = '/x'\n[[modbus]]\nname = 'p'\n\n[[modbus]]\n")]);
    assert_eq!(said, "a.toml:5: missing field `name`");
}

#[test]
fn text_that_is_not_utf_8_names_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    fs::write(&path, b"data_dir = '/x'\n# caf\xe9\n").unwrap();
    let said = load::<Config>(&path).unwrap_err().to_string();
    assert_eq!(said, format!("{}:2: this line is not UTF-8 text", path.display()));
}

#[test]
fn the_files_of_a_folder_count_as_one_in_the_order_of_their_names() {
    let folder = folder(&[
        ("20-links.toml", "[[modbus]]\nname = 'second'\n[[modbus.device]]\nunit = 2\n"),
        ("10-base.toml", "data_dir = '/x'\n[spool]\nbytes_max = '1MiB'\n[[modbus]]\nname = 'first'\n"),
        ("30-spool.toml", "[spool]\ndisk_free_min = '8MiB'\n"),
        ("notes.txt", "not = read"),
        (".#10-base.toml", "left by an editor"),
    ]);
    let config: Config = load(folder.path()).unwrap();
    assert_eq!(config.spool.bytes_max, Some(ByteSize::mib(1)));
    assert_eq!(config.spool.disk_free_min, Some(ByteSize::mib(8)));
    let names: Vec<&str> = config.modbus.iter().map(|link| link.name.get_ref().as_str()).collect();
    assert_eq!(names, ["first", "second"]);
    assert_eq!(config.modbus[1].device[0].unit, 2);
}

#[test]
fn a_mistake_in_any_file_of_a_folder_names_that_file_and_its_own_line() {
    let good = ("a.toml", "data_dir = '/x'\n[[modbus]]\nname = 'p'\n");
    let other = ("c.toml", "[[modbus]]\nname = 'r'\n");
    assert_eq!(
        mistake(&[good, ("b.toml", "\n[[modbus]]\nname = 'q'\n\nnmae = 1\n"), other]),
        "b.toml:5: unknown key `nmae`; did you mean `name`?"
    );
    assert_eq!(
        mistake(&[good, other, ("d.toml", "nmae = 1\n")]),
        "d.toml:1: unknown key `nmae`; known here: data_dir, spool, batch, modbus"
    );
    let said = mistake(&[good, other, ("d.toml", "[spool]\nbytes_max = [1]")]);
    assert!(said.starts_with("d.toml:2: "), "{said}");
}

#[test]
fn a_value_that_two_files_set_names_both_places() {
    assert_eq!(
        mistake(&[
            ("a.toml", "data_dir = '/x'\n[spool]\nbytes_max = '1MiB'\n"),
            ("b.toml", "\n[spool]\nbytes_max = '2MiB'\n")
        ]),
        "b.toml:3: `spool.bytes_max` is set already in a.toml:3"
    );
    assert_eq!(
        mistake(&[("a.toml", "data_dir = '/x'\n[[modbus]]\nname = 'p'\n"), ("b.toml", "[modbus]\nname = 'q'\n")]),
        "b.toml:1: `modbus` is set already in a.toml:2"
    );
}

#[test]
fn what_is_not_there_is_named() {
    let folder = folder(&[("notes.txt", "")]);
    let said = load::<Config>(folder.path()).unwrap_err().to_string();
    assert_eq!(said, format!("{}: no file in this folder ends with .toml", folder.path().display()));
    let missing = folder.path().join("gone.toml");
    let said = load::<Config>(&missing).unwrap_err().to_string();
    assert!(said.starts_with(&missing.display().to_string()), "{said}");
}

#[test]
fn a_span_in_the_configuration_leads_to_its_file_and_line() {
    let folder =
        folder(&[("a.toml", "data_dir = '/x'\n[[modbus]]\nname = 'p'"), ("b.toml", "\n\n[[modbus]]\n\nname = 'q'")]);
    let (config, sources) = load_with_sources::<Config>(folder.path()).unwrap();
    let place = |link: &Link| sources.place(&link.name.span()).to_string();
    assert_eq!(place(&config.modbus[0]), format!("{}/a.toml:3", folder.path().display()));
    assert_eq!(place(&config.modbus[1]), format!("{}/b.toml:5", folder.path().display()));
    let said = sources.mistake(&config.modbus[1].name.span(), "the link 'q' has no device").to_string();
    assert!(said.ends_with("b.toml:5: the link 'q' has no device"), "{said}");
}

#[test]
fn a_duration_is_written_as_it_is_read() {
    for text in ["500ms", "10s", "5m", "1h 30m"] {
        let duration: HumanDuration = text.parse().unwrap();
        assert_eq!(duration.to_string(), text);
        let json = serde_json::to_string(&duration).unwrap();
        assert_eq!(serde_json::from_str::<HumanDuration>(&json).unwrap(), duration);
    }
}
