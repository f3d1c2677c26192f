//! The agent's MQTT side against a broker and publishers that aren't ours: mosquitto, mosquitto_pub, pysparkplug.
#![allow(clippy::unwrap_used)] // a test that panics says where

mod delivery;
mod listening;
mod mosquitto;
mod outage;
#[allow(dead_code)] // the Modbus tests use the rest of it
#[path = "../peers/mod.rs"]
mod peers;
mod security;

use edge_agent::sample::At;
use listening::{Listening, broker};
use mosquitto::Mosquitto;
use peers::Peer;
use shared::reading::{Quality, Timestamp};
use std::collections::BTreeMap;

const V311: &str = "protocol = \"3.1.1\"\n";
const V5: &str = "protocol = \"5\"\n";
const SITES: &str = "[[mqtt.subscription]]\ntopic = \"site/{node}/{metric}\"\n\
    [[mqtt.subscription.point]]\nname = \"flow\"\nmetric = \"flow_rate\"\nunit = \"m3/h\"\n";
/// Readings with their own time: `{"v": 1, "t": 1767323045}`.
const STAMPED: &str = "[[mqtt.subscription]]\ntopic = \"stamped/{node}\"\npayload = \"json\"\ntimestamp = \"t\"\n\
    [[mqtt.subscription.point]]\nmetric = \"state\"\nvalue = \"v\"\n";

fn stamped(number: i64) -> String {
    format!("{{\"v\": {number}, \"t\": {}}}", 1_767_323_045 + number)
}

/// The source, connected and subscribed.
async fn listen(mosquitto: &mut Mosquitto, lines: &str) -> Listening {
    let listening = Listening::start(broker(mosquitto.port, lines));
    mosquitto.saw(&["Sending SUBACK to edge"]).await;
    listening
}

#[tokio::test]
async fn publishers_at_qos_0_1_and_2_are_heard_over_both_protocols() {
    for protocol in [V311, V5] {
        let mut mosquitto = Mosquitto::start();
        let mut listening = listen(&mut mosquitto, &format!("{protocol}{SITES}{STAMPED}")).await;
        for (qos, value) in [("0", 36), ("1", 72), ("2", 108)] {
            mosquitto.publish("site/PS1/flow", &format!("{value} m3/h"), &["-q", qos]);
            let sample = listening.sample().await;
            assert_eq!((sample.value, sample.quality), (Some(f64::from(value) / 3.6), Quality::GOOD));
            assert!(matches!(sample.at, At::Mono(_)));
        }
        mosquitto.publish("stamped/PS1", &stamped(7), &["-q", "2"]);
        let sample = listening.sample().await;
        assert_eq!((sample.at, sample.value), (At::Utc(Timestamp(1_767_323_052_000_000)), Some(7.0)));
        mosquitto.saw(&["Received PUBACK from edge (Mid: 3"]).await;
        assert_eq!(mosquitto.count(&["PUBREC from edge"]), 0, "the broker downgrades");
        assert!(listening.stop().await.is_empty());
    }
}

#[tokio::test]
async fn points_turn_up_with_their_topics_and_hostile_topics_make_none() {
    let mut mosquitto = Mosquitto::start();
    let lines = "points_max = 20\n[[mqtt.subscription]]\ntopic = \"w/{area}/+/{sensor}/#\"\nnode = \"{area}_{sensor}\"\n\
        point = [{ metric = \"level\" }]";
    let mut listening = listen(&mut mosquitto, lines).await;
    for sensor in 0..20 {
        for way in ["a", "b/c"] {
            mosquitto.publish(&format!("w/north/{way}/S{sensor}/x"), "1", &["-q", "1"]);
        }
    }
    mosquitto.publish("w/north/a/not a name/x", "1", &["-q", "1"]);
    mosquitto.publish("w/north/a/ONE_TOO_MANY/x", "1", &["-q", "1"]);
    mosquitto.publish("w/north/a/S0/x", "5", &["-q", "1"]);
    // `b/c` is two levels: what matches there is another sensor's name.
    let mut seen = BTreeMap::new();
    loop {
        let sample = listening.sample().await;
        *seen.entry(listening.point(&sample).def.entry.node.to_string()).or_insert(0) += 1;
        if sample.value == Some(5.0) {
            break;
        }
    }
    assert_eq!(seen.len(), 20, "{seen:?}");
    assert_eq!((seen["north_S0"], seen["north_c"]), (2, 20));
    assert!(!seen.contains_key("north_ONE_TOO_MANY"));
    let sources: Vec<String> = listening.points().into_iter().map(|point| point.def.source).collect();
    assert!(sources.contains(&"b/w/north/+/S0/#".to_owned()), "{sources:?}");
}

#[tokio::test]
async fn a_retained_message_is_a_reading_only_with_its_own_timestamp() {
    for protocol in [V311, V5] {
        let mut mosquitto = Mosquitto::start();
        mosquitto.publish("site/PS1/flow", "1", &["-q", "1", "-r"]);
        mosquitto.publish("stamped/PS1", &stamped(3), &["-q", "1", "-r"]);
        let mut listening = listen(&mut mosquitto, &format!("{protocol}{SITES}{STAMPED}")).await;
        let sample = listening.sample().await;
        assert_eq!((sample.value, sample.quality), (Some(3.0), Quality::GOOD));
        mosquitto.publish("site/PS1/flow", "36", &["-q", "1", "-r"]);
        assert_eq!(
            listening.sample().await.value,
            Some(10.0),
            "for who has subscribed already it is no retained message"
        );
        assert_eq!(listening.points().len(), 2);
    }
}

#[tokio::test]
async fn a_bad_payload_is_one_bad_reading_that_names_topic_and_payload() {
    let mut mosquitto = Mosquitto::start();
    let mut listening = listen(&mut mosquitto, &format!("payload_max = \"1KiB\"\n{SITES}")).await;
    mosquitto.publish("site/PS1/flow", "36", &["-q", "1"]);
    assert_eq!(listening.sample().await.value, Some(10.0));
    let large = "1".repeat(2000);
    for (payload, quality, because) in [
        (
            "dry",
            Quality::BAD_PAYLOAD,
            "site/PS1/flow: the payload is no number, alone or in m3/h; the payload starts 'dry'",
        ),
        ("36 L/s", Quality::BAD_PAYLOAD, "starts '36 L/s'"),
        ("NaN", Quality::BAD_NOT_A_NUMBER, "not a number"),
        (&large, Quality::BAD_PAYLOAD, "2000 bytes, payload_max is 1024"),
    ] {
        mosquitto.publish("site/PS1/flow", payload, &["-q", "1"]);
        let sample = listening.sample().await;
        assert_eq!((sample.value, sample.quality), (None, quality), "{payload}");
        let error = listening.point(&sample).error.unwrap();
        assert!(error.contains(because) && error.len() < 300, "{error}");
        mosquitto.saw(&["Received PUBACK from edge"]).await;
    }
}

#[tokio::test]
async fn a_real_sparkplug_edge_node_is_understood_from_birth_to_death() {
    let mut mosquitto = Mosquitto::start();
    let names =
        ["Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float", "Double", "Boolean"];
    let point = |name: &str| {
        format!("{{ name = \"{name}\", metric = \"state\", channel = \"{name}\", range = [-1e19, 1e19] }}")
    };
    let mut points: Vec<String> = names.iter().map(|name| point(name)).collect();
    points.push("{ name = \"Flow\", metric = \"flow_rate\", unit = \"m3/h\", scale = 3.6 }".into());
    let lines = format!(
        "[[mqtt.subscription]]\ntopic = \"spBv1.0/G/#\"\nqos = 0\npayload = \"sparkplug\"\npoint = [{}]",
        points.join(", ")
    );
    let mut listening = listen(&mut mosquitto, &lines).await;
    let port = mosquitto.port.to_string();
    let edge = Peer::start("sparkplug_edge.py", &[&port]);
    let mut seen = Vec::new();
    let mut edge = Some(edge);
    loop {
        let batch = listening.next().await;
        for sample in batch.samples {
            let entry = listening.point(&sample).def.entry;
            let ms = match sample.at {
                At::Utc(at) => Some((at.0 - 1_767_323_045_000_000) / 1000),
                At::Mono(_) => None,
            };
            seen.push((format!("{}/{}{}", entry.node, entry.metric, entry.channel), ms, sample.value, sample.quality));
        }
        let is = |name: &str| seen.iter().any(|one| one.0 == name && one.3 == Quality::BAD_LINK);
        if is("PUMP1/flow_rate") && edge.take().is_some() {
            continue; // its device died, and then it was killed: the broker publishes its will
        }
        if is("RTU7/stateDouble") {
            break;
        }
    }
    let of = |name: &str| seen.iter().filter(|one| one.0 == name).map(|one| (one.1, one.2, one.3)).collect::<Vec<_>>();
    let good = |ms: i64, value: f64| (Some(ms), Some(value), Quality::GOOD);
    let gone = (None, None, Quality::BAD_LINK);
    for (name, value) in [
        ("Int16", -32768.0),
        ("Int32", -2_147_483_648.0),
        ("Int64", -9_007_199_254_740_992.0),
        ("UInt8", 255.0),
        ("UInt16", 65_535.0),
        ("UInt32", 4_294_967_295.0),
        ("UInt64", 9_007_199_254_740_992.0),
        ("Float", 1.5),
        ("Boolean", 1.0),
    ] {
        assert_eq!(of(&format!("RTU7/state{name}")), [good(0, value), gone], "{name}");
    }
    assert_eq!(of("RTU7/stateInt8"), [good(0, -128.0), good(2000, -7.0), gone], "by alias");
    assert_eq!(of("PUMP1/flow_rate"), [good(0, -1.0), good(1000, 40.0), gone]);
    assert_eq!(
        of("RTU7/stateDouble"),
        [
            good(0, -0.1),
            good(1000, 2.5),
            (Some(3000), None, Quality::BAD_SENSOR_FAULT),
            good(-60_000, 3.5),
            (Some(5000), None, Quality::BAD_NOT_A_NUMBER),
            gone,
        ]
    );
    assert_eq!(seen.len(), 9 * 2 + 3 + 3 + 6, "and nothing else: {seen:?}");
}
