//! From inboxes into the tiers.

use super::OWN;
use super::bigquery::access::BigQueryAccess;
use super::rows::{self, Line};
use super::settings::{Database, ForeignInbox};
use super::sort::{Rhythm, Sorted};
use super::store::{InboxNews, REJECTS_MAX};
use crate::etl::{Now, Progress};
use crate::flush::Write;
use crate::grants::Grants;
use crate::import::Settings;
use crate::resolve::Timely;
use crate::tiers::{ColdTier, Flush, LateReadings, SeriesKey, TierError, WarmTier};
use shared::ids::GatewayId;
use shared::reading::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Rows of one transaction.
pub(super) const PIECE: u32 = 5_000;
/// Most pieces of our own table in one run: whoever writes without end doesn't keep it from ending.
const PIECES_MAX: usize = 1_000;

/// What is said when there are [`REJECTS_MAX`] of a table: another one's are no reason to read less of this one.
const FULL: &str = "too many rows that can't be taken wait for a decision, and what brings more of them isn't read: \
    `collector inbox rejects` lists them, `collector inbox drop` lets them go";

/// How far back rows of foreign tables are read again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// As far as rows usually come late.
    Short,
    /// As far as they come late at all.
    Long,
}

/// What became of rows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Taken {
    /// Rows that were read.
    pub rows: u64,
    /// Readings that are new, or overrule what stood there.
    pub stored: u64,
    /// Readings that were set aside.
    pub quarantined: u64,
    /// Rows, or values of them, that can't be taken.
    pub rejected: u64,
    /// Tables that can't be read, and why.
    pub failed: Vec<String>,
}

impl Taken {
    pub(super) fn add(&mut self, other: Taken) {
        self.rows += other.rows;
        self.stored += other.stored;
        self.quarantined += other.quarantined;
        self.rejected += other.rejected;
        self.failed.extend(other.failed);
    }

    /// In words.
    #[must_use]
    pub fn words(&self) -> String {
        if self.rows == 0 {
            return "nothing in the inboxes".into();
        }
        let mut words = format!("{} readings from {} rows of inboxes", self.stored, self.rows);
        for (count, what) in [(self.quarantined, "set aside"), (self.rejected, "can't be taken")] {
            if count > 0 {
                words.push_str(&format!("; {count} {what}"));
            }
        }
        words
    }
}

/// Takes what is in inboxes.
pub struct Inbox {
    pub(super) warm: Arc<dyn WarmTier>,
    /// What stands there isn't contradicted either.
    pub(super) cold: Option<Arc<dyn ColdTier>>,
    write: Write,
    pub(super) grants: Grants,
    tables: Vec<ForeignInbox>,
    pub(super) bigquery: BigQueryAccess,
    pub(super) timely: Timely,
    pub(super) now: Now,
    /// One at a time in this collector: whoever comes second finds nothing left.
    turn: Mutex<()>,
    /// How often values of series come.
    pub(super) rhythms: std::sync::Mutex<HashMap<SeriesKey, Rhythm>>,
}

/// Who writes, and how it is understood.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) name: GatewayId,
    pub(super) settings: Settings,
    /// What a table held before it was first read: nobody was late with it.
    pub(super) is_history: bool,
}

impl Inbox {
    /// Of these tables and our own. Readings go through `write`.
    #[must_use]
    pub fn new(
        (warm, cold): (Arc<dyn WarmTier>, Option<Arc<dyn ColdTier>>),
        write: Write,
        grants: Grants,
        tables: Vec<ForeignInbox>,
        timely: Timely,
        now: Now,
    ) -> Self {
        let (turn, rhythms, bigquery) = (Mutex::default(), std::sync::Mutex::default(), BigQueryAccess::default());
        Self { warm, cold, write, grants, tables, bigquery, timely, now, turn, rhythms }
    }

    /// With a way to tables in BigQuery.
    #[must_use]
    pub fn with_bigquery(self, bigquery: BigQueryAccess) -> Self {
        Self { bigquery, ..self }
    }

    /// Takes all there is. What can't be read is told in what is given back, and stops nothing else.
    pub async fn take(&self, reach: Reach, progress: &Progress) -> Taken {
        let _turn = self.turn.lock().await;
        let mut taken = Taken::default();
        if let Err(error) = self.learn_rhythms().await {
            taken.failed.push(error.to_string());
            return taken;
        }
        if let Err(error) = self.own(&mut taken, progress).await {
            taken.failed.push(format!("our own table: {error}"));
        }
        for table in &self.tables {
            let done = match table.database {
                Database::Warm => self.foreign(table, reach, &mut taken, progress).await,
                Database::BigQuery => self.bigquery(table, reach, &mut taken, progress).await,
            };
            if let Err(error) = done {
                taken.failed.push(format!("inbox.{}: {error}", table.name));
            }
        }
        taken
    }

    async fn own(&self, taken: &mut Taken, progress: &Progress) -> Result<(), TierError> {
        let source = Source { name: GatewayId::new(OWN).map_err(broken)?, settings: rows::own(), is_history: false };
        let mut after = i64::MIN;
        for _ in 0..PIECES_MAX {
            let waiting = self.warm.inbox().waiting(after, PIECE).await?;
            let Some(last) = waiting.last() else { break };
            after = last.number;
            let numbers: Vec<i64> = waiting.iter().map(|row| row.number).collect();
            let lines: Vec<Line> = waiting.into_iter().map(|row| row.line).collect();
            let rows = lines.len() as u64;
            let news = InboxNews { taken: numbers, ..InboxNews::default() };
            taken.add(self.store(&source, lines, rows, news, progress).await?);
        }
        Ok(())
    }

    /// Stores lines, and with them that they are done with.
    pub(super) async fn store(
        &self,
        source: &Source,
        lines: Vec<Line>,
        rows: u64,
        mut news: InboxNews,
        progress: &Progress,
    ) -> Result<Taken, TierError> {
        let batch = rows::read(&lines, &source.settings).map_err(broken)?;
        let Sorted { readings, quarantine, rejected, late } = self.sort(source, batch).await?;
        if !rejected.is_empty() && self.warm.inbox().rejects(&source.name).await? >= u64::from(REJECTS_MAX) {
            return Err(broken(FULL));
        }
        let mut taken =
            Taken { rows, quarantined: quarantine.len() as u64, rejected: rejected.len() as u64, ..Taken::default() };
        news.rejected = rejected;
        if !(readings.is_empty() && quarantine.is_empty() && news.is_empty()) {
            let late = late.into_iter().map(|hours| LateReadings { block: None, hours }).collect();
            let report = (self.write)(Flush { readings, quarantine, late, inbox: news, ..Flush::default() }).await?;
            taken.stored = report.written;
        }
        for (outcome, count) in
            [("stored", taken.stored), ("quarantined", taken.quarantined), ("rejected", taken.rejected)]
        {
            let source = source.name.to_string();
            metrics::counter!("collector_inbox_readings_total", "source" => source, "outcome" => outcome)
                .increment(count);
        }
        progress.rows(taken.stored);
        Ok(taken)
    }

    /// Up to when a reading isn't in the future.
    pub(super) fn latest(&self) -> Timestamp {
        self.timely.latest((self.now)())
    }
}

pub(super) fn broken(why: impl std::fmt::Display) -> TierError {
    TierError::Broken { tier: "inbox", why: why.to_string() }
}
