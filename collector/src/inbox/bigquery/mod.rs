//! Tables of other producers in BigQuery. A question is billed for 10 MB at least, so that all nodes are read by a few of
//! them: one finds out which have something, the others bring rows by node and moment.
//!
//! * `access`: `[bigquery]`, and where a table is
//! * `shape`, `sql`, `moment`: what its columns are, and how they are asked for (pure)
//! * `plan`: which nodes are read from where (pure)
//! * `reader`: asks

pub mod access;
mod moment;
mod plan;
mod reader;
mod shape;
mod sql;

use super::rows::{self, Line};
use super::settings::ForeignInbox;
use super::store::{InboxNews, Mark, NODES_MAX};
use super::take::{Inbox, PIECE, Reach, Source, Taken};
use crate::etl::Progress;
use crate::import::Settings;
use crate::tiers::TierError;
use access::BigQueryAccess;
use futures::TryStreamExt as _;
use plan::Part;
use reader::{Reader, Row};
use shared::reading::micros;
use std::collections::HashMap;
use std::time::Duration;

/// Rows in no place that are told at a time.
const ASTRAY_MAX: u32 = 1_000;
/// Rows of one transaction at least, however many readings they have.
const PIECE_MIN: usize = 100;
/// Whose mark says how far a table was read in the order in which rows came: no node is called so.
const ALL: &str = "";
/// A longer span is counted by days before it is read.
const SHORT: Duration = Duration::from_secs(7 * 86_400);

/// Looks whether a table can be read as it is mapped, and changes nothing; gives what could be better, in words.
///
/// # Errors
/// When it can't, or BigQuery can't be asked; the text names the setting.
pub async fn check(access: &BigQueryAccess, table: &ForeignInbox) -> Result<Option<String>, TierError> {
    Ok(Reader::open(access, table).await?.advice)
}

/// What reading a table takes.
struct Work<'a> {
    inbox: &'a Inbox,
    table: &'a ForeignInbox,
    reader: Reader,
    source: Source,
    /// Up to which moment each node was read.
    marks: HashMap<String, i64>,
    progress: &'a Progress,
}

impl Inbox {
    pub(super) async fn bigquery(
        &self,
        table: &ForeignInbox,
        reach: Reach,
        taken: &mut Taken,
        progress: &Progress,
    ) -> Result<(), TierError> {
        let reader = Reader::open(&self.bigquery, table).await?;
        let marks = self.warm.inbox().marks(&table.name).await?;
        let marks = marks.into_iter().filter_map(|mark| Some((mark.node, moment::micros(&mark.until)?))).collect();
        let source = Source { name: table.name.clone(), settings: rows::foreign(table), is_history: false };
        let work = Work { inbox: self, table, reader, source, marks, progress };
        work.all(reach, taken).await
    }
}

impl Work<'_> {
    async fn all(&self, reach: Reach, taken: &mut Taken) -> Result<(), TierError> {
        let until = self.reader.there(self.inbox.latest());
        let back = match reach {
            Reach::Short => self.table.overlap.0,
            Reach::Long => self.table.daily_overlap.0,
        };
        if self.table.received.is_some() {
            return self.arrivals(micros(back), until, taken).await;
        }
        let front = self.marks.values().copied().max();
        // Every night all of the table is searched for nodes: nothing of theirs can be so old that it isn't found.
        let window = |front: i64| front.saturating_sub(micros(self.table.daily_overlap.0));
        let from = front.filter(|_| reach == Reach::Short).map(window);
        let mut found = self.reader.nodes(from, until).await?;
        if found.len() > NODES_MAX as usize {
            let name = &self.table.name;
            taken.failed.push(format!("inbox.{name}: more than {NODES_MAX} nodes; the others are left out"));
            found.truncate(NODES_MAX as usize);
        }
        if found.iter().any(|found| found.astray > 0 || found.node.is_none()) {
            // Rows that are in no place in time, or nobody's, are told. They stay, and each is told once.
            let settings = Settings { latest: Some(self.inbox.latest()), ..self.source.settings.clone() };
            self.astray(settings, from, until, taken).await?;
        }
        for part in plan::parts(&found, &self.marks, micros(back)) {
            self.part(&part, until, taken).await?;
        }
        Ok(())
    }

    /// Reads rows in the order in which they came, whatever their moments are.
    async fn arrivals(&self, back: i64, until: i64, taken: &mut Taken) -> Result<(), TierError> {
        let from = self.marks.get(ALL).map(|mark| mark.saturating_sub(back));
        // Of some nobody knows when they came: they are read each time.
        if self.astray(self.source.settings.clone(), from, until, taken).await? == ASTRAY_MAX as usize {
            let (name, column) = (&self.table.name, self.table.received.as_deref().unwrap_or_default());
            let why =
                format!("more than {ASTRAY_MAX} rows have nothing, or a moment in the future, in the column {column}");
            taken.failed.push(format!("inbox.{name}: {why}; the others are left out"));
        }
        self.part(&Part::Arrivals(from), until, taken).await
    }

    async fn astray(
        &self,
        settings: Settings,
        from: Option<i64>,
        until: i64,
        taken: &mut Taken,
    ) -> Result<usize, TierError> {
        let rows = self.reader.astray(from, until, ASTRAY_MAX).await?;
        let source = Source { settings, ..self.source.clone() };
        let (lines, count) = (self.lines(&rows), rows.len());
        taken.add(self.inbox.store(&source, lines, count as u64, InboxNews::default(), self.progress).await?);
        Ok(count)
    }

    async fn part(&self, part: &Part, until: i64, taken: &mut Taken) -> Result<(), TierError> {
        let (names, span) = (part.names(), (part.from(), until));
        let is_short = span.0.is_some_and(|from| until - from <= micros(SHORT));
        let spans = match is_short {
            true => vec![span],
            false => plan::slices(&self.reader.days(names.as_deref(), span).await?, span),
        };
        let most = (PIECE as usize / self.table.readings_max()).max(PIECE_MIN);
        for span in spans {
            let mut pages = self.reader.rows(names.as_deref(), span);
            let mut piece: Vec<Row> = Vec::new();
            while let Some(page) = pages.try_next().await? {
                for row in page {
                    if !row.at.is_some_and(|at| part.wants(row.node.as_deref(), at)) {
                        continue;
                    }
                    if piece.len() == most || piece.last().is_some_and(|last| self.marked(last) != self.marked(&row)) {
                        self.store(&std::mem::take(&mut piece), taken).await?;
                    }
                    piece.push(row);
                }
            }
            self.store(&piece, taken).await?;
        }
        Ok(())
    }

    /// Whose mark a row moves.
    fn marked<'a>(&self, row: &'a Row) -> &'a str {
        if self.table.received.is_some() { ALL } else { row.node.as_deref().unwrap_or_default() }
    }

    /// Stores rows of one mark, ascending, and in the same transaction how far that was.
    async fn store(&self, rows: &[Row], taken: &mut Taken) -> Result<(), TierError> {
        let Some((node, at)) = rows.last().and_then(|last| Some((self.marked(last), last.at?))) else { return Ok(()) };
        let before = self.marks.get(node);
        let source = Source { is_history: before.is_none(), ..self.source.clone() };
        let mark = Mark { source: source.name.clone(), node: node.to_owned(), until: self.reader.text(at) };
        let marks = before.is_none_or(|before| at > *before).then_some(mark);
        let news = InboxNews { marks: marks.into_iter().collect(), ..InboxNews::default() };
        taken.add(self.inbox.store(&source, self.lines(rows), rows.len() as u64, news, self.progress).await?);
        Ok(())
    }

    fn lines(&self, rows: &[Row]) -> Vec<Line> {
        let lines = |row: &Row| rows::lines(self.table, row.node.as_deref().unwrap_or_default(), &row.row);
        rows.iter().flat_map(lines).collect()
    }
}
