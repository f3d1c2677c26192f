//! One query, from its text to its last row.

use super::brake::{Stop, braked};
use super::memory::QueryMemory;
use super::{Expected, Part, SqlError, allowed, words};
use crate::etl::ledger::ArchivedDays;
use crate::tiers::cold::parquet::{ParquetCold, STORE_URL, Snapshot};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use futures::StreamExt as _;
use shared::config::{ByteSize, HumanDuration};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, timeout_at};

/// Rows that are worked on at once; a bound on the memory that isn't counted.
const BATCH_ROWS: usize = 2_048;
/// Files that are read at a time.
const PARTITIONS: usize = 2;

pub(super) struct Query {
    pub(super) archive: Arc<ParquetCold>,
    pub(super) expected: Option<Expected>,
    pub(super) text: String,
    pub(super) memory: ByteSize,
    pub(super) rows: u64,
    pub(super) time: HumanDuration,
    pub(super) stop: Stop,
}

impl Query {
    /// Sends what it finds, until nobody listens any more. Who has the last of it finds the turn free again.
    pub(super) async fn run(self, turn: OwnedSemaphorePermit, parts: Sender<Result<Part, SqlError>>) {
        let outcome = match timeout_at(self.stop.deadline, self.send(&parts)).await {
            Ok(Ok(last)) => Ok(last),
            Ok(Err(error)) if Instant::now() < self.stop.deadline => Err(error),
            _ => Err(words::too_long(self.time)),
        };
        drop(turn);
        let _ = parts.send(outcome).await;
    }

    /// Gives what comes after the last rows.
    async fn send(&self, parts: &Sender<Result<Part, SqlError>>) -> Result<Part, SqlError> {
        let statement = allowed::statement(&self.text)?;
        let (begin, mut rows, mut first) = self.begin(&statement).await?;
        if parts.send(Ok(begin)).await.is_err() {
            return Ok(Part::End);
        }
        let mut left = self.rows;
        loop {
            let next = match first.take() {
                Some(batch) => Some(Ok(batch)),
                None => rows.next().await,
            };
            let Some(batch) = next.transpose().map_err(|error| words::of(&error, self.memory))? else {
                return Ok(Part::End);
            };
            let fits = batch.num_rows().min(usize::try_from(left).unwrap_or(usize::MAX));
            if fits > 0 && parts.send(Ok(Part::Rows(batch.slice(0, fits)))).await.is_err() {
                return Ok(Part::End);
            }
            left -= fits as u64;
            if fits < batch.num_rows() {
                return Ok(Part::More);
            }
        }
    }

    /// What the answer begins with, the stream of rows and what came first of it; when a file was replaced meanwhile, from what is there then. That
    /// ends: a day is replaced only when it changed, and the question's time is limited.
    async fn begin(
        &self,
        statement: &Statement,
    ) -> Result<(Part, SendableRecordBatchStream, Option<arrow_array::RecordBatch>), SqlError> {
        loop {
            // Asked for before: what leaves meanwhile is not missed.
            let expected = match &self.expected {
                Some(expected) => expected().await,
                None => ArchivedDays::default(),
            };
            let snapshot = self.archive.snapshot().await?.with(&expected.days);
            let begun = async {
                let mut rows = self.rows(&snapshot, statement.clone()).await?;
                let first = rows.next().await.transpose()?;
                Ok((rows, first))
            };
            match begun.await {
                Ok((rows, first)) => {
                    let (schema, until, behind) = (rows.schema(), snapshot.last(), expected.behind);
                    return Ok((Part::Begin { schema, until, behind }, rows, first));
                }
                Err(error) if snapshot.stands().await? => return Err(words::of(&error, self.memory)),
                Err(_) => {}
            }
        }
    }

    async fn rows(&self, snapshot: &Snapshot, statement: Statement) -> Result<SendableRecordBatchStream> {
        let context = self.context(snapshot)?;
        let plan = context.state().statement_to_plan(statement).await?;
        allowed::check(&plan)?;
        // One more than asked for tells that there are more.
        let most = usize::try_from(self.rows.saturating_add(1)).unwrap_or(usize::MAX);
        let plan = LogicalPlanBuilder::from(plan).limit(0, Some(most))?.build()?;
        let state = context.state();
        let plan = braked(state.create_physical_plan(&plan).await?, &self.stop)?;
        super::rows::can_be_shown(&plan.schema())?;
        execute_stream(plan, state.task_ctx())
    }

    /// A world with one table, so much memory, and no disk.
    fn context(&self, snapshot: &Snapshot) -> Result<SessionContext> {
        let memory = usize::try_from(self.memory.as_u64()).unwrap_or(usize::MAX);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(QueryMemory::new(memory)))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .build_arc()?;
        let mut config = SessionConfig::new().with_target_partitions(PARTITIONS).with_batch_size(BATCH_ROWS);
        config.options_mut().sql_parser.collect_spans = true;
        config.options_mut().execution.enable_recursive_ctes = false;
        config.options_mut().execution.parquet.pushdown_filters = true;
        let state = SessionStateBuilder::new()
            .with_default_features()
            .with_table_functions(HashMap::new())
            .with_config(config)
            .with_runtime_env(runtime)
            .build();
        let context = SessionContext::new_with_state(state);
        context.register_object_store(ObjectStoreUrl::parse(STORE_URL)?.as_ref(), snapshot.store());
        context.register_table("readings", Arc::new(snapshot.clone()))?;
        Ok(context)
    }
}

impl From<SqlError> for DataFusionError {
    fn from(error: SqlError) -> Self {
        Self::External(Box::new(error))
    }
}
