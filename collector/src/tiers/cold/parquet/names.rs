//! Which file holds a day. Pure: what the names of the files say is all there is to know, so one listing is a
//! consistent picture, and one rename changes it.
//!
//! ```text
//! day-2026-01-31.v7.c0ffee12.parquet            one day
//! month-2026-01.3fffffff.v8.5ca1ab1e.parquet    several days of a month, one bit each, the lowest for the 1st
//! ```
//! A day is held by the file with the highest version among those that name it; the others are waste that a crash or
//! a reader left. The last part is the CRC32C of the file's bytes.

use super::shelf::{Known, known};
use crate::tiers::Day;
use object_store::ObjectMeta;
use object_store::path::Path;
use shared::reading::Timestamp;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use time::{Date, Month};

/// What a file's name says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct FileName {
    /// Orders files that hold the same day.
    pub(super) version: u64,
    /// The first day of its month.
    pub(super) month: Day,
    /// Which days of the month it holds.
    pub(super) mask: u32,
    /// CRC32C of its bytes.
    pub(super) crc: u32,
}

/// The first day of the month that a day lies in.
pub(super) fn month_of(day: Day) -> Day {
    let date = day.date();
    Day(day.0 + 1 - date.map_or(1, |date| i32::from(date.day())))
}

impl FileName {
    pub(super) fn new(days: impl IntoIterator<Item = Day>, version: u64, crc: u32) -> Option<Self> {
        let mut days = days.into_iter().peekable();
        let month = month_of(*days.peek()?);
        let mask = days.fold(0, |mask, day| mask | 1 << (day.0 - month.0).clamp(0, 31));
        Some(Self { version, month, mask, crc })
    }

    pub(super) fn days(self) -> impl Iterator<Item = Day> {
        (0..31).filter(move |n| self.mask & 1 << n != 0).map(move |n| Day(self.month.0 + n))
    }

    pub(super) fn parse(path: &Path) -> Option<Self> {
        let mut parts = path.filename()?.split('.');
        let mut next = || parts.next();
        let (what, second) = (next()?, next()?);
        let (month, mask, version) = if let Some(day) = what.strip_prefix("day-") {
            let day: Day = day.parse().ok()?;
            let month = month_of(day);
            (month, 1 << (day.0 - month.0), second)
        } else {
            let month: Day = format!("{}-01", what.strip_prefix("month-")?).parse().ok()?;
            (month, hex(second)?, next()?)
        };
        let version = version.strip_prefix('v')?.parse().ok()?;
        let crc = hex(next()?)?;
        let days = Self { version, month, mask, crc };
        let whole =
            next()? == "parquet" && next().is_none() && days.days().last().is_none_or(|day| month_of(day) == month);
        whole.then_some(days)
    }

    pub(super) fn path(self) -> Path {
        Path::from(self.to_string())
    }
}

fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 16).ok()
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, month, mask, crc } = self;
        let date = month.date().unwrap_or(Date::MIN);
        let (year, number): (i32, Month) = (date.year(), date.month());
        if mask.is_power_of_two() {
            write!(f, "day-{}", Day(month.0 + mask.trailing_zeros() as i32))?;
        } else {
            write!(f, "month-{year:04}-{:02}.{mask:08x}", u8::from(number))?;
        }
        write!(f, ".v{version}.{crc:08x}.parquet")
    }
}

/// A stretch of time, and the file that holds it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Piece {
    pub(super) file: FileName,
    pub(super) meta: ObjectMeta,
    /// The days it is asked for; whole in the file, though the file may hold more.
    pub(super) days: Range<Day>,
}

impl Piece {
    /// Its stretch within `[from, to)`.
    pub(super) fn within(&self, from: Timestamp, to: Timestamp) -> (Timestamp, Timestamp) {
        (self.days.start.start().max(from), self.days.end.start().min(to))
    }
}

/// A file that holds days, and which of its days count.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Holding {
    pub(super) meta: ObjectMeta,
    /// A stretch that has all that counts, or a part of it.
    pub(super) days: Range<Day>,
    /// All days of the file count, so that nothing of it has to be left out.
    pub(super) whole: bool,
}

/// What is there at one moment.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Picture {
    /// All files, by version.
    files: BTreeMap<FileName, ObjectMeta>,
    /// Which file holds a day.
    days: BTreeMap<Day, FileName>,
}

impl Picture {
    pub(super) fn of(listing: impl IntoIterator<Item = ObjectMeta>) -> Self {
        let named = |meta: ObjectMeta| Some((FileName::parse(&meta.location)?, meta));
        let files: BTreeMap<_, _> = listing.into_iter().filter_map(named).collect();
        let days = files.keys().flat_map(|file| file.days().map(|day| (day, *file))).collect();
        Self { files, days }
    }

    pub(super) fn days(&self, from: Day, to: Day) -> impl DoubleEndedIterator<Item = Day> {
        let range = if from < to { from..to } else { from..from };
        self.days.range(range).map(|(day, _)| *day)
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&FileName, &ObjectMeta)> {
        self.files.iter()
    }

    pub(super) fn has(&self, file: &FileName) -> bool {
        self.files.contains_key(file)
    }

    /// A file as it is.
    pub(super) fn meta(&self, file: FileName) -> Option<&ObjectMeta> {
        self.files.get(&file)
    }

    /// What tells it from itself at another time.
    pub(super) fn known(&self, file: FileName) -> Option<Known> {
        self.meta(file).map(known)
    }

    /// How many days are held.
    pub(super) fn count(&self) -> usize {
        self.days.len()
    }

    /// The file that holds a day.
    pub(super) fn holder(&self, day: Day) -> Option<FileName> {
        self.days.get(&day).copied()
    }

    /// The days that a file holds, as long as no later one does.
    pub(super) fn days_of(&self, file: FileName) -> Vec<Day> {
        file.days().filter(|day| self.holder(*day) == Some(file)).collect()
    }

    /// A version above all others.
    pub(super) fn next_version(&self) -> u64 {
        self.files.keys().next_back().map_or(1, |file| file.version.saturating_add(1))
    }

    /// The files that hold days of `from..to`, ascending by time and without overlap.
    pub(super) fn pieces(&self, from: Day, to: Day) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        for day in self.days(from, to) {
            let file = self.days[&day];
            match pieces.last_mut() {
                Some(last) if last.file == file && last.days.end == day => last.days.end = day.next(),
                _ => pieces.push(Piece { file, meta: self.files[&file].clone(), days: day..day.next() }),
            }
        }
        pieces
    }

    /// All files that hold days: one of which every day counts once, another once for each stretch of days that do.
    pub(super) fn holdings(&self) -> Vec<Holding> {
        let held = |file: &FileName, day: &Day| self.days.get(day) == Some(file);
        let is_whole = |file: &FileName| file.days().all(|day| held(file, &day));
        let span = |file: &FileName| Some(file.days().next()?..file.days().last()?.next());
        let whole = self
            .files
            .iter()
            .filter(|(file, _)| is_whole(file))
            .filter_map(|(file, meta)| Some(Holding { meta: meta.clone(), days: span(file)?, whole: true }));
        let pieces = self.pieces(Day::FIRST, Day::LAST.next()).into_iter().filter(|piece| !is_whole(&piece.file));
        let parts = pieces.map(|piece| Holding { meta: piece.meta, days: piece.days, whole: false });
        whole.chain(parts).collect()
    }

    /// Files that hold no day any more.
    pub(super) fn waste(&self) -> Vec<FileName> {
        self.files.keys().filter(|file| file.days().all(|day| self.days.get(&day) != Some(file))).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(name: &str) -> ObjectMeta {
        let last_modified = std::time::SystemTime::UNIX_EPOCH.into();
        ObjectMeta { location: Path::from(name), last_modified, size: 10, e_tag: None, version: None }
    }

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    #[test]
    fn names_say_what_is_in_a_file() {
        for name in [
            "day-2026-01-31.v7.c0ffee12.parquet",
            "month-2024-02.1fffffff.v8.00000001.parquet",
            "month-2026-01.00000003.v18446744073709551615.5ca1ab1e.parquet",
        ] {
            let parsed = FileName::parse(&Path::from(name)).unwrap();
            assert_eq!((parsed.to_string().as_str(), parsed.path()), (name, Path::from(name)));
        }
        let days: Vec<_> =
            FileName::parse(&Path::from("month-2024-02.10000001.v8.00000001.parquet")).unwrap().days().collect();
        assert_eq!(days, [day("2024-02-01"), day("2024-02-29")]);
        for other in [
            "x.parquet",
            "day-2026-02-30.v1.0.parquet",
            "day-2026-02-01.v1.0.parquet#1",
            "month-2026-02.1fffffff.v8.1.parquet",
        ] {
            assert_eq!(FileName::parse(&Path::from(other)), None, "{other}");
        }
    }

    #[test]
    fn the_highest_version_holds_a_day_and_the_rest_is_waste() {
        let picture = Picture::of([
            meta("month-2026-01.0000000f.v5.00000001.parquet"),
            meta("day-2026-01-01.v1.00000002.parquet"),
            meta("day-2026-01-03.v6.00000003.parquet"),
            meta("notes.txt"),
        ]);
        let pieces = picture.pieces(day("2026-01-01"), day("2027-01-01"));
        let said: Vec<_> =
            pieces.iter().map(|p| (p.file.version, p.days.start.to_string(), p.days.end.0 - p.days.start.0)).collect();
        assert_eq!(said, [(5, "2026-01-01".into(), 2), (6, "2026-01-03".into(), 1), (5, "2026-01-04".into(), 1)]);
        assert_eq!(picture.waste().iter().map(|f| f.version).collect::<Vec<_>>(), [1]);
        let held: Vec<_> = picture.holdings().into_iter().map(|h| (h.days.start.to_string(), h.whole)).collect();
        assert_eq!(
            held,
            [("2026-01-03".into(), true), ("2026-01-01".into(), false), ("2026-01-04".to_owned(), false)],
            "of the month only what no later file has"
        );
        assert_eq!(picture.next_version(), 7);
        assert_eq!(picture.days(day("2026-01-04"), day("2026-01-04")).count(), 0);
    }
}
