//! Blocks that the collector can't take for now. Only their numbers are kept, and one of them is sent again after growing
//! pauses; once that is taken, two, four and so on go at once. So hours of refusals cost neither memory nor the link. Pure.

use shared::backoff::Backoff;
use shared::ids::Seq;
use shared::ranges::SeqRanges;
use std::time::Duration;
use tokio::time::Instant;

const PAUSE_FIRST: Duration = Duration::from_secs(5);
const PAUSE_LONGEST: Duration = Duration::from_secs(60);
/// What was sent again and has no answer after so long, as it is no longer there, is not waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Most that are sent again at once.
const MANY_MAX: usize = 64;

/// What was refused for now.
pub(super) struct Later {
    waiting: SeqRanges,
    /// Those that are sent again, and have no answer yet.
    asked: SeqRanges,
    many: usize,
    due: Instant,
    backoff: Backoff,
    /// Whether the lowest is tried next, or the one after `tried`: one that is never taken doesn't stop the others.
    lowest_next: bool,
    tried: Seq,
}

impl Later {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            waiting: SeqRanges::new(),
            asked: SeqRanges::new(),
            many: 1,
            due: now,
            backoff: Backoff::new(PAUSE_FIRST, PAUSE_LONGEST),
            lowest_next: true,
            tried: Seq(0),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The lowest that waits.
    pub(super) fn lowest(&self) -> Option<Seq> {
        self.waiting.lowest()
    }

    /// This one was refused for now.
    pub(super) fn refused(&mut self, seq: Seq, now: Instant) {
        let is_first = self.waiting.is_empty();
        self.waiting.insert_one(seq);
        if is_first || self.asked.contains(seq) {
            self.asked = SeqRanges::new();
            self.many = 1;
            self.due = now + self.backoff.pause();
        }
    }

    /// These are taken, or given up.
    pub(super) fn settled(&mut self, seqs: &SeqRanges, now: Instant) {
        if self.waiting.is_empty() {
            return;
        }
        let was_asked = !self.asked.is_empty();
        for range in seqs.iter() {
            self.waiting.remove(range);
            self.asked.remove(range);
        }
        if was_asked && self.asked.is_empty() {
            self.many = (2 * self.many).min(MANY_MAX);
            self.at_once(now);
        }
    }

    /// There is a reason to believe that they are taken now.
    pub(super) fn at_once(&mut self, now: Instant) {
        self.backoff.reset();
        self.due = now;
    }

    /// Those that are to be sent again now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Seq> {
        let Some(lowest) = self.waiting.lowest().filter(|_| now >= self.due) else { return Vec::new() };
        let other = self.from(self.tried.next()).next().filter(|_| !self.lowest_next);
        let seqs: Vec<Seq> = self.from(other.unwrap_or(lowest)).take(self.many).collect();
        if !self.lowest_next {
            self.tried = seqs.last().copied().unwrap_or(lowest);
        }
        self.lowest_next = !self.lowest_next;
        self.asked = seqs.iter().copied().collect();
        self.due = now + ANSWER_WITHIN;
        seqs
    }

    fn from(&self, first: Seq) -> impl Iterator<Item = Seq> {
        let ranges = self.waiting.iter().filter(move |range| range.last >= first);
        ranges.flat_map(move |range| range.first.max(first).0..=range.last.0).map(Seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(later: &mut Later, seqs: impl IntoIterator<Item = u64>, now: Instant) {
        seqs.into_iter().for_each(|seq| later.refused(Seq(seq), now));
    }

    /// What is sent again within an hour to a collector that takes what `taken` says, by the second.
    fn hour(later: &mut Later, start: Instant, taken: impl Fn(u64) -> bool) -> Vec<(u64, u64)> {
        let mut sent = Vec::new();
        for second in 0..3_600 {
            let now = start + Duration::from_secs(second);
            for Seq(seq) in later.due(now) {
                sent.push((second, seq));
                match taken(seq) {
                    true => later.settled(&[Seq(seq)].into_iter().collect(), now),
                    false => later.refused(Seq(seq), now),
                }
            }
        }
        sent
    }

    #[test]
    fn what_is_refused_for_hours_is_asked_about_by_one_at_a_time_with_growing_pauses() {
        let now = Instant::now();
        let mut later = Later::new(now);
        refuse(&mut later, 1..=100_000, now);
        assert_eq!(later.due(now), [], "not at once");
        let sent = hour(&mut later, now, |_| false);
        assert!((50..=300).contains(&sent.len()), "{} of 100000 blocks were sent again in an hour", sent.len());
        let pauses = sent.windows(2).map(|pair| pair[1].0 - pair[0].0);
        assert!(pauses.clone().all(|pause| (1..=61).contains(&pause)) && pauses.max() > Some(20));
        assert!(sent.iter().any(|(_, seq)| *seq > 10), "not always the same ones");
    }

    #[test]
    fn once_one_is_taken_all_of_them_go_and_what_is_never_taken_stops_nobody() {
        let now = Instant::now();
        let mut later = Later::new(now);
        refuse(&mut later, 1..=1_000, now);
        let sent = hour(&mut later, now, |_| true);
        assert_eq!(sent.len(), 1_000, "each once");
        assert!(later.is_empty() && sent.last().is_some_and(|(second, _)| *second < 60), "{:?}", sent.last());

        refuse(&mut later, 1..=20, now);
        hour(&mut later, now, |seq| seq != 1);
        assert_eq!(later.from(Seq(0)).collect::<Vec<_>>(), [Seq(1)]);
    }

    #[test]
    fn what_has_no_answer_is_not_waited_for() {
        let now = Instant::now();
        let mut later = Later::new(now);
        refuse(&mut later, 1..=3, now);
        later.at_once(now);
        assert_eq!(later.due(now), [Seq(1)]);
        assert_eq!(later.due(now + ANSWER_WITHIN / 2), []);
        assert_eq!(later.due(now + ANSWER_WITHIN).len(), 1);
    }
}
