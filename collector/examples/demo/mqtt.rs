//! The MQTT side: a broker in this process and the sensors that publish to it as any client would.

use super::sensors::{Place, SENSORS, Said};
use anyhow::{Context, bail};
use rumqttc::{AsyncClient, MqttOptions, QoS};
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};
use shared::reading::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// How long the broker may take to listen.
const STARTS_WITHIN: Duration = Duration::from_secs(5);

/// Starts the broker; it runs until the process ends, since it knows no other end.
///
/// # Errors
/// When the port is taken, or it doesn't listen.
pub(crate) async fn start_broker(address: SocketAddr) -> anyhow::Result<()> {
    // It says nothing when the port is taken, so that is found out before.
    drop(TcpListener::bind(address).with_context(|| format!("MQTT broker on {address}"))?);
    let connections = ConnectionSettings {
        connection_timeout_ms: 5_000,
        max_payload_size: 64 * 1_024,
        max_inflight_count: 200,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server =
        ServerSettings { name: "demo".into(), listen: address, tls: None, next_connection_delay_ms: 1, connections };
    // What it keeps for slow subscribers is bounded: three segments of a megabyte per topic.
    let router = RouterConfig {
        max_connections: 100,
        max_outgoing_packet_count: 200,
        max_segment_size: 1_024 * 1_024,
        max_segment_count: 3,
        ..RouterConfig::default()
    };
    let config = Config { router, v4: Some(HashMap::from([("demo".into(), server)])), ..Config::default() };
    std::thread::spawn(move || drop(Broker::new(config).start())); // it ends with the process only
    let until = Instant::now() + STARTS_WITHIN;
    while TcpStream::connect(address).is_err() {
        if Instant::now() > until {
            bail!("the MQTT broker doesn't listen on {address} within {STARTS_WITHIN:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// The sensors that speak MQTT: one client for each device.
pub(crate) struct Publishers {
    clients: HashMap<String, AsyncClient>,
}

impl Publishers {
    /// Connects them, with a user's name and password where the broker wants them.
    pub(crate) fn connect(host: &str, port: u16, login: Option<&(String, String)>) -> Self {
        let mut clients = HashMap::new();
        for topic in topics() {
            clients.entry(device(topic).to_owned()).or_insert_with_key(|name| {
                let mut options = MqttOptions::new(name, host, port);
                options.set_keep_alive(Duration::from_secs(10));
                if let Some((user, password)) = login {
                    options.set_credentials(user, password);
                }
                let (client, mut events) = AsyncClient::new(options, 100);
                tokio::spawn(async move {
                    loop {
                        // It connects again by itself; a broken connection only needs a pause.
                        if events.poll().await.is_err() {
                            tokio::time::sleep(Duration::from_millis(200)).await;
                        }
                    }
                });
                client
            });
        }
        Self { clients }
    }

    /// Publishes what the sensors say. A message that can't even be queued is lost, as with any such sensor.
    pub(crate) fn publish(&self, at: Timestamp, said: &[Said]) {
        for message in messages(at, said) {
            if let Some(client) = self.clients.get(device(message.topic)) {
                let _ = client.try_publish(message.topic, message.qos, false, message.payload);
            }
        }
    }
}

/// One message.
#[derive(Debug, PartialEq)]
struct Message {
    topic: &'static str,
    qos: QoS,
    payload: String,
}

/// What the sensors say as messages: one with a time of its own for each JSON topic, bare numbers for the others.
fn messages(at: Timestamp, said: &[Said]) -> Vec<Message> {
    let mut objects = BTreeMap::<&str, String>::new();
    let mut messages = Vec::new();
    for (sensor, said) in SENSORS.iter().zip(said) {
        match sensor.place {
            Place::Json { topic, field, .. } => {
                let object = objects.entry(topic).or_insert_with(|| format!("{{\"ts\":\"{at}\""));
                *object += &format!(",\"{field}\":{}", said.text);
            }
            Place::Bare { topic, .. } => {
                messages.push(Message { topic, qos: QoS::AtMostOnce, payload: said.text.clone() });
            }
            Place::Register(_) => {}
        }
    }
    let whole =
        objects.into_iter().map(|(topic, object)| Message { topic, qos: QoS::AtLeastOnce, payload: object + "}" });
    messages.extend(whole);
    messages
}

fn topics() -> impl Iterator<Item = &'static str> {
    SENSORS.iter().filter_map(|sensor| match sensor.place {
        Place::Json { topic, .. } | Place::Bare { topic, .. } => Some(topic),
        Place::Register(_) => None,
    })
}

/// `DIST_002` of `meters/DIST_002/telemetry`.
fn device(topic: &str) -> &str {
    topic.split('/').nth(1).unwrap_or(topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_device_says_everything_at_once_and_the_other_number_by_number() {
        let said: Vec<Said> =
            (0..SENSORS.len()).map(|n| Said { value: n as f64, words: Vec::new(), text: format!("{n}.5") }).collect();
        let messages = messages(Timestamp(1_772_366_400_250_000), &said);
        let json: Vec<&Message> = messages.iter().filter(|m| m.qos == QoS::AtLeastOnce).collect();
        assert_eq!((json.len(), json[0].topic), (1, "meters/DIST_002/telemetry"));
        let object: serde_json::Value = serde_json::from_str(&json[0].payload).unwrap();
        assert_eq!(object["ts"], "2026-03-01T12:00:00.25Z");
        assert_eq!(object.as_object().unwrap().len(), 5);
        let bare: Vec<&Message> = messages.iter().filter(|m| m.qos == QoS::AtMostOnce).collect();
        assert_eq!(bare.len(), 4);
        assert!(bare.iter().all(|m| m.topic.starts_with("water/DIST_003/") && m.payload.parse::<f64>().is_ok()));
    }
}
