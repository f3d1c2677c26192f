//! Minimum night flow: between 02:00 and 04:00 nearly nobody draws water, so what flows then is leakage (and the few who
//! do): a rise of it is a new leak.

use super::{Finding, HOUR, Kind, Severity};
use crate::analytics::robust::{mad, median, sorted};
use crate::rollup::Sample;
use jiff::tz::TimeZone;
use shared::reading::Timestamp;

/// Nights that say what is usual: the last ones that may.
const NIGHTS: usize = 28;
/// Fewer don't.
const NIGHTS_MIN: usize = 7;
/// How many standard deviations (as the MAD has them) and which share of the baseline it must be above.
const DEVIATIONS: f64 = 4.0;
const SHARE: f64 = 0.1;

struct Night {
    start: Timestamp,
    end: Timestamp,
    flow: f64,
}

/// The least of each night's hourly averages, of nights that are known whole. The night in which the clock goes on has no
/// 02:00: its 03:00 is no measure for the others.
fn nights(hours: &[Sample], zone: &TimeZone) -> Vec<Night> {
    let mut nights: Vec<(Night, [bool; 2])> = Vec::new();
    for hour in hours {
        let Ok(at) = jiff::Timestamp::from_microsecond(hour.at.0) else { continue };
        let local = zone.to_datetime(at).hour();
        if !(2..4).contains(&local) {
            continue;
        }
        if nights.last().is_none_or(|(night, _)| hour.at.since(night.start) >= 6 * HOUR) {
            nights.push((Night { start: hour.at, end: hour.at, flow: hour.value }, [false; 2]));
        }
        if let Some((night, known)) = nights.last_mut() {
            (night.end, night.flow) = (hour.at.plus_micros(HOUR), night.flow.min(hour.value));
            known[usize::from(local == 3)] = true;
        }
    }
    nights.into_iter().filter(|(_, known)| *known == [true; 2]).map(|(night, _)| night).collect()
}

/// Nights that end after `from`; `None` when nothing can be said of any of them. `teaches` says of an hour whether it does.
pub(super) fn night_flow(
    hours: &[Sample],
    zone: &TimeZone,
    from: Timestamp,
    teaches: impl Fn(Timestamp) -> bool,
) -> Option<Vec<Finding>> {
    let nights = nights(hours, zone);
    let newest = nights.last()?.start;
    let before = nights.iter().rev().filter(|night| night.end <= from && teaches(night.start)).take(NIGHTS);
    let before = sorted(before.map(|night| night.flow));
    let (usual, most) = (median(&before).filter(|_| before.len() >= NIGHTS_MIN)?, *before.last()?);
    let margin = (DEVIATIONS * mad(&before, usual)?).max(SHARE * usual.abs()).max(f64::MIN_POSITIVE);
    let judge = |night: &Night| {
        let above = night.flow > usual + margin && night.flow > most;
        above.then(|| Finding {
            kind: Kind::NightFlow,
            start: night.start,
            last: night.end,
            ongoing: night.start == newest,
            opens: true,
            severity: if night.flow > usual * 1.5 { Severity::Critical } else { Severity::Warning },
            expected: Some(usual),
            seen: Some(night.flow),
            detail: format!("the least flow of the night is {:.2}, usual is {usual:.2}", night.flow),
        })
    };
    let (_, recent) = nights.split_at(nights.partition_point(|night| night.end <= from));
    (!recent.is_empty()).then(|| recent.iter().filter_map(judge).collect())
}
