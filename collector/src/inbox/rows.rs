//! Rows of inboxes as lines of a CSV file, so that they are read by the rules of one: names, units, ranges, times, quality.
//! Pure: no tier, no network, no clock.

use super::OWN;
use super::settings::{ForeignInbox, Meaning, Twice, key};
use super::store::ForeignRow;
use crate::import::{self, Batch, Dialect, Fold, Reject, Setting, Settings};
use jiff::tz::TimeZone;

/// Cells of a line.
const CELLS: usize = 8;
const HEAD: [&str; CELLS] = ["timestamp", "node", "metric", "channel", "value", "unit", "quality", "revision"];
/// Most characters of a cell that are read: more than any name may have.
pub const CELL_MAX: usize = 300;

/// What a row says of one series: the cells timestamp, node, metric, channel, value, unit, quality, revision.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Line(pub [String; CELLS]);

/// How lines of our own table are to be understood.
#[must_use]
pub fn own() -> Settings {
    let dialect = Dialect { delimiter: Some(','), decimal: Some('.'), dates: None };
    Settings { dialect, complete: true, ..Settings::default() }
}

/// How lines of another producer's table are to be understood.
#[must_use]
pub fn foreign(table: &ForeignInbox) -> Settings {
    Settings {
        zone: table.zone.as_deref().and_then(|zone| TimeZone::get(zone).ok()),
        fold: match table.fold {
            Twice::Refuse => Fold::Refuse,
            Twice::Earlier => Fold::Earlier,
            Twice::Later => Fold::Later,
        },
        ..own()
    }
}

/// Why a line of a source can't be read, and what puts it right: a key of the configuration, where there is one.
#[must_use]
pub fn reason(source: &str, reject: &Reject) -> String {
    match reject.setting {
        None => reject.reason.clone(),
        Some(Setting::Zone | Setting::Fold) if source != OWN => {
            let setting = reject.setting.map_or("", Setting::as_str);
            format!("{} ({})", reject.reason, key(source, setting))
        }
        Some(_) => format!("{} (write it like 2026-03-01T10:00:00Z)", reject.reason),
    }
}

/// The lines of a row: of a wide one for each column that has a value, or that is bad; of a long one one.
#[must_use]
pub fn lines(table: &ForeignInbox, node: &str, row: &ForeignRow) -> Vec<Line> {
    let cell = |key: &str| {
        let place = table.read_columns().position(|(of, _)| of == key);
        place.and_then(|place| row.cells.get(place)).map_or("", String::as_str)
    };
    let (quality, revision) = (cell("quality"), cell("revision"));
    let line = |Meaning { metric, channel, unit }, value: &str| {
        Line([&row.time, node, metric, channel, value, unit, quality, revision].map(str::to_owned))
    };
    if table.is_long() {
        let name = cell("metric");
        let known = table.columns.get(name).map(|text| Meaning::of(text));
        let known = known.unwrap_or(Meaning { metric: name, channel: "", unit: "" });
        let said = |key: &str, else_known| Some(cell(key)).filter(|said| !said.is_empty()).unwrap_or(else_known);
        let (channel, unit) = (said("channel", known.channel), said("unit", known.unit));
        return vec![line(Meaning { channel, unit, ..known }, cell("value"))];
    }
    let has_no_value = quality.eq_ignore_ascii_case("bad");
    let values = table.columns.values().zip(&row.cells);
    let values = values.filter(|(_, value)| !value.is_empty() || has_no_value);
    values.map(|(text, value)| line(Meaning::of(text), value)).collect()
}

/// Reads lines; [`import::Point::line`] and [`import::Reject::line`] are their places, from 0.
///
/// # Errors
/// When they are no text that a CSV file could hold, which is a mistake in this program.
pub fn read(lines: &[Line], settings: &Settings) -> Result<Batch, import::Mistake> {
    let wrong = |error: csv::Error| import::Mistake::from(error.to_string());
    let mut text = csv::Writer::from_writer(Vec::new());
    text.write_record(HEAD).map_err(wrong)?;
    for line in lines {
        text.write_record(line.0.each_ref().map(|cell| plain(cell))).map_err(wrong)?;
    }
    let text = text.into_inner().map_err(|error| error.to_string())?;
    import::read(&text, settings, 0, &import::Last::new())
}

/// A cell with a line end would be two lines, and then nobody knew which row is which. What can't be seen is shown.
fn plain(cell: &str) -> String {
    let plain = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    cell.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::reading::{Quality, Timestamp};

    fn line(cells: [&str; CELLS]) -> Line {
        Line(cells.map(str::to_owned))
    }

    #[test]
    fn rows_are_read_as_lines_of_a_file_are() {
        let lines = [
            line(["2026-03-01 10:00:00+00", "DIST_001", "flow_rate", "", "36", "m3/h", "", ""]),
            line(["2026-03-01T10:00:00Z", "DIST_001", "pressure", "inlet\nx", "4.5", "", "uncertain", "2"]),
            line(["2026-03-01T10:00:00Z", "DIST 1", "pressure", "", "4.5", "", "", ""]),
            line(["2026-03-01T10:00:00Z", "DIST_001", "pressure", "", "4000", "", "", ""]),
            line(["2026-03-01 10:00:00", "DIST_001", "pressure", "", "4", "", "", ""]),
            line(["1772359200000000", "DIST_001", "pressure", "", "", "", "bad", ""]),
            line(["1772359200000000", "DIST_001", "pressure", "", "", "", "", ""]),
            line(["1772359200000000", "DIST_001", "pressure", "", "NaN", "", "good", ""]),
            line(["1772359200000000", "DIST_001", "pressure", "", "4", "", "\0", ""]),
            line([""; CELLS]),
        ];
        let batch = read(&lines, &own()).unwrap();
        let at = Timestamp(1_772_359_200_000_000);
        let points: Vec<_> = batch.points.iter().map(|p| (p.line, p.at, p.held.value, p.held.quality)).collect();
        let expected = [
            (0, at, Some(10.0), Quality::GOOD),
            (1, at, Some(4.5), Quality::UNCERTAIN_SENSOR),
            (5, at, None, Quality::BAD_SENSOR_FAULT),
        ];
        assert_eq!(points, expected);
        assert_eq!(batch.points[1].held.revision, 2);
        let rejects: Vec<_> = batch.rejects.iter().map(|reject| (reject.line, reason(OWN, reject))).collect();
        assert!(rejects[0].0 == 2 && rejects[0].1.contains("'DIST 1' is no node"), "{rejects:?}");
        assert!(rejects[1].0 == 3 && rejects[1].1.contains("4000 bar is no pressure"), "{rejects:?}");
        let zone = "a time without a time zone like Europe/Rome or UTC (write it like 2026-03-01T10:00:00Z)";
        assert_eq!(rejects[2], (4, zone.to_owned()));
        assert!(rejects[3].0 == 6 && rejects[3].1.contains("no value"), "{rejects:?}");
        assert!(rejects[4].0 == 7 && rejects[4].1.contains("'NaN' is no value"), "{rejects:?}");
        assert!(rejects[5].0 == 8 && rejects[5].1.contains("quality '\u{fffd}' is none of"), "{rejects:?}");
        assert!(rejects[6].0 == 9 && rejects[6].1.contains("is no time"), "{rejects:?}");
        assert_eq!((rejects.len(), batch.empty), (7, 0), "no row vanishes");
    }

    #[test]
    fn a_wide_row_has_a_line_for_each_value() {
        let table: ForeignInbox = toml::from_str(
            "name = 'scada'\ntable = 't'\nquality = 'flag'\n\
             columns = { flow = 'flow_rate/inlet [m3/h]', press = 'pressure', temp = 'temperature' }",
        )
        .unwrap();
        let row = |cells: [&str; 4]| ForeignRow { time: "now".into(), cells: cells.map(str::to_owned).into() };
        let good = row(["36", "4.5", "", "good"]);
        let found = lines(&table, "DIST_001", &good);
        let expected = [
            line(["now", "DIST_001", "flow_rate", "inlet", "36", "m3/h", "good", ""]),
            line(["now", "DIST_001", "pressure", "", "4.5", "", "good", ""]),
        ];
        assert_eq!(found, expected);
        assert_eq!(lines(&table, "DIST_001", &row(["36", "", "", "bad"])).len(), 3, "a bad row is bad in all of it");
    }

    #[test]
    fn a_long_row_has_one_line_whatever_it_says() {
        let table: ForeignInbox = toml::from_str(
            "name = 'scada'\ntable = 't'\nmetric = 'what'\nvalue = 'v'\nunit = 'u'\nquality = 'flag'\n\
             columns = { PORTATA = 'flow_rate/inlet [m3/h]' }",
        )
        .unwrap();
        let found = |cells: [&str; 4]| {
            let row = ForeignRow { time: "now".into(), cells: cells.map(str::to_owned).into() };
            lines(&table, "DIST_001", &row)
        };
        let of = |metric, channel, value, unit| line(["now", "DIST_001", metric, channel, value, unit, "good", ""]);
        assert_eq!(found(["PORTATA", "36", "", "good"]), [of("flow_rate", "inlet", "36", "m3/h")]);
        assert_eq!(found(["PORTATA", "36", "L/s", "good"]), [of("flow_rate", "inlet", "36", "L/s")]);
        assert_eq!(found(["pressure", "", "", "good"]), [of("pressure", "", "", "")], "no row goes without a word");
        assert_eq!(found(["LIVELLO", "1", "", "good"]), [of("LIVELLO", "", "1", "")]);
    }

    #[test]
    fn the_hour_that_was_twice_is_refused_until_someone_says_which() {
        let lines = [line(["2026-10-25 02:30:00", "DIST_001", "pressure", "", "4", "", "", ""])];
        let mut table: ForeignInbox =
            toml::from_str("name = 'scada'\ntable = 't'\nzone = 'Europe/Rome'\ncolumns = { p = 'pressure' }").unwrap();
        let mut read = |twice| {
            table.fold = twice;
            read(&lines, &foreign(&table)).unwrap()
        };
        let refused = reason("scada", &read(Twice::Refuse).rejects[0]);
        assert!(refused.ends_with("set back: earlier or later? (inbox.scada.fold)"), "{refused}");
        let (earlier, later) = (read(Twice::Earlier).points[0].at, read(Twice::Later).points[0].at);
        assert_eq!(later.since(earlier), 3_600_000_000);
    }
}
