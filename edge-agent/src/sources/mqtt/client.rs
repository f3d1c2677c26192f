//! One connection to a broker, over either of rumqttc's two protocol modules.
//!
//! Invariant: a [`Session`] is one connection and is never used for a second one. rumqttc would connect again by
//! itself and send acknowledgements that came late over the new connection, where the broker may have given
//! their number to another message.

use super::config::Broker;
use super::raw::Protocol;
use bytes::Bytes;
use rumqttc::{TlsConfiguration, Transport, v5};
use std::collections::VecDeque;
use std::sync::Arc;

/// Most messages that may wait for their acknowledgement here; beyond it nothing is read. It is our own bound since a
/// broker's can't be relied on: mosquitto 2.0.11, which has a window of 20, sends 20 more for each acknowledgement
/// once messages have queued up.
pub(super) const UNACKNOWLEDGED_MAX: usize = 1000;
/// Largest packet that is read, in bytes. A payload beyond the configured limit but below this is refused by name
/// and acknowledged; beyond this a version 5 broker drops the message and a 3.1.1 broker loses the connection.
const PACKET_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// Longest that connecting may take, in seconds.
const CONNECT_S_MAX: u64 = 10;

/// A message as it came.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Message {
    pub(super) topic: Bytes,
    pub(super) payload: Bytes,
    /// The broker sent it before and got no acknowledgement.
    pub(super) dup: bool,
    /// The broker kept it for whoever subscribes later.
    pub(super) retain: bool,
    /// What has to be acknowledged; `None` at QoS 0.
    pub(super) receipt: Option<Receipt>,
}

/// A message's number on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    number: u16,
    /// We never subscribe at QoS 2, but the broker's session may be older than us.
    exactly_once: bool,
}

/// What happened on a connection.
#[derive(Debug)]
pub(super) enum Event {
    /// The broker took us; it may have kept our session.
    Connected { resumed: bool },
    /// What became of each filter: the QoS, or why not.
    Granted(Vec<Result<u8, String>>),
    /// A message.
    Message(Message),
    /// Our farewell is sent.
    Left,
    /// Nothing of interest.
    Other,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) reason: String,
    /// It will end like this again: the broker keeps sending what can't be taken.
    pub(super) is_poison: bool,
}

impl Lost {
    pub(super) fn because(reason: impl ToString) -> Self {
        Self { reason: reason.to_string(), is_poison: false }
    }
}

/// A connection.
pub(super) struct Session {
    side: Side,
    /// What was read before the connection broke.
    left_over: VecDeque<Event>,
    lost: Option<Lost>,
}

enum Side {
    V311(Box<rumqttc::EventLoop>),
    V5(Box<v5::EventLoop>),
}

/// Sends over a connection while it is being read.
#[derive(Clone)]
pub(super) enum Handle {
    V311(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

impl Session {
    /// A connection that is made when it is first read. With `clean` the broker forgets what it kept for us.
    pub(super) fn new(broker: &Broker, tls: Option<&Arc<rustls::ClientConfig>>, clean: bool) -> (Self, Handle) {
        let transport = match tls {
            Some(config) => Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(config))),
            None => Transport::tcp(),
        };
        let (side, handle) = match broker.protocol {
            Protocol::V311 => v311(broker, transport, clean),
            Protocol::V5 => v5(broker, transport, clean),
        };
        (Self { side, left_over: VecDeque::new(), lost: None }, handle)
    }

    /// What happens next. What was read before the connection broke comes before its end.
    pub(super) async fn next(&mut self) -> Result<Event, Lost> {
        if self.lost.is_none() {
            let lost = match &mut self.side {
                Side::V311(events) => match events.poll().await {
                    Ok(event) => return Ok(of_v311(event)),
                    Err(error) => {
                        self.left_over.extend(events.state.events.drain(..).map(of_v311));
                        lost_v311(&error)
                    }
                },
                Side::V5(events) => match events.poll().await {
                    Ok(event) => return Ok(of_v5(event)),
                    Err(error) => {
                        self.left_over.extend(events.state.events.drain(..).map(of_v5));
                        lost_v5(&error)
                    }
                },
            };
            self.lost = Some(lost);
        }
        match self.left_over.pop_front() {
            Some(event) => Ok(event),
            None => Err(self.lost.clone().unwrap_or_else(|| Lost::because("the connection ended"))),
        }
    }
}

const QUEUE: usize = UNACKNOWLEDGED_MAX + 64;

fn v311(broker: &Broker, transport: Transport, clean: bool) -> (Side, Handle) {
    let mut options = rumqttc::MqttOptions::new(&broker.client_id, &broker.host, broker.port);
    options.set_transport(transport).set_keep_alive(broker.keep_alive).set_manual_acks(true);
    options.set_clean_session(clean || broker.session.is_zero());
    options.set_max_packet_size(PACKET_BYTES_MAX as usize, PACKET_BYTES_MAX as usize);
    if let Some((user, password)) = &broker.login {
        options.set_credentials(user, password.reveal());
    }
    let (client, mut events) = rumqttc::AsyncClient::new(options, QUEUE);
    events.network_options.set_connection_timeout(CONNECT_S_MAX).set_tcp_nodelay(true);
    (Side::V311(Box::new(events)), Handle::V311(client))
}

fn v5(broker: &Broker, transport: Transport, clean: bool) -> (Side, Handle) {
    let mut options = v5::MqttOptions::new(&broker.client_id, &broker.host, broker.port);
    options.set_transport(transport).set_keep_alive(broker.keep_alive).set_manual_acks(true);
    options.set_clean_start(clean || broker.session.is_zero());
    options.set_session_expiry_interval(Some(u32::try_from(broker.session.as_secs()).unwrap_or(u32::MAX)));
    options.set_receive_maximum(Some(broker.inflight_max)).set_max_packet_size(Some(PACKET_BYTES_MAX));
    // We publish nothing; the default reserves room for 65535 messages.
    options.set_outgoing_inflight_upper_limit(1).set_connection_timeout(CONNECT_S_MAX);
    let mut network = options.network_options();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    if let Some((user, password)) = &broker.login {
        options.set_credentials(user, password.reveal());
    }
    let (client, events) = v5::AsyncClient::new(options, QUEUE);
    (Side::V5(Box::new(events)), Handle::V5(client))
}

impl Handle {
    /// Asks for filters, at QoS 1 or 0.
    pub(super) fn subscribe(&self, filters: &[(String, bool)]) -> Result<(), Lost> {
        let failed = |error: &dyn std::fmt::Display| Lost::because(format!("subscribing failed: {error}"));
        match self {
            Handle::V311(client) => {
                let filters = filters.iter().map(|(filter, acknowledged)| {
                    rumqttc::SubscribeFilter::new(filter.clone(), qos_v311(*acknowledged))
                });
                client.try_subscribe_many(filters).map_err(|error| failed(&error))
            }
            Handle::V5(client) => {
                let filters = filters.iter().map(|(filter, acknowledged)| {
                    v5::mqttbytes::v5::Filter::new(filter.clone(), qos_v5(*acknowledged))
                });
                client.try_subscribe_many(filters).map_err(|error| failed(&error))
            }
        }
    }

    /// Acknowledges a message of this connection. There is always room: no more wait than the queue takes.
    pub(super) fn acknowledge(&self, receipt: Receipt) {
        let sent = match self {
            Handle::V311(client) => {
                let qos = if receipt.exactly_once { rumqttc::QoS::ExactlyOnce } else { rumqttc::QoS::AtLeastOnce };
                let mut publish = rumqttc::Publish::new("", qos, Vec::new());
                publish.pkid = receipt.number;
                client.try_ack(&publish).map_err(|error| error.to_string())
            }
            Handle::V5(client) => {
                let exactly = receipt.exactly_once;
                let qos = if exactly { v5::mqttbytes::QoS::ExactlyOnce } else { v5::mqttbytes::QoS::AtLeastOnce };
                let mut publish = v5::mqttbytes::v5::Publish::new("", qos, Bytes::new(), None);
                publish.pkid = receipt.number;
                client.try_ack(&publish).map_err(|error| error.to_string())
            }
        };
        if let Err(error) = sent {
            tracing::debug!(error, "an acknowledgement wasn't sent; the broker sends the message again");
        }
    }

    /// Says farewell, so that the broker doesn't take us for lost.
    pub(super) fn leave(&self) {
        let _ = match self {
            Handle::V311(client) => client.try_disconnect().map_err(|_| ()),
            Handle::V5(client) => client.try_disconnect().map_err(|_| ()),
        };
    }
}

fn qos_v311(acknowledged: bool) -> rumqttc::QoS {
    if acknowledged { rumqttc::QoS::AtLeastOnce } else { rumqttc::QoS::AtMostOnce }
}

fn qos_v5(acknowledged: bool) -> v5::mqttbytes::QoS {
    if acknowledged { v5::mqttbytes::QoS::AtLeastOnce } else { v5::mqttbytes::QoS::AtMostOnce }
}

fn of_v311(event: rumqttc::Event) -> Event {
    use rumqttc::{Outgoing, Packet, QoS, SubscribeReasonCode};
    match event {
        rumqttc::Event::Incoming(Packet::ConnAck(answer)) => Event::Connected { resumed: answer.session_present },
        rumqttc::Event::Incoming(Packet::SubAck(answer)) => {
            let grant = |code| match code {
                SubscribeReasonCode::Success(qos) => Ok(qos as u8),
                SubscribeReasonCode::Failure => Err("refused".to_owned()),
            };
            Event::Granted(answer.return_codes.into_iter().map(grant).collect())
        }
        rumqttc::Event::Incoming(Packet::Publish(publish)) => {
            let receipt = Receipt { number: publish.pkid, exactly_once: publish.qos == QoS::ExactlyOnce };
            Event::Message(Message {
                topic: publish.topic.into(),
                payload: publish.payload,
                dup: publish.dup,
                retain: publish.retain,
                receipt: (publish.qos != QoS::AtMostOnce).then_some(receipt),
            })
        }
        rumqttc::Event::Outgoing(Outgoing::Disconnect) => Event::Left,
        _ => Event::Other,
    }
}

fn of_v5(event: v5::Event) -> Event {
    use v5::mqttbytes::QoS;
    use v5::mqttbytes::v5::{Packet, SubscribeReasonCode};
    match event {
        v5::Event::Incoming(Packet::ConnAck(answer)) => Event::Connected { resumed: answer.session_present },
        v5::Event::Incoming(Packet::SubAck(answer)) => {
            let grant = |code| match code {
                SubscribeReasonCode::Success(qos) => Ok(qos as u8),
                refusal => Err(format!("refused ({refusal:?})")),
            };
            Event::Granted(answer.return_codes.into_iter().map(grant).collect())
        }
        v5::Event::Incoming(Packet::Publish(publish)) => {
            let receipt = Receipt { number: publish.pkid, exactly_once: publish.qos == QoS::ExactlyOnce };
            Event::Message(Message {
                topic: publish.topic,
                payload: publish.payload,
                dup: publish.dup,
                retain: publish.retain,
                receipt: (publish.qos != QoS::AtMostOnce).then_some(receipt),
            })
        }
        v5::Event::Outgoing(rumqttc::Outgoing::Disconnect) => Event::Left,
        _ => Event::Other,
    }
}

fn lost_v311(error: &rumqttc::ConnectionError) -> Lost {
    use rumqttc::{ConnectionError, Error, StateError};
    let is_poison = match error {
        ConnectionError::MqttState(StateError::Deserialization(error)) => !matches!(error, Error::Io(_)),
        ConnectionError::MqttState(StateError::Unsolicited(_)) => true,
        _ => false,
    };
    let reason = match error {
        ConnectionError::ConnectionRefused(code) => format!("the broker refused us: {code:?}"),
        ConnectionError::Io(error) => error.to_string(),
        ConnectionError::MqttState(StateError::AwaitPingResp) => "the broker doesn't answer".into(),
        ConnectionError::MqttState(StateError::ConnectionAborted) => "the broker closed the connection".into(),
        ConnectionError::MqttState(StateError::Deserialization(Error::PayloadSizeLimitExceeded(size))) => {
            format!(
                "a message of {size} bytes is more than can be taken; limit it at the broker, or use protocol = \"5\""
            )
        }
        other => other.to_string(),
    };
    Lost { reason, is_poison }
}

fn lost_v5(error: &v5::ConnectionError) -> Lost {
    use v5::mqttbytes::Error;
    use v5::{ConnectionError, StateError};
    let is_poison = match error {
        ConnectionError::MqttState(StateError::Deserialization(error)) => !matches!(error, Error::Io(_)),
        ConnectionError::MqttState(StateError::Unsolicited(_)) => true,
        _ => false,
    };
    let reason = match error {
        ConnectionError::ConnectionRefused(code) => format!("the broker refused us: {code:?}"),
        ConnectionError::Io(error) => error.to_string(),
        ConnectionError::Timeout(_) => "no answer in time".into(),
        ConnectionError::MqttState(StateError::AwaitPingResp) => "the broker doesn't answer".into(),
        ConnectionError::MqttState(StateError::ConnectionAborted) => "the broker closed the connection".into(),
        other => other.to_string(),
    };
    Lost { reason, is_poison }
}
