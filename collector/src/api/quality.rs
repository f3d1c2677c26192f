//! The daily reports on the quality of data, as JSON and as CSV.

use super::params::Params;
use super::{Api, Problem};
use crate::tiers::{QualityReport, SeriesId, SeriesInfo};
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use shared::ids::NodeId;
use std::collections::{BTreeMap, HashMap};

pub(super) async fn quality(State(api): State<Api>, params: Params) -> Result<Response, Problem> {
    let params = params.only(&["day", "node", "format"])?;
    let day = params.parsed::<jiff::civil::Date>("day", "day like 2026-03-01")?.map(|day| day.to_string());
    let node = params.parsed::<NodeId>("node", "node name")?;
    let as_csv = match params.text("format") {
        None | Some("json") => false,
        Some("csv") => true,
        Some(_) => return Err(Problem::parameter("format", "it is json or csv")),
    };
    let series: HashMap<SeriesId, SeriesInfo> =
        api.sources.warm.series(node.as_ref()).await?.into_iter().map(|series| (series.id, series)).collect();
    let reports = api.sources.warm.quality(day.as_deref()).await?;
    let day = reports.first().map(|report| report.day.clone()).or(day);
    let rows: Vec<(&SeriesInfo, &QualityReport)> =
        reports.iter().filter_map(|report| Some((series.get(&report.series)?, report))).collect();
    if as_csv {
        let headers = [
            (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
            (header::CONTENT_DISPOSITION, format!("attachment; filename=\"quality-{}.csv\"", day.unwrap_or_default())),
        ];
        return Ok((headers, csv(&rows)?).into_response());
    }
    let items: Vec<Value> = rows.iter().map(|(series, report)| view(series, report)).collect();
    let answer = json!({ "day": day, "items": items, "nodes": nodes(&rows), "truncated": false });
    Ok(Json(answer).into_response())
}

fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

fn view(series: &SeriesInfo, report: &QualityReport) -> Value {
    let quality = &report.quality;
    let mut view = super::views::name(series);
    let fields = [
        ("score", json!(quality.score)),
        ("completeness", json!(quality.completeness)),
        ("longest_gap_s", json!(seconds(quality.longest_gap_us))),
        ("spacing_s", json!(quality.spacing_us.map(seconds))),
        ("step", json!(quality.step)),
        (
            "count",
            json!({ "good": quality.good, "uncertain": quality.uncertain, "bad": quality.bad, "manual": quality.manual }),
        ),
        ("made_at", json!(report.made_at)),
    ];
    view.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    Value::Object(view)
}

/// A node is as good as its series are on the average.
fn nodes(rows: &[(&SeriesInfo, &QualityReport)]) -> Vec<Value> {
    let mut nodes = BTreeMap::<&NodeId, (f64, u32)>::new();
    for (series, report) in rows {
        let (sum, count) = nodes.entry(&series.key.node).or_default();
        *sum += report.quality.score;
        *count += 1;
    }
    let view = |(node, (sum, count)): (_, (f64, u32))| json!({ "node": node, "score": sum / f64::from(count), "series": count });
    nodes.into_iter().map(view).collect()
}

fn csv(rows: &[(&SeriesInfo, &QualityReport)]) -> Result<Vec<u8>, Problem> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |error: csv::Error| Problem::parameter("format", format!("it can't be written as CSV: {error}"));
    let head = [
        "day",
        "node",
        "metric",
        "channel",
        "unit",
        "score",
        "completeness",
        "longest_gap_s",
        "spacing_s",
        "step",
        "good",
        "uncertain",
        "bad",
        "manual",
    ];
    writer.write_record(head).map_err(failed)?;
    for (series, report) in rows {
        let (key, quality) = (&series.key, &report.quality);
        let or_empty = |value: Option<f64>| value.map(|v| v.to_string()).unwrap_or_default();
        let row = [
            report.day.clone(),
            key.node.to_string(),
            key.metric.clone(),
            key.channel.clone(),
            series.unit.clone(),
            format!("{:.2}", quality.score),
            format!("{:.6}", quality.completeness),
            seconds(quality.longest_gap_us).to_string(),
            or_empty(quality.spacing_us.map(seconds)),
            or_empty(quality.step),
            quality.good.to_string(),
            quality.uncertain.to_string(),
            quality.bad.to_string(),
            quality.manual.to_string(),
        ];
        writer.write_record(row).map_err(failed)?;
    }
    writer.into_inner().map_err(|error| Problem::parameter("format", format!("it can't be written as CSV: {error}")))
}
