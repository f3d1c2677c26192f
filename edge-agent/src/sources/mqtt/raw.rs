//! The `[[mqtt]]` tables as people write them; [`super::config::resolve`] checks what they say.
//! config/mqtt.toml explains every key.

use crate::report::Deadband;
use serde::Deserialize;
use shared::catalogue::Class;
use shared::config::ByteSize;
use std::path::PathBuf;

/// Which MQTT is spoken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
pub enum Protocol {
    /// MQTT 3.1.1.
    #[default]
    #[serde(rename = "3.1.1")]
    V311,
    /// MQTT 5.
    #[serde(rename = "5")]
    V5,
}

/// What messages hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawPayload {
    /// One number as text.
    #[default]
    Number,
    /// JSON, read by paths.
    Json,
    /// Sparkplug B.
    Sparkplug,
}

/// What a timestamp counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    /// By its size: seconds up to the year 5138, then milli-, micro- and nanoseconds; or RFC 3339.
    #[default]
    Auto,
    /// Seconds since 1970.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
    /// Text with a date, a time and an offset.
    Rfc3339,
}

/// `[[mqtt]]`: one broker.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawBroker {
    /// For messages and metrics.
    pub name: String,
    /// `host` or `host:port`.
    pub address: String,
    /// Who we are to the broker, which keeps undelivered messages under this name.
    pub client_id: String,
    /// 3.1.1.
    #[serde(default)]
    pub protocol: Protocol,
    /// For brokers that ask.
    pub user: Option<String>,
    /// An environment variable that holds it.
    pub user_env: Option<String>,
    /// A file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// An environment variable that holds it.
    pub password_env: Option<String>,
    /// TLS.
    pub tls: Option<RawTls>,
    /// How often the connection is tried when nothing is said; 30s.
    pub keep_alive: Option<String>,
    /// How long the broker keeps what we miss; 7d. A 3.1.1 broker decides for itself.
    pub session: Option<String>,
    /// Most unacknowledged messages that we want at a time, said to a version 5 broker; 100.
    pub inflight_max: Option<u16>,
    /// A larger payload is bad; 256KiB.
    pub payload_max: Option<ByteSize>,
    /// Most points that may come from this broker; 1000.
    pub points_max: Option<usize>,
    /// What is listened to.
    #[serde(default)]
    pub subscription: Vec<RawSubscription>,
}

/// `mqtt.tls`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTls {
    /// PEM file of the authority that signed the broker's certificate.
    pub ca: PathBuf,
    /// PEM file of our certificate, where the broker wants one.
    pub cert: Option<PathBuf>,
    /// PEM file of its key.
    pub key: Option<PathBuf>,
}

/// `[[mqtt.subscription]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSubscription {
    /// With `+`, `#` and `{name}` as levels.
    pub topic: String,
    /// 0 or 1; 1.
    pub qos: Option<u8>,
    /// number.
    #[serde(default)]
    pub payload: RawPayload,
    /// Where it is measured, with captured levels in braces; `{node}`.
    pub node: Option<String>,
    /// Tells two of a kind apart, with captured levels in braces; `{channel}` where that is captured.
    pub channel: Option<String>,
    /// About how often messages come; the sensor decides.
    pub interval: Option<String>,
    /// JSON: the path of an array whose elements are read like a message each.
    pub each: Option<String>,
    /// JSON: the path of the timestamp.
    pub timestamp: Option<String>,
    /// JSON: what the timestamp counts; auto.
    #[serde(default)]
    pub timestamp_unit: TimeUnit,
    /// JSON: what the sensor says about itself.
    pub quality: Option<RawQuality>,
    /// What is read; every metric by its own name when there is none.
    #[serde(default)]
    pub point: Vec<RawPoint>,
}

/// `quality = { path = "q", good = ["OK"], bad = [0] }`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawQuality {
    /// Where it stands.
    pub path: String,
    /// Texts, numbers and booleans that mean good.
    #[serde(default)]
    pub good: Vec<toml::Value>,
    /// That mean bad; anything that isn't listed is uncertain.
    #[serde(default)]
    pub bad: Vec<toml::Value>,
}

/// `[[mqtt.subscription.point]]`: one measurement.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawPoint {
    /// What is measured: a name of the metric table.
    pub metric: String,
    /// What the sensor calls it: `{metric}` in the topic, or the metric's name in Sparkplug; the metric.
    pub name: Option<String>,
    /// As the subscription's.
    pub node: Option<String>,
    /// As the subscription's.
    pub channel: Option<String>,
    /// JSON: the path of the number; `value` where the topic says the metric, else its name.
    pub value: Option<String>,
    /// JSON: as the subscription's.
    pub timestamp: Option<String>,
    /// Multiplied first; 1.
    pub scale: Option<f64>,
    /// Added then, in `unit`; 0.
    pub offset: Option<f64>,
    /// What the scaled number is in; the metric's own.
    pub unit: Option<String>,
    /// About how often it comes; the subscription's.
    pub interval: Option<String>,
    /// Smallest step worth keeping, a power of ten, in the metric's own unit; all bits.
    pub resolution: Option<f64>,
    /// Report by exception: 0.1 in the metric's own unit, or "1%".
    pub deadband: Option<Deadband>,
    /// With `deadband`: an unchanged value is sent after this long; 10m.
    pub max_silence: Option<String>,
    /// Believable values, in the metric's own unit; the metric's.
    pub range: Option<[f64; 2]>,
    /// What the overflow policy does with it; raw.
    #[serde(default)]
    pub class: Class,
}
