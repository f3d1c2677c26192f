//! Readings of any stretch, out of all tiers, as a CSV or Parquet file that is written while it is read.

use super::document::NotFound;
use super::parameters::{ExportFormat, Named, Series as OfSeries, Stretch};
use super::params::Params;
use super::{Api, Problem, routes, views};
use crate::history::{POINTS_MAX, Points, Question, Resolution};
use crate::tiers::{SeriesInfo, StoredReading};
use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array};
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::StreamExt as _;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use shared::reading::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Pages on their way to a slow client.
const PAGES_AHEAD: usize = 2;
/// Readings of a row group.
const GROUP: usize = 500_000;
const HEADER: &str = "timestamp,node,metric,channel,value,unit,quality,revision\n";
/// How the last line begins of what breaks off; why follows.
pub(crate) const BROKEN_OFF: &str = "\n# broken off: ";
/// The last words are on their way for so long before the connection is cut.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Readings of a series, and from where to go on.
type Page = (Vec<StoredReading>, Option<Timestamp>);
/// Readings of one of the series, or why they can't be read.
type Read = Result<(usize, Vec<StoredReading>), String>;
type Sender = mpsc::Sender<Result<Bytes, std::io::Error>>;

/// Export
///
/// The readings of a stretch, out of all tiers, as a CSV or Parquet file of any length; of all series, or of some. An import
/// reads what it writes. What can't be read from the start is refused. When something goes wrong on the way the last line
/// says what, and the connection is broken off, so that no file looks whole that isn't.
#[utoipa::path(get, path = "/api/v1/export", tag = "Entry", params(OfSeries, Named, Stretch, ExportFormat),
    responses((status = 200, description = "The file.",
        content((String = "text/csv; charset=utf-8"), (Vec<u8> = "application/vnd.apache.parquet"))), NotFound))]
pub(super) async fn export(State(api): State<Api>, params: Params) -> Result<Response, Problem> {
    let now = (api.sources.now)();
    let (from, to) = params.stretch(now)?;
    let (format, kind) = match params.text("format") {
        None | Some("csv") => ("csv", "text/csv; charset=utf-8"),
        Some("parquet") => ("parquet", "application/vnd.apache.parquet"),
        Some(_) => return Err(Problem::parameter("format", "it is csv or parquet")),
    };
    let (series, _) = routes::chosen(&api, &params).await?;
    if series.is_empty() {
        return Err(Problem::unknown("no series fits what is asked for".into()));
    }
    let Ok(turn) = api.exports.clone().try_acquire_owned() else { return Err(Problem::busy()) };
    let (sender, pages) = mpsc::channel(PAGES_AHEAD);
    let pages_of = Arc::new(Pages { api, series, from, to, now });
    let first = pages_of.page(&pages_of.series[0], from).await.map_err(Problem::incomplete)?;
    tokio::spawn(async move {
        let _turn = turn;
        let written = match format {
            "csv" => pages_of.csv(first, &sender).await,
            _ => pages_of.parquet(first, &sender).await,
        };
        // The answer has begun: all that can be done is to say why and to break it off, so that nobody takes it for whole.
        if let Err(why) = written {
            tracing::warn!(why, "an export breaks off");
            let _ = sender.send(Ok(format!("{BROKEN_OFF}{}\n", why.replace('\n', " ")).into())).await;
            tokio::time::sleep(LAST_WORDS).await;
            let _ = sender.send(Err(std::io::Error::other(why))).await;
        }
    });
    let name = format!("attachment; filename=\"readings.{format}\"");
    let headers = [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, name)];
    let stream = futures::stream::unfold(pages, async |mut pages| Some((pages.recv().await?, pages)));
    // Compression asks once more after the end.
    Ok((headers, Body::from_stream(stream.fuse())).into_response())
}

struct Pages {
    api: Api,
    series: Vec<SeriesInfo>,
    from: Timestamp,
    to: Timestamp,
    now: Timestamp,
}

impl Pages {
    /// The next readings of a series.
    async fn page(&self, series: &SeriesInfo, from: Timestamp) -> Result<Page, String> {
        let question = Question {
            series: series.clone(),
            from,
            to: self.to,
            resolution: Resolution::Raw,
            points_max: POINTS_MAX,
            thin: None,
            now: self.now,
        };
        let answer = self.api.history.ask(&question).await.map_err(|error| error.to_string())?;
        if let Some(why) = answer.degraded.first() {
            return Err(format!("{}: {why}", series.key));
        }
        let Points::Raw(readings) = answer.points else { return Err("no readings came".into()) };
        Ok((readings, (answer.truncated && answer.to > from).then_some(answer.to)))
    }

    /// All pages, of which the first is there, series by series: the next is read while one is written.
    fn walk(self: &Arc<Self>, first: Page) -> mpsc::Receiver<Read> {
        let (sender, pages) = mpsc::channel(1);
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let mut ready = Some(first);
            for series in 0..this.series.len() {
                let mut from = Some(this.from);
                while let Some(begins) = from {
                    let page = match ready.take() {
                        Some(first) => Ok(first),
                        None => this.page(&this.series[series], begins).await,
                    };
                    from = page.as_ref().ok().and_then(|(_, then)| *then);
                    let is_last = page.is_err();
                    if sender.send(page.map(|(readings, _)| (series, readings))).await.is_err() || is_last {
                        return;
                    }
                }
            }
        });
        pages
    }

    async fn csv(self: &Arc<Self>, first: Page, to: &Sender) -> Result<(), String> {
        let _ = to.send(Ok(Bytes::from_static(HEADER.as_bytes()))).await;
        let mut walk = self.walk(first);
        while let Some(page) = walk.recv().await {
            let (series, readings) = page?;
            let lines = lines(&self.series[series], &readings).map_err(|error| error.to_string())?;
            if !lines.is_empty() && to.send(Ok(lines.into())).await.is_err() {
                return Ok(()); // nobody listens any more
            }
        }
        Ok(())
    }

    async fn parquet(self: &Arc<Self>, first: Page, to: &Sender) -> Result<(), String> {
        let said = |error: parquet::errors::ParquetError| error.to_string();
        let zstd = ZstdLevel::try_new(3).map_err(said)?;
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(zstd)).build();
        let schema = batch(&self.series[0], &[])?.schema();
        let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties)).map_err(said)?;
        let mut walk = self.walk(first);
        while let Some(page) = walk.recv().await {
            let (series, readings) = page?;
            writer.write(&batch(&self.series[series], &readings)?).map_err(said)?;
            if writer.in_progress_rows() >= GROUP {
                writer.flush().map_err(said)?;
            }
            let ready = std::mem::take(writer.inner_mut());
            if !ready.is_empty() && to.send(Ok(ready.into())).await.is_err() {
                return Ok(());
            }
        }
        writer.finish().map_err(said)?;
        let ready = std::mem::take(writer.inner_mut());
        let _ = to.send(Ok(ready.into())).await;
        Ok(())
    }
}

fn lines(series: &SeriesInfo, readings: &[StoredReading]) -> Result<Vec<u8>, csv::Error> {
    let mut out = csv::Writer::from_writer(Vec::with_capacity(readings.len() * 64));
    let (node, key) = (series.key.node.to_string(), &series.key);
    for reading in readings {
        let held = &reading.held;
        let value = held.value.map_or_else(String::new, |value| value.to_string());
        out.write_record([
            reading.at.to_string().as_str(),
            &node,
            &key.metric,
            &key.channel,
            &value,
            &series.unit,
            views::class(held), // without the reason, so that an import reads it
            &held.revision.to_string(),
        ])?;
    }
    out.into_inner().map_err(|error| error.into_error().into())
}

fn batch(series: &SeriesInfo, readings: &[StoredReading]) -> Result<RecordBatch, String> {
    let same = |text: &str| Arc::new(StringArray::from_iter_values(readings.iter().map(|_| text))) as ArrayRef;
    let times = TimestampMicrosecondArray::from_iter_values(readings.iter().map(|reading| reading.at.0));
    let values: Float64Array = readings.iter().map(|reading| reading.held.value).collect();
    let qualities = StringArray::from_iter_values(readings.iter().map(|reading| reading.held.quality.to_string()));
    let revisions = UInt32Array::from_iter_values(readings.iter().map(|reading| reading.held.revision));
    RecordBatch::try_from_iter_with_nullable([
        ("timestamp", Arc::new(times.with_timezone("UTC")) as ArrayRef, false),
        ("node", same(&series.key.node.to_string()), false),
        ("metric", same(&series.key.metric), false),
        ("channel", same(&series.key.channel), false),
        ("value", Arc::new(values) as ArrayRef, true),
        ("unit", same(&series.unit), false),
        ("quality", Arc::new(qualities) as ArrayRef, false),
        ("revision", Arc::new(revisions) as ArrayRef, false),
    ])
    .map_err(|error| error.to_string())
}
