//! One question about a series' past, answered from all tiers.
//!
//! It asks each tier for what that tier can prove: hot from its floor on, warm for what is older, cold for days that
//! have left warm. When one is down another answers for it as far as it can, and the answer says what it lacks. Where
//! several say something about one moment, [`Held::contest`] decides. Buckets that are dirty are summed up from their
//! readings, wherever these are.

mod around;
mod buckets;
mod cache;
mod older;
mod plan;
mod thin;

pub use plan::{Resolution, Width};
pub use thin::{PIXELS_MAX, Thin, Way};

use crate::rollup::{Rollup, Sample, Span, hold};
use crate::tiers::hot::days::DayCache;
use crate::tiers::{ColdTier, HotTier, SeriesId, SeriesInfo, StoredReading, TierError, WarmTier, merge};
use shared::reading::{Held, Timestamp};
use std::collections::HashMap;
use std::sync::Arc;

/// Most points in one answer.
pub const POINTS_MAX: u32 = 10_000;
/// Readings that are in memory at a time while a long stretch is brought down.
const PAGE: u32 = 50_000;

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
    /// Readings only: brought down to what a screen can show. Then all of the stretch is answered, whatever
    /// `points_max` says.
    pub thin: Option<Thin>,
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
    /// The tiers it was taken from: `hot`, `warm`, `cold`.
    pub tiers: Vec<&'static str>,
    /// The readings that the points were chosen from, when they are fewer.
    pub thinned_from: Option<u64>,
    /// The part of the stretch, up to now, for which a value is known: 0 to 1.
    pub coverage: f64,
    /// Buckets that were summed up from readings because their rollup was out of date.
    pub recomputed: u32,
    /// What is missing from the answer, in words; empty when nothing is.
    pub degraded: Vec<String>,
}

impl Answer {
    /// What is missing from it beside the last seconds that are not committed yet.
    #[must_use]
    pub fn lacks(&self) -> Option<&str> {
        self.degraded.iter().map(String::as_str).find(|why| !why.ends_with(UNCOMMITTED))
    }
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

/// The end of what is said of an answer that lacks the last seconds only, because the hot tier is away.
const UNCOMMITTED: &str = "values that are not committed yet are missing";

/// Questions whose answer the hot tier had, alone, and those for which others had to be asked; of past days in buckets
/// [`DayCache`] counts for itself.
const LOOKUPS: &str = "collector_hot_lookups_total";

fn count_lookup(question: &'static str, is_hit: bool) {
    let outcome = if is_hit { "hit" } else { "miss" };
    metrics::counter!(LOOKUPS, "question" => question, "outcome" => outcome).increment(1);
}

/// How long questions took, by the deepest tier that had to be asked.
pub const SECONDS: &str = "collector_history_seconds";

/// The service.
#[derive(Clone)]
pub struct History {
    warm: Arc<dyn WarmTier>,
    hot: Arc<dyn HotTier>,
    days: Option<Arc<DayCache>>,
    cold: Option<Arc<dyn ColdTier>>,
}

/// Notes for the answer's label, made on the way.
#[derive(Default)]
struct Notes {
    hot: bool,
    warm: bool,
    cold: bool,
    recomputed: u32,
    degraded: Vec<String>,
}

impl Notes {
    fn tiers(&self) -> Vec<&'static str> {
        let all = [("hot", self.hot), ("warm", self.warm), ("cold", self.cold)];
        all.into_iter().filter(|(_, used)| *used).map(|(name, _)| name).collect()
    }

    /// Says it once, however many questions to the tiers have met with it.
    fn lacks(&mut self, what: String) {
        if !self.degraded.contains(&what) {
            self.degraded.push(what);
        }
    }

    /// Takes over what is doubted about something, and gives that.
    fn hear<T>(&mut self, (said, doubts): (T, Notes)) -> T {
        doubts.degraded.into_iter().for_each(|what| self.lacks(what));
        said
    }
}

/// What is known when a stretch begins.
#[derive(Clone, Copy)]
struct CarriedIn {
    /// The value that holds,
    open: Option<Sample>,
    /// and the last usable one before it.
    before: Option<Sample>,
}

impl History {
    /// Over these tiers.
    #[must_use]
    pub fn new(warm: Arc<dyn WarmTier>, hot: Arc<dyn HotTier>) -> Self {
        Self { warm, hot, days: None, cold: None }
    }

    /// With an archive behind them.
    #[must_use]
    pub fn with_cold(self, cold: Option<Arc<dyn ColdTier>>) -> Self {
        Self { cold, ..self }
    }

    /// Answers.
    ///
    /// # Errors
    /// When no tier can answer for any of it.
    pub async fn ask(&self, question: &Question) -> Result<Answer, TierError> {
        let question = Question { points_max: question.points_max.clamp(1, POINTS_MAX), ..question.clone() };
        let began = std::time::Instant::now();
        let answer = match question.resolution.settle(&question) {
            None if question.thin.is_some() => self.thinned(&question).await,
            None => self.raw(&question).await,
            Some(width) => self.buckets(&question, width).await,
        };
        if let Ok(Answer { points: Points::Raw(_), tiers, .. }) = &answer {
            count_lookup("readings", tiers[..] == ["hot"]);
        }
        let deepest = answer.as_ref().map_or("none", |answer| answer.tiers.last().copied().unwrap_or("none"));
        metrics::histogram!(SECONDS, "tier" => deepest).record(began.elapsed().as_secs_f64());
        answer
    }

    /// The newest reading of each series that has one, in the order they are asked for: of what the tiers say the newer,
    /// then the one that wins. The words say what may be missing.
    ///
    /// # Errors
    /// When no tier answers.
    pub async fn latest(&self, series: &[SeriesId]) -> Result<(Vec<StoredReading>, Vec<String>), TierError> {
        let hot = self.hot.newest(series).await;
        let unsure = hot.as_ref().map_or(series, |newest| newest.unsure.as_slice());
        count_lookup("latest", unsure.is_empty());
        let warm = if unsure.is_empty() { Ok(Vec::new()) } else { self.warm.latest(unsure).await };
        let hot = hot.map(|newest| newest.readings);
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
                (note(hot, UNCOMMITTED), note(warm, "series that were silent since the collector started are missing"))
            }
        };
        if warm.is_empty() {
            return Ok((hot, degraded)); // mostly, and of thousands
        }
        let mut newest = HashMap::<SeriesId, StoredReading>::new();
        for reading in hot.into_iter().chain(warm) {
            let kept = newest.entry(reading.series).or_insert(reading);
            if reading.at > kept.at || reading.at == kept.at && reading.held.wins_over(&kept.held) {
                *kept = reading;
            }
        }
        Ok((series.iter().filter_map(|id| newest.remove(id)).collect(), degraded))
    }

    /// What the hot tier can prove of `[from, to)`: where its part begins, and its readings.
    async fn hot_part(
        &self,
        series: SeriesId,
        (from, to): (Timestamp, Timestamp),
        notes: &mut Notes,
    ) -> Option<(Timestamp, Vec<StoredReading>)> {
        match self.all_or_part_of_hot(series, (from, to)).await {
            Ok(part) => {
                notes.hot |= part.is_some();
                part
            }
            Err(error) => {
                notes.lacks(format!("{error}: {UNCOMMITTED}"));
                None
            }
        }
    }

    /// Mostly it has all, and needn't be asked from when on first.
    async fn all_or_part_of_hot(
        &self,
        series: SeriesId,
        (from, to): (Timestamp, Timestamp),
    ) -> Result<Option<(Timestamp, Vec<StoredReading>)>, TierError> {
        if let Some(readings) = self.hot.range(series, from, to).await? {
            return Ok(Some((from, readings)));
        }
        let Some(begins) = self.hot.complete_from(series).await?.map(|floor| floor.max(from)) else { return Ok(None) };
        if begins >= to {
            return Ok(None);
        }
        // `None` when its floor has just moved on: the warm tier answers for all.
        Ok(self.hot.range(series, begins, to).await?.map(|readings| (begins, readings)))
    }

    async fn raw(&self, question: &Question) -> Result<Answer, TierError> {
        let mut notes = Notes::default();
        let span = (question.from, question.to);
        let (page, carried) = futures::join!(
            self.page(question.series.id, span, question.points_max, &mut notes),
            self.carried_in(&question.series, question.from)
        );
        let (readings, until) = page?;
        let covered = Cover::new(question, until);
        let inside = covered.add(None, &readings);
        let open = notes.hear(carried).open;
        Ok(Answer {
            points: Points::Raw(readings),
            from: question.from,
            to: until,
            truncated: until < question.to,
            tiers: notes.tiers(),
            thinned_from: None,
            coverage: covered.share(inside.as_ref(), open),
            recomputed: 0,
            degraded: notes.degraded,
        })
    }

    /// All of a stretch, read page by page and brought down on the way.
    async fn thinned(&self, question: &Question) -> Result<Answer, TierError> {
        let mut notes = Notes::default();
        let mut sieve = thin::Sieve::new(question.thin.unwrap_or_default(), question.from, question.to);
        let (mut from, mut inside) = (question.from, None);
        let covered = Cover::new(question, question.to);
        while from < question.to {
            let (readings, until) = self.page(question.series.id, (from, question.to), PAGE, &mut notes).await?;
            inside = covered.add(inside, &readings);
            readings.iter().for_each(|reading| sieve.take(reading));
            from = until;
        }
        let carried = self.carried_in(&question.series, question.from).await;
        let open = notes.hear(carried).open;
        let taken = sieve.taken();
        Ok(Answer {
            points: Points::Raw(sieve.finish()),
            from: question.from,
            to: question.to,
            truncated: false,
            tiers: notes.tiers(),
            thinned_from: Some(taken),
            coverage: covered.share(inside.as_ref(), open),
            recomputed: 0,
            degraded: notes.degraded,
        })
    }

    /// The first readings of a stretch, and until when they are all.
    async fn page(
        &self,
        series: SeriesId,
        (from, to): (Timestamp, Timestamp),
        count: u32,
        notes: &mut Notes,
    ) -> Result<(Vec<StoredReading>, Timestamp), TierError> {
        let (seam, newer) = match self.hot_part(series, (from, to), notes).await {
            Some((begins, readings)) => (begins, readings),
            None => (to, Vec::new()),
        };
        let older =
            if from < seam { self.older(series, (from, seam), count + 1, notes).await?.readings } else { Vec::new() };
        let mut readings = merge(older, newer);
        let until = readings.get(count as usize).map_or(to, |first_left_out| first_left_out.at);
        readings.truncate(count as usize);
        Ok((readings, until))
    }

    /// What holds when a stretch begins, and notes of its own: it is asked for beside what lies in the stretch.
    async fn carried_in(&self, series: &SeriesInfo, from: Timestamp) -> (CarriedIn, Notes) {
        let hold = hold(series.interval_ms, series.silence_ms_max);
        let usable = |r: &StoredReading| {
            let held: &Held = &r.held;
            held.value.filter(|_| held.quality.is_usable()).map(|value| Sample { at: r.at, value })
        };
        let near = from.plus_micros(-hold);
        let mut quiet = Notes::default(); // what is wrong with the hot tier is said once
        let hot = self.hot_part(series.id, (near, from), &mut quiet).await.map(|(_, readings)| readings);
        let hot = hot.unwrap_or_default();
        let (last_hot, usable_hot) = (hot.last().copied(), hot.iter().rev().find_map(usable));
        let mut notes = Notes::default();
        // All others lie before what the hot tier knows.
        let (last_older, usable_older) = match (last_hot, usable_hot) {
            (Some(_), Some(_)) => (None, None),
            _ => self.last_older(series.id, from, &mut notes).await,
        };
        let last = last_hot.or(last_older);
        let before = usable_hot.or(usable_older.as_ref().and_then(usable));
        (CarriedIn { open: last.as_ref().and_then(usable), before }, notes)
    }
}

/// How much of a stretch is known.
#[derive(Clone, Copy)]
struct Cover {
    from: Timestamp,
    until: Timestamp,
    hold: i64,
}

impl Cover {
    /// Nothing is known beyond now.
    fn new(question: &Question, until: Timestamp) -> Self {
        let hold = hold(question.series.interval_ms, question.series.silence_ms_max);
        Self { from: question.from, until: until.min(question.now).max(question.from), hold }
    }

    /// The sum of these readings on top of that of earlier ones.
    fn add(&self, earlier: Option<Rollup>, readings: &[StoredReading]) -> Option<Rollup> {
        let known = readings.iter().filter(|r| r.at < self.until).map(|r| (r.at, &r.held));
        match (earlier, Rollup::of_all(known, self.hold)) {
            (Some(earlier), Some(new)) => Some(earlier.then(&new, self.hold)),
            (earlier, new) => earlier.or(new),
        }
    }

    fn share(&self, inside: Option<&Rollup>, open: Option<Sample>) -> f64 {
        let span = Span::new((self.from, self.until), inside, open, None, self.hold);
        share(span.covered, self.until.since(self.from))
    }
}

fn share(covered: i64, of: i64) -> f64 {
    if of <= 0 { 0.0 } else { covered as f64 / of as f64 }
}

#[cfg(test)]
mod tests;
