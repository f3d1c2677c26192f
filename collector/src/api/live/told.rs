//! What one watcher was told of active anomalies, and what it has yet to be told: the newest state of each, however slow it
//! is. Pure.

use crate::analytics::store::Anomaly;
use crate::anomalies::Standing;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What the watcher knows.
#[derive(Default)]
pub(super) struct Told {
    /// `None`: nothing yet.
    known: Option<Arc<Vec<Anomaly>>>,
}

/// What it is told.
#[derive(Debug, PartialEq)]
pub(super) struct News {
    /// These are all there are: whatever else it knows is gone.
    pub(super) whole: bool,
    /// New, or changed.
    pub(super) items: Vec<Anomaly>,
    /// Numbers of those that are active no more.
    pub(super) gone: Vec<i64>,
}

impl Told {
    /// What has changed since it was told last; `None` when nothing has.
    pub(super) fn news(&mut self, now: &Standing) -> Option<News> {
        let before = self.known.replace(now.active.clone());
        let Some(before) = before else {
            return Some(News { whole: true, items: now.active.to_vec(), gone: Vec::new() });
        };
        let known: HashMap<i64, &Anomaly> = before.iter().map(|one| (one.number, one)).collect();
        let active: HashSet<i64> = now.active.iter().map(|one| one.number).collect();
        let changed = now.active.iter().filter(|one| known.get(&one.number) != Some(one));
        let (items, gone) = (changed.cloned().collect(), known.into_keys().filter(|number| !active.contains(number)));
        let news = News { whole: false, items, gone: gone.collect() };
        (!news.items.is_empty() || !news.gone.is_empty()).then_some(news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analytics::anomaly::{Kind, Severity};
    use crate::analytics::store::State;
    use crate::tiers::SeriesId;
    use shared::reading::Timestamp;

    fn standing(all: &[(i64, i64)]) -> Standing {
        let one = |(number, last): &(i64, i64)| Anomaly {
            number: *number,
            series: SeriesId(1),
            kind: Kind::OutOfRange,
            start: Timestamp(0),
            last: Timestamp(*last),
            end: None,
            severity: Severity::Critical,
            expected: None,
            seen: None,
            detail: String::new(),
            state: State::Open,
            normal: false,
            notes: Vec::new(),
        };
        Standing { active: Arc::new(all.iter().map(one).collect()), truncated: false }
    }

    fn told(news: Option<News>) -> Option<(bool, Vec<i64>, Vec<i64>)> {
        let news = news?;
        Some((news.whole, news.items.iter().map(|one| one.number).collect(), news.gone))
    }

    #[test]
    fn all_at_first_and_then_what_has_changed() {
        let mut told_of = Told::default();
        assert_eq!(
            told(told_of.news(&standing(&[]))),
            Some((true, vec![], vec![])),
            "that there are none is news, too"
        );
        assert_eq!(told(told_of.news(&standing(&[]))), None);
        assert_eq!(told(told_of.news(&standing(&[(2, 5), (1, 5)]))), Some((false, vec![2, 1], vec![])));
        assert_eq!(told(told_of.news(&standing(&[(2, 9), (1, 5)]))), Some((false, vec![2], vec![])));
        assert_eq!(told(told_of.news(&standing(&[(2, 9)]))), Some((false, vec![], vec![1])));
        assert_eq!(told(told_of.news(&standing(&[(2, 9)]))), None);
    }
}
