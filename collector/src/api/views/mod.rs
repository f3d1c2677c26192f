//! Answers as JSON. Times are RFC 3339 in UTC, values in the canonical unit, numbers that can't be are null. What stands
//! here is what the OpenAPI document says: both come from the same types.

mod operations;

pub(super) use operations::{Gap, Gateway, ParkedBoot, SetAside};

use crate::history::{Answer, BucketPoint, Points, Width};
use crate::rollup;
use crate::tiers::{SeriesId, SeriesInfo, StoredReading};
use serde::{Serialize, Serializer};
use shared::ids::{GatewayId, NodeId};
use shared::metric::Kind;
use shared::reading::{Held, QualityClass, Timestamp};
use std::hash::{Hash as _, Hasher};
use std::sync::Arc;
use utoipa::ToSchema;

/// A series' name, unit and kind.
#[derive(Serialize, ToSchema)]
pub(super) struct SeriesName {
    /// Its number.
    series: SeriesId,
    /// Where it is measured.
    node: NodeId,
    /// What is measured.
    metric: String,
    /// Tells two of a kind apart; mostly empty.
    channel: String,
    /// The unit of all its values.
    unit: String,
    /// How it behaves between readings.
    kind: Kind,
}

impl SeriesName {
    pub(super) fn of(series: &SeriesInfo) -> Self {
        Self {
            series: series.id,
            node: series.key.node.clone(),
            metric: series.key.metric.clone(),
            channel: series.key.channel.clone(),
            unit: series.unit.clone(),
            kind: series.kind,
        }
    }
}

/// A series.
#[derive(Serialize, ToSchema)]
pub(super) struct Series {
    #[serde(flatten)]
    name: SeriesName,
    /// The gateway that writes it.
    gateway: GatewayId,
    /// The smallest step worth keeping.
    resolution: Option<f64>,
    /// Milliseconds between readings; 0 when the sensor decides.
    interval_ms: u32,
    /// An unchanged value is sent again after so many milliseconds; 0 when all are sent.
    silence_ms_max: u32,
    /// A value that is older says nothing about now, seconds.
    stale_after_s: f64,
}

impl Series {
    pub(super) fn of(series: &SeriesInfo) -> Self {
        Self {
            name: SeriesName::of(series),
            gateway: series.gateway.clone(),
            resolution: series.resolution_exp.map(|exp| 10f64.powi(exp.into())),
            interval_ms: series.interval_ms,
            silence_ms_max: series.silence_ms_max,
            stale_after_s: stale_after(series),
        }
    }
}

pub(super) fn class(held: &Held) -> &'static str {
    match held.quality.class() {
        QualityClass::Good => "good",
        QualityClass::Uncertain => "uncertain",
        QualityClass::Bad => "bad",
        QualityClass::Manual => "manual",
    }
}

/// What a reading says.
#[derive(Serialize, ToSchema)]
pub(super) struct Said {
    /// In the series' unit; null when there is none.
    value: Option<f64>,
    /// How far it can be trusted.
    quality: QualityClass,
    /// Why it can't be trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// How often people corrected it.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    revision: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Said {
    pub(super) fn of(held: &Held) -> Self {
        Self {
            value: held.value,
            quality: held.quality.class(),
            reason: held.quality.reason(),
            revision: held.revision,
        }
    }
}

/// How old a value may be before it says nothing about now, seconds.
fn stale_after(series: &SeriesInfo) -> f64 {
    rollup::hold(series.interval_ms, series.silence_ms_max) as f64 / 1e6
}

/// A newest value as the live feed tells it: whoever listens knows the series.
#[derive(Serialize)]
pub(super) struct Value {
    series: SeriesId,
    #[serde(flatten)]
    reading: Reading,
}

impl Value {
    pub(super) fn of(reading: &StoredReading) -> Self {
        Self { series: reading.series, reading: Reading::of(reading) }
    }
}

/// A series, and its name as answers have it.
pub(super) type Named<'a> = (&'a SeriesInfo, &'a Arc<SeriesName>);

/// A name that many answers have.
fn shared<S: Serializer>(name: &Arc<SeriesName>, serializer: S) -> Result<S::Ok, S::Error> {
    name.serialize(serializer)
}

/// A newest value. It is stale when it is older than a value of this series holds.
#[derive(Serialize, ToSchema)]
pub(super) struct Latest {
    #[serde(flatten, serialize_with = "shared")]
    #[schema(value_type = SeriesName)]
    name: Arc<SeriesName>,
    /// When it was.
    at: Timestamp,
    /// How long ago that is, seconds.
    age_s: f64,
    /// It says nothing about now.
    stale: bool,
    /// From which age on it is stale, seconds.
    stale_after_s: f64,
    #[serde(flatten)]
    said: Said,
}

impl Latest {
    pub(super) fn of((series, name): Named<'_>, reading: &StoredReading, now: Timestamp) -> Self {
        let age = now.since(reading.at);
        Self {
            name: name.clone(),
            at: reading.at,
            age_s: age as f64 / 1e6,
            stale: age > rollup::hold(series.interval_ms, series.silence_ms_max),
            stale_after_s: stale_after(series),
            said: Said::of(&reading.held),
        }
    }
}

impl Latest {
    /// What of it changes when something new comes; [`super::directory::Known::tag`] stands for its name.
    pub(super) fn lasting(&self, into: &mut impl Hasher) {
        let Said { value, quality, reason, revision } = &self.said;
        (self.name.series, self.at, self.stale, value.map(f64::to_bits), quality, reason, revision).hash(into);
    }
}

/// A point of a gateway: a series that it writes.
#[derive(Serialize, ToSchema)]
pub(super) struct Point {
    #[serde(flatten)]
    series: Series,
    /// Its newest reading; null when it has none.
    newest: Option<Reading>,
    /// It has none, or one that says nothing about now.
    stale: bool,
}

impl Point {
    pub(super) fn of(series: &SeriesInfo, newest: Option<&StoredReading>, now: Timestamp) -> Self {
        let hold = rollup::hold(series.interval_ms, series.silence_ms_max);
        let stale = newest.is_none_or(|newest| now.since(newest.at) > hold);
        Self { series: Series::of(series), newest: newest.map(Reading::of), stale }
    }
}

/// The past of a series.
#[derive(Serialize, ToSchema)]
pub(super) struct History {
    #[serde(flatten)]
    name: SeriesName,
    /// From when on the points are complete; buckets are whole, so it may be earlier than was asked.
    from: Timestamp,
    /// Until when; earlier than was asked when there were too many points.
    to: Timestamp,
    /// What the points are: readings as they are, or buckets of five minutes, an hour, a UTC day.
    resolution: HistoryResolution,
    /// There is more after `to`.
    truncated: bool,
    /// What to give as `from` for what comes after; null when nothing does.
    next: Option<Timestamp>,
    /// Where they come from: `hot`, `warm`, `cold`.
    tiers: Vec<&'static str>,
    /// The number of readings that the points were chosen from, when they are fewer.
    thinned_from: Option<u64>,
    /// The part of the stretch, up to now, for which a value is known: 0 to 1.
    coverage: f64,
    /// Buckets that were summed up anew because something came late.
    recomputed: u32,
    /// What is missing from the answer, in words; empty when nothing is.
    degraded: Vec<String>,
    /// Ascending in time.
    points: Vec<HistoryPoint>,
}

/// What the points of an answer are.
#[derive(Serialize, ToSchema)]
enum HistoryResolution {
    #[serde(rename = "raw")]
    Raw,
    #[serde(rename = "5m")]
    FiveMinutes,
    #[serde(rename = "1h")]
    Hour,
    #[serde(rename = "1d")]
    Day,
}

impl From<Width> for HistoryResolution {
    fn from(width: Width) -> Self {
        match width {
            Width::FiveMinutes => Self::FiveMinutes,
            Width::Hour => Self::Hour,
            Width::Day => Self::Day,
        }
    }
}

/// A reading, or a bucket.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum HistoryPoint {
    Reading(Reading),
    Bucket(BucketView),
}

impl History {
    pub(super) fn of(series: &SeriesInfo, answer: &Answer) -> Self {
        let (resolution, points) = match &answer.points {
            Points::Raw(readings) => {
                let points = readings.iter().map(|reading| HistoryPoint::Reading(Reading::of(reading)));
                (HistoryResolution::Raw, points.collect())
            }
            Points::Buckets(width, points) => {
                let points = points.iter().map(|point| HistoryPoint::Bucket(BucketView::of(series.kind, point)));
                ((*width).into(), points.collect())
            }
        };
        Self {
            name: SeriesName::of(series),
            from: answer.from,
            to: answer.to,
            resolution,
            truncated: answer.truncated,
            next: answer.truncated.then_some(answer.to),
            tiers: answer.tiers.clone(),
            thinned_from: answer.thinned_from,
            coverage: answer.coverage,
            recomputed: answer.recomputed,
            degraded: answer.degraded.clone(),
            points,
        }
    }
}

/// A reading.
#[derive(Serialize, ToSchema)]
pub(super) struct Reading {
    /// When it was.
    at: Timestamp,
    #[serde(flatten)]
    said: Said,
}

impl Reading {
    fn of(reading: &StoredReading) -> Self {
        Self { at: reading.at, said: Said::of(&reading.held) }
    }
}

/// How many readings there are of each quality.
#[derive(Serialize, ToSchema)]
pub(super) struct Counts {
    pub(super) good: u32,
    pub(super) uncertain: u32,
    pub(super) bad: u32,
    pub(super) manual: u32,
}

/// What is known of a bucket. What its kind can't have is left out: the average of a counter or of a state says nothing.
#[derive(Serialize, ToSchema)]
#[schema(as = Bucket)]
struct BucketView {
    /// Its start.
    at: Timestamp,
    count: Counts,
    /// The least value.
    min: Option<f64>,
    /// The greatest.
    max: Option<f64>,
    /// The first.
    first: Option<f64>,
    /// The last.
    last: Option<f64>,
    /// Seconds for which a value is known.
    covered_s: f64,
    /// Of gauges: the average, each value weighted with the time it held.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    average: Option<Option<f64>>,
    /// Of gauges: the sum of all values.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    sum: Option<Option<f64>>,
    /// Of gauges: value × seconds it held.
    #[serde(skip_serializing_if = "Option::is_none")]
    integral: Option<f64>,
    /// Of counters: the growth, resets taken into account.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    increase: Option<Option<f64>>,
    /// Of counters: how often it fell.
    #[serde(skip_serializing_if = "Option::is_none")]
    resets: Option<u32>,
}

impl BucketView {
    fn of(kind: Kind, point: &BucketPoint) -> Self {
        let usable = point.rollup.and_then(|r| r.usable);
        let count = |of: fn(&rollup::Rollup) -> u32| point.rollup.as_ref().map_or(0, of);
        let (gauge, counter) = (kind == Kind::Gauge, kind == Kind::Counter);
        Self {
            at: point.start,
            count: Counts {
                good: count(|r| r.good),
                uncertain: count(|r| r.uncertain),
                bad: count(|r| r.bad),
                manual: count(|r| r.manual),
            },
            min: usable.map(|u| u.min),
            max: usable.map(|u| u.max),
            first: usable.map(|u| u.first.value),
            last: usable.map(|u| u.last.value),
            covered_s: point.span.covered as f64 / 1e6,
            average: gauge.then(|| point.span.average()),
            sum: gauge.then(|| usable.map(|u| u.sum)),
            integral: gauge.then_some(point.span.integral),
            increase: counter.then_some(point.span.increase),
            resets: counter.then_some(point.span.resets),
        }
    }
}
