//! `status`: how the running agent is, asked over its local page.

use super::{BAD, DOUBT, Failure, GOOD, HEAD};
use crate::status::{PointView, View};
use anstyle::Style;
use clap::Args;
use comfy_table::{Cell, ContentArrangement, Table};
use std::time::Duration;

/// Longest answer that is read: ten thousand points with long errors.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where the agent's page is: its `[http] listen`.
    #[arg(long, default_value = "127.0.0.1:9101")]
    address: String,
    /// Only points in error.
    #[arg(long)]
    errors: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let url = format!("http://{}/status", arguments.address);
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10))).build().into();
    let unreachable = |error: ureq::Error| {
        Failure::failed(format!("no agent answers at {}: {error}; does it run?", arguments.address))
    };
    let mut answer = agent.get(&url).call().map_err(unreachable)?;
    let text = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string().map_err(unreachable)?;
    if arguments.json {
        anstream::println!("{text}");
        return Ok(());
    }
    let view: View = serde_json::from_str(&text).map_err(|error| {
        Failure::failed(format!("{} is no edge-agent, or another version: {error}", arguments.address))
    })?;
    show(&view, arguments.errors);
    Ok(())
}

fn show(view: &View, errors_only: bool) {
    let line = |style: Style, name: &str, text: String| anstream::println!("{name:<11}{style}{text}{style:#}");
    anstream::println!("{HEAD}{}{HEAD:#}  edge-agent {}, up {}", view.gateway, view.version, ago(view.uptime_s as f64));
    match (&view.link.connected, &view.link.last_error) {
        (Some(collector), _) => line(GOOD, "collector", format!("connected to {collector}")),
        (None, Some(error)) => line(BAD, "collector", format!("not connected: {error}")),
        (None, None) => line(DOUBT, "collector", "not connected yet".into()),
    }
    if let Some(why) = &view.link.refused {
        line(BAD, "", format!("it doesn't take some blocks, which are kept: {why}"));
    }
    if view.clock.trusted {
        let by = view.clock.evidence.as_deref().unwrap_or("nobody");
        let style = if view.clock.drift_s.abs() > 10.0 { DOUBT } else { GOOD };
        line(style, "clock", format!("{}, by {by}, off by {:.1} s", view.clock.now, view.clock.drift_s));
    } else {
        line(BAD, "clock", format!("not known yet; certainly later than {}", view.clock.now));
    }
    let spool = &view.spool;
    let used = spool.bytes * 100 / spool.bytes_max.max(1);
    let style = if used > 80 { DOUBT } else { GOOD };
    let unsent = spool.oldest_unsent.as_deref().map(|at| format!(", oldest unsent {at}")).unwrap_or_default();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (size, bound) = (mib(spool.bytes), mib(spool.bytes_max));
    line(style, "spool", format!("{} blocks, {size:.1} of {bound:.0} MiB{unsent}", spool.blocks));
    if let Some(error) = &spool.disk_error {
        line(BAD, "disk", error.clone());
    }
    if spool.lost_blocks > 0 || view.readings.lost > 0 {
        let text =
            format!("{} blocks and {} readings; the collector shows the gaps", spool.lost_blocks, view.readings.lost);
        line(DOUBT, "lost", text);
    }
    if let Some(bytes) = spool.disk_bytes_per_day {
        line(Style::new(), "flash", format!("{:.1} MiB written per day", mib(bytes)));
    }
    for (name, wrong) in &view.links {
        match wrong {
            None => line(GOOD, "source", format!("{name}: connected")),
            Some(why) => line(BAD, "source", format!("{name}: {why}")),
        }
    }
    let bad = view.points.iter().filter(|point| point.error.is_some()).count();
    let style = if bad > 0 { BAD } else { GOOD };
    line(style, "points", format!("{} points, {bad} in error", view.points.len()));
    let shown: Vec<&PointView> = view.points.iter().filter(|p| !errors_only || p.error.is_some()).collect();
    if !shown.is_empty() {
        anstream::println!("{}", table(&shown));
    }
}

fn table(points: &[&PointView]) -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["NODE", "METRIC", "VALUE", "AGE", "QUALITY", "SOURCE", "ERROR"]);
    for point in points {
        let channel = if point.channel.is_empty() { String::new() } else { format!(" {}", point.channel) };
        table.add_row([
            Cell::new(&point.node),
            Cell::new(format!("{}{channel}", point.metric)),
            Cell::new(point.value.map_or("-".into(), |value| format!("{value} {}", point.unit))),
            Cell::new(point.age_s.map_or("-".into(), ago)),
            Cell::new(point.quality.as_deref().unwrap_or("nothing yet")),
            Cell::new(&point.source),
            Cell::new(point.error.as_deref().unwrap_or("")),
        ]);
    }
    table
}

fn ago(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}
