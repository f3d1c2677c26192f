//! The words of a message. Pure.

use super::news::{Alert, Tell, Told};
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use shared::reading::Timestamp;
use std::fmt::Write as _;

/// Most alerts of each kind that a message tells one by one.
const TOLD_MAX: usize = 50;
/// Longest subject, characters.
const SUBJECT_MAX: usize = 120;

/// A message, ready for any channel.
#[derive(Clone, PartialEq, Debug)]
pub struct Message {
    /// When it was written.
    pub at: Timestamp,
    /// What it tells.
    pub tell: Tell,
    /// Whose clock people read.
    pub zone: TimeZone,
}

impl Message {
    /// With these news.
    #[must_use]
    pub fn new(mut tell: Tell, at: Timestamp, zone: TimeZone) -> Self {
        // What is worst is read first.
        for list in [&mut tell.new, &mut tell.again] {
            list.sort_by_key(|alert| std::cmp::Reverse(alert.severity));
        }
        Self { at, tell, zone }
    }

    /// In one line.
    #[must_use]
    pub fn subject(&self) -> String {
        let Tell { new, again, over } = &self.tell;
        let first = new.iter().chain(again).map(|alert| &alert.title).next();
        let first = first.or_else(|| over.first().map(|(_, told)| &told.title)).cloned().unwrap_or_default();
        let count = new.len() + again.len() + over.len();
        let word = if new.is_empty() && again.is_empty() { "over: " } else { "" };
        let more = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
        // A name from a gateway must not become a line of its own.
        let line: String =
            format!("{word}{first}{more}").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        match line.char_indices().nth(SUBJECT_MAX) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line,
        }
    }

    /// In many lines.
    #[must_use]
    pub fn text(&self) -> String {
        let Tell { new, again, over } = &self.tell;
        let mut text = String::new();
        let (over_already, lasting): (Vec<_>, Vec<_>) = new.iter().partition(|alert| alert.until.is_some());
        self.alerts(&mut text, "New", &lasting);
        self.alerts(&mut text, "New, and over already", &over_already);
        self.alerts(&mut text, "Still so", &again.iter().collect::<Vec<_>>());
        if !over.is_empty() {
            let _ = writeln!(text, "Over");
            for (_, told) in over.iter().take(TOLD_MAX) {
                let until = self.until(told.gone);
                let _ = writeln!(text, "  {}\n    from {}{until}", told.title, self.time(told.since));
            }
            rest(&mut text, over.len());
        }
        text
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let Tell { new, again, over } = &self.tell;
        let alert = |state: &'static str| {
            move |alert: &Alert| {
                json!({ "key": alert.key, "state": state, "severity": alert.severity, "title": alert.title,
                        "detail": alert.detail, "since": alert.since, "until": alert.until })
            }
        };
        let ended = |(key, told): &(String, Told)| {
            json!({ "key": key, "state": "over", "severity": told.severity, "title": told.title, "detail": "",
                    "since": told.since, "until": told.gone })
        };
        let all: Vec<Value> = (new.iter().take(TOLD_MAX).map(alert("new")))
            .chain(again.iter().take(TOLD_MAX).map(alert("again")))
            .chain(over.iter().take(TOLD_MAX).map(ended))
            .collect();
        let count = new.len() + again.len() + over.len();
        json!({ "at": self.at, "subject": self.subject(), "text": self.text(), "count": count, "alerts": all })
    }

    fn alerts(&self, text: &mut String, head: &str, all: &[&Alert]) {
        if all.is_empty() {
            return;
        }
        let _ = writeln!(text, "{head}");
        for alert in all.iter().take(TOLD_MAX) {
            let word = if alert.until.is_some() { "from" } else { "since" };
            let (since, until) = (self.time(alert.since), self.until(alert.until));
            let _ = writeln!(text, "  {}: {}\n    {word} {since}{until}", alert.severity.as_str(), alert.title);
            for line in alert.detail.lines() {
                let _ = writeln!(text, "    {line}");
            }
        }
        rest(text, all.len());
        text.push('\n');
    }

    fn until(&self, end: Option<Timestamp>) -> String {
        end.map_or_else(String::new, |end| format!(" until {}", self.time(end)))
    }

    /// As a clock on the wall has it, with its distance from UTC.
    fn time(&self, at: Timestamp) -> String {
        match jiff::Timestamp::from_microsecond(at.0) {
            Ok(at) => at.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string(),
            Err(_) => at.to_string(),
        }
    }
}

fn rest(text: &mut String, count: usize) {
    if count > TOLD_MAX {
        let _ = writeln!(text, "  and {} more", count - TOLD_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analytics::anomaly::Severity;

    fn rome() -> TimeZone {
        crate::etl::schedule::zone("Europe/Rome").unwrap()
    }

    fn alert(n: usize) -> Alert {
        let title = format!("pressure at DIST_{n}\r\nBcc: everybody");
        let detail = "expected 4.2 bar, seen 1.1".into();
        Alert {
            key: format!("anomaly/{n}"),
            severity: Severity::Warning,
            title,
            detail,
            since: Timestamp(0),
            until: None,
            in_hand: false,
        }
    }

    #[test]
    fn a_thousand_alerts_are_one_message_of_a_bounded_size() {
        let message =
            Message::new(Tell { new: (0..1_000).map(alert).collect(), ..Tell::default() }, Timestamp(1), rome());
        assert_eq!(message.subject(), "pressure at DIST_0  Bcc: everybody and 999 more");
        assert!(message.text().ends_with("  and 950 more\n\n") && message.text().len() < 10_000);
        assert_eq!((message.json()["alerts"].as_array().unwrap().len(), &message.json()["count"]), (50, &json!(1_000)));
    }

    #[test]
    fn what_is_over_says_from_when_to_when() {
        let told = Told {
            severity: Severity::Critical,
            title: "gateway STATION_7 is silent".into(),
            since: Timestamp(0),
            at: Timestamp(0),
            gone: Some(Timestamp(60_000_000)),
            until: None,
        };
        let message = Message::new(Tell { over: vec![("g".into(), told)], ..Tell::default() }, Timestamp(1), rome());
        assert_eq!(message.subject(), "over: gateway STATION_7 is silent");
        let text = "Over\n  gateway STATION_7 is silent\n    from 1970-01-01 01:00:00 +01:00 until 1970-01-01 01:01:00 +01:00\n";
        assert_eq!(message.text(), text);
    }

    #[test]
    fn what_ended_before_it_was_told_is_told_so() {
        let summer: Timestamp = "2026-07-01T06:00:00.123456Z".parse().unwrap();
        let ended = Alert { since: summer, until: Some(summer.plus_micros(300_000_000)), ..alert(1) };
        let new = vec![ended, Alert { since: summer, ..alert(2) }];
        let text = Message::new(Tell { new, ..Tell::default() }, Timestamp(1), rome()).text();
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.contains("DIST") && !line.contains("Bcc")).collect();
        let seen = "expected 4.2 bar, seen 1.1";
        let over = "from 2026-07-01 08:00:00 +02:00 until 2026-07-01 08:05:00 +02:00";
        assert_eq!(
            lines,
            ["New", "since 2026-07-01 08:00:00 +02:00", seen, "", "New, and over already", over, seen, ""]
        );
    }
}
