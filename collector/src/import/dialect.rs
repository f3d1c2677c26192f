//! How a file is written.

use super::{Mistake, Setting, Settings};
use serde::Serialize;
use utoipa::ToSchema;

/// Lines that are looked at.
const SAMPLE: usize = 200;
const DELIMITERS: &[u8] = b",;\t|";

/// What comes first in a date of three numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DateOrder {
    /// 31/12/2025
    Dmy,
    /// 12/31/2025
    Mdy,
}

/// How a file is written; what is `None` is found out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
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

/// The text, without a byte order mark. Its second line is `first_line` of the whole file.
pub(super) fn text(bytes: &[u8], first_line: u64) -> Result<&str, Mistake> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
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

/// Finds out what isn't said.
pub(super) fn find(text: &str, settings: &Settings) -> Result<Dialect, Mistake> {
    let said = &settings.dialect;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).take(SAMPLE).collect();
    if lines.is_empty() {
        return Err("the file is empty".into());
    }
    let delimiter = match said.delimiter {
        Some(delimiter) => delimiter,
        None => delimiter(&lines)?,
    };
    let cells =
        || text.lines().skip(1).flat_map(|line| line.split(delimiter)).map(|cell| cell.trim().trim_matches('"'));
    let decimal = match said.decimal {
        Some(decimal) => decimal,
        None if delimiter == ',' => '.', // a comma stands between columns
        None => decimal(cells())?,
    };
    let dates = match said.dates {
        Some(dates) => Some(dates),
        // Rows of many files in one: each is judged by itself.
        None if settings.complete => None,
        None => dates(cells())?,
    };
    Ok(Dialect { delimiter: Some(delimiter), decimal: Some(decimal), dates })
}

/// The one that is there equally often in most lines.
fn delimiter(lines: &[&str]) -> Result<char, Mistake> {
    let score = |delimiter: char| {
        let first = lines[0].matches(delimiter).count();
        let same = lines.iter().filter(|line| line.matches(delimiter).count() == first).count();
        if first == 0 { (0, 0) } else { (same, first) }
    };
    let best = DELIMITERS.iter().map(|byte| char::from(*byte)).max_by_key(|delimiter| score(*delimiter));
    best.filter(|delimiter| score(*delimiter).1 > 0).ok_or_else(|| {
        "the first line has no comma, semicolon, tab or bar between columns; is it the line that names them?".into()
    })
}

/// What a number says about the decimal sign.
#[derive(PartialEq, Eq)]
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

/// The decimal sign that all numbers agree on.
fn decimal<'a>(cells: impl Iterator<Item = &'a str>) -> Result<char, Mistake> {
    let (mut comma, mut point, mut either) = (None, None, None);
    for cell in cells {
        match Sign::of(cell) {
            Some(Sign::Comma) => comma = comma.or(Some(cell)),
            Some(Sign::Point) => point = point.or(Some(cell)),
            Some(Sign::Either) => either = either.or(Some(cell)),
            None => {}
        }
    }
    match (comma, point, either) {
        (Some(comma), Some(point), _) => {
            let why = format!("'{comma}' has a comma before its fraction and '{point}' a point: , or .?");
            Err(Mistake::until(Setting::Decimal, why))
        }
        (None, None, Some(either)) => {
            let why = format!("'{either}' may be a thousand times larger or smaller: is the decimal sign , or .?");
            Err(Mistake::until(Setting::Decimal, why))
        }
        (Some(_), None, _) => Ok(','),
        (None, _, _) => Ok('.'),
    }
}

/// A first number above 12 is a day, and so is a second one.
fn dates<'a>(cells: impl Iterator<Item = &'a str>) -> Result<Option<DateOrder>, Mistake> {
    let numbers = |cell: &str| {
        let mut parts = cell.split([' ', 'T']).next()?.split(['/', '.', '-']).map(str::parse::<u16>);
        let (a, b, c) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
        (parts.next().is_none() && a <= 31 && b <= 31 && c >= 1000).then_some((a, b))
    };
    let (mut dmy, mut mdy, mut either) = (None, None, None);
    for cell in cells {
        match numbers(cell) {
            Some((13.., _)) => dmy = dmy.or(Some(cell)),
            Some((_, 13..)) => mdy = mdy.or(Some(cell)),
            Some(_) => either = either.or(Some(cell)),
            None => {}
        }
    }
    let either_way = |why: String| Err(Mistake::until(Setting::Dates, why + ": dmy or mdy?"));
    match (dmy, mdy, either) {
        (Some(dmy), Some(mdy), _) => either_way(format!("'{dmy}' has the day first and '{mdy}' the month")),
        (Some(_), None, _) => Ok(Some(DateOrder::Dmy)),
        (None, Some(_), _) => Ok(Some(DateOrder::Mdy)),
        (None, None, Some(either)) => either_way(format!("'{either}' may be day/month or month/day")),
        (None, None, None) => Ok(None),
    }
}
