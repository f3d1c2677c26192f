//! Many readings brought down to what a screen can show. Pure; takes them one by one, in the order of time.
//!
//! The stretch is cut into as many columns as the screen has pixels. *Min/max* keeps the lowest and the highest
//! reading of each column, so no peak is lost. *LTTB* (Steinarsson 2013, "Downsampling Time Series for Visual
//! Representation") keeps the one that makes the largest triangle with its neighbours, which looks calmer; it chooses
//! among the lowest and highest of quarter columns, which changes hardly any choice and bounds its memory (Van Der
//! Donckt et al. 2023, "MinMaxLTTB"). Both keep the first reading without value of a column: a gap stays one. The first
//! and the last reading stay, so that the line begins and ends where it should.

use crate::tiers::StoredReading;
use shared::reading::Timestamp;

/// Most columns.
pub const PIXELS_MAX: u32 = 10_000;
/// Parts of a column that LTTB chooses among.
const PARTS: u32 = 4;

/// How readings are brought down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Thin {
    /// Columns of the screen.
    pub pixels: u32,
    /// Which readings stay.
    pub way: Way,
}

/// Which readings stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Way {
    /// The lowest and the highest of a column.
    #[default]
    MinMax,
    /// The one that matters most to the shape of the line.
    Lttb,
}

impl Way {
    /// All of them, as they are written.
    pub const WORDS: [&str; 2] = ["minmax", "lttb"];

    /// Reads one of [`Way::WORDS`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "minmax" => Some(Way::MinMax),
            "lttb" => Some(Way::Lttb),
            _ => None,
        }
    }
}

impl Default for Thin {
    fn default() -> Self {
        Self { pixels: 1_000, way: Way::MinMax }
    }
}

/// Takes readings, keeps few.
pub(super) struct Sieve {
    thin: Thin,
    from: Timestamp,
    /// Length of a column, or of a part of it, microseconds.
    width: i64,
    column: i64,
    lowest: Option<StoredReading>,
    highest: Option<StoredReading>,
    gap: Option<StoredReading>,
    first: Option<StoredReading>,
    last: Option<StoredReading>,
    kept: Vec<StoredReading>,
    taken: u64,
}

impl Sieve {
    pub(super) fn new(thin: Thin, from: Timestamp, to: Timestamp) -> Self {
        let thin = Thin { pixels: thin.pixels.clamp(1, PIXELS_MAX), ..thin };
        let columns = match thin.way {
            Way::MinMax => thin.pixels,
            Way::Lttb => thin.pixels * PARTS,
        };
        let columns = i64::from(columns);
        let length = to.since(from).max(1);
        let width = length / columns + i64::from(length % columns > 0);
        let none = None;
        Self {
            thin,
            from,
            width,
            column: i64::MIN,
            lowest: none,
            highest: none,
            gap: none,
            first: none,
            last: none,
            kept: Vec::new(),
            taken: 0,
        }
    }

    /// How many it was given.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    pub(super) fn take(&mut self, reading: &StoredReading) {
        self.taken += 1;
        let column = reading.at.since(self.from) / self.width;
        if column != self.column {
            self.close();
            self.column = column;
        }
        self.first.get_or_insert(*reading);
        self.last = Some(*reading);
        match usable(reading) {
            None => {
                self.gap.get_or_insert(*reading);
            }
            Some(value) => {
                if self.lowest.as_ref().and_then(usable).is_none_or(|low| value < low) {
                    self.lowest = Some(*reading);
                }
                if self.highest.as_ref().and_then(usable).is_none_or(|high| value > high) {
                    self.highest = Some(*reading);
                }
            }
        }
    }

    /// Ends a column.
    fn close(&mut self) {
        let begins = self.kept.len();
        self.kept.extend([self.lowest.take(), self.highest.take(), self.gap.take()].into_iter().flatten());
        self.kept[begins..].sort_by_key(|reading| reading.at);
        self.kept.dedup_by_key(|reading| reading.at);
    }

    /// What is left.
    pub(super) fn finish(mut self) -> Vec<StoredReading> {
        self.close();
        let kept = match self.thin.way {
            Way::MinMax => self.kept,
            Way::Lttb => lttb(&self.kept, self.from, self.width * i64::from(PARTS)),
        };
        let before = self.first.filter(|first| kept.first().is_some_and(|kept| kept.at > first.at));
        let after = self.last.filter(|last| kept.last().is_some_and(|kept| kept.at < last.at));
        before.into_iter().chain(kept).chain(after).collect()
    }
}

fn usable(reading: &StoredReading) -> Option<f64> {
    reading.held.value.filter(|_| reading.held.quality.is_usable())
}

/// One reading of each column, and the first without value.
fn lttb(readings: &[StoredReading], from: Timestamp, width: i64) -> Vec<StoredReading> {
    let columns: Vec<&[StoredReading]> =
        readings.chunk_by(|a, b| a.at.since(from) / width == b.at.since(from) / width).collect();
    let mut chosen: Vec<StoredReading> = Vec::with_capacity(columns.len());
    let mut left: Option<(f64, f64)> = None;
    for (n, column) in columns.iter().enumerate() {
        let right = columns.get(n + 1).and_then(|next| centre(next));
        let points = column.iter().filter_map(|reading| Some((reading, place(reading)?)));
        let best = points.max_by(|(_, a), (_, b)| area(left, *a, right).total_cmp(&area(left, *b, right)));
        let gap = column.iter().find(|reading| usable(reading).is_none());
        let mut both: Vec<StoredReading> = gap.into_iter().chain(best.map(|(reading, _)| reading)).copied().collect();
        both.sort_by_key(|reading| reading.at);
        chosen.extend(both);
        left = best.map(|(_, place)| place).or(left);
    }
    chosen
}

fn place(reading: &StoredReading) -> Option<(f64, f64)> {
    Some((reading.at.0 as f64, usable(reading)?))
}

fn centre(column: &[StoredReading]) -> Option<(f64, f64)> {
    let count = column.iter().filter_map(place).count() as f64;
    let sum = column.iter().filter_map(place).reduce(|a, b| (a.0 + b.0, a.1 + b.1))?;
    Some((sum.0 / count, sum.1 / count))
}

/// Twice the area of the triangle; at the ends of the line, where there is none, every reading is as good as another.
fn area(left: Option<(f64, f64)>, point: (f64, f64), right: Option<(f64, f64)>) -> f64 {
    let (Some(left), Some(right)) = (left, right) else { return 0.0 };
    ((left.0 - right.0) * (point.1 - left.1) - (left.0 - point.0) * (right.1 - left.1)).abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiers::SeriesId;
    use shared::reading::{Held, Quality};

    fn reading(at: i64, value: Option<f64>) -> StoredReading {
        let quality = if value.is_some() { Quality::GOOD } else { Quality::BAD_TIMEOUT };
        StoredReading { series: SeriesId(1), at: Timestamp(at), held: Held { value, quality, revision: 0 } }
    }

    fn sieved(way: Way, pixels: u32, readings: &[StoredReading]) -> Vec<StoredReading> {
        let mut sieve = Sieve::new(Thin { pixels, way }, Timestamp(0), Timestamp(10_000));
        readings.iter().for_each(|reading| sieve.take(reading));
        assert_eq!(sieve.taken(), readings.len() as u64);
        sieve.finish()
    }

    /// A slow wave with one peak, one dip and one failure.
    fn wave() -> Vec<StoredReading> {
        let value = |at: i64| match at {
            3_333 => Some(50.0),
            6_666 => Some(-50.0),
            8_001 => None,
            _ => Some((at as f64 / 900.0).sin()),
        };
        (0..10_000).map(|at| reading(at, value(at))).collect()
    }

    #[test]
    fn no_peak_and_no_gap_is_lost() {
        let all = wave();
        for way in [Way::MinMax, Way::Lttb] {
            let kept = sieved(way, 100, &all);
            assert!(kept.windows(2).all(|pair| pair[0].at < pair[1].at), "{way:?}: ascending");
            for at in [0, 3_333, 6_666, 8_001, 9_999] {
                assert!(kept.contains(&all[at]), "{way:?}: {at}");
            }
            assert!(kept.iter().all(|r| all[r.at.0 as usize] == *r), "{way:?}: readings as they are");
            let most = if way == Way::Lttb { 103 } else { 203 };
            assert!((100..=most).contains(&kept.len()), "{way:?}: {}", kept.len());
        }
    }

    #[test]
    fn few_readings_stay_as_they_are() {
        let few: Vec<_> = (0..50).map(|n| reading(n * 200, (n % 7 > 0).then_some(n as f64))).collect();
        for way in [Way::MinMax, Way::Lttb] {
            assert_eq!(sieved(way, 100, &few), few, "{way:?}");
            assert_eq!(sieved(way, 100, &[]), []);
            assert_eq!(sieved(way, 1, &few[..1]), few[..1]);
        }
    }
}
