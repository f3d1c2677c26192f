//! How a file is written.

use super::columns::{Column, Role};
use super::{Mistake, Setting, Settings, encoding};
use csv::StringRecord;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::io::Read as _;
use utoipa::ToSchema;

/// Lines that are looked at.
const SAMPLE: usize = 200;
const DELIMITERS: &[u8] = b",;\t|";
/// UTF-8's byte order mark.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// What comes first in a date of three numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DateOrder {
    /// 31/12/2025
    Dmy,
    /// 12/31/2025
    Mdy,
}

/// How a file is written; what is `None` is found out, or nothing in the file has said it yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = ImportDialect)]
pub struct Dialect {
    /// Between columns.
    pub delimiter: Option<char>,
    /// Between a number's whole part and its fraction: `.` or `,`.
    pub decimal: Option<char>,
    /// Where dates are written with slashes or dots.
    pub dates: Option<DateOrder>,
}

impl Dialect {
    pub(super) fn delimiter(&self) -> u8 {
        self.delimiter.map_or(b',', |c| c as u8)
    }
}

/// The text, without a byte order mark, and with line ends of today. Its second line is `first_line` of the whole file.
pub(super) fn text(bytes: &[u8], first_line: u64) -> Result<Cow<'_, str>, Mistake> {
    if let Some(why) = encoding::no_text(bytes) {
        return Err(why.into());
    }
    let text = match encoding::utf16(bytes) {
        None => Cow::Borrowed(utf8(bytes.strip_prefix(MARK).unwrap_or(bytes), first_line)?),
        Some(is_big) => {
            let mut text = String::new();
            let read = encoding::Utf16::new(&bytes[2..], is_big).read_to_string(&mut text);
            read.map_err(|error| error.to_string())?;
            text.into()
        }
    };
    Ok(if encoding::ends_with_returns(text.as_bytes()) { text.replace('\r', "\n").into() } else { text })
}

fn utf8(bytes: &[u8], first_line: u64) -> Result<&str, Mistake> {
    std::str::from_utf8(bytes).map_err(|error| {
        let line = match bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() as u64 {
            0 => 1,
            ends => first_line + ends - 1,
        };
        Mistake::from(format!(
            "line {line} is not UTF-8; convert the file first, like: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW"
        ))
    })
}

/// What stands between columns by a first line like `sep=;`, which spreadsheets write, and how long that line is, bytes.
pub(super) fn preface(text: &str) -> Option<(char, usize)> {
    let line = text.split_inclusive('\n').next()?;
    let (word, sign) = line.trim_end_matches(['\r', '\n']).split_at_checked(4)?;
    let sign = sign.parse().ok().filter(|sign: &char| word.eq_ignore_ascii_case("sep=") && sign.is_ascii())?;
    Some((sign, line.len()))
}

/// What stands between the columns of a file that begins with these bytes, by the collector's own rules, and whether it is
/// the file's first line that says so.
#[must_use]
pub fn separator(sample: &[u8]) -> (char, bool) {
    let text = String::from_utf8_lossy(sample.strip_prefix(MARK).unwrap_or(sample));
    match preface(&text) {
        Some((sign, _)) => (sign, true),
        None => (delimiter(&text).unwrap_or(','), false),
    }
}

/// Finds out what isn't said, from the cells of columns that matter.
pub(super) fn find(text: &str, delimiter: char, columns: &[Column], settings: &Settings) -> Result<Dialect, Mistake> {
    let (said, found) = (&settings.dialect, &settings.found);
    // Dates in rows of many files in one: each is judged by itself.
    let (ask_decimal, ask_dates) = (said.decimal.is_none(), said.dates.is_none() && !settings.complete);
    let mut dialect = Dialect { delimiter: Some(delimiter), ..*said };
    if !ask_decimal && !ask_dates {
        return Ok(dialect);
    }
    let (mut signs, mut orders) = (Signs::default(), Orders::default());
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter as u8).flexible(true).from_reader(text.as_bytes());
    let mut record = StringRecord::new();
    while reader.read_record(&mut record).map_err(|error| error.to_string())? {
        for (cell, column) in record.iter().zip(columns) {
            match column.role {
                Role::Time => orders.look(cell.trim()),
                Role::Value | Role::Series(_) | Role::OfNode(..) => signs.look(cell.trim(), delimiter),
                _ => {}
            }
        }
    }
    if ask_decimal {
        dialect.decimal = signs.decide(found.decimal)?;
    }
    if ask_dates {
        dialect.dates = orders.decide(found.dates)?;
    }
    Ok(dialect)
}

/// The one that is there equally often in most lines.
pub(super) fn delimiter(text: &str) -> Result<char, Mistake> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).take(SAMPLE).collect();
    let score = |delimiter: char| {
        let first = lines.first().map_or(0, |line| line.matches(delimiter).count());
        let same = lines.iter().filter(|line| line.matches(delimiter).count() == first).count();
        if first == 0 { (0, 0) } else { (same, first) }
    };
    let best = DELIMITERS.iter().map(|byte| char::from(*byte)).max_by_key(|delimiter| score(*delimiter));
    best.filter(|delimiter| score(*delimiter).1 > 0).ok_or_else(|| {
        "the first line has no comma, semicolon, tab or bar between columns; is it the line that names them?".into()
    })
}

/// What a number says about the decimal sign.
enum Sign {
    Comma,
    Point,
    /// `1.234` or `1,234`: a thousand and something, or one and something.
    Either,
}

impl Sign {
    fn of(cell: &str) -> Option<Self> {
        let number = cell.trim_start_matches(['-', '+']);
        let is_number = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b',');
        if !number.starts_with(|c: char| c.is_ascii_digit()) || !number.bytes().all(is_number) {
            return None;
        }
        let parts: Vec<&str> = number.split(['.', ',']).collect();
        let signs: Vec<u8> = number.bytes().filter(|byte| !byte.is_ascii_digit()).collect();
        let by = |sign: u8| if sign == b',' { Sign::Comma } else { Sign::Point };
        let grouped =
            parts[0].len() <= 3 && !parts[0].starts_with('0') && parts[1..].iter().all(|part| part.len() == 3);
        match signs[..] {
            [] => None,
            [_] if grouped => Some(Sign::Either),
            [sign] => Some(by(sign)),
            // `1.234.567` groups by points, so that its decimal sign is the comma.
            [first, ..] if signs.iter().all(|sign| *sign == first) => {
                grouped.then_some(if first == b'.' { Sign::Comma } else { Sign::Point })
            }
            [.., before, last] => (before != last).then(|| by(last)),
        }
    }
}

/// The first number of each kind.
#[derive(Default)]
struct Signs {
    comma: Option<String>,
    point: Option<String>,
    /// That may have either.
    either: Option<String>,
    /// That may have either, where commas stand between columns: it is a point.
    likely: Option<String>,
}

impl Signs {
    fn look(&mut self, cell: &str, delimiter: char) {
        let place = match Sign::of(cell) {
            Some(Sign::Comma) => &mut self.comma,
            Some(Sign::Point) => &mut self.point,
            Some(Sign::Either) if delimiter == ',' && cell.contains('.') => &mut self.likely,
            Some(Sign::Either) => &mut self.either,
            None => return,
        };
        place.get_or_insert_with(|| cell.to_owned());
    }

    /// The decimal sign that all numbers agree on, with those of earlier pieces; `None`: none has any.
    fn decide(self, found: Option<char>) -> Result<Option<char>, Mistake> {
        let Self { comma, point, either, likely } = self;
        let unsure = |why: String| Err(Mistake::until(Setting::Decimal, why));
        match (comma, point) {
            (Some(comma), Some(point)) => {
                return unsure(format!("'{comma}' has a comma before its fraction and '{point}' a point: , or .?"));
            }
            (Some(comma), None) if found == Some('.') => {
                let before = "where numbers of earlier lines have a point";
                return unsure(format!("'{comma}' has a comma before its fraction, {before}: , or .?"));
            }
            (None, Some(point)) if found == Some(',') => {
                let before = "where numbers of earlier lines have a comma";
                return unsure(format!("'{point}' has a point before its fraction, {before}: , or .?"));
            }
            (Some(_), None) => return Ok(Some(',')),
            (None, Some(_)) => return Ok(Some('.')),
            (None, None) => {}
        }
        match (found, either, likely) {
            (Some(found), ..) => Ok(Some(found)),
            (None, Some(either), _) => {
                unsure(format!("'{either}' may be a thousand times larger or smaller: is the decimal sign , or .?"))
            }
            (None, None, likely) => Ok(likely.map(|_| '.')),
        }
    }
}

/// The first date of each kind.
#[derive(Default)]
struct Orders {
    dmy: Option<String>,
    mdy: Option<String>,
    either: Option<String>,
}

impl Orders {
    /// A first number above 12 is a day, and so is a second one.
    fn look(&mut self, cell: &str) {
        let numbers = || {
            let mut parts = cell.split([' ', 'T']).next()?.split(['/', '.', '-']).map(str::parse::<u16>);
            let (a, b, c) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
            (parts.next().is_none() && a <= 31 && b <= 31 && c >= 1000).then_some((a, b))
        };
        let place = match numbers() {
            Some((13.., _)) => &mut self.dmy,
            Some((_, 13..)) => &mut self.mdy,
            Some(_) => &mut self.either,
            None => return,
        };
        place.get_or_insert_with(|| cell.to_owned());
    }

    /// The order that all dates agree on, with those of earlier pieces; `None`: none has any.
    fn decide(self, found: Option<DateOrder>) -> Result<Option<DateOrder>, Mistake> {
        let unsure = |why: String| Err(Mistake::until(Setting::Dates, why + ": dmy or mdy?"));
        let other = |cell: &str, has: &str| {
            unsure(format!("'{cell}' has the {has} first, where dates of earlier lines have not"))
        };
        match (self.dmy, self.mdy, self.either, found) {
            (Some(dmy), Some(mdy), ..) => unsure(format!("'{dmy}' has the day first and '{mdy}' the month")),
            (Some(dmy), None, _, Some(DateOrder::Mdy)) => other(&dmy, "day"),
            (None, Some(mdy), _, Some(DateOrder::Dmy)) => other(&mdy, "month"),
            (Some(_), None, ..) => Ok(Some(DateOrder::Dmy)),
            (None, Some(_), ..) => Ok(Some(DateOrder::Mdy)),
            (None, None, Some(either), None) => unsure(format!("'{either}' may be day/month or month/day")),
            (None, None, _, found) => Ok(found),
        }
    }
}
