//! One question about a series' past, answered from all tiers.
//!
//! It asks each tier for what that tier can prove: hot from its floor on, warm for what is older. When one is down
//! the other answers for it as far as it can, and the answer says what it lacks. Where both say something about one
//! moment, [`Held::contest`] decides. Buckets that are dirty are summed up from their readings.

mod buckets;
mod cache;
mod plan;

pub use plan::{Resolution, Width};

use crate::rollup::{Rollup, Sample, Span, hold};
use crate::tiers::hot::days::DayCache;
use crate::tiers::{HotTier, SeriesId, SeriesInfo, StoredReading, TierError, WarmTier};
use shared::reading::{Held, Timestamp};
use std::cmp::Ordering;
use std::sync::Arc;

/// Most points in one answer.
pub const POINTS_MAX: u32 = 10_000;

/// A question.
#[derive(Clone, Debug)]
pub struct Question {
    /// About which series.
    pub series: SeriesInfo,
    /// From when on, itself included.
    pub from: Timestamp,
    /// Until when, itself not included.
    pub to: Timestamp,
    /// How fine.
    pub resolution: Resolution,
    /// At most this many points, and never more than [`POINTS_MAX`].
    pub points_max: u32,
    /// The time by the collector's clock: nothing is known beyond it.
    pub now: Timestamp,
}

/// What was found, and what there is to know about it.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// The points.
    pub points: Points,
    /// From when to when they are complete; buckets are whole, so it may begin earlier than was asked.
    pub from: Timestamp,
    /// See `from`. Earlier than was asked when there were too many points: ask again from here.
    pub to: Timestamp,
    /// Whether there is more between `to` and what was asked.
    pub truncated: bool,
    /// The tiers it was taken from: `hot`, `warm`.
    pub tiers: Vec<&'static str>,
    /// The part of the stretch, up to now, for which a value is known: 0 to 1.
    pub coverage: f64,
    /// Buckets that were summed up from readings because their rollup was out of date.
    pub recomputed: u32,
    /// What is missing from the answer, in words; empty when nothing is.
    pub degraded: Vec<String>,
}

/// The points of an answer.
#[derive(Clone, PartialEq, Debug)]
pub enum Points {
    /// Readings as they are.
    Raw(Vec<StoredReading>),
    /// Buckets; those about which nothing is known are left out.
    Buckets(Width, Vec<BucketPoint>),
}

/// What is known of one bucket.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BucketPoint {
    /// Its start.
    pub start: Timestamp,
    /// Its readings summed up; `None` when it has none.
    pub rollup: Option<Rollup>,
    /// The bucket as a whole, with the values that hold into it.
    pub span: Span,
}

/// The service.
#[derive(Clone)]
pub struct History {
    warm: Arc<dyn WarmTier>,
    hot: Arc<dyn HotTier>,
    days: Option<Arc<DayCache>>,
}

/// Notes for the answer's label, made on the way.
#[derive(Default)]
struct Notes {
    hot: bool,
    warm: bool,
    recomputed: u32,
    degraded: Vec<String>,
}

impl Notes {
    fn tiers(&self) -> Vec<&'static str> {
        [("hot", self.hot), ("warm", self.warm)].into_iter().filter(|(_, used)| *used).map(|(name, _)| name).collect()
    }
}

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

impl History {
    /// Over these tiers.
    #[must_use]
    pub fn new(warm: Arc<dyn WarmTier>, hot: Arc<dyn HotTier>) -> Self {
        Self { warm, hot, days: None }
    }

    /// Answers.
    ///
    /// # Errors
    /// When no tier can answer for any of it.
    pub async fn ask(&self, question: &Question) -> Result<Answer, TierError> {
        let question = Question { points_max: question.points_max.clamp(1, POINTS_MAX), ..question.clone() };
        match question.resolution.settle(&question) {
            None => self.raw(&question).await,
            Some(width) => self.buckets(&question, width).await,
        }
    }

    /// The newest reading of each series that has one: of what the tiers say the newer, then the one that wins.
    /// The words say what may be missing.
    ///
    /// # Errors
    /// When no tier answers.
    pub async fn latest(&self, series: &[SeriesId]) -> Result<(Vec<StoredReading>, Vec<String>), TierError> {
        let (hot, warm) = futures::join!(self.hot.latest(series), self.warm.latest(series));
        let mut degraded = Vec::new();
        let (hot, warm) = match (hot, warm) {
            (Err(_), Err(error)) => return Err(error),
            (hot, warm) => {
                let mut note = |result: Result<Vec<_>, TierError>, what| {
                    result.unwrap_or_else(|error| {
                        degraded.push(format!("{error}: {what}"));
                        Vec::new()
                    })
                };
                (
                    note(hot, "values that are not committed yet are missing"),
                    note(warm, "series that were silent since the collector started are missing"),
                )
            }
        };
        let mut newest = std::collections::BTreeMap::<SeriesId, StoredReading>::new();
        for reading in hot.into_iter().chain(warm) {
            let kept = newest.entry(reading.series).or_insert(reading);
            if reading.at > kept.at || reading.at == kept.at && reading.held.wins_over(&kept.held) {
                *kept = reading;
            }
        }
        Ok((newest.into_values().collect(), degraded))
    }

    /// From when on the hot tier answers for a series; `None` when it can't.
    async fn hot_floor(&self, series: SeriesId, notes: &mut Notes) -> Option<Timestamp> {
        match self.hot.complete_from(series).await {
            Ok(floor) => floor,
            Err(error) => {
                notes.degraded.push(format!("{error}: values that are not committed yet are missing"));
                None
            }
        }
    }

    /// What the hot tier can prove of `[from, to)`: where its part begins, and its readings.
    async fn hot_part(
        &self,
        series: SeriesId,
        (from, to): (Timestamp, Timestamp),
        notes: &mut Notes,
    ) -> Option<(Timestamp, Vec<StoredReading>)> {
        let begins = self.hot_floor(series, notes).await?.max(from);
        if begins >= to {
            return None;
        }
        match self.hot.range(series, begins, to).await {
            Ok(Some(readings)) => {
                notes.hot = true;
                Some((begins, readings))
            }
            Ok(None) => None, // its floor has just moved on: the warm tier answers for all
            Err(error) => {
                notes.degraded.push(format!("{error}: values that are not committed yet are missing"));
                None
            }
        }
    }

    async fn raw(&self, question: &Question) -> Result<Answer, TierError> {
        let Question { from, to, points_max, now, .. } = *question;
        let series = question.series.id;
        let mut notes = Notes::default();
        let (seam, newer) = match self.hot_part(series, (from, to), &mut notes).await {
            Some((begins, readings)) => (begins, readings),
            None => (to, Vec::new()),
        };
        let mut older = Vec::new();
        if from < seam {
            match self.warm.range(series, from, seam, points_max + 1).await {
                Ok(readings) => {
                    notes.warm = true;
                    older = readings;
                }
                Err(error) if notes.hot => notes.degraded.push(format!("{error}: what is before {seam} is missing")),
                Err(error) => return Err(error),
            }
        }
        let mut readings = merge(older, newer);
        let mut until = to;
        let truncated = readings.len() > points_max as usize;
        if truncated {
            until = readings[points_max as usize].at;
            readings.truncate(points_max as usize);
        }
        let (open, _) = self.carried_in(&question.series, from, &mut notes).await;
        let hold = hold(question.series.interval_ms, question.series.silence_ms_max);
        let known_until = until.min(now).max(from);
        let inside = Rollup::of_all(readings.iter().filter(|r| r.at < known_until).map(|r| (r.at, &r.held)), hold);
        let span = Span::new((from, known_until), inside.as_ref(), open, None, hold);
        Ok(Answer {
            points: Points::Raw(readings),
            from,
            to: until,
            truncated,
            tiers: notes.tiers(),
            coverage: share(span.covered, known_until.since(from)),
            recomputed: 0,
            degraded: notes.degraded,
        })
    }

    /// The value that holds when the stretch begins, and the last usable one before it.
    async fn carried_in(
        &self,
        series: &SeriesInfo,
        from: Timestamp,
        notes: &mut Notes,
    ) -> (Option<Sample>, Option<Sample>) {
        let hold = hold(series.interval_ms, series.silence_ms_max);
        let usable = |r: &StoredReading| {
            let held: &Held = &r.held;
            held.value.filter(|_| held.quality.is_usable()).map(|value| Sample { at: r.at, value })
        };
        let mut quiet = Notes::default(); // what is wrong with the hot tier is said once
        let near = from.plus_micros(-hold);
        let hot = self.hot_part(series.id, (near, from), &mut quiet).await.map(|(_, readings)| readings);
        let hot = hot.unwrap_or_default();
        let (last_hot, usable_hot) = (hot.last().copied(), hot.iter().rev().find_map(usable));
        let warm =
            futures::join!(self.warm.last_before(series.id, from, false), self.warm.last_before(series.id, from, true));
        let (last_warm, usable_warm) = match warm {
            (Ok(last), Ok(usable)) => (last, usable),
            (Err(error), _) | (_, Err(error)) => {
                if last_hot.is_none() {
                    notes.degraded.push(format!("{error}: the value before {from} is missing"));
                }
                (None, None)
            }
        };
        let last = last_hot.into_iter().chain(last_warm).max_by(|a, b| a.at.cmp(&b.at).then(a.held.contest(&b.held)));
        let before = usable_hot.into_iter().chain(usable_warm.as_ref().and_then(usable)).max_by_key(|s| s.at);
        (last.as_ref().and_then(usable), before)
    }
}

fn share(covered: i64, of: i64) -> f64 {
    if of <= 0 { 0.0 } else { covered as f64 / of as f64 }
}

#[cfg(test)]
mod tests;
