//! Hours against the same hour of the weeks before.

use super::{Finding, HOUR, Kind, Severity};
use crate::analytics::robust::{mad, median, sorted};
use crate::analytics::week::{Alike, Profile};
use crate::rollup::Sample;
use jiff::tz::TimeZone;
use shared::reading::Timestamp;

/// Standard deviations, as the MAD has them, from which an hour is out of the ordinary, and from which it is critical.
const DEVIATIONS: f64 = 6.0;
const DEVIATIONS_CRITICAL: f64 = 12.0;
/// Days that are needed while there are not enough weeks.
const DAYS_MIN: usize = 7;
/// Hours without a finding that don't part two of them.
const JOIN: i64 = 3 * HOUR;

/// The hours from `from` on; `None` when nothing can be said of any of them. `teaches` says of an hour whether it does.
pub(super) fn profile(
    hours: &[Sample],
    zone: &TimeZone,
    from: Timestamp,
    teaches: impl Fn(Timestamp) -> bool,
) -> Option<Vec<Finding>> {
    let taught: Vec<Sample> = hours.iter().filter(|hour| hour.at < from && teaches(hour.at)).copied().collect();
    let profile = Profile::of(&taught, zone);
    // A few values may lie together by chance: no hour is taken to vary less than most hours do.
    let scales = taught.iter().filter_map(|hour| scale(profile.alike(hour.at)?));
    let common = median(&sorted(scales))?;
    let newest = hours.last()?.at;
    let (mut found, mut judged) = (Vec::<Finding>::new(), false);
    for hour in hours.iter().filter(|hour| hour.at >= from) {
        let Some((usual, deviations)) = judge(&profile, hour, common) else { continue };
        judged = true;
        if deviations <= DEVIATIONS {
            continue;
        }
        let severity = if deviations > DEVIATIONS_CRITICAL { Severity::Critical } else { Severity::Warning };
        let (seen, last) = (hour.value, hour.at.plus_micros(HOUR));
        let detail = format!("an hour of {seen:.2}, usual is {usual:.2}");
        let worse =
            |one: &Finding| (seen - usual).abs() > one.seen.zip(one.expected).map_or(0.0, |(s, e)| (s - e).abs());
        match found.last_mut().filter(|one| hour.at.since(one.last) <= JOIN) {
            Some(one) => {
                (one.last, one.ongoing) = (last, hour.at == newest);
                if worse(one) {
                    (one.expected, one.seen, one.detail) = (Some(usual), Some(seen), detail);
                }
                one.severity = one.severity.max(severity);
            }
            None => found.push(Finding {
                kind: Kind::Profile,
                start: hour.at,
                last,
                ongoing: hour.at == newest,
                opens: true,
                severity,
                expected: Some(usual),
                seen: Some(seen),
                detail,
            }),
        }
    }
    judged.then_some(found)
}

fn scale(alike: Alike<'_>) -> Option<f64> {
    mad(alike.values(), median(alike.values())?)
}

/// What is usual, and how many deviations it is away; `None` when too little is known.
fn judge(profile: &Profile, hour: &Sample, common: f64) -> Option<(f64, f64)> {
    let alike = profile.alike(hour.at)?;
    let values = alike.values();
    let (usual, width) = (median(values)?, values.last()? - values.first()?);
    let least = match alike {
        Alike::Weekly(_) => 0.0,
        // Weekdays and weekends are thrown together here: all that was seen is usual, and somewhat more.
        Alike::Daily(values) if values.len() >= DAYS_MIN => width / 4.0,
        Alike::Daily(_) => return None,
    };
    // What rounding does to an average is nothing.
    let rounding = 1e-6 * (usual.abs() + hour.value.abs()) + f64::MIN_POSITIVE;
    let scale = scale(alike)?.max(common).max(least).max(rounding);
    Some((usual, (hour.value - usual).abs() / scale))
}
