//! A message → samples: which points it speaks of, when it was measured, how far that can be trusted.
//! No IO: the connection hands messages in, and time with them.

use super::client::Message;
use super::complaints::{Complaints, Trouble};
use super::config::{Broker, Payload, Point};
use super::edges::Edges;
use super::payload::{Said, excerpt, json, number};
use super::points::{Place, Points, Refusal};
use super::sparkplug::{Address, Kind};
use super::stamp::Stamp;
use super::topic::find;
use crate::registry::{Registry, RegistryError};
use crate::sample::{At, Sample};
use shared::catalogue::PointNo;
use shared::reading::Quality;
use std::sync::Arc;

/// When a message came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// Microseconds since boot.
    pub(super) now_us: i64,
    /// It may have waited at the broker.
    pub(super) waited: bool,
}

/// Takes the messages of one broker.
pub(super) struct Intake {
    broker: Arc<Broker>,
    registry: Arc<Registry>,
    points: Points,
    edges: Edges,
    complaints: Complaints,
}

impl Intake {
    /// Registers the points that are configured whole.
    ///
    /// # Errors
    /// When two sources read one series, or there are too many points.
    pub(super) fn new(broker: Arc<Broker>, registry: Arc<Registry>) -> Result<Self, RegistryError> {
        let sparkplug = broker.subscriptions.iter().filter(|one| one.payload == Payload::Sparkplug);
        let wanted = sparkplug.flat_map(|one| &one.points).map(|point| point.name.clone()).collect();
        let points = Points::new(Arc::clone(&broker), Arc::clone(&registry))?;
        let complaints = Complaints::new(&broker.name);
        Ok(Self { broker, registry, points, edges: Edges::new(wanted), complaints })
    }

    /// The readings that a message is.
    pub(super) fn take(&mut self, message: &Message, arrival: Arrival) -> Vec<Sample> {
        metrics::counter!("edge_mqtt_messages_total", "broker" => self.broker.name.clone()).increment(1);
        let Ok(topic) = std::str::from_utf8(&message.topic) else {
            self.complain(Trouble::Topic, arrival, &excerpt(&message.topic), "the topic is no text");
            return Vec::new();
        };
        let broker = Arc::clone(&self.broker);
        let matching = broker.subscriptions.iter().enumerate();
        let Some((index, captures)) = matching.filter_map(|(i, s)| Some((i, s.pattern.captures(topic)?))).next() else {
            self.complain(
                Trouble::Topic,
                arrival,
                topic,
                "a message matches no subscription; an older one may still stand in the broker's session",
            );
            return Vec::new();
        };
        let subscription = &broker.subscriptions[index];
        let call = Call { message, arrival, topic };
        let place = Place { subscription: index, captures, origin: None };
        if subscription.payload == Payload::Sparkplug {
            return self.take_sparkplug(call, place, &subscription.points);
        }
        let points: Vec<(usize, &Point)> = match find(&place.captures, "metric") {
            Some(name) => subscription.points.iter().enumerate().filter(|(_, point)| point.name == name).collect(),
            None => subscription.points.iter().enumerate().collect(),
        };
        if points.is_empty() {
            self.complain(Trouble::Topic, arrival, topic, "no point of the subscription is called so");
            return Vec::new();
        }
        let said = match &subscription.payload {
            _ if message.payload.len() > broker.payload_bytes_max => Err(self.too_large(message)),
            Payload::Json(rules) => json(&message.payload, rules, &points),
            _ => points.iter().map(|&(i, p)| Ok(Said::new(i, Ok(number(&message.payload, p)?), Stamp::None))).collect(),
        };
        match said {
            Ok(said) => said.into_iter().filter_map(|one| self.sample(call, &place, one)).collect(),
            Err(problem) => {
                let named: Vec<usize> = points.iter().map(|&(index, _)| index).collect();
                self.refuse(call, &place, &named, &problem)
            }
        }
    }

    fn too_large(&self, message: &Message) -> String {
        let (size, most) = (message.payload.len(), self.broker.payload_bytes_max);
        format!("the payload has {size} bytes, payload_max is {most}")
    }

    /// The connection was lost.
    pub(super) fn lost(&mut self) {
        self.edges.doubt();
    }

    /// A bad reading for each point that has been without a link for too long, once. `lost` says since when and
    /// why a subscription gets nothing.
    pub(super) fn overdue(&mut self, now_us: i64, lost: impl Fn(usize) -> Option<(i64, String)>) -> Vec<Sample> {
        let overdue = self.points.overdue(now_us, |subscription| lost(subscription).map(|(since, _)| since));
        let down = |(number, subscription)| {
            let why = lost(subscription).map(|(_, why)| why).unwrap_or_default();
            self.bad(number, now_us, Quality::BAD_LINK, why)
        };
        overdue.into_iter().map(down).collect()
    }

    fn bad(&self, point: PointNo, now_us: i64, quality: Quality, error: String) -> Sample {
        let sample = Sample { point, at: At::Mono(now_us), value: None, quality };
        self.registry.seen(point, &sample, Some(error));
        sample
    }

    /// The broker is there, or away for this reason.
    pub(super) fn link(&self, away: Option<&str>) {
        self.registry.link(&self.broker.name, away.map(|why| format!("away: {why}")));
    }

    fn complain(&mut self, trouble: Trouble, arrival: Arrival, topic: &str, problem: &str) {
        self.complaints.tell(trouble, arrival.now_us, topic, problem);
    }

    /// A payload that can't be read: a bad reading for each of its points that exist already. It makes none exist.
    fn refuse(&mut self, call: Call<'_>, place: &Place<'_>, points: &[usize], problem: &str) -> Vec<Sample> {
        let error = call.blame(problem);
        self.complain(Trouble::Payload, call.arrival, call.topic, &error);
        if call.message.retain {
            return Vec::new(); // it may be as old as the broker
        }
        let slots: Vec<_> = points.iter().filter_map(|&point| self.points.find(place, point)).collect();
        let bad = |slot| {
            let number = self.points.heard(slot);
            self.bad(number, call.arrival.now_us, Quality::BAD_PAYLOAD, error.clone())
        };
        slots.into_iter().map(bad).collect()
    }

    /// The sample of one reading, when it is one.
    fn sample(&mut self, call: Call<'_>, place: &Place<'_>, mut said: Said) -> Option<Sample> {
        let at = match (&said.stamp, call.message.retain) {
            (Stamp::Own(at), _) => At::Utc(*at),
            (_, true) => {
                let problem = "a retained message without a timestamp is no reading: nobody knows how old it is";
                self.complain(Trouble::Retained, call.arrival, call.topic, problem);
                return None;
            }
            (Stamp::None | Stamp::Unusable(_), false) => At::Mono(call.arrival.now_us),
        };
        if let Stamp::Unusable(why) = &said.stamp {
            self.complain(Trouble::Time, call.arrival, call.topic, why);
            said.problem.get_or_insert_with(|| why.clone());
        }
        if let At::Mono(_) = at {
            doubt_time(&mut said, call);
        }
        if said.quality == Quality::BAD_PAYLOAD {
            let error = call.blame(said.problem.as_deref().unwrap_or_default());
            self.complain(Trouble::Payload, call.arrival, call.topic, &error);
        }
        // What isn't usable makes no point exist: a publisher of nonsense gets no place in the table.
        let known = if said.quality.is_usable() { None } else { Some(self.points.find(place, said.point)) };
        let slot = match known {
            None => self.points.find_or_add(place, said.point),
            Some(Some(slot)) => Ok(slot),
            Some(None) => {
                if said.quality != Quality::BAD_PAYLOAD {
                    let why = said.problem.as_deref().unwrap_or("its value can't be used");
                    let error =
                        call.blame(&format!("{why}; no usable value came before it, so it makes no point exist"));
                    self.complain(Trouble::Payload, call.arrival, call.topic, &error);
                }
                return None;
            }
        };
        let slot = match slot {
            Ok(slot) => slot,
            Err(refusal) => {
                self.turn_away(call, &refusal);
                return None;
            }
        };
        let sample = Sample { point: self.points.heard(slot), at, value: said.value, quality: said.quality };
        self.registry.seen(sample.point, &sample, said.problem.map(|problem| call.blame(&problem)));
        Some(sample)
    }

    fn turn_away(&mut self, call: Call<'_>, refusal: &Refusal) {
        let trouble = match refusal {
            Refusal::Name(_) => Trouble::Name,
            Refusal::Full(_) | Refusal::Registry(RegistryError::Full(_)) => Trouble::Full,
            Refusal::Registry(RegistryError::Twice { .. }) => Trouble::Taken,
        };
        self.complain(trouble, call.arrival, call.topic, &refusal.to_string());
    }

    fn take_sparkplug<'a>(&mut self, call: Call<'a>, mut place: Place<'a>, points: &[Point]) -> Vec<Sample> {
        let address = match Address::of(call.topic) {
            Ok(Some(address)) => address,
            Ok(None) => return Vec::new(),
            Err(problem) => {
                self.complain(Trouble::Topic, call.arrival, call.topic, &problem);
                return Vec::new();
            }
        };
        let edge = format!("{}/{}", address.group, address.edge);
        place.captures = address.captures();
        place.origin = Some((edge.clone(), address.device.map(Into::into)));
        let heard = match call.message.payload.len() <= self.broker.payload_bytes_max {
            true => self.edges.hear(&address, &call.message.payload, points),
            false => Err(self.too_large(call.message)),
        };
        let heard = match heard {
            Ok(heard) => heard,
            // Which of its points a message would have named can't be known, but a birth names all.
            Err(problem) => {
                let all: Vec<usize> =
                    if address.kind == Kind::Birth { (0..points.len()).collect() } else { Vec::new() };
                return self.refuse(call, &place, &all, &problem);
            }
        };
        if heard.death {
            let what =
                address.device.map_or_else(|| format!("edge node {edge}"), |device| format!("device {edge}/{device}"));
            let concerns = |device: Option<&str>| address.device.is_none() || device == address.device;
            return self.take_down(call, &edge, concerns, &format!("{what} said that it is gone"));
        }
        if heard.missed {
            self.complain(Trouble::Missed, call.arrival, call.topic, "messages before this one are missing");
        }
        if let Some(problem) = &heard.broken {
            self.complain(Trouble::Payload, call.arrival, call.topic, &call.blame(problem));
        }
        let mut samples = Vec::new();
        if heard.unexplained > 0 {
            let problem = "no birth has told what its aliases mean; restart the edge node, or let its host application \
                           ask it for a rebirth";
            self.complain(Trouble::Alias, call.arrival, call.topic, problem);
            samples = self.take_down(call, &edge, |device| device == address.device, problem);
        }
        samples.extend(heard.said.into_iter().filter_map(|one| self.sample(call, &place, one)));
        samples
    }

    fn take_down(
        &mut self,
        call: Call<'_>,
        edge: &str,
        concerns: impl Fn(Option<&str>) -> bool,
        why: &str,
    ) -> Vec<Sample> {
        let down = self.points.take_down(edge, concerns);
        down.into_iter()
            .map(|number| self.bad(number, call.arrival.now_us, Quality::BAD_LINK, why.to_owned()))
            .collect()
    }
}

/// A message under way.
#[derive(Clone, Copy)]
struct Call<'a> {
    message: &'a Message,
    arrival: Arrival,
    topic: &'a str,
}

impl Call<'_> {
    /// What is wrong, with topic and start of the payload.
    fn blame(&self, problem: &str) -> String {
        let (topic, start) = (excerpt(self.topic.as_bytes()), excerpt(&self.message.payload));
        format!("{topic}: {problem}; the payload starts '{start}'")
    }
}

/// A reading takes the time of its message's arrival: what speaks against that?
fn doubt_time(said: &mut Said, call: Call<'_>) {
    if !said.quality.is_usable() {
        return;
    }
    if call.message.dup {
        said.quality = Quality::UNCERTAIN_REDELIVERED;
    } else if said.quality == Quality::GOOD && (call.arrival.waited || matches!(said.stamp, Stamp::Unusable(_))) {
        said.quality = Quality::UNCERTAIN_CLOCK;
    }
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
