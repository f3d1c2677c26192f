//! Brokers that go away, and brokers that misbehave.

use crate::listening::{Listening, broker};
use crate::mosquitto::{Mosquitto, PATIENCE};
use crate::{STAMPED, V5, V311, listen, stamped};
use shared::reading::Quality;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

const FIXED: &str = "[[mqtt.subscription]]\ntopic = \"tank\"\nnode = \"TANK\"\ninterval = \"1s\"\n\
    point = [{ metric = \"level\" }]\n";

#[tokio::test]
async fn a_point_goes_bad_once_while_its_broker_is_away_and_comes_back() {
    let mut mosquitto = Mosquitto::start();
    let mut listening = listen(&mut mosquitto, &format!("{FIXED}{STAMPED}")).await;
    mosquitto.publish("tank", "1", &["-q", "1"]);
    assert_eq!(listening.sample().await.value, Some(1.0));
    mosquitto.saw(&["Received PUBACK from edge"]).await;
    mosquitto.stop();
    let bad = listening.sample().await;
    assert_eq!((bad.value, bad.quality), (None, Quality::BAD_LINK));
    listening.complained(&["the broker is away: "]).await;
    tokio::time::sleep(Duration::from_secs(3)).await; // three intervals: a flood would show
    assert!(listening.waiting().is_none(), "once");
    mosquitto.start_again();
    mosquitto.saw(&["Sending SUBACK to edge"]).await;
    mosquitto.publish("tank", "2", &["-q", "0"]); // at QoS 1 it might have waited, for all we know
    let back = listening.sample().await;
    assert_eq!((back.value, back.quality), (Some(2.0), Quality::GOOD));
    assert_eq!(listening.point(&back).error, None);
}

#[tokio::test]
async fn a_broker_that_was_never_there_makes_fixed_points_bad() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut listening = Listening::start(broker(nobody, FIXED));
    assert_eq!(listening.sample().await.quality, Quality::BAD_LINK);
    listening.complained(&["the broker is away: ", "refused"]).await;
    assert!(listening.stop().await.is_empty());
}

/// A version 5 broker is told how much can be taken; with a 3.1.1 broker the session has to be given up, after what
/// came before the message was heard.
#[tokio::test]
async fn a_message_that_can_never_be_taken_does_not_stop_the_others_for_ever() {
    for protocol in [V311, V5] {
        let mut mosquitto = Mosquitto::start();
        let lines = format!("{protocol}{STAMPED}");
        listen(&mut mosquitto, &lines).await.stop().await;
        mosquitto.saw(&["Received DISCONNECT from edge"]).await;
        mosquitto.publish("stamped/A", &stamped(7), &["-q", "1"]);
        mosquitto.publish("stamped/A", &" ".repeat(17 * 1024 * 1024), &["-q", "1"]);
        let mut listening = Listening::start(broker(mosquitto.port, &lines));
        assert_eq!(listening.sample().await.value, Some(7.0));
        if protocol == V311 {
            mosquitto.saw(&["New client connected", "as edge", "c1"]).await; // tells the broker to forget
        }
        mosquitto.saw(&["Sending SUBACK to edge"]).await;
        mosquitto.publish("stamped/A", &stamped(1), &["-q", "1"]);
        while listening.sample().await.value != Some(1.0) {}
    }
}

/// A broker of a few lines: takes one connection after the other, answers CONNECT well, and hands the rest to `then`.
fn rogue(then: impl Fn(usize, TcpStream) + Send + 'static) -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (number, stream) in socket.incoming().map_while(Result::ok).enumerate() {
            let mut stream = stream;
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            if stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {
                let _ = stream.write_all(&[0x20, 2, 0, 0]); // CONNACK
                then(number, stream);
            }
        }
    });
    port
}

/// A message at QoS 0 in MQTT 3.1.1.
fn packet(number: i64) -> Vec<u8> {
    let (topic, payload) = ("stamped/A", stamped(number));
    let mut packet = vec![0x30, (2 + topic.len() + payload.len()) as u8, 0, topic.len() as u8];
    packet.extend_from_slice(topic.as_bytes());
    packet.extend_from_slice(payload.as_bytes());
    packet
}

#[tokio::test]
async fn what_came_before_nonsense_is_heard() {
    let port = rogue(|_, mut stream| {
        let _ = stream.write_all(&[packet(5), vec![0xff; 40]].concat());
    });
    let mut listening = Listening::start(broker(port, STAMPED));
    assert_eq!(listening.sample().await.value, Some(5.0));
}

#[tokio::test]
async fn a_refused_subscription_makes_its_points_bad_and_says_why() {
    let port = rogue(|_, mut stream| {
        let mut subscribe = [0; 64];
        let _ = stream.read(&mut subscribe);
        let _ = stream.write_all(&[0x90, 3, subscribe[2], subscribe[3], 0x80]);
        while stream.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
    });
    let mut listening = Listening::start(broker(port, FIXED));
    assert_eq!(listening.sample().await.quality, Quality::BAD_LINK);
    listening.complained(&["the broker doesn't let us subscribe to tank"]).await;
}

#[tokio::test]
async fn a_broker_that_sends_nonsense_costs_its_connection_alone() {
    // Two brokers at a time: the pauses between connections grow.
    const NONSENSE: [[&[u8]; 4]; 2] = [
        [&[0xff; 40], &[0x30, 0xff, 0xff, 0xff, 0xff, 0xff], &[0x32, 3, 0, 9, b'x'], &[0x32, 5, 0, 1, b't', 0, 0]],
        [&[0x36, 2, 0, 0], &[0x62, 2, 0, 9], &[0x40, 2, 0, 9], &[0x20, 2, 0, 0, 0x90, 2, 0, 1]],
    ];
    let listening = NONSENSE.map(|nonsense| {
        let port = rogue(move |number, mut stream| match nonsense.get(number) {
            Some(bytes) => drop(stream.write_all(bytes)),
            None => {
                let _ = stream.write_all(&packet(5)); // by now it has learnt better
                while stream.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
            }
        });
        Listening::start(broker(port, STAMPED))
    });
    for mut listening in listening {
        assert_eq!(listening.sample().await.value, Some(5.0));
    }
}
