use super::*;
use crate::sources::modbus::decode::WordOrder;
use crate::sources::modbus::plan::Register;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    modbus: Vec<RawLink>,
}

fn read(text: &str) -> Result<Vec<Link>, Mistakes> {
    resolve(&toml::from_str::<File>(text).unwrap().modbus)
}

/// A link with one point of these lines.
fn point(lines: &str) -> Result<Point, String> {
    let text = format!(
        "[[modbus]]\nname = \"bus\"\ntransport = \"tcp\"\naddress = \"plc\"\n\
         [[modbus.device]]\nname = \"p1\"\nnode = \"PUMP_1\"\n[[modbus.device.point]]\n{lines}"
    );
    let links = read(&text).map_err(|mistakes| mistakes.to_string())?;
    Ok(links[0].devices[0].points[0].clone())
}

#[track_caller]
fn refused(lines: &str, with: &str) {
    let message = point(lines).unwrap_err();
    assert!(message.contains(with), "{message}");
    assert!(message.starts_with("modbus \"bus\", device \"p1\", point "), "{message}");
}

#[test]
fn a_full_link_is_understood() {
    let links = read(
        r#"
        [[modbus]]
        name = "pump-bus"
        transport = "rtu"
        port = "/dev/ttyUSB0"
        baud = 19200
        parity = "even"
        timeout = "300ms"
        [[modbus.device]]
        name = "p1"
        unit = 7
        node = "PUMP_1"
        interval = "5s"
        [[modbus.device.point]]
        metric = "flow_rate"
        channel = "inlet"
        register = "holding"
        address = 40
        type = "f32"
        word_order = "cdab"
        unit = "m3/h"
        resolution = 0.01
        deadband = "1%"
        range = [0, 500]
        [[modbus.device.point]]
        metric = "running"
        register = "coil"
        address = 3
        interval = "1s"
        class = "alarm"
    "#,
    )
    .unwrap();
    let (link, device) = (&links[0], &links[0].devices[0]);
    let serial = Serial { port: "/dev/ttyUSB0".into(), baud: 19200, parity: Parity::Even, stop_bits: 1 };
    assert_eq!(link.transport, Transport::Rtu(serial));
    assert_eq!((link.timeout, device.unit), (Duration::from_millis(300), 7));
    let (flow, running) = (&device.points[0], &device.points[1]);
    assert_eq!((flow.decoding.kind, flow.decoding.order), (ValueType::F32, WordOrder::Cdab));
    assert_eq!((flow.resolution_exp, flow.interval), (Some(-2), Duration::from_secs(5)));
    assert_eq!((flow.decoding.range, flow.max_silence), ((0.0, 500.0), Duration::from_secs(600)));
    assert_eq!(flow.definition(link, device).source, "pump-bus/unit 7/holding 40");
    assert_eq!(flow.definition(link, device).entry.unit, "L/s");
    assert_eq!(running.want, Want { register: Register::Coil, address: 3, count: 1 });
    assert_eq!((running.interval, running.class), (Duration::from_secs(1), Class::Alarm));
    assert_eq!(running.max_silence, Duration::ZERO);
}

#[test]
fn the_nearest_metric_is_named() {
    refused(
        "metric = \"flowrate\"\nregister = \"holding\"\naddress = 1\ntype = \"u16\"",
        "did you mean \"flow_rate\"?",
    );
    refused("metric = \"xyzzyqqqq\"\nregister = \"holding\"\naddress = 1\ntype = \"u16\"", "there are flow_rate, ");
}

#[test]
fn a_resolution_is_a_power_of_ten() {
    let with = |step: &str| {
        format!("metric = \"level\"\nregister = \"input\"\naddress = 1\ntype = \"u16\"\nresolution = {step}")
    };
    for (step, exp) in [("0.001", -3), ("1.0", 0), ("100.0", 2), ("1e-12", -12)] {
        assert_eq!(point(&with(step)).unwrap().resolution_exp, Some(exp), "{step}");
    }
    refused(&with("0.02"), "resolution = 0.02 m is no power of ten; the next finer one is 0.01");
    refused(&with("0.0"), "must be a power of ten");
    refused(&with("-0.1"), "must be a power of ten");
    refused(&with("1e-30"), "outside");
}

#[test]
fn units_types_bits_and_addresses_are_checked() {
    let with = |more: &str| format!("metric = \"pressure\"\nregister = \"holding\"\naddress = 65535\n{more}");
    refused(&with("type = \"u16\"\nunit = \"m3/h\""), "it can be bar, kPa");
    refused(&with("type = \"u32\""), "beyond address 65535");
    refused(&with(""), "type is missing");
    refused(&with("type = \"bit\""), "bit is missing");
    refused(&with("type = \"bit\"\nbit = 16"), "outside 0 to 15");
    refused(&with("type = \"u16\"\nbit = 1"), "type = \"bit\" only");
    refused(&with("type = \"u16\"\nscale = 0.0"), "scale = 0");
    refused(&with("type = \"u16\"\nrange = [5, 1]"), "the lower one first");
    refused(&with("type = \"u16\"\nmax_silence = \"5m\""), "needs a deadband");
    refused(&with("type = \"u16\"\ninterval = \"10 parsecs\""), "like \"10s\"");
    refused(&with("type = \"u16\"\ninterval = \"1ms\""), "outside 50ms to 1day");
    refused(&with("type = \"u16\"\nchannel = \"a b\""), "channel");
    refused("metric = \"running\"\nregister = \"coil\"\naddress = 1\ntype = \"u16\"", "a coil is a bool");
}

#[test]
fn every_mistake_is_found_at_once() {
    let mistakes = read(
        r#"
        [[modbus]]
        name = "a"
        transport = "rtu"
        address = "10.0.0.1"
        stop_bits = 3
        [[modbus.device]]
        name = "x"
        unit = 0
        node = "no spaces"
        registers_max = 126
        [[modbus]]
        name = "a"
        transport = "tcp"
        baud = 9600
    "#,
    )
    .unwrap_err();
    let text = mistakes.to_string();
    for part in [
        "address is for tcp",
        "port is missing",
        "stop_bits = 3",
        "unit = 0",
        "node: 'no spaces'",
        "registers_max = 126",
        "no [[modbus.device.point]]",
        "the name is used twice",
        "baud is for transport",
        "address is missing",
        "no [[modbus.device]]",
    ] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    assert_eq!(mistakes.0.len(), 11, "{text}");
}

#[test]
fn an_address_without_a_port_has_the_modbus_port() {
    assert_eq!(host_and_port("plc").unwrap(), "plc:502");
    assert_eq!(host_and_port("10.0.0.5:1502").unwrap(), "10.0.0.5:1502");
    assert_eq!(host_and_port("[::1]").unwrap(), "[::1]:502");
    assert_eq!(host_and_port("[::1]:7").unwrap(), "[::1]:7");
    for wrong in ["", ":502", "plc:", "plc:0", "plc:70000", "a b", "::1"] {
        assert!(host_and_port(wrong).is_err(), "{wrong}");
    }
}
