//! What people enter: single readings, corrections, CSV files; and the record of who did.

use super::document::Conflict;
use super::extract::{Sent, unpacked};
use super::parameters::{Change, Changes, File, NewestPage, TEXT_MAX};
use super::params::{List, Params};
use super::routes::Answered;
use super::{Api, Problem, rhythm};
use crate::access::{Principal, Way};
use crate::history::{Points, Question, Resolution};
use crate::import::{self, Dialect, Fold, Last, Mistake, Setting, Settings};
use crate::standing::{Moments, Standing};
use crate::tiers::{AuditWanted, Audited, Flush, SeriesId, SeriesInfo, SeriesKey, StoredReading};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::ids::NodeId;
use shared::metric::Metric;
use shared::reading::{Held, Quality, Timestamp};
use std::collections::{BTreeMap, HashMap, HashSet};
use utoipa::ToSchema;

/// Most bytes of a body.
pub(super) const BODY_BYTES_MAX: usize = 8 << 20;
/// Most readings that are entered at once.
const READINGS_MAX: usize = 1_000;
/// Changes in a list, and at most.
const AUDIT: u32 = 100;
const AUDIT_MAX: u32 = 1_000;
/// Rejects of an answer; more are only counted.
const REJECTS_MAX: usize = 10_000;

/// Readings that someone enters, and why.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = EnteredReadings, example = json!({
    "author": "M. Rossi", "reason": "read from the dial",
    "readings": [{ "node": "DIST_001", "metric": "flow_rate", "at": "2026-11-01T08:00:00Z", "value": 12.5 }],
}))]
struct Form {
    /// Who it is; only where nobody has to log in.
    #[schema(max_length = 500)]
    author: Option<String>,
    /// Why.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
    #[schema(min_items = 1, max_items = 1000)]
    readings: Vec<Entered>,
}

/// A reading that someone enters.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = EnteredReading)]
struct Entered {
    node: NodeId,
    metric: String,
    #[serde(default)]
    channel: String,
    /// When it was; not in the future.
    at: Timestamp,
    /// `null`: what stands there is wrong, and nobody knows better. It can't be left out.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required)]
    value: Option<f64>,
    /// The unit of the value; the metric's own when nothing is said.
    unit: Option<String>,
}

/// What was entered.
#[derive(Serialize, ToSchema)]
pub(super) struct Written {
    /// How many readings were stored.
    written: u64,
    items: Vec<WrittenReading>,
}

/// A reading that was entered, and what stood there before.
#[derive(Clone, Serialize, ToSchema)]
struct WrittenReading {
    /// The series' name.
    series: String,
    at: Timestamp,
    value: Option<f64>,
    quality: String,
    /// How often what stands there was corrected.
    revision: u32,
    /// What stood there; null when nothing did.
    before: Option<Before>,
}

/// What stood there before.
#[derive(Clone, Serialize, ToSchema)]
struct Before {
    value: Option<f64>,
    quality: String,
}

/// Enter readings
///
/// Stores single readings. What stands at their moments is corrected: the new value has a higher revision, so that no
/// sensor's repetition undoes it. All are stored, or none.
#[utoipa::path(post, path = "/api/v1/readings", tag = "Entry", request_body = Form,
    responses((status = 200, body = Written, description = "They are stored."), Conflict))]
pub(super) async fn enter(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    headers: HeaderMap,
    body: Sent,
) -> Answered<Written> {
    super::origin::same_origin(&headers)?;
    let form: Form = body.json()?;
    let who = author(&who, form.author.as_deref())?;
    said("reason", Some(&form.reason))?;
    if form.readings.is_empty() || form.readings.len() > READINGS_MAX {
        return Err(Problem::body(format!("readings: 1 to {READINGS_MAX} at a time; a file is imported")));
    }
    let known = known(&api).await?;
    let now = (api.sources.now)();
    let (mut readings, mut items, mut moments) = (Vec::new(), Vec::new(), HashSet::new());
    for (n, entered) in form.readings.iter().enumerate() {
        let wrong = |why: String| Problem::body(format!("readings[{n}]: {why}"));
        let (node, metric) = (entered.node.clone(), entered.metric.clone());
        let key = SeriesKey { node, metric, channel: entered.channel.clone() };
        let series = known.get(&key).ok_or_else(|| wrong(format!("there is no series {key}")))?;
        let value = canonical(entered, series).map_err(wrong)?;
        if entered.at > now.plus_micros(api.sources.future_max_us) {
            return Err(wrong(format!("{} is in the future", entered.at)));
        }
        if entered.at < Timestamp(0) {
            return Err(wrong(format!("{} is before 1970", entered.at)));
        }
        if !moments.insert((series.id, entered.at)) {
            return Err(wrong(format!("{key} at {} is there twice", entered.at)));
        }
        let before = standing(&api, series, entered.at, now).await?;
        let revision = before.map_or(Some(0), |held| held.revision.checked_add(1));
        let revision = revision
            .ok_or_else(|| Problem::conflict(format!("{key} at {} can't be corrected any more", entered.at)))?;
        let quality = if value.is_some() { Quality::MANUAL } else { Quality::BAD_WITHDRAWN };
        let held = Held { value, quality, revision };
        readings.push(StoredReading { series: series.id, at: entered.at, held });
        items.push(WrittenReading {
            series: key.to_string(),
            at: entered.at,
            value: held.value,
            quality: held.quality.to_string(),
            revision: held.revision,
            before: before.map(|held| Before { value: held.value, quality: held.quality.to_string() }),
        });
    }
    let detail = json!({ "reason": form.reason, "readings": items });
    let audit = Audited { at: now, who, what: "reading".into(), detail };
    let report = (api.sources.write)(Flush { readings, audit: vec![audit], ..Flush::default() }).await?;
    if report.written < items.len() as u64 {
        let detail = "something else was said about the same moment meanwhile, and holds; look again";
        return Err(Problem::conflict(detail.into()));
    }
    Ok(Json(Written { written: report.written, items }))
}

/// Whose change it is: who is logged in; where nobody has to, who is said.
pub(super) fn author(who: &Principal, said: Option<&str>) -> Result<String, Problem> {
    match who.way {
        Way::Session | Way::Token => Ok(who.name.clone()),
        Way::Open | Way::Local => self::said("author", said).map(str::to_owned),
    }
}

pub(super) fn said<'a>(name: &str, text: Option<&'a str>) -> Result<&'a str, Problem> {
    let text = text.unwrap_or_default().trim();
    if text.is_empty() || text.len() > TEXT_MAX {
        return Err(Problem::parameter(name, format!("it must be said, in at most {TEXT_MAX} bytes")));
    }
    Ok(text)
}

pub(super) async fn known(api: &Api) -> Result<HashMap<SeriesKey, SeriesInfo>, Problem> {
    Ok(api.sources.warm.series(None).await?.into_iter().map(|series| (series.key.clone(), series)).collect())
}

/// The value in the series' unit, when it can be believed.
fn canonical(entered: &Entered, series: &SeriesInfo) -> Result<Option<f64>, String> {
    let Some(value) = entered.value else { return Ok(None) };
    let Some(metric) = Metric::named(&series.key.metric) else {
        let same = entered.unit.as_deref().is_none_or(|unit| unit == series.unit);
        return if same { Ok(Some(value + 0.0)) } else { Err(format!("its unit is {}", series.unit)) };
    };
    let unit = entered.unit.as_deref().unwrap_or(metric.unit);
    let conversion = metric
        .conversion(unit)
        .ok_or_else(|| format!("{} can't be said in '{unit}'; known are {}", metric.name, metric.units().join(", ")))?;
    let value = conversion.apply(value);
    import::believable(metric, value)?;
    Ok(Some(value + 0.0))
}

/// What stands at that moment.
async fn standing(api: &Api, series: &SeriesInfo, at: Timestamp, now: Timestamp) -> Result<Option<Held>, Problem> {
    let (from, to) = (at, at.plus_micros(1));
    let (series, resolution) = (series.clone(), Resolution::Raw);
    let answer = api.history.ask(&Question { series, from, to, resolution, points_max: 1, thin: None, now }).await?;
    // What isn't committed yet, the conflict rule judges when it is.
    if let Some(why) = answer.lacks() {
        return Err(Problem::conflict(format!("what stands there can't be looked up now: {why}")));
    }
    let Points::Raw(readings) = answer.points else { return Ok(None) };
    Ok(readings.first().map(|reading| reading.held))
}

/// Changes that people made
///
/// Who entered, imported or decided what, and why; the newest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "Entry", params(Changes, NewestPage::<AUDIT, AUDIT_MAX>),
    responses((status = 200, body = List<Audited>, description = "The changes.")))]
pub(super) async fn audit(State(api): State<Api>, params: Params) -> Answered<List<Audited>> {
    let page = params.newest::<1>(AUDIT, AUDIT_MAX)?;
    let text = |name| params.text(name).map(str::to_owned);
    let before = page.behind.map(|[number]| number);
    let wanted = AuditWanted { who: text("who"), what: text("what"), before, count_max: page.needed() };
    let mut list = page.of(api.sources.warm.audit(&wanted).await?, |(number, _)| [*number]);
    let items = std::mem::take(&mut list.items).into_iter().map(|(_, audited)| audited).collect();
    Ok(Json(list.with(items)))
}

/// What a piece of a file holds, and what became of it.
#[derive(Serialize, ToSchema)]
pub(super) struct Imported {
    /// Nothing was stored: it was only asked what would be.
    dry: bool,
    /// How the file is written, as far as it says so; for the next piece.
    dialect: Dialect,
    /// What its columns were taken for.
    columns: Vec<import::Column>,
    rows: u64,
    /// Readings that can be stored.
    readings: usize,
    /// Lines after the first one.
    lines: u64,
    /// Cells without a value.
    empty: u64,
    /// When the first of these was that aren't there already.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Timestamp>,
    /// When the last of them was.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Timestamp>,
    /// How many rows, or cells of them, can't be taken.
    rejected: u64,
    /// How many of them are too many to be listed.
    left_out: u64,
    /// What can't be taken: at most 10,000 of it. A series of a wide file that isn't there is told once.
    #[schema(max_items = 10_000)]
    rejects: Vec<import::Reject>,
    /// For the next piece.
    last: Last,
    /// Series that were made, or would be: of those something can be stored.
    new: Vec<String>,
    /// Readings that were stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<u64>,
    /// Readings that were there already.
    #[serde(skip_serializing_if = "Option::is_none")]
    unchanged: Option<u64>,
}

/// Import a file
///
/// Stores a piece of a CSV file: a row for each reading, or a column for each series. Every piece begins with the file's
/// first line, or with the first two, when the first is like `sep=;`. It may be sent again; what can be understood in two
/// ways is refused until a parameter says which: the mistake names it. So is a piece in which a quote is left open.
/// `collector import` does all of it.
#[utoipa::path(post, path = "/api/v1/import", tag = "Entry", params(Change, File),
    request_body(content = String, content_type = "text/csv", description = "At most 8 MiB, cut at a line end; plain, a gzip file, or with `Content-Encoding: gzip`, as every body may be.",
        example = "time;Q1\n2026-03-01 00:00;12.5\n"),
    responses((status = 200, body = Imported, description = "What it holds, and what became of it."), Conflict))]
pub(super) async fn import(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    headers: HeaderMap,
    params: Params,
    Sent(body): Sent,
) -> Answered<Imported> {
    super::origin::same_origin(&headers)?;
    let body = if body.starts_with(import::GZIP) { unpacked(body).await? } else { body };
    let (dry, create) = (params.flag("dry")?, params.flag("create")?);
    let said =
        if dry { None } else { Some((author(&who, params.text("author"))?, said("reason", params.text("reason"))?)) };
    let now = (api.sources.now)();
    let settings = settings(&params, now.plus_micros(api.sources.future_max_us))?;
    let revision = params.parsed::<u32>("revision", "revision")?.unwrap_or(0);
    if revision > import::REVISION_MAX {
        return Err(Problem::parameter("revision", format!("0 to {} are possible", import::REVISION_MAX)));
    }
    let first_line = params.parsed::<u64>("first_line", "line number")?.unwrap_or(import::FIRST_LINE);
    let last: Last = json_parameter(&params, "last")?;
    let piece = body.clone();
    let reading = tokio::task::spawn_blocking(move || import::read(&piece, &settings, first_line, &last));
    let read = reading.await.map_err(|error| Problem::body(error.to_string()))?;
    let mut batch = read?;
    let text = import::text(&body, first_line)?;
    let known = known(&api).await?;
    let targets = targets(&known, &batch, create);
    let is_there = |point: &&import::Point| known.contains_key(&batch.series[point.series].key);
    let placed = batch.points.iter().filter(is_there);
    let placed = placed.filter_map(|point| Some((*targets[point.series].as_ref().ok()?, point.at)));
    let mut standing = Moments::of(&*api.sources.warm, api.sources.cold.as_deref(), placed).await?;
    let (mut readings, same) = judge(&mut batch, &targets, &mut standing, revision, &text);
    batch.tidy_rejects();
    let times = || readings.iter().map(|reading| reading.at);
    let mut answer = Imported {
        dry,
        rows: batch.rows,
        readings: readings.len() + same as usize,
        from: times().min(),
        to: times().max(),
        lines: batch.lines.saturating_sub(2),
        empty: batch.empty,
        new: made(&known, &batch, &targets, &readings),
        rejected: batch.rejected,
        left_out: batch.left_out,
        rejects: std::mem::take(&mut batch.rejects),
        last: std::mem::take(&mut batch.last),
        columns: std::mem::take(&mut batch.columns),
        dialect: batch.dialect,
        written: None,
        unchanged: None,
    };
    if let Some((who, reason)) = said {
        rhythm::settle(&*api.sources.warm, &known, &batch.series, &targets, &mut readings).await?;
        let detail = json!({ "reason": reason, "first_line": first_line, "rows": answer.rows, "readings": readings.len(), "revision": revision });
        let audit = Audited { at: now, who, what: "import".into(), detail };
        let report = (api.sources.write)(Flush { readings, audit: vec![audit], ..Flush::default() }).await?;
        answer.written = Some(report.written);
        answer.unchanged = Some(report.unchanged + same);
    }
    Ok(Json(answer))
}

impl From<Mistake> for Problem {
    fn from(mistake: Mistake) -> Self {
        let problem = Problem::body(mistake.why);
        match mistake.setting {
            Some(setting) => problem.naming(setting.as_str()),
            None => problem,
        }
    }
}

/// A series' number, or why nothing can be written to it.
pub(super) type Target = Result<SeriesId, Mistake>;

/// The readings that can be stored, and how many are there already; all others are rejected.
fn judge(
    batch: &mut import::Batch,
    targets: &[Target],
    standing: &mut Moments,
    revision: u32,
    text: &str,
) -> (Vec<StoredReading>, u64) {
    let (mut readings, mut same) = (Vec::with_capacity(batch.points.len()), 0);
    // Of series that can't be written, where each row has one: how many readings, from which line on.
    let (mut nowhere, is_long) = (BTreeMap::<usize, (import::Point, u64)>::new(), batch.is_long());
    for point in std::mem::take(&mut batch.points) {
        let held = Held { revision: point.held.revision.max(revision), ..point.held };
        let mistake = match &targets[point.series] {
            Err(_) if !is_long => {
                nowhere.entry(point.series).or_insert((point, 0)).1 += 1;
                continue;
            }
            Err(mistake) => mistake.clone(),
            Ok(id) => match standing.take(*id, point.at, held) {
                Ok(Standing::New) => {
                    readings.push(StoredReading { series: *id, at: point.at, held });
                    continue;
                }
                // Of days that have left, writing it again would make the archive do them again.
                Ok(Standing::Same) => {
                    same += 1;
                    continue;
                }
                Err(why) => Mistake::until(Setting::Revision, why),
            },
        };
        batch.reject(point.line, 1, mistake, || import::line(text, point.begins));
    }
    for (series, (first, count)) in nowhere {
        let Err(mistake) = &targets[series] else { continue };
        let mut mistake = mistake.clone();
        if count > 1 {
            mistake.why += &format!(" ({count} readings)");
        }
        batch.reject(first.line, count, mistake, || import::line(text, first.begins));
    }
    (readings, same)
}

/// The names of series that have to be made for these readings.
fn made(
    known: &HashMap<SeriesKey, SeriesInfo>,
    batch: &import::Batch,
    targets: &[Target],
    readings: &[StoredReading],
) -> Vec<String> {
    let mut needed: HashSet<SeriesId> = readings.iter().map(|reading| reading.series).collect();
    let new = batch.series.iter().zip(targets).filter(|(named, _)| !known.contains_key(&named.key));
    let new = new.filter(|(_, target)| target.as_ref().is_ok_and(|id| needed.remove(id)));
    new.map(|(named, _)| named.key.to_string()).collect()
}

fn json_parameter<T: Default + serde::de::DeserializeOwned>(params: &Params, name: &str) -> Result<T, Problem> {
    let parse =
        |text| serde_json::from_str(text).map_err(|error| Problem::parameter(name, format!("no such JSON: {error}")));
    params.text(name).map_or_else(|| Ok(T::default()), parse)
}

fn settings(params: &Params, latest: Timestamp) -> Result<Settings, Problem> {
    let one_of = |name: &str, words: &[&str]| match params.text(name) {
        None => Ok(None),
        Some(word) => {
            let found = words.iter().position(|known| *known == word);
            found.map(Some).ok_or_else(|| Problem::parameter(name, format!("it is one of {}", words.join(", "))))
        }
    };
    let folds = [Fold::Refuse, Fold::Earlier, Fold::Later, Fold::Order];
    let zone = params.text("zone").map(|name| {
        jiff::tz::TimeZone::get(name)
            .map_err(|_| Problem::parameter("zone", format!("'{name}' is no time zone like Europe/Rome or UTC")))
    });
    let map: BTreeMap<String, String> = json_parameter(params, "map")?;
    let found: Dialect = json_parameter(params, "found")?;
    Ok(Settings {
        found: Dialect { delimiter: delimiter("found", found.delimiter)?, ..found },
        more: params.flag("more")?,
        rejects_max: Some(REJECTS_MAX),
        dialect: Dialect {
            delimiter: delimiter("delimiter", params.parsed("delimiter", "single character")?)?,
            decimal: one_of("decimal", &[".", ","])?.map(|n| ['.', ','][n]),
            dates: one_of("dates", &["dmy", "mdy"])?.map(|n| [import::DateOrder::Dmy, import::DateOrder::Mdy][n]),
        },
        zone: zone.transpose()?,
        fold: one_of("fold", &["refuse", "earlier", "later", "order"])?.map_or(Fold::Refuse, |n| folds[n]),
        node: params.parsed("node", "node name")?,
        metric: params.text("metric").map(str::to_owned),
        unit: params.text("unit").map(str::to_owned),
        map: map.into_iter().collect(),
        latest: Some(latest),
        ..Settings::default()
    })
}

/// Between columns, as it is said.
fn delimiter(name: &str, said: Option<char>) -> Result<Option<char>, Problem> {
    let fits = |sign: &char| sign.is_ascii() && !sign.is_ascii_alphanumeric() && !matches!(sign, '"' | '\r' | '\n');
    match said.filter(|sign| !fits(sign)) {
        None => Ok(said),
        Some(sign) => {
            let why = format!(
                "'{}' can't stand between columns: a comma, semicolon, tab or another ASCII sign can",
                sign.escape_default()
            );
            Err(Problem::parameter(name, why))
        }
    }
}

/// The number of each series, or why there is none. One that is to be made has a number that nobody has until then.
fn targets(known: &HashMap<SeriesKey, SeriesInfo>, batch: &import::Batch, create: bool) -> Vec<Target> {
    let mut new = HashMap::new();
    let target = |named: &import::Named| match known.get(&named.key) {
        Some(series) if series.unit == named.metric.unit => Ok(series.id),
        Some(series) => Err(format!("{} is stored in {}", named.key, series.unit).into()),
        None if create => {
            let next = SeriesId(u32::MAX - new.len() as u32);
            Ok(*new.entry(named.key.clone()).or_insert(next))
        }
        None => {
            let why = format!("there is no series {}, but it can be made", named.key);
            Err(Mistake::until(Setting::Create, why))
        }
    };
    batch.series.iter().map(target).collect()
}
