//! What is to be told. Pure.

use crate::analytics::anomaly::Severity;
use serde::{Deserialize, Serialize};
use shared::reading::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// So long something must stand before it is told, and be away before that is told: what comes and goes is told once.
pub(super) const SETTLED_US: i64 = 60_000_000;
/// So long something must be away before it counts as over.
pub(super) const OVER_US: i64 = 5 * 60_000_000;

/// Something that stands.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Alert {
    /// The same for as long as it is the same, like `anomaly/17`.
    pub key: String,
    /// How bad it is.
    pub severity: Severity,
    /// In a few words.
    pub title: String,
    /// In more words.
    pub detail: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when, if it is over and nobody has looked at it yet.
    pub until: Option<Timestamp>,
    /// Someone looks after it: it is not told again.
    pub in_hand: bool,
}

/// What was told of something.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Told {
    /// As bad as it was then.
    pub severity: Severity,
    /// In a few words.
    pub title: String,
    /// Since when it stood.
    pub since: Timestamp,
    /// When it was told last.
    pub at: Timestamp,
    /// From when on it stood no more.
    pub gone: Option<Timestamp>,
    /// Until when it was, when that was told.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

impl Told {
    fn of(alert: &Alert, at: Timestamp) -> Self {
        let Alert { severity, title, since, until, .. } = alert.clone();
        Self { severity, title, since, at, gone: None, until }
    }
}

/// When something is told.
pub(super) struct Rules {
    /// Again after so long.
    pub(super) repeat_us: Option<i64>,
    /// Only what is critical.
    pub(super) quiet: bool,
}

/// What a message tells.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Tell {
    /// New, or worse than it was told.
    pub new: Vec<Alert>,
    /// Stands still.
    pub again: Vec<Alert>,
    /// Stands no more, and since when.
    pub over: Vec<(String, Told)>,
}

/// Notes: to be kept in any case, and to be kept once the message was delivered.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Changes {
    pub(super) seen: Vec<(String, Option<Told>)>,
    pub(super) told: Vec<(String, Option<Told>)>,
}

pub(super) struct News {
    /// `None`: nothing is to be told.
    pub(super) tell: Option<Tell>,
    pub(super) changes: Changes,
}

/// What of `standing` is to be told after what was `told`. What isn't `ours` to look after is left alone.
pub(super) fn news(
    told: &BTreeMap<String, Told>,
    standing: &[Alert],
    ours: impl Fn(&str) -> bool,
    now: Timestamp,
    rules: &Rules,
) -> News {
    let (mut tell, mut changes) = (Tell::default(), Changes::default());
    let passes = |severity| !rules.quiet || severity == Severity::Critical;
    for alert in standing {
        let before = told.get(&alert.key);
        let back = |before: &&Told| before.gone.is_some() || before.until.is_some() && alert.until.is_none();
        if let Some(back) = before.filter(back) {
            changes.seen.push((alert.key.clone(), Some(Told { gone: None, until: None, ..back.clone() })));
        }
        let ended = |before: &&Told| before.until.is_none() && passes(before.severity);
        if let (Some(before), Some(until)) = (before.filter(ended), alert.until)
            && now.0 - until.0 >= OVER_US
        {
            tell.over.push((alert.key.clone(), Told { gone: Some(until), ..before.clone() }));
            changes.told.push((alert.key.clone(), Some(Told { until: Some(until), ..before.clone() })));
            continue;
        }
        let list = match before {
            None if now.0 - alert.since.0 >= SETTLED_US => &mut tell.new,
            Some(before) if alert.severity > before.severity => &mut tell.new,
            Some(before)
                if !alert.in_hand
                    && alert.until.is_none()
                    && rules.repeat_us.is_some_and(|us| now.0 - before.at.0 >= us) =>
            {
                &mut tell.again
            }
            _ => continue,
        };
        if passes(alert.severity) {
            list.push(alert.clone());
            changes.told.push((alert.key.clone(), Some(Told::of(alert, now))));
        }
    }
    let stand: BTreeSet<&str> = standing.iter().map(|alert| alert.key.as_str()).collect();
    for (key, before) in told.iter().filter(|(key, _)| !stand.contains(key.as_str()) && ours(key)) {
        match before.gone {
            // That was told.
            _ if before.until.is_some() => changes.seen.push((key.clone(), None)),
            None => changes.seen.push((key.clone(), Some(Told { gone: Some(now), ..before.clone() }))),
            Some(gone) if now.0 - gone.0 >= OVER_US && passes(before.severity) => {
                tell.over.push((key.clone(), before.clone()));
                changes.told.push((key.clone(), None));
            }
            Some(_) => {}
        }
    }
    News { tell: Some(tell).filter(|tell| *tell != Tell::default()), changes }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;
    const HOUR: i64 = 60 * MINUTE;

    fn alert(key: &str, severity: Severity, since: i64) -> Alert {
        let (title, detail) = (format!("{key} is wrong"), String::new());
        Alert { key: key.into(), severity, title, detail, since: Timestamp(since), until: None, in_hand: false }
    }

    /// Lets time go by minute by minute, with everything delivered; gives what was told when, in minutes.
    fn play(minutes: i64, rules: impl Fn(i64) -> Rules, standing: impl Fn(i64) -> Vec<Alert>) -> Vec<(i64, String)> {
        let (mut told, mut said) = (BTreeMap::new(), Vec::new());
        for minute in 0..minutes {
            let now = Timestamp(minute * MINUTE);
            let News { tell, changes } = news(&told, &standing(minute), |_| true, now, &rules(minute));
            for (key, change) in changes.seen.into_iter().chain(changes.told) {
                match change {
                    Some(one) => told.insert(key, one),
                    None => told.remove(&key),
                };
            }
            let Some(tell) = tell else { continue };
            let keys = |word: &str, keys: Vec<&str>| keys.iter().map(|key| format!("{word} {key}")).collect::<Vec<_>>();
            let mut words = keys("new", tell.new.iter().map(|a| a.key.as_str()).collect());
            words.extend(keys("again", tell.again.iter().map(|a| a.key.as_str()).collect()));
            words.extend(keys("over", tell.over.iter().map(|(key, _)| key.as_str()).collect()));
            said.push((minute, words.join(", ")));
        }
        said
    }

    fn usual(_: i64) -> Rules {
        Rules { repeat_us: None, quiet: false }
    }

    fn said(all: &[(i64, &str)]) -> Vec<(i64, String)> {
        all.iter().map(|(minute, words)| (*minute, (*words).to_owned())).collect()
    }

    #[test]
    fn it_is_told_once_and_that_it_is_over_once() {
        let stands =
            |minute| if (10..40).contains(&minute) { vec![alert("a", Severity::Warning, 10 * MINUTE)] } else { vec![] };
        assert_eq!(play(100, usual, stands), said(&[(11, "new a"), (45, "over a")]));
    }

    #[test]
    fn what_ends_while_nobody_looks_is_told_to_be_over_when_it_ends_and_not_again_when_somebody_does() {
        let ends = |minute: i64, end: i64| (minute >= end).then_some(Timestamp(end * MINUTE));
        let stands = |minute: i64| {
            let late = Alert { until: ends(minute, 20), ..alert("late", Severity::Warning, 0) };
            let early = Alert { until: Some(Timestamp(30)), ..alert("early", Severity::Warning, 0) };
            if minute < 60 { vec![late, early] } else { vec![] }
        };
        assert_eq!(play(100, usual, stands), said(&[(1, "new late, new early"), (25, "over late")]));
        // It goes on after all, and ends again.
        let again = |minute: i64| {
            let until = if (30..40).contains(&minute) { None } else { ends(minute, 20) };
            vec![Alert { until, ..alert("a", Severity::Warning, 0) }]
        };
        assert_eq!(play(50, usual, again), said(&[(1, "new a"), (25, "over a"), (40, "over a")]));
    }

    #[test]
    fn what_comes_and_goes_is_told_once() {
        // It flickers for an hour: two minutes there, two away.
        let stands = |minute: i64| {
            let there = minute < 60 && minute % 4 < 2;
            if there { vec![alert("a", Severity::Warning, 0)] } else { vec![] }
        };
        assert_eq!(play(100, usual, stands), said(&[(1, "new a"), (63, "over a")]));
    }

    #[test]
    fn what_blinks_is_not_told_at_all() {
        let stands = |minute| if minute == 10 { vec![alert("a", Severity::Critical, 10 * MINUTE)] } else { vec![] };
        assert_eq!(play(100, usual, stands), said(&[]));
    }

    #[test]
    fn it_is_told_again_when_it_gets_worse_and_after_a_while_unless_someone_has_it_in_hand() {
        let rules = |_| Rules { repeat_us: Some(HOUR), quiet: false };
        let stands = |minute| {
            let severity = if minute < 30 { Severity::Warning } else { Severity::Critical };
            vec![Alert { in_hand: minute > 120, ..alert("a", severity, 0) }]
        };
        assert_eq!(play(300, rules, stands), said(&[(1, "new a"), (30, "new a"), (90, "again a")]));
    }

    #[test]
    fn in_quiet_hours_only_what_is_critical_is_told_and_the_rest_afterwards_if_it_still_stands() {
        let rules = |minute| Rules { repeat_us: None, quiet: (0..60).contains(&minute) };
        let stands = |minute| {
            let mut all = vec![alert("warns", Severity::Warning, 0), alert("bad", Severity::Critical, 0)];
            if minute < 50 {
                all.push(alert("passes", Severity::Warning, 0));
            }
            all
        };
        assert_eq!(play(100, rules, stands), said(&[(1, "new bad"), (60, "new warns")]));
    }

    #[test]
    fn what_others_look_after_is_not_called_over() {
        let told = BTreeMap::from([("a".to_owned(), Told::of(&alert("a", Severity::Warning, 0), Timestamp(0)))]);
        let News { tell, changes } = news(&told, &[], |_| false, Timestamp(HOUR), &usual(0));
        assert_eq!((tell, changes), (None, Changes::default()));
    }
}
