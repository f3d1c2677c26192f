//! What is measured in the network, and how each sensor says it: the truth behind `config/demo/agent.toml`.

use super::form::{Form, Order, decimal};
use super::network::State;
use super::noise::Noise;

/// A register table, by the function code that reads it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Table {
    /// Function 2.
    Discrete,
    /// Function 3.
    Holding,
    /// Function 4.
    Input,
}

/// Which bus a Modbus unit is on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Bus {
    /// Modbus TCP.
    Tcp,
    /// Modbus RTU.
    Rtu,
}

/// A place in a Modbus unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Register {
    pub(crate) bus: Bus,
    pub(crate) unit: u8,
    pub(crate) table: Table,
    pub(crate) address: u16,
    pub(crate) form: Form,
    pub(crate) order: Order,
}

/// How a sensor is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// By Modbus.
    Register(Register),
    /// A field of a JSON message with a time of its own; several sensors may share a topic.
    Json { topic: &'static str, field: &'static str, places: usize },
    /// A message that is a bare number.
    Bare { topic: &'static str, places: usize },
}

/// A sensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sensor {
    /// Where it measures.
    pub(crate) node: &'static str,
    /// What it measures.
    pub(crate) metric: &'static str,
    /// Which of several.
    pub(crate) channel: &'static str,
    /// How it is read.
    pub(crate) place: Place,
    /// The device says `(value / factor - offset) / scale`; `value` is in the metric's canonical unit.
    pub(crate) factor: f64,
    /// See `factor`.
    pub(crate) scale: f64,
    /// See `factor`.
    pub(crate) offset: f64,
    /// The step that the agent is told to keep, canonical unit; 0 for every bit.
    pub(crate) resolution: f64,
    /// What the sensor adds to the truth: a standard deviation, canonical unit.
    noise: f64,
    truth: fn(&State) -> f64,
}

/// What a sensor says at a moment.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Said {
    /// What a correct decoder makes of it, in the canonical unit.
    pub(crate) value: f64,
    /// Registers, for a Modbus sensor.
    pub(crate) words: Vec<u16>,
    /// Text, for an MQTT sensor.
    pub(crate) text: String,
}

impl Sensor {
    /// What it says of the network; `number` sets its noise apart from others'.
    pub(crate) fn say(&self, state: &State, noise: Noise, number: usize) -> Said {
        let tick = (state.seconds * 10.0).round() as i64;
        let jitter = if self.noise == 0.0 { 0.0 } else { self.noise * noise.white(1_000 + number as u64, tick) };
        let raw = ((self.truth)(state) + jitter) / self.factor;
        let (words, text, said) = match self.place {
            Place::Register(register) => {
                let (words, said) = register.form.encode(register.order, (raw - self.offset) / self.scale);
                (words, String::new(), said)
            }
            Place::Json { places, .. } | Place::Bare { places, .. } => {
                let (text, said) = decimal((raw - self.offset) / self.scale, places);
                (Vec::new(), text, said)
            }
        };
        Said { value: (said * self.scale + self.offset) * self.factor, words, text }
    }
}

const M3_PER_H: f64 = 1.0 / 3.6;
const KPA: f64 = 0.01;
const PSI: f64 = 0.068_947_572_931_683_6;
const WH: f64 = 0.001;
const LITRE: f64 = 0.001;
const MM: f64 = 0.001;

const fn register(bus: Bus, unit: u8, table: Table, address: u16, form: Form, order: Order) -> Place {
    Place::Register(Register { bus, unit, table, address, form, order })
}

const fn sensor(
    node: &'static str,
    metric: &'static str,
    place: Place,
    noise: f64,
    truth: fn(&State) -> f64,
) -> Sensor {
    Sensor { node, metric, channel: "", place, factor: 1.0, scale: 1.0, offset: 0.0, resolution: 0.0, noise, truth }
}

const fn basin(unit: u8, table: Table, address: u16, form: Form, order: Order) -> Place {
    register(Bus::Rtu, unit, table, address, form, order)
}

const fn station(unit: u8, table: Table, address: u16, form: Form, order: Order) -> Place {
    register(Bus::Tcp, unit, table, address, form, order)
}

const fn json(field: &'static str, places: usize) -> Place {
    Place::Json { topic: "meters/DIST_002/telemetry", field, places }
}

const fn bare(topic: &'static str, places: usize) -> Place {
    Place::Bare { topic, places }
}

/// All sensors, node by node as they are shown.
pub(crate) static SENSORS: &[Sensor] = &[
    Sensor {
        factor: MM,
        resolution: 0.001,
        ..sensor("RES_001", "level", basin(1, Table::Holding, 100, Form::I16, Order::Abcd), 0.002, |s| s.level[0])
    },
    Sensor {
        channel: "inlet",
        scale: 0.1,
        resolution: 0.1,
        ..sensor("RES_001", "flow_rate", basin(1, Table::Holding, 101, Form::Bcd16, Order::Abcd), 0.2, |s| s.inlet)
    },
    Sensor {
        // The probe hangs half a metre above the floor.
        scale: 0.001,
        offset: 0.5,
        resolution: 0.001,
        ..sensor("RES_002", "level", basin(2, Table::Input, 0, Form::U16, Order::Badc), 0.002, |s| s.level[1])
    },
    Sensor {
        channel: "outlet",
        factor: M3_PER_H,
        scale: 0.001,
        resolution: 0.001,
        ..sensor("RES_002", "flow_rate", basin(2, Table::Input, 4, Form::I32, Order::Dcba), 0.1, State::outlet)
    },
    Sensor {
        ..sensor("PUMP_001", "running", station(1, Table::Discrete, 0, Form::Bool, Order::Abcd), 0.0, |s| {
            f64::from(u8::from(s.pump.running))
        })
    },
    Sensor {
        factor: M3_PER_H,
        scale: 0.1,
        resolution: 0.001,
        ..sensor("PUMP_001", "flow_rate", station(1, Table::Holding, 0, Form::U16, Order::Abcd), 0.1, |s| s.pump.flow)
    },
    Sensor {
        factor: KPA,
        resolution: 0.01,
        ..sensor("PUMP_001", "pressure", station(1, Table::Holding, 1, Form::U16, Order::Abcd), 0.01, |s| {
            s.pump.pressure
        })
    },
    Sensor {
        ..sensor("PUMP_001", "power", station(1, Table::Holding, 2, Form::F32, Order::Abcd), 0.05, |s| s.pump.power)
    },
    Sensor {
        factor: WH,
        resolution: 0.001,
        ..sensor("PUMP_001", "energy", station(1, Table::Holding, 10, Form::U32, Order::Cdab), 0.0, |s| s.pump.energy)
    },
    Sensor {
        factor: LITRE,
        resolution: 0.001,
        ..sensor("PUMP_001", "total_volume", station(1, Table::Holding, 12, Form::U64, Order::Abcd), 0.0, |s| {
            s.pump.volume
        })
    },
    Sensor {
        ..sensor("DIST_001", "flow_rate", station(2, Table::Input, 0, Form::F32, Order::Cdab), 0.05, |s| {
            s.district[0].flow
        })
    },
    Sensor {
        factor: PSI,
        resolution: 0.001,
        ..sensor("DIST_001", "pressure", station(2, Table::Input, 2, Form::F32, Order::Dcba), 0.01, |s| {
            s.district[0].pressure
        })
    },
    Sensor {
        resolution: 0.001,
        ..sensor("DIST_001", "total_volume", station(2, Table::Input, 8, Form::F64, Order::Badc), 0.0, |s| {
            s.district[0].volume
        })
    },
    Sensor {
        factor: M3_PER_H,
        resolution: 0.001,
        ..sensor("DIST_002", "flow_rate", json("flow_m3h", 2), 0.05, |s| s.district[1].flow)
    },
    Sensor {
        factor: KPA,
        resolution: 0.001,
        ..sensor("DIST_002", "pressure", json("pressure_kpa", 1), 0.01, |s| s.district[1].pressure)
    },
    Sensor {
        resolution: 0.001,
        ..sensor("DIST_002", "total_volume", json("volume_m3", 3), 0.0, |s| s.district[1].volume)
    },
    Sensor {
        resolution: 0.01,
        ..sensor("DIST_002", "temperature", json("water_c", 2), 0.02, |s| {
            11.5 + 1.2 * ((s.model_s / 86_400.0 - 0.6) * std::f64::consts::TAU).cos()
        })
    },
    Sensor {
        resolution: 0.001,
        ..sensor("DIST_003", "flow_rate", bare("water/DIST_003/flow_rate", 3), 0.03, |s| s.district[2].flow)
    },
    Sensor {
        resolution: 0.001,
        ..sensor("DIST_003", "pressure", bare("water/DIST_003/pressure", 3), 0.01, |s| s.district[2].pressure)
    },
    Sensor {
        resolution: 0.001,
        ..sensor("DIST_003", "total_volume", bare("water/DIST_003/total_volume", 3), 0.0, |s| s.district[2].volume)
    },
    Sensor {
        // Fresh water comes with demand: at night the chlorine has time to decay.
        resolution: 0.001,
        ..sensor("DIST_003", "chlorine", bare("water/DIST_003/chlorine", 3), 0.004, |s| {
            0.28 + 0.18 * s.district[2].flow / (s.district[2].flow + 6.0)
        })
    },
];

#[cfg(test)]
mod tests {
    use super::super::network::{Lasting, Network, START_S, Settings, Tear};
    use super::*;
    use std::collections::HashSet;

    fn state() -> State {
        let tears = [Tear::burst((90.0, 390.0)), Tear::NEVER];
        *Network::new(Settings { seed: 1, speed: 60.0, starts_s: START_S, tears }, Lasting::new(4_000.0, 900.0)).state()
    }

    #[test]
    fn no_two_sensors_are_one_series_or_share_a_register() {
        let series: HashSet<_> = SENSORS.iter().map(|s| (s.node, s.metric, s.channel)).collect();
        assert_eq!(series.len(), SENSORS.len());
        let mut taken = HashSet::new();
        for sensor in SENSORS {
            let Place::Register(at) = sensor.place else { continue };
            for word in 0..sensor.say(&state(), Noise(1), 0).words.len() {
                assert!(taken.insert((at.bus, at.unit, at.table, at.address as usize + word)), "{sensor:?}");
            }
        }
        assert_eq!(SENSORS.iter().map(|s| s.node).collect::<HashSet<_>>().len(), 6);
    }

    #[test]
    fn what_a_sensor_says_is_near_the_truth_and_no_two_say_it_alike() {
        let state = state();
        for (number, sensor) in SENSORS.iter().enumerate() {
            let said = sensor.say(&state, Noise(1), number);
            let truth = (sensor.truth)(&state);
            let step = sensor.scale * sensor.factor;
            assert!((said.value - truth).abs() <= 3.0 * sensor.noise + step, "{sensor:?}: {said:?}, truth {truth}");
            assert_eq!(said.words.is_empty(), !matches!(sensor.place, Place::Register(_)));
        }
        let forms: HashSet<_> = SENSORS
            .iter()
            .filter_map(|s| {
                if let Place::Register(at) = s.place { Some(format!("{:?}{:?}", at.form, at.order)) } else { None }
            })
            .collect();
        assert!(forms.len() >= 9, "{forms:?}");
    }
}
