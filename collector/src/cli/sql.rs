//! `collector sql`: a question to the archive, whether the collector runs or not.

use super::Where;
use super::print::{YELLOW, table};
use crate::config::Config;
use crate::etl::ledger::ArchivedDays;
use crate::sql::rows::{Json, columns, rows};
use crate::sql::{Answer, Sql};
use crate::tiers::cold::lost;
use crate::tiers::cold::settings::Store;
use crate::tiers::warm;
use anstream::eprintln;
use anyhow::{Context, bail};
use clap::Args;
use futures::FutureExt as _;
use parquet::arrow::ArrowWriter;
use serde_json::Value;
use shared::config::HumanDuration;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) const EXAMPLES: &str = "\
Examples:
  collector sql \"SELECT node, metric, count(*) FROM readings WHERE ts >= '2026-11-01' GROUP BY node, metric\"
  collector sql --file monthly.sql --format csv --out monthly.csv
  echo \"SELECT max(ts) FROM readings\" | collector sql --json

The table is readings(series, node, metric, channel, ts, value, quality, revision). Times are UTC; a WHERE on ts opens only
the days it touches. quality is 0 for good, 64 and more for uncertain, 128 and more for bad, 192 for entered by a person.

Exit codes: 0 all rows are there, 1 it failed or there are more rows than [sql] rows (say --rows), 2 wrong usage or
configuration";

/// Longest text that is read; the query itself may be shorter only.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// Rows of a table, which are all in memory.
const TABLE_ROWS_MAX: u64 = 10_000;

#[derive(Debug, Args)]
pub(super) struct Ask {
    /// One SELECT; without it and --file, what comes by standard input
    query: Option<String>,
    #[command(flatten)]
    place: Where,
    /// Read the query from this file
    #[arg(long, short, conflicts_with = "query", value_name = "PATH")]
    file: Option<PathBuf>,
    /// How rows are written; parquet needs --out
    #[arg(long, default_value = "table", value_parser = ["table", "csv", "json", "parquet"])]
    format: String,
    /// Print JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// The file; standard output by default
    #[arg(long, short)]
    out: Option<PathBuf>,
    /// Most rows, in the place of [sql] rows
    #[arg(long)]
    rows: Option<u64>,
    /// Longest time, in the place of [sql] time
    #[arg(long)]
    time: Option<HumanDuration>,
}

pub(super) fn ask(asked: &Ask) -> anyhow::Result<()> {
    let config = Config::load(&asked.place.config)?;
    let text = text(asked)?;
    let format = if asked.json { "json" } else { &asked.format };
    if format == "parquet" && asked.out.is_none() {
        bail!("Parquet is nothing to look at: say --out FILE");
    }
    let mut settings = config.sql;
    settings.time = asked.time.unwrap_or(settings.time);
    settings.rows = asked.rows.unwrap_or(settings.rows);
    if format == "table" {
        settings.rows = settings.rows.min(TABLE_ROWS_MAX);
    }
    if config.cold.store() == Store::BigQuery {
        bail!("the archive is in BigQuery ({}): ask it there", config.cold.place(&config.cold_dir()));
    }
    let folder = config.cold.folder.clone().unwrap_or_else(|| config.cold_dir());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let archived = runtime.block_on(warm::archived(&config.warm, &config.warm_file())).unwrap_or_else(|error| {
        eprintln!("{YELLOW}unsure{YELLOW:#}  the database can't say which days the archive must have: {error}");
        ArchivedDays::default()
    });
    if config.cold.url.is_none() && !folder.is_dir() {
        if !archived.days.is_empty() {
            bail!(lost::words(&folder.display().to_string(), &archived.days));
        }
        bail!("{}: there is no archive yet; `collector jobs run daily_sync` makes it", folder.display());
    }
    let expected = move || std::future::ready(archived.clone()).boxed();
    let sql = Sql::new(config.cold.open_files(&folder)?, settings)?.expecting(Arc::new(expected));
    let (more, until, behind) = runtime.block_on(async {
        let mut answer = sql.ask(&text, None).await?;
        match &asked.out {
            Some(path) => to_file(&mut answer, format, path).await?,
            None => to_stdout(&mut answer, format).await?,
        }
        anyhow::Ok((answer.truncated(), answer.until, answer.behind))
    })?;
    if format != "json" {
        match until {
            Some(day) => eprintln!("the archive holds days up to {day}; what is newer is not in it yet"),
            None => eprintln!("the archive holds no day yet"),
        }
        if !behind.is_empty() {
            let some = lost::some(&behind);
            eprintln!(
                "{YELLOW}behind{YELLOW:#}  something newer of {some} is not in it yet: `collector jobs run daily_sync`"
            );
        }
    }
    if more && asked.rows.is_none() {
        bail!("there are more than {} rows; --rows asks for more", settings.rows);
    }
    if more {
        eprintln!("{YELLOW}there are more{YELLOW:#} than {} rows", settings.rows);
    }
    Ok(())
}

fn text(asked: &Ask) -> anyhow::Result<String> {
    if let Some(query) = &asked.query {
        return Ok(query.clone());
    }
    let mut text = String::new();
    match &asked.file {
        Some(path) => {
            let shown = || path.display().to_string();
            File::open(path).with_context(shown)?.take(TEXT_BYTES_MAX).read_to_string(&mut text).with_context(shown)?;
        }
        None if io::stdin().is_terminal() => bail!("say the query, or --file; --help has examples"),
        None => {
            io::stdin().lock().take(TEXT_BYTES_MAX).read_to_string(&mut text).context("standard input")?;
        }
    }
    Ok(text)
}

async fn to_stdout(answer: &mut Answer, format: &str) -> anyhow::Result<()> {
    match write(answer, format, BufWriter::new(io::stdout())).await {
        // `collector sql … | head` has what it wants.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        other => other.map(drop),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    kinds.map(io::Error::kind).any(|kind| kind == io::ErrorKind::BrokenPipe)
}

/// A file of this name is a whole one.
async fn to_file(answer: &mut Answer, format: &str, path: &Path) -> anyhow::Result<()> {
    let part = path.with_added_extension("part");
    let file = File::create(&part).with_context(|| part.display().to_string())?;
    let written = async {
        write(answer, format, BufWriter::new(file.try_clone()?)).await?;
        file.sync_all()?;
        std::fs::rename(&part, path)?;
        anyhow::Ok(())
    };
    let written = written.await;
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written.with_context(|| path.display().to_string())
}

async fn write(answer: &mut Answer, format: &str, mut to: impl Write + Send) -> anyhow::Result<()> {
    match format {
        "csv" => csv(answer, &mut to).await?,
        "json" => json(answer, &mut to).await?,
        "parquet" => {
            let mut file = ArrowWriter::try_new(&mut to, answer.schema.clone(), None)?;
            while let Some(batch) = answer.next().await? {
                file.write(&batch)?;
            }
            file.close()?;
        }
        _ => shown(answer, &mut to).await?,
    }
    Ok(to.flush()?)
}

fn names(answer: &Answer) -> Vec<String> {
    answer.schema.fields().iter().map(|field| field.name().clone()).collect()
}

/// As it stands in a cell.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

async fn csv(answer: &mut Answer, to: &mut impl Write) -> anyhow::Result<()> {
    let mut file = csv::Writer::from_writer(to);
    file.write_record(names(answer))?;
    while let Some(batch) = answer.next().await? {
        for row in rows(&batch)? {
            file.write_record(row.iter().map(plain))?;
        }
    }
    Ok(file.flush()?)
}

async fn json(answer: &mut Answer, to: &mut impl Write) -> anyhow::Result<()> {
    let mut json = Json::default();
    to.write_all(Json::head(&answer.schema).as_bytes())?;
    while let Some(batch) = answer.next().await? {
        to.write_all(json.rows(&batch)?.as_bytes())?;
    }
    Ok(to.write_all(Json::tail(answer).as_bytes())?)
}

async fn shown(answer: &mut Answer, to: &mut impl Write) -> anyhow::Result<()> {
    let names = names(answer);
    let mut shown = table(names.iter().map(String::as_str));
    for (n, column) in columns(&answer.schema).iter().enumerate() {
        if let Some(shown) = shown.column_mut(n).filter(|_| column["type"] == "number") {
            shown.set_cell_alignment(comfy_table::CellAlignment::Right);
        }
    }
    while let Some(batch) = answer.next().await? {
        shown.add_rows(rows(&batch)?.iter().map(|row| row.iter().map(plain)));
    }
    Ok(writeln!(to, "{shown}")?)
}
