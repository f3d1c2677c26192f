//! History as a CSV file of any length: page by page, so that neither side needs memory for it.

use super::{Api, Problem, views};
use crate::history::{Answer, POINTS_MAX, Points, Question};
use crate::tiers::{SeriesInfo, TierError};
use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use shared::reading::{QualityClass, Timestamp};
use std::io;
use tokio::sync::OwnedSemaphorePermit;

const RAW: [&str; 4] = ["time", "value", "quality", "reason"];
const BUCKETS: [&str; 13] = [
    "time",
    "average",
    "min",
    "max",
    "first",
    "last",
    "integral",
    "increase",
    "covered_s",
    "good",
    "uncertain",
    "bad",
    "manual",
];

/// What is left to write.
struct Rest {
    api: Api,
    question: Question,
    /// Whether the next page comes after an earlier one.
    begun: bool,
    _turn: OwnedSemaphorePermit,
}

/// The answer to a question as a file. The first page is asked before the head is sent, so that what can't be answered
/// is refused; a later failure breaks the connection off, since a file that ends early must not look whole.
pub(super) async fn history(api: &Api, question: Question) -> Result<Response, Problem> {
    let Ok(turn) = api.exports.clone().try_acquire_owned() else { return Err(Problem::busy()) };
    let question = Question { points_max: POINTS_MAX, thin: None, ..question };
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{}.csv\"", file_name(&question))),
    ];
    let rest = Rest { api: api.clone(), question, begun: false, _turn: turn };
    let (first, rest) = page(rest).await?;
    let more = stream::unfold((Some(first), rest), async |(ready, rest)| {
        if let Some(ready) = ready {
            return Some((Ok(ready), (None, rest)));
        }
        let rest = rest?;
        match page(rest).await {
            Ok((text, rest)) => Some((Ok(text), (None, rest))),
            Err(error) => Some((Err(io::Error::other(error.to_string())), (None, None))),
        }
    });
    // Compression asks once more after the end.
    Ok((headers, Body::from_stream(more.fuse())).into_response())
}

/// `DIST_001-flow_rate-2026-03-01T00-00-00Z`
fn file_name(question: &Question) -> String {
    let name = format!("{}-{}", question.series.key, question.from);
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '-' }).collect()
}

/// One page of text, and what is left after it.
async fn page(rest: Rest) -> Result<(Vec<u8>, Option<Rest>), TierError> {
    let answer = rest.api.history.ask(&rest.question).await?;
    // A file has no place to say that something is missing. What isn't committed yet would be its newest end.
    if let Some(why) = answer.lacks() {
        return Err(TierError::Unavailable { tier: "history", why: why.to_owned() });
    }
    let failed = |error: csv::Error| TierError::Broken { tier: "CSV", why: error.to_string() };
    let text = text(&rest.question.series, &answer, !rest.begun).map_err(failed)?;
    // A page that brings nothing on would repeat for ever.
    let goes_on = answer.truncated && answer.to > rest.question.from;
    let next = goes_on.then(|| {
        // All pages are of the resolution of the first.
        let resolution = match &answer.points {
            Points::Raw(_) => crate::history::Resolution::Raw,
            Points::Buckets(width, _) => crate::history::Resolution::Buckets(*width),
        };
        let question = Question { from: answer.to, resolution, ..rest.question.clone() };
        Rest { question, begun: true, ..rest }
    });
    Ok((text, next))
}

fn text(series: &SeriesInfo, answer: &Answer, head: bool) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let time = |at: Timestamp| at.to_string();
    match &answer.points {
        Points::Raw(readings) => {
            if head {
                let unit = format!("value ({})", series.unit);
                writer.write_record(RAW.map(|name| if name == "value" { unit.as_str() } else { name }))?;
            }
            for reading in readings {
                let reason = reading.held.quality.reason().unwrap_or_default().to_owned();
                let class = views::class(&reading.held).to_owned();
                writer.write_record([time(reading.at), number(reading.held.value), class, reason])?;
            }
        }
        Points::Buckets(_, points) => {
            if head {
                writer.write_record(BUCKETS)?;
            }
            for point in points {
                let usable = point.rollup.and_then(|rollup| rollup.usable);
                let count = |class| {
                    point.rollup.map_or(0, |rollup| match class {
                        QualityClass::Good => rollup.good,
                        QualityClass::Uncertain => rollup.uncertain,
                        QualityClass::Bad => rollup.bad,
                        QualityClass::Manual => rollup.manual,
                    })
                };
                let gauge = series.kind == shared::metric::Kind::Gauge;
                let counter = series.kind == shared::metric::Kind::Counter;
                writer.write_record([
                    time(point.start),
                    number(point.span.average().filter(|_| gauge)),
                    number(usable.map(|u| u.min)),
                    number(usable.map(|u| u.max)),
                    number(usable.map(|u| u.first.value)),
                    number(usable.map(|u| u.last.value)),
                    number(gauge.then_some(point.span.integral)),
                    number(point.span.increase.filter(|_| counter)),
                    (point.span.covered as f64 / 1e6).to_string(),
                    count(QualityClass::Good).to_string(),
                    count(QualityClass::Uncertain).to_string(),
                    count(QualityClass::Bad).to_string(),
                    count(QualityClass::Manual).to_string(),
                ])?;
            }
        }
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}
