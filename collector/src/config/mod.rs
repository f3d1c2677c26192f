//! The collector's configuration: TOML, one file or a folder of files. Every key has a default that runs on one
//! machine; a key that isn't known is refused with file, line and the nearest known one.

mod check;
mod environment;
mod mistakes;
mod network;

pub use mistakes::{LoadError, Misplaced, Mistakes, ValueError};
pub use network::Network;

use crate::alerts::settings::AlertSettings;
use crate::costs::CostSettings;
use crate::etl::jobs::JobSettings;
use crate::grants::Grants;
use crate::inbox::bigquery::access::BigQueryAccess;
use crate::inbox::settings::ForeignInbox;
pub use crate::places::{Place, Places};
use crate::sql::SqlSettings;
use crate::tiers::cold::settings::ColdSettings;
use crate::tiers::hot::settings::HotSettings;
use crate::tiers::warm::settings::WarmSettings;
use serde::Deserialize;
use shared::config::{ByteSize, HumanDuration};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything that can be configured.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where everything durable lies.
    pub data_dir: PathBuf,
    /// Where gateways connect.
    pub ingest: Ingest,
    /// Where people and programs ask.
    pub api: Api,
    /// The queue on disk between arrival and the warm tier.
    pub spool: Spool,
    /// When the queue is written to the warm tier.
    pub buffer: Buffer,
    /// Where the newest readings are kept.
    pub hot: HotSettings,
    /// Where the last 90 days are kept.
    pub warm: WarmSettings,
    /// Regular work.
    pub jobs: JobSettings,
    /// Whom to tell what stands.
    pub alerts: AlertSettings,
    /// Where whole days are kept for good.
    pub cold: ColdSettings,
    /// What a query by SQL may take.
    pub sql: SqlSettings,
    /// What things cost.
    pub costs: CostSettings,
    /// Tables of other producers.
    pub inbox: Vec<ForeignInbox>,
    /// How those of them are reached that are in BigQuery.
    pub bigquery: BigQueryAccess,
    /// Which gateway may write which nodes.
    pub grants: Grants,
    /// What people say about nodes.
    pub nodes: Places,
    /// What is logged.
    pub log: Log,
}

/// `[ingest]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ingest {
    /// Address and port for gateways.
    pub listen: SocketAddr,
    /// The authority gateways must be certified by; default `<data_dir>/ca/ca.pem`.
    pub ca: Option<PathBuf>,
    /// This collector's certificate; default `<data_dir>/ca/server.pem`.
    pub cert: Option<PathBuf>,
    /// Its key; default `<data_dir>/ca/server.key`.
    pub key: Option<PathBuf>,
    /// The list of certificates taken back; default `<data_dir>/ca/revoked`.
    pub revoked: Option<PathBuf>,
    /// Most connections at a time.
    pub connections_max: usize,
    /// Most of them that are still shaking hands.
    pub handshakes_max: usize,
    /// A connection that hasn't said who it is by then is closed.
    pub handshake_timeout: HumanDuration,
    /// A gateway that says nothing for so long is gone.
    pub idle_timeout: HumanDuration,
    /// A reading further ahead of this machine's clock is quarantined.
    pub future_max: HumanDuration,
    /// A reading that arrives so long after its time counts as late in the reports on the quality of data.
    pub late_after: HumanDuration,
}

/// `[api]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// Address and port of the HTTP API.
    pub listen: SocketAddr,
    /// Its certificate, PEM; beyond loopback the one of `[ingest]` when nothing is said.
    pub cert: Option<PathBuf>,
    /// The key of that.
    pub key: Option<PathBuf>,
    /// No TLS beyond loopback: something in front of it sees to that.
    pub plain_http: bool,
    /// Proxies in front of it, which are believed when they say for whom they ask (`X-Forwarded-For`).
    pub trusted_proxies: Vec<Network>,
    /// How often what costs much may be asked.
    pub rates: Rates,
}

/// `[api.rates]`: most requests in a minute, of each user and each token; of each address where nobody has to log in.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// `GET /api/v1/history`.
    pub history: NonZeroU32,
    /// `GET /api/v1/export`.
    pub export: NonZeroU32,
    /// `POST /api/v1/import`: pieces of up to 8 MiB.
    pub import: NonZeroU32,
    /// `POST /api/v1/sql`.
    pub sql: NonZeroU32,
}

/// `[spool]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Spool {
    /// Most disk it takes; when it is full, gateways are held back and keep their data.
    pub bytes_max: ByteSize,
    /// Least room it leaves on the disk.
    pub disk_free_min: ByteSize,
}

/// `[buffer]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Buffer {
    /// Readings per transaction at most.
    pub flush_rows: usize,
    /// A reading waits no longer than this for its transaction.
    pub flush_interval: HumanDuration,
}

/// `[log]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `text` or `json`.
    pub format: shared::telemetry::LogFormat,
    /// `info`, `debug`, or a filter like `info,collector::ingest=debug`; default `info`.
    pub level: Option<String>,
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "/var/lib/collector".into(),
            ingest: Ingest::default(),
            api: Api::default(),
            spool: Spool::default(),
            buffer: Buffer::default(),
            hot: HotSettings::default(),
            warm: WarmSettings::default(),
            jobs: JobSettings::default(),
            alerts: AlertSettings::default(),
            cold: ColdSettings::default(),
            sql: SqlSettings::default(),
            costs: CostSettings::default(),
            inbox: Vec::new(),
            bigquery: BigQueryAccess::default(),
            grants: Grants::default(),
            nodes: Places::default(),
            log: Log::default(),
        }
    }
}

impl Default for Ingest {
    fn default() -> Self {
        Self {
            listen: loopback(7443),
            ca: None,
            cert: None,
            key: None,
            revoked: None,
            connections_max: 1_000,
            handshakes_max: 64,
            handshake_timeout: HumanDuration(Duration::from_secs(10)),
            idle_timeout: HumanDuration(Duration::from_secs(90)),
            future_max: HumanDuration(Duration::from_secs(600)),
            late_after: HumanDuration(Duration::from_secs(900)),
        }
    }
}

impl Default for Api {
    fn default() -> Self {
        Self {
            listen: loopback(8080),
            cert: None,
            key: None,
            plain_http: false,
            trusted_proxies: Vec::new(),
            rates: Rates::default(),
        }
    }
}

impl Default for Rates {
    fn default() -> Self {
        let a_minute = |most| NonZeroU32::new(most).unwrap_or(NonZeroU32::MIN);
        Self { history: a_minute(6_000), export: a_minute(60), import: a_minute(600), sql: a_minute(120) }
    }
}

impl Default for Spool {
    fn default() -> Self {
        Self { bytes_max: ByteSize::gib(10), disk_free_min: ByteSize::mib(64) }
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self { flush_rows: 50_000, flush_interval: HumanDuration(Duration::from_secs(5)) }
    }
}

/// Settings whose value a variable gives, when it is set: that is where it is to be put right.
const VARIABLES: [(&str, &str); 7] = [
    ("hot.port", "REDIS_PORT"),
    ("warm.port", "POSTGRES_PORT"),
    ("hot.ttl_hours", "CACHE_TTL_HOURS"),
    ("hot.refresh_hours", "CACHE_REFRESH_HOURS"),
    ("cold.bigquery.project", "BIGQUERY_PROJECT_ID"),
    ("cold.bigquery.dataset", "BIGQUERY_DATASET_ID"),
    ("cold.bigquery.location", "BIGQUERY_LOCATION"),
];

fn in_the_environment(what: ValueError) -> Misplaced {
    Misplaced { place: shared::config::Place { path: "environment".into(), line: None }, what }
}

impl Config {
    /// Reads a file, or a folder of `*.toml`.
    ///
    /// # Errors
    /// With file and line, when it can't be read; with all values that can't be used.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let (mut config, sources) = shared::config::load_with_sources::<Self>(path)?;
        let variable = |name: &str| std::env::var(name).ok();
        config.cold.apply_environment(variable);
        let hot = config.hot.apply_environment(variable).err().unwrap_or_default();
        let warm = config.warm.apply_environment(variable).err();
        let number = |(name, value): (&'static str, String)| {
            let why = if name.ends_with("_PORT") {
                "a port from 1 to 65535 is needed"
            } else {
                "a whole number, not below 0, is needed"
            };
            in_the_environment(ValueError::new(name, value, why))
        };
        let mut wrong: Vec<Misplaced> = hot.into_iter().chain(warm).map(number).collect();
        let placed = |what: ValueError| {
            let by =
                VARIABLES.iter().find(|(key, name)| *key == what.key && variable(name).is_some_and(|v| !v.is_empty()));
            match by {
                Some((_, name)) => in_the_environment(what.named(name)),
                None => Misplaced { place: sources.find(&what.key), what },
            }
        };
        wrong.extend(config.mistakes().0.into_iter().map(placed));
        if wrong.is_empty() { Ok(config) } else { Err(LoadError::Values(wrong)) }
    }

    /// How tables in BigQuery are reached.
    #[must_use]
    pub fn bigquery(&self) -> BigQueryAccess {
        self.bigquery.or(&self.cold.bigquery)
    }

    /// Where the archive lies when nothing is said about it.
    #[must_use]
    pub fn cold_dir(&self) -> PathBuf {
        self.data_dir.join("cold")
    }

    /// The folder of the authority.
    #[must_use]
    pub fn ca_dir(&self) -> PathBuf {
        self.data_dir.join("ca")
    }

    /// The file of the embedded warm tier.
    #[must_use]
    pub fn warm_file(&self) -> PathBuf {
        self.data_dir.join("warm.sqlite")
    }

    /// The certificate and key that the API shows; `None` when it answers without TLS.
    #[must_use]
    pub fn api_identity(&self) -> Option<(PathBuf, PathBuf)> {
        let beyond = !self.api.listen.ip().is_loopback() && !self.api.plain_http;
        let wanted = beyond || self.api.cert.is_some();
        wanted.then(|| {
            (self.api.cert.clone().unwrap_or_else(|| self.cert()), self.api.key.clone().unwrap_or_else(|| self.key()))
        })
    }

    /// Whether others than this machine can ask: it listens beyond loopback, or a proxy asks for others.
    #[must_use]
    pub fn api_is_open(&self) -> bool {
        !self.api.listen.ip().is_loopback() || !self.api.trusted_proxies.is_empty()
    }

    fn ca_file(&self, configured: Option<&PathBuf>, default: &str) -> PathBuf {
        configured.cloned().unwrap_or_else(|| self.ca_dir().join(default))
    }

    /// The authority's certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.ca_file(self.ingest.ca.as_ref(), "ca.pem")
    }
    /// This collector's certificate.
    #[must_use]
    pub fn cert(&self) -> PathBuf {
        self.ca_file(self.ingest.cert.as_ref(), "server.pem")
    }
    /// Its key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.ca_file(self.ingest.key.as_ref(), "server.key")
    }
    /// The revocation list.
    #[must_use]
    pub fn revoked(&self) -> PathBuf {
        self.ca_file(self.ingest.revoked.as_ref(), "revoked")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiers::warm::settings::Store;

    fn load(text: &str) -> Result<Config, LoadError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("collector.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    #[test]
    fn an_empty_file_runs_on_one_machine() {
        let config = load("").unwrap();
        assert!(config.ingest.listen.ip().is_loopback() && config.api.listen.ip().is_loopback());
        assert_eq!(config.revoked(), Path::new("/var/lib/collector/ca/revoked"));
        assert!(config.grants.is_empty());
    }

    #[test]
    fn the_example_of_every_section_is_read() {
        let text = "data_dir = '/tmp/x'\n[ingest]\nlisten = '0.0.0.0:7443'\nca = '/etc/ca.pem'\n[api]\nlisten = '[::]:80'\n\
            [spool]\nbytes_max = '1GiB'\n[buffer]\nflush_rows = 100\nflush_interval = '250ms'\n\
            [hot]\nstore = 'redis'\nhost = '/run/redis.sock'\n[warm]\nstore = 'postgres'\nhost = 'db'\npassword_file = '/etc/secret'\ntls = 'verify-full'\n\
            timescaledb = 'required'\nreplica = 'db2:5433'\n[cold]\nfolder = '/srv/archive'\n[grants]\nSTATION_7 = ['DIST_*']\n[log]\nformat = 'json'\nlevel = 'debug'\n";
        let config = load(text).unwrap();
        assert_eq!(config.ca(), Path::new("/etc/ca.pem"));
        assert_eq!(config.cert(), Path::new("/tmp/x/ca/server.pem"));
        assert_eq!(config.spool.bytes_max.as_u64(), 1 << 30);
        assert_eq!(config.buffer.flush_interval.0, Duration::from_millis(250));
        assert_eq!(config.grants.len(), 1);
        assert_eq!((config.warm.store(), config.warm.port), (Store::Postgres, 5432));
        assert_eq!((config.hot.store(), config.hot.ttl_hours), (crate::tiers::hot::settings::Store::Redis, 24));
    }

    #[test]
    fn mistakes_are_named() {
        let unknown = load("[ingest]\nlisten_on = 'x'").unwrap_err().to_string();
        assert!(unknown.contains("collector.toml:2") && unknown.contains("listen"), "{unknown}");
        let value = load("[buffer]\nflush_rows = 0").unwrap_err().to_string();
        assert!(value.contains("buffer.flush_rows = 0"), "{value}");
        assert!(value.contains("collector.toml:2: "), "{value}");
        let twice = load("[api]\nlisten = '127.0.0.1:7443'").unwrap_err().to_string();
        assert!(twice.contains("api.listen") && twice.contains("[ingest]"), "{twice}");
        let all = load(
            "[jobs]\nzone = 'Rome'\n[hot]\n\nttl_hours = 0\nprefix = ''\n[nodes]\nA = { at = [nan, 1] }\n\n[[inbox]]\nname = 's'\ntable = ''\nzone = 'x'\ncolumns = {}\n[cold]\nendpoint = 'x'\n",
        );
        let all = all.unwrap_err().to_string();
        let said: Vec<_> = all
            .lines()
            .map(|line| line.split_once("collector.toml:").unwrap().1.split(" = ").next().unwrap())
            .collect();
        let expected = [
            "2: jobs.zone",
            "12: inbox.s.table",
            "14: inbox.s.columns",
            "13: inbox.s.zone",
            "8: nodes.A.at",
            "5: hot.ttl_hours",
            "6: hot.prefix",
            "16: cold.endpoint",
        ];
        assert_eq!(said, expected, "{all}");
        let node = load("[grants]\nSTATION_7 = ['a b']").unwrap_err().to_string();
        assert!(node.contains("'a b' is no node pattern"), "{node}");
    }
}
