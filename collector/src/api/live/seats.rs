//! What one watcher has yet to be told: one place for each series it watches, which holds the newest value only. So a
//! slow watcher costs no more than a fast one, and what it is told is never old. Pure.

use crate::tiers::{SeriesId, StoredReading};
use shared::reading::{Held, Timestamp};
use std::collections::HashMap;

/// The places.
#[derive(Default)]
pub(super) struct Seats {
    seats: HashMap<SeriesId, Seat>,
    news: Vec<SeriesId>,
    /// Whether the watcher has the snapshot that everything builds on.
    open: bool,
}

#[derive(Default)]
struct Seat {
    newest: Option<(Timestamp, Held)>,
    told: bool,
}

impl Seats {
    /// Watches these instead of all before; nothing is news before [`Seats::open`].
    pub(super) fn watch(&mut self, series: impl IntoIterator<Item = SeriesId>) {
        self.seats = series.into_iter().map(|id| (id, Seat { newest: None, told: true })).collect();
        self.news.clear();
        self.open = false;
    }

    /// Takes a reading; whether it is news. What is older than what is known, or loses against it, is none.
    pub(super) fn offer(&mut self, reading: &StoredReading) -> bool {
        let Some(seat) = self.seats.get_mut(&reading.series) else { return false };
        let newer =
            seat.newest.is_none_or(|(at, held)| reading.at > at || reading.at == at && reading.held.wins_over(&held));
        if newer {
            seat.newest = Some((reading.at, reading.held));
            if std::mem::replace(&mut seat.told, false) {
                self.news.push(reading.series);
            }
        }
        newer && self.open
    }

    /// Everything that is known, which is told with this.
    pub(super) fn open(&mut self) -> Vec<StoredReading> {
        self.open = true;
        self.news.clear();
        let told = |(id, seat): (&SeriesId, &mut Seat)| {
            seat.told = true;
            seat.newest.map(|(at, held)| StoredReading { series: *id, at, held })
        };
        self.seats.iter_mut().filter_map(told).collect()
    }

    /// What is new since the last time, which is told with this.
    pub(super) fn news(&mut self) -> Vec<StoredReading> {
        if !self.open {
            return Vec::new();
        }
        let seats = &mut self.seats;
        let told = |id: SeriesId| {
            let seat = seats.get_mut(&id)?;
            seat.told = true;
            seat.newest.map(|(at, held)| StoredReading { series: id, at, held })
        };
        self.news.drain(..).filter_map(told).collect()
    }

    /// All that are watched.
    pub(super) fn series(&self) -> Vec<SeriesId> {
        self.seats.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::reading::Quality;

    fn reading(series: u32, at: i64, value: f64) -> StoredReading {
        let held = Held { value: Some(value), quality: Quality::GOOD, revision: 0 };
        StoredReading { series: SeriesId(series), at: Timestamp(at), held }
    }

    fn told(mut readings: Vec<StoredReading>) -> Vec<(u32, i64)> {
        readings.sort_by_key(|reading| reading.series);
        readings.iter().map(|reading| (reading.series.0, reading.at.0)).collect()
    }

    #[test]
    fn a_slow_watcher_is_told_the_newest_only() {
        let mut seats = Seats::default();
        seats.watch([1, 2].map(SeriesId));
        assert!(!seats.offer(&reading(1, 10, 1.0)), "before the snapshot nothing is news");
        assert_eq!(told(seats.news()), []);
        assert_eq!(told(seats.open()), [(1, 10)]);
        for at in 11..1_000 {
            assert!(seats.offer(&reading(1, at, 1.0)));
        }
        assert!(seats.offer(&reading(2, 5, 1.0)) && !seats.offer(&reading(3, 5, 1.0)));
        assert_eq!(told(seats.news()), [(1, 999), (2, 5)]);
        assert_eq!(told(seats.news()), []);
    }

    #[test]
    fn nothing_goes_back_in_time() {
        let mut seats = Seats::default();
        seats.watch([SeriesId(1)]);
        seats.open();
        assert!(seats.offer(&reading(1, 10, 1.0)));
        assert!(!seats.offer(&reading(1, 9, 2.0)), "late data is for history");
        assert!(!seats.offer(&reading(1, 10, 1.0)), "the same again");
        assert!(seats.offer(&reading(1, 10, 2.0)), "by the rule, the larger wins");
        seats.watch([SeriesId(1)]);
        assert_eq!(told(seats.news()), [], "watching anew forgets");
    }
}
