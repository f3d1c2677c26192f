//! What people see: a table that is redrawn on a terminal, lines in a pipe.

use super::Arguments;
use super::api::Client;
use super::bring::Stage;
use super::field::Field;
use super::network::State;
use super::screen::Screen;
use super::sensors::SENSORS;
use super::setup::{Place, Ports};
use super::table::{View, find, rows};
use shared::reading::Timestamp;
use std::io::Write;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch::Receiver;

/// Between two looks at the API.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Values remembered for the trend: one a second.
const TREND_MAX: usize = 60;
const TREND_EVERY: Duration = Duration::from_secs(1);

/// Shows until it is dropped, or standard output is gone.
///
/// # Errors
/// When nothing can be written any more.
pub(crate) async fn run(
    client: &Client,
    field: &Field,
    arguments: &Arguments,
    (place, ports): (&Place, &Ports),
    stage: Receiver<Stage>,
) -> anyhow::Result<()> {
    let mut watch = Watch::new(arguments, addresses(client, place, ports), short(ports), stage);
    match Screen::take() {
        Some(screen) => on_screen(&mut watch, &screen, client, field).await,
        None => in_lines(&mut watch, client, field, arguments.every).await,
    }
}

fn addresses(client: &Client, place: &Place, ports: &Ports) -> Vec<String> {
    let agent = Client::new(ports.status);
    vec![
        format!("look     {}", client.address("/")),
        format!("newest   {}", client.address("/api/v1/latest")),
        format!("history  {}", client.address("/api/v1/history?node=DIST_002&metric=flow_rate&from=now-10m")),
        format!("more     {} /series /gateways /gaps /quarantine /health", client.address("/api/v1/nodes")),
        format!("agent    {}", agent.address("/status")),
        format!("data     {}   Ctrl-C ends it", place.data.display()),
    ]
}

fn short(ports: &Ports) -> String {
    format!("http://127.0.0.1:{}/   agent :{}/status   Ctrl-C ends it", ports.api, ports.status)
}

async fn on_screen(watch: &mut Watch, screen: &Screen, client: &Client, field: &Field) -> anyhow::Result<()> {
    let mut resized = signal(SignalKind::window_change())?;
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => watch.look(client, field).await,
            _ = resized.recv() => {}
        }
        let (width, height) = screen.size();
        screen.draw(&watch.view.lines(width, height, screen.colour()));
    }
}

async fn in_lines(watch: &mut Watch, client: &Client, field: &Field, every: Duration) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    for address in &watch.view.addresses {
        writeln!(out, "{address}")?;
    }
    let (mut ticks, mut printed) = (tokio::time::interval(LOOK_EVERY), None::<Instant>);
    loop {
        ticks.tick().await;
        let burst = watch.burst;
        watch.look(client, field).await;
        let now = Timestamp::wall_clock();
        let now = Timestamp(now.0 - now.0.rem_euclid(1_000_000));
        if let Some(said) = watch.news() {
            writeln!(out, "{now}  {said}")?;
        }
        if burst != watch.burst {
            let what = if watch.burst { "a pipe has burst in DIST_002" } else { "the pipe in DIST_002 is repaired" };
            writeln!(out, "{now}  {what}")?;
        }
        // The first time when there is something to see.
        if printed.map_or(watch.seen, |at| at.elapsed() >= every) {
            printed = Some(Instant::now());
            writeln!(out, "{now}  {}", watch.view.alarm.as_ref().unwrap_or(&watch.view.title))?;
            for row in &watch.view.rows {
                writeln!(out, "{now}  {}", row.plain())?;
            }
        }
    }
}

/// What was seen so far.
struct Watch {
    view: View,
    speed: f64,
    burst: bool,
    /// Whether anything was ever seen.
    seen: bool,
    trends: Vec<Vec<f64>>,
    trend_at: Instant,
    stage: Receiver<Stage>,
    /// What was said of the past last.
    told: String,
}

impl Watch {
    fn new(arguments: &Arguments, addresses: Vec<String>, short: String, stage: Receiver<Stage>) -> Self {
        let trends = vec![Vec::new(); SENSORS.len()];
        let view = View { addresses, short, rows: rows(&[], &trends), ..View::default() };
        let (speed, trend_at) = (arguments.speed, Instant::now());
        Self { view, speed, burst: false, seen: false, trends, trend_at, stage, told: String::new() }
    }

    /// What is new of the past; how far a file is isn't.
    fn news(&mut self) -> Option<String> {
        let stage = self.stage.borrow_and_update().words.clone();
        let what = stage.split('▓').next().and_then(|text| text.split('░').next()).unwrap_or_default().trim_end();
        (what != self.told).then(|| {
            self.told = what.to_owned();
            self.told.clone()
        })
    }

    /// Looks at the API and at the network.
    async fn look(&mut self, client: &Client, field: &Field) {
        let state = field.state();
        self.burst = state.leak > 0.0;
        let pace = if self.speed == 1.0 { String::new() } else { format!(" by its own clock, {}x", self.speed) };
        self.view.title = format!("Water network   {}{pace}", clock(&state));
        self.view.past.clone_from(&self.stage.borrow());
        self.view.alarm = self.burst.then(|| format!("burst pipe in DIST_002: {:.1} L/s run out", state.leak));
        match client.latest().await {
            Ok(latest) => {
                if self.trend_at.elapsed() >= TREND_EVERY {
                    self.trend_at += TREND_EVERY;
                    for (trend, sensor) in self.trends.iter_mut().zip(SENSORS) {
                        trend.extend(find(&latest.items, sensor).and_then(|item| item.held.value));
                        trend.drain(..trend.len().saturating_sub(TREND_MAX));
                    }
                }
                self.seen |= !latest.items.is_empty();
                self.view.rows = rows(&latest.items, &self.trends);
                if !latest.degraded.is_empty() {
                    self.view.alarm = Some(format!("degraded: {}", latest.degraded.join("; ")));
                }
            }
            Err(error) => self.view.alarm = Some(format!("the API doesn't answer: {error:#}")),
        }
    }
}

/// `Mon 07:12`
fn clock(state: &State) -> String {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let minutes = (state.model_s / 60.0) as u64;
    let day = DAYS[(minutes / 1_440 % 7) as usize];
    format!("{day} {:02}:{:02}", minutes / 60 % 24, minutes % 60)
}
