//! Answers as JSON. Times are RFC 3339 in UTC, values in the canonical unit, numbers that can't be are null.

use crate::history::{Answer, BucketPoint, Points};
use crate::rollup;
use crate::tiers::{GatewayGap, GatewayInfo, Parked, Quarantined, SeriesInfo, StoredReading};
use serde_json::{Map, Value, json};
use shared::ids::{BootId, GatewayId};
use shared::metric::Kind;
use shared::reading::{Held, QualityClass, Timestamp};
use shared::wire::Fix;

fn time(at: Timestamp) -> Value {
    Value::String(at.to_string())
}

/// A series' name, unit and kind.
pub(super) fn name(series: &SeriesInfo) -> Map<String, Value> {
    let fields = [
        ("series", json!(series.id)),
        ("node", json!(series.key.node)),
        ("metric", json!(series.key.metric)),
        ("channel", json!(series.key.channel)),
        ("unit", json!(series.unit)),
        ("kind", json!(series.kind)),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

pub(super) fn series(series: &SeriesInfo) -> Value {
    let mut view = name(series);
    view.insert("gateway".into(), json!(series.gateway));
    view.insert("resolution".into(), json!(series.resolution_exp.map(|exp| 10f64.powi(exp.into()))));
    view.insert("interval_ms".into(), json!(series.interval_ms));
    view.insert("silence_ms_max".into(), json!(series.silence_ms_max));
    view.insert("stale_after_s".into(), stale_after(series));
    Value::Object(view)
}

pub(super) fn class(held: &Held) -> &'static str {
    match held.quality.class() {
        QualityClass::Good => "good",
        QualityClass::Uncertain => "uncertain",
        QualityClass::Bad => "bad",
        QualityClass::Manual => "manual",
    }
}

/// value, quality, and where there are any: reason, revision.
fn put_held(view: &mut Map<String, Value>, held: &Held) {
    view.insert("value".into(), json!(held.value));
    view.insert("quality".into(), json!(class(held)));
    if let Some(reason) = held.quality.reason() {
        view.insert("reason".into(), json!(reason));
    }
    if held.revision > 0 {
        view.insert("revision".into(), json!(held.revision));
    }
}

/// How old a value may be before it says nothing about now, seconds.
fn stale_after(series: &SeriesInfo) -> Value {
    json!(rollup::hold(series.interval_ms, series.silence_ms_max) as f64 / 1e6)
}

/// A newest value as the live feed tells it: whoever listens knows the series.
pub(super) fn value(reading: &StoredReading) -> Value {
    let mut view = Map::new();
    view.insert("series".into(), json!(reading.series));
    view.insert("at".into(), time(reading.at));
    put_held(&mut view, &reading.held);
    Value::Object(view)
}

/// A newest value. It is stale when it is older than a value of this series holds.
pub(super) fn latest(series: &SeriesInfo, reading: &StoredReading, now: Timestamp) -> Value {
    let age = now.since(reading.at);
    let mut view = name(series);
    view.insert("at".into(), time(reading.at));
    view.insert("age_s".into(), json!(age as f64 / 1e6));
    view.insert("stale".into(), json!(age > rollup::hold(series.interval_ms, series.silence_ms_max)));
    view.insert("stale_after_s".into(), stale_after(series));
    put_held(&mut view, &reading.held);
    Value::Object(view)
}

pub(super) fn history(series: &SeriesInfo, answer: &Answer) -> Value {
    let (resolution, points): (_, Vec<Value>) = match &answer.points {
        Points::Raw(readings) => ("raw", readings.iter().map(reading).collect()),
        Points::Buckets(width, points) => (width.as_str(), points.iter().map(|p| bucket(series.kind, p)).collect()),
    };
    let mut view = name(series);
    let label = [
        ("from", time(answer.from)),
        ("to", time(answer.to)),
        ("resolution", json!(resolution)),
        ("truncated", json!(answer.truncated)),
        ("tiers", json!(answer.tiers)),
        ("thinned_from", json!(answer.thinned_from)),
        ("coverage", json!(answer.coverage)),
        ("recomputed", json!(answer.recomputed)),
        ("degraded", json!(answer.degraded)),
        ("points", Value::Array(points)),
    ];
    view.extend(label.map(|(name, value)| (name.to_owned(), value)));
    Value::Object(view)
}

fn reading(reading: &StoredReading) -> Value {
    let mut view = Map::new();
    view.insert("at".into(), time(reading.at));
    put_held(&mut view, &reading.held);
    Value::Object(view)
}

fn bucket(kind: Kind, point: &BucketPoint) -> Value {
    let usable = point.rollup.and_then(|r| r.usable);
    let count = |of: fn(&rollup::Rollup) -> u32| point.rollup.as_ref().map_or(0, of);
    let mut view = json!({
        "at": point.start.to_string(),
        "count": { "good": count(|r| r.good), "uncertain": count(|r| r.uncertain),
                   "bad": count(|r| r.bad), "manual": count(|r| r.manual) },
        "min": usable.map(|u| u.min),
        "max": usable.map(|u| u.max),
        "first": usable.map(|u| u.first.value),
        "last": usable.map(|u| u.last.value),
        "covered_s": point.span.covered as f64 / 1e6,
    });
    // What a kind can't have is left out: the average of a counter or of a state says nothing.
    match kind {
        Kind::Gauge => {
            view["average"] = json!(point.span.average());
            view["sum"] = json!(usable.map(|u| u.sum));
            view["integral"] = json!(point.span.integral);
        }
        Kind::Counter => {
            view["increase"] = json!(point.span.increase);
            view["resets"] = json!(point.span.resets);
        }
        Kind::State => {}
    }
    view
}

pub(super) fn gap(of: &GatewayGap) -> Value {
    json!({
        "gateway": of.gateway,
        "stream": of.stream.to_string(),
        "first": of.gap.seqs.first,
        "last": of.gap.seqs.last,
        "blocks": of.gap.seqs.count(),
        "from": of.gap.span.map(|s| s.0.to_string()),
        "to": of.gap.span.map(|s| s.1.to_string()),
        "reason": of.gap.reason,
    })
}

pub(super) fn gateway(info: &GatewayInfo, presence: Option<Value>) -> Value {
    json!({
        "gateway": info.gateway,
        "first_heard": info.first_heard.to_string(),
        "last_heard": info.last_heard.to_string(),
        "version": info.version,
        "status": info.status,
        "series": info.series,
        "gaps": info.gaps,
        "session": presence,
    })
}

pub(super) fn quarantined(row: &Quarantined) -> Value {
    let mut view = Map::new();
    view.insert("gateway".into(), json!(row.gateway));
    view.insert("stream".into(), json!(row.stream.to_string()));
    view.insert("seq".into(), json!(row.seq));
    view.insert("series".into(), json!(row.series));
    view.insert("at".into(), time(row.at));
    put_held(&mut view, &row.held);
    view.insert("set_aside_because".into(), json!(row.reason));
    view.insert("received".into(), time(row.received));
    Value::Object(view)
}

/// The blocks of one boot; `fix` is what is known of its clock.
pub(super) fn parked(gateway: &GatewayId, boot: BootId, blocks: &[Parked], fix: Option<Fix>) -> Value {
    let bounds = match fix {
        Some(Fix::Unknown { not_before, not_after }) => Some((not_before, not_after)),
        Some(Fix::Known { .. }) | None => None,
    };
    json!({
        "gateway": gateway,
        "boot": boot.to_string(),
        "blocks": blocks.len(),
        "received_first": blocks.iter().map(|b| b.received).min(),
        "received_last": blocks.iter().map(|b| b.received).max(),
        "clock": if bounds.is_some() { "never known" } else { "not known yet" },
        "not_before": bounds.map(|b| b.0),
        "not_after": bounds.map(|b| b.1),
    })
}
