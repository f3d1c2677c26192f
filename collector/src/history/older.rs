//! What is older than the hot tier's part: from the warm tier, and from the archive for days that have left it.

use super::around::around;
use super::{History, Notes, plan};
use crate::etl::ledger::{DayEntry, Raw};
use crate::tiers::{Damage, Day, SeriesId, StoredReading, TierError, TierFuture, merge};
use shared::reading::Timestamp;

/// What the archive says of a stretch.
#[derive(Default)]
pub(super) struct Archived<T> {
    pub(super) found: T,
    /// Whether it holds any day of it.
    pub(super) held: bool,
    /// What of the stretch it should say and can't.
    pub(super) lacks: Vec<String>,
}

impl<T> Archived<T> {
    /// What was found around damage. Of `left`, if that is known, it should have all.
    pub(super) fn of((found, damage): (T, Vec<Damage>), mut days: Self, left: Option<&[Day]>) -> Self {
        for Damage { days: mut damaged, why } in damage {
            damaged.retain(|day| left.is_none_or(|left| left.contains(day)));
            let lacks = plan::lacking(&damaged, &[]);
            days.lacks.extend(lacks.map(|days| format!("the archive can't say all of {days}: {why}")));
        }
        Self { found, ..days }
    }
}

impl Archived<Vec<StoredReading>> {
    /// Days that never left this database are another one's, and its series have other numbers: an archive that is named by
    /// mistake, or a database that was made anew. Of days that are still here nothing is lost by it.
    fn drop_foreign(&mut self, left: &Left, place: &str) {
        let mut foreign = 0;
        self.found.retain(|reading| {
            let day = Day::of(reading.at); // looked for quickly: a year has many readings and many days
            let has_left = left.days.binary_search(&day).is_ok();
            foreign += u32::from(!has_left && left.here.binary_search(&day).is_err());
            has_left
        });
        if foreign > 0 {
            self.lacks.push(format!(
                "{foreign} readings in {place} are of days that this database never archived, and are not shown: is it another \
                 installation's archive, or the database a new one?"
            ));
        }
    }
}

/// The readings of a stretch, and whether these are all.
pub(super) struct Older {
    pub(super) readings: Vec<StoredReading>,
    pub(super) whole: bool,
}

/// What has left the warm tier.
struct Left {
    /// It is before this.
    until: Timestamp,
    /// The days of the stretch in question, ascending,
    days: Vec<Day>,
    /// and those of it, before `until`, that haven't left.
    here: Vec<Day>,
}

/// What both said of a stretch.
pub(super) enum Said<W, C> {
    /// Warm, and the archive for what has left it, if it answers for that.
    Warm(W, Option<Archived<C>>),
    /// The archive alone.
    Cold(Archived<C>),
    /// Nothing, but the answer has another part.
    Nothing,
}

impl History {
    /// The readings of `[from, to)`, the first `count_max` of them.
    ///
    /// # Errors
    /// When nobody answers for any of it, and the hot tier had nothing to say.
    pub(super) async fn older(
        &self,
        series: SeriesId,
        (from, to): (Timestamp, Timestamp),
        count_max: u32,
        notes: &mut Notes,
    ) -> Result<Older, TierError> {
        let warm = async {
            let found = self.warm.range(series, from, to, count_max).await?;
            Ok::<_, TierError>((found, self.left(from, to).await?))
        };
        let (warm, until, left) = match warm.await {
            Ok((found, left)) => (Ok(found), left.until.max(from).min(to), Some(left)),
            Err(error) => (Err(error), to, None),
        };
        let cold = self.archived(series, (from, until), left, count_max).await;
        let whole = warm.is_ok() && cold.as_ref().is_ok_and(|cold| cold.lacks.is_empty());
        let readings = match self.said(warm, cold, (from, until, to), notes)? {
            Said::Warm(warm, Some(cold)) => merge(cold.found, warm),
            Said::Warm(warm, None) => warm,
            Said::Cold(cold) => cold.found,
            Said::Nothing => Vec::new(),
        };
        Ok(Older { readings, whole })
    }

    /// Notes who has answered, and what nobody has answered for. `until` is where the archive's part ends.
    pub(super) fn said<W, C>(
        &self,
        warm: Result<W, TierError>,
        cold: Result<Archived<C>, TierError>,
        (from, until, to): (Timestamp, Timestamp, Timestamp),
        notes: &mut Notes,
    ) -> Result<Said<W, C>, TierError> {
        let asked = from < until;
        if let Ok(cold) = &cold {
            notes.cold |= cold.held;
            cold.lacks.iter().for_each(|lacks| notes.lacks(lacks.clone()));
        }
        match (warm, cold) {
            (Ok(warm), Ok(cold)) => {
                notes.warm |= until < to;
                Ok(Said::Warm(warm, asked.then_some(cold)))
            }
            // When nothing was said yet. Of what is broken more isn't known by asking again.
            (Ok(_), Err(error @ TierError::Unavailable { .. })) if until >= to && !notes.hot && !notes.warm => {
                Err(error)
            }
            (Ok(warm), Err(error)) => {
                notes.warm |= until < to;
                notes.lacks(format!("{error}: what is before {until} is missing"));
                Ok(Said::Warm(warm, None))
            }
            (Err(error), Ok(cold)) if cold.held => {
                notes.lacks(format!("{error}: what is not in the archive yet is missing"));
                Ok(Said::Cold(cold))
            }
            (Err(error), _) if notes.hot => {
                notes.lacks(format!("{error}: what is before {to} is missing"));
                Ok(Said::Nothing)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// What has left the warm tier of a stretch. Asked after the stretch itself: what leaves in between is found twice
    /// then, and what left before is known to have.
    async fn left(&self, from: Timestamp, to: Timestamp) -> Result<Left, TierError> {
        let until = self.warm.complete_from().await?;
        if until <= from {
            return Ok(Left { until, days: Vec::new(), here: Vec::new() });
        }
        let (first, end) = Day::touching(from, to.min(until));
        let days = self.warm.days().days(first, end).await?;
        let (here, left): (Vec<_>, Vec<_>) = days.iter().partition(|entry| entry.raw == Raw::Here);
        let days = |entries: Vec<&DayEntry>| entries.iter().map(|entry| entry.day).collect();
        Ok(Left { until, days: days(left), here: days(here) })
    }

    async fn archived(
        &self,
        series: SeriesId,
        (from, to): (Timestamp, Timestamp),
        left: Option<Left>,
        count_max: u32,
    ) -> Result<Archived<Vec<StoredReading>>, TierError> {
        let Some(cold) = self.cold.as_ref().filter(|_| from < to) else { return Ok(self.no_archive(from, to)) };
        let found = around((from, to), count_max, |from, to, most| cold.range(series, from, to, most));
        let gone = left.as_ref().map(|left| &left.days[..]);
        let (found, days) = futures::join!(found, self.held_days(from, to, gone));
        let mut archived = Archived::of(found?, days?, gone);
        if let Some(left) = &left {
            archived.drop_foreign(left, &cold.place());
        }
        Ok(archived)
    }

    /// What is to be said when there is none to ask, or nothing to ask it for.
    pub(super) fn no_archive<T: Default>(&self, from: Timestamp, to: Timestamp) -> Archived<T> {
        let lacks = (from < to).then(|| format!("the archive doesn't hold anything before {to}: none is configured"));
        Archived { lacks: lacks.into_iter().collect(), ..Archived::default() }
    }

    /// Which days of a stretch the archive holds: whether any, and which of those that have left it lacks. When nobody
    /// can say which have, all since its first one should be there.
    pub(super) async fn held_days<T: Default>(
        &self,
        from: Timestamp,
        to: Timestamp,
        left: Option<&[Day]>,
    ) -> Result<Archived<T>, TierError> {
        let Some(cold) = &self.cold else { return Ok(Archived::default()) };
        let (first, end) = Day::touching(from, to);
        let days = cold.days(Day::FIRST, end).await?;
        let held = days.last().is_some_and(|last| *last >= first);
        let lacks = match left {
            Some(left) => plan::lacking(left, &days),
            None => days.first().and_then(|begins| plan::missing(&days, first.max(*begins), end)),
        };
        let lacks = lacks.map(|days| format!("the archive doesn't hold {days}"));
        Ok(Archived { found: T::default(), held, lacks: lacks.into_iter().collect() })
    }

    /// The last reading before a moment, and the last that has a value; what may be wrong about them is noted.
    pub(super) async fn last_older(&self, series: SeriesId, before: Timestamp, notes: &mut Notes) -> Last {
        let warm = async {
            let found = last(|usable| self.warm.last_before(series, before, usable)).await?;
            Ok::<_, TierError>((self.warm.complete_from().await?, found)) // after the look: see `left`
        };
        let (floor, found) = match warm.await {
            Ok((floor, found)) => (Some(floor), found),
            Err(error) => {
                notes.lacks(format!("{error}: the value before {before} may be missing"));
                (None, (None, None))
            }
        };
        // What is found in the time that the warm tier holds whole needs no second word.
        let sure = |found: &Option<StoredReading>| found.is_some_and(|r| floor.is_some_and(|floor| r.at >= floor));
        let Some(cold) = &self.cold else { return found };
        if floor == Some(Timestamp(i64::MIN)) || sure(&found.0) && sure(&found.1) {
            return found;
        }
        let until = floor.map_or(before, |floor| floor.min(before));
        match last(|usable| cold.last_before(series, until, usable)).await {
            Ok(cold) if floor.is_some() => {
                let (a, b) = futures::join!(self.of_a_day_that_left(cold.0), self.of_a_day_that_left(cold.1));
                (newer(found.0, a), newer(found.1, b))
            }
            Ok(cold) => (newer(found.0, cold.0), newer(found.1, cold.1)),
            Err(error) => {
                notes.lacks(format!("{error}: the value before {before} may be missing"));
                found
            }
        }
    }
}

impl History {
    /// As [`Archived::drop_foreign`].
    async fn of_a_day_that_left(&self, reading: Option<StoredReading>) -> Option<StoredReading> {
        let day = Day::of(reading?.at);
        let entry = self.warm.days().days(day, day.next()).await.ok()?;
        reading.filter(|_| entry.iter().any(|entry| entry.raw != Raw::Here))
    }
}

/// The last reading, and the last with a value.
pub(super) type Last = (Option<StoredReading>, Option<StoredReading>);

/// Mostly the last one has a value, and needs no second look.
async fn last<'a>(look: impl Fn(bool) -> TierFuture<'a, Option<StoredReading>>) -> Result<Last, TierError> {
    let last = look(false).await?;
    match last {
        Some(reading) if reading.held.value.is_none() || !reading.held.quality.is_usable() => {
            Ok((last, look(true).await?))
        }
        _ => Ok((last, last)),
    }
}

fn newer(a: Option<StoredReading>, b: Option<StoredReading>) -> Option<StoredReading> {
    a.into_iter().chain(b).max_by(|a, b| a.at.cmp(&b.at).then(a.held.contest(&b.held)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::reading::{Held, Quality};

    #[test]
    fn only_days_that_nobody_here_knows_are_another_ones() {
        let held = Held { value: Some(1.0), quality: Quality::GOOD, revision: 0 };
        let reading = |day: i32| StoredReading { series: SeriesId(1), at: Day(day).start(), held };
        let left = Left { until: Day(5).start(), days: vec![Day(1)], here: vec![Day(2)] };
        let mut archived = Archived { found: vec![reading(1), reading(2)], held: true, lacks: Vec::new() };
        archived.drop_foreign(&left, "/srv/cold");
        assert_eq!((archived.found, archived.lacks), (vec![reading(1)], Vec::new()), "what is here is asked here");
        let mut archived = Archived { found: vec![reading(1), reading(3)], held: true, lacks: Vec::new() };
        archived.drop_foreign(&left, "/srv/cold");
        assert_eq!(archived.found, [reading(1)]);
        assert!(archived.lacks[0].starts_with("1 readings in /srv/cold are of days that"), "{:?}", archived.lacks);
    }
}
