//! Figures of a benchmark beside their budgets: as lines for people, or as JSON, one object a line, for `scripts/bench`.
#![allow(dead_code)] // every benchmark uses a part

use std::fmt::Write as _;

/// What must be kept to.
#[derive(Clone, Copy)]
pub(crate) enum Budget {
    None,
    AtLeast(f64),
    AtMost(f64),
}

pub(crate) struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    budget: Budget,
}

pub(crate) fn figure(name: impl Into<String>, value: f64, unit: &'static str, budget: Budget) -> Figure {
    Figure { name: name.into(), value, unit, budget }
}

impl Figure {
    /// The bound, whether it is kept, and the value's part of it.
    fn verdict(&self) -> Option<(&'static str, f64, bool, f64)> {
        match self.budget {
            Budget::None => None,
            Budget::AtLeast(bound) => Some((">=", bound, self.value >= bound, self.value / bound)),
            Budget::AtMost(bound) => Some(("<=", bound, self.value <= bound, self.value / bound)),
        }
    }

    fn line(&self) -> String {
        let mut line = format!("  {:<48} {:>12} {:<16}", self.name, number(self.value), self.unit);
        if let Some((sign, bound, met, ratio)) = self.verdict() {
            let word = if met { "met" } else { "MISSED" };
            let _ = write!(line, " budget {sign} {}: {word}, {ratio:.2} of it", number(bound));
        }
        line.trim_end().to_owned()
    }

    fn json(&self, under: &str) -> serde_json::Value {
        let mut all = serde_json::json!({"under": under, "name": self.name, "value": self.value, "unit": self.unit});
        if let Some((sign, bound, met, ratio)) = self.verdict() {
            all["budget"] = serde_json::json!({"sign": sign, "bound": bound, "met": met, "ratio": ratio});
        }
        all
    }
}

/// Prints figures that were taken under the same conditions, which `under` says.
pub(crate) fn print(under: &str, figures: &[Figure], as_json: bool) {
    if !as_json {
        println!("{under}");
    }
    for figure in figures {
        println!("{}", if as_json { figure.json(under).to_string() } else { figure.line() });
    }
}

/// Three significant places, thousands set apart.
pub(crate) fn number(value: f64) -> String {
    if value.abs() < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `--json` among the arguments, and the others.
pub(crate) fn arguments() -> (bool, Vec<String>) {
    let (flags, others): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|argument| argument == "--json");
    (!flags.is_empty(), others)
}

/// The number that stands behind `key` in a text of /proc.
pub(crate) fn number_after(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Bytes of memory that a process holds now, and at most held.
pub(crate) fn memory(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    (number_after(&status, "VmRSS:") * 1024, number_after(&status, "VmHWM:") * 1024)
}

/// Seconds of processor that a process has used.
pub(crate) fn processor(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = |at: usize| after_name.split(' ').nth(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0 // utime, stime in hundredths of a second (`man 5 proc`)
}
