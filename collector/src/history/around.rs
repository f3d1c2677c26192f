//! The archive is read around what of it is damaged.

use crate::tiers::{Damage, Day, TierError, TierFuture};
use shared::reading::Timestamp;

/// What is found in `[from, to)`, the first `count_max` in the order of time, and what it was read around. `ask` is asked for
/// stretches, and for how many at most.
///
/// # Errors
/// When it can't be read for another reason.
pub(super) async fn around<'a, T>(
    span: (Timestamp, Timestamp),
    count_max: u32,
    ask: impl Fn(Timestamp, Timestamp, u32) -> TierFuture<'a, Vec<T>>,
) -> Result<(Vec<T>, Vec<Damage>), TierError> {
    let (mut found, mut damage) = (Vec::new(), Vec::new());
    let mut stretches = vec![span];
    while let Some((from, to)) = stretches.pop() {
        let left = count_max.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        if left == 0 {
            break;
        }
        match ask(from, to, left).await {
            Ok(some) => found.extend(some),
            Err(TierError::Damaged { days, why, .. }) if days.start.start() < to && from < days.end.start() => {
                let (begins, ends) = (days.start.start().max(from), days.end.start().min(to));
                let sound = [(ends, to), (from, begins)]; // what is popped first is the earlier one
                stretches.extend(sound.into_iter().filter(|(from, to)| from < to));
                damage.push(Damage { days: (days.start.0..days.end.0).map(Day).collect(), why });
            }
            Err(error) => return Err(error),
        }
    }
    Ok((found, damage))
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // a list of one damaged stretch
mod tests {
    use super::*;

    const DAY: Day = Day(20_000);

    fn day(n: i32) -> Day {
        Day(DAY.0 + n)
    }

    /// An archive that has a reading at noon of each day, of which some are damaged.
    async fn read(
        damaged: &[std::ops::Range<i32>],
        days: std::ops::Range<i32>,
        count_max: u32,
    ) -> (Vec<i32>, Vec<Day>) {
        let noon = |day: Day| day.start().plus_micros(43_200_000_000);
        let look = |from: Timestamp, to: Timestamp, most: u32| {
            let (first, end) = Day::touching(from, to);
            let mut found = Vec::new();
            for n in first.0..end.0 {
                if let Some(bad) = damaged.iter().find(|bad| bad.contains(&(n - DAY.0))) {
                    let days = Day(n)..day(bad.end);
                    return Err(TierError::Damaged { tier: "test", days, why: format!("file {}", bad.start) });
                }
                found.extend(Some(n - DAY.0).filter(|_| from <= noon(Day(n)) && noon(Day(n)) < to));
                if found.len() == most as usize {
                    break;
                }
            }
            Ok(found)
        };
        let ask = |from, to, most| -> TierFuture<'_, Vec<i32>> { Box::pin(std::future::ready(look(from, to, most))) };
        let (found, damage) = around((day(days.start).start(), day(days.end).start()), count_max, ask).await.unwrap();
        (found, damage.into_iter().flat_map(|damage| damage.days).collect())
    }

    #[tokio::test]
    async fn all_that_is_sound_is_found_in_order() {
        assert_eq!(read(&[], 0..3, 9).await, (vec![0, 1, 2], vec![]));
        assert_eq!(read(&[1..2, 3..5, 6..7], 0..7, 9).await, (vec![0, 2, 5], [1, 3, 4, 6].map(day).to_vec()));
        assert_eq!(read(&[0..7], 0..7, 9).await, (vec![], (0..7).map(day).collect()));
    }

    #[tokio::test]
    async fn what_comes_after_the_last_that_is_wanted_is_not_looked_at() {
        assert_eq!(read(&[1..2, 4..5], 0..7, 2).await, (vec![0, 2], vec![day(1)]));
        assert_eq!(read(&[2..3], 0..7, 2).await, (vec![0, 1], vec![]));
    }
}
