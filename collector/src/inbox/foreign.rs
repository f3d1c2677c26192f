//! Tables of other producers, node by node.

use super::rows::{self, Line};
use super::settings::ForeignInbox;
use super::store::{ForeignTables, InboxNews, Mark, NODES_MAX, Shape, Since, Which};
use super::take::{Inbox, PIECE, Reach, Source, Taken, broken};
use crate::etl::Progress;
use crate::import::Settings;
use crate::tiers::TierError;
use futures::stream::{self, StreamExt as _};
use std::collections::HashMap;
use std::time::Duration;

/// Nodes that are read at a time.
const NODES_AT_ONCE: usize = 4;
/// Rows of a node, or of none, that are told for having no place in time.
const ASTRAY_MAX: u32 = 1_000;
/// Rows of one transaction at least, however many columns they have.
const PIECE_MIN: u32 = 100;

/// What reading a table takes.
struct Work<'a> {
    inbox: &'a Inbox,
    table: &'a ForeignInbox,
    tables: &'a dyn ForeignTables,
    shape: Shape,
    source: Source,
    progress: &'a Progress,
}

impl Inbox {
    pub(super) async fn foreign(
        &self,
        table: &ForeignInbox,
        reach: Reach,
        taken: &mut Taken,
        progress: &Progress,
    ) -> Result<(), TierError> {
        let tables = self.warm.inbox().foreign().ok_or_else(|| {
            broken(format!(
                "{} = \"{}\": [warm] is SQLite, which has only our own tables",
                table.key("table"),
                table.table
            ))
        })?;
        let shape = tables.shape(table).await?;
        let marks = self.warm.inbox().marks(&table.name).await?;
        let marks: HashMap<String, String> = marks.into_iter().map(|mark| (mark.node, mark.until)).collect();
        let nodes = tables.nodes(table).await?;
        let back = match reach {
            Reach::Short => table.overlap.0,
            Reach::Long => table.daily_overlap.0,
        };
        if nodes.len() as u32 == NODES_MAX {
            taken.failed.push(format!("inbox.{}: more than {NODES_MAX} nodes; the others are left out", table.name));
        }
        let source = Source { name: table.name.clone(), settings: rows::foreign(table), is_history: false };
        let work = Work { inbox: self, table, tables, shape, source, progress };
        taken.add(work.astray("", Which::Nowhere).await?);
        let mut under_way = stream::iter(nodes)
            .map(|node| {
                let mark = marks.get(&node).cloned();
                let work = &work;
                async move {
                    let mut taken = Taken::default();
                    let done = work.node(&node, mark, back, &mut taken).await;
                    (node, done, taken)
                }
            })
            .buffer_unordered(NODES_AT_ONCE);
        while let Some((node, done, of_node)) = under_way.next().await {
            taken.add(of_node);
            match done {
                Ok(()) => {}
                Err(error @ TierError::Unavailable { .. }) => return Err(error), // the others would meet with the same
                Err(error) => taken.failed.push(format!("inbox.{}: node {node}: {error}", table.name)),
            }
        }
        Ok(())
    }
}

impl Work<'_> {
    /// Reads a node's rows in pieces; each piece's readings and how far that was are one transaction.
    async fn node(&self, node: &str, mark: Option<String>, back: Duration, taken: &mut Taken) -> Result<(), TierError> {
        // Rows of later moments wait until it is time: a clock that is wrong by years must not hide what comes until then.
        let latest = self.inbox.latest();
        taken.add(self.astray(node, Which::Astray { node, until: latest }).await?);
        let source = Source { is_history: mark.is_none(), ..self.source.clone() };
        let piece = (PIECE / self.table.readings_max() as u32).max(PIECE_MIN);
        let mut since = mark.clone().map_or(Since::Ever, |mark| Since::Before(mark, back));
        loop {
            let which = Which::Of { node, since: &since, until: latest };
            let rows = self.tables.rows(self.table, &self.shape, which, piece).await?;
            let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(()) };
            let whole = rows.len() < piece as usize;
            if !whole && first.time == last.time {
                return Err(broken(format!("more than {piece} rows at {}", last.time)));
            }
            let lines: Vec<Line> = rows.iter().flat_map(|row| rows::lines(self.table, node, row)).collect();
            let until = Some(last.time.clone()).filter(|time| mark.as_ref() != Some(time));
            let marks = until.map(|until| Mark { source: source.name.clone(), node: node.to_owned(), until });
            let news = InboxNews { marks: marks.into_iter().collect(), ..InboxNews::default() };
            let done = self.inbox.store(&source, lines, rows.len() as u64, news, self.progress).await?;
            taken.add(done);
            if whole {
                return Ok(());
            }
            since = Since::Before(last.time.clone(), Duration::ZERO);
        }
    }

    /// Tells rows that are in no place in time. They stay, and each is told once.
    async fn astray(&self, node: &str, which: Which<'_>) -> Result<Taken, TierError> {
        let rows = self.tables.rows(self.table, &self.shape, which, ASTRAY_MAX).await?;
        let lines: Vec<Line> = rows.iter().flat_map(|row| rows::lines(self.table, node, row)).collect();
        let settings = Settings { latest: Some(self.inbox.latest()), ..self.source.settings.clone() };
        let source = Source { settings, ..self.source.clone() };
        self.inbox.store(&source, lines, rows.len() as u64, InboxNews::default(), self.progress).await
    }
}
