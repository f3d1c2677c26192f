//! docker-compose.yml can't be run by our tests; what can be said of it by reading is checked here.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

#[path = "services/mod.rs"]
mod services;

use collector::tiers::hot::redis::probe;
use collector::tiers::hot::settings::HotSettings;
use collector::tiers::warm::settings::Secret;
use rustix::process::Signal;
use services::{Service, eventually, free_port};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use yaml_rust2::{Yaml, YamlLoader};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn compose() -> Yaml {
    let text = std::fs::read_to_string(root().join("docker-compose.yml")).unwrap();
    YamlLoader::load_from_str(&text).unwrap().remove(0)
}

fn services(compose: &Yaml) -> Vec<(&str, &Yaml)> {
    let services = compose["services"].as_hash().unwrap();
    services.iter().map(|(name, service)| (name.as_str().unwrap(), service)).collect()
}

fn strings(list: &Yaml) -> Vec<&str> {
    list.as_vec().map_or_else(Vec::new, |all| all.iter().filter_map(Yaml::as_str).collect())
}

fn keys(hash: &Yaml) -> Vec<&str> {
    hash.as_hash().map_or_else(Vec::new, |hash| hash.keys().filter_map(Yaml::as_str).collect())
}

/// Done once; nobody asks after its health. Tried again for ever, a mistake in the configuration would never be told.
fn runs_once(service: &Yaml) -> bool {
    service["restart"].as_str() == Some("no")
}

#[test]
fn every_part_is_there_and_says_how_it_is() {
    let compose = compose();
    let all = services(&compose);
    let names: BTreeSet<&str> = all.iter().map(|(name, _)| *name).collect();
    for wanted in ["timescaledb", "redis", "mosquitto", "collector", "simulators", "edge-agent"] {
        assert!(names.contains(wanted), "{wanted}");
    }
    for (name, service) in &all {
        assert!(runs_once(service) || !service["healthcheck"]["test"].is_badvalue(), "{name} has no health check");
        for other in keys(&service["depends_on"]) {
            let (_, needed) = all.iter().find(|(name, _)| *name == other).unwrap_or_else(|| panic!("{name}: {other}"));
            let condition = service["depends_on"][other]["condition"].as_str().unwrap();
            assert_eq!(runs_once(needed), condition == "service_completed_successfully", "{name}: {other}");
            assert!(
                *name != "collector" || condition != "service_healthy",
                "{other}, broken, would keep it from starting"
            );
            let demo = |service: &Yaml| strings(&service["profiles"]) == ["demo"];
            assert!(demo(service) || !demo(needed), "{name} would wait for ever for {other}");
        }
    }
    let demo: BTreeSet<&str> =
        all.iter().filter(|(_, s)| !s["profiles"].is_badvalue()).map(|(name, _)| *name).collect();
    assert_eq!(demo, ["demo-certificate", "edge-agent", "simulators"].into());
}

#[test]
fn no_password_has_a_default_or_is_an_argument() {
    let compose = compose();
    for (name, service) in services(&compose) {
        for variable in keys(&service["environment"]) {
            let value = service["environment"][variable].as_str().unwrap();
            if variable.contains("PASSWORD") {
                assert!(value.starts_with(&format!("${{{variable}:?")) && value.ends_with('}'), "{name}: {value}");
            }
        }
        // $$ is left to the container's own shell, whose printf shows its arguments to nobody.
        for part in ["command", "entrypoint"] {
            assert!(
                strings(&service[part]).iter().all(|text| !text.replace("$$", "").contains("${")),
                "{name}: {part}"
            );
        }
    }
    let environment = &compose["services"]["collector"]["environment"];
    for variable in ["HOST", "PORT", "DB", "USER", "PASSWORD"] {
        assert!(environment[format!("POSTGRES_{variable}").as_str()].as_str().is_some(), "POSTGRES_{variable}");
    }
    for variable in ["PROJECT_ID", "DATASET_ID", "LOCATION"] {
        assert!(environment[format!("BIGQUERY_{variable}").as_str()].as_str().is_some(), "BIGQUERY_{variable}");
    }
}

#[test]
fn images_are_pinned_and_what_is_built_or_mounted_exists() {
    let compose = compose();
    let text = std::fs::read_to_string(root().join("docker/Dockerfile")).unwrap();
    let stages: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("FROM ")?.split(" AS ").nth(1)).collect();
    let mut built = BTreeSet::new();
    for (name, service) in services(&compose).iter().filter(|(_, service)| !service["build"].is_badvalue()) {
        assert!(
            built.insert(service["image"].as_str().unwrap()),
            "{name}: `up` would make its container anew each time"
        );
    }
    for (name, service) in services(&compose) {
        let image = service["image"].as_str().unwrap();
        let never = service["pull_policy"].as_str() == Some("never");
        assert_eq!(never, built.contains(image), "{name}: {image} is in no registry, or only there");
        if service["build"].is_badvalue() {
            assert!(built.contains(image) || image.contains(':') && !image.ends_with(":latest"), "{name}: {image}");
        } else {
            let target = service["build"]["target"].as_str().unwrap();
            assert!(stages.contains(&target), "{name}: {target} is none of {stages:?}");
            assert_eq!(service["build"]["dockerfile"].as_str(), Some("docker/Dockerfile"));
        }
        // A file of who installs it is written in full: `key.json:…` would be a volume of that name.
        for volume in strings(&service["volumes"]) {
            let from = volume.split(':').next().unwrap();
            let there = match from.strip_prefix("./") {
                Some(path) => root().join(path).is_file(),
                None => keys(&compose["volumes"]).contains(&from),
            };
            assert!(there, "{name}: {volume}");
        }
    }
}

/// Where it listens is reached from outside, and asked after its health.
#[test]
fn the_dashboard_is_reached_over_tls_by_those_who_log_in() {
    let text = std::fs::read_to_string(root().join("config/compose/collector.toml")).unwrap();
    let config: collector::config::Config = toml::from_str(&text).unwrap();
    assert!(!config.api.listen.ip().is_loopback() && config.api_identity().is_some());
    let compose = compose();
    let service = &compose["services"]["collector"];
    for (port, variable) in
        [(config.ingest.listen.port(), "COLLECTOR_PORT"), (config.api.listen.port(), "DASHBOARD_PORT")]
    {
        assert!(strings(&service["ports"]).contains(&&*format!("${{{variable}:-{port}}}:{port}")), "{port}");
    }
    let health = format!("https://127.0.0.1:{}/api/v1/health", config.api.listen.port());
    assert!(strings(&service["healthcheck"]["test"]).contains(&&*health), "{health}");
    let image = std::fs::read_to_string(root().join("docker/Dockerfile")).unwrap();
    assert!(image.contains(&health));
}

/// Whose container is made anew is the same collector still, and nobody is root who needn't be.
#[test]
fn the_collector_keeps_its_name_and_nothing_is_made_root() {
    let compose = compose();
    assert_eq!(compose["services"]["collector"]["hostname"].as_str(), Some("collector"));
    for (name, service) in services(&compose) {
        assert!(service["user"].is_badvalue(), "{name}");
    }
    let text = std::fs::read_to_string(root().join("docker/Dockerfile")).unwrap();
    let stage = text.split("\nFROM ").find(|stage| stage.starts_with("base AS collector")).unwrap();
    let owned = stage.lines().find_map(|line| line.strip_prefix("RUN install -d -o telemetry -g telemetry ")).unwrap();
    let certificates = compose["services"]["demo-certificate"]["volumes"].as_vec().unwrap();
    let at = certificates.iter().find_map(|volume| volume.as_str()?.strip_prefix("certificates:")).unwrap();
    assert!(owned.split(' ').any(|folder| folder == at), "{at} is root's");
}

#[test]
fn the_passwords_get_neither_into_an_image_nor_into_git() {
    for (file, line) in [(".dockerignore", ".env"), (".gitignore", "/.env")] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        assert!(text.lines().any(|found| found == line), "{file}");
    }
}

/// Every `--bin`, `--example` and `COPY --from` of the Dockerfile is something that there is.
#[test]
fn the_dockerfile_builds_what_the_workspace_has() {
    let text = std::fs::read_to_string(root().join("docker/Dockerfile")).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    let after = |flag: &str| words.windows(2).filter(|w| w[0] == flag).map(|w| w[1]).collect::<Vec<_>>();
    assert_eq!(after("--bin"), ["collector", "edge-agent"]);
    assert_eq!(after("--example"), ["demo"]);
    assert!(root().join("collector/examples/demo/main.rs").is_file());
    let stages = after("AS");
    for from in words.iter().filter_map(|word| word.strip_prefix("--from=")) {
        assert!(stages.contains(&from), "{from}");
    }
    let rust = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let wanted = rust.lines().find_map(|line| line.strip_prefix("rust-version = \"")?.split('"').next()).unwrap();
    assert!(text.contains(&format!("FROM rust:{wanted}-")), "the workspace needs {wanted}");
    assert!(!text.contains("# syntax="), "one image more that a build would need");
    for path in ["docker/Dockerfile", "docker/mosquitto.conf", ".dockerignore"] {
        assert!(root().join(path).is_file(), "{path}");
    }
}

/// A script of the file, run here: its folder is `folder`, and what it would start as the last is left out.
fn script(text: &str, (folder, at): (&Path, &str), environment: &[(&str, &str)]) -> Output {
    let stubs = folder.join("stubs");
    std::fs::create_dir_all(&stubs).unwrap();
    for name in ["chown", "docker-entrypoint.sh", "mosquitto"] {
        std::fs::write(stubs.join(name), "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(stubs.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let text = text.replace("$$", "$").replace(at, folder.to_str().unwrap());
    let path = format!("{}:{}", stubs.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("sh");
    command.args(["-c", &text]).env("PATH", path).envs(environment.iter().copied());
    command.output().unwrap()
}

/// What a password may hold.
const PASSWORDS: [&str; 4] = ["a:b", " leads", r#"quo"ted \ back"#, "$x'y#z"];

#[tokio::test]
async fn any_password_is_redis_password() {
    let compose = compose();
    let text = strings(&compose["services"]["redis"]["command"])[0].to_owned();
    for password in PASSWORDS {
        let folder = tempfile::tempdir().unwrap();
        let environment = [("REDIS_PASSWORD", password), ("REDIS_MEMORY", "64mb")];
        let made = script(&text, (folder.path(), "/run/redis"), &environment);
        assert!(made.status.success(), "{made:?}");
        let (config, port) = (folder.path().join("redis.conf"), free_port());
        // The volume of the container.
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.replace("dir /data", "")).unwrap();
        let command = [
            "redis-server",
            config.to_str().unwrap(),
            "--bind",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--dir",
            folder.path().to_str().unwrap(),
        ];
        let _server = Service::start(&command, None, Signal::TERM, Stdio::null());
        let settings = |password: &str| {
            let password = Some(Secret::new(password));
            HotSettings { host: "127.0.0.1".into(), port, password, ..HotSettings::default() }
        };
        let asked = async |password: &str| {
            let settings = settings(password);
            tokio::task::spawn_blocking(move || probe(&settings).is_ok()).await.unwrap()
        };
        eventually(password, Duration::from_secs(20), async || asked(password).await).await;
        assert!(!asked("another").await, "{password}");
    }
}

#[tokio::test]
async fn any_password_is_the_brokers_password() {
    let compose = compose();
    let service = &compose["services"]["mosquitto"];
    let (text, health) = (strings(&service["command"])[0], strings(&service["healthcheck"]["test"])[1]);
    for password in PASSWORDS {
        let folder = tempfile::tempdir().unwrap();
        let at = (folder.path(), "/run/mosquitto");
        let made = script(text, at, &[("MQTT_USER", "sensors"), ("MQTT_PASSWORD", password)]);
        assert!(made.status.success(), "{made:?}");
        let (config, port) = (folder.path().join("mosquitto.conf"), free_port());
        let passwords = folder.path().join("password");
        std::fs::write(
            &config,
            format!(
                "listener {port} 127.0.0.1\nuser root\nallow_anonymous false\npassword_file {}\n",
                passwords.display()
            ),
        )
        .unwrap();
        let _broker = Service::start(&["mosquitto", "-c", config.to_str().unwrap()], None, Signal::TERM, Stdio::null());
        let asked = |password: &str| {
            let text = health.replace("mosquitto_sub -t", &format!("mosquitto_sub -p {port} -t"));
            script(&text, at, &[("MQTT_USER", "sensors"), ("MQTT_PASSWORD", password)]).status.success()
        };
        eventually(password, Duration::from_secs(20), async || asked(password)).await;
        assert!(!asked(password.split(':').next().unwrap_or_default()) || !password.contains(':'), "not a part of it");
    }
    let folder = tempfile::tempdir().unwrap();
    let refused = script(text, (folder.path(), "/run/mosquitto"), &[("MQTT_USER", "a:b"), ("MQTT_PASSWORD", "x")]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("MQTT_USER in .env"), "{refused:?}");
}

/// The broker as docker/mosquitto.conf has it, with a folder and a port of its own; what it says is in `log`.
fn broker(folder: &Path, port: u16) -> Service {
    let text = std::fs::read_to_string(root().join("docker/mosquitto.conf")).unwrap();
    let text = text
        .replace(
            "listener 1883\nallow_anonymous false\n",
            &format!("user root\nlistener {port} 127.0.0.1\nallow_anonymous true\n"),
        )
        .replace("password_file /run/mosquitto/password\n", "")
        .replace("/mosquitto/data", folder.to_str().unwrap());
    let config = folder.join("mosquitto.conf");
    std::fs::write(&config, text).unwrap();
    let command = format!("exec mosquitto -c '{}' >>'{}' 2>&1", config.display(), folder.join("log").display());
    Service::start(&["sh", "-c", &command], None, Signal::TERM, Stdio::null())
}

fn holds(path: &Path, what: &str) -> bool {
    std::fs::read(path).is_ok_and(|bytes| bytes.windows(what.len()).any(|part| part == what.as_bytes()))
}

/// A sensor that heard it was taken doesn't send it again: it waits for an agent that is away, though the broker is killed.
#[tokio::test]
async fn what_the_broker_acknowledged_outlives_it_and_what_it_says_is_seen_at_once() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let log = folder.path().join("log");
    let client = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(["-p", &port.to_string(), "-t", "meters/DIST_002", "-q", "1"]).args(arguments);
        command.output().unwrap()
    };
    let mut service = broker(folder.path(), port);
    eventually("the broker says that it runs", Duration::from_secs(20), async || holds(&log, " running")).await;
    assert!(client("mosquitto_sub", &["-c", "-i", "gateway", "-E"]).status.success());
    assert!(client("mosquitto_pub", &["-m", "flow 12.5"]).status.success());
    let kept = folder.path().join("mosquitto.db");
    eventually("the message is on its disk", Duration::from_secs(20), async || holds(&kept, "flow 12.5")).await;
    service.kill();
    std::fs::remove_file(&log).unwrap();
    let _service = broker(folder.path(), port);
    eventually("the broker says that it runs", Duration::from_secs(20), async || holds(&log, " running")).await;
    let heard = client("mosquitto_sub", &["-c", "-i", "gateway", "-C", "1", "-W", "10"]);
    assert_eq!(String::from_utf8_lossy(&heard.stdout), "flow 12.5\n");
}

/// Who logs in to the broker is said in one place.
#[test]
fn the_demos_agent_is_the_user_of_the_broker() {
    let text = std::fs::read_to_string(root().join("config/compose/agent.toml")).unwrap();
    assert!(text.contains("user_env = \"MQTT_USER\"") && text.contains("password_env = \"MQTT_PASSWORD\""));
    let compose = compose();
    for name in ["mosquitto", "simulators", "edge-agent"] {
        let user = &compose["services"][name]["environment"]["MQTT_USER"];
        assert_eq!(user.as_str(), Some("${MQTT_USER:-sensors}"), "{name}");
    }
}

/// An authority that is half made isn't taken for one.
#[test]
fn the_authority_is_there_when_its_certificate_is_too() {
    let compose = compose();
    let text = strings(&compose["services"]["authority"]["command"])[0];
    assert!(text.contains("ca.pem &&") && text.contains("server.pem;"), "{text}");
}
