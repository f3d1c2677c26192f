//! The table of newest values as lines of text, fitted to a window. Pure.

use super::api::{Held, Item};
use super::bring::Stage;
use super::sensors::{SENSORS, Sensor};
use anstyle::{AnsiColor, Style};
use std::fmt::Write;

const PLAIN: Style = Style::new();
const HEAD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const DOUBT: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// A series' row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The node's name.
    node: &'static str,
    /// Metric and channel.
    what: String,
    /// The newest reading; `None` until there is one.
    item: Option<Item>,
    /// The values before it, oldest first.
    trend: Vec<f64>,
}

impl Row {
    /// Of a sensor: `flow_rate inlet`.
    pub(crate) fn new(sensor: &Sensor, item: Option<Item>, trend: Vec<f64>) -> Self {
        let what = format!("{} {}", sensor.metric, sensor.channel).trim_end().to_owned();
        Self { node: sensor.node, what, item, trend }
    }
}

/// What is shown.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// What is to be seen, and the network's own time.
    pub(crate) title: String,
    /// What is wrong, if anything.
    pub(crate) alarm: Option<String>,
    /// How far the past is.
    pub(crate) past: Stage,
    /// One of each series.
    pub(crate) rows: Vec<Row>,
    /// The addresses to open, a line each.
    pub(crate) addresses: Vec<String>,
    /// The same on one line, for small windows.
    pub(crate) short: String,
}

/// A line in parts of one style each.
#[derive(Clone, Debug, Default)]
struct Line(Vec<(Style, String)>);

impl Line {
    fn new(style: Style, text: impl Into<String>) -> Self {
        Self(vec![(style, text.into())])
    }

    fn with(mut self, style: Style, text: String) -> Self {
        self.0.push((style, text));
        self
    }

    /// Cut to `width` characters.
    fn fitted(&self, width: usize, colour: bool) -> String {
        let (mut line, mut left) = (String::new(), width);
        for (style, text) in &self.0 {
            let part: String = text.chars().take(left).collect();
            left -= part.chars().count();
            let _ = if colour { write!(line, "{style}{part}{style:#}") } else { write!(line, "{part}") };
        }
        line
    }
}

impl View {
    /// Lines for a window of so many columns and lines; never more of either.
    pub(crate) fn lines(&self, width: usize, height: usize, colour: bool) -> Vec<String> {
        let mut title = Line::new(HEAD, self.title.clone());
        if let Some(alarm) = &self.alarm {
            title = title.with(BAD, format!("  {alarm}"));
        }
        // A progress is worth more than the addresses of a low window.
        let short = if self.past.is_over || self.past.words.is_empty() { &self.short } else { &self.past.words };
        let mut lines = vec![title];
        // With room to spare there is air, and every address has a line of its own.
        let past = usize::from(!self.past.words.is_empty());
        let roomy = height >= self.rows.len() + self.addresses.len() + past + 4;
        let footer = if roomy { self.addresses.len() + past + 1 } else { 1 };
        if roomy {
            lines.push(Line::default());
        }
        lines.push(Line::new(DIM, heading(width)));
        let room = height.saturating_sub(lines.len() + footer);
        let shown = if self.rows.len() > room { room.saturating_sub(1) } else { self.rows.len() };
        let mut above = "";
        for row in &self.rows[..shown] {
            lines.push(row.line(row.node != above, width));
            above = row.node;
        }
        if shown < self.rows.len() {
            lines.push(Line::new(DIM, format!("… {} more in a taller window", self.rows.len() - shown)));
        }
        if roomy {
            lines.push(Line::default());
            lines.extend(self.addresses.iter().map(|address| Line::new(PLAIN, address)));
            if past > 0 {
                lines.push(Line::new(PLAIN, &self.past.words));
            }
        } else {
            lines.push(Line::new(DIM, short));
        }
        lines.truncate(height);
        lines.iter().map(|line| line.fitted(width, colour)).collect()
    }
}

/// Columns before the trend.
const FIXED: usize = 80;
/// Least and most of the trend.
const TREND: std::ops::RangeInclusive<usize> = 15..=60;

fn trend_width(width: usize) -> usize {
    let left = width.saturating_sub(FIXED);
    if left < *TREND.start() { 0 } else { left.min(*TREND.end()) }
}

fn heading(width: usize) -> String {
    let trend = if trend_width(width) > 0 { "LAST MINUTE" } else { "" };
    format!("{:<10}{:<18}{:>13} {:<6}{:>8}  {:<22}{trend}", "NODE", "METRIC", "VALUE", "UNIT", "AGE", "QUALITY")
}

impl Row {
    fn line(&self, first: bool, width: usize) -> Line {
        let node = if first { self.node } else { "" };
        let line = Line::new(HEAD, format!("{node:<10}")).with(PLAIN, format!("{:<18}", self.what));
        let Some(item) = &self.item else {
            return line.with(DIM, format!("{:>13} {:<6}{:>8}  waiting", "—", "", ""));
        };
        let unit = if item.unit == "1" { "" } else { &item.unit };
        let (style, quality) = quality(&item.held);
        line.with(HEAD, format!("{:>13}", value(&item.metric, item.held.value)))
            .with(PLAIN, format!(" {unit:<6}"))
            .with(if item.stale { BAD } else { PLAIN }, format!("{:>8}", age(item.age_s)))
            .with(style, format!("  {quality:<22}"))
            .with(DIM, sparkline(&self.trend, trend_width(width)))
    }

    /// On a line of its own: for a pipe.
    pub(crate) fn plain(&self) -> String {
        let name = format!("{:<9} {:<17}", self.node, self.what);
        match &self.item {
            None => format!("{name} nothing yet"),
            Some(item) => {
                let unit = if item.unit == "1" { "" } else { &item.unit };
                let value = value(&item.metric, item.held.value);
                let (_, quality) = quality(&item.held);
                format!("{name} {value:>13} {unit:<5} {:>8}  {quality}", age(item.age_s))
            }
        }
    }
}

fn quality(held: &Held) -> (Style, String) {
    let style = match held.quality.as_str() {
        "good" | "manual" => GOOD,
        "uncertain" => DOUBT,
        _ => BAD,
    };
    let reason = held.reason.as_ref().map(|reason| format!(" ({reason})"));
    (style, format!("{}{}", held.quality, reason.unwrap_or_default()))
}

/// With as many places as matter.
fn value(metric: &str, value: Option<f64>) -> String {
    let Some(value) = value else { return "—".into() };
    match metric {
        "running" => if value == 0.0 { "off" } else { "on" }.into(),
        "level" | "chlorine" | "total_volume" | "energy" => format!("{value:.3}"),
        _ => format!("{value:.2}"),
    }
}

/// `0.4 s`, `12 s`, `3 min`, `2 h`, `5 d`.
fn age(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    match seconds {
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 119.5 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3_600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

/// The newest values as bars between the smallest and the largest.
fn sparkline(values: &[f64], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values = &values[values.len().saturating_sub(width)..];
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let bar = |value: f64| {
        let share = if high > low { (value - low) / (high - low) } else { 0.0 };
        BARS[((share * 7.0).round() as usize).min(7)]
    };
    values.iter().map(|value| bar(*value)).collect()
}

/// The rows of all sensors, from what the API says and what it said before.
pub(crate) fn rows(items: &[Item], trends: &[Vec<f64>]) -> Vec<Row> {
    let row = |(sensor, trend): (&Sensor, &Vec<f64>)| Row::new(sensor, find(items, sensor).cloned(), trend.clone());
    SENSORS.iter().zip(trends).map(row).collect()
}

/// A sensor's item.
pub(crate) fn find<'a>(items: &'a [Item], sensor: &Sensor) -> Option<&'a Item> {
    let same =
        |item: &&Item| item.node == sensor.node && item.metric == sensor.metric && item.channel == sensor.channel;
    items.iter().find(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::reading::Timestamp;

    fn item(sensor: &Sensor) -> Item {
        let held =
            Held { value: Some(8_123_456.789), quality: "uncertain".into(), reason: Some("sensor doubtful".into()) };
        let [node, metric, channel] = [sensor.node, sensor.metric, sensor.channel].map(str::to_owned);
        Item { node, metric, channel, unit: "m³".into(), at: Timestamp(0), age_s: 0.4, stale: false, held }
    }

    fn view() -> View {
        let items: Vec<Item> = SENSORS.iter().skip(1).map(item).collect();
        let trends = vec![(0..200).map(f64::from).collect::<Vec<_>>(); SENSORS.len()];
        let addresses = vec!["API   http://127.0.0.1:8080/api/v1/latest".to_owned(); 4];
        let title = "a title that is longer than any window ".repeat(9);
        View {
            title,
            alarm: None,
            past: Stage::default(),
            rows: rows(&items, &trends),
            addresses,
            short: "short".into(),
        }
    }

    #[test]
    fn whatever_the_window_lines_fit_into_it() {
        for width in [1, 20, 79, 80, 94, 95, 160, 400] {
            for height in [1, 2, 5, 24, 30, 80] {
                let lines = view().lines(width, height, false);
                assert!(lines.len() <= height, "{} lines in {height}", lines.len());
                assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}: {lines:#?}");
            }
        }
    }

    #[test]
    fn every_series_has_a_row_in_a_classic_window_of_80_by_24() {
        let lines = view().lines(80, 24, false);
        assert_eq!(lines.len(), 24);
        assert_eq!(lines[2], format!("{:<10}{:<18}{:>13} {:<6}{:>8}  waiting", "RES_001", "level", "—", "", ""));
        let row = "          flow_rate inlet      8123456.79 m³       0.4 s  uncertain (sensor doubtful)";
        assert_eq!(lines[3], row.chars().take(80).collect::<String>());
        assert_eq!(lines[23], "short");
    }

    #[test]
    fn a_low_window_tells_how_far_the_past_is_until_it_is_there() {
        let past = |is_over| Stage { words: "past: all.csv ▓▓░ 60 %".into(), is_over };
        let last = |past| View { past, ..view() }.lines(80, 24, false).pop().unwrap();
        assert_eq!([last(past(false)), last(past(true))], ["past: all.csv ▓▓░ 60 %", "short"]);
        let roomy = View { past: past(true), ..view() }.lines(80, 40, false);
        assert_eq!(roomy.last().unwrap(), "past: all.csv ▓▓░ 60 %");
    }

    #[test]
    fn a_window_that_is_too_low_says_how_much_is_missing() {
        let lines = view().lines(80, 10, false);
        assert_eq!(lines[8], format!("… {} more in a taller window", SENSORS.len() - 6));
    }

    #[test]
    fn colours_take_no_room() {
        let (plain, coloured) = (view().lines(120, 40, false), view().lines(120, 40, true));
        let stripped = coloured.iter().map(|line| anstream::adapter::strip_str(line).to_string());
        assert_eq!(stripped.collect::<Vec<_>>(), plain);
        assert!(coloured[5].contains("\u{1b}[33m"), "uncertain is yellow: {:?}", coloured[5]);
    }

    #[test]
    fn ages_are_told_in_the_unit_that_people_use() {
        let ages = [-1.0, 0.44, 9.96, 59.0, 119.0, 120.0, 7_199.0, 7_200.0, 172_799.0, 1e6].map(age);
        assert_eq!(ages, ["0.0 s", "0.4 s", "10 s", "59 s", "119 s", "2 min", "120 min", "2 h", "48 h", "12 d"]);
    }

    #[test]
    fn a_trend_shows_its_newest_values_between_their_extremes() {
        assert_eq!(sparkline(&[9.0, 0.0, 1.0, 2.0, 7.0], 4), "▁▂▃█");
        assert_eq!(sparkline(&[5.0, 5.0], 9), "▁▁");
        assert_eq!(sparkline(&[], 9), "");
    }
}
