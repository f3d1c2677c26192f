//! What goes wrong with messages is counted each time and logged now and then: a hostile publisher costs a
//! counter and a line, not a log.

use super::payload::excerpt;
use std::collections::HashMap;
use std::fmt::Display;

/// A kind is logged at most this often.
const PAUSE_US: i64 = 600_000_000;

/// What can be wrong with a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Trouble {
    /// The topic matches no subscription, or names nothing that is configured.
    Topic,
    /// The place in the topic can't be a name.
    Name,
    /// There are too many points.
    Full,
    /// Another source has that series.
    Taken,
    /// The payload can't be read.
    Payload,
    /// A retained message without a timestamp: who knows how old it is.
    Retained,
    /// Its own timestamp can't be used.
    Time,
    /// Sparkplug: messages are missing.
    Missed,
    /// Sparkplug: an alias that no birth explained.
    Alias,
}

impl Trouble {
    fn name(self) -> &'static str {
        match self {
            Trouble::Topic => "topic",
            Trouble::Name => "name",
            Trouble::Full => "full",
            Trouble::Taken => "taken",
            Trouble::Payload => "payload",
            Trouble::Retained => "retained",
            Trouble::Time => "time",
            Trouble::Missed => "missed",
            Trouble::Alias => "alias",
        }
    }
}

/// The complaints about one broker's messages.
#[derive(Debug)]
pub(super) struct Complaints {
    broker: String,
    /// When each kind was last logged, and how many came since.
    logged: HashMap<Trouble, (i64, u64)>,
}

impl Complaints {
    pub(super) fn new(broker: &str) -> Self {
        Self { broker: broker.to_owned(), logged: HashMap::new() }
    }

    /// Counts it, and logs it when nothing of its kind was logged for a while; true when it did.
    pub(super) fn tell(&mut self, trouble: Trouble, now_us: i64, topic: &str, problem: impl Display) -> bool {
        let labels = [("broker", self.broker.clone()), ("kind", trouble.name().to_owned())];
        metrics::counter!("edge_mqtt_troubles_total", &labels).increment(1);
        let (at, quiet) = self.logged.entry(trouble).or_insert((i64::MIN, 0));
        if now_us.saturating_sub(*at) < PAUSE_US {
            *quiet += 1;
            return false;
        }
        let (broker, topic) = (self.broker.as_str(), excerpt(topic.as_bytes()));
        tracing::warn!(broker, topic, kind = trouble.name(), not_logged_since = *quiet, "{problem}");
        (*at, *quiet) = (now_us, 0);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_logged_once_in_ten_minutes() {
        let mut complaints = Complaints::new("b");
        let mut tell = |trouble, at| complaints.tell(trouble, at, "t", "x");
        assert!(tell(Trouble::Name, 0));
        assert!(!tell(Trouble::Name, PAUSE_US - 1));
        assert!(tell(Trouble::Full, 1));
        assert!(tell(Trouble::Name, PAUSE_US));
    }
}
