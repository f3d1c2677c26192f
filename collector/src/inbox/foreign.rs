//! Tables of other producers, node by node.

use super::rows::{self, Line};
use super::settings::{Database, ForeignInbox};
use super::store::{ForeignTables, InboxNews, Mark, Shape, Since};
use super::take::{Inbox, PIECE, Reach, Source, Taken, broken};
use crate::etl::Progress;
use crate::tiers::TierError;
use futures::stream::{self, StreamExt as _};
use std::collections::HashMap;
use std::time::Duration;

/// Nodes that are read at a time.
const NODES_AT_ONCE: usize = 4;
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
        let tables = match table.database {
            Database::Warm => self.warm.inbox().foreign(),
        };
        let tables = tables.ok_or_else(|| {
            broken(format!(
                "{} = \"{}\": [warm] is SQLite, which has only our own tables",
                table.key("table"),
                table.table
            ))
        })?;
        let shape = tables.shape(table).await?;
        if shape.is_local && table.zone.is_none() {
            let why = format!("column {} has no time zone: say which, like \"Europe/Rome\"", table.time);
            return Err(broken(format!("{}: {why}", table.key("zone"))));
        }
        let marks = self.warm.inbox().marks(&table.name).await?;
        let marks: HashMap<String, String> = marks.into_iter().map(|mark| (mark.node, mark.until)).collect();
        let nodes = tables.nodes(table).await?;
        let back = match reach {
            Reach::Short => table.overlap.0,
            Reach::Long => table.daily_overlap.0,
        };
        let source = Source { name: table.name.clone(), settings: rows::settings(table.zone.as_deref(), table.fold) };
        let work = Work { inbox: self, table, tables, shape, source, progress };
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
        let until = self.inbox.latest();
        let piece = (PIECE / self.table.columns.len() as u32).max(PIECE_MIN);
        let mut since = mark.clone().map_or(Since::Ever, |mark| Since::Before(mark, back));
        loop {
            let rows = self.tables.rows(self.table, &self.shape, node, &since, until, piece).await?;
            let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(()) };
            let whole = rows.len() < piece as usize;
            if !whole && first.time == last.time {
                return Err(broken(format!("more than {piece} rows at {}", last.time)));
            }
            let lines: Vec<Line> = rows.iter().flat_map(|row| rows::lines(self.table, node, row)).collect();
            let until = Some(last.time.clone()).filter(|time| mark.as_ref() != Some(time));
            let marks = until.map(|until| Mark { source: self.source.name.clone(), node: node.to_owned(), until });
            let news = InboxNews { marks: marks.into_iter().collect(), ..InboxNews::default() };
            let done = self.inbox.store(&self.source, lines, rows.len() as u64, news, self.progress).await?;
            taken.add(done);
            if whole {
                return Ok(());
            }
            since = Since::Before(last.time.clone(), Duration::ZERO);
        }
    }
}
