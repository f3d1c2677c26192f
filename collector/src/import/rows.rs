//! Readings of rows.

use super::columns::{self, Column, Named, Role};
use super::moment::{Clock, Fold, Which};
use super::{Dialect, Mistake, Setting, Settings, quotes};
use crate::tiers::SeriesKey;
use csv::StringRecord;
use serde::Serialize;
use shared::metric::{Conversion, Metric};
use shared::reading::{Held, Quality, Timestamp};
use std::collections::{BTreeMap, HashMap, HashSet};
use utoipa::ToSchema;

/// Higher revisions are no file's: there must be room for corrections.
pub const REVISION_MAX: u32 = 1_000_000;
/// Characters of a row that are shown.
const SHOWN: usize = 300;
/// Most bytes of a reason: what is named in it may be long.
const REASON_MAX: usize = 1_000;

/// The newest row's moment by node, metric and channel as the file has them, where an hour that is twice is near.
pub type Last = BTreeMap<String, Timestamp>;

/// A reading of a file.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Point {
    /// Which of [`Batch::series`].
    pub series: usize,
    /// When.
    pub at: Timestamp,
    /// What, in the canonical unit.
    pub held: Held,
    /// The file's line.
    pub line: u64,
    /// Where its row begins in the piece's text, bytes.
    pub begins: usize,
}

/// A row, or a cell of one, that can't be taken.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[schema(as = ImportReject)]
pub struct Reject {
    /// Its line in the file.
    pub line: u64,
    /// What is wrong.
    pub reason: String,
    /// What puts it right.
    #[serde(rename = "parameter", skip_serializing_if = "Option::is_none")]
    pub setting: Option<Setting>,
    /// The line as it stands there, or as much as is shown of it; with the first of a line's rejects, empty with the others.
    pub text: String,
}

/// What a piece of a file holds.
#[derive(Clone, PartialEq, Debug)]
pub struct Batch {
    /// How the file is written.
    pub dialect: Dialect,
    /// What its columns are.
    pub columns: Vec<Column>,
    /// The series it has values of.
    pub series: Vec<Named>,
    /// Its readings, in the file's order.
    pub points: Vec<Point>,
    /// What can't be taken, as much as is kept of it.
    pub rejects: Vec<Reject>,
    /// How many readings that are, or rows.
    pub rejected: u64,
    /// How many of them aren't among the rejects.
    pub left_out: u64,
    /// Most rejects that are kept.
    rejects_max: usize,
    /// Rows.
    pub rows: u64,
    /// Lines, the first one and those within quotes included.
    pub lines: u64,
    /// Cells without a value.
    pub empty: u64,
    /// For the next piece.
    pub last: Last,
}

impl Batch {
    /// What most often lies between two readings of a series, milliseconds; 0 where nothing can be said.
    #[must_use]
    pub fn interval_ms(&self, series: usize) -> u32 {
        interval_ms(self.points.iter().filter(|p| p.series == series).map(|p| p.at).collect()).0
    }

    /// Whether each row is a reading of one series.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.columns.iter().any(|column| column.role == Role::Value)
    }

    /// Notes that so many readings of a line can't be taken, for one reason.
    pub fn reject(&mut self, line: u64, count: u64, mistake: impl Into<Mistake>, text: impl FnOnce() -> String) {
        let Mistake { why: mut reason, setting } = mistake.into();
        self.rejected += count;
        reason.truncate(reason.floor_char_boundary(REASON_MAX));
        if self.rejects.len() < self.rejects_max {
            self.rejects.push(Reject { line, reason, setting, text: text() });
        } else {
            self.left_out += count;
        }
    }

    /// Brings rejects into the order of lines, and shows each line once.
    pub fn tidy_rejects(&mut self) {
        self.rejects.sort_by_key(|reject| reject.line);
        let mut before = None;
        for reject in &mut self.rejects {
            if before.replace(reject.line) == Some(reject.line) {
                reject.text.clear();
            }
        }
    }
}

/// What most often lies between these moments, milliseconds, by the median, and how many steps say so; 0: there are none.
#[must_use]
pub fn interval_ms(mut times: Vec<Timestamp>) -> (u32, usize) {
    times.sort_unstable();
    let mut steps: Vec<i64> = times.windows(2).map(|pair| pair[1].since(pair[0])).filter(|step| *step > 0).collect();
    steps.sort_unstable();
    let median = steps.get(steps.len() / 2).and_then(|step| u32::try_from(step / 1000).ok());
    (median.unwrap_or(0), steps.len())
}

/// The line that begins at that byte of a piece's text, as much as is shown of it.
#[must_use]
pub fn line(text: &str, begins: usize) -> String {
    let line = text.get(begins..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    line.chars().take(SHOWN).collect()
}

/// A piece of a file.
pub(super) struct Piece<'a> {
    pub(super) text: &'a str,
    /// Where in it the line begins that names the columns, bytes.
    pub(super) begins: usize,
    /// The line after that one.
    pub(super) first_line: u64,
}

pub(super) fn read(
    piece: &Piece<'_>,
    reader: &mut csv::Reader<&[u8]>,
    dialect: Dialect,
    columns: Vec<Column>,
    settings: &Settings,
    last: &Last,
) -> Result<Batch, Mistake> {
    let text = piece.text;
    let clock = Clock { zone: settings.zone.as_ref(), fold: settings.fold, dates: dialect.dates };
    let (mut series, mut fixed) = (Vec::new(), Vec::with_capacity(columns.len()));
    for column in &columns {
        let Role::Series(named) = &column.role else {
            fixed.push(None);
            continue;
        };
        fixed.push(Some((series.len(), named.conversion)));
        series.push((**named).clone());
    }
    let places = Places::of(&columns);
    let mut rows = Rows {
        text,
        settings,
        clock,
        places,
        fixed,
        numbers: HashMap::new(),
        key: String::new(),
        unsure: HashMap::new(),
        unknown: Vec::new(),
    };
    let mut batch = Batch {
        dialect,
        series,
        points: Vec::new(),
        rejects: Vec::new(),
        rejected: 0,
        left_out: 0,
        rejects_max: settings.rejects_max.unwrap_or(usize::MAX),
        rows: 0,
        lines: 0,
        empty: 0,
        last: last.clone(),
        columns,
    };
    let mut record = StringRecord::new();
    loop {
        let begins = reader.position().clone();
        match reader.read_record(&mut record) {
            Ok(false) => {
                batch.lines = reader.position().line();
                batch.last.retain(|_, at| rows.clock.is_near_a_fold(*at));
                rows.take_back(&mut batch);
                return Ok(batch);
            }
            Ok(true) => {
                let ends = reader.position().byte() as usize;
                let (place, row) = piece.row(&begins, ends);
                batch.rows += 1;
                if !settings.complete && record.iter().all(|cell| cell.trim().is_empty()) {
                    continue;
                }
                let taken = match quoted_well(row, place.line, &batch)? {
                    Some(reason) => Err(reason.into()),
                    None => rows.take(&record, place, &mut batch),
                };
                if let Err(mistake) = taken {
                    batch.reject(place.line, 1, mistake, || line(text, place.begins));
                }
            }
            Err(error) => {
                let line = piece.first_line + begins.line().saturating_sub(2);
                return Err(format!("line {line}: {error}").into());
            }
        }
    }
}

impl<'a> Piece<'a> {
    /// A row, and where it is. The reader finds line ends, and empty lines, before a row.
    fn row(&self, begins: &csv::Position, ends: usize) -> (Place, &'a str) {
        let all = &self.text[self.begins + begins.byte() as usize..self.begins + ends];
        let row = all.trim_start_matches(['\r', '\n']);
        let before = all[..all.len() - row.len()].matches('\n').count() as u64;
        // The second line of a piece is its first row.
        let line = (self.first_line + begins.line() + before).saturating_sub(2);
        (Place { line, begins: self.begins + ends - row.len() }, row)
    }
}

/// Why a row can't be taken whose quotes aren't right.
///
/// # Errors
/// When other rows may have become a part of it.
fn quoted_well(row: &str, line: u64, batch: &Batch) -> Result<Option<String>, Mistake> {
    if !row.contains('"') {
        return Ok(None);
    }
    let Some(torn) = quotes::torn(row, batch.dialect.delimiter(), batch.columns.len()) else { return Ok(None) };
    let column = batch.columns.get(torn.cell).map_or_else(|| (torn.cell + 1).to_string(), |column| column.name.clone());
    let why = format!("column {column}: {}", torn.why);
    if torn.swallows { Err(format!("line {}, {why}", line + torn.lines_before).into()) } else { Ok(Some(why)) }
}

/// Where a row is.
#[derive(Clone, Copy)]
struct Place {
    line: u64,
    begins: usize,
}

/// Where what is.
struct Places {
    time: usize,
    time_of_day: Option<usize>,
    node: Option<usize>,
    metric: Option<usize>,
    channel: Option<usize>,
    value: Option<usize>,
    unit: Option<usize>,
    quality: Option<usize>,
    revision: Option<usize>,
}

impl Places {
    fn of(columns: &[Column]) -> Self {
        let place = |role: &Role| columns.iter().position(|column| column.role == *role);
        Self {
            time: place(&Role::Time).unwrap_or_default(), // `plan` made sure
            time_of_day: place(&Role::TimeOfDay),
            node: place(&Role::Node),
            metric: place(&Role::Metric),
            channel: place(&Role::Channel),
            value: place(&Role::Value),
            unit: place(&Role::Unit),
            quality: place(&Role::Quality),
            revision: place(&Role::Revision),
        }
    }
}

struct Rows<'a> {
    text: &'a str,
    settings: &'a Settings,
    clock: Clock<'a>,
    places: Places,
    /// The series of columns that are always the same one's.
    fixed: Vec<Option<(usize, Conversion)>>,
    /// The series' numbers by what the file says.
    numbers: HashMap<String, usize>,
    key: String,
    /// Rows of an hour that was twice, taken for the first one, while the second hasn't come, by node, metric and channel.
    unsure: HashMap<String, Vec<Place>>,
    /// Those of which it didn't.
    unknown: Vec<Place>,
}

impl Rows<'_> {
    fn take(&mut self, record: &StringRecord, row: Place, batch: &mut Batch) -> Result<(), Mistake> {
        whole(record, batch.columns.len())?;
        let cell = |place: Option<usize>| place.and_then(|place| record.get(place)).map_or("", str::trim);
        let (node, metric, channel) = (cell(self.places.node), cell(self.places.metric), cell(self.places.channel));
        let at = self.moment(record, row, &format!("{node}/{metric}/{channel}"), batch)?;
        if self.settings.latest.is_some_and(|latest| at > latest) {
            return Err(format!("{at} is in the future").into());
        }
        if at < Timestamp(0) {
            return Err(format!("{at} is before 1970").into());
        }
        let quality = quality(cell(self.places.quality))?;
        let revision = revision(cell(self.places.revision))?;
        let held = |value| Held { value, quality, revision };
        if self.places.value.is_some() {
            let unit = cell(self.places.unit);
            let (series, conversion) = self.number(&[node, metric, channel, unit], batch, || {
                let node = if node.is_empty() { self.settings.node.clone() } else { Some(columns::node(node)?) };
                let node = node.ok_or("no node")?;
                let metric = columns::known(metric)?;
                let unit = Some(unit).filter(|unit| !unit.is_empty()).or(self.settings.unit.as_deref());
                let key = SeriesKey { node, metric: metric.name.into(), channel: channel.into() };
                Ok(Named { key, metric, unit: unit.map(str::to_owned), conversion: columns::conversion(metric, unit)? })
            })?;
            return Ok(self.value(cell(self.places.value), held, (series, conversion), (at, row), batch)?);
        }
        for place in 0..batch.columns.len() {
            let of_node = match &batch.columns[place].role {
                Role::Series(_) => None,
                Role::OfNode(metric, conversion) => Some((*metric, *conversion)),
                _ => continue,
            };
            let target = match of_node {
                None => self.fixed[place].ok_or("the column has no series")?,
                Some((metric, conversion)) => self.number(&[node, metric.name], batch, || {
                    let (node, channel) = (columns::node(node)?, String::new());
                    Ok(Named {
                        key: SeriesKey { node, metric: metric.name.into(), channel },
                        metric,
                        unit: None,
                        conversion,
                    })
                })?,
            };
            if let Err(why) = self.value(cell(Some(place)), held, target, (at, row), batch) {
                let reason = format!("column {}: {why}", batch.columns[place].name);
                batch.reject(row.line, 1, reason, || line(self.text, row.begins));
            }
        }
        Ok(())
    }

    fn moment(
        &mut self,
        record: &StringRecord,
        row: Place,
        stream: &str,
        batch: &mut Batch,
    ) -> Result<Timestamp, Mistake> {
        let date = record.get(self.places.time).map_or("", str::trim);
        let joined;
        let text = match self.places.time_of_day.and_then(|place| record.get(place)) {
            Some(time) => {
                joined = format!("{date} {}", time.trim());
                &joined
            }
            None => date,
        };
        if self.settings.fold != Fold::Order {
            return Ok(self.clock.read(text, None)?.0);
        }
        let (at, which) = self.clock.read(text, batch.last.get(stream).copied())?;
        self.note(which, row, stream);
        match batch.last.get_mut(stream) {
            Some(last) => *last = at,
            None => drop(batch.last.insert(stream.to_owned(), at)),
        }
        Ok(at)
    }

    /// Rows are of the first hour only when the second comes behind them.
    fn note(&mut self, which: Which, row: Place, stream: &str) {
        match which {
            Which::First => self.unsure.entry(stream.to_owned()).or_default().push(row),
            Which::Second => drop(self.unsure.remove(stream)),
            Which::Only if self.unsure.is_empty() => {}
            Which::Only => self.unknown.extend(self.unsure.remove(stream).unwrap_or_default()),
        }
    }

    /// Rejects the rows of which nobody knows which hour they are of.
    fn take_back(&mut self, batch: &mut Batch) {
        if !self.settings.more {
            self.unknown.extend(self.unsure.drain().flat_map(|(_, rows)| rows));
        }
        if self.unknown.is_empty() {
            return;
        }
        let unknown: HashSet<usize> = self.unknown.iter().map(|row| row.begins).collect();
        batch.points.retain(|point| !unknown.contains(&point.begins));
        for row in &self.unknown {
            let why = "that hour was twice, and its rows are there once: earlier or later?";
            batch.reject(row.line, 1, Mistake::until(Setting::Fold, why), || line(self.text, row.begins));
        }
    }

    /// The series' number in the batch; a new one gets the next.
    fn number(
        &mut self,
        said: &[&str],
        batch: &mut Batch,
        make: impl FnOnce() -> Result<Named, Mistake>,
    ) -> Result<(usize, Conversion), Mistake> {
        self.key.clear();
        for part in said {
            self.key.push_str(part);
            self.key.push('\0');
        }
        if let Some(number) = self.numbers.get(&self.key) {
            return Ok((*number, batch.series[*number].conversion));
        }
        let named = make()?;
        let (number, conversion) = (batch.series.len(), named.conversion);
        batch.series.push(named);
        self.numbers.insert(self.key.clone(), number);
        Ok((number, conversion))
    }

    fn value(
        &self,
        text: &str,
        held: impl Fn(Option<f64>) -> Held,
        (series, conversion): (usize, Conversion),
        (at, Place { line, begins }): (Timestamp, Place),
        batch: &mut Batch,
    ) -> Result<(), String> {
        if !held(None).quality.is_usable() {
            batch.points.push(Point { series, at, held: held(None), line, begins });
            return Ok(());
        }
        let Some(value) = number(text, batch.dialect.decimal.unwrap_or('.'))? else {
            if self.settings.complete {
                return Err(format!("'{text}' is no value, and the quality isn't bad"));
            }
            batch.empty += 1;
            return Ok(());
        };
        let value = conversion.apply(value);
        believable(batch.series[series].metric, value)?;
        // + 0.0: one zero, as everywhere.
        batch.points.push(Point { series, at, held: held(Some(value + 0.0)), line, begins });
        Ok(())
    }
}

/// A row has a cell for each column: otherwise nobody knows which is which. Empty ones behind them are a spreadsheet's.
fn whole(record: &StringRecord, columns: usize) -> Result<(), String> {
    let more = record.iter().skip(columns).any(|cell| !cell.trim().is_empty());
    if record.len() >= columns && !more {
        return Ok(());
    }
    Err(format!(
        "{} cells where the first line names {columns}; does a sign within numbers separate columns, too?",
        record.len()
    ))
}

/// Whether a value is within its metric's range.
///
/// # Errors
/// With the range, when it isn't.
pub fn believable(metric: &Metric, value: f64) -> Result<(), String> {
    let (low, high) = metric.range;
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(format!("{value} {unit} is no {}: {low} to {high} {unit} are possible", metric.name, unit = metric.unit))
}

fn quality(text: &str) -> Result<Quality, String> {
    match text.to_ascii_lowercase().as_str() {
        "" | "good" => Ok(Quality::GOOD),
        "uncertain" => Ok(Quality::UNCERTAIN_SENSOR),
        "bad" => Ok(Quality::BAD_SENSOR_FAULT),
        "manual" => Ok(Quality::MANUAL),
        _ => Err(format!("quality '{text}' is none of good, uncertain, bad, manual")),
    }
}

fn revision(text: &str) -> Result<u32, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let wrong = || format!("'{text}' is no revision: a whole number up to {REVISION_MAX}");
    text.parse().ok().filter(|revision| *revision <= REVISION_MAX).ok_or_else(wrong)
}

/// `None`: there is none.
fn number(text: &str, decimal: char) -> Result<Option<f64>, String> {
    const NONE: &[&str] = &["", "-", "--", "---", "na", "n/a", "nan", "null", "none", "#n/a"];
    if NONE.iter().any(|none| text.eq_ignore_ascii_case(none)) {
        return Ok(None);
    }
    let wrong = || format!("'{text}' is no number");
    let plain = match decimal {
        ',' => std::borrow::Cow::Owned(grouped(text).ok_or_else(wrong)?.replace(',', ".")),
        _ => std::borrow::Cow::Borrowed(text),
    };
    let value: f64 = plain.parse().map_err(|_| wrong())?;
    if value.is_finite() { Ok(Some(value)) } else { Err(wrong()) }
}

/// `1.234.567,8` without its points, where they stand before three digits.
fn grouped(text: &str) -> Option<String> {
    let whole = text.split(',').next()?;
    let mut groups = whole.split('.');
    let first = groups.next()?.trim_start_matches(['-', '+']);
    let rest: Vec<&str> = groups.collect();
    let fits = rest.is_empty() || first.len() <= 3 && rest.iter().all(|group| group.len() == 3);
    fits.then(|| text.replace('.', ""))
}
