//! `collector export`: readings of any stretch, out of all tiers.

use super::Where;
use super::client::{Api, query};
use crate::api::BROKEN_OFF;
use anstream::{eprint, eprintln};
use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write};
use std::path::{Path, PathBuf};

pub(super) const EXAMPLES: &str = "\
Examples:
  collector export --node DIST_001 --from now-30d --out may.csv
  collector export --metric flow_rate --from 2026-01-01 --to 2027-01-01 --out 2026.parquet
  collector export --from now-1h | head

What it writes, `collector import` reads.";

/// The end of what comes, in which the collector's last words are looked for.
const TAIL: usize = 4_096;

#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    place: Where,
    /// From when on: RFC 3339, a day like 2026-03-01 (UTC), or like now-6h
    #[arg(long, default_value = "now-1d")]
    from: String,
    /// Until when
    #[arg(long, default_value = "now")]
    to: String,
    /// Only of this node
    #[arg(long)]
    node: Option<String>,
    /// Only this metric
    #[arg(long)]
    metric: Option<String>,
    /// Only this channel
    #[arg(long)]
    channel: Option<String>,
    /// csv or parquet; what --out ends with, csv otherwise
    #[arg(long, value_parser = ["csv", "parquet"])]
    format: Option<String>,
    /// The file; standard output by default
    #[arg(long, short)]
    out: Option<PathBuf>,
}

pub(super) fn export(asked: &Export) -> anyhow::Result<()> {
    let by_name = asked.out.as_ref().and_then(|path| path.extension()).is_some_and(|end| end == "parquet");
    let format = asked.format.clone().or_else(|| by_name.then(|| "parquet".to_owned()));
    let path = query([
        ("from", Some(asked.from.clone())),
        ("to", Some(asked.to.clone())),
        ("node", asked.node.clone()),
        ("metric", asked.metric.clone()),
        ("channel", asked.channel.clone()),
        ("format", format),
    ]);
    let mut answer = Tail::of(Api::of(&asked.place)?.stream(&format!("export?{path}"))?);
    let Some(out) = &asked.out else {
        let copied = copy(&mut answer, &mut io::stdout().lock(), false);
        return match copied {
            // `export | head` has what it wants.
            Err(Broken::Here(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            copied => copied.map(drop).map_err(|error| answer.why(error, "standard output")),
        };
    };
    let bytes = into_file(&mut answer, out)?;
    eprintln!("{}: {}", out.display(), bytesize::ByteSize::b(bytes));
    Ok(())
}

/// A file of this name is a whole one. What is no file, as a device or a pipe, is written into.
fn into_file(answer: &mut Tail<impl Read>, out: &Path) -> anyhow::Result<u64> {
    let name = out.display().to_string();
    let out = std::fs::canonicalize(out).unwrap_or_else(|_| out.to_owned()); // what a link names
    let (is_folder, is_special) = std::fs::metadata(&out).map_or((false, false), |at| (at.is_dir(), !at.is_file()));
    if is_folder {
        bail!("{name} is a folder: name a file in it");
    }
    let tell = io::stderr().is_terminal();
    if is_special {
        let mut there = File::options().write(true).open(&out).with_context(|| name.clone())?;
        return copy(answer, &mut there, tell).map_err(|error| answer.why(error, &name));
    }
    let part = out.with_added_extension("part");
    let mut file = File::create(&part).with_context(|| part.display().to_string())?;
    let copied = copy(answer, &mut file, tell).and_then(|bytes| {
        file.sync_all().and_then(|()| std::fs::rename(&part, &out)).map_err(Broken::Here)?;
        Ok(bytes)
    });
    copied.map_err(|error| {
        let _ = std::fs::remove_file(&part);
        answer.why(error, &name)
    })
}

/// On which side it broke off.
enum Broken {
    /// The collector's.
    There(io::Error),
    /// Where it is written.
    Here(io::Error),
}

/// What comes, and the end of it.
struct Tail<R> {
    from: R,
    last: Vec<u8>,
}

impl<R> Tail<R> {
    fn of(from: R) -> Self {
        Self { from, last: Vec::new() }
    }

    /// Why it broke off: what the collector said last, if it still could.
    fn why(&self, error: Broken, out: &str) -> anyhow::Error {
        let error = match error {
            Broken::Here(error) => return anyhow::Error::new(error).context(format!("{out} can't be written")),
            Broken::There(error) => error,
        };
        let text = String::from_utf8_lossy(&self.last);
        match text.rsplit_once(BROKEN_OFF) {
            Some((_, why)) => anyhow!("the export broke off: {}", why.trim_end()),
            None => anyhow::Error::new(error).context("the export broke off; the collector's log says why"),
        }
    }
}

impl<R: Read> Read for Tail<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.last.extend_from_slice(&buffer[..count]);
        self.last.drain(..self.last.len().saturating_sub(TAIL));
        Ok(count)
    }
}

fn copy(from: &mut impl Read, to: &mut impl Write, tell: bool) -> Result<u64, Broken> {
    let (mut buffer, mut bytes) = (vec![0; 256 << 10], 0);
    loop {
        let count = from.read(&mut buffer).map_err(Broken::There)?;
        if tell {
            eprint!("\r\x1b[K");
        }
        if count == 0 {
            to.flush().map_err(Broken::Here)?;
            return Ok(bytes);
        }
        to.write_all(&buffer[..count]).map_err(Broken::Here)?;
        bytes += count as u64;
        if tell {
            eprint!("{}", bytesize::ByteSize::b(bytes));
        }
    }
}
