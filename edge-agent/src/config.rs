//! The agent's configuration: one TOML file, or a folder of them.

use crate::clock::Trust;
use crate::sources::{modbus, mqtt};
use rustls::pki_types::ServerName;
use serde::Deserialize;
use shared::config::{ByteSize, ConfigError, HumanDuration};
use shared::telemetry::LogFormat;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything that can be configured, as people write it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the spool, the catalogues and the clock's records are kept.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// Where readings go.
    pub uplink: Uplink,
    /// When blocks are cut.
    #[serde(default)]
    pub batch: BatchConfig,
    /// What the disk may hold.
    #[serde(default)]
    pub spool: SpoolConfig,
    /// Whose time is believed.
    #[serde(default)]
    pub clock: ClockConfig,
    /// The local status page.
    #[serde(default)]
    pub http: HttpConfig,
    /// Logs.
    #[serde(default)]
    pub log: LogConfig,
    /// Modbus links.
    #[serde(default)]
    pub modbus: Vec<modbus::raw::RawLink>,
    /// MQTT brokers.
    #[serde(default)]
    pub mqtt: Vec<mqtt::raw::RawBroker>,
}

/// `[uplink]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uplink {
    /// `host:port`, tried in this order.
    pub collectors: Vec<String>,
    /// PEM file of the authority that signed the collector's certificate.
    pub ca: PathBuf,
    /// PEM file of our certificate; its common name is the gateway's name.
    pub cert: PathBuf,
    /// PEM file of our private key.
    pub key: PathBuf,
}

/// `[batch]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchConfig {
    /// Oldest reading that may be lost in a power cut.
    pub age_max: HumanDuration,
    /// Most readings in a block.
    pub readings_max: usize,
    /// How often newest values are sent besides blocks; `0s` for never.
    pub live_interval: HumanDuration,
}

impl Default for BatchConfig {
    fn default() -> Self {
        let seconds = |n| HumanDuration(Duration::from_secs(n));
        Self { age_max: seconds(10), readings_max: 10_000, live_interval: HumanDuration(Duration::from_millis(500)) }
    }
}

/// `[spool]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolConfig {
    /// Most bytes on the disk; 256 MiB or a tenth of the disk, whichever is less.
    pub bytes_max: Option<ByteSize>,
}

/// `[clock]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClockConfig {
    /// `auto` or `system`.
    pub trust: Trust,
}

/// `[http]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// A loopback address.
    pub listen: SocketAddr,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9101)) }
    }
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `text` or `json`.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter like `info,edge_agent=debug`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into() }
    }
}

fn default_data_dir() -> PathBuf {
    "/var/lib/edge-agent".into()
}

/// Smallest spool that makes sense: a few generations of the disk queue.
const SPOOL_BYTES_MIN: u64 = 16 * 1024 * 1024;
const SPOOL_BYTES_DEFAULT: u64 = 256 * 1024 * 1024;

impl Config {
    /// Reads a file or a folder of `*.toml`.
    ///
    /// # Errors
    /// With file and line, when it isn't a configuration.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        shared::config::load(path)
    }

    /// As [`Config::load`], and checks it.
    ///
    /// # Errors
    /// When it can't be read; what is wrong with it is in the second place, each in words with its line.
    pub fn load_and_check(path: &Path) -> Result<(Self, Vec<String>), ConfigError> {
        let (config, sources) = shared::config::load_with_sources::<Self>(path)?;
        let found = config.mistakes().into_iter().map(|(key, why)| match sources.find(&key) {
            place if place.line.is_some() => format!("{place}: {why}"),
            _ => why,
        });
        let found = found.collect();
        Ok((config, found))
    }

    /// Everything else that is wrong: each with the key it is about, and in words. Touches no device, no network, and no file
    /// but certificates and passwords.
    #[must_use]
    pub fn mistakes(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut wrong = |key: &str, why: String| found.push((key.to_owned(), why));
        if self.uplink.collectors.is_empty() {
            wrong("uplink.collectors", "uplink: collectors is empty; name at least one as \"host:7443\"".into());
        }
        for collector in &self.uplink.collectors {
            if let Err(problem) = host_of(collector) {
                wrong("uplink.collectors", format!("uplink: {problem}"));
            }
        }
        let age = self.batch.age_max.0;
        if !(Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&age) {
            wrong("batch.age_max", "batch: age_max must be from 100ms to 1h".into());
        }
        if !(1..=100_000).contains(&self.batch.readings_max) {
            wrong("batch.readings_max", "batch: readings_max must be from 1 to 100000".into());
        }
        let live = self.batch.live_interval.0;
        if !live.is_zero() && live < Duration::from_millis(100) {
            wrong("batch.live_interval", "batch: live_interval must be 0s or from 100ms".into());
        }
        if self.spool.bytes_max.is_some_and(|size| size.as_u64() < SPOOL_BYTES_MIN) {
            wrong("spool.bytes_max", "spool: bytes_max must be at least 16MiB".into());
        }
        let listen = self.http.listen;
        if !listen.ip().is_loopback() {
            wrong("http.listen", format!("http: {listen} is not on loopback, and nothing here asks who is there"));
        }
        let sources = [modbus::config::resolve(&self.modbus).err(), mqtt::config::resolve(&self.mqtt).err()];
        for mistake in sources.into_iter().flatten().flat_map(|mistakes| mistakes.0) {
            wrong(&mistake.key(), mistake.to_string());
        }
        if self.modbus.is_empty() && self.mqtt.is_empty() {
            wrong("", "nothing to read: there is no [[modbus]] and no [[mqtt]]".into());
        }
        let (ca, cert, key) = (&self.uplink.ca, &self.uplink.cert, &self.uplink.key);
        let time = std::sync::Arc::new(crate::clock::Clock::unrecorded());
        if let Err(error) = shared::tls::client_config(ca, cert, key, time) {
            wrong("uplink", format!("uplink: {error}"));
        }
        found
    }

    /// Most bytes the spool may take in `data_dir`.
    #[must_use]
    pub fn spool_bytes_max(&self) -> u64 {
        if let Some(size) = self.spool.bytes_max {
            return size.as_u64();
        }
        let disk = rustix::fs::statvfs(&self.data_dir).map_or(u64::MAX, |disk| disk.f_blocks * disk.f_frsize);
        SPOOL_BYTES_DEFAULT.min(disk / 10).max(SPOOL_BYTES_MIN)
    }
}

/// The host of a collector's `host:port`.
///
/// # Errors
/// With what is wrong, in words.
pub fn host_of(collector: &str) -> Result<ServerName<'static>, String> {
    let wrong = || format!("'{collector}' is no host:port of a collector, like \"collector.example:7443\"");
    let (host, port) = collector.rsplit_once(':').ok_or_else(wrong)?;
    port.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(host.to_owned()).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_example_is_right_in_every_word() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../config/agent.toml"));
        let mistakes = Config::load(path).unwrap().mistakes();
        // Nobody has its certificates.
        assert!(mistakes.iter().all(|(_, why)| why.contains("/etc/edge-agent/")), "{mistakes:?}");
    }

    #[test]
    fn every_mistake_has_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        let text = "[uplink]\ncollectors = []\nca = ''\ncert = ''\nkey = ''\n[batch]\n\nreadings_max = 0\n\n[[modbus]]\nname = 'a'\n\
            transport = 'tcp'\naddress = 'x:502'\n[[modbus.device]]\nname = 'd'\nnode = 'A'\nunit = 1\ninterval = 'soon'\n";
        std::fs::write(&path, text).unwrap();
        let found = Config::load_and_check(&path).unwrap().1;
        let line = |what: &str| {
            let said = found.iter().find(|said| said.contains(what)).unwrap_or_else(|| panic!("{what}: {found:?}"));
            said.split_once("agent.toml:").unwrap().1.split_once(':').unwrap().0.parse::<usize>().unwrap()
        };
        assert_eq!([line("collectors is empty"), line("readings_max"), line("device \"d\"")], [2, 8, 14], "{found:?}");
    }

    #[test]
    fn a_collector_is_a_name_or_an_address_with_a_port() {
        for good in ["collector.example:7443", "127.0.0.1:7443", "[::1]:7443"] {
            assert!(host_of(good).is_ok(), "{good}");
        }
        for bad in ["collector.example", "collector:0", ":7443", "a b:1", "host:70000"] {
            assert!(host_of(bad).is_err(), "{bad}");
        }
    }
}
