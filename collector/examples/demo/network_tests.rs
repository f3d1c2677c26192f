use super::*;

const NEVER: (f64, f64) = (f64::MAX, f64::MAX);
const DAY_S: f64 = 86_400.0;

fn settings(seed: u64, speed: f64, burst_s: (f64, f64)) -> Settings {
    Settings { seed, speed, starts_s: START_S, tears: [Tear::burst(burst_s), Tear::NEVER] }
}

fn network(seed: u64, speed: f64, burst_s: (f64, f64)) -> Network {
    Network::new(settings(seed, speed, burst_s), Lasting::new(1_000.0, 500.0))
}

#[test]
fn the_same_seed_and_time_give_the_same_network_however_it_got_there() {
    let (mut leaps, mut steps) = (network(3, 60.0, (20.0, 50.0)), network(3, 60.0, (20.0, 50.0)));
    leaps.advance(90.0);
    (0..=900).for_each(|n| steps.advance(f64::from(n) / 10.0 + 0.01));
    assert_eq!(leaps.state(), steps.state());
    let mut other = network(4, 60.0, (20.0, 50.0));
    other.advance(90.0);
    assert_ne!(leaps.state(), other.state());
}

#[test]
fn levels_stay_between_dry_and_overflow_for_weeks_and_the_pump_switches() {
    for seed in 0..4 {
        // A day in 24 minutes, as in the demo; the burst lasts five of its hours in every second run.
        let mut network = network(seed, 60.0, if seed % 2 == 0 { NEVER } else { (90.0, 390.0) });
        let (mut starts, mut running) = (0, true);
        for second in 0..(21.0 * DAY_S / 60.0) as u32 {
            network.advance(f64::from(second));
            let state = network.state();
            for (basin, level) in state.level.iter().enumerate() {
                let bounds = 1.0..OVERFLOW_M[basin] - 0.1;
                assert!(bounds.contains(level), "seed {seed}: basin {basin} at {level} m after {second} s");
            }
            starts += u32::from(state.pump.running && !running);
            running = state.pump.running;
        }
        assert!((20..200).contains(&starts), "seed {seed}: {starts} starts in three weeks");
    }
}

#[test]
fn what_leaves_a_basin_is_missing_in_it() {
    let mut network = network(1, 60.0, NEVER);
    network.advance(30.0);
    let before = *network.state();
    network.advance(30.0 + STEP_S * 1.01);
    let moved = (network.state().level[1] - before.level[1]) * AREA_M2[1] * LITRES;
    let expected = (before.pump.flow - before.outlet()) * STEP_S * 60.0;
    assert!((moved - expected).abs() < 1e-3, "{moved} L moved, {expected} L expected");
}

#[test]
fn meters_grow_by_what_flows_in_real_time_whatever_the_speed() {
    for speed in [1.0, 60.0, 1_440.0] {
        let mut network = network(1, speed, NEVER);
        let (mut litres, mut joules) = (0.0, 0.0);
        for step in 1..=600 {
            litres += network.state().district[0].flow * STEP_S;
            joules += network.state().pump.power * STEP_S;
            network.advance((f64::from(step) + 0.1) * STEP_S);
        }
        let state = network.state();
        assert!((state.district[0].volume - 1_000.0 - litres / LITRES).abs() < 1e-6);
        assert!((state.pump.energy - 500.0 - joules / 3_600.0).abs() < 1e-6);
    }
}

#[test]
fn pressure_falls_when_demand_rises() {
    let mut network = network(1, 60.0, NEVER);
    let at = |network: &Network, hour: f64| {
        let mut network = network.clone();
        network.advance(((hour + 24.0) * 3_600.0 - START_S) / 60.0);
        network.state().district[0]
    };
    network.advance(0.0);
    let (night, morning) = (at(&network, 3.0), at(&network, 7.3));
    assert!(morning.flow > 3.0 * night.flow, "{} at night, {} in the morning", night.flow, morning.flow);
    assert!(night.pressure - morning.pressure > 0.5, "{} bar and {} bar", night.pressure, morning.pressure);
}

#[test]
fn a_burst_shows_in_its_district_as_flow_up_and_pressure_down_until_it_is_repaired() {
    let (mut torn, mut whole) = (network(1, 60.0, (60.0, 120.0)), network(1, 60.0, NEVER));
    let mut at = |seconds: f64| {
        torn.advance(seconds);
        whole.advance(seconds);
        let of = |network: &Network| network.state().district[demand::BURST];
        (of(&torn).flow - of(&whole).flow, of(&torn).pressure - of(&whole).pressure, torn.state().leak)
    };
    assert_eq!(at(60.0), (0.0, 0.0, 0.0));
    let (flow, pressure, leak) = at(70.0);
    assert!(flow > 8.0 && leak > 8.0, "{flow} L/s more, {leak} L/s leak");
    assert!(pressure < -0.5, "{pressure} bar");
    let (flow, pressure, leak) = at(121.0);
    assert!(flow.abs() < 1e-9 && leak == 0.0 && pressure.abs() < 0.2, "{flow} L/s, {pressure} bar");
}

#[test]
fn nothing_is_ever_negative_or_not_a_number() {
    let mut network = network(9, 1_440.0, (10.0, 500.0));
    for second in 0..2_000 {
        network.advance(f64::from(second));
        let state = network.state();
        let pump = [state.pump.flow, state.pump.pressure, state.pump.power, state.inlet, state.leak];
        let districts = state.district.iter().flat_map(|d| [d.flow, d.pressure, d.volume]);
        assert!(pump.into_iter().chain(districts).all(|value| value.is_finite() && value >= 0.0), "{state:?}");
    }
}

#[test]
fn it_goes_on_from_where_it_was_as_if_it_had_never_stopped() {
    let mut whole = network(2, 1.0, NEVER);
    whole.advance(7_200.0);
    let mut before = network(2, 1.0, NEVER);
    before.advance(3_600.0);
    let settings = Settings { starts_s: START_S + 3_600.0, ..settings(2, 1.0, NEVER) };
    let mut after = Network::new(settings, before.lasting());
    after.advance(3_600.0);
    let (whole, after) = (whole.state(), after.state());
    assert!((whole.level[1] - after.level[1]).abs() < 1e-9, "{} and {} m", whole.level[1], after.level[1]);
    assert!((whole.district[0].volume - after.district[0].volume).abs() < 1e-6);
    assert!((whole.pump.energy - after.pump.energy).abs() < 1e-6);
}

#[test]
fn long_steps_lead_where_short_ones_do() {
    let settings = settings(2, 1.0, NEVER);
    let mut short = Network::new(settings, Lasting::new(0.0, 0.0));
    let mut long = Network::in_steps(settings, Lasting::new(0.0, 0.0), LONG_STEP_S);
    short.advance(DAY_S);
    long.advance(DAY_S + 0.01);
    let (short, long) = (short.state(), long.state());
    assert!((short.district[0].volume / long.district[0].volume - 1.0).abs() < 1e-3);
    assert!((short.level[1] - long.level[1]).abs() < 0.1, "{} and {} m", short.level[1], long.level[1]);
}
