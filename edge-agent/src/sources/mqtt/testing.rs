//! What the tests of several modules need.

use super::config::{Broker, Point, Subscription, resolve};
use super::raw::RawBroker;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    mqtt: Vec<RawBroker>,
}

pub(super) const HEAD: &str = "[[mqtt]]\nname = \"b\"\naddress = \"broker\"\nclient_id = \"edge\"\n";

/// The brokers of a configuration, or what is wrong with it.
pub(super) fn read(text: &str) -> Result<Vec<Broker>, String> {
    let file: File = toml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    resolve(&file.mqtt).map_err(|mistakes| mistakes.to_string())
}

/// A broker with these lines of its first subscription and after it.
pub(super) fn broker(lines: &str) -> Broker {
    let brokers = read(&format!("{HEAD}[[mqtt.subscription]]\n{lines}"));
    brokers.unwrap_or_else(|mistakes| panic!("{mistakes}")).remove(0)
}

/// A subscription to one topic of one node, with these lines.
pub(super) fn subscription(lines: &str) -> Subscription {
    broker(&format!("topic = \"t\"\nnode = \"N\"\n{lines}")).subscriptions.remove(0)
}

/// Points of a Sparkplug subscription.
pub(super) fn sparkplug_points(list: &str) -> Vec<Point> {
    let lines = format!("topic = \"spBv1.0/G/#\"\npayload = \"sparkplug\"\npoint = [{list}]");
    broker(&lines).subscriptions.remove(0).points
}
