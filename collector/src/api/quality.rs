//! The daily reports on the quality of data, as JSON and as CSV.

use super::parameters::Reports as OfReports;
use super::params::{List, Params};
use super::views::{Counts, SeriesName};
use super::{Api, Problem};
use crate::tiers::{QualityReport, SeriesId, SeriesInfo};
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use shared::ids::NodeId;
use shared::reading::Timestamp;
use std::collections::{BTreeMap, HashMap};
use utoipa::ToSchema;

/// The reports of a day.
#[derive(Serialize, ToSchema)]
#[schema(as = QualityReports)]
struct Reports {
    /// The day; null while there is no report at all.
    day: Option<String>,
    /// One for each series.
    #[serde(flatten)]
    list: List<Report>,
    /// One for each node.
    nodes: Vec<NodeReport>,
}

/// How good the data of a series is.
#[derive(Serialize, ToSchema)]
#[schema(as = QualityReport)]
struct Report {
    #[serde(flatten)]
    name: SeriesName,
    /// From 0, nothing usable, to 100.
    score: f64,
    /// The part of the day for which a value is known: 0 to 1.
    completeness: f64,
    /// The longest time without one, seconds.
    longest_gap_s: f64,
    /// What mostly lies between two readings, seconds.
    spacing_s: Option<f64>,
    /// The smallest step between two values.
    step: Option<f64>,
    /// The part of its readings that came late: 0 to 1.
    late_share: f64,
    /// How many that are.
    late: u32,
    count: Counts,
    /// When the report was made.
    made_at: Timestamp,
}

/// How good the data of a node is: as its series are on the average.
#[derive(Serialize, ToSchema)]
#[schema(as = NodeQuality)]
struct NodeReport {
    node: NodeId,
    score: f64,
    /// How many series it has.
    series: u32,
}

/// Data quality
///
/// The report on every series' day: completeness, gaps, spacing, and a score; as JSON or as CSV.
#[utoipa::path(get, path = "/api/v1/quality", tag = "Analytics", params(OfReports),
    responses((status = 200, description = "The reports.", content((Reports = "application/json"), (String = "text/csv; charset=utf-8")))))]
pub(super) async fn quality(State(api): State<Api>, params: Params) -> Result<Response, Problem> {
    let day = params.day("day")?.map(|day| day.to_string());
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
    let list = List::whole(rows.iter().map(|(series, report)| Report::of(series, report)).collect());
    Ok(Json(Reports { day, list, nodes: nodes(&rows) }).into_response())
}

fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

impl Report {
    fn of(series: &SeriesInfo, report: &QualityReport) -> Self {
        let quality = &report.quality;
        Self {
            name: SeriesName::of(series),
            score: quality.score,
            completeness: quality.completeness,
            longest_gap_s: seconds(quality.longest_gap_us),
            spacing_s: quality.spacing_us.map(seconds),
            step: quality.step,
            late_share: quality.late_share(),
            late: quality.late,
            count: Counts {
                good: quality.good,
                uncertain: quality.uncertain,
                bad: quality.bad,
                manual: quality.manual,
            },
            made_at: report.made_at,
        }
    }
}

fn nodes(rows: &[(&SeriesInfo, &QualityReport)]) -> Vec<NodeReport> {
    let mut nodes = BTreeMap::<&NodeId, (f64, u32)>::new();
    for (series, report) in rows {
        let (sum, count) = nodes.entry(&series.key.node).or_default();
        *sum += report.quality.score;
        *count += 1;
    }
    let report = |(node, (sum, series)): (&NodeId, (f64, u32))| {
        let node = node.clone();
        NodeReport { node, score: sum / f64::from(series), series }
    };
    nodes.into_iter().map(report).collect()
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
        "late_share",
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
            format!("{:.6}", quality.late_share()),
        ];
        writer.write_record(row).map_err(failed)?;
    }
    writer.into_inner().map_err(|error| Problem::parameter("format", format!("it can't be written as CSV: {error}")))
}
