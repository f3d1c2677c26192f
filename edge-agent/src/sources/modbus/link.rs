//! The task of one link: polls what is due, one request at a time, and hands readings on.
//!
//! Invariants: a series never gets the same time twice, since a point's next tick is always after its last
//! reading; a point that could not be read says so with a bad reading, at its tick; a dead unit is skipped.

use super::breaker::Breaker;
use super::client::{Client, Data, ReadError};
use super::config::{Device, Link};
use super::plan::{Planner, Request};
use crate::clock::Clock;
use crate::registry::{Registry, RegistryError};
use crate::sample::{At, Batch, Outlet, Sample};
use shared::catalogue::PointNo;
use shared::reading::Quality;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A point that its device refused by itself is asked for again after this long.
const REFUSED_PAUSE_US: i64 = 60_000_000;
/// What was learnt about a device's holes is tried again after this long: it may have been restarting then.
const LEARNT_US: i64 = 6 * 3_600_000_000;
/// A poll this much after its tick is on time, if that is less than a quarter of the interval.
const ON_TIME_US: i64 = 500_000;

/// Polls one link.
pub struct Poller {
    name: String,
    client: Client,
    devices: Vec<Polled>,
    breakers: HashMap<u8, Breaker>,
    /// `None` until it was used.
    link_down: Option<bool>,
    registry: Arc<Registry>,
    outlet: Outlet,
    clock: Clock,
}

struct Polled {
    device: Device,
    planner: Planner,
    learnt_us: i64,
    points: Vec<Due>,
    phase_us: i64,
    /// Why it is dead, while it is.
    failure: Option<(Quality, String)>,
}

struct Due {
    point: PointNo,
    interval_us: i64,
    next_us: i64,
    refused_until_us: i64,
}

/// What one point of a poll came to: when, and the value or why not.
struct Outcome {
    read_us: i64,
    result: Result<(Option<f64>, Quality), (Quality, String)>,
}

impl Poller {
    /// Numbers the link's points. Every device is polled at once, then at ticks spread over its interval.
    ///
    /// # Errors
    /// When a series is read twice, or there are too many points.
    pub fn new(link: Link, registry: Arc<Registry>, outlet: Outlet, clock: Clock) -> Result<Self, RegistryError> {
        let now = clock.mono_us();
        let mut devices = Vec::with_capacity(link.devices.len());
        for (index, device) in link.devices.iter().enumerate() {
            let mut points = Vec::with_capacity(device.points.len());
            for point in &device.points {
                let interval_us = (point.interval.as_micros() as i64).max(1);
                let number = registry.point(point.definition(&link, device))?;
                points.push(Due { point: number, interval_us, next_us: now, refused_until_us: 0 });
            }
            let shortest = points.iter().map(|due| due.interval_us).min().unwrap_or(0);
            let phase_us = shortest * index as i64 / link.devices.len() as i64;
            let planner = Planner::new(device.points.iter().map(|point| point.want).collect(), device.limits);
            devices.push(Polled { device: device.clone(), planner, learnt_us: now, points, phase_us, failure: None });
        }
        let client = Client::new(link.transport, link.timeout);
        let name = link.name;
        Ok(Self { name, client, devices, breakers: HashMap::new(), link_down: None, registry, outlet, clock })
    }

    /// Polls until told to stop, or until nobody takes the readings.
    pub async fn run(mut self, stop: CancellationToken) {
        let polling = async {
            while let Some((index, tick)) = self.earliest() {
                self.clock.sleep_until(tick).await;
                let batch = self.poll(index).await;
                if !batch.samples.is_empty() && self.outlet.send(batch).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = polling => {}
        }
        self.client.close().await;
    }

    fn earliest(&self) -> Option<(usize, i64)> {
        let ticks = self.devices.iter().enumerate();
        ticks.filter_map(|(i, polled)| Some((i, polled.points.iter().map(|p| p.next_us).min()?))).min_by_key(|t| t.1)
    }

    /// Reads what is due on one device.
    async fn poll(&mut self, index: usize) -> Batch {
        let now = self.clock.mono_us();
        let polled = &mut self.devices[index];
        if now - polled.learnt_us > LEARNT_US {
            polled.planner.forget();
            polled.learnt_us = now;
        }
        let due: Vec<usize> = (0..polled.points.len()).filter(|&i| polled.points[i].next_us <= now).collect();
        let mut outcomes: HashMap<usize, Outcome> = HashMap::with_capacity(due.len());
        let alive = self.breakers.get(&polled.device.unit).is_none_or(|breaker| breaker.may_try(now));
        if alive {
            self.read(index, &due, &mut outcomes).await;
        }
        self.finish(index, &due, outcomes)
    }

    async fn read(&mut self, index: usize, due: &[usize], outcomes: &mut HashMap<usize, Outcome>) {
        let polled = &mut self.devices[index];
        let unit = polled.device.unit;
        let now = self.clock.mono_us();
        let asked: Vec<usize> = due.iter().copied().filter(|&i| polled.points[i].refused_until_us <= now).collect();
        let mut work: VecDeque<Request> = polled.planner.plan(&asked).iter().cloned().collect();
        let (mut answered, mut failures) = (false, 0);
        while let Some(request) = work.pop_front() {
            let sent = self.clock.mono_us();
            let result = self.client.read(unit, request.register, request.address, request.count).await;
            let spent = Duration::from_micros((self.clock.mono_us() - sent).max(0) as u64);
            self.note(index, &result, spent);
            let polled = &mut self.devices[index];
            match result {
                Ok(data) => {
                    answered = true;
                    decode(&polled.device, &request, &data, sent, outcomes);
                }
                Err(error) if error.is_refusal() => {
                    answered = true;
                    if let Some(halves) = polled.planner.bisect(&request) {
                        halves.into_iter().rev().for_each(|half| work.push_front(half));
                        continue;
                    }
                    for &(point, _) in &request.covers {
                        polled.points[point].refused_until_us = sent + REFUSED_PAUSE_US;
                    }
                    fail(&polled.device, &request, &error, sent, outcomes);
                }
                Err(error) => {
                    answered |= error.is_answer();
                    failures += u32::from(!error.is_answer());
                    fail(&polled.device, &request, &error, sent, outcomes);
                    // A unit that says nothing would cost its neighbours a timeout for each request.
                    if matches!(error, ReadError::Link(_)) || failures > u32::from(answered) {
                        work.drain(..).for_each(|rest| fail(&polled.device, &rest, &error, sent, outcomes));
                    }
                }
            }
        }
    }

    /// Breaker, counters and the log, which speaks only when something changes.
    fn note(&mut self, index: usize, result: &Result<Data, ReadError>, spent: Duration) {
        let outcome = match result {
            Ok(_) => "ok",
            Err(ReadError::Exception(_)) => "exception",
            Err(ReadError::Timeout(_)) => "timeout",
            Err(ReadError::Malformed(_)) => "malformed",
            Err(ReadError::Link(_) | ReadError::Dropped(_)) => "link",
        };
        metrics::counter!("edge_modbus_requests_total", "link" => self.name.clone(), "outcome" => outcome).increment(1);
        let link_down = matches!(result, Err(ReadError::Link(_)));
        if Some(link_down) != self.link_down {
            let first = self.link_down.replace(link_down).is_none();
            self.registry.link(&self.name, result.as_ref().err().filter(|_| link_down).map(ToString::to_string));
            match result {
                Err(error) if link_down => tracing::warn!(link = self.name, %error, "link is down"),
                _ if first => {}
                _ => tracing::info!(link = self.name, "link is up"),
            }
        }
        if link_down {
            return; // says nothing about the unit
        }
        let polled = &mut self.devices[index];
        let (unit, device) = (polled.device.unit, polled.device.name.as_str());
        let dead_before = self.breakers.values().filter(|b| b.is_dead()).count();
        let breaker = self.breakers.entry(unit).or_default();
        let was_dead = breaker.is_dead();
        match result {
            Err(error) if !error.is_answer() => {
                breaker.failure(self.clock.mono_us(), spent, dead_before + usize::from(!was_dead));
                polled.failure = Some((quality_of(error), format!("unit {unit} is not asked for now: {error}")));
                if breaker.is_dead() && !was_dead {
                    tracing::warn!(link = self.name, device, unit, %error, "unit is dead, asked less often");
                }
            }
            _ => {
                breaker.success();
                polled.failure = None;
                if was_dead {
                    tracing::info!(link = self.name, device, unit, "unit answers again");
                }
            }
        }
        let dead = self.breakers.values().filter(|b| b.is_dead()).count();
        metrics::gauge!("edge_modbus_units_dead", "link" => self.name.clone()).set(dead as f64);
    }

    /// A reading for every due point, and its next tick.
    fn finish(&mut self, index: usize, due: &[usize], mut outcomes: HashMap<usize, Outcome>) -> Batch {
        let now = self.clock.mono_us();
        let polled = &mut self.devices[index];
        let skipped = polled.failure.clone().unwrap_or_else(|| (Quality::BAD_TIMEOUT, "not asked for now".into()));
        let refused = (Quality::BAD_EXCEPTION, ReadError::Exception(2).to_string());
        let (mut samples, mut missed) = (Vec::with_capacity(due.len()), 0);
        for &i in due {
            let state = &mut polled.points[i];
            let tick = state.next_us;
            let skipped = || if state.refused_until_us > tick { refused.clone() } else { skipped.clone() };
            let (read_us, result) =
                outcomes.remove(&i).map_or_else(|| (now, Err(skipped())), |outcome| (outcome.read_us, outcome.result));
            let on_time = read_us - tick <= ON_TIME_US.min(state.interval_us / 4);
            let at_us = if result.is_err() || on_time { tick } else { read_us };
            let (value, quality, error) = match result {
                Ok((value, quality)) => {
                    let error = (!quality.is_usable()).then(|| format!("the value is {quality}"));
                    (value, quality, error)
                }
                Err((quality, error)) => (None, quality, Some(error)),
            };
            let sample = Sample { point: state.point, at: At::Mono(at_us), value, quality };
            self.registry.seen(state.point, &sample, error);
            samples.push(sample);
            state.next_us = next_tick(polled.phase_us, state.interval_us, read_us.max(at_us));
            missed += (state.next_us - tick - 1) / state.interval_us;
        }
        if missed > 0 {
            metrics::counter!("edge_modbus_polls_missed_total", "link" => self.name.clone()).increment(missed as u64);
        }
        Batch { samples, done: None }
    }
}

/// The first of phase + n × interval after `now`.
fn next_tick(phase_us: i64, interval_us: i64, now: i64) -> i64 {
    phase_us + ((now - phase_us).div_euclid(interval_us) + 1) * interval_us
}

fn decode(device: &Device, request: &Request, data: &Data, read_us: i64, outcomes: &mut HashMap<usize, Outcome>) {
    for &(point, distance) in &request.covers {
        let decoding = &device.points[point].decoding;
        let distance = usize::from(distance);
        let reading = match data {
            Data::Words(words) => decoding.words(words.get(distance..).unwrap_or_default()),
            Data::Bits(bits) => bits.get(distance).map_or((None, Quality::BAD_PAYLOAD), |&on| decoding.flag(on)),
        };
        outcomes.insert(point, Outcome { read_us, result: Ok(reading) });
    }
}

fn fail(device: &Device, request: &Request, error: &ReadError, read_us: i64, outcomes: &mut HashMap<usize, Outcome>) {
    let place = format!("unit {} {} {}", device.unit, request.register.name(), request.address);
    for &(point, _) in &request.covers {
        let result = Err((quality_of(error), format!("{place}: {error}")));
        outcomes.insert(point, Outcome { read_us, result });
    }
}

fn quality_of(error: &ReadError) -> Quality {
    match error {
        ReadError::Link(_) | ReadError::Dropped(_) => Quality::BAD_LINK,
        ReadError::Timeout(_) => Quality::BAD_TIMEOUT,
        ReadError::Exception(_) => Quality::BAD_EXCEPTION,
        ReadError::Malformed(_) => Quality::BAD_PAYLOAD,
    }
}

#[cfg(test)]
mod tests {
    use super::next_tick;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_next_tick_is_on_the_grid_and_strictly_later(
            phase in 0i64..1_000_000, interval in 1i64..10_000_000, now in 0i64..1_000_000_000_000,
        ) {
            let next = next_tick(phase, interval, now);
            prop_assert!(next > now && next <= now + interval);
            prop_assert_eq!((next - phase).rem_euclid(interval), 0);
        }
    }
}
