//! How a file is written.

use super::Mistake;
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

/// The text, without a byte order mark.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Mistake> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        Mistake(format!(
            "line {line} is not UTF-8; convert the file first, like: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW"
        ))
    })
}

/// Finds out what isn't said.
pub(super) fn find(text: &str, said: &Dialect) -> Result<Dialect, Mistake> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).take(SAMPLE).collect();
    if lines.is_empty() {
        return Err(Mistake("the file is empty".into()));
    }
    let delimiter = match said.delimiter {
        Some(delimiter) => delimiter,
        None => delimiter(&lines)?,
    };
    let cells =
        || lines.iter().skip(1).flat_map(|line| line.split(delimiter)).map(|cell| cell.trim().trim_matches('"'));
    let decimal = said.decimal.unwrap_or_else(|| decimal(delimiter, cells()));
    Ok(Dialect { delimiter: Some(delimiter), decimal: Some(decimal), dates: said.dates.or_else(|| dates(cells())) })
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
        Mistake(
            "the first line has no comma, semicolon, tab or bar between columns; is it the line that names them?"
                .into(),
        )
    })
}

/// A comma only where commas don't stand between columns, and more numbers have one than have a point.
fn decimal<'a>(delimiter: char, cells: impl Iterator<Item = &'a str>) -> char {
    if delimiter == ',' {
        return '.';
    }
    let number = |cell: &str, sign: char| {
        cell.split_once(sign).is_some_and(|(whole, fraction)| {
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits(whole.trim_start_matches(['-', '+']).replace('.', "").as_str()) && digits(fraction)
        })
    };
    let (mut commas, mut points) = (0_usize, 0_usize);
    for cell in cells {
        commas += usize::from(number(cell, ','));
        points += usize::from(number(cell, '.'));
    }
    if commas > points { ',' } else { '.' }
}

/// A first number above 12 is a day, and so is a second one.
fn dates<'a>(cells: impl Iterator<Item = &'a str>) -> Option<DateOrder> {
    let numbers = |cell: &str| {
        let mut parts = cell.split([' ', 'T']).next()?.split(['/', '.', '-']).map(str::parse::<u16>);
        let (a, b, c) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
        (parts.next().is_none() && a <= 31 && b <= 31 && c >= 1000).then_some((a, b))
    };
    cells.filter_map(numbers).find_map(|numbers| match numbers {
        (13.., _) => Some(DateOrder::Dmy),
        (_, 13..) => Some(DateOrder::Mdy),
        _ => None,
    })
}
