//! Which nodes are read from where, so that a few questions do for all of them: each is billed for 10 MB at least. Pure.

use std::collections::{BTreeMap, HashMap};

/// Rows of a question that has to put them in order; a day with more of them is one question all the same.
const SLICE_ROWS: u64 = 500_000;
/// Characters of names in a question.
const NAMES_MAX: usize = 200_000;

/// What a table has of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    /// `None` for rows without one.
    pub(super) node: Option<String>,
    /// Its newest moment that isn't in the future.
    pub(super) newest: Option<i64>,
    /// Rows that are in the future or have no moment.
    pub(super) astray: u64,
}

/// What is read together, from a moment on; `None`: all of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// Whatever came since.
    Arrivals(Option<i64>),
    /// These nodes, each from a moment on. The question brings the others' rows, too: they have few in that time.
    Abreast(BTreeMap<String, Option<i64>>),
    /// These nodes, each from a moment on. The question names them.
    Behind(BTreeMap<String, Option<i64>>),
}

impl Part {
    /// From where on there is something of any.
    pub(super) fn from(&self) -> Option<i64> {
        match self {
            Self::Arrivals(since) => *since,
            Self::Abreast(nodes) | Self::Behind(nodes) => nodes.values().copied().min().flatten(),
        }
    }

    /// The nodes that the question names.
    pub(super) fn names(&self) -> Option<Vec<&str>> {
        match self {
            Self::Behind(nodes) => Some(nodes.keys().map(String::as_str).collect()),
            Self::Arrivals(_) | Self::Abreast(_) => None,
        }
    }

    /// Whether a row is one of those that are wanted.
    pub(super) fn wants(&self, node: Option<&str>, at: i64) -> bool {
        let since = match self {
            Self::Arrivals(since) => Some(since),
            Self::Abreast(nodes) | Self::Behind(nodes) => node.and_then(|node| nodes.get(node)),
        };
        since.is_some_and(|since| since.is_none_or(|since| at >= since))
    }
}

/// Nodes that were read up to about the same moment are read together, from `back` before it; each of them again, for rows
/// may come late. Nodes that are further behind, or new, are read from where they are, if they have something newer.
pub(super) fn parts(found: &[Found], marks: &HashMap<String, i64>, back: i64) -> Vec<Part> {
    let front = marks.values().copied().max().unwrap_or(i64::MIN);
    let (mut abreast, mut behind, mut named) = (BTreeMap::new(), Vec::<BTreeMap<_, _>>::new(), 0);
    for Found { node, newest, .. } in found {
        let (Some(node), Some(newest)) = (node, newest) else { continue };
        let mark = marks.get(node).copied();
        let since = mark.map(|mark| mark.saturating_sub(back));
        if mark.is_some_and(|mark| mark >= front.saturating_sub(back)) {
            abreast.insert(node.clone(), since);
        } else if mark.is_none_or(|mark| *newest > mark) {
            if behind.is_empty() || named + node.len() > NAMES_MAX {
                behind.push(BTreeMap::new());
                named = 0;
            }
            named += node.len();
            if let Some(part) = behind.last_mut() {
                part.insert(node.clone(), since);
            }
        }
    }
    let abreast = Some(abreast).filter(|nodes| !nodes.is_empty()).map(Part::Abreast);
    abreast.into_iter().chain(behind.into_iter().map(Part::Behind)).collect()
}

/// A span in pieces of whole days with about as many rows, by how many each day has.
pub(super) fn slices(days: &[(i64, u64)], (from, to): (Option<i64>, i64)) -> Vec<(Option<i64>, i64)> {
    const DAY: i64 = 86_400_000_000;
    let (mut slices, mut begin, mut rows) = (Vec::new(), from, 0);
    for (day, count) in days {
        let start = day.saturating_mul(DAY);
        if rows > 0 && rows + count > SLICE_ROWS && begin.is_none_or(|begin| begin < start) && start <= to {
            slices.push((begin, start - 1));
            (begin, rows) = (Some(start), 0);
        }
        rows += count;
    }
    slices.push((begin, to));
    slices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(node: &str, newest: i64) -> Found {
        Found { node: Some(node.into()), newest: Some(newest), astray: 0 }
    }

    fn of<const N: usize>(nodes: [(&str, Option<i64>); N]) -> BTreeMap<String, Option<i64>> {
        nodes.map(|(node, since)| (node.to_owned(), since)).into()
    }

    #[test]
    fn nodes_that_are_behind_keep_their_place_and_the_others_theirs() {
        let marks =
            [("A", 100), ("B", 95), ("DEAD", 10), ("BACK", 20)].map(|(node, mark)| (node.to_owned(), mark)).into();
        let nowhere = Found { node: None, newest: Some(100), astray: 1 };
        let ahead = Found { node: Some("AHEAD".into()), newest: None, astray: 1 };
        let all =
            [found("A", 100), found("B", 107), found("DEAD", 10), found("BACK", 105), found("NEW", 3), nowhere, ahead];
        let parts = parts(&all, &marks, 10);
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0], Part::Abreast(of([("A", Some(90)), ("B", Some(85))])));
        assert_eq!(parts[1], Part::Behind(of([("BACK", Some(10)), ("NEW", None)])));
        assert_eq!((parts[0].from(), parts[1].from()), (Some(85), None));
        assert_eq!((parts[0].names(), parts[1].names()), (None, Some(vec!["BACK", "NEW"])));
        let wants = |node: Option<&str>, at| parts[0].wants(node, at);
        assert!(wants(Some("A"), 90) && !wants(Some("A"), 89) && !wants(Some("NEW"), 95) && !wants(None, 95));
        assert!(parts[1].wants(Some("NEW"), i64::MIN) && !parts[1].wants(Some("BACK"), 9));
        assert!(Part::Arrivals(Some(9)).wants(None, 9) && !Part::Arrivals(Some(9)).wants(Some("A"), 8));
    }

    #[test]
    fn the_first_time_all_are_new_and_no_question_is_too_long() {
        let all: Vec<Found> = (0..1_000).map(|n| found(&format!("{n:0>300}"), 1)).collect();
        let parts = parts(&all, &HashMap::new(), 10);
        assert_eq!(parts.len(), 2);
        assert_eq!(parts.iter().filter_map(Part::names).map(|names| names.len()).sum::<usize>(), 1_000);
        assert_eq!(super::parts(&[], &HashMap::new(), 10), []);
    }

    #[test]
    fn a_long_span_is_read_in_pieces_without_a_gap() {
        const DAY: i64 = 86_400_000_000;
        let days = [(0, 300_000), (1, 300_000), (5, 900_000), (6, 1), (9, 499_999)];
        let pieces = slices(&days, (None, 10 * DAY));
        let expected =
            [(None, DAY - 1), (Some(DAY), 5 * DAY - 1), (Some(5 * DAY), 6 * DAY - 1), (Some(6 * DAY), 10 * DAY)];
        assert_eq!(pieces, expected);
        assert_eq!(slices(&[], (Some(3), 9)), [(Some(3), 9)]);
    }
}
