//! From what people wrote to a broker that can be listened to: every mistake is found at once and says where it is.

use super::path::Path;
use super::payload::QualityRule;
use super::raw::{Protocol, RawBroker, RawPayload, RawPoint, RawSubscription, TimeUnit};
use super::topic::{Pattern, Template};
use crate::clock::Clock;
use crate::sources::measure::{self, INTERVALS, Measure, Wish};
use crate::sources::mistakes::{Mistakes, Notes};
use shared::catalogue::{Class, POINTS_MAX};
use shared::metric::METRICS;
use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A broker that can be connected to.
#[derive(Clone, Debug, PartialEq)]
pub struct Broker {
    /// For messages and metrics.
    pub name: String,
    /// Its host's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Which MQTT is spoken.
    pub protocol: Protocol,
    /// Who we are to it.
    pub client_id: String,
    /// User and password.
    pub login: Option<(String, Secret)>,
    /// TLS.
    pub tls: Option<Tls>,
    /// Whole seconds, from 5.
    pub keep_alive: Duration,
    /// How long it keeps what we miss; zero for not at all.
    pub session: Duration,
    /// Most unacknowledged messages that we want at a time.
    pub inflight_max: u16,
    /// A larger payload is bad.
    pub payload_bytes_max: usize,
    /// Most points that may come from it.
    pub points_max: usize,
    /// At least one; no topic matches two of them unless the earlier one is within the later one.
    pub subscriptions: Vec<Subscription>,
}

/// Certificates, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The authority that signed the broker's.
    pub ca: PathBuf,
    /// Ours and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A password: shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// For the broker alone.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("secret")
    }
}

/// Topics that are listened to alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    /// Which.
    pub pattern: Pattern,
    /// Whether messages are acknowledged: QoS 1, or 0.
    pub acknowledged: bool,
    /// What messages hold.
    pub payload: Payload,
    /// What is read from them; at least one.
    pub points: Vec<Point>,
}

/// What messages hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// One number as text.
    Number,
    /// JSON.
    Json(Json),
    /// Sparkplug B.
    Sparkplug,
}

/// How JSON is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Json {
    /// An array whose elements are read like a message each.
    pub each: Option<Path>,
    /// Where the timestamp stands.
    pub timestamp: Option<Path>,
    /// What it counts.
    pub timestamp_unit: TimeUnit,
    /// What the sensor says about itself.
    pub quality: Option<QualityRule>,
}

/// A measurement that messages may have.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// What the sensor calls it.
    pub name: String,
    /// Where it is measured.
    pub node: Template,
    /// Tells two of a kind apart.
    pub channel: Template,
    /// JSON: where the number stands.
    pub value: Path,
    /// JSON: where its own timestamp stands.
    pub timestamp: Option<Path>,
    /// The unit as people wrote it; empty without one.
    pub unit: String,
    /// From the number to the reading.
    pub(in crate::sources) measure: Measure,
    /// What the overflow policy does with it.
    pub class: Class,
    /// Somebody asked for it by name: with node and channel fixed it exists before its first message.
    pub is_listed: bool,
}

impl Point {
    /// Whether it is the same point whatever the topic.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.is_listed && self.node.is_fixed() && self.channel.is_fixed()
    }
}

impl Broker {
    /// What is subscribed to, and whether at QoS 1: no filter that another one covers, so that no message comes
    /// twice.
    #[must_use]
    pub fn filters(&self) -> Vec<(String, bool)> {
        let mut filters: Vec<(String, bool)> = Vec::new();
        for subscription in &self.subscriptions {
            let filter = self.filter_of(subscription);
            match filters.iter_mut().find(|(known, _)| *known == filter) {
                Some((_, acknowledged)) => *acknowledged |= subscription.acknowledged,
                None => filters.push((filter, subscription.acknowledged)),
            }
        }
        filters
    }

    /// The filter that brings a subscription's messages: its own, or the widest that covers it.
    #[must_use]
    pub fn filter_of(&self, subscription: &Subscription) -> String {
        let wider = self.subscriptions.iter().rev().find(|other| other.pattern.covers(&subscription.pattern));
        wider.unwrap_or(subscription).pattern.filter()
    }

    /// Whether it is on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        let address = self.host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

/// Checks the `[[mqtt]]` tables. Reads certificates and password files.
///
/// # Errors
/// With every mistake that was found.
pub fn resolve(raw: &[RawBroker]) -> Result<Vec<Broker>, Mistakes> {
    let mut notes = Notes::default();
    let mut names = HashSet::new();
    let brokers = raw
        .iter()
        .map(|broker| {
            notes.within(format!("mqtt \"{}\"", broker.name), |notes| {
                if !names.insert(broker.name.as_str()) {
                    notes.add("the name is used twice".into());
                }
                resolve_broker(broker, notes)
            })
        })
        .collect();
    notes.settle(brokers)
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

fn resolve_broker(raw: &RawBroker, notes: &mut Notes) -> Broker {
    if raw.name.trim().is_empty() {
        notes.add("the name is empty".into());
    }
    let default_port = if raw.tls.is_some() { 8883 } else { 1883 };
    let (host, port) = notes.take(host_and_port(&raw.address, default_port), (String::new(), 0));
    if raw.tls.is_some() && host.starts_with('[') {
        notes.add("with TLS the address must be a name or an IPv4 address".into());
    }
    if raw.client_id.is_empty() || raw.client_id.len() > 256 || raw.client_id.contains(char::is_control) {
        notes.add("client_id must be 1 to 256 bytes of plain text, no one else's, and stay the same".into());
    }
    let keep_alive =
        notes.duration("keep_alive", raw.keep_alive.as_deref(), 30 * SECOND, (5 * SECOND, 65_535 * SECOND));
    let session = notes.duration("session", raw.session.as_deref(), 7 * DAY, (Duration::ZERO, 3650 * DAY));
    if !session.is_zero() && session < SECOND {
        notes.add("session is 0s or at least 1s".into());
    }
    let inflight_max = raw.inflight_max.unwrap_or(100);
    if !(1..=1000).contains(&inflight_max) {
        notes.add(format!("inflight_max = {inflight_max} is outside 1 to 1000"));
    }
    let payload_bytes_max = raw.payload_max.map_or(256 * 1024, |size| size.as_u64());
    if !(16..=PAYLOAD_BYTES_MAX).contains(&payload_bytes_max) {
        notes.add("payload_max is outside 16B to 8MiB".into());
    }
    let points_max = raw.points_max.unwrap_or(1000);
    if !(1..=POINTS_MAX).contains(&points_max) {
        notes.add(format!("points_max = {points_max} is outside 1 to {POINTS_MAX}"));
    }
    let login = login(raw, notes);
    Broker {
        name: raw.name.clone(),
        host,
        port,
        protocol: raw.protocol,
        client_id: raw.client_id.clone(),
        login,
        tls: tls(raw, notes),
        keep_alive: Duration::from_secs(keep_alive.as_secs()),
        session,
        inflight_max,
        payload_bytes_max: payload_bytes_max as usize,
        points_max,
        subscriptions: subscriptions(&raw.subscription, notes),
    }
}

const PAYLOAD_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// An IPv6 address keeps its brackets.
fn host_and_port(text: &str, default_port: u16) -> Result<(String, u16), String> {
    let wrong = || format!("address = \"{text}\" is no host and no host:port");
    let bracketed = text.starts_with('[');
    let has_port = if bracketed { text.contains("]:") } else { text.contains(':') };
    let (host, port) = if has_port { text.rsplit_once(':').ok_or_else(wrong)? } else { (text, "") };
    let port = if has_port { port.parse::<u16>().map_err(|_| wrong())? } else { default_port };
    let closed = !bracketed || host.ends_with(']');
    let host_ok = !host.is_empty() && !host.contains(['/', ' ', '@']) && (bracketed || !host.contains(':'));
    (host_ok && closed && port != 0).then(|| (host.to_owned(), port)).ok_or_else(wrong)
}

fn login(raw: &RawBroker, notes: &mut Notes) -> Option<(String, Secret)> {
    let (file, variable) = (raw.password_file.as_ref(), raw.password_env.as_ref());
    let from_variable =
        |key: &str, name: &String| std::env::var(name).map_err(|_| format!("{key}: {name} isn't set, or is no text"));
    let user = match (&raw.user, &raw.user_env) {
        (Some(_), Some(_)) => Err("user and user_env are both given; one is enough".into()),
        (Some(user), None) => Ok(Some(user.clone())),
        (None, Some(name)) => from_variable("user_env", name).map(Some),
        (None, None) => Ok(None),
    };
    let user = notes.take(user, None);
    if raw.user.is_none() && raw.user_env.is_none() && (file.is_some() || variable.is_some()) {
        notes.add("a password needs a user".into());
    }
    let user = user?;
    let password = match (file, variable) {
        (Some(_), Some(_)) => Err("password_file and password_env are both given; one is enough".into()),
        (Some(path), None) => std::fs::read_to_string(path)
            .map(|text| text.lines().next().unwrap_or_default().to_owned())
            .map_err(|error| format!("password_file {}: {error}", path.display())),
        (None, Some(name)) => from_variable("password_env", name),
        (None, None) => Ok(String::new()),
    };
    Some((user, Secret(notes.take(password, String::new()))))
}

fn tls(raw: &RawBroker, notes: &mut Notes) -> Option<Tls> {
    let raw = raw.tls.as_ref()?;
    let identity = match (&raw.cert, &raw.key) {
        (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
        (None, None) => None,
        _ => {
            notes.add("tls: cert and key go together".into());
            None
        }
    };
    let tls = Tls { ca: raw.ca.clone(), identity };
    if let Err(error) = tls.client_config(Clock::unrecorded()) {
        notes.add(format!("tls: {error}"));
    }
    Some(tls)
}

impl Tls {
    /// For the connection; certificates are checked at the time that `clock` says.
    pub(super) fn client_config(&self, clock: Clock) -> Result<Arc<rustls::ClientConfig>, shared::tls::TlsError> {
        let identity = self.identity.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path()));
        shared::tls::foreign_client_config(&self.ca, identity, Arc::new(clock))
    }
}

fn subscriptions(raw: &[RawSubscription], notes: &mut Notes) -> Vec<Subscription> {
    if raw.is_empty() {
        notes.add("it has no [[mqtt.subscription]]".into());
    }
    let mut subscriptions: Vec<Subscription> = Vec::with_capacity(raw.len());
    for one in raw {
        let resolved = notes.within(format!("subscription \"{}\"", one.topic), |notes| {
            let resolved = subscription(one, notes)?;
            for earlier in &subscriptions {
                let (ours, theirs) = (&resolved.pattern, &earlier.pattern);
                if theirs.covers(ours) {
                    notes.add(format!(
                        "\"{}\" before it takes all of its messages; put this one first",
                        theirs.filter()
                    ));
                } else if theirs.overlaps(ours) && !ours.covers(theirs) {
                    notes.add(format!(
                        "a broker may send twice what matches \"{}\" too; make one of them narrower",
                        theirs.filter()
                    ));
                }
            }
            Some(resolved)
        });
        subscriptions.extend(resolved);
    }
    subscriptions
}

fn subscription(raw: &RawSubscription, notes: &mut Notes) -> Option<Subscription> {
    let pattern: Pattern = notes.take(raw.topic.parse().map(Some), None)?;
    let acknowledged = match raw.qos.unwrap_or(1) {
        0 => false,
        1 => true,
        2 => {
            notes.add(
                "qos = 2 is refused: after a crash in its handshake the client library never gets out of it again; \
                 with qos = 1 and a timestamp in the message each reading is stored once all the same"
                    .into(),
            );
            true
        }
        other => {
            notes.add(format!("qos = {other} must be 0 or 1"));
            true
        }
    };
    if raw.payload != RawPayload::Json {
        let keys = [
            ("each", raw.each.is_some()),
            ("timestamp", raw.timestamp.is_some()),
            ("timestamp_unit", raw.timestamp_unit != TimeUnit::Auto),
            ("quality", raw.quality.is_some()),
        ];
        for (key, _) in keys.iter().filter(|(_, given)| *given) {
            notes.add(format!("{key} is for payload = \"json\" only"));
        }
    }
    let payload = match raw.payload {
        RawPayload::Number => Payload::Number,
        RawPayload::Sparkplug => Payload::Sparkplug,
        RawPayload::Json => Payload::Json(json(raw, notes)),
    };
    if payload == Payload::Sparkplug && pattern.names().next().is_some() {
        notes.add("a Sparkplug topic says by itself what {group}, {edge} and {device} are; write + or #".into());
    }
    let points = points(raw, &pattern, notes);
    check_names(raw, &pattern, &points, notes);
    Some(Subscription { pattern, acknowledged, payload, points })
}

fn json(raw: &RawSubscription, notes: &mut Notes) -> Json {
    let words = |list: &[toml::Value], notes: &mut Notes| -> Vec<String> {
        let text = |value: &toml::Value| match value {
            toml::Value::String(text) => Ok(text.clone()),
            toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => Ok(value.to_string()),
            other => Err(format!("quality: {other} is no text, number or boolean")),
        };
        list.iter().map(|value| notes.take(text(value), String::new())).collect()
    };
    Json {
        each: path("each", raw.each.as_deref(), notes),
        timestamp: path("timestamp", raw.timestamp.as_deref(), notes),
        timestamp_unit: raw.timestamp_unit,
        quality: raw.quality.as_ref().and_then(|rule| {
            let path = path("quality", Some(&rule.path), notes)?;
            Some(QualityRule { path, good: words(&rule.good, notes), bad: words(&rule.bad, notes) })
        }),
    }
}

fn path(key: &str, text: Option<&str>, notes: &mut Notes) -> Option<Path> {
    text.and_then(|text| {
        notes.take(text.parse().map(Some).map_err(|problem: String| format!("{key}: {problem}")), None)
    })
}

fn points(raw: &RawSubscription, pattern: &Pattern, notes: &mut Notes) -> Vec<Point> {
    let interval = notes.duration("interval", raw.interval.as_deref(), Duration::ZERO, INTERVALS);
    if raw.payload == RawPayload::Number && !captures_metric(pattern) && raw.point.len() != 1 {
        notes.add("one number is one point: list that point alone, or capture {metric} in the topic".into());
        return Vec::new();
    }
    let mut points = Vec::with_capacity(raw.point.len());
    for one in &raw.point {
        points.extend(notes.within(format!("point {}", one.metric), |notes| point(one, raw, pattern, interval, notes)));
    }
    if raw.point.is_empty() {
        let all = METRICS.iter().map(|metric| RawPoint::of(metric.name));
        let all: Vec<Point> = all.filter_map(|one| point(&one, raw, pattern, interval, notes)).collect();
        return all.into_iter().map(|point| Point { is_listed: false, ..point }).collect();
    }
    points
}

fn captures_metric(pattern: &Pattern) -> bool {
    pattern.names().any(|name| name == "metric")
}

impl RawPoint {
    /// The point of a metric, with nothing else said about it.
    fn of(metric: &str) -> Self {
        Self {
            metric: metric.into(),
            name: None,
            node: None,
            channel: None,
            value: None,
            timestamp: None,
            scale: None,
            offset: None,
            unit: None,
            interval: None,
            resolution: None,
            deadband: None,
            max_silence: None,
            range: None,
            class: Class::default(),
        }
    }
}

fn point(
    raw: &RawPoint,
    subscription: &RawSubscription,
    pattern: &Pattern,
    interval: Duration,
    notes: &mut Notes,
) -> Option<Point> {
    let wish = Wish {
        metric: &raw.metric,
        unit: raw.unit.as_deref(),
        scale: raw.scale,
        offset: raw.offset,
        range: raw.range,
        resolution: raw.resolution,
        interval: raw.interval.as_deref(),
        deadband: raw.deadband,
        max_silence: raw.max_silence.as_deref(),
    };
    let measure = measure::resolve(&wish, interval, notes)?;
    let is_json = subscription.payload == RawPayload::Json;
    for (key, given) in [("value", raw.value.is_some()), ("timestamp", raw.timestamp.is_some())] {
        if given && !is_json {
            notes.add(format!("{key} is for payload = \"json\" only"));
        }
    }
    let is_named = captures_metric(pattern) || subscription.payload == RawPayload::Sparkplug;
    if raw.name.is_some() && !is_named {
        notes.add("name is for topics with {metric} and for Sparkplug; nothing else here calls the point".into());
    }
    let (node, channel) = place(raw, subscription, pattern, notes);
    let default_value = if captures_metric(pattern) { "value" } else { measure.metric.name };
    let value = path("value", Some(raw.value.as_deref().unwrap_or(default_value)), notes)?;
    let timestamp = path("timestamp", raw.timestamp.as_deref(), notes);
    Some(Point {
        name: raw.name.clone().unwrap_or_else(|| raw.metric.clone()),
        node: node?,
        channel: channel?,
        value,
        timestamp,
        unit: raw.unit.clone().unwrap_or_default(),
        measure,
        class: raw.class,
        is_listed: true,
    })
}

/// Node and channel: the point's own, the subscription's, or what is captured under their names.
fn place(
    raw: &RawPoint,
    subscription: &RawSubscription,
    pattern: &Pattern,
    notes: &mut Notes,
) -> (Option<Template>, Option<Template>) {
    let sparkplug = subscription.payload == RawPayload::Sparkplug;
    let known = |name: &str| pattern.names().any(|n| n == name) || (sparkplug && SPARKPLUG_NAMES.contains(&name));
    let mut template = |key: &str, own: &Option<String>, common: &Option<String>, otherwise: &str| {
        let text = own.as_deref().or(common.as_deref()).unwrap_or(otherwise);
        let template: Template =
            notes.take(text.parse().map(Some).map_err(|problem: String| format!("{key}: {problem}")), None)?;
        if let Some(unknown) = template.names().find(|name| !known(name)) {
            notes.add(format!("{key} = \"{text}\": nothing in the topic is captured as {{{unknown}}}"));
        } else if template.is_fixed() {
            if key == "channel" {
                measure::check_channel(text, notes);
            } else if let Err(error) = shared::ids::NodeId::new(text) {
                notes.add(format!("node: {error}"));
            }
        }
        Some(template)
    };
    let channel = if known("channel") { "{channel}" } else { "" };
    let channel = template("channel", &raw.channel, &subscription.channel, channel);
    if raw.node.is_none() && subscription.node.is_none() && !known("node") {
        notes.add("node is missing: capture {node} in the topic, or say node = \"...\"".into());
        return (None, channel);
    }
    (template("node", &raw.node, &subscription.node, "{node}"), channel)
}

/// What a Sparkplug topic says: {node} is the device, or the edge node where there is none.
const SPARKPLUG_NAMES: &[&str] = &["group", "edge", "device", "node"];

fn check_names(raw: &RawSubscription, pattern: &Pattern, points: &[Point], notes: &mut Notes) {
    if points.is_empty() || points.len() < raw.point.len() {
        return; // one that was refused might have used it
    }
    let used: HashSet<&str> = points.iter().flat_map(|point| point.node.names().chain(point.channel.names())).collect();
    for name in pattern.names().filter(|name| *name != "metric" && !used.contains(name)) {
        notes.add(format!("{{{name}}} is captured and used for nothing; write +"));
    }
    let by_name = captures_metric(pattern) || raw.payload == RawPayload::Sparkplug;
    let mut seen = HashSet::new();
    for point in points {
        if !by_name || seen.insert(point.name.as_str()) {
            continue;
        }
        notes.add(format!("two points are called \"{}\"", point.name));
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
