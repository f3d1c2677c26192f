use super::*;
use crate::sources::mqtt::testing::{HEAD, read};

/// A broker with these lines of a subscription and after it.
fn with(lines: &str) -> Result<Broker, String> {
    read(&format!("{HEAD}[[mqtt.subscription]]\n{lines}")).map(|mut brokers| brokers.remove(0))
}

#[track_caller]
fn refused(lines: &str, because: &str) {
    let message = with(lines).unwrap_err();
    assert!(message.contains(because), "{message}");
    assert!(message.starts_with("mqtt \"b\", subscription \""), "{message}");
}

#[track_caller]
fn broker_refused(lines: &str, because: &str) {
    let subscription = "[[mqtt.subscription]]\ntopic = \"{node}/{metric}\"\n";
    let message = read(&format!("{HEAD}{lines}\n{subscription}")).unwrap_err();
    assert!(message.contains(because) && message.starts_with("mqtt \"b\": "), "{message}");
}

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/mqtt.toml");

#[test]
fn the_documented_example_is_understood() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path());
    std::fs::write(folder.path().join("mqtt.password"), "tell no one\n").unwrap();
    let text = std::fs::read_to_string(EXAMPLE).unwrap();
    let broker = read(&text.replace("/etc/edge-agent", &folder.path().display().to_string())).unwrap().remove(0);
    assert_eq!((broker.host.as_str(), broker.port, broker.protocol), ("broker.example", 8883, Protocol::V311));
    let (user, secret) = broker.login.clone().unwrap();
    assert_eq!((user.as_str(), secret.reveal()), ("edge", "tell no one"));
    assert!(!format!("{broker:?}").contains("tell no one"));
    let filters =
        [("site/+/+", true), ("sensors/+/+/telemetry", true), ("loggers/+", true), ("spBv1.0/Plant1/#", false)];
    assert_eq!(broker.filters(), filters.map(|(filter, ack)| (filter.to_owned(), ack)));
    let [site, json, _, sparkplug] = &broker.subscriptions[..] else { panic!("{:?}", broker.subscriptions) };
    assert_eq!((site.points[0].name.as_str(), site.points[0].measure.resolution_exp), ("flow", Some(-2)));
    assert_eq!(site.points[1].measure.interval, Duration::from_secs(10));
    assert!(!site.points[0].is_fixed());
    assert_eq!(json.points[1].channel, "outlet".parse().unwrap());
    assert_eq!(json.points[0].channel, "{sensor}".parse().unwrap());
    let Payload::Json(rules) = &json.payload else { panic!("{json:?}") };
    assert_eq!(rules.quality.as_ref().unwrap().bad, ["FAIL", "0"]);
    assert_eq!(sparkplug.points[0].node, "{node}".parse().unwrap());
}

#[test]
fn the_example_shows_the_defaults_and_says_something_of_every_key() {
    let text = std::fs::read_to_string(EXAMPLE).unwrap();
    let keys = include_str!("raw.rs").lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(": "));
    let missing: Vec<&str> = keys.map(|(key, _)| key).filter(|key| !text.contains(key)).collect();
    assert!(missing.is_empty(), "config/mqtt.toml says nothing of {missing:?}");
    let default = with("topic = \"{node}/{metric}\"").unwrap();
    for shown in [
        format!("keep_alive = \"{}s\"", default.keep_alive.as_secs()),
        format!("session = \"{}d\"", default.session.as_secs() / 86_400),
        format!("inflight_max = {}", default.inflight_max),
        format!("payload_max = \"{}KiB\"", default.payload_bytes_max / 1024),
        format!("points_max = {}", default.points_max),
    ] {
        assert!(text.contains(&shown), "{shown}");
    }
}

/// One certificate for both sides.
fn certificate(folder: &std::path::Path) {
    let made = rcgen::generate_simple_self_signed(vec!["broker".into()]).unwrap();
    std::fs::write(folder.join("broker-ca.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("mqtt.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("mqtt.key"), made.signing_key.serialize_pem()).unwrap();
}

#[test]
fn without_points_every_metric_is_taken_by_its_name() {
    let broker = with("topic = \"{node}/{metric}\"").unwrap();
    let points = &broker.subscriptions[0].points;
    assert_eq!(points.len(), METRICS.len());
    assert!(points.iter().all(|point| point.name == point.measure.metric.name && !point.is_fixed()));
    assert_eq!(points[0].value.to_string(), "value");
}

#[test]
fn a_point_with_everything_fixed_exists_before_its_first_message() {
    let broker = with("topic = \"a/b\"\nnode = \"PS1\"\npoint = [{ metric = \"level\" }]").unwrap();
    assert!(broker.subscriptions[0].points[0].is_fixed());
}

#[test]
fn qos_2_is_refused_with_the_reason() {
    refused("topic = \"{node}/{metric}\"\nqos = 2", "qos = 2 is refused: after a crash");
    refused("topic = \"{node}/{metric}\"\nqos = 3", "qos = 3 must be 0 or 1");
}

#[test]
fn what_is_missing_or_of_no_use_is_named() {
    refused("topic = \"a/b\"\npoint = [{ metric = \"level\" }]", "node is missing");
    refused("topic = \"a/b\"\nnode = \"x y\"\npoint = [{ metric = \"level\" }]", "node: 'x y'");
    refused("topic = \"a/b\"\nnode = \"{site}\"\npoint = [{ metric = \"level\" }]", "captured as {site}");
    refused(
        "topic = \"a/{b}\"\nnode = \"A\"\npoint = [{ metric = \"level\" }]",
        "{b} is captured and used for nothing",
    );
    refused("topic = \"a/{node}\"\nchannel = \"/\"\npoint = [{ metric = \"level\" }]", "channel = \"/\"");
    refused("topic = \"a/{node}\"\npoint = [{ metric = \"levl\" }]", "did you mean \"level\"?");
    refused("topic = \"a/{node}\"\npoint = [{ metric = \"level\", unit = \"bar\" }]", "it can be m, cm");
    refused("topic = \"a/{node}\"\npoint = [{ metric = \"level\", name = \"x\" }]", "name is for topics with {metric}");
    refused("topic = \"a/{node}\"\npoint = [{ metric = \"level\", value = \"x\" }]", "value is for payload = \"json\"");
    refused("topic = \"a/{node}\"\ntimestamp = \"x\"", "timestamp is for payload = \"json\"");
    refused("topic = \"a/{node}\"\npoint = [{ metric = \"level\" }, { metric = \"ph\" }]", "one number is one point");
    refused("topic = \"a/{node}\"", "one number is one point");
    refused(
        "topic = \"{node}/{metric}\"\npoint = [{ metric = \"level\" }, { metric = \"ph\", name = \"level\" }]",
        "two points are called \"level\"",
    );
    refused("topic = \"a/{node}\"\npayload = \"json\"\npoint = [{ metric = \"ph\", value = \"a..b\" }]", "is no path");
    refused("topic = \"spBv1.0/{group}/#\"\npayload = \"sparkplug\"", "says by itself");
}

#[test]
fn subscriptions_that_would_bring_a_message_twice_are_refused() {
    let two = |first: &str, second: &str| {
        with(&format!("topic = \"{first}\"\nnode = \"A\"\n[[mqtt.subscription]]\ntopic = \"{second}\"\nnode = \"A\""))
    };
    assert!(two("a/+/{metric}", "a/b/{metric}").unwrap_err().contains("takes all of its messages"));
    assert!(two("a/{metric}/b/+", "a/x/{metric}/+").unwrap_err().contains("may send twice"));
    let narrow_first = two("a/b/{metric}", "a/+/{metric}").unwrap();
    assert_eq!(narrow_first.filters(), [("a/+/+".to_owned(), true)]);
}

#[test]
fn the_wider_filter_has_the_higher_qos_of_both() {
    let broker = with(
        "topic = \"a/b\"\nnode = \"A\"\npoint = [{ metric = \"level\" }]\n\
         [[mqtt.subscription]]\ntopic = \"a/{metric}\"\nnode = \"B\"\nqos = 0",
    )
    .unwrap();
    assert_eq!(broker.filters(), [("a/+".to_owned(), true)]);
}

#[test]
fn a_brokers_own_keys_are_checked() {
    broker_refused("keep_alive = \"1s\"", "keep_alive = \"1s\" is outside 5s to 18h");
    broker_refused("session = \"100ms\"", "at least 1s");
    broker_refused("inflight_max = 0", "outside 1 to 1000");
    broker_refused("payload_max = \"1GiB\"", "payload_max");
    broker_refused("points_max = 0", "points_max = 0");
    broker_refused("password_env = \"X\"", "a password needs a user");
    broker_refused("user = \"u\"\npassword_env = \"NO_SUCH_VARIABLE_HERE\"", "NO_SUCH_VARIABLE_HERE isn't set");
    broker_refused("user_env = \"NO_SUCH_VARIABLE_HERE\"", "user_env: NO_SUCH_VARIABLE_HERE isn't set");
    broker_refused("user = \"u\"\nuser_env = \"PATH\"", "user and user_env are both given");
    broker_refused("user = \"u\"\npassword_file = \"/nowhere/x\"", "password_file /nowhere/x: ");
    broker_refused("tls = { ca = \"/nowhere/ca.pem\" }", "tls: /nowhere/ca.pem: ");
    broker_refused("tls = { ca = \"/nowhere/ca.pem\", cert = \"x\" }", "cert and key go together");
}

#[test]
fn addresses_have_a_port_or_the_usual_one() {
    assert_eq!(host_and_port("broker", 1883), Ok(("broker".into(), 1883)));
    assert_eq!(host_and_port("10.0.0.1:8883", 1), Ok(("10.0.0.1".into(), 8883)));
    assert_eq!(host_and_port("[::1]:7", 1), Ok(("[::1]".into(), 7)));
    assert_eq!(host_and_port("[::1]", 1), Ok(("[::1]".into(), 1)));
    for wrong in ["", ":1", "a:", "a:0", "a:x", "::1", "mqtt://a", "a b", "[::1", "u@h"] {
        assert!(host_and_port(wrong, 1).is_err(), "{wrong}");
    }
}

#[test]
fn two_brokers_of_one_name_and_one_without_subscription_are_told() {
    let message = read(&format!("{HEAD}{HEAD}")).unwrap_err();
    assert!(message.contains("the name is used twice") && message.contains("no [[mqtt.subscription]]"), "{message}");
}
