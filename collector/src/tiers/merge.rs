//! Readings of one series from two places, as one run.

use super::StoredReading;
use std::cmp::Ordering;

/// Two ascending runs as one; where both have a moment, the rule decides.
#[must_use]
pub fn merge(a: Vec<StoredReading>, b: Vec<StoredReading>) -> Vec<StoredReading> {
    match (a.last(), b.first()) {
        (None, _) => return b,
        (_, None) => return a,
        _ => {}
    }
    let mut merged = Vec::with_capacity(a.len() + b.len());
    let (mut a, mut b) = (a.into_iter().peekable(), b.into_iter().peekable());
    while let (Some(x), Some(y)) = (a.peek().copied(), b.peek().copied()) {
        let (from_a, from_b) = match x.at.cmp(&y.at) {
            Ordering::Less => (true, false),
            Ordering::Greater => (false, true),
            Ordering::Equal => (true, true),
        };
        let winner = if !from_b || from_a && !y.held.wins_over(&x.held) { x } else { y };
        merged.push(winner);
        if from_a {
            a.next();
        }
        if from_b {
            b.next();
        }
    }
    merged.extend(a);
    merged.extend(b);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiers::SeriesId;
    use shared::reading::{Held, Quality, Timestamp};

    #[test]
    fn where_both_tiers_have_a_moment_the_rule_decides() {
        let reading = |at, value, quality| StoredReading {
            series: SeriesId(1),
            at: Timestamp(at),
            held: Held { value, quality, revision: 0 },
        };
        let bad = reading(2, None, Quality::BAD_LINK);
        let (one, two, three) = (
            reading(1, Some(1.0), Quality::GOOD),
            reading(2, Some(2.0), Quality::GOOD),
            reading(3, Some(3.0), Quality::GOOD),
        );
        for (a, b) in
            [(vec![one, bad], vec![two, three]), (vec![two, three], vec![one, bad]), (vec![one, two, three], vec![])]
        {
            assert_eq!(merge(a, b), [one, two, three]);
        }
    }
}
