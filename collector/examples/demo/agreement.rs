//! Whether `config/demo/agent.toml` says of every sensor what the sensor does.

use super::judge::POLL_US;
use super::network::{Lasting, Network, START_S, Settings, Tear};
use super::noise::Noise;
use super::sensors::{Place, Register, SENSORS, Sensor, Table};
use edge_agent::config::Config;
use edge_agent::sources::modbus::config::{Point, resolve};
use std::path::Path;

fn config() -> Config {
    Config::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/demo/agent.toml")).unwrap()
}

fn decoded(point: &Point, at: Register, words: &[u16]) -> Option<f64> {
    assert_eq!((point.want.address, usize::from(point.want.count)), (at.address, words.len()));
    if at.table == Table::Discrete { point.decoding.flag(words[0] != 0).0 } else { point.decoding.words(words).0 }
}

#[test]
fn the_agent_is_told_to_read_every_register_as_the_sensor_writes_it() {
    let links = resolve(&config().modbus).unwrap();
    let devices = || links.iter().flat_map(|link| &link.devices);
    let tears = [Tear::burst((90.0, 390.0)), Tear::NEVER];
    let settings = Settings { seed: 5, speed: 60.0, starts_s: START_S, tears };
    let mut network = Network::new(settings, Lasting::new(8e6, 3e5));
    for second in [0.0, 100.0, 700.0] {
        network.advance(second);
        for (number, sensor) in SENSORS.iter().enumerate() {
            let Place::Register(at) = sensor.place else { continue };
            let named = |point: &&Point| point.metric.name == sensor.metric && point.channel == sensor.channel;
            let device = devices().find(|device| device.node.as_str() == sensor.node && device.unit == at.unit);
            let point = device.and_then(|device| device.points.iter().find(named));
            let point = point.unwrap_or_else(|| panic!("no point for {sensor}"));
            let said = sensor.say(network.state(), Noise(5), number);
            let value = decoded(point, at, &said.words).unwrap();
            assert!(sensor.same(said.value, value), "{sensor}: {value} read, {} held", said.value);
            assert_eq!(point.interval.as_micros() as i64, POLL_US);
            let step = point.resolution_exp.map_or(0.0, |exp| 10f64.powi(exp.into()));
            assert!((step - sensor.resolution).abs() < 1e-12, "{sensor}: {step}, {}", sensor.resolution);
        }
    }
    let registers = |sensor: &&Sensor| matches!(sensor.place, Place::Register(_));
    let points: usize = devices().map(|device| device.points.len()).sum();
    assert_eq!(points, SENSORS.iter().filter(registers).count());
}
