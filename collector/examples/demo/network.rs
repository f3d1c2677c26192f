//! A model of a small water network: pure, seeded, stepped in time.
//!
//! ```text
//! wells ──inlet──► RES_001 ──► PUMP_001 ──► RES_002 ──outlet──┬──► DIST_001
//!                 low basin    by level     on the hill       ├──► DIST_002   (a pipe bursts here)
//!                                                             └──► DIST_003
//! ```
//!
//! There are two times. *Seconds* are real ones: sensors' noise, the burst and everything that is counted (m³, kWh)
//! go by them, so that what is recorded agrees with itself: a meter grows by what the flow says. *Model time* runs
//! `speed` times faster: the pattern of the day and the levels go by it, as if basins were smaller by that factor. At
//! speed 1 it is the time that clocks show, so that the network can have a past (`past.rs`).

use super::demand::{self, District};
use super::noise::Noise;
use serde::{Deserialize, Serialize};

/// Real seconds of one step of the model.
pub(crate) const STEP_S: f64 = 0.1;
/// Seconds of one step where nobody watches: basins take hours, and weeks shall take no time.
pub(crate) const LONG_STEP_S: f64 = 10.0;
/// Model time at the start where it runs ahead of the clocks: Monday, half past five, just before the morning peak.
pub(crate) const START_S: f64 = 5.5 * 3_600.0;

/// Litres in a cubic metre.
const LITRES: f64 = 1_000.0;
/// Pressure of a metre of water, bar.
const BAR_PER_M: f64 = 0.098_066_5;
/// Seconds that a pipe takes to tear open.
const TEAR_S: f64 = 3.0;

/// The basins: floor area in m², and the level at which they overflow, in m.
const AREA_M2: [f64; 2] = [700.0, 300.0];
const OVERFLOW_M: [f64; 2] = [4.5, 5.0];
/// The pump starts below and stops above these levels of RES_002, m.
const PUMP_START_M: f64 = 2.4;
const PUMP_STOP_M: f64 = 4.3;
/// RES_002's floor above RES_001's, m.
const HILL_M: f64 = 38.0;

/// What makes one network differ from another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Of all noise.
    pub(crate) seed: u64,
    /// Model seconds in a second.
    pub(crate) speed: f64,
    /// Model time at the start, seconds since a Monday 00:00.
    pub(crate) starts_s: f64,
    /// Pipes that burst.
    pub(crate) tears: [Tear; 2],
}

/// A pipe that bursts and is repaired.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Tear {
    /// Of which district.
    pub(crate) district: usize,
    /// When it bursts and when it is repaired, seconds after the start.
    pub(crate) span_s: (f64, f64),
    /// How much of its section is open; 1 for a main.
    pub(crate) size: f64,
}

impl Tear {
    /// One that never comes.
    pub(crate) const NEVER: Self = Self { district: demand::BURST, span_s: (f64::MAX, f64::MAX), size: 0.0 };

    /// A main of DIST_002.
    pub(crate) const fn burst(span_s: (f64, f64)) -> Self {
        Self { district: demand::BURST, span_s, size: 1.0 }
    }
}

/// What lasts from one moment to the next. All else follows from it and the time.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Lasting {
    /// Levels of RES_001 and RES_002, m.
    level: [f64; 2],
    /// Whether the pump runs.
    running: bool,
    /// What the pump's meter shows, m³.
    pumped: f64,
    /// What its energy meter shows, kWh.
    energy: f64,
    /// What the districts' meters show, m³.
    drawn: [f64; 3],
}

impl Lasting {
    /// Of a network that begins, with `volume` m³ and `energy` kWh on every meter.
    pub(crate) fn new(volume: f64, energy: f64) -> Self {
        Self { level: [3.1, 3.4], running: true, pumped: volume, energy, drawn: [volume; 3] }
    }
}

/// The network at a moment, as it truly is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct State {
    /// Seconds since the start.
    pub(crate) seconds: f64,
    /// Seconds since Monday 00:00 of the first week, in model time.
    pub(crate) model_s: f64,
    /// Levels of RES_001 and RES_002, m.
    pub(crate) level: [f64; 2],
    /// Flow into RES_001, L/s.
    pub(crate) inlet: f64,
    /// The pumping station.
    pub(crate) pump: Pump,
    /// The districts.
    pub(crate) district: [Supply; 3],
    /// What runs out of the burst pipe, L/s.
    pub(crate) leak: f64,
}

/// The pumping station at a moment.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Pump {
    /// Whether it runs.
    pub(crate) running: bool,
    /// L/s.
    pub(crate) flow: f64,
    /// On its outlet, bar.
    pub(crate) pressure: f64,
    /// kW.
    pub(crate) power: f64,
    /// kWh.
    pub(crate) energy: f64,
    /// m³.
    pub(crate) volume: f64,
}

/// A district's inlet at a moment.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Supply {
    /// L/s.
    pub(crate) flow: f64,
    /// bar.
    pub(crate) pressure: f64,
    /// m³.
    pub(crate) volume: f64,
}

impl State {
    /// What leaves RES_002, L/s.
    pub(crate) fn outlet(&self) -> f64 {
        self.district.iter().map(|district| district.flow).sum()
    }
}

/// The network.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    settings: Settings,
    step_s: f64,
    steps: u64,
    state: State,
}

impl Network {
    /// At its start.
    pub(crate) fn new(settings: Settings, from: Lasting) -> Self {
        Self::in_steps(settings, from, STEP_S)
    }

    /// At its start, in steps of so many seconds.
    pub(crate) fn in_steps(settings: Settings, from: Lasting, step_s: f64) -> Self {
        let Lasting { level, running, pumped, energy, drawn } = from;
        let state = State {
            seconds: 0.0,
            model_s: settings.starts_s,
            level,
            inlet: 0.0,
            pump: Pump { running, volume: pumped, energy, ..Pump::default() },
            district: drawn.map(|volume| Supply { volume, ..Supply::default() }),
            leak: 0.0,
        };
        let mut network = Self { settings, step_s, steps: 0, state };
        network.settle();
        network
    }

    /// What is to be known to go on from here.
    pub(crate) fn lasting(&self) -> Lasting {
        let State { level, pump, district, .. } = self.state;
        let drawn = district.map(|supply| supply.volume);
        Lasting { level, running: pump.running, pumped: pump.volume, energy: pump.energy, drawn }
    }

    /// As it is now.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Makes model time what the clocks show; they may have been changed.
    pub(crate) fn set_clock(&mut self, model_s: f64) {
        self.settings.starts_s = model_s - self.state.seconds * self.settings.speed;
    }

    /// Lets time pass until `seconds` after the start. It doesn't matter in how many calls.
    pub(crate) fn advance(&mut self, seconds: f64) {
        while (self.steps + 1) as f64 * self.step_s <= seconds {
            self.steps += 1;
            self.step();
        }
    }

    /// What flows for a step moves the basins and the meters; then flows and pressures follow.
    fn step(&mut self) {
        let (state, step_s) = (&mut self.state, self.step_s);
        let net = [state.inlet - state.pump.flow, state.pump.flow - state.outlet()];
        for basin in 0..2 {
            let level = state.level[basin] + net[basin] / LITRES * step_s * self.settings.speed / AREA_M2[basin];
            state.level[basin] = level.clamp(0.0, OVERFLOW_M[basin]);
        }
        for district in &mut state.district {
            district.volume += district.flow * step_s / LITRES;
        }
        state.pump.volume += state.pump.flow * step_s / LITRES;
        state.pump.energy += state.pump.power * step_s / 3_600.0;
        state.seconds = self.steps as f64 * step_s;
        state.model_s = self.settings.starts_s + state.seconds * self.settings.speed;
        self.settle();
    }

    /// Flows and pressures for the levels and the time there are.
    fn settle(&mut self) {
        let noise = Noise(self.settings.seed);
        let state = &mut self.state;
        state.inlet = (110.0 * (3.9 - state.level[0]) / 2.0).clamp(0.0, 110.0);
        state.pump.turn(state.level);
        let mut flows = demand::DISTRICTS.map(|district| district.demand(state.model_s, noise));
        state.leak = 0.0;
        for tear in &self.settings.tears {
            let leak = torn(state.seconds, tear) * demand::leak(state.district[tear.district].pressure);
            flows[tear.district] += leak;
            state.leak += leak;
        }
        let total: f64 = flows.iter().sum();
        for ((supply, district), flow) in state.district.iter_mut().zip(&demand::DISTRICTS).zip(flows) {
            supply.flow = if state.level[1] > 0.0 { flow } else { 0.0 };
            supply.pressure = pressure(district, state.level[1], flow, total);
        }
    }
}

/// How far the pipe is open, 0 to 1.
fn torn(seconds: f64, tear: &Tear) -> f64 {
    let (bursts, repaired) = tear.span_s;
    if seconds >= repaired { 0.0 } else { ((seconds - bursts) / TEAR_S).clamp(0.0, 1.0) * tear.size }
}

/// At a district's inlet: the water column above it less the friction of its own pipe and of the common one, bar.
fn pressure(district: &District, level: f64, flow: f64, total: f64) -> f64 {
    let column = demand::BASIN_M + level - district.elevation_m;
    let friction = district.friction * flow.powi(2) + demand::COMMON_FRICTION * total.powi(2);
    ((column - friction) * BAR_PER_M).max(0.0)
}

impl Pump {
    /// Switched by RES_002's level, its speed by how much is missing there; flow where the pump's curve
    /// `H₀·n² − a·Q²` meets the pipe's `H + r·Q²` (affinity laws for the speed n).
    fn turn(&mut self, level: [f64; 2]) {
        const HEAD_M: f64 = 75.0;
        const CURVE: f64 = 0.002_5;
        const PIPE: f64 = 0.001_6;
        const EFFICIENCY: f64 = 0.7;
        let wanted_below = if self.running { PUMP_STOP_M } else { PUMP_START_M };
        self.running = level[1] < wanted_below && level[0] > 0.3; // an empty basin would run it dry
        let lift = HILL_M + level[1] - level[0];
        let speed = (0.82 + 0.18 * (PUMP_STOP_M - level[1])).clamp(0.82, 1.0);
        let spare = HEAD_M * speed.powi(2) - lift;
        self.flow = if self.running { (spare.max(0.0) / (CURVE + PIPE)).sqrt() } else { 0.0 };
        self.pressure = (lift + level[0] + PIPE * self.flow.powi(2)) * BAR_PER_M;
        let head = lift + PIPE * self.flow.powi(2);
        self.power = 0.3 + 9.81 * self.flow / LITRES * head / EFFICIENCY;
    }
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
