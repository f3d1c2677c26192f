//! `probe` and `scan`: what an installer needs before there is a configuration.

use super::{BAD, ConfigPath, Failure, GOOD, HEAD};
use crate::run;
use crate::sources::modbus::config::{Device, Link, Serial, Transport};
use crate::sources::modbus::plan::Register;
use crate::sources::modbus::raw::Parity;
use crate::sources::modbus::{self, probe as probing, scan as scanning};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::ops::RangeInclusive;
use std::time::Duration;

/// How to reach a link without a configuration.
#[derive(Debug, Args)]
pub(super) struct LinkArguments {
    /// Modbus TCP: HOST:PORT.
    #[arg(long, value_name = "HOST:PORT", group = "link")]
    tcp: Option<String>,
    /// RTU frames through TCP: HOST:PORT of a serial device server.
    #[arg(long, value_name = "HOST:PORT", group = "link")]
    rtu_over_tcp: Option<String>,
    /// A serial line: /dev/ttyUSB0.
    #[arg(long, value_name = "DEVICE", group = "link")]
    rtu: Option<String>,
    /// Bits per second of the serial line.
    #[arg(long, default_value_t = 9600)]
    baud: u32,
    /// Parity of the serial line.
    #[arg(long, value_enum, default_value_t = ParityName::None)]
    parity: ParityName,
    /// Stop bits of the serial line.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    stop_bits: u8,
    /// How long a unit may take to answer.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ParityName {
    None,
    Even,
    Odd,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RegisterName {
    Holding,
    Input,
    Coil,
    Discrete,
}

impl From<RegisterName> for Register {
    fn from(name: RegisterName) -> Self {
        match name {
            RegisterName::Holding => Register::Holding,
            RegisterName::Input => Register::Input,
            RegisterName::Coil => Register::Coil,
            RegisterName::Discrete => Register::Discrete,
        }
    }
}

impl LinkArguments {
    fn transport(&self) -> Option<Transport> {
        let parity = match self.parity {
            ParityName::None => Parity::None,
            ParityName::Even => Parity::Even,
            ParityName::Odd => Parity::Odd,
        };
        let serial = |port: &String| Serial { port: port.clone(), baud: self.baud, parity, stop_bits: self.stop_bits };
        let tcp = self.tcp.clone().map(Transport::Tcp);
        let over_tcp = self.rtu_over_tcp.clone().map(Transport::RtuOverTcp);
        tcp.or(over_tcp).or(self.rtu.as_ref().map(|port| Transport::Rtu(serial(port))))
    }
}

#[derive(Debug, Args)]
pub(super) struct ProbeArguments {
    #[command(flatten)]
    config: ConfigPath,
    /// A device of the configuration. Its agent must not run on a serial line meanwhile.
    #[arg(required_unless_present_any = ["tcp", "rtu_over_tcp", "rtu"])]
    device: Option<String>,
    #[command(flatten)]
    link: LinkArguments,
    /// The unit's number.
    #[arg(long, default_value_t = 1)]
    unit: u8,
    /// Which table.
    #[arg(long, value_enum, default_value_t = RegisterName::Holding)]
    register: RegisterName,
    /// The first one, zero-based.
    #[arg(long, default_value_t = 0)]
    address: u16,
    /// How many.
    #[arg(long, default_value_t = 10)]
    count: u16,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn probe(arguments: ProbeArguments) -> Result<(), Failure> {
    match (&arguments.device, arguments.link.transport()) {
        (None, Some(transport)) => stretch(&arguments, &transport).await,
        (Some(name), None) => configured(&arguments, name).await,
        _ => Err(Failure::usage("name a device of the configuration, or a link like --tcp 10.0.0.7:502, not both")),
    }
}

async fn stretch(arguments: &ProbeArguments, transport: &Transport) -> Result<(), Failure> {
    let (unit, register) = (arguments.unit, Register::from(arguments.register));
    let (address, count, timeout) = (arguments.address, arguments.count, arguments.link.timeout);
    let place = format!("{transport}, unit {unit}, {} {address}", register.name());
    let stretch = probing::stretch(transport, timeout, unit, register, address, count)
        .await
        .map_err(|error| Failure::failed(format!("{place}: {error}")))?;
    if arguments.json {
        let data = match &stretch.data {
            modbus::client::Data::Words(words) => json!(words),
            modbus::client::Data::Bits(bits) => json!(bits),
        };
        anstream::println!(
            "{}",
            json!({ "unit": unit, "register": register.name(), "address": address, "data": data })
        );
    } else {
        anstream::println!("{HEAD}{place}{HEAD:#}");
        anstream::print!("{stretch}");
    }
    Ok(())
}

async fn configured(arguments: &ProbeArguments, name: &str) -> Result<(), Failure> {
    let config = run::configuration(&arguments.config.config)?;
    let links = modbus::config::resolve(&config.modbus).unwrap_or_default(); // `configuration` found no mistake
    let (link, device) = find(&links, name)?;
    let points = probing::device(link, device).await;
    let silent = points.iter().all(|point| point.raw.is_err());
    if arguments.json {
        let view: Vec<_> = points
            .iter()
            .map(|point| {
                let orders: serde_json::Map<_, _> =
                    point.orders.iter().map(|(order, text)| (order.name().to_owned(), json!(text))).collect();
                let (value, quality) = point.reading.map_or((None, None), |(v, q)| (v, Some(q.to_string())));
                let error = point.raw.as_ref().err().map(ToString::to_string);
                let unit = point.unit;
                json!({ "point": point.label, "value": value, "unit": unit, "quality": quality,
                        "error": error, "orders": orders })
            })
            .collect();
        anstream::println!("{}", json!({ "device": device.name, "link": link.name, "points": view }));
    } else {
        anstream::println!("{HEAD}{}{HEAD:#} on {} ({}), unit {}", device.name, link.name, link.transport, device.unit);
        for point in &points {
            let good = point.reading.is_some_and(|(_, quality)| quality.is_usable());
            let colour = if good { GOOD } else { BAD };
            anstream::println!("{colour}*{colour:#} {point}");
        }
    }
    if silent { Err(Failure::failed(format!("{name} answered nothing"))) } else { Ok(()) }
}

fn find<'a>(links: &'a [Link], name: &str) -> Result<(&'a Link, &'a Device), Failure> {
    let all = || links.iter().flat_map(|link| link.devices.iter().map(move |device| (link, device)));
    all().find(|(_, device)| device.name == name).ok_or_else(|| {
        let known: Vec<&str> = all().map(|(_, device)| device.name.as_str()).collect();
        Failure::usage(format!("there is no device '{name}'; the configuration has: {}", known.join(", ")))
    })
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("where").required(true).args(["tcp", "rtu_over_tcp", "rtu"])))]
pub(super) struct ScanArguments {
    #[command(flatten)]
    link: LinkArguments,
    /// Which units to ask: FIRST-LAST, or one number.
    #[arg(long, default_value = "1-247", value_parser = units)]
    units: RangeInclusive<u8>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

fn units(text: &str) -> Result<RangeInclusive<u8>, String> {
    let wrong = || format!("'{text}' is no range of units, like 1-20");
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().map_err(|_| wrong())?, last.trim().parse().map_err(|_| wrong())?);
    if first > last || last > 247 { Err(format!("{}; units go from 0 to 247", wrong())) } else { Ok(first..=last) }
}

pub(super) async fn scan(arguments: ScanArguments) -> Result<(), Failure> {
    let Some(transport) = arguments.link.transport() else {
        return Err(Failure::usage("name a link: --tcp, --rtu-over-tcp or --rtu"));
    };
    let (last, on_terminal) = (*arguments.units.end(), std::io::stderr().is_terminal());
    let progress = |unit: u8| {
        if on_terminal {
            let _ = write!(std::io::stderr(), "\rasking unit {unit} of {last} ");
        }
    };
    let found = scanning::scan(&transport, arguments.link.timeout, arguments.units.clone(), progress).await;
    if on_terminal {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
    let found = found.map_err(|error| Failure::failed(format!("{transport}: {error}")))?;
    if arguments.json {
        let view: Vec<_> = found
            .iter()
            .map(|f| json!({ "unit": f.unit, "exception": f.answer.as_ref().err().map(ToString::to_string) }))
            .collect();
        anstream::println!("{}", json!({ "link": transport.to_string(), "found": view }));
    } else {
        for unit in &found {
            anstream::println!("{unit}");
        }
        let many = found.len();
        anstream::println!("{HEAD}{many} {}{HEAD:#} on {transport}", if many == 1 { "unit" } else { "units" });
    }
    if found.is_empty() {
        Err(Failure::failed("nobody answered: check wiring, baud rate, parity and unit numbers"))
    } else {
        Ok(())
    }
}
