use super::*;
use proptest::prelude::*;
use shared::reading::Quality;

const END: Timestamp = Timestamp(4_000_000_000_000_000);

fn settings() -> Settings {
    Settings { latest: Some(END), ..Settings::default() }
}

fn rome(fold: Fold) -> Settings {
    Settings { zone: Some(TimeZone::get("Europe/Rome").unwrap()), fold, ..settings() }
}

fn take(text: &str, settings: &Settings) -> Batch {
    read(text.as_bytes(), settings, 2, &rows::Last::new()).unwrap()
}

/// `NODE/metric time value`
fn points(batch: &Batch) -> Vec<String> {
    let point = |p: &Point| format!("{} {} {:?}", batch.series[p.series].key, p.at, p.held.value);
    batch.points.iter().map(point).collect()
}

#[test]
fn a_long_file_names_everything_in_each_row() {
    let text = "time,node,metric,channel,value,unit,quality\n\
        2026-01-02T03:04:05Z,DIST_001,flow_rate,inlet,36,m3/h,good\n\
        1767323045,DIST_001,pressure,,4.5,,uncertain\n\
        2026-01-02T03:04:05+01:00,DIST_002,pressure,,,,bad\n";
    let batch = take(text, &settings());
    assert_eq!(
        points(&batch),
        [
            "DIST_001/flow_rate/inlet 2026-01-02T03:04:05Z Some(10.0)",
            "DIST_001/pressure 2026-01-02T03:04:05Z Some(4.5)",
            "DIST_002/pressure 2026-01-02T02:04:05Z None",
        ]
    );
    assert_eq!(batch.points[1].held.quality, Quality::UNCERTAIN_SENSOR);
    assert!(batch.rejects.is_empty());
}

#[test]
fn a_wide_file_with_a_node_column_has_a_metric_in_each_other_one() {
    let text = "timestamp,node_id,flow_rate,pressure [kPa],remark\n2026-01-01T00:00:00Z,A,1.5,450,fine\n\
                2026-01-01T00:00:00Z,B,,n/a,\n";
    let mut said = settings();
    said.map = vec![("remark".into(), "-".into())];
    let batch = take(text, &said);
    assert_eq!(
        points(&batch),
        ["A/flow_rate 2026-01-01T00:00:00Z Some(1.5)", "A/pressure 2026-01-01T00:00:00Z Some(4.5)"]
    );
    assert_eq!((batch.rows, batch.empty), (2, 2));
}

#[test]
fn a_file_as_a_spreadsheet_in_italy_writes_it() {
    let text = "\u{feff}Data;Ora;dma_1 (m3/h);dma_2\r\n31/12/2025;23:30;1.234,8;\"36,0\"\r\n";
    let said = Settings { metric: Some("flow_rate".into()), unit: Some("m3/h".into()), ..rome(Fold::Refuse) };
    let batch = take(text, &said);
    assert_eq!(batch.dialect.delimiter, Some(';'));
    assert_eq!((batch.dialect.decimal, batch.dialect.dates), (Some(','), Some(DateOrder::Dmy)));
    assert_eq!(
        points(&batch),
        ["dma_1/flow_rate 2025-12-31T22:30:00Z Some(343.0)", "dma_2/flow_rate 2025-12-31T22:30:00Z Some(10.0)"]
    );
}

#[test]
fn one_number_that_is_plain_says_how_all_are_written() {
    let level = |cells: [&str; 2]| {
        let row = |(n, cell): (usize, &&str)| format!("2026-01-01T0{n}:00:00Z;{cell}\n");
        let text = format!("time;A/total_volume\n{}", cells.iter().enumerate().map(row).collect::<String>());
        take(&text, &settings()).points.iter().map(|point| point.held.value.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(level(["1.234", "12,5"]), [1234.0, 12.5]);
    assert_eq!(level(["1.234", "12.5"]), [1.234, 12.5]);
    assert_eq!(level(["1.234", "1.234,5"]), [1234.0, 1234.5]);
    assert_eq!(level(["0.125", "1.125"]), [0.125, 1.125]);
    assert_eq!(level(["1", "2"]), [1.0, 2.0]);
}

#[test]
fn a_column_is_mapped_to_a_name_that_is_known() {
    let map = vec![("Momento".to_owned(), "timestamp".to_owned()), ("Vasca".to_owned(), "A/level".to_owned())];
    let batch = take("Momento,Vasca\n2026-01-01T00:00:00Z,1.5\n", &Settings { map, ..settings() });
    assert_eq!(points(&batch), ["A/level 2026-01-01T00:00:00Z Some(1.5)"]);
}

#[test]
fn nights_in_which_the_clock_changes() {
    let night = "time,A/level\n2025-10-26 01:30,1\n2025-10-26 02:00,2\n2025-10-26 02:30,3\n2025-10-26 02:00,4\n\
                 2025-10-26 02:30,5\n2025-10-26 03:00,6\n2026-03-29 02:30,7\n";
    let times =
        |fold| take(night, &rome(fold)).points.iter().map(|p| p.at.to_string()[11..16].to_owned()).collect::<Vec<_>>();
    assert_eq!(times(Fold::Order), ["23:30", "00:00", "00:30", "01:00", "01:30", "02:00"]);
    // What the order of rows doesn't say isn't guessed.
    let backwards = "time,A/level\n2025-10-26 03:00,6\n2025-10-26 02:30,5\n2025-10-26 02:00,4\n";
    let refused = take(backwards, &rome(Fold::Order));
    assert_eq!((refused.points.len(), refused.rejects.len()), (1, 2));
    assert!(refused.rejects[0].reason.contains("aren't in the order of time"), "{:?}", refused.rejects);
    let begins = take("time,A/level\n2025-10-26 02:00,2\n", &rome(Fold::Order));
    assert!(begins.rejects[0].reason.contains("no row before it"), "{:?}", begins.rejects);
    assert_eq!(times(Fold::Earlier), ["23:30", "00:00", "00:30", "00:00", "00:30", "02:00"]);
    let refused = take(night, &rome(Fold::Refuse));
    let lines: Vec<u64> = refused.rejects.iter().map(|reject| reject.line).collect();
    assert_eq!(lines, [3, 4, 5, 6, 8]);
    assert_eq!(refused.rejects[0].setting, Some(Setting::Fold));
    assert!(refused.rejects[4].reason.contains("left out"));
    // The same in two pieces, cut in the hour that was twice.
    let more = Settings { more: true, ..rome(Fold::Order) };
    let first = take("time,A/level\n2025-10-26 01:00,1\n2025-10-26 02:00,2\n", &more);
    let second = read(b"time,A/level\n2025-10-26 02:00,4\n", &rome(Fold::Order), 4, &first.last).unwrap();
    assert_eq!(second.points[0].at.since(first.points[1].at), 3_600_000_000);
    let summer = take("time,A/level\n2025-07-01 02:00,2\n", &rome(Fold::Order));
    assert!(summer.last.is_empty(), "far from such a night nothing needs to be told");
}

#[test]
fn what_can_be_understood_in_two_ways_is_refused_with_what_to_say() {
    let zone = take("time,A/level\n2025-06-01 12:00,1\n", &settings());
    assert_eq!(zone.rejects[0].setting, Some(Setting::Zone), "{:?}", zone.rejects);
    let mistake = |text: &str| read(text.as_bytes(), &settings(), 2, &rows::Last::new()).unwrap_err();
    let said = |text: &str| mistake(text).why;
    assert_eq!(mistake("time,dma_1\n2025-06-01T12:00:00Z,1\n").setting, Some(Setting::Metric));
    assert_eq!(mistake("time,pressure\n2025-06-01T12:00:00Z,1\n").setting, Some(Setting::Node));
    assert!(said("when,A/level\n1,1\n").contains("no column is called"));
    assert!(said("time,A/level [bar]\n1,1\n").contains("known are m, cm"));
    assert!(said("").contains("empty"));
    for (rows, why) in [
        ("01/02/2025 12:00;1\n02/02/2025 12:00;2", "'01/02/2025 12:00' may be day/month or month/day: dmy or mdy?"),
        ("13/06/2025 12:00;1\n06/14/2025 12:00;2", "'13/06/2025 12:00' has the day first and '06/14/2025 12:00' the"),
        ("2025-06-01T12:00:00Z;1.234\n2025-06-01T13:00:00Z;12.345", "'1.234' may be a thousand times larger or"),
        ("2025-06-01T12:00:00Z;1.234\n2025-06-01T13:00:00Z;-1,234", "'1.234' may be a thousand times larger or"),
        ("2025-06-01T12:00:00Z;0.234\n2025-06-01T13:00:00Z;0,5", "'0,5' has a comma before its fraction and '0.234' a"),
    ] {
        let said = said(&format!("time;A/level\n{rows}\n"));
        assert!(said.starts_with(why), "{rows}: {said}");
    }
    let latin = read(b"time,A/temperature [\xb0C]\n", &settings(), 2, &rows::Last::new()).unwrap_err().why;
    assert!(latin.contains("line 1 is not UTF-8"));
    let later = read(b"time,A/level\n1,1\n1,\xff\n", &settings(), 5_000, &rows::Last::new()).unwrap_err().why;
    assert!(later.contains("line 5001 is not UTF-8"), "{later}");
    let offset = take("time,A/level\n2026-01-01T00:00:00+14:00,1\n2026-01-01T00:00:00+25:00,1\n", &settings());
    assert!(offset.points.len() == 1 && offset.rejects[0].reason.contains("is no time"), "{:?}", offset.rejects);
}

#[test]
fn a_wrong_cell_costs_itself_and_a_wrong_time_its_row() {
    let text = "time,A/level,B/pressure\n2026-01-01T00:00:00Z,x,1\n2026-01-01T01:00:00Z,1,9999\nnever,1,1\n\
                2199-01-01T00:00:00Z,1,1\n2026-01-01T02:00:00Z,inf,2\n";
    let batch = take(text, &settings());
    assert_eq!(batch.points.len(), 3);
    let said: Vec<String> = batch.rejects.iter().map(|r| format!("{}: {}", r.line, r.reason)).collect();
    assert!(said[0].starts_with("2: column A/level: 'x' is no number"), "{said:?}");
    assert!(said[1].starts_with("3: column B/pressure: 9999 bar is no pressure: -1.5 to 400 bar"), "{said:?}");
    assert!(said[2].starts_with("4: 'never' is no time") && said[3].contains("in the future"), "{said:?}");
    assert!(said[4].starts_with("6: column A/level: 'inf'"), "{said:?}");
}

#[test]
fn a_row_with_a_cell_too_many_or_too_few_is_refused() {
    let commas = take(
        "timestamp,A/level,B/level\n2026-11-01T00:00:00Z,1,5,2,7\n2026-11-01T00:00:00Z,1\n2026-11-01T00:00:00Z,1,2,,\n",
        &settings(),
    );
    assert_eq!(commas.points.len(), 2, "empty cells behind the last column are a spreadsheet's");
    assert!(commas.rejects[0].reason.starts_with("5 cells where the first line names 3"), "{:?}", commas.rejects);
    assert!(commas.rejects[1].reason.starts_with("2 cells"), "{:?}", commas.rejects);
    let twice = read(b"time,A/level,A/level\n", &settings(), 2, &rows::Last::new()).unwrap_err().why;
    assert!(twice.contains("two columns are A/level"), "{twice}");
    let old = take("time,A/level\n0001-01-01T00:00:00Z,1\n", &settings());
    assert!(old.rejects[0].reason.contains("before 1970"));
}

#[test]
fn what_was_exported_keeps_its_revision() {
    let text = "timestamp,node,metric,channel,value,unit,quality,revision\n2026-01-01T00:00:00Z,A,level,,1,m,manual,3\n\
                2026-01-01T00:00:00Z,A,level,,1,m,good,4294967295\n";
    let batch = take(text, &settings());
    assert_eq!((batch.points.len(), batch.points[0].held.revision), (1, 3));
    assert!(batch.rejects[0].reason.contains("no revision"), "{:?}", batch.rejects);
}

fn mistake(text: &str) -> String {
    read(text.as_bytes(), &settings(), 2, &rows::Last::new()).unwrap_err().to_string()
}

fn rejected(batch: &Batch) -> Vec<String> {
    batch.rejects.iter().map(|reject| format!("{}: {}", reject.line, reject.reason)).collect()
}

#[test]
fn a_quote_that_is_left_open_swallows_nothing_without_a_word() {
    let row = |n: i32, note: &str| format!("2026-01-01T00:00:0{n}Z;A;level;{n};{note}\n");
    let file = |notes: [&str; 4]| {
        let rows = notes.iter().enumerate().map(|(n, note)| row(n as i32, note)).collect::<String>();
        format!("time;node;metric;value;note\n{rows}")
    };
    // Never closed; closed by the next cell's opening quote; closed by a stray one at a cell's end.
    for (notes, why) in [
        (["", "\"tubo", "", ""], "line 3, column note: a quote is opened here and isn't closed"),
        (["", "\"tubo", "", "\"ok\""], "line 3, column note: a quote is opened here and closed 2 lines further"),
        (["\"tubo", "", "da 2\"", ""], "line 2, column note: a quote is opened here and closed 2 lines further"),
        (
            ["", &format!("\"{}\"", "\n".repeat(10)), "", ""],
            "line 3, column note: a quote is opened here and closed 10",
        ),
    ] {
        let said = mistake(&file(notes));
        assert!(said.starts_with(why), "{said}");
    }
    assert!(
        mistake("time;\"A/level\n2026-01-01T00:00:00Z;1\n").starts_with("line 1, column 2: a quote is opened here")
    );
    let wide = mistake(
        "time;A/level;B/level\n2026-01-01T00:00:00Z;1;1\n2026-01-01T01:00:00Z;\"1;1\n2026-01-01T02:00:00Z;1;1\n",
    );
    assert!(wide.starts_with("line 3, column A/level: "), "{wide}");
    // What is right: a cell over some lines, a quote within one, one written twice; and a row that is wrong alone.
    let batch = take(&file(["\"one\ntwo;\"", "2\" pipe", "\"2\"\" pipe\"", "\"2\" pipe\""]), &settings());
    assert_eq!(batch.points.len(), 3);
    assert_eq!(rejected(&batch)[0][..45], *"6: column note: something stands behind the c");
    // Pieces are cut where rows end.
    let ends = |lines: &[&str]| {
        let mut rows = Rows::new(b';');
        lines.iter().map(|line| rows.end_with(line.as_bytes())).collect::<Vec<_>>()
    };
    assert_eq!(ends(&["1;2\" pipe\n", "1;\"2\n", "\"\"3\n", "4\"\n", "5\n"]), [true, false, false, true, true]);
    let long = [&["1;\"2\n"][..], &["x\n"; 12][..]].concat();
    assert_eq!(ends(&long).iter().position(|ends| *ends), Some(10), "however long it is, it ends");
}

#[test]
fn only_what_a_piece_says_holds_for_the_next() {
    let piece = |cells: [&str; 2], found: Dialect| {
        let text =
            format!("time;A/total_volume\n2026-01-01T00:00:00Z;{}\n2026-01-01T01:00:00Z;{}\n", cells[0], cells[1]);
        read(text.as_bytes(), &Settings { found, ..settings() }, 2, &rows::Last::new())
    };
    let whole = piece(["900", "950"], Dialect::default()).unwrap().dialect;
    assert_eq!((whole.delimiter, whole.decimal), (Some(';'), None), "whole numbers say nothing");
    let said = piece(["999", "1.000"], whole).unwrap_err().to_string();
    assert!(said.starts_with("'1.000' may be a thousand times larger or smaller"), "{said}");
    let comma = piece(["999", "1.000,5"], whole).unwrap();
    assert_eq!((comma.dialect.decimal, comma.points[1].held.value), (Some(','), Some(1000.5)));
    assert_eq!(piece(["999", "1.001"], comma.dialect).unwrap().points[1].held.value, Some(1001.0));
    let said = piece(["999", "1001.5"], comma.dialect).unwrap_err().to_string();
    assert!(said.starts_with("'1001.5' has a point before its fraction, where numbers of earlier lines"), "{said}");
    let dates = |rows: &str, found| {
        let text = format!("time,A/level\n{rows}");
        read(text.as_bytes(), &Settings { found, ..rome(Fold::Refuse) }, 2, &rows::Last::new())
    };
    let dmy = dates("13/06/2025,1\n", Dialect::default()).unwrap().dialect;
    assert_eq!(dates("01/07/2025,1\n", dmy).unwrap().points[0].at.to_string(), "2025-06-30T22:00:00Z");
    assert!(
        dates("06/14/2025,1\n", dmy).unwrap_err().to_string().contains("has the month first, where dates of earlier")
    );
    // A person's word holds: what isn't so is rejected by itself.
    let said = Settings { dialect: Dialect { decimal: Some('.'), ..Dialect::default() }, ..settings() };
    let batch = take("time;A/level\n2026-01-01T00:00:00Z;1,5\n2026-01-01T01:00:00Z;1.5\n", &said);
    assert_eq!((batch.points.len(), batch.rejects.len()), (1, 1));
}

#[test]
fn files_as_spreadsheets_write_them() {
    let rows = "timestamp;N1/pressure [bar];\r\n2026-11-01 10:15;3,5;\r\n\r\n2026-11-01 10:16;x;\r\n";
    let check = |bytes: &[u8], lines: u64| {
        let batch = read(bytes, &rome(Fold::Refuse), 2, &rows::Last::new()).unwrap();
        assert_eq!(points(&batch), ["N1/pressure 2026-11-01T09:15:00Z Some(3.5)"]);
        assert_eq!(
            (rejected(&batch), batch.lines),
            (vec![format!("{lines}: column N1/pressure [bar]: 'x' is no number")], lines + 1)
        );
        assert_eq!(line(&text(bytes, 2).unwrap(), batch.points[0].begins), "2026-11-01 10:15;3,5;");
        batch
    };
    check(rows.as_bytes(), 4);
    check(format!("\u{feff}sep=;\r\n{rows}").as_bytes(), 5);
    let little: Vec<u8> = format!("\u{feff}{rows}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = format!("\u{feff}sep=;\r\n{rows}").encode_utf16().flat_map(u16::to_be_bytes).collect();
    check(&little, 4);
    check(&big, 5);
    check(rows.replace("\r\n", "\r").as_bytes(), 4);
    let next = read(format!("sep=;\n{rows}").as_bytes(), &rome(Fold::Refuse), 100, &rows::Last::new()).unwrap();
    assert_eq!((next.points[0].line, next.lines), (100, 5));
    let mut text = String::new();
    let halves = "a\u{1f6b0}\u{e8}".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    std::io::Read::read_to_string(&mut Utf16::new(std::io::Read::chain(&halves[..3], &halves[3..]), false), &mut text)
        .unwrap();
    assert_eq!(text, "a\u{1f6b0}\u{e8}");
    let workbook = read(b"PK\x03\x04rest", &settings(), 2, &rows::Last::new()).unwrap_err().to_string();
    assert!(workbook.contains("save it as CSV UTF-8"), "{workbook}");

    let quoted = take("time,A/level,B/level\n2026-01-01T00:00:00Z,\"3,5\",4\n", &settings());
    assert_eq!((quoted.dialect.decimal, quoted.points[0].held.value), (Some(','), Some(3.5)));
    assert!(mistake("time,A/total_volume\n2026-01-01T00:00:00Z,\"3,500\"\n").contains("a thousand times"));
    assert_eq!(take("time,A/level\n2026-01-01T00:00:00Z,3.500\n", &settings()).dialect.decimal, Some('.'));
    let note = take("time,node,metric,value,note\n2026-01-01T00:00:00Z,A,Pressure,3.5,\"3,5\"\n", &settings());
    assert_eq!(points(&note), ["A/pressure 2026-01-01T00:00:00Z Some(3.5)"]);
}

#[test]
fn the_end_of_a_day_and_an_offset_behind_a_blank() {
    let text =
        "time,A/level\n2026-11-01 24:00,1\n2026-12-31 24:00:00,2\n2026-11-01 10:00:00 +01:00,3\n2026-11-01 24:01,4\n";
    let batch = take(text, &rome(Fold::Refuse));
    let times: Vec<String> = batch.points.iter().map(|point| point.at.to_string()).collect();
    assert_eq!(times, ["2026-11-01T23:00:00Z", "2026-12-31T23:00:00Z", "2026-11-01T09:00:00Z"]);
    assert!(rejected(&batch)[0].starts_with("5: '2026-11-01 24:01' is no time"));
}

#[test]
fn an_hour_that_was_twice_and_is_there_once_is_nobodys() {
    let once = "time,A/level\n2025-10-26 01:00,1\n2025-10-26 02:00,2\n2025-10-26 02:30,3\n2025-10-26 03:00,4\n";
    let batch = take(once, &rome(Fold::Order));
    let times: Vec<String> = batch.points.iter().map(|point| point.at.to_string()).collect();
    assert_eq!(times, ["2025-10-25T23:00:00Z", "2025-10-26T02:00:00Z"]);
    let said = rejected(&batch);
    assert!(said.len() == 2 && said[0].starts_with("3: that hour was twice, and its rows are there once"), "{said:?}");
    assert_eq!(take(once, &rome(Fold::Later)).points.len(), 4);
    let ends = "time,A/level\n2025-10-26 01:00,1\n2025-10-26 02:00,2\n";
    assert_eq!((take(ends, &rome(Fold::Order)).points.len(), take(ends, &rome(Fold::Order)).rejected), (1, 1));
}

#[test]
fn rejects_are_counted_and_only_the_first_are_kept() {
    let text = "time,A/level,B/level\n".to_owned() + &"2026-01-01T00:00:00Z,x,y\n".repeat(3);
    let mut batch = take(&text, &Settings { rejects_max: Some(3), ..settings() });
    batch.tidy_rejects();
    assert_eq!((batch.rejected, batch.left_out, batch.rejects.len()), (6, 3, 3));
    let texts: Vec<&str> = batch.rejects.iter().map(|reject| reject.text.as_str()).collect();
    assert_eq!(texts, ["2026-01-01T00:00:00Z,x,y", "", "2026-01-01T00:00:00Z,x,y"], "a line is shown once");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_no_number_gets_in_that_is_none(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(batch) = read(&bytes, &rome(Fold::Order), 2, &rows::Last::new()) {
            prop_assert!(batch.points.iter().all(|p| p.held.value.is_none_or(f64::is_finite)));
        }
    }

    #[test]
    fn numbers_are_read_as_they_were_written(value in -1e3..1e3_f64, comma in any::<bool>()) {
        let (cell, between) = if comma { (value.to_string().replace('.', ","), ';') } else { (value.to_string(), ',') };
        let batch = take(&format!("time{between}A/level\n2026-01-01T00:00:00Z{between}{cell}\n"), &settings());
        let read = batch.points.first().and_then(|p| p.held.value);
        prop_assert_eq!(read, (value >= -100.0).then_some(value));
    }
}
