//! `collector import`: CSV files into the running collector, piece by piece.

use super::Where;
use super::client::{Api, Away, query, said};
use super::print::{self, GREEN, YELLOW};
use crate::import::{self, Returns, Rows, Utf16};
use anstream::{eprint, eprintln, println};
use anyhow::{Context, bail};
use backon::{BlockingRetryable as _, ExponentialBuilder};
use clap::Args;
use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::reading::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bytes of a piece: some ten thousand rows, which are a transaction.
const PIECE: usize = 1 << 20;
/// A longer row is none.
const ROW_BYTES_MAX: u64 = 256 << 10;
/// How much of a file is looked at to see how it is written.
const HEAD: usize = 64 << 10;
/// Rejects that are shown, and when nothing else is done with them.
const SHOWN: usize = 5;
const SHOWN_DRY: usize = 50;
/// How often a piece is sent again when the collector is away or busy, and how long it is waited for that at most: five
/// minutes together, in which a machine starts again.
const TRIES: usize = 14;
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Series to be made that are named.
const NEW_SHOWN: usize = 20;

pub(super) const EXAMPLES: &str = "\
Examples:
  collector import readings.csv --dry-run
  collector import demand.csv.gz --metric flow_rate --unit m3/h --zone Europe/Rome --fold order --create
  collector import export.csv --map 'Portata (l/s)=DIST_001/flow_rate' --map 'Note=-' --reason 'logger of May'

A file has one row per reading (timestamp, node, metric, value, maybe channel, unit, quality, revision), or a column per
series, in UTF-8 or UTF-16. It can be imported again: what is there stays, and another value for it is rejected unless
--revision says more. A collector that is away for some minutes is waited for; after an interruption the same command goes
on where it stopped. What can't be taken goes to FILE.rejects.csv, with line and reason.

Exit codes: 0 all rows were taken, 1 some were not or it failed, 2 wrong configuration";

#[derive(Debug, Args)]
pub(super) struct Import {
    /// CSV files, plain or compressed with gzip
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    place: Where,
    /// Only read and report; stores nothing
    #[arg(long)]
    dry_run: bool,
    /// Make series that aren't there
    #[arg(long)]
    create: bool,
    /// Whose doing it is
    #[arg(long, env = "USER", default_value = "unknown")]
    author: String,
    /// Why, for the audit
    #[arg(long)]
    reason: Option<String>,
    /// Time zone of times without an offset, like Europe/Rome
    #[arg(long)]
    zone: Option<String>,
    /// What a local time means that was twice
    #[arg(long, value_parser = ["refuse", "order", "earlier", "later"])]
    fold: Option<String>,
    /// Order of dates with slashes or dots
    #[arg(long, value_parser = ["dmy", "mdy"])]
    dates: Option<String>,
    /// Between columns; found out by default
    #[arg(long)]
    delimiter: Option<char>,
    /// Before a number's fraction; found out by default
    #[arg(long, value_parser = [".", ","])]
    decimal: Option<String>,
    /// The node, where columns name only metrics
    #[arg(long)]
    node: Option<String>,
    /// The metric, where columns name only nodes
    #[arg(long)]
    metric: Option<String>,
    /// The unit, where columns name none
    #[arg(long)]
    unit: Option<String>,
    /// What a column is: NODE/metric or NODE/metric/channel, with [unit] behind it; a name like timestamp; - for nothing
    #[arg(long, value_name = "COLUMN=WHAT", value_parser = pair)]
    map: Vec<(String, String)>,
    /// Goes before what has a lower one: to overrule values that are there
    #[arg(long, default_value_t = 0)]
    revision: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, series) = text.rsplit_once('=').ok_or("it is COLUMN=SERIES")?;
    Ok((name.to_owned(), series.to_owned()))
}

/// What came of a file.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Sum {
    rows: u64,
    readings: u64,
    written: u64,
    unchanged: u64,
    empty: u64,
    rejected: u64,
    /// Series that the file makes.
    new_series: BTreeSet<String>,
}

/// A file that is through.
struct Done {
    sum: Sum,
    /// What was found out.
    dialect: Value,
    /// The first ones, and the file that has all.
    rejects: Vec<Value>,
    rejects_file: Option<PathBuf>,
    spans: Spans,
}

/// Which moments pieces are of. Two pieces of different moments can't say different things about one.
#[derive(Default)]
struct Spans {
    all: Option<(Timestamp, Timestamp)>,
    overlap: bool,
}

impl Spans {
    fn add(&mut self, from: Timestamp, to: Timestamp) {
        let (first, last) = self.all.unwrap_or((from, to));
        self.overlap |= self.all.is_some() && from <= last && first <= to;
        self.all = Some((first.min(from), last.max(to)));
    }
}

/// How far a file is, kept beside it until it is done.
#[derive(Default, Serialize, Deserialize)]
struct Mark {
    /// Which file, and said how.
    of: String,
    bytes: u64,
    line: u64,
    last: BTreeMap<String, String>,
    dialect: Value,
    sum: Sum,
}

pub(super) fn import(asked: &Import) -> anyhow::Result<()> {
    let api = Api::of(&asked.place)?;
    let mut rejected = 0;
    for (n, file) in asked.files.iter().enumerate() {
        let done = one(&api, asked, file).with_context(|| {
            let later: Vec<String> = asked.files[n + 1..].iter().map(|file| file.display().to_string()).collect();
            let later = if later.is_empty() { String::new() } else { format!(" (not begun: {})", later.join(", ")) };
            format!("{}{later}", file.display())
        })?;
        rejected += done.sum.rejected;
        if asked.json {
            println!("{}", in_json(file, asked, &done));
        } else {
            show(file, asked, &done);
        }
    }
    if rejected > 0 {
        let see = match &asked.files[..] {
            _ if asked.dry_run => String::new(),
            [file] => format!("; they are in {}", beside(file, ".rejects.csv").display()),
            _ => "; they are beside each file, under its name with .rejects.csv behind it".to_owned(),
        };
        bail!("{rejected} rows or cells can't be taken{see}");
    }
    Ok(())
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn one(api: &Api, asked: &Import, path: &Path) -> anyhow::Result<Done> {
    let mark_file = beside(path, ".import");
    let mut is_blank = false;
    let done = through(api, asked, path, &mark_file, &mut is_blank);
    if !asked.dry_run && (done.is_ok() || is_blank) {
        let _ = std::fs::remove_file(mark_file);
    }
    done
}

/// Imports a file; `is_blank` is whether it is noted how far it is, and that nothing is stored.
fn through(api: &Api, asked: &Import, path: &Path, mark_file: &Path, is_blank: &mut bool) -> anyhow::Result<Done> {
    let file = File::open(path)?;
    let about = file.metadata()?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (mut pieces, read) = Pieces::open(file, asked.delimiter)?;
    let header = pieces.header()?;
    anyhow::ensure!(!header.is_empty(), "the file is empty");
    let of = format!("{} bytes, changed {:?}, {}", about.len(), about.modified()?, options(asked, &name));
    let mut mark = resume(mark_file, &of).filter(|_| !asked.dry_run);
    if let Some(mark) = &mark {
        if mark.line > import::FIRST_LINE {
            eprintln!("goes on at line {}", mark.line);
        }
        pieces.skip(mark.bytes)?;
    }
    let mut rejects = Rejects::new(&beside(path, ".rejects.csv"), mark.is_some(), asked.dry_run);
    let mut mark = mark.take().unwrap_or_else(|| Mark { of, line: import::FIRST_LINE, ..Mark::default() });
    let (mut first, mut spans) = (true, Spans::default());
    if !asked.dry_run {
        keep(mark_file, &mark)?;
        *is_blank = mark.line == import::FIRST_LINE;
    }
    loop {
        let piece = pieces.next().map_err(|error| so_far(mark.line, error))?;
        if piece.is_empty() && !(first && mark.line == import::FIRST_LINE) {
            break;
        }
        let (body, more) = ([header.as_slice(), &piece].concat(), pieces.goes_on()?);
        let tries = if mark.line == import::FIRST_LINE { 0 } else { TRIES };
        let send = || send(api, asked, &name, &mark, &body, more);
        let answer = patiently(tries, send).map_err(|error| so_far(mark.line, error))?;
        if std::mem::take(&mut first) && !asked.json {
            found(&answer);
        }
        rejects.add(&answer, mark.line, asked.json)?;
        let moment = |name: &str| serde_json::from_value(answer[name].clone()).ok();
        if let (Some(from), Some(to)) = (moment("from"), moment("to")) {
            spans.add(from, to);
        }
        take(&mut mark, &answer, piece.len() as u64)?;
        if !asked.dry_run {
            keep(mark_file, &mark)?;
            *is_blank = false;
        }
        bar(path, read.load(Ordering::Relaxed), about.len(), &mark.sum);
    }
    clear_bar();
    let rejects_file = Some(rejects.path).filter(|file| !asked.dry_run && file.exists());
    Ok(Done { sum: mark.sum, dialect: mark.dialect, rejects: rejects.first, rejects_file, spans })
}

/// Sends, and sends again while the collector is away: what it has already is no other reading.
fn patiently(tries: usize, send: impl FnMut() -> anyhow::Result<Value>) -> anyhow::Result<Value> {
    let waits = ExponentialBuilder::default().with_min_delay(Duration::from_secs(1)).with_max_delay(WAIT_MAX);
    send.retry(waits.with_max_times(tries))
        .when(|error| error.is::<Away>())
        .notify(|error, wait| {
            clear_bar();
            eprintln!("{YELLOW}waits{YELLOW:#}  {error}; again in {} s", wait.as_secs());
        })
        .call()
}

/// An error, with what became of the rows before.
fn so_far(line: u64, error: anyhow::Error) -> anyhow::Error {
    let unsure = error.is::<Away>();
    error.context(match line {
        import::FIRST_LINE if unsure => "nothing of it is known to be stored; the same command tries again".to_owned(),
        import::FIRST_LINE => "nothing of it is stored".to_owned(),
        line if unsure => format!("it is stored up to line {}; the same command goes on from there", line - 1),
        line => format!("it is stored up to line {}, and not from there on", line - 1),
    })
}

/// Where it stopped, should it: without that it can't be begun.
fn keep(path: &Path, mark: &Mark) -> anyhow::Result<()> {
    let why = || format!("{} can't be written: copy the file into a folder where it can", path.display());
    std::fs::write(path, serde_json::to_vec(mark)?).with_context(why)
}

fn resume(path: &Path, of: &str) -> Option<Mark> {
    let mark: Mark = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    (mark.of == of).then_some(mark)
}

/// What is said about the file.
fn options(asked: &Import, file: &str) -> String {
    let map: BTreeMap<&String, &String> = asked.map.iter().map(|(name, series)| (name, series)).collect();
    query([
        ("dry", Some(asked.dry_run.to_string())),
        ("create", Some(asked.create.to_string())),
        ("author", Some(asked.author.clone())),
        ("reason", Some(asked.reason.clone().unwrap_or_else(|| format!("import of {file}")))),
        ("zone", asked.zone.clone()),
        ("fold", asked.fold.clone()),
        ("delimiter", asked.delimiter.map(String::from)),
        ("decimal", asked.decimal.clone()),
        ("dates", asked.dates.clone()),
        ("node", asked.node.clone()),
        ("metric", asked.metric.clone()),
        ("unit", asked.unit.clone()),
        ("map", (!map.is_empty()).then(|| json!(map).to_string())),
        ("revision", Some(asked.revision.to_string())),
    ])
}

fn send(api: &Api, asked: &Import, file: &str, mark: &Mark, body: &[u8], more: bool) -> anyhow::Result<Value> {
    let last = (!mark.last.is_empty()).then(|| json!(mark.last).to_string());
    let found = mark.dialect.is_object().then(|| mark.dialect.to_string());
    let place = query([
        ("first_line", Some(mark.line.to_string())),
        ("last", last),
        ("found", found),
        ("more", Some(more.to_string())),
    ]);
    api.send(&format!("import?{}&{place}", options(asked, file)), body)
}

fn take(mark: &mut Mark, answer: &Value, bytes: u64) -> anyhow::Result<()> {
    let count = |name: &str| answer[name].as_u64().unwrap_or(0);
    let sum = &mut mark.sum;
    sum.rows += count("rows");
    sum.readings += count("readings");
    sum.written += count("written");
    sum.unchanged += count("unchanged");
    sum.empty += count("empty");
    sum.rejected += count("rejected");
    mark.bytes += bytes;
    mark.line += count("lines");
    mark.last = serde_json::from_value(answer["last"].clone()).context("another version of the collector answers")?;
    mark.dialect = answer["dialect"].clone();
    let new = answer["new"].as_array().into_iter().flatten().filter_map(Value::as_str);
    sum.new_series.extend(new.map(str::to_owned));
    Ok(())
}

/// What the file was taken for.
fn found(answer: &Value) {
    let dialect = &answer["dialect"];
    let text = |value: &Value| value.as_str().map_or_else(|| "-".to_owned(), |text| text.escape_default().to_string());
    let decimal = dialect["decimal"].as_str().map_or_else(|| "not seen yet".to_owned(), |sign| format!("'{sign}'"));
    eprintln!("separator '{}', decimal sign {decimal}, dates {}", text(&dialect["delimiter"]), text(&dialect["dates"]));
    for column in answer["columns"].as_array().into_iter().flatten() {
        eprintln!("  {:<24} {}", text(&column["name"]), text(&column["taken_for"]));
    }
}

fn in_json(file: &Path, asked: &Import, done: &Done) -> Value {
    json!({
        "file": file,
        "dry": asked.dry_run,
        "dialect": done.dialect,
        "sum": done.sum,
        "rejects": done.rejects,
        "rejects_file": done.rejects_file,
        // Parts of one time, which aren't compared before they are stored.
        "compared": !(asked.dry_run && done.spans.overlap),
    })
}

fn show(path: &Path, asked: &Import, Done { sum, spans, .. }: &Done) {
    let style = if sum.rejected == 0 { GREEN } else { YELLOW };
    let counts = if asked.dry_run {
        format!("{} readings could be stored", sum.readings)
    } else {
        format!("{} readings, {} new or changed, {} there already", sum.readings, sum.written, sum.unchanged)
    };
    let (done, path) = (if asked.dry_run { "read only" } else { "done" }, path.display());
    println!(
        "{style}{done}{style:#}  {path}: {} rows, {counts}, {} empty cells, {} rejected",
        sum.rows, sum.empty, sum.rejected
    );
    if !sum.new_series.is_empty() {
        let named: Vec<&str> = sum.new_series.iter().take(NEW_SHOWN).map(String::as_str).collect();
        let more = sum.new_series.len().saturating_sub(NEW_SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        println!("{} series: {}{more}", if asked.dry_run { "would make" } else { "made" }, named.join(", "));
    }
    if asked.dry_run && spans.overlap {
        println!(
            "the file isn't in the order of time: whether it says two things about one moment is seen within {} MiB of it \
             only, and for all of it when it is stored",
            PIECE >> 20
        );
    }
}

fn bar(path: &Path, read: u64, size: u64, sum: &Sum) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let part = read.min(size) as f64 / size.max(1) as f64;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    eprint!("\r\x1b[K{name}  {}  {} rows", print::bar(part), sum.rows);
}

fn clear_bar() {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

/// Why a row can't be taken, and the option that puts it right.
fn reason(reject: &Value) -> String {
    said(reject["reason"].as_str().unwrap_or_default(), &reject["parameter"])
}

/// The file of what can't be taken, which is made when there is something.
struct Rejects {
    path: PathBuf,
    append: bool,
    /// They are shown, and not written.
    dry: bool,
    /// Those that are shown.
    first: Vec<Value>,
}

impl Rejects {
    fn new(path: &Path, append: bool, dry: bool) -> Self {
        if !append && !dry {
            let _ = std::fs::remove_file(path);
        }
        Self { path: path.into(), append, dry, first: Vec::new() }
    }

    /// Those of a piece that begins with that line.
    fn add(&mut self, answer: &Value, line: u64, quiet: bool) -> anyhow::Result<()> {
        let rejects = answer["rejects"].as_array().map_or(&[][..], Vec::as_slice);
        let most = if self.dry { SHOWN_DRY } else { SHOWN };
        for reject in rejects.iter().take(most.saturating_sub(self.first.len())) {
            self.first.push(reject.clone());
            if !quiet {
                clear_bar();
                eprintln!("{YELLOW}line {}{YELLOW:#}: {}", reject["line"], reason(reject));
            }
        }
        if self.dry || rejects.is_empty() {
            return Ok(());
        }
        self.write(rejects)?;
        match answer["left_out"].as_u64() {
            None | Some(0) => Ok(()),
            Some(more) => {
                let to = line + answer["lines"].as_u64().unwrap_or(1).saturating_sub(1);
                let why = format!("{more} more of lines {line} to {to} can't be taken, and are too many to be listed");
                self.write(&[json!({ "line": to, "reason": why })])
            }
        }
    }

    fn write(&mut self, rejects: &[Value]) -> anyhow::Result<()> {
        let is_new = !std::mem::replace(&mut self.append, true) || !self.path.exists();
        let file = File::options().create(true).append(true).open(&self.path);
        let mut out = csv::Writer::from_writer(file.with_context(|| self.path.display().to_string())?);
        if is_new {
            out.write_record(["line", "reason", "text"])?;
        }
        for reject in rejects {
            let text = reject["text"].as_str().unwrap_or_default();
            out.write_record([&reject["line"].to_string(), &reason(reject), text])?;
        }
        Ok(out.flush()?)
    }
}

/// A file's rows in pieces that end with a row.
struct Pieces {
    reader: Box<dyn BufRead>,
    rows: Rows,
    /// Whether its first line only says what stands between columns.
    has_preface: bool,
}

/// Counts what is read of a file that may be compressed.
struct Counted(File, Arc<AtomicU64>);

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

fn buffered(reader: impl Read + 'static) -> Box<dyn BufRead> {
    Box::new(BufReader::with_capacity(HEAD, reader))
}

impl Pieces {
    fn open(file: File, delimiter: Option<char>) -> anyhow::Result<(Self, Arc<AtomicU64>)> {
        let read = Arc::new(AtomicU64::new(0));
        let mut reader = buffered(Counted(file, read.clone()));
        if reader.fill_buf()?.starts_with(import::GZIP) {
            reader = buffered(MultiGzDecoder::new(reader));
        }
        if let Some(why) = import::no_text(reader.fill_buf()?) {
            bail!(why);
        }
        if let Some(is_big) = import::utf16(reader.fill_buf()?) {
            reader = buffered(Utf16::new(reader, is_big));
        }
        if import::ends_with_returns(reader.fill_buf()?) {
            reader = buffered(Returns(reader));
        }
        let (found, has_preface) = import::separator(reader.fill_buf()?);
        let rows = Rows::new(delimiter.unwrap_or(found) as u8);
        Ok((Self { reader, rows, has_preface }, read))
    }

    /// The line that names the columns, and the one before it.
    fn header(&mut self) -> anyhow::Result<Vec<u8>> {
        let first = self.row()?;
        Ok(if self.has_preface { [first, self.row()?].concat() } else { first })
    }

    /// A row with its line end; one with a line end within quotes is one, too. Empty: there is no more.
    fn row(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut row = Vec::new();
        loop {
            let before = row.len();
            (&mut self.reader).take(ROW_BYTES_MAX).read_until(b'\n', &mut row)?;
            let is_line = row.ends_with(b"\n");
            if row.len() == before || is_line && self.rows.end_with(&row[before..]) {
                return Ok(row);
            }
            anyhow::ensure!((row.len() as u64) < ROW_BYTES_MAX, "a row is longer than {ROW_BYTES_MAX} bytes");
        }
    }

    fn next(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut piece = Vec::with_capacity(PIECE + 1024);
        while piece.len() < PIECE {
            let row = self.row()?;
            if row.is_empty() {
                break;
            }
            piece.extend(row);
        }
        Ok(piece)
    }

    /// Whether there is more.
    fn goes_on(&mut self) -> anyhow::Result<bool> {
        Ok(!self.reader.fill_buf()?.is_empty())
    }

    fn skip(&mut self, bytes: u64) -> anyhow::Result<()> {
        let skipped = std::io::copy(&mut (&mut self.reader).take(bytes), &mut std::io::sink())?;
        anyhow::ensure!(skipped == bytes, "the file is shorter than it was");
        Ok(())
    }
}
