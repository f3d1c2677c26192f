//! The words of a message. Pure.

use super::news::{Alert, Tell, Told};
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
}

impl Message {
    /// With these news.
    #[must_use]
    pub fn new(mut tell: Tell, at: Timestamp) -> Self {
        // What is worst is read first.
        for list in [&mut tell.new, &mut tell.again] {
            list.sort_by_key(|alert| std::cmp::Reverse(alert.severity));
        }
        Self { at, tell }
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
        alerts(&mut text, "New", new);
        alerts(&mut text, "Still so", again);
        if !over.is_empty() {
            let _ = writeln!(text, "Over");
            for (_, told) in over.iter().take(TOLD_MAX) {
                let until = told.gone.map_or_else(String::new, |gone| format!(" until {gone}"));
                let _ = writeln!(text, "  {}\n    from {}{until}", told.title, told.since);
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
                        "detail": alert.detail, "since": alert.since })
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
}

fn alerts(text: &mut String, head: &str, all: &[Alert]) {
    if all.is_empty() {
        return;
    }
    let _ = writeln!(text, "{head}");
    for alert in all.iter().take(TOLD_MAX) {
        let _ = writeln!(text, "  {}: {}\n    since {}", alert.severity.as_str(), alert.title, alert.since);
        for line in alert.detail.lines() {
            let _ = writeln!(text, "    {line}");
        }
    }
    rest(text, all.len());
    text.push('\n');
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

    fn alert(n: usize) -> Alert {
        let title = format!("pressure at DIST_{n}\r\nBcc: everybody");
        let detail = "expected 4.2 bar, seen 1.1".into();
        Alert {
            key: format!("anomaly/{n}"),
            severity: Severity::Warning,
            title,
            detail,
            since: Timestamp(0),
            in_hand: false,
        }
    }

    #[test]
    fn a_thousand_alerts_are_one_message_of_a_bounded_size() {
        let message = Message::new(Tell { new: (0..1_000).map(alert).collect(), ..Tell::default() }, Timestamp(1));
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
        };
        let message = Message::new(Tell { over: vec![("g".into(), told)], ..Tell::default() }, Timestamp(1));
        assert_eq!(message.subject(), "over: gateway STATION_7 is silent");
        let text = "Over\n  gateway STATION_7 is silent\n    from 1970-01-01T00:00:00Z until 1970-01-01T00:01:00Z\n";
        assert_eq!(message.text(), text);
    }
}
