//! The field: every second the network is looked at, and what its sensors say is put where it can be read.

use super::held::Record;
use super::kept::{Kept, Moment};
use super::modbus::Units;
use super::mqtt::Publishers;
use super::network::{Lasting, Network, Settings, State};
use super::noise::Noise;
use super::sensors::{Place, SENSORS, Said};
use shared::reading::Timestamp;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often sensors measure.
const PACE: Duration = Duration::from_secs(1);

/// What the field is like at the moment, for those who watch.
pub(crate) struct Field {
    record: Mutex<Record>,
    state: Mutex<State>,
}

impl Field {
    /// Builds the network as it is at this moment, and lets its sensors measure once.
    pub(crate) fn new(settings: Settings, from: Lasting, units: &Units, now: Timestamp) -> (Arc<Self>, Pace) {
        let network = Network::new(settings, from);
        let field = Self { record: Mutex::new(Record::new(SENSORS.len())), state: Mutex::new(*network.state()) };
        let pace = Pace { network, noise: Noise(settings.seed), started: Instant::now() };
        field.measure(&pace, units, now);
        (Arc::new(field), pace)
    }

    /// What the sensors held, and since when.
    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The network as it truly is.
    pub(crate) fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measure(&self, pace: &Pace, units: &Units, now: Timestamp) -> (Timestamp, Vec<Said>) {
        let state = *pace.network.state();
        let said: Vec<Said> =
            SENSORS.iter().enumerate().map(|(number, sensor)| sensor.say(&state, pace.noise, number)).collect();
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        // Messages carry whole milliseconds. Noted first: nothing can be read that isn't in the record.
        let at = Timestamp(now.0 - now.0.rem_euclid(1_000));
        self.record().note(at, said.iter().map(|said| said.value));
        units.put(SENSORS.iter().zip(&said).filter_map(|(sensor, said)| match sensor.place {
            Place::Register(register) => Some((register, said.words.as_slice())),
            _ => None,
        }));
        (at, said)
    }
}

/// What moves the field on.
pub(crate) struct Pace {
    network: Network,
    noise: Noise,
    started: Instant,
}

impl Pace {
    /// Goes on for ever, and keeps what lasts.
    ///
    /// # Errors
    /// When it can't be kept.
    pub(crate) async fn run(
        mut self,
        field: Arc<Field>,
        units: Arc<Units>,
        publishers: Publishers,
        kept: Option<Kept>,
    ) -> std::io::Result<()> {
        let mut ticks = tokio::time::interval(PACE);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.network.advance(self.started.elapsed().as_secs_f64());
            let (at, said) = field.measure(&self, &units, Timestamp::wall_clock());
            publishers.publish(at, &said);
            if let Some(kept) = &kept {
                kept.save(&Moment::new(at, self.network.lasting()))?;
            }
        }
    }
}
